//! A workspace that is deleted while it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::client::{End, ends};
use crate::people::{Person, invite, join as join_workspace};
use crate::program::Home;
use crate::tables::Tables;
use crate::upstream::{Upstream, endless};
use crate::{REVOKED, mysql_trial, trial, until};

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_workspace_that_is_deleted_while_it_is_used_is_gone", || deleted(None)),
        mysql_trial(servers, "a_workspace_that_is_deleted_while_it_is_used_is_gone", |database| {
            deleted(Some(database))
        }),
    ]
}

const PATIENCE: Duration = Duration::from_secs(60);

/// How many rows there are in each of these tables.
async fn rows(home: &Home, database: Option<&Database>) -> Vec<(&'static str, i64)> {
    const TABLES: [&str; 9] = [
        "workspaces",
        "memberships",
        "invitations",
        "chats",
        "messages",
        "running_replies",
        "event_heads",
        "events",
        "counters",
    ];
    let (mut tables, mut counted) = (Tables::of(home, database).await, Vec::new());
    for table in TABLES {
        counted.push((table, tables.rows(table).await));
    }
    counted
}

// R49, F34, F49
async fn deleted(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let bob = Person::new(&ann, "Bob", "USER").await;
    let at_b = bob.at(&b);
    // One that stays, to be told from the one that goes.
    let staying = ann.make_workspace().await;
    let kept = ann.make_chat(&staying).await;
    ann.exchange(&kept, "count 2 0").await.expect(201);
    let feed_of_kept = ann.moved_to(&b).follow(&staying, None).await;
    let before = rows(&home, database.as_deref()).await;

    let workspace = &bob.api.make_workspace().await;
    // Somebody else in it, and somebody invited.
    let cyd = Person::new(&ann, "Cyd", "USER").await;
    join_workspace(&bob.api, workspace, &cyd, "MEMBER").await;
    let token = invite(&bob.api, workspace, "ann@example.com", "MEMBER").await;
    let chats = join_all((0..4).map(|_| bob.api.make_chat(workspace))).await;
    let mut streams = vec![at_b.follow(workspace, None).await, cyd.at(&a).follow(&chats[0], None).await];
    // A reply runs on each process.
    for (chat, api) in [(&chats[0], bob.at(&a)), (&chats[1], cyd.at(&b))] {
        let stream = api.say(chat, &endless(20)).await;
        let reply = stream.reply().await;
        stream.until_words(&reply, 3).await;
        streams.push(stream);
    }
    let (answered, over) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let senders = join_all((0..8).map(async |number| {
        let api = [bob.at(&a), cyd.at(&b)][number % 2].clone();
        let chat = &chats[2 + number / 2 % 2];
        loop {
            let began_after = over.load(Ordering::SeqCst) > 0;
            let answer = match number / 4 {
                0 => api.exchange(chat, "count 1 0").await,
                _ => api.post(&format!("{workspace}/chat"), &json!({})).await,
            };
            match answer.status {
                201 => assert!(!began_after, "{answer:?}"),
                404 => return answer.is_problem(404, "not_found"),
                _ => panic!("{answer:?}"),
            }
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let deletion = async {
        until(PATIENCE, "they write", async || answered.load(Ordering::SeqCst) >= 8).await;
        assert_eq!(at_b.delete(workspace).await.status, 204);
        over.fetch_add(1, Ordering::SeqCst);
        Instant::now()
    };
    let (_, gone) = join(senders, deletion).await;

    for stream in &streams {
        let (seen, end) = stream.ended(REVOKED.saturating_sub(gone.elapsed())).await;
        assert_eq!(end, End::Clean, "{:?}", seen.last());
    }
    until(PATIENCE, "the provider is let go", async || upstream.open() == 0).await;
    // Nothing of it is to be seen, by nobody, anywhere.
    let nothing_is_left = async || {
        for api in [bob.at(&a), at_b.clone(), cyd.at(&a), cyd.at(&b)] {
            for path in [workspace.clone(), format!("{workspace}/members"), format!("{workspace}/chats/history")] {
                api.get(&path).await.is_problem(404, "not_found");
            }
            for chat in &chats {
                api.get(chat).await.is_problem(404, "not_found");
            }
            let events = api.request(Method::GET, &format!("{workspace}/events"));
            api.send(events).await.unwrap().is_problem(404, "not_found");
            assert_eq!(api.get("/workspaces/").await.expect(200)["items"], json!([]));
        }
        assert_eq!(ann.get("/invitations").await.expect(200)["items"], json!([]));
        ann.post("/invitations/accept", &json!({"token": token})).await.is_problem(404, "not_found");
    };
    nothing_is_left().await;

    // A third process begins by removing what is over; until then it may lie in the tables.
    let c = home.start().await;
    let mut after = Vec::new();
    until(PATIENCE, "the rows are gone", async || {
        after = rows(&home, database.as_deref()).await;
        // The last are counters: Bob and Cyd have one of their workspaces by now.
        after[..8] == before[..8]
    })
    .await;
    nothing_is_left().await;
    let log = [a.log(), b.log(), c.log()].concat();
    let faults: Vec<_> = log.iter().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(faults.is_empty(), "{faults:?}");

    // And whatever is not part of it goes on.
    ann.exchange(&kept, "count 2 0").await.expect(201);
    feed_of_kept.until("the reply ends", |seen| !ends(seen).is_empty()).await;
    let again = bob.api.make_workspace().await;
    bob.at(&b).exchange(&bob.api.make_chat(&again).await, "count 1 0").await.expect(201);
}
