//! Connections that are kept. One goes back only when the conversation on it was ended, and nothing is asked of it then or when it is lent again:
//! a ping each time would cost as much as most reads.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, BuildError, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::{Connection as _, Error};

use super::dialect::WAIT;
use super::seam::Connection;

/// How connections of one kind are made.
pub(super) struct Maker<O> {
    options: O,
    /// How long one may lie unused.
    idle: Duration,
}

/// A kind of connection.
pub(super) trait Kept: Send + Sync {
    /// What is kept.
    type Connection: sqlx::Connection;

    /// Connects, and makes the session what the statements rely on.
    fn open(&self) -> impl Future<Output = Result<Self::Connection, Error>> + Send;
}

impl<O: Kept> managed::Manager for Maker<O> {
    type Type = O::Connection;
    type Error = Error;

    async fn create(&self) -> Result<O::Connection, Error> {
        self.options.open().await
    }

    async fn recycle(&self, _: &mut O::Connection, metrics: &Metrics) -> RecycleResult<Error> {
        if metrics.last_used() > self.idle { Err(RecycleError::message("it lay unused")) } else { Ok(()) }
    }
}

/// Connections, lent one by one.
pub(super) struct Pool<O: Kept>(managed::Pool<Maker<O>>);

impl<O: Kept> Clone for Pool<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: Kept> Pool<O> {
    /// Up to `most` connections, made when they are needed, and not lent any more when they lay unused for `idle`.
    pub(super) fn new(options: O, most: usize, idle: Duration) -> Result<Self, BuildError> {
        let pool = managed::Pool::builder(Maker { options, idle })
            .max_size(most)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1);
        pool.build().map(Self)
    }

    /// Lends an idle connection, or makes one.
    pub(super) async fn any(&self) -> Result<Held<O>, Error> {
        match self.0.get().await {
            Ok(connection) => Ok(Held(Some(connection))),
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Timeout(_)) => Err(Error::PoolTimedOut),
            Err(PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                Err(Error::PoolClosed)
            }
        }
    }

    /// Lends a connection that answers, and closes the idle ones that do not.
    pub(super) async fn alive(&self) -> Result<Held<O>, Error> {
        loop {
            let mut held = self.any().await?;
            if held.whole()?.ping().await.is_ok() {
                return Ok(held);
            }
        }
    }

    /// Closes the idle connections. One that was silent for too long makes all of them suspect, and each would cost somebody the same wait.
    pub(super) fn close_idle(&self) {
        self.0.retain(|_, _| false);
    }
}

/// A connection that was lent. Dropped in the middle (a cancelled request, a deadline), it is closed: nobody is to read the answer to somebody
/// else's question, or inherit a transaction.
pub(super) struct Held<O: Kept>(Option<Object<Maker<O>>>);

impl<O: Kept> Held<O> {
    /// The connection itself.
    pub(super) fn connection(&mut self) -> Result<Connection<'_>, Error>
    where
        for<'c> Connection<'c>: From<&'c mut O::Connection>,
    {
        self.whole().map(Connection::from)
    }

    // It is there until it is given back or dropped.
    fn whole(&mut self) -> Result<&mut O::Connection, Error> {
        self.0.as_deref_mut().ok_or(Error::PoolClosed)
    }

    /// Gives the connection back: nothing is under way on it.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl<O: Kept> Drop for Held<O> {
    fn drop(&mut self) {
        // After `give_back` nothing is left.
        self.0.take().map(Object::take);
    }
}
