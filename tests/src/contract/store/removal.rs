//! Promises of what goes: a deleted workspace, and what is over.

use crate::fixture::Say as _;
use std::time::Duration;

use private_chat_core::change::{Change, Changes, Checkpoint, Counter, Event, EventKind, Record, TextSoFar, Version};
use private_chat_core::error::Conflict;
use private_chat_core::model::chat::Chat;
use private_chat_core::model::idempotency::KeyedRequest;
use private_chat_core::model::invitation::Invitation;
use private_chat_core::model::session::Session;
use private_chat_core::model::user::User;
use private_chat_core::model::workspace::{Role, Workspace};
use private_chat_core::port::store::{ChatFilter, LogBounds, Over};

use super::{Db, attempt, events, messages, page, race};
use crate::fixture::{
    Scene, a_chat, a_keyed_request, a_membership, a_message, a_reply, a_running_reply, a_session, a_user, an_instance,
    an_invitation, created, joining, new_id, now,
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
    for record in &stored {
        let (key, version) = (record.key(), record.version());
        for change in [Change::Update(record.clone()), Change::Delete(key, version), Change::Expect(key, version)] {
            let refused = attempt(&store, Changes::new().with(change.clone())).await;
            assert_eq!(refused, Err((Conflict::Stale, 0)), "{change:?}");
        }
    }
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
    async fn purge(store: &Db, over: Over) -> u64 {
        let mut gone = 0;
        for _ in 0..10_000 {
            match store.purge(over).await.unwrap() {
                0 => return gone,
                some => gone += some,
            }
        }
        panic!("there is always something left");
    }
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
        events: private_chat_core::time::Timestamp::default(),
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
    let start = workspace.created_at;
    let nothing = Over { sessions: start, invitations: start, keyed_requests: start, events: start };
    assert_eq!(store.purge(nothing).await.unwrap(), 0);
    attempt(&store, Changes::new().delete(gone.workspace.clone())).await.unwrap();
    purge(&store, nothing).await;
    assert_eq!(store.purge(nothing).await.unwrap(), 0);
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
