//! The feeds: who is told what, in which order, and what joins in the middle.

use std::time::Duration;

use private_chat_adapters::memory::Script;
use private_chat_core::error::Error;
use private_chat_core::model::chat::{MessageStatus, Visibility};
use private_chat_core::model::workspace::Role;
use private_chat_core::policy::Right;
use tokio::task::JoinSet;

use super::house::{Home, SECOND, TIMERS, a_message, eventually, settle};
use super::screen::{Screen, Viewer};
use super::troubled::Side;

fn talk() -> Script {
    Script::new().content("Hel").pause().content("lo.").finish("stop")
}

#[tokio::test]
async fn everybody_who_watches_sees_the_same() {
    let home = Home::of(talk()).await;
    let ben = home.person("Ben", Role::Guest).await;
    let other = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    let whole = Viewer::of(home.a.watch(&ben, home.workspace, None).await.unwrap());
    let one = Viewer::of(home.a.watch_chat(&home.ann, &home.chat, None).await.unwrap());
    let elsewhere = Viewer::of(home.a.watch_chat(&home.ann, &other, None).await.unwrap());
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    settle().await;
    for viewer in [&whole, &one] {
        assert_eq!(
            viewer.seen(),
            ["open", "created user", "created assistant", "0 \"Hel\"", "3 \"lo.\"", "ended complete"]
        );
        assert_eq!(viewer.screen().thread(), home.house.messages(home.chat.id).await);
        assert_eq!(viewer.screen().cursor, Some(5), "two chats, two messages, one end");
    }
    assert_eq!(elsewhere.seen(), ["open"]);
    for viewer in [whole, one, elsewhere] {
        viewer.leave().await;
    }
    home.pass(3 * SECOND).await;
    home.is_quiet().await;
    assert_eq!(home.house.clock.sleepers(), TIMERS, "the tail went home with the last of them");
}

// R102. More than are told at once: some of them come while the others are being told, and the end finds them all.
#[tokio::test]
async fn many_who_watch_see_what_one_sees() {
    let home = Home::of(talk()).await;
    let mut viewers = Vec::new();
    for _ in 0..100 {
        viewers.push(Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap()));
    }
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    let late = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    let thread = home.house.messages(home.chat.id).await;
    let whole = |viewer: &Viewer| viewer.screen().thread() == thread;
    eventually("everybody sees the whole reply", || viewers.iter().all(whole)).await;
    eventually("and who came later too", || Some(late.screen().reply()) == thread.last()).await;
    for viewer in &viewers {
        let mut seen = viewer.seen();
        // The two pieces of the text come as one where the first was not told yet.
        seen.retain(|event| !event.contains('"'));
        assert_eq!(seen, ["open", "created user", "created assistant", "ended complete"]);
    }
    // What is still to be told when the server stops is told before the streams end.
    home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    home.a.cases.live.close();
    eventually("every stream ends", || home.a.cases.live.watchers() == 0).await;
    assert!(viewers.iter().all(|viewer| viewer.seen().last().unwrap() == "chat"));
}

#[tokio::test]
async fn chats_that_are_made_and_renamed_are_told_and_new_activity_alone_is_not() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let ben = home.person("Ben", Role::Guest).await;
    let viewer = Viewer::of(home.a.watch(&ben, home.workspace, None).await.unwrap());
    let chat = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    let at = home.a.enter(&home.ann, &chat, Right::EditChat).await.unwrap();
    let renamed = home.a.cases.chats.change(&at, crate::house::titled("Named")).await.unwrap();
    home.a.ask(&home.ann, &chat, "Hi").await;
    settle().await;
    assert_eq!(
        viewer.seen(),
        ["open", "chat", "renamed", "created user", "created assistant", "0 \"Yes.\"", "ended complete"]
    );
    assert_eq!(viewer.screen().chats[&chat.id], renamed);
}

// D2, R43
#[tokio::test]
async fn a_private_chat_is_told_to_its_creator_alone() {
    let home = Home::of(talk()).await;
    let ben = home.person("Ben", Role::Member).await;
    let owner = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    let creator = Viewer::of(home.a.watch(&ben, home.workspace, None).await.unwrap());
    let secret = home.a.new_chat(&ben, home.workspace, Visibility::Private).await;
    let sent = home.a.send(&ben, &secret, "Psst").await.unwrap();
    home.a.parrot.waiting(1).await;
    // Who joins now, resumes from the start, or watches from another process is told nothing either.
    let fresh = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    let resumed = Viewer::of(home.a.watch(&home.ann, home.workspace, Some(0)).await.unwrap());
    let b = home.house.process(talk()).await;
    let far = Viewer::of(b.watch(&home.ann, home.workspace, Some(0)).await.unwrap());
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    home.pass(2 * SECOND).await;
    assert_eq!(creator.screen().reply().content, "Hello.");
    for viewer in [&owner, &fresh, &resumed, &far] {
        assert!(viewer.screen().messages.is_empty(), "{:?}", viewer.seen());
        assert!(!viewer.screen().chats.contains_key(&secret.id));
    }
    // The next thing that they may see takes the cursor over what they may not.
    home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    home.pass(SECOND).await;
    for viewer in [&owner, &fresh, &resumed, &far, &creator] {
        assert_eq!(viewer.screen().cursor, Some(6));
    }
}

#[tokio::test]
async fn who_joins_in_the_middle_gets_the_text_so_far_and_no_gap() {
    let script = Script::new().reasoning("Hm.").content("a😀").pause().content("b").pause().content("c").finish("stop");
    let home = Home::of(script).await;
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    let one = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    settle().await;
    assert_eq!(one.seen(), ["open", "created assistant", "0 \"Hm.\"", "0 \"a😀\""]);
    home.a.parrot.release();
    settle().await;
    let two = Viewer::of(home.a.watch_chat(&home.ann, &home.chat, None).await.unwrap());
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    settle().await;
    assert_eq!(two.seen(), ["open", "created assistant", "0 \"Hm.\"", "0 \"a😀b\"", "3 \"c\"", "ended complete"]);
    assert_eq!(one.seen()[4..], ["2 \"b\"", "3 \"c\"", "ended complete"]);
    for viewer in [&one, &two] {
        assert_eq!(*viewer.screen().reply(), home.last().await);
    }
}

#[tokio::test]
async fn a_cursor_outside_the_kept_log_is_expired() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    let newest = 4;
    let expired = |after| {
        let home = &home;
        async move { matches!(home.a.watch(&home.ann, home.workspace, Some(after)).await, Err(Error::CursorExpired)) }
    };
    assert!(expired(newest + 1).await);
    assert!(expired(u64::MAX).await);
    assert!(!expired(newest).await);
    home.a.store.forget(2);
    assert!(expired(1).await);
    assert!(!expired(2).await, "everything after it is kept");
    home.pass(SECOND).await;
    home.is_quiet().await;
}

// R102
#[tokio::test]
async fn a_slow_watcher_loses_its_place_and_is_right_in_the_end() {
    let script = (0..400).fold(Script::new(), |script, n| script.content(&format!("{n}é ")));
    let home = Home::of(script.pause().content("end").finish("stop")).await;
    let mut slow = home.a.watch(&home.ann, home.workspace, Some(0)).await.unwrap();
    let mut screen = Screen::default();
    // It sees the replay, and then nothing is taken for a while.
    while screen.chats.is_empty() {
        screen.apply(&slow.next().await.unwrap());
    }
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    home.a.parrot.waiting(1).await;
    home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    let slow = Viewer::going_on(screen, slow);
    let asker = Viewer::of_reply(sent.watch.unwrap());
    settle().await;
    for viewer in [&slow, &asker] {
        let resynchronised = viewer.seen().iter().filter(|seen| seen.starts_with("0 ")).count();
        assert_eq!(resynchronised, 2, "the first delta, and all so far after it was cut");
        assert_eq!(viewer.screen().reply().content.matches('é').count(), 400);
    }
    assert_eq!(slow.screen().chats.len(), 2, "what was missed meanwhile is read from the log");
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    settle().await;
    assert_eq!(slow.screen().thread(), home.house.messages(home.chat.id).await);
    assert_eq!(asker.read_out().await.thread(), home.house.messages(home.chat.id).await);
}

// A slow watcher of a reply that ended meanwhile.
#[tokio::test]
async fn a_slow_watcher_learns_the_end_from_the_database() {
    let script = (0..400).fold(Script::new(), |script, n| script.content(&format!("{n} ")));
    let home = Home::of(script.finish("stop")).await;
    let slow = home.a.watch_chat(&home.ann, &home.chat, None).await.unwrap();
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    sent.end.wait().await.unwrap();
    let asker = Viewer::of_reply(sent.watch.unwrap()).read_out().await;
    assert_eq!(*asker.reply(), home.last().await);
    let slow = Viewer::of(slow);
    settle().await;
    assert_eq!(*slow.screen().reply(), home.last().await);
    assert_eq!(slow.screen().cursor, Some(4));
}

// Commits come through in one order and are told in another.
#[tokio::test]
async fn events_that_are_published_out_of_order_come_in_order() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let viewer = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    let first = home.a.store.hold("commit", Side::After);
    let mut making = JoinSet::new();
    let chats = home.a.cases.chats.clone();
    let member = home.a.member(&home.ann, home.workspace, Right::CreateChat).await.unwrap();
    let new = || private_chat_core::usecase::chats::NewChat {
        title: None,
        visibility: Visibility::Workspace,
        model: None,
        system_prompt: None,
    };
    let late = new();
    making.spawn(async move { chats.create(&member, late, None).await.unwrap() });
    first.reached().await;
    // Number two is stored and untold; three to six are told before it.
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    settle().await;
    let seen = viewer.seen();
    assert_eq!(
        seen,
        ["open", "chat", "created user", "created assistant", "0 \"Yes.\"", "ended complete", "chat"],
        "a jump in the numbers means: read the log"
    );
    first.open();
    making.join_next().await.unwrap().unwrap();
    home.pass(2 * SECOND).await;
    assert_eq!(viewer.seen(), seen, "nothing comes twice");
    assert_eq!(viewer.screen().cursor, Some(6));
    assert_eq!(viewer.screen().thread(), home.house.messages(home.chat.id).await);
}

// The same, with the log away: what came early waits for its turn.
#[tokio::test]
async fn events_that_came_early_wait_for_the_ones_before_them() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let viewer = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
    settle().await;
    let log = home.a.store.hold("events", Side::Before);
    home.pass(Duration::from_millis(500)).await;
    log.reached().await;
    let gate = home.a.store.hold("begin", Side::After);
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let chats = home.a.cases.chats.clone();
    let mut sending = JoinSet::new();
    sending
        .spawn(async move { chats.send(&at, a_message("Hi"), false, None).await.unwrap().end.wait().await.unwrap() });
    gate.reached().await;
    let made = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    settle().await;
    assert_eq!(viewer.seen(), ["open"]);
    gate.open();
    sending.join_next().await.unwrap().unwrap();
    settle().await;
    assert_eq!(viewer.seen(), ["open", "created user", "created assistant", "chat", "0 \"Yes.\"", "ended complete"]);
    assert!(viewer.screen().chats.contains_key(&made.id));
    log.open();
    home.pass(2 * SECOND).await;
    assert_eq!(viewer.seen().len(), 6, "nothing comes twice");
}

// A reply that ends here just while the first watcher looks what runs is not taken for one that goes on.
#[tokio::test]
async fn a_reply_that_ends_while_a_watcher_joins_is_not_shown_as_running() {
    for name in ["running_in", "log_bounds", "chat"] {
        for side in [Side::Before, Side::After] {
            let home = Home::of(talk()).await;
            let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
            home.a.parrot.waiting(1).await;
            let member = home.a.member(&home.ann, home.workspace, Right::ReadChats).await.unwrap();
            let gate = home.a.store.hold(name, side);
            let live = home.a.cases.live.clone();
            let mut joining = JoinSet::new();
            joining.spawn(async move { live.watch(&member, None).await.unwrap() });
            gate.reached().await;
            home.a.parrot.release();
            sent.end.wait().await.unwrap();
            settle().await;
            gate.open();
            let viewer = Viewer::of(joining.join_next().await.unwrap().unwrap());
            home.pass(2 * SECOND).await;
            for message in viewer.screen().messages.values() {
                assert_eq!(*message, home.house.message(message).await, "{name} {side:?}: {:?}", viewer.seen());
            }
            // Nor is it looked after for ever.
            let before = home.a.store.calls("running_in");
            home.pass(2 * SECOND).await;
            assert_eq!(home.a.store.calls("running_in"), before, "{name} {side:?}");
            // And whoever comes later finds nothing of it running.
            let later = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
            settle().await;
            assert_eq!(later.seen(), ["open"], "{name} {side:?}");
        }
    }
}

// The end of one watcher is not the end of others, and the room goes when the last has gone.
#[tokio::test]
async fn watchers_come_and_go_while_a_reply_runs() {
    let home = Home::of(talk()).await;
    for _ in 0..5 {
        let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
        home.a.parrot.waiting(1).await;
        let one = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
        let two = Viewer::of(home.a.watch(&home.ann, home.workspace, None).await.unwrap());
        settle().await;
        drop(sent.watch);
        one.leave().await;
        home.pass(SECOND).await;
        home.a.parrot.release();
        sent.end.wait().await.unwrap();
        settle().await;
        let seen = two.leave().await;
        assert!(
            seen.seen.ends_with(&["0 \"Hel\"".into(), "3 \"lo.\"".into(), "ended complete".into()]),
            "{:?}",
            seen.seen
        );
        home.pass(SECOND).await;
        assert_eq!(home.last().await.status, MessageStatus::Complete);
    }
    home.pass(3 * SECOND).await;
    home.is_quiet().await;
    assert_eq!(home.house.clock.sleepers(), TIMERS);
}

#[tokio::test]
async fn closing_ends_every_stream_after_what_waits_for_it() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let mut slow = home.a.watch(&home.ann, home.workspace, None).await.unwrap();
    let mut quick = Viewer::of(home.a.watch_chat(&home.ann, &home.chat, None).await.unwrap());
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    settle().await;
    // One comes just as the doors close.
    let member = home.a.member(&home.ann, home.workspace, Right::ReadChats).await.unwrap();
    let gate = home.a.store.hold("log_bounds", Side::After);
    let live = home.a.cases.live.clone();
    let mut joining = JoinSet::new();
    joining.spawn(async move { live.watch(&member, Some(0)).await.map(|_| ()) });
    gate.reached().await;
    home.a.cases.live.close();
    gate.open();
    let late = joining.join_next().await.unwrap().unwrap();
    assert!(matches!(late, Err(Error::ShuttingDown)), "{late:?}");
    eventually("a stream is over", || home.a.cases.live.watchers() == 1).await;
    assert!(quick.ended());
    let mut screen = Screen::default();
    while let Some(frame) = slow.next().await {
        screen.apply(&frame);
    }
    assert_eq!(screen.seen.last().unwrap(), "ended complete");
    drop(slow);
    let refused = home.a.watch(&home.ann, home.workspace, None).await.map(|_| ());
    assert!(matches!(refused, Err(Error::ShuttingDown)), "{refused:?}");
    home.pass(SECOND).await;
    home.is_quiet().await;
}

const DAY: Duration = Duration::from_secs(86_400);

/// Removes what is over.
async fn tidy(home: &Home) {
    let passing = async {
        for _ in 0..10 {
            home.pass(Duration::from_millis(20)).await;
        }
    };
    futures_util::future::join(home.a.cases.housekeeping.tidy(), passing).await.0.unwrap();
}

#[tokio::test]
async fn a_cursor_leads_back_for_a_week_and_no_longer() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    home.a.ask(&home.ann, &home.chat, "Monday").await;
    home.house.clock.advance(3 * DAY);
    let ann = home.a.sign_in(&home.ann.user).await;
    home.a.ask(&ann, &home.chat, "Thursday").await;
    tidy(&home).await;
    let back = Viewer::of(home.a.watch(&ann, home.workspace, Some(1)).await.unwrap());
    settle().await;
    assert_eq!(back.screen().thread(), home.house.messages(home.chat.id).await);
    back.leave().await;
    home.house.clock.advance(4 * DAY + SECOND);
    let ann = home.a.sign_in(&home.ann.user).await;
    tidy(&home).await;
    // Four events were of Monday.
    let answer = home.a.watch(&ann, home.workspace, Some(3)).await.map(|_| ());
    assert!(matches!(answer, Err(Error::CursorExpired)), "{answer:?}");
    let back = Viewer::of(home.a.watch(&ann, home.workspace, Some(4)).await.unwrap());
    settle().await;
    assert_eq!(back.seen(), ["created user", "created assistant", "ended complete"]);
}

#[tokio::test]
async fn a_process_that_slept_for_longer_than_the_log_is_kept_sends_its_watchers_back() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let b = home.house.process(Script::new()).await;
    let mut watching = b.view(&home.ann, home.workspace).await;
    settle().await;
    b.store.set_away(true);
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    home.house.clock.advance(8 * DAY);
    let ann = home.a.sign_in(&home.ann.user).await;
    tidy(&home).await;
    home.a.new_chat(&ann, home.workspace, Visibility::Workspace).await;
    b.store.set_away(false);
    home.pass(2 * SECOND).await;
    assert!(watching.ended(), "{:?}", watching.seen());
    assert_eq!(watching.seen(), ["open"], "it is shown nothing with a gap before it");
    let answer = b.watch(&ann, home.workspace, watching.screen().cursor).await.map(|_| ());
    assert!(matches!(answer, Err(Error::CursorExpired)), "{answer:?}");
}
