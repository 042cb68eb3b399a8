//! Access tokens.

use super::Result;
use crate::id::{SessionId, UserId};
use crate::model::secret::Secret;
use crate::model::user::GlobalRole;
use crate::time::Timestamp;

/// What an access token says. The role is for other services; this one reads it from the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub user: UserId,
    /// `sid`.
    pub session: SessionId,
    /// `role`.
    pub role: GlobalRole,
    /// `iat`, to the second.
    pub issued_at: Timestamp,
    /// `exp`, to the second.
    pub expires_at: Timestamp,
}

/// Signs and verifies access tokens (RFC 9068: `typ` is `at+jwt`).
///
/// # Contract
/// - verifies what it signed
/// - refuses an altered token
/// - refuses a token ten seconds past its end
/// - refuses every other algorithm
/// - refuses another key
/// - refuses another type of token
/// - refuses a missing or mistyped claim
/// - refuses what is too long or no token at all
/// - shows its public keys
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
pub trait TokenSigner: Send + Sync {
    /// Signs a token.
    ///
    /// # Errors
    /// `Unavailable` when the key cannot sign.
    fn sign(&self, claims: &Claims) -> Result<Secret>;

    /// The claims of a token that this installation signed and that still stands at `now`; none for any other.
    fn verify(&self, token: &str, now: Timestamp) -> Option<Claims>;

    /// The public keys as a JWK Set (RFC 7517), as JSON.
    fn jwks(&self) -> String;

    /// The id (`kid`) of the key that signs.
    fn key_id(&self) -> String;
}
