//! Titles that nobody gave: made in the background, for whoever follows, and in nobody's way.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::{Value, json};

use crate::client::{Follow, Seen};
use crate::program::Home;
use crate::upstream::{REFUSED, TITLE, Upstream};
use crate::{llm_trial, mysql_trial, trial, until};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_chat_without_a_title_gets_one_after_its_first_reply", || given(None)),
        mysql_trial(servers, "a_chat_without_a_title_gets_one_after_its_first_reply", |database| given(Some(database))),
        trial("where_titles_are_off_none_is_asked_for", off),
        trial("nobody_waits_for_a_title_neither_a_reply_nor_a_stop", waits_for_nobody),
        trial("a_title_that_somebody_gives_meanwhile_stays", given_meanwhile),
        llm_trial(servers, "llm::a_chat_gets_a_title", by_a_model),
    ]
}

fn updates<'a>(seen: &'a [Seen], chat: &str) -> Vec<&'a Value> {
    let of_it =
        |seen: &&Seen| seen.event == "chat.updated" && chat.ends_with(seen.data["chat"]["id"].as_str().unwrap());
    seen.iter().filter(of_it).map(|seen| &seen.data["chat"]).collect()
}

async fn told(feed: &Follow, chat: &str) -> Value {
    feed.until("the title is told", |seen| !updates(seen, chat).is_empty()).await;
    updates(&feed.seen(), chat)[0].clone()
}

async fn given(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking_also_titles(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let at_b = ann.moved_to(&b);
    let workspace = ann.make_workspace().await;
    let chat = ann.make_chat(&workspace).await;
    let feeds =
        [ann.follow(&workspace, None).await, at_b.follow(&workspace, None).await, at_b.follow(&chat, None).await];
    // One that comes to nothing is nothing to go by.
    ann.exchange(&chat, REFUSED).await.expect(201);
    ann.exchange(&chat, "count 3 0").await.expect(201);
    for told in join_all(feeds.iter().map(|feed| told(feed, &chat))).await {
        assert_eq!((&told["title"], &told["message_count"]), (&json!(TITLE), &json!(4)));
    }
    assert_eq!(at_b.get(&chat).await.expect(200)["title"], TITLE);
    assert_eq!(
        at_b.get(&format!("{workspace}/chats/history?q=counting")).await.expect(200)["items"][0]["title"],
        TITLE
    );
    // It has one now, and whoever has one is asked for no other.
    at_b.exchange(&chat, "count 2 0").await.expect(201);
    let named = ann.post(&format!("{workspace}/chat"), &json!({"title": "Mine"})).await.expect(201);
    let named = format!("{workspace}/chat/{}", named["id"].as_str().unwrap());
    ann.exchange(&named, "count 2 0").await.expect(201);
    // Others get theirs, on either process, each one.
    let others = [ann.make_chat(&workspace).await, ann.make_chat(&workspace).await];
    for (at, other) in [&ann, &at_b].into_iter().zip(&others) {
        at.exchange(other, "count 1 0").await.expect(201);
        for feed in &feeds[..2] {
            told(feed, other).await;
        }
    }
    assert_eq!(upstream.titles(), 3);
    assert_eq!(ann.get(&named).await.expect(200)["title"], "Mine");
    for feed in &feeds {
        assert_eq!(updates(&feed.seen(), &chat).len(), 1);
    }
    a.stop().await;
    b.stop().await;
}

async fn off() {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking_also_titles(&upstream).set("PRIVATE_CHAT_INFERENCE__TITLES", "false");
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let chats = [ann.make_chat(&workspace).await, ann.make_chat(&workspace).await];
    // By the end of the second, a title would have been asked for after the first.
    for number in 0..6 {
        ann.exchange(&chats[number % 2], "count 2 0").await.expect(201);
    }
    assert_eq!((upstream.asked(), upstream.titles()), (6, 0));
    assert_eq!(ann.get(&chats[0]).await.expect(200)["title"], json!(null));
}

// R109
async fn waits_for_nobody() {
    let upstream = Upstream::start().await;
    upstream.hold_titles();
    let home = Home::with_keys().asking_also_titles(&upstream);
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let chat = ann.make_chat(&workspace).await;
    let answer = ann.exchange(&chat, "count 2 0").await.expect(201);
    assert_eq!(answer["reply"]["status"], "complete");
    until(PATIENCE, "a title is in the making", async || upstream.open_titles() == 1).await;

    program.terminate();
    // Half as long as a title may take.
    assert_eq!(program.ended(Duration::from_secs(15)).await.code(), Some(0));
    until(PATIENCE, "the provider is let go", async || upstream.open_titles() == 0).await;

    // The chat gets it with its next reply.
    upstream.give_titles();
    let program = home.start().await;
    let ann = ann.moved_to(&program);
    assert_eq!(ann.get(&chat).await.expect(200)["title"], json!(null));
    let feed = ann.follow(&workspace, None).await;
    ann.exchange(&chat, "count 2 0").await.expect(201);
    assert_eq!(told(&feed, &chat).await["title"], TITLE);
}

async fn given_meanwhile() {
    let upstream = Upstream::start().await;
    upstream.hold_titles();
    let home = Home::with_keys().asking_also_titles(&upstream);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let feed = ann.follow(&workspace, None).await;
    let chats = [ann.make_chat(&workspace).await, ann.make_chat(&workspace).await, ann.make_chat(&workspace).await];
    for chat in &chats {
        ann.exchange(chat, "count 2 0").await.expect(201);
    }
    until(PATIENCE, "titles are in the making", async || upstream.open_titles() == 3).await;
    assert_eq!(ann.patch(&chats[0], &json!({"title": "Mine"})).await.expect(200)["title"], "Mine");
    ann.delete(&chats[1]).await.expect(204);
    upstream.give_titles();
    assert_eq!(told(&feed, &chats[2]).await["title"], TITLE);
    until(PATIENCE, "all were given", async || upstream.open_titles() == 0).await;
    // A further one takes its turn after them.
    let last = ann.make_chat(&workspace).await;
    ann.exchange(&last, "count 2 0").await.expect(201);
    told(&feed, &last).await;
    assert_eq!(ann.get(&chats[0]).await.expect(200)["title"], "Mine");
    ann.get(&chats[1]).await.is_problem(404, "not_found");
    let seen = feed.seen();
    assert_eq!(updates(&seen, &chats[0]).len(), 1, "{seen:?}");
    assert!(updates(&seen, &chats[1]).is_empty(), "{seen:?}");
}

async fn by_a_model(url: String) {
    let home = Home::with_keys().set("OPENAI_BASE_URL", &url).set("OPENAI_API_KEY", "none");
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let feed = ann.follow(&workspace, None).await;
    let chat = ann.make_chat(&workspace).await;
    ann.exchange(&chat, "Who are you?").await.expect(201);
    let title = told(&feed, &chat).await["title"].as_str().unwrap().to_owned();
    assert!((1..=80).contains(&title.chars().count()) && !title.contains('\n'), "{title:?}");
    assert_eq!(ann.get(&chat).await.expect(200)["title"], title.as_str());
    program.stop().await;
}
