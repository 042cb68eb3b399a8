//! Requests that are sent again under one `Idempotency-Key`.

use std::time::Duration;

use futures_util::future::join_all;
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Kind};
use private_chat_core::model::chat::{Chat, Message, MessageStatus, ReplyFault, Visibility};
use private_chat_core::model::idempotency::Repeatable;
use private_chat_core::model::user::GlobalRole;
use private_chat_core::model::workspace::Role;
use private_chat_core::page::PageRequest;
use private_chat_core::policy::Right;
use private_chat_core::port::store::WorkspaceRepository as _;
use private_chat_core::usecase::chats::{NewChat, Sent};
use private_chat_core::usecase::users::NewUser;
use private_chat_core::usecase::workspaces::NewWorkspace;
use tokio::task::JoinSet;

use super::house::{Home, PASSWORD, Person, Process, SECOND, a_message, an_admin, eventually, settle};
use super::screen::{Screen, Viewer};
use super::troubled::Side;

const DAY: Duration = Duration::from_secs(86_400);

fn hello() -> Script {
    Script::new().content("Hello.").finish("stop")
}

/// Three pieces, and time to join before, between and after them.
fn in_pieces() -> Script {
    Script::new()
        .pause()
        .reasoning("Hm.")
        .content("Grüß ")
        .pause()
        .content("Gott 😀")
        .pause()
        .content("!")
        .finish("stop")
}

fn asking(process: &Process, key: &str, body: &str) -> Repeatable {
    process.cases.idempotency.repeatable(key, [b"POST", b"/somewhere", body.as_bytes()]).unwrap()
}

/// Sends under a key.
async fn send(
    process: &Process,
    (person, chat): (&Person, &Chat),
    (key, text): (&str, &str),
    watched: bool,
) -> Result<Sent, Error> {
    let at = process.enter(person, chat, Right::Send).await?;
    process.cases.chats.send(&at, a_message(text), watched, Some(asking(process, key, text))).await
}

/// Sends under a key, and waits for the end; time stands still.
async fn ask(
    process: &Process,
    person: &Person,
    chat: &Chat,
    asked: (&str, &str),
) -> Result<(Message, Message), Error> {
    send(process, (person, chat), asked, false).await?.end.wait().await
}

async fn watch(process: &Process, home: &Home, key: &str) -> Viewer {
    let sent = send(process, (&home.ann, &home.chat), (key, "Hi"), true).await.unwrap();
    Viewer::of_reply(sent.watch.unwrap())
}

/// What a stream of one reply is, from wherever it is joined: the two messages, text that assembles to the whole, and one end.
async fn is_whole(home: &Home, screen: &Screen, when: &str) {
    assert_eq!(screen.thread(), home.house.messages(home.chat.id).await, "{when}: {:?}", screen.seen);
    assert_eq!(screen.seen[..2], ["created user", "created assistant"], "{when}: {:?}", screen.seen);
    let ends = screen.seen.iter().filter(|seen| seen.starts_with("ended")).count();
    assert_eq!(ends, 1, "{when}: {:?}", screen.seen);
    assert!(screen.seen.last().unwrap().starts_with("ended"), "{when}: {:?}", screen.seen);
}

fn is_reused<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::IdempotencyKeyReused))
}

// R73, F44
#[tokio::test]
async fn a_message_that_is_sent_twenty_times_at_once_is_sent_once() {
    for pace in [vec![0], vec![1], vec![2, 1], vec![1, 5, 2, 7, 3]] {
        let home = Home::of(hello()).await;
        let b = home.house.process(hello()).await;
        home.a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());
        let (here, there) = (home.a.cases.clone(), b.cases.clone());
        let mut sending = JoinSet::new();
        for n in 0..20 {
            let (process, cases) = if n % 2 == 0 { (&home.a, here.clone()) } else { (&b, there.clone()) };
            let at = process.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
            let request = asking(process, "key", "Hi");
            let watched = n % 3 == 0;
            sending.spawn(async move {
                let sent = cases.chats.send(&at, a_message("Hi"), watched, Some(request)).await.unwrap();
                match sent.watch {
                    Some(watch) => {
                        let screen = Viewer::of_reply(watch).read_out().await;
                        let thread = screen.thread();
                        (thread[0].clone(), thread[1].clone())
                    }
                    None => sent.end.wait().await.unwrap(),
                }
            });
        }
        let mut answers = Vec::new();
        for _ in 0..100 {
            home.pass(Duration::from_millis(250)).await;
            while let Some(answer) = sending.try_join_next() {
                answers.push(answer.unwrap());
            }
        }
        assert_eq!(answers.len(), 20, "{pace:?}");
        let stored = home.house.messages(home.chat.id).await;
        let [message, reply] = &stored[..] else { panic!("{stored:?}") };
        for answer in &answers {
            assert_eq!((&answer.0, &answer.1), (message, reply));
        }
        let calls = home.a.parrot.completions().len() + b.parrot.completions().len();
        assert_eq!(calls, 1);
        home.pass(3 * SECOND).await;
        home.is_quiet().await;
        assert_eq!(b.cases.live.watchers(), 0);
    }
}

// R73: joined at every moment, on the same instance and on another one.
#[tokio::test]
async fn a_reply_is_joined_from_any_moment_on_any_instance() {
    for moment in 0..=4 {
        let home = Home::of(in_pieces()).await;
        let b = home.house.process(hello()).await;
        let first = watch(&home.a, &home, "key").await;
        home.a.parrot.waiting(1).await;
        let mut joined = Vec::new();
        for turn in 0..=3 {
            if moment == turn {
                for process in [&home.a, &b] {
                    joined.push(watch(process, &home, "key").await);
                }
                // Half of the time they have time to look about before more comes, and half of the time not.
                settle().await;
            }
            if turn < 3 {
                home.a.parrot.release();
                settle().await;
            }
            if moment == 4 && turn == 1 {
                for process in [&home.a, &b] {
                    joined.push(watch(process, &home, "key").await);
                }
                home.pass(SECOND).await;
            }
        }
        home.pass(3 * SECOND).await;
        let when = format!("joined at {moment}");
        for mut viewer in [first].into_iter().chain(joined) {
            assert!(viewer.ended(), "{when}: it never ends: {:?}", viewer.seen());
            let screen = viewer.read_out().await;
            is_whole(&home, &screen, &when).await;
            assert_eq!(screen.reply().content, "Grüß Gott 😀!", "{when}");
        }
        assert_eq!(home.a.parrot.completions().len() + b.parrot.completions().len(), 1);
        home.pass(3 * SECOND).await;
        home.is_quiet().await;
    }
}

// R73: also between the commit and the first word, and while the joining itself takes long.
#[tokio::test]
async fn a_reply_is_joined_while_it_begins_and_while_it_ends() {
    for (name, side) in [
        ("keyed_request", Side::After),
        ("message", Side::Before),
        ("message", Side::After),
        ("log_bounds", Side::Before),
        ("log_bounds", Side::After),
        ("running_in", Side::Before),
        ("running_in", Side::After),
    ] {
        for far in [false, true] {
            let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
            let b = home.house.process(hello()).await;
            // A send whose commit is through, and that no process knows to run yet.
            let begin = home.a.store.hold("begin", Side::After);
            let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
            let (chats, request) = (home.a.cases.chats.clone(), asking(&home.a, "key", "Hi"));
            let mut sending = JoinSet::new();
            sending.spawn(async move { chats.send(&at, a_message("Hi"), true, Some(request)).await.unwrap() });
            begin.reached().await;
            let process = if far { &b } else { &home.a };
            let early = watch(process, &home, "key").await;
            settle().await;
            begin.open();
            let asked = sending.join_next().await.unwrap().unwrap();
            home.a.parrot.waiting(1).await;

            // And one who joins while it ends.
            let gate = process.store.hold(name, side);
            let at = process.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
            let (chats, request) = (process.cases.chats.clone(), asking(process, "key", "Hi"));
            sending.spawn(async move { chats.send(&at, a_message("Hi"), true, Some(request)).await.unwrap() });
            for _ in 0..8 {
                settle().await;
            }
            home.a.parrot.release();
            asked.end.wait().await.unwrap();
            home.pass(SECOND).await;
            gate.open();
            let late = sending.join_next().await.unwrap().unwrap();
            let (early, late) = (early, Viewer::of_reply(late.watch.unwrap()));
            home.pass(3 * SECOND).await;
            let when = format!("{name} {side:?}, far: {far}");
            for viewer in [Viewer::of_reply(asked.watch.unwrap()), early, late] {
                is_whole(&home, &viewer.read_out().await, &when).await;
            }
            home.pass(3 * SECOND).await;
            home.is_quiet().await;
        }
    }
}

// The same for the first who watches in a process: whatever it has looked at before the end, and whatever after.
#[tokio::test]
async fn a_reply_that_ends_at_any_step_of_joining_it_is_whole() {
    for (name, times) in [("message", 1), ("message", 2), ("running_in", 1), ("running_in", 2), ("log_bounds", 1)] {
        for (side, far) in [(Side::Before, false), (Side::Before, true), (Side::After, false), (Side::After, true)] {
            let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
            let b = home.house.process(hello()).await;
            let first = send(&home.a, (&home.ann, &home.chat), ("key", "Hi"), false).await.unwrap();
            home.a.parrot.waiting(1).await;
            let process = if far { &b } else { &home.a };
            let at = process.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
            let (chats, request) = (process.cases.chats.clone(), asking(process, "key", "Hi"));
            let gates: Vec<_> = (0..times).map(|_| process.store.hold(name, side)).collect();
            let mut joining = JoinSet::new();
            joining.spawn(async move { chats.send(&at, a_message("Hi"), true, Some(request)).await.unwrap() });
            let (last, before) = gates.split_last().unwrap();
            for gate in before {
                gate.reached().await;
                gate.open();
            }
            last.reached().await;
            home.a.parrot.release();
            first.end.wait().await.unwrap();
            settle().await;
            last.open();
            let mut joined = Viewer::of_reply(joining.join_next().await.unwrap().unwrap().watch.unwrap());
            home.pass(3 * SECOND).await;
            let when = format!("{name} {times} {side:?}, far: {far}");
            assert!(joined.ended(), "{when}: it never ends: {:?}", joined.seen());
            is_whole(&home, &joined.read_out().await, &when).await;
        }
    }
}

#[tokio::test]
async fn after_the_end_the_same_is_answered_and_nothing_begun() {
    let home = Home::of(hello()).await;
    let b = home.house.process(hello()).await;
    let first = ask(&home.a, &home.ann, &home.chat, ("key", "Hi")).await.unwrap();
    home.a.ask(&home.ann, &home.chat, "Something else").await;
    for process in [&home.a, &b] {
        assert_eq!(ask(process, &home.ann, &home.chat, ("key", "Hi")).await.unwrap(), first);
        let screen = watch(process, &home, "key").await.read_out().await;
        assert_eq!(screen.seen, ["created user", "created assistant", "ended complete"]);
        assert_eq!(screen.thread(), [first.0.clone(), first.1.clone()]);
    }
    assert_eq!(home.house.messages(home.chat.id).await.len(), 4);
    assert_eq!(b.parrot.completions().len(), 0);
    // Without a key it is another message, and so it is with another key.
    b.ask(&home.ann, &home.chat, "Hi").await;
    ask(&b, &home.ann, &home.chat, ("other-key", "Hi")).await.unwrap();
    assert_eq!(home.house.messages(home.chat.id).await.len(), 8);
    // Who stops it once has stopped it: the second stop finds nothing to be stopped, and the answer is still there.
    home.pass(3 * SECOND).await;
    home.is_quiet().await;
}

// However a reply ends, that is the answer: nothing is begun anew.
#[tokio::test]
async fn a_reply_that_was_stopped_is_the_answer_to_the_same_request() {
    let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
    let b = home.house.process(hello()).await;
    let sent = send(&home.a, (&home.ann, &home.chat), ("key", "Hi"), false).await.unwrap();
    home.a.parrot.waiting(1).await;
    let joined = watch(&b, &home, "key").await;
    home.pass(SECOND).await;
    let reply = home.last().await;
    home.a.stop(&home.ann, &home.chat, reply.id).await.unwrap();
    let (_, stopped) = sent.end.wait().await.unwrap();
    assert_eq!((stopped.status, stopped.content.as_str()), (MessageStatus::Stopped, "Hel"));
    home.pass(SECOND).await;
    is_whole(&home, &joined.read_out().await, "stopped").await;
    assert_eq!(ask(&b, &home.ann, &home.chat, ("key", "Hi")).await.unwrap().1, stopped);
    assert_eq!(home.house.messages(home.chat.id).await.len(), 2);
}

#[tokio::test]
async fn a_key_belongs_to_its_request_and_to_its_user() {
    let home = Home::of(hello()).await;
    let b = home.house.process(hello()).await;
    let ben = home.person("Ben", Role::Member).await;
    let first = ask(&home.a, &home.ann, &home.chat, ("key", "Hi")).await.unwrap();
    for process in [&home.a, &b] {
        assert!(is_reused(&ask(process, &home.ann, &home.chat, ("key", "Hi!")).await));
    }
    // Also for something else than a message.
    let actor = home.a.actor(&home.ann).await;
    let new = || NewWorkspace { name: "Lab".into(), description: None };
    let made = home.a.cases.workspaces.create(&actor, new(), Some(asking(&home.a, "key", "Lab"))).await;
    assert!(is_reused(&made));
    // Somebody else's key of the same name is another one.
    let other = ask(&b, &ben, &home.chat, ("key", "Hi!")).await.unwrap();
    assert_ne!(other.0.id, first.0.id);
    assert_eq!(home.house.messages(home.chat.id).await.len(), 4);
    for key in ["", " ", "a b", "é", &"x".repeat(256)] {
        let answer = home.a.cases.idempotency.repeatable(key, [b"", b"", b""]);
        assert!(matches!(answer, Err(Error::Invalid(_))), "{key:?}");
    }
}

// The right is asked for each time.
#[tokio::test]
async fn who_may_no_longer_send_or_read_is_not_answered_again() {
    let home = Home::of(hello()).await;
    let ben = home.person("Ben", Role::Member).await;
    ask(&home.a, &ben, &home.chat, ("key", "Hi")).await.unwrap();
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Guest).await.unwrap();
    let answer = ask(&home.a, &ben, &home.chat, ("key", "Hi")).await;
    assert!(matches!(answer, Err(Error::Forbidden(_))), "{answer:?}");
    let stale = home.a.enter(&ben, &home.chat, Right::ReadChats).await.unwrap();
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    let answer = ask(&home.a, &ben, &home.chat, ("key", "Hi")).await;
    assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
    let again = home.a.cases.chats.send(&stale, a_message("Hi"), false, Some(asking(&home.a, "key", "Hi"))).await;
    let answer = again.unwrap().end.wait().await;
    assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
}

#[tokio::test]
async fn what_is_gone_is_not_found_and_not_made_again() {
    let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
    let b = home.house.process(hello()).await;
    let sent = send(&home.a, (&home.ann, &home.chat), ("key", "Hi"), false).await.unwrap();
    home.a.parrot.waiting(1).await;
    let at = b.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let joined = watch(&b, &home, "key").await;
    let waiting = send(&b, (&home.ann, &home.chat), ("key", "Hi"), false).await.unwrap();
    home.pass(SECOND).await;
    // By a third process, which runs nothing of it.
    let c = home.house.process(hello()).await;
    c.cases.chats.delete(&c.enter(&home.ann, &home.chat, Right::DeleteChat).await.unwrap()).await.unwrap();
    home.pass(3 * SECOND).await;
    let screen = joined.read_out().await;
    assert!(!screen.seen.iter().any(|seen| seen.starts_with("ended")), "{:?}", screen.seen);
    // Who asked is told what became of it, as the process that made it knows; who came later finds nothing.
    let (_, reply) = sent.end.wait().await.unwrap();
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Interrupted, "Hel"));
    assert_eq!(reply.error.map(|error| error.code), Some(ReplyFault::Deleted));
    let answer = waiting.end.wait().await.map(|_| ());
    assert!(matches!(answer, Err(Error::NotFound(Kind::Chat))), "{answer:?}");
    let again = b.cases.chats.send(&at, a_message("Hi"), false, Some(asking(&b, "key", "Hi"))).await.map(|_| ());
    assert!(matches!(again, Err(Error::NotFound(Kind::Message))), "{again:?}");
    assert_eq!(home.a.cases.replies.running(), 0);
    assert_eq!(b.parrot.completions().len(), 0);
}

// Once a day has passed, it is a new request.
#[tokio::test]
async fn a_key_is_known_for_a_day() {
    let home = Home::of(hello()).await;
    let b = home.house.process(hello()).await;
    let first = ask(&home.a, &home.ann, &home.chat, ("key", "Hi")).await.unwrap();
    home.house.clock.advance(DAY - Duration::from_micros(1));
    let ann = home.a.sign_in(&home.ann.user).await;
    assert_eq!(ask(&b, &ann, &home.chat, ("key", "Hi")).await.unwrap(), first);
    home.house.clock.advance(Duration::from_micros(1));
    // Whatever it asks for, and once again however often it comes.
    home.a.store.set_pace(vec![2, 1]);
    b.store.set_pace(vec![1, 3]);
    let again = join_all([&home.a, &b, &home.a, &b].map(async |process: &Process| {
        send(process, (&ann, &home.chat), ("key", "Hi again"), false).await.unwrap().message
    }));
    let again = again.await;
    assert!(again.iter().all(|message| *message == again[0]), "{again:?}");
    assert_ne!(again[0].id, first.0.id);
    home.pass(3 * SECOND).await;
    assert_eq!(home.house.messages(home.chat.id).await.len(), 4);
}

// What failed was not done, and leaves no note.
#[tokio::test]
async fn a_request_that_failed_may_be_sent_again() {
    let home = Home::of(hello()).await;
    let bad = ask(&home.a, &home.ann, &home.chat, ("key", "")).await;
    assert!(matches!(bad, Err(Error::Invalid(_))), "{bad:?}");
    let (at, request) = (home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap(), asking(&home.a, "key", "Hi"));
    home.a.store.set_away(true);
    let away = home.a.cases.chats.send(&at, a_message("Hi"), false, Some(request)).await.map(|_| ());
    assert!(matches!(away, Err(Error::Unavailable { .. })), "{away:?}");
    home.a.store.set_away(false);
    assert_eq!(home.house.messages(home.chat.id).await, []);
    let (message, reply) = ask(&home.a, &home.ann, &home.chat, ("key", "Hi")).await.unwrap();
    assert_eq!((message.content.as_str(), reply.content.as_str()), ("Hi", "Hello."));
    assert_eq!(home.a.parrot.completions().len(), 1);
}

// It came through, and nobody was told: the second request finds out what became of it.
#[tokio::test]
async fn a_request_whose_answer_got_lost_is_joined() {
    let home = Home::of(hello()).await;
    let b = home.house.process(hello()).await;
    home.a.store.lose_answer("begin");
    let lost = ask(&home.a, &home.ann, &home.chat, ("key", "Hi")).await;
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    let mut ends = JoinSet::new();
    for process in [&home.a, &b] {
        let sent = send(process, (&home.ann, &home.chat), ("key", "Hi"), false).await.unwrap();
        ends.spawn(async move { sent.end.wait().await.unwrap() });
    }
    home.pass(12 * SECOND).await;
    let stored = home.house.messages(home.chat.id).await;
    assert_eq!(stored.len(), 2);
    for _ in 0..2 {
        let (message, reply) = ends.try_join_next().expect("the end is known").unwrap();
        assert_eq!([message, reply], stored[..]);
    }
    assert_eq!(stored[1].status, MessageStatus::Interrupted);
}

// R109
#[tokio::test]
async fn a_process_that_stops_ends_what_is_joined_and_notes_nothing_new() {
    let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
    let b = home.house.process(hello()).await;
    let sent = send(&home.a, (&home.ann, &home.chat), ("key", "Hi"), false).await.unwrap();
    home.a.parrot.waiting(1).await;
    let (near, far) = (watch(&home.a, &home, "key").await, watch(&b, &home, "key").await);
    home.pass(SECOND).await;
    let replies = home.a.cases.replies.clone();
    let mut draining = JoinSet::new();
    draining.spawn(async move { replies.drain(5 * SECOND).await });
    settle().await;
    // What begins is refused, without a note; what was begun is joined.
    let refused = ask(&home.a, &home.ann, &home.chat, ("new-key", "Late")).await;
    assert!(matches!(refused, Err(Error::ShuttingDown)), "{refused:?}");
    let joined = send(&home.a, (&home.ann, &home.chat), ("key", "Hi"), true).await.unwrap();
    let joined = Viewer::of_reply(joined.watch.unwrap());
    home.pass(6 * SECOND).await;
    assert!(draining.try_join_next().is_some());
    home.a.cases.live.close();
    home.pass(SECOND).await;
    let (_, reply) = sent.end.wait().await.unwrap();
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Interrupted, "Hel"));
    for viewer in [near, far, joined] {
        is_whole(&home, &viewer.read_out().await, "a stop").await;
    }
    let refused = send(&home.a, (&home.ann, &home.chat), ("key", "Hi"), true).await.map(|_| ());
    assert!(matches!(refused, Err(Error::ShuttingDown)), "{refused:?}");
    // The other one takes it from there.
    assert_eq!(ask(&b, &home.ann, &home.chat, ("key", "Hi")).await.unwrap().1, reply);
    assert_eq!(ask(&b, &home.ann, &home.chat, ("new-key", "Late")).await.unwrap().1.content, "Hello.");
}

// R27: a request that joins is a stream like any other.
#[tokio::test]
async fn who_is_removed_while_they_join_a_reply_is_told_no_more() {
    let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
    let b = home.house.process(hello()).await;
    let ben = home.person("Ben", Role::Member).await;
    let first = send(&home.a, (&ben, &home.chat), ("key", "Hi"), false).await.unwrap();
    home.a.parrot.waiting(1).await;
    let mut viewers = Vec::new();
    for process in [&home.a, &b] {
        let sent = send(process, (&ben, &home.chat), ("key", "Hi"), true).await.unwrap();
        viewers.push(Viewer::of_reply(sent.watch.unwrap()));
    }
    let waiting = send(&b, (&ben, &home.chat), ("key", "Hi"), false).await.unwrap();
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    home.pass(4 * SECOND).await;
    for viewer in &mut viewers {
        assert!(viewer.ended());
    }
    home.a.parrot.release();
    home.pass(SECOND).await;
    for viewer in &viewers {
        assert!(!viewer.seen().iter().any(|seen| seen.starts_with("ended")), "{:?}", viewer.seen());
    }
    for end in [first.end, waiting.end] {
        let answer = end.wait().await;
        assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
    }
    assert_eq!(home.last().await.content, "Hello.");
}

// A client that hangs up while it joins takes nothing along.
#[tokio::test]
async fn who_hangs_up_while_they_join_stops_nothing() {
    for steps in 0..24 {
        let home = Home::of(hello()).await;
        home.a.store.set_pace(vec![2]);
        let mut request = JoinSet::new();
        let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
        let (chats, asked) = (home.a.cases.chats.clone(), asking(&home.a, "key", "Hi"));
        let (again, once_more) = (at.clone(), chats.clone());
        request.spawn(async move { chats.send(&at, a_message("Hi"), false, Some(asked)).await.map(|_| ()) });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        request.shutdown().await;
        let sent = once_more.send(&again, a_message("Hi"), false, Some(asked)).await.unwrap();
        let (message, reply) = sent.end.wait().await.unwrap();
        assert_eq!(home.house.messages(home.chat.id).await, [message, reply.clone()]);
        assert_eq!(reply.content, "Hello.");
        eventually("the reply is over", || home.a.cases.replies.running() == 0).await;
        home.pass(3 * SECOND).await;
        home.is_quiet().await;
    }
}

// R73: whatever is made under a key is made once, on however many instances, and shown to each who asks.
#[tokio::test]
async fn accounts_workspaces_chats_and_invitations_are_made_once_under_a_key() {
    for pace in [vec![0], vec![1], vec![3, 1], vec![1, 4, 2]] {
        let home = Home::of(hello()).await;
        let b = home.house.process(hello()).await;
        let root = an_admin(&home.a, &home.house).await;
        let both = [&home.a, &b, &home.a, &b, &home.a, &b];
        home.a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());

        let users = join_all(both.map(async |process: &Process| {
            let new = NewUser {
                email: "cleo@example.com".into(),
                name: "Cleo".into(),
                password: PASSWORD.into(),
                role: GlobalRole::User,
                must_change_password: true,
            };
            let actor = process.actor(&root).await;
            process.cases.users.create(&actor, new, Some(asking(process, "user", ""))).await.unwrap()
        }));
        let users = users.await;
        assert!(users.iter().all(|user| *user == users[0]), "{users:?}");

        let workspaces = join_all(both.map(async |process: &Process| {
            let new = NewWorkspace { name: "Lab".into(), description: None };
            let actor = process.actor(&home.ann).await;
            process.cases.workspaces.create(&actor, new, Some(asking(process, "workspace", ""))).await.unwrap()
        }));
        let workspaces = workspaces.await;
        assert!(workspaces.iter().all(|joined| *joined == workspaces[0]), "{workspaces:?}");
        let actor = home.a.actor(&home.ann).await;
        let listed = home.a.cases.workspaces.list(&actor, PageRequest::default()).await.unwrap();
        assert_eq!(listed.items.len(), 2);

        let chats = join_all(both.map(async |process: &Process| {
            let new = NewChat { title: None, visibility: Visibility::Private, model: None, system_prompt: None };
            let member = process.member(&home.ann, home.workspace, Right::CreateChat).await.unwrap();
            process.cases.chats.create(&member, new, Some(asking(process, "chat", ""))).await.unwrap()
        }));
        let chats = chats.await;
        assert!(chats.iter().all(|chat| *chat == chats[0]), "{chats:?}");

        let invited = join_all(both.map(async |process: &Process| {
            let member = process.member(&home.ann, home.workspace, Right::Invite).await.unwrap();
            let request = Some(asking(process, "invitation", ""));
            let made = process.cases.invitations.invite(&member, "cleo@example.com", Role::Guest, request).await;
            let (invited, token) = made.unwrap();
            (invited, token.expose().to_owned())
        }));
        let invited = invited.await;
        assert!(invited.iter().all(|one| *one == invited[0]), "the same token each time");

        // And once it is gone, it is not found, and not made again.
        let member = home.a.member(&home.ann, home.workspace, Right::Invite).await.unwrap();
        home.a.cases.invitations.revoke(&member, invited[0].0.invitation.id).await.unwrap();
        let request = Some(asking(&b, "invitation", ""));
        let again = b.cases.invitations.invite(&member, "cleo@example.com", Role::Guest, request).await;
        assert!(matches!(again, Err(Error::NotFound(Kind::Invitation))), "{again:?}");
        home.a.delete_workspace(&home.ann, workspaces[0].workspace.id).await.unwrap();
        let new = NewWorkspace { name: "Lab".into(), description: None };
        let again = b.cases.workspaces.create(&actor, new, Some(asking(&b, "workspace", ""))).await;
        assert!(matches!(again, Err(Error::NotFound(Kind::Workspace))), "{again:?}");
        home.a.delete_user(&root, users[0].id, None).await.unwrap();
        let new = NewUser {
            email: "cleo@example.com".into(),
            name: "Cleo".into(),
            password: PASSWORD.into(),
            role: GlobalRole::User,
            must_change_password: true,
        };
        let admin = b.actor(&root).await;
        let again = b.cases.users.create(&admin, new, Some(asking(&b, "user", ""))).await;
        assert!(matches!(again, Err(Error::NotFound(Kind::User))), "{again:?}");
        let store = &home.house.store;
        assert_eq!(store.workspaces_of(home.ann.user.id, PageRequest::default()).await.unwrap().items.len(), 1);
    }
}
