//! Text that must not be seen.

use std::fmt;

use zeroize::Zeroize as _;

/// A secret text. `Debug` shows that there is one, and nothing else does; its memory is wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A key of the server's own, outside the database: what is derived with it can't be made from a database dump.
#[derive(Clone)]
pub struct ServerKey([u8; 32]);

impl ServerKey {
    /// Wraps the key's bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA-256 (RFC 2104) of `data`, apart for every `purpose`.
    #[must_use]
    pub fn mac(&self, purpose: &str, data: &[&[u8]]) -> [u8; 32] {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        // HMAC takes keys of every length, so that this never fails.
        let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        for part in data {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// What tells this key from others without giving it away.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mac = self.mac("fingerprint", &[]);
        mac[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.fingerprint())
    }
}

/// Compares without telling by its time how much was right.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |odd, (a, b)| odd | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_secret() {
        let shown = format!("{:?} {:?}", Secret::new("hunter2hunter2"), ServerKey::new([7; 32]));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("7, 7"), "{shown}");
    }

    #[test]
    fn purposes_do_not_share_macs() {
        let key = ServerKey::new([1; 32]);
        assert_ne!(key.mac("a", &[b"x"]), key.mac("b", &[b"x"]));
        assert_ne!(key.mac("a", &[b"x"]), ServerKey::new([2; 32]).mac("a", &[b"x"]));
    }
}
