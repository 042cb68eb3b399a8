//! Titles that the model gives, in the background.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use private_chat_adapters::memory::{Script, ScriptedInference};
use private_chat_core::model::chat::{Chat, MessageStatus, ReplyFault, Visibility};
use private_chat_core::port::Ports;
use private_chat_core::port::inference::{InferenceFailure, Provider};
use private_chat_core::port::store::ChatRepository as _;
use private_chat_core::usecase::Settings;

use super::house::{Home, House, Process, SECOND, settings, settle, titled};

fn says(text: &str) -> Script {
    Script::new().content(text).finish("stop")
}

fn with_titles() -> Settings {
    Settings { titles: true, ..settings() }
}

async fn title(home: &Home, chat: &Chat) -> Option<String> {
    home.house.store.chat(home.workspace, chat.id).await.unwrap().unwrap().title
}

#[tokio::test]
async fn a_chat_is_given_a_title_once_and_everybody_hears_of_it() {
    let home = Home::set([says("Flour, water."), says("\"Baking bread.\""), says("Salt.")], with_titles()).await;
    let b = home.house.process(Script::new()).await;
    let viewers = [home.a.view(&home.ann, home.workspace).await, b.view(&home.ann, home.workspace).await];
    home.a.ask(&home.ann, &home.chat, "How is bread made?").await;
    settle().await;
    assert_eq!(title(&home, &home.chat).await.as_deref(), Some("Baking bread"));
    let asked = &home.a.told()[1];
    assert!(asked.len() == 1 && asked[0].contains("How is bread made?") && asked[0].contains("Flour, water."));
    home.a.ask(&home.ann, &home.chat, "And then?").await;
    home.pass(SECOND).await;
    assert_eq!(home.a.told().len(), 3, "it has a title now");
    for viewer in &viewers {
        let seen = viewer.seen();
        assert_eq!(seen.iter().filter(|seen| *seen == "renamed").count(), 1, "{seen:?}");
        assert_eq!(viewer.screen().chats[&home.chat.id].title.as_deref(), Some("Baking bread"));
    }
}

#[tokio::test]
async fn a_title_that_people_give_stands() {
    // It had one, and no model is asked.
    let home = Home::set([says("Yes.")], with_titles()).await;
    home.a.change_chat(&home.ann, &home.chat, titled("Mine")).await.unwrap();
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    settle().await;
    assert_eq!(home.a.told().len(), 1);
    // It was given one while the model thought.
    let home = Home::set([says("Yes."), Script::new().pause().content("Its").finish("stop")], with_titles()).await;
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    home.a.parrot.waiting(1).await;
    home.a.change_chat(&home.ann, &home.chat, titled("Mine")).await.unwrap();
    home.a.parrot.release();
    settle().await;
    assert_eq!(title(&home, &home.chat).await.as_deref(), Some("Mine"));
    // Another change meanwhile is no reason against it, and is not undone by it.
    let home = Home::set([says("Yes."), Script::new().pause().content("Its").finish("stop")], with_titles()).await;
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    home.a.parrot.waiting(1).await;
    home.a.make(&home.ann, &home.chat, Visibility::Private).await;
    home.a.parrot.release();
    settle().await;
    assert_eq!(title(&home, &home.chat).await.as_deref(), Some("Its"));
    let stored = home.house.store.chat(home.workspace, home.chat.id).await.unwrap().unwrap();
    assert_eq!(stored.visibility, Visibility::Private);
}

#[tokio::test]
async fn a_model_that_gives_no_title_changes_nothing() {
    let failure = || InferenceFailure::cut_off(ReplyFault::ConnectionLost, "gone");
    for (name, script) in [
        ("refuses", Script::refusing(failure())),
        ("breaks off", Script::new().content("Ti").fail(failure())),
        ("says nothing", Script::new().finish("stop")),
        ("says nothing that is a title", says("\"\"\n**")),
        ("does not stop", says(&"endless ".repeat(5_000))),
    ] {
        let home = Home::set([says("Yes."), script, says("Yes.")], with_titles()).await;
        let viewer = home.a.view(&home.ann, home.workspace).await;
        assert_eq!(home.a.ask(&home.ann, &home.chat, "Hi").await.status, MessageStatus::Complete, "{name}");
        settle().await;
        assert_eq!(home.a.told().len(), 2, "{name}");
        assert_eq!(title(&home, &home.chat).await, None, "{name}");
        assert!(!viewer.seen().contains(&"renamed".to_owned()), "{name}");
    }
}

#[tokio::test]
async fn a_title_that_does_not_come_delays_nobody() {
    let home = Home::set([says("Yes."), Script::new().pause().pause(), says("Sure.")], with_titles()).await;
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    home.a.parrot.waiting(1).await;
    // The next reply, which asks for a title in its turn, has one.
    assert_eq!(home.a.ask(&home.ann, &home.chat, "Again").await.content, "Sure.");
    settle().await;
    assert_eq!(title(&home, &home.chat).await.as_deref(), Some("Sure"));
    let dropped = home.a.parrot.dropped();
    home.pass(Duration::from_secs(31)).await;
    assert_eq!(home.a.parrot.dropped(), dropped + 1, "and is given up");
    home.is_quiet().await;
}

// R109
#[tokio::test]
async fn a_stopping_server_waits_for_no_title() {
    let home = Home::set([says("Yes."), Script::new().pause()], with_titles()).await;
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    home.a.parrot.waiting(1).await;
    home.a.cases.replies.drain(30 * SECOND).await;
    home.a.parrot.abandoned(1).await;
    assert_eq!(title(&home, &home.chat).await, None);
}

#[tokio::test]
async fn no_more_than_four_titles_are_in_the_making_at_once() {
    let slow = || Script::new().pause().content("Title").finish("stop");
    let scripts = (0..4).flat_map(|_| [says("Yes."), slow()]).chain([says("Yes.")]);
    let home = Home::set(scripts, with_titles()).await;
    let mut chats = Vec::new();
    for _ in 0..6 {
        let chat = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
        home.a.ask(&home.ann, &chat, "Hi").await;
        settle().await;
        chats.push(chat);
    }
    assert_eq!(home.a.told().len(), 4 * 2 + 2);
    for _ in 0..4 {
        home.a.parrot.release();
    }
    settle().await;
    for (place, chat) in chats.iter().enumerate() {
        assert_eq!(title(&home, chat).await.is_some(), place < 4);
    }
    // A place is free again, and the next reply takes it.
    home.a.ask(&home.ann, &chats[5], "Again").await;
    settle().await;
    assert_eq!(title(&home, &chats[5]).await.as_deref(), Some("Yes"));
}

#[tokio::test]
async fn a_provider_that_can_not_write_titles_is_not_asked() {
    let house = House::new();
    let parrot = Arc::new(ScriptedInference::new(says("Yes.")));
    let (ports, store, tasks) = house.ports(parrot.clone());
    let echo = Provider { writes_titles: false, ..ports.inference["scripted"].clone() };
    let ports = Ports { inference: Arc::new(BTreeMap::from([("scripted".to_owned(), echo)])), ..ports };
    let home = Home::with(house, Process::start(ports, store, tasks, parrot, with_titles()).await).await;
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    settle().await;
    assert_eq!(home.a.told().len(), 1);
    assert_eq!(title(&home, &home.chat).await, None);
}
