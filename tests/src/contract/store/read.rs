//! Promises of the repositories.

use crate::fixture::Say as _;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use private_chat_core::change::{Changes, Checkpoint, Counter, Event, EventKind, Record, TextSoFar, Version};
use private_chat_core::error::Conflict;
use private_chat_core::id::{ChatId, WorkspaceId};
use private_chat_core::model::chat::{
    Audience, Chat, Message, MessageStatus, ReplyError, ReplyFault, Usage, Visibility,
};
use private_chat_core::model::session::{Device, Session, TokenHash};
use private_chat_core::model::user::{Author, Email, GlobalRole, User};
use private_chat_core::model::workspace::{Joined, Membership, Role, Workspace};
use private_chat_core::page::{ActivityKey, Limit};
use private_chat_core::port::store::{Arrival, ChatFilter, LogBounds, Order};

use super::{Db, NOTHING_OVER, attempt, events, messages, page, purge, race};
use crate::fixture::{
    Scene, a_chat, a_membership, a_message, a_reply, a_running_reply, a_session, a_user, a_workspace, an_installation,
    an_instance, created, joining, new_id, now,
};

pub(super) async fn finds_a_user_by_id_and_by_email(store: Db) {
    let plain = a_user();
    let odd = User {
        role: GlobalRole::Admin,
        is_active: false,
        must_change_password: true,
        credentials_epoch: 41,
        created_at: now(),
        updated_at: now(),
        ..a_user()
    };
    attempt(&store, Changes::new().insert(plain.clone()).insert(odd.clone())).await.unwrap();
    for user in [&plain, &odd] {
        assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(user));
        assert_eq!(store.user_by_email(&user.email).await.unwrap().as_ref(), Some(user));
    }
    assert_eq!(store.user(new_id()).await.unwrap(), None);
    assert_eq!(store.user_by_email(&a_user().email).await.unwrap(), None);

    let moved = User { email: a_user().email, is_active: true, credentials_epoch: 42, ..odd.clone() };
    attempt(&store, Changes::new().update(moved.clone())).await.unwrap();
    let moved = User { version: Version(2), ..moved };
    assert_eq!(store.user_by_email(&moved.email).await.unwrap(), Some(moved));
    assert_eq!(store.user_by_email(&odd.email).await.unwrap(), None, "the address before stands no more");
}

/// Addresses that a collation may take for each other.
pub(super) const LOOKALIKES: [&str; 12] = [
    "josé@example.com",
    "jose@example.com",
    "JOSE@example.com",
    "jose\u{301}@example.com",
    "jose@example.com ",
    " jose@example.com",
    "jose@example.com\u{200b}",
    "strasse@example.com",
    "straße@example.com",
    "ｊose@example.com",
    "jose_@example.com",
    "jose%@example.com",
];

pub(super) async fn compares_emails_byte_by_byte(store: Db) {
    let users = LOOKALIKES.map(|address| User { email: Email::stored(address.into()), ..a_user() });
    for user in &users {
        assert_eq!(store.user_by_email(&user.email).await.unwrap(), None, "{:?} before its own account", user.email);
        attempt(&store, Changes::new().insert(user.clone())).await.unwrap();
    }
    for user in &users {
        assert_eq!(store.user_by_email(&user.email).await.unwrap().as_ref(), Some(user));
    }
    let long = format!("{}@example.com", "é".repeat(121));
    assert_eq!(long.len(), 254);
    let longest = User { email: Email::stored(long), ..a_user() };
    attempt(&store, Changes::new().insert(longest.clone())).await.unwrap();
    assert_eq!(store.user_by_email(&longest.email).await.unwrap(), Some(longest));
}

pub(super) async fn finds_the_installation_once_it_is_set_up(store: Db) {
    assert_eq!(store.installation().await.unwrap(), None);
    let installation = an_installation();
    // Whoever inserts the one row wins the setup, and only the winner's account is made.
    let admins: Vec<_> = (0..20).map(|_| a_user()).collect();
    let outcomes = race(20, |n| {
        let (store, admin, installation) = (store.clone(), admins[n].clone(), installation.clone());
        async move { (n, attempt(&store, Changes::new().insert(installation).insert(admin)).await) }
    })
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(_, outcome)| outcome.is_ok());
    assert_eq!(won.len(), 1, "one setup wins");
    assert!(lost.iter().all(|(_, outcome)| *outcome == Err((Conflict::Duplicate, 0))), "{lost:?}");
    for (n, admin) in admins.iter().enumerate() {
        assert_eq!(store.user(admin.id).await.unwrap().is_some(), n == won[0].0);
    }
    assert_eq!(store.installation().await.unwrap().as_ref(), Some(&installation));
}

pub(super) async fn finds_a_session_together_with_its_user(store: Db) {
    let user = a_user();
    let fresh = a_session(&user);
    let used = Session {
        epoch: 3,
        generation: u32::MAX,
        token: TokenHash([0xff; 32]),
        previous: Some(TokenHash([0; 32])),
        ended: true,
        device: Device { address: String::new(), user_agent: "🦀".repeat(128) },
        last_used_at: now(),
        ..a_session(&user)
    };
    attempt(&store, Changes::new().insert(user.clone()).insert(fresh.clone()).insert(used.clone())).await.unwrap();
    assert_eq!(store.session(fresh.id).await.unwrap(), Some((fresh.clone(), user.clone())));
    assert_eq!(store.session(used.id).await.unwrap(), Some((used, user.clone())));
    assert_eq!(store.session(new_id()).await.unwrap(), None);

    let rotated = Session { generation: 1, previous: Some(fresh.token), token: TokenHash([9; 32]), ..fresh };
    let renamed = User { name: "Somebody Else".into(), ..user };
    attempt(&store, Changes::new().update(renamed.clone()).update(rotated.clone())).await.unwrap();
    let expected = (Session { version: Version(2), ..rotated }, User { version: Version(2), ..renamed });
    assert_eq!(store.session(expected.0.id).await.unwrap(), Some(expected));
}

pub(super) async fn finds_a_session_together_with_what_its_user_asks_for(store: Db) {
    let here = Scene::set(&store).await;
    let there = Scene::set(&store).await;
    let nobody = a_user();
    let private = Chat { visibility: Visibility::Private, title: None, ..a_chat(&here.workspace, &here.user) };
    let sessions = [&here.user, &there.user, &nobody].map(a_session);
    let mut changes = Changes::new().insert(nobody.clone()).insert(private.clone());
    for session in &sessions {
        changes = changes.insert(session.clone());
    }
    attempt(&store, changes).await.unwrap();
    let [ours, theirs, nobodys] = &sessions;
    let joined = store.joined(here.workspace.id, here.user.id).await.unwrap();
    assert!(joined.is_some());

    let arrival = |session: &Session, chat| store.arrival(session.id, here.workspace.id, chat);
    let expected = |session: &Session, user: &User, joined: Option<&Joined>, chat: Option<&Chat>| {
        let (session, user) = (session.clone(), user.clone());
        Some(Arrival { session, user, joined: joined.cloned(), chat: chat.cloned() })
    };
    for chat in [&here.chat, &private] {
        let found = arrival(ours, Some(chat.id)).await.unwrap();
        assert_eq!(found, expected(ours, &here.user, joined.as_ref(), Some(chat)));
    }
    let found = arrival(ours, None).await.unwrap();
    assert_eq!(found, expected(ours, &here.user, joined.as_ref(), None));
    for chat in [there.chat.id, new_id()] {
        let found = arrival(ours, Some(chat)).await.unwrap();
        assert_eq!(found, expected(ours, &here.user, joined.as_ref(), None));
    }
    // Who is no member is told of nothing in it, whichever chat is asked for.
    for (session, user) in [(theirs, &there.user), (nobodys, &nobody)] {
        for chat in [None, Some(here.chat.id), Some(there.chat.id)] {
            assert_eq!(arrival(session, chat).await.unwrap(), expected(session, user, None, None));
        }
    }
    assert_eq!(store.arrival(ours.id, new_id(), Some(here.chat.id)).await.unwrap().unwrap().joined, None);
    assert_eq!(store.arrival(new_id(), here.workspace.id, Some(here.chat.id)).await.unwrap(), None);

    // As it is now: the names, the role, the number of members.
    let renamed = User { name: "Somebody Else".into(), ..here.user.clone() };
    let guest = a_membership(&here.workspace, &nobody, Role::Guest);
    let count = Counter::Members(here.workspace.id);
    let changes = Changes::new().update(renamed.clone()).insert(guest.clone()).add(count, 1, None);
    attempt(&store, changes).await.unwrap();
    let found = arrival(nobodys, Some(here.chat.id)).await.unwrap().unwrap();
    let joined = found.joined.unwrap();
    assert_eq!((joined.membership, joined.member_count), (guest, 2));
    assert_eq!(found.chat.unwrap().created_by.unwrap().name, renamed.name);
    attempt(&store, Changes::new().delete(here.chat.clone())).await.unwrap();
    assert_eq!(arrival(ours, Some(here.chat.id)).await.unwrap().unwrap().chat, None);
    attempt(&store, Changes::new().delete(here.workspace.clone())).await.unwrap();
    assert_eq!(arrival(ours, Some(private.id)).await.unwrap().unwrap().joined, None);
}

pub(super) async fn tells_which_of_many_sessions_stand(store: Db) {
    let users = [a_user(), a_user()];
    let mut changes = Changes::new().insert(users[0].clone()).insert(users[1].clone());
    let mut asked = Vec::new();
    let mut standing = BTreeMap::new();
    for n in 0..300 {
        let session = a_session(&users[n % 2]);
        asked.push(session.id);
        if n % 3 == 0 {
            standing.insert(session.id, (session.clone(), users[n % 2].clone()));
            changes = changes.insert(session);
        }
    }
    let unasked = a_session(&users[0]);
    attempt(&store, changes.insert(unasked)).await.unwrap();
    let found = store.sessions(&asked).await.unwrap();
    assert_eq!(found.len(), 100);
    assert_eq!(found.into_iter().map(|found| (found.0.id, found)).collect::<BTreeMap<_, _>>(), standing);
    assert_eq!(store.sessions(&[]).await.unwrap(), []);
    assert_eq!(store.sessions(&[new_id()]).await.unwrap(), []);
}

pub(super) async fn finds_a_workspace_for_its_members_only(store: Db) {
    let Scene { user, workspace, membership, .. } = Scene::set(&store).await;
    let (guest, outsider) = (a_user(), Scene::set(&store).await.user);
    let joins = Changes::new().insert(guest.clone());
    attempt(&store, joins).await.unwrap();
    attempt(&store, joining(&workspace, &guest, Role::Guest)).await.unwrap();

    let joined = store.joined(workspace.id, user.id).await.unwrap();
    assert_eq!(joined, Some(Joined { workspace: workspace.clone(), membership: membership.clone(), member_count: 2 }));
    assert_eq!(store.membership(workspace.id, user.id).await.unwrap(), Some(membership));
    let seen = store.joined(workspace.id, guest.id).await.unwrap().unwrap();
    assert_eq!((seen.membership.role, seen.membership.user), (Role::Guest, guest.id));

    for (workspace, user) in [(workspace.id, outsider.id), (workspace.id, new_id()), (new_id(), user.id)] {
        assert_eq!(store.joined(workspace, user).await.unwrap(), None);
        assert_eq!(store.membership(workspace, user).await.unwrap(), None);
    }

    let leaving = Changes::new().delete(seen.membership).add(Counter::Members(workspace.id), -1, None);
    attempt(&store, leaving).await.unwrap();
    assert_eq!(store.joined(workspace.id, guest.id).await.unwrap(), None);
    assert_eq!(store.membership(workspace.id, guest.id).await.unwrap(), None);
    assert_eq!(store.joined(workspace.id, user.id).await.unwrap().unwrap().member_count, 1);
}

pub(super) async fn lists_the_workspaces_of_a_user_newest_first_without_repeats(store: Db) {
    async fn join(store: &Db, user: &User, role: Role) -> WorkspaceId {
        let workspace = a_workspace();
        attempt(store, Changes::new().insert(workspace.clone())).await.unwrap();
        attempt(store, joining(&workspace, user, role)).await.unwrap();
        workspace.id
    }
    let (user, other, colleague) = (a_user(), a_user(), a_user());
    attempt(&store, [&user, &other, &colleague].into_iter().fold(Changes::new(), |all, user| all.insert(user.clone())))
        .await
        .unwrap();
    let role = |n: usize| [Role::Guest, Role::Member, Role::Owner][n % 3];
    let mut expected = Vec::new();
    for n in 0..20 {
        let workspace = join(&store, &user, role(n)).await;
        // Others are in it as well, in another role.
        if n % 2 == 0 {
            let workspace = store.joined(workspace, user.id).await.unwrap().unwrap().workspace;
            attempt(&store, joining(&workspace, &colleague, role(n + 1))).await.unwrap();
        }
        expected.insert(0, workspace);
        join(&store, &other, Role::Owner).await;
    }

    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let got = store.workspaces_of(user.id, page(after, 5)).await.unwrap();
        assert_eq!(got.items.len(), 5, "twenty fill four pages, and the fourth is the last");
        walked.extend(got.items.iter().map(|joined| joined.workspace.id));
        assert!(walked.len() <= expected.len(), "more than there are: {walked:?}");
        let Some(next) = got.next else { break };
        assert_eq!(Some(&next), walked.last());
        after = Some(next);
        join(&store, &user, Role::Owner).await;
    }
    assert_eq!(walked, expected, "what is newer than the first page comes in no later one");

    let anew = store.workspaces_of(user.id, page(None, 100)).await.unwrap();
    assert_eq!(anew.items.len(), 23);
    assert_eq!(anew.next, None);
    assert!(anew.items.iter().rev().is_sorted_by_key(|joined| joined.workspace.created_at));
    for joined in &anew.items {
        let seen = store.joined(joined.workspace.id, user.id).await.unwrap();
        assert_eq!(seen.as_ref(), Some(joined), "each as it is seen alone");
        assert_eq!(joined.membership.user, user.id);
    }
    assert_eq!(anew.items.iter().map(|joined| joined.member_count).sum::<u64>(), 23 + 10);
    assert_eq!(store.workspaces_of(new_id(), page(None, 5)).await.unwrap().items, []);
}

pub(super) async fn tells_which_of_many_memberships_stand(store: Db) {
    let users: Vec<_> = (0..12).map(|_| a_user()).collect();
    let workspaces: Vec<_> = (0..12).map(|_| a_workspace()).collect();
    let mut changes = Changes::new();
    for (user, workspace) in users.iter().zip(&workspaces) {
        changes = changes.insert(user.clone()).insert(workspace.clone());
    }
    let mut asked = Vec::new();
    let mut standing = BTreeMap::new();
    for (w, workspace) in workspaces.iter().enumerate() {
        for (u, user) in users.iter().enumerate() {
            asked.push((workspace.id, user.id));
            // Scattered, so that a look-up by workspace and by user apart finds pairs that do not stand.
            if (w * 5 + u * 7) % 4 == 0 {
                let membership = a_membership(workspace, user, Role::Member);
                standing.insert((workspace.id, user.id), membership.clone());
                changes = changes.insert(membership);
            }
        }
    }
    attempt(&store, changes).await.unwrap();
    let by_pair =
        |found: Vec<Membership>| found.into_iter().map(|it| ((it.workspace, it.user), it)).collect::<BTreeMap<_, _>>();
    let found = store.memberships(&asked).await.unwrap();
    assert_eq!(found.len(), standing.len());
    assert_eq!(by_pair(found), standing);

    // Of two that stand, crossed: neither.
    let [(a, b), (c, d)] = [(0, 0), (1, 1)].map(|(w, u): (usize, usize)| (workspaces[w].id, users[u].id));
    let crossed: Vec<_> = [(a, d), (c, b)].into_iter().filter(|pair| !standing.contains_key(pair)).collect();
    assert_eq!(store.memberships(&crossed).await.unwrap(), []);
    assert_eq!(store.memberships(&[]).await.unwrap(), []);
}

pub(super) async fn finds_a_chat_in_its_own_workspace_only(store: Db) {
    let here = Scene::set(&store).await;
    let there = Scene::set(&store).await;
    let full = Chat {
        title: Some("Plans".into()),
        visibility: Visibility::Private,
        model: Some("vllm/llama".into()),
        system_prompt: Some("Be brief.".into()),
        archived: true,
        ..a_chat(&here.workspace, &here.user)
    };
    attempt(&store, Changes::new().insert(full.clone())).await.unwrap();
    for chat in [&here.chat, &full] {
        assert_eq!(store.chat(here.workspace.id, chat.id).await.unwrap().as_ref(), Some(chat));
        assert_eq!(store.chat(there.workspace.id, chat.id).await.unwrap(), None);
        assert_eq!(store.chat(new_id(), chat.id).await.unwrap(), None);
    }
    assert_eq!(store.chat(here.workspace.id, new_id()).await.unwrap(), None);

    let plain = Chat {
        title: None,
        visibility: Visibility::Workspace,
        model: None,
        system_prompt: None,
        archived: false,
        ..full
    };
    attempt(&store, Changes::new().update(plain.clone())).await.unwrap();
    let plain = Chat { version: Version(2), ..plain };
    assert_eq!(store.chat(here.workspace.id, plain.id).await.unwrap(), Some(plain));
}

pub(super) async fn lists_chats_most_recently_active_first_without_repeats(store: Db) {
    let Scene { user, workspace, chat: oldest, .. } = Scene::set(&store).await;
    let elsewhere = Scene::set(&store).await;
    let instant = now();
    // Seven of one instant: only the id tells where the next page starts.
    let mut chats: Vec<_> = (0..7).map(|_| Chat { created_at: instant, ..a_chat(&workspace, &user) }).collect();
    chats.extend((0..5).map(|_| a_chat(&workspace, &user)));
    let mut changes = Changes::new().insert(Chat { archived: true, ..a_chat(&workspace, &user) });
    for chat in &chats {
        changes = changes.insert(chat.clone());
    }
    attempt(&store, changes).await.unwrap();
    // An old one of them comes to the front by a message.
    let message = a_message(&chats[3], &user);
    attempt(&store, Changes::new().say(message.clone())).await.unwrap();
    chats[3].last_message_at = Some(message.created_at);
    chats.push(oldest);
    let key = |chat: &Chat| ActivityKey { at: chat.active_at(), id: *chat.id.as_uuid() };
    chats.sort_by_key(|chat| std::cmp::Reverse(key(chat)));
    let expected: Vec<ChatId> = chats.iter().map(|chat| chat.id).collect();

    let filter = ChatFilter { workspace: workspace.id, viewer: user.id, archived: false, mine: false, query: None };
    for limit in [1, 2, 3, 4, 5, 13, 100] {
        let mut walked = Vec::new();
        let mut after = None;
        loop {
            let got = store.chats(filter.clone(), page(after, limit)).await.unwrap();
            assert!(!got.items.is_empty(), "a page that was promised has something in it");
            assert_eq!(got.next, if got.next.is_some() { got.items.last().map(key) } else { None });
            walked.extend(got.items.iter().map(|chat| chat.id));
            assert!(walked.len() <= expected.len(), "more than there are, in pages of {limit}: {walked:?}");
            after = got.next;
            if after.is_none() {
                break;
            }
            // What others do meanwhile: a new chat, and a message in one that was seen.
            let newcomer = Chat { archived: true, ..a_chat(&workspace, &user) };
            let seen = chats.iter().find(|chat| chat.id == walked[0]).unwrap();
            attempt(&store, Changes::new().insert(newcomer).say(a_message(seen, &user))).await.unwrap();
        }
        assert_eq!(walked, expected, "in pages of {limit}");
    }

    let newcomer = a_chat(&workspace, &user);
    let first = store.chats(filter.clone(), page(None, 2)).await.unwrap();
    attempt(&store, Changes::new().insert(newcomer.clone())).await.unwrap();
    let second = store.chats(filter.clone(), page(first.next, 100)).await.unwrap();
    assert_eq!(second.items.iter().map(|chat| chat.id).collect::<Vec<_>>(), expected[2..]);
    assert_eq!(store.chats(filter.clone(), page(None, 1)).await.unwrap().items, [newcomer]);
    let theirs = ChatFilter { workspace: elsewhere.workspace.id, viewer: elsewhere.user.id, ..filter.clone() };
    assert_eq!(store.chats(theirs, page(None, 100)).await.unwrap().items, [elsewhere.chat]);

    // Whoever made them and whoever sees them: every list is in the same order, and whole in pages of any size.
    let (ann, scenes) = (a_user(), [Scene::set(&store).await, Scene::set(&store).await]);
    let bob = scenes[0].user.clone();
    attempt(&store, Changes::new().insert(ann.clone())).await.unwrap();
    let mut chats = vec![scenes[0].chat.clone()];
    for n in 0..72 {
        let chat = Chat {
            visibility: if n % 3 == 0 { Visibility::Workspace } else { Visibility::Private },
            archived: n % 4 == 1,
            // Again several of one instant, of all kinds.
            created_at: if (20..44).contains(&n) { instant } else { now() },
            ..a_chat(&scenes[usize::from(n % 12 >= 9)].workspace, if n % 5 < 3 { &ann } else { &bob })
        };
        attempt(&store, Changes::new().insert(chat.clone())).await.unwrap();
        chats.push(chat);
    }
    for n in [3, 21, 22, 37, 40, 41] {
        let message = a_message(&chats[n], &bob);
        chats[n].last_message_at = Some(message.created_at);
        chats[n].message_count = 1;
        attempt(&store, Changes::new().say(message)).await.unwrap();
    }
    chats.sort_by_key(|chat| std::cmp::Reverse(key(chat)));
    for (viewer, archived, mine) in [&ann, &bob]
        .into_iter()
        .flat_map(|of| [(of, false, false), (of, true, false), (of, false, true), (of, true, true)])
    {
        let filter = ChatFilter { workspace: scenes[0].workspace.id, viewer: viewer.id, archived, mine, query: None };
        let own = |chat: &Chat| chat.created_by.as_ref().is_some_and(|creator| creator.id == viewer.id);
        let expected: Vec<_> = chats
            .iter()
            .filter(|chat| chat.workspace == filter.workspace && chat.archived == archived)
            .filter(|chat| if mine { own(chat) } else { chat.visible_to(viewer.id) })
            .cloned()
            .collect();
        assert!(expected.len() >= 4, "{filter:?}");
        for limit in [1, 2, 3, 7, 100] {
            let mut walked = Vec::new();
            let mut after = None;
            loop {
                let got = store.chats(filter.clone(), page(after, limit)).await.unwrap();
                let full = got.items.len() as u64 == limit;
                assert!(full || got.next.is_none(), "all pages but the last are full");
                walked.extend(got.items);
                assert!(walked.len() <= expected.len(), "more than there are, in pages of {limit}: {filter:?}");
                after = got.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(walked, expected, "in pages of {limit}: {filter:?}");
        }
    }
}

pub(super) async fn hides_private_chats_from_everybody_but_their_creator(store: Db) {
    let Scene { user: ann, workspace, chat: open, .. } = Scene::set(&store).await;
    let bob = a_user();
    let private =
        |creator: &User, archived| Chat { visibility: Visibility::Private, archived, ..a_chat(&workspace, creator) };
    let (anns, bobs, put_away) = (private(&ann, false), private(&bob, false), private(&ann, true));
    let bobs_open = a_chat(&workspace, &bob);
    attempt(&store, Changes::new().insert(bob.clone())).await.unwrap();
    attempt(&store, joining(&workspace, &bob, Role::Owner)).await.unwrap();
    let changes =
        [&anns, &bobs, &put_away, &bobs_open].into_iter().fold(Changes::new(), |all, chat| all.insert(chat.clone()));
    attempt(&store, changes).await.unwrap();

    let listed = async |viewer: &User, archived, mine| -> BTreeSet<ChatId> {
        let filter = ChatFilter { workspace: workspace.id, viewer: viewer.id, archived, mine, query: None };
        let got = store.chats(filter.clone(), page(None, 100)).await.unwrap();
        got.items.into_iter().map(|chat| chat.id).collect()
    };
    assert_eq!(listed(&ann, false, false).await, BTreeSet::from([open.id, anns.id, bobs_open.id]));
    assert_eq!(listed(&bob, false, false).await, BTreeSet::from([open.id, bobs.id, bobs_open.id]));
    assert_eq!(listed(&ann, true, false).await, BTreeSet::from([put_away.id]));
    assert_eq!(listed(&bob, true, false).await, BTreeSet::new());
    assert_eq!(listed(&ann, false, true).await, BTreeSet::from([open.id, anns.id]));
    assert_eq!(listed(&bob, false, true).await, BTreeSet::from([bobs.id, bobs_open.id]));
    assert_eq!(listed(&ann, true, true).await, BTreeSet::from([put_away.id]));

    // A hidden chat leaves no hole in a page.
    let filter = ChatFilter { workspace: workspace.id, viewer: bob.id, archived: false, mine: false, query: None };
    assert_eq!(store.chats(filter.clone(), page(None, 3)).await.unwrap().items.len(), 3);

    // When the creator is gone, nobody is left to see it.
    attempt(&store, Changes::new().delete(ann.clone())).await.unwrap();
    assert_eq!(listed(&bob, true, false).await, BTreeSet::new());
    assert!(!listed(&bob, false, false).await.contains(&anns.id));
    assert!(listed(&bob, false, false).await.contains(&open.id));
    assert_eq!(
        listed(&ann, false, false).await,
        BTreeSet::from([open.id, bobs_open.id]),
        "not by the id that was theirs"
    );
    for (archived, mine) in [(true, false), (false, true), (true, true)] {
        assert_eq!(listed(&ann, archived, mine).await, BTreeSet::new());
    }
}

pub(super) async fn tells_who_may_see_which_of_many_chats(store: Db) {
    let scenes = [Scene::set(&store).await, Scene::set(&store).await, Scene::set(&store).await];
    let leaver = a_user();
    attempt(&store, Changes::new().insert(leaver.clone())).await.unwrap();
    let mut asked = Vec::new();
    let mut standing = BTreeMap::new();
    for n in 0..330 {
        let scene = &scenes[n % 3];
        let creator = if n % 4 == 0 { &leaver } else { &scene.user };
        let visibility = if n % 5 < 2 { Visibility::Private } else { Visibility::Workspace };
        let chat = Chat { visibility, ..a_chat(&scene.workspace, creator) };
        asked.push((chat.workspace, chat.id));
        // Scattered, so that a look-up by workspace and by chat apart finds pairs that do not stand.
        if n % 7 == 0 {
            asked.push((scenes[(n + 1) % 3].workspace.id, chat.id));
        }
        if n % 3 > 0 || n % 2 == 0 {
            attempt(&store, Changes::new().insert(chat.clone())).await.unwrap();
            standing.insert(chat.id, chat);
        }
    }
    let unasked = a_chat(&scenes[0].workspace, &leaver);
    attempt(&store, Changes::new().insert(unasked)).await.unwrap();
    let tell = async |asked: &[(WorkspaceId, ChatId)]| -> BTreeMap<ChatId, (Version, Audience)> {
        let told = store.audiences(asked).await.unwrap();
        let (each, by_id) = (told.len(), told.into_iter().map(|(id, version, audience)| (id, (version, audience))));
        let by_id: BTreeMap<_, _> = by_id.collect();
        assert_eq!(by_id.len(), each, "each once");
        by_id
    };
    let expected = |standing: &BTreeMap<ChatId, Chat>| -> BTreeMap<ChatId, (Version, Audience)> {
        standing.values().map(|chat| (chat.id, (chat.version, chat.audience()))).collect()
    };
    assert!(standing.len() > 256);
    assert_eq!(tell(&asked).await, expected(&standing));

    // Made private, made everybody's, deleted; the version is that of the settings, which messages do not move.
    for (n, id) in standing.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
        let chat = standing[&id].clone();
        match n % 6 {
            0 => {
                let changed = Chat {
                    visibility: match chat.visibility {
                        Visibility::Workspace => Visibility::Private,
                        Visibility::Private => Visibility::Workspace,
                    },
                    ..chat
                };
                attempt(&store, Changes::new().update(changed.clone())).await.unwrap();
                standing.insert(id, Chat { version: Version(2), ..changed });
            }
            1 => {
                attempt(&store, Changes::new().delete(chat)).await.unwrap();
                standing.remove(&id);
            }
            2 => {
                let author = scenes.iter().find(|scene| scene.workspace.id == chat.workspace).unwrap();
                attempt(&store, Changes::new().say(a_message(&chat, &author.user))).await.unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(tell(&asked).await, expected(&standing));

    // What somebody made who is gone has nobody who would see it, where it was theirs alone.
    attempt(&store, Changes::new().delete(leaver.clone())).await.unwrap();
    for chat in standing.values_mut() {
        chat.created_by = chat.created_by.take().filter(|creator| creator.id != leaver.id);
    }
    let told = tell(&asked).await;
    assert_eq!(told, expected(&standing));
    assert!(told.values().any(|(_, audience)| *audience == Audience::Only(None)));
    assert!(
        told.values().any(|(version, audience)| *version == Version(2) && matches!(audience, Audience::Only(Some(_))))
    );

    attempt(&store, Changes::new().delete(scenes[1].workspace.clone())).await.unwrap();
    purge(&store, NOTHING_OVER).await;
    standing.retain(|_, chat| chat.workspace != scenes[1].workspace.id);
    assert_eq!(tell(&asked).await, expected(&standing));

    // Of two that stand, crossed: neither.
    let [a, b] = [0, 2].map(|n: usize| &scenes[n]);
    assert_eq!(store.audiences(&[(a.workspace.id, b.chat.id), (b.workspace.id, a.chat.id)]).await.unwrap(), []);
    assert_eq!(store.audiences(&[(a.workspace.id, new_id())]).await.unwrap(), []);
    assert_eq!(store.audiences(&[]).await.unwrap(), []);
}

pub(super) async fn pages_messages_by_number_in_both_orders(store: Db) {
    let Scene { user, chat, .. } = Scene::set(&store).await;
    let other = Scene::set(&store).await;
    let append = async |count: usize| {
        for _ in 0..count {
            let changes = Changes::new().say(a_message(&chat, &user)).say(a_message(&other.chat, &other.user));
            attempt(&store, changes).await.unwrap();
        }
    };
    append(12).await;

    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let got = store.messages(chat.id, Order::Descending, page(after, 4)).await.unwrap();
        assert_eq!(got.items.len(), 4);
        walked.extend(got.items.iter().map(|message| message.seq));
        assert!(walked.len() <= 16, "more than there are: {walked:?}");
        after = got.next;
        if after.is_none() {
            break;
        }
        assert_eq!(after, walked.last().copied());
        append(1).await;
    }
    assert_eq!(
        walked,
        (1..=12).rev().collect::<Vec<_>>(),
        "newest first, and what is newer still comes in no later page"
    );

    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let got = store.messages(chat.id, Order::Ascending, page(after, 4)).await.unwrap();
        assert!(got.items.iter().all(|message| message.chat == chat.id));
        walked.extend(got.items.iter().map(|message| message.seq));
        assert!(walked.len() <= 16, "more than there are: {walked:?}");
        after = got.next;
        if after.is_none() {
            break;
        }
        if walked.len() < 12 {
            append(1).await;
        }
    }
    assert_eq!(walked, (1..=16).collect::<Vec<_>>(), "oldest first, and what came meanwhile comes at its end");

    // Whoever reads on from the last one gets what is new, and nothing before there is.
    assert_eq!(store.messages(chat.id, Order::Ascending, page(Some(16), 4)).await.unwrap().items, []);
    assert_eq!(store.messages(chat.id, Order::Descending, page(Some(1), 4)).await.unwrap().items, []);
    assert_eq!(store.messages(new_id(), Order::Descending, page(None, 4)).await.unwrap().items, []);
    let middle = store.messages(chat.id, Order::Descending, page(Some(9), 2)).await.unwrap();
    assert_eq!(middle.items.iter().map(|message| message.seq).collect::<Vec<_>>(), [8, 7]);
}

pub(super) async fn finds_a_message_in_its_own_chat_only(store: Db) {
    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    let sibling = a_chat(&workspace, &user);
    let asked = a_message(&chat, &user);
    let answered = Message {
        content: "Fifty tokens.".into(),
        reasoning: Some("How many?".into()),
        status: MessageStatus::Failed,
        usage: Some(Usage { prompt_tokens: 7, completion_tokens: 50, total_tokens: 57 }),
        finish_reason: Some("length".into()),
        error: Some(ReplyError { code: ReplyFault::ProviderOverloaded, detail: "asks to wait 3 s".into() }),
        ..a_reply(&chat)
    };
    let changes = Changes::new().insert(sibling.clone()).say(asked.clone()).say(answered.clone());
    attempt(&store, changes).await.unwrap();

    let asked = Message { seq: 1, ..asked };
    let answered = Message { seq: 2, parent: Some(asked.id), ..answered };
    for message in [&asked, &answered] {
        assert_eq!(store.message(chat.id, message.id).await.unwrap().as_ref(), Some(message));
        assert_eq!(store.message(sibling.id, message.id).await.unwrap(), None);
    }
    assert_eq!(store.message(chat.id, new_id()).await.unwrap(), None);

    let mut last = answered;
    for (status, fault) in [
        (MessageStatus::Complete, None),
        (MessageStatus::Stopped, None),
        (MessageStatus::Interrupted, Some(ReplyFault::ServerStopped)),
    ] {
        let error = fault.map(|code| ReplyError { code, detail: String::new() });
        let next = Message { status, error, usage: None, finish_reason: None, reasoning: None, ..last };
        attempt(&store, Changes::new().update(next.clone())).await.unwrap();
        last = Message { version: next.version.next(), ..next };
        assert_eq!(store.message(chat.id, last.id).await.unwrap().as_ref(), Some(&last));
    }
}

/// Texts that encodings, collations and drivers have spoilt before.
fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 𝒳 \u{10FFFF}",
        "\u{202e}right to left\u{202c} שָׁלוֹם العربية",
        "zero\u{200b}width\u{200d}joined\u{feff}",
        "e\u{301} é ñ n\u{303} Å \u{212b} ﬁ",
        "  padded \t\r\n lines\r\n\u{2028}\u{2029}\u{85} ",
        "quotes ' \" ` \\ \\' %s %00 ${x} ?1 :name -- /* */ ; DROP TABLE users",
        "\u{1}\u{7f}\u{fffd}\u{e000}",
        "İstanbul ISTANBUL ıstanbul ẞ ß",
    ]
    .map(String::from)
    .to_vec();
    texts.push("0123456789abcde😀".repeat(4096)[..64 << 10].to_owned());
    texts
}

pub(super) async fn returns_text_byte_for_byte(store: Db) {
    let Scene { user, workspace, chat, membership, .. } = Scene::set(&store).await;
    let (mut user, mut workspace, mut chat) = (user, workspace, chat);
    for text in odd_texts() {
        let short: String = text.chars().take(100).collect();
        let message = Message {
            content: text.clone(),
            reasoning: Some(text.clone()),
            finish_reason: Some(short.clone()),
            error: Some(ReplyError { code: ReplyFault::TooLong, detail: short.clone() }),
            ..a_message(&chat, &user)
        };
        let prompt: String = text.chars().take(8 << 10).collect();
        user = User { name: short.clone(), ..user };
        workspace = Workspace {
            name: short.clone(),
            description: Some(text.chars().take(2_000).collect()),
            system_prompt: Some(prompt.clone()),
            ..workspace
        };
        chat = Chat { title: Some(text.chars().take(200).collect()), system_prompt: Some(prompt), ..chat };
        let changes =
            Changes::new().update(user.clone()).update(workspace.clone()).update(chat.clone()).say(message.clone());
        let committed = attempt(&store, changes).await.unwrap();
        for version in [&mut user.version, &mut workspace.version, &mut chat.version] {
            *version = version.next();
        }
        let author = Author::from(&user);
        chat = Chat {
            created_by: Some(author.clone()),
            message_count: chat.message_count + 1,
            last_message_at: Some(message.created_at),
            ..chat
        };
        let appended = committed.appended[0];
        let stored = Message { seq: appended.seq, parent: appended.parent, author: Some(author), ..message };
        assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
        let joined = Joined { workspace: workspace.clone(), membership: membership.clone(), member_count: 1 };
        assert_eq!(store.joined(workspace.id, user.id).await.unwrap(), Some(joined));
        assert_eq!(store.chat(workspace.id, chat.id).await.unwrap().as_ref(), Some(&chat));
        assert_eq!(store.message(chat.id, stored.id).await.unwrap(), Some(stored));
    }

    // No text is another thing than an empty one.
    let empty = Message { content: String::new(), reasoning: Some(String::new()), ..a_reply(&chat) };
    let none = Message { reasoning: None, ..a_reply(&chat) };
    let described = Workspace { description: Some(String::new()), system_prompt: None, ..workspace };
    let changes = Changes::new().say(empty.clone()).say(none.clone()).update(described.clone());
    attempt(&store, changes).await.unwrap();
    assert_eq!(store.message(chat.id, empty.id).await.unwrap().unwrap().reasoning.as_deref(), Some(""));
    assert_eq!(store.message(chat.id, none.id).await.unwrap().unwrap().reasoning, None);
    let read = store.joined(described.id, user.id).await.unwrap().unwrap().workspace;
    assert_eq!((read.description.as_deref(), read.system_prompt), (Some(""), None));

    // A reply may grow to a megabyte, by checkpoints and at its end.
    let instance = an_instance();
    let reply = a_reply(&chat);
    let begin = Changes::new().insert(instance).say(reply.clone()).insert(a_running_reply(&reply, &user, &instance));
    let seq = attempt(&store, begin).await.unwrap().appended[0].seq;
    let whole = "é😀x\n".repeat(1 << 17);
    assert_eq!(whole.len(), 1 << 20);
    let so_far =
        TextSoFar { chat: chat.id, seq, message: reply.id, content: whole.clone(), reasoning: Some(whole.clone()) };
    store.checkpoint(Checkpoint { instance: instance.id, beat: 1, texts: vec![so_far], at: now() }).await.unwrap();
    let read = store.message(chat.id, reply.id).await.unwrap().unwrap();
    assert!(read.content == whole && read.reasoning.as_ref() == Some(&whole), "a megabyte came back otherwise");
    let ended = Message { content: whole.clone() + "!", status: MessageStatus::Complete, ..read };
    attempt(&store, Changes::new().update(ended.clone())).await.unwrap();
    assert!(store.message(chat.id, reply.id).await.unwrap().unwrap().content == ended.content);
}

pub(super) async fn shows_the_authors_present_names(store: Db) {
    let Scene { user, workspace, chat, .. } = Scene::set(&store).await;
    // Whoever made the chat, whoever wrote first and whoever wrote last are three.
    let writers = [a_user(), a_user()];
    let messages = writers.each_ref().map(|writer| a_message(&chat, writer));
    let changes = writers.iter().fold(Changes::new(), |changes, writer| changes.insert(writer.clone()));
    attempt(&store, messages.iter().fold(changes, |changes, message| changes.say(message.clone()))).await.unwrap();
    let filter = ChatFilter { workspace: workspace.id, viewer: new_id(), archived: false, mine: false, query: None };
    let shown = async || {
        let creator = store.chat(workspace.id, chat.id).await.unwrap().unwrap().created_by;
        let listed_creator = store.chats(filter.clone(), page(None, 5)).await.unwrap().items.remove(0).created_by;
        assert_eq!(listed_creator, creator);
        let mut authors = Vec::new();
        for message in &messages {
            authors.push(store.message(chat.id, message.id).await.unwrap().unwrap().author);
        }
        for order in [Order::Ascending, Order::Descending] {
            let listed = store.messages(chat.id, order, page(None, 5)).await.unwrap().items;
            let mut listed: Vec<_> = listed.into_iter().map(|message| message.author).collect();
            if order == Order::Descending {
                listed.reverse();
            }
            assert_eq!(listed, authors);
        }
        [creator, authors.remove(0), authors.remove(0)]
    };
    let mut people = [user, writers[0].clone(), writers[1].clone()];
    let mut expected = people.each_ref().map(|user| Some(Author::from(user)));
    assert_eq!(shown().await, expected);

    for n in [1, 0, 2] {
        people[n] = User { name: format!("Ann Other {n}"), ..people[n].clone() };
        attempt(&store, Changes::new().update(people[n].clone())).await.unwrap();
        expected[n] = Some(Author::from(&people[n]));
        assert_eq!(shown().await, expected);
    }
    for n in [0, 2, 1] {
        attempt(&store, Changes::new().delete(User { version: Version(2), ..people[n].clone() })).await.unwrap();
        expected[n] = None;
        assert_eq!(shown().await, expected);
    }
}

pub(super) async fn numbers_the_events_of_a_workspace_from_one_without_gaps(store: Db) {
    const TASKS: usize = 16;
    let scenes = [Scene::set(&store).await, Scene::set(&store).await];
    let units = race(TASKS, |task| {
        let (store, scenes) = (store.clone(), scenes.clone());
        async move {
            let mut units = Vec::new();
            for round in 0..10 {
                let scene = &scenes[(task + round) % 2];
                let emitted: Vec<Event> = (0..=round % 3)
                    .map(|_| Event { workspace: scene.workspace.id, kind: EventKind::ChatUpdated(new_id()), at: now() })
                    .collect();
                let mut changes = emitted.iter().fold(Changes::new(), |changes, event| changes.emit(*event));
                let refused = round % 4 == 3;
                if refused {
                    changes = changes.say(a_message(&a_chat(&scene.workspace, &scene.user), &scene.user));
                }
                match attempt(&store, changes).await {
                    Ok(committed) if !refused => units.push((committed.events[0], emitted)),
                    Err((Conflict::MissingParent, 0)) if refused => {}
                    other => panic!("{other:?}"),
                }
            }
            units
        }
    })
    .await;

    let mut expected: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (first, emitted) in units.into_iter().flatten() {
        for (number, event) in (first..).zip(emitted) {
            let before = expected.entry(event.workspace).or_default().insert(number, event);
            assert_eq!(before, None, "number {number} was given twice");
        }
    }
    for scene in &scenes {
        let log = events(&store, scene.workspace.id).await;
        assert_eq!(
            log.iter().map(|logged| logged.number).collect::<Vec<_>>(),
            (1..=log.len() as u64).collect::<Vec<_>>()
        );
        let logged: BTreeMap<_, _> = log.into_iter().map(|logged| (logged.number, logged.event)).collect();
        assert_eq!(Some(&logged), expected.get(&scene.workspace.id));
    }
    let silent = attempt(&store, Changes::new().say(a_message(&scenes[0].chat, &scenes[0].user))).await.unwrap();
    assert_eq!((silent.first_event(), silent.events), (0, vec![]));
}

pub(super) async fn reads_the_log_after_a_number_in_order(store: Db) {
    let here = Scene::set(&store).await;
    let there = Scene::set(&store).await;
    let kinds = [
        EventKind::MessageCreated(here.chat.id, new_id()),
        EventKind::MessageEnded(here.chat.id, new_id()),
        EventKind::ChatCreated(here.chat.id),
        EventKind::ChatUpdated(here.chat.id),
        EventKind::ChatHidden(here.chat.id),
        EventKind::ChatShown(here.chat.id),
        EventKind::ChatDeleted(new_id(), None),
        EventKind::ChatDeleted(new_id(), Some(here.user.id)),
        EventKind::MemberJoined(here.user.id),
        EventKind::MemberUpdated(here.user.id),
        EventKind::MemberLeft(new_id()),
    ];
    let emitted = kinds.map(|kind| Event { workspace: here.workspace.id, kind, at: now() });
    let (first, second) = emitted.split_at(2);
    for part in [first, second] {
        attempt(&store, part.iter().fold(Changes::new(), |changes, event| changes.emit(*event))).await.unwrap();
        let elsewhere = Event { workspace: there.workspace.id, ..part[0] };
        attempt(&store, Changes::new().emit(elsewhere)).await.unwrap();
    }
    let read = async |after, limit| {
        let got = store.events(here.workspace.id, after, Limit::new(limit).unwrap()).await.unwrap();
        got.into_iter().map(|logged| (logged.number, logged.event)).collect::<Vec<_>>()
    };
    let all: Vec<_> = (1..).zip(emitted).collect();
    assert_eq!(read(0, 100).await, all);
    assert_eq!(read(0, 2).await, all[..2]);
    assert_eq!(read(2, 2).await, all[2..4]);
    assert_eq!(read(4, 100).await, all[4..]);
    assert_eq!(read(11, 100).await, []);
    assert_eq!(read(99, 100).await, []);
}

pub(super) async fn tells_the_bounds_of_the_log(store: Db) {
    let scene = Scene::set(&store).await;
    let other = Scene::set(&store).await;
    let bounds = async |workspace| store.log_bounds(workspace).await.unwrap();
    assert_eq!(bounds(scene.workspace.id).await, LogBounds { newest: 0, forgotten: 0 });
    for n in 1..=3 {
        let message = a_message(&scene.chat, &scene.user);
        attempt(&store, Changes::new().say(message.clone()).emit(created(&message)).emit(created(&message)))
            .await
            .unwrap();
        assert_eq!(bounds(scene.workspace.id).await, LogBounds { newest: 2 * n, forgotten: 0 });
        let refused = Changes::new().update(a_user()).emit(created(&message));
        assert_eq!(attempt(&store, refused).await, Err((Conflict::Stale, 0)));
        assert_eq!(bounds(scene.workspace.id).await, LogBounds { newest: 2 * n, forgotten: 0 });
    }
    assert_eq!(bounds(other.workspace.id).await, LogBounds::default());
}

pub(super) async fn lists_the_running_replies_of_a_workspace_and_of_an_instance(store: Db) {
    let scenes = [Scene::set(&store).await, Scene::set(&store).await];
    let instances = [an_instance(), an_instance()];
    attempt(&store, Changes::new().insert(instances[0]).insert(instances[1])).await.unwrap();
    let mut began = Vec::new();
    for n in 0..8 {
        let (scene, instance) = (&scenes[n % 2], &instances[n / 2 % 2]);
        let reply = a_reply(&scene.chat);
        let running = a_running_reply(&reply, &scene.user, instance);
        let appended =
            attempt(&store, Changes::new().say(reply.clone()).insert(running.clone())).await.unwrap().appended[0];
        let reply = Message { seq: appended.seq, parent: appended.parent, ..reply };
        began.push((private_chat_core::model::chat::RunningReply { seq: appended.seq, ..running }, reply));
    }
    // A message that merely says so does not run.
    attempt(&store, Changes::new().say(a_reply(&scenes[0].chat))).await.unwrap();

    for scene in &scenes {
        let mut found = store.running_in(scene.workspace.id).await.unwrap();
        found.sort_by_key(|(running, _)| running.seq);
        let expected: Vec<_> =
            began.iter().filter(|(running, _)| running.workspace == scene.workspace.id).cloned().collect();
        assert_eq!(found, expected);
    }
    for instance in &instances {
        let mut found = store.running_of(Some(instance.id)).await.unwrap();
        found.sort_by_key(|running| running.message);
        let expected: Vec<_> = began
            .iter()
            .map(|(running, _)| running.clone())
            .filter(|running| running.instance == instance.id)
            .collect();
        assert_eq!(found, expected);
    }
    for (running, _) in &began {
        assert_eq!(store.running(running.message).await.unwrap().as_ref(), Some(running));
    }
    assert_eq!(store.running(new_id()).await.unwrap(), None);
    assert_eq!(store.running_in(new_id()).await.unwrap(), []);
    assert_eq!(store.running_of(Some(new_id())).await.unwrap(), []);

    let (running, reply) = &began[0];
    let ended = Message { status: MessageStatus::Complete, content: "Done.".into(), ..reply.clone() };
    attempt(&store, Changes::new().delete(running.clone()).update(ended.clone())).await.unwrap();
    assert_eq!(store.running(running.message).await.unwrap(), None);
    assert_eq!(store.running_in(running.workspace).await.unwrap().len(), 3);
    assert_eq!(store.running_of(Some(running.instance)).await.unwrap().len(), 3);
    assert!(messages(&store, running.chat).await.contains(&Message { version: Version(2), ..ended }));
}

pub(super) async fn lists_the_running_replies_of_processes_that_are_gone(store: Db) {
    let Scene { user, chat, .. } = Scene::set(&store).await;
    let (living, dying, unknown) = (an_instance(), an_instance(), an_instance());
    attempt(&store, Changes::new().insert(living).insert(dying)).await.unwrap();
    assert_eq!(store.running_of(None).await.unwrap(), []);
    let mut replies = Vec::new();
    for instance in [living, dying, unknown, dying] {
        let reply = a_reply(&chat);
        attempt(&store, Changes::new().say(reply.clone()).insert(a_running_reply(&reply, &user, &instance)))
            .await
            .unwrap();
        replies.push(reply.id);
    }
    let orphans = async || -> BTreeSet<_> {
        let found = store.running_of(None).await.unwrap();
        found.into_iter().map(|running| running.message).collect()
    };
    assert_eq!(orphans().await, BTreeSet::from([replies[2]]));
    attempt(&store, Changes::new().delete(dying)).await.unwrap();
    assert_eq!(orphans().await, BTreeSet::from([replies[1], replies[2], replies[3]]));
    assert_eq!(store.running_of(Some(dying.id)).await.unwrap().len(), 2, "they are still to be found by its name");
    assert_eq!(store.running_in(chat.workspace).await.unwrap().len(), 4);
}

pub(super) async fn lists_the_processes_with_their_beats(store: Db) {
    assert_eq!(store.instances().await.unwrap(), []);
    let instances = [an_instance(), an_instance(), an_instance()];
    attempt(&store, instances.iter().fold(Changes::new(), |changes, instance| changes.insert(*instance)))
        .await
        .unwrap();
    for (n, instance) in instances.iter().enumerate() {
        for beat in 1..=n as u64 {
            let told = store
                .checkpoint(Checkpoint {
                    instance: instance.id,
                    beat: beat * 10,
                    texts: Vec::new(),
                    at: now() + Duration::from_secs(beat),
                })
                .await
                .unwrap();
            assert!(told.alive && told.running.is_empty());
        }
    }
    let listed: HashSet<_> = store.instances().await.unwrap().iter().map(|it| (it.id, it.beat, it.version)).collect();
    let expected = instances.iter().enumerate().map(|(n, it)| (it.id, n as u64 * 10, Version::FIRST));
    assert_eq!(listed, expected.collect(), "beats move, versions do not");

    attempt(&store, Changes::new().delete(Record::from(instances[2]))).await.unwrap();
    assert_eq!(store.instances().await.unwrap().len(), 2);
}
