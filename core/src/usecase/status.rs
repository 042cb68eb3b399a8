//! Whether the process is fit to serve.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::pin_mut;

use super::reply::Replies;
use crate::model::installation::Installation;
use crate::port::{Ports, Result};

/// How long an answer of the database is believed.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the process should get no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The database does not answer, or lacks the schema.
    Database,
    /// The process is stopping.
    Draining,
}

/// Fitness to serve. However many ask, the database is asked at most once a second.
pub struct Status {
    ports: Ports,
    replies: Arc<Replies>,
    known: Mutex<Option<(Duration, bool)>>,
    asking: AtomicBool,
}

impl Status {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, replies: Arc<Replies>) -> Self {
        Self { ports, replies, known: Mutex::new(None), asking: AtomicBool::new(false) }
    }

    /// Returns when the process is fit to serve.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn ready(&self) -> Result<(), NotReady> {
        if self.replies.draining() {
            return Err(NotReady::Draining);
        }
        // Until this process is among those that the database lists, it begins no reply.
        if self.replies.registered() && self.database_answers().await { Ok(()) } else { Err(NotReady::Database) }
    }

    async fn database_answers(&self) -> bool {
        let now = self.ports.clock.monotonic();
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, answer)) = known
            && (now.saturating_sub(at) < FRESH || self.asking.load(Ordering::Acquire))
        {
            return answer;
        }
        let _asking = Asking::begin(&self.asking);
        let ping = self.ports.work.ping();
        let patience = self.ports.clock.sleep(PATIENCE);
        pin_mut!(ping);
        pin_mut!(patience);
        let answer = match select(ping, patience).await {
            Either::Left((answer, _)) => answer.is_ok(),
            Either::Right(_) => false,
        };
        let at = self.ports.clock.monotonic();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, answer));
        answer
    }

    /// The installation, for checking that this process belongs to it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn installation(&self) -> Result<Option<Installation>> {
        self.ports.users.installation().await
    }
}

/// That somebody asks just now; over with whoever asks, also when they give up.
struct Asking<'a>(&'a AtomicBool);

impl<'a> Asking<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Release);
        Self(flag)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
