//! Told to stop: by SIGTERM, as a supervisor does.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream::iter;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::sleep;

use crate::client::{Api, End, Follow, ends, text};
use crate::program::Home;
use crate::upstream::{Upstream, count_and_hold, counted, endless};
use crate::{spawn, trial, until};

/// How long an orderly end may take on a busy machine, the replies apart.
const ENDS: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("told_to_stop_it_takes_nothing_new_and_lets_replies_end", replies_may_end),
        trial("what_does_not_end_in_time_is_interrupted", too_late),
        trial("a_send_that_comes_with_the_signal_is_refused_or_has_an_end", || async {
            // From before it is let in to after its reply runs.
            let steps = iter(0..24).map(|step| Duration::from_micros(step * 400));
            steps.for_each_concurrent(3, send_races_the_signal).await;
        }),
        trial("told_twice_it_ends_at_once", told_twice),
        trial("told_to_stop_while_nothing_runs_it_ends", idle),
    ]
}

async fn chats(ann: &Api, workspace: &str, many: usize) -> Vec<String> {
    join_all((0..many).map(|_| ann.make_chat(workspace))).await
}

/// Says the same in every chat, and waits until all replies show words.
async fn say_everywhere(ann: &Api, chats: &[String], content: &str) -> Vec<(String, Follow)> {
    join_all(chats.iter().map(async |chat| {
        let stream = ann.say(chat, content).await;
        let reply = stream.reply().await;
        stream.until_words(&reply, 3).await;
        (reply, stream)
    }))
    .await
}

// R109, F33
async fn replies_may_end() {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream).without_caps();
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let chats = chats(&ann, &workspace, 20).await;
    let feed = ann.follow(&workspace, None).await;
    let streams = say_everywhere(&ann, &chats, &count_and_hold(20, 20)).await;

    program.terminate();
    until(ENDS, "it is not ready", async || ann.get("/health/ready").await.status == 503).await;
    ann.get("/health/ready").await.is_problem(503, "shutting_down");
    ann.exchange(&chats[0], "count 1 0").await.is_problem(503, "shutting_down");
    // What needs no reply is still answered.
    ann.get("/health/").await.expect(200);
    ann.get(&chats[0]).await.expect(200);
    assert!(program.is_alive() && streams.iter().all(|(_, stream)| stream.end().is_none()));

    upstream.release();
    for (reply, stream) in &streams {
        let (seen, end) = stream.ended(ENDS).await;
        let told = ends(&seen);
        assert_eq!((told.len(), end), (1, End::Clean));
        assert_eq!((told[0].event.as_str(), told[0].reply()), ("message.completed", Some(reply.as_str())));
        assert_eq!(told[0].data["message"]["content"], counted(20));
        assert_eq!(text(&seen, reply), counted(20));
    }
    let (seen, end) = feed.ended(ENDS).await;
    assert_eq!((ends(&seen).len(), end), (20, End::Clean));
    assert_eq!(program.ended(ENDS).await.code(), Some(0));
    assert_eq!(upstream.asked(), 20, "nothing was asked after the signal");
}

// R109, F33
async fn too_late() {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream).without_caps();
    let home = home.set("PRIVATE_CHAT_SERVER__DRAIN_TIMEOUT", "2s");
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let chats = chats(&ann, &workspace, 21).await;
    let feed = ann.follow(&workspace, None).await;
    let streams = say_everywhere(&ann, &chats[..20], &endless(50)).await;
    let (waiting, chat) = (ann.clone(), chats[20].clone());
    let (tell, told) = tokio::sync::oneshot::channel();
    spawn(async move { drop(tell.send(waiting.exchange(&chat, &endless(50)).await)) });
    until(ENDS, "all replies run", async || upstream.open() == 21).await;

    program.terminate();
    for (reply, stream) in &streams {
        let (seen, end) = stream.ended(ENDS).await;
        let told = ends(&seen);
        assert_eq!((told.len(), end), (1, End::Clean));
        assert_eq!((told[0].event.as_str(), told[0].reply()), ("message.interrupted", Some(reply.as_str())));
        assert_eq!(told[0].data["message"]["error"]["code"], "server_stopped");
        assert_eq!(told[0].data["message"]["content"], text(&seen, reply));
    }
    // Whoever waits for the whole is answered, too.
    let answer = told.await.unwrap().expect(201);
    assert_eq!(answer["reply"]["status"], "interrupted");
    let (seen, end) = feed.ended(ENDS).await;
    assert_eq!((ends(&seen).len(), end), (21, End::Clean));
    assert_eq!(program.ended(ENDS).await.code(), Some(0));
    until(ENDS, "the provider is let go", async || upstream.open() == 0).await;

    // Nothing is left to be found by the next.
    let program = home.start().await;
    let ann = ann.moved_to(&program);
    for (chat, (_, stream)) in chats.iter().zip(&streams) {
        assert_eq!(ann.messages(chat).await[1], ends(&stream.seen())[0].data["message"]);
    }
}

// R109, F33
async fn send_races_the_signal(by: Duration) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream).set("PRIVATE_CHAT_SERVER__DRAIN_TIMEOUT", "1s");
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    let chat = ann.make_chat(&ann.make_workspace().await).await;
    let said = endless(20);
    let sent = ann.try_say(&chat, &said);
    let signal = async {
        sleep(by).await;
        program.terminate();
    };
    match join(sent, signal).await.0 {
        Ok(stream) => {
            let (seen, end) = stream.ended(ENDS).await;
            assert_eq!((ends(&seen).len(), end), (1, End::Clean), "{seen:?}");
            assert_eq!(ends(&seen)[0].event, "message.interrupted");
        }
        // It came too late: or nobody listened any more.
        Err(status) => assert!(matches!(status, Some(503) | None), "{status:?}"),
    }
    assert_eq!(program.ended(ENDS).await.code(), Some(0));
    assert!(program.entries("some requests did not end in time and are cut").is_empty());
}

// R109, F33
async fn told_twice() {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream).set("PRIVATE_CHAT_SERVER__DRAIN_TIMEOUT", "10m");
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    let chat = ann.make_chat(&ann.make_workspace().await).await;
    let streams = say_everywhere(&ann, &[chat], &endless(50)).await;
    program.terminate();
    until(ENDS, "it is not ready", async || ann.get("/health/ready").await.status == 503).await;
    assert!(program.is_alive() && streams[0].1.end().is_none());
    program.terminate();
    program.ended(ENDS).await;
}

// R109
async fn idle() {
    let home = Home::with_keys();
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let feed = ann.follow(&workspace, None).await;
    // One that never says anything.
    let _silent = tokio::net::TcpStream::connect(program.address()).await.unwrap();
    program.terminate();
    assert_eq!(feed.ended(ENDS).await.1, End::Clean);
    assert_eq!(program.ended(ENDS).await.code(), Some(0));
    // Its name is off the list: the next one has nobody to bury.
    let program = home.start().await;
    ann.moved_to(&program).post(&format!("{workspace}/chat"), &json!({})).await.expect(201);
}
