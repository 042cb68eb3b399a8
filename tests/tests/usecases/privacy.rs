//! Private chats and chats that are gone: what is on its way to somebody is judged when it gets there.

use std::time::Duration;

use futures_util::FutureExt as _;
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Kind};
use private_chat_core::model::chat::{MessageStatus, ReplyFault, Visibility};
use private_chat_core::model::workspace::Role;
use private_chat_core::policy::Right;
use private_chat_core::usecase::live::{LiveEvent, Watch};

use super::house::{Home, Process, SECOND, a_message, settle};
use super::screen::{Screen, Viewer};
use super::troubled::Side;

fn in_three() -> Script {
    Script::new().content("Hel").pause().content("lo.").pause().content("!").finish("stop")
}

// R27, D2: on the same process at once, on another one within 600 ms.
#[tokio::test]
async fn a_chat_that_is_made_private_is_gone_for_all_but_its_creator() {
    let home = Home::of(in_three()).await;
    let b = home.house.process(in_three()).await;
    let ben = home.person("Ben", Role::Member).await;
    let repeatable = |process: &Process| process.cases.idempotency.repeatable("key", [b"POST", b"/", b"Hi"]).unwrap();
    let at = home.a.enter(&ben, &home.chat, Right::Send).await.unwrap();
    let whole = [home.a.view(&ben, home.workspace).await, b.view(&ben, home.workspace).await];
    let mine = [home.a.view(&home.ann, home.workspace).await, b.view(&home.ann, home.workspace).await];
    let sent = home.a.cases.chats.send(&at, a_message("Hi"), true, Some(repeatable(&home.a))).await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    let again = b.enter(&ben, &home.chat, Right::Send).await.unwrap();
    let again = b.cases.chats.send(&again, a_message("Hi"), true, Some(repeatable(&b))).await.unwrap();
    let later = b.cases.chats.send(&at, a_message("Hi"), false, Some(repeatable(&b))).await.unwrap();
    let near =
        [Viewer::of(home.a.watch_chat(&ben, &home.chat, None).await.unwrap()), Viewer::of_reply(sent.watch.unwrap())];
    let far = [Viewer::of(b.watch_chat(&ben, &home.chat, None).await.unwrap()), Viewer::of_reply(again.watch.unwrap())];
    settle().await;
    home.a.make(&home.ann, &home.chat, Visibility::Private).await;
    settle().await;
    for mut viewer in near {
        assert!(viewer.ended());
        assert_eq!(viewer.seen().last().unwrap(), "gone");
    }
    assert_eq!(whole[0].seen().last().unwrap(), "gone");
    home.pass(Duration::from_millis(600)).await;
    for mut viewer in far {
        assert!(viewer.ended());
        assert_eq!(viewer.seen().last().unwrap(), "gone");
    }
    for _ in 0..2 {
        home.a.parrot.release();
        home.pass(SECOND).await;
    }
    for viewer in &whole {
        let screen = viewer.screen();
        assert_eq!(screen.seen.last().unwrap(), "gone", "{:?}", screen.seen);
        assert_eq!(screen.reply().content, "Hel");
    }
    for viewer in &mine {
        assert_eq!(viewer.screen().thread(), home.house.messages(home.chat.id).await);
        assert!(viewer.seen().contains(&"renamed".to_owned()) && !viewer.seen().contains(&"gone".to_owned()));
    }
    for end in [sent.end, later.end] {
        let answer = end.wait().await.map(|_| ());
        assert!(matches!(answer, Err(Error::NotFound(Kind::Chat))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_chat_that_is_shown_again_is_new_with_all_that_runs_in_it() {
    let home = Home::of(in_three()).await;
    let b = home.house.process(in_three()).await;
    let ben = home.person("Ben", Role::Guest).await;
    let others = [home.a.view(&ben, home.workspace).await, b.view(&ben, home.workspace).await];
    let creator = home.a.view(&home.ann, home.workspace).await;
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    home.a.make(&home.ann, &home.chat, Visibility::Private).await;
    home.pass(SECOND).await;
    home.a.parrot.release();
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    home.a.make(&home.ann, &home.chat, Visibility::Workspace).await;
    home.pass(SECOND).await;
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    home.pass(SECOND).await;
    for viewer in &others {
        let seen = viewer.seen();
        assert_eq!(seen[..4], ["open", "created user", "created assistant", "0 \"Hel\""]);
        assert_eq!(seen[4..8], ["gone", "chat", "created assistant", "0 \"Hello.\""]);
        assert_eq!(seen[8..], ["6 \"!\"", "ended complete"]);
        assert_eq!(viewer.screen().thread(), home.house.messages(home.chat.id).await);
    }
    let seen = creator.seen();
    assert!(!seen.contains(&"gone".to_owned()) && !seen.contains(&"chat".to_owned()), "{seen:?}");
    assert_eq!(seen.iter().filter(|seen| *seen == "renamed").count(), 2, "{seen:?}");
}

// What waits for a slow watcher is judged when it is delivered, and so is what is replayed.
#[tokio::test]
async fn what_happened_before_is_not_told_after_the_chat_is_private() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let b = home.house.process(Script::new()).await;
    let ben = home.person("Ben", Role::Member).await;
    let slow = home.a.watch(&ben, home.workspace, None).await.unwrap();
    let slow_chat = home.a.watch_chat(&ben, &home.chat, None).await.unwrap();
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    home.a.make(&home.ann, &home.chat, Visibility::Private).await;
    let slow = Viewer::of(slow);
    settle().await;
    assert_eq!(slow.seen(), ["open", "gone"]);
    assert_eq!(Viewer::of(slow_chat).read_out().await.seen, ["gone"]);
    for process in [&home.a, &b] {
        let after = Viewer::of(process.watch(&ben, home.workspace, Some(0)).await.unwrap());
        let mine = Viewer::of(process.watch(&home.ann, home.workspace, Some(0)).await.unwrap());
        settle().await;
        assert_eq!(after.seen(), ["gone"]);
        assert_eq!(mine.screen().thread(), home.house.messages(home.chat.id).await);
    }
}

// A chat that was private when it was deleted is nobody else's business, and one that was private always never was.
#[tokio::test]
async fn the_end_of_a_private_chat_is_told_to_its_creator_alone() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let b = home.house.process(Script::new()).await;
    let ben = home.person("Ben", Role::Member).await;
    let secret = home.a.new_chat(&ben, home.workspace, Visibility::Private).await;
    let others = [home.a.view(&home.ann, home.workspace).await, b.view(&home.ann, home.workspace).await];
    let creator = b.view(&ben, home.workspace).await;
    home.a.ask(&ben, &secret, "Hi").await;
    home.a.change_chat(&ben, &secret, super::house::titled("Psst")).await.unwrap();
    home.a.delete_chat(&ben, &secret).await.unwrap();
    home.pass(SECOND).await;
    for viewer in &others {
        assert_eq!(viewer.seen(), ["open"]);
    }
    assert_eq!(creator.seen().last().unwrap(), "gone");
    let after = Viewer::of(b.watch(&home.ann, home.workspace, Some(1)).await.unwrap());
    settle().await;
    assert!(!after.seen().contains(&"gone".to_owned()), "{:?}", after.seen());
}

// F49: a chat is deleted while many watch and replies run in it, here and elsewhere.
#[tokio::test]
async fn a_chat_that_is_deleted_is_gone_once_for_everybody_and_its_replies_end() {
    let home = Home::of(in_three()).await;
    let b = home.house.process(in_three()).await;
    let ben = home.person("Ben", Role::Member).await;
    let whole = [home.a.view(&ben, home.workspace).await, b.view(&ben, home.workspace).await];
    let mut one = [
        Viewer::of(home.a.watch_chat(&ben, &home.chat, None).await.unwrap()),
        Viewer::of(b.watch_chat(&ben, &home.chat, None).await.unwrap()),
    ];
    let first = home.a.send_watched(&ben, &home.chat, "Hi").await;
    home.a.parrot.waiting(1).await;
    let second = b.edit(&ben, &home.chat, (first.message.id, "Hi!")).await.unwrap();
    b.parrot.waiting(1).await;
    home.pass(SECOND).await;
    // The other process hears of the deletion, and does not know yet that its reply is lost.
    let flush = b.store.hold("checkpoint", Side::Before);
    home.a.delete_chat(&home.ann, &home.chat).await.unwrap();
    flush.reached_within(&home.house).await;
    home.pass(Duration::from_millis(600)).await;
    // Whoever comes now is shown nothing of it.
    let late = [home.a.view(&ben, home.workspace).await, b.view(&ben, home.workspace).await];
    b.parrot.release();
    settle().await;
    flush.open();
    home.pass(3 * SECOND).await;
    assert_eq!((home.a.cases.replies.running(), b.cases.replies.running()), (0, 0));
    for viewer in &whole {
        let seen = viewer.seen();
        assert_eq!(seen.iter().filter(|seen| *seen == "gone").count(), 1, "{seen:?}");
        assert_eq!(seen.last().unwrap(), "gone");
    }
    for viewer in &mut one {
        assert!(viewer.ended());
        assert_eq!(viewer.seen().last().unwrap(), "gone");
    }
    for viewer in &late {
        assert_eq!(viewer.seen(), ["open"]);
    }
    // R81
    let asked = Viewer::of_reply(first.watch.unwrap()).read_out().await;
    assert_eq!(asked.seen.last().unwrap(), "ended interrupted");
    for (sent, made) in [(first.end, "Hel"), (second.end, "Hello.")] {
        let (_, reply) = sent.wait().await.unwrap();
        assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Interrupted, made));
        assert_eq!(reply.error.map(|error| error.code), Some(ReplyFault::Deleted));
    }
    assert_eq!(home.a.parrot.dropped() + b.parrot.dropped(), 2);
}

#[tokio::test]
async fn who_waits_for_a_reply_in_a_chat_that_was_hidden_and_deleted_is_told_nothing_of_it() {
    let home = Home::of(in_three()).await;
    let ben = home.person("Ben", Role::Member).await;
    let sent = home.a.send(&ben, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.a.make(&home.ann, &home.chat, Visibility::Private).await;
    home.a.parrot.release();
    home.a.parrot.waiting(1).await;
    home.a.delete_chat(&home.ann, &home.chat).await.unwrap();
    settle().await;
    let answer = sent.end.wait().await.map(|_| ());
    assert!(matches!(answer, Err(Error::NotFound(Kind::Chat))), "{answer:?}");
}

/// Reads what is there just now.
fn read(watch: &mut Watch, screen: &mut Screen, mut each: impl FnMut(&LiveEvent)) {
    while let Some(Some(frame)) = watch.next().now_or_never() {
        if let Some(event) = frame.delivery.event() {
            each(event);
        }
        screen.apply(&frame);
    }
}

// D2: whatever the chat was when something happened, nobody sees it while they may not; and what they see in the end is right.
#[tokio::test]
async fn a_chat_that_is_hidden_and_shown_again_and_again_never_leaks() {
    for seed in 1..=12_u64 {
        let mut random = seed;
        let mut below = |most: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % most
        };
        let script = (0..60).fold(Script::new(), |script, n| script.content(&format!("{n} ")).pause());
        let home = Home::of(script.finish("stop")).await;
        let b = home.house.process(Script::new()).await;
        let ben = home.person("Ben", Role::Guest).await;
        let mut near = (home.a.watch(&ben, home.workspace, None).await.unwrap(), Screen::default());
        let mut far = (b.watch(&ben, home.workspace, None).await.unwrap(), Screen::default());
        let creator = home.a.view(&home.ann, home.workspace).await;
        let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
        let (mut hidden, mut since) = (false, home.house.now());
        for step in 0..150 {
            match below(8) {
                0 => {
                    hidden = !hidden;
                    let visibility = if hidden { Visibility::Private } else { Visibility::Workspace };
                    home.a.make(&home.ann, &home.chat, visibility).await;
                    since = home.house.now();
                }
                1 | 2 => home.a.parrot.release(),
                3 => home.pass(Duration::from_millis(200)).await,
                4 => settle().await,
                5 | 6 => read(&mut near.0, &mut near.1, |event| {
                    assert!(!hidden || matches!(event, LiveEvent::ChatDeleted(_)), "{seed} {step}: {event:?}");
                }),
                _ => {
                    let known = home.house.now().since(since) >= Duration::from_millis(600);
                    read(&mut far.0, &mut far.1, |event| {
                        let told = matches!(event, LiveEvent::ChatDeleted(_));
                        assert!(!(hidden && known) || told, "{seed} {step}: {event:?}");
                    });
                }
            }
        }
        home.a.make(&home.ann, &home.chat, Visibility::Workspace).await;
        for _ in 0..60 {
            home.a.parrot.release();
        }
        sent.end.wait().await.unwrap();
        for _ in 0..4 {
            home.pass(SECOND).await;
            read(&mut near.0, &mut near.1, |_| {});
            read(&mut far.0, &mut far.1, |_| {});
        }
        let reply = home.last().await;
        for screen in [&near.1, &far.1, &creator.screen()] {
            assert_eq!(screen.messages.get(&reply.id), Some(&reply), "{seed}: {:?}", screen.seen);
        }
    }
}
