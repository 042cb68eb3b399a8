//! SQLite: one writer, and other processes on the same file.

use std::time::Duration;

use private_chat_core::change::{Counter, Ref};
use private_chat_core::error::Conflict;
use private_chat_core::port::store::ReplyRepository as _;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Row as _, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::search;
use super::*;

async fn fresh() -> (TempDir, Arc<SqlStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqlStore::sqlite(file(&folder));
    store.prepare().await.unwrap();
    (folder, Arc::new(store))
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("data/chat.db")
}

/// A connection of somebody else.
async fn stranger(folder: &TempDir) -> SqliteConnection {
    SqliteConnectOptions::new().filename(file(folder)).connect().await.unwrap()
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) {
    Connection::from(connection).run(sql).await.unwrap();
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

/// The transactions in the write-ahead log: frames that say how large the database is after them.
/// <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>
fn transactions(folder: &TempDir) -> usize {
    let log = std::fs::read(file(folder).with_extension("db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn nothing_is_touched_before_it_is_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqlStore::sqlite(file(&folder));
    assert!(is_unavailable(&store.ping().await));
    assert!(is_unavailable(&store.instances().await));
    assert!(is_unavailable(&store.commit(insert(1)).await));
    assert!(!Path::new(&file(&folder)).exists());
    store.prepare().await.unwrap();
    store.prepare().await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn processes_that_start_at_once_make_one_schema() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let mut starting = JoinSet::new();
        for _ in 0..4 {
            let store = SqlStore::sqlite(file(&folder));
            starting.spawn(async move { store.prepare().await.map(|()| store) });
        }
        for store in starting.join_all().await {
            store.unwrap().ping().await.unwrap();
        }
        assert_eq!(
            number(&mut stranger(&folder).await, "SELECT COUNT(*) FROM schema_migrations").await,
            migrate::NEWEST
        );
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_at_the_start_and_served_while_running() {
    let (folder, store) = fresh().await;
    let sql =
        "INSERT INTO schema_migrations SELECT 9999, 'later', checksum, 0, 1 FROM schema_migrations WHERE number = 1";
    run(&mut stranger(&folder).await, sql).await;
    store.ping().await.unwrap();
    let refused = SqlStore::sqlite(file(&folder)).prepare().await;
    assert!(
        matches!(&refused, Err(Failure::Corrupt { cause, .. }) if cause.to_string().contains("9999")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn units_that_wait_together_are_one_transaction_and_conflict_alone() {
    let (folder, store) = fresh().await;
    store.commit(insert(99)).await.unwrap();
    let before = transactions(&folder);
    let mut other = stranger(&folder).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let mut waiting = JoinSet::new();
    for n in 0..20 {
        let store = store.clone();
        let mut changes = insert(n).add(Counter::Members(Uuid::from_u128(1).into()), 1, None);
        if n == 7 {
            // Looked at last: what this unit has written by then must be taken back.
            changes = changes.expect(Ref::Chat(Uuid::from_u128(2).into()), Version::FIRST);
        }
        waiting.spawn(async move { (n, store.commit(changes).await.map_err(|failure| failure.conflict())) });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    run(&mut other, "ROLLBACK").await;
    for (n, outcome) in waiting.join_all().await {
        match n {
            7 => assert_eq!(outcome, Err(Some((Conflict::Stale, 2)))),
            _ => assert!(outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    // Two where the first had begun to wait already when the others came.
    let made = transactions(&folder) - before;
    assert!((1..=2).contains(&made), "{made} transactions");
    assert_eq!(number(&mut other, "SELECT value FROM counters").await, 19);
    assert_eq!(store.instances().await.unwrap().len(), 20);
}

// F9
#[tokio::test]
async fn a_lock_of_another_process_is_waited_out_and_no_longer() {
    let (folder, store) = fresh().await;
    let mut other = stranger(&folder).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let start = Instant::now();
    let mut waiting = JoinSet::new();
    // Far more than one transaction takes: the last ones have waited for too long when their turn comes.
    for n in 0..300 {
        let store = store.clone();
        waiting.spawn(async move {
            tokio::time::sleep(Duration::from_millis(n)).await;
            store.commit(insert(u128::from(n))).await
        });
    }
    assert!(waiting.join_all().await.iter().all(is_unavailable));
    let waited = start.elapsed();
    assert!(waited > dialect::WAIT && waited < dialect::WAIT * 2 + Duration::from_millis(400), "{waited:?}");
    store.instances().await.unwrap();

    let (late, ()) = tokio::join!(store.commit(insert(9)), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        run(&mut other, "ROLLBACK").await;
    });
    late.unwrap();
    assert_eq!(store.instances().await.unwrap().len(), 1);
}

#[tokio::test]
async fn two_busy_processes_on_one_file_both_get_their_turn() {
    let (folder, store) = fresh().await;
    let other = Arc::new(SqlStore::sqlite(file(&folder)));
    other.prepare().await.unwrap();
    let mut writing = JoinSet::new();
    for task in 0..16_u128 {
        let store = if task % 2 == 0 { store.clone() } else { other.clone() };
        writing.spawn(async move {
            for n in 0..25 {
                store.commit(insert(task * 100 + n)).await.unwrap();
            }
        });
    }
    writing.join_all().await;
    assert_eq!(store.instances().await.unwrap().len(), 400);
}

#[tokio::test]
async fn a_commit_is_synced_before_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let mut writer = dialect::sqlite_writer(&file(&folder)).connect().await.unwrap();
    let mode: String = sqlx::query("PRAGMA journal_mode").fetch_one(&mut writer).await.unwrap().get(0);
    assert_eq!(mode, "wal");
    // FULL.
    assert_eq!(number(&mut writer, "PRAGMA synchronous").await, 2);
    assert_eq!(number(&mut writer, "PRAGMA foreign_keys").await, 1);
}

#[tokio::test]
async fn every_list_is_a_range_of_its_index() {
    let (folder, _store) = fresh().await;
    let mut connection = stranger(&folder).await;
    for (sql, args, table, index) in people::lists() {
        let sql = format!("EXPLAIN QUERY PLAN {sql}").leak();
        let rows = Connection::from(&mut connection).fetch(sql, &args).await.unwrap();
        // An id, its parent's, something that is not used, and the step.
        let step = |row: &Row| row.read(|row| (row.int()?, row.int()?, row.int()?, row.text()).3).unwrap();
        let plan: Vec<_> = rows.iter().map(step).collect();
        let read = match index {
            "PRIMARY" => format!("SEARCH {table} USING PRIMARY KEY ("),
            index => format!("SEARCH {table} USING INDEX {index} ("),
        };
        let mut steps = plan.iter().map(|step| step.replace("COVERING ", ""));
        let mut of_table = steps.clone().filter(|step| step.contains(&format!(" {table} ")));
        assert!(steps.any(|step| step.starts_with(&read)), "{sql}\n{plan:#?}");
        assert!(of_table.all(|step| step.starts_with(&read)), "{sql}\n{plan:#?}");
        // But for a page that was cut already.
        let sorts = plan.iter().any(|step| step.contains("TEMP B-TREE")) && !sql.contains(") k JOIN ");
        assert!(!sorts && !plan.iter().any(|step| step.contains("SCAN u")), "{sql}\n{plan:#?}");
    }
}

#[tokio::test]
async fn a_filled_database_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let mut connection = dialect::sqlite_writer(&file(&folder)).connect().await.unwrap();
    {
        let mut connection = Connection::from(&mut connection);
        connection.run("BEGIN").await.unwrap();
        migrate::sqlite(&mut connection, &migrate::MIGRATIONS[..1]).await.unwrap();
        people::fill_first_light(&mut connection).await;
        migrate::sqlite(&mut connection, &migrate::MIGRATIONS[..2]).await.unwrap();
        people::fill_people(&mut connection).await;
        connection.run("COMMIT").await.unwrap();
    }
    let store = SqlStore::sqlite(file(&folder));
    assert!(is_unavailable(&store.ping().await));
    store.prepare().await.unwrap();
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut connection).await.unwrap();
    assert_eq!(broken.len(), 0);
    people::assert_people_were_kept(&store).await;
    people::assert_first_light_was_kept(&store).await;
}

#[tokio::test]
async fn what_is_deleted_and_over_goes_a_little_at_a_time() {
    let (folder, store) = fresh().await;
    let mut other = stranger(&folder).await;
    people::fill(&mut Connection::from(&mut other), 2_000, |n| format!("unhex(printf('%032x', {n}))")).await;
    people::assert_that_little_goes_at_once(&store).await;
}

// F51
#[tokio::test]
async fn aborted_reads_leave_the_pool_whole() {
    let (_folder, store) = fresh().await;
    store.commit(insert(1)).await.unwrap();
    for n in 0..1_000_u64 {
        let _ = timeout(Duration::from_micros(n % 300), store.instances()).await;
    }
    let mut reading = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        reading.spawn(async move { store.instances().await.unwrap().len() });
    }
    assert!(reading.join_all().await.iter().all(|found| *found == 1));
}

/// A unit that the database can't make sense of, after it has written something; or that breaks off.
struct Odd {
    panics: bool,
}

#[async_trait]
impl Work for Odd {
    type Made = ();

    async fn perform(&self, connection: &mut Connection<'_>) -> std::result::Result<(), commit::Refusal> {
        connection.execute("INSERT INTO instances (id, beat, version) VALUES (x'00', 0, 1)", &[]).await?;
        assert!(!self.panics, "as a fault of ours would");
        connection.execute("INSERT INTO instances (id, beat, version) VALUES (NULL, 0, 1)", &[]).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_unit_that_makes_no_sense_takes_no_other_along() {
    let (folder, store) = fresh().await;
    for (panics, first) in [(false, 0), (true, 100)] {
        let mut other = stranger(&folder).await;
        run(&mut other, "BEGIN IMMEDIATE").await;
        let mut waiting = JoinSet::new();
        let sane = |n: u128| {
            let store = store.clone();
            async move { store.commit(insert(first + n)).await }
        };
        waiting.spawn(sane(0));
        // The writer waits for the lock with the first one; the others then go together.
        tokio::time::sleep(Duration::from_millis(200)).await;
        for n in 1..8 {
            waiting.spawn(sane(n));
        }
        let (odd, ()) = tokio::join!(store.transact(Odd { panics }), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            run(&mut other, "ROLLBACK").await;
        });
        assert!(matches!(odd, Err(Failure::Corrupt { .. })), "{odd:?}");
        for written in waiting.join_all().await {
            written.unwrap();
        }
    }
    assert_eq!(store.instances().await.unwrap().len(), 16);
}

#[tokio::test]
async fn words_are_found_in_titles_and_final_messages() {
    let (_folder, store) = fresh().await;
    search::assert_that_words_are_found(&store).await;
}

#[tokio::test]
async fn rare_and_common_words_are_found_alike() {
    let (_folder, store) = fresh().await;
    search::assert_that_all_ways_find_the_same(&store).await;
}

#[tokio::test]
async fn a_backlog_of_words_is_caught_up_with() {
    let (folder, store) = fresh().await;
    let other = SqlStore::sqlite(file(&folder));
    other.prepare().await.unwrap();
    let mut connection = stranger(&folder).await;
    search::assert_that_a_backlog_is_caught_up_with(&store, &other, &mut Connection::from(&mut connection)).await;
}
