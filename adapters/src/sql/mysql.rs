//! Transactions on MySQL: each in a task of its own, and again where others were in the way.

use std::time::Duration;

use private_chat_core::error::Failure;
use private_chat_core::port::Result;
use sqlx::mysql::MySqlConnectOptions;
use tokio::time::{sleep, timeout};

use super::commit::{Refusal, Work};
use super::dialect::{Fault, WRITE, failure, fault};
use super::pool::Pool;

/// How often a transaction is tried again.
const RETRIES: u32 = 3;

/// Writes in one transaction. It runs to its end even if the caller goes away: a `begin` that is cut leaves its transaction open on the pooled
/// connection, and a `commit` that is cut leaves nobody who knows.
#[expect(
    clippy::disallowed_methods,
    reason = "the task ends within a deadline, and a shutdown waits for whoever waits for it"
)]
pub(super) async fn transact<W: Work>(pool: Pool<MySqlConnectOptions>, work: W) -> Result<W::Made> {
    let task = tokio::spawn(async move {
        timeout(WRITE, retrying(&pool, &work)).await.unwrap_or_else(|_| {
            pool.close_idle();
            Err(Failure::database("the transaction did not end in time"))
        })
    });
    task.await.unwrap_or_else(|ended| Err(Failure::database(ended)))
}

async fn retrying<W: Work>(pool: &Pool<MySqlConnectOptions>, work: &W) -> Result<W::Made> {
    let mut tries = 0;
    loop {
        let error = match attempt(pool, work, tries > 0).await {
            Ok(made) => return Ok(made),
            Err(Refusal::Final(failure)) => return Err(failure),
            Err(Refusal::Sql(error)) => error,
        };
        // Nothing of these attempts was written.
        if tries == RETRIES || !matches!(fault(&error), Fault::Contended | Fault::Dead) {
            return Err(failure(error));
        }
        tracing::debug!(%error, tries, "a transaction is tried again");
        sleep(pause(tries)).await;
        tries += 1;
    }
}

/// 5 to 10 ms, doubled at every try: those who were in each other's way come back at different times.
fn pause(tries: u32) -> Duration {
    let chance = getrandom::u32().unwrap_or(0) % 5_000;
    Duration::from_micros(u64::from(5_000 + chance) << tries)
}

async fn attempt<W: Work>(
    pool: &Pool<MySqlConnectOptions>,
    work: &W,
    test: bool,
) -> std::result::Result<W::Made, Refusal> {
    let mut held = if test { pool.alive().await? } else { pool.any().await? };
    let mut connection = held.connection()?;
    connection.run("START TRANSACTION").await?;
    let outcome = work.perform(&mut connection).await;
    // Where the transaction does not end as it was told to, the connection is dropped with it: the next one to begin there would commit it.
    match &outcome {
        Ok(_) => match connection.run("COMMIT").await {
            Ok(()) => {}
            // Whether it was committed is not known: this is no attempt that may be repeated.
            Err(error) if fault(&error) == Fault::Dead => return Err(Refusal::Final(Failure::database(error))),
            Err(error) => return Err(Refusal::Sql(error)),
        },
        Err(Refusal::Sql(error)) if fault(error) == Fault::Dead => return outcome,
        Err(_) => connection.run("ROLLBACK").await?,
    }
    held.give_back();
    outcome
}
