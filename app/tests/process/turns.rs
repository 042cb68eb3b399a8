//! What the model is told: the turns of many people who write at once, and of conversations that grew too long.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::{Value, json};

use crate::people::{Person, join};
use crate::program::Home;
use crate::upstream::{Told, Upstream};
use crate::{mysql_trial, trial};

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("ten_who_send_at_once_queue_up", || many(None)),
        mysql_trial(servers, "ten_who_send_at_once_queue_up", |database| many(Some(database))),
        trial("a_prompt_that_is_too_long_is_cut_in_half_and_asked_once_more", too_long),
    ]
}

fn bytes(told: &[Told]) -> usize {
    told.iter().map(|turn| turn.content.len()).sum()
}

// R79, R83, F34
async fn many(database: Option<Arc<Database>>) {
    const PEOPLE: usize = 10;
    const EACH: usize = 2;
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let programs = [home.start().await, home.start().await];
    let ann = programs[0].api().set_up().await;
    let workspace = &ann.make_workspace().await;
    let chat = &ann.make_chat(workspace).await;
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        let person = Person::new(&ann, &format!("Person{number}"), "USER").await;
        join(&ann, workspace, &person, "MEMBER").await;
        people.push(person);
    }
    let sends = (0..PEOPLE * EACH).map(async |number| {
        let at = people[number % PEOPLE].at(&programs[number % 2]);
        at.exchange(chat, &format!("message {number}: count 2 1")).await.expect(201)
    });
    let answers = join_all(sends).await;
    assert!(answers.iter().all(|answer| answer["reply"]["status"] == "complete"), "{answers:?}");

    let stored = ann.get(&format!("{chat}/messages?order=asc&limit=100")).await.expect(200)["items"].clone();
    let stored: &Vec<Value> = stored.as_array().unwrap();
    assert_eq!(stored.len(), 2 * PEOPLE * EACH);
    // One line: each follows the one that was stored before it.
    for (before, after) in stored.iter().zip(&stored[1..]) {
        assert_eq!(after["parent_id"], before["id"], "{stored:#?}");
        assert_ne!(after["role"], before["role"]);
    }
    let said: HashSet<&str> = answers.iter().map(|answer| answer["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(said.len(), PEOPLE * EACH);
    // And so the model was told: each time the whole line so far, a person and an answer in turn.
    let mut prompts = upstream.prompts();
    prompts.sort_by_key(Vec::len);
    assert_eq!(prompts.len(), PEOPLE * EACH);
    for (number, prompt) in prompts.iter().enumerate() {
        assert_eq!(prompt.len(), 2 * number + 1, "{prompt:?}");
        for (turn, stored) in prompt.iter().zip(stored) {
            assert_eq!(turn.role, stored["role"].as_str().unwrap());
            assert!(turn.content.ends_with(stored["content"].as_str().unwrap()), "{turn:?} {stored}");
        }
    }
    let told = &prompts.last().unwrap()[0].content;
    assert!(told.starts_with("Person"), "who said it: {told}");
}

// R83, R86
async fn too_long() {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let chat = &ann.make_chat(&ann.make_workspace().await).await;
    let padding = "word ".repeat(100);
    let say = async |number: usize| {
        let content = format!("{number} {padding}count 1 0");
        let answer = ann.exchange(chat, &content).await.expect(201);
        (content, answer["reply"].clone())
    };
    for number in 0..10 {
        assert_eq!(say(number).await.1["status"], "complete");
    }
    assert_eq!(upstream.asked(), 10);

    // As its server was told to take less.
    let whole = bytes(upstream.prompts().last().unwrap());
    upstream.limit_context(whole * 3 / 4);
    let (content, reply) = say(10).await;
    assert_eq!((&reply["status"], &reply["error"]), (&json!("complete"), &json!(null)));
    let prompts = upstream.prompts();
    let [first, second] = &prompts[10..] else { panic!("asked {} times", prompts.len()) };
    assert_eq!(first.len(), 21);
    assert!(
        bytes(second) > bytes(first) / 3 && bytes(second) <= bytes(first) / 2,
        "{} {}",
        bytes(first),
        bytes(second)
    );
    // The newest of it, without what a model would not know what to make of.
    assert_eq!(second[..], first[first.len() - second.len()..]);
    assert_eq!((second[0].role.as_str(), second.last().unwrap().content.as_str()), ("user", content.as_str()));

    // Half is still too much: it is not asked a third time, and it is told.
    upstream.limit_context(padding.len() + 100);
    let (_, reply) = say(11).await;
    assert_eq!((&reply["status"], &reply["error"]["code"]), (&json!("failed"), &json!("prompt_too_long")));
    assert_eq!(upstream.asked(), 14);

    // A first message that is too long has nothing that could be left out.
    let other = ann.make_chat(chat.split_once("/chat/").unwrap().0).await;
    let answer = ann.exchange(&other, &format!("{padding}{padding}count 1 0")).await.expect(201);
    assert_eq!(answer["reply"]["error"]["code"], "prompt_too_long");
    assert_eq!(upstream.asked(), 15);

    // Once it takes more, the chat goes on: what failed is left out.
    upstream.limit_context(usize::MAX);
    assert_eq!(say(12).await.1["status"], "complete");
    let last = upstream.prompts().pop().unwrap();
    assert!(last.iter().zip(&last[1..]).all(|(one, next)| one.role != next.role), "{last:?}");
    let at_last = &last.last().unwrap().content;
    assert!(at_last.starts_with("11 ") && at_last.contains("\n\n12 "), "{at_last}");
}
