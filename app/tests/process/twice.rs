//! The same request sent many times, under one `Idempotency-Key`: by a client that does not know whether it came through.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Api, End, ends, text};
use crate::people::Person;
use crate::program::Home;
use crate::upstream::{Upstream, count, counted, endless};
use crate::{mysql_trial, trial};

/// How often each is sent at once.
const TIMES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("a_message_sent_many_times_at_once_is_one_message", || messages(None)),
        mysql_trial(servers, "a_message_sent_many_times_at_once_is_one_message", |database| messages(Some(database))),
        trial("an_edit_and_a_regeneration_asked_for_many_times_at_once_are_one", || branches(None)),
        mysql_trial(servers, "an_edit_and_a_regeneration_asked_for_many_times_at_once_are_one", |database| {
            branches(Some(database))
        }),
        trial("what_is_made_many_times_at_once_is_made_once", || things(None)),
        mysql_trial(servers, "what_is_made_many_times_at_once_is_made_once", |database| things(Some(database))),
        trial("a_message_whose_process_died_is_not_sent_again", || of_one_that_died(None)),
        mysql_trial(servers, "a_message_whose_process_died_is_not_sent_again", |database| {
            of_one_that_died(Some(database))
        }),
    ]
}

/// Sends the same many times at once, every other time to the other process, and gives the one answer to all of them.
async fn many(both: [&Api; 2], path: &str, body: &Value, key: &str) -> Value {
    many_by(Method::POST, both, path, body, key).await
}

/// The same, by another method.
async fn many_by(method: Method, both: [&Api; 2], path: &str, body: &Value, key: &str) -> Value {
    let answers = join_all((0..TIMES).map(|time| both[time % 2].once(method.clone(), path, body, key))).await;
    let bodies: Vec<Value> = answers.into_iter().map(|answer| answer.expect(201)).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{path}: {bodies:#?}");
    bodies.into_iter().next().unwrap()
}

// R73, F34, F44
async fn messages(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let at_a = &a.api().set_up().await;
    let at_b = &at_a.moved_to(&b);
    let chat = &at_a.make_chat(&at_a.make_workspace().await).await;
    let path = &format!("{chat}/message");
    let body = json!({"content": count(30, 10)});

    // All of them are answered when the one reply has ended.
    let whole = many([at_a, at_b], path, &body, "whole").await;
    assert_eq!((upstream.asked(), &whole["reply"]["content"]), (1, &json!(counted(30))));
    let stored = || async { at_a.messages(chat).await };
    assert_eq!(stored().await, [whole["message"].clone(), whole["reply"].clone()]);

    // All of them see the one reply grow, and so do those who wait for its end.
    let (said, key) = (&count(30, 20), "live");
    let streams = join_all((0..TIMES).map(|time| [at_a, at_b][time % 2].say_once(chat, said, key)));
    let body_of_live = json!({"content": said});
    let (streams, answers) =
        join(streams, join_all([at_a, at_b].map(|at| at.post_once(path, &body_of_live, key)))).await;
    let live = answers.into_iter().next().unwrap().expect(201);
    for stream in &streams {
        let (seen, end) = stream.ended(PATIENCE).await;
        assert_eq!((ends(&seen).len(), end), (1, End::Clean), "{seen:?}");
        assert_eq!((seen[0].event.as_str(), &seen[0].data["message"]), ("message.created", &live["message"]));
        assert_eq!(
            (ends(&seen)[0].event.as_str(), &ends(&seen)[0].data["message"]),
            ("message.completed", &live["reply"])
        );
        assert_eq!(text(&seen, live["reply"]["id"].as_str().unwrap()), counted(30));
    }
    assert_eq!((upstream.asked(), stored().await.len()), (2, 4));

    // Another body is another request, and another person has keys of their own.
    let other = json!({"content": "count 2 0"});
    at_b.post_once(path, &other, "whole").await.is_problem(422, "idempotency_key_reused");
    let other_chat = at_a.make_chat(chat.split_once("/chat/").unwrap().0).await;
    at_b.post_once(&format!("{other_chat}/message"), &body, "whole").await.is_problem(422, "idempotency_key_reused");
    for bad in ["", &"k".repeat(256), "two words"] {
        let answer = at_a.post_once(path, &other, bad).await;
        answer.is_problem(422, "invalid");
    }
    assert_eq!((upstream.asked(), stored().await.len()), (2, 4));

    // However late, and after both were stopped.
    a.stop().await;
    b.stop().await;
    let (a, b) = (home.start().await, home.start().await);
    let (at_a, at_b) = (&at_a.moved_to(&a), &at_a.moved_to(&b));
    assert_eq!(many([at_a, at_b], path, &body, "whole").await, whole);
    let (seen, end) = at_b.say_once(chat, &count(30, 10), "whole").await.ended(PATIENCE).await;
    assert_eq!((end, ends(&seen).len()), (End::Clean, 1));
    assert_eq!((&seen[0].data["message"], &ends(&seen)[0].data["message"]), (&whole["message"], &whole["reply"]));
    assert_eq!((upstream.asked(), at_a.messages(chat).await.len()), (2, 4));
}

// R73, F34, F44
async fn branches(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let at_a = &a.api().set_up().await;
    let both = [at_a, &at_a.moved_to(&b)];
    let chat = &at_a.make_chat(&at_a.make_workspace().await).await;
    let first = at_a.exchange(chat, "count 2 0").await.expect(201);
    let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
    let edit_at = &format!("{chat}/message/{}", id(&first["message"]));
    let regenerate_at = &format!("{chat}/message/{}/regenerate", id(&first["reply"]));

    // One message more, with one reply, for all who asked.
    let body = json!({"content": count(30, 10)});
    let edited = many_by(Method::PATCH, both, edit_at, &body, "edit").await;
    assert_eq!((upstream.asked(), &edited["reply"]["content"]), (2, &json!(counted(30))));
    assert_eq!(edited["message"]["parent_id"], first["message"]["parent_id"]);
    let stored = [&first["message"], &first["reply"], &edited["message"], &edited["reply"]].map(Value::clone);
    assert_eq!(at_a.messages(chat).await, stored);

    // One reply more, to the same message.
    let again = many(both, regenerate_at, &json!({"parameters": {"max_tokens": 100}}), "again").await;
    assert_eq!((upstream.asked(), &again["message"]), (3, &first["message"]));
    assert_eq!(again["reply"]["parent_id"], first["message"]["id"]);
    assert_ne!(again["reply"]["id"], first["reply"]["id"]);
    assert_eq!(at_a.messages(chat).await, [&stored[..], &[again["reply"].clone()]].concat());

    // A key is of one request: of one body, and of one message.
    let other = json!({"content": "count 1 0"});
    both[1].once(Method::PATCH, edit_at, &other, "edit").await.is_problem(422, "idempotency_key_reused");
    both[1].once(Method::POST, regenerate_at, &json!({}), "again").await.is_problem(422, "idempotency_key_reused");
    let elsewhere = &format!("{chat}/message/{}", id(&edited["message"]));
    both[0].once(Method::PATCH, elsewhere, &body, "edit").await.is_problem(422, "idempotency_key_reused");
    both[0].post_once(&format!("{chat}/message"), &body, "edit").await.is_problem(422, "idempotency_key_reused");
    assert_eq!((upstream.asked(), at_a.messages(chat).await.len()), (3, 5));

    // Later, and after a restart.
    a.stop().await;
    b.stop().await;
    let (a, b) = (home.start().await, home.start().await);
    let both = [&at_a.moved_to(&a), &at_a.moved_to(&b)];
    assert_eq!(many_by(Method::PATCH, both, edit_at, &body, "edit").await, edited);
    assert_eq!((upstream.asked(), both[0].messages(chat).await.len()), (3, 5));
    // What is gone is not made again.
    both[0].delete(chat).await.expect(204);
    both[1].once(Method::PATCH, edit_at, &body, "edit").await.is_problem(404, "not_found");
    assert_eq!(upstream.asked(), 3);
}

// R73, F44
async fn things(database: Option<Arc<Database>>) {
    let home = Home::with_keys().on(database.as_deref());
    let (a, b) = (home.start().await, home.start().await);
    let at_a = &a.api().set_up().await;
    let at_b = &at_a.moved_to(&b);
    let workspace = &at_a.make_workspace().await;
    let bob = json!({"email": "bob@example.com", "name": "Bob", "password": "an umbrella for 2 moths"});
    let cyd = json!({"email": "cyd@example.com", "role": "MEMBER"});
    let asked = [
        (
            "/users/".to_owned(),
            "/users/".to_owned(),
            2,
            bob,
            json!({"email": "b@example.com", "name": "B", "password": "an umbrella for 2 moths"}),
        ),
        (
            "/workspaces/".to_owned(),
            "/workspaces/".to_owned(),
            2,
            json!({"name": "Made once"}),
            json!({"name": "Other"}),
        ),
        (
            format!("{workspace}/invite"),
            format!("{workspace}/invitations"),
            1,
            cyd,
            json!({"email": "cyd@example.com", "role": "GUEST"}),
        ),
        (format!("{workspace}/chat"), format!("{workspace}/chats/history"), 1, json!({"title": "Once"}), json!({})),
    ];
    let mut made = Vec::new();
    for (path, list, many_there, body, other) in &asked {
        let made_here = many([at_a, at_b], path, body, path).await;
        assert!(made_here["id"].is_string(), "{made_here}");
        at_b.post_once(path, other, path).await.is_problem(422, "idempotency_key_reused");
        let items = at_b.get(list).await.expect(200)["items"].as_array().unwrap().len();
        assert_eq!(items, *many_there, "{path}");
        made.push(made_here);
    }
    assert!(made[2]["token"].as_str().is_some_and(|token| token.len() > 20), "the same token each time: {}", made[2]);
    // Without a key each is a request of its own.
    let two = [at_a.make_chat(workspace).await, at_b.make_chat(workspace).await];
    assert_ne!(two[0], two[1]);
    // Whoever else has the same key asks for something else.
    let eve = Person::new(at_a, "Eve", "ADMIN").await;
    let of_eve = eve.at(&b).post_once("/workspaces/", &asked[1].3, "/workspaces/").await.expect(201);
    assert_ne!(of_eve["id"], made[1]["id"]);

    a.stop().await;
    b.stop().await;
    let (a, b) = (home.start().await, home.start().await);
    let (at_a, at_b) = (&at_a.moved_to(&a), &at_a.moved_to(&b));
    for ((path, list, many_there, body, other), made) in asked.iter().zip(&made) {
        assert_eq!(&many([at_a, at_b], path, body, path).await, made);
        at_a.post_once(path, other, path).await.is_problem(422, "idempotency_key_reused");
        // Eve, and the two chats.
        let since = usize::from(path == "/users/") + if path.ends_with("/chat") { 2 } else { 0 };
        let items = at_b.get(list).await.expect(200)["items"].as_array().unwrap().len();
        assert_eq!(items, many_there + since, "{path}");
    }
}

// R73, F31, F35, F44
async fn of_one_that_died(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let at_a = a.api().set_up().await;
    let at_b = at_a.moved_to(&b);
    let chat = at_a.make_chat(&at_a.make_workspace().await).await;
    let stream = at_a.say_once(&chat, &endless(20), "died").await;
    let reply = stream.reply().await;
    stream.until_words(&reply, 10).await;
    a.kill().await;
    // They ask again elsewhere, while nobody knows yet that the reply is an orphan.
    let again = at_b.say_once(&chat, &endless(20), "died").await;
    let (seen, end) = again.ended(PATIENCE).await;
    assert_eq!((ends(&seen).len(), end), (1, End::Clean), "{seen:?}");
    assert_eq!((ends(&seen)[0].event.as_str(), ends(&seen)[0].reply()), ("message.interrupted", Some(reply.as_str())));
    let later = at_b.post_once(&format!("{chat}/message"), &json!({"content": endless(20)}), "died").await.expect(201);
    assert_eq!(later["reply"], ends(&seen)[0].data["message"]);
    assert_eq!((upstream.asked(), at_b.messages(&chat).await.len()), (1, 2));
}
