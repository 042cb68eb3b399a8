//! Work that goes on when nobody waits for it.

use std::sync::Arc;

use futures_channel::oneshot;
use futures_util::future::BoxFuture;

/// Runs futures to their end, whoever else gives up. The runtime belongs to the driving side; the core has none.
pub trait Tasks: Send + Sync {
    /// Starts a task.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// Runs `work` as a task of its own: it goes on to its end even when the returned future is dropped.
///
/// None where the task was ended with the runtime, before it was through.
pub async fn uncancelled<T: Send + 'static>(
    tasks: &Arc<dyn Tasks>,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    tasks.spawn(Box::pin(async move {
        // Whoever asked may be gone by now.
        let _ = done.send(work.await);
    }));
    result.await.ok()
}
