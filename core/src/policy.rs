//! One table of who may do what. What is not in it is not allowed.

use crate::model::user::GlobalRole;
use crate::model::workspace::Role;

/// Something that a member may be allowed to do in a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// See the workspace itself.
    SeeWorkspace,
    /// Change its settings.
    EditWorkspace,
    /// Delete it, with all that is in it.
    DeleteWorkspace,
    /// See who belongs to it.
    SeeMembers,
    /// Leave it.
    Leave,
    /// Give members other roles.
    ChangeRoles,
    /// Remove members.
    RemoveMembers,
    /// Invite people, see who is invited, and take invitations back.
    Invite,
    /// List and read chats, and follow what happens.
    ReadChats,
    /// Make a chat.
    CreateChat,
    /// Send a message.
    Send,
    /// Change a chat's settings, where one made it (an OWNER: any).
    EditChat,
    /// Delete a chat, where one made it (an OWNER: any).
    DeleteChat,
    /// End a running reply, where one asked for it or made the chat (an OWNER: any).
    StopReply,
}

impl Right {
    /// The least role that has it.
    #[must_use]
    pub const fn least_role(self) -> Role {
        match self {
            Self::SeeWorkspace | Self::SeeMembers | Self::Leave | Self::ReadChats => Role::Guest,
            Self::CreateChat | Self::Send | Self::EditChat | Self::DeleteChat | Self::StopReply => Role::Member,
            Self::EditWorkspace | Self::DeleteWorkspace | Self::ChangeRoles | Self::RemoveMembers | Self::Invite => {
                Role::Owner
            }
        }
    }

    /// Whether this role has it.
    #[must_use]
    pub fn is_held_by(self, role: Role) -> bool {
        role >= self.least_role()
    }
}

/// Something that somebody may be allowed to do with the installation as a whole. None of it is a key to a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GlobalRight {
    /// Make, see, change and delete accounts, and end their sessions. One's own account needs no right.
    ManageUsers,
}

impl GlobalRight {
    /// Whether this role has it.
    #[must_use]
    pub const fn is_held_by(self, role: GlobalRole) -> bool {
        match self {
            Self::ManageUsers => matches!(role, GlobalRole::Admin),
        }
    }
}
