//! Branches: messages that are edited, and replies that are given again.

use std::collections::BTreeMap;
use std::sync::Arc;

use private_chat_adapters::memory::{Script, ScriptedInference};
use private_chat_core::port::Ports;
use private_chat_core::port::inference::Provider;
use private_chat_tests::client::{App, Caller, ports, shown, text};
use private_chat_tests::team::Team;
use serde_json::{Value, json};

use crate::chats::saying;
use crate::events::{ENDS, at_home, names};

crate::on_every_store!(
    an_edited_message_is_a_sibling_of_what_it_was,
    a_reply_that_is_given_again_is_a_sibling_of_the_first,
    pages_go_over_all_branches_both_ways,
    only_what_can_be_edited_is,
);

fn at(chat: &str, message: &Value) -> String {
    format!("{chat}/message/{}", text(&message["id"]))
}

async fn edit(caller: &Caller, chat: &str, message: &Value, content: &str) -> (Value, Value) {
    let edited = caller.patch(&at(chat, message)).json(json!({"content": content})).await.ok(201);
    (edited["message"].clone(), edited["reply"].clone())
}

async fn regenerate(caller: &Caller, chat: &str, reply: &Value) -> (Value, Value) {
    let again = caller.post(&format!("{}/regenerate", at(chat, reply))).await.ok(201);
    (again["message"].clone(), again["reply"].clone())
}

/// All messages of a chat, oldest first.
async fn all(caller: &Caller, chat: &str) -> Vec<Value> {
    let page = caller.get(&format!("{chat}/messages?order=asc&limit=100")).await.ok(200);
    page["items"].as_array().unwrap().clone()
}

async fn an_edited_message_is_a_sibling_of_what_it_was(app: App) {
    let (ann, _, chat) = at_home(&app).await;
    let (first, first_reply) = ann.say(&chat, "1").await;
    let (second, second_reply) = ann.say(&chat, "2").await;
    // The first message of a chat has no parent, and so has what it becomes: another beginning.
    let (root, root_reply) = edit(&ann, &chat, &first, "another 1").await;
    assert_eq!(
        (&root["parent_id"], &root["content"], &root["role"]),
        (&Value::Null, &json!("another 1"), &json!("user"))
    );
    assert_eq!((&root_reply["parent_id"], &root_reply["status"]), (&root["id"], &json!("complete")));
    assert_ne!(root["id"], first["id"]);
    let (beside, beside_reply) = edit(&ann, &chat, &second, "another 2").await;
    assert_eq!((&beside["parent_id"], &beside["author"]["id"]), (&first_reply["id"], &json!(ann.id)));
    assert_eq!(beside_reply["parent_id"], beside["id"]);
    // What was edited may be edited again, as it was and as it became.
    let (thrice, thrice_reply) = edit(&ann, &chat, &beside, "2 once more").await;
    assert_eq!(thrice["parent_id"], first_reply["id"]);
    // All of them stay as they were.
    let expected = [
        &first,
        &first_reply,
        &second,
        &second_reply,
        &root,
        &root_reply,
        &beside,
        &beside_reply,
        &thrice,
        &thrice_reply,
    ];
    assert_eq!(all(&ann, &chat).await.iter().collect::<Vec<_>>(), expected);
    assert_eq!(ann.get(&chat).await.ok(200)["message_count"], 10);
    // And the next message follows the last one.
    assert_eq!(ann.say(&chat, "3").await.0["parent_id"], thrice_reply["id"]);
}

async fn a_reply_that_is_given_again_is_a_sibling_of_the_first(app: App) {
    let (ann, _, chat) = at_home(&app).await;
    let (first, first_reply) = ann.say(&chat, "1").await;
    let (second, second_reply) = ann.say(&chat, "2").await;
    let (message, again) = regenerate(&ann, &chat, &first_reply).await;
    assert_eq!((&message, &again["parent_id"], &again["status"]), (&first, &first["id"], &json!("complete")));
    assert_ne!(again["id"], first_reply["id"]);
    // Also of a reply that was given again.
    let (_, third) = regenerate(&ann, &chat, &again).await;
    assert_eq!(third["parent_id"], first["id"]);
    let expected = [&first, &first_reply, &second, &second_reply, &again, &third];
    assert_eq!(all(&ann, &chat).await.iter().collect::<Vec<_>>(), expected);
    // Without a body, with an empty one, and with one that says nothing.
    let path = format!("{}/regenerate", at(&chat, &second_reply));
    for call in [
        ann.post(&path),
        ann.post(&format!("{path}/")),
        ann.post(&path).header("content-type", "application/json"),
        ann.post(&path).json(json!({})),
        ann.post(&path).json(json!({"model": null, "parameters": null})),
        ann.post(&path).json(json!({"parameters": {}})),
    ] {
        assert_eq!(call.await.ok(201)["reply"]["parent_id"], second["id"]);
    }
}

// D3, R42
async fn only_what_can_be_edited_is(app: App) {
    let team = Team::on(app).await;
    let owner = team.owner.get(&format!("{}/messages?order=asc", team.chat)).await.ok(200);
    let (asked, reply) = (owner["items"][0].clone(), owner["items"][1].clone());
    let (mine, my_reply) = team.member.say(&team.chat, "Mine.").await;
    let elsewhere = team.owner.chat(&team.workspace).await;
    let (foreign, foreign_reply) = team.owner.say(&elsewhere, "Elsewhere.").await;
    let before = all(&team.owner, &team.chat).await;
    let change =
        |caller: &Caller, message: &Value| caller.patch(&at(&team.chat, message)).json(json!({"content": "x"}));
    let again = |caller: &Caller, message: &Value| caller.post(&format!("{}/regenerate", at(&team.chat, message)));
    // One's own message alone, also for an OWNER, and no reply.
    change(&team.owner, &mine).await.problem(403, "forbidden");
    change(&team.member, &asked).await.problem(403, "forbidden");
    change(&team.guest, &mine).await.problem(403, "forbidden");
    for caller in [&team.owner, &team.member] {
        change(caller, &reply).await.problem(403, "forbidden");
        change(caller, &my_reply).await.problem(403, "forbidden");
        again(caller, &asked).await.problem(409, "not_a_reply");
        again(caller, &mine).await.problem(409, "not_a_reply");
    }
    again(&team.guest, &reply).await.problem(403, "forbidden");
    let unknown = json!({"id": team.workspace});
    for message in [&foreign, &foreign_reply, &unknown, &json!({"id": "none"})] {
        change(&team.owner, message).await.problem(404, "not_found");
        again(&team.owner, message).await.problem(404, "not_found");
    }
    // R44, R65
    let wrong = async |body: Value| team.member.patch(&at(&team.chat, &mine)).json(body).await.wrong_fields();
    assert_eq!(wrong(json!({})).await, ["content"]);
    for bad in [json!(" "), Value::Null, json!(7), json!("x".repeat((64 << 10) + 1))] {
        assert_eq!(wrong(json!({"content": bad})).await, ["content"]);
    }
    for unknown in ["parent_id", "model", "parameters", "attachments", "id", "role", "status", "author"] {
        assert_eq!(wrong(json!({"content": "x", unknown: null})).await, [unknown]);
    }
    let path = format!("{}/regenerate", at(&team.chat, &reply));
    let wrong = async |body: Value| team.member.post(&path).json(body).await.wrong_fields();
    assert_eq!(wrong(json!({"model": "none"})).await, ["model"]);
    assert_eq!(wrong(json!({"parameters": {"temperature": 3, "api_base": "x"}})).await.len(), 2);
    assert_eq!(wrong(json!({"parameters": {"stop": [""]}})).await.len(), 1);
    for unknown in ["content", "parent_id", "attachments", "reply_id"] {
        assert_eq!(wrong(json!({unknown: null})).await, [unknown]);
    }
    team.member.post(&path).header("content-type", "application/json").body("{").await.problem(400, "malformed");
    team.member
        .post(&path)
        .header("content-type", "text/plain")
        .body("{}")
        .await
        .problem(415, "unsupported_media_type");
    assert_eq!(all(&team.owner, &team.chat).await, before, "nothing of that was done");
    // Any member has any reply given again.
    again(&team.member, &reply).await.ok(201);
}

async fn pages_go_over_all_branches_both_ways(app: App) {
    let (ann, _, chat) = at_home(&app).await;
    let (first, _) = ann.say(&chat, "1").await;
    for n in 0..12 {
        let (_, reply) = edit(&ann, &chat, &first, &format!("1, {n}")).await;
        regenerate(&ann, &chat, &reply).await;
        ann.say(&chat, &format!("2, {n}")).await;
    }
    let all = all(&ann, &chat).await;
    assert_eq!(all.len(), 62);
    let ids: Vec<_> = all.iter().map(|message| text(&message["id"])).collect();
    for (order, limit) in [("asc", 7), ("desc", 7), ("asc", 1), ("desc", 31)] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = ann.get(&format!("{chat}/messages?order={order}&limit={limit}{cursor}")).await.ok(200);
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|message| text(&message["id"])));
            match page["next_cursor"].as_str() {
                Some(next) => {
                    assert_eq!(items.len(), limit, "only the last page is short");
                    cursor = format!("&cursor={next}");
                }
                None => break,
            }
        }
        if order == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, ids, "{order} {limit}");
    }
    // With the chat come its newest, and the cursor to the others.
    let read = ann.get(&chat).await.ok(200);
    assert_eq!(read["messages"], json!(all[12..]));
    let older = ann.get(&format!("{chat}/messages?cursor={}", text(&read["messages_cursor"]))).await.ok(200);
    let mut rest = all[..12].to_vec();
    rest.reverse();
    assert_eq!((&older["items"], &older["next_cursor"]), (&json!(rest), &Value::Null));
}

// The prompt is the branch alone.
#[tokio::test]
async fn the_model_is_told_the_branch_and_how_to_answer() {
    let yes = || Arc::new(ScriptedInference::new(Script::new().content("Yes.").finish("stop")));
    let (one, two) = (yes(), yes());
    let provider = |inference: &Arc<ScriptedInference>| Provider {
        inference: inference.clone(),
        models: Vec::new(),
        context_length: None,
        vision: false,
        writes_titles: false,
    };
    let providers = BTreeMap::from([("one".to_owned(), provider(&one)), ("two".to_owned(), provider(&two))]);
    let app = App::on(Ports { inference: Arc::new(providers), ..ports() }).await;
    let (ann, _, chat) = at_home(&app).await;
    let (first, reply) = ann.say(&chat, "First").await;
    assert_eq!(reply["model"], "one/parrot");
    ann.say(&chat, "Second").await;
    edit(&ann, &chat, &first, "Edited").await;
    let told = |model: &ScriptedInference| -> Vec<String> {
        model.completions().pop().unwrap().messages.into_iter().map(|message| message.content).collect()
    };
    assert_eq!(told(&one), ["Edited"]);
    let body = json!({"model": "two/parrot", "parameters": {"temperature": 0.25, "stop": ["."]}});
    let again = ann.post(&format!("{}/regenerate", at(&chat, &reply))).json(body).await.ok(201);
    assert_eq!((&again["reply"]["model"], &again["reply"]["provider"]), (&json!("two/parrot"), &json!("two")));
    assert_eq!((told(&two), one.completions().len()), (vec!["First".to_owned()], 3));
    let parameters = two.completions().pop().unwrap().parameters;
    assert_eq!((parameters.temperature, parameters.stop), (Some(0.25), vec![".".to_owned()]));
    // Without a model it is the chat's.
    ann.patch(&chat).json(json!({"model": "two/parrot"})).await.ok(200);
    assert_eq!(regenerate(&ann, &chat, &reply).await.1["model"], "two/parrot");
}

// R81
#[tokio::test]
async fn edits_and_new_replies_stream_as_a_send_does() {
    let (app, _) = saying([Script::new().content("Hel").content("lo.").finish("stop")]).await;
    let (ann, _, chat) = at_home(&app).await;
    let (message, reply) = ann.say(&chat, "Hi.").await;
    let body = json!({"content": "Ho."});
    let edited = ann.patch(&at(&chat, &message)).json(body).events().await.rest().await;
    let again = ann.post(&format!("{}/regenerate", at(&chat, &reply))).events().await.rest().await;
    for (events, begun) in [(&edited, 1), (&again, 0)] {
        let created = names(events).iter().filter(|name| **name == "message.created").count();
        assert_eq!(created, begun + 1, "{:?}", names(events));
        assert!(events[..=begun].iter().all(|event| event.name == "message.created"));
        let new = &events[begun].data["message"];
        assert_eq!((&new["status"], &new["role"]), (&json!("streaming"), &json!("assistant")));
        let ends = names(events).iter().filter(|name| ENDS.contains(name)).count();
        let last = events.last().unwrap();
        assert_eq!((ends, last.name.as_str(), &last.data["message"]["id"]), (1, "message.completed", &new["id"]));
        assert_eq!(shown(events, &text(&new["id"])), "Hello.");
        let ids: Vec<_> = events.iter().filter_map(|event| event.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b) && ids.len() >= 2, "{ids:?}");
    }
    assert_eq!(edited[0].data["message"]["content"], "Ho.");
    assert_eq!(again[0].data["message"]["parent_id"], message["id"]);
    // What is refused is no stream.
    let refused = ann.post(&format!("{}/regenerate", at(&chat, &message))).header("accept", "text/event-stream");
    refused.await.problem(409, "not_a_reply");
    let refused = ann.patch(&at(&chat, &reply)).header("accept", "text/event-stream").json(json!({"content": "x"}));
    refused.await.problem(403, "forbidden");
}
