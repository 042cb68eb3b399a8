//! What the contract can't see: how this adapter keeps its promises.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use private_chat_core::change::{Changes, Counter, Instance, Record, Ref, Version};
use private_chat_core::error::{Conflict, Failure};
use private_chat_core::port::store::{ReplyRepository as _, UnitOfWork as _, UserRepository as _};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Row as _, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::*;

fn an_instance(number: u128) -> Instance {
    Instance { id: Uuid::from_u128(number).into(), beat: 0, version: Version::FIRST }
}

fn insert(number: u128) -> Changes {
    Changes::new().insert(an_instance(number))
}

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

fn is_unavailable<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Failure::Unavailable { .. }))
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
    store.commit(insert(7)).await.unwrap();
    let before = transactions(&folder);
    let mut other = stranger(&folder).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let mut waiting = JoinSet::new();
    for n in 0..20 {
        let store = store.clone();
        // The seventh stands already; before it, its unit writes what must be taken back.
        let changes = Changes::new().add(Counter::Members(Uuid::from_u128(1).into()), 1, None).insert(an_instance(n));
        waiting.spawn(async move { (n, store.commit(changes).await.map_err(|failure| failure.conflict())) });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    run(&mut other, "ROLLBACK").await;
    for (n, outcome) in waiting.join_all().await {
        match n {
            7 => assert_eq!(outcome, Err(Some((Conflict::Duplicate, 1)))),
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
    for n in 0..3 {
        let store = store.clone();
        waiting.spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 300)).await;
            store.commit(insert(u128::from(n))).await
        });
    }
    assert!(waiting.join_all().await.iter().all(is_unavailable));
    let waited = start.elapsed();
    assert!(waited > dialect::WAIT && waited < dialect::WRITE + Duration::from_millis(300), "{waited:?}");
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
async fn a_page_is_a_range_of_the_table_itself() {
    let (folder, _store) = fresh().await;
    let mut connection = stranger(&folder).await;
    let sql = format!("EXPLAIN QUERY PLAN {}", read::MESSAGES_DOWN);
    let plan = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&[0_u8; 16][..]).bind(9).bind(51);
    let plan: Vec<String> =
        plan.fetch_all(&mut connection).await.unwrap().iter().map(|row| row.get("detail")).collect();
    assert!(plan[0].contains("SEARCH m USING PRIMARY KEY (chat_id=? AND seq<?)"), "{plan:?}");
    assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
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

/// A server for the tests below: `PRIVATE_CHAT` is the program's own namespace, this one is the tests'.
fn mysql_url() -> String {
    std::env::var("CHAT_TEST_MYSQL_URL").expect("CHAT_TEST_MYSQL_URL=mysql://user:password@host:port/name")
}

/// A store in a database of its own, and somebody else's connection to it.
async fn fresh_mysql(name: &str) -> (Arc<SqlStore>, MySqlConnectOptions) {
    let options = MySqlConnectOptions::from_str(&mysql_url()).unwrap();
    let name = format!("sql_{name}_{}", std::process::id());
    let mut connection = options.connect().await.unwrap();
    for sql in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    let options = options.database(&name);
    let target = Target::MySql { options: Box::new(options.clone()), connections: 8 };
    (Arc::new(SqlStore::of(target)), options)
}

async fn drop_database(options: &MySqlConnectOptions) {
    let sql = format!("DROP DATABASE {}", options.get_database().unwrap());
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut options.connect().await.unwrap()).await.unwrap();
}

// F10
#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn mysql_processes_that_start_at_once_make_one_schema() {
    let (_, options) = fresh_mysql("race").await;
    let mut starting = JoinSet::new();
    for _ in 0..4 {
        let store = SqlStore::of(Target::MySql { options: Box::new(options.clone()), connections: 2 });
        starting.spawn(async move { store.prepare().await.map(|()| store) });
    }
    for store in starting.join_all().await {
        store.unwrap().ping().await.unwrap();
    }
    drop_database(&options).await;
}

// F11
#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn mysql_goes_on_behind_the_statement_that_a_dead_process_ran_last() {
    let (store, options) = fresh_mysql("crash").await;
    store.prepare().await.unwrap();
    let mut other = options.connect().await.unwrap();
    // As if the process had died after the third table from the end was made, and before that was counted.
    let sql = "DROP TABLE events; DROP TABLE event_heads; UPDATE schema_migrations SET steps = steps - 3, finished = 0";
    sqlx::raw_sql(sql).execute(&mut other).await.unwrap();
    assert!(is_unavailable(&store.ping().await));
    SqlStore::of(Target::MySql { options: Box::new(options.clone()), connections: 2 }).prepare().await.unwrap();
    store.ping().await.unwrap();
    sqlx::raw_sql("SELECT * FROM events").execute(&mut other).await.unwrap();

    // A table that stands without having been counted as begun is somebody else's.
    sqlx::raw_sql("DELETE FROM schema_migrations").execute(&mut other).await.unwrap();
    assert!(
        SqlStore::of(Target::MySql { options: Box::new(options.clone()), connections: 2 }).prepare().await.is_err()
    );
    drop_database(&options).await;
}

// F2, F7
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn mysql_connections_that_died_are_replaced_unnoticed() {
    let (store, options) = fresh_mysql("dead").await;
    store.prepare().await.unwrap();
    let mut other = options.connect().await.unwrap();
    for round in 0..5 {
        // All places of the pool are taken once.
        let mut reading = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            reading.spawn(async move { store.instances().await.unwrap() });
        }
        reading.join_all().await;
        let sql = "SELECT CONCAT('KILL ', id) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
        for kill in sqlx::query(sql).fetch_all(&mut other).await.unwrap() {
            let kill: String = kill.get(0);
            let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(kill)).execute(&mut other).await;
        }
        if round % 2 == 0 {
            store.commit(insert(round)).await.unwrap();
        }
        store.instances().await.unwrap();
        store.ping().await.unwrap();
    }
    drop_database(&options).await;
}

// F6
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn mysql_waits_for_a_lock_again_and_then_says_that_it_is_busy() {
    let (store, options) = fresh_mysql("locked").await;
    store.prepare().await.unwrap();
    store.commit(insert(1)).await.unwrap();
    let expect = || Changes::new().expect(Ref::Instance(an_instance(1).id), Version::FIRST);
    let mut other = options.connect().await.unwrap();
    sqlx::raw_sql("BEGIN; UPDATE instances SET beat = 7").execute(&mut other).await.unwrap();

    let start = Instant::now();
    assert!(is_unavailable(&store.commit(expect()).await));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    // Longer than one lock timeout: the second attempt gets it.
    let (late, ()) = tokio::join!(store.commit(expect()), async {
        tokio::time::sleep(Duration::from_millis(2_700)).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    });
    late.unwrap();
    drop_database(&options).await;
}

// F6: a ring of locks that no order of ours prevents, since the other side is no unit of work.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn mysql_repeats_a_unit_that_a_deadlock_ended() {
    let (store, options) = fresh_mysql("deadlock").await;
    store.prepare().await.unwrap();
    store.commit(insert(1).insert(an_instance(2))).await.unwrap();
    let mut other = options.connect().await.unwrap();
    // The server ends the transaction that has changed fewer rows: this one is made the heavier.
    sqlx::raw_sql(
        "BEGIN; INSERT INTO counters SELECT 9, UNHEX(LPAD(HEX(help_topic_id), 32, '0')), 0 FROM mysql.help_topic LIMIT 100; \
         UPDATE instances SET beat = 7 WHERE id = UNHEX(LPAD('2', 32, '0'))",
    )
    .execute(&mut other)
    .await
    .unwrap();
    let both = [1, 2]
        .into_iter()
        .fold(Changes::new(), |all, n| all.update(Record::from(Instance { beat: 5, ..an_instance(n) })));
    let close = "UPDATE instances SET beat = 7 WHERE id = UNHEX(LPAD('1', 32, '0')); COMMIT";
    let (unit, ()) = tokio::join!(store.commit(both), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sqlx::raw_sql(close).execute(&mut other).await.unwrap();
    });
    unit.unwrap();
    let beats: Vec<_> = store.instances().await.unwrap().iter().map(|instance| instance.beat).collect();
    assert_eq!(beats, [5, 5]);
    drop_database(&options).await;
}

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn mysql_pages_are_ranges_of_the_primary_key() {
    let (store, options) = fresh_mysql("plan").await;
    store.prepare().await.unwrap();
    let mut other = options.connect().await.unwrap();
    let fill = "SET foreign_key_checks = 0; SET cte_max_recursion_depth = 5000; \
                INSERT INTO messages (chat_id, seq, id, workspace_id, speaker, content, status, created_at, updated_at, version) \
                WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000) \
                SELECT REPEAT('c', 16), n, UNHEX(LPAD(HEX(n), 32, '0')), REPEAT('w', 16), 0, 'x', 0, 0, 0, 1 FROM n; \
                ANALYZE TABLE messages";
    sqlx::raw_sql(fill).execute(&mut other).await.unwrap();
    let sql = format!("EXPLAIN FORMAT = TRADITIONAL {}", read::MESSAGES_DOWN);
    let plan = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&b"cccccccccccccccc"[..]).bind(2_500).bind(51);
    let plan = plan.fetch_all(&mut other).await.unwrap();
    let column = |name: &str| plan[0].get::<Option<String>, _>(name).unwrap_or_default();
    assert_eq!((column("table"), column("type"), column("key")), ("m".into(), "range".into(), "PRIMARY".into()));
    assert!(!column("Extra").contains("filesort") && !column("Extra").contains("temporary"), "{}", column("Extra"));
    drop_database(&options).await;
}

#[tokio::test]
async fn mysql_that_is_away_is_said_to_be_so_in_time() {
    let settings = MySqlSettings { host: "127.0.0.1".into(), port: 1, ..MySqlSettings::default() };
    let store = SqlStore::mysql(&settings);
    let start = Instant::now();
    assert!(is_unavailable(&store.prepare().await));
    assert!(is_unavailable(&store.user(Uuid::from_u128(1).into()).await));
    assert!(start.elapsed() < Duration::from_secs(3));
}
