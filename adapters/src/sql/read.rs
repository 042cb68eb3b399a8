//! What is asked of the database: every statement that reads, in the order of the ports.

use std::cmp::Reverse;
use std::sync::LazyLock;

use async_trait::async_trait;
use private_chat_core::change::{EventNumber, Instance, LoggedEvent, Version};
use private_chat_core::id::{ChatId, InstanceId, InvitationId, MessageId, SessionId, UserId, WorkspaceId};
use private_chat_core::model::chat::{Audience, Chat, Message, RunningReply, Seq};
use private_chat_core::model::idempotency::{KeyHash, KeyedRequest};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::invitation::Invited;
use private_chat_core::model::session::Session;
use private_chat_core::model::user::{Email, GlobalRole, User};
use private_chat_core::model::workspace::{Joined, Membership, Participant, Role};
use private_chat_core::page::{ActivityKey, Limit, Page, PageRequest};
use private_chat_core::port::Result;
use private_chat_core::port::store::{
    Arrival, ChatFilter, ChatRepository, LogBounds, Order, ReplyRepository, SessionRepository, UserFilter,
    UserRepository, WorkspaceRepository,
};
use private_chat_core::time::Timestamp;
use uuid::Uuid;

use super::SqlStore;
use super::code::{Code as _, MEMBERS};
use super::row;
use super::row::{
    audience_columns, chat_columns, event_columns, installation_columns, invited_columns, joined_columns,
    keyed_request_columns, membership_columns, message_columns, participant_columns, running_columns, session_columns,
    user_columns,
};
use super::seam::{Arg, args};
use super::search;

/// Before every first page: the keys that all rows come after, so that first and later pages are one statement.
pub(super) const NEWEST: ActivityKey = ActivityKey { at: Timestamp::from_micros(i64::MAX), id: Uuid::max() };

/// Goes behind a table: MySQL is to go through this index, which has the rows of one owner in the list's order. Where it thinks that much of the
/// table is theirs, it would read the table instead, or sort. SQLite takes it for a comment, and needs no word.
macro_rules! through {
    ($index:literal) => {
        concat!("/*! FORCE INDEX (", $index, ") */")
    };
}
pub(super) use through;

/// That a chat is not deleted: its messages are there still. Looked at once for all of a page.
macro_rules! stands {
    () => {
        "(SELECT c.deleted FROM chats c WHERE c.id = ?) = 0"
    };
}

/// How many keys one statement of a bulk look-up takes. The rest of the last one is filled up, so that there is one statement to prepare.
const BULK: usize = 32;

fn bulk(statement: &str, each: &str, between: &str) -> String {
    format!("{statement}{}", vec![each; BULK].join(between))
}

#[async_trait]
impl UserRepository for SqlStore {
    async fn user(&self, id: UserId) -> Result<Option<User>> {
        let sql = concat!("SELECT ", user_columns!(), " FROM users u WHERE u.id = ?");
        self.database()?.first(sql, args![&id], row::user).await
    }

    async fn user_by_email(&self, email: &Email) -> Result<Option<User>> {
        let sql = concat!("SELECT ", user_columns!(), " FROM users u WHERE u.email = ?");
        self.database()?.first(sql, args![email.as_str()], row::user).await
    }

    async fn users(&self, filter: UserFilter, page: PageRequest<UserId>) -> Result<Page<User, UserId>> {
        let UserFilter { query, role, is_active } = &filter;
        if query.as_ref().is_some_and(|query| query.contains('\n')) {
            // Nobody's, and it would reach from the email into the name.
            return Ok(Page { items: Vec::new(), next: None });
        }
        let role = role.map(GlobalRole::code);
        let after = page.after.unwrap_or_else(|| UserId::from(NEWEST.id));
        let args = args![&after, role, role, *is_active, *is_active, query, query, page.limit.overfetch()];
        let found = self.database()?.all(USERS, args, row::user).await?;
        Ok(Page::from_overfetched(found, page.limit, |user| user.id))
    }

    async fn another_admin(&self, besides: UserId) -> Result<bool> {
        let args = args![GlobalRole::Admin.code(), &besides];
        Ok(self.database()?.first(ANOTHER_ADMIN, args, row::number).await?.is_some())
    }

    async fn keyed_request(&self, user: UserId, key: KeyHash) -> Result<Option<KeyedRequest>> {
        let sql = concat!(
            "SELECT ",
            keyed_request_columns!(),
            " FROM keyed_requests k WHERE k.user_id = ? AND k.key_hash = ?"
        );
        self.database()?.first(sql, args![&user, &key.0], row::keyed_request).await
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        let sql = concat!("SELECT ", installation_columns!(), " FROM installation WHERE id = 1");
        self.database()?.first(sql, &[], row::installation).await
    }
}

/// A filter that is null does not matter.
pub(super) const USERS: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u \
     WHERE u.id < ? AND (? IS NULL OR u.role = ?) AND (? IS NULL OR u.is_active = ?) \
     AND (? IS NULL OR INSTR(u.folded, ?) > 0) ORDER BY u.id DESC LIMIT ?"
);

pub(super) const ANOTHER_ADMIN: &str =
    "SELECT 1 FROM users u WHERE u.role = ? AND u.is_active = 1 AND u.id <> ? LIMIT 1";

#[async_trait]
impl SessionRepository for SqlStore {
    async fn session(&self, id: SessionId) -> Result<Option<(Session, User)>> {
        let sql = concat!(
            "SELECT ",
            session_columns!(),
            ", ",
            user_columns!(),
            " FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ?"
        );
        self.database()?.first(sql, args![&id], row::session_of_user).await
    }

    async fn arrival(
        &self,
        session: SessionId,
        workspace: WorkspaceId,
        chat: Option<ChatId>,
    ) -> Result<Option<Arrival>> {
        let database = self.database()?;
        match chat {
            None => database.first(ARRIVAL, args![MEMBERS, &workspace, &session], row::arrival).await,
            Some(chat) => {
                let args = args![MEMBERS, &workspace, &chat, &session];
                database.first(ARRIVAL_AT_CHAT, args, row::arrival_at_chat).await
            }
        }
    }

    async fn sessions(&self, ids: &[SessionId]) -> Result<Vec<(Session, User)>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let head = concat!(
                "SELECT ",
                session_columns!(),
                ", ",
                user_columns!(),
                " FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id IN ("
            );
            bulk(head, "?", ", ") + ")"
        });
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(BULK) {
            let keys: Vec<_> = filled(some).map(Arg::from).collect();
            found.extend(self.database()?.all(&SQL, &keys, row::session_of_user).await?);
        }
        Ok(found)
    }

    async fn sessions_of(
        &self,
        user: UserId,
        epoch: u64,
        now: Timestamp,
        page: PageRequest<SessionId>,
    ) -> Result<Page<Session, SessionId>> {
        let after = page.after.unwrap_or_else(|| SessionId::from(NEWEST.id));
        let args = args![&user, &after, epoch, now, page.limit.overfetch()];
        let found = self.database()?.all(SESSIONS_OF, args, row::session).await?;
        Ok(Page::from_overfetched(found, page.limit, |session| session.id))
    }
}

pub(super) const SESSIONS_OF: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions s ",
    through!("sessions_of_user"),
    " WHERE s.user_id = ? AND s.id < ? AND s.epoch = ? AND s.ended = 0 AND s.expires_at > ? ORDER BY s.id DESC LIMIT ?"
);

macro_rules! arrival {
    ($columns:expr, $chat:expr) => {
        concat!(
            "SELECT ",
            session_columns!(),
            ", ",
            user_columns!(),
            ", ",
            joined_columns!(),
            $columns,
            " FROM sessions s JOIN users u ON u.id = s.user_id \
             LEFT JOIN memberships m ON m.workspace_id = ? AND m.user_id = s.user_id \
             LEFT JOIN workspaces w ON w.id = m.workspace_id",
            $chat,
            " WHERE s.id = ?"
        )
    };
}

const ARRIVAL: &str = arrival!("", "");

const ARRIVAL_AT_CHAT: &str = arrival!(
    concat!(", ", chat_columns!()),
    " LEFT JOIN chats c ON c.id = ? AND c.workspace_id = m.workspace_id AND c.deleted = 0"
);

/// The keys of one bulk look-up, its last one repeated until it is full.
fn filled<T>(some: &[T]) -> impl Iterator<Item = &T> {
    some.iter().chain(some.last().into_iter().cycle()).take(BULK)
}

#[async_trait]
impl WorkspaceRepository for SqlStore {
    async fn joined(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Joined>> {
        let sql = concat!(
            "SELECT ",
            joined_columns!(),
            " FROM memberships m JOIN workspaces w ON w.id = m.workspace_id \
             WHERE m.workspace_id = ? AND m.user_id = ?"
        );
        self.database()?.first(sql, args![MEMBERS, &workspace, &user], row::joined).await
    }

    async fn membership(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Membership>> {
        let sql =
            concat!("SELECT ", membership_columns!(), " FROM memberships m WHERE m.workspace_id = ? AND m.user_id = ?");
        self.database()?.first(sql, args![&workspace, &user], row::membership).await
    }

    async fn memberships(&self, of: &[(WorkspaceId, UserId)]) -> Result<Vec<Membership>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let head = concat!("SELECT ", membership_columns!(), " FROM memberships m WHERE ");
            bulk(head, "(m.workspace_id = ? AND m.user_id = ?)", " OR ")
        });
        let mut found = Vec::with_capacity(of.len());
        for some in of.chunks(BULK) {
            let keys: Vec<_> =
                filled(some).flat_map(|(workspace, user)| [Arg::from(workspace), Arg::from(user)]).collect();
            found.extend(self.database()?.all(&SQL, &keys, row::membership).await?);
        }
        Ok(found)
    }

    async fn workspaces_of(&self, user: UserId, page: PageRequest<WorkspaceId>) -> Result<Page<Joined, WorkspaceId>> {
        let after = page.after.unwrap_or_else(|| WorkspaceId::from(NEWEST.id));
        let found = self
            .database()?
            .all(WORKSPACES_OF, args![MEMBERS, &user, &after, page.limit.overfetch(), &user], row::joined)
            .await?;
        Ok(Page::from_overfetched(found, page.limit, |joined| joined.workspace.id))
    }

    async fn participant(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Participant>> {
        let sql = concat!(
            "SELECT ",
            participant_columns!(),
            " FROM memberships m WHERE m.workspace_id = ? AND m.user_id = ?"
        );
        self.database()?.first(sql, args![&workspace, &user], row::participant).await
    }

    async fn participants(
        &self,
        workspace: WorkspaceId,
        page: PageRequest<UserId>,
    ) -> Result<Page<Participant, UserId>> {
        let after = page.after.unwrap_or_else(|| UserId::from(Uuid::nil()));
        let args = args![&workspace, &after, page.limit.overfetch()];
        let found = self.database()?.all(PARTICIPANTS, args, row::participant).await?;
        Ok(Page::from_overfetched(found, page.limit, |participant| participant.membership.user))
    }

    async fn another_owner(&self, workspace: WorkspaceId, besides: UserId) -> Result<bool> {
        let args = args![&workspace, Role::Owner.code(), &besides];
        Ok(self.database()?.first(ANOTHER_OWNER, args, row::number).await?.is_some())
    }

    async fn invitation(&self, id: InvitationId) -> Result<Option<Invited>> {
        let sql = concat!("SELECT ", invited_columns!(), " FROM invitations i WHERE i.id = ?");
        self.database()?.first(sql, args![&id], row::invited).await
    }

    async fn invitation_to(&self, workspace: WorkspaceId, email: &Email) -> Result<Option<Invited>> {
        let sql =
            concat!("SELECT ", invited_columns!(), " FROM invitations i WHERE i.workspace_id = ? AND i.email = ?");
        self.database()?.first(sql, args![&workspace, email.as_str()], row::invited).await
    }

    async fn invitations_into(
        &self,
        workspace: WorkspaceId,
        now: Timestamp,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>> {
        let after = page.after.unwrap_or_else(|| InvitationId::from(NEWEST.id));
        let args = args![&workspace, &after, now, page.limit.overfetch()];
        let found = self.database()?.all(INVITATIONS_INTO, args, row::invited).await?;
        Ok(Page::from_overfetched(found, page.limit, |invited| invited.invitation.id))
    }

    async fn invitations_of(
        &self,
        email: &Email,
        now: Timestamp,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>> {
        let after = page.after.unwrap_or_else(|| InvitationId::from(NEWEST.id));
        let args = args![email.as_str(), &after, now, page.limit.overfetch()];
        let found = self.database()?.all(INVITATIONS_OF, args, row::invited).await?;
        Ok(Page::from_overfetched(found, page.limit, |invited| invited.invitation.id))
    }
}

// The keys first, from the index alone: MySQL reads far more rows of a range ahead than are asked for, and each row of the table apart.
pub(super) const WORKSPACES_OF: &str = concat!(
    "SELECT ",
    joined_columns!(),
    " FROM (SELECT p.workspace_id FROM memberships p ",
    through!("memberships_of_user"),
    " WHERE p.user_id = ? AND p.workspace_id < ? ORDER BY p.workspace_id DESC LIMIT ?) k \
     JOIN memberships m ON m.workspace_id = k.workspace_id AND m.user_id = ? \
     JOIN workspaces w ON w.id = k.workspace_id ORDER BY k.workspace_id DESC"
);

pub(super) const PARTICIPANTS: &str = concat!(
    "SELECT ",
    participant_columns!(),
    " FROM memberships m WHERE m.workspace_id = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?"
);

pub(super) const ANOTHER_OWNER: &str =
    "SELECT 1 FROM memberships m WHERE m.workspace_id = ? AND m.role = ? AND m.user_id <> ? LIMIT 1";

pub(super) const INVITATIONS_INTO: &str = concat!(
    "SELECT ",
    invited_columns!(),
    " FROM invitations i ",
    through!("invitations_into_workspace"),
    " WHERE i.workspace_id = ? AND i.id < ? AND i.expires_at > ? ORDER BY i.id DESC LIMIT ?"
);

pub(super) const INVITATIONS_OF: &str = concat!(
    "SELECT ",
    invited_columns!(),
    " FROM invitations i ",
    through!("invitations_of_email"),
    " WHERE i.email = ? AND i.id < ? AND i.expires_at > ? ORDER BY i.id DESC LIMIT ?"
);

#[async_trait]
impl ChatRepository for SqlStore {
    async fn chat(&self, workspace: WorkspaceId, id: ChatId) -> Result<Option<Chat>> {
        let sql = concat!(
            "SELECT ",
            chat_columns!(),
            " FROM chats c WHERE c.id = ? AND c.workspace_id = ? AND c.deleted = 0"
        );
        self.database()?.first(sql, args![&id, &workspace], row::chat).await
    }

    async fn chats(&self, filter: ChatFilter, page: PageRequest<ActivityKey>) -> Result<Page<Chat, ActivityKey>> {
        if let Some(query) = &filter.query {
            return search::chats(self.database()?, &filter, query, page).await;
        }
        let sql = if filter.mine { CHATS_OF } else { CHATS_SEEN_BY };
        let args = chat_keys(&filter, page.after.as_ref().unwrap_or(&NEWEST), page.limit.overfetch());
        let mut found = self.database()?.all(sql, &args, row::chat).await?;
        // The statement says which, in any order: a database would carry every column through its sorter.
        found.sort_unstable_by_key(|chat| Reverse(chat.activity()));
        Ok(Page::from_overfetched(found, page.limit, Chat::activity))
    }

    async fn audiences(&self, of: &[(WorkspaceId, ChatId)]) -> Result<Vec<(ChatId, Version, Audience)>> {
        let mut found = Vec::with_capacity(of.len());
        for some in of.chunks(BULK) {
            let keys: Vec<_> = filled(some).map(|(_, chat)| Arg::from(chat)).collect();
            let audiences = self.database()?.all(&AUDIENCES, &keys, row::audience).await?;
            found.extend(audiences.into_iter().filter(|(workspace, (chat, ..))| some.contains(&(*workspace, *chat))));
        }
        Ok(found.into_iter().map(|(_, audience)| audience).collect())
    }

    async fn message(&self, chat: ChatId, id: MessageId) -> Result<Option<Message>> {
        let sql =
            concat!("SELECT ", message_columns!(), " FROM messages m WHERE m.id = ? AND m.chat_id = ? AND ", stands!());
        self.database()?.first(sql, args![&id, &chat, &chat], row::message).await
    }

    async fn messages(&self, chat: ChatId, order: Order, page: PageRequest<Seq>) -> Result<Page<Message, Seq>> {
        let (sql, from) = match order {
            Order::Ascending => (MESSAGES_UP, 0),
            Order::Descending => (MESSAGES_DOWN, Seq::MAX),
        };
        let after = page.after.unwrap_or(from);
        let found = self.database()?.all(sql, args![&chat, after, &chat, page.limit.overfetch()], row::message).await?;
        Ok(Page::from_overfetched(found, page.limit, |message| message.seq))
    }
}

/// Whose list those chats are in that every member may see.
pub(super) const EVERYBODY: [u8; 16] = [0; 16];

/// The keys of one range of chats, from the index alone: see [`WORKSPACES_OF`]. The first comparison of active_at alone is what both databases
/// find the start of the range by.
macro_rules! keys_of_chats {
    ($index:literal, $whose:literal) => {
        concat!(
            "SELECT p.active_at, p.id FROM chats p ",
            through!($index),
            " WHERE p.workspace_id = ? AND p.archived = ? AND ",
            $whose,
            " AND p.active_at <= ? AND (p.active_at < ? OR p.id < ?) ORDER BY p.active_at DESC, p.id DESC LIMIT ?"
        )
    };
}
pub(super) use keys_of_chats;

/// The keys of the chats that the viewer made, who is looked up, because whoever's account is gone has made no chat any more.
macro_rules! own_chat_keys {
    () => {
        keys_of_chats!("chats_by_creator", "p.created_by = (SELECT u.id FROM users u WHERE u.id = ?)")
    };
}
pub(super) use own_chat_keys;

/// The keys of the chats that the viewer sees. Two ranges, of which the newest keys of both are taken: one that both are in would be as long as there
/// are private chats of others.
macro_rules! seen_chat_keys {
    () => {
        concat!(
            "SELECT a.active_at, a.id FROM (",
            keys_of_chats!("chats_by_activity", "p.seen_by = ?"),
            ") a UNION ALL SELECT b.active_at, b.id FROM (",
            keys_of_chats!("chats_by_activity", "p.seen_by = (SELECT u.id FROM users u WHERE u.id = ?)"),
            ") b ORDER BY 1 DESC, 2 DESC LIMIT ?"
        )
    };
}
pub(super) use seen_chat_keys;

/// The arguments for the keys of `most` chats: those of `own_chat_keys` where only the viewer's are asked for, else those of `seen_chat_keys`.
pub(super) fn chat_keys<'a>(filter: &'a ChatFilter, after: &'a ActivityKey, most: i64) -> Vec<Arg<'a>> {
    let ChatFilter { workspace, viewer, archived, mine, .. } = filter;
    let own = args![workspace, *archived, viewer, after.at, after.at, &after.id, most];
    if *mine {
        return own.to_vec();
    }
    let everybodys = args![workspace, *archived, &EVERYBODY, after.at, after.at, &after.id, most];
    [everybodys.as_slice(), own, args![most]].concat()
}

pub(super) const CHATS_OF: &str =
    concat!("SELECT ", chat_columns!(), " FROM (", own_chat_keys!(), ") k JOIN chats c ON c.id = k.id");

pub(super) const CHATS_SEEN_BY: &str =
    concat!("SELECT ", chat_columns!(), " FROM (", seen_chat_keys!(), ") k JOIN chats c ON c.id = k.id");

pub(super) static AUDIENCES: LazyLock<String> = LazyLock::new(|| {
    bulk(concat!("SELECT ", audience_columns!(), " FROM chats c WHERE c.deleted = 0 AND c.id IN ("), "?", ", ") + ")"
});

pub(super) const MESSAGES_UP: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages m \
     WHERE m.chat_id = ? AND m.seq > ? AND ",
    stands!(),
    " ORDER BY m.seq ASC LIMIT ?"
);

pub(super) const MESSAGES_DOWN: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages m \
     WHERE m.chat_id = ? AND m.seq < ? AND ",
    stands!(),
    " ORDER BY m.seq DESC LIMIT ?"
);

/// The replies that run in the name of a process; also what a checkpoint answers.
pub(super) const RUNNING_OF: &str =
    concat!("SELECT ", running_columns!(), " FROM running_replies r WHERE r.instance_id = ? ORDER BY r.message_id");

#[async_trait]
impl ReplyRepository for SqlStore {
    async fn events(&self, workspace: WorkspaceId, after: EventNumber, limit: Limit) -> Result<Vec<LoggedEvent>> {
        let sql = concat!(
            "SELECT ",
            event_columns!(),
            " FROM events e WHERE e.workspace_id = ? AND e.number > ? ORDER BY e.number LIMIT ?"
        );
        let args = args![&workspace, after, limit.overfetch() - 1];
        self.database()?.all(sql, args, row::event).await
    }

    async fn log_bounds(&self, workspace: WorkspaceId) -> Result<LogBounds> {
        let sql = "SELECT h.newest, h.forgotten FROM event_heads h WHERE h.workspace_id = ? AND h.closed = 0";
        Ok(self.database()?.first(sql, args![&workspace], row::log_bounds).await?.unwrap_or_default())
    }

    async fn running_in(&self, workspace: WorkspaceId) -> Result<Vec<(RunningReply, Message)>> {
        let sql = concat!(
            "SELECT ",
            running_columns!(),
            ", ",
            message_columns!(),
            " FROM running_replies r JOIN messages m ON m.chat_id = r.chat_id AND m.seq = r.seq \
             WHERE r.workspace_id = ? ORDER BY r.message_id"
        );
        self.database()?.all(sql, args![&workspace], row::running_message).await
    }

    async fn running_of(&self, instance: Option<InstanceId>) -> Result<Vec<RunningReply>> {
        let Some(instance) = instance else {
            let sql = concat!(
                "SELECT ",
                running_columns!(),
                " FROM running_replies r LEFT JOIN instances i ON i.id = r.instance_id WHERE i.id IS NULL ORDER BY r.message_id"
            );
            return self.database()?.all(sql, &[], row::running).await;
        };
        self.database()?.all(RUNNING_OF, args![&instance], row::running).await
    }

    async fn running(&self, message: MessageId) -> Result<Option<RunningReply>> {
        let sql = concat!("SELECT ", running_columns!(), " FROM running_replies r WHERE r.message_id = ?");
        self.database()?.first(sql, args![&message], row::running).await
    }

    async fn instances(&self) -> Result<Vec<Instance>> {
        self.database()?.all("SELECT i.id, i.beat, i.version FROM instances i ORDER BY i.id", &[], row::instance).await
    }
}
