//! The command line: what it tells, and the codes it ends with.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use tokio::net::TcpListener;

use crate::program::{Home, bytes};
use crate::tables::Tables;
use crate::upstream::Upstream;
use crate::{mysql_trial, trial};

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_wrong_setting_ends_with_two_and_one_line", wrong_settings),
        trial("help_and_version_need_no_settings", help),
        trial("the_document_is_the_one_in_the_repository", document),
        trial("an_address_that_is_taken_is_named", taken),
        trial("health_tells_by_its_code", health),
        trial("config_check_tells_what_works_and_changes_nothing", || config_check(None)),
        mysql_trial(servers, "config_check_tells_what_works_and_changes_nothing", |database| {
            config_check(Some(database))
        }),
        trial("config_check_fails_where_something_is_away", config_check_of_what_is_away),
    ]
}

async fn wrong_settings() {
    let home = Home::new().set("PRIVATE_CHAT_SERVER__PROT", "8000");
    home.write("wrong.toml", 0o600, "[server]\nprot = 8000\n");
    home.write("word.toml", 0o600, "[server]\nport = \"many\"\n");
    let file = Home::new();
    for name in ["wrong.toml", "word.toml"] {
        file.write(name, 0o600, &String::from_utf8(bytes(&home.path(name))).unwrap());
    }
    let adapter = Home::new().set("PRIVATE_CHAT_DATABASE__BACKEND", "postgres");
    for (home, arguments, named) in [
        (&home, &["serve"][..], &["PRIVATE_CHAT_SERVER__PROT", "PRIVATE_CHAT_SERVER__PORT"][..]),
        (&home, &["migrate"], &["PRIVATE_CHAT_SERVER__PROT"]),
        (&file, &["--config", "wrong.toml"], &["wrong.toml", "`server.prot`", "`server.port`"]),
        (&file, &["--config", "word.toml"], &["word.toml", "`server.port`", "whole number"]),
        (&file, &["--config", "absent.toml"], &["absent.toml"]),
        (&adapter, &["serve"], &["`database.backend`", "PRIVATE_CHAT_DATABASE__BACKEND", "sqlite, mysql"]),
    ] {
        let ran = home.run(arguments).await;
        assert_eq!((ran.code, ran.told.as_str()), (Some(2), ""), "{ran:?}");
        assert_eq!(ran.complaint.lines().count(), 1, "{ran:?}");
        assert!(named.iter().all(|name| ran.complaint.contains(name)), "{named:?} in {ran:?}");
        assert!(!home.path("data").exists(), "nothing was begun");
    }
    let ran = home.run(&["sevre"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.complaint.contains("serve"), "{ran:?}");
}

async fn help() {
    // Not even when they are wrong.
    let home = Home::new().set("PRIVATE_CHAT_SERVER__PROT", "8000");
    let ran = home.run(&["--help"]).await;
    assert_eq!((ran.code, ran.complaint.as_str()), (Some(0), ""), "{ran:?}");
    for word in ["serve", "migrate", "openapi", "config", "health", "admin", "--config"] {
        assert!(ran.told.contains(word), "{ran:?}");
    }
    let ran = home.run(&["--version"]).await;
    assert_eq!((ran.code, ran.told.trim()), (Some(0), concat!("private-chat ", env!("CARGO_PKG_VERSION"))));
    assert!(home.names(".").is_empty());
}

async fn document() {
    let home = Home::new().set("PRIVATE_CHAT_SERVER__PROT", "8000");
    let ran = home.run(&["openapi"]).await;
    assert_eq!((ran.code, ran.complaint.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.told == include_str!("../../openapi.json"), "it is stale: private-chat openapi > app/openapi.json");
    assert!(home.names(".").is_empty());
}

async fn taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let ran = Home::with_keys().set("PRIVATE_CHAT_SERVER__PORT", &port).run(&["serve"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.complaint.contains(&format!("127.0.0.1:{port}")) && ran.complaint.contains("in use"), "{ran:?}");
}

async fn health() {
    let home = Home::with_keys();
    let program = home.start().await;
    let port = program.address().rsplit_once(':').unwrap().1.to_owned();
    let asking = Home::new().set("PRIVATE_CHAT_SERVER__PORT", &port);
    let ran = asking.run(&["health"]).await;
    assert_eq!((ran.code, ran.complaint.as_str()), (Some(0), ""), "{ran:?}");
    program.stop().await;
    let ran = asking.run(&["health"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.complaint.contains("nothing answers"), "{ran:?}");
    assert!(asking.names(".").is_empty());

    // It answers, and is not ready.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let waiting = Home::with_keys().set("MYSQL_HOST", "127.0.0.1").set("MYSQL_PORT", &closed.port().to_string());
    let program = waiting.launch().listening().await;
    let port = program.address().rsplit_once(':').unwrap().1.to_owned();
    let ran = Home::new().set("PRIVATE_CHAT_SERVER__PORT", &port).run(&["health"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.complaint.contains("503"), "{ran:?}");
}

async fn config_check(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let kind = if database.is_some() { "mysql" } else { "sqlite" };
    let line = |state: &str, why: &str| format!("{state:8}database ({kind}): {why}\n");

    // Before the first start.
    let ran = home.run(&["config", "check"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let not_there = "its schema is not there yet: run `private-chat migrate`, or start the server";
    assert!(ran.told.contains(&line("FAILED", not_there)), "{ran:?}");
    assert!(!home.path("data").exists());

    let ran = home.run(&["migrate"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(home.run(&["migrate"]).await.code, Some(0), "a second time it finds nothing to do");
    let program = home.start().await;
    program.api().set_up().await;
    let checks = async |code: i32, expected: &str| {
        let ran = home.run(&["config", "check"]).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.told.contains(expected), "{expected} in {ran:?}");
        ran
    };
    // Also while it serves.
    let well = line("ok", "it answers, and has the schema of this version");
    let ran = checks(0, &well).await;
    assert!(ran.told.contains("ok      keys: tokens are signed by key "), "{ran:?}");
    assert!(ran.told.contains("ok      provider openai: it offers openai/counter\n"), "{ran:?}");
    program.stop().await;
    checks(0, &well).await;

    // Of a later version, and of an earlier one.
    run_sql(&home, database.as_deref(), "UPDATE schema_migrations SET number = number + 90").await;
    checks(1, "it is older than the database").await;
    assert_eq!(home.run(&["serve"]).await.code, Some(1));
    run_sql(&home, database.as_deref(), "UPDATE schema_migrations SET number = number - 90, finished = 0").await;
    let before = database.is_none().then(|| bytes(&home.path("data/private-chat.db")));
    checks(
        1,
        &line("FAILED", "its schema is older than this program: run `private-chat migrate`, or start the server"),
    )
    .await;
    checks(1, "its schema is older").await;
    assert_eq!(before, database.is_none().then(|| bytes(&home.path("data/private-chat.db"))));
}

async fn run_sql(home: &Home, database: Option<&Database>, sql: &'static str) {
    let mut tables = Tables::of(home, database).await;
    tables.execute(sql).await;
    if database.is_none() {
        // Back into the one file.
        tables.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    }
}

async fn config_check_of_what_is_away() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let home = Home::with_keys()
        .set("OPENAI_BASE_URL", &format!("http://{closed}/v1"))
        .set("OPENAI_API_KEY", "sk-of-the-tests")
        .set("MYSQL_HOST", "127.0.0.1")
        .set("MYSQL_PORT", &closed.port().to_string());
    let ran = tokio::time::timeout(Duration::from_secs(60), home.run(&["config", "check"])).await.unwrap();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.told.contains("FAILED  database (mysql): ") && ran.told.contains("refused"), "{ran:?}");
    assert!(ran.told.contains("FAILED  provider openai: "), "{ran:?}");
    // What may be known by everybody is told, too.
    assert!(ran.told.contains("note    the MySQL password is the default"), "{ran:?}");
    assert!(!ran.told.contains("sk-of-the-tests") && !ran.complaint.contains("sk-of-the-tests"));
}
