//! Clients that hang up at any moment, and what is left of it: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::iter;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::client::{Api, ends};
use crate::people::{Person, join};
use crate::program::Home;
use crate::tables::Tables;
use crate::upstream::{Upstream, count, endless};
use crate::{mysql_trial, trial, until};

/// How many requests are given up.
const ABORTED: usize = 1_000;
/// How many people give up, each with places of their own.
const PEOPLE: usize = 10;
/// How many requests are under way at once: more than there are connections to the database.
const AT_ONCE: usize = 24;
/// How many replies of one person may run.
const OF_ONE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_thousand_requests_that_are_given_up_leave_nothing_behind", || aborted(None)),
        mysql_trial(servers, "a_thousand_requests_that_are_given_up_leave_nothing_behind", |database| {
            aborted(Some(database))
        }),
    ]
}

/// Numbers that look random, the same in each run.
fn scattered(number: usize) -> u64 {
    let mixed = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33
}

/// Someone in a chat of theirs, in which something was said and answered.
struct Place {
    api: [Api; 2],
    chat: String,
    message: String,
    reply: String,
}

impl Place {
    /// Begins a request, and gives up after a while. Says whether an answer had begun by then.
    async fn give_up(&self, number: usize) -> bool {
        let (api, chat) = (&self.api[number % 2], &self.chat);
        let said = json!({"content": count(4, 2)});
        let (of_message, of_reply) =
            (format!("{chat}/message/{}", self.message), format!("{chat}/message/{}", self.reply));
        let request = match number % 8 {
            0 | 1 => api.request(Method::POST, &format!("{chat}/message")).json(&said),
            2 | 3 => api.request(Method::PATCH, &of_message).json(&said),
            4 => api.request(Method::POST, &format!("{of_reply}/regenerate")),
            5 => api.request(Method::GET, &format!("{chat}/events")),
            6 => api.request(Method::GET, &format!("{chat}/messages?limit=100")),
            _ => api.request(Method::PATCH, chat).json(&json!({"title": format!("Title {number}")})),
        };
        let streams = number / 8 % 2 == 0;
        let request = if streams { request.header("Accept", "text/event-stream") } else { request };
        let began = AtomicUsize::new(0);
        let reading = async {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            assert!([200, 201, 409, 429].contains(&status), "{status}: {}", response.text().await.unwrap());
            began.fetch_add(1, Ordering::SeqCst);
            let mut body = response.bytes_stream();
            while body.next().await.is_some() {}
        };
        // As a busy machine is slow, some of them must have time enough to come far.
        let _ = timeout(Duration::from_millis(scattered(number) % 120), reading).await;
        began.load(Ordering::SeqCst) > 0
    }
}

// R84, F51, API4
async fn aborted(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let mut places = Vec::new();
    for number in 0..PEOPLE {
        let person = Person::new(&ann, &format!("Person{number}"), "USER").await;
        join(&ann, &workspace, &person, "MEMBER").await;
        let chat = person.api.make_chat(&workspace).await;
        let said = person.api.exchange(&chat, "count 1 0").await.expect(201);
        let id = |which: &str| said[which]["id"].as_str().unwrap().to_owned();
        let (message, reply) = (id("message"), id("reply"));
        places.push(Place { api: [person.at(&a), person.at(&b)], chat, message, reply });
    }
    // One that follows it all, and is not disturbed by any of it.
    let feed = ann.moved_to(&b).follow(&workspace, None).await;

    let began = AtomicUsize::new(0);
    iter(0..ABORTED)
        .for_each_concurrent(AT_ONCE, async |number| {
            let answered = places[number / 8 % PEOPLE].give_up(number).await;
            began.fetch_add(usize::from(answered), Ordering::SeqCst);
        })
        .await;
    let began = began.into_inner();
    assert!((1..ABORTED).contains(&began), "some came far, and some did not: {began}");

    // Every reply that began has ended, by itself.
    let mut tables = Tables::of(&home, database.as_deref()).await;
    let started = tables.rows("messages").await;
    assert!(started > 100, "{started} messages were stored");
    until(PATIENCE, "no reply runs", async || tables.rows("running_replies").await == 0).await;
    until(PATIENCE, "the provider is let go", async || upstream.open() == 0).await;
    const STREAMING: &str = "SELECT COUNT(*) FROM messages WHERE status = 1";
    assert_eq!(tables.number(STREAMING).await, 0, "a reply that nobody ends");
    let complete = "SELECT COUNT(*) FROM messages WHERE author_id IS NULL AND status <> 0";
    assert_eq!(tables.number(complete).await, 0, "whoever hangs up stops nothing");

    // No lock is held, and no connection is lost.
    match &mut tables {
        Tables::Sqlite(_) => {
            tables.execute("PRAGMA busy_timeout = 20000").await;
            tables.execute("BEGIN IMMEDIATE; ROLLBACK").await;
            // A reader that was left in the middle would keep the log from being emptied.
            until(PATIENCE, "nobody reads an old state", async || {
                tables.number("PRAGMA wal_checkpoint(TRUNCATE)").await == 0
            })
            .await;
        }
        Tables::MySql(_) => {
            let open = "SELECT COUNT(*) FROM information_schema.innodb_trx t \
                        JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
                        WHERE p.db = DATABASE() AND p.command = 'Sleep'";
            until(PATIENCE, "no transaction is left open", async || tables.number(open).await == 0).await;
            let held = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()";
            // Eight of each process, and ours.
            let connections = tables.number(held).await;
            assert!(connections <= 17, "{connections} connections");
        }
    }
    // Far more at once than there are connections: all are answered.
    let chats = &places.iter().map(|place| place.chat.as_str()).collect::<Vec<_>>();
    let reads = (0..100).map(|number| places[number % PEOPLE].api[number / PEOPLE % 2].get(chats[number % PEOPLE]));
    for answer in join_all(reads).await {
        answer.expect(200);
    }
    // Each has all their places again, and no more.
    let streams = join_all(places.iter().map(async |place| {
        let mut streams = Vec::new();
        for number in 0..OF_ONE {
            streams.push(place.api[number % 2].offer(&place.chat, &endless(200)).await.expect("there is room"));
        }
        let full = place.api[0].offer(&place.chat, "count 1 0").await.err().expect("it is full");
        full.is_problem(429, "too_many_replies");
        streams
    }))
    .await;
    assert_eq!(tables.rows("running_replies").await, i64::try_from(PEOPLE * OF_ONE).unwrap());
    // And if they are left alone, too.
    drop(streams);
    ann.delete(&workspace).await.expect(204);
    until(PATIENCE, "no reply runs", async || tables.rows("running_replies").await == 0).await;
    until(PATIENCE, "the provider is let go", async || upstream.open() == 0).await;
    feed.ended(PATIENCE).await;
    let mut told: Vec<String> = ends(&feed.seen()).iter().map(|end| end.reply().unwrap().to_owned()).collect();
    let all = told.len();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), all, "each end is told once");
    let log = [a.log(), b.log()].concat();
    let faults: Vec<_> = log.iter().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(faults.is_empty(), "{faults:?}");
    a.stop().await;
    b.stop().await;
}
