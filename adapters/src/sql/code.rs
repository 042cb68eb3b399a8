//! The small numbers that stand for closed sets of kinds. They are in databases: none may ever change its meaning.

use private_chat_core::change::Counter;
use private_chat_core::model::chat::{MessageStatus, Speaker, Visibility};
use private_chat_core::model::user::GlobalRole;
use private_chat_core::model::workspace::Role;

/// A kind that a database keeps as a number.
pub(super) trait Code: Copy + Sized {
    /// Its number.
    fn code(self) -> i64;
    /// The kind of this number.
    fn from_code(code: i64) -> Option<Self>;
}

macro_rules! codes {
    ($($type:ident { $($variant:ident = $code:literal),* $(,)? })*) => {$(
        impl Code for $type {
            fn code(self) -> i64 {
                match self { $(Self::$variant => $code),* }
            }

            fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    )*};
}

codes! {
    GlobalRole { User = 0, Admin = 1 }
    Role { Guest = 0, Member = 1, Owner = 2 }
    Visibility { Workspace = 0, Private = 1 }
    Speaker { User = 0, Assistant = 1, System = 2 }
    MessageStatus { Complete = 0, Streaming = 1, Stopped = 2, Failed = 3, Interrupted = 4 }
}

/// What an event is about, apart from its subject.
#[derive(Clone, Copy)]
pub(super) enum EventCode {
    MessageCreated,
    MessageEnded,
    ChatCreated,
    ChatUpdated,
    ChatDeleted,
    MemberJoined,
    MemberUpdated,
    MemberLeft,
    ChatHidden,
    ChatShown,
}

codes! {
    EventCode {
        MessageCreated = 0, MessageEnded = 1, ChatCreated = 2, ChatUpdated = 3, ChatDeleted = 4,
        MemberJoined = 5, MemberUpdated = 6, MemberLeft = 7, ChatHidden = 8, ChatShown = 9,
    }
}

/// A counter's kind and owner.
pub(super) const fn counter(counter: &Counter) -> (i64, &[u8; 16]) {
    match counter {
        Counter::Members(workspace) => (MEMBERS, workspace.as_bytes()),
        Counter::Memberships(user) => (MEMBERSHIPS, user.as_bytes()),
    }
}

/// The members of a workspace.
pub(super) const MEMBERS: i64 = 0;
/// The workspaces that a user is a member of. Those that they made, before anybody could join another's: then the same number.
pub(super) const MEMBERSHIPS: i64 = 1;
