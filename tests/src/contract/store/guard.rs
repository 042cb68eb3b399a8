//! Promises of guarded changes: one row, one version, or nothing.

use crate::fixture::Say as _;
use private_chat_core::change::{Change, Changes, Counter, Follows, Instance, Record, Version};
use private_chat_core::error::Conflict;
use private_chat_core::model::chat::{Chat, Message, MessageStatus};
use private_chat_core::model::idempotency::KeyedRequest;
use private_chat_core::model::invitation::Invitation;
use private_chat_core::model::user::User;
use private_chat_core::model::workspace::{Membership, Role, Workspace};

use super::{
    Db, NOTHING_OVER, attempt, events, messages, one_of_each, one_of_each_missing, page, purge, race, row, with_version,
};
use crate::fixture::{
    Scene, a_chat, a_keyed_request, a_membership, a_message, a_reply, a_running_reply, a_session, a_user, a_workspace,
    an_instance, an_invitation, created, joining, new_id, now,
};

pub(super) async fn refuses_a_stale_version(store: Db) {
    let (scene, records) = one_of_each(&store).await;
    let guarded = |record: &Record| {
        let (key, version) = (record.key(), record.version());
        [Change::Update(record.clone()), Change::Delete(key, version), Change::Expect(key, version)]
    };
    for record in &records {
        for version in [Version(0), Version(2), Version(1 << 40)] {
            for change in guarded(&with_version(record, version)) {
                let refused = attempt(&store, Changes::new().with(change.clone())).await;
                assert_eq!(refused, Err((Conflict::Stale, 0)), "{change:?}");
            }
        }
        assert_eq!(row(&store, &scene, record.key()).await.as_ref(), Some(record), "it is as it was");
    }
    for record in one_of_each_missing(&scene) {
        for change in guarded(&record) {
            let refused = attempt(&store, Changes::new().with(change.clone())).await;
            assert_eq!(refused, Err((Conflict::Stale, 0)), "{change:?}");
        }
    }
    // Half a key is nobody's.
    let other = Scene::set(&store).await;
    for record in &records {
        let half = match record.clone() {
            Record::Membership(it) => Membership { user: other.user.id, ..it }.into(),
            Record::KeyedRequest(it) => KeyedRequest { user: other.user.id, ..it }.into(),
            Record::Message(it) => Message { chat: other.chat.id, ..it }.into(),
            _ => continue,
        };
        for change in guarded(&half) {
            let refused = attempt(&store, Changes::new().with(change.clone())).await;
            assert_eq!(refused, Err((Conflict::Stale, 0)), "{change:?}");
        }
        assert_eq!(row(&store, &scene, record.key()).await.as_ref(), Some(record), "it is as it was");
    }
    // A version is spent by the update that was made with it.
    for record in &records {
        attempt(&store, Changes::new().update(record.clone())).await.unwrap();
        let next = with_version(record, Version(2));
        assert_eq!(row(&store, &scene, record.key()).await.as_ref(), Some(&next));
        for change in guarded(record) {
            let refused = attempt(&store, Changes::new().with(change.clone())).await;
            assert_eq!(refused, Err((Conflict::Stale, 0)), "{change:?}");
        }
        attempt(&store, Changes::new().update(next.clone())).await.unwrap();
        assert_eq!(row(&store, &scene, record.key()).await, Some(with_version(record, Version(3))));
    }
}

pub(super) async fn lets_exactly_one_of_many_racing_writers_win_a_version(store: Db) {
    const RACERS: usize = 40;
    let scene = Scene::set(&store).await;
    let Scene { mut user, mut workspace, .. } = scene.clone();
    for round in 0..3 {
        let outcomes = race(RACERS, |n| {
            let store = store.clone();
            let user = User { name: format!("racer {n}"), ..user.clone() };
            let workspace = Workspace { name: format!("racer {n}"), ..workspace.clone() };
            // Half of them in the other order: none may wait for another that waits for it.
            let changes = if n % 2 == 0 {
                Changes::new().update(user).update(workspace)
            } else {
                Changes::new().update(workspace).update(user)
            };
            async move { (n, attempt(&store, changes).await) }
        })
        .await;
        let won: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(n, _)| *n).collect();
        assert_eq!(won.len(), 1, "round {round}: {outcomes:?}");
        let lost = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Err((Conflict::Stale, _))));
        assert_eq!(lost.count(), RACERS - 1, "{outcomes:?}");
        let name = format!("racer {}", won[0]);
        let joined = store.joined(workspace.id, user.id).await.unwrap().unwrap();
        workspace = Workspace { name: name.clone(), version: workspace.version.next(), ..workspace };
        user = User { name, version: user.version.next(), ..user };
        assert_eq!(joined.workspace, workspace);
        assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
    }

    // Of those who change a row and those who delete it, too, one wins.
    for _ in 0..5 {
        let chat = a_chat(&workspace, &user);
        attempt(&store, Changes::new().insert(chat.clone())).await.unwrap();
        let outcomes = race(8, |n| {
            let (store, chat) = (store.clone(), chat.clone());
            let changes = if n % 2 == 0 { Changes::new().update(chat) } else { Changes::new().delete(chat) };
            async move { attempt(&store, changes).await }
        })
        .await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    }

    // A reply ends once, whoever wants it ended.
    for _ in 0..5 {
        let instance = an_instance();
        let reply = a_reply(&scene.chat);
        let begin = Changes::new().say(reply.clone()).insert(a_running_reply(&reply, &user, &instance));
        attempt(&store, begin).await.unwrap();
        let reply = store.message(reply.chat, reply.id).await.unwrap().unwrap();
        let running = store.running(reply.id).await.unwrap().unwrap();
        let before = events(&store, workspace.id).await.len();
        let outcomes = race(6, |n| {
            let (store, running) = (store.clone(), running.clone());
            let status = [MessageStatus::Complete, MessageStatus::Stopped, MessageStatus::Interrupted][n % 3];
            let ended = Message { status, ..reply.clone() };
            async move {
                let changes = Changes::new().update(ended.clone()).delete(running).emit(created(&ended));
                attempt(&store, changes).await.map(|_| status)
            }
        })
        .await;
        let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        assert_eq!(store.message(reply.chat, reply.id).await.unwrap().unwrap().status, *won[0]);
        assert_eq!(events(&store, workspace.id).await.len(), before + 1);
    }

    // An invitation is accepted, taken back or renewed once, whoever is first.
    for round in 0..10 {
        let guest = a_user();
        let invitation = Invitation { email: guest.email.clone(), ..an_invitation(&workspace, &user) };
        attempt(&store, Changes::new().insert(guest.clone()).insert(invitation.clone())).await.unwrap();
        let outcomes = race(12, |n| {
            let (store, spent) = (store.clone(), Changes::new().delete(invitation.clone()));
            let changes = match n % 3 {
                0 => spent,
                1 => spent
                    .insert(a_membership(&workspace, &guest, invitation.role))
                    .add(Counter::Members(workspace.id), 1, None)
                    .add(Counter::Memberships(guest.id), 1, None),
                _ => spent.insert(Invitation { id: new_id(), ..invitation.clone() }),
            };
            async move { (n % 3, attempt(&store, changes).await) }
        })
        .await;
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(_, outcome)| outcome.is_ok());
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        for (way, outcome) in lost {
            match (way, outcome) {
                (_, Err((Conflict::Stale, 0))) => {}
                // What the winner made stands in the way as well.
                (1 | 2, Err((Conflict::Duplicate, 1))) => {}
                odd => panic!("round {round}: {odd:?}"),
            }
        }
        assert_eq!(store.invitation(invitation.id).await.unwrap(), None);
        let joined = store.membership(workspace.id, guest.id).await.unwrap().is_some();
        let renewed = store.invitation_to(workspace.id, &guest.email).await.unwrap().is_some();
        assert_eq!((joined, renewed), (won[0].0 == 1, won[0].0 == 2), "round {round}");
    }

    // Two owners who remove each other at once both go through the version of their workspace: one of them stays.
    for round in 0..20 {
        let Scene { user: ann, workspace, membership: anns, .. } = Scene::set(&store).await;
        let bob = a_user();
        attempt(&store, Changes::new().insert(bob.clone())).await.unwrap();
        attempt(&store, joining(&workspace, &bob, Role::Owner)).await.unwrap();
        let bobs = store.membership(workspace.id, bob.id).await.unwrap().unwrap();
        let removed = race(2, |n| {
            let (store, workspace) = (store.clone(), workspace.clone());
            let removed = if n == 0 { bobs.clone() } else { anns.clone() };
            async move {
                if !store.another_owner(workspace.id, removed.user).await.unwrap() {
                    return None;
                }
                let changes = Changes::new()
                    .update(workspace.clone())
                    .delete(removed.clone())
                    .add(Counter::Members(workspace.id), -1, None)
                    .add(Counter::Memberships(removed.user), -1, None);
                match attempt(&store, changes).await {
                    Ok(_) => Some(removed.user),
                    Err((Conflict::Stale, _)) => None,
                    odd => panic!("round {round}: {odd:?}"),
                }
            }
        })
        .await;
        let removed: Vec<_> = removed.into_iter().flatten().collect();
        let [removed] = removed[..] else { panic!("round {round}: {removed:?} are removed") };
        let stays = if removed == ann.id { bob.id } else { ann.id };
        assert!(store.another_owner(workspace.id, removed).await.unwrap());
        assert_eq!(store.joined(workspace.id, removed).await.unwrap(), None);
        assert_eq!(store.joined(workspace.id, stays).await.unwrap().unwrap().member_count, 1);
    }
}

pub(super) async fn refuses_a_duplicate_key_and_a_duplicate_email(store: Db) {
    let (scene, records) = one_of_each(&store).await;
    for record in &records {
        // A message enters a chat by `Append` alone.
        let change = match record.clone() {
            Record::Message(message) => Change::Append(message, Follows::Last),
            record => Change::Insert(record),
        };
        let refused = attempt(&store, Changes::new().with(change)).await;
        assert_eq!(refused, Err((Conflict::Duplicate, 0)), "{:?}", record.key());
        assert_eq!(row(&store, &scene, record.key()).await.as_ref(), Some(record));
    }

    let other = a_user();
    attempt(&store, Changes::new().insert(other.clone())).await.unwrap();
    let namesake = User { email: scene.user.email.clone(), ..a_user() };
    assert_eq!(attempt(&store, Changes::new().insert(namesake.clone())).await, Err((Conflict::Duplicate, 0)));
    let renamed = User { email: scene.user.email.clone(), ..other.clone() };
    assert_eq!(attempt(&store, Changes::new().update(renamed.clone())).await, Err((Conflict::Duplicate, 0)));
    assert_eq!(store.user(other.id).await.unwrap(), Some(other));
    assert_eq!(store.user(namesake.id).await.unwrap(), None);

    // An address is free again once its account is gone.
    attempt(&store, Changes::new().delete(scene.user.clone())).await.unwrap();
    attempt(&store, Changes::new().update(renamed.clone())).await.unwrap();
    assert_eq!(store.user_by_email(&renamed.email).await.unwrap().unwrap().id, renamed.id);

    // Of many who want an address, one gets it.
    let wanted = a_user().email;
    let outcomes = race(40, |_| {
        let (store, user) = (store.clone(), User { email: wanted.clone(), ..a_user() });
        async move { attempt(&store, Changes::new().insert(user.clone())).await.map(|_| user) }
    })
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|outcome| *outcome == Err((Conflict::Duplicate, 0))), "{lost:?}");
    assert_eq!(store.user_by_email(&wanted).await.unwrap(), won.into_iter().next().unwrap().ok());

    // There is one invitation for each workspace and address.
    let (here, there) = (Scene::set(&store).await, Scene::set(&store).await);
    let (first, second) = (an_invitation(&here.workspace, &here.user), an_invitation(&here.workspace, &here.user));
    attempt(&store, Changes::new().insert(first.clone()).insert(second.clone())).await.unwrap();
    let again = Invitation { email: first.email.clone(), ..an_invitation(&here.workspace, &here.user) };
    assert_eq!(attempt(&store, Changes::new().insert(again.clone())).await, Err((Conflict::Duplicate, 0)));
    let moved = Invitation { email: first.email.clone(), ..second.clone() };
    assert_eq!(attempt(&store, Changes::new().update(moved)).await, Err((Conflict::Duplicate, 0)));
    let same_id = Invitation { id: first.id, ..an_invitation(&there.workspace, &there.user) };
    assert_eq!(attempt(&store, Changes::new().insert(same_id)).await, Err((Conflict::Duplicate, 0)));
    let elsewhere = Invitation { email: first.email.clone(), ..an_invitation(&there.workspace, &there.user) };
    attempt(&store, Changes::new().insert(elsewhere.clone())).await.unwrap();
    for invitation in [&first, &second, &elsewhere] {
        let found = store.invitation_to(invitation.workspace, &invitation.email).await.unwrap();
        assert_eq!(found.map(|invited| invited.invitation).as_ref(), Some(invitation));
    }
    let wanted = a_user().email;
    let outcomes = race(20, |_| {
        let invitation = Invitation { email: wanted.clone(), ..an_invitation(&here.workspace, &here.user) };
        let store = store.clone();
        async move { attempt(&store, Changes::new().insert(invitation.clone())).await.map(|_| invitation.id) }
    })
    .await;
    let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err((Conflict::Duplicate, 0)))), "{outcomes:?}");
    let found = store.invitation_to(here.workspace.id, &wanted).await.unwrap().unwrap();
    assert_eq!(found.invitation.id, *won[0]);

    // Of many that carry a key at once, one is done; the others leave nothing behind.
    for _ in 0..5 {
        let key = a_keyed_request(&here.user).key;
        let outcomes = race(12, |_| {
            let (store, chat) = (store.clone(), a_chat(&here.workspace, &here.user));
            let request = KeyedRequest { key, ..a_keyed_request(&here.user) };
            async move {
                let changes = Changes::new().insert(chat.clone()).insert(request.clone());
                (attempt(&store, changes).await, chat, request)
            }
        })
        .await;
        let stored = store.keyed_request(here.user.id, key).await.unwrap();
        let mut done = 0;
        for (outcome, chat, request) in outcomes {
            let is_there = store.chat(here.workspace.id, chat.id).await.unwrap().is_some();
            match outcome {
                Ok(_) => {
                    done += 1;
                    assert_eq!((is_there, &stored), (true, &Some(request)));
                }
                refused => assert_eq!((is_there, refused), (false, Err((Conflict::Duplicate, 1)))),
            }
        }
        assert_eq!(done, 1);
    }

    // What a unit deletes is free in it, whichever id is the lower one.
    let newer = Invitation { email: first.email.clone(), ..an_invitation(&here.workspace, &here.user) };
    assert!(newer.id > first.id);
    for (old, new) in [(&first, &newer), (&newer, &first)] {
        attempt(&store, Changes::new().delete(old.clone()).insert(new.clone())).await.unwrap();
        let found = store.invitation_to(here.workspace.id, &first.email).await.unwrap();
        assert_eq!(found.map(|invited| invited.invitation).as_ref(), Some(new));
        assert_eq!(store.invitation(old.id).await.unwrap(), None);
    }
    let old = a_keyed_request(&here.user);
    let new = KeyedRequest { key: old.key, ..a_keyed_request(&here.user) };
    attempt(&store, Changes::new().insert(old.clone())).await.unwrap();
    attempt(&store, Changes::new().delete(old.clone()).insert(new.clone())).await.unwrap();
    assert_eq!(store.keyed_request(here.user.id, old.key).await.unwrap(), Some(new));
    let rejoined = Membership { joined_at: now(), role: Role::Guest, ..here.membership.clone() };
    attempt(&store, Changes::new().delete(here.membership.clone()).insert(rejoined.clone())).await.unwrap();
    assert_eq!(store.membership(here.workspace.id, here.user.id).await.unwrap(), Some(rejoined));
}

pub(super) async fn refuses_a_row_whose_parent_is_gone(store: Db) {
    let scene = Scene::set(&store).await;
    let Scene { user, workspace, chat, .. } = &scene;
    let instance = an_instance();
    let stranger = Scene::set(&store).await.user;
    let gone_user = a_user();
    let gone_workspace = a_workspace();
    let gone_chat = a_chat(workspace, user);
    let stood = Changes::new().insert(gone_user.clone()).insert(gone_workspace.clone()).insert(gone_chat.clone());
    attempt(&store, stood).await.unwrap();
    let reply = a_reply(&gone_chat);
    attempt(&store, Changes::new().say(reply.clone())).await.unwrap();
    let goes = Changes::new().delete(gone_user.clone()).delete(gone_workspace.clone()).delete(gone_chat.clone());
    attempt(&store, goes).await.unwrap();

    let orphans = [
        Change::Insert(a_session(&gone_user).into()),
        Change::Insert(a_session(&a_user()).into()),
        Change::Insert(a_membership(workspace, &gone_user, Role::Guest).into()),
        Change::Insert(a_membership(&gone_workspace, user, Role::Guest).into()),
        Change::Insert(a_membership(&a_workspace(), user, Role::Guest).into()),
        Change::Insert(an_invitation(workspace, &gone_user).into()),
        Change::Insert(an_invitation(workspace, &stranger).into()),
        Change::Insert(an_invitation(&gone_workspace, user).into()),
        Change::Insert(a_keyed_request(&gone_user).into()),
        Change::Insert(a_keyed_request(&a_user()).into()),
        Change::Insert(a_chat(&gone_workspace, user).into()),
        Change::Append(a_message(&gone_chat, user), Follows::Last),
        Change::Append(a_message(&a_chat(workspace, user), user), Follows::Last),
        Change::Insert(a_running_reply(&reply, user, &instance).into()),
        Change::Insert(a_running_reply(&a_reply(chat), user, &instance).into()),
    ];
    for orphan in orphans {
        let refused = attempt(&store, Changes::new().with(orphan.clone())).await;
        assert_eq!(refused, Err((Conflict::MissingParent, 0)), "{orphan:?}");
    }
    assert_eq!(messages(&store, gone_chat.id).await, []);
    assert_eq!(store.running(reply.id).await.unwrap(), None);

    // A row and its parent in one unit are fine.
    let newcomer = a_user();
    let unit = Changes::new()
        .insert(newcomer.clone())
        .insert(a_session(&newcomer))
        .insert(a_keyed_request(&newcomer))
        .insert(a_membership(workspace, &newcomer, Role::Owner))
        .insert(an_invitation(workspace, &newcomer));
    attempt(&store, unit).await.unwrap();

    // Whether the chat or the message comes first: no message without its chat.
    for _ in 0..10 {
        let chat = a_chat(workspace, user);
        attempt(&store, Changes::new().insert(chat.clone())).await.unwrap();
        let outcomes = race(8, |n| {
            let (store, message, chat) = (store.clone(), a_message(&chat, user), chat.clone());
            async move {
                match n {
                    0 => attempt(&store, Changes::new().delete(chat)).await,
                    _ => attempt(&store, Changes::new().say(message)).await,
                }
            }
        })
        .await;
        let odd = outcomes.iter().find(|outcome| !matches!(outcome, Ok(_) | Err((Conflict::MissingParent, 0))));
        assert_eq!(odd, None);
        assert_eq!(store.chat(workspace.id, chat.id).await.unwrap(), None);
        assert_eq!(messages(&store, chat.id).await, []);
    }

    // Whether the account goes or joins first: never a membership without an account, and never both. Who deletes it knows of its memberships,
    // and takes as many from their count.
    let scenes = [Scene::set(&store).await, Scene::set(&store).await, Scene::set(&store).await];
    for round in 0..20 {
        let leaver = a_user();
        attempt(&store, Changes::new().insert(leaver.clone())).await.unwrap();
        let known = round % 2;
        if known == 1 {
            attempt(&store, joining(workspace, &leaver, Role::Guest)).await.unwrap();
        }
        let outcomes = race(4, |n| {
            let store = store.clone();
            let changes = match n.checked_sub(1) {
                Some(scene) => joining(&scenes[scene].workspace, &leaver, Role::Guest),
                None => Changes::new()
                    .add(Counter::Members(workspace.id), -known, None)
                    .add(Counter::Memberships(leaver.id), -known, Some(0))
                    .delete(leaver.clone()),
            };
            async move { (n, attempt(&store, changes).await) }
        })
        .await;
        let deleted = outcomes.iter().any(|(n, outcome)| *n == 0 && outcome.is_ok());
        for (n, outcome) in &outcomes {
            let as_it_must = match (n, deleted) {
                (0, true) | (1.., false) => outcome.is_ok(),
                (0, false) => *outcome == Err((Conflict::Ceiling, 1)),
                (1.., true) => *outcome == Err((Conflict::MissingParent, 0)),
            };
            assert!(as_it_must, "round {round}: {outcomes:?}");
        }
        assert_eq!(store.user(leaver.id).await.unwrap().is_none(), deleted);
        for scene in &scenes {
            let membership = store.membership(scene.workspace.id, leaver.id).await.unwrap();
            assert_eq!(membership.is_none(), deleted, "round {round}");
            let members = store.participants(scene.workspace.id, page(None, 100)).await.unwrap().items.len();
            let joined = store.joined(scene.workspace.id, scene.user.id).await.unwrap().unwrap();
            assert_eq!(joined.member_count, members as u64);
        }
        let membership = store.membership(workspace.id, leaver.id).await.unwrap();
        assert_eq!(membership.is_some(), known == 1 && !deleted);
    }

    // Nobody who has left invites.
    for round in 0..10 {
        let inviter = a_user();
        attempt(&store, Changes::new().insert(inviter.clone())).await.unwrap();
        attempt(&store, joining(workspace, &inviter, Role::Owner)).await.unwrap();
        let membership = store.membership(workspace.id, inviter.id).await.unwrap().unwrap();
        let outcomes = race(6, |n| {
            let (store, invitation) = (store.clone(), an_invitation(workspace, &inviter));
            let changes = match n {
                0 => Changes::new().delete(membership.clone()),
                _ => Changes::new().insert(invitation.clone()),
            };
            async move { (attempt(&store, changes).await, invitation) }
        })
        .await;
        for (outcome, invitation) in outcomes {
            assert!(matches!(outcome, Ok(_) | Err((Conflict::MissingParent, 0))), "round {round}: {outcome:?}");
            assert_eq!(store.invitation(invitation.id).await.unwrap(), None, "round {round}");
        }
    }
}

pub(super) async fn expects_without_writing(store: Db) {
    let (scene, records) = one_of_each(&store).await;
    let all = records.iter().fold(Changes::new(), |changes, record| changes.expect(record.key(), record.version()));
    attempt(&store, all.clone()).await.unwrap();
    attempt(&store, all).await.unwrap();
    for record in &records {
        assert_eq!(row(&store, &scene, record.key()).await.as_ref(), Some(record));
    }
    // Many may expect the same at once.
    let key = records[1].key();
    let outcomes = race(40, |_| {
        let (store, message) = (store.clone(), a_message(&scene.chat, &scene.user));
        async move { attempt(&store, Changes::new().expect(key, Version::FIRST).say(message)).await }
    })
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");

    // Two that each change what the other expects: one of them, or two in a row are wrong together.
    for round in 0..20 {
        let (ann, bob) = (a_user(), a_user());
        attempt(&store, Changes::new().insert(ann.clone()).insert(bob.clone())).await.unwrap();
        let outcomes = race(2, |n| {
            let store = store.clone();
            let (kept, changed) = if n == 0 { (ann.clone(), bob.clone()) } else { (bob.clone(), ann.clone()) };
            let changes = Changes::new()
                .expect(Record::from(kept).key(), Version::FIRST)
                .update(User { is_active: false, ..changed });
            async move { attempt(&store, changes).await }
        })
        .await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "round {round}: {outcomes:?}");
        assert!(
            outcomes.iter().any(|outcome| matches!(outcome, Err((Conflict::Stale, _)))),
            "round {round}: {outcomes:?}"
        );
    }

    // Nobody sends once they are removed: every message comes before the removal, or is refused.
    for _ in 0..10 {
        let member = a_user();
        attempt(&store, Changes::new().insert(member.clone())).await.unwrap();
        attempt(&store, joining(&scene.workspace, &member, Role::Member)).await.unwrap();
        let membership = store.membership(scene.workspace.id, member.id).await.unwrap().unwrap();
        let expected = Record::from(membership.clone());
        let before = messages(&store, scene.chat.id).await.len();
        let outcomes = race(8, |n| {
            let (store, membership, expected) = (store.clone(), membership.clone(), expected.clone());
            let message = a_message(&scene.chat, &member);
            async move {
                let changes = match n {
                    0 => Changes::new().delete(membership),
                    _ => Changes::new().expect(expected.key(), expected.version()).say(message),
                };
                attempt(&store, changes).await
            }
        })
        .await;
        let sent =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).map(|done| done.appended.len()).sum::<usize>();
        assert_eq!(messages(&store, scene.chat.id).await.len(), before + sent);
        let late = Changes::new().expect(expected.key(), expected.version()).say(a_message(&scene.chat, &member));
        assert_eq!(attempt(&store, late).await, Err((Conflict::Stale, 0)));
    }
}

pub(super) async fn deletes_what_belongs_to_a_deleted_row(store: Db) {
    let scene = Scene::set(&store).await;
    let Scene { user, workspace, membership, chat } = &scene;
    let bystander = Scene::set(&store).await;
    let instance = Instance { beat: 1, ..an_instance() };
    let session = a_session(user);
    let second = a_chat(workspace, user);
    attempt(&store, Changes::new().insert(instance).insert(session.clone()).insert(second.clone())).await.unwrap();
    let begin = async |chat: &Chat| {
        let (asked, reply) = (a_message(chat, user), a_reply(chat));
        let changes = Changes::new()
            .say(asked.clone())
            .say(reply.clone())
            .insert(a_running_reply(&reply, user, &instance))
            .emit(created(&asked))
            .emit(created(&reply));
        attempt(&store, changes).await.unwrap();
        [asked.id, reply.id]
    };
    let [asked, reply] = begin(chat).await;
    let [_, second_reply] = begin(&second).await;
    let bystanders = a_message(&bystander.chat, &bystander.user);
    attempt(&store, Changes::new().say(bystanders.clone()).emit(created(&bystanders))).await.unwrap();

    // With a chat its messages and running replies. Its version is the one of its settings: messages do not move it.
    attempt(&store, Changes::new().delete(second.clone())).await.unwrap();
    assert_eq!(store.chat(workspace.id, second.id).await.unwrap(), None);
    assert_eq!(messages(&store, second.id).await, []);
    assert_eq!(store.running(second_reply).await.unwrap(), None);
    assert_eq!(messages(&store, chat.id).await.len(), 2);

    // With a membership the invitations that were made of it, and no others.
    let inviter = a_user();
    attempt(&store, Changes::new().insert(inviter.clone())).await.unwrap();
    attempt(&store, joining(workspace, &inviter, Role::Owner)).await.unwrap();
    attempt(&store, joining(&bystander.workspace, &inviter, Role::Owner)).await.unwrap();
    let [void, others, elsewhere] = [
        an_invitation(workspace, &inviter),
        an_invitation(workspace, user),
        an_invitation(&bystander.workspace, &inviter),
    ];
    let changes = Changes::new().insert(void.clone()).insert(others.clone()).insert(elsewhere.clone());
    attempt(&store, changes).await.unwrap();
    let leaves = store.membership(workspace.id, inviter.id).await.unwrap().unwrap();
    let changes = Changes::new().delete(leaves).add(Counter::Members(workspace.id), -1, None).add(
        Counter::Memberships(inviter.id),
        -1,
        None,
    );
    attempt(&store, changes).await.unwrap();
    assert_eq!(store.invitation(void.id).await.unwrap(), None);
    assert_eq!(store.invitation_to(workspace.id, &void.email).await.unwrap(), None);
    assert!(store.invitation(others.id).await.unwrap().is_some());
    assert!(store.invitation(elsewhere.id).await.unwrap().is_some());

    // With an account its sessions, memberships and keyed requests; what it wrote stays, without a name.
    let (request, bystanders_request) = (a_keyed_request(user), a_keyed_request(&bystander.user));
    attempt(&store, Changes::new().insert(request.clone()).insert(bystanders_request.clone())).await.unwrap();
    let colleague = a_user();
    attempt(&store, Changes::new().insert(colleague.clone())).await.unwrap();
    attempt(&store, joining(workspace, &colleague, Role::Owner)).await.unwrap();
    attempt(&store, Changes::new().delete(user.clone()).add(Counter::Members(workspace.id), -1, None)).await.unwrap();
    assert_eq!(store.user(user.id).await.unwrap(), None);
    assert_eq!(store.user_by_email(&user.email).await.unwrap(), None);
    assert_eq!(store.session(session.id).await.unwrap(), None);
    assert_eq!(store.sessions(&[session.id]).await.unwrap(), []);
    assert_eq!(store.membership(workspace.id, user.id).await.unwrap(), None);
    assert_eq!(store.keyed_request(user.id, request.key).await.unwrap(), None);
    assert_eq!(store.invitation(others.id).await.unwrap(), None);
    let stays = store.message(chat.id, asked).await.unwrap().unwrap();
    assert_eq!(stays.author, None);
    assert_eq!(store.chat(workspace.id, chat.id).await.unwrap().unwrap().created_by, None);

    // With a workspace everything in it, however many rows that are.
    let invitation = an_invitation(workspace, &colleague);
    attempt(&store, Changes::new().insert(invitation.clone())).await.unwrap();
    assert_eq!(store.joined(workspace.id, colleague.id).await.unwrap().unwrap().member_count, 1);
    attempt(&store, Changes::new().delete(workspace.clone())).await.unwrap();
    assert_eq!(store.joined(workspace.id, colleague.id).await.unwrap(), None);
    assert_eq!(store.membership(workspace.id, colleague.id).await.unwrap(), None);
    assert_eq!(store.memberships(&[(membership.workspace, colleague.id)]).await.unwrap(), []);
    assert_eq!(store.invitation(invitation.id).await.unwrap(), None);
    assert_eq!(store.running(reply).await.unwrap(), None);
    assert_eq!(store.running_in(workspace.id).await.unwrap(), []);
    assert_eq!(store.running_of(Some(instance.id)).await.unwrap(), []);
    purge(&store, NOTHING_OVER).await;
    assert_eq!(store.chat(workspace.id, chat.id).await.unwrap(), None);
    assert_eq!(store.message(chat.id, asked).await.unwrap(), None);
    assert_eq!(events(&store, workspace.id).await, []);

    // And nothing else.
    let Scene { user, workspace, chat, .. } = &bystander;
    assert_eq!(messages(&store, chat.id).await.len(), 1);
    assert_eq!(events(&store, workspace.id).await.len(), 1);
    assert_eq!(store.joined(workspace.id, user.id).await.unwrap().unwrap().member_count, 2);
    assert!(store.invitation(elsewhere.id).await.unwrap().is_some());
    let request = store.keyed_request(user.id, bystanders_request.key).await.unwrap();
    assert_eq!(request, Some(bystanders_request));
    assert!(store.user(colleague.id).await.unwrap().is_some());
    assert_eq!(store.user(new_id()).await.unwrap(), None);
}
