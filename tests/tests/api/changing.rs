//! The settings of a chat, who sees it when they change, and chats that are deleted.

use futures_util::future::join;
use private_chat_adapters::memory::Script;
use private_chat_core::model::workspace::Role;
use private_chat_tests::client::{App, Call, Caller, Events, patiently, text};
use private_chat_tests::team::Team;
use serde_json::{Value, json};

use crate::chats::saying;
use crate::events::{ENDS, at_home, ended, hello, names, say};

crate::on_every_store!(
    each_setting_is_changed_alone_and_cleared,
    a_chat_that_is_put_away_is_in_another_list,
    a_chat_is_changed_and_deleted_by_whoever_made_it_and_by_owners,
    a_chat_made_private_is_gone_for_the_others_until_it_is_shown_again,
    a_deleted_chat_is_gone_for_everybody,
);

/// A chat of this member that the whole workspace sees.
async fn a_chat_of(team: &Team, member: &Caller, title: &str) -> String {
    let made = member.post(&team.at("/chat")).json(json!({"title": title})).await.ok(201);
    team.at(&format!("/chat/{}", text(&made["id"])))
}

/// The ids of the chats that a list shows.
async fn listed(caller: &Caller, path: &str) -> Vec<String> {
    let page = caller.get(path).await.ok(200);
    page["items"].as_array().unwrap().iter().map(|chat| text(&chat["id"])).collect()
}

fn id_of(chat: &str) -> String {
    chat.rsplit('/').next().unwrap().to_owned()
}

async fn each_setting_is_changed_alone_and_cleared(app: App) {
    let (ann, home, _) = at_home(&app).await;
    let made = ann.post(&format!("/workspaces/{home}/chat")).json(json!({"title": "First"})).await.ok(201);
    let path = format!("/workspaces/{home}/chat/{}", text(&made["id"]));
    let change = async |body: Value| ann.patch(&path).json(body).await.ok(200);
    // Nothing given is nothing changed, and so is what it is already.
    for nothing in [json!({}), json!({"title": "First"}), json!({"model": null, "archived": false})] {
        assert_eq!(change(nothing).await, made);
    }
    let mut expected = made.clone();
    for (field, value) in [
        ("title", json!("Second")),
        ("visibility", json!("private")),
        ("visibility", json!("workspace")),
        ("model", json!("scripted/parrot")),
        ("system_prompt", json!("Be kind.")),
        ("archived", json!(true)),
        ("archived", json!(false)),
        ("title", Value::Null),
        ("model", Value::Null),
        ("system_prompt", Value::Null),
    ] {
        let changed = change(json!({field: value})).await;
        assert!(text(&changed["updated_at"]) > text(&expected["updated_at"]), "{field}");
        expected[field] = value;
        expected["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, expected, "{field}");
        let read = ann.get(&path).await.ok(200);
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(read[field], *value, "{field}");
        }
    }
    let all = json!({
        "title": "All", "visibility": "private", "model": "scripted/parrot", "system_prompt": "Be brief.", "archived": true,
    });
    let changed = change(all.clone()).await;
    for (field, value) in all.as_object().unwrap() {
        assert_eq!(changed[field], *value, "{field}");
    }
}

// R44, R65
#[tokio::test]
async fn a_change_is_checked_field_by_field() {
    let team = Team::new().await;
    let before = team.owner.get(&team.chat).await.ok(200);
    let wrong = async |body: Value| team.owner.patch(&team.chat).json(body).await.wrong_fields();
    for (field, bad) in [
        ("title", json!("")),
        ("title", json!(" \t")),
        ("title", json!("x".repeat(201))),
        ("title", json!(7)),
        ("visibility", Value::Null),
        ("visibility", json!("public")),
        ("visibility", json!("PRIVATE")),
        ("archived", Value::Null),
        ("archived", json!("true")),
        ("archived", json!(1)),
        ("model", json!("none")),
        ("model", json!("other/parrot")),
        ("model", json!(["scripted/parrot"])),
        ("system_prompt", json!("x".repeat((32 << 10) + 1))),
        ("system_prompt", json!(false)),
    ] {
        assert_eq!(wrong(json!({field: bad})).await, [field], "{bad}");
        // One wrong field keeps the others from being changed.
        assert!(wrong(json!({"archived": true, field: bad})).await.contains(&field.to_owned()), "{bad}");
    }
    for unknown in [
        "id",
        "workspace_id",
        "created_by",
        "message_count",
        "last_message_at",
        "created_at",
        "updated_at",
        "version",
        "Title",
        "messages",
        "parent_id",
    ] {
        assert_eq!(wrong(json!({unknown: null})).await, [unknown]);
    }
    let many = json!({"title": "", "model": "none", "system_prompt": "x".repeat(33 << 10)});
    let mut fields = wrong(many).await;
    fields.sort();
    assert_eq!(fields, ["model", "system_prompt", "title"]);
    for (body, status, code) in [("{", 400, "malformed"), ("", 400, "malformed")] {
        let call = team.owner.patch(&team.chat).header("content-type", "application/json").body(body);
        call.await.problem(status, code);
    }
    team.owner
        .patch(&team.chat)
        .header("content-type", "text/plain")
        .body("{}")
        .await
        .problem(415, "unsupported_media_type");
    assert_eq!(team.owner.get(&team.chat).await.ok(200), before);
}

#[tokio::test]
async fn the_settings_of_a_chat_are_those_of_its_next_reply() {
    let (app, parrot) = saying([Script::new().content("Yes.").finish("stop")]).await;
    let (ann, home, chat) = at_home(&app).await;
    let workspace = json!({"system_prompt": "Of the workspace."});
    ann.put(&format!("/workspaces/{home}")).json(workspace).await.ok(200);
    for (prompt, told) in [
        (json!({}), "Of the workspace."),
        (json!({"system_prompt": "Of the chat."}), "Of the chat."),
        (json!({"system_prompt": null}), "Of the workspace."),
    ] {
        ann.patch(&chat).json(prompt).await.ok(200);
        ann.say(&chat, "Well?").await;
        let asked = parrot.completions().pop().unwrap();
        assert!(asked.messages[0].content.starts_with(told), "{:?}", asked.messages);
    }
}

async fn a_chat_that_is_put_away_is_in_another_list(app: App) {
    let (ann, home, open) = at_home(&app).await;
    let away = ann.chat(&home).await;
    let history = format!("/workspaces/{home}/chats/history");
    let put = async |archived: bool| ann.patch(&away).json(json!({"archived": archived})).await.ok(200);
    assert_eq!(put(true).await["archived"], true);
    for (query, expected) in
        [("", &open), ("?archived=false", &open), ("?archived=true", &away), ("?archived=true&mine=true", &away)]
    {
        assert_eq!(listed(&ann, &format!("{history}{query}")).await, [id_of(expected)], "{query}");
    }
    // It can be read and written in as before, and stays where it is.
    ann.say(&away, "Hello?").await;
    assert_eq!(listed(&ann, &format!("{history}?archived=true")).await, [id_of(&away)]);
    put(false).await;
    assert_eq!(listed(&ann, &history).await, [id_of(&away), id_of(&open)]);
    assert!(listed(&ann, &format!("{history}?archived=true")).await.is_empty());
}

// D2, D3
async fn a_chat_is_changed_and_deleted_by_whoever_made_it_and_by_owners(app: App) {
    let team = Team::on(app).await;
    let title = || json!({"title": "New"});
    let chat = a_chat_of(&team, &team.member, "Old").await;
    for (caller, status, code) in [
        (&team.app.anybody(), 401, "unauthenticated"),
        (&team.outsider, 404, "not_found"),
        (&team.admin, 404, "not_found"),
        (&team.guest, 403, "forbidden"),
        (&team.somebody, 403, "forbidden"),
    ] {
        caller.patch(&chat).json(title()).await.problem(status, code);
        // They may not, whatever they send.
        caller.patch(&chat).header("content-type", "text/plain").body("{").await.problem(status, code);
        caller.delete(&chat).await.problem(status, code);
    }
    assert_eq!(team.owner.get(&chat).await.ok(200)["title"], "Old");
    team.member.patch(&chat).json(title()).await.ok(200);
    team.member.delete(&chat).await.ok(204);
    // An OWNER changes what is not theirs, and deletes it.
    let chat = a_chat_of(&team, &team.member, "Old").await;
    assert_eq!(team.owner.patch(&chat).json(title()).await.ok(200)["title"], "New");
    assert_eq!(team.member.get(&chat).await.ok(200)["created_by"]["id"], team.member.id.as_str());
    team.owner.delete(&chat).await.ok(204);
    // Who may only read by now, changes nothing any more, also of their own.
    let chat = a_chat_of(&team, &team.member, "Old").await;
    let path = team.at(&format!("/members/{}", team.member.id));
    team.owner.put(&path).json(json!({"role": "GUEST"})).await.ok(200);
    team.member.patch(&chat).json(title()).await.problem(403, "forbidden");
    team.member.delete(&chat).await.problem(403, "forbidden");
    assert_eq!(team.member.get(&chat).await.ok(200)["title"], "Old");
    // An OWNER hides a chat from themselves, too: it is its creator's.
    let theirs = a_chat_of(&team, &team.somebody, "Theirs").await;
    assert_eq!(team.owner.patch(&theirs).json(json!({"visibility": "private"})).await.ok(200)["visibility"], "private");
    team.owner.get(&theirs).await.problem(404, "not_found");
    team.owner.patch(&theirs).json(json!({"visibility": "workspace"})).await.problem(404, "not_found");
    team.somebody.get(&theirs).await.ok(200);
    // One whose creator is gone can be nobody's alone.
    let path = format!("/users/{}", team.member.id);
    team.admin.delete(&path).await.ok(204);
    assert_eq!(team.owner.get(&chat).await.ok(200)["created_by"], Value::Null);
    let hidden = team.owner.patch(&chat).json(json!({"title": "New", "visibility": "private"})).await;
    assert_eq!(hidden.wrong_fields(), ["visibility"]);
    assert_eq!(team.owner.get(&chat).await.ok(200)["title"], "Old");
    team.owner.patch(&chat).json(json!({"title": "New", "visibility": "workspace"})).await.ok(200);
    team.owner.delete(&chat).await.ok(204);
}

/// Every request that there is about a chat with this exchange.
fn every_request(caller: &Caller, chat: &str, (message, reply): &(Value, Value)) -> Vec<Call> {
    let at = |id: &Value| format!("{chat}/message/{}", text(id));
    vec![
        caller.get(chat),
        caller.patch(chat).json(json!({"visibility": "workspace"})),
        caller.delete(chat),
        caller.get(&format!("{chat}/messages")),
        caller.get(&format!("{chat}/events")),
        caller.post(&format!("{chat}/message")).json(json!({"content": "x"})),
        caller.patch(&at(&message["id"])).json(json!({"content": "x"})),
        caller.post(&format!("{}/regenerate", at(&reply["id"]))),
        caller.post(&format!("{}/stop", at(&reply["id"]))),
    ]
}

/// A feed whose opening was read, so that what happens now is told.
async fn follow(caller: &Caller, path: &str) -> Events {
    let mut feed = caller.get(path).events().await;
    assert_eq!(feed.next().await.unwrap().name, "");
    feed
}

// D2, R43: what may be seen is judged when it is delivered.
async fn a_chat_made_private_is_gone_for_the_others_until_it_is_shown_again(app: App) {
    let team = Team::on(app).await;
    let chat = a_chat_of(&team, &team.member, "Plan").await;
    let exchange = team.member.say(&chat, "Secret?").await;
    let others = [&team.owner, &team.guest, &team.somebody];
    let mut feeds = Vec::new();
    for other in others {
        feeds.push(follow(other, &team.at("/events")).await);
    }
    let mut own = follow(&team.member, &team.at("/events")).await;
    let mut of_chat = follow(&team.somebody, &format!("{chat}/events")).await;
    let mut own_of_chat = follow(&team.member, &format!("{chat}/events")).await;

    team.member.patch(&chat).json(json!({"visibility": "private"})).await.ok(200);
    for feed in feeds.iter_mut().chain([&mut of_chat]) {
        let gone = feed.next().await.unwrap();
        assert_eq!(gone.data, json!({"type": "chat.deleted", "chat_id": id_of(&chat)}));
    }
    assert!(of_chat.next().await.is_none(), "there is nothing more to follow");
    for feed in [&mut own, &mut own_of_chat] {
        let changed = feed.next().await.unwrap();
        assert_eq!((changed.name.as_str(), &changed.data["chat"]["visibility"]), ("chat.updated", &json!("private")));
    }
    for other in others.into_iter().chain([&team.outsider, &team.admin]) {
        for request in every_request(other, &chat, &exchange) {
            let answer = request.await;
            answer.problem(404, "not_found");
        }
    }
    for other in others {
        for query in ["", "?mine=true", "?archived=true", "?q=Plan", "?q=Secret"] {
            let seen = listed(other, &team.at(&format!("/chats/history{query}"))).await;
            assert!(!seen.contains(&id_of(&chat)), "{query}");
        }
    }
    assert!(listed(&team.member, &team.at("/chats/history")).await.contains(&id_of(&chat)));
    team.member.say(&chat, "Secret!").await;
    own.until("message.completed").await;
    team.member.patch(&chat).json(json!({"title": "Plan B"})).await.ok(200);

    // Nothing of that was for the others: the next thing they hear is that it is there again.
    team.member.patch(&chat).json(json!({"visibility": "workspace"})).await.ok(200);
    for feed in &mut feeds {
        let shown = feed.next().await.unwrap();
        assert_eq!(shown.name, "chat.created");
        assert_eq!(
            (&shown.data["chat"]["title"], &shown.data["chat"]["visibility"]),
            (&json!("Plan B"), &json!("workspace"))
        );
    }
    own.until("chat.updated").await;
    assert_eq!(own.until("chat.updated").await.data["chat"]["visibility"], "workspace");
    own_of_chat.until("message.completed").await;
    own_of_chat.until("chat.updated").await;
    assert_eq!(own_of_chat.until("chat.updated").await.data["chat"]["visibility"], "workspace");
    for other in others {
        assert!(listed(other, &team.at("/chats/history")).await.contains(&id_of(&chat)));
        assert_eq!(other.get(&chat).await.ok(200)["message_count"], 4);
    }
}

// R43: what was waited for is for those alone who still may read it.
#[tokio::test]
async fn whoever_waits_for_a_reply_in_a_chat_made_private_hears_no_more_of_it() {
    let (app, parrot) = saying([hello()]).await;
    let (owner, home, _) = at_home(&app).await;
    let (member, other) = (app.user(&owner, "Member").await, app.user(&owner, "Other").await);
    for user in [&member, &other] {
        app.join(&home, user, Role::Member).await;
    }
    let chat = member.chat(&home).await;
    let mut stream = say(&other, &chat, "Hi.").events().await;
    stream.until("message.delta").await;
    let second = member.chat(&home).await;
    let waiting = say(&other, &second, "Hi.").into_future();
    let hiding = async {
        patiently(parrot.waiting(2)).await;
        for chat in [&chat, &second] {
            member.patch(chat).json(json!({"visibility": "private"})).await.ok(200);
        }
        for _ in 0..2 {
            patiently(parrot.waiting(2)).await;
            parrot.release();
            parrot.release();
        }
    };
    let (waited, ()) = join(waiting, hiding).await;
    waited.problem(404, "not_found");
    let rest = stream.rest().await;
    assert_eq!(rest.last().unwrap().data, json!({"type": "chat.deleted", "chat_id": id_of(&chat)}));
    assert!(!names(&rest).iter().any(|name| ENDS.contains(name)), "{:?}", names(&rest));
    // The reply is its creator's to read.
    assert_eq!(ended(&member, &chat).await["content"], "Hello, wörld 😀!");
}

async fn a_deleted_chat_is_gone_for_everybody(app: App) {
    let team = Team::on(app).await;
    let chat = a_chat_of(&team, &team.member, "Gone").await;
    let exchange = team.member.say(&chat, "Going?").await;
    let everybody = [&team.owner, &team.member, &team.somebody, &team.guest];
    let (mut feeds, mut of_chat) = (Vec::new(), Vec::new());
    for caller in everybody {
        feeds.push(follow(caller, &team.at("/events")).await);
        of_chat.push(follow(caller, &format!("{chat}/events")).await);
    }
    let before = text(&team.member.get(&team.at("/chats/history")).await.ok(200)["items"][0]["id"]);
    assert_eq!(before, id_of(&chat));
    let mut events = team.member.get(&format!("{chat}/events")).events().await;
    let cursor = events.next().await.unwrap().id.unwrap();

    team.member.delete(&format!("{chat}/")).await.ok(204);
    for feed in feeds.iter_mut().chain(&mut of_chat) {
        assert_eq!(feed.next().await.unwrap().data, json!({"type": "chat.deleted", "chat_id": id_of(&chat)}));
    }
    for feed in of_chat.into_iter().chain([events]) {
        assert!(!names(&feed.rest().await).contains(&"chat.updated"));
    }
    for caller in everybody {
        for request in every_request(caller, &chat, &exchange) {
            request.await.problem(404, "not_found");
        }
        for query in ["", "?archived=true", "?mine=true", "?q=Gone", "?q=Going"] {
            let seen = listed(caller, &team.at(&format!("/chats/history{query}"))).await;
            assert!(!seen.contains(&id_of(&chat)), "{query}");
        }
        // The feeds of the workspace go on, and whoever comes back hears of it, too.
        let mut back = caller.get(&team.at(&format!("/events?after={cursor}"))).events().await;
        assert_eq!(back.next().await.unwrap().data["chat_id"], id_of(&chat));
    }
    team.owner.patch(&team.chat).json(json!({"title": "Here"})).await.ok(200);
    for feed in &mut feeds {
        assert_eq!(feed.next().await.unwrap().data["chat"]["title"], "Here");
    }
}

// R84
#[tokio::test]
async fn whoever_waits_for_a_reply_in_a_deleted_chat_is_told() {
    let (app, parrot) = saying([hello()]).await;
    let (owner, home, chat) = at_home(&app).await;
    let member = app.user(&owner, "Member").await;
    app.join(&home, &member, Role::Member).await;
    let mut stream = say(&member, &chat, "1").events().await;
    stream.until("message.delta").await;
    // Two that wait for their answer: one joins the reply that runs, the other's waits for it.
    let path = format!("{chat}/message");
    let keyed = || member.post(&path).header("idempotency-key", "k").json(json!({"content": "2"}));
    let deleting = async {
        let mut feed = owner.get(&format!("{chat}/events")).events().await;
        let mut running = 0;
        while running < 2 {
            let begun = feed.until("message.created").await;
            running += usize::from(begun.data["message"]["status"] == "streaming");
        }
        owner.delete(&chat).await.ok(204);
        feed.rest().await
    };
    let (waited, seen) = join(keyed().into_future(), deleting).await;
    let answer = waited.ok(201);
    assert_eq!((&answer["message"]["content"], &answer["reply"]["status"]), (&json!("2"), &json!("interrupted")));
    assert_eq!(answer["reply"]["error"]["code"], "deleted");
    let rest = stream.rest().await;
    let last = rest.last().unwrap();
    let over = |name: &str| ENDS.contains(&name) || name == "chat.deleted";
    assert_eq!(names(&rest).into_iter().filter(|name| over(name)).count(), 1, "{:?}", names(&rest));
    assert!(over(&last.name), "{last:?}");
    assert_eq!(seen.last().unwrap().name, "chat.deleted");
    // The model is not kept talking, and what was done under a key is not done again.
    patiently(parrot.abandoned(1)).await;
    keyed().await.problem(404, "not_found");
}
