//! Promises of the checkpoint, by which replies grow and processes live.

use crate::fixture::Say as _;
use std::time::Duration;

use private_chat_core::change::{Changes, Checkpoint, Checkpointed, Instance, TextSoFar, Version};
use private_chat_core::error::Conflict;
use private_chat_core::model::chat::{Message, MessageStatus, RunningReply};
use tokio::time::sleep;

use super::{Db, attempt, begin, race};
use crate::fixture::{Scene, a_reply, an_instance, now};

fn so_far(reply: &Message, content: &str, reasoning: Option<&str>) -> TextSoFar {
    let (content, reasoning) = (content.to_owned(), reasoning.map(str::to_owned));
    TextSoFar { chat: reply.chat, seq: reply.seq, message: reply.id, content, reasoning }
}

async fn checkpoint(store: &Db, instance: &Instance, beat: u64, texts: Vec<TextSoFar>) -> Checkpointed {
    store.checkpoint(Checkpoint { instance: instance.id, beat, texts, at: now() }).await.unwrap()
}

fn sorted(mut running: Vec<RunningReply>) -> Vec<RunningReply> {
    running.sort_by_key(|running| running.message);
    running
}

pub(super) async fn checkpoints_only_replies_that_still_run(store: Db) {
    let scene = Scene::set(&store).await;
    let (mine, other) = (an_instance(), an_instance());
    attempt(&store, Changes::new().insert(mine).insert(other)).await.unwrap();
    let (first, first_running) = begin(&store, &scene, &mine).await;
    let (second, second_running) = begin(&store, &scene, &mine).await;
    let (foreign, foreign_running) = begin(&store, &scene, &other).await;
    let idle = a_reply(&scene.chat);
    attempt(&store, Changes::new().say(idle.clone())).await.unwrap();
    let idle = store.message(idle.chat, idle.id).await.unwrap().unwrap();

    let at = now();
    let texts = vec![
        so_far(&first, "One.", Some("Hm.")),
        so_far(&foreign, "Not mine.", None),
        so_far(&idle, "Runs nowhere.", None),
        so_far(&second, "", Some("Still thinking.")),
        so_far(&Message { seq: 99, ..a_reply(&scene.chat) }, "Never stored.", None),
    ];
    let told = store.checkpoint(Checkpoint { instance: mine.id, beat: 1, texts, at }).await.unwrap();
    assert!(told.alive);
    assert_eq!(sorted(told.running), sorted(vec![first_running.clone(), second_running.clone()]));
    let read = async |reply: &Message| store.message(reply.chat, reply.id).await.unwrap().unwrap();
    let grown = Message { content: "One.".into(), reasoning: Some("Hm.".into()), updated_at: at, ..first.clone() };
    assert_eq!(read(&first).await, grown, "text and time move, the version does not");
    assert_eq!(read(&second).await.reasoning.as_deref(), Some("Still thinking."));
    assert_eq!(read(&foreign).await, foreign);
    assert_eq!(read(&idle).await, idle);
    let listed = store.running_in(scene.workspace.id).await.unwrap();
    assert!(
        listed.iter().any(|(running, message)| running.message == first.id && message.content == "One."),
        "{listed:?}"
    );

    // The next one writes over it; one without texts tells the same and writes nothing.
    checkpoint(&store, &mine, 2, vec![so_far(&first, "One. Two.", Some("Hm. Hm."))]).await;
    let told = checkpoint(&store, &mine, 3, Vec::new()).await;
    assert_eq!(told.running.len(), 2);
    let grown = read(&first).await;
    assert_eq!((grown.content.as_str(), grown.version), ("One. Two.", Version::FIRST));

    // What is gone is missing in the answer.
    let stopped = Message { status: MessageStatus::Stopped, ..grown };
    attempt(&store, Changes::new().update(stopped).delete(first_running)).await.unwrap();
    assert_eq!(checkpoint(&store, &mine, 4, Vec::new()).await.running, [second_running]);
    assert_eq!(checkpoint(&store, &other, 1, Vec::new()).await.running, [foreign_running]);
    attempt(&store, Changes::new().delete(scene.chat.clone())).await.unwrap();
    let told = checkpoint(&store, &mine, 5, vec![so_far(&second, "Too late.", None)]).await;
    assert_eq!(told, Checkpointed { alive: true, running: Vec::new() });
}

pub(super) async fn never_lets_a_checkpoint_change_an_ended_reply(store: Db) {
    let scene = Scene::set(&store).await;
    let instance = an_instance();
    attempt(&store, Changes::new().insert(instance)).await.unwrap();
    for status in [MessageStatus::Complete, MessageStatus::Stopped, MessageStatus::Failed, MessageStatus::Interrupted] {
        let (reply, running) = begin(&store, &scene, &instance).await;
        let ended = Message { content: "The whole answer.".into(), status, ..reply.clone() };
        attempt(&store, Changes::new().update(ended.clone()).delete(running)).await.unwrap();
        let told = checkpoint(&store, &instance, 1, vec![so_far(&reply, "The whole", Some("late"))]).await;
        assert!(told.alive && told.running.is_empty());
        let ended = Message { version: Version(2), ..ended };
        assert_eq!(store.message(reply.chat, reply.id).await.unwrap(), Some(ended));
    }

    // However the two meet: the end is the end, and is never refused because of a checkpoint.
    for round in 0..20_u64 {
        let (reply, running) = begin(&store, &scene, &instance).await;
        let ended = Message { content: "The whole answer.".into(), status: MessageStatus::Complete, ..reply.clone() };
        race(4, |n| {
            let (store, reply, ended, running) = (store.clone(), reply.clone(), ended.clone(), running.clone());
            async move {
                if n == 0 {
                    sleep(Duration::from_micros(round * 150)).await;
                    let changes = Changes::new().update(ended).delete(running);
                    attempt(&store, changes).await.expect("an end is not refused for a checkpoint");
                } else {
                    for beat in 0..4 {
                        let text = format!("The whole, {n}.{beat}");
                        checkpoint(&store, &instance, 10 + round, vec![so_far(&reply, &text, None)]).await;
                    }
                }
            }
        })
        .await;
        let read = store.message(reply.chat, reply.id).await.unwrap().unwrap();
        assert_eq!(
            (read.content.as_str(), read.status),
            ("The whole answer.", MessageStatus::Complete),
            "round {round}"
        );
    }
}

pub(super) async fn tells_an_instance_that_was_declared_dead(store: Db) {
    let scene = Scene::set(&store).await;
    let (paused, reaper) = (an_instance(), an_instance());
    attempt(&store, Changes::new().insert(paused).insert(reaper)).await.unwrap();
    let (reply, running) = begin(&store, &scene, &paused).await;
    assert!(checkpoint(&store, &paused, 1, vec![so_far(&reply, "So far", None)]).await.alive);

    attempt(&store, Changes::new().delete(paused)).await.expect("beats do not move the version");
    let told = checkpoint(&store, &paused, 2, vec![so_far(&reply, "So far, and on", None)]).await;
    assert!(!told.alive);
    let read = store.message(reply.chat, reply.id).await.unwrap().unwrap();
    assert_eq!(read.content, "So far", "nothing was written");
    assert!(store.instances().await.unwrap().iter().all(|instance| instance.id == reaper.id), "a beat revives nobody");

    // Its replies are left for whoever declared it dead.
    assert_eq!(store.running_of(None).await.unwrap(), std::slice::from_ref(&running));
    let interrupted = Message { status: MessageStatus::Interrupted, ..read };
    attempt(&store, Changes::new().update(interrupted).delete(running.clone())).await.unwrap();
    let late = Message { content: "Whole".into(), status: MessageStatus::Complete, ..reply };
    assert_eq!(attempt(&store, Changes::new().update(late).delete(running)).await, Err((Conflict::Stale, 0)));
    assert!(!checkpoint(&store, &an_instance(), 1, Vec::new()).await.alive, "nor does one live that was never there");
}

pub(super) async fn keeps_a_stop_request_until_the_reply_ends(store: Db) {
    let scene = Scene::set(&store).await;
    let instance = an_instance();
    attempt(&store, Changes::new().insert(instance)).await.unwrap();
    let (reply, running) = begin(&store, &scene, &instance).await;
    assert!(!checkpoint(&store, &instance, 1, Vec::new()).await.running[0].stop_requested);

    let asked = RunningReply { stop_requested: true, ..running.clone() };
    attempt(&store, Changes::new().update(asked.clone())).await.unwrap();
    let asked = RunningReply { version: Version(2), ..asked };
    for beat in 2..5 {
        let told = checkpoint(&store, &instance, beat, vec![so_far(&reply, &format!("Text {beat}"), None)]).await;
        assert_eq!(told.running, std::slice::from_ref(&asked));
    }
    assert_eq!(store.running(reply.id).await.unwrap().as_ref(), Some(&asked));
    assert_eq!(store.running_in(scene.workspace.id).await.unwrap()[0].0, asked);

    // Whoever ends it read it before the request: the request counts.
    let stopped = Message { status: MessageStatus::Stopped, ..reply.clone() };
    let outdated = Changes::new().update(stopped.clone()).delete(running);
    assert_eq!(attempt(&store, outdated).await, Err((Conflict::Stale, 1)));
    attempt(&store, Changes::new().update(stopped).delete(asked)).await.unwrap();
    assert_eq!(store.running(reply.id).await.unwrap(), None);
    assert!(checkpoint(&store, &instance, 5, Vec::new()).await.running.is_empty());
}
