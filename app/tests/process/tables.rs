//! What lies in the database, looked at from beside the program.

use private_chat_tests::servers::Database;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use crate::program::Home;

/// The database file of an installation on SQLite.
pub(crate) fn sqlite_options(home: &Home) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(home.path("data/private-chat.db"))
}

/// A MySQL database of a trial.
pub(crate) fn mysql_options(database: &Database) -> MySqlConnectOptions {
    let config = database.config();
    let text = |key: &str| config.extract_inner::<String>(&format!("database.mysql.{key}")).unwrap();
    MySqlConnectOptions::new()
        .host(&text("host"))
        .port(config.extract_inner("database.mysql.port").unwrap())
        .username(&text("user"))
        .password(&text("password"))
        .database(&text("database"))
}

/// A connection beside the program's own.
pub(crate) enum Tables {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a server.
    MySql(MySqlConnection),
}

impl Tables {
    /// Those of an installation.
    pub(crate) async fn of(home: &Home, database: Option<&Database>) -> Self {
        match database {
            None => Self::Sqlite(sqlite_options(home).connect().await.unwrap()),
            Some(database) => Self::MySql(mysql_options(database).connect().await.unwrap()),
        }
    }

    /// The number that a query gives.
    pub(crate) async fn number(&mut self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query(sql).fetch_one(connection).await.unwrap().get(0),
            Self::MySql(connection) => sqlx::query(sql).fetch_one(connection).await.unwrap().get(0),
        }
    }

    /// How many rows a table has.
    pub(crate) async fn rows(&mut self, table: &str) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM {table}")).await
    }

    /// Changes something.
    pub(crate) async fn execute(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => drop(sqlx::raw_sql(sql).execute(connection).await.unwrap()),
            Self::MySql(connection) => drop(sqlx::raw_sql(sql).execute(connection).await.unwrap()),
        }
    }
}
