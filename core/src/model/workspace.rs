//! Workspaces and who belongs to them.

use crate::change::Version;
use crate::error::Violation;
use crate::id::{UserId, WorkspaceId};
use crate::model::text;
use crate::model::user::Email;
use crate::time::Timestamp;

/// What a member may do in a workspace. Ordered: a later one may do all that an earlier one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Guest,
    /// Reads and writes.
    Member,
    /// Also runs the workspace.
    Owner,
}

/// A place where a team talks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Which one.
    pub id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The model of its chats that name none, as `provider/model`.
    pub default_model: Option<String>,
    /// What the model is told before every conversation.
    pub system_prompt: Option<String>,
    /// Whether members need a second factor.
    pub require_two_factor: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// For guarded changes.
    pub version: Version,
}

/// That somebody belongs to a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
    /// Since when.
    pub joined_at: Timestamp,
    /// For guarded changes.
    pub version: Version,
}

/// A workspace as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The workspace.
    pub workspace: Workspace,
    /// The member's own membership.
    pub membership: Membership,
    /// How many members there are.
    pub member_count: u64,
}

/// A member as the other members see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Their membership.
    pub membership: Membership,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: Email,
}

/// Takes a workspace's description: up to 2000 characters.
///
/// # Errors
/// A violation of `description`.
pub fn description(text: String) -> Result<String, Violation> {
    text::bounded("description", text, 0, 2_000)
}

/// Takes a system prompt: up to 32 KiB.
///
/// # Errors
/// A violation of `system_prompt`.
pub fn system_prompt(text: String) -> Result<String, Violation> {
    text::bounded_bytes("system_prompt", text, 32 << 10)
}
