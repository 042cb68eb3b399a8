//! Requests that are sent again under an `Idempotency-Key` (R73).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use private_chat_adapters::memory::{Script, TestClock};
use private_chat_core::port::Ports;
use private_chat_tests::client::{Answer, App, Call, Caller, Events, PASSWORD, patiently, ports, shown, text};
use private_chat_tests::document::{Document, Operation};
use private_chat_tests::team::Team;
use serde_json::{Value, json};

use crate::chats::saying;
use crate::sqlite::File;

crate::on_every_store!(
    a_request_that_is_sent_again_is_done_once,
    a_key_belongs_to_one_request_of_one_user,
    of_twenty_that_are_sent_at_once_one_is_done,
    what_is_gone_is_not_made_again,
);

/// The operations that honour the key.
const REPEATABLE: [&str; 7] = [
    "create_user",
    "create_workspace",
    "create_invitation",
    "create_chat",
    "send_message",
    "edit_message",
    "regenerate_reply",
];

fn repeatable() -> Vec<Operation<'static>> {
    let operations = Document::of_the_product().operations().into_iter();
    operations.filter(|operation| REPEATABLE.contains(&operation.id())).collect()
}

/// Whoever may use the operation.
fn caller<'a>(team: &'a Team, operation: Operation<'_>) -> &'a Caller {
    if operation.id() == "create_user" { &team.admin } else { &team.owner }
}

/// The request, without a body.
fn call(team: &Team, operation: Operation<'_>, key: &str) -> Call {
    caller(team, operation).call(operation.method, &team.path(operation)).header("idempotency-key", key)
}

/// The request, with the team's body.
fn ask(team: &Team, operation: Operation<'_>, key: &str) -> Call {
    call(team, operation, key).json(team.body(operation).unwrap())
}

/// How many things of the kind that an operation makes there are.
async fn count(team: &Team, operation: Operation<'_>) -> usize {
    let owner = &team.owner;
    let items = |page: Value| page["items"].as_array().unwrap().len();
    match operation.id() {
        "create_user" => items(team.admin.get("/users?limit=100").await.ok(200)),
        "create_workspace" => items(owner.get("/workspaces?limit=100").await.ok(200)),
        "create_invitation" => items(owner.get(&team.at("/invitations?limit=100")).await.ok(200)),
        "create_chat" => items(owner.get(&team.at("/chats/history?limit=100")).await.ok(200)),
        "send_message" | "edit_message" | "regenerate_reply" => {
            items(owner.get(&format!("{}/messages?limit=100", team.chat)).await.ok(200))
        }
        other => panic!("{other}: what does it make?"),
    }
}

#[test]
fn the_document_shows_where_the_key_is_honoured() {
    for operation in Document::of_the_product().operations() {
        let shown = operation.parameters("header").iter().any(|(name, _)| *name == "Idempotency-Key");
        assert_eq!(shown, REPEATABLE.contains(&operation.id()), "{}", operation.id());
    }
    assert_eq!(repeatable().len(), REPEATABLE.len());
}

async fn a_request_that_is_sent_again_is_done_once(app: App) {
    let team = Team::on(app).await;
    for operation in repeatable() {
        let before = count(&team, operation).await;
        let made = if ["send_message", "edit_message"].contains(&operation.id()) { 2 } else { 1 };
        let (body, key) = (team.body(operation).unwrap(), operation.id());
        let first = ask(&team, operation, key).await.ok(201);
        assert_eq!(count(&team, operation).await, before + made, "{}", operation.id());
        let fields = body.as_object().unwrap().iter().rev();
        let backwards: Vec<_> = fields.map(|(name, value)| format!("\n  \"{name}\" :\t{value}")).collect();
        let again = [
            ask(&team, operation, key).await,
            // What it says counts, not how it is written, nor with how many slashes it is sent.
            call(&team, operation, key)
                .header("content-type", "application/json; charset=utf-8")
                .body(format!(" {{ {} }}\n", backwards.join(",")))
                .await,
            caller(&team, operation)
                .call(operation.method, &format!("{}/?x=y", team.path(operation).trim_end_matches('/')))
                .header("idempotency-key", key)
                .json(body.clone())
                .await,
            // Also on another device.
            team.app
                .sign_in(&caller(&team, operation).email)
                .await
                .call(operation.method, &team.path(operation))
                .header("idempotency-key", key)
                .json(body.clone())
                .await,
        ];
        for answer in again {
            assert_eq!(answer.ok(201), first, "{}", operation.id());
        }
        assert_eq!(count(&team, operation).await, before + made, "{}", operation.id());
        // Another key is another request, and so is none.
        if ["create_workspace", "create_chat", "send_message"].contains(&operation.id()) {
            ask(&team, operation, &format!("another-{key}")).await.ok(201);
            caller(&team, operation).call(operation.method, &team.path(operation)).json(body).await.ok(201);
            assert_eq!(count(&team, operation).await, before + 3 * made, "{}", operation.id());
        }
    }
}

async fn a_key_belongs_to_one_request_of_one_user(app: App) {
    let team = Team::on(app).await;
    for operation in repeatable() {
        let key = operation.id();
        ask(&team, operation, key).await.ok(201);
        let mut other = team.body(operation).unwrap();
        let (field, value) = match operation.id() {
            "create_invitation" => ("role", json!("GUEST")),
            "create_chat" => ("title", json!("Other")),
            "send_message" | "edit_message" => ("content", json!("Other")),
            "regenerate_reply" => ("parameters", json!({"seed": 2})),
            _ => ("name", json!("Other")),
        };
        other[field] = value;
        let before = count(&team, operation).await;
        call(&team, operation, key).json(other).await.problem(422, "idempotency_key_reused");
        assert_eq!(count(&team, operation).await, before, "{}", operation.id());
    }
    // Under another path it is another request, whatever its body.
    let elsewhere = team.owner.workspace().await;
    let chat = team.owner.chat(&elsewhere).await;
    for (path, key, body) in [
        (format!("/workspaces/{elsewhere}/chat"), "create_chat", json!({})),
        (format!("{chat}/message"), "send_message", json!({"content": "New"})),
        ("/workspaces".to_owned(), "create_chat", json!({"name": "New"})),
    ] {
        let call = team.owner.post(&path).header("idempotency-key", key).json(body);
        call.await.problem(422, "idempotency_key_reused");
    }
    // It is one user's: the same key of somebody else is another one.
    let mut made = Vec::new();
    for caller in [&team.owner, &team.member, &team.somebody] {
        let chat = caller.post(&team.at("/chat")).header("idempotency-key", "shared").json(json!({})).await.ok(201);
        assert_eq!(chat["created_by"]["id"], caller.id.as_str());
        made.push(text(&chat["id"]));
    }
    made.dedup();
    assert_eq!(made.len(), 3);
    // Whoever may not, may not with a key either; and what may no longer be done is not answered.
    let guest = team.guest.post(&team.at("/chat")).header("idempotency-key", "shared").json(json!({}));
    guest.await.problem(403, "forbidden");
    team.owner.delete(&team.at(&format!("/members/{}", team.member.id))).await.ok(204);
    let removed = team.member.post(&team.at("/chat")).header("idempotency-key", "shared").json(json!({}));
    removed.await.problem(404, "not_found");
}

#[tokio::test]
async fn a_key_is_visible_ascii_and_comes_once() {
    let team = Team::new().await;
    for operation in repeatable() {
        let before = count(&team, operation).await;
        for bad in ["", " ", "a b", "a\tb", "é", &"k".repeat(256)] {
            for body in ["{}", "{", "{\"name\": 7}"] {
                let call = call(&team, operation, bad).header("content-type", "application/json").body(body);
                assert_eq!(call.await.wrong_fields(), ["Idempotency-Key"], "{} {bad:?} {body}", operation.id());
            }
        }
        let twice = call(&team, operation, "a").header("idempotency-key", "a").json(team.body(operation).unwrap());
        assert_eq!(twice.await.wrong_fields(), ["Idempotency-Key"], "{}", operation.id());
        assert_eq!(count(&team, operation).await, before);
        let longest = format!("{}!~{}", operation.id(), "k".repeat(253 - operation.id().len()));
        ask(&team, operation, &longest).await.ok(201);
    }
    // Where it is not honoured it says nothing.
    let member = team.at(&format!("/members/{}", team.somebody.id));
    for role in ["GUEST", "MEMBER"] {
        let call = team.owner.put(&member).header("idempotency-key", "a b").json(json!({"role": role}));
        assert_eq!(call.await.ok(200)["role"], role);
    }
}

// What was refused was not done: it may be tried again.
#[tokio::test]
async fn a_request_that_failed_leaves_its_key_free() {
    let team = Team::new().await;
    let user = |email: &str, name: &str| {
        let new = json!({"email": email, "name": name, "password": PASSWORD});
        team.admin.post("/users").header("idempotency-key", "k").json(new)
    };
    assert_eq!(user("x", " ").await.wrong_fields(), ["email", "name"]);
    user(&team.owner.email, "X").await.problem(409, "email_taken");
    let made = user("x@example.com", "X").await.ok(201);
    assert_eq!(user("x@example.com", "X").await.ok(201), made);
    user("y@example.com", "X").await.problem(422, "idempotency_key_reused");

    let invite = |email: &str| {
        let new = json!({"email": email, "role": "GUEST"});
        team.owner.post(&team.at("/invite")).header("idempotency-key", "k").json(new)
    };
    invite(&team.member.email).await.problem(409, "already_member");
    let made = invite("x@example.com").await.ok(201);
    // The token, which is shown once, is shown to whoever lost the answer.
    assert_eq!(invite("x@example.com").await.ok(201)["token"], made["token"]);
    let message =
        |body: Value| team.owner.post(&format!("{}/message", team.chat)).header("idempotency-key", "m").json(body);
    message(json!({"content": "x", "parent_id": team.workspace})).await.problem(404, "not_found");
    assert_eq!(message(json!({"content": "x", "model": "none"})).await.wrong_fields(), ["model"]);
    message(json!({"content": "x"})).await.ok(201);
}

async fn what_is_gone_is_not_made_again(app: App) {
    let team = Team::on(app).await;
    let user = json!({"email": "x@example.com", "name": "X", "password": PASSWORD});
    let user = || team.admin.post("/users").header("idempotency-key", "k").json(user.clone());
    let made = user().await.ok(201);
    let path = format!("/users/{}", text(&made["id"]));
    // It is shown as it is by now.
    let renamed = team.admin.put(&path).json(json!({"name": "Y"})).await.ok(200);
    assert_eq!(user().await.ok(201), renamed);
    team.admin.delete(&path).await.ok(204);
    user().await.problem(404, "not_found");

    let workspace = || team.owner.post("/workspaces").header("idempotency-key", "k1").json(json!({"name": "W"}));
    let made = workspace().await.ok(201);
    team.owner.delete(&format!("/workspaces/{}", text(&made["id"]))).await.ok(204);
    workspace().await.problem(404, "not_found");

    let invited = json!({"email": "y@example.com", "role": "GUEST"});
    let invite = || team.owner.post(&team.at("/invite")).header("idempotency-key", "k2").json(invited.clone());
    let made = invite().await.ok(201);
    team.owner.delete(&team.at(&format!("/invitations/{}", text(&made["id"])))).await.ok(204);
    invite().await.problem(404, "not_found");
    let used = || {
        let invited = json!({"email": team.outsider.email, "role": "GUEST"});
        team.owner.post(&team.at("/invite")).header("idempotency-key", "k3").json(invited)
    };
    let made = used().await.ok(201);
    team.outsider.post("/invitations/accept").json(json!({"token": made["token"]})).await.ok(200);
    used().await.problem(404, "not_found");
}

#[tokio::test]
async fn a_key_is_known_for_a_day() {
    let clock = Arc::new(TestClock::new());
    let app = App::on(Ports { clock: clock.clone(), ..ports() }).await;
    let ann = app.setup().await;
    let make = async |caller: &Caller, name: &str| -> Answer {
        caller.post("/workspaces").header("idempotency-key", "k").json(json!({"name": name})).await
    };
    let made = make(&ann, "First").await.ok(201);
    clock.advance(Duration::from_secs(86_400) - Duration::from_micros(1));
    let ann = app.sign_in(&ann.email).await;
    assert_eq!(make(&ann, "First").await.ok(201), made);
    make(&ann, "Second").await.problem(422, "idempotency_key_reused");
    clock.advance(Duration::from_micros(1));
    let other = make(&ann, "Second").await.ok(201);
    assert_ne!(other["id"], made["id"]);
    assert_eq!(make(&ann, "Second").await.ok(201), other);
    make(&ann, "First").await.problem(422, "idempotency_key_reused");
}

// F44
async fn of_twenty_that_are_sent_at_once_one_is_done(app: App) {
    let team = Team::on(app).await;
    race(&team, &[&team.app]).await;
}

// F34, F44
#[tokio::test]
async fn two_processes_do_once_what_is_sent_to_both() {
    let file = File::new();
    let (team, there) = (Team::on(file.app().await).await, file.app().await);
    race(&team, &[&team.app, &there]).await;
}

/// Sends each request twenty times at once, in turn to each of these applications.
async fn race(team: &Team, apps: &[&App]) {
    for operation in repeatable() {
        let before = count(team, operation).await;
        let token = caller(team, operation).access.as_deref().unwrap();
        let send = |n: usize, key: &str, body: Value| {
            let caller = apps[n % apps.len()].bearing(token);
            let key = format!("{key}-{}", operation.id());
            let call = caller.call(operation.method, &team.path(operation)).header("idempotency-key", &key);
            call.json(body).into_future()
        };
        let tries = (0..20).map(|n| send(n, "same", team.body(operation).unwrap()));
        let mut answers: Vec<_> = join_all(tries).await.iter().map(|answer| answer.ok(201)).collect();
        answers.dedup();
        assert_eq!(answers.len(), 1, "{}: {answers:?}", operation.id());
        let made = if ["send_message", "edit_message"].contains(&operation.id()) { 2 } else { 1 };
        assert_eq!(count(team, operation).await, before + made, "{}", operation.id());
        // Of twenty that differ one is done, and the others are told.
        let differing = (0..20).map(|n| {
            let mut body = team.body(operation).unwrap();
            match operation.id() {
                "create_user" | "create_invitation" => body["email"] = json!(format!("torn{n}@example.com")),
                "create_chat" => body["title"] = json!(format!("{n}")),
                "send_message" | "edit_message" => body["content"] = json!(format!("{n}")),
                "regenerate_reply" => body["parameters"]["seed"] = json!(n + 2),
                _ => body["name"] = json!(format!("{n}")),
            }
            send(n, "torn", body)
        });
        let (done, told): (Vec<_>, Vec<_>) =
            join_all(differing).await.into_iter().partition(|answer| answer.status == 201);
        assert_eq!((done.len(), told.len()), (1, 19), "{}", operation.id());
        for answer in told {
            answer.problem(422, "idempotency_key_reused");
        }
        assert_eq!(count(team, operation).await, before + 2 * made, "{}", operation.id());
    }
}

fn slowly() -> Script {
    Script::new().content("Hel").pause().content("lo, wörld 😀").pause().content("!").finish("stop")
}

/// The ids of the messages that a stream begins with: of the one that is new, where one is, and of the reply.
async fn beginning(stream: &mut Events, messages: usize) -> Vec<Value> {
    let mut ids = Vec::new();
    for _ in 0..messages {
        ids.push(stream.until("message.created").await.data["message"]["id"].clone());
    }
    ids
}

/// The request without a body is one of its own, whose key answers for it alone.
#[tokio::test]
async fn a_body_that_may_be_left_out_needs_no_key_of_another_kind() {
    let team = Team::new().await;
    let path = format!("{}/message/{}/regenerate", team.chat, team.reply);
    let again = |key: &str| team.owner.post(&path).header("idempotency-key", key);
    let first = again("bare").await.ok(201);
    assert_eq!(again("bare").await.ok(201), first);
    assert_eq!(again("bare").header("content-type", "application/json").await.ok(201), first);
    again("bare").json(json!({"parameters": {"seed": 1}})).await.problem(422, "idempotency_key_reused");
    let told = again("told").json(json!({"parameters": {"seed": 1}})).await.ok(201);
    assert_ne!(told["reply"]["id"], first["reply"]["id"]);
    assert_eq!(again("told").json(json!({"parameters": {"seed": 1}})).await.ok(201), told);
    again("told").await.problem(422, "idempotency_key_reused");
    assert_eq!(team.owner.get(&team.chat).await.ok(200)["message_count"], 4);
}

/// What begins a reply, sent to a chat with one exchange.
fn beginnings(chat: &str, (message, reply): &(Value, Value)) -> [(&'static str, String, Value); 3] {
    let at = |id: &Value| format!("{chat}/message/{}", text(id));
    [
        ("POST", format!("{chat}/message"), json!({"content": "Hi."})),
        ("PATCH", at(&message["id"]), json!({"content": "Hi."})),
        ("POST", format!("{}/regenerate", at(&reply["id"])), json!({"parameters": {"seed": 1}})),
    ]
}

// F44
#[tokio::test]
async fn what_begins_a_reply_joins_it_when_it_is_sent_again() {
    for (which, streamed_first) in (0..3).flat_map(|which| [(which, true), (which, false)]) {
        let (app, parrot) = saying([Script::new().content("First.").finish("stop"), slowly()]).await;
        let ann = app.setup().await;
        let chat = ann.chat(&ann.workspace().await).await;
        let exchanged = ann.say(&chat, "First?").await;
        let (method, path, body) = beginnings(&chat, &exchanged).into_iter().nth(which).unwrap();
        let regenerates = path.ends_with("/regenerate");
        let send = || ann.call(method, &path).header("idempotency-key", "k").json(body.clone());
        // The first one, as a stream or not; then both ways again while its reply runs.
        let mut first = if streamed_first { Some(send().events().await) } else { None };
        let joining = async {
            patiently(parrot.waiting(1)).await;
            let mut stream = send().events().await;
            let ids = beginning(&mut stream, if regenerates { 1 } else { 2 }).await;
            let mut seen = vec![stream.until("message.delta").await];
            for _ in 0..2 {
                patiently(parrot.waiting(1)).await;
                parrot.release();
            }
            seen.extend(stream.rest().await);
            (ids, seen)
        };
        let waiting = send().into_future();
        let ((ids, seen), waited) = join(joining, waiting).await;
        let exchange = waited.ok(201);
        let made = [exchange["message"]["id"].clone(), exchange["reply"]["id"].clone()];
        assert_eq!(ids, if regenerates { &made[1..] } else { &made[..] });
        assert_eq!(
            (&exchange["reply"]["status"], &exchange["reply"]["content"]),
            (&json!("complete"), &json!("Hello, wörld 😀!"))
        );
        assert_eq!(shown(&seen, &text(&made[1])), "Hello, wörld 😀!");
        let last = seen.last().unwrap();
        assert_eq!((last.name.as_str(), &last.data["message"]), ("message.completed", &exchange["reply"]));
        if let Some(first) = &mut first {
            assert_eq!(beginning(first, ids.len()).await, ids);
            assert_eq!(first.until("message.completed").await.data["message"], exchange["reply"]);
        }

        // And once it has ended.
        assert_eq!(send().await.ok(201), exchange);
        let again = send().events().await.rest().await;
        let ends: Vec<_> = again.iter().filter(|event| event.name == "message.completed").collect();
        assert_eq!((again[0].name.as_str(), &again[0].data["message"]["id"]), ("message.created", &ids[0]));
        assert_eq!((ends.len(), &ends[0].data["message"]), (1, &exchange["reply"]));
        assert_eq!(again.last().unwrap().name, "message.completed");
        assert_eq!(parrot.completions().len(), 2, "the model was asked once");
        assert_eq!(ann.get(&chat).await.ok(200)["message_count"], if regenerates { 3 } else { 4 });
    }
}
