//! Several processes on one database: what crosses from one to the other, and what happens when one dies.

use std::time::Duration;

use private_chat_adapters::memory::Script;
use private_chat_core::change::{Changes, Instance, Version};
use private_chat_core::error::{Error, Obstacle};
use private_chat_core::model::chat::{MessageStatus, ReplyFault, ReplyLimits, Visibility};
use private_chat_core::policy::Right;
use private_chat_core::port::store::{ReplyRepository as _, UnitOfWork as _};
use tokio::task::JoinSet;

use super::house::{Home, SECOND, settle};
use super::screen::Viewer;
use super::troubled::Side;

const MILLISECOND: Duration = Duration::from_millis(1);

fn talk() -> Script {
    Script::new()
        .reasoning("Hm.")
        .content("Hél")
        .pause()
        .content("lo, ")
        .pause()
        .content("world.")
        .usage(1, 2)
        .finish("stop")
}

fn half() -> Script {
    Script::new().content("Half").pause().content(" done.").finish("stop")
}

/// For providers that may be silent for as long as a story takes.
const PATIENT: ReplyLimits = ReplyLimits {
    first_byte: Duration::from_secs(3_600),
    idle: Duration::from_secs(3_600),
    total: Duration::from_secs(3_600),
    bytes: 1 << 20,
};

// F34
#[tokio::test]
async fn a_watcher_on_another_instance_sees_a_reply_whenever_it_joins() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let watch = || async { Viewer::of(b.watch(&home.ann, home.workspace, None).await.unwrap()) };
    let before = watch().await;
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(600 * MILLISECOND).await;
    assert_eq!(before.seen(), ["open", "created user", "created assistant", "0 \"Hm.\"", "0 \"Hél\""]);
    let during = watch().await;
    settle().await;
    assert_eq!(during.seen(), ["open", "created assistant", "0 \"Hm.\"", "0 \"Hél\""]);
    home.a.parrot.release();
    home.pass(600 * MILLISECOND).await;
    assert_eq!(before.seen().last().unwrap(), "3 \"lo, \"", "a delta takes up to 600 ms");
    home.a.parrot.release();
    let (_, reply) = sent.end.wait().await.unwrap();
    home.pass(600 * MILLISECOND).await;
    assert_eq!(before.seen()[5..], ["3 \"lo, \"", "7 \"world.\"", "ended complete"]);
    assert_eq!(during.seen()[4..], ["3 \"lo, \"", "7 \"world.\"", "ended complete"]);
    let after = Viewer::of(b.watch(&home.ann, home.workspace, Some(0)).await.unwrap());
    settle().await;
    for viewer in [&before, &during, &after] {
        assert_eq!(*viewer.screen().reply(), reply);
        assert_eq!(viewer.screen().cursor, Some(4));
    }
    // The same chat goes on at the other process.
    let next = b.send(&home.ann, &home.chat, "And you?").await.unwrap();
    for _ in 0..2 {
        b.parrot.waiting(1).await;
        b.parrot.release();
        settle().await;
    }
    next.end.wait().await.unwrap();
    assert_eq!(b.parrot.completions()[0].messages[1].content, "Héllo, world.");
}

// A first watcher who comes while a reply runs elsewhere.
#[tokio::test]
async fn the_first_watcher_of_an_instance_finds_what_runs_elsewhere() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    let viewer = Viewer::of(b.watch_chat(&home.ann, &home.chat, None).await.unwrap());
    settle().await;
    assert_eq!(viewer.seen(), ["open", "created assistant", "0 \"Hm.\"", "0 \"Hél\""]);
    for _ in 0..2 {
        home.a.parrot.release();
        home.pass(SECOND).await;
    }
    assert_eq!(*viewer.screen().reply(), sent.end.wait().await.unwrap().1);
    viewer.leave().await;
    home.pass(3 * SECOND).await;
    home.is_quiet().await;
}

#[tokio::test]
async fn a_send_waits_for_a_reply_that_runs_elsewhere() {
    let home = Home::of(talk()).await;
    let b = home.house.process(Script::new().content("Two.").finish("stop")).await;
    home.a.send(&home.ann, &home.chat, "First").await.unwrap();
    home.a.parrot.waiting(1).await;
    let second = b.send(&home.ann, &home.chat, "Second").await.unwrap();
    home.pass(3 * SECOND).await;
    assert_eq!(b.parrot.completions(), []);
    home.a.parrot.release();
    home.a.parrot.release();
    home.pass(SECOND).await;
    assert_eq!(second.end.wait().await.unwrap().1.content, "Two.");
    let told: Vec<_> = b.parrot.completions()[0].messages.iter().map(|message| message.content.clone()).collect();
    assert_eq!(told, ["First", "Héllo, world.", "Second"]);
}

#[tokio::test]
async fn a_stop_reaches_the_instance_that_makes_the_reply() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let viewer = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    let at = b.enter(&home.ann, &home.chat, Right::StopReply).await.unwrap();
    let (chats, id) = (b.cases.chats.clone(), home.last().await.id);
    let mut stopping = JoinSet::new();
    stopping.spawn(async move { chats.stop(&at, id).await });
    home.pass(2 * SECOND).await;
    let stopped = stopping.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((stopped.status, stopped.content.as_str()), (MessageStatus::Stopped, "Hél"));
    assert_eq!(*viewer.read_out().await.reply(), stopped);
    home.a.parrot.abandoned(1).await;
    let again = b.stop(&home.ann, &home.chat, id).await;
    assert!(matches!(again, Err(Error::Conflict(Obstacle::NotRunning))), "{again:?}");
    home.is_quiet().await;
}

// Ten people press stop at once, on two processes.
#[tokio::test]
async fn many_stops_end_a_reply_once() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.a.store.set_pace(vec![1]);
    b.store.set_pace(vec![2, 1]);
    let id = home.last().await.id;
    let mut stopping = JoinSet::new();
    for n in 0..10 {
        let process = if n % 2 == 0 { &home.a } else { &b };
        let at = process.enter(&home.ann, &home.chat, Right::StopReply).await.unwrap();
        let chats = process.cases.chats.clone();
        stopping.spawn(async move { chats.stop(&at, id).await });
    }
    home.pass(3 * SECOND).await;
    while let Some(answer) = stopping.join_next().await {
        match answer.unwrap() {
            Ok(message) => assert_eq!(message.status, MessageStatus::Stopped),
            Err(Error::Conflict(Obstacle::NotRunning)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    home.is_quiet().await;
}

// F31, F35
#[tokio::test]
async fn the_replies_of_a_killed_process_are_interrupted_with_what_was_stored() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    home.a.parrot.release();
    settle().await;
    // "lo, " came after the last checkpoint.
    let viewer = Viewer::of(b.watch(&home.ann, home.workspace, None).await.unwrap());
    home.a.kill().await;
    home.pass(11 * SECOND).await;
    assert_eq!(home.last().await.status, MessageStatus::Streaming);
    home.pass(4 * SECOND).await;
    let reply = home.last().await;
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Interrupted, "Hél"));
    assert_eq!(reply.reasoning.as_deref(), Some("Hm."));
    assert_eq!(reply.error.as_ref().map(|error| error.code), Some(ReplyFault::ServerStopped));
    home.pass(SECOND).await;
    assert_eq!(*viewer.screen().reply(), reply);
    assert_eq!(home.house.store.running_in(home.workspace).await.unwrap(), []);
    assert_eq!(home.house.store.instances().await.unwrap().len(), 1, "only the living are listed");
    // What stands is told where the sender comes back, and the chat goes on.
    assert_eq!(home.house.message(&sent.message).await, sent.message);
    let next = b.send(&home.ann, &home.chat, "Again").await.unwrap();
    b.parrot.waiting(1).await;
    b.parrot.release();
    b.parrot.waiting(1).await;
    b.parrot.release();
    assert_eq!(next.end.wait().await.unwrap().1.status, MessageStatus::Complete);
}

// F31: at most one checkpoint behind, whenever it dies.
#[tokio::test]
async fn a_killed_process_loses_at_most_what_came_since_its_last_checkpoint() {
    for killed_after in (0..2_000).step_by(110) {
        let script = (0..40).fold(Script::new(), |script, n| script.content(&format!("{n} ")).pause());
        let home = Home::of(script).await;
        let b = home.house.process(talk()).await;
        home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
        let mut said = Vec::new();
        for step in 0..killed_after / 50 {
            home.pass(50 * MILLISECOND).await;
            said.push((step * 50, home.a.parrot.completions().len()));
            home.a.parrot.release();
            settle().await;
        }
        home.a.kill().await;
        home.pass(16 * SECOND).await;
        let reply = home.last().await;
        assert_eq!(reply.status, MessageStatus::Interrupted);
        let words = reply.content.split_whitespace().count();
        // One word each 50 ms; a checkpoint each 250 ms.
        let least = (said.len() + 1).saturating_sub(6);
        assert!(words >= least, "{words} words of {} after {killed_after} ms", said.len() + 1);
        drop(b);
    }
}

// F36: a process that is started again ends what the last one left.
#[tokio::test]
async fn a_restarted_process_ends_what_the_last_one_left() {
    let home = Home::of(talk()).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    home.a.kill().await;
    let b = home.house.process(talk()).await;
    home.pass(15 * SECOND).await;
    assert_eq!((home.last().await.status, home.last().await.content.as_str()), (MessageStatus::Interrupted, "Hél"));
    assert_eq!(b.cases.replies.running(), 0);
}

// F32
#[tokio::test]
async fn a_slow_but_living_process_is_never_declared_dead() {
    let home = Home::limited(talk(), PATIENT).await;
    let b = home.house.process(talk()).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    let me = home.house.store.running_in(home.workspace).await.unwrap()[0].0.instance;
    for _ in 0..5 {
        let asleep = home.a.store.hold("checkpoint", Side::Before);
        asleep.reached_within(&home.house).await;
        home.pass(11 * SECOND).await;
        asleep.open();
        settle().await;
        home.pass(SECOND).await;
        assert_eq!(home.last().await.status, MessageStatus::Streaming);
    }
    assert!(home.house.store.instances().await.unwrap().iter().any(|instance| instance.id == me));
    home.a.parrot.release();
    home.a.parrot.release();
    home.pass(SECOND).await;
    assert_eq!(home.last().await.status, MessageStatus::Complete);
    drop(b);
}

// F32: nobody is taken for dead only because nobody could look.
#[tokio::test]
async fn a_database_that_was_away_from_everybody_kills_nobody() {
    let home = Home::limited(half(), PATIENT).await;
    let b = home.house.process(talk()).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(4 * SECOND).await;
    for _ in 0..3 {
        home.a.store.set_away(true);
        b.store.set_away(true);
        home.pass(40 * SECOND).await;
        // One of them is back before the other.
        b.store.set_away(false);
        home.pass(5 * SECOND).await;
        home.a.store.set_away(false);
        home.pass(SECOND).await;
        assert_eq!(home.last().await.status, MessageStatus::Streaming);
        assert_eq!(home.house.store.instances().await.unwrap().len(), 2);
    }
    home.a.parrot.release();
    settle().await;
    assert_eq!((home.last().await.status, home.last().await.content.as_str()), (MessageStatus::Complete, "Half done."));
}

// F32: a process that only slept for too long finds its replies ended, lets go of them, and goes on.
#[tokio::test]
async fn a_process_that_was_declared_dead_lets_go_and_registers_anew() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let viewer = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    let old = home.house.store.running_in(home.workspace).await.unwrap()[0].0.instance;
    let asleep = home.a.store.hold("checkpoint", Side::Before);
    asleep.reached_within(&home.house).await;
    home.pass(16 * SECOND).await;
    let ended = home.last().await;
    assert_eq!(ended.status, MessageStatus::Interrupted);
    asleep.open();
    home.pass(SECOND).await;
    home.a.parrot.abandoned(1).await;
    assert_eq!(*viewer.read_out().await.reply(), ended, "what somebody else ended stands");
    assert_eq!(sent.end.wait().await.unwrap().1, ended);
    assert_eq!(home.last().await, ended);
    let listed = home.house.store.instances().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|instance| instance.id != old));
    let next = home.a.send(&home.ann, &home.chat, "Again").await.unwrap();
    home.pass(5 * SECOND).await;
    home.a.parrot.release();
    home.a.parrot.release();
    assert_eq!(next.end.wait().await.unwrap().1.status, MessageStatus::Complete);
    home.is_quiet().await;
    drop(b);
}

// F32: a finished one never flips, also where the end and the burial meet.
#[tokio::test]
async fn a_reply_that_ends_while_its_process_is_buried_ends_once() {
    for side in [Side::Before, Side::After] {
        for held in ["running_of", "message", "end"] {
            let home = Home::of(half()).await;
            let b = home.house.process(talk()).await;
            home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
            home.a.parrot.waiting(1).await;
            home.pass(SECOND).await;
            let asleep = ["checkpoint", "instances"].map(|name| home.a.store.hold(name, Side::Before));
            for gate in &asleep {
                gate.reached_within(&home.house).await;
            }
            home.pass(9 * SECOND).await;
            let burying = b.store.hold(held, side);
            burying.reached_within(&home.house).await;
            let buried = (held, side) == ("end", Side::After);
            home.a.parrot.release();
            settle().await;
            let ended = home.last().await;
            let expected = if buried { MessageStatus::Interrupted } else { MessageStatus::Complete };
            assert_eq!(ended.status, expected, "{held} {side:?}");
            burying.open();
            asleep.iter().for_each(|gate| gate.open());
            home.pass(20 * SECOND).await;
            assert_eq!(home.last().await, ended, "{held} {side:?}");
            home.is_quiet().await;
        }
    }
}

// A reply that is taken away, as a deletion does, does not go on in secret.
#[tokio::test]
async fn a_reply_that_is_taken_away_lets_its_provider_go() {
    let home = Home::of(half()).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    let (running, _) = home.house.store.running_in(home.workspace).await.unwrap().remove(0);
    home.house.store.commit(Changes::new().delete(running)).await.unwrap();
    home.pass(SECOND).await;
    assert_eq!(home.a.parrot.dropped(), 1);
    assert_eq!(home.a.cases.replies.running(), 0);
}

// A send that was under way while its process was declared dead.
#[tokio::test]
async fn a_send_of_a_process_that_was_declared_dead_is_left_by_nobody() {
    let home = Home::of(talk()).await;
    let began = home.a.store.hold("begin", Side::After);
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let chats = home.a.cases.chats.clone();
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        let sent = chats.send(&at, super::house::a_message("Hi"), false, None).await.unwrap();
        sent.end.wait().await.unwrap().1
    });
    began.reached().await;
    let me = home.house.store.running_in(home.workspace).await.unwrap()[0].0.instance;
    let gone = Instance { id: me, beat: 0, version: Version::FIRST };
    home.house.store.commit(Changes::new().delete(gone)).await.unwrap();
    home.pass(5 * SECOND).await;
    began.open();
    home.pass(5 * SECOND).await;
    assert_eq!(sending.join_next().await.unwrap().unwrap().status, MessageStatus::Interrupted);
    home.is_quiet().await;
}

// F35: a process that has a thousand replies of others to end does not seem dead itself meanwhile.
#[tokio::test]
async fn who_has_many_to_bury_goes_on_beating() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let c = home.house.process(half()).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    // It is the other one that buries, and at that moment the database is slow with it.
    let burying = c.store.hold("running_of", Side::After);
    let other = c.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    let own = c.send(&home.ann, &other, "Hi").await.unwrap();
    c.parrot.waiting(1).await;
    home.a.kill().await;
    burying.reached_within(&home.house).await;
    home.pass(30 * SECOND).await;
    assert_eq!(home.house.last(other.id).await.status, MessageStatus::Streaming);
    assert_eq!(home.house.last(other.id).await.content, "Half", "and it is stored all the while");
    burying.open();
    c.parrot.release();
    assert_eq!(own.end.wait().await.unwrap().1.status, MessageStatus::Complete);
    drop(b);
}
