//! Every difference between the databases but their DDL: how they are opened, and what their errors mean.

use std::path::Path;
use std::time::Duration;

use deadpool::managed::BuildError;
use private_chat_core::error::Failure;
use sqlx::error::ErrorKind;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, MySqlConnection, SqliteConnection};

use super::pool::{Kept, Pool};

/// How long anything waits for a connection, or for SQLite's write lock.
pub(super) const WAIT: Duration = Duration::from_secs(2);
/// How long a read may take, the wait for its connection included.
pub(super) const READ: Duration = Duration::from_secs(4);
/// How long a unit of work may take, its retries included.
pub(super) const WRITE: Duration = Duration::from_millis(4_500);

/// How long MySQL waits for the next statement of a connection before it ends it, and with it its transaction.
const IDLE: Duration = Duration::from_secs(15);

/// SQLite's threads that read.
const READERS: usize = 4;

/// The connection that writes.
pub(super) fn sqlite_writer(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode only FULL syncs the log at every commit.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // Short, and asked again: SQLite's own back-off grows to 100 ms between two looks, which a busy process next door always wins.
        .busy_timeout(Duration::from_millis(20))
        .disable_statement_logging()
}

/// A connection that reads.
pub(super) fn sqlite_reader(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(WAIT)
        // A page of 50 and the row that tells of the next one, without waking the reader's thread twice.
        .row_buffer_size(128)
        .disable_statement_logging()
}

impl Kept for SqliteConnectOptions {
    type Connection = SqliteConnection;

    async fn open(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.connect().await
    }
}

/// The connections that read.
pub(super) fn sqlite_readers(path: &Path) -> Result<Pool<SqliteConnectOptions>, BuildError> {
    Pool::new(sqlite_reader(path), READERS, Duration::MAX)
}

impl Kept for MySqlConnectOptions {
    type Connection = MySqlConnection;

    async fn open(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.connect().await?;
        mysql_session(&mut connection).await?;
        Ok(connection)
    }
}

/// The connections that read and write.
pub(super) fn mysql_pool(
    options: MySqlConnectOptions,
    connections: u32,
) -> Result<Pool<MySqlConnectOptions>, BuildError> {
    // Not lent any more before the server ends them.
    let idle = IDLE * 2 / 3;
    Pool::new(options.disable_statement_logging(), usize::try_from(connections).unwrap_or(usize::MAX), idle)
}

/// Makes MySQL commit every statement outside of a transaction, whatever the server's default is.
pub(super) const MYSQL_AUTOCOMMIT: &str = "SET SESSION autocommit = 1";

/// Makes a session what the statements rely on, whatever the server's defaults are.
pub(super) async fn mysql_session(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    connection.execute(MYSQL_AUTOCOMMIT).await?;
    // Statements see what is committed when they start, and lock the rows they find and no gaps: guards are rows, so that nothing else is needed.
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    connection
        .execute(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION innodb_lock_wait_timeout = 2",
        )
        .await?;
    // Whoever falls silent in the middle of a transaction, as a machine without power does, must not keep its locks for hours.
    connection.execute(AssertSqlSafe(format!("SET SESSION wait_timeout = {}", IDLE.as_secs()))).await?;
    // A read that nobody waits for any more ends by itself. MariaDB does not know this one, and can do without.
    let _ = connection.execute("SET SESSION max_execution_time = 4000").await;
    Ok(())
}

/// What a driver's error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A key stands already.
    Duplicate,
    /// The row that is referred to is gone.
    MissingParent,
    /// Others were in the way: the same again may succeed.
    Contended,
    /// This connection is no more; another may do.
    Dead,
    /// Trying again won't help.
    Nonsense,
    /// Anything else: away, full, read-only.
    Away,
}

/// What a driver's error means.
pub(super) fn fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(database) => match database.kind() {
            ErrorKind::UniqueViolation => Fault::Duplicate,
            ErrorKind::ForeignKeyViolation => Fault::MissingParent,
            ErrorKind::NotNullViolation | ErrorKind::CheckViolation => Fault::Nonsense,
            _ => match database.try_downcast_ref::<MySqlDatabaseError>() {
                Some(mysql) => mysql_fault(mysql.number()),
                None => sqlite_fault(database.code().and_then(|code| code.parse().ok()).unwrap_or(0)),
            },
        },
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => Fault::Dead,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => Fault::Nonsense,
        _ => Fault::Away,
    }
}

/// <https://dev.mysql.com/doc/mysql-errors/9.7/en/server-error-reference.html>
const fn mysql_fault(number: u16) -> Fault {
    match number {
        // Lock wait timeout; deadlock.
        1205 | 1213 => Fault::Contended,
        // Server shutdown in progress; connection killed (MariaDB); disconnected for inactivity.
        1053 | 1927 | 4031 => Fault::Dead,
        // Data too long for a column.
        1406 => Fault::Nonsense,
        _ => Fault::Away,
    }
}

/// <https://www.sqlite.org/rescode.html>; the low byte of an extended code is the primary one.
const fn sqlite_fault(code: i32) -> Fault {
    match code & 0xff {
        // BUSY, LOCKED.
        5 | 6 => Fault::Contended,
        // CORRUPT, TOOBIG, MISMATCH, NOTADB.
        11 | 18 | 20 | 26 => Fault::Nonsense,
        _ => Fault::Away,
    }
}

/// What a port answers for an error that no change is to blame for.
pub(super) fn failure(error: sqlx::Error) -> Failure {
    if fault(&error) == Fault::Nonsense {
        return Failure::corrupt(error);
    }
    let text = error.to_string();
    if text.contains("RSA auth backend") {
        return Failure::database(
            "this user's password is kept as caching_sha2_password, which is sent over TLS only: \
             set database.mysql.tls to \"preferred\" or \"required\", and let the server offer TLS",
        );
    }
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Failure::database("no connection in time: the database is away, or all connections are busy");
    }
    Failure::database(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_their_numbers() {
        assert_eq!(mysql_fault(1213), Fault::Contended);
        assert_eq!(mysql_fault(1205), Fault::Contended);
        assert_eq!(mysql_fault(4031), Fault::Dead);
        assert_eq!(mysql_fault(1049), Fault::Away);
        // BUSY, BUSY_SNAPSHOT, IOERR_WRITE, FULL, READONLY, NOTADB.
        assert_eq!([5, 517, 778, 13, 8, 26].map(sqlite_fault), {
            use Fault::{Away, Contended, Nonsense};
            [Contended, Contended, Away, Away, Away, Nonsense]
        });
    }
}
