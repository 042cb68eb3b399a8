//! Killed as by a power cut: what is there afterwards.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::client::{Api, PASSWORD, ends, text};
use crate::program::Home;
use crate::upstream::{Upstream, counted, endless};
use crate::{mysql_trial, spawn, trial, until};

/// How far the stored text of a reply may lie behind what was sent, on a machine that is in time itself.
const BEHIND: Duration = Duration::from_secs(1);
/// How long the reply of a process that died may stay `streaming`.
const ORPHANED: Duration = Duration::from_secs(30);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_reply_whose_server_is_killed_is_interrupted_and_at_most_a_second_behind", || async {
            join_all([1, 30, 90, 170, 290].map(|words| killed_mid_reply(None, words))).await;
        }),
        mysql_trial(servers, "a_reply_whose_server_is_killed_is_interrupted_and_at_most_a_second_behind", |database| {
            killed_mid_reply(Some(database), 150)
        }),
        trial("what_was_acknowledged_survives_kills_under_load", || killed_under_load(None)),
        mysql_trial(servers, "what_was_acknowledged_survives_kills_under_load", |database| {
            killed_under_load(Some(database))
        }),
    ]
}

// F31, R82, R106
async fn killed_mid_reply(database: Option<Arc<Database>>, words: usize) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let chat = ann.make_chat(&ann.make_workspace().await).await;
    let said = endless(10);
    let stream = ann.say(&chat, &said).await;
    let reply = stream.reply().await;
    let lateness = Lateness::of(home.path("lateness"));
    stream.until_words(&reply, words).await;
    program.kill().await;
    let (killed, behind) = (Instant::now(), BEHIND + lateness.worst() * 2);

    let program = home.start().await;
    let started = Instant::now();
    let ann = ann.moved_to(&program);
    let seen = stream.seen();
    assert!(ends(&seen).is_empty(), "a cut stream tells no end");
    let cursor = seen.iter().filter_map(|seen| seen.id).max().unwrap();
    let resumed = ann.follow(&chat, Some(cursor)).await;
    let sent_before = text(seen.iter().filter(|seen| killed.duration_since(seen.at) >= behind), &reply);

    let messages = ann.messages(&chat).await;
    assert_eq!(messages[0]["content"], said.as_str());
    assert_eq!(messages[1]["id"], reply.as_str());

    let left = ORPHANED.saturating_sub(started.elapsed());
    until(left, "the reply is interrupted", async || ann.messages(&chat).await[1]["status"] != "streaming").await;
    let ended = ann.messages(&chat).await[1].clone();
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("interrupted"), &json!("server_stopped")));
    let kept = ended["content"].as_str().unwrap();
    assert!(
        kept.starts_with(&sent_before),
        "{behind:?} before the kill {sent_before:?} was sent, and this is kept: {kept:?}"
    );
    assert!(counted(100_000).starts_with(kept), "{kept:?}");

    resumed.until("the reply ends", |seen| !ends(seen).is_empty()).await;
    let seen = resumed.seen();
    let end = ends(&seen)[0];
    assert_eq!((end.event.as_str(), &end.data["message"]), ("message.interrupted", &ended));
    assert_eq!(text(&seen, &reply), kept);

    // The chat is not bricked by it.
    let answer = ann.exchange(&chat, "count 2 0").await.expect(201);
    assert_eq!(answer["reply"]["content"], "0 1 ");
    assert_eq!(ends(&resumed.seen()).iter().filter(|end| end.reply() == Some(&reply)).count(), 1);
}

/// How late the machine itself is, measured by what a checkpoint needs of it: to wake up in time, and to sync a file.
struct Lateness {
    worst: Arc<Mutex<Duration>>,
}

impl Lateness {
    fn of(path: PathBuf) -> Self {
        const NAP: Duration = Duration::from_millis(50);
        let worst = Arc::new(Mutex::new(Duration::ZERO));
        let kept = Arc::downgrade(&worst);
        spawn(async move {
            let mut file = File::create(path).await.unwrap();
            while let Some(worst) = kept.upgrade() {
                let begun = Instant::now();
                sleep(NAP).await;
                file.write_all(b"now").await.unwrap();
                file.sync_all().await.unwrap();
                let late = begun.elapsed().saturating_sub(NAP);
                let mut worst = worst.lock().unwrap();
                *worst = late.max(*worst);
            }
        });
        Self { worst }
    }

    fn worst(&self) -> Duration {
        *self.worst.lock().unwrap()
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    /// Where something is, and its id.
    things: Vec<(String, Value)>,
    /// The accounts, by what can't be used again.
    emails: Vec<String>,
}

// R106, R111, F36
async fn killed_under_load(database: Option<Arc<Database>>) {
    const ROUNDS: usize = 10;
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream).without_caps();
    let program = home.start().await;
    let mut ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    program.stop().await;

    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    for round in 1..=ROUNDS {
        let program = home.start().await;
        ann = ann.moved_to(&program);
        for writer in 0..3 {
            spawn(write(ann.clone(), workspace.clone(), format!("{round}-{writer}"), ledger.clone()));
        }
        let enough = round * 7;
        until(Duration::from_secs(60), "enough is acknowledged", async || {
            ledger.lock().unwrap().things.len() >= enough
        })
        .await;
        program.kill().await;
    }

    let program = home.start().await;
    ann = ann.moved_to(&program);
    let Ledger { things, emails } = std::mem::take(&mut *ledger.lock().unwrap());
    for (path, id) in &things {
        let found = ann.get(path).await.expect(200);
        let among = |messages: &Vec<Value>| messages.iter().any(|message| message["id"] == *id);
        let is_there = found["id"] == *id || found["messages"].as_array().is_some_and(among);
        assert!(is_there, "{id} was acknowledged and is not at {path}");
    }
    assert!(emails.len() >= ROUNDS);
    for email in emails {
        ann.post("/users/", &user(&email)).await.is_problem(409, "email_taken");
    }
    // No reply of any of the dead stays as it was.
    let chats: Vec<&String> = things.iter().map(|(path, _)| path).filter(|path| path.contains("/chat/")).collect();
    assert!(!chats.is_empty());
    until(ORPHANED, "all replies end", async || {
        for chat in &chats {
            if ann.messages(chat).await.iter().any(|message| message["status"] == "streaming") {
                return false;
            }
        }
        true
    })
    .await;
}

fn user(email: &str) -> Value {
    json!({"email": email, "name": "Bob", "password": PASSWORD})
}

/// Writes until the server is gone, and notes what was acknowledged, at once.
async fn write(ann: Api, workspace: String, name: String, ledger: Arc<Mutex<Ledger>>) {
    let note = |path: String, id: &Value| ledger.lock().unwrap().things.push((path, id.clone()));
    for number in 0.. {
        let acknowledged = async {
            let email = format!("{name}-{number}@example.com");
            ann.try_post("/users/", &user(&email)).await.ok()?.expect(201);
            ledger.lock().unwrap().emails.push(email);
            let made = ann.try_post("/workspaces", &json!({"name": name})).await.ok()?.expect(201);
            note(format!("/workspaces/{}", made["id"].as_str()?), &made["id"]);
            let made = ann.try_post(&format!("{workspace}/chat"), &json!({})).await.ok()?.expect(201);
            let chat = format!("{workspace}/chat/{}", made["id"].as_str()?);
            note(chat.clone(), &made["id"]);
            let request = ann.request(Method::POST, &format!("{chat}/message")).json(&json!({"content": endless(20)}));
            // The first event acknowledges the message.
            let mut response = request.header("Accept", "text/event-stream").send().await.ok()?;
            let first = response.chunk().await.ok()??;
            let first = std::str::from_utf8(&first).ok()?;
            let data = first.lines().find_map(|line| line.strip_prefix("data: "))?;
            let created: Value = serde_json::from_str(data).ok()?;
            note(chat, &created["message"]["id"]);
            Some(())
        };
        if acknowledged.await.is_none() {
            return;
        }
    }
}
