//! MySQL: connections that die, locks of others, and schemas half made.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use private_chat_core::change::{Counter, Event, EventKind, Record, Ref};
use private_chat_core::model::secret::Secret;
use private_chat_core::port::store::{ReplyRepository as _, UserRepository as _};
use private_chat_core::time::Timestamp;
use sqlx::Row as _;
use sqlx::mysql::MySqlSslMode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::search;
use super::*;

/// The address of a server, of a user who may make and drop databases; without one these tests are not asked for.
fn server() -> String {
    std::env::var("CHAT_TEST_MYSQL_URL").expect("CHAT_TEST_MYSQL_URL=mysql://user:password@host:port/name")
}

/// A store in a database of its own, and somebody else's connection to it.
async fn fresh(name: &str) -> (Arc<SqlStore>, MySqlConnectOptions) {
    let options = MySqlConnectOptions::from_str(&server()).unwrap();
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
async fn processes_that_start_at_once_make_one_schema() {
    let (_, options) = fresh("race").await;
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

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn a_table_of_somebody_else_is_not_taken_for_a_migration_that_was_begun() {
    let (store, options) = fresh("other").await;
    store.prepare().await.unwrap();
    let mut other = options.connect().await.unwrap();
    sqlx::raw_sql("DELETE FROM schema_migrations").execute(&mut other).await.unwrap();
    assert!(
        SqlStore::of(Target::MySql { options: Box::new(options.clone()), connections: 2 }).prepare().await.is_err()
    );
    drop_database(&options).await;
}

// F2, F7
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn connections_that_died_are_replaced_unnoticed() {
    let (store, options) = fresh("dead").await;
    store.prepare().await.unwrap();
    let mut other = options.connect().await.unwrap();
    for round in 0..5 {
        // All places of the pool are taken at once.
        let mut reading = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            let who = "SELECT CAST(CONNECTION_ID() AS SIGNED) FROM (SELECT SLEEP(0.1)) s";
            reading.spawn(async move { store.database()?.first(who, &[], row::number).await });
        }
        let killed: BTreeSet<_> = reading.join_all().await.into_iter().map(|id| id.unwrap().unwrap()).collect();
        assert_eq!(killed.len(), 8);
        for id in killed {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("KILL {id}"))).execute(&mut other).await.unwrap();
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
async fn a_lock_is_waited_for_again_and_not_for_ever() {
    let (store, options) = fresh("locked").await;
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
async fn a_unit_that_a_deadlock_ended_is_repeated() {
    let (store, options) = fresh("deadlock").await;
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

/// Fills a database with 2,000 rows of each kind.
async fn fill(other: &mut MySqlConnection) {
    sqlx::raw_sql("SET cte_max_recursion_depth = 5000").execute(&mut *other).await.unwrap();
    people::fill(&mut Connection::from(&mut *other), 2_000, |n| format!("UNHEX(LPAD(HEX({n}), 32, '0'))")).await;
    let analyze =
        "ANALYZE TABLE users, sessions, workspaces, memberships, invitations, keyed_requests, events, chats, messages";
    sqlx::raw_sql(analyze).execute(other).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn every_list_is_a_range_of_its_index() {
    let (store, options) = fresh("plan").await;
    store.prepare().await.unwrap();
    let mut other = options.connect().await.unwrap();
    fill(&mut other).await;
    for (sql, args, table, index) in people::lists() {
        let sql = format!("EXPLAIN FORMAT = TREE {sql}").leak();
        let plan = Connection::from(&mut other).fetch_one(sql, &args).await.unwrap().unwrap();
        let plan = plan.columns().text().unwrap();
        let read = format!(" on {table} using {index} ");
        assert!(plan.contains(&read), "{sql}\n{plan}");
        for step in plan.lines().filter(|line| line.contains(&format!(" on {table} "))) {
            let ranges = !step.contains("scan") || step.contains("range scan");
            assert!(step.contains(&read) && ranges, "{sql}\n{plan}");
        }
        // But for a page that was cut already.
        let sorts = plan.lines().any(|line| line.contains("Sort: ")) && !sql.contains(") k JOIN ");
        assert!(!sorts, "{sql}\n{plan}");
    }
    drop_database(&options).await;
}

// F11
#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn a_filled_database_is_migrated_wherever_a_process_died_before() {
    for (before, migration) in migrate::MIGRATIONS.iter().enumerate().skip(1) {
        for done in 0..=migration.mysql_steps() {
            let (store, options) = fresh(&format!("filled_{before}_{done}")).await;
            let mut other = options.connect().await.unwrap();
            let mut connection = Connection::from(&mut other);
            migrate::mysql(&mut connection, &migrate::MIGRATIONS[..1]).await.unwrap();
            people::fill_first_light(&mut connection).await;
            if before > 1 {
                migrate::mysql(&mut connection, &migrate::MIGRATIONS[..2]).await.unwrap();
                people::fill_people(&mut connection).await;
                migrate::mysql(&mut connection, &migrate::MIGRATIONS[..before]).await.unwrap();
            }
            migration.mysql_dying(&mut connection, done).await;
            assert!(is_unavailable(&store.ping().await));
            store.prepare().await.unwrap();
            if before > 1 {
                people::assert_people_were_kept(&store).await;
            }
            people::assert_first_light_was_kept(&store).await;
            drop_database(&options).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn the_heads_of_several_logs_are_locked_in_one_order() {
    let (store, options) = fresh("heads").await;
    store.prepare().await.unwrap();
    let [mut filler, mut first, mut second] =
        [options.connect().await, options.connect().await, options.connect().await].map(std::result::Result::unwrap);
    fill(&mut filler).await;
    sqlx::raw_sql("BEGIN; UPDATE event_heads SET closed = 0 WHERE workspace_id = UNHEX(LPAD('1', 32, '0'))")
        .execute(&mut first)
        .await
        .unwrap();
    let told = |workspace| Event {
        workspace: Uuid::from_u128(workspace).into(),
        kind: EventKind::MemberLeft(Uuid::from_u128(5).into()),
        at: Timestamp::from_micros(1),
    };
    // Told in the other order.
    let changes = Changes::new().emit(told(3)).emit(told(1)).emit(told(2)).emit(told(3));
    let (committed, ()) = tokio::join!(store.commit(changes), async {
        let waiting = "SELECT COUNT(*) FROM performance_schema.data_locks WHERE object_schema = DATABASE() AND lock_status = 'WAITING'";
        while sqlx::query(waiting).fetch_one(&mut second).await.unwrap().get::<i64, _>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Nobody has these yet.
        let free = "SELECT * FROM event_heads WHERE workspace_id > UNHEX(LPAD('1', 32, '0')) FOR UPDATE NOWAIT";
        assert_eq!(sqlx::query(free).fetch_all(&mut second).await.unwrap().len(), 1_999);
        sqlx::raw_sql("ROLLBACK").execute(&mut first).await.unwrap();
    });
    assert_eq!(committed.unwrap().events, [2_001, 2_001, 2_001, 2_002]);
    drop_database(&options).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn what_is_deleted_and_over_goes_a_little_at_a_time() {
    let (store, options) = fresh("purged").await;
    store.prepare().await.unwrap();
    fill(&mut options.connect().await.unwrap()).await;
    people::assert_that_little_goes_at_once(&store).await;
    drop_database(&options).await;
}

/// A way to the server that can be made to swallow everything: what was open then stays open and silent for good.
struct Way {
    port: u16,
    /// Odd while it swallows.
    turns: Arc<AtomicUsize>,
    _ways: JoinSet<()>,
}

impl Way {
    async fn to(options: &MySqlConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = (options.get_host().to_owned(), options.get_port());
        let turns = Arc::new(AtomicUsize::new(0));
        let count = turns.clone();
        let mut ways = JoinSet::new();
        ways.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((server.0.as_str(), server.1)).await.unwrap();
                let (client, server) = (client.into_split(), server.into_split());
                open.spawn(carry(client.0, server.1, count.clone()));
                open.spawn(carry(server.0, client.1, count.clone()));
            }
        });
        Self { port, turns, _ways: ways }
    }

    fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, turns: Arc<AtomicUsize>) {
    let made = turns.load(Ordering::Relaxed);
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let silent = made % 2 == 1 || made != turns.load(Ordering::Relaxed);
        if !silent && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

// F3
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn a_network_that_swallows_everything_fails_calls_in_time_and_is_forgotten_when_it_is_back() {
    let (_, options) = fresh("silent").await;
    let way = Way::to(&options).await;
    let through = Box::new(options.clone().host("127.0.0.1").port(way.port));
    let store = Arc::new(SqlStore::of(Target::MySql { options: through, connections: 8 }));
    store.prepare().await.unwrap();
    let load = |round: u128| {
        let mut running = JoinSet::new();
        for n in 0..16 {
            let store = store.clone();
            running.spawn(async move {
                let start = Instant::now();
                let ended = match n % 2 {
                    0 => store.instances().await.map(drop),
                    _ => store.commit(insert(round * 100 + n)).await.map(drop),
                };
                (ended, start.elapsed())
            });
        }
        running.join_all()
    };
    assert!(load(0).await.iter().all(|(ended, _)| ended.is_ok()));
    // One that waits in vain is enough to make all others suspect.
    way.turn();
    assert!(is_unavailable(&store.ping().await));
    way.turn();
    assert!(load(1).await.iter().all(|(ended, _)| ended.is_ok()));
    way.turn();
    for round in [2, 3] {
        for (ended, took) in load(round).await {
            assert!(is_unavailable(&ended) && took < Duration::from_secs(5), "{ended:?} after {took:?}");
        }
    }
    way.turn();
    let start = Instant::now();
    assert!(load(4).await.iter().all(|(ended, _)| ended.is_ok()));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // Nothing of what was said to have failed came through afterwards.
    assert_eq!(store.instances().await.unwrap().len(), 24);
    drop_database(&options).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_said_to_be_so_in_time() {
    let settings = MySqlSettings { host: "127.0.0.1".into(), port: 1, ..MySqlSettings::default() };
    let store = SqlStore::mysql(&settings);
    let start = Instant::now();
    assert!(is_unavailable(&store.prepare().await));
    assert!(is_unavailable(&store.user(Uuid::from_u128(1).into()).await));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn a_password_that_needs_tls_is_said_to_need_it() {
    let (_, options) = fresh("tls").await;
    let mut other = options.connect().await.unwrap();
    let user = format!("tls_{}", std::process::id());
    let sql =
        format!("CREATE USER {user} IDENTIFIED WITH caching_sha2_password BY 'secret'; GRANT ALL ON *.* TO {user}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut other).await.unwrap();
    let plain = |tls| {
        let settings = MySqlSettings {
            host: options.get_host().into(),
            port: options.get_port(),
            user: user.clone(),
            password: Secret::new("secret"),
            database: options.get_database().unwrap().into(),
            tls,
            ..MySqlSettings::default()
        };
        async move { SqlStore::mysql(&settings).prepare().await }
    };
    let refused = plain(Tls::Disabled).await;
    assert!(
        matches!(&refused, Err(Failure::Unavailable { cause, .. }) if cause.to_string().contains("TLS")),
        "{refused:?}"
    );
    plain(Tls::Required).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP USER {user}"))).execute(&mut other).await.unwrap();
    drop_database(&options).await;
}

/// A number that is made while many move it for the first time is no ceiling.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn a_counter_that_others_make_meanwhile_is_moved() {
    let (store, options) = fresh("counter").await;
    store.prepare().await.unwrap();
    for round in 0..100 {
        let mut adding = JoinSet::new();
        for _ in 0..4 {
            let store = store.clone();
            let counter = Counter::Members(Uuid::from_u128(round).into());
            adding.spawn(async move { store.commit(Changes::new().add(counter, 1, None)).await });
        }
        for added in adding.join_all().await {
            added.unwrap();
        }
    }
    drop_database(&options).await;
}

/// A way to the server on which every `COMMIT` arrives garbled, so that the server refuses it and the transaction stays open.
async fn garbling_commits(options: &MySqlConnectOptions) -> (u16, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = (options.get_host().to_owned(), options.get_port());
    let left = Arc::new(AtomicUsize::new(0));
    let garble = left.clone();
    let mut ways = JoinSet::new();
    ways.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect((server.0.as_str(), server.1)).await.unwrap();
            let garble = garble.clone();
            open.spawn(async move {
                let (mut from, mut back) = client.split();
                let (mut answers, mut to) = server.split();
                let there = async {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(read @ 1..) = from.read(&mut buffer).await {
                        let said = &mut buffer[..read];
                        if said.ends_with(b"COMMIT")
                            && garble
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                                .is_ok()
                        {
                            said[read - 1] = b'X';
                        }
                        to.write_all(said).await.unwrap();
                    }
                };
                // Whichever side hangs up, both do.
                tokio::select! {
                    () = there => {}
                    _ = tokio::io::copy(&mut answers, &mut back) => {}
                }
            });
        }
    });
    (port, left, ways)
}

// F7
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn what_could_not_be_committed_is_not_committed_later() {
    let (_, options) = fresh("refused").await;
    let (port, garble, _ways) = garbling_commits(&options).await;
    let through = options.clone().host("127.0.0.1").port(port).ssl_mode(MySqlSslMode::Disabled);
    let store = SqlStore::of(Target::MySql { options: Box::new(through), connections: 1 });
    store.prepare().await.unwrap();
    garble.store(1, Ordering::SeqCst);
    assert!(is_unavailable(&store.commit(insert(1)).await));
    assert_eq!(garble.load(Ordering::SeqCst), 0);
    store.commit(insert(2)).await.unwrap();
    assert_eq!(store.instances().await.unwrap(), [an_instance(2)]);
    drop_database(&options).await;
}

// F51
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn aborted_calls_leave_the_pool_whole_and_no_lock() {
    let (store, options) = fresh("aborted").await;
    store.prepare().await.unwrap();
    store.commit(insert(1)).await.unwrap();
    for n in 0..1_000_u64 {
        let within = Duration::from_micros(n * 7 % 3_000);
        if n % 2 == 0 {
            let _ = timeout(within, store.instances()).await;
        } else {
            let expect = Changes::new().expect(Ref::Instance(an_instance(1).id), Version::FIRST);
            let _ = timeout(within, store.commit(expect)).await;
        }
    }
    let mut after = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        after.spawn(async move {
            store.commit(Changes::new().expect(Ref::Instance(an_instance(1).id), Version::FIRST)).await.unwrap();
            store.instances().await.unwrap().len()
        });
    }
    assert!(after.join_all().await.iter().all(|found| *found == 1));
    let mut other = options.connect().await.unwrap();
    // Would wait for whatever is locked still.
    sqlx::raw_sql("UPDATE instances SET beat = 1").execute(&mut other).await.unwrap();
    drop_database(&options).await;
}

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn a_session_is_what_the_statements_rely_on_whatever_the_server_does_by_default() {
    let mut connection = MySqlConnectOptions::from_str(&server()).unwrap().connect().await.unwrap();
    let odd = "SET SESSION autocommit = 0, sql_mode = '', transaction_isolation = 'REPEATABLE-READ'";
    sqlx::raw_sql(odd).execute(&mut connection).await.unwrap();
    dialect::mysql_session(&mut connection).await.unwrap();
    let session = sqlx::query("SELECT CAST(@@autocommit AS SIGNED), @@transaction_isolation, @@sql_mode");
    let session = session.fetch_one(&mut connection).await.unwrap();
    assert_eq!(session.get::<i64, _>(0), 1);
    assert_eq!(session.get::<String, _>(1), "READ-COMMITTED");
    assert!(session.get::<String, _>(2).contains("STRICT_ALL_TABLES"));
}

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn words_are_found_in_titles_and_final_messages() {
    let (store, options) = fresh("words").await;
    store.prepare().await.unwrap();
    search::assert_that_words_are_found(&store).await;
    drop_database(&options).await;
}

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn rare_and_common_words_are_found_alike() {
    let (store, options) = fresh("common").await;
    store.prepare().await.unwrap();
    search::assert_that_all_ways_find_the_same(&store).await;
    drop_database(&options).await;
}

#[tokio::test]
#[ignore = "needs a MySQL: set CHAT_TEST_MYSQL_URL"]
async fn a_backlog_of_words_is_caught_up_with() {
    let (store, options) = fresh("backlog").await;
    store.prepare().await.unwrap();
    let other = SqlStore::of(Target::MySql { options: Box::new(options.clone()), connections: 2 });
    other.prepare().await.unwrap();
    let mut connection = options.connect().await.unwrap();
    search::assert_that_a_backlog_is_caught_up_with(&store, &other, &mut Connection::from(&mut connection)).await;
    drop_database(&options).await;
}
