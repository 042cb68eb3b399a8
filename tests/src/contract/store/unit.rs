//! Promises of a unit of work as a whole.

use crate::fixture::Say as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use private_chat_core::change::{
    Change, Changes, Counter, Event, EventKind, Follows, LoggedEvent, Record, Ref, Running, Version,
};
use private_chat_core::error::Conflict;
use private_chat_core::id::MessageId;
use private_chat_core::model::chat::Message;
use private_chat_core::model::idempotency::{KeyHash, KeyedRequest};
use private_chat_core::model::user::User;
use private_chat_core::model::workspace::{Role, Workspace};
use private_chat_core::page::Limit;
use tokio::time::{sleep, timeout};

use super::{Db, attempt, events, messages, page, race};
use crate::fixture::{
    Scene, a_chat, a_keyed_request, a_membership, a_message, a_reply, a_session, a_user, a_workspace, an_invitation,
    created, new_id, now,
};

/// Changes of all kinds that stand well together, made anew each time; and changes that can't be made, with the reason.
struct Unit {
    scene: Scene,
    other: Scene,
    leaver: User,
    key: KeyHash,
}

impl Unit {
    async fn set(store: &Db) -> Self {
        let (scene, other) = (Scene::set(store).await, Scene::set(store).await);
        let leaver = a_user();
        let changes = Changes::new()
            .insert(leaver.clone())
            .insert(a_membership(&scene.workspace, &leaver, Role::Guest))
            .insert(a_session(&leaver))
            .add(Counter::Members(scene.workspace.id), 1, None);
        attempt(store, changes).await.unwrap();
        let key = a_keyed_request(&leaver).key;
        Self { scene, other, leaver, key }
    }

    fn sound(&self) -> Vec<Change> {
        let Scene { user, workspace, chat, membership } = &self.scene;
        let newcomer = a_user();
        let renamed = Workspace { name: "After".into(), ..workspace.clone() };
        vec![
            Change::Insert(newcomer.clone().into()),
            Change::Append(a_message(chat, user), Follows::Last),
            Change::Update(renamed.into()),
            Change::Insert(a_membership(workspace, &newcomer, Role::Member).into()),
            Change::Add { counter: Counter::Members(workspace.id), delta: 1, ceiling: None },
            Change::Add { counter: Counter::Memberships(user.id), delta: 1, ceiling: Some(2) },
            Change::Cap { running: Running::Of(user.id), most: 1 },
            Change::Cap { running: Running::In(workspace.id), most: 1 },
            Change::Insert(an_invitation(workspace, user).into()),
            Change::Insert(KeyedRequest { key: self.key, ..a_keyed_request(user) }.into()),
            Change::Delete(Ref::User(self.leaver.id), Version::FIRST),
            Change::Expect(Record::from(membership.clone()).key(), Version::FIRST),
            Change::Append(a_reply(chat), Follows::Last),
        ]
    }

    fn unsound(&self) -> Vec<(Change, Conflict)> {
        let Scene { user, workspace, chat, membership } = &self.other;
        let stale = User { version: Version(2), ..user.clone() };
        let members = Counter::Members(workspace.id);
        let unknown_parent = Message { parent: Some(new_id()), ..a_message(chat, user) };
        vec![
            (Change::Update(stale.clone().into()), Conflict::Stale),
            (Change::Delete(Ref::User(stale.id), stale.version), Conflict::Stale),
            (Change::Expect(Ref::Workspace(workspace.id), Version(2)), Conflict::Stale),
            (Change::Expect(Ref::Membership(workspace.id, self.leaver.id), Version(1)), Conflict::Stale),
            (Change::Insert(User { email: user.email.clone(), ..a_user() }.into()), Conflict::Duplicate),
            (Change::Insert(membership.clone().into()), Conflict::Duplicate),
            (Change::Insert(a_session(&a_user()).into()), Conflict::MissingParent),
            (Change::Append(a_message(&a_chat(workspace, user), user), Follows::Last), Conflict::MissingParent),
            (Change::Append(unknown_parent, Follows::Parent), Conflict::MissingParent),
            (Change::Insert(an_invitation(workspace, &self.scene.user).into()), Conflict::MissingParent),
            (Change::Insert(a_keyed_request(&a_user()).into()), Conflict::MissingParent),
            (Change::Add { counter: members, delta: 1, ceiling: Some(1) }, Conflict::Ceiling),
            (Change::Cap { running: Running::Of(user.id), most: 0 }, Conflict::Ceiling),
            (Change::Cap { running: Running::In(workspace.id), most: 0 }, Conflict::Ceiling),
        ]
    }

    fn events(&self) -> [Event; 3] {
        let [workspace, other] = [self.scene.workspace.id, self.other.workspace.id];
        [
            Event { workspace, kind: EventKind::MessageCreated(self.scene.chat.id, new_id()), at: now() },
            Event { workspace: other, kind: EventKind::MemberLeft(self.leaver.id), at: now() },
            Event { workspace, kind: EventKind::ChatUpdated(self.scene.chat.id), at: now() },
        ]
    }

    fn changes(&self, changes: Vec<Change>) -> Changes {
        let changes = changes.into_iter().fold(Changes::new(), Changes::with);
        self.events().into_iter().fold(changes, Changes::emit)
    }

    /// Everything that such a unit could have touched.
    async fn seen(&self, store: &Db) -> String {
        let mut seen = String::new();
        for Scene { user, workspace, chat, .. } in [&self.scene, &self.other] {
            seen += &format!(
                "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n",
                store.user(user.id).await.unwrap(),
                store.joined(workspace.id, user.id).await.unwrap(),
                store.chat(workspace.id, chat.id).await.unwrap(),
                messages(store, chat.id).await,
                events(store, workspace.id).await,
                store.log_bounds(workspace.id).await.unwrap(),
                store.invitations_into(workspace.id, now(), page(None, 100)).await.unwrap(),
                store.keyed_request(user.id, self.key).await.unwrap(),
            );
        }
        seen += &format!("{:?}\n", store.user(self.leaver.id).await.unwrap());
        seen + &format!("{:?}", store.membership(self.scene.workspace.id, self.leaver.id).await.unwrap())
    }
}

pub(super) async fn writes_all_changes_or_none(store: Db) {
    let unit = Unit::set(&store).await;
    let before = unit.seen(&store).await;
    let length = unit.sound().len();
    for (n, (_, conflict)) in unit.unsound().into_iter().enumerate() {
        for place in [0, length / 2, length] {
            let mut changes = unit.sound();
            let newcomer = changes.iter().find_map(|change| match change {
                Change::Insert(Record::User(user)) => Some(user.clone()),
                _ => None,
            });
            let newcomer = newcomer.unwrap();
            changes.insert(place, unit.unsound().swap_remove(n).0);
            let bad = changes[place].clone();
            let refused = attempt(&store, unit.changes(changes)).await;
            assert!(matches!(refused, Err((kind, _)) if kind == conflict), "{bad:?} at {place}: {refused:?}");
            assert_eq!(unit.seen(&store).await, before, "{bad:?} at {place} left something behind");
            assert_eq!(store.user(newcomer.id).await.unwrap(), None);
            assert_eq!(store.user_by_email(&newcomer.email).await.unwrap(), None);
        }
    }

    // The same unit without its flaw is written whole, and no number was lost to those that were refused.
    let done = attempt(&store, unit.changes(unit.sound())).await.unwrap();
    assert_eq!(done.events, [1, 1, 2]);
    assert_eq!(done.appended.iter().map(|appended| appended.seq).collect::<Vec<_>>(), [1, 2]);
    let Scene { user, workspace, chat, .. } = &unit.scene;
    assert_eq!(messages(&store, chat.id).await.len(), 2);
    assert_eq!(events(&store, workspace.id).await.len(), 2);
    let joined = store.joined(workspace.id, user.id).await.unwrap().unwrap();
    assert_eq!((joined.workspace.name.as_str(), joined.workspace.version), ("After", Version(2)));
    assert_eq!(store.user(unit.leaver.id).await.unwrap(), None);
    let full = Changes::new().add(Counter::Memberships(user.id), 1, Some(2));
    assert_eq!(attempt(&store, full).await, Err((Conflict::Ceiling, 0)));

    // Nothing at all is written as well as anything.
    assert_eq!(attempt(&store, Changes::new()).await, Ok(private_chat_core::change::Committed::default()));
}

pub(super) async fn names_the_change_that_conflicts(store: Db) {
    let unit = Unit::set(&store).await;
    let length = unit.sound().len();
    for (n, (_, conflict)) in unit.unsound().into_iter().enumerate() {
        for place in 0..=length {
            let mut changes = unit.sound();
            changes.insert(place, unit.unsound().swap_remove(n).0);
            let bad = changes[place].clone();
            let refused = attempt(&store, unit.changes(changes)).await;
            assert_eq!(refused, Err((conflict, place)), "{bad:?}");
        }
    }
}

pub(super) async fn numbers_events_in_the_order_of_their_commits(store: Db) {
    const WRITERS: usize = 16;
    const EACH: usize = 12;
    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    let done = Arc::new(AtomicBool::new(false));
    // Whoever follows the log never sees a number before all those below it: what it skipped it would never learn of.
    let follower = tokio::task::JoinSet::from_iter([{
        let (store, done, workspace) = (store.clone(), done.clone(), workspace.id);
        async move {
            let mut seen: Vec<LoggedEvent> = Vec::new();
            loop {
                let last = done.load(Ordering::Acquire);
                let got = store.events(workspace, seen.len() as u64, Limit::new(100).unwrap()).await.unwrap();
                for logged in &got {
                    assert_eq!(logged.number, seen.len() as u64 + 1, "a number became visible before one below it");
                    seen.push(*logged);
                }
                if last && got.is_empty() {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        }
    }]);
    let committed = race(WRITERS, |_| {
        let (store, user, chat) = (store.clone(), user.clone(), chat.clone());
        async move {
            let mut mine = Vec::new();
            for _ in 0..EACH {
                let message = a_message(&chat, &user);
                let done = attempt(&store, Changes::new().say(message.clone()).emit(created(&message))).await.unwrap();
                mine.push((done.first_event(), done.appended[0].seq));
            }
            assert!(mine.is_sorted(), "what one writer did later has a higher number: {mine:?}");
            mine
        }
    })
    .await;
    done.store(true, Ordering::Release);
    let seen = follower.join_all().await.remove(0);
    assert_eq!(seen.len(), WRITERS * EACH);

    // One order for the messages and for the events that tell of them.
    let mut committed = committed.concat();
    committed.sort_unstable();
    let everyone: Vec<_> = (1..=(WRITERS * EACH) as u64).map(|n| (n, n)).collect();
    assert_eq!(committed, everyone);
    let stored: Vec<MessageId> = messages(&store, chat.id).await.iter().map(|message| message.id).collect();
    let told: Vec<MessageId> = seen
        .iter()
        .filter_map(|logged| match logged.event.kind {
            EventKind::MessageCreated(_, message) => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(told, stored);
}

pub(super) async fn numbers_the_events_of_several_workspaces_in_one_unit(store: Db) {
    let scenes = [Scene::set(&store).await, Scene::set(&store).await];
    let [a, b] = [0, 1].map(|n: usize| scenes[n].workspace.id);
    let left = |workspace| Event { workspace, kind: EventKind::MemberLeft(new_id()), at: now() };
    let emitting = |emitted: &[Event]| emitted.iter().fold(Changes::new(), |changes, event| changes.emit(*event));
    let log = async |workspace| -> Vec<(u64, Event)> {
        events(&store, workspace).await.into_iter().map(|logged| (logged.number, logged.event)).collect()
    };
    let before = [left(a), left(a)];
    assert_eq!(attempt(&store, emitting(&before)).await.unwrap().events, [1, 2]);
    let mixed = [left(a), left(b), left(b), left(a), left(b)];
    assert_eq!(attempt(&store, emitting(&mixed)).await.unwrap().events, [3, 1, 2, 4, 3]);
    assert_eq!(log(a).await, [(1, before[0]), (2, before[1]), (3, mixed[0]), (4, mixed[3])]);
    assert_eq!(log(b).await, [(1, mixed[1]), (2, mixed[2]), (3, mixed[4])]);

    // A workspace that the unit makes begins at one.
    let made = a_workspace();
    let first = [left(b), left(made.id), left(made.id)];
    let changes = emitting(&first).insert(made.clone()).insert(a_membership(&made, &scenes[0].user, Role::Owner));
    assert_eq!(attempt(&store, changes).await.unwrap().events, [4, 1, 2]);
    assert_eq!(log(made.id).await, [(1, first[1]), (2, first[2])]);

    // One that there is not refuses the unit behind its changes, and no other loses a number.
    for place in 0..3 {
        let mut emitted = vec![left(a), left(b)];
        emitted.insert(place, left(new_id()));
        assert_eq!(attempt(&store, emitting(&emitted)).await, Err((Conflict::MissingParent, 0)));
        let written = a_message(&scenes[0].chat, &scenes[0].user);
        let refused = emitting(&emitted).say(written.clone()).insert(a_user());
        assert_eq!(attempt(&store, refused).await, Err((Conflict::MissingParent, 2)));
        assert_eq!(store.message(written.chat, written.id).await.unwrap(), None);
    }
    assert_eq!(attempt(&store, emitting(&[left(b), left(a)])).await.unwrap().events, [5, 5]);

    // Many at once, each in the order of the other's opposite: none fails, and what one unit tells of a workspace stays together.
    let told = race(16, |task| {
        let (store, [x, y]) = (store.clone(), if task % 2 == 0 { [a, b] } else { [b, a] });
        async move {
            let mut told = Vec::new();
            for _ in 0..10 {
                let emitted = [left(x), left(y), left(x), left(y)];
                let changes = emitted.iter().fold(Changes::new(), |changes, event| changes.emit(*event));
                let numbers = attempt(&store, changes).await.unwrap().events;
                assert_eq!((numbers[2], numbers[3]), (numbers[0] + 1, numbers[1] + 1), "{numbers:?}");
                told.extend(numbers.into_iter().zip(emitted));
            }
            told
        }
    })
    .await
    .concat();
    for workspace in [a, b] {
        let mut expected: Vec<_> = told.iter().copied().filter(|(_, event)| event.workspace == workspace).collect();
        expected.sort_unstable_by_key(|(number, _)| *number);
        assert!(expected.iter().map(|(number, _)| *number).eq(6..6 + 320), "no gaps, and nothing twice");
        assert_eq!(log(workspace).await[5..], expected);
    }
}

/// Polls a future so many times and drops it then.
async fn give_up_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(super) async fn is_not_undone_by_a_caller_that_goes_away(store: Db) {
    let scene = Scene::set(&store).await;
    let Scene { user, workspace, chat, .. } = &scene;
    let unit = |scene: &Scene| {
        let (asked, reply) = (a_message(&scene.chat, &scene.user), a_reply(&scene.chat));
        let reply = Message { parent: Some(asked.id), ..reply };
        let changes = Changes::new().say(asked.clone()).say(reply.clone()).emit(created(&asked)).emit(created(&reply));
        (changes, [asked.id, reply.id])
    };
    // What was handed over is written, though whoever did so has gone at once.
    for _ in 0..10 {
        let (changes, [asked, _]) = unit(&scene);
        give_up_after(1, store.commit(changes)).await;
        let mut tries = 0;
        while store.message(chat.id, asked).await.unwrap().is_none() {
            tries += 1;
            assert!(tries < 500, "a unit that was handed over is not written after five seconds");
            sleep(Duration::from_millis(10)).await;
        }
    }

    // Many who go away at any moment, among others who stay.
    let units = race(24, |task| {
        let (store, scene) = (store.clone(), scene.clone());
        async move {
            let mut units = Vec::new();
            for round in 0..6 {
                let (changes, ids) = unit(&scene);
                let number = task * 6 + round;
                let answer = match number % 4 {
                    0 => Some(store.commit(changes).await),
                    1 => give_up_after(number % 7, store.commit(changes)).await,
                    2 => timeout(Duration::from_millis(number as u64 % 9), store.commit(changes)).await.ok(),
                    _ => {
                        let (store, mut running) = (store.clone(), tokio::task::JoinSet::new());
                        running.spawn(async move { store.commit(changes).await });
                        sleep(Duration::from_micros(number as u64 * 61 % 5000)).await;
                        running.abort_all();
                        running.join_next().await.and_then(Result::ok)
                    }
                };
                units.push((ids, answer.is_some_and(|answer| answer.is_ok())));
            }
            units
        }
    })
    .await
    .concat();

    // The store is whole: it takes up new work, and each unit is there or not, never half of it.
    let (changes, last) = unit(&scene);
    timeout(Duration::from_secs(10), store.commit(changes)).await.expect("no lock was left behind").unwrap();
    let mut newest = store.log_bounds(workspace.id).await.unwrap().newest;
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = store.log_bounds(workspace.id).await.unwrap().newest;
        if now == newest {
            break;
        }
        newest = now;
    }
    let stored = messages(&store, chat.id).await;
    let has = |id: MessageId| stored.iter().any(|message| message.id == id);
    for ([asked, reply], answered) in units.iter().copied().chain([(last, true)]) {
        assert_eq!(has(asked), has(reply), "half of a unit was written");
        assert!(has(asked) || !answered, "what was answered is there");
    }
    assert_eq!(
        stored.iter().map(|message| message.seq).collect::<Vec<_>>(),
        (1..=stored.len() as u64).collect::<Vec<_>>()
    );
    let log = events(&store, workspace.id).await;
    assert_eq!(
        log.iter().map(|logged| logged.number).collect::<Vec<_>>(),
        (1..=stored.len() as u64).collect::<Vec<_>>()
    );
    let read = store.chat(workspace.id, chat.id).await.unwrap().unwrap();
    assert_eq!(read.message_count, stored.len() as u64);
    let renamed = User { name: "Still here".into(), ..user.clone() };
    attempt(&store, Changes::new().update(renamed)).await.unwrap();
}

pub(super) async fn retries_deadlocks_and_lock_timeouts_by_itself(store: Db) {
    const TASKS: usize = 24;
    const EACH: usize = 10;
    let scenes = [Scene::set(&store).await, Scene::set(&store).await];
    let outcomes = race(TASKS, |task| {
        let (store, scenes) = (store.clone(), scenes.clone());
        async move {
            let mut outcomes = Vec::new();
            for round in 0..EACH {
                // Each in the order of the other's opposite: rows of two workspaces, and of two accounts.
                let (a, b) = if task % 2 == 0 { (&scenes[0], &scenes[1]) } else { (&scenes[1], &scenes[0]) };
                let (first, second) = (a_message(&a.chat, &a.user), a_message(&b.chat, &b.user));
                let appends = |changes: Changes| changes.say(first.clone()).say(second.clone());
                let adds = |changes: Changes| {
                    let changes = changes.add(Counter::Memberships(a.user.id), 1, None);
                    changes.add(Counter::Memberships(b.user.id), 1, None)
                };
                let outcome = match round % 4 {
                    0 => attempt(&store, appends(Changes::new()).emit(created(&first))).await,
                    1 => attempt(&store, adds(appends(Changes::new()))).await,
                    2 => attempt(&store, appends(adds(Changes::new())).emit(created(&second))).await,
                    _ => {
                        let read = [a, b].map(|scene| store.user(scene.user.id));
                        let [kept, changed] = futures_util::future::join_all(read).await.try_into().unwrap();
                        let (kept, changed): (User, User) = (kept.unwrap().unwrap(), changed.unwrap().unwrap());
                        let changes =
                            Changes::new().update(changed).expect(Record::from(kept.clone()).key(), kept.version);
                        let outcome = attempt(&store, appends(changes)).await;
                        if matches!(outcome, Err((Conflict::Stale, _))) {
                            continue;
                        }
                        outcome
                    }
                };
                outcomes.push(outcome);
            }
            outcomes
        }
    })
    .await
    .concat();
    let refused: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    for Scene { chat, workspace, .. } in &scenes {
        let stored = messages(&store, chat.id).await;
        assert_eq!(stored.len(), outcomes.len(), "each of them wrote one message here");
        assert_eq!(stored.last().map(|message| message.seq), Some(outcomes.len() as u64), "and no number was lost");
        let log = events(&store, workspace.id).await;
        assert!(log.iter().map(|logged| logged.number).eq(1..=log.len() as u64));
    }

    // Rows that no unit names are locked as well: whoever inserts a session holds its user. Two that each change one user and give the other a
    // session wait for each other in a ring whatever the order of their changes.
    for round in 0..30 {
        let (ann, bob) = (a_user(), a_user());
        attempt(&store, Changes::new().insert(ann.clone()).insert(bob.clone())).await.unwrap();
        let outcomes = race(2, |n| {
            let store = store.clone();
            let (changed, other) = if n == 0 { (&ann, &bob) } else { (&bob, &ann) };
            let changed = User { name: "Changed".into(), ..changed.clone() };
            let sessions = (0..8).fold(Changes::new(), |changes, _| changes.insert(a_session(other)));
            async move { attempt(&store, sessions.update(changed)).await }
        })
        .await;
        assert!(outcomes.iter().all(Result::is_ok), "round {round}: {outcomes:?}");
    }
}
