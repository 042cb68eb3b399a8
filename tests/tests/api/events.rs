//! The streams: of a reply, of a chat, of a workspace.

use std::time::Duration;

use futures_util::future::join;
use private_chat_adapters::memory::Script;
use private_chat_core::model::chat::ReplyFault;
use private_chat_core::model::workspace::Role;
use private_chat_core::port::inference::InferenceFailure;
use private_chat_core::port::store::Over;
use private_chat_tests::client::{App, Caller, Event, patiently, shown, text};
use serde_json::{Value, json};

use crate::chats::saying;
use crate::sqlite::File;

crate::on_every_store!(
    a_reply_streams_from_its_beginning_to_its_end,
    whoever_comes_back_gets_what_was_missed,
    a_cursor_from_before_the_kept_log_is_refused,
);

/// The events that end a reply.
pub(crate) const ENDS: [&str; 4] = ["message.completed", "message.stopped", "message.failed", "message.interrupted"];

pub(crate) fn hello() -> Script {
    Script::new().content("Hel").pause().content("lo, wörld 😀").pause().content("!").finish("stop")
}

/// Somebody with a chat.
pub(crate) async fn at_home(app: &App) -> (Caller, String, String) {
    let admin = app.setup().await;
    let home = admin.workspace().await;
    let chat = admin.chat(&home).await;
    (admin, home, chat)
}

pub(crate) fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

pub(crate) fn say(caller: &Caller, chat: &str, content: &str) -> private_chat_tests::client::Call {
    caller.post(&format!("{chat}/message")).json(json!({"content": content}))
}

/// Reads a chat's last message until its reply has ended.
pub(crate) async fn ended(caller: &Caller, chat: &str) -> Value {
    let look = async {
        loop {
            let page = caller.get(&format!("{chat}/messages?limit=1")).await.ok(200);
            if page["items"][0]["status"] != "streaming" {
                return page["items"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(look).await
}

// R81
async fn a_reply_streams_from_its_beginning_to_its_end(app: App) {
    let (ann, _, chat) = at_home(&app).await;
    let events = say(&ann, &chat, "Hi.").events().await;
    assert_eq!(events.headers.get("x-accel-buffering").unwrap(), "no");
    assert!(events.headers.get("content-encoding").is_none() && events.headers.get("content-length").is_none());
    let all = events.rest().await;
    let (first, last) = (&all[0], all.last().unwrap());
    assert_eq!(names(&all)[..2], ["message.created", "message.created"]);
    assert_eq!((&first.data["message"]["content"], &first.data["message"]["role"]), (&json!("Hi."), &json!("user")));
    let reply = &all[1].data["message"];
    assert_eq!((&reply["status"], &reply["content"]), (&json!("streaming"), &json!("")));
    assert_eq!(reply["parent_id"], first.data["message"]["id"]);
    let ends = names(&all).iter().filter(|name| ENDS.contains(name)).count();
    assert_eq!((ends, last.name.as_str()), (1, "message.completed"));
    assert!(all[2..all.len() - 1].iter().all(|event| event.name == "message.delta" && event.id.is_none()));
    assert_eq!(shown(&all, &text(&reply["id"])), "Hello, world.");
    assert_eq!(last.data["message"]["content"], "Hello, world.");
    let ids: Vec<_> = all.iter().filter_map(|event| event.id).collect();
    assert!(ids.len() >= 3 && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let stored = ann.get(&format!("{chat}/messages")).await.ok(200);
    assert_eq!(stored["items"], json!([last.data["message"], first.data["message"]]));
}

#[tokio::test]
async fn every_end_is_told_once_and_closes_the_stream() {
    let refused = InferenceFailure::failed(ReplyFault::ProviderUnreachable, "the provider can't be reached");
    let lost = InferenceFailure::cut_off(ReplyFault::ConnectionLost, "the connection was lost");
    let (app, _) = saying([
        Script::refusing(refused),
        Script::new().reasoning("Hm, ").reasoning("hm.").content("Hel").fail(lost),
        Script::new().finish("stop"),
    ])
    .await;
    let (ann, _, chat) = at_home(&app).await;
    for (end, status) in
        [("message.failed", "failed"), ("message.interrupted", "interrupted"), ("message.completed", "complete")]
    {
        let all = say(&ann, &chat, "Hi.").events().await.rest().await;
        let last = all.last().unwrap();
        assert_eq!((last.name.as_str(), &last.data["message"]["status"]), (end, &json!(status)));
        assert_eq!(names(&all).iter().filter(|name| ENDS.contains(name)).count(), 1);
        let thoughts: String = all.iter().filter_map(|event| event.data["reasoning"].as_str()).collect();
        assert_eq!(thoughts, last.data["message"]["reasoning"].as_str().unwrap_or_default());
        assert_eq!(*last, Event { data: json!({"type": end, "message": ended(&ann, &chat).await}), ..last.clone() });
    }
}

// What is refused before the stream begins is a problem, and no stream.
#[tokio::test]
async fn a_send_that_is_refused_is_no_stream() {
    let app = App::start().await;
    let (ann, _, chat) = at_home(&app).await;
    let refused = say(&ann, &chat, " ").header("accept", "text/event-stream").await;
    assert_eq!(refused.wrong_fields(), ["content"]);
    let anybody = say(&app.anybody(), &chat, "Hi.").header("accept", "text/event-stream").await;
    anybody.problem(401, "unauthenticated");
    for (accept, streams) in [
        ("text/event-stream", true),
        ("application/json, Text/Event-Stream;q=0.5", true),
        ("application/json", false),
        ("*/*", false),
        ("text/event-stream;q=0", false),
    ] {
        let answer = say(&ann, &chat, "Hi.").header("accept", accept).await;
        assert_eq!(answer.status, if streams { 200 } else { 201 }, "{accept}");
    }
}

// F30, D4
#[tokio::test]
async fn a_reply_goes_on_without_whoever_asked_for_it() {
    let (app, parrot) = saying([hello()]).await;
    let (ann, _, chat) = at_home(&app).await;
    let mut events = say(&ann, &chat, "Hi.").events().await;
    events.until("message.delta").await;
    drop(events);
    // Also one that never reads its answer.
    patiently(parrot.waiting(1)).await;
    parrot.release();
    patiently(parrot.waiting(1)).await;
    parrot.release();
    let reply = ended(&ann, &chat).await;
    assert_eq!((&reply["status"], &reply["content"]), (&json!("complete"), &json!("Hello, wörld 😀!")));
    assert_eq!((parrot.ended(), parrot.dropped()), (1, 0));
}

// F30: the answer is not even read.
#[tokio::test]
async fn a_client_that_hangs_up_at_once_stops_nothing() {
    let (app, parrot) = saying([hello()]).await;
    let (ann, _, chat) = at_home(&app).await;
    let body = json!({"content": "Hi."}).to_string();
    let head = format!(
        "POST {chat}/message HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        ann.access.as_deref().unwrap(),
        body.len(),
    );
    let mut socket = tokio::net::TcpStream::connect(app.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.unwrap();
    patiently(parrot.waiting(1)).await;
    drop(socket);
    parrot.release();
    patiently(parrot.waiting(1)).await;
    parrot.release();
    assert_eq!(ended(&ann, &chat).await["content"], "Hello, wörld 😀!");
}

#[tokio::test]
async fn a_running_reply_can_be_stopped_by_those_who_may() {
    let (app, parrot) = saying([hello()]).await;
    let (owner, home, chat) = at_home(&app).await;
    let [asker, other, guest] =
        [app.user(&owner, "Asker").await, app.user(&owner, "Other").await, app.user(&owner, "Guest").await];
    for (user, role) in [(&asker, Role::Member), (&other, Role::Member), (&guest, Role::Guest)] {
        app.join(&home, user, role).await;
    }
    for (n, stopper) in [&asker, &owner].into_iter().enumerate() {
        let mut events = say(&asker, &chat, "Hi.").events().await;
        events.until("message.created").await;
        let reply = events.until("message.created").await.data["message"]["id"].clone();
        events.until("message.delta").await;
        let stop = format!("{chat}/message/{}/stop", text(&reply));
        other.post(&stop).await.problem(403, "forbidden");
        guest.post(&stop).await.problem(403, "forbidden");
        // An empty POST needs no type.
        let stopped = stopper.post(&format!("{stop}/")).await.ok(200);
        assert_eq!((&stopped["status"], &stopped["content"]), (&json!("stopped"), &json!("Hel")));
        let end = events.rest().await.pop().unwrap();
        assert_eq!((end.name.as_str(), &end.data["message"]), ("message.stopped", &stopped));
        patiently(parrot.abandoned(n + 1)).await;
        stopper.post(&stop).await.problem(409, "not_running");
    }
    let asked = owner.get(&format!("{chat}/messages?order=asc&limit=1")).await.ok(200)["items"][0]["id"].clone();
    owner.post(&format!("{chat}/message/{}/stop", text(&asked))).await.problem(409, "not_running");
}

#[tokio::test]
async fn everybody_in_the_chat_sees_the_same() {
    let (app, parrot) = saying([hello()]).await;
    let (owner, home, chat) = at_home(&app).await;
    let member = app.user(&owner, "Member").await;
    app.join(&home, &member, Role::Guest).await;
    let mut feed = member.get(&format!("/workspaces/{home}/events/")).events().await;
    let mut of_chat = member.get(&format!("{chat}/events")).events().await;
    for stream in [&mut feed, &mut of_chat] {
        let opening = stream.next().await.unwrap();
        assert_eq!((opening.name.as_str(), &opening.data), ("", &Value::Null));
        assert!(opening.id.is_some());
    }
    let mut own = say(&owner, &chat, "Hi.").events().await;
    for stream in [&mut feed, &mut of_chat, &mut own] {
        stream.until("message.delta").await;
    }
    // Somebody who comes later gets the text so far at once.
    let mut late = member.get(&format!("{chat}/events")).events().await;
    let opening = late.next().await.unwrap();
    assert!(opening.id.is_some() && opening.data.is_null());
    let running = late.next().await.unwrap();
    assert_eq!((running.id, &running.data["message"]["content"]), (None, &json!("")));
    let so_far = late.next().await.unwrap();
    assert_eq!((&so_far.data["offset"], &so_far.data["content"]), (&json!(0), &json!("Hel")));
    for _ in 0..2 {
        patiently(parrot.waiting(1)).await;
        parrot.release();
    }
    let mut last = Vec::new();
    for stream in [&mut feed, &mut of_chat, &mut own, &mut late] {
        last.push(stream.until("message.completed").await);
    }
    assert!(last.windows(2).all(|two| two[0] == two[1]), "{last:?}");
    assert!(own.next().await.is_none(), "a reply's own stream ends with it");

    // The workspace's feed has the other chats, a chat's has its own alone.
    let second = owner.chat(&home).await;
    owner.patch(&second).json(json!({"title": "Two"})).await.ok(200);
    owner.patch(&chat).json(json!({"title": "One"})).await.ok(200);
    let created = feed.next().await.unwrap();
    assert_eq!((created.name.as_str(), &created.data["chat"]["title"]), ("chat.created", &Value::Null));
    assert_eq!(feed.next().await.unwrap().data["chat"]["title"], "Two");
    assert_eq!(feed.next().await.unwrap().data["chat"]["title"], "One");
    let renamed = of_chat.until("chat.updated").await;
    assert_eq!(renamed.data["chat"]["title"], "One");
}

// D2: what may be seen is judged at the delivery.
#[tokio::test]
async fn a_private_chat_is_in_nobody_elses_feed() {
    let (app, _) = saying([Script::new().content("Secret.").finish("stop")]).await;
    let (owner, home, chat) = at_home(&app).await;
    let member = app.user(&owner, "Member").await;
    app.join(&home, &member, Role::Member).await;
    let mut feed = owner.get(&format!("/workspaces/{home}/events")).events().await;
    let mut own = member.get(&format!("/workspaces/{home}/events")).events().await;
    let private = json!({"visibility": "private", "title": "Secret"});
    let private = member.post(&format!("/workspaces/{home}/chat")).json(private).await.ok(201);
    let path = format!("/workspaces/{home}/chat/{}", text(&private["id"]));
    member.say(&path, "Secret?").await;
    owner.patch(&chat).json(json!({"title": "Open"})).await.ok(200);
    own.until("message.completed").await;
    loop {
        let next = feed.next().await.unwrap();
        assert!(!next.data.to_string().contains("Secret"), "{next:?}");
        if next.name == "chat.updated" {
            break;
        }
    }
}

async fn whoever_comes_back_gets_what_was_missed(app: App) {
    let (ann, home, chat) = at_home(&app).await;
    let all = say(&ann, &chat, "1").events().await.rest().await;
    let first = all[0].id.unwrap();
    ann.patch(&chat).json(json!({"title": "New"})).await.ok(200);
    let (_, second) = ann.say(&chat, "2").await;
    for path in [format!("{chat}/events"), format!("/workspaces/{home}/events")] {
        let by_query = ann.get(&format!("{path}?after={first}"));
        let by_header = ann.get(&path).header("last-event-id", &first.to_string());
        // The header is what a browser sends by itself after it has reconnected, and knows more.
        let by_both = ann.get(&format!("{path}?after=0")).header("last-event-id", &first.to_string());
        for call in [by_query, by_header, by_both] {
            let mut events = call.events().await;
            let mut seen = Vec::new();
            while seen
                .last()
                .is_none_or(|last: &Event| last.data["message"]["id"] != second["id"] || last.name == "message.created")
            {
                seen.push(events.next().await.unwrap());
            }
            let seen: Vec<_> =
                seen.iter().filter(|event| event.name != "message.delta" && !event.name.is_empty()).collect();
            let named: Vec<_> = seen.iter().map(|event| event.name.as_str()).collect();
            assert_eq!(
                named,
                [
                    "message.created",
                    "message.completed",
                    "chat.updated",
                    "message.created",
                    "message.created",
                    "message.completed"
                ],
            );
            assert!(seen.iter().all(|event| event.id.is_some_and(|id| id > first)));
            assert!(seen.is_sorted_by(|a, b| a.id < b.id));
        }
    }
    let newest = ann.get(&format!("{chat}/events")).events().await.next().await.unwrap().id.unwrap();
    for path in [format!("{chat}/events"), format!("/workspaces/{home}/events")] {
        for beyond in [newest + 1, newest + 1_000, i64::MAX as u64, u64::MAX] {
            ann.get(&format!("{path}?after={beyond}")).await.problem(410, "cursor_expired");
            ann.get(&path).header("last-event-id", &beyond.to_string()).await.problem(410, "cursor_expired");
        }
        for bad in ["x", "-1", "1.5", "18446744073709551616"] {
            assert_eq!(ann.get(&format!("{path}?after={bad}")).await.wrong_fields(), ["after"], "{bad}");
            let answer = ann.get(&path).header("last-event-id", bad).await;
            assert_eq!(answer.wrong_fields(), ["Last-Event-ID"], "{bad}");
        }
    }
}

// A cursor is good for as long as the log is kept; whoever comes later loads the present state.
async fn a_cursor_from_before_the_kept_log_is_refused(app: App) {
    let (ann, home, chat) = at_home(&app).await;
    let first = say(&ann, &chat, "1").events().await.rest().await[0].id.unwrap();
    let paths = [format!("{chat}/events"), format!("/workspaces/{home}/events")];
    let newest = ann.get(&paths[0]).events().await.next().await.unwrap().id.unwrap();
    for path in &paths {
        ann.get(&format!("{path}?after={first}")).events().await.until("message.completed").await;
    }
    let now = app.ports.clock.now();
    let over = Over { sessions: now, invitations: now, keyed_requests: now, events: now + Duration::from_secs(1) };
    while app.ports.work.purge(over).await.unwrap() > 0 {}
    for path in &paths {
        for old in [0, first, newest - 1] {
            ann.get(&format!("{path}?after={old}")).await.problem(410, "cursor_expired");
            ann.get(path).header("last-event-id", &old.to_string()).await.problem(410, "cursor_expired");
        }
        // Whoever missed nothing goes on, and so does whoever begins anew.
        let mut feeds = [ann.get(&format!("{path}?after={newest}")).events().await, ann.get(path).events().await];
        let title = json!(format!("Seen in {path}").chars().take(200).collect::<String>());
        ann.patch(&chat).json(json!({"title": title})).await.ok(200);
        for feed in &mut feeds {
            let mut told = feed.until("chat.updated").await;
            while told.data["chat"]["title"] != title {
                told = feed.until("chat.updated").await;
            }
        }
    }
}

// R27
#[tokio::test]
async fn whoever_loses_access_loses_the_stream() {
    let app = App::start().await;
    let (owner, home, chat) = at_home(&app).await;
    let [signs_out, leaves, stays] =
        [app.user(&owner, "Signs out").await, app.user(&owner, "Leaves").await, app.user(&owner, "Stays").await];
    let mut streams = Vec::new();
    for user in [&signs_out, &leaves, &stays] {
        app.join(&home, user, Role::Member).await;
        for path in [format!("/workspaces/{home}/events"), format!("{chat}/events")] {
            let mut events = user.get(&path).events().await;
            events.next().await.unwrap();
            streams.push(events);
        }
    }
    let mut stay: Vec<_> = streams.drain(4..).collect();
    signs_out.post("/auth/logout").await.ok(204);
    app.leave(&home, &leaves).await;
    for events in streams {
        events.rest().await;
    }
    owner.patch(&chat).json(json!({"title": "New"})).await.ok(200);
    for events in &mut stay {
        events.until("chat.updated").await;
    }
}

// Several processes on one database act as one.
#[tokio::test]
async fn a_reply_of_one_process_is_seen_in_another() {
    let file = File::new();
    let parrot = std::sync::Arc::new(private_chat_adapters::memory::ScriptedInference::new(hello()));
    let inference = private_chat_adapters::memory::providers(parrot.clone());
    let ports = private_chat_core::port::Ports { inference, ..private_chat_tests::client::ports() };
    let here = App::on(ports.over(file.store())).await;
    let there = file.app().await;
    let (ann, _, chat) = at_home(&here).await;
    let afar = there.bearing(ann.access.as_deref().unwrap());
    let mut feed = afar.get(&format!("{chat}/events")).events().await;
    feed.next().await.unwrap();
    let mut own = say(&ann, &chat, "Hi.").events().await;
    own.until("message.delta").await;
    let mut seen = vec![feed.until("message.delta").await];
    let follow = async {
        loop {
            seen.push(feed.next().await.unwrap());
            if seen.last().unwrap().name == "message.completed" {
                break;
            }
        }
    };
    let release = async {
        for _ in 0..2 {
            patiently(parrot.waiting(1)).await;
            parrot.release();
        }
        own.until("message.completed").await
    };
    let (_, end) = join(follow, release).await;
    let reply = text(&end.data["message"]["id"]);
    let text = shown(&seen, &reply);
    assert!("Hello, wörld 😀!".starts_with(&text), "{text}");
    assert_eq!(seen.last().unwrap().data, end.data);
    // Also the request to stop travels.
    let (sent, stopped) = join(say(&ann, &chat, "More.").into_future(), async {
        let running = feed.until("message.delta").await.data["message_id"].clone();
        afar.post(&format!("{chat}/message/{}/stop", running.as_str().unwrap())).await.ok(200)
    })
    .await;
    assert_eq!(sent.ok(201)["reply"]["status"], "stopped");
    assert_eq!(stopped["id"], ended(&ann, &chat).await["id"]);
}
