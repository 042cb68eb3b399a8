//! Brings a database to the schema that this program needs: see `migrations/README.md` for the rules that the files keep.

use private_chat_core::error::Failure;
use private_chat_core::port::Result;
use sha2::{Digest as _, Sha256};
use sqlx::Error;
use sqlx::mysql::MySqlDatabaseError;

use super::dialect::failure;
use super::seam::{Connection, args};

/// One step of the schema, in each database's words.
pub(super) struct Migration {
    number: i64,
    name: &'static str,
    sqlite: &'static str,
    mysql: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal;)*) => {
        &[$(Migration {
            number: $number,
            name: $name,
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
            mysql: include_str!(concat!("../../../migrations/mysql/", $name, ".sql")),
        }),*]
    };
}

pub(super) const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_first_light";
    2 "0002_people";
    3 "0003_conversations";
    4 "0004_search";
};

/// The number of the newest migration that this program knows, and needs.
pub(super) const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].number;

impl Migration {
    /// Line ends do not count: a checkout may change them.
    fn checksum(text: &str) -> [u8; 32] {
        Sha256::digest(text.replace("\r\n", "\n")).into()
    }
}

/// A migration that was applied, or begun.
struct Applied {
    number: i64,
    checksum: [u8; 32],
    steps: usize,
    finished: bool,
}

const APPLIED: &str = "SELECT number, checksum, steps, finished FROM schema_migrations ORDER BY number";

async fn applied(connection: &mut Connection<'_>) -> Result<Vec<Applied>> {
    read_applied(&connection.fetch(APPLIED, &[]).await.map_err(failure)?)
}

fn read_applied(rows: &[super::seam::Row]) -> Result<Vec<Applied>> {
    let read = |row: &super::seam::Row| {
        row.read(|row| {
            Ok(Applied { number: row.int()?, checksum: row.array()?, steps: row.count()?, finished: row.flag()? })
        })
    };
    rows.iter().map(read).collect()
}

/// What is still to be done, each with the number of its statements that are done; refuses a database that is none of this program's past.
fn missing(
    migrations: &'static [Migration],
    applied: &[Applied],
    text: fn(&Migration) -> &'static str,
) -> Result<Vec<(&'static Migration, Option<usize>)>> {
    for done in applied {
        let Some(known) = migrations.iter().find(|migration| migration.number == done.number) else {
            return Err(Failure::corrupt(format!(
                "the database has migration {}, this program knows {NEWEST} at most: it is older than the database",
                done.number
            )));
        };
        if Migration::checksum(text(known)) != done.checksum {
            return Err(Failure::corrupt(format!(
                "migration {} is not the one that was applied to this database",
                known.name
            )));
        }
    }
    let begun = |migration: &Migration| applied.iter().find(|done| done.number == migration.number);
    Ok(migrations
        .iter()
        .filter(|migration| begun(migration).is_none_or(|done| !done.finished))
        .map(|migration| (migration, begun(migration).map(|done| done.steps)))
        .collect())
}

/// Brings SQLite to these migrations: all that is missing in one transaction, which also is the lock. The transaction is open already.
pub(super) async fn sqlite(connection: &mut Connection<'_>, migrations: &'static [Migration]) -> Result<()> {
    let table = "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, \
                 checksum BLOB NOT NULL, steps INTEGER NOT NULL, finished INTEGER NOT NULL) STRICT";
    connection.run(table).await.map_err(failure)?;
    for (migration, _) in missing(migrations, &applied(connection).await?, |migration| migration.sqlite)? {
        connection.run(migration.sqlite).await.map_err(failure)?;
        record(connection, migration, migration.sqlite, true).await.map_err(failure)?;
        tracing::info!(migration = migration.name, "the database was migrated");
    }
    Ok(())
}

async fn record(
    connection: &mut Connection<'_>,
    migration: &Migration,
    text: &str,
    finished: bool,
) -> std::result::Result<(), Error> {
    let sql = "INSERT INTO schema_migrations (number, name, checksum, steps, finished) VALUES (?, ?, ?, 0, ?)";
    let checksum = Migration::checksum(text);
    connection.execute(sql, args![migration.number, migration.name, &checksum, finished]).await.map(drop)
}

/// Brings MySQL to these migrations, under a lock that ends with the connection at the latest.
pub(super) async fn mysql(connection: &mut Connection<'_>, migrations: &'static [Migration]) -> Result<()> {
    let sql = "SELECT GET_LOCK(LEFT(CONCAT('private-chat migration ', DATABASE()), 64), 10)";
    let row = connection.fetch_one(sql, &[]).await.map_err(failure)?.ok_or_else(|| failure(Error::RowNotFound))?;
    if row.columns().opt_int()? != Some(1) {
        return Err(Failure::database("another process migrates the database"));
    }
    let done = mysql_locked(connection, migrations).await;
    let released =
        connection.fetch("SELECT RELEASE_LOCK(LEFT(CONCAT('private-chat migration ', DATABASE()), 64))", &[]).await;
    done.and(released.map(drop).map_err(failure))
}

async fn mysql_locked(connection: &mut Connection<'_>, migrations: &'static [Migration]) -> Result<()> {
    let table = "CREATE TABLE IF NOT EXISTS schema_migrations (number BIGINT NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, \
                 checksum BINARY(32) NOT NULL, steps BIGINT NOT NULL, finished SMALLINT NOT NULL) \
                 ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
    connection.run(table).await.map_err(failure)?;
    for (migration, begun) in missing(migrations, &applied(connection).await?, |migration| migration.mysql)? {
        if begun.is_none() {
            record(connection, migration, migration.mysql, false).await.map_err(failure)?;
        }
        let done = begun.unwrap_or(0);
        for (step, statement) in statements(migration.mysql).enumerate().skip(done) {
            match connection.run(statement).await {
                // The process that began died between a statement and the count of it.
                Err(error) if begun == Some(step) && is_done_already(&error) => {}
                outcome => outcome.map_err(failure)?,
            }
            let sql = "UPDATE schema_migrations SET steps = ? WHERE number = ?";
            connection.execute(sql, args![step as u64 + 1, migration.number]).await.map_err(failure)?;
        }
        let sql = "UPDATE schema_migrations SET finished = 1 WHERE number = ?";
        connection.execute(sql, args![migration.number]).await.map_err(failure)?;
        tracing::info!(migration = migration.name, "the database was migrated");
    }
    Ok(())
}

/// The statements of a file: each ends with `;` at the end of a line.
fn statements(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

/// The table, column or key stands already, or is gone already.
fn is_done_already(error: &Error) -> bool {
    let number = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    matches!(number.map(MySqlDatabaseError::number), Some(1050 | 1051 | 1060 | 1061 | 1091 | 1826))
}

/// What is said of a database that no program of ours was at yet.
pub(super) fn not_there() -> Failure {
    Failure::database("its schema is not there yet: run `private-chat migrate`, or start the server")
}

/// Returns when SQLite has this program's schema. Changes nothing.
pub(super) async fn look_at_sqlite(connection: &mut Connection<'_>) -> Result<()> {
    look(connection, |migration| migration.sqlite).await
}

/// Returns when MySQL has this program's schema. Changes nothing.
pub(super) async fn look_at_mysql(connection: &mut Connection<'_>) -> Result<()> {
    look(connection, |migration| migration.mysql).await
}

async fn look(connection: &mut Connection<'_>, text: fn(&Migration) -> &'static str) -> Result<()> {
    let applied = match connection.fetch(APPLIED, &[]).await {
        Err(error) if is_no_such_table(&error) => return Err(not_there()),
        rows => read_applied(&rows.map_err(failure)?)?,
    };
    match missing(MIGRATIONS, &applied, text)?.as_slice() {
        [] => Ok(()),
        _ => Err(Failure::database(
            "its schema is older than this program: run `private-chat migrate`, or start the server",
        )),
    }
}

/// ER_NO_SUCH_TABLE; SQLite has no code of its own for it.
fn is_no_such_table(error: &Error) -> bool {
    error.as_database_error().is_some_and(|error| match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(mysql) => mysql.number() == 1146,
        None => error.message().starts_with("no such table"),
    })
}

/// Counts the needed migration where it is applied: what tells that a database has this program's schema.
pub(super) const IS_CURRENT: &str = "SELECT COUNT(*) FROM schema_migrations WHERE number = ? AND finished = 1";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    impl Migration {
        /// How many statements it has on MySQL.
        pub(in super::super) fn mysql_steps(&self) -> usize {
            statements(self.mysql).count()
        }

        /// Leaves what a process leaves that dies in it on MySQL, when so many statements are done and the last of them is not counted.
        pub(in super::super) async fn mysql_dying(&self, connection: &mut Connection<'_>, done: usize) {
            record(connection, self, self.mysql, false).await.unwrap();
            for statement in statements(self.mysql).take(done) {
                connection.run(statement).await.unwrap();
            }
            let sql = "UPDATE schema_migrations SET steps = ? WHERE number = ?";
            connection.execute(sql, args![done.saturating_sub(1) as u64, self.number]).await.unwrap();
        }
    }

    fn files(dialect: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(dialect);
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn both_databases_have_the_same_files_and_the_program_has_them_all() {
        let embedded: Vec<_> = MIGRATIONS.iter().map(|migration| format!("{}.sql", migration.name)).collect();
        assert_eq!(files("sqlite"), embedded);
        assert_eq!(files("mysql"), embedded);
    }

    #[test]
    fn numbers_follow_each_other_and_are_those_of_the_names() {
        for (migration, number) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.number, number);
            assert!(migration.name.starts_with(&format!("{number:04}_")), "{}", migration.name);
        }
    }

    /// Applies a file to the tables with their columns, in their order.
    fn shape(tables: &mut BTreeMap<String, Vec<String>>, text: &'static str) {
        for statement in statements(text) {
            let lines = statement.lines().filter(|line| !line.starts_with("--"));
            let words: Vec<_> = lines.clone().flat_map(str::split_whitespace).collect();
            match words.as_slice() {
                ["CREATE", "TABLE", table, ..] => {
                    // What does not start with a small letter is no column.
                    let columns = lines.filter_map(|line| line.strip_prefix("    ")?.split(' ').next());
                    let columns = columns.filter(|word| word.starts_with(char::is_lowercase)).map(Into::into);
                    tables.insert((*table).into(), columns.collect());
                }
                ["ALTER", "TABLE", table, "ADD", "COLUMN", column, ..] => {
                    tables.get_mut(*table).unwrap().push((*column).into());
                }
                ["ALTER", "TABLE", table, "RENAME", "TO", name] => {
                    let columns = tables.remove(*table).unwrap();
                    tables.insert((*name).into(), columns);
                }
                ["DROP", "TABLE", table] => {
                    tables.remove(*table).unwrap();
                }
                // The index of words is each database's own.
                ["CREATE", "VIRTUAL", "TABLE", "search_texts", ..]
                | ["ALTER", "TABLE", _, "MODIFY", ..]
                | ["CREATE" | "DROP", "INDEX", ..]
                | ["INSERT", "INTO" | "IGNORE", ..]
                | ["UPDATE", ..] => {}
                odd => panic!("{odd:?}"),
            }
        }
    }

    #[test]
    fn both_databases_have_the_same_tables_and_columns() {
        let (mut sqlite, mut mysql) = (BTreeMap::new(), BTreeMap::new());
        for migration in MIGRATIONS {
            shape(&mut sqlite, migration.sqlite);
            shape(&mut mysql, migration.mysql);
            mysql.remove("search_postings");
            assert_eq!(sqlite, mysql, "{}", migration.name);
        }
        assert_eq!(sqlite["events"].len(), 7);
    }

    #[test]
    fn every_table_of_mysql_names_its_charset() {
        for statement in MIGRATIONS.iter().flat_map(|migration| statements(migration.mysql)) {
            let named = statement.ends_with("ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
            assert!(named || !statement.contains("CREATE TABLE"), "{statement}");
        }
    }

    #[test]
    fn a_newer_or_altered_database_is_refused() {
        let applied = |number, checksum| [Applied { number, checksum, steps: 0, finished: true }];
        let text: fn(&Migration) -> &'static str = |migration| migration.sqlite;
        let known = Migration::checksum(MIGRATIONS[0].sqlite);
        assert!(missing(&MIGRATIONS[..1], &applied(1, known), text).unwrap().is_empty());
        assert_eq!(missing(MIGRATIONS, &applied(1, known), text).unwrap().len(), MIGRATIONS.len() - 1);
        assert!(matches!(missing(MIGRATIONS, &applied(1, [0; 32]), text), Err(Failure::Corrupt { .. })));
        assert!(matches!(missing(MIGRATIONS, &applied(NEWEST + 1, known), text), Err(Failure::Corrupt { .. })));
    }
}
