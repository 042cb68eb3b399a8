//! One table of who may do what in a workspace. What is not in it is not allowed.

use crate::model::workspace::Role;

/// Something that a member may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// See the workspace itself.
    SeeWorkspace,
    /// Change its settings.
    EditWorkspace,
    /// List and read chats, and follow what happens.
    ReadChats,
    /// Make a chat.
    CreateChat,
    /// Send a message.
    Send,
    /// Change a chat's settings, where one made it (an OWNER: any).
    EditChat,
    /// End a running reply, where one asked for it or made the chat (an OWNER: any).
    StopReply,
}

impl Right {
    /// The least role that has it.
    #[must_use]
    pub const fn least_role(self) -> Role {
        match self {
            Self::SeeWorkspace | Self::ReadChats => Role::Guest,
            Self::CreateChat | Self::Send | Self::EditChat | Self::StopReply => Role::Member,
            Self::EditWorkspace => Role::Owner,
        }
    }

    /// Whether this role has it.
    #[must_use]
    pub fn is_held_by(self, role: Role) -> bool {
        role >= self.least_role()
    }
}
