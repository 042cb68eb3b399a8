//! Password hashes and access tokens that cost nothing, and are worth as much.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use private_chat_core::error::{Backend, Failure};
use private_chat_core::model::password::{Password, PasswordHash};
use private_chat_core::model::secret::Secret;
use private_chat_core::model::user::GlobalRole;
use private_chat_core::port::Result;
use private_chat_core::port::passwords::{PasswordHasher, Verdict};
use private_chat_core::port::tokens::{Claims, TokenSigner};
use private_chat_core::time::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Hashes passwords at once. No protection at all: for tests only.
#[derive(Default)]
pub struct InstantHasher {
    salts: AtomicU64,
}

const PRESENT: &str = "instant";
const WEAK: &str = "instant-weak";

impl InstantHasher {
    /// A hasher whose salts are counted from one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A hash that is to be made again at the next sign-in.
    #[must_use]
    pub fn weak(&self, password: &Password) -> PasswordHash {
        self.make(WEAK, password)
    }

    fn make(&self, scheme: &str, password: &Password) -> PasswordHash {
        let salt = (self.salts.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        PasswordHash::new(format!("${scheme}${salt}${}", digest(&[&salt, password.expose()])))
    }
}

fn digest(parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(parts.join("\0")))
}

#[async_trait]
impl PasswordHasher for InstantHasher {
    async fn hash(&self, password: Password) -> Result<PasswordHash> {
        Ok(self.make(PRESENT, &password))
    }

    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<Verdict> {
        let Some(hash) = hash else { return Ok(Verdict::Wrong) };
        let [_, scheme @ (PRESENT | WEAK), salt, expected] = hash.as_str().split('$').collect::<Vec<_>>()[..] else {
            return Err(Failure::Corrupt { backend: Backend::Passwords, cause: "no hash of this hasher".into() });
        };
        Ok(match (digest(&[salt, password.expose()]) == expected, scheme) {
            (false, _) => Verdict::Wrong,
            (true, PRESENT) => Verdict::Right,
            (true, _) => Verdict::RightButWeak,
        })
    }
}

/// Signs access tokens with a checksum that everybody can make. For tests only.
#[derive(Default)]
pub struct PlainSigner;

impl PlainSigner {
    /// A signer like every other.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

const ROLES: [(GlobalRole, &str); 2] = [(GlobalRole::User, "user"), (GlobalRole::Admin, "admin")];

impl TokenSigner for PlainSigner {
    fn sign(&self, claims: &Claims) -> Result<Secret> {
        let role = ROLES.iter().find(|(role, _)| *role == claims.role).map_or("user", |(_, name)| name);
        let (from, to) = (claims.issued_at.as_seconds(), claims.expires_at.as_seconds());
        let body = format!("{}.{}.{role}.{from}.{to}", claims.user, claims.session);
        let checksum = digest(&[&body]);
        Ok(Secret::new(format!("{body}.{checksum}")))
    }

    fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let (body, checksum) = token.rsplit_once('.')?;
        let [user, session, role, from, to] = body.split('.').collect::<Vec<_>>()[..] else { return None };
        let seconds = |text: &str| text.parse::<i64>().ok()?.checked_mul(1_000_000).map(Timestamp::from_micros);
        let claims = Claims {
            user: user.parse::<Uuid>().ok()?.into(),
            session: session.parse::<Uuid>().ok()?.into(),
            role: ROLES.iter().find(|(_, name)| *name == role)?.0,
            issued_at: seconds(from)?,
            expires_at: seconds(to)?,
        };
        (digest(&[body]) == checksum && now < claims.expires_at).then_some(claims)
    }

    fn jwks(&self) -> String {
        r#"{"keys":[]}"#.to_owned()
    }

    fn key_id(&self) -> String {
        "plain".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn password(text: &str) -> Password {
        Password::presented(text.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn a_hash_tells_its_password_from_others() {
        let hasher = InstantHasher::new();
        let right = password("correct horse");
        let hash = hasher.hash(right.clone()).await.unwrap();
        assert_ne!(hasher.hash(right.clone()).await.unwrap(), hash);
        assert_eq!(hasher.verify(right.clone(), Some(hash.clone())).await.unwrap(), Verdict::Right);
        assert_eq!(hasher.verify(password("correct horsf"), Some(hash)).await.unwrap(), Verdict::Wrong);
        assert_eq!(hasher.verify(right.clone(), Some(hasher.weak(&right))).await.unwrap(), Verdict::RightButWeak);
        assert_eq!(hasher.verify(right.clone(), None).await.unwrap(), Verdict::Wrong);
        let none = PasswordHash::new("$argon2id$v=19$x");
        assert!(matches!(hasher.verify(right, Some(none)).await, Err(Failure::Corrupt { .. })));
    }

    #[test]
    fn a_token_says_what_was_signed_until_its_end() {
        let start = Timestamp::from_micros(1_000_000_700_000);
        let whole = Timestamp::from_micros(1_000_000_000_000);
        let end = whole + Duration::from_secs(60);
        let claims = Claims {
            user: Uuid::from_u128(1).into(),
            session: Uuid::from_u128(2).into(),
            role: GlobalRole::Admin,
            issued_at: start,
            expires_at: start + Duration::from_secs(60),
        };
        let token = PlainSigner.sign(&claims).unwrap();
        let expected = Claims { issued_at: whole, expires_at: end, ..claims };
        assert_eq!(PlainSigner.verify(token.expose(), start), Some(expected));
        assert_eq!(PlainSigner.verify(token.expose(), end), None);
        assert_eq!(PlainSigner.verify(&token.expose().replace("admin", "user"), start), None);
        assert_eq!(PlainSigner.verify("", start), None);
    }
}
