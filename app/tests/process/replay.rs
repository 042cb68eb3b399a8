//! What a feed tells those who come back: after a restart, after hours, and after a time that nobody remembers.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, Api, Seen};
use crate::program::Home;
use crate::tables::Tables;
use crate::until;
use crate::upstream::Upstream;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    on_both!(
        servers,
        whoever_comes_back_after_a_restart_is_told_what_they_missed,
        a_cursor_that_is_older_than_the_log_is_gone,
    )
}

fn names(seen: &[Seen]) -> Vec<&str> {
    seen.iter().filter(|seen| !seen.event.is_empty()).map(|seen| seen.event.as_str()).collect()
}

fn cursors(seen: &[Seen]) -> Vec<u64> {
    seen.iter().filter_map(|seen| seen.id).collect()
}

async fn try_follow(api: &Api, path: &str, after: u64) -> Answer {
    let request = api.request(Method::GET, &format!("{path}/events")).header("Last-Event-ID", after.to_string());
    api.send(request).await.unwrap()
}

// R90, R91, F36
async fn whoever_comes_back_after_a_restart_is_told_what_they_missed(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = &ann.make_workspace().await;
    let kept = &ann.make_chat(workspace).await;
    let feed = ann.follow(workspace, None).await;
    let opened = feed.seen()[0].id.unwrap();
    drop(feed);
    // Nobody looks.
    let said = ann.exchange(kept, "count 3 0").await.expect(201);
    let gone = ann.make_chat(workspace).await;
    ann.exchange(&gone, "count 2 0").await.expect(201);
    ann.patch(kept, &json!({"title": "Kept"})).await.expect(200);
    ann.delete(&gone).await.expect(204);
    program.stop().await;

    let program = home.start().await;
    let ann = ann.moved_to(&program);
    let feeds = [ann.follow(workspace, Some(opened)).await, ann.follow(kept, Some(opened)).await];
    ann.patch(kept, &json!({"title": "Kept on"})).await.expect(200);
    let last = |seen: &[Seen]| seen.last().is_some_and(|seen| seen.data["chat"]["title"] == "Kept on");
    for feed in &feeds {
        let now = |seen: &[Seen]| last(seen) && names(seen).iter().filter(|name| **name == "chat.updated").count() == 2;
        feed.until("all that was missed, and what comes now", now).await;
    }
    // In its present state; what is gone is skipped, but that it is gone.
    let of_kept = ["message.created", "message.created", "message.completed", "chat.updated"];
    let seen = feeds[1].seen();
    assert_eq!(names(&seen), [&of_kept[..], &["chat.updated"]].concat());
    assert_eq!(names(&feeds[0].seen()), [&of_kept[..], &["chat.deleted", "chat.updated"]].concat());
    assert_eq!(seen[0].data["message"], said["message"]);
    assert_eq!(seen[2].data["message"], said["reply"]);
    for feed in &feeds {
        let cursors = cursors(&feed.seen());
        assert!(cursors[0] > opened && cursors.windows(2).all(|two| two[0] < two[1]), "{cursors:?}");
    }
    // Whoever has seen it all is told nothing twice.
    let newest = *cursors(&feeds[0].seen()).last().unwrap();
    let again = ann.follow(workspace, Some(newest)).await;
    ann.patch(kept, &json!({"title": "Kept still"})).await.expect(200);
    again.until("what comes now", |seen| !names(seen).is_empty()).await;
    let seen = again.seen();
    assert_eq!(
        (names(&seen), &seen.last().unwrap().data["chat"]["title"]),
        (vec!["chat.updated"], &json!("Kept still"))
    );
    // A cursor of nobody is none.
    try_follow(&ann, workspace, newest + 1_000).await.is_problem(410, "cursor_expired");
}

// R91
async fn a_cursor_that_is_older_than_the_log_is_gone(database: Option<Arc<Database>>) {
    const DAY: i64 = 24 * 60 * 60 * 1_000_000;
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = &ann.make_workspace().await;
    let chat = &ann.make_chat(workspace).await;
    let feed = ann.follow(workspace, None).await;
    let opened = feed.seen()[0].id.unwrap();
    for number in 0..5 {
        ann.patch(chat, &json!({"title": format!("Old {number}")})).await.expect(200);
    }
    feed.until("all are told", |seen| names(seen).len() == 5).await;
    let old = *cursors(&feed.seen()).last().unwrap();
    ann.patch(chat, &json!({"title": "New"})).await.expect(200);
    feed.until("it is told", |seen| names(seen).len() == 6).await;
    // Nothing is old yet, and everything can be told again.
    let all = ann.follow(workspace, Some(opened)).await;
    all.until("all are told again", |seen| names(seen).len() == 6).await;

    // Eight days pass for the first five, and six for the last.
    let mut tables = Tables::of(&home, database.as_deref()).await;
    tables.execute(&format!("UPDATE events SET happened_at = happened_at - {} WHERE number <= {old}", 8 * DAY)).await;
    tables.execute(&format!("UPDATE events SET happened_at = happened_at - {} WHERE number > {old}", 6 * DAY)).await;
    let oldest = "(SELECT MIN(e.happened_at) FROM events e WHERE e.workspace_id = event_heads.workspace_id)";
    tables.execute(&format!("UPDATE event_heads SET oldest_at = {oldest}")).await;
    // Another process begins by removing what is over.
    let other = home.start().await;
    until(PATIENCE, "they are forgotten", async || {
        tables.number(&format!("SELECT COUNT(*) FROM events WHERE number <= {old}")).await == 0
    })
    .await;

    for at in [ann.clone(), ann.moved_to(&other)] {
        for path in [workspace, chat] {
            try_follow(&at, path, opened).await.is_problem(410, "cursor_expired");
            try_follow(&at, path, old - 1).await.is_problem(410, "cursor_expired");
            // Whoever has seen the last of those that are forgotten has missed nothing.
            let resumed = at.follow(path, Some(old)).await;
            resumed.until("the new one is told", |seen| names(seen).len() == 1).await;
            let fresh = at.follow(path, None).await;
            assert_eq!(fresh.seen()[0].id, Some(old + 1));
        }
    }
    // Whoever was there all the time notices nothing.
    ann.patch(chat, &json!({"title": "Newer"})).await.expect(200);
    for feed in [&feed, &all] {
        feed.until("what comes now", |seen| names(seen).len() == 7).await;
        assert_eq!(feed.end(), None);
    }
    // What was said is not forgotten with the telling of it.
    assert_eq!(ann.get(chat).await.expect(200)["title"], "Newer");
}
