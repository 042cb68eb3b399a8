//! Promises of what goes: a deleted chat, a deleted workspace, and what is over.

use crate::fixture::Say as _;
use std::time::Duration;

use private_chat_core::change::{
    Change, Changes, Checkpoint, Counter, Event, EventKind, Follows, Record, Running, TextSoFar, Version,
};
use private_chat_core::error::Conflict;
use private_chat_core::model::chat::{Chat, Message, MessageStatus, RunningReply};
use private_chat_core::model::idempotency::KeyedRequest;
use private_chat_core::model::invitation::Invitation;
use private_chat_core::model::search::Query;
use private_chat_core::model::session::Session;
use private_chat_core::model::user::User;
use private_chat_core::model::workspace::{Role, Workspace};
use private_chat_core::page::Limit;
use private_chat_core::port::store::{ChatFilter, LogBounds, Order, Over};

use super::{Db, NOTHING_OVER, attempt, begin, events, messages, page, purge, race, with_version};
use crate::fixture::{
    Scene, a_chat, a_keyed_request, a_membership, a_message, a_reply, a_running_reply, a_session, a_user, a_workspace,
    an_instance, an_invitation, created, joining, new_id, now,
};

/// That nobody is in the workspace or can come in, and nothing happens in it. What only a member asks for may be there still.
async fn assert_nothing_within_reach(store: &Db, workspace: &Workspace, members: &[&User]) {
    for user in members {
        assert_eq!(store.joined(workspace.id, user.id).await.unwrap(), None);
        assert_eq!(store.membership(workspace.id, user.id).await.unwrap(), None);
        assert_eq!(store.memberships(&[(workspace.id, user.id)]).await.unwrap(), []);
        assert_eq!(store.participant(workspace.id, user.id).await.unwrap(), None);
        let listed = store.workspaces_of(user.id, page(None, 100)).await.unwrap().items;
        assert!(listed.iter().all(|joined| joined.workspace.id != workspace.id));
    }
    assert_eq!(store.participants(workspace.id, page(None, 100)).await.unwrap().items, []);
    assert!(!store.another_owner(workspace.id, new_id()).await.unwrap());
    assert_eq!(store.invitations_into(workspace.id, workspace.created_at, page(None, 100)).await.unwrap().items, []);
    assert_eq!(store.log_bounds(workspace.id).await.unwrap(), LogBounds::default());
    assert_eq!(store.running_in(workspace.id).await.unwrap(), []);
}

/// That nobody finds the chat in any way, and nothing happens in it.
async fn assert_chat_is_gone(store: &Db, scene: &Scene, chat: &Chat, replies: &[&RunningReply]) {
    let Scene { user, workspace, .. } = scene;
    assert_eq!(store.chat(workspace.id, chat.id).await.unwrap(), None);
    assert_eq!(store.audiences(&[(workspace.id, chat.id)]).await.unwrap(), []);
    for (archived, mine, words) in [
        (false, false, None),
        (true, false, None),
        (false, true, None),
        (false, false, Some("message")),
        (false, false, Some("doomed")),
    ] {
        let query = words.and_then(Query::parse);
        let filter = ChatFilter { workspace: workspace.id, viewer: user.id, archived, mine, query };
        let listed = store.chats(filter, page(None, 100)).await.unwrap();
        assert!(listed.items.iter().all(|other| other.id != chat.id));
        assert_eq!(listed.next, None);
    }
    assert_eq!(messages(store, chat.id).await, []);
    assert_eq!(store.messages(chat.id, Order::Descending, page(None, 100)).await.unwrap().items, []);
    let running = store.running_in(workspace.id).await.unwrap();
    assert!(running.iter().all(|(running, _)| running.chat != chat.id), "{running:?}");
    for reply in replies {
        assert_eq!(store.message(chat.id, reply.message).await.unwrap(), None);
        assert_eq!(store.running(reply.message).await.unwrap(), None);
        for process in [Some(reply.instance), None] {
            let running = store.running_of(process).await.unwrap();
            assert!(running.iter().all(|running| running.chat != chat.id), "{running:?}");
        }
    }
}

/// That none of these rows stands, neither as it was read nor in the version that its deletion may have made of it.
async fn assert_no_version_stands(store: &Db, records: &[Record]) {
    for record in records {
        for version in [record.version(), record.version().next()] {
            let (key, record) = (record.key(), with_version(record, version));
            for change in [Change::Update(record), Change::Delete(key, version), Change::Expect(key, version)] {
                let refused = attempt(store, Changes::new().with(change.clone())).await;
                assert_eq!(refused, Err((Conflict::Stale, 0)), "{change:?}");
            }
        }
    }
}

pub(super) async fn leaves_nothing_of_a_deleted_chat_within_reach(store: Db) {
    let scene = Scene::set(&store).await;
    let Scene { user, workspace, chat: kept, .. } = &scene;
    let instance = an_instance();
    let new = Chat { title: Some("Doomed".into()), ..a_chat(workspace, user) };
    let doomed = Scene { chat: new.clone(), ..scene.clone() };
    attempt(&store, Changes::new().insert(instance).insert(new.clone())).await.unwrap();
    let (kept_reply, _) = begin(&store, &scene, &instance).await;
    let (ended, ended_running) = begin(&store, &doomed, &instance).await;
    let end =
        |reply: &Message| Message { status: MessageStatus::Complete, content: "A message.".into(), ..reply.clone() };
    attempt(&store, Changes::new().update(end(&ended)).delete(ended_running.clone())).await.unwrap();
    let (reply, running) = begin(&store, &doomed, &instance).await;
    let (last, last_running) = begin(&store, &doomed, &instance).await;
    let told = created(&reply);
    attempt(&store, Changes::new().emit(told).emit(created(&kept_reply))).await.unwrap();
    let seen = async || {
        let chat = store.chat(workspace.id, kept.id).await.unwrap();
        let running: Vec<_> = store.running_in(workspace.id).await.unwrap();
        let running: Vec<_> = running.into_iter().filter(|(running, _)| running.chat == kept.id).collect();
        let joined = store.joined(workspace.id, user.id).await.unwrap();
        (chat, messages(&store, kept.id).await, running, joined, events(&store, workspace.id).await)
    };
    let before = seen().await;
    assert_eq!((before.1.len(), before.2.len(), before.4.len()), (2, 1, 2));
    // Messages do not move its version: whoever deletes it does not race with those who write.
    let chat = store.chat(workspace.id, new.id).await.unwrap().unwrap();
    assert_eq!((chat.version, chat.message_count), (Version::FIRST, 6));
    assert_eq!(messages(&store, chat.id).await.len(), 6);
    attempt(&store, Changes::new().delete(new)).await.unwrap();
    let replies = [&ended_running, &running, &last_running];
    assert_chat_is_gone(&store, &scene, &chat, &replies).await;
    assert_eq!(seen().await, before, "nothing else went with it");

    // Nothing can be written into it.
    let following = |parent| Message { parent, ..a_message(&chat, user) };
    for (message, follows) in [
        (following(None), Follows::Last),
        (following(None), Follows::Parent),
        (following(Some(ended.id)), Follows::Parent),
    ] {
        let refused = attempt(&store, Changes::new().append(message.clone(), follows)).await;
        assert_eq!(refused, Err((Conflict::MissingParent, 0)), "{message:?}");
    }
    let across = Message { parent: Some(ended.id), ..a_message(kept, user) };
    let refused = attempt(&store, Changes::new().append(across, Follows::Parent)).await;
    assert_eq!(refused, Err((Conflict::MissingParent, 0)));
    let anew = a_running_reply(&ended, user, &instance);
    assert_eq!(attempt(&store, Changes::new().insert(anew)).await, Err((Conflict::MissingParent, 0)));
    let stored: [Record; 5] = [
        chat.clone().into(),
        Message { version: Version(2), ..ended.clone() }.into(),
        reply.clone().into(),
        running.clone().into(),
        last_running.clone().into(),
    ];
    assert_no_version_stands(&store, &stored).await;
    // Its replies find out, by their checkpoint or at their end.
    let text = |reply: &Message| {
        let content = "A message, still".to_owned();
        TextSoFar { chat: chat.id, seq: reply.seq, message: reply.id, content, reasoning: None }
    };
    let checkpoint = Checkpoint { instance: instance.id, beat: 1, texts: vec![text(&reply), text(&last)], at: now() };
    let answer = store.checkpoint(checkpoint).await.unwrap();
    assert!(answer.alive && answer.running.iter().all(|running| running.chat == kept.id), "{answer:?}");
    assert_eq!(answer.running.len(), 1);
    let late = Changes::new().update(end(&reply)).delete(running.clone()).emit(told);
    assert!(matches!(attempt(&store, late).await, Err((Conflict::Stale, _))));
    assert_chat_is_gone(&store, &scene, &chat, &replies).await;
    assert_eq!(seen().await, before);

    // The rest goes in the background, and nothing else: what was told of it can be read, and what takes its place is new.
    purge(&store, NOTHING_OVER).await;
    assert_chat_is_gone(&store, &scene, &chat, &replies).await;
    assert_eq!(seen().await, before);
    let again = Chat { message_count: 0, last_message_at: None, ..chat.clone() };
    let unit = Changes::new().insert(again.clone()).say(Message { parent: None, ..ended.clone() });
    attempt(&store, unit).await.expect("no row of it is left");
    assert_eq!(messages(&store, chat.id).await.len(), 1);
    assert_eq!(store.chat(workspace.id, chat.id).await.unwrap().unwrap().message_count, 1);
    attempt(&store, Changes::new().delete(again)).await.unwrap();
    assert_chat_is_gone(&store, &scene, &chat, &replies).await;

    // One that has more in it than is likely to go at once; several purge, others write beside it.
    let big = a_chat(workspace, user);
    attempt(&store, Changes::new().insert(big.clone())).await.unwrap();
    for _ in 0..12 {
        let full = (0..100).fold(Changes::new(), |all, _| all.say(a_message(&big, user)));
        attempt(&store, full).await.unwrap();
    }
    attempt(&store, Changes::new().delete(big.clone())).await.unwrap();
    race(4, |n| {
        let (store, kept, user) = (store.clone(), kept.clone(), user.clone());
        async move {
            match n {
                0 => {
                    for _ in 0..10 {
                        attempt(&store, Changes::new().say(a_message(&kept, &user))).await.unwrap();
                    }
                }
                _ => {
                    purge(&store, NOTHING_OVER).await;
                }
            }
        }
    })
    .await;
    purge(&store, NOTHING_OVER).await;
    assert_chat_is_gone(&store, &scene, &big, &[]).await;
    assert_eq!(messages(&store, kept.id).await.len(), before.1.len() + 10);
    assert_eq!(events(&store, workspace.id).await, before.4);

    // Whoever sends while it is deleted comes before, or is refused; nothing runs on in it.
    for round in 0..10 {
        let chat = a_chat(workspace, user);
        attempt(&store, Changes::new().insert(chat.clone())).await.unwrap();
        let (ongoing, ongoing_running) = begin(&store, &Scene { chat: chat.clone(), ..scene.clone() }, &instance).await;
        let outcomes = race(10, |n| {
            let (store, instance) = (store.clone(), instance.id);
            let (asked, reply) = (a_message(&chat, user), a_reply(&chat));
            let text = TextSoFar { chat: chat.id, ..text(&ongoing) };
            let beat = Checkpoint { instance, beat: 2 + round, texts: vec![text], at: now() };
            let changes = match n {
                0 | 1 => Changes::new().delete(chat.clone()),
                2 => Changes::new().update(end(&ongoing)).delete(ongoing_running.clone()),
                3 => Changes::new().update(Chat { title: Some("Renamed".into()), ..chat.clone() }),
                _ => Changes::new()
                    .cap(Running::Of(user.id), 1_000)
                    .cap(Running::In(chat.workspace), 1_000)
                    .say(asked.clone())
                    .say(reply.clone())
                    .insert(RunningReply { instance, ..a_running_reply(&reply, user, &an_instance()) })
                    .emit(created(&asked)),
            };
            async move {
                if n == 4 {
                    assert!(store.checkpoint(beat).await.unwrap().alive);
                }
                (n, attempt(&store, changes).await)
            }
        })
        .await;
        let renamed = outcomes.iter().any(|(n, outcome)| *n == 3 && outcome.is_ok());
        for (n, outcome) in &outcomes {
            match (n, outcome) {
                (_, Ok(_)) | (0..=3, Err((Conflict::Stale, _))) | (4.., Err((Conflict::MissingParent, _))) => {}
                odd => panic!("round {round}: {odd:?}"),
            }
        }
        let deleted = outcomes.iter().filter(|(n, outcome)| *n < 2 && outcome.is_ok()).count();
        assert_eq!(deleted, usize::from(!renamed), "round {round}: one of those who change its settings");
        if renamed {
            let stands = store.chat(workspace.id, chat.id).await.unwrap().unwrap();
            attempt(&store, Changes::new().delete(stands)).await.unwrap();
        }
        assert_chat_is_gone(&store, &scene, &chat, &[&ongoing_running]).await;
    }
    assert_eq!(store.running_in(workspace.id).await.unwrap().len(), 1, "the one of the chat that stands");
}

pub(super) async fn leaves_nothing_of_a_deleted_workspace_within_reach(store: Db) {
    let Scene { user, workspace, membership, chat } = Scene::set(&store).await;
    let other = Scene::set(&store).await;
    let (member, instance, private) = (a_user(), an_instance(), a_chat(&workspace, &user));
    attempt(&store, Changes::new().insert(member.clone()).insert(instance).insert(private.clone())).await.unwrap();
    attempt(&store, joining(&workspace, &member, Role::Member)).await.unwrap();
    attempt(&store, joining(&other.workspace, &user, Role::Guest)).await.unwrap();
    let here = an_invitation(&workspace, &user);
    let there = Invitation { email: here.email.clone(), ..an_invitation(&other.workspace, &other.user) };
    let (asked, reply, theirs) = (a_message(&chat, &member), a_reply(&chat), a_message(&other.chat, &other.user));
    let changes = Changes::new()
        .insert(here.clone())
        .insert(there.clone())
        .say(asked.clone())
        .say(reply.clone())
        .insert(a_running_reply(&reply, &member, &instance))
        .say(theirs.clone())
        .emit(created(&asked))
        .emit(created(&theirs));
    let committed = attempt(&store, changes).await.unwrap();
    let running = store.running(reply.id).await.unwrap().unwrap();
    let seen = async || {
        let joined = store.joined(other.workspace.id, user.id).await.unwrap().unwrap();
        let chat = store.chat(other.workspace.id, other.chat.id).await.unwrap().unwrap();
        let standing = store.invitations_of(&here.email, now(), page(None, 5)).await.unwrap();
        let elsewhere =
            standing.items.into_iter().filter(|invited| invited.invitation.workspace == joined.workspace.id);
        let elsewhere: Vec<_> = elsewhere.collect();
        (joined, chat, elsewhere, messages(&store, other.chat.id).await, events(&store, other.workspace.id).await)
    };
    let others = seen().await;
    assert_eq!((others.2.len(), others.3.len(), others.4.len()), (1, 1, 1));

    attempt(&store, Changes::new().delete(workspace.clone())).await.unwrap();
    let members = [&user, &member];
    assert_nothing_within_reach(&store, &workspace, &members).await;
    assert_eq!(store.invitation(here.id).await.unwrap(), None);
    assert_eq!(store.invitation_to(workspace.id, &here.email).await.unwrap(), None);
    let standing = store.invitations_of(&here.email, now(), page(None, 5)).await.unwrap().items;
    assert_eq!(standing.iter().map(|invited| invited.invitation.id).collect::<Vec<_>>(), [there.id]);
    assert_eq!(store.running(reply.id).await.unwrap(), None);
    assert_eq!(store.running_of(Some(instance.id)).await.unwrap(), []);
    assert_eq!(store.running_of(None).await.unwrap(), []);
    assert_eq!(seen().await, others, "nothing else went with it");
    // Each member is in one workspace less.
    let in_at_most = async |user: &User, most| {
        attempt(&store, Changes::new().add(Counter::Memberships(user.id), 0, Some(most))).await
    };
    assert_eq!(in_at_most(&user, 0).await, Err((Conflict::Ceiling, 0)));
    assert!(in_at_most(&user, 1).await.is_ok() && in_at_most(&member, 0).await.is_ok());

    // It can't be written to either.
    let told = Event { workspace: workspace.id, kind: EventKind::ChatCreated(chat.id), at: now() };
    let into = [
        Change::Insert(a_chat(&workspace, &user).into()),
        Change::Insert(a_membership(&workspace, &other.user, Role::Owner).into()),
        Change::Insert(a_membership(&workspace, &user, Role::Owner).into()),
        Change::Insert(an_invitation(&workspace, &user).into()),
    ];
    for change in into {
        let refused = attempt(&store, Changes::new().with(change.clone())).await;
        assert_eq!(refused, Err((Conflict::MissingParent, 0)), "{change:?}");
        // As a member's request writes it: they are no member any more.
        let asked = Record::from(membership.clone()).key();
        let request = Changes::new().expect(asked, Version::FIRST).with(change.clone()).emit(told);
        assert_eq!(attempt(&store, request).await, Err((Conflict::Stale, 0)), "{change:?}");
    }
    assert_eq!(attempt(&store, Changes::new().emit(told)).await, Err((Conflict::MissingParent, 0)));
    let beside = Changes::new().say(a_message(&other.chat, &other.user)).emit(created(&theirs)).emit(told);
    assert_eq!(attempt(&store, beside).await, Err((Conflict::MissingParent, 1)));
    let stored: [Record; 4] = [workspace.clone().into(), membership.into(), here.clone().into(), running.into()];
    assert_no_version_stands(&store, &stored).await;
    let renamed = Changes::new().update(Chat { title: Some("Still here?".into()), ..private.clone() }).emit(told);
    assert!(attempt(&store, renamed).await.is_err());
    let text = TextSoFar {
        chat: chat.id,
        seq: committed.appended[1].seq,
        message: reply.id,
        content: "Still there?".into(),
        reasoning: None,
    };
    let checkpoint = Checkpoint { instance: instance.id, beat: 1, texts: vec![text], at: now() };
    let told = store.checkpoint(checkpoint).await.unwrap();
    assert!(told.alive && told.running.is_empty());
    assert_nothing_within_reach(&store, &workspace, &[&user, &member, &other.user]).await;
    assert_eq!(seen().await, others);

    // Who was in it may go as well, whether what they wrote there is left or not.
    attempt(&store, Changes::new().delete(member.clone())).await.unwrap();
    assert_eq!(store.user(member.id).await.unwrap(), None);
    assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));

    // Whoever writes into it while it is deleted comes before, or is refused.
    for round in 0..10 {
        let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
        let newcomer = a_user();
        attempt(&store, Changes::new().insert(newcomer.clone())).await.unwrap();
        let outcomes = race(10, |n| {
            let store = store.clone();
            let message = a_message(&chat, &user);
            let changes = match n {
                0 => Changes::new().delete(workspace.clone()),
                1 => joining(&workspace, &newcomer, Role::Owner),
                2 | 3 => Changes::new().insert(an_invitation(&workspace, &user)),
                4 | 5 => Changes::new().insert(a_chat(&workspace, &user)),
                6 | 7 => Changes::new().say(message),
                _ => Changes::new().say(message.clone()).emit(created(&message)),
            };
            async move { (n, attempt(&store, changes).await) }
        })
        .await;
        for (n, outcome) in &outcomes {
            match outcome {
                Ok(_) => {}
                Err((Conflict::MissingParent, _)) if *n > 0 => {}
                odd => panic!("{n} in round {round}: {odd:?}"),
            }
        }
        assert_nothing_within_reach(&store, &workspace, &[&user, &newcomer]).await;
    }
}

pub(super) async fn purges_what_is_over_and_what_nobody_can_reach_and_nothing_else(store: Db) {
    const MICROSECOND: Duration = Duration::from_micros(1);

    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    let owner = a_user();
    attempt(&store, Changes::new().insert(owner.clone())).await.unwrap();
    attempt(&store, joining(&workspace, &owner, Role::Owner)).await.unwrap();
    // Each kind has a limit of its own.
    let [first, second, third] = [1, 2, 3].map(|days| now() + Duration::from_secs(days * 86_400));
    let over = Over {
        sessions: second + MICROSECOND,
        invitations: first + MICROSECOND,
        keyed_requests: third + MICROSECOND,
        ..NOTHING_OVER
    };
    let mut sessions = Vec::new();
    let mut invitations = Vec::new();
    let mut requests = Vec::new();
    for n in 0..30 {
        // Just before the limit, at it, and just behind it.
        let near = |before| before + MICROSECOND * (n % 3);
        // That it ended does not make it over: whoever comes with its token is told so.
        sessions.push(Session { expires_at: near(second), ended: n % 2 == 0, ..a_session(&user) });
        invitations.push(Invitation { expires_at: near(first), ..an_invitation(&workspace, &owner) });
        requests.push(KeyedRequest { created_at: near(third), ..a_keyed_request(&user) });
    }
    let mut changes = Changes::new();
    for ((session, invitation), request) in sessions.iter().zip(&invitations).zip(&requests) {
        changes = changes.insert(session.clone()).insert(invitation.clone()).insert(request.clone());
    }
    attempt(&store, changes).await.unwrap();
    for _ in 0..20 {
        let message = a_message(&chat, &user);
        attempt(&store, Changes::new().say(message.clone()).emit(created(&message))).await.unwrap();
    }

    // One workspace that is deleted, with more in it than is likely to go at once.
    let gone = Scene::set(&store).await;
    let gone_invitation = an_invitation(&gone.workspace, &gone.user);
    attempt(&store, Changes::new().insert(gone_invitation.clone())).await.unwrap();
    for _ in 0..12 {
        let chat = a_chat(&gone.workspace, &gone.user);
        let written: Vec<_> = (0..100).map(|_| a_message(&chat, &gone.user)).collect();
        let changes = Changes::new().insert(chat);
        let changes = written.iter().fold(changes, |all, message| all.say(message.clone()).emit(created(message)));
        attempt(&store, changes).await.unwrap();
    }
    let seen = async || {
        let filter = ChatFilter { workspace: workspace.id, viewer: user.id, archived: false, mine: false, query: None };
        let gone_user = store.user(gone.user.id).await.unwrap();
        let joined = store.joined(workspace.id, user.id).await.unwrap();
        let members = store.participants(workspace.id, page(None, 100)).await.unwrap();
        let chats = store.chats(filter.clone(), page(None, 100)).await.unwrap();
        let log = (events(&store, workspace.id).await, store.log_bounds(workspace.id).await.unwrap());
        (gone_user, joined, members, chats, messages(&store, chat.id).await, log)
    };
    let before = seen().await;
    assert_eq!((before.2.items.len(), before.4.len(), before.5.0.len()), (2, 20, 20));

    // Nothing is over yet.
    assert_eq!(store.purge(NOTHING_OVER).await.unwrap(), 0);
    attempt(&store, Changes::new().delete(gone.workspace.clone())).await.unwrap();
    purge(&store, NOTHING_OVER).await;
    assert_eq!(store.purge(NOTHING_OVER).await.unwrap(), 0);
    for session in &sessions {
        assert_eq!(store.session(session.id).await.unwrap(), Some((session.clone(), user.clone())));
    }

    assert!(purge(&store, over).await >= 30, "ten of each kind are over");
    assert_eq!(store.purge(over).await.unwrap(), 0);
    for n in 0..30 {
        let (session, invitation, request) = (&sessions[n], &invitations[n], &requests[n]);
        let stands = n % 3 != 0;
        let found = store.session(session.id).await.unwrap().map(|(session, _)| session);
        assert_eq!(found, stands.then(|| session.clone()));
        let found = store.invitation(invitation.id).await.unwrap().map(|invited| invited.invitation);
        assert_eq!(found, stands.then(|| invitation.clone()));
        let found = store.keyed_request(request.user, request.key).await.unwrap();
        assert_eq!(found, stands.then(|| request.clone()));
    }
    assert_eq!(seen().await, before);
    assert_nothing_within_reach(&store, &gone.workspace, &[&gone.user]).await;
    assert_eq!(store.invitation(gone_invitation.id).await.unwrap(), None);

    // What is gone is free again.
    let again = Invitation { email: invitations[0].email.clone(), ..an_invitation(&workspace, &owner) };
    let request = KeyedRequest { created_at: over.keyed_requests, ..requests[0].clone() };
    attempt(&store, Changes::new().insert(again).insert(request)).await.unwrap();

    // Several processes purge at once, while others go on writing and deleting.
    let over = Over { sessions: over.keyed_requests, invitations: over.keyed_requests, ..over };
    let doomed = [Scene::set(&store).await, Scene::set(&store).await, Scene::set(&store).await];
    race(8, |n| {
        let (store, user, chat, doomed) = (store.clone(), user.clone(), chat.clone(), doomed.get(n).cloned());
        async move {
            if n >= 6 {
                for _ in 0..10 {
                    let message = a_message(&chat, &user);
                    attempt(&store, Changes::new().say(message.clone()).emit(created(&message))).await.unwrap();
                }
                return;
            }
            if let Some(Scene { user, workspace, chat, .. }) = doomed {
                let full = (0..50).fold(Changes::new(), |changes, _| changes.say(a_message(&chat, &user)));
                attempt(&store, full).await.unwrap();
                attempt(&store, Changes::new().delete(workspace)).await.unwrap();
            }
            purge(&store, over).await;
        }
    })
    .await;
    purge(&store, over).await;
    assert_eq!(messages(&store, chat.id).await.len(), 40);
    assert_eq!(events(&store, workspace.id).await.len(), 40);
    let standing = store.sessions_of(user.id, user.credentials_epoch, workspace.created_at, page(None, 100));
    assert_eq!(standing.await.unwrap().items, []);
    let standing = store.invitations_into(workspace.id, workspace.created_at, page(None, 100));
    assert_eq!(standing.await.unwrap().items.len(), 1, "the one that was made anew");
}

pub(super) async fn forgets_old_events_from_the_front_of_their_log_and_tells_up_to_where(store: Db) {
    const MICROSECOND: Duration = Duration::from_micros(1);
    let over = |events| Over { events, ..NOTHING_OVER };
    let start = now();
    let after = move |seconds: u64| start + Duration::from_secs(seconds);
    let scene = async |times: &[u64]| {
        let scene = Scene::set(&store).await;
        for at in times {
            let event = Event { at: after(*at), ..created(&a_message(&scene.chat, &scene.user)) };
            assert!(attempt(&store, Changes::new().emit(event)).await.is_ok());
        }
        scene
    };
    let assert_kept = async |scene: &Scene, newest: u64, forgotten: u64| {
        let bounds = store.log_bounds(scene.workspace.id).await.unwrap();
        assert_eq!(bounds, LogBounds { newest, forgotten });
        let numbers: Vec<_> = events(&store, scene.workspace.id).await.iter().map(|logged| logged.number).collect();
        assert_eq!(numbers, (forgotten + 1..=newest).collect::<Vec<_>>(), "{bounds:?}");
    };

    // Each log by its own front: what a clock that was ahead dated later keeps what stands behind it.
    let plain = scene(&[10, 20, 30, 40, 50]).await;
    let skewed = scene(&[10, 20, 90, 15, 25, 60, 35]).await;
    let young = scene(&[70, 80]).await;
    let silent = scene(&[]).await;
    let old = scene(&[1, 2, 3]).await;
    let logged = events(&store, plain.workspace.id).await;
    assert_eq!(store.purge(over(start)).await.unwrap(), 0);
    assert_eq!(
        purge(&store, over(after(30))).await,
        2 + 2 + 3,
        "those that happened before, and not the one at that time"
    );
    assert_kept(&plain, 5, 2).await;
    assert_kept(&skewed, 7, 2).await;
    assert_kept(&young, 2, 0).await;
    assert_kept(&silent, 0, 0).await;
    assert_kept(&old, 3, 3).await;
    assert_eq!(events(&store, plain.workspace.id).await, logged[2..], "and those that are kept are as they were");
    assert_eq!(store.purge(over(after(30))).await.unwrap(), 0);
    assert_eq!(purge(&store, over(after(30) + MICROSECOND)).await, 1);
    assert_kept(&plain, 5, 3).await;
    // An earlier time brings nothing back and takes nothing.
    assert_eq!(purge(&store, over(after(5))).await, 0);
    assert_kept(&plain, 5, 3).await;
    assert_eq!(purge(&store, over(after(61))).await, 2);
    assert_kept(&skewed, 7, 2).await;
    assert_kept(&plain, 5, 5).await;
    assert_eq!(purge(&store, over(after(91))).await, 5 + 2);
    assert_kept(&skewed, 7, 7).await;
    assert_kept(&young, 2, 2).await;

    // One unit may tell of several times, of a log that stands and of one that it makes.
    let made = a_workspace();
    let told = async |workspace, changes: Changes| {
        let event = Event { workspace, ..created(&a_message(&silent.chat, &silent.user)) };
        let events = [10, 95].map(|seconds| Event { at: after(seconds), ..event });
        attempt(&store, changes.emit(events[0]).emit(events[1])).await.unwrap();
    };
    let standing = scene(&[]).await;
    told(standing.workspace.id, Changes::new()).await;
    told(made.id, Changes::new().insert(made.clone())).await;
    assert_eq!(purge(&store, over(after(91))).await, 2);
    for workspace in [standing.workspace.id, made.id] {
        assert_eq!(store.log_bounds(workspace).await.unwrap(), LogBounds { newest: 2, forgotten: 1 });
    }
    assert_eq!(purge(&store, over(after(96))).await, 2);

    // The numbers go on behind what was forgotten, also where nothing is left.
    for (scene, next) in [(&plain, 6), (&old, 4), (&silent, 1)] {
        let event = Event { at: after(100), ..created(&a_message(&scene.chat, &scene.user)) };
        assert_eq!(attempt(&store, Changes::new().emit(event).emit(event)).await.unwrap().events, [next, next + 1]);
        assert_kept(scene, next + 1, next - 1).await;
        // Whoever asks from where nothing is kept gets what is kept.
        let read = store.events(scene.workspace.id, 0, Limit::MOST).await.unwrap();
        assert_eq!(read.first().map(|logged| logged.number), Some(next));
        let read = store.events(scene.workspace.id, next, Limit::MOST).await.unwrap();
        assert_eq!(read.first().map(|logged| logged.number), Some(next + 1));
    }

    // More than are likely to go at once, in several logs: at every moment the bounds tell what can be read, and nothing behind is touched.
    let long = [scene(&[]).await, scene(&[]).await];
    let emit = async |scene: &Scene, at, times: usize| {
        let event = Event { at, ..created(&a_message(&scene.chat, &scene.user)) };
        let unit = (0..times).fold(Changes::new(), |all, _| all.emit(event));
        attempt(&store, unit).await.unwrap();
    };
    for scene in &long {
        for _ in 0..6 {
            emit(scene, after(10), 200).await;
        }
        emit(scene, after(200), 50).await;
    }
    let mut gone = 0;
    for round in 0.. {
        assert!(round < 10_000, "there is always something left");
        let batch = store.purge(over(after(50))).await.unwrap();
        gone += batch;
        let forgotten = async |scene: &Scene| store.log_bounds(scene.workspace.id).await.unwrap().forgotten;
        let left = [forgotten(&long[0]).await, forgotten(&long[1]).await];
        assert_eq!(left[0] + left[1], gone);
        for (scene, forgotten) in long.iter().zip(left) {
            assert_kept(scene, 1250, forgotten).await;
        }
        if batch == 0 {
            break;
        }
    }
    assert_eq!(gone, 2400);
    assert_kept(&young, 2, 2).await;
    assert_kept(&plain, 7, 5).await;

    // Several forget at once, while others write and read on.
    let scene = &long[0];
    emit(scene, after(300), 1).await;
    let newest = 1251;
    race(6, |n| {
        let (store, scene) = (store.clone(), scene.clone());
        async move {
            for round in 0..20 {
                match n {
                    0 | 1 => {
                        let event = Event { at: after(10), ..created(&a_message(&scene.chat, &scene.user)) };
                        attempt(&store, Changes::new().emit(event).emit(event)).await.unwrap();
                    }
                    2 | 3 => {
                        store.purge(over(after(201 + round * 10))).await.unwrap();
                    }
                    _ => {
                        let read = store.events(scene.workspace.id, 0, Limit::MOST).await.unwrap();
                        let forgotten = store.log_bounds(scene.workspace.id).await.unwrap().forgotten;
                        assert!(read.windows(2).all(|pair| pair[1].number == pair[0].number + 1), "{read:?}");
                        let Some(first) = read.first() else { continue };
                        assert!(
                            first.number <= forgotten + 1,
                            "what was forgotten by {forgotten} is not told: {first:?}"
                        );
                    }
                }
            }
        }
    })
    .await;
    purge(&store, over(after(1000))).await;
    assert_kept(scene, newest + 80, newest + 80).await;

    // A log that goes with its workspace.
    attempt(&store, Changes::new().delete(plain.workspace.clone())).await.unwrap();
    purge(&store, over(after(1000))).await;
    assert_kept(&plain, 0, 0).await;
    assert_kept(&long[1], 1250, 1250).await;
}
