//! Two processes on one database.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::json;
use tokio::time::Instant;

use crate::client::{End, ends, text};
use crate::program::Home;
use crate::upstream::{Upstream, count, counted, endless};
use crate::{REVOKED, mysql_trial, trial, until};

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("when_one_of_two_dies_the_other_ends_its_replies_and_goes_on", || one_dies(None)),
        mysql_trial(servers, "when_one_of_two_dies_the_other_ends_its_replies_and_goes_on", |database| {
            one_dies(Some(database))
        }),
        trial("two_processes_act_as_one", || as_one(None)),
        mysql_trial(servers, "two_processes_act_as_one", |database| as_one(Some(database))),
    ]
}

// R25, R27, F34
async fn as_one(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let at_a = a.api().set_up().await;
    let at_b = at_a.moved_to(&b);
    let workspace = at_a.make_workspace().await;

    // Made on one, known on the other.
    let feed = at_b.follow(&workspace, None).await;
    let chat = at_a.make_chat(&workspace).await;
    feed.until("the chat is told", |seen| seen.iter().any(|seen| seen.event == "chat.created")).await;
    at_b.get(&chat).await.expect(200);

    // Said on one, seen on the other as it grows.
    let stream = at_a.say(&chat, &count(60, 25)).await;
    let reply = stream.reply().await;
    stream.until("the reply ends", |seen| !ends(seen).is_empty()).await;
    feed.until("the reply ends", |seen| !ends(seen).is_empty()).await;
    let seen = feed.seen();
    let names: Vec<&str> = seen.iter().map(|seen| seen.event.as_str()).collect();
    assert_eq!(names[..4], ["", "chat.created", "message.created", "message.created"]);
    assert!(names[4..names.len() - 1].iter().all(|name| *name == "message.delta"), "{names:?}");
    assert!(names.len() > 6, "it came in pieces: {names:?}");
    assert_eq!(*names.last().unwrap(), "message.completed");
    assert_eq!(text(&seen, &reply), counted(60));
    assert_eq!(ends(&seen)[0].data["message"]["content"], counted(60));
    assert_eq!(ends(&seen)[0].data, ends(&stream.seen())[0].data);
    let cursors: Vec<u64> = seen.iter().filter_map(|seen| seen.id).collect();
    assert!(cursors.is_sorted(), "{cursors:?}");

    // A third that comes with the cursor of the first sees the same.
    let resumed = at_a.follow(&chat, Some(cursors[0])).await;
    resumed.until("the reply ends", |seen| !ends(seen).is_empty()).await;

    // Stopped on one, ended on the other.
    let stream = at_a.say(&chat, &endless(25)).await;
    let reply = stream.reply().await;
    feed.until_words(&reply, 5).await;
    let id = reply.as_str();
    let stopped = at_b.post(&format!("{chat}/message/{id}/stop"), &json!({})).await.expect(200);
    assert_eq!(stopped["status"], "stopped");
    let (seen, end) = stream.ended(Duration::from_secs(30)).await;
    assert_eq!((ends(&seen).len(), end), (1, End::Clean));
    assert_eq!((ends(&seen)[0].event.as_str(), &ends(&seen)[0].data["message"]), ("message.stopped", &stopped));
    until(Duration::from_secs(10), "the provider is let go", async || upstream.open() == 0).await;

    // Signed out on one, unknown on the other, and its open stream is over.
    let other_at_a = a.api().log_in().await;
    let other_at_b = other_at_a.moved_to(&b);
    let feeds = [other_at_b.follow(&workspace, None).await, other_at_b.follow(&chat, None).await];
    other_at_b.get("/auth/me").await.expect(200);
    other_at_a.post("/auth/logout", &json!({})).await.expect(204);
    let left = Instant::now();
    until(REVOKED, "the token is refused", async || other_at_b.get("/auth/me").await.status == 401).await;
    for feed in feeds {
        let (_, end) = feed.ended(REVOKED.saturating_sub(left.elapsed())).await;
        assert_eq!(end, End::Clean);
    }
    // Whoever stayed, stays.
    at_b.get("/auth/me").await.expect(200);
    let answer = at_a.exchange(&chat, "count 1 0").await.expect(201);
    feed.until("the last reply", |seen| seen.iter().any(|seen| seen.data["message"] == answer["reply"])).await;
}

// F35, R106
async fn one_dies(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let at_a = a.api().set_up().await;
    let at_b = at_a.moved_to(&b);
    let workspace = at_a.make_workspace().await;
    let chats = [at_a.make_chat(&workspace).await, at_a.make_chat(&workspace).await];
    let feed = at_b.follow(&workspace, None).await;
    let of_a = at_a.say(&chats[0], &endless(25)).await;
    let of_b = at_b.say(&chats[1], &endless(25)).await;
    let (orphan, own) = (of_a.reply().await, of_b.reply().await);
    feed.until_words(&orphan, 20).await;
    feed.until_words(&own, 20).await;

    a.kill().await;
    let killed = Instant::now();
    feed.until("the orphan is interrupted", |seen| !ends(seen).is_empty()).await;
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
    let seen = feed.seen();
    let end = ends(&seen)[0];
    assert_eq!((end.event.as_str(), end.reply()), ("message.interrupted", Some(orphan.as_str())));
    let kept = end.data["message"]["content"].as_str().unwrap();
    assert!(!kept.is_empty() && counted(100_000).starts_with(kept), "{kept:?}");
    assert_eq!(at_b.messages(&chats[0]).await[1], end.data["message"]);

    // Its own goes on as if nothing had been.
    let words = text(&seen, &own).split_whitespace().count();
    feed.until_words(&own, words + 40).await;
    at_b.post(&format!("{}/message/{own}/stop", chats[1]), &json!({})).await.expect(200);
    let (seen, end) = of_b.ended(Duration::from_secs(30)).await;
    assert_eq!((ends(&seen).len(), ends(&seen)[0].event.as_str(), end), (1, "message.stopped", End::Clean));
    feed.until("both ended", |seen| ends(seen).len() == 2).await;
}
