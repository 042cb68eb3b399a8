//! A workspace that is deleted while it is used.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use reqwest::Method;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::client::{End, Follow, Seen, ends};
use crate::people::{Person, invite, join as join_workspace};
use crate::program::Home;
use crate::tables::Tables;
use crate::upstream::{Upstream, endless};
use crate::{REVOKED, mysql_trial, spawn, trial, until};

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_workspace_that_is_deleted_while_it_is_used_is_gone", || deleted(None)),
        mysql_trial(servers, "a_workspace_that_is_deleted_while_it_is_used_is_gone", |database| {
            deleted(Some(database))
        }),
        trial("a_chat_that_is_deleted_while_it_is_used_is_gone", || deleted_chat(None)),
        mysql_trial(servers, "a_chat_that_is_deleted_while_it_is_used_is_gone", |database| {
            deleted_chat(Some(database))
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

/// Whether no reply has two ends.
fn each_ends_once(seen: &[Seen]) -> bool {
    let mut replies = HashSet::new();
    ends(seen).iter().all(|end| replies.insert(end.reply()))
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
    // Somebody waits for the end of a reply.
    let (waiting, path, (tell, told)) = (bob.at(&b), format!("{}/message", chats[1]), oneshot::channel());
    spawn(async move { drop(tell.send(waiting.post(&path, &json!({"content": endless(20)})).await)) });
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
        assert!(each_ends_once(&seen), "{seen:?}");
    }
    timeout(PATIENCE, told).await.unwrap().unwrap().is_problem(404, "not_found");
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

// R77, F34, F49
async fn deleted_chat(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream).without_caps();
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let bob = Person::new(&ann, "Bob", "USER").await;
    let workspace = &ann.make_workspace().await;
    join_workspace(&ann, workspace, &bob, "MEMBER").await;
    let at = &[ann.clone(), bob.at(&b)];
    let kept = ann.make_chat(workspace).await;
    ann.exchange(&kept, "count 2 0").await.expect(201);
    let before = rows(&home, database.as_deref()).await;

    let chat = &ann.make_chat(workspace).await;
    let first = ann.exchange(chat, "count 1 0").await.expect(201);
    let of_workspace = [ann.follow(workspace, None).await, bob.at(&b).follow(workspace, None).await];
    let of_chat = [ann.follow(chat, None).await, bob.at(&b).follow(chat, None).await];
    // On each process a reply runs that somebody follows, and one runs that somebody waits for: each on a branch of its own.
    let parent = first["reply"]["id"].clone();
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    for api in at {
        let body = json!({"content": endless(20), "parent_id": parent});
        let send = || api.request(Method::POST, &format!("{chat}/message")).json(&body);
        asked.push(Follow::try_of(send()).await.unwrap().expect("it is begun"));
        let (waiting, sent, (tell, answer)) = (api.clone(), send(), oneshot::channel());
        spawn(async move { drop(tell.send(waiting.send(sent).await.unwrap())) });
        told.push(answer);
    }
    for feed in of_chat.iter().chain(&of_workspace) {
        let runs = |seen: &[Seen]| {
            let delta = |seen: &&Seen| seen.event == "message.delta";
            seen.iter().filter(delta).map(|seen| seen.reply()).collect::<HashSet<_>>().len() == 4
        };
        feed.until("four replies grow", runs).await;
    }
    // Meanwhile people go on writing, editing and asking anew.
    let (answered, over) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let (message, reply) = (first["message"]["id"].as_str().unwrap(), first["reply"]["id"].as_str().unwrap());
    let writers = join_all((0..8).map(async |number| {
        let api = &at[number % 2];
        loop {
            let began_after = over.load(Ordering::SeqCst) > 0;
            let answer = match number {
                // The message is Ann's.
                0 => {
                    let edit = api.request(Method::PATCH, &format!("{chat}/message/{message}"));
                    api.send(edit.json(&json!({"content": "count 1 0"}))).await.unwrap()
                }
                1 | 2 => api.post(&format!("{chat}/message/{reply}/regenerate"), &json!({})).await,
                3 => api.get(&format!("{chat}/messages")).await,
                _ => api.exchange(chat, "count 1 0").await,
            };
            match answer.status {
                200 => assert!(!began_after, "{answer:?}"),
                201 => {
                    assert!(!began_after, "{answer:?}");
                    let (status, code) = (&answer.body["reply"]["status"], &answer.body["reply"]["error"]["code"]);
                    let known = [(json!("complete"), json!(null)), (json!("interrupted"), json!("deleted"))];
                    assert!(known.contains(&(status.clone(), code.clone())), "{answer:?}");
                }
                404 => return answer.is_problem(404, "not_found"),
                _ => panic!("{answer:?}"),
            }
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let deletion = async {
        until(PATIENCE, "they write", async || answered.load(Ordering::SeqCst) >= 16).await;
        assert_eq!(at[0].delete(chat).await.status, 204);
        over.fetch_add(1, Ordering::SeqCst);
    };
    join(writers, deletion).await;

    let is_gone = |seen: &Seen| seen.event == "chat.deleted";
    let is_over = |seen: &Seen| seen.is_end() || seen.event == "chat.deleted";
    // Whoever asked for a reply is told one end, and whoever waited is answered.
    for stream in asked.iter().chain(&of_chat) {
        let (seen, end) = stream.ended(PATIENCE).await;
        assert_eq!(end, End::Clean);
        assert!(seen.last().is_some_and(is_over) && each_ends_once(&seen), "{:?}", seen.last());
    }
    for stream in &asked {
        assert_eq!(stream.seen().iter().filter(|seen| is_over(seen)).count(), 1, "{:?}", stream.seen());
    }
    for stream in &of_chat {
        assert_eq!(stream.seen().iter().filter(|seen| is_gone(seen)).count(), 1);
    }
    for answer in told {
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        match answer.status {
            201 => assert_eq!(answer.body["reply"]["error"]["code"], "deleted", "{answer:?}"),
            _ => answer.is_problem(404, "not_found"),
        }
    }
    until(PATIENCE, "the provider is let go", async || upstream.open() == 0).await;
    // The workspace's feeds tell it once and go on, and nothing of the chat comes after it.
    ann.patch(&kept, &json!({"title": "Kept"})).await.expect(200);
    for feed in &of_workspace {
        let later = |seen: &Seen| seen.event == "chat.updated";
        feed.until("what comes later", |seen| seen.iter().skip_while(|seen| !is_gone(seen)).any(later)).await;
        let seen = feed.seen();
        assert!(each_ends_once(&seen));
        // A reply may grow for a moment until the process that makes it has heard; nothing begins and nothing ends.
        let known = ["", "chat.updated"];
        let of_it = |seen: &&Seen| !known.contains(&seen.event.as_str());
        let after: Vec<_> = seen.iter().skip_while(|seen| !is_gone(seen)).filter(of_it).collect();
        assert_eq!(after.len(), 1, "{after:?}");
        assert_eq!(feed.end(), None);
    }
    let nothing_is_left = async || {
        for api in at {
            for path in [chat.clone(), format!("{chat}/messages"), format!("{chat}/events")] {
                api.get(&path).await.is_problem(404, "not_found");
            }
            api.exchange(chat, "count 1 0").await.is_problem(404, "not_found");
            for query in ["", "?q=count", "?mine=true", "?archived=true"] {
                let list = api.get(&format!("{workspace}/chats/history{query}")).await.expect(200);
                let items = list["items"].as_array().unwrap();
                assert!(items.iter().all(|item| !chat.ends_with(item["id"].as_str().unwrap())), "{query}: {list}");
            }
        }
    };
    nothing_is_left().await;
    // A third process begins by removing what is over.
    let c = home.start().await;
    let of_chats = |rows: &[(&'static str, i64)]| -> Vec<(&'static str, i64)> {
        let of_chats = ["chats", "messages", "running_replies"];
        rows.iter().filter(|(table, _)| of_chats.contains(table)).copied().collect()
    };
    until(PATIENCE, "the rows are gone", async || {
        of_chats(&rows(&home, database.as_deref()).await) == of_chats(&before)
    })
    .await;
    nothing_is_left().await;
    let log = [a.log(), b.log(), c.log()].concat();
    let faults: Vec<_> = log.iter().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(faults.is_empty(), "{faults:?}");
    ann.exchange(&kept, "count 2 0").await.expect(201);
}
