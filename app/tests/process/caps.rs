//! How many replies may run at once, however many processes are asked.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::json;

use crate::client::{Answer, Api, End, Follow, ends};
use crate::people::{Person, join};
use crate::program::Home;
use crate::tables::Tables;
use crate::upstream::{REFUSED, Upstream, endless};
use crate::{trial, until};

/// How many replies of one person may run.
const OF_ONE: usize = 8;
/// How long the replies of a process that died may take somebody's places.
const ORPHANED: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    let mut trials = vec![trial("a_process_makes_as_many_replies_as_it_may", of_one_process)];
    trials.extend(on_both!(
        servers,
        of_many_replies_that_one_asks_for_at_once_as_many_run_as_may,
        a_reply_that_ends_however_it_ends_makes_room_for_the_next,
        in_a_workspace_as_many_replies_run_as_may,
    ));
    trials
}

/// Makes sure that somebody was told that so many run, and when to come again.
#[track_caller]
fn is_too_many(answer: &Answer, most: usize) {
    answer.is_problem(429, "too_many_replies");
    let head = |name: &str| answer.headers[name].to_str().unwrap().parse::<u64>().unwrap();
    assert_eq!((head("ratelimit-limit"), head("ratelimit-remaining")), (most as u64, 0), "{answer:?}");
    assert!(head("retry-after") > 0 && head("ratelimit-reset") > 0, "{answer:?}");
}

/// Those that were let in; the others must have been told why not.
#[track_caller]
fn let_in(answers: Vec<Result<Follow, Answer>>, most: usize) -> Vec<Follow> {
    let of_one = |answer: Result<Follow, Answer>| answer.inspect_err(|refused| is_too_many(refused, most)).ok();
    answers.into_iter().filter_map(of_one).collect()
}

/// Makes so many chats, and gives their paths.
async fn chats(api: &Api, workspaces: &[String], each: usize) -> Vec<String> {
    let all = workspaces.iter().flat_map(|workspace| (0..each).map(move |_| api.make_chat(workspace)));
    join_all(all).await
}

/// Says something in a chat, and has the reply stopped. Gives the ids of both.
async fn say_and_stop(api: &Api, chat: &str, content: &str) -> (String, String) {
    let stream = api.say(chat, content).await;
    let reply = stream.reply().await;
    api.post(&format!("{chat}/message/{reply}/stop"), &json!({})).await.expect(200);
    (stream.seen()[0].reply().unwrap().to_owned(), reply)
}

/// Has all of these stopped, and sees each end once.
async fn stop_all(api: &Api, workspaces: &[String], streams: &[Follow]) {
    join_all(streams.iter().map(async |stream| {
        let reply = stream.reply().await;
        let seen = stream.seen();
        let chat = seen[0].data["message"]["chat_id"].as_str().unwrap();
        for workspace in workspaces {
            let chats = api.get(&format!("{workspace}/chat/{chat}")).await;
            if chats.status == 200 {
                api.post(&format!("{workspace}/chat/{chat}/message/{reply}/stop"), &json!({})).await.expect(200);
            }
        }
        let (seen, end) = stream.ended(PATIENCE).await;
        assert_eq!((ends(&seen).len(), end), (1, End::Clean), "{seen:?}");
        assert_eq!(ends(&seen)[0].event, "message.stopped");
    }))
    .await;
}

// R84, F34, API4
async fn of_many_replies_that_one_asks_for_at_once_as_many_run_as_may(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = &a.api().set_up().await;
    let bob = Person::new(ann, "Bob", "USER").await;
    let at = [bob.at(&a), bob.at(&b)];
    let mut workspaces = Vec::new();
    for _ in 0..5 {
        let workspace = ann.make_workspace().await;
        join(ann, &workspace, &bob, "MEMBER").await;
        workspaces.push(workspace);
    }
    let of_ann = ann.make_chat(&workspaces[0]).await;
    let chats = chats(&bob.api, &workspaces, 4).await;
    // Something in each, to be edited and to be answered anew.
    let mut said = Vec::new();
    for chat in &chats {
        said.push(say_and_stop(&bob.api, chat, &endless(50)).await);
    }
    for kinds in [&[0][..], &[1], &[2], &[0, 1, 2]] {
        let asked = upstream.asked();
        let asks = chats.iter().zip(&said).enumerate().map(async |(number, (chat, (message, reply)))| {
            let at = &at[number % 2];
            match kinds[number % kinds.len()] {
                0 => at.offer(chat, &endless(50)).await,
                1 => at.offer_edit(chat, message, &endless(50)).await,
                _ => at.offer_regeneration(chat, reply).await,
            }
        });
        let streams = let_in(join_all(asks).await, OF_ONE);
        assert_eq!(streams.len(), OF_ONE, "of twenty at once, {kinds:?}");
        // Somebody else has places of their own.
        ann.exchange(&of_ann, "count 1 0").await.expect(201);
        stop_all(&at[1], &workspaces, &streams).await;
        // Nothing was asked for those that were refused.
        let more = upstream.asked() - asked;
        assert!(more <= OF_ONE + 1, "{more} were asked for");
    }
    until(PATIENCE, "the provider is let go", async || upstream.open() == 0).await;
    let mut tables = Tables::of(&home, database.as_deref()).await;
    assert_eq!(tables.rows("running_replies").await, 0);
    // What was refused is nowhere: of each round 8 are there, and what was there before.
    let refused_or_not = tables.number("SELECT COUNT(*) FROM messages WHERE author_id IS NULL").await;
    assert_eq!(refused_or_not, i64::try_from(chats.len() + 4 * (OF_ONE + 1)).unwrap());
}

// R84
async fn a_reply_that_ends_however_it_ends_makes_room_for_the_next(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let at = [ann.clone(), ann.moved_to(&b)];
    let workspaces = [ann.make_workspace().await, ann.make_workspace().await];
    let chats = chats(&ann, &workspaces, 8).await;
    let offer = async |number: usize, content: &str| at[number % 2].offer(&chats[number], content).await;
    let is_full = async || is_too_many(&offer(15, "count 1 0").await.err().expect("it is full"), OF_ONE);
    let mut streams = Vec::new();
    for number in 0..OF_ONE {
        streams.push(offer(number, &endless(50)).await.expect("there is room"));
    }
    is_full().await;

    // Stopped: by the other process than the one that makes it.
    let reply = streams[0].reply().await;
    at[1].post(&format!("{}/message/{reply}/stop", chats[0]), &json!({})).await.expect(200);
    // Failed: it takes a place for as long as it takes.
    let (seen, _) = offer(8, REFUSED).await.expect("there is room").ended(PATIENCE).await;
    assert_eq!(ends(&seen)[0].event, "message.failed", "{seen:?}");
    // Complete.
    at[1].exchange(&chats[8], "count 1 0").await.expect(201);
    streams.push(offer(8, &endless(50)).await.expect("there is room"));
    is_full().await;
    // Deleted with its chat.
    at[0].delete(&chats[1]).await.expect(204);
    streams.push(offer(9, &endless(50)).await.expect("there is room"));
    is_full().await;
    // Deleted with its workspace: four of the first one are left, and one of the second.
    at[1].delete(&workspaces[0]).await.expect(204);
    for stream in &streams[..OF_ONE] {
        stream.ended(PATIENCE).await;
    }
    for number in 10..16 {
        streams.push(offer(number, &endless(50)).await.expect("there is room"));
    }
    let full = at[0].offer(&chats[8], "count 1 0").await.err().expect("it is full");
    is_too_many(&full, OF_ONE);

    // Killed with the process that made them, which were those with an odd number.
    b.kill().await;
    let mut again = 0;
    until(ORPHANED, "the places of the dead are free", async || {
        let answer = at[0].offer(&chats[8], &endless(50)).await.inspect_err(|refused| is_too_many(refused, OF_ONE));
        again += usize::from(answer.is_ok());
        again == 4
    })
    .await;
    let full = at[0].offer(&chats[8], "count 1 0").await.err().expect("it is full");
    is_too_many(&full, OF_ONE);
}

// R84
async fn in_a_workspace_as_many_replies_run_as_may(database: Option<Arc<Database>>) {
    const MOST: usize = 5;
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let home = home.set("PRIVATE_CHAT_INFERENCE__MAX_RUNNING_REPLIES_PER_WORKSPACE", &MOST.to_string());
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let workspaces = [ann.make_workspace().await, ann.make_workspace().await];
    let mut people = vec![ann.clone()];
    for name in ["Bob", "Cyd", "Dan"] {
        let person = Person::new(&ann, name, "USER").await;
        join(&ann, &workspaces[0], &person, "MEMBER").await;
        people.push(person.api);
    }
    let chats = chats(&ann, &workspaces[..1], 20).await;
    let asks = chats.iter().enumerate().map(async |(number, chat)| {
        let at = people[number % 4].moved_to([&a, &b][number / 4 % 2]);
        at.offer(chat, &endless(50)).await
    });
    let streams = let_in(join_all(asks).await, MOST);
    assert_eq!(streams.len(), MOST, "of twenty at once");
    // Elsewhere there is room, also for those who ask here.
    let other = ann.make_chat(&workspaces[1]).await;
    ann.exchange(&other, "count 1 0").await.expect(201);
    stop_all(&ann, &workspaces[..1], &streams).await;
    people[1].exchange(&chats[0], "count 1 0").await.expect(201);
}

// R84
async fn of_one_process() {
    const MOST: usize = 3;
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream);
    let home = home.set("PRIVATE_CHAT_INFERENCE__MAX_RUNNING_REPLIES", &MOST.to_string());
    let (a, b) = (home.start().await, home.start().await);
    let ann = a.api().set_up().await;
    let workspaces = [ann.make_workspace().await];
    let chats = chats(&ann, &workspaces, 8).await;
    let said = endless(50);
    let mut streams = let_in(join_all(chats[..7].iter().map(|chat| ann.offer(chat, &said))).await, MOST);
    // It never makes more. At the very same moment it may refuse one too many, which is let in when it comes again.
    assert!((1..=MOST).contains(&streams.len()), "{}", streams.len());
    while let Ok(stream) = ann.offer(&chats[0], &said).await {
        streams.push(stream);
    }
    assert_eq!(streams.len(), MOST);
    // Another process makes its own, where no endless one is before it.
    ann.moved_to(&b).exchange(&chats[7], "count 1 0").await.expect(201);
    stop_all(&ann, &workspaces, &streams).await;
    ann.exchange(&chats[0], "count 1 0").await.expect(201);
}
