//! The machine itself: its clocks, its generator of chance, and tasks on its runtime.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use private_chat_core::port::clock::{Clock, Entropy};
use private_chat_core::port::tasks::Tasks;
use private_chat_core::time::Timestamp;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    fn now(&self) -> Timestamp {
        let micros = |length: Duration| i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        // A machine without a battery may believe that it is before 1970 until it hears from a time server.
        Timestamp::from_micros(match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        })
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// When the system has no chance to give. Nothing may be made of bytes that are not random: no key, no token, no id.
    #[expect(clippy::expect_used, reason = "going on without chance would be worse than not going on")]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}

/// Tasks on a runtime of tokio, counted, so that a shutdown can wait for them. A task that panics is logged and ends; the others go on.
#[derive(Clone, Debug)]
pub struct RuntimeTasks {
    runtime: Handle,
    tracker: TaskTracker,
}

impl RuntimeTasks {
    /// Spawns on this runtime.
    #[must_use]
    pub fn on(runtime: Handle) -> Self {
        Self { runtime, tracker: TaskTracker::new() }
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Returns once every task has ended, those that are spawned meanwhile included. A shutdown puts its own deadline on it.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Tasks for RuntimeTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let watched = async {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                // What it said may quote what somebody wrote; its place was logged by the panic hook.
                tracing::error!("a background task panicked");
            }
        };
        self.tracker.spawn_on(watched.in_current_span(), &self.runtime);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_shutdown_waits_for_tasks_and_for_those_that_they_start() {
        let tasks = RuntimeTasks::on(Handle::current());
        let ended = Arc::new(AtomicUsize::new(0));
        let (inner, count) = (tasks.clone(), ended.clone());
        tasks.spawn(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let counted = count.clone();
            inner.spawn(Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                counted.fetch_add(1, Ordering::SeqCst);
            }));
            count.fetch_add(1, Ordering::SeqCst);
        }));
        tasks.ended().await;
        assert_eq!(ended.load(Ordering::SeqCst), 2);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_task_alone() {
        let tasks = RuntimeTasks::on(Handle::current());
        tasks.spawn(Box::pin(async { panic!("a bug") }));
        let (done, was_done) = tokio::sync::oneshot::channel();
        tasks.spawn(Box::pin(async move { done.send(()).unwrap() }));
        was_done.await.unwrap();
        tasks.ended().await;
    }
}
