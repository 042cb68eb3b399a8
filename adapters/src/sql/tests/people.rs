//! What is the same on both databases, and seen by neither contract: migrations of databases that hold something, plans, and how much goes at once.

use private_chat_core::change::{Counter, Event, EventKind, LoggedEvent};
use private_chat_core::error::Conflict;
use private_chat_core::id::{ChatId, MessageId, UserId, WorkspaceId};
use private_chat_core::model::search::Query;
use private_chat_core::model::user::Email;
use private_chat_core::page::{Limit, PageRequest};
use private_chat_core::port::store::{
    ChatFilter, ChatRepository as _, LogBounds, Order, Over, ReplyRepository as _, SessionRepository as _, UserFilter,
    UserRepository as _, WorkspaceRepository as _,
};
use private_chat_core::time::Timestamp;

use super::*;

/// The id that hexadecimal digits make up, in the rows below.
fn id<I: From<Uuid>>(digits: u128) -> I {
    Uuid::from_u128(digits).into()
}

/// Runs statements that are made up here.
pub(super) async fn run(connection: &mut Connection<'_>, sql: String) {
    connection.run(sql.leak()).await.unwrap();
}

/// What a database of the first schema may hold: two people in two workspaces, which one of them made, a chat, a running reply, events.
const FIRST_LIGHT: &[&str] = &[
    "INSERT INTO users VALUES (x'000000000000000000000000000000a1', 'ann@example.com', 'Ann Ärger', 1, 1, 0, 'p', 0, 1, 1, 4), \
     (x'000000000000000000000000000000a2', 'bob@example.com', 'Bob', 0, 1, 0, 'p', 0, 1, 1, 1)",
    "INSERT INTO sessions VALUES (x'000000000000000000000000000000b1', x'000000000000000000000000000000a1', 0, 0, \
     x'0000000000000000000000000000000000000000000000000000000000000001', NULL, 1, 99, 0, '', '', 1, 1, 1)",
    "INSERT INTO workspaces VALUES (x'000000000000000000000000000000c1', 'One', NULL, NULL, NULL, 0, 1, 1, 1), \
     (x'000000000000000000000000000000c2', 'Two', NULL, NULL, NULL, 0, 1, 1, 7)",
    "INSERT INTO memberships VALUES (x'000000000000000000000000000000c1', x'000000000000000000000000000000a1', 2, 1, 1), \
     (x'000000000000000000000000000000c2', x'000000000000000000000000000000a1', 2, 1, 1)",
    "INSERT INTO counters VALUES (0, x'000000000000000000000000000000c1', 1), (0, x'000000000000000000000000000000c2', 1), \
     (1, x'000000000000000000000000000000a1', 2)",
    "INSERT INTO event_heads VALUES (x'000000000000000000000000000000c1', 3, 0), (x'000000000000000000000000000000c2', 0, 0)",
    "INSERT INTO chats VALUES (x'000000000000000000000000000000d1', x'000000000000000000000000000000c1', 'T', 0, NULL, NULL, 1, \
     x'000000000000000000000000000000a1', 1, 2, 2, 1, 1, 1)",
    "INSERT INTO messages VALUES (x'000000000000000000000000000000d1', 1, x'000000000000000000000000000000e1', \
     x'000000000000000000000000000000c1', NULL, 1, NULL, 'so far', NULL, 1, 'm', 'p', NULL, NULL, NULL, NULL, NULL, NULL, 2, 2, 1)",
    "INSERT INTO running_replies VALUES (x'000000000000000000000000000000e1', x'000000000000000000000000000000c1', \
     x'000000000000000000000000000000d1', 1, x'000000000000000000000000000000a1', x'000000000000000000000000000000f1', 0, 1)",
    "INSERT INTO events VALUES \
     (x'000000000000000000000000000000c1', 1, 2, x'000000000000000000000000000000d1', NULL, 1), \
     (x'000000000000000000000000000000c1', 2, 0, x'000000000000000000000000000000d1', x'000000000000000000000000000000e1', 2), \
     (x'000000000000000000000000000000c1', 3, 3, x'000000000000000000000000000000d1', NULL, 3)",
];

/// What a database of the second schema may hold besides: somebody's workspace with chats of several people, one of whom is gone, events of
/// members, and a workspace that is deleted.
const PEOPLE: &[&str] = &[
    "INSERT INTO users (id, email, name, folded, role, is_active, must_change_password, password, credentials_epoch, created_at, \
     updated_at, version) VALUES (x'000000000000000000000000000000a3', 'cyd@cyd.org', 'Cyd', 'cyd', 0, 1, 0, 'p', 0, 1, 1, 1)",
    "INSERT INTO workspaces (id, name, require_two_factor, created_at, updated_at, version, deleted) VALUES \
     (x'000000000000000000000000000000c4', 'Four', 0, 1, 1, 1, 0), (x'000000000000000000000000000000c5', 'Five', 0, 1, 1, 2, 1)",
    "INSERT INTO event_heads (workspace_id, newest, forgotten, closed) VALUES \
     (x'000000000000000000000000000000c4', 2, 0, 0), (x'000000000000000000000000000000c5', 1, 0, 1)",
    "INSERT INTO events (workspace_id, number, kind, user_id, happened_at) VALUES \
     (x'000000000000000000000000000000c4', 1, 5, x'000000000000000000000000000000a3', 0), \
     (x'000000000000000000000000000000c4', 2, 6, x'000000000000000000000000000000a3', 9), \
     (x'000000000000000000000000000000c5', 1, 5, x'000000000000000000000000000000a3', 0)",
    "INSERT INTO chats (id, workspace_id, visibility, archived, created_by, message_count, active_at, created_at, updated_at, version) \
     VALUES (x'000000000000000000000000000000d2', x'000000000000000000000000000000c4', 0, 0, x'000000000000000000000000000000a3', 0, 5, 5, 5, 1), \
     (x'000000000000000000000000000000d3', x'000000000000000000000000000000c4', 1, 0, x'000000000000000000000000000000a3', 0, 6, 6, 6, 1), \
     (x'000000000000000000000000000000d4', x'000000000000000000000000000000c4', 1, 0, x'000000000000000000000000000000f9', 0, 7, 7, 7, 1), \
     (x'000000000000000000000000000000d5', x'000000000000000000000000000000c4', 1, 0, x'000000000000000000000000000000a1', 0, 8, 8, 8, 1)",
];

/// Fills a database of the second schema.
pub(super) async fn fill_people(connection: &mut Connection<'_>) {
    for sql in PEOPLE {
        connection.run(sql).await.unwrap();
    }
}

/// That each of its chats is in the lists of those who may see it, that its logs forget, and that the deleted workspace still goes.
pub(super) async fn assert_people_were_kept(store: &SqlStore) {
    let four: WorkspaceId = id(0xc4);
    let listed = async |viewer, mine| {
        let filter = ChatFilter { workspace: four, viewer: id(viewer), archived: false, mine, query: None };
        let chats = store.chats(filter, PageRequest::default()).await.unwrap().items;
        chats.into_iter().map(|chat| chat.id.as_uuid().as_u128()).collect::<Vec<_>>()
    };
    assert_eq!((listed(0xa3, false).await, listed(0xa3, true).await), (vec![0xd3, 0xd2], vec![0xd3, 0xd2]));
    assert_eq!((listed(0xa1, false).await, listed(0xa1, true).await), (vec![0xd5, 0xd2], vec![0xd5]));
    assert_eq!(
        (listed(0xf9, false).await, listed(0xf9, true).await),
        (vec![0xd2], vec![]),
        "a private one is nobody's"
    );

    // An event, and of the deleted workspace an event, the head and itself.
    let over = Over { events: Timestamp::from_micros(1), ..NOTHING };
    assert_eq!(purge_all(store, over).await, [1, 3]);
    assert_eq!(store.log_bounds(four).await.unwrap(), LogBounds { newest: 2, forgotten: 1 });

    let chat = store.chat(four, id(0xd2)).await.unwrap().unwrap();
    store.commit(Changes::new().delete(chat)).await.unwrap();
    assert_eq!((listed(0xa3, false).await, listed(0xa3, true).await), (vec![0xd3], vec![0xd3]));
    assert_eq!(purge_all(store, NOTHING).await, [1]);
}

/// Fills a database of the first schema.
pub(super) async fn fill_first_light(connection: &mut Connection<'_>) {
    for sql in FIRST_LIGHT {
        connection.run(sql).await.unwrap();
    }
}

/// That nothing of it was lost, and that all of it takes part in what is new.
pub(super) async fn assert_first_light_was_kept(store: &SqlStore) {
    let (ann, bob): (UserId, UserId) = (id(0xa1), id(0xa2));
    let (one, two): (WorkspaceId, WorkspaceId) = (id(0xc1), id(0xc2));
    let (chat, reply): (ChatId, MessageId) = (id(0xd1), id(0xe1));
    let all = async |workspace| store.events(workspace, 0, Limit::default()).await.unwrap();
    let logged = |number, kind| LoggedEvent {
        number,
        event: Event { workspace: one, kind, at: Timestamp::from_micros(i64::try_from(number).unwrap()) },
    };
    let mut log = vec![
        logged(1, EventKind::ChatCreated(chat)),
        logged(2, EventKind::MessageCreated(chat, reply)),
        logged(3, EventKind::ChatUpdated(chat)),
    ];
    assert_eq!(all(one).await, log);
    assert_eq!(store.log_bounds(one).await.unwrap(), LogBounds { newest: 3, forgotten: 0 });
    assert!(store.chat(one, chat).await.unwrap().unwrap().archived);
    assert_eq!(store.running_in(one).await.unwrap()[0].1.content, "so far");
    assert_eq!(store.joined(two, ann).await.unwrap().unwrap().workspace.version, Version(7));
    let sessions = store.sessions_of(ann, 0, Timestamp::from_micros(98), PageRequest::default()).await.unwrap();
    assert_eq!(sessions.items.len(), 1);

    // People are found, and exactly once they are changed.
    let found = async |query: &str| {
        let filter = UserFilter { query: Some(query.into()), ..UserFilter::default() };
        let users = store.users(filter, PageRequest::default()).await.unwrap().items;
        users.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    assert_eq!(found("example.com").await, [bob, ann]);
    assert_eq!(found("ann ").await, [ann]);
    assert_eq!(found("arger").await, []);
    let changed = store.user(ann).await.unwrap().unwrap();
    store.commit(Changes::new().update(changed)).await.unwrap();
    assert_eq!(found("arger").await, [ann]);
    assert_eq!(found("com\nann").await, [], "no more than one of the two is looked at");
    assert!(!store.another_admin(ann).await.unwrap() && store.another_admin(bob).await.unwrap());

    // What there was before there was an index is found.
    while store.index_backlog().await.unwrap() > 0 {}
    let query = Query::parse("t");
    let filter = ChatFilter { workspace: one, viewer: bob, archived: true, mine: false, query };
    assert_eq!(store.chats(filter, PageRequest::default()).await.unwrap().items[0].id, chat);

    // The workspaces that they made are those they are in.
    let joins = |most| Changes::new().add(Counter::Memberships(ann), 1, Some(most));
    let refused = store.commit(joins(2)).await.map_err(|failure| failure.conflict());
    assert_eq!(refused, Err(Some((Conflict::Ceiling, 0))));
    store.commit(joins(3)).await.unwrap();

    // The log goes on.
    let left = logged(4, EventKind::MemberLeft(bob));
    let committed = store.commit(Changes::new().emit(left.event)).await.unwrap();
    assert_eq!(committed.events, [4]);
    log.push(left);
    assert_eq!(all(one).await, log);

    // And what belonged together still does.
    store.commit(Changes::new().delete(store.joined(one, ann).await.unwrap().unwrap().workspace)).await.unwrap();
    assert_eq!(store.running(reply).await.unwrap(), None);
    // A message, a chat, four events, the head, and the workspace.
    assert_eq!(purge_all(store, NOTHING).await, [8]);
    let email = Email::stored("ann@example.com".into());
    store.commit(Changes::new().delete(store.user_by_email(&email).await.unwrap().unwrap())).await.unwrap();
    assert_eq!(store.joined(two, ann).await.unwrap(), None);
    assert_eq!(store.session(id(0xb1)).await.unwrap(), None);
}

pub(super) const NOTHING: Over = Over {
    sessions: Timestamp::from_micros(0),
    invitations: Timestamp::from_micros(0),
    keyed_requests: Timestamp::from_micros(0),
    events: Timestamp::from_micros(0),
};

/// How much goes at each call, until nothing does.
async fn purge_all(store: &SqlStore, over: Over) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        match store.purge(over).await.unwrap() {
            0 => return all,
            some => all.push(some),
        }
    }
}

/// Rows in number. `id` makes an id of a number, in the words of the database.
pub(super) async fn fill(connection: &mut Connection<'_>, rows: u32, id: fn(&str) -> String) {
    let user = "users (id, email, name, role, is_active, must_change_password, password, credentials_epoch, created_at, updated_at, \
                version)";
    let session = "sessions (id, user_id, epoch, generation, token, rotated_at, expires_at, ended, address, user_agent, created_at, \
                   last_used_at, version)";
    let invitation = "invitations (id, workspace_id, email, role, invited_by, token, created_at, expires_at, version)";
    let message =
        "messages (chat_id, seq, id, workspace_id, speaker, content, status, created_at, updated_at, version)";
    let running =
        "running_replies (message_id, workspace_id, chat_id, seq, asked_by, instance_id, stop_requested, version)";
    let token = "x'0000000000000000000000000000000000000000000000000000000000000001'";
    let (n, first) = (id("n"), id("1"));
    let (far, further, furthest) = (id("n + 100000"), id("n + 200000"), id("n + 300000"));
    for (into, values) in [
        (user, format!("{n}, n, 'x', CASE WHEN n < 3 THEN 1 ELSE 0 END, 1, 0, 'p', 0, 1, 1, 1 FROM n")),
        // A tenth of them is somebody's.
        (
            session,
            format!(
                "{n}, CASE WHEN n % 10 = 0 THEN {first} ELSE {n} END, 0, 0, {token}, 1, 99, 0, '', '', 1, 1, 1 FROM n"
            ),
        ),
        (
            "workspaces (id, name, require_two_factor, created_at, updated_at, version)",
            format!("{n}, 'w', 0, 1, 1, 1 FROM n"),
        ),
        // One workspace of all, and all workspaces of one.
        (
            "memberships (workspace_id, user_id, role, joined_at, version)",
            format!("{first}, {n}, CASE WHEN n < 3 THEN 2 ELSE 1 END, 1, 1 FROM n"),
        ),
        (
            "memberships (workspace_id, user_id, role, joined_at, version)",
            format!("{n}, {first}, 2, 1, 1 FROM n WHERE n > 1"),
        ),
        // A tenth of them is into one workspace, and a tenth to one address.
        (
            invitation,
            format!(
                "{n}, CASE WHEN n % 10 = 0 THEN {first} ELSE {n} END, CASE WHEN n % 10 = 1 THEN 'x' ELSE n END, 1, {first}, {token}, \
                 1, 99, 1 FROM n"
            ),
        ),
        (
            "keyed_requests (user_id, key_hash, fingerprint, made_id, created_at, version)",
            format!("{n}, {token}, {token}, {n}, 1, 1 FROM n"),
        ),
        (
            "event_heads (workspace_id, newest, forgotten, oldest_at)",
            format!("{n}, {rows}, 0, CASE WHEN n = 1 THEN 1 ELSE {} END FROM n", i64::MAX),
        ),
        ("events (workspace_id, number, kind, user_id, happened_at)", format!("{first}, n, 5, {first}, 1 FROM n")),
        (
            "chats (id, workspace_id, visibility, archived, created_by, message_count, active_at, created_at, updated_at, version)",
            format!(
                "{n}, {first}, CASE WHEN n % 3 = 0 THEN 1 ELSE 0 END, n % 2, CASE WHEN n % 10 = 0 THEN {first} ELSE {n} END, 0, n, 1, 1, 1 \
                 FROM n"
            ),
        ),
        // One chat of very many, and one in each other.
        (message, format!("{first}, n, {n}, {first}, 0, 'x', 0, 1, 1, 1 FROM n")),
        (message, format!("{n}, 1, {far}, {first}, 0, 'x', 0, 1, 1, 1 FROM n WHERE n > 1")),
        (message, format!("{n}, 2, {further}, {first}, 0, 'x', 0, 1, 1, 1 FROM n WHERE n > 1 AND n < 9")),
        (running, format!("{n}, {first}, {first}, n, {first}, {first}, 0, 1 FROM n WHERE n < 9")),
        (running, format!("{far}, {first}, {n}, 1, {n}, {n}, 0, 1 FROM n WHERE n > 1")),
        (
            "chats (id, workspace_id, visibility, archived, message_count, active_at, created_at, updated_at, version)",
            format!("{furthest}, {}, 0, 0, 0, 1, 1, 1, 1 FROM n WHERE n < 3", id("2")),
        ),
    ] {
        let numbers = format!("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})");
        run(connection, format!("INSERT INTO {into} {numbers} SELECT {values}")).await;
    }
}

/// A statement for a list, the arguments for a page of it, and where it is to be read: the table and its index.
pub(super) type List = (&'static str, Vec<Arg<'static>>, &'static str, &'static str);

/// Every list and question of the ports whose answer must not cost more the more there is.
pub(super) fn lists() -> Vec<List> {
    const MIDDLE: Arg<'static> = Arg::Bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0]);
    const FIRST: Arg<'static> = Arg::Bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    const ZERO: Arg<'static> = Arg::Bytes(&[0; 16]);
    let (null, int) = (Arg::Null, Arg::Int);
    let nth = |n: u128| Arg::Bytes(Box::leak(Box::new(n.to_be_bytes())));
    let seen = |everybody| {
        let of = |whose| [FIRST, int(0), whose, int(500), int(500), MIDDLE, int(51)];
        [&of(everybody)[..], &of(FIRST), &[int(51)]].concat()
    };
    vec![
        (read::USERS, vec![MIDDLE, null, null, null, null, null, null, int(51)], "u", "PRIMARY"),
        (read::ANOTHER_ADMIN, vec![int(1), FIRST], "u", "users_by_role"),
        (read::SESSIONS_OF, vec![FIRST, MIDDLE, int(0), int(1), int(51)], "s", "sessions_of_user"),
        (read::WORKSPACES_OF, vec![int(0), FIRST, MIDDLE, int(51), FIRST], "p", "memberships_of_user"),
        (read::PARTICIPANTS, vec![FIRST, MIDDLE, int(51)], "m", "PRIMARY"),
        (read::ANOTHER_OWNER, vec![FIRST, int(2), FIRST], "m", "memberships_by_role"),
        (read::INVITATIONS_INTO, vec![FIRST, MIDDLE, int(1), int(51)], "i", "invitations_into_workspace"),
        (read::INVITATIONS_OF, vec![Arg::Text("x"), MIDDLE, int(1), int(51)], "i", "invitations_of_email"),
        (read::CHATS_OF, vec![FIRST, int(0), FIRST, int(500), int(500), MIDDLE, int(51)], "p", "chats_by_creator"),
        (read::CHATS_SEEN_BY, seen(ZERO), "p", "chats_by_activity"),
        (read::MESSAGES_DOWN, vec![FIRST, int(1_000), FIRST, int(51)], "m", "PRIMARY"),
        (read::MESSAGES_UP, vec![FIRST, int(1_000), FIRST, int(51)], "m", "PRIMARY"),
        (&read::AUDIENCES, (0..32).map(nth).collect(), "c", "PRIMARY"),
        (commit::RUNNING_IN_CHAT, vec![FIRST, FIRST], "r", "running_replies_of_workspace"),
        (commit::COUNT_OF, vec![FIRST, int(9)], "r", "running_replies_of_user"),
        (commit::COUNT_IN, vec![FIRST, int(9)], "r", "running_replies_of_workspace"),
        (purge::DELETED_CHATS, vec![int(9)], "c", "chats_deleted"),
        (purge::OLD_LOGS, vec![int(9), int(9)], "h", "event_heads_by_age"),
        (purge::FIRST_KEPT, vec![FIRST, int(500), int(1_500), int(9)], "e", "PRIMARY"),
    ]
}

/// What deleting and purging do with many rows: a little at a time, and all of it in the end.
pub(super) async fn assert_that_little_goes_at_once(store: &SqlStore) {
    let (one, owner): (WorkspaceId, UserId) = (id(1), id(1));
    let purged = purge_all(store, Over { events: Timestamp::from_micros(2), ..NOTHING }).await;
    assert_eq!(purged, [1_000; 2]);
    assert_eq!(store.log_bounds(one).await.unwrap(), LogBounds { newest: 2_000, forgotten: 2_000 });

    let chats = async |ids: &[u128]| {
        let mut chats = Changes::new();
        for chat in ids {
            chats = chats.delete(store.chat(one, id(*chat)).await.unwrap().unwrap());
        }
        store.commit(chats).await.unwrap();
    };
    chats(&[1, 2, 3]).await;
    for reply in [1, 8, 100_002] {
        assert_eq!(store.running(id(reply)).await.unwrap(), None);
    }
    assert!(store.running(id(100_009)).await.unwrap().is_some());
    assert_eq!(store.messages(id(1), Order::Descending, PageRequest::default()).await.unwrap().items, []);
    // The chats themselves, too, and two messages in each of the small ones.
    assert_eq!(purge_all(store, NOTHING).await, [1_000, 1_000, 1 + 3 + 3]);

    let workspace = store.joined(one, owner).await.unwrap().unwrap().workspace;
    store.commit(Changes::new().delete(workspace)).await.unwrap();
    assert_eq!(store.joined(one, owner).await.unwrap(), None);
    assert_eq!(store.joined(id(3), owner).await.unwrap().unwrap().membership.workspace, id(3));

    let purged = purge_all(store, NOTHING).await;
    assert!(purged.iter().all(|some| *some <= purge::BATCH + 1), "{purged:?}");
    // Messages: one in each chat, two in some; chats; the head, and the workspace.
    assert_eq!(purged.iter().sum::<u64>(), 1_997 + 5 + 1_997 + 2, "{purged:?}");
    assert!(store.joined(id(3), owner).await.unwrap().is_some());

    let end = Timestamp::from_micros(100);
    let purged = purge_all(store, Over { sessions: end, ..NOTHING }).await;
    assert_eq!(purged, [1_000; 2]);
    // All but the one into the deleted workspace, which went with its maker's membership.
    let purged = purge_all(store, Over { invitations: end, keyed_requests: end, ..NOTHING }).await;
    assert_eq!(purged, [1_000, 799, 1_000, 1_000]);
}
