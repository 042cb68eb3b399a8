//! A unit of work on an open transaction.
//!
//! The lock order is the same for every unit, so that two of them never wait for each other in a ring: the heads of the workspaces' event logs
//! first, then parents before children, then by key. Conflicts nevertheless name the change by its place in the use case's order.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use private_chat_core::change::{
    Appended, Change, Changes, Checkpoint, Checkpointed, Committed, Counter, Event, EventKind, EventNumber, Follows,
    Record, Ref, Running, TextSoFar, Version,
};
use private_chat_core::error::{Conflict, Failure};
use private_chat_core::id::{ChatId, MessageId, WorkspaceId};
use private_chat_core::model::chat::{Message, MessageStatus};
use private_chat_core::time::Timestamp;
use sqlx::Error;

use super::code::{self, Code as _, EventCode, MEMBERSHIPS};
use super::dialect::{Fault, fault};
use super::read::{RUNNING_OF, through};
use super::row;
use super::seam::{Connection, args};
use super::search;
use super::statement;

/// When the oldest event of a log happened that has none, or is closed.
pub(super) const NO_EVENT: Timestamp = Timestamp::from_micros(i64::MAX);

pub(super) const RUNNING_IN_CHAT: &str = concat!(
    "SELECT r.message_id FROM running_replies r ",
    through!("running_replies_of_workspace"),
    " WHERE r.workspace_id = (SELECT c.workspace_id FROM chats c WHERE c.id = ?) AND r.chat_id = ? ORDER BY r.message_id"
);

pub(super) const COUNT_OF: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM running_replies r WHERE r.asked_by = ? LIMIT ?) n";

pub(super) const COUNT_IN: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM running_replies r WHERE r.workspace_id = ? LIMIT ?) n";

/// Why something was not written.
pub(super) enum Refusal {
    /// It can't be, and nothing is wrong with the database.
    Final(Failure),
    /// The database said so.
    Sql(Error),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

/// What is written in one transaction. It may be performed several times, of which the last one counts.
#[async_trait]
pub(super) trait Work: Send + Sync + 'static {
    /// What its caller learns.
    type Made: Send + 'static;

    /// Writes it on a connection with an open transaction.
    async fn perform(&self, connection: &mut Connection<'_>) -> Result<Self::Made, Refusal>;
}

#[async_trait]
impl Work for Changes {
    type Made = Committed;

    async fn perform(&self, connection: &mut Connection<'_>) -> Result<Committed, Refusal> {
        let mut unit = Unit {
            connection,
            changes: self,
            inserted: inserted(self.changes()),
            numbers: HashMap::new(),
            events: Vec::with_capacity(self.events().len()),
            appended: HashMap::new(),
        };
        let headless = unit.take_numbers().await?;
        for place in lock_order(self.changes()) {
            unit.change(&self.changes()[place]).await.map_err(|stop| stop.at(place))?;
        }
        if headless {
            // A log went with its workspace. The events stand behind the changes.
            return Err(Stop::Conflict(Conflict::MissingParent).at(self.changes().len()));
        }
        unit.log_events().await?;
        for (place, change) in self.changes().iter().enumerate().rev() {
            unit.delete_parent(change).await.map_err(|stop| stop.at(place))?;
        }
        Ok(unit.committed())
    }
}

/// Why a change was not made; its place is not known yet.
enum Stop {
    Conflict(Conflict),
    Sql(Error),
    Final(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match fault(&error) {
            Fault::Duplicate => Self::Conflict(Conflict::Duplicate),
            Fault::MissingParent => Self::Conflict(Conflict::MissingParent),
            _ => Self::Sql(error),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Final(failure) => Self::Final(failure),
            Refusal::Sql(error) => Self::Sql(error),
        }
    }
}

impl Stop {
    fn at(self, change: usize) -> Refusal {
        match self {
            Self::Conflict(conflict) => Refusal::Final(Failure::Conflict { conflict, change }),
            Self::Sql(error) => Refusal::Sql(error),
            Self::Final(failure) => Refusal::Final(failure),
        }
    }
}

/// Exactly one row was touched, or the change conflicts.
const fn one(rows: u64, otherwise: Conflict) -> Result<(), Stop> {
    match rows {
        1 => Ok(()),
        _ => Err(Stop::Conflict(otherwise)),
    }
}

/// The places of the changes in the order in which their rows are locked. Changes of one row stay in the use case's order.
fn lock_order(changes: &[Change]) -> Vec<usize> {
    let mut places: Vec<_> = (0..changes.len()).collect();
    places.sort_by_key(|place| rank(&changes[*place]));
    places
}

/// Where a change's row stands: its table, parents first, and its key.
fn rank(change: &Change) -> (u8, [u8; 16], [u8; 16]) {
    const NONE: [u8; 16] = [0; 16];
    let key = match change {
        // Into a chat that is locked for it.
        Change::Insert(Record::Message(message)) => Ref::Chat(message.chat),
        Change::Insert(record) | Change::Update(record) => record.key(),
        Change::Delete(key, _) | Change::Expect(key, _) => *key,
        Change::Append(message, _) => Ref::Chat(message.chat),
        // Before any reply of the unit begins. The head of the workspace's log is locked by then.
        Change::Cap { running: Running::Of(user), .. } => Ref::User(*user),
        Change::Cap { running: Running::In(workspace), .. } => Ref::Workspace(*workspace),
        Change::Add { counter: Counter::Members(workspace), .. } => return (7, *workspace.as_bytes(), NONE),
        Change::Add { counter: Counter::Memberships(user), .. } => return (7, *user.as_bytes(), [1; 16]),
    };
    match key {
        Ref::Installation => (0, NONE, NONE),
        Ref::Instance(id) => (1, *id.as_bytes(), NONE),
        Ref::User(id) => (2, *id.as_bytes(), NONE),
        Ref::Session(id) => (3, *id.as_bytes(), NONE),
        Ref::Workspace(id) => (4, *id.as_bytes(), NONE),
        Ref::Membership(workspace, user) => (5, *workspace.as_bytes(), *user.as_bytes()),
        // What must be unique in them is not their key: one may take the place of another only in the order given.
        Ref::Invitation(_) => (6, NONE, NONE),
        Ref::Chat(id) => (8, *id.as_bytes(), NONE),
        Ref::Message(_, id) => (9, *id.as_bytes(), NONE),
        Ref::RunningReply(id) => (10, *id.as_bytes(), NONE),
        // Last: whoever repeats a request waits for the one that was first, and then finds what it made.
        Ref::KeyedRequest(user, _) => (11, *user.as_bytes(), NONE),
    }
}

/// Whether other rows go with the row of this key.
const fn has_children(key: &Ref) -> bool {
    matches!(key, Ref::User(_) | Ref::Workspace(_) | Ref::Membership(..) | Ref::Chat(_) | Ref::Message(..))
}

/// The keys of the rows that changes make.
fn inserted(changes: &[Change]) -> HashSet<Ref> {
    let key = |change: &Change| match change {
        Change::Insert(record) => Some(record.key()),
        _ => None,
    };
    changes.iter().filter_map(key).collect()
}

/// What a unit does to the head of a workspace's log.
#[derive(Default)]
struct Head {
    events: u64,
    first_at: Option<Timestamp>,
    closes: bool,
}

/// A unit of work, half done.
struct Unit<'u, 'c> {
    connection: &'u mut Connection<'c>,
    changes: &'u Changes,
    /// The keys of the rows that it makes.
    inserted: HashSet<Ref>,
    /// The next number of each log whose head is locked.
    numbers: HashMap<WorkspaceId, EventNumber>,
    events: Vec<EventNumber>,
    appended: HashMap<MessageId, Appended>,
}

impl Unit<'_, '_> {
    /// Takes the events' numbers from the heads of their logs, which thereby are locked, and closes the logs of workspaces that are deleted.
    /// Says whether a log is not there, or closed.
    async fn take_numbers(&mut self) -> Result<bool, Error> {
        let mut heads: BTreeMap<WorkspaceId, Head> = BTreeMap::new();
        for event in self.changes.events() {
            let head = heads.entry(event.workspace).or_default();
            head.events += 1;
            head.first_at.get_or_insert(event.at);
        }
        for change in self.changes.changes() {
            match change {
                Change::Delete(Ref::Workspace(workspace), _) => heads.entry(*workspace).or_default().closes = true,
                // Locked for those who count.
                Change::Cap { running: Running::In(workspace), .. } => drop(heads.entry(*workspace).or_default()),
                _ => {}
            }
        }
        let mut headless = false;
        for (workspace, Head { events, first_at, closes }) in heads {
            if self.inserts(&Ref::Workspace(workspace)) {
                // The head comes with the workspace, and nobody else knows of it yet.
                self.numbers.insert(workspace, 1);
                continue;
            }
            let sql = "UPDATE event_heads SET newest = newest + ?, closed = ? WHERE workspace_id = ? AND closed = 0";
            if self.connection.execute(sql, args![events, closes, &workspace]).await? == 0 {
                headless |= events > 0;
                continue;
            }
            if closes {
                self.set_oldest(workspace, NO_EVENT).await?;
            }
            if let Some(at) = first_at {
                let sql = "SELECT newest, oldest_at FROM event_heads WHERE workspace_id = ?";
                let row = self.connection.fetch_one(sql, args![&workspace]).await?.ok_or(Error::RowNotFound)?;
                let read = row.read(|row| Ok((row.count::<EventNumber>()?, row.time()?)));
                let (newest, oldest) = read.map_err(|odd| Error::Decode(odd.into()))?;
                self.numbers.insert(workspace, newest - events + 1);
                if oldest == NO_EVENT && !closes {
                    self.set_oldest(workspace, at).await?;
                }
            }
        }
        Ok(headless)
    }

    async fn set_oldest(&mut self, workspace: WorkspaceId, at: Timestamp) -> Result<(), Error> {
        let sql = "UPDATE event_heads SET oldest_at = ? WHERE workspace_id = ?";
        self.connection.execute(sql, args![at, &workspace]).await.map(drop)
    }

    /// Whether the unit makes a row of this key.
    fn inserts(&self, key: &Ref) -> bool {
        self.inserted.contains(key)
    }

    /// Whether the row of this key goes after all other changes, as they may be of rows that go with it. One that is made anew goes in its turn.
    fn goes_last(&self, key: &Ref) -> bool {
        has_children(key) && !self.inserts(key)
    }

    async fn change(&mut self, change: &Change) -> Result<(), Stop> {
        match change {
            Change::Insert(record) => {
                match record {
                    Record::Message(message) => self.lock_chat(message.chat).await?,
                    // The message that it begins with, if it is of this unit, went through the chat's row.
                    Record::RunningReply(reply) if !self.appended.contains_key(&reply.message) => {
                        self.lock_chat(reply.chat).await?;
                    }
                    _ => {}
                }
                let appended = &self.appended;
                let seq = |message: MessageId| appended.get(&message).map(|to| to.seq);
                one(statement::insert(self.connection, record, seq).await?, Conflict::Duplicate)?;
                match record {
                    Record::Workspace(workspace) => self.insert_head(workspace.id).await,
                    Record::Membership(membership) => self.stands(membership.workspace).await,
                    Record::Chat(chat) => {
                        self.stands(chat.workspace).await?;
                        Ok(search::index_title(self.connection, chat).await?)
                    }
                    Record::Message(message) => Ok(search::index_message(self.connection, message, message.seq).await?),
                    _ => Ok(()),
                }
            }
            Change::Update(record) => self.update(record).await,
            // Locked in its turn.
            Change::Delete(key, version) if self.goes_last(key) => self.expect(key, *version).await,
            Change::Delete(key, version) => one(self.delete(key, *version).await?, Conflict::Stale),
            Change::Expect(key, version) => self.expect(key, *version).await,
            Change::Append(message, follows) => self.append(message, *follows).await,
            Change::Cap { running, most } => self.cap(running, *most).await,
            Change::Add { counter, delta, ceiling } => self.add(counter, *delta, ceiling.unwrap_or(i64::MAX)).await,
        }
    }

    async fn update(&mut self, record: &Record) -> Result<(), Stop> {
        let old_title = match record {
            // If somebody changes it in the meantime, this version is not updated.
            Record::Chat(chat) => search::title(self.connection, chat.id).await?,
            _ => None,
        };
        one(statement::update(self.connection, record).await?, Conflict::Stale)?;
        match record {
            Record::Chat(chat) => Ok(search::reindex_title(self.connection, chat, old_title).await?),
            Record::Message(message) => Ok(search::index_message(self.connection, message, message.seq).await?),
            _ => Ok(()),
        }
    }

    async fn expect(&mut self, key: &Ref, version: Version) -> Result<(), Stop> {
        one(statement::expect(self.connection, key, version).await?, Conflict::Stale)
    }

    async fn insert_head(&mut self, workspace: WorkspaceId) -> Result<(), Stop> {
        let events = || self.changes.events().iter().filter(|event| event.workspace == workspace);
        let (newest, oldest) = (events().count() as u64, events().next().map_or(NO_EVENT, |event| event.at));
        let sql = "INSERT INTO event_heads (workspace_id, newest, forgotten, closed, oldest_at) VALUES (?, ?, 0, 0, ?)";
        self.connection.execute(sql, args![&workspace, newest, oldest]).await?;
        Ok(())
    }

    /// Locks a chat that something is put into. The row of a deleted one is there still.
    async fn lock_chat(&mut self, chat: ChatId) -> Result<(), Stop> {
        let sql = "UPDATE chats SET version = version WHERE id = ? AND deleted = 0";
        one(self.connection.execute(sql, args![&chat]).await?, Conflict::MissingParent)
    }

    /// Refuses what was put into a deleted workspace: its row is there still, and by foreign key locked from now on.
    async fn stands(&mut self, workspace: WorkspaceId) -> Result<(), Stop> {
        if self.numbers.contains_key(&workspace) || self.inserts(&Ref::Workspace(workspace)) {
            // Its log is open, or made here.
            return Ok(());
        }
        let sql = "SELECT w.deleted FROM workspaces w WHERE w.id = ?";
        match self.connection.fetch_one(sql, args![&workspace]).await? {
            Some(row) if !row.columns().flag()? => Ok(()),
            _ => Err(Stop::Conflict(Conflict::MissingParent)),
        }
    }

    /// Puts a message at the end of its chat. The chat's row is locked by the first statement, so that what the second one reads stands.
    async fn append(&mut self, message: &Message, follows: Follows) -> Result<(), Stop> {
        let at = message.created_at;
        let sql = "UPDATE chats SET message_count = message_count + 1, last_message_at = ?, active_at = ? \
                   WHERE id = ? AND workspace_id = ? AND deleted = 0";
        let rows = self.connection.execute(sql, args![at, at, &message.chat, &message.workspace]).await?;
        one(rows, Conflict::MissingParent)?;
        let row = match (follows, &message.parent) {
            (Follows::Parent, None) => {
                let sql = "SELECT c.message_count, NULL FROM chats c WHERE c.id = ?";
                self.connection.fetch_one(sql, args![&message.chat]).await?
            }
            (Follows::Parent, Some(parent)) => {
                let sql = "SELECT c.message_count, (SELECT m.id FROM messages m WHERE m.id = ? AND m.chat_id = c.id) \
                           FROM chats c WHERE c.id = ?";
                self.connection.fetch_one(sql, args![parent, &message.chat]).await?
            }
            (Follows::Last, _) => {
                let sql = "SELECT c.message_count, \
                           (SELECT m.id FROM messages m WHERE m.chat_id = c.id ORDER BY m.seq DESC LIMIT 1) \
                           FROM chats c WHERE c.id = ?";
                self.connection.fetch_one(sql, args![&message.chat]).await?
            }
        };
        let row = row.ok_or(Error::RowNotFound)?;
        let (seq, parent) = row.read(|row| Ok((row.count()?, row.opt_id::<MessageId>()?)))?;
        if follows == Follows::Parent && parent != message.parent {
            return Err(Stop::Conflict(Conflict::MissingParent));
        }
        statement::insert_message(self.connection, message, seq, parent).await?;
        search::index_message(self.connection, message, seq).await?;
        self.appended.insert(message.id, Appended { seq, parent });
        Ok(())
    }

    /// Refuses one more running reply where as many run as may. Whoever begins another one waits for this unit: those of a workspace by the head of
    /// its log, those of a user by their row.
    async fn cap(&mut self, running: &Running, most: u64) -> Result<(), Stop> {
        let (count, owner) = match running {
            Running::Of(user) => {
                self.connection.execute("UPDATE users SET version = version WHERE id = ?", args![user]).await?;
                (COUNT_OF, user.as_bytes())
            }
            Running::In(workspace) => (COUNT_IN, workspace.as_bytes()),
        };
        let row = self.connection.fetch_one(count, args![owner, most]).await?.ok_or(Error::RowNotFound)?;
        let runs: u64 = row.columns().count().map_err(|odd| Error::Decode(odd.into()))?;
        if runs < most { Ok(()) } else { Err(Stop::Conflict(Conflict::Ceiling)) }
    }

    /// Moves a counter. Where its row is missing, others may be about to make it too: whoever comes second moves theirs.
    async fn add(&mut self, counter: &Counter, delta: i64, ceiling: i64) -> Result<(), Stop> {
        let (kind, owner) = code::counter(counter);
        if self.move_counter(counter, delta, ceiling).await? {
            return Ok(());
        }
        let sql = "SELECT value FROM counters WHERE kind = ? AND owner_id = ?";
        if self.connection.fetch_one(sql, args![kind, owner]).await?.is_none() {
            if delta > ceiling {
                return Err(Stop::Conflict(Conflict::Ceiling));
            }
            let sql = "INSERT INTO counters (kind, owner_id, value) VALUES (?, ?, ?)";
            match self.connection.execute(sql, args![kind, owner, delta]).await {
                Ok(_) => return Ok(()),
                Err(error) if fault(&error) == Fault::Duplicate => {}
                Err(error) => return Err(error.into()),
            }
        }
        // It stands, maybe only since it was not found to be moved.
        match self.move_counter(counter, delta, ceiling).await? {
            true => Ok(()),
            false => Err(Stop::Conflict(Conflict::Ceiling)),
        }
    }

    async fn move_counter(&mut self, counter: &Counter, delta: i64, ceiling: i64) -> Result<bool, Stop> {
        let (kind, owner) = code::counter(counter);
        let sql = "UPDATE counters SET value = value + ? WHERE kind = ? AND owner_id = ? AND value + ? <= ?";
        Ok(self.connection.execute(sql, args![delta, kind, owner, delta, ceiling]).await? == 1)
    }

    async fn log_events(&mut self) -> Result<(), Error> {
        let sql = "INSERT INTO events (workspace_id, number, kind, chat_id, message_id, user_id, happened_at) \
                   VALUES (?, ?, ?, ?, ?, ?, ?)";
        for Event { workspace, kind, at } in self.changes.events() {
            let (code, chat, message, user) = match kind {
                EventKind::MessageCreated(chat, message) => {
                    (EventCode::MessageCreated, Some(chat), Some(message), None)
                }
                EventKind::MessageEnded(chat, message) => (EventCode::MessageEnded, Some(chat), Some(message), None),
                EventKind::ChatCreated(chat) => (EventCode::ChatCreated, Some(chat), None, None),
                EventKind::ChatUpdated(chat) => (EventCode::ChatUpdated, Some(chat), None, None),
                EventKind::ChatHidden(chat) => (EventCode::ChatHidden, Some(chat), None, None),
                EventKind::ChatShown(chat) => (EventCode::ChatShown, Some(chat), None, None),
                EventKind::ChatDeleted(chat, only) => (EventCode::ChatDeleted, Some(chat), None, only.as_ref()),
                EventKind::MemberJoined(user) => (EventCode::MemberJoined, None, None, Some(user)),
                EventKind::MemberUpdated(user) => (EventCode::MemberUpdated, None, None, Some(user)),
                EventKind::MemberLeft(user) => (EventCode::MemberLeft, None, None, Some(user)),
            };
            let next = self.numbers.get_mut(workspace).ok_or(Error::RowNotFound)?;
            let number = *next;
            *next += 1;
            self.connection.execute(sql, args![workspace, number, code.code(), chat, message, user, *at]).await?;
            self.events.push(number);
        }
        Ok(())
    }

    /// Deletes the row of a change that was only locked so far. It may have gone with another one by now.
    async fn delete_parent(&mut self, change: &Change) -> Result<(), Stop> {
        match change {
            Change::Delete(key, version) if self.goes_last(key) => self.delete(key, *version).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Deletes a row with what goes with it: by foreign key, and the rest by hand.
    async fn delete(&mut self, key: &Ref, version: Version) -> Result<u64, Stop> {
        let rows = statement::delete(self.connection, key, version).await?;
        match key {
            Ref::Workspace(workspace) => {
                let sql = "UPDATE counters SET value = value - 1 \
                           WHERE kind = ? AND owner_id IN (SELECT m.user_id FROM memberships m WHERE m.workspace_id = ?)";
                self.connection.execute(sql, args![MEMBERSHIPS, workspace]).await?;
                // All that leads to it; its invitations go with the members.
                for sql in [
                    "DELETE FROM running_replies WHERE workspace_id = ?",
                    "DELETE FROM memberships WHERE workspace_id = ?",
                ] {
                    self.connection.execute(sql, args![workspace]).await?;
                }
                self.delete_counter(&Counter::Members(*workspace)).await?;
            }
            Ref::User(user) => self.delete_counter(&Counter::Memberships(*user)).await?,
            Ref::Chat(chat) => self.delete_running(chat).await?,
            _ => {}
        }
        Ok(rows)
    }

    /// Deletes the running replies of a chat, whose row is locked, so that none begins. They are found without a lock and deleted by their keys, so
    /// that nobody waits for those of other chats.
    async fn delete_running(&mut self, chat: &ChatId) -> Result<(), Stop> {
        let rows = self.connection.fetch(RUNNING_IN_CHAT, args![chat, chat]).await?;
        for row in rows {
            let reply: MessageId = row.columns().id()?;
            self.connection.execute("DELETE FROM running_replies WHERE message_id = ?", args![&reply]).await?;
        }
        Ok(())
    }

    async fn delete_counter(&mut self, counter: &Counter) -> Result<(), Error> {
        let (kind, owner) = code::counter(counter);
        let sql = "DELETE FROM counters WHERE kind = ? AND owner_id = ?";
        self.connection.execute(sql, args![kind, owner]).await.map(drop)
    }

    fn committed(self) -> Committed {
        let appends = self.changes.changes().iter().filter_map(|change| match change {
            Change::Append(message, _) => self.appended.get(&message.id).copied(),
            _ => None,
        });
        Committed { appended: appends.collect(), events: self.events }
    }
}

#[async_trait]
impl Work for Checkpoint {
    type Made = Checkpointed;

    async fn perform(&self, connection: &mut Connection<'_>) -> Result<Checkpointed, Refusal> {
        let sql = "UPDATE instances SET beat = ? WHERE id = ?";
        if connection.execute(sql, args![self.beat, &self.instance]).await? == 0 {
            return Ok(Checkpointed::default());
        }
        // A reply that ended in the meantime is no longer streaming; one that was given to another process is no longer this one's.
        let sql = "UPDATE messages SET content = ?, reasoning = ?, updated_at = ? \
                   WHERE chat_id = ? AND seq = ? AND id = ? AND status = ? \
                   AND EXISTS (SELECT 1 FROM running_replies r WHERE r.message_id = messages.id AND r.instance_id = ?)";
        let mut texts: Vec<&TextSoFar> = self.texts.iter().collect();
        texts.sort_by_key(|text| text.message);
        for text in texts {
            let args = args![
                &text.content,
                &text.reasoning,
                self.at,
                &text.chat,
                text.seq,
                &text.message,
                MessageStatus::Streaming.code(),
                &self.instance,
            ];
            connection.execute(sql, args).await?;
        }
        let rows = connection.fetch(RUNNING_OF, args![&self.instance]).await?;
        let running = rows.iter().map(|row| row.read(row::running)).collect::<Result<_, _>>()?;
        Ok(Checkpointed { alive: true, running })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use private_chat_core::change::Instance;
    use private_chat_core::model::idempotency::KeyHash;
    use uuid::Uuid;

    #[test]
    fn rows_are_locked_parents_first_and_one_row_in_the_order_given() {
        let id = |n| Uuid::from_u128(n);
        let expect = |key| Change::Expect(key, Version::FIRST);
        let changes = [
            expect(Ref::RunningReply(id(1).into())),
            expect(Ref::Chat(id(9).into())),
            expect(Ref::Chat(id(2).into())),
            Change::Insert(Instance { id: id(3).into(), beat: 0, version: Version::FIRST }.into()),
            expect(Ref::Instance(id(3).into())),
            Change::Add { counter: Counter::Members(id(1).into()), delta: 1, ceiling: None },
            expect(Ref::Membership(id(1).into(), id(1).into())),
            expect(Ref::KeyedRequest(id(1).into(), KeyHash([0; 32]))),
            expect(Ref::Invitation(id(5).into())),
            expect(Ref::Invitation(id(4).into())),
            Change::Add { counter: Counter::Memberships(id(0).into()), delta: 1, ceiling: None },
        ];
        assert_eq!(lock_order(&changes), [3, 4, 6, 8, 9, 10, 5, 2, 1, 0, 7]);
    }
}
