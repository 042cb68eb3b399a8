//! How the model's things look on the wire, where several resources show them.

use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object};
use private_chat_core::id::SessionId;
use private_chat_core::model::chat::{Chat, Message, MessageStatus, Speaker, Usage, Visibility};
use private_chat_core::model::invitation::{Invitation, Invited};
use private_chat_core::model::session::Session;
use private_chat_core::model::user::{Author, GlobalRole, User};
use private_chat_core::model::workspace::{Joined, Participant, Role};
use private_chat_core::usecase::Patch;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::edge::time::Time;

/// What a field of a change says: left out, null, or a value.
pub fn patch<T>(field: MaybeUndefined<T>) -> Patch<T> {
    match field {
        MaybeUndefined::Undefined => Patch::Keep,
        MaybeUndefined::Null => Patch::Clear,
        MaybeUndefined::Value(value) => Patch::Set(value),
    }
}

/// The installation-wide role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE", rename = "GlobalRole")]
pub enum GlobalRoleView {
    /// Works in workspaces.
    User,
    /// Also manages accounts.
    Admin,
}

impl From<GlobalRole> for GlobalRoleView {
    fn from(role: GlobalRole) -> Self {
        match role {
            GlobalRole::User => Self::User,
            GlobalRole::Admin => Self::Admin,
        }
    }
}

impl From<GlobalRoleView> for GlobalRole {
    fn from(role: GlobalRoleView) -> Self {
        match role {
            GlobalRoleView::User => Self::User,
            GlobalRoleView::Admin => Self::Admin,
        }
    }
}

/// An account.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "User")]
pub struct UserView {
    /// Which user.
    pub id: Uuid,
    /// Their address, in its canonical form: lower case, without spaces around it.
    pub email: String,
    /// Their name, as others see it.
    pub name: String,
    /// Their installation-wide role.
    pub role: GlobalRoleView,
    /// Whether they may sign in.
    pub is_active: bool,
    /// Whether they sign in with a second factor.
    pub two_factor_enabled: bool,
    /// Whether they must change their password before anything else.
    pub must_change_password: bool,
    /// When the account was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: *user.id.as_uuid(),
            email: user.email.as_str().to_owned(),
            name: user.name,
            role: user.role.into(),
            is_active: user.is_active,
            two_factor_enabled: false,
            must_change_password: user.must_change_password,
            created_at: Time(user.created_at),
            updated_at: Time(user.updated_at),
        }
    }
}

/// A device on which somebody is signed in.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Session")]
pub struct SessionView {
    /// Which session.
    pub id: Uuid,
    /// When they signed in.
    pub created_at: Time,
    /// When it was last used, to the minute.
    pub last_used_at: Time,
    /// The IP address from which they signed in.
    pub address: String,
    /// What the device called itself then; null where it said nothing.
    pub user_agent: Option<String>,
    /// Whether it is the one that asks.
    pub current: bool,
}

impl SessionView {
    /// A session, as it looks from another one, or from itself.
    pub fn seen_from(current: SessionId, session: Session) -> Self {
        let Session { id, device, created_at, last_used_at, .. } = session;
        Self {
            id: *id.as_uuid(),
            created_at: Time(created_at),
            last_used_at: Time(last_used_at),
            address: device.address,
            user_agent: Some(device.user_agent).filter(|said| !said.is_empty()),
            current: id == current,
        }
    }
}

/// A user, beside what they made.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Author")]
pub struct AuthorView {
    /// Which user.
    pub id: Uuid,
    /// Their name.
    pub name: String,
}

impl From<Author> for AuthorView {
    fn from(author: Author) -> Self {
        Self { id: *author.id.as_uuid(), name: author.name }
    }
}

/// A role in a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE", rename = "WorkspaceRole")]
pub enum RoleView {
    /// Runs the workspace.
    Owner,
    /// Reads and writes.
    Member,
    /// Reads.
    Guest,
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Member => Self::Member,
            Role::Guest => Self::Guest,
        }
    }
}

impl From<RoleView> for Role {
    fn from(role: RoleView) -> Self {
        match role {
            RoleView::Owner => Self::Owner,
            RoleView::Member => Self::Member,
            RoleView::Guest => Self::Guest,
        }
    }
}

/// A workspace, as the caller sees it.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Workspace")]
pub struct WorkspaceView {
    /// Which workspace.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The model of its chats that name none, as `GET /models` lists it.
    pub default_model: Option<String>,
    /// What the model is told before every conversation.
    pub system_prompt: Option<String>,
    /// Whether members need a second factor.
    pub require_two_factor: bool,
    /// The caller's role in it.
    pub role: RoleView,
    /// How many members it has.
    pub member_count: u64,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl From<Joined> for WorkspaceView {
    fn from(Joined { workspace, membership, member_count }: Joined) -> Self {
        Self {
            id: *workspace.id.as_uuid(),
            name: workspace.name,
            description: workspace.description,
            default_model: workspace.default_model,
            system_prompt: workspace.system_prompt,
            require_two_factor: workspace.require_two_factor,
            role: membership.role.into(),
            member_count,
            created_at: Time(workspace.created_at),
            updated_at: Time(workspace.updated_at),
        }
    }
}

/// Somebody, as those see them who share a workspace with them.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Person")]
pub struct PersonView {
    /// Which user.
    pub id: Uuid,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
}

/// A member of a workspace.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Member")]
pub struct MemberView {
    /// Who.
    pub user: PersonView,
    /// As what.
    pub role: RoleView,
    /// Since when.
    pub joined_at: Time,
}

impl From<Participant> for MemberView {
    fn from(Participant { membership, name, email }: Participant) -> Self {
        Self {
            user: PersonView { id: *membership.user.as_uuid(), name, email: email.as_str().to_owned() },
            role: membership.role.into(),
            joined_at: Time(membership.joined_at),
        }
    }
}

/// That somebody may join a workspace, once.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Invitation")]
pub struct InvitationView {
    /// Which invitation.
    pub id: Uuid,
    /// Into which workspace.
    pub workspace_id: Uuid,
    /// What people call the workspace.
    pub workspace_name: String,
    /// Who may accept it: whoever has this address.
    pub email: String,
    /// As what they join.
    pub role: RoleView,
    /// Who made it.
    pub invited_by: AuthorView,
    /// When it was made.
    pub created_at: Time,
    /// Until when it can be accepted.
    pub expires_at: Time,
}

impl From<Invited> for InvitationView {
    fn from(Invited { invitation, workspace_name }: Invited) -> Self {
        let Invitation { id, workspace, email, role, invited_by, created_at, expires_at, .. } = invitation;
        Self {
            id: *id.as_uuid(),
            workspace_id: *workspace.as_uuid(),
            workspace_name,
            email: email.as_str().to_owned(),
            role: role.into(),
            invited_by: invited_by.into(),
            created_at: Time(created_at),
            expires_at: Time(expires_at),
        }
    }
}

/// Who may see a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase", rename = "Visibility")]
pub enum VisibilityView {
    /// All members of the workspace.
    Workspace,
    /// Its creator only.
    Private,
}

impl From<Visibility> for VisibilityView {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Workspace => Self::Workspace,
            Visibility::Private => Self::Private,
        }
    }
}

impl From<VisibilityView> for Visibility {
    fn from(visibility: VisibilityView) -> Self {
        match visibility {
            VisibilityView::Workspace => Self::Workspace,
            VisibilityView::Private => Self::Private,
        }
    }
}

/// A chat.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Chat")]
pub struct ChatView {
    /// Which chat.
    pub id: Uuid,
    /// Where it belongs.
    pub workspace_id: Uuid,
    /// What people call it.
    pub title: Option<String>,
    /// Who may see it.
    pub visibility: VisibilityView,
    /// The model that answers where a message names none.
    pub model: Option<String>,
    /// What the model is told first, in place of the workspace's.
    pub system_prompt: Option<String>,
    /// Whether it was put away.
    pub archived: bool,
    /// Who made it; null once their account is gone.
    pub created_by: Option<AuthorView>,
    /// How many messages it has.
    pub message_count: u64,
    /// When its last message was stored.
    pub last_message_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// When its settings were last changed.
    pub updated_at: Time,
}

impl From<Chat> for ChatView {
    fn from(chat: Chat) -> Self {
        Self {
            id: *chat.id.as_uuid(),
            workspace_id: *chat.workspace.as_uuid(),
            title: chat.title,
            visibility: chat.visibility.into(),
            model: chat.model,
            system_prompt: chat.system_prompt,
            archived: chat.archived,
            created_by: chat.created_by.map(Into::into),
            message_count: chat.message_count,
            last_message_at: chat.last_message_at.map(Time),
            created_at: Time(chat.created_at),
            updated_at: Time(chat.updated_at),
        }
    }
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Enum)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase", rename = "MessageRole")]
pub enum SpeakerView {
    /// A person.
    User,
    /// A model.
    Assistant,
    /// The installation.
    System,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Enum)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase", rename = "MessageStatus")]
pub enum StatusView {
    /// Whole.
    Complete,
    /// A reply that still grows.
    Streaming,
    /// A reply that somebody ended; what was made is kept.
    Stopped,
    /// A reply that the provider refused, broke or could not give, or that the size cap cut.
    Failed,
    /// A reply cut by a stall, a lost connection, a deadline or the end of the server.
    Interrupted,
}

/// What a reply cost, as its provider counts.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Usage")]
pub struct UsageView {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the reply, thoughts included.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
        }
    }
}

/// Why a reply did not become complete.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "ReplyError")]
pub struct ReplyErrorView {
    /// What programs switch on: `provider_unreachable`, `provider_misconfigured`, `provider_overloaded`, `provider_refused`, `provider_error`,
    /// `provider_nonsense`, `connection_lost`, `model_unavailable`, `prompt_too_long`, `timeout`, `too_long` or `server_stopped`.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// How a file went into the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Enum)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case", rename = "AttachmentUse")]
pub enum AttachmentUseView {
    /// As an image.
    Image,
    /// As text, whole.
    Text,
    /// As text, cut to fit.
    TextTruncated,
    /// Not at all.
    NotSent,
}

/// A file that came with a message.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Attachment")]
pub struct AttachmentView {
    /// Which file.
    pub id: Uuid,
    /// Where it belongs.
    pub workspace_id: Uuid,
    /// What people call it.
    pub name: String,
    /// What it is, found from its bytes.
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Who brought it; null once their account is gone.
    pub uploaded_by: Option<AuthorView>,
    /// When it was stored.
    pub created_at: Time,
    /// How it went into the prompt.
    pub used: AttachmentUseView,
}

/// A message of a chat.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Message")]
pub struct MessageView {
    /// Which message.
    pub id: Uuid,
    /// Its chat.
    pub chat_id: Uuid,
    /// The message it follows; null for a chat's first.
    pub parent_id: Option<Uuid>,
    /// Who speaks.
    pub role: SpeakerView,
    /// Which person, for theirs; null for a model, and once the account is gone.
    pub author: Option<AuthorView>,
    /// The text.
    pub content: String,
    /// A model's thoughts, apart from its answer.
    pub reasoning: Option<String>,
    /// How far it is.
    pub status: StatusView,
    /// Which model a reply is by, as `GET /models` lists it.
    pub model: Option<String>,
    /// Which provider a reply is by.
    pub provider: Option<String>,
    /// What a reply cost; null where the provider does not say.
    pub usage: Option<UsageView>,
    /// Why the provider ended a reply, in its own word: `stop`, `length`.
    pub finish_reason: Option<String>,
    /// Why a reply did not become complete.
    pub error: Option<ReplyErrorView>,
    /// The files that came with it. Empty until messages can have files.
    pub attachments: Vec<AttachmentView>,
    /// When it was stored.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
}

impl From<Message> for MessageView {
    fn from(message: Message) -> Self {
        Self {
            id: *message.id.as_uuid(),
            chat_id: *message.chat.as_uuid(),
            parent_id: message.parent.map(|parent| *parent.as_uuid()),
            role: match message.speaker {
                Speaker::User => SpeakerView::User,
                Speaker::Assistant => SpeakerView::Assistant,
                Speaker::System => SpeakerView::System,
            },
            author: message.author.map(Into::into),
            content: message.content,
            reasoning: message.reasoning,
            status: match message.status {
                MessageStatus::Complete => StatusView::Complete,
                MessageStatus::Streaming => StatusView::Streaming,
                MessageStatus::Stopped => StatusView::Stopped,
                MessageStatus::Failed => StatusView::Failed,
                MessageStatus::Interrupted => StatusView::Interrupted,
            },
            model: message.model,
            provider: message.provider,
            usage: message.usage.map(Into::into),
            finish_reason: message.finish_reason,
            error: message
                .error
                .map(|error| ReplyErrorView { code: error.code.name().to_owned(), detail: error.detail }),
            attachments: Vec::new(),
            created_at: Time(message.created_at),
            updated_at: Time(message.updated_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use private_chat_core::model::session::Device;
    use private_chat_tests::fixture::{a_session, a_user, a_workspace, an_invitation};

    use super::*;
    use crate::http::edge::names::writes_as_documented;

    #[test]
    fn answers_are_written_as_the_document_shows_them() {
        let (user, workspace) = (a_user(), a_workspace());
        let invitation = an_invitation(&workspace, &user);
        writes_as_documented(&InvitationView::from(Invited { invitation, workspace_name: workspace.name }));
        writes_as_documented(&SessionView::seen_from(a_session(&user).id, a_session(&user)));
        writes_as_documented(&UserView::from(user));
    }

    // R28
    #[test]
    fn a_session_knows_itself_and_says_null_for_a_nameless_device() {
        let session = a_session(&a_user());
        let nameless = Device { user_agent: String::new(), ..session.device.clone() };
        let seen = SessionView::seen_from(session.id, Session { device: nameless, ..session.clone() });
        assert!(seen.current && seen.user_agent.is_none());
        let seen = SessionView::seen_from(a_session(&a_user()).id, session);
        assert!(!seen.current && seen.user_agent.is_some());
    }
}
