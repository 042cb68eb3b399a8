//! The database, by what is asked of it.

use async_trait::async_trait;

use super::Result;
use crate::change::{Changes, Checkpoint, Checkpointed, Committed, EventNumber, Instance, LoggedEvent, Version};
use crate::id::{ChatId, InstanceId, InvitationId, MessageId, SessionId, UserId, WorkspaceId};
use crate::model::chat::{Audience, Chat, Message, RunningReply, Seq};
use crate::model::idempotency::{KeyHash, KeyedRequest};
use crate::model::installation::Installation;
use crate::model::invitation::Invited;
use crate::model::search::Query;
use crate::model::session::Session;
use crate::model::user::{Email, GlobalRole, User};
use crate::model::workspace::{Joined, Membership, Participant};
use crate::page::{ActivityKey, Limit, Page, PageRequest};
use crate::time::Timestamp;

/// Which users are asked for; what is none does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// What the email or the name contains, both [folded](crate::model::text::folded), as this is.
    pub query: Option<String>,
    /// Those of this role.
    pub role: Option<GlobalRole>,
    /// Those who may sign in, or those who may not.
    pub is_active: Option<bool>,
}

/// Users, and the installation they belong to.
///
/// # Contract
/// - finds a user by id and by email
/// - compares emails byte by byte
/// - lists users newest first without repeats
/// - finds users by a part of their email or folded name, taken literally
/// - tells whether there is another active administrator
/// - finds a keyed request of its own user only
/// - finds the installation once it is set up
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait UserRepository: Send + Sync {
    /// The user of this id.
    async fn user(&self, id: UserId) -> Result<Option<User>>;

    /// The user of this address. Addresses are canonical already: they are compared byte by byte.
    async fn user_by_email(&self, email: &Email) -> Result<Option<User>>;

    /// The users of a filter, newest first.
    async fn users(&self, filter: UserFilter, page: PageRequest<UserId>) -> Result<Page<User, UserId>>;

    /// Whether somebody else is an administrator who may sign in.
    async fn another_admin(&self, besides: UserId) -> Result<bool>;

    /// What this user's request of this key made.
    async fn keyed_request(&self, user: UserId, key: KeyHash) -> Result<Option<KeyedRequest>>;

    /// The installation, once it is set up.
    async fn installation(&self) -> Result<Option<Installation>>;
}

/// Who asks, and what they ask for, as a request begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The session.
    pub session: Session,
    /// Whose it is.
    pub user: User,
    /// The workspace as they see it; none where they are no member.
    pub joined: Option<Joined>,
    /// The chat of this workspace, whoever of its members may see it.
    pub chat: Option<Chat>,
}

/// Sessions.
///
/// # Contract
/// - finds a session together with its user
/// - finds a session together with what its user asks for
/// - tells which of many sessions stand
/// - lists the sessions of a user that stand, newest first
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait SessionRepository: Send + Sync {
    /// The session of this id and its user, in one look-up by key.
    async fn session(&self, id: SessionId) -> Result<Option<(Session, User)>>;

    /// The session of this id with its user, the workspace as they see it, and one chat of it: all at once, as nearly every request begins with
    /// it. What is not theirs is none.
    async fn arrival(
        &self,
        session: SessionId,
        workspace: WorkspaceId,
        chat: Option<ChatId>,
    ) -> Result<Option<Arrival>>;

    /// Those of these sessions that exist, with their users, in any order; for checking many open streams at once.
    async fn sessions(&self, ids: &[SessionId]) -> Result<Vec<(Session, User)>>;

    /// Those sessions of a user that stand at `now`: of this epoch, not ended, not expired; newest first.
    async fn sessions_of(
        &self,
        user: UserId,
        epoch: u64,
        now: Timestamp,
        page: PageRequest<SessionId>,
    ) -> Result<Page<Session, SessionId>>;
}

/// Workspaces, their members, and those who are invited.
///
/// # Contract
/// - finds a workspace for its members only
/// - lists the workspaces of a user newest first without repeats
/// - tells which of many memberships stand
/// - lists the members of a workspace by their ids without repeats
/// - tells whether a workspace has another owner
/// - finds an invitation by id and by workspace and email
/// - lists the invitations of a workspace and of an email that stand, newest first
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait WorkspaceRepository: Send + Sync {
    /// The workspace as this user sees it; none where they are no member.
    async fn joined(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Joined>>;

    /// The user's membership alone.
    async fn membership(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Membership>>;

    /// Those of these memberships that exist, in any order; for checking many open streams at once.
    async fn memberships(&self, of: &[(WorkspaceId, UserId)]) -> Result<Vec<Membership>>;

    /// The workspaces that the user is a member of, newest first.
    async fn workspaces_of(&self, user: UserId, page: PageRequest<WorkspaceId>) -> Result<Page<Joined, WorkspaceId>>;

    /// A member as the other members see them.
    async fn participant(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Participant>>;

    /// The members of a workspace, in the order of their ids, which is the order in which their accounts were made.
    async fn participants(
        &self,
        workspace: WorkspaceId,
        page: PageRequest<UserId>,
    ) -> Result<Page<Participant, UserId>>;

    /// Whether somebody else is an OWNER of the workspace.
    async fn another_owner(&self, workspace: WorkspaceId, besides: UserId) -> Result<bool>;

    /// The invitation of this id, whether it stands or has expired.
    async fn invitation(&self, id: InvitationId) -> Result<Option<Invited>>;

    /// The invitation of this address into this workspace, whether it stands or has expired.
    async fn invitation_to(&self, workspace: WorkspaceId, email: &Email) -> Result<Option<Invited>>;

    /// The invitations into a workspace that stand at `now`, newest first.
    async fn invitations_into(
        &self,
        workspace: WorkspaceId,
        now: Timestamp,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>>;

    /// The invitations of an address that stand at `now`, newest first.
    async fn invitations_of(
        &self,
        email: &Email,
        now: Timestamp,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>>;
}

/// Which chats of a workspace are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatFilter {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Who asks: private chats of others are left out.
    pub viewer: UserId,
    /// Those put away, or those not.
    pub archived: bool,
    /// Only those that the viewer made.
    pub mine: bool,
    /// Only those of which the title, or one final message, has [all these terms](crate::model::search).
    pub query: Option<Query>,
}

/// The way through a chat's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

/// Chats and messages.
///
/// # Contract
/// - finds a chat in its own workspace only
/// - lists chats most recently active first without repeats
/// - hides private chats from everybody but their creator
/// - tells who may see which of many chats
/// - finds chats by the words of their title and of their final messages
/// - finds a chat only where one text has all the words
/// - finds words in any language whatever their case and accents
/// - finds only what the viewer may see
/// - pages through what is found most recently active first without repeats
/// - finds a chat no longer by what its title was
/// - finds nothing of deleted chats and workspaces
/// - pages messages by number in both orders
/// - finds a message in its own chat only
/// - returns text byte for byte
/// - shows the authors' present names
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ChatRepository: Send + Sync {
    /// The chat of this id in this workspace, whoever may see it.
    async fn chat(&self, workspace: WorkspaceId, id: ChatId) -> Result<Option<Chat>>;

    /// Chats, most recently active first. Where words are searched, a page may have fewer items than it could and yet a next one: so much is
    /// looked at for one page, and no more.
    async fn chats(&self, filter: ChatFilter, page: PageRequest<ActivityKey>) -> Result<Page<Chat, ActivityKey>>;

    /// Who may see these chats of their workspaces, in any order, and in which version of the chat; for checking many open streams at once. Chats
    /// that are gone are left out.
    async fn audiences(&self, of: &[(WorkspaceId, ChatId)]) -> Result<Vec<(ChatId, Version, Audience)>>;

    /// The message of this id in this chat.
    async fn message(&self, chat: ChatId, id: MessageId) -> Result<Option<Message>>;

    /// Messages of all branches by their number: after it in ascending order, before it in descending order.
    async fn messages(&self, chat: ChatId, order: Order, page: PageRequest<Seq>) -> Result<Page<Message, Seq>>;
}

/// Which part of a workspace's event log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// The number of the newest event that there was; zero before the first.
    pub newest: EventNumber,
    /// The number of the newest event that is no longer kept; zero while all are.
    pub forgotten: EventNumber,
}

/// What happens now: the event log, the running replies, the processes.
///
/// # Contract
/// - numbers the events of a workspace from one without gaps
/// - reads the log after a number in order
/// - tells the bounds of the log
/// - lists the running replies of a workspace and of an instance
/// - lists the running replies of processes that are gone
/// - lists the processes with their beats
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ReplyRepository: Send + Sync {
    /// The events after this number, in order, up to a limit.
    async fn events(&self, workspace: WorkspaceId, after: EventNumber, limit: Limit) -> Result<Vec<LoggedEvent>>;

    /// Which part of the log is kept.
    async fn log_bounds(&self, workspace: WorkspaceId) -> Result<LogBounds>;

    /// The replies that run in a workspace, each with its message as last stored.
    async fn running_in(&self, workspace: WorkspaceId) -> Result<Vec<(RunningReply, Message)>>;

    /// The replies that run in the name of a process; without one, in the name of processes that are not listed any more.
    async fn running_of(&self, instance: Option<InstanceId>) -> Result<Vec<RunningReply>>;

    /// The running reply of this message.
    async fn running(&self, message: MessageId) -> Result<Option<RunningReply>>;

    /// The processes, with their last beats.
    async fn instances(&self) -> Result<Vec<Instance>>;
}

/// What is over: sessions, invitations, keyed requests and events that end, were made, or happened before these times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Sessions that expired before this time.
    pub sessions: Timestamp,
    /// Invitations that expired before this time.
    pub invitations: Timestamp,
    /// Keyed requests that were made before this time.
    pub keyed_requests: Timestamp,
    /// Events that happened before this time. They go from the front of their workspace's log, whose bounds tell up to where.
    pub events: Timestamp,
}

/// The one way to write.
///
/// # Contract
/// - writes all changes or none
/// - names the change that conflicts
/// - keeps every field of a row as it was last written
/// - refuses a stale version
/// - lets exactly one of many racing writers win a version
/// - refuses a duplicate key and a duplicate email
/// - refuses a row whose parent is gone
/// - expects without writing
/// - deletes what belongs to a deleted row
/// - leaves nothing of a deleted chat within reach
/// - leaves nothing of a deleted workspace within reach
/// - purges what is over and what nobody can reach, and nothing else
/// - forgets old events from the front of their log and tells up to where
/// - appends messages in one sequence however many write
/// - gives an appended message the last one as its parent
/// - begins a branch where an appended message is to follow nothing
/// - refuses a parent of another chat
/// - caps the replies that run of a user and in a workspace however many begin
/// - frees a running reply's place whichever way it goes
/// - moves the activity of a chat with its messages
/// - keeps what append moves when a chat is updated
/// - adds up to a ceiling however many write
/// - numbers events in the order of their commits
/// - numbers the events of several workspaces in one unit
/// - is not undone by a caller that goes away
/// - retries deadlocks and lock timeouts by itself
/// - checkpoints only replies that still run
/// - never lets a checkpoint change an ended reply
/// - tells an instance that was declared dead
/// - keeps a stop request until the reply ends
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait UnitOfWork: Send + Sync {
    /// Writes all of it, durably, or nothing. An answer of `Ok` outlives the loss of power.
    ///
    /// # Errors
    /// `Conflict` with the place of the change; `Unavailable` when the database is away or too busy for too long.
    async fn commit(&self, changes: Changes) -> Result<Committed>;

    /// Moves the beat of a process and stores the text so far of its replies, where they still run.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Checkpointed>;

    /// Removes some of what is over and of what was left by deleted chats and workspaces: so little at once that nobody else waits for long.
    /// Says how many rows went; none when nothing is left to be removed.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn purge(&self, over: Over) -> Result<u64>;

    /// Makes some of what was stored by versions of the program that knew no search ready to be found, a little at once. Says how many texts; none
    /// when all are. What is committed now is found at once, and needs none of this.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn index_backlog(&self) -> Result<u64>;

    /// Brings the database to the schema that this program needs, under a lock that other processes respect. Changes nothing where that is
    /// done already.
    ///
    /// # Errors
    /// `Unavailable` when the database is away; `Corrupt` when its schema is newer than this program, or was tampered with.
    async fn prepare(&self) -> Result<()>;

    /// Returns when the database answers and has the schema that this program needs. Changes nothing, also where [`prepare`](Self::prepare) was
    /// never called.
    ///
    /// # Errors
    /// `Unavailable` when it does not; `Corrupt` when its schema is found to be newer than this program, or tampered with.
    async fn ping(&self) -> Result<()>;
}

/// A whole database. `Arc<dyn Store>` coerces to each of its ports.
pub trait Store:
    UserRepository + SessionRepository + WorkspaceRepository + ChatRepository + ReplyRepository + UnitOfWork
{
}

impl<T> Store for T where
    T: UserRepository + SessionRepository + WorkspaceRepository + ChatRepository + ReplyRepository + UnitOfWork
{
}
