//! A database that is away: at the start, and later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::json;

use crate::client::{Api, ends};
use crate::program::Home;
use crate::proxy::{Proxy, Wire};
use crate::upstream::{Upstream, count_and_hold, counted};
use crate::{mysql_trial, spawn, trial, until};

/// How long an answer may take while the database is away, on a busy machine.
const ANSWERED: Duration = Duration::from_secs(8);
/// How long the program may take to find the database again.
const BACK: Duration = Duration::from_secs(30);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("without_a_database_it_lives_and_says_so", away_at_the_start),
        trial("a_database_that_takes_connections_and_says_nothing_is_away", silent_at_the_start),
        mysql_trial(servers, "it_joins_a_database_that_comes_late", comes_late),
        mysql_trial(servers, "it_bears_a_database_that_goes_away", |database| goes_away(database, Wire::Cut)),
        mysql_trial(servers, "it_bears_a_database_that_falls_silent", |database| goes_away(database, Wire::Silent)),
        mysql_trial(servers, "it_bears_a_database_that_never_hears_of_what_was_begun", |database| {
            goes_away(database, Wire::Lost)
        }),
    ]
}

/// A home whose database is behind a wire.
fn behind(proxy: &Proxy, database: Option<&Database>) -> Home {
    Home::with_keys()
        .on(database)
        .set("MYSQL_HOST", "127.0.0.1")
        .set("MYSQL_PORT", &proxy.address.port().to_string())
        .set("PRIVATE_CHAT_DATABASE__MYSQL__TLS", "disabled")
}

fn in_front_of(database: &Database) -> Proxy {
    let config = database.config();
    let host: String = config.extract_inner("database.mysql.host").unwrap();
    let port: u16 = config.extract_inner("database.mysql.port").unwrap();
    Proxy::closed(format!("{host}:{port}"))
}

async fn lives_and_is_not_ready(stranger: &Api) {
    assert_eq!(stranger.get("/health/").await.expect(200), json!({"status": "ok"}));
    stranger.get("/health/ready").await.is_problem(503, "unavailable");
    let ann = json!({"email": "ann@example.com", "name": "Ann", "password": "correct horse battery"});
    let login = json!({"email": "ann@example.com", "password": "correct horse battery"});
    for (path, body) in [("/auth/setup", ann), ("/auth/login", login)] {
        let answer = stranger.post(path, &body).await;
        answer.is_problem(503, "unavailable");
        assert!(answer.took < ANSWERED, "{path}: {:?}", answer.took);
    }
    // Who asks is settled first, and for that nothing is needed.
    assert_eq!(stranger.get("/workspaces").await.status, 401);
    assert_eq!(stranger.get("/openapi.json").await.status, 200);
}

// F1, R110, R111
async fn away_at_the_start() {
    let proxy = Proxy::closed("");
    let mut program = behind(&proxy, None).launch().listening().await;
    assert_eq!(program.entries("listening")[0]["ready"], false);
    lives_and_is_not_ready(&program.api()).await;
    let waiting = program.log().into_iter().find(|line| line.contains("the database is away"));
    assert!(waiting.is_some_and(|line| line.contains("refused")), "the log says what it waits for, and why");
    program.terminate();
    assert_eq!(program.ended(Duration::from_secs(30)).await.code(), Some(0));
}

// F3, R110
async fn silent_at_the_start() {
    let proxy = Proxy::closed("");
    proxy.set(Wire::Silent);
    proxy.open();
    let mut program = behind(&proxy, None).launch().listening().await;
    lives_and_is_not_ready(&program.api()).await;
    program.terminate();
    assert_eq!(program.ended(Duration::from_secs(30)).await.code(), Some(0));
}

// F1, R111
async fn comes_late(database: Arc<Database>) {
    let proxy = in_front_of(&database);
    let upstream = Upstream::start().await;
    let program = behind(&proxy, Some(&database)).asking(&upstream).launch().listening().await;
    lives_and_is_not_ready(&program.api()).await;
    proxy.open();
    until(BACK, "it joins by itself", async || program.api().get("/health/ready").await.status == 200).await;
    let ann = program.api().set_up().await;
    let chat = ann.make_chat(&ann.make_workspace().await).await;
    let answer = ann.exchange(&chat, "count 3 0").await.expect(201);
    assert_eq!(answer["reply"]["content"], counted(3));
    assert_eq!(program.entries("the database has come: ready").len(), 1);
    program.stop().await;
}

// F2, F3, R104, R106
async fn goes_away(database: Arc<Database>, how: Wire) {
    let proxy = in_front_of(&database);
    proxy.open();
    let upstream = Upstream::start().await;
    let program = behind(&proxy, Some(&database)).asking(&upstream).start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let chat = ann.make_chat(&workspace).await;
    let stream = ann.say(&chat, &count_and_hold(40, 20)).await;
    let reply = stream.reply().await;
    stream.until_words(&reply, 1).await;

    // What was acknowledged, and all else that was answered.
    let ledger: Arc<Mutex<(Vec<String>, Vec<String>)>> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..4 {
        let (ann, chats, ledger, over) = (ann.clone(), format!("{workspace}/chat"), ledger.clone(), over.clone());
        spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let answer = ann.post(&chats, &json!({})).await;
                let mut ledger = ledger.lock().unwrap();
                match answer.status {
                    201 => ledger.0.push(answer.body["id"].as_str().unwrap().to_owned()),
                    503 if answer.headers.contains_key("retry-after") && answer.took < ANSWERED => {
                        ledger.1.push(String::new());
                    }
                    _ => ledger.1.push(format!("{answer:?}")),
                }
            }
        });
    }
    let acknowledged = || ledger.lock().unwrap().0.len();
    until(BACK, "the writers write", async || acknowledged() >= 20).await;
    proxy.set(how);
    until(BACK, "it is not ready", async || ann.get("/health/ready").await.status == 503).await;
    assert_eq!(program.api().get("/health/").await.status, 200);
    let refused = || ledger.lock().unwrap().1.len();
    until(BACK, "the writers are told", async || refused() >= 4).await;
    // The reply goes on and ends in the meantime: nothing of it is lost.
    stream.until_words(&reply, 40).await;
    upstream.release();
    until(BACK, "the provider is done", async || upstream.open() == 0).await;

    proxy.set(Wire::Whole);
    until(BACK, "it is ready again", async || ann.get("/health/ready").await.status == 200).await;
    let so_far = acknowledged();
    until(BACK, "the writers write again", async || acknowledged() >= so_far + 20).await;
    over.store(true, Ordering::SeqCst);
    let (seen, _) = stream.ended(BACK).await;
    assert_eq!((ends(&seen).len(), ends(&seen)[0].event.as_str()), (1, "message.completed"));
    assert_eq!(ends(&seen)[0].data["message"]["content"], counted(40));
    assert_eq!(ann.messages(&chat).await[1], ends(&seen)[0].data["message"]);

    let (made, odd) = ledger.lock().unwrap().clone();
    assert!(odd.iter().all(String::is_empty), "{odd:?}");
    for id in made {
        assert_eq!(ann.get(&format!("{workspace}/chat/{id}")).await.status, 200, "{id} was acknowledged");
    }
    program.stop().await;
}
