//! Search on both databases: what is found whatever way it is looked for, what was stored before there was an index, and what is left when all goes.

use std::collections::BTreeSet;

use private_chat_core::change::{Follows, Ref};
use private_chat_core::model::chat::{Chat, Message, MessageStatus, Speaker, Visibility};
use private_chat_core::model::idempotency::KeyHash;
use private_chat_core::model::password::PasswordHash;
use private_chat_core::model::search::Query;
use private_chat_core::model::user::{Author, Email, User};
use private_chat_core::model::workspace::Workspace;
use private_chat_core::page::{Limit, PageRequest};
use private_chat_core::port::store::{ChatFilter, ChatRepository as _};
use private_chat_core::time::Timestamp;
use tokio::task::JoinSet;

use super::super::search::{BACKLOG, RARE, WALK};
use super::*;

/// Makes an id of a number.
pub(super) fn id<I: From<Uuid>>(number: u128) -> I {
    Uuid::from_u128(number).into()
}

const AT: Timestamp = Timestamp::from_micros(1);

pub(super) fn workspace(number: u128) -> Workspace {
    Workspace {
        id: id(number),
        name: "w".into(),
        description: None,
        default_model: None,
        system_prompt: None,
        require_two_factor: false,
        created_at: AT,
        updated_at: AT,
        version: Version::FIRST,
    }
}

pub(super) fn user(number: u128) -> User {
    let email = Email::stored(format!("u{number}@example.com"));
    User::new(id(number), email, "u".into(), PasswordHash::new("p"), AT)
}

/// A chat of the first workspace that the first user made.
pub(super) fn chat(number: u128, title: &str) -> Chat {
    Chat {
        id: id(number),
        workspace: id(1),
        title: (!title.is_empty()).then(|| title.into()),
        visibility: Visibility::Workspace,
        model: None,
        system_prompt: None,
        archived: false,
        created_by: Some(Author { id: id(1), name: "u".into() }),
        message_count: 0,
        last_message_at: None,
        created_at: Timestamp::from_micros(i64::try_from(number).unwrap()),
        updated_at: AT,
        version: Version::FIRST,
    }
}

pub(super) fn message(number: u128, chat: &Chat, content: &str) -> Message {
    Message {
        id: id(number),
        workspace: chat.workspace,
        chat: chat.id,
        seq: 0,
        parent: None,
        speaker: Speaker::User,
        author: None,
        content: content.into(),
        reasoning: None,
        status: MessageStatus::Complete,
        model: None,
        provider: None,
        usage: None,
        finish_reason: None,
        error: None,
        created_at: Timestamp::from_micros(i64::try_from(number).unwrap()),
        updated_at: AT,
        version: Version::FIRST,
    }
}

/// Two workspaces, of two users.
async fn people(store: &SqlStore) {
    let people = [1, 2].into_iter().fold(Changes::new(), |changes, n| changes.insert(workspace(n)).insert(user(n)));
    store.commit(people).await.unwrap();
}

fn filter(query: &str) -> ChatFilter {
    let query = Query::parse(query);
    ChatFilter { workspace: id(1), viewer: id(1), archived: false, mine: false, query }
}

/// The numbers of all chats that are found, page by page, and how many pages it took.
async fn pages(store: &SqlStore, filter: &ChatFilter, limit: u64) -> (Vec<u128>, usize) {
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let request = PageRequest { after, limit: Limit::new(limit).unwrap() };
        let page = store.chats(filter.clone(), request).await.unwrap();
        assert!(page.items.len() <= request.limit.items());
        found.extend(page.items.iter().map(|chat| chat.id.as_uuid().as_u128()));
        pages += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => return (found, pages),
        }
    }
}

async fn found(store: &SqlStore, query: &str) -> Vec<u128> {
    pages(store, &filter(query), 50).await.0
}

/// The chat as it is stored.
async fn stored(store: &SqlStore, number: u128) -> Chat {
    store.chat(id(1), id(number)).await.unwrap().unwrap()
}

/// How many rows there are of each kind, but for the index itself.
async fn rows(connection: &mut Connection<'_>, sql: &'static str) -> i64 {
    connection.fetch_one(sql, &[]).await.unwrap().unwrap().columns().int().unwrap()
}

/// What one text has, and what it had, through titles, replies that end, and odd queries.
pub(super) async fn assert_that_words_are_found(store: &Arc<SqlStore>) {
    people(store).await;
    let (first, second) = (chat(10, "Übers Wetter"), chat(11, ""));
    let reply = Message { status: MessageStatus::Streaming, ..message(22, &second, "so far") };
    let begun = Changes::new().insert(first.clone()).insert(second.clone());
    let begun = begun.append(message(20, &first, "Rain in Spain"), Follows::Last);
    let begun = begun.append(message(21, &second, "東京の rain"), Follows::Last).append(reply.clone(), Follows::Last);
    let seq = store.commit(begun).await.unwrap().appended[2].seq;
    assert_eq!(found(store, "rain").await, [11, 10]);
    assert_eq!(found(store, "RAIN spain").await, [10]);
    assert_eq!(found(store, "ubers").await, [10]);
    assert_eq!(found(store, "wetter rain").await, [], "no one text has both");
    assert_eq!(found(store, "京の").await, [11]);
    assert_eq!(found(store, "far").await, [], "it still grows");
    assert_eq!(found(store, "rai").await, []);

    let content = "it rains 'til late; DROP \"TABLE\" chats".into();
    store
        .commit(Changes::new().update(Message { status: MessageStatus::Stopped, content, seq, ..reply }))
        .await
        .unwrap();
    assert_eq!(found(store, "late").await, [11]);
    assert_eq!(found(store, "far").await, [], "it never was final");
    let many: String = (0..100).map(|n| format!("w{n} ")).collect();
    let long = "x".repeat(10_000);
    for odd in [
        "*",
        "\"",
        "rain*",
        "AND",
        "rain OR spain",
        "NEAR(rain spain)",
        "words:rain",
        "-rain spain",
        "'; --",
        "\\",
        "\0",
        "?!",
        "{rain}",
        "^rain",
        "rain\0spain",
        &many,
        &long,
        "%",
        "_",
        "[\"rain\"]",
    ] {
        let found = found(store, odd).await;
        let (texts, query) = (["Rain in Spain", "東京の rain"], Query::parse(odd).unwrap());
        let expected = [11, 10].into_iter().zip([texts[1], texts[0]]);
        let expected = expected.filter(|(_, text)| query.finds(&private_chat_core::model::search::terms(text)));
        assert_eq!(found, expected.map(|(chat, _)| chat).collect::<Vec<_>>(), "{odd}");
    }

    // A title is found as long as it stands; what else is in its block of texts stays.
    let renamed =
        |title: Option<&str>, chat: Chat| Changes::new().update(Chat { title: title.map(Into::into), ..chat });
    store.commit(renamed(Some("Rain, rain"), stored(store, 11).await)).await.unwrap();
    store.commit(renamed(Some("Spain"), stored(store, 10).await)).await.unwrap();
    assert_eq!((found(store, "wetter").await, found(store, "spain").await), (vec![], vec![10]));
    store.commit(renamed(None, stored(store, 10).await)).await.unwrap();
    store.commit(renamed(Some("Late"), stored(store, 11).await)).await.unwrap();
    assert_eq!((found(store, "rain spain").await, found(store, "rain").await), (vec![10], vec![11, 10]));
    store.commit(renamed(None, stored(store, 11).await)).await.unwrap();
    assert_eq!(found(store, "late").await, [11], "the reply still says so");
    store.commit(Changes::new().update(Chat { archived: true, ..stored(store, 11).await })).await.unwrap();
    assert_eq!((found(store, "late").await, found(store, "rain").await), (vec![], vec![10]));

    // A deleted chat is gone at once, whatever is left of it.
    store.commit(Changes::new().delete(stored(store, 11).await)).await.unwrap();
    let archived = ChatFilter { archived: true, ..filter("late") };
    assert_eq!(pages(store, &archived, 50).await.0, []);

    // Units that fail leave no words, whoever else is written with them.
    let absent = Ref::KeyedRequest(id(1), KeyHash([0; 32]));
    let mut writing = JoinSet::new();
    for n in 0..20 {
        let words = Changes::new().append(message(30 + n, &first, &format!("unit{n} unit")), Follows::Last);
        let changes = if n % 3 == 0 { words.expect(absent, Version::FIRST) } else { words };
        let store = store.clone();
        writing.spawn(async move { assert_eq!(store.commit(changes).await.is_err(), n % 3 == 0) });
    }
    writing.join_all().await;
    for n in 0..20 {
        assert_eq!(found(store, &format!("unit{n} unit")).await, if n % 3 == 0 { vec![] } else { vec![10] }, "{n}");
    }
}

/// Whether a word is rare or common, alone or with others: what is found is what is there, most recently active first, to whoever may see it.
pub(super) async fn assert_that_all_ways_find_the_same(store: &SqlStore) {
    people(store).await;
    // The rare ones are the oldest: the list would have to be walked to its end.
    let old = u128::from(RARE) + 50;
    let count = old + u128::from(WALK.unsigned_abs());
    for n in (1..=count).collect::<Vec<_>>().chunks(100) {
        let chats = n.iter().fold(Changes::new(), |changes, n| {
            let (parity, age) = (if n % 2 == 0 { "even" } else { "odd" }, if *n <= old { "old" } else { "new" });
            let words = format!("common n{n} {parity} {age} {}", if *n < 5 { "rare" } else { "" });
            let whose = if n % 4 == 0 { Visibility::Private } else { Visibility::Workspace };
            let chat = Chat { visibility: whose, ..chat(*n, "A title") };
            let changes = changes.insert(chat.clone()).append(message(10_000 + n, &chat, &words), Follows::Last);
            changes.append(message(20_000 + n, &chat, "common words"), Follows::Last)
        });
        store.commit(chats).await.unwrap();
    }
    let expected = |keep: fn(u128) -> bool| (1..=count).rev().filter(|n| keep(*n)).collect::<Vec<_>>();
    for (query, keep) in [
        ("common", (|_| true) as fn(u128) -> bool),
        ("title", |_| true),
        ("common odd", |n| n % 2 == 1),
        ("even common", |n| n % 2 == 0),
        ("old", |n| n <= u128::from(RARE) + 50),
        ("rare", |n| n < 5),
        ("rare common even", |n| n < 5 && n % 2 == 0),
        ("common n7", |n| n == 7),
        // Each common, and never in one text.
        ("odd even", |_| false),
        ("words odd", |_| false),
        ("title common", |_| false),
        ("rare absent", |_| false),
        ("common absent", |_| false),
    ] {
        for limit in [7, 100] {
            let (found, pages) = pages(store, &filter(query), limit).await;
            assert_eq!(found, expected(keep), "{query}");
            assert!(pages <= found.len() / usize::try_from(limit).unwrap() + 2, "{query}: {pages} pages");
        }
        // Every fourth is the other one's.
        let others = ChatFilter { viewer: id(2), ..filter(query) };
        let seen: Vec<_> = expected(keep).into_iter().filter(|n| n % 4 != 0).collect();
        assert_eq!(pages(store, &others, 100).await.0, seen, "{query}");
        let mine = ChatFilter { viewer: id(2), mine: true, ..filter(query) };
        assert_eq!(pages(store, &mine, 100).await.0, [], "{query}");
        let elsewhere = ChatFilter { workspace: id(2), ..filter(query) };
        assert_eq!(pages(store, &elsewhere, 100).await.0, [], "{query}");
    }
    // Nothing is found, and yet there is more to look at.
    let page = store.chats(filter("old"), PageRequest::default()).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_some());
}

/// What was stored before there was an index is found once it is caught up with, by several at once, and while more is written.
pub(super) async fn assert_that_a_backlog_is_caught_up_with(
    store: &Arc<SqlStore>,
    others: &SqlStore,
    connection: &mut Connection<'_>,
) {
    people(store).await;
    let reply = Message { status: MessageStatus::Streaming, ..message(9_999, &chat(1, ""), "endless") };
    for n in 1..=30_u128 {
        let chat = chat(n, &format!("Chat{n}"));
        let messages = if n == 3 { 2 * u128::from(BACKLOG) } else { n % 3 };
        let changes = (1..=messages).fold(Changes::new().insert(chat.clone()), |changes, m| {
            changes.append(message(1_000 * n + m, &chat, &format!("old text n{m}")), Follows::Last)
        });
        store.commit(if n == 1 { changes.append(reply.clone(), Follows::Last) } else { changes }).await.unwrap();
    }
    for sql in ["DELETE FROM search_chats", "DELETE FROM search_shards"] {
        connection.run(sql).await.unwrap();
    }
    let index = if connection.is_sqlite() {
        "INSERT INTO search_texts (search_texts) VALUES ('delete-all')"
    } else {
        "DELETE FROM search_postings"
    };
    connection.run(index).await.unwrap();
    connection.run("INSERT INTO search_backlog (chat_id, seq) SELECT id, message_count FROM chats").await.unwrap();
    assert_eq!(found(store, "old").await, []);

    // It is found at once what is new, also of what is old.
    let last = 1_000 * 3 + 2 * u128::from(BACKLOG) + 1;
    store.commit(Changes::new().append(message(last, &chat(3, ""), "new text"), Follows::Last)).await.unwrap();
    store.commit(Changes::new().update(Chat { title: Some("New".into()), ..stored(store, 5).await })).await.unwrap();
    assert_eq!((found(store, "new").await, found(store, "chat5").await), (vec![5, 3], vec![]));

    let catch_up = async |store: &SqlStore| {
        let (mut texts, mut most) = (0, 0);
        loop {
            match store.index_backlog().await.unwrap() {
                0 => return (texts, most),
                some => (texts, most) = (texts + some, most.max(some)),
            }
        }
    };
    let writing = async {
        for n in 0..20_u128 {
            let chat = chat(1 + n, "");
            store.commit(Changes::new().append(message(500 + n, &chat, "meanwhile"), Follows::Last)).await.unwrap();
        }
    };
    let (one, other, ()) = tokio::join!(catch_up(store), catch_up(others), writing);
    // Nothing twice: titles, the chats of 0, 1 and 2, the long one.
    assert_eq!(one.0 + other.0, 30 + 10 + 20 + 2 * BACKLOG, "{one:?} {other:?}");
    assert!(one.1.max(other.1) <= BACKLOG + 1, "{one:?} {other:?}");
    assert_eq!(store.index_backlog().await.unwrap(), 0);

    let with_text: BTreeSet<_> = (1..=30).filter(|n| n % 3 > 0 || *n == 3).collect();
    assert_eq!(found(store, "old text").await.into_iter().collect::<BTreeSet<_>>(), with_text);
    assert_eq!(found(store, "n1 old").await.len(), with_text.len());
    assert_eq!(found(store, &format!("old n{}", 2 * BACKLOG)).await, [3]);
    assert_eq!(
        (found(store, "chat4").await, found(store, "chat5").await, found(store, "new").await),
        (vec![4], vec![], vec![5, 3])
    );
    assert_eq!(found(store, "meanwhile").await.len(), 20);
    assert_eq!(found(store, "endless").await, []);
    // And nothing of it stays when it goes.
    store.commit(Changes::new().delete(workspace(1))).await.unwrap();
    assert_eq!(found(store, "old").await, []);
    while store.purge(people::NOTHING).await.unwrap() > 0 {}
    let index = if connection.is_sqlite() {
        "SELECT COUNT(*) FROM search_texts"
    } else {
        "SELECT COUNT(*) FROM search_postings"
    };
    for sql in [
        "SELECT COUNT(*) FROM search_chats",
        "SELECT COUNT(*) FROM search_shards",
        "SELECT COUNT(*) FROM search_backlog",
        index,
    ] {
        assert_eq!(rows(connection, sql).await, 0, "{sql}");
    }
}
