//! Time and chance.

use std::time::Duration;

use async_trait::async_trait;

use crate::time::Timestamp;

/// The time.
///
/// # Contract
/// - tells the wall clock to the microsecond
/// - tells a monotonic time that never goes back
/// - sleeps at least as long as asked
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump when somebody sets it.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point of this process. It never jumps.
    fn monotonic(&self) -> Duration;

    /// Returns after so long.
    async fn sleep(&self, length: Duration);
}

/// Chance, from the operating system's generator.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
pub trait Entropy: Send + Sync {
    /// Fills the buffer with unforeseeable bytes.
    fn fill(&self, buffer: &mut [u8]);
}
