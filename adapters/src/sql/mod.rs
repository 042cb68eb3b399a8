//! Users, workspaces, chats and messages in SQLite or MySQL: one SQL text over two native drivers.
//!
//! A statement goes down through `seam`, which is all that knows that there are two drivers; `dialect` has every difference in behaviour, and
//! `migrations/` the two forms of the schema. Reads are in `read`, with `row` making records of their rows; a unit of work is carried out by
//! `commit`, with `statement` writing its records and `search` their words, in a transaction of `mysql` or of `writer`, which is SQLite's. What many rows hang on is
//! deleted by a mark, and its rows are removed by `purge`.

mod code;
mod commit;
mod dialect;
mod migrate;
mod mysql;
mod pool;
mod purge;
mod read;
mod row;
mod seam;
mod search;
mod settings;
mod statement;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use figment::Figment;
use private_chat_core::change::{Changes, Checkpoint, Checkpointed, Committed};
use private_chat_core::error::Failure;
use private_chat_core::port::Result;
use private_chat_core::port::store::{Over, Store, UnitOfWork};
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::adapter::{Adapter, OpenError};
use commit::Work;
use dialect::{Fault, failure, fault};
use pool::{Held, Kept, Pool};
use seam::{Arg, Columns, Connection, Row, args};
pub use settings::{MySqlSettings, SqliteSettings, Tls};

/// SQLite: one file, no server.
pub const SQLITE: Adapter<dyn Store> = Adapter { name: "sqlite", open: open_sqlite };

/// MySQL.
pub const MYSQL: Adapter<dyn Store> = Adapter { name: "mysql", open: open_mysql };

fn open_sqlite(config: &Figment) -> std::result::Result<Arc<dyn Store>, OpenError> {
    Ok(Arc::new(SqlStore::sqlite(SqliteSettings::path_from(config)?)))
}

fn open_mysql(config: &Figment) -> std::result::Result<Arc<dyn Store>, OpenError> {
    let settings = MySqlSettings::from(config)?;
    settings.warn();
    Ok(Arc::new(SqlStore::mysql(&settings)))
}

/// A whole database. Making one touches nothing: [`prepare`](UnitOfWork::prepare) opens it, and until that has succeeded every port answers
/// `Unavailable`, but for [`ping`](UnitOfWork::ping), which looks for itself.
pub struct SqlStore {
    target: Target,
    database: OnceLock<Database>,
    preparing: Mutex<()>,
}

enum Target {
    Sqlite(PathBuf),
    MySql { options: Box<MySqlConnectOptions>, connections: u32 },
}

/// A database that was opened.
enum Database {
    Sqlite { readers: Pool<SqliteConnectOptions>, writer: writer::Queue },
    MySql(Pool<MySqlConnectOptions>),
}

impl SqlStore {
    /// The SQLite database in this file, which is made where it is absent, its folder too.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::of(Target::Sqlite(path.into()))
    }

    /// The MySQL database of these settings, which is made where it is absent and the user may.
    #[must_use]
    pub fn mysql(settings: &MySqlSettings) -> Self {
        Self::of(Target::MySql { options: Box::new(settings.options()), connections: settings.max_connections.get() })
    }

    /// The MySQL database of a URL: `mysql://user:password@host:port/database`.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn mysql_url(url: &str) -> std::result::Result<Self, OpenError> {
        let options = MySqlConnectOptions::from_str(url).map_err(|error| OpenError::Other(error.into()))?;
        Ok(Self::of(Target::MySql {
            options: Box::new(options),
            connections: MySqlSettings::default().max_connections.get(),
        }))
    }

    fn of(target: Target) -> Self {
        Self { target, database: OnceLock::new(), preparing: Mutex::new(()) }
    }

    fn database(&self) -> Result<&Database> {
        self.database.get().ok_or_else(|| Failure::database("the database was not reached yet"))
    }

    /// Asks a database that was not prepared, and changes nothing there.
    async fn look(&self) -> Result<()> {
        let looking = async {
            match &self.target {
                Target::Sqlite(path) => {
                    if !tokio::fs::try_exists(path).await.map_err(Failure::database)? {
                        return Err(migrate::not_there());
                    }
                    let mut connection = dialect::sqlite_reader(path).connect().await.map_err(failure)?;
                    migrate::look_at_sqlite(&mut Connection::from(&mut connection)).await
                }
                Target::MySql { options, .. } => match connect(options).await {
                    Err(error) if is_unknown_database(&error) => Err(migrate::not_there()),
                    connected => {
                        let mut connection = connected.map_err(failure)?;
                        migrate::look_at_mysql(&mut Connection::from(&mut connection)).await
                    }
                },
            }
        };
        let late = |_| Err(Failure::database("the database did not answer in time"));
        timeout(dialect::READ, looking).await.unwrap_or_else(late)
    }

    async fn transact<W: Work<Made: Sync>>(&self, work: W) -> Result<W::Made> {
        match self.database()? {
            Database::Sqlite { writer, .. } => writer.transact(work).await,
            Database::MySql(pool) => mysql::transact(pool.clone(), work).await,
        }
    }
}

impl Database {
    /// All rows of a statement, read.
    async fn all<T>(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
        read: fn(&mut Columns<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let rows = match timeout(dialect::READ, self.rows(sql, args)).await {
            Ok(rows) => rows.map_err(failure)?,
            Err(_) => {
                if let Self::MySql(pool) = self {
                    pool.close_idle();
                }
                return Err(Failure::database("the database did not answer in time"));
            }
        };
        rows.iter().map(|row| row.read(read)).collect()
    }

    /// The one row of a statement, read.
    async fn first<T>(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
        read: fn(&mut Columns<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(sql, args, read).await?.pop())
    }

    async fn rows(&self, sql: &'static str, args: &[Arg<'_>]) -> std::result::Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite { readers, .. } => fetch(readers.any().await?, sql, args).await,
            Self::MySql(pool) => match fetch(pool.any().await?, sql, args).await {
                // Idle connections are not tested before they are used, and this one died in the meantime: once more, on one that lives.
                Err(error) if fault(&error) == Fault::Dead => fetch(pool.alive().await?, sql, args).await,
                rows => rows,
            },
        }
    }
}

async fn fetch<O: Kept>(
    mut held: Held<O>,
    sql: &'static str,
    args: &[Arg<'_>],
) -> std::result::Result<Vec<Row>, sqlx::Error>
where
    for<'c> Connection<'c>: From<&'c mut O::Connection>,
{
    let rows = held.connection()?.fetch(sql, args).await?;
    held.give_back();
    Ok(rows)
}

#[async_trait]
impl UnitOfWork for SqlStore {
    async fn commit(&self, changes: Changes) -> Result<Committed> {
        self.transact(changes).await
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Checkpointed> {
        self.transact(checkpoint).await
    }

    async fn purge(&self, over: Over) -> Result<u64> {
        self.transact(over).await
    }

    async fn index_backlog(&self) -> Result<u64> {
        self.transact(search::Backlog).await
    }

    async fn prepare(&self) -> Result<()> {
        let _one = self.preparing.lock().await;
        if self.database.get().is_some() {
            return self.ping().await;
        }
        let database = match &self.target {
            Target::Sqlite(path) => open_file(path).await?,
            Target::MySql { options, connections } => open_server(options, *connections).await?,
        };
        self.database.set(database).map_err(|_| Failure::database("it was opened twice"))
    }

    async fn ping(&self) -> Result<()> {
        let Some(database) = self.database.get() else { return self.look().await };
        match database.first(migrate::IS_CURRENT, args![migrate::NEWEST], row::number).await? {
            Some(1) => Ok(()),
            _ => Err(Failure::database("the database does not have the schema of this program")),
        }
    }
}

async fn open_file(path: &Path) -> Result<Database> {
    if let Some(folder) = path.parent() {
        // Everybody's messages lie in it: no other user of the machine is to look.
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await.map_err(Failure::database)?;
    }
    let until = Instant::now() + dialect::WAIT;
    let mut connection = loop {
        match dialect::sqlite_writer(path).connect().await {
            // Another process switches the new file to WAL at the same time.
            Err(error) if fault(&error) == Fault::Contended && Instant::now() < until => {}
            connected => break connected.map_err(failure)?,
        }
    };
    // Dropped on an error, the connection takes its transaction with it.
    writer::begin(&mut Connection::from(&mut connection)).await.map_err(failure)?;
    migrate::sqlite(&mut Connection::from(&mut connection), migrate::MIGRATIONS).await?;
    Connection::from(&mut connection).run("COMMIT").await.map_err(failure)?;
    Ok(Database::Sqlite {
        readers: dialect::sqlite_readers(path).map_err(Failure::database)?,
        writer: writer::Queue::start(path.to_owned(), connection),
    })
}

async fn open_server(options: &MySqlConnectOptions, connections: u32) -> Result<Database> {
    let mut connection = match connect(options).await {
        Err(error) if is_unknown_database(&error) => {
            create_database(options).await.map_err(failure)?;
            connect(options).await
        }
        connected => connected,
    }
    .map_err(failure)?;
    migrate::mysql(&mut Connection::from(&mut connection), migrate::MIGRATIONS).await?;
    dialect::mysql_pool(options.clone(), connections).map(Database::MySql).map_err(Failure::database)
}

async fn connect(options: &MySqlConnectOptions) -> std::result::Result<MySqlConnection, sqlx::Error> {
    let connecting = async {
        let mut connection = options.connect().await?;
        Connection::from(&mut connection).run(dialect::MYSQL_AUTOCOMMIT).await?;
        Ok(connection)
    };
    timeout(dialect::WAIT, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// ER_BAD_DB_ERROR.
fn is_unknown_database(error: &sqlx::Error) -> bool {
    let mysql = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    mysql.is_some_and(|error| error.number() == 1049)
}

async fn create_database(options: &MySqlConnectOptions) -> std::result::Result<(), sqlx::Error> {
    let name = options.get_database().unwrap_or_default().replace('`', "``");
    // One that every server has, and everybody may look at.
    let mut connection = connect(&options.clone().database("information_schema")).await?;
    let sql = format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    tracing::info!(database = name, "the database was made");
    Ok(())
}
