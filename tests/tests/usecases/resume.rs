//! Coming back: whatever was lost, whenever somebody hangs up and returns, what they see in the end is what is stored.

use std::time::Duration;

use private_chat_adapters::memory::Script;
use private_chat_core::error::Error;
use private_chat_core::model::chat::Visibility;
use private_chat_core::policy::Right;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokio::task::JoinSet;

use super::house::{Home, SECOND, settle};
use super::screen::{Screen, Viewer};

fn talk() -> Script {
    Script::new()
        .reasoning("Hm.")
        .content("Hé")
        .pause()
        .content("llo ")
        .pause()
        .content("wörld")
        .usage(1, 2)
        .finish("stop")
}

/// The first chat, and twice two messages, an end, a new name and a chat.
const NEWEST: u64 = 11;

/// Plays one scene: two replies, a chat that is made and one that is renamed.
async fn play(home: &Home) {
    for text in ["One", "Two"] {
        let sent = home.a.send(&home.ann, &home.chat, text).await.unwrap();
        for _ in 0..2 {
            home.a.parrot.waiting(1).await;
            home.pass(Duration::from_millis(300)).await;
            home.a.parrot.release();
            settle().await;
        }
        sent.end.wait().await.unwrap();
        let at = home.a.enter(&home.ann, &home.chat, Right::EditChat).await.unwrap();
        home.a.cases.chats.change(&at, crate::house::titled(format!("After {text}"))).await.unwrap();
        home.a.new_chat(&home.ann, home.workspace, Visibility::Private).await;
    }
}

// R81
#[tokio::test]
async fn every_cursor_leads_to_the_same_end() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    // A client that notes what it shows at each of its cursors, as one that is cut off there would.
    let mut watch = home.a.watch(&home.ann, home.workspace, Some(0)).await.unwrap();
    let mut noting = JoinSet::new();
    noting.spawn(async move {
        let (mut screen, mut notes) = (Screen::default(), vec![Screen { cursor: Some(0), ..Screen::default() }]);
        while screen.cursor < Some(NEWEST) {
            screen.apply(&watch.next().await.unwrap());
            notes.push(screen.clone());
        }
        notes
    });
    play(&home).await;
    let notes = noting.join_next().await.unwrap().unwrap();
    let whole = notes.last().unwrap().clone();
    assert_eq!(whole.thread(), home.house.messages(home.chat.id).await);
    assert_eq!(notes.len(), 20, "eleven events, eight deltas, and the blank screen");
    for process in [&home.a, &b] {
        for note in &notes {
            let note = Screen { cursor: note.cursor.or(Some(0)), ..note.clone() };
            let from = note.cursor;
            let viewer = Viewer::going_on(note, process.watch(&home.ann, home.workspace, from).await.unwrap());
            settle().await;
            let screen = viewer.leave().await;
            assert_eq!(screen.thread(), whole.thread(), "from {from:?}: {:?}", screen.seen);
            assert_eq!(screen.chats, whole.chats, "from {from:?}");
            assert_eq!(screen.cursor, Some(NEWEST));
        }
    }
}

// The same while the reply runs: a client that comes back with less text than there is, or with more than the other instance knows.
#[tokio::test]
async fn who_comes_back_in_the_middle_misses_nothing() {
    for later in [0, 100, 250, 700] {
        let home = Home::of(talk()).await;
        let b = home.house.process(talk()).await;
        let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
        let mut viewers = Vec::new();
        for cursor in 0..=3 {
            for process in [&home.a, &b] {
                let viewer = Viewer::of(process.watch(&home.ann, home.workspace, Some(cursor)).await.unwrap());
                // Who knows of a message has it on the screen.
                viewers.push((cursor, viewer));
            }
        }
        home.a.parrot.waiting(1).await;
        home.pass(Duration::from_millis(later)).await;
        let mut back = Vec::new();
        for (cursor, viewer) in viewers {
            if cursor >= 2 {
                continue;
            }
            let screen = viewer.leave().await;
            for process in [&home.a, &b] {
                let watch = process.watch(&home.ann, home.workspace, screen.cursor.or(Some(cursor))).await.unwrap();
                back.push(Viewer::going_on(screen.clone(), watch));
            }
        }
        home.a.parrot.release();
        home.pass(Duration::from_millis(later)).await;
        home.a.parrot.release();
        sent.end.wait().await.unwrap();
        home.pass(2 * SECOND).await;
        for viewer in &back {
            assert_eq!(viewer.screen().thread(), home.house.messages(home.chat.id).await, "{:?}", viewer.seen());
        }
    }
}

// Who has seen the end at one process is not shown the middle at another that has not read it yet.
#[tokio::test]
async fn who_comes_from_an_instance_that_is_ahead_is_not_set_back() {
    let home = Home::of(talk()).await;
    let b = home.house.process(talk()).await;
    let near = Viewer::of(home.a.watch(&home.ann, home.workspace, Some(0)).await.unwrap());
    let far = Viewer::of(b.watch(&home.ann, home.workspace, Some(0)).await.unwrap());
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(SECOND).await;
    home.a.parrot.release();
    home.a.parrot.release();
    sent.end.wait().await.unwrap();
    settle().await;
    assert_eq!(far.seen().last().unwrap(), "0 \"Hé\"", "the other one lags");
    let mut screen = near.leave().await;
    let ended = home.last().await;
    for process in [&b, &home.a] {
        let watch = process.watch(&home.ann, home.workspace, screen.cursor).await.unwrap();
        let viewer = Viewer::going_on(screen, watch);
        settle().await;
        screen = viewer.leave().await;
        assert_eq!(*screen.reply(), ended, "{:?}", screen.seen);
    }
    assert_eq!(*far.screen().reply(), ended, "and everybody there has it now");
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Somebody sends, at the first or the second process.
    Send(bool),
    /// The providers go on.
    Say,
    /// Time passes, in units of 50 ms.
    Pass(u8),
    /// A client hangs up, and comes back at the first or the second process.
    Return(usize, bool),
    /// A client gets no turn to read for a while.
    Sleep(usize),
    /// Somebody ends the last reply, at the first or the second process.
    Stop(bool),
    /// Somebody renames the chat, at the first or the second process.
    Rename(bool),
    /// The database gives the other tasks so many turns before each call.
    Pace(u8),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        2 => any::<bool>().prop_map(Turn::Send),
        6 => Just(Turn::Say),
        4 => (0_u8..16).prop_map(Turn::Pass),
        5 => (0_usize..4, any::<bool>()).prop_map(|(who, here)| Turn::Return(who, here)),
        1 => (0_usize..4).prop_map(Turn::Sleep),
        1 => any::<bool>().prop_map(Turn::Stop),
        1 => any::<bool>().prop_map(Turn::Rename),
        2 => (0_u8..7).prop_map(Turn::Pace),
    ];
    proptest::collection::vec(turn, 1..40)
}

/// A client that is there, or away with what it showed.
enum Client {
    There(Viewer),
    Away(Screen),
}

async fn live_through(turns: Vec<Turn>) {
    let script = (0..6).fold(Script::new().reasoning("Hm, é"), |script, n| script.content(&format!("{n}😀 ")).pause());
    let home = Home::of(script.clone().finish("stop")).await;
    let b = home.house.process(script.finish("stop")).await;
    let at = |here: bool| if here { &home.a } else { &b };
    let mut clients = Vec::new();
    for n in 0..4 {
        let screen = Screen { cursor: Some(0), ..Screen::default() };
        let watch = at(n % 2 == 0).watch(&home.ann, home.workspace, Some(0)).await.unwrap();
        clients.push(Client::There(Viewer::going_on(screen, watch)));
    }
    let mut sending = JoinSet::new();
    for turn in turns {
        match turn {
            Turn::Send(here) => {
                let process = at(here);
                let entered = process.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
                let chats = process.cases.chats.clone();
                sending.spawn(async move {
                    let sent = chats.send(&entered, super::house::a_message("Hi"), true, None).await.unwrap();
                    Viewer::of_reply(sent.watch.unwrap()).read_out().await
                });
            }
            Turn::Say => {
                home.a.parrot.release();
                b.parrot.release();
                tokio::task::yield_now().await;
            }
            Turn::Pass(units) => home.pass(Duration::from_millis(50) * u32::from(units)).await,
            Turn::Return(who, here) => {
                let screen = match std::mem::replace(&mut clients[who], Client::Away(Screen::default())) {
                    Client::There(viewer) => viewer.leave().await,
                    Client::Away(screen) => screen,
                };
                match at(here).watch(&home.ann, home.workspace, screen.cursor).await {
                    Ok(watch) => clients[who] = Client::There(Viewer::going_on(screen, watch)),
                    Err(error) => panic!("{error:?}"),
                }
            }
            Turn::Sleep(who) => {
                clients[who] = match std::mem::replace(&mut clients[who], Client::Away(Screen::default())) {
                    Client::There(viewer) => Client::Away(viewer.leave().await),
                    away => away,
                };
            }
            Turn::Stop(here) => {
                let Some(last) = home.house.messages(home.chat.id).await.pop() else { continue };
                let process = at(here);
                let entered = process.enter(&home.ann, &home.chat, Right::StopReply).await.unwrap();
                let chats = process.cases.chats.clone();
                sending.spawn(async move {
                    match chats.stop(&entered, last.id).await {
                        Ok(_) | Err(Error::Conflict(_)) => Screen::default(),
                        Err(other) => panic!("{other:?}"),
                    }
                });
            }
            Turn::Rename(here) => {
                let process = at(here);
                let entered = process.enter(&home.ann, &home.chat, Right::EditChat).await.unwrap();
                let chats = process.cases.chats.clone();
                sending.spawn(async move {
                    chats.change(&entered, crate::house::titled("Renamed")).await.unwrap();
                    Screen::default()
                });
            }
            Turn::Pace(turns) => {
                home.a.store.set_pace(vec![usize::from(turns), 0, 1]);
                b.store.set_pace(vec![0, usize::from(turns) / 2]);
            }
        }
    }
    // Everything comes to its end.
    for _ in 0..600 {
        home.a.parrot.release();
        b.parrot.release();
    }
    for _ in 0..40 {
        home.pass(SECOND).await;
    }
    let stored = home.house.messages(home.chat.id).await;
    let chat = private_chat_core::port::store::ChatRepository::chat(&*home.house.store, home.workspace, home.chat.id);
    let chat = chat.await.unwrap().unwrap();
    for (n, client) in clients.into_iter().enumerate() {
        let screen = match client {
            Client::There(viewer) => viewer.leave().await,
            Client::Away(screen) => {
                let watch = at(n % 2 == 1).watch(&home.ann, home.workspace, screen.cursor).await.unwrap();
                let viewer = Viewer::going_on(screen, watch);
                settle().await;
                viewer.leave().await
            }
        };
        assert!(screen.thread() == stored, "{:?} of {stored:?}", screen.seen);
        assert_eq!(screen.chats[&home.chat.id].title, chat.title);
    }
    while let Some(own) = sending.join_next().await {
        for message in own.unwrap().messages.values() {
            assert_eq!(*message, home.house.message(message).await);
        }
    }
    home.pass(3 * SECOND).await;
    home.is_quiet().await;
}

fn config() -> ProptestConfig {
    // The same cases every time; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others.
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_RNG_SEED") {
        Some(_) => default,
        None => ProptestConfig { rng_seed: RngSeed::Fixed(29), cases: 200, ..default },
    }
}

proptest! {
    #![proptest_config(config())]

    // R81, F34
    #[test]
    fn whoever_comes_and_goes_sees_in_the_end_what_is_stored(turns in turns()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(live_through(turns));
    }
}
