//! The words of titles and final messages: how they are written with what they are of, and how chats are found by them.
//!
//! What a word is, the core says: see [`private_chat_core::model::search`]. Each database has an index of its own making, as one that is good for
//! one is slow on the other. SQLite's is FTS5, of which nothing but its lists of numbers is used: a table of words and chats would write some fifty
//! pages a message into a log that knows pages alone. MySQL's is such a table: its own full-text index collects all that has a word before it looks
//! at the first, which takes seconds for a common one. Both are laid out so that a chat's texts lie together in the list of a word: then it is one
//! seek to the next chat that has a word, and one seek to learn whether this chat does.
//!
//! A search first counts the chats that have the words, up to [`RARE`]. If they are few, all of them are fetched and sorted. If not, the list of
//! chats is walked as it stands, most recently active first, and each chat is asked whether it has the words; up to [`WALK`] chats a page, however
//! few of them do.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use async_trait::async_trait;
use private_chat_core::id::{ChatId, WorkspaceId};
use private_chat_core::model::chat::{Chat, Message, MessageStatus, Seq};
use private_chat_core::model::search::{MOST_ASKED, Query, terms};
use private_chat_core::page::{ActivityKey, Page, PageRequest};
use private_chat_core::port::Result;
use private_chat_core::port::store::ChatFilter;
use sqlx::Error;

use super::Database;
use super::code::Code as _;
use super::commit::{Refusal, Work};
use super::read::{EVERYBODY, NEWEST, chat_keys, keys_of_chats, own_chat_keys, seen_chat_keys, through};
use super::row;
use super::row::chat_columns;
use super::seam::{Arg, Columns, Connection, args};

/// How many chats a shard takes.
const SHARD: u64 = 1_024;
/// How many texts of a backlog one transaction puts into the index.
pub(super) const BACKLOG: u64 = 200;
/// How many words of a deleted chat one statement takes out of MySQL's index.
const FORGOTTEN: usize = 500;
/// How many chats a word may be in, or on MySQL how many blocks of texts, to be rare.
pub(super) const RARE: u64 = 500;
/// How many chats are walked for one page, at most.
pub(super) const WALK: i64 = 1_000;

/// The number of a title among the texts of its chat: the messages' numbers begin at one.
const TITLE: Seq = 0;

/// Where the texts of a chat lie in the index.
#[derive(Clone, Copy)]
struct Place {
    shard: u64,
    slot: u64,
}

impl Place {
    /// The number of SQLite's row for a text. A shard's number has 21 bits, a slot's 10, and a message's 32.
    const fn text(self, seq: Seq) -> u64 {
        ((self.shard << 10) | self.slot) << 32 | seq
    }
}

/// A word behind its workspace: the lists of one workspace's words are its own. No blank is in it, and nothing that FTS5 would split at.
fn tagged(workspace: WorkspaceId, term: &str) -> String {
    format!("{}{term}", workspace.as_uuid().as_simple())
}

/// What SQLite is asked: texts that have all of the query's words.
fn matching(workspace: WorkspaceId, query: &Query) -> String {
    query.terms().map(|term| format!("\"{}\"", tagged(workspace, term))).collect::<Vec<_>>().join(" AND ")
}

/// Puts the words of a new chat's title into the index.
pub(super) async fn index_title(connection: &mut Connection<'_>, chat: &Chat) -> Result<(), Refusal> {
    match &chat.title {
        Some(title) => index(connection, chat.workspace, chat.id, TITLE, title).await,
        None => Ok(()),
    }
}

/// Puts the words of a message into the index, if nothing more comes to it.
pub(super) async fn index_message(connection: &mut Connection<'_>, message: &Message, seq: Seq) -> Result<(), Refusal> {
    match message.status {
        MessageStatus::Streaming => Ok(()),
        _ => index(connection, message.workspace, message.chat, seq, &message.content).await,
    }
}

/// The title that a chat has so far.
pub(super) async fn title(connection: &mut Connection<'_>, chat: ChatId) -> Result<Option<String>, Refusal> {
    let row = connection.fetch_one("SELECT c.title FROM chats c WHERE c.id = ?", args![&chat]).await?;
    Ok(row.map(|row| row.columns().opt_text()).transpose()?.flatten())
}

/// Takes the words of a chat's old title out of the index and puts those of its new one in.
pub(super) async fn reindex_title(
    connection: &mut Connection<'_>,
    chat: &Chat,
    old: Option<String>,
) -> Result<(), Refusal> {
    if old == chat.title {
        return Ok(());
    }
    if let (Some(old), Some(place)) = (old, find(connection, chat.id).await?) {
        if connection.is_sqlite() {
            connection.execute("DELETE FROM search_texts WHERE rowid = ?", args![place.text(TITLE)]).await?;
        } else {
            for term in &terms(&old) {
                for sql in [
                    "DELETE FROM search_postings WHERE shard = ? AND term = ? AND slot = ? AND block = 0 AND texts = 1",
                    "UPDATE search_postings SET texts = texts & ~1 WHERE shard = ? AND term = ? AND slot = ? AND block = 0",
                ] {
                    let args = [place.shard.into(), Arg::Bytes(term.as_bytes()), place.slot.into()];
                    connection.execute(sql, &args).await?;
                }
            }
        }
    }
    index_title(connection, chat).await
}

/// Puts the words of a text into the index. Doing it again changes nothing.
async fn index(
    connection: &mut Connection<'_>,
    workspace: WorkspaceId,
    chat: ChatId,
    seq: Seq,
    text: &str,
) -> Result<(), Refusal> {
    let terms = terms(text);
    if terms.is_empty() {
        return Ok(());
    }
    let place = match find(connection, chat).await? {
        Some(place) => place,
        None => take(connection, workspace, chat).await?,
    };
    if connection.is_sqlite() {
        let words = terms.iter().map(|term| tagged(workspace, term)).collect::<Vec<_>>().join(" ");
        let sql = "INSERT OR REPLACE INTO search_texts (rowid, words) VALUES (?, ?)";
        connection.execute(sql, args![place.text(seq), &words]).await?;
    } else {
        // In the order of the words: two who write into one chat do not wait for each other in a ring.
        let sql = "INSERT INTO search_postings (shard, term, slot, block, texts) \
                   SELECT ?, w.term, ?, ?, 1 << ? FROM JSON_TABLE(?, '$[*]' COLUMNS (term VARCHAR(64) PATH '$')) w \
                   ON DUPLICATE KEY UPDATE texts = search_postings.texts | 1 << ?";
        let (block, text, words) = (seq >> 6, seq & 63, listed(&terms));
        connection.execute(sql, args![place.shard, place.slot, block, text, &words, text]).await?;
    }
    Ok(())
}

/// A list of words as MySQL takes it. They hold nothing that JSON would have to escape.
fn listed<'t>(terms: impl IntoIterator<Item = &'t String>) -> String {
    let words: Vec<_> = terms.into_iter().map(|term| format!("\"{term}\"")).collect();
    format!("[{}]", words.join(","))
}

async fn find(connection: &mut Connection<'_>, chat: ChatId) -> Result<Option<Place>, Refusal> {
    let sql = "SELECT s.shard, s.slot FROM search_chats s WHERE s.chat_id = ?";
    let row = connection.fetch_one(sql, args![&chat]).await?;
    Ok(row.map(|row| row.read(|row| Ok(Place { shard: row.count()?, slot: row.count()? }))).transpose()?)
}

/// Gives a chat its place: in the newest shard of its workspace, or in a new one where that is full.
async fn take(connection: &mut Connection<'_>, workspace: WorkspaceId, chat: ChatId) -> Result<Place, Refusal> {
    // Somebody else who writes into the chat may be about to do so, and is waited for.
    connection.execute("UPDATE chats SET version = version WHERE id = ?", args![&chat]).await?;
    if let Some(place) = find(connection, chat).await? {
        return Ok(place);
    }
    let place = loop {
        let sql = "SELECT h.shard FROM search_shards h WHERE h.workspace_id = ? ORDER BY h.shard DESC LIMIT 1";
        if let Some(row) = connection.fetch_one(sql, args![&workspace]).await? {
            let shard = row.columns().count()?;
            let sql = "UPDATE search_shards SET chats = chats + 1 WHERE shard = ? AND chats < ?";
            if connection.execute(sql, args![shard, SHARD]).await? == 1 {
                let sql = "SELECT h.chats - 1 FROM search_shards h WHERE h.shard = ?";
                let row = connection.fetch_one(sql, args![shard]).await?.ok_or(Error::RowNotFound)?;
                break Place { shard, slot: row.columns().count()? };
            }
        }
        connection.execute("INSERT INTO search_shards (workspace_id, chats) VALUES (?, 0)", args![&workspace]).await?;
    };
    let sql = "INSERT INTO search_chats (chat_id, shard, slot) VALUES (?, ?, ?)";
    connection.execute(sql, args![&chat, place.shard, place.slot]).await?;
    Ok(place)
}

/// Takes the words of a chat's messages up to a number out of the index, which are about to go; with the last of them, its title's too.
pub(super) async fn forget(connection: &mut Connection<'_>, chat: ChatId, upto: Seq) -> Result<(), Refusal> {
    // From here on nobody puts anything in.
    connection.execute("DELETE FROM search_backlog WHERE chat_id = ?", args![&chat]).await?;
    let Some(place) = find(connection, chat).await? else { return Ok(()) };
    if connection.is_sqlite() {
        let last = place.text(upto.min(u64::from(u32::MAX)));
        let sql = "DELETE FROM search_texts WHERE rowid BETWEEN ? AND ?";
        connection.execute(sql, args![place.text(TITLE), last]).await?;
        return Ok(());
    }
    // A word that one of them has is forgotten of all the chat: nobody finds it any more.
    let sql = "SELECT m.content FROM messages m WHERE m.chat_id = ? AND m.seq <= ? \
               UNION ALL SELECT c.title FROM chats c WHERE c.id = ? AND c.title IS NOT NULL";
    let mut words = BTreeSet::new();
    for row in connection.fetch(sql, args![&chat, upto, &chat]).await? {
        words.append(&mut terms(&row.columns().text()?));
    }
    let words: Vec<_> = words.into_iter().collect();
    for some in words.chunks(FORGOTTEN) {
        let sql = "DELETE p FROM JSON_TABLE(?, '$[*]' COLUMNS (term VARCHAR(64) PATH '$')) w \
                   STRAIGHT_JOIN search_postings p ON p.shard = ? AND p.term = CAST(w.term AS BINARY) AND p.slot = ?";
        connection.execute(sql, args![&listed(some), place.shard, place.slot]).await?;
    }
    Ok(())
}

/// Some of what was stored before there was an index.
pub(super) struct Backlog;

#[async_trait]
impl Work for Backlog {
    type Made = u64;

    async fn perform(&self, connection: &mut Connection<'_>) -> Result<u64, Refusal> {
        let mut texts = 0;
        while texts < BACKLOG {
            // Newest first: what is most likely to be searched.
            let sql = "SELECT b.chat_id FROM search_backlog b ORDER BY b.chat_id DESC LIMIT 1";
            let Some(row) = connection.fetch_one(sql, &[]).await? else { break };
            let chat = row.columns().id()?;
            texts += catch_up(connection, chat, BACKLOG - texts).await?;
        }
        Ok(texts)
    }
}

/// Puts up to `most` texts of a chat into the index, its last messages first and its title at last. Says how many, the title included.
async fn catch_up(connection: &mut Connection<'_>, chat: ChatId, most: u64) -> Result<u64, Refusal> {
    // Whoever writes into the chat, or is at the same, is waited for, before anything is written that they could wait for.
    connection.execute("UPDATE chats SET version = version WHERE id = ?", args![&chat]).await?;
    let sql = "SELECT c.workspace_id, c.title, b.seq FROM search_backlog b JOIN chats c ON c.id = b.chat_id WHERE b.chat_id = ?";
    // Somebody else may be done with it by now.
    let Some(row) = connection.fetch_one(sql, args![&chat]).await? else { return Ok(0) };
    let (workspace, title, seq) = row.read(|row| Ok((row.id()?, row.opt_text()?, row.count::<Seq>()?)))?;
    // A reply that still grows is put in when it ends.
    let sql = "SELECT m.seq, m.content FROM messages m WHERE m.chat_id = ? AND m.seq <= ? AND m.status <> ? \
               ORDER BY m.seq DESC LIMIT ?";
    let rows = connection.fetch(sql, args![&chat, seq, MessageStatus::Streaming.code(), most]).await?;
    let messages: Vec<(Seq, String)> =
        rows.iter().map(|row| row.read(|row| Ok((row.count()?, row.text()?)))).collect::<Result<_>>()?;
    for (seq, text) in &messages {
        index(connection, workspace, chat, *seq, text).await?;
    }
    let done = messages.len() as u64;
    match messages.last() {
        Some((last, _)) if done == most => {
            let sql = "UPDATE search_backlog SET seq = ? WHERE chat_id = ?";
            connection.execute(sql, args![last - 1, &chat]).await?;
            Ok(done)
        }
        _ => {
            if let Some(title) = &title {
                index(connection, workspace, chat, TITLE, title).await?;
            }
            connection.execute("DELETE FROM search_backlog WHERE chat_id = ?", args![&chat]).await?;
            Ok(done + 1)
        }
    }
}

/// The chats that a query finds, as far as one page looks.
pub(super) async fn chats(
    database: &Database,
    filter: &ChatFilter,
    query: &Query,
    page: PageRequest<ActivityKey>,
) -> Result<Page<Chat, ActivityKey>> {
    const STANDS: &str = "SELECT 1 FROM workspaces w WHERE w.id = ? AND w.deleted = 0";
    if query.is_empty() || database.first(STANDS, args![&filter.workspace], row::number).await?.is_none() {
        return Ok(Page { items: Vec::new(), next: None });
    }
    let search = Search { database, filter, most: page.limit.overfetch() };
    let after = page.after.unwrap_or(NEWEST);
    let (found, end) = match database {
        Database::Sqlite { .. } => search.by_texts(query, after).await?,
        Database::MySql(_) => search.by_postings(query, after).await?,
    };
    let page = Page::from_overfetched(found, page.limit, Chat::activity);
    Ok(Page { next: page.next.or(end), ..page })
}

/// One page of a search.
struct Search<'s> {
    database: &'s Database,
    filter: &'s ChatFilter,
    /// How many chats are asked for: one more than the page has.
    most: i64,
}

/// The chats that were found, and where the list was left, if not at its end.
type Found = (Vec<Chat>, Option<ActivityKey>);

/// A part of the list of chats, from a key on.
fn range<'a>(filter: &'a ChatFilter, after: &'a ActivityKey) -> [Arg<'a>; 5] {
    [(&filter.workspace).into(), filter.archived.into(), after.at.into(), after.at.into(), (&after.id).into()]
}

/// Who looks at it.
fn viewed(filter: &ChatFilter) -> [Arg<'_>; 4] {
    let viewer = Arg::from(&filter.viewer);
    [Arg::from(&EVERYBODY), viewer, filter.mine.into(), viewer]
}

impl Search<'_> {
    async fn by_texts(&self, query: &Query, after: ActivityKey) -> Result<Found> {
        let words = matching(self.filter.workspace, query);
        let hits = self.database.all(HITS, args![&words, &words, RARE + 1], row::number).await?;
        if hits.len() as u64 <= RARE {
            return Ok((self.fetch(&hits, after).await?, None));
        }
        let (mut found, mut walked, mut last) = (Vec::new(), 0, after);
        while walked < WALK {
            // Few at first: of a common word, they are enough.
            let some = (walked * 2).max(2 * self.most).min(WALK - walked);
            let sql = if self.filter.mine { LISTED_OF } else { LISTED_SEEN_BY };
            let chats = self.database.all(sql, &chat_keys(self.filter, &last, some), listed_chat).await?;
            let mut places: Vec<_> = chats.iter().filter_map(|(_, place)| *place).collect();
            places.sort_unstable();
            let asked = format!("{places:?}");
            let hits = self.database.all(HITS_AMONG, args![&asked, &words, &words], row::number).await?;
            let hits: Vec<_> = hits.into_iter().filter(|place| places.binary_search(place).is_ok()).collect();
            found.extend(self.fetch(&hits, last).await?);
            walked += some;
            match chats.last() {
                Some((key, _)) if i64::try_from(chats.len()) == Ok(some) => last = *key,
                _ => return Ok((found, None)),
            }
            if i64::try_from(found.len()).is_ok_and(|found| found >= self.most) {
                break;
            }
        }
        Ok((found, Some(last)))
    }

    /// Those of the chats at these places that come after a key, and that the viewer may see.
    async fn fetch(&self, places: &[i64], after: ActivityKey) -> Result<Vec<Chat>> {
        let places = format!("{places:?}");
        let (range, viewed) = (range(self.filter, &after), viewed(self.filter));
        let args = [args![&places], range.as_slice(), &viewed, &[self.most.into()]].concat();
        self.database.all(FETCH, &args, row::chat).await
    }

    async fn by_postings(&self, query: &Query, after: ActivityKey) -> Result<Found> {
        let workspace = Arg::from(&self.filter.workspace);
        let mut terms = Vec::with_capacity(query.terms().len());
        for term in query.terms().map(str::as_bytes).map(Arg::Bytes) {
            let blocks =
                self.database.first(COUNT_POSTINGS, &[term, workspace, (RARE + 1).into()], row::number).await?;
            match blocks.unwrap_or_default() {
                0 => return Ok((Vec::new(), None)),
                blocks => terms.push((blocks, term)),
            }
        }
        // Whatever is looked for goes by the rarest, and for the others only where that one is.
        terms.sort_by_key(|(blocks, _)| *blocks);
        let rare = terms[0].0.unsigned_abs() <= RARE;
        let terms: Vec<_> = terms.into_iter().map(|(_, term)| term).collect();
        let (range, viewed, most) = (range(self.filter, &after), viewed(self.filter), [self.most.into()]);
        if rare {
            let args = [&terms, [workspace].as_slice(), &range, &viewed, &most].concat();
            return Ok((self.database.all(&FETCH_POSTINGS[terms.len() - 1], &args, row::chat).await?, None));
        }
        let keys = chat_keys(self.filter, &after, WALK);
        let sql = if self.filter.mine { WALK_END_OF } else { WALK_END_SEEN_BY };
        let end = self.database.first(sql, &[keys.as_slice(), args![WALK - 1]].concat(), row::activity).await?;
        let sql = if self.filter.mine { &WALK_POSTINGS_OF } else { &WALK_POSTINGS_SEEN_BY };
        let args = [keys.as_slice(), &terms, &most].concat();
        Ok((self.database.all(&sql[terms.len() - 1], &args, row::chat).await?, end))
    }
}

fn listed_chat(row: &mut Columns<'_>) -> Result<(ActivityKey, Option<i64>)> {
    Ok((row::activity(row)?, row.opt_int()?))
}

/// A part of the list of chats: the archived or the others, from a key on.
macro_rules! range {
    () => {
        "c.workspace_id = ? AND c.archived = ? AND c.active_at <= ? AND (c.active_at < ? OR c.id < ?)"
    };
}

/// What the viewer may see, and wants to. They are looked up, once, because whoever's account is gone has made no chat any more.
macro_rules! viewed {
    () => {
        "(c.seen_by = ? OR c.seen_by = (SELECT u.id FROM users u WHERE u.id = ?)) \
         AND (? = 0 OR c.created_by = (SELECT u.id FROM users u WHERE u.id = ?))"
    };
}

macro_rules! ordered {
    () => {
        " ORDER BY c.active_at DESC, c.id DESC LIMIT ?"
    };
}

/// The last of the chats that one page looks at.
macro_rules! walk_end {
    ($keys:ident) => {
        concat!(
            "SELECT k.active_at, k.id FROM (",
            $keys!(),
            ") k ORDER BY k.active_at DESC, k.id DESC LIMIT 1 OFFSET ?"
        )
    };
}
const WALK_END_OF: &str = walk_end!(own_chat_keys);
const WALK_END_SEEN_BY: &str = walk_end!(seen_chat_keys);

/// The places of chats that have a text that matches the first two arguments, which are the same: each time the list is entered anew behind the last
/// chat. Up to as many as the third says.
const HITS: &str = "WITH RECURSIVE hit (place) AS ( \
    SELECT (SELECT t.rowid FROM search_texts t WHERE t.search_texts MATCH ? ORDER BY t.rowid LIMIT 1) >> 32 \
    UNION ALL \
    SELECT (SELECT t.rowid FROM search_texts t WHERE t.search_texts MATCH ? AND t.rowid >= (hit.place + 1) << 32 \
    ORDER BY t.rowid LIMIT 1) >> 32 FROM hit WHERE hit.place IS NOT NULL LIMIT ?) \
    SELECT hit.place FROM hit WHERE hit.place IS NOT NULL";

/// The same for the places of a list, and maybe some others: each time the list is entered anew at the next place asked for. FTS5 does not stop at the
/// end of a range of numbers where it looks for several words, but at the next text that has them all; so that text says where to go on, and what lies
/// between is passed once, not for each place anew.
const HITS_AMONG: &str = "WITH RECURSIVE asked (place) AS MATERIALIZED (SELECT k.value FROM json_each(?) k), hit (place) AS ( \
    SELECT (SELECT t.rowid FROM search_texts t WHERE t.search_texts MATCH ? \
    AND t.rowid >= (SELECT MIN(a.place) FROM asked a) << 32 ORDER BY t.rowid LIMIT 1) >> 32 \
    UNION ALL \
    SELECT (SELECT t.rowid FROM search_texts t WHERE t.search_texts MATCH ? \
    AND t.rowid >= (SELECT MIN(a.place) FROM asked a WHERE a.place > hit.place) << 32 ORDER BY t.rowid LIMIT 1) >> 32 \
    FROM hit WHERE hit.place < (SELECT MAX(a.place) FROM asked a)) \
    SELECT hit.place FROM hit WHERE hit.place IS NOT NULL";

/// A part of the list, with the places of the chats.
macro_rules! listed {
    ($keys:ident) => {
        concat!(
            "SELECT k.active_at, k.id, (SELECT s.shard << 10 | s.slot FROM search_chats s WHERE s.chat_id = k.id) FROM (",
            $keys!(),
            ") k ORDER BY k.active_at DESC, k.id DESC"
        )
    };
}
const LISTED_OF: &str = listed!(own_chat_keys);
const LISTED_SEEN_BY: &str = listed!(seen_chat_keys);

// SQLite joins in the order of a CROSS JOIN.
const FETCH: &str = concat!(
    "SELECT ",
    chat_columns!(),
    " FROM json_each(?) k CROSS JOIN search_chats s ON s.shard = k.value >> 10 AND s.slot = k.value & 1023 \
     CROSS JOIN chats c ON c.id = s.chat_id WHERE ",
    range!(),
    " AND ",
    viewed!(),
    ordered!()
);

const COUNT_POSTINGS: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM search_shards h \
    STRAIGHT_JOIN search_postings p ON p.shard = h.shard AND p.term = ? WHERE h.workspace_id = ? LIMIT ?) n";

/// For each number of terms, from one on.
static FETCH_POSTINGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let sql = |more: String, together: String| {
        format!(
            "SELECT {columns} FROM (SELECT DISTINCT p.shard, p.slot FROM search_shards h \
             STRAIGHT_JOIN search_postings p ON p.shard = h.shard AND p.term = ?{more} \
             WHERE h.workspace_id = ? AND {together} <> 0) hit \
             STRAIGHT_JOIN search_chats s ON s.shard = hit.shard AND s.slot = hit.slot \
             STRAIGHT_JOIN chats c ON c.id = s.chat_id WHERE {range} AND {viewed}{ordered}",
            columns = chat_columns!(),
            range = range!(),
            viewed = viewed!(),
            ordered = ordered!()
        )
    };
    (0..MOST_ASKED).map(|others| with_others(others, sql)).collect()
});

/// For each number of terms, from one on.
static WALK_POSTINGS_OF: LazyLock<Vec<String>> = LazyLock::new(|| walk_postings(own_chat_keys!()));
static WALK_POSTINGS_SEEN_BY: LazyLock<Vec<String>> = LazyLock::new(|| walk_postings(seen_chat_keys!()));

fn walk_postings(keys: &str) -> Vec<String> {
    // A scalar, asked for chat by chat: MySQL would turn an EXISTS into a join, and might begin with the words.
    let sql = |more: String, together: String| {
        format!(
            "SELECT {columns} FROM ({keys}) k STRAIGHT_JOIN chats c ON c.id = k.id \
             WHERE (SELECT 1 FROM search_chats s \
             STRAIGHT_JOIN search_postings p ON p.shard = s.shard AND p.term = ? AND p.slot = s.slot{more} \
             WHERE s.chat_id = k.id AND {together} <> 0 LIMIT 1) = 1 ORDER BY k.active_at DESC, k.id DESC LIMIT ?",
            columns = chat_columns!()
        )
    };
    (0..MOST_ASKED).map(|others| with_others(others, sql)).collect()
}

/// Makes a statement that looks for so many other terms in the blocks that have the first, and takes the texts that they all have.
fn with_others(others: usize, sql: impl Fn(String, String) -> String) -> String {
    let join = |n| {
        format!(
            " STRAIGHT_JOIN search_postings p{n} \
             ON p{n}.shard = p.shard AND p{n}.term = ? AND p{n}.slot = p.slot AND p{n}.block = p.block"
        )
    };
    let texts: String = (1..=others).map(|n| format!(" & p{n}.texts")).collect();
    sql((1..=others).map(join).collect(), format!("(p.texts{texts})"))
}
