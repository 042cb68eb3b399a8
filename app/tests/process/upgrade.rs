//! A database of the version before, opened by this one.

use std::fs;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, SqliteConnection};

use crate::client::ANN;
use crate::people::Person;
use crate::program::Home;
use crate::tables::sqlite_options;
use crate::upstream::Upstream;
use crate::{trial, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// The schema before there were conversations, in its steps.
const BEFORE: [&str; 2] = [
    include_str!("../../../migrations/sqlite/0001_first_light.sql"),
    include_str!("../../../migrations/sqlite/0002_people.sql"),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("a_database_of_the_version_before_is_found_in_after_a_while", upgraded)]
}

async fn names(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Makes a database as the version before would have made it, with what lies in this one.
async fn made_by_the_version_before(home: &Home) {
    let old = home.path("data/before.db");
    let options = SqliteConnectOptions::new().filename(&old).create_if_missing(true).foreign_keys(false);
    let mut connection = options.connect().await.unwrap();
    for step in BEFORE {
        sqlx::raw_sql(step).execute(&mut connection).await.unwrap();
    }
    let new = home.path("data/private-chat.db");
    sqlx::query("ATTACH ? AS later").bind(new.to_str().unwrap()).execute(&mut connection).await.unwrap();
    let made = "SELECT sql FROM later.sqlite_master WHERE name = 'schema_migrations'";
    let made = names(&mut connection, made).await.remove(0);
    sqlx::raw_sql(AssertSqlSafe(made)).execute(&mut connection).await.unwrap();
    for table in names(&mut connection, "SELECT name FROM main.sqlite_master WHERE type = 'table'").await {
        let columns = names(&mut connection, &format!("SELECT name FROM pragma_table_info('{table}', 'main')")).await;
        let columns = columns.join(", ");
        let which = if table == "schema_migrations" { "WHERE number <= 2" } else { "" };
        let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM later.{table} {which}");
        sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut connection).await.unwrap();
    }
    drop(connection);
    for name in home.names("data") {
        if name.starts_with("private-chat.db") {
            fs::remove_file(home.path(&format!("data/{name}"))).unwrap();
        }
    }
    fs::rename(old, new).unwrap();
}

// R74, R112
async fn upgraded() {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = &ann.make_workspace().await;
    let mut chats = Vec::new();
    for title in ["Zürich in winter", "Baking", "パンの焼き方"] {
        let made = ann.post(&format!("{workspace}/chat"), &json!({"title": title})).await.expect(201);
        let chat = format!("{workspace}/chat/{}", made["id"].as_str().unwrap());
        ann.exchange(&chat, &format!("Something of {title}, and of pelicans: count 3 0")).await.expect(201);
        chats.push(chat);
    }
    ann.exchange(&chats[1], "A word apart: heliotrope. count 2 0").await.expect(201);
    let feed = ann.follow(workspace, None).await;
    let cursor = feed.seen()[0].id.unwrap();
    let before = [ann.get(&chats[0]).await.expect(200), ann.get(&chats[1]).await.expect(200)];
    program.stop().await;
    made_by_the_version_before(&home).await;
    let mut connection = sqlite_options(&home).connect().await.unwrap();
    let steps = names(&mut connection, "SELECT CAST(MAX(number) AS TEXT) FROM schema_migrations").await;
    assert_eq!(steps, ["2"]);
    drop(connection);

    let program = home.start().await;
    let ann = Person::log_in(&program.api(), ANN).await.api;
    // It is all there at once, and can be gone on with.
    assert_eq!([ann.get(&chats[0]).await.expect(200), ann.get(&chats[1]).await.expect(200)], before);
    let list = ann.get(&format!("{workspace}/chats/history")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 3, "{list}");
    let feed = ann.follow(workspace, Some(cursor)).await;
    ann.exchange(&chats[2], "And of ocelots: count 1 0").await.expect(201);
    feed.until("what comes now", |seen| seen.iter().any(|seen| seen.event == "message.completed")).await;
    let found = async |words: &str| -> Vec<String> {
        let asked = reqwest::Url::parse_with_params("http://here/", [("q", words)]).unwrap();
        let list = ann.get(&format!("{workspace}/chats/history?{}", asked.query().unwrap())).await.expect(200);
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| format!("{workspace}/chat/{}", item["id"].as_str().unwrap())).collect()
    };
    // What is new is found at once; what is old as soon as it was gone through.
    assert_eq!(found("ocelots").await, [chats[2].clone()]);
    until(PATIENCE, "what is old is found", async || found("pelicans").await.len() == 3).await;
    assert_eq!(found("HELIOTROPE").await, [chats[1].clone()]);
    assert_eq!(found("zurich").await, [chats[0].clone()]);
    assert_eq!(found("焼き").await, [chats[2].clone()]);
    assert_eq!(found("baking pelicans").await, [chats[1].clone()]);
    assert!(found("walrus").await.is_empty());
    ann.delete(&chats[1]).await.expect(204);
    assert!(found("heliotrope").await.is_empty());
    program.stop().await;
}
