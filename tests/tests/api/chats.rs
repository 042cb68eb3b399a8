//! Chats and messages.

use std::sync::Arc;

use private_chat_adapters::memory::{self, Script, ScriptedInference};
use private_chat_core::model::chat::{Parameters, ReplyFault};
use private_chat_core::port::Ports;
use private_chat_core::port::inference::InferenceFailure;
use private_chat_tests::client::{App, ports, text};
use private_chat_tests::document::{is_id, is_time};
use private_chat_tests::team::Team;
use serde_json::{Value, json};

crate::on_every_store!(a_chat_is_made_talked_in_and_read, a_private_chat_is_its_creators, messages_follow_each_other);

/// An application whose model says this, and the model.
pub(crate) async fn saying(scripts: impl IntoIterator<Item = Script>) -> (App, Arc<ScriptedInference>) {
    let parrot = Arc::new(ScriptedInference::playing(scripts));
    let app = App::on(Ports { inference: memory::providers(parrot.clone()), ..ports() }).await;
    (app, parrot)
}

async fn a_chat_is_made_talked_in_and_read(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let home = ann.workspace().await;
    let made = ann.post(&format!("/workspaces/{home}/chat/")).json(json!({"title": "First"})).await.ok(201);
    let author = json!({"id": ann.id, "name": "Ann"});
    let fields = json!({
        "id": made["id"], "workspace_id": home, "title": "First", "visibility": "workspace", "model": null,
        "system_prompt": null, "archived": false, "created_by": author, "message_count": 0, "last_message_at": null,
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, fields);
    assert!(is_id(&text(&made["id"])) && is_time(&text(&made["created_at"])));
    let path = format!("/workspaces/{home}/chat/{}", text(&made["id"]));

    let sent = ann.post(&format!("{path}/message/")).json(json!({"content": "Hi."})).await.ok(201);
    let (message, reply) = (&sent["message"], &sent["reply"]);
    let fields = json!({
        "id": message["id"], "chat_id": made["id"], "parent_id": null, "role": "user", "author": author, "content": "Hi.",
        "reasoning": null, "status": "complete", "model": null, "provider": null, "usage": null, "finish_reason": null,
        "error": null, "attachments": [], "created_at": message["created_at"], "updated_at": message["created_at"],
    });
    assert_eq!(*message, fields);
    let fields = json!({
        "id": reply["id"], "chat_id": made["id"], "parent_id": message["id"], "role": "assistant", "author": null,
        "content": "Hello, world.", "reasoning": null, "status": "complete", "model": "scripted/parrot",
        "provider": "scripted", "usage": null, "finish_reason": "stop", "error": null, "attachments": [],
        "created_at": reply["created_at"], "updated_at": reply["updated_at"],
    });
    assert_eq!(*reply, fields);

    let read = ann.get(&path).await.ok(200);
    assert_eq!(read["messages"], json!([message, reply]));
    assert_eq!((&read["messages_cursor"], &read["message_count"]), (&Value::Null, &json!(2)));
    assert!(is_time(&text(&read["last_message_at"])));
    assert_eq!(ann.get(&format!("{path}/messages?order=asc")).await.ok(200)["items"], json!([message, reply]));
    let listed = ann.get(&format!("/workspaces/{home}/chats/history/")).await.ok(200);
    assert_eq!(listed["items"][0]["message_count"], 2);
    for field in listed["items"][0].as_object().unwrap().keys() {
        assert_eq!(listed["items"][0][field], read[field], "{field}");
    }
    let renamed = ann.patch(&format!("{path}/")).json(json!({"title": "Second"})).await.ok(200);
    assert_eq!((&renamed["title"], &renamed["message_count"]), (&json!("Second"), &json!(2)));
    // More than a page of messages.
    for n in 0..25 {
        ann.say(&path, &n.to_string()).await;
    }
    let read = ann.get(&path).await.ok(200);
    let shown = read["messages"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[49]["content"], &read["message_count"]), (50, &json!("Hello, world."), &json!(52)));
    let older = ann.get(&format!("{path}/messages?cursor={}", text(&read["messages_cursor"]))).await.ok(200);
    assert_eq!(older["items"], json!([reply, message]));
}

// D2, R43
async fn a_private_chat_is_its_creators(app: App) {
    let team = Team::on(app).await;
    let body = json!({"visibility": "private", "title": "Mine"});
    let made = team.member.post(&team.at("/chat")).json(body).await.ok(201);
    assert_eq!(made["visibility"], "private");
    let path = team.at(&format!("/chat/{}", text(&made["id"])));
    team.member.get(&path).await.ok(200);
    for other in [&team.owner, &team.guest, &team.outsider, &team.admin] {
        other.get(&path).await.problem(404, "not_found");
    }
    let count = async |caller: &private_chat_tests::client::Caller, query: &str| {
        caller.get(&team.at(&format!("/chats/history{query}"))).await.ok(200)["items"].as_array().unwrap().len()
    };
    assert_eq!((count(&team.member, "").await, count(&team.owner, "").await, count(&team.guest, "").await), (2, 1, 1));
    assert_eq!((count(&team.member, "?mine=true").await, count(&team.owner, "?mine=true").await), (1, 1));
    assert_eq!((count(&team.member, "?archived=true").await, count(&team.guest, "?mine=true").await), (0, 0));
}

// R108
async fn messages_follow_each_other(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let home = ann.workspace().await;
    let chat = ann.chat(&home).await;
    let (first, first_reply) = ann.say(&chat, "1").await;
    let (second, _) = ann.say(&chat, "2").await;
    assert_eq!((&first["parent_id"], &second["parent_id"]), (&Value::Null, &first_reply["id"]));
    let branch = json!({"content": "another 2", "parent_id": first_reply["id"]});
    let branch = ann.post(&format!("{chat}/message")).json(branch).await.ok(201);
    assert_eq!(branch["message"]["parent_id"], first_reply["id"]);
    let null = json!({"content": "3", "parent_id": null, "model": null, "parameters": null});
    let last = ann.post(&format!("{chat}/message")).json(null).await.ok(201);
    assert_eq!(last["message"]["parent_id"], branch["reply"]["id"]);
    // Many at once make one line, and no number twice.
    let path = format!("{chat}/message");
    let sends = (0..10).map(|n| ann.post(&path).json(json!({"content": format!("at once {n}")})).into_future());
    for sent in futures_util::future::join_all(sends).await {
        assert_eq!(sent.ok(201)["reply"]["status"], "complete");
    }
    let all = ann.get(&format!("{chat}/messages?limit=100&order=asc")).await.ok(200);
    let all = all["items"].as_array().unwrap();
    assert_eq!(all.len(), 28);
    let mut parents: Vec<_> = all.iter().map(|message| message["parent_id"].to_string()).collect();
    parents.sort();
    parents.dedup();
    assert_eq!(parents.len(), 27, "one message has two successors, and no other");
}

// R44, R65, R74, R86
#[tokio::test]
async fn a_message_is_checked_field_by_field() {
    let team = Team::new().await;
    let send = format!("{}/message", team.chat);
    let wrong = async |body: Value| team.member.post(&send).json(body).await.wrong_fields();
    assert_eq!(wrong(json!({})).await, ["content"]);
    for blank in ["", " ", "\n\t "] {
        assert_eq!(wrong(json!({"content": blank})).await, ["content"]);
    }
    assert_eq!(wrong(json!({"content": "x".repeat((64 << 10) + 1)})).await, ["content"]);
    assert_eq!(wrong(json!({"content": "é".repeat((32 << 10) + 1)})).await, ["content"]);
    for model in
        ["none", "scripted/none", "other/parrot", "a b", "", "scripted/parrot ", "SCRIPTED/parrot", "../../etc"]
    {
        assert_eq!(wrong(json!({"content": "x", "model": model})).await, ["model"], "{model}");
    }
    for parent in ["", "x", "00000000", "{0190d5a0-7b7c-7000-8000-000000000001}"] {
        assert_eq!(wrong(json!({"content": "x", "parent_id": parent})).await, ["parent_id"], "{parent}");
    }
    // R74, R44: nothing of the installation can be chosen from outside.
    for unknown in [
        "api_base",
        "base_url",
        "api_key",
        "url_idx",
        "extra_headers",
        "bypass_filter",
        "id",
        "author",
        "role",
        "status",
        "workspace_id",
        "chat_id",
        "reasoning",
        "stream",
        "messages",
        "tools",
        "Content",
    ] {
        assert_eq!(wrong(json!({"content": "x", unknown: "x"})).await, [unknown]);
        assert_eq!(
            wrong(json!({"content": "x", "parameters": {unknown: "x"}})).await,
            [format!("parameters.{unknown}")]
        );
    }
    for (name, bad) in [
        ("temperature", json!(2.1)),
        ("temperature", json!(-0.1)),
        ("temperature", json!("1")),
        ("top_p", json!(1.1)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(1.5)),
        ("max_tokens", json!(1_000_001)),
        ("stop", json!("x")),
        ("stop", json!(["1", "2", "3", "4", "5"])),
        ("seed", json!(1.5)),
        ("seed", json!(9_223_372_036_854_775_808_u64)),
        ("presence_penalty", json!(-2.1)),
        ("frequency_penalty", json!(2.1)),
        ("reasoning_effort", json!("x".repeat(33))),
        ("temperature", json!(null)),
    ] {
        let fields = wrong(json!({"content": "x", "parameters": {name: bad}})).await;
        assert_eq!(fields, [format!("parameters.{name}")], "{name} {bad}");
    }
    let create = async |body: Value| team.member.post(&team.at("/chat")).json(body).await.wrong_fields();
    assert_eq!(create(json!({"title": " "})).await, ["title"]);
    assert_eq!(create(json!({"title": "x".repeat(201), "model": "none"})).await, ["title", "model"]);
    assert_eq!(create(json!({"visibility": "public"})).await, ["visibility"]);
    assert_eq!(create(json!({"archived": true})).await, ["archived"]);
    let rename = async |body: Value| team.owner.patch(&team.chat).json(body).await.wrong_fields();
    assert_eq!(rename(json!({"title": "x".repeat(201)})).await, ["title"]);
    assert_eq!(rename(json!({"workspace_id": team.workspace, "title": "x"})).await, ["workspace_id"]);
    assert_eq!(team.owner.get(&team.chat).await.ok(200)["message_count"], 2);
}

#[tokio::test]
async fn what_is_as_large_as_may_be_is_taken() {
    let team = Team::new().await;
    let largest = "é".repeat(32 << 10);
    let (message, _) = team.owner.say(&team.chat, &largest).await;
    assert_eq!(message["content"], largest.as_str());
    let title = "😀".repeat(200);
    assert_eq!(team.owner.patch(&team.chat).json(json!({"title": title})).await.ok(200)["title"], title.as_str());
    let prompt = "x".repeat(32 << 10);
    let body = json!({"system_prompt": prompt, "model": "scripted/parrot"});
    assert_eq!(team.owner.post(&team.at("/chat")).json(body).await.ok(201)["system_prompt"], prompt.as_str());
}

#[tokio::test]
async fn parameters_reach_the_model() {
    let (app, parrot) = saying([Script::new().content("Yes.").finish("stop")]).await;
    let admin = app.setup().await;
    let home = admin.workspace().await;
    let chat = admin.chat(&home).await;
    let parameters = json!({
        "temperature": 0.5, "top_p": 1, "max_tokens": 7, "stop": ["\n"], "seed": -1, "presence_penalty": -2,
        "frequency_penalty": 2, "reasoning_effort": "low",
    });
    let body = json!({"content": "Well?", "model": "scripted/parrot", "parameters": parameters});
    admin.post(&format!("{chat}/message")).json(body).await.ok(201);
    let asked = parrot.completions().remove(0);
    assert_eq!(asked.model, "parrot");
    let expected = Parameters {
        temperature: Some(0.5),
        top_p: Some(1.0),
        max_tokens: Some(7),
        stop: vec!["\n".into()],
        seed: Some(-1),
        presence_penalty: Some(-2.0),
        frequency_penalty: Some(2.0),
        reasoning_effort: Some("low".into()),
    };
    assert_eq!(asked.parameters, expected);
}

// F20-F26: however a reply ends, its message was stored, and the answer is 201.
#[tokio::test]
async fn a_broken_reply_is_no_broken_send() {
    let refused = InferenceFailure::failed(ReplyFault::ProviderOverloaded, "try again in 7 s");
    let lost = InferenceFailure::cut_off(ReplyFault::ConnectionLost, "the connection was lost");
    let (app, _) = saying([
        Script::refusing(refused),
        Script::new().reasoning("Hm.").content("Hel").fail(lost),
        Script::new().content("Well.").usage(3, 2).finish("length"),
    ])
    .await;
    let admin = app.setup().await;
    let home = admin.workspace().await;
    let chat = admin.chat(&home).await;
    let (message, reply) = admin.say(&chat, "1").await;
    assert_eq!((&message["status"], &reply["status"]), (&json!("complete"), &json!("failed")));
    assert_eq!(reply["error"], json!({"code": "provider_overloaded", "detail": "try again in 7 s"}));
    let (_, reply) = admin.say(&chat, "2").await;
    assert_eq!((&reply["status"], &reply["content"]), (&json!("interrupted"), &json!("Hel")));
    assert_eq!((&reply["reasoning"], &reply["error"]["code"]), (&json!("Hm."), &json!("connection_lost")));
    let (_, reply) = admin.say(&chat, "3").await;
    assert_eq!((&reply["status"], &reply["finish_reason"]), (&json!("complete"), &json!("length")));
    assert_eq!(reply["usage"], json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}));
}

#[tokio::test]
async fn models_are_listed_as_messages_name_them() {
    let app = App::start().await;
    let admin = app.setup().await;
    let parrot = json!({"id": "scripted/parrot", "provider": "scripted", "context_length": null, "vision": false});
    assert_eq!(admin.get("/models").await.ok(200), json!({"items": [parrot]}));
    assert_eq!(admin.get("/models/").await.ok(200), json!({"items": [parrot]}));
}
