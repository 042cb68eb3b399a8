//! What goes in the background, a little at a time: what is over, and what deleted chats and workspaces leave behind.
//!
//! Deleting a workspace takes away its members, closes its event log and marks its row, all in one unit, however large it is. What only a
//! member asks for stays where it is, so that no hot read has to look whether its workspace still stands, and goes when it is purged. Deleting a
//! chat takes away its running replies and marks its row, and its messages stay likewise.

use async_trait::async_trait;
use private_chat_core::change::EventNumber;
use private_chat_core::error::Failure;
use private_chat_core::id::{ChatId, WorkspaceId};
use private_chat_core::port::store::{LogBounds, Over};
use private_chat_core::time::Timestamp;
use sqlx::Error;
use uuid::Uuid;

use super::commit::{NO_EVENT, Refusal, Work};
use super::row;
use super::seam::{Arg, Connection, Row, args};
use super::search;

/// About how many rows one transaction removes.
pub(super) const BATCH: u64 = 1_000;
/// How many event logs one transaction looks at: nothing happens in their workspaces meanwhile.
const LOGS: u64 = 100;

/// Rows that are over by a time of theirs.
struct Ending {
    /// Takes a time and a number of rows, and gives keys.
    find: &'static str,
    /// How many columns the key has.
    key: usize,
    /// Takes a key and a time: what was found may have been moved to a later time since.
    delete: &'static str,
}

const SESSIONS: Ending = Ending {
    find: "SELECT s.id FROM sessions s WHERE s.expires_at < ? ORDER BY s.expires_at LIMIT ?",
    key: 1,
    delete: "DELETE FROM sessions WHERE id = ? AND expires_at < ?",
};

const INVITATIONS: Ending = Ending {
    find: "SELECT i.id FROM invitations i WHERE i.expires_at < ? ORDER BY i.expires_at LIMIT ?",
    key: 1,
    delete: "DELETE FROM invitations WHERE id = ? AND expires_at < ?",
};

const KEYED_REQUESTS: Ending = Ending {
    find: "SELECT k.user_id, k.key_hash FROM keyed_requests k WHERE k.created_at < ? ORDER BY k.created_at LIMIT ?",
    key: 2,
    delete: "DELETE FROM keyed_requests WHERE user_id = ? AND key_hash = ? AND created_at < ?",
};

#[async_trait]
impl Work for Over {
    type Made = u64;

    async fn perform(&self, connection: &mut Connection<'_>) -> Result<u64, Refusal> {
        let endings =
            [(SESSIONS, self.sessions), (INVITATIONS, self.invitations), (KEYED_REQUESTS, self.keyed_requests)];
        for (ending, before) in endings {
            let removed = ending.purge(connection, before).await?;
            if removed > 0 {
                return Ok(removed);
            }
        }
        let mut removed = purge_logs(connection, self.events).await?;
        if removed == 0 {
            removed = purge_deleted_chats(connection).await?;
        }
        if removed == 0 {
            removed = purge_workspace(connection).await?;
        }
        Ok(removed)
    }
}

impl Ending {
    async fn purge(&self, connection: &mut Connection<'_>, before: Timestamp) -> Result<u64, Refusal> {
        loop {
            let rows = connection.fetch(self.find, args![before, BATCH]).await?;
            let key = |row: &Row| row.read(|row| (0..self.key).map(|_| row.bytes()).collect());
            let mut keys = rows.iter().map(key).collect::<Result<Vec<Vec<Vec<u8>>>, _>>()?;
            // In one order, so that two who purge at once do not wait for each other in a ring.
            keys.sort_unstable();
            let mut removed = 0;
            for key in &keys {
                let args: Vec<_> = key.iter().map(|part| Arg::Bytes(part)).chain([before.into()]).collect();
                removed += connection.execute(self.delete, &args).await?;
            }
            // Where somebody else was faster with all of them, there may be more.
            if removed > 0 || keys.is_empty() {
                return Ok(removed);
            }
        }
    }
}

/// Removes some of the rows of a deleted workspace, its own at last.
async fn purge_workspace(connection: &mut Connection<'_>) -> Result<u64, Refusal> {
    let workspace: WorkspaceId = loop {
        let sql = "SELECT w.id FROM workspaces w WHERE w.deleted = 1 ORDER BY w.id LIMIT 1";
        let Some(row) = connection.fetch_one(sql, &[]).await? else { return Ok(0) };
        let workspace = row.columns().id()?;
        // Whoever else is at it is waited for, and may have been done with it.
        let sql = "UPDATE workspaces SET version = version WHERE id = ? AND deleted = 1";
        if connection.execute(sql, args![&workspace]).await? == 1 {
            break workspace;
        }
    };
    let mut removed = 0;
    while removed < BATCH {
        let sql = "SELECT c.id FROM chats c WHERE c.workspace_id = ? LIMIT ?";
        let chats = ids(&connection.fetch(sql, args![&workspace, BATCH]).await?)?;
        if chats.is_empty() {
            break;
        }
        removed += purge_chats(connection, chats, BATCH - removed).await?;
    }
    if removed < BATCH {
        let last = EVENTS.last(connection, Arg::from(&workspace), BATCH - removed).await?;
        removed += EVENTS.purge(connection, Arg::from(&workspace), last).await?;
    }
    if removed < BATCH {
        removed += connection.execute("DELETE FROM event_heads WHERE workspace_id = ?", args![&workspace]).await?;
        removed += connection.execute("DELETE FROM workspaces WHERE id = ?", args![&workspace]).await?;
    }
    Ok(removed)
}

pub(super) const DELETED_CHATS: &str = "SELECT c.id FROM chats c WHERE c.deleted = 1 ORDER BY c.id LIMIT ?";

/// Removes some of the rows of deleted chats.
async fn purge_deleted_chats(connection: &mut Connection<'_>) -> Result<u64, Refusal> {
    loop {
        let chats: Vec<ChatId> = ids(&connection.fetch(DELETED_CHATS, args![BATCH]).await?)?;
        let none = chats.is_empty();
        let removed = purge_chats(connection, chats, BATCH).await?;
        if removed > 0 || none {
            return Ok(removed);
        }
    }
}

/// Removes up to `most` rows of these chats, their own behind their messages.
async fn purge_chats(connection: &mut Connection<'_>, mut chats: Vec<ChatId>, most: u64) -> Result<u64, Refusal> {
    chats.sort_unstable();
    let mut removed = 0;
    for chat in &chats {
        if removed >= most {
            break;
        }
        // In one order, and the chat before its messages: two who purge at once wait for each other, and not in a ring.
        let sql = "UPDATE chats SET version = version WHERE id = ?";
        if connection.execute(sql, args![chat]).await? == 0 {
            continue;
        }
        let last = MESSAGES.last(connection, Arg::from(chat), most - removed).await?;
        search::forget(connection, *chat, last).await?;
        removed += MESSAGES.purge(connection, Arg::from(chat), last).await?;
        if removed < most {
            removed += connection.execute("DELETE FROM chats WHERE id = ?", args![chat]).await?;
        }
    }
    Ok(removed)
}

pub(super) const OLD_LOGS: &str =
    "SELECT h.workspace_id FROM event_heads h WHERE h.oldest_at < ? ORDER BY h.oldest_at LIMIT ?";

/// The first event behind those that are forgotten already that is to be kept: it is not in this batch, or not old. Whatever is behind it stays,
/// so that the log has no gaps.
pub(super) const FIRST_KEPT: &str = "SELECT e.number, e.happened_at FROM events e \
    WHERE e.workspace_id = ? AND e.number > ? AND (e.number > ? OR e.happened_at >= ?) ORDER BY e.number LIMIT 1";

/// Removes some of the events that happened before a time, from the front of their logs.
async fn purge_logs(connection: &mut Connection<'_>, before: Timestamp) -> Result<u64, Refusal> {
    loop {
        let mut logs: Vec<WorkspaceId> = ids(&connection.fetch(OLD_LOGS, args![before, LOGS]).await?)?;
        // As a unit of work locks them.
        logs.sort_unstable();
        let mut removed = 0;
        for log in &logs {
            if removed < BATCH {
                removed += purge_log(connection, log, before, BATCH - removed).await?;
            }
        }
        if removed > 0 || logs.is_empty() {
            return Ok(removed);
        }
    }
}

async fn purge_log(
    connection: &mut Connection<'_>,
    log: &WorkspaceId,
    before: Timestamp,
    most: u64,
) -> Result<u64, Refusal> {
    let sql = "UPDATE event_heads SET newest = newest WHERE workspace_id = ? AND oldest_at < ?";
    if connection.execute(sql, args![log, before]).await? == 0 {
        return Ok(0);
    }
    let sql = "SELECT h.newest, h.forgotten FROM event_heads h WHERE h.workspace_id = ?";
    let head = connection.fetch_one(sql, args![log]).await?.ok_or(Error::RowNotFound)?;
    let LogBounds { newest, forgotten } = head.read(row::log_bounds)?;
    let (last, oldest) = match connection.fetch_one(FIRST_KEPT, args![log, forgotten, forgotten + most, before]).await?
    {
        Some(row) => row.read(|row| Ok((row.count::<EventNumber>()? - 1, row.time()?)))?,
        None => (newest, NO_EVENT),
    };
    let removed = connection.execute(EVENTS.delete, args![log, last]).await?;
    let sql = "UPDATE event_heads SET forgotten = ?, oldest_at = ? WHERE workspace_id = ?";
    connection.execute(sql, args![last, oldest, log]).await?;
    Ok(removed)
}

/// The ids that are the only column of these rows.
fn ids<I: From<Uuid>>(rows: &[Row]) -> Result<Vec<I>, Failure> {
    rows.iter().map(|row| row.columns().id()).collect()
}

/// Rows of one owner that have numbers, and lie in their order.
struct Numbered {
    /// Takes the owner and how many rows to skip, and gives the number of the next one.
    skip: &'static str,
    /// Takes the owner and the number up to which rows go.
    delete: &'static str,
}

const MESSAGES: Numbered = Numbered {
    skip: "SELECT m.seq FROM messages m WHERE m.chat_id = ? ORDER BY m.seq LIMIT 1 OFFSET ?",
    delete: "DELETE FROM messages WHERE chat_id = ? AND seq <= ?",
};

const EVENTS: Numbered = Numbered {
    skip: "SELECT e.number FROM events e WHERE e.workspace_id = ? ORDER BY e.number LIMIT 1 OFFSET ?",
    delete: "DELETE FROM events WHERE workspace_id = ? AND number <= ?",
};

impl Numbered {
    /// The number of the last of up to `most` rows of the owner.
    async fn last(&self, connection: &mut Connection<'_>, owner: Arg<'_>, most: u64) -> Result<u64, Refusal> {
        let row = connection.fetch_one(self.skip, &[owner, Arg::from(most - 1)]).await?;
        Ok(row.map(|row| row.columns().count()).transpose()?.unwrap_or(i64::MAX.unsigned_abs()))
    }

    /// Removes the rows of the owner up to a number.
    async fn purge(&self, connection: &mut Connection<'_>, owner: Arg<'_>, last: u64) -> Result<u64, Refusal> {
        Ok(connection.execute(self.delete, &[owner, Arg::from(last)]).await?)
    }
}
