//! Tasks of the runtime that a test runs in.

use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use private_chat_core::port::tasks::Tasks;
use tokio::task::JoinSet;

/// Runs tasks on the present tokio runtime, and knows when they are through. Those that still run end when this is dropped.
#[derive(Default)]
pub struct OwnedTasks {
    running: Mutex<JoinSet<()>>,
}

impl OwnedTasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all tasks where they stand, as the end of a process does.
    pub fn kill(&self) {
        self.lock().abort_all();
    }

    /// Returns when all tasks are through, those included that they started.
    ///
    /// # Panics
    /// When a task did.
    pub async fn settled(&self) {
        loop {
            let mut running = std::mem::take(&mut *self.lock());
            if running.is_empty() {
                return;
            }
            while let Some(outcome) = running.join_next().await {
                if let Err(panic) = outcome.map_err(tokio::task::JoinError::try_into_panic)
                    && let Ok(panic) = panic
                {
                    resume_unwind(panic);
                }
            }
        }
    }
}

impl Tasks for OwnedTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.lock().spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn is_settled_when_the_tasks_of_its_tasks_are_through() {
        let (tasks, done) = (Arc::new(OwnedTasks::new()), Arc::new(AtomicUsize::new(0)));
        let (inner_tasks, outer, inner) = (tasks.clone(), done.clone(), done.clone());
        tasks.spawn(Box::pin(async move {
            tokio::task::yield_now().await;
            inner_tasks.spawn(Box::pin(async move {
                tokio::task::yield_now().await;
                inner.fetch_add(1, Ordering::Relaxed);
            }));
            outer.fetch_add(1, Ordering::Relaxed);
        }));
        tasks.settled().await;
        assert_eq!(done.load(Ordering::Relaxed), 2);
    }
}
