//! Promises of what many write at once: messages and counters.

use std::time::Duration;

use crate::fixture::Say as _;
use private_chat_core::change::{Appended, Changes, Counter, Follows, Version};
use private_chat_core::error::Conflict;
use private_chat_core::model::chat::{Chat, Message};
use private_chat_core::model::user::User;
use private_chat_core::model::workspace::Role;
use private_chat_core::port::store::ChatFilter;

use super::{Db, attempt, messages, page, race};
use crate::fixture::{Scene, a_chat, a_membership, a_message, a_reply, a_running_reply, a_user, an_instance, new_id};

pub(super) async fn appends_messages_in_one_sequence_however_many_write(store: Db) {
    const WRITERS: usize = 16;
    const MESSAGES: usize = 200;
    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    let appended = race(WRITERS, |writer| {
        let (store, user, chat) = (store.clone(), user.clone(), chat.clone());
        async move {
            let mut mine = Vec::new();
            for n in (writer..MESSAGES).step_by(WRITERS) {
                let message = a_message(&chat, &user);
                let done = attempt(&store, Changes::new().say(message.clone())).await.unwrap();
                mine.push((done.appended, message));
                if n % 5 == 0 {
                    // One that is refused takes no number with it.
                    let refused = Changes::new().say(a_message(&chat, &user)).update(a_user());
                    assert_eq!(attempt(&store, refused).await, Err((Conflict::Stale, 1)));
                }
            }
            mine
        }
    })
    .await;

    let stored = messages(&store, chat.id).await;
    let mut expected: Vec<_> = appended
        .concat()
        .into_iter()
        .map(|(appended, message)| match appended[..] {
            [Appended { seq, parent }] => Message { seq, parent, ..message },
            _ => panic!("one message, {} places", appended.len()),
        })
        .collect();
    expected.sort_by_key(|message| message.seq);
    assert_eq!(stored, expected, "what was answered is what is stored");
    assert!(stored.iter().map(|message| message.seq).eq(1..=MESSAGES as u64));
    assert_eq!(stored[0].parent, None);
    assert!(stored.windows(2).all(|pair| pair[1].parent == Some(pair[0].id)), "one line from the last to the first");
    let read = store.chat(workspace.id, chat.id).await.unwrap().unwrap();
    assert_eq!(read.message_count, MESSAGES as u64);

    // A number is given once, also where its message is gone.
    let [.., before, last] = &stored[..] else { panic!("two hundred") };
    attempt(&store, Changes::new().delete(last.clone())).await.unwrap();
    let next = attempt(&store, Changes::new().say(a_message(&chat, &user))).await.unwrap();
    assert_eq!(next.appended, [Appended { seq: last.seq + 1, parent: Some(before.id) }]);
}

pub(super) async fn gives_an_appended_message_the_last_one_as_its_parent(store: Db) {
    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    let instance = an_instance();

    // The first has none; a reply of the same unit has the message it answers, also where that is not named.
    let (asked, reply) = (a_message(&chat, &user), a_reply(&chat));
    let running = a_running_reply(&reply, &user, &instance);
    assert_eq!(running.seq, 0);
    let begin = Changes::new().say(asked.clone()).say(reply.clone()).insert(running.clone());
    let done = attempt(&store, begin).await.unwrap();
    assert_eq!(done.appended, [Appended { seq: 1, parent: None }, Appended { seq: 2, parent: Some(asked.id) }]);
    let stored = store.running(reply.id).await.unwrap().unwrap();
    assert_eq!(stored, private_chat_core::model::chat::RunningReply { seq: 2, ..running });

    // As a send does it: the reply names the message of its own unit.
    let again = a_message(&chat, &user);
    let answer = Message { parent: Some(again.id), ..a_reply(&chat) };
    let begin =
        Changes::new().say(again.clone()).say(answer.clone()).insert(a_running_reply(&answer, &user, &instance));
    let done = attempt(&store, begin).await.unwrap();
    assert_eq!(
        done.appended,
        [Appended { seq: 3, parent: Some(reply.id) }, Appended { seq: 4, parent: Some(again.id) }]
    );
    assert_eq!(store.running(answer.id).await.unwrap().unwrap().seq, 4);

    // A named parent makes a branch, and the next one that names none goes on from there.
    let branch = Message { parent: Some(asked.id), ..a_message(&chat, &user) };
    let done = attempt(&store, Changes::new().say(branch.clone())).await.unwrap();
    assert_eq!(done.appended, [Appended { seq: 5, parent: Some(asked.id) }]);
    let next = a_message(&chat, &user);
    let done = attempt(&store, Changes::new().say(next.clone())).await.unwrap();
    assert_eq!(done.appended, [Appended { seq: 6, parent: Some(branch.id) }]);

    // Two chats in one unit keep their own count, and the places come in the order of the changes.
    let sibling = a_chat(&workspace, &user);
    let (here, there) = (a_message(&chat, &user), a_message(&sibling, &user));
    let unit =
        Changes::new().insert(sibling.clone()).say(there.clone()).say(here.clone()).say(a_message(&sibling, &user));
    let done = attempt(&store, unit).await.unwrap();
    let expected = [
        Appended { seq: 1, parent: None },
        Appended { seq: 7, parent: Some(next.id) },
        Appended { seq: 2, parent: Some(there.id) },
    ];
    assert_eq!(done.appended, expected);

    let stored = messages(&store, chat.id).await;
    let line: Vec<_> = stored.iter().map(|message| (message.id, message.parent)).collect();
    let expected = [
        (asked.id, None),
        (reply.id, Some(asked.id)),
        (again.id, Some(reply.id)),
        (answer.id, Some(again.id)),
        (branch.id, Some(asked.id)),
        (next.id, Some(branch.id)),
        (here.id, Some(next.id)),
    ];
    assert_eq!(line, expected);
}

pub(super) async fn begins_a_branch_where_an_appended_message_is_to_follow_nothing(store: Db) {
    let Scene { user, chat, .. } = Scene::set(&store).await;
    let append = async |message: &Message, follows| {
        attempt(&store, Changes::new().append(message.clone(), follows)).await.unwrap().appended[0]
    };
    // In an empty chat, which it makes begin, and in one that goes on.
    let [first, second, third] = [a_message(&chat, &user), a_message(&chat, &user), a_message(&chat, &user)];
    assert_eq!(append(&first, Follows::Parent).await, Appended { seq: 1, parent: None });
    assert_eq!(append(&second, Follows::Parent).await, Appended { seq: 2, parent: None });
    // The last one is the last one, whichever branch it is of, and whatever the message would have named.
    let named = Message { parent: Some(first.id), ..third };
    assert_eq!(append(&named, Follows::Last).await, Appended { seq: 3, parent: Some(second.id) });

    // As an edit of the first message does it: another beginning, and its answer, in one unit.
    let (edited, reply) = (a_message(&chat, &user), a_reply(&chat));
    let reply = Message { parent: Some(edited.id), ..reply };
    let running = a_running_reply(&reply, &user, &an_instance());
    let unit =
        Changes::new().append(edited.clone(), Follows::Parent).append(reply.clone(), Follows::Parent).insert(running);
    let done = attempt(&store, unit).await.unwrap();
    assert_eq!(done.appended, [Appended { seq: 4, parent: None }, Appended { seq: 5, parent: Some(edited.id) }]);
    let line: Vec<_> =
        messages(&store, chat.id).await.iter().map(|message| (message.seq, message.id, message.parent)).collect();
    let expected = [
        (1, first.id, None),
        (2, second.id, None),
        (3, named.id, Some(second.id)),
        (4, edited.id, None),
        (5, reply.id, Some(edited.id)),
    ];
    assert_eq!(line, expected);

    // Whatever they follow, all are of one sequence.
    let places = race(18, |n| {
        let (store, message, named) = (store.clone(), a_message(&chat, &user), first.id);
        async move {
            let unit = match n % 3 {
                0 => Changes::new().append(message, Follows::Parent),
                1 => Changes::new().append(Message { parent: Some(named), ..message }, Follows::Parent),
                _ => Changes::new().append(message, Follows::Last),
            };
            (n % 3, attempt(&store, unit).await.unwrap().appended[0])
        }
    })
    .await;
    let stored = messages(&store, chat.id).await;
    assert!(stored.iter().map(|message| message.seq).eq(1..=23));
    for (way, Appended { seq, parent }) in places {
        let before = &stored[usize::try_from(seq).unwrap() - 2];
        let expected = [None, Some(first.id), Some(before.id)][way];
        assert_eq!((parent, stored[usize::try_from(seq).unwrap() - 1].parent), (expected, expected), "{seq}");
    }
}

pub(super) async fn refuses_a_parent_of_another_chat(store: Db) {
    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    let sibling = a_chat(&workspace, &user);
    let (own, foreign) = (a_message(&chat, &user), a_message(&sibling, &user));
    let unit = Changes::new().insert(sibling.clone()).say(own.clone()).say(foreign.clone());
    attempt(&store, unit).await.unwrap();
    for parent in [foreign.id, new_id()] {
        let message = Message { parent: Some(parent), ..a_message(&chat, &user) };
        let refused = Changes::new().say(a_message(&chat, &user)).say(message);
        assert_eq!(attempt(&store, refused).await, Err((Conflict::MissingParent, 1)));
    }
    let itself = a_message(&chat, &user);
    let itself = Message { parent: Some(itself.id), ..itself };
    assert_eq!(attempt(&store, Changes::new().say(itself)).await, Err((Conflict::MissingParent, 0)));
    assert_eq!(messages(&store, chat.id).await.len(), 1);
    let fine = Message { parent: Some(own.id), ..a_message(&chat, &user) };
    assert_eq!(
        attempt(&store, Changes::new().say(fine)).await.unwrap().appended,
        [Appended { seq: 2, parent: Some(own.id) }]
    );
}

pub(super) async fn moves_the_activity_of_a_chat_with_its_messages(store: Db) {
    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    let newer = a_chat(&workspace, &user);
    attempt(&store, Changes::new().insert(newer.clone())).await.unwrap();
    let filter = ChatFilter { workspace: workspace.id, viewer: user.id, archived: false, mine: false, query: None };
    let listed = async || {
        let got = store.chats(filter.clone(), page(None, 5)).await.unwrap();
        got.items.into_iter().map(|chat| chat.id).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [newer.id, chat.id]);
    let (asked, reply) = (a_message(&chat, &user), a_reply(&chat));
    attempt(&store, Changes::new().say(asked).say(reply.clone())).await.unwrap();
    assert_eq!(listed().await, [chat.id, newer.id]);
    let moved = Chat { message_count: 2, last_message_at: Some(reply.created_at), ..chat };
    assert_eq!(
        store.chat(workspace.id, moved.id).await.unwrap().as_ref(),
        Some(&moved),
        "and nothing else of it moved"
    );

    // A reply that grows or ends is no new message.
    let stored = store.message(moved.id, reply.id).await.unwrap().unwrap();
    attempt(&store, Changes::new().update(Message { updated_at: crate::fixture::now(), ..stored })).await.unwrap();
    assert_eq!(store.chat(workspace.id, moved.id).await.unwrap().as_ref(), Some(&moved));
    assert_eq!(store.chat(workspace.id, newer.id).await.unwrap().as_ref(), Some(&newer));

    // The time is that of the last one, also where it was stored by a process whose clock is behind; and the list goes by what the chat says.
    let late = Message { created_at: newer.created_at + Duration::from_micros(1), ..a_message(&moved, &user) };
    let newest = a_chat(&workspace, &user);
    attempt(&store, Changes::new().say(late.clone()).insert(newest.clone())).await.unwrap();
    let behind = Chat { message_count: 3, last_message_at: Some(late.created_at), ..moved.clone() };
    assert!(behind.last_message_at < moved.last_message_at);
    assert_eq!(store.chat(workspace.id, behind.id).await.unwrap().as_ref(), Some(&behind));
    let between = Chat { created_at: newer.created_at + Duration::from_micros(2), ..a_chat(&workspace, &user) };
    attempt(&store, Changes::new().insert(between.clone())).await.unwrap();
    assert_eq!(listed().await, [newest.id, between.id, behind.id, newer.id]);
    for n in 1..4 {
        let first = store.chats(filter.clone(), page(None, n)).await.unwrap();
        let second = store.chats(filter.clone(), page(first.next, 5)).await.unwrap();
        let all: Vec<_> = first.items.iter().chain(&second.items).map(|chat| chat.id).collect();
        assert_eq!(all, listed().await, "{n} first");
    }
}

pub(super) async fn keeps_what_append_moves_when_a_chat_is_updated(store: Db) {
    let Scene { user, workspace, chat: read_before, .. } = Scene::set(&store).await;
    let mut last = None;
    for _ in 0..3 {
        let message = a_message(&read_before, &user);
        attempt(&store, Changes::new().say(message.clone())).await.unwrap();
        last = Some(message.created_at);
    }
    let titled = Chat { title: Some("A title".into()), ..read_before.clone() };
    attempt(&store, Changes::new().update(titled.clone())).await.expect("messages do not move a chat's version");
    let expected = Chat { message_count: 3, last_message_at: last, version: Version(2), ..titled };
    assert_eq!(store.chat(workspace.id, expected.id).await.unwrap().as_ref(), Some(&expected));
    let made_up = Chat { message_count: 99, last_message_at: None, ..expected.clone() };
    attempt(&store, Changes::new().update(made_up).say(a_message(&expected, &user))).await.unwrap();
    let read = store.chat(workspace.id, expected.id).await.unwrap().unwrap();
    assert_eq!((read.message_count, read.version), (4, Version(3)));
    assert!(read.last_message_at > last);

    // Senders and those who rename do not get in each other's way.
    let outcomes = race(20, |n| {
        let (store, user, workspace, id) = (store.clone(), user.clone(), workspace.id, read.id);
        let message = a_message(&read, &user);
        async move {
            if n % 4 > 0 {
                attempt(&store, Changes::new().say(message)).await.expect("a sender never conflicts");
                return 1;
            }
            loop {
                let chat = store.chat(workspace, id).await.unwrap().unwrap();
                let renamed = Chat { title: Some(format!("Title {n}")), ..chat };
                match attempt(&store, Changes::new().update(renamed)).await {
                    Ok(_) => return 0,
                    Err((Conflict::Stale, 0)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    })
    .await;
    let sent: u64 = outcomes.iter().sum();
    let read = store.chat(workspace.id, read.id).await.unwrap().unwrap();
    assert_eq!((read.message_count, read.version), (4 + sent, Version(3 + 20 - sent)));
    let numbers: Vec<_> = messages(&store, read.id).await.iter().map(|message| message.seq).collect();
    assert_eq!(numbers, (1..=4 + sent).collect::<Vec<_>>());
}

pub(super) async fn adds_up_to_a_ceiling_however_many_write(store: Db) {
    let Scene { user, workspace, .. } = Scene::set(&store).await;
    let [one, other, account, newcomer] = [a_user(), a_user(), a_user(), a_user()];
    let insert =
        [&one, &other, &account, &newcomer].into_iter().fold(Changes::new(), |all, user| all.insert(user.clone()));
    attempt(&store, insert.add(Counter::Memberships(account.id), 3, None)).await.unwrap();
    let ones = Counter::Memberships(one.id);
    let outcomes = race(40, |_| {
        let store = store.clone();
        async move { attempt(&store, Changes::new().add(ones, 1, Some(10))).await }
    })
    .await;
    let (added, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(added.len(), 10);
    assert!(refused.iter().all(|outcome| *outcome == Err((Conflict::Ceiling, 0))), "{refused:?}");

    let add = async |delta, ceiling| attempt(&store, Changes::new().add(ones, delta, ceiling)).await.is_ok();
    assert!(!add(1, Some(10)).await);
    assert!(add(-3, Some(10)).await, "7");
    assert!(!add(4, Some(10)).await);
    assert!(add(3, Some(10)).await, "10: up to the ceiling, ceiling included");
    assert!(!add(1, Some(10)).await);
    assert!(add(5, None).await, "15: without a ceiling there is none");
    assert!(add(-1, Some(20)).await, "14");
    assert!(!add(7, Some(20)).await);
    assert!(add(6, Some(20)).await, "20");
    let others = Counter::Memberships(other.id);
    assert!(
        attempt(&store, Changes::new().add(others, 1, Some(1))).await.is_ok(),
        "everybody has a counter of their own"
    );
    // Also where the first step is too far.
    let unmoved = Counter::Memberships(newcomer.id);
    for most in [0, 1] {
        let add = attempt(&store, Changes::new().add(unmoved, most + 1, Some(most))).await;
        assert_eq!(add, Err((Conflict::Ceiling, 0)), "up to {most}");
    }
    assert!(attempt(&store, Changes::new().add(unmoved, 2, Some(2))).await.is_ok());

    // What is taken away counts as well: who knows of fewer than there are is refused, and who knows of all is not.
    let account = |known: i64| {
        let changes = Changes::new().add(Counter::Memberships(account.id), -known, Some(0));
        changes.delete(account.clone())
    };
    for known in 0..3 {
        assert_eq!(attempt(&store, account(known)).await, Err((Conflict::Ceiling, 0)));
    }
    attempt(&store, account(3)).await.unwrap();

    // Members that join at once, with the counter in the same unit.
    let newcomers: Vec<User> = (0..20).map(|_| a_user()).collect();
    let insert = newcomers.iter().fold(Changes::new(), |changes, user| changes.insert(user.clone()));
    attempt(&store, insert).await.unwrap();
    let outcomes = race(20, |n| {
        let (store, membership) = (store.clone(), a_membership(&workspace, &newcomers[n], Role::Guest));
        let counter = Counter::Members(workspace.id);
        async move { attempt(&store, Changes::new().insert(membership).add(counter, 1, Some(8))).await }
    })
    .await;
    let (joined, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(joined.len(), 7, "the owner is one of the eight");
    assert!(refused.iter().all(|outcome| *outcome == Err((Conflict::Ceiling, 1))), "{refused:?}");
    assert_eq!(store.joined(workspace.id, user.id).await.unwrap().unwrap().member_count, 8);
    let pairs: Vec<_> = newcomers.iter().map(|user| (workspace.id, user.id)).collect();
    assert_eq!(store.memberships(&pairs).await.unwrap().len(), 7);
}
