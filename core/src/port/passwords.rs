//! Password hashing.

use async_trait::async_trait;

use super::Result;
use crate::model::password::{Password, PasswordHash};

/// What a hash says of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is another password's.
    Wrong,
    /// It is this password's.
    Right,
    /// It is this password's, and weaker than what is made today: hash again.
    RightButWeak,
}

/// Slow, salted password hashing, off the async threads and a few at a time.
///
/// # Contract
/// - tells a password from another
/// - salts so that two hashes of one password differ
/// - reads all of a long password
/// - asks for a new hash where the old one is weaker
/// - says busy when too many wait
/// - takes as long for no user as for a wrong password
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait PasswordHasher: Send + Sync {
    /// Hashes a password.
    ///
    /// # Errors
    /// [`Busy`](crate::error::Failure::Busy) when too many wait.
    async fn hash(&self, password: Password) -> Result<PasswordHash>;

    /// Tells whether the hash is the password's. Without a hash it takes the same time and says [`Verdict::Wrong`], so that nobody learns
    /// which users there are.
    ///
    /// # Errors
    /// `Busy` when too many wait; `Corrupt` for a hash that is none.
    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<Verdict>;
}
