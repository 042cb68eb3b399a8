//! Typed ids: a chat's id can't be handed over where a user's is asked for.

use std::fmt;
use std::str::FromStr;

use uuid::{Builder, Uuid};

use crate::page::Cursor;
use crate::time::Timestamp;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl $name {
            /// The id as a UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The sixteen bytes that a database keeps.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Cursor for $name {
            fn to_bytes(&self) -> Vec<u8> {
                self.as_bytes().to_vec()
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A person with an account.
    UserId;
    /// One signed-in device of a user.
    SessionId;
    /// A workspace.
    WorkspaceId;
    /// A chat.
    ChatId;
    /// A message of a chat, a person's or a model's.
    MessageId;
    /// An invitation into a workspace.
    InvitationId;
    /// One running process of the program.
    InstanceId;
}

/// Makes a UUIDv7 (RFC 9562, section 5.7) of a time and ten random bytes, so that ids sort by the time of their making.
#[must_use]
pub fn time_sorted(now: Timestamp, random: &[u8; 10]) -> Uuid {
    Builder::from_unix_timestamp_millis(now.as_millis(), random).into_uuid()
}
