//! Requests that carry an `Idempotency-Key`, so that they can be sent again without being done again.

use std::time::Duration;

use uuid::Uuid;

use crate::change::Version;
use crate::error::Violation;
use crate::id::UserId;
use crate::model::secret::ServerKey;
use crate::time::Timestamp;

/// How long a key is known.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The keyed hash of an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

/// The keyed hash of what was asked for: the route and the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// That a user's request was done, and what it made. Neither the key nor the body nor the answer is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Whose. A key belongs to its user.
    pub user: UserId,
    /// Under which key.
    pub key: KeyHash,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// What it made.
    pub made: Made,
    /// When.
    pub created_at: Timestamp,
    /// For guarded changes.
    pub version: Version,
}

/// The ids of what a request made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The thing that was asked for.
    pub id: Uuid,
    /// The reply to it, where it is a message.
    pub reply: Option<Uuid>,
}

/// A request that may be sent again: its key, and what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeatable {
    /// The hash of its key.
    pub key: KeyHash,
    /// The hash of what it asks for.
    pub fingerprint: Fingerprint,
}

/// Checks that a key has 1 to 255 visible ASCII characters.
///
/// # Errors
/// A violation of `Idempotency-Key`.
pub fn check_key(key: &str) -> Result<(), Violation> {
    if key.is_empty() || key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Violation::new("Idempotency-Key", "must have 1 to 255 visible ASCII characters"));
    }
    Ok(())
}

impl Repeatable {
    /// Takes a key, and what is asked for under it: the verb, the path, and the body.
    ///
    /// # Errors
    /// As [`check_key`].
    pub fn new(server: &ServerKey, key: &str, asked: [&[u8]; 3]) -> Result<Self, Violation> {
        check_key(key)?;
        let lengths = asked.map(|part| (part.len() as u64).to_be_bytes());
        // With their lengths, so that nothing can move from one part to the next.
        let parts: Vec<&[u8]> = lengths.iter().zip(asked).flat_map(|(length, part)| [&length[..], part]).collect();
        Ok(Self {
            key: KeyHash(server.mac("idempotency-key", &[key.as_bytes()])),
            fingerprint: Fingerprint(server.mac("idempotency-fingerprint", &parts)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerKey = ServerKey::new([3; 32]);

    fn repeatable(key: &str, asked: [&str; 3]) -> Result<Repeatable, Violation> {
        Repeatable::new(&SERVER, key, asked.map(str::as_bytes))
    }

    // R73
    #[test]
    fn what_is_asked_for_is_told_apart_by_verb_path_and_body() {
        let first = repeatable("k", ["POST", "/users", "{}"]).unwrap();
        assert_eq!(repeatable("k", ["POST", "/users", "{}"]), Ok(first));
        for other in
            [["PATCH", "/users", "{}"], ["POST", "/user", "s{}"], ["POST", "/users{", "}"], ["POST", "/users", ""]]
        {
            let other = repeatable("k", other).unwrap();
            assert_eq!(other.key, first.key);
            assert_ne!(other.fingerprint, first.fingerprint);
        }
        assert_ne!(repeatable("K", ["POST", "/users", "{}"]).unwrap().key, first.key);
    }

    #[test]
    fn a_key_is_visible_ascii() {
        for good in ["k", "!~", &"k".repeat(255)] {
            assert!(repeatable(good, ["", "", ""]).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "é", "a\u{7f}", "a\n", &"k".repeat(256)] {
            assert_eq!(repeatable(bad, ["", "", ""]).unwrap_err().field, "Idempotency-Key");
        }
    }
}
