//! Chats that are made private while others follow them on another process, and shown again.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Api, End, Follow, Seen, ends, text};
use crate::people::{Person, join};
use crate::program::Home;
use crate::upstream::{Upstream, endless};
use crate::{REVOKED, mysql_trial, spawn, trial};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_chat_made_private_on_one_process_is_gone_from_the_other", || hidden(None)),
        mysql_trial(servers, "a_chat_made_private_on_one_process_is_gone_from_the_other", |database| {
            hidden(Some(database))
        }),
    ]
}

/// Whether an event tells anything of a chat but that it is gone.
fn tells_of(seen: &Seen, chat: &str) -> bool {
    let data = &seen.data;
    let ids = [&data["chat"]["id"], &data["message"]["chat_id"], &data["chat_id"]];
    seen.event != "chat.deleted" && ids.into_iter().filter_map(Value::as_str).any(|id| chat.ends_with(id))
}

fn is_gone(seen: &Seen, chat: &str) -> bool {
    seen.event == "chat.deleted" && chat.ends_with(seen.data["chat_id"].as_str().unwrap())
}

/// Makes sure that to somebody there is no such chat, at their very next requests.
async fn knows_nothing(api: &Api, workspace: &str, chat: &str) {
    for path in [chat.to_owned(), format!("{chat}/messages"), format!("{chat}/events")] {
        api.get(&path).await.is_problem(404, "not_found");
    }
    api.exchange(chat, "count 1 0").await.is_problem(404, "not_found");
    for query in ["", "?q=hush", "?q=count", "?archived=true"] {
        let list = api.get(&format!("{workspace}/chats/history{query}")).await.expect(200);
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().all(|item| !chat.ends_with(item["id"].as_str().unwrap())), "{query}: {list}");
    }
}

async fn finds(api: &Api, workspace: &str, chat: &str, query: &str) -> bool {
    let list = api.get(&format!("{workspace}/chats/history{query}")).await.expect(200);
    list["items"].as_array().unwrap().iter().any(|item| chat.ends_with(item["id"].as_str().unwrap()))
}

// R42, R87, F34
async fn hidden(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let workspace = &ann.make_workspace().await;
    let (bob, cyd) = (Person::new(&ann, "Bob", "USER").await, Person::new(&ann, "Cyd", "USER").await);
    join(&ann, workspace, &bob, "MEMBER").await;
    join(&ann, workspace, &cyd, "MEMBER").await;
    let made = bob.api.post(&format!("{workspace}/chat"), &json!({"title": "Hush now"})).await.expect(201);
    let chat = &format!("{workspace}/chat/{}", made["id"].as_str().unwrap());
    let other = bob.api.make_chat(workspace).await;
    bob.api.exchange(chat, "count 2 0").await.expect(201);
    assert!(
        finds(&cyd.at(&b), workspace, chat, "?q=hush").await && finds(&cyd.at(&b), workspace, chat, "?q=count").await
    );

    // An owner of the workspace is one of the others, too.
    let others = [ann.moved_to(&b), cyd.at(&b), cyd.at(&a)];
    let mut of_workspace = Vec::new();
    let mut of_chat = Vec::new();
    for api in &others {
        of_workspace.push(api.follow(workspace, None).await);
        of_chat.push(api.follow(chat, None).await);
    }
    let of_bob = [bob.at(&b).follow(workspace, None).await, bob.at(&b).follow(chat, None).await];
    // Cyd asks for a reply and follows it, and waits for another one.
    let asked = cyd.at(&b).say(chat, &endless(20)).await;
    let reply = asked.reply().await;
    let (waiting, path, (tell, told)) = (cyd.at(&b), format!("{chat}/message"), tokio::sync::oneshot::channel());
    spawn(async move { drop(tell.send(waiting.post(&path, &json!({"content": "count 1 0"})).await)) });
    for feed in of_workspace.iter().chain(&of_chat).chain(&of_bob).chain([&asked]) {
        feed.until_words(&reply, 3).await;
    }
    let both_wait = |seen: &[Seen]| seen.iter().filter(|seen| seen.event == "message.created").count() == 4;
    of_bob[1].until("both messages are there", both_wait).await;

    let private = bob.at(&a).patch(chat, &json!({"visibility": "private"})).await.expect(200);
    assert_eq!(private["visibility"], "private");
    for api in &others {
        knows_nothing(api, workspace, chat).await;
    }
    for stream in of_chat.iter().chain([&asked]) {
        let (seen, end) = stream.ended(REVOKED).await;
        assert_eq!(end, End::Clean);
        assert!(is_gone(seen.last().unwrap(), chat) && ends(&seen).is_empty(), "{:?}", seen.last());
    }
    let gone = |seen: &[Seen]| seen.iter().any(|seen| is_gone(seen, chat));
    for feed in &of_workspace {
        feed.until("the chat is gone", gone).await;
    }
    // For Bob it goes on, as if nothing had been.
    let words = text(&of_bob[1].seen(), &reply).split_whitespace().count();
    of_bob[0].until_words(&reply, words + 40).await;
    of_bob[1].until_words(&reply, words + 40).await;
    let updated = |seen: &Seen| seen.event == "chat.updated" && seen.data["chat"]["visibility"] == "private";
    for feed in &of_bob {
        feed.until("the change is told", |seen| seen.iter().any(updated)).await;
        assert!(feed.end().is_none() && !gone(&feed.seen()));
    }
    assert!(
        finds(&bob.at(&b), workspace, chat, "?q=hush").await && finds(&bob.at(&b), workspace, chat, "?q=count").await
    );
    // A further event of the workspace, and what came before it was seen: nothing of the chat was.
    bob.at(&a).patch(&other, &json!({"title": "Loud"})).await.expect(200);
    let loud = |seen: &Seen| seen.data["chat"]["title"] == "Loud";
    for feed in &of_workspace {
        feed.until("what comes later", |seen| seen.iter().any(loud)).await;
        let seen = feed.seen();
        let mut after = seen.iter().skip_while(|seen| !is_gone(seen, chat));
        assert!(!after.any(|seen| tells_of(seen, chat)), "{seen:?}");
        assert_eq!(seen.iter().filter(|seen| is_gone(seen, chat)).count(), 1);
    }
    // Whoever comes back with a cursor from before is told that it is gone, and nothing else of it.
    let cursor = of_workspace[1].seen()[0].id;
    let resumed = cyd.at(&b).follow(workspace, cursor).await;
    resumed.until("what comes later", |seen| seen.iter().any(loud)).await;
    assert!(resumed.seen().iter().all(|seen| !tells_of(seen, chat)), "{:?}", resumed.seen());

    // Shown again: it comes, with the reply that runs in it.
    bob.at(&a).patch(chat, &json!({"visibility": "workspace"})).await.expect(200);
    for api in &others {
        assert_eq!(api.get(chat).await.expect(200)["visibility"], "workspace");
        assert!(finds(api, workspace, chat, "?q=hush").await && finds(api, workspace, chat, "").await);
    }
    for feed in &of_workspace {
        let came =
            |seen: &Seen| seen.event == "chat.created" && chat.ends_with(seen.data["chat"]["id"].as_str().unwrap());
        feed.until("the chat comes", |seen| seen.iter().skip_while(|seen| !is_gone(seen, chat)).any(came)).await;
    }
    let since = |feed: &Follow| feed.seen().iter().position(|seen| is_gone(seen, chat)).unwrap();
    for feed in of_workspace.iter().chain([&resumed]) {
        let before = feed.seen().len();
        feed.until("the reply goes on", |seen| {
            seen[before..].iter().any(|seen| seen.event == "message.delta" && seen.reply() == Some(&reply))
        })
        .await;
    }
    bob.at(&a).post(&format!("{chat}/message/{reply}/stop"), &json!({})).await.expect(200);
    for feed in of_workspace.iter().chain([&resumed]) {
        feed.until("the reply ends", |seen| ends(seen).iter().any(|end| end.reply() == Some(&reply))).await;
        let seen = feed.seen();
        let end = ends(&seen).into_iter().find(|end| end.reply() == Some(&reply)).unwrap();
        // What they show in the end is what was made, whatever they missed.
        assert_eq!(text(&seen[since(feed)..], &reply), end.data["message"]["content"], "{seen:?}");
    }
    // Whoever waited for a reply of theirs may read it again by the time it ends.
    let answer = tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
    assert_eq!(answer.expect(201)["reply"]["status"], "complete");
    // Nothing hangs on a name: a private chat is none of anybody's business by any other way.
    bob.at(&b).patch(chat, &json!({"visibility": "private"})).await.expect(200);
    for (method, path) in [
        (Method::PATCH, chat.clone()),
        (Method::DELETE, chat.clone()),
        (Method::PATCH, format!("{chat}/message/{reply}")),
        (Method::POST, format!("{chat}/message/{reply}/regenerate")),
        (Method::POST, format!("{chat}/message/{reply}/stop")),
    ] {
        let request = ann.moved_to(&a).request(method, &path).json(&json!({"content": "count 1 0"}));
        ann.send(request).await.unwrap().is_problem(404, "not_found");
    }
}
