//! Removing what is over.

use std::time::Duration;

use crate::error::Failure;
use crate::model::idempotency;
use crate::port::Ports;
use crate::port::store::Over;

/// How long what has ended is kept, for those who come a little late.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long events can be replayed.
const EVENTS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Between two batches, so that others come in between.
const BREATH: Duration = Duration::from_millis(20);

/// Removing what is over: ended sessions, expired invitations, old keyed requests and events, and what deleted chats and workspaces left behind.
/// And making ready to be found what was stored before there was a search.
pub struct Housekeeping {
    ports: Ports,
}

impl Housekeeping {
    /// How often it is worth looking.
    pub const EVERY: Duration = Duration::from_secs(30);

    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Removes all that is over by now, a batch at a time. Says how many rows went. Any number of processes may do it at once.
    ///
    /// # Errors
    /// `Unavailable`: the rest is left to the next time.
    pub async fn tidy(&self) -> Result<u64, Failure> {
        let mut removed = 0;
        loop {
            let now = self.ports.clock.now();
            let over = Over {
                sessions: now - KEPT,
                invitations: now - KEPT,
                keyed_requests: now - idempotency::LIFETIME,
                events: now - EVENTS_KEPT,
            };
            match self.ports.work.purge(over).await? {
                0 => break,
                batch => removed += batch,
            }
            self.ports.clock.sleep(BREATH).await;
        }
        while self.ports.work.index_backlog().await? > 0 {
            self.ports.clock.sleep(BREATH).await;
        }
        Ok(removed)
    }
}
