//! Promises of how many replies run: their caps, and the places that are free again.

use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use private_chat_core::change::{Changes, Checkpoint, Follows, Instance, Running};
use private_chat_core::error::Conflict;
use private_chat_core::model::chat::{Chat, Message, MessageStatus, RunningReply};
use private_chat_core::model::user::User;
use private_chat_core::model::workspace::Role;

use super::{Db, NOTHING_OVER, attempt, purge, race};
use crate::fixture::{
    Say as _, Scene, a_chat, a_message, a_reply, a_running_reply, a_user, an_instance, created, joining, new_id, now,
};

/// What a send writes: a message and the reply that begins, where the caps leave a place for it. The user's cap is the first change.
fn sending(chat: &Chat, user: &User, instance: &Instance, of_user: u64, in_workspace: u64) -> (Changes, Message) {
    let asked = a_message(chat, user);
    let reply = Message { parent: Some(asked.id), ..a_reply(chat) };
    let changes = Changes::new()
        .cap(Running::Of(user.id), of_user)
        .cap(Running::In(chat.workspace), in_workspace)
        .append(asked.clone(), Follows::Last)
        .append(reply.clone(), Follows::Parent)
        .insert(a_running_reply(&reply, user, instance))
        .emit(created(&asked))
        .emit(created(&reply));
    (changes, reply)
}

/// What the end of a reply writes.
fn ending(reply: &Message, running: &RunningReply, status: MessageStatus) -> Changes {
    let ended = Message { content: "So much of it.".into(), status, ..reply.clone() };
    Changes::new().update(ended.clone()).delete(running.clone()).emit(created(&ended))
}

/// That so many of these replies run, no more and no less.
async fn assert_run(store: &Db, running: Running, run: u64) {
    let fits = async |most| attempt(store, Changes::new().cap(running, most)).await;
    assert!(fits(run + 1).await.is_ok(), "more than {run} run: {running:?}");
    assert_eq!(fits(run).await, Err((Conflict::Ceiling, 0)), "fewer than {run} run: {running:?}");
}

const MANY: u64 = 1_000;

pub(super) async fn caps_the_replies_that_run_of_a_user_and_in_a_workspace_however_many_begin(store: Db) {
    let scenes = [Scene::set(&store).await, Scene::set(&store).await, Scene::set(&store).await];
    let (everywhere, instance) = (a_user(), an_instance());
    attempt(&store, Changes::new().insert(everywhere.clone()).insert(instance)).await.unwrap();
    for scene in &scenes {
        attempt(&store, joining(&scene.workspace, &everywhere, Role::Member)).await.unwrap();
    }

    // Up to the cap, the one that begins included; the refusal names the cap, and leaves nothing behind.
    let Scene { user, workspace, chat, .. } = &scenes[0];
    for _ in 0..2 {
        attempt(&store, sending(chat, user, &instance, 2, 2).0).await.unwrap();
    }
    for (of_user, in_workspace, place) in [(2, 3, 0), (3, 2, 1), (0, MANY, 0), (MANY, 0, 1), (1, 1, 0)] {
        let before = store.chat(workspace.id, chat.id).await.unwrap();
        let (send, reply) = sending(chat, user, &instance, of_user, in_workspace);
        assert_eq!(attempt(&store, send).await, Err((Conflict::Ceiling, place)));
        assert_eq!(store.chat(workspace.id, chat.id).await.unwrap(), before);
        assert_eq!(store.running(reply.id).await.unwrap(), None);
    }
    assert_run(&store, Running::Of(user.id), 2).await;
    assert_run(&store, Running::In(workspace.id), 2).await;
    // Those of others and elsewhere are counted apart.
    for running in
        [Running::Of(everywhere.id), Running::In(scenes[1].workspace.id), Running::Of(new_id()), Running::In(new_id())]
    {
        assert_run(&store, running, 0).await;
    }
    attempt(&store, sending(chat, &everywhere, &instance, 1, 3).0).await.unwrap();
    assert_run(&store, Running::In(workspace.id), 3).await;

    // What the unit itself begins does not count, wherever the cap stands in it.
    let reply = a_reply(&scenes[1].chat);
    let begins = Changes::new()
        .say(reply.clone())
        .insert(a_running_reply(&reply, &scenes[1].user, &instance))
        .cap(Running::Of(scenes[1].user.id), 1)
        .cap(Running::In(scenes[1].workspace.id), 1);
    attempt(&store, begins).await.unwrap();
    assert_run(&store, Running::Of(scenes[1].user.id), 1).await;
    assert_run(&store, Running::In(scenes[1].workspace.id), 1).await;

    // A user who begins in several workspaces at once, with an event to be told and without.
    let outcomes = race(36, |n| {
        let (store, scene) = (store.clone(), &scenes[n % 3]);
        let send = sending(&scene.chat, &everywhere, &instance, 6, MANY).0;
        let silent = send.changes().iter().cloned().fold(Changes::new(), Changes::with);
        async move { attempt(&store, if n % 2 == 0 { send } else { silent }).await }
    })
    .await;
    let (begun, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(begun.len(), 5, "one of the six ran already");
    assert!(refused.iter().all(|outcome| *outcome == Err((Conflict::Ceiling, 0))), "{refused:?}");
    assert_run(&store, Running::Of(everywhere.id), 6).await;

    // Many users who begin in one workspace at once, each up to a cap of their own, in several chats.
    let scene = Scene::set(&store).await;
    let users = [a_user(), a_user(), a_user(), a_user()];
    for user in &users {
        attempt(&store, Changes::new().insert(user.clone())).await.unwrap();
        attempt(&store, joining(&scene.workspace, user, Role::Member)).await.unwrap();
    }
    let chats = [scene.chat.clone(), a_chat(&scene.workspace, &users[0])];
    attempt(&store, Changes::new().insert(chats[1].clone())).await.unwrap();
    let outcomes = race(40, |n| {
        let store = store.clone();
        let send = sending(&chats[n % 2], &users[n % 4], &instance, 3, 7).0;
        let silent = send.changes().iter().cloned().fold(Changes::new(), Changes::with);
        async move { (n % 4, attempt(&store, if n < 20 { send } else { silent }).await) }
    })
    .await;
    let begun: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(user, _)| *user).collect();
    assert_eq!(begun.len(), 7, "{outcomes:?}");
    assert_run(&store, Running::In(scene.workspace.id), 7).await;
    for (n, user) in users.iter().enumerate() {
        let own = begun.iter().filter(|of| **of == n).count() as u64;
        assert!(own <= 3);
        assert_run(&store, Running::Of(user.id), own).await;
    }
    for (_, outcome) in outcomes {
        assert!(matches!(outcome, Ok(_) | Err((Conflict::Ceiling, 0 | 1))), "{outcome:?}");
    }

    // Those that begin and those that end meet: never more run than may, and a place that is free can be had.
    const MOST: usize = 3;
    let scene = Scene::set(&store).await;
    let (running, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    race(8, |_| {
        let (store, scene) = (store.clone(), scene.clone());
        let (running, begun) = (running.clone(), begun.clone());
        async move {
            for _ in 0..6 {
                let (send, reply) = sending(&scene.chat, &scene.user, &instance, MANY, MOST as u64);
                match attempt(&store, send).await {
                    Ok(_) => assert!(running.fetch_add(1, Ordering::SeqCst) < MOST, "more run than may"),
                    Err((Conflict::Ceiling, 1)) => continue,
                    odd => panic!("{odd:?}"),
                }
                begun.fetch_add(1, Ordering::SeqCst);
                let reply = store.message(reply.chat, reply.id).await.unwrap().unwrap();
                let own = store.running(reply.id).await.unwrap().unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
                attempt(&store, ending(&reply, &own, MessageStatus::Complete)).await.unwrap();
            }
        }
    })
    .await;
    assert!(begun.load(Ordering::SeqCst) >= MOST);
    assert_run(&store, Running::In(scene.workspace.id), 0).await;
}

pub(super) async fn frees_a_running_replys_place_whichever_way_it_goes(store: Db) {
    let (user, living) = (a_user(), an_instance());
    attempt(&store, Changes::new().insert(user.clone()).insert(living)).await.unwrap();
    let enter = async || {
        let scene = Scene::set(&store).await;
        attempt(&store, joining(&scene.workspace, &user, Role::Member)).await.unwrap();
        scene
    };
    let begin = async |scene: &Scene, chat: &Chat, instance: &Instance, most: u64| {
        let (send, reply) = sending(chat, &user, instance, most, most);
        attempt(&store, send).await.expect("there is a place");
        assert_run(&store, Running::Of(user.id), most).await;
        assert_run(&store, Running::In(scene.workspace.id), most).await;
        let reply = store.message(chat.id, reply.id).await.unwrap().unwrap();
        let running = store.running(reply.id).await.unwrap().unwrap();
        (reply, running)
    };
    let assert_free = async |scene: &Scene| {
        assert_run(&store, Running::Of(user.id), 0).await;
        assert_run(&store, Running::In(scene.workspace.id), 0).await;
    };

    // Its end, in every way that it ends, also one that somebody asked for; and of several, one at a time.
    let scene = enter().await;
    for status in [MessageStatus::Complete, MessageStatus::Stopped, MessageStatus::Failed, MessageStatus::Interrupted] {
        let (reply, running) = begin(&scene, &scene.chat, &living, 1).await;
        let asked = RunningReply { stop_requested: true, ..running.clone() };
        attempt(&store, Changes::new().update(asked)).await.unwrap();
        let running = store.running(running.message).await.unwrap().unwrap();
        let checkpoint = Checkpoint { instance: living.id, beat: 1, texts: Vec::new(), at: now() };
        assert_eq!(store.checkpoint(checkpoint).await.unwrap().running, slice::from_ref(&running));
        let stale = Message { version: reply.version.next(), ..reply.clone() };
        assert!(attempt(&store, ending(&stale, &running, status)).await.is_err());
        assert_run(&store, Running::Of(user.id), 1).await;
        attempt(&store, ending(&reply, &running, status)).await.unwrap();
        assert_free(&scene).await;
        assert!(attempt(&store, ending(&reply, &running, status)).await.is_err(), "it ends once");
        assert_free(&scene).await;
    }
    let (first, first_running) = begin(&scene, &scene.chat, &living, 1).await;
    let (second, second_running) = begin(&scene, &scene.chat, &living, 2).await;
    attempt(&store, ending(&first, &first_running, MessageStatus::Complete)).await.unwrap();
    assert_run(&store, Running::Of(user.id), 1).await;
    assert_run(&store, Running::In(scene.workspace.id), 1).await;
    attempt(&store, ending(&second, &second_running, MessageStatus::Complete)).await.unwrap();
    assert_free(&scene).await;

    // The row alone, and the message that it is of.
    let (_, running) = begin(&scene, &scene.chat, &living, 1).await;
    attempt(&store, Changes::new().delete(running)).await.unwrap();
    assert_free(&scene).await;
    let (reply, _) = begin(&scene, &scene.chat, &living, 1).await;
    attempt(&store, Changes::new().delete(reply)).await.unwrap();
    assert_free(&scene).await;

    // The chat: those that run in it, and no others.
    let other = a_chat(&scene.workspace, &user);
    attempt(&store, Changes::new().insert(other.clone())).await.unwrap();
    begin(&scene, &other, &living, 1).await;
    begin(&scene, &other, &living, 2).await;
    let (reply, running) = begin(&scene, &scene.chat, &living, 3).await;
    let other = store.chat(other.workspace, other.id).await.unwrap().unwrap();
    attempt(&store, Changes::new().delete(other)).await.unwrap();
    assert_run(&store, Running::Of(user.id), 1).await;
    assert_run(&store, Running::In(scene.workspace.id), 1).await;
    attempt(&store, ending(&reply, &running, MessageStatus::Complete)).await.unwrap();
    assert_free(&scene).await;

    // The workspace: the user's places are free wherever else they are.
    let gone = enter().await;
    begin(&gone, &gone.chat, &living, 1).await;
    begin(&gone, &gone.chat, &living, 2).await;
    attempt(&store, Changes::new().delete(gone.workspace.clone())).await.unwrap();
    assert_run(&store, Running::Of(user.id), 0).await;
    purge(&store, NOTHING_OVER).await;
    assert_free(&scene).await;

    // The process: its replies take their places until somebody has ended them, and no longer.
    let dying = an_instance();
    attempt(&store, Changes::new().insert(dying)).await.unwrap();
    let (reply, running) = begin(&scene, &scene.chat, &dying, 1).await;
    attempt(&store, Changes::new().delete(dying)).await.unwrap();
    assert_eq!(store.running_of(None).await.unwrap(), slice::from_ref(&running));
    assert_run(&store, Running::Of(user.id), 1).await;
    let buried = race(4, |_| {
        let (store, end) = (store.clone(), ending(&reply, &running, MessageStatus::Interrupted));
        async move { attempt(&store, end).await.is_ok() }
    })
    .await;
    assert_eq!(buried.iter().filter(|buried| **buried).count(), 1);
    assert_free(&scene).await;

    // The account: what was asked for goes on, and then it ends.
    let (reply, running) = begin(&scene, &scene.chat, &living, 1).await;
    attempt(&store, Changes::new().delete(user.clone())).await.unwrap();
    assert_eq!(store.running_in(scene.workspace.id).await.unwrap().len(), 1);
    assert_run(&store, Running::In(scene.workspace.id), 1).await;
    attempt(&store, ending(&reply, &running, MessageStatus::Complete)).await.unwrap();
    assert_run(&store, Running::In(scene.workspace.id), 0).await;
    assert_eq!(store.running(new_id()).await.unwrap(), None);
}
