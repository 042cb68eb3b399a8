//! How many replies may run at once (R84), and titles that models give.

use std::sync::Arc;
use std::time::Duration;

use private_chat_adapters::memory::{self, Script, ScriptedInference};
use private_chat_core::model::chat::ReplyCaps;
use private_chat_core::model::workspace::Role;
use private_chat_core::port::Ports;
use private_chat_core::usecase::Settings;
use private_chat_tests::client::{Answer, App, Caller, Events, patiently, ports, settings, text};
use serde_json::{Value, json};

use crate::events::{ended, say};

/// An application with these settings, and its model, of which every answer waits.
async fn with(settings: Settings, scripts: impl IntoIterator<Item = Script>) -> (App, Arc<ScriptedInference>) {
    let parrot = Arc::new(ScriptedInference::playing(scripts));
    let ports = Ports { inference: memory::providers(parrot.clone()), ..ports() };
    (App::with(ports, settings).await, parrot)
}

fn waiting() -> Script {
    Script::new().content("Hm").pause().content(".").finish("stop")
}

async fn capped(caps: ReplyCaps) -> (App, Arc<ScriptedInference>) {
    let first = Script::new().content("First.").finish("stop");
    with(Settings { caps, ..settings() }, [first, waiting()]).await
}

/// A chat with a reply that runs.
async fn running(caller: &Caller, home: &str) -> (String, Events, Value) {
    let chat = caller.chat(home).await;
    let mut events = say(caller, &chat, "Hi.").events().await;
    events.until("message.created").await;
    let reply = events.until("message.created").await.data["message"].clone();
    (chat, events, reply)
}

/// Has a reply run in a new chat once there is a place for it.
async fn running_soon(caller: &Caller, home: &str) {
    let chat = caller.chat(home).await;
    let begin = async {
        loop {
            let answer = say(caller, &chat, "Hi.").header("accept", "text/event-stream").await;
            if answer.status != 429 {
                answer.ok(200);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(begin).await;
}

/// That this is a refusal because as many run as may.
fn is_refused(answer: &Answer, most: u64) {
    answer.problem(429, "too_many_replies");
    let header = |name: &str| answer.header(name).and_then(|value| value.parse::<u64>().ok());
    assert!(header("retry-after").is_some_and(|seconds| seconds >= 1));
    assert_eq!((header("ratelimit-limit"), header("ratelimit-remaining")), (Some(most), Some(0)));
    assert!(header("ratelimit-reset").is_some());
}

// R84
#[tokio::test]
async fn one_user_has_so_many_replies_running_and_no_more() {
    let (app, parrot) = capped(ReplyCaps { of_user: Some(8), ..ReplyCaps::default() }).await;
    let admin = app.setup().await;
    let home = admin.workspace().await;
    let (ann, bob) = (app.user(&admin, "Ann").await, app.user(&admin, "Bob").await);
    for user in [&ann, &bob] {
        app.join(&home, user, Role::Member).await;
    }
    let chat = ann.chat(&home).await;
    let (message, reply) = ann.say(&chat, "First?").await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(running(&ann, &home).await);
    }
    // By every way that begins one, streamed or not; nothing is left behind.
    let at = |id: &Value| format!("{chat}/message/{}", text(id));
    let ways = || {
        [
            say(&ann, &chat, "9"),
            ann.patch(&at(&message["id"])).json(json!({"content": "9"})),
            ann.post(&format!("{}/regenerate", at(&reply["id"]))),
            say(&ann, &chat, "9").header("idempotency-key", "ninth"),
            say(&ann, &chat, "9").header("accept", "text/event-stream"),
        ]
    };
    for way in ways() {
        is_refused(&way.await, 8);
    }
    assert_eq!(ann.get(&chat).await.ok(200)["message_count"], 2);
    // Not in another workspace either; somebody else is as free as before.
    let elsewhere = ann.workspace().await;
    is_refused(&say(&ann, &ann.chat(&elsewhere).await, "9").await, 8);
    let (_, _, of_bob) = running(&bob, &home).await;
    assert_eq!(of_bob["status"], "streaming");
    // Stopped, its place is free at once; and so is that of one that ended by itself.
    let (first, events, stopped) = held.remove(0);
    ann.post(&format!("{first}/message/{}/stop", text(&stopped["id"]))).await.ok(200);
    assert_eq!(events.rest().await.last().unwrap().name, "message.stopped");
    // Under the key that was refused it is done now.
    let mut ninth = say(&ann, &chat, "9").header("idempotency-key", "ninth").events().await;
    ninth.until("message.created").await;
    is_refused(&say(&ann, &chat, "10").await, 8);
    // To repeat it begins nothing, and is no tenth one.
    let mut again = say(&ann, &chat, "9").header("idempotency-key", "ninth").events().await;
    again.until("message.created").await;
    patiently(parrot.waiting(9)).await;
    for _ in 0..9 {
        parrot.release();
    }
    for (_, events, _) in held {
        assert_eq!(events.rest().await.last().unwrap().name, "message.completed");
    }
    assert_eq!(ended(&ann, &chat).await["status"], "complete");
    let (_, _, free) = running(&ann, &home).await;
    assert_eq!(free["status"], "streaming");
}

// R84: one that waits for the reply before it has a place, too; a deletion and a refusal of the provider give it back.
#[tokio::test]
async fn a_place_is_free_again_however_its_reply_ended() {
    let (app, _parrot) = capped(ReplyCaps { of_user: Some(2), ..ReplyCaps::default() }).await;
    let admin = app.setup().await;
    let home = admin.workspace().await;
    let spent = admin.chat(&home).await;
    admin.say(&spent, "First?").await;
    let (chat, first, _) = running(&admin, &home).await;
    let queued = say(&admin, &chat, "Queued.").events().await;
    is_refused(&say(&admin, &spent, "Third.").await, 2);
    admin.delete(&chat).await.ok(204);
    for events in [first, queued] {
        events.rest().await;
    }
    for _ in 0..2 {
        running_soon(&admin, &home).await;
    }
    // Their clients have gone away, which ends nothing: they keep their places.
    is_refused(&say(&admin, &spent, "Third.").await, 2);
}

// R84
#[tokio::test]
async fn a_workspace_and_the_server_have_their_own_bounds() {
    for (caps, elsewhere_is_free) in [
        (ReplyCaps { in_workspace: Some(3), ..ReplyCaps::default() }, true),
        (ReplyCaps { here: Some(3), ..ReplyCaps::default() }, false),
    ] {
        let (app, parrot) = capped(caps).await;
        let admin = app.setup().await;
        let (home, elsewhere) = (admin.workspace().await, admin.workspace().await);
        let member = app.user(&admin, "Member").await;
        app.join(&home, &member, Role::Member).await;
        admin.say(&admin.chat(&home).await, "First?").await;
        let held = [running(&admin, &home).await, running(&member, &home).await, running(&member, &home).await];
        for caller in [&admin, &member] {
            is_refused(&say(caller, &caller.chat(&home).await, "4").await, 3);
        }
        if elsewhere_is_free {
            running(&admin, &elsewhere).await;
        } else {
            is_refused(&say(&admin, &admin.chat(&elsewhere).await, "4").await, 3);
        }
        patiently(parrot.waiting(if elsewhere_is_free { 4 } else { 3 })).await;
        parrot.release();
        // The one that waited longest has ended.
        let [(first, ..), ..] = &held;
        assert_eq!(ended(&admin, first).await["status"], "complete");
        running(&member, &home).await;
    }
}

#[tokio::test]
async fn a_chat_without_a_title_is_given_one_after_its_first_reply() {
    let scripts = [
        Script::new().content("With flour.").finish("stop"),
        Script::new().pause().content("\"Baking bread\"").finish("stop"),
        Script::new().content("And water.").finish("stop"),
    ];
    let (app, parrot) = with(Settings { titles: true, ..settings() }, scripts).await;
    let admin = app.setup().await;
    let home = admin.workspace().await;
    let chat = admin.chat(&home).await;
    let mut feed = admin.get(&format!("/workspaces/{home}/events")).events().await;
    // The reply does not wait for it.
    let (_, reply) = admin.say(&chat, "How do I bake bread?").await;
    assert_eq!(reply["content"], "With flour.");
    patiently(parrot.waiting(1)).await;
    assert_eq!(admin.get(&chat).await.ok(200)["title"], Value::Null);
    parrot.release();
    let told = feed.until("chat.updated").await;
    assert_eq!(told.data["chat"]["title"], "Baking bread");
    let read = admin.get(&chat).await.ok(200);
    assert_eq!((&read["title"], &read["message_count"]), (&json!("Baking bread"), &json!(2)));
    let listed = admin.get(&format!("/workspaces/{home}/chats/history?q=baking")).await.ok(200);
    assert_eq!(listed["items"][0]["title"], "Baking bread");
    // Once it has one, its model is asked for no other; nor is that of a chat that somebody named.
    admin.say(&chat, "What else?").await;
    let named = admin.post(&format!("/workspaces/{home}/chat")).json(json!({"title": "Mine"})).await.ok(201);
    let named = format!("/workspaces/{home}/chat/{}", text(&named["id"]));
    admin.say(&named, "What else?").await;
    assert_eq!(parrot.completions().len(), 4);
    assert_eq!(admin.get(&named).await.ok(200)["title"], "Mine");
}

#[tokio::test]
async fn somebodys_title_goes_before_a_models() {
    let scripts =
        [Script::new().content("Hi.").finish("stop"), Script::new().pause().content("A model's").finish("stop")];
    let (app, parrot) = with(Settings { titles: true, ..settings() }, scripts).await;
    let admin = app.setup().await;
    let chat = admin.chat(&admin.workspace().await).await;
    let mut feed = admin.get(&format!("{chat}/events")).events().await;
    admin.say(&chat, "Hi.").await;
    patiently(parrot.waiting(1)).await;
    admin.patch(&chat).json(json!({"title": "Somebody's"})).await.ok(200);
    parrot.release();
    assert_eq!(feed.until("chat.updated").await.data["chat"]["title"], "Somebody's");
    // What comes after it in the feed was not a title.
    admin.patch(&chat).json(json!({"archived": true})).await.ok(200);
    let next = feed.until("chat.updated").await;
    assert_eq!((&next.data["chat"]["title"], &next.data["chat"]["archived"]), (&json!("Somebody's"), &json!(true)));
}
