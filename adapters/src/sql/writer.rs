//! SQLite has one writer, and a commit costs a sync of the disk. So one task writes for all, and units that wait together go into one
//! transaction, a savepoint each: one sync for all of them, and a unit that conflicts takes back its own part only.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use private_chat_core::error::{Backend, Failure};
use private_chat_core::port::Result;
use sqlx::{ConnectOptions as _, Error, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::commit::{Refusal, Work};
use super::dialect::{self, Fault, failure, fault};
use super::seam::Connection;

/// The most units that wait.
const WAITING: usize = 1_024;
/// The most units of one transaction.
const TOGETHER: usize = 64;

/// Where units of work wait to be written.
pub(super) struct Queue(mpsc::Sender<Waiting>);

struct Waiting {
    job: Box<dyn Job>,
    until: Instant,
}

impl Queue {
    /// Starts the task that writes. It ends when the queue is dropped and everything in it is written.
    #[expect(clippy::disallowed_methods, reason = "the task belongs to the queue and ends with it")]
    pub(super) fn start(path: PathBuf, connection: SqliteConnection) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(Writer { path, connection: Some(connection) }.run(waiting));
        Self(queue)
    }

    /// Writes in one transaction, maybe with others. It is written even if the caller goes away.
    pub(super) async fn transact<W: Work<Made: Sync>>(&self, work: W) -> Result<W::Made> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Pending { work, made: None, answer });
        match self.0.try_send(Waiting { job, until: Instant::now() + dialect::WAIT }) {
            Ok(()) => match timeout(dialect::WRITE, answered).await {
                Ok(answer) => answer.unwrap_or_else(|_| Err(ended())),
                // The disk hangs.
                Err(_) => Err(Failure::database("the transaction did not end in time")),
            },
            Err(mpsc::error::TrySendError::Full(_)) => Err(Failure::Busy { backend: Backend::Database }),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ended()),
        }
    }
}

fn ended() -> Failure {
    Failure::database("the task that writes has ended")
}

/// A unit of work of whatever kind, with its caller.
#[async_trait]
trait Job: Send + Sync {
    async fn perform(&mut self, connection: &mut Connection<'_>) -> std::result::Result<(), Refusal>;
    fn answer(self: Box<Self>, outcome: Result<()>);
}

struct Pending<W: Work> {
    work: W,
    made: Option<W::Made>,
    answer: oneshot::Sender<Result<W::Made>>,
}

#[async_trait]
impl<W: Work<Made: Sync>> Job for Pending<W> {
    async fn perform(&mut self, connection: &mut Connection<'_>) -> std::result::Result<(), Refusal> {
        self.made = Some(self.work.perform(connection).await?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let Self { made, answer, .. } = *self;
        // Whoever asked may be gone; it is written all the same.
        let _ = answer.send(outcome.and_then(|()| made.ok_or_else(ended)));
    }
}

struct Writer {
    path: PathBuf,
    connection: Option<SqliteConnection>,
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(TOGETHER);
        while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
            let now = Instant::now();
            let (timely, late): (Vec<_>, Vec<_>) = batch.drain(..).partition(|unit| unit.until > now);
            for unit in late {
                unit.job.answer(Err(Failure::database("it waited too long to be written")));
            }
            let mut jobs: Vec<_> = timely.into_iter().map(|unit| unit.job).collect();
            match self.transact(&mut jobs).await {
                Ok(outcomes) => jobs.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(outcome)),
                Err(error) => {
                    let text = error.to_string();
                    tracing::warn!(error = text, units = jobs.len(), "nothing could be written");
                    jobs.into_iter().for_each(|job| job.answer(Err(failure_of(&error, &text))));
                    if fault(&error) != Fault::Contended {
                        // Whatever state it is in: the next one starts anew.
                        self.connection = None;
                    }
                }
            }
        }
    }

    /// Writes all in one transaction. An error is everybody's; an outcome is each one's own.
    async fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> std::result::Result<Vec<Result<()>>, Error> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(dialect::sqlite_writer(&self.path).create_if_missing(false).connect().await?),
        };
        let mut connection = Connection::from(connection);
        begin(&mut connection).await?;
        let outcomes = perform(&mut connection, jobs).await;
        let end = match &outcomes {
            Ok(outcomes) if outcomes.iter().any(Result::is_ok) => "COMMIT",
            _ => "ROLLBACK",
        };
        // After some errors SQLite has rolled back by itself, and there is nothing left to end.
        let ended = connection.run(end).await;
        let outcomes = outcomes?;
        ended.map(|()| outcomes)
    }
}

/// Takes the write lock, which another process may hold.
pub(super) async fn begin(connection: &mut Connection<'_>) -> std::result::Result<(), Error> {
    let until = Instant::now() + dialect::WAIT;
    loop {
        match connection.run("BEGIN IMMEDIATE").await {
            Err(error) if fault(&error) == Fault::Contended && Instant::now() < until => {}
            begun => return begun,
        }
    }
}

async fn perform(
    connection: &mut Connection<'_>,
    jobs: &mut [Box<dyn Job>],
) -> std::result::Result<Vec<Result<()>>, Error> {
    let mut outcomes = Vec::with_capacity(jobs.len());
    let alone = jobs.len() == 1;
    for job in jobs {
        if !alone {
            connection.run("SAVEPOINT unit").await?;
        }
        // A unit that panics is a fault of ours, and no reason for the others, and those to come, not to be written.
        let performed = AssertUnwindSafe(job.perform(connection)).catch_unwind().await;
        let (outcome, end) = match performed.unwrap_or_else(|_| Err(Failure::corrupt("a unit of work panicked").into()))
        {
            Ok(()) => (Ok(()), "RELEASE unit"),
            Err(Refusal::Final(failure)) => (Err(failure), "ROLLBACK TO unit; RELEASE unit"),
            // It would not make more sense alone. If the fault is the file's, the statement to take it back fails too.
            Err(Refusal::Sql(error)) if fault(&error) == Fault::Nonsense => {
                (Err(failure(error)), "ROLLBACK TO unit; RELEASE unit")
            }
            Err(Refusal::Sql(error)) => return Err(error),
        };
        if !alone {
            connection.run(end).await?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Each caller's copy of an error that is everybody's.
fn failure_of(error: &Error, text: &str) -> Failure {
    match fault(error) {
        Fault::Nonsense => Failure::corrupt(text),
        _ => Failure::database(text),
    }
}
