//! The unit of work as a value: a use case hands over everything it wants written, once.
//!
//! Guarded changes (`Insert`, `Update`, `Delete`, `Expect`) touch exactly one row or the whole unit is refused. Unguarded ones (`Append`, `Add`)
//! are for what many write at once, so that innocent senders never get a conflict.

use crate::id::{ChatId, InstanceId, InvitationId, MessageId, SessionId, UserId, WorkspaceId};
use crate::model::chat::{Chat, Message, RunningReply, Seq};
use crate::model::idempotency::{KeyHash, KeyedRequest};
use crate::model::installation::Installation;
use crate::model::invitation::Invitation;
use crate::model::session::Session;
use crate::model::user::User;
use crate::model::workspace::{Membership, Workspace};
use crate::time::Timestamp;

/// The number of times a row was written: 1 when it was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// What a new row has.
    pub const FIRST: Self = Self(1);

    /// What an update makes of it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A process of the program, as the others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Which one; made anew at every start.
    pub id: InstanceId,
    /// Moved by the process while it lives; the others watch that it moves.
    pub beat: u64,
    /// For guarded changes. Beats do not move it.
    pub version: Version,
}

/// A row, as the core knows it. An `Update` writes the whole record but what `Append` and `Add` move.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the record it holds")]
pub enum Record {
    Installation(Installation),
    User(User),
    Session(Session),
    Workspace(Workspace),
    Membership(Membership),
    Invitation(Invitation),
    Chat(Chat),
    Message(Message),
    RunningReply(RunningReply),
    Instance(Instance),
    KeyedRequest(KeyedRequest),
}

macro_rules! records {
    ($($name:ident($record:ty)),* $(,)?) => {$(
        impl From<$record> for Record {
            fn from(record: $record) -> Self {
                Self::$name(record)
            }
        }
    )*};
}
records! {
    Installation(Installation), User(User), Session(Session), Workspace(Workspace), Membership(Membership),
    Invitation(Invitation), Chat(Chat), Message(Message), RunningReply(RunningReply), Instance(Instance), KeyedRequest(KeyedRequest),
}

/// The key of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the key of the record of that name")]
pub enum Ref {
    Installation,
    User(UserId),
    Session(SessionId),
    Workspace(WorkspaceId),
    Membership(WorkspaceId, UserId),
    Invitation(InvitationId),
    Chat(ChatId),
    Message(ChatId, MessageId),
    RunningReply(MessageId),
    Instance(InstanceId),
    KeyedRequest(UserId, KeyHash),
}

impl Record {
    /// The record's key.
    #[must_use]
    pub const fn key(&self) -> Ref {
        match self {
            Self::Installation(_) => Ref::Installation,
            Self::User(user) => Ref::User(user.id),
            Self::Session(session) => Ref::Session(session.id),
            Self::Workspace(workspace) => Ref::Workspace(workspace.id),
            Self::Membership(membership) => Ref::Membership(membership.workspace, membership.user),
            Self::Invitation(invitation) => Ref::Invitation(invitation.id),
            Self::Chat(chat) => Ref::Chat(chat.id),
            Self::Message(message) => Ref::Message(message.chat, message.id),
            Self::RunningReply(running) => Ref::RunningReply(running.message),
            Self::Instance(instance) => Ref::Instance(instance.id),
            Self::KeyedRequest(request) => Ref::KeyedRequest(request.user, request.key),
        }
    }

    /// The version it was read with.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::Installation(record) => record.version,
            Self::User(record) => record.version,
            Self::Session(record) => record.version,
            Self::Workspace(record) => record.version,
            Self::Membership(record) => record.version,
            Self::Invitation(record) => record.version,
            Self::Chat(record) => record.version,
            Self::Message(record) => record.version,
            Self::RunningReply(record) => record.version,
            Self::Instance(record) => record.version,
            Self::KeyedRequest(record) => record.version,
        }
    }
}

/// A number that many move at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// The members of a workspace.
    Members(WorkspaceId),
    /// The workspaces that a user is a member of.
    Memberships(UserId),
}

/// What an appended message follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// The chat's last message, whichever that is when it is stored: it becomes the parent.
    Last,
    /// Its own parent, as it names it; without one it begins a branch of its own.
    Parent,
}

/// Replies that run, counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Running {
    /// Those that a user asked for.
    Of(UserId),
    /// Those in a workspace.
    In(WorkspaceId),
}

/// One thing to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new row. [`Duplicate`](crate::error::Conflict::Duplicate) if its key, or what must be unique in it, stands already;
    /// [`MissingParent`](crate::error::Conflict::MissingParent) if the row it belongs to is gone.
    Insert(Record),
    /// The row of the record's key and version becomes the record, with the next version; else [`Stale`](crate::error::Conflict::Stale).
    Update(Record),
    /// The row of this key and version goes; else `Stale`. Rows that belong to it go with it. Of a workspace, all that leads to it goes: its
    /// members, whose `Memberships` are counted down, its invitations, its running replies. Of a chat, it is no longer found and its running
    /// replies go. What nobody can reach by then is left to [`purge`](crate::port::store::UnitOfWork::purge).
    Delete(Ref, Version),
    /// The row stands in this version and does so until the commit; else `Stale`. Nothing is written.
    Expect(Ref, Version),
    /// A message goes to the end of its chat: it gets the next number, and moves the chat's `message_count` and `last_message_at`.
    /// `MissingParent` if the chat is gone, or the message it is to follow is none of the chat.
    Append(Message, Follows),
    /// Fewer than `most` of these replies run before this unit begins one; else [`Ceiling`](crate::error::Conflict::Ceiling). Exact also where
    /// many begin at once. Nothing is written: what runs is counted, so that a place is free with the row of its reply.
    Cap {
        /// Which replies.
        running: Running,
        /// How many of them may run, the one that begins included.
        most: u64,
    },
    /// A counter moves by `delta`, from zero where it does not stand yet; [`Ceiling`](crate::error::Conflict::Ceiling) if it would pass `ceiling`.
    Add {
        /// Which counter.
        counter: Counter,
        /// By how much.
        delta: i64,
        /// Up to where.
        ceiling: Option<i64>,
    },
}

/// What happened, for those who watch a workspace. A reference: what is delivered is the subject's state at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
}

/// The kinds of events, with their subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A message was stored, or a reply began.
    MessageCreated(ChatId, MessageId),
    /// A reply ended, in one of the ways a reply ends.
    MessageEnded(ChatId, MessageId),
    /// A chat was made.
    ChatCreated(ChatId),
    /// A chat's settings changed.
    ChatUpdated(ChatId),
    /// A chat became private: for all but its creator it is gone.
    ChatHidden(ChatId),
    /// A private chat became the workspace's: for all but its creator it is new.
    ChatShown(ChatId),
    /// A chat is gone. It was this user's alone, where it was private.
    ChatDeleted(ChatId, Option<UserId>),
    /// Somebody became a member.
    MemberJoined(UserId),
    /// A member has another role.
    MemberUpdated(UserId),
    /// A member left, or was removed.
    MemberLeft(UserId),
}

/// The number of an event in its workspace, from 1, without gaps: what clients carry as `Last-Event-ID`.
pub type EventNumber = u64;

/// An event of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its number.
    pub number: EventNumber,
    /// What happened.
    pub event: Event,
}

/// Everything that one business step writes: all of it, or nothing.
#[must_use = "changes are written by UnitOfWork::commit"]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    changes: Vec<Change>,
    events: Vec<Event>,
}

impl Changes {
    /// Starts with nothing.
    pub const fn new() -> Self {
        Self { changes: Vec::new(), events: Vec::new() }
    }

    /// Adds a change of any kind.
    pub fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Adds [`Change::Insert`].
    pub fn insert(self, record: impl Into<Record>) -> Self {
        self.with(Change::Insert(record.into()))
    }

    /// Adds [`Change::Update`].
    pub fn update(self, record: impl Into<Record>) -> Self {
        self.with(Change::Update(record.into()))
    }

    /// Adds [`Change::Delete`] of the record's row, as it was read.
    pub fn delete(self, record: impl Into<Record>) -> Self {
        let record = record.into();
        self.with(Change::Delete(record.key(), record.version()))
    }

    /// Adds [`Change::Expect`].
    pub fn expect(self, key: Ref, version: Version) -> Self {
        self.with(Change::Expect(key, version))
    }

    /// Adds [`Change::Expect`] of a membership, as it was read.
    pub fn expect_member(self, membership: &Membership) -> Self {
        self.expect(Ref::Membership(membership.workspace, membership.user), membership.version)
    }

    /// Adds [`Change::Append`].
    pub fn append(self, message: Message, follows: Follows) -> Self {
        self.with(Change::Append(message, follows))
    }

    /// Adds [`Change::Cap`].
    pub fn cap(self, running: Running, most: u64) -> Self {
        self.with(Change::Cap { running, most })
    }

    /// Adds [`Change::Add`].
    pub fn add(self, counter: Counter, delta: i64, ceiling: Option<i64>) -> Self {
        self.with(Change::Add { counter, delta, ceiling })
    }

    /// Adds an event, numbered in the same transaction, in its own workspace.
    pub fn emit(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// The changes, in the order they were added; conflicts name their place in it.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The events, in the order they were added.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// What a commit made that its caller could not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// For each event, in their order, its number in its workspace. Those of one workspace follow each other without a gap.
    pub events: Vec<EventNumber>,
    /// For each `Append`, in their order, where the message went.
    pub appended: Vec<Appended>,
}

impl Committed {
    /// The number of the first event; zero, which is nobody's, where there was none.
    #[must_use]
    pub fn first_event(&self) -> EventNumber {
        self.events.first().copied().unwrap_or_default()
    }
}

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number in the chat.
    pub seq: Seq,
    /// The message it follows.
    pub parent: Option<MessageId>,
}

/// The text so far of a running reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSoFar {
    /// Its chat.
    pub chat: ChatId,
    /// Its number in the chat.
    pub seq: Seq,
    /// Which reply.
    pub message: MessageId,
    /// The answer so far.
    pub content: String,
    /// The thoughts so far.
    pub reasoning: Option<String>,
}

/// What an instance writes every so often, beside the units of work: that it lives, and how far its replies are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which instance.
    pub instance: InstanceId,
    /// Its beat, higher than the last one.
    pub beat: u64,
    /// The replies whose text grew.
    pub texts: Vec<TextSoFar>,
    /// When.
    pub at: Timestamp,
}

/// What an instance learns from its checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpointed {
    /// Whether the others still take it for alive. If not, nothing was written and its replies are no longer its own.
    pub alive: bool,
    /// All replies that still run in its name. One that is missing has ended or is gone.
    pub running: Vec<RunningReply>,
}
