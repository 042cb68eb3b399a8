//! The database is away, or its answers are.

use private_chat_adapters::memory::Script;
use private_chat_core::error::Error;
use private_chat_core::model::chat::{MessageStatus, ReplyFault};
use private_chat_core::port::store::ReplyRepository as _;

use super::house::{Home, SECOND, settle};
use super::screen::Viewer;
use super::troubled::Side;

fn talk() -> Script {
    Script::new().content("Hel").pause().content("lo.").usage(1, 2).finish("stop")
}

// F2: nothing that was made is lost when the database comes back.
#[tokio::test]
async fn a_database_that_is_away_in_the_middle_costs_nothing() {
    let home = Home::of(talk()).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let viewer = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    home.a.store.set_away(true);
    home.pass(5 * SECOND).await;
    assert_eq!(viewer.screen().reply().content, "Hel", "text goes on without it");
    home.a.store.set_away(false);
    home.pass(SECOND).await;
    assert_eq!(home.last().await.content, "Hel", "and is stored at the next turn");
    home.a.parrot.release();
    assert_eq!(sent.end.wait().await.unwrap().1, home.last().await);
    assert_eq!(viewer.read_out().await.thread(), home.house.messages(home.chat.id).await);
    home.is_quiet().await;
}

// F2
#[tokio::test]
async fn an_end_that_can_not_be_stored_is_stored_when_the_database_is_back() {
    let home = Home::of(talk()).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let mut viewer = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    home.a.store.set_away(true);
    home.a.parrot.release();
    home.pass(60 * SECOND).await;
    assert!(!viewer.ended(), "nobody is told an end that is not durable");
    assert_eq!(home.last().await.status, MessageStatus::Streaming);
    home.a.store.set_away(false);
    home.pass(3 * SECOND).await;
    let reply = home.last().await;
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Complete, "Hello."));
    assert_eq!(*viewer.read_out().await.reply(), reply);
    home.is_quiet().await;
}

// F7: the end is stored, and the news of it is lost.
#[tokio::test]
async fn an_end_whose_answer_got_lost_happens_once() {
    let home = Home::of(talk()).await;
    let watcher = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let asker = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    home.a.store.lose_answer("end");
    home.a.parrot.release();
    home.pass(2 * SECOND).await;
    let reply = home.last().await;
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Complete, "Hello."));
    assert_eq!(sent.end.wait().await.unwrap().1, reply);
    assert_eq!(*asker.read_out().await.reply(), reply);
    assert_eq!(*watcher.screen().reply(), reply);
    assert_eq!(watcher.seen().iter().filter(|seen| seen.starts_with("ended")).count(), 1);
    assert_eq!(home.house.store.log_bounds(home.workspace).await.unwrap().newest, 4);
    watcher.leave().await;
    home.is_quiet().await;
}

// F7: the beginning is stored, and the news of it is lost: nobody makes the reply.
#[tokio::test]
async fn a_beginning_whose_answer_got_lost_leaves_no_reply_running() {
    let home = Home::of(talk()).await;
    let watcher = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    home.a.store.lose_answer("begin");
    let answer = home.a.send(&home.ann, &home.chat, "Hi").await.map(|_| ());
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    settle().await;
    assert_eq!(home.last().await.status, MessageStatus::Streaming);
    home.pass(10 * SECOND).await;
    let reply = home.last().await;
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Interrupted, ""));
    assert_eq!(reply.error.as_ref().map(|error| error.code), Some(ReplyFault::ServerStopped));
    assert_eq!(home.a.parrot.completions(), []);
    assert_eq!(*watcher.screen().reply(), reply);
    // R83: and the chat goes on as if it had never been.
    home.a.send(&home.ann, &home.chat, "Again").await.unwrap();
    home.a.parrot.waiting(1).await;
    let told: Vec<_> = home.a.parrot.completions()[0].messages.iter().map(|told| told.content.clone()).collect();
    assert_eq!(told, ["Hi\n\nAgain"], "one turn of the person, as no answer came in between");
    home.a.parrot.release();
    settle().await;
    watcher.leave().await;
    home.is_quiet().await;
}

// A beginning that is only slow to be told is no stray.
#[tokio::test]
async fn a_beginning_that_takes_its_time_is_not_taken_for_a_stray() {
    let home = Home::of(talk()).await;
    let began = home.a.store.hold("begin", Side::After);
    let at = home.a.enter(&home.ann, &home.chat, private_chat_core::policy::Right::Send).await.unwrap();
    let chats = home.a.cases.chats.clone();
    let mut sending = tokio::task::JoinSet::new();
    sending.spawn(async move {
        let sent = chats.send(&at, super::house::a_message("Hi"), false, None).await.unwrap();
        sent.end.wait().await.unwrap().1
    });
    began.reached().await;
    home.pass(4 * SECOND).await;
    began.open();
    home.a.parrot.waiting(1).await;
    home.pass(10 * SECOND).await;
    home.a.parrot.release();
    assert_eq!(sending.join_next().await.unwrap().unwrap().status, MessageStatus::Complete);
    home.is_quiet().await;
}

// F2: the feeds wait, and miss nothing.
#[tokio::test]
async fn a_feed_waits_for_the_database_and_misses_nothing() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let far = Viewer::of(b.watch(&home.ann, home.workspace, None).await.unwrap());
    b.store.set_away(true);
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(8 * SECOND).await;
    assert_eq!(far.seen(), ["open"]);
    b.store.set_away(false);
    home.pass(SECOND).await;
    assert_eq!(far.screen().reply().content, "Hel");
    b.store.set_away(true);
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    home.pass(3 * SECOND).await;
    b.store.set_away(false);
    home.pass(SECOND).await;
    assert_eq!(*far.screen().reply(), home.last().await);
}

// F2: who must read while it is away is told so.
#[tokio::test]
async fn what_can_not_be_read_is_unavailable_and_leaves_nothing_behind() {
    let home = Home::of(talk()).await;
    let member = home.a.member(&home.ann, home.workspace, private_chat_core::policy::Right::ReadChats).await.unwrap();
    home.a.store.set_away(true);
    for after in [None, Some(0)] {
        let answer = home.a.cases.live.watch(&member, after).await.map(|_| ());
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    }
    assert!(matches!(home.a.send(&home.ann, &home.chat, "Hi").await, Err(Error::Unavailable { .. })));
    home.a.store.set_away(false);
    home.pass(3 * SECOND).await;
    home.is_quiet().await;
}

// The conversation can't be read when the reply's turn has come.
#[tokio::test]
async fn a_reply_whose_conversation_can_not_be_read_says_so() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    let reading = home.a.store.hold("messages", Side::Before);
    let sent = home.a.send(&home.ann, &home.chat, "And?").await.unwrap();
    reading.reached().await;
    home.a.store.set_away(true);
    reading.open();
    settle().await;
    home.a.store.set_away(false);
    home.pass(SECOND).await;
    let (_, reply) = sent.end.wait().await.unwrap();
    assert_eq!((reply.status, home.last().await.status), (MessageStatus::Interrupted, MessageStatus::Interrupted));
    home.is_quiet().await;
}
