//! Many at once, on several threads and by the machine's own clock: the same promises where nothing goes the same way twice.

use std::sync::Arc;
use std::time::Duration;

use private_chat_adapters::memory::{Script, ScriptedInference};
use private_chat_adapters::system::SystemClock;
use private_chat_core::model::chat::{MessageStatus, Visibility};
use private_chat_core::policy::Right;
use private_chat_core::port::Ports;
use private_chat_core::port::clock::Clock as _;
use tokio::task::JoinSet;

use super::house::{Home, House, Process, a_message, settings};
use super::screen::{Screen, Viewer};

/// Waits for what must come to be so, however busy the machine is.
async fn sooner_or_later(what: &str, so: impl Fn() -> bool) {
    let clock = SystemClock::start();
    while !so() {
        assert!(clock.monotonic() < Duration::from_secs(60), "it never came to be so: {what}");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

async fn process(house: &House, script: Script) -> Process {
    let parrot = Arc::new(ScriptedInference::new(script));
    let (ports, store, tasks) = house.ports(parrot.clone());
    Process::start(Ports { clock: Arc::new(SystemClock::start()), ..ports }, store, tasks, parrot, settings()).await
}

// R84 (slots), R108, F34
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_talks_at_once_and_all_see_the_same() {
    const CHATS: usize = 4;
    const TURNS: usize = 6;
    let house = House::new();
    let script = (0..30).fold(Script::new(), |script, n| script.content(&format!("{n}é "))).finish("stop");
    let (a, b) = (process(&house, script.clone()).await, process(&house, script).await);
    let home = Home::with(house, a).await;
    let mut chats = vec![home.chat.clone()];
    while chats.len() < CHATS {
        chats.push(home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await);
    }
    let mut viewers = Vec::new();
    for n in 0..8 {
        let process = if n % 2 == 0 { &home.a } else { &b };
        let screen = Screen { cursor: Some(0), ..Screen::default() };
        viewers.push(Viewer::going_on(screen, process.watch(&home.ann, home.workspace, Some(0)).await.unwrap()));
    }
    let mut talking = JoinSet::new();
    for n in 0..CHATS * TURNS {
        let process = if n % 3 == 0 { &b } else { &home.a };
        let at = process.enter(&home.ann, &chats[n % CHATS], Right::Send).await.unwrap();
        let cases = process.cases.chats.clone();
        talking.spawn(async move {
            let sent = cases.send(&at, a_message("Hi"), true, None).await.unwrap();
            let screen = Viewer::of_reply(sent.watch.unwrap()).read_out().await;
            assert_eq!(screen.reply().status, MessageStatus::Complete);
        });
    }
    // Some come and go meanwhile.
    for n in 0..40 {
        let process = if n % 2 == 0 { &home.a } else { &b };
        let viewer = Viewer::of(process.watch_chat(&home.ann, &chats[n % CHATS], None).await.unwrap());
        tokio::task::yield_now().await;
        viewer.leave().await;
    }
    while let Some(talked) = talking.join_next().await {
        talked.unwrap();
    }
    let mut stored = Vec::new();
    for chat in &chats {
        let thread = home.house.messages(chat.id).await;
        assert_eq!(thread.len(), 2 * TURNS);
        for (place, message) in thread.iter().enumerate() {
            assert_eq!(message.seq, place as u64 + 1);
            assert_eq!(message.parent, place.checked_sub(1).map(|before| thread[before].id), "nobody forked");
        }
        stored.extend(thread);
    }
    for viewer in &viewers {
        let told_all = || {
            let screen = viewer.screen();
            stored.iter().all(|message| screen.messages.get(&message.id) == Some(message))
        };
        sooner_or_later("a watcher shows what is stored", told_all).await;
    }
    drop(viewers);
    let open = || [&home.a, &b].iter().map(|at| at.cases.live.watchers() + at.cases.replies.running()).sum::<usize>();
    sooner_or_later("all streams and replies are over", || open() == 0).await;
    home.is_quiet().await;
}
