//! Chats and their messages.

use std::time::Duration;

use crate::change::Version;
use crate::error::Violation;
use crate::id::{ChatId, InstanceId, MessageId, UserId, WorkspaceId};
use crate::model::text;
use crate::model::user::Author;
use crate::page::ActivityKey;
use crate::time::Timestamp;

/// Who may see a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// All members of the workspace.
    Workspace,
    /// Its creator only.
    Private,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// Which one.
    pub id: ChatId,
    /// Where it belongs.
    pub workspace: WorkspaceId,
    /// What people call it; none until it has one.
    pub title: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// The model that answers where a message names none, as `provider/model`.
    pub model: Option<String>,
    /// What the model is told first, in place of the workspace's.
    pub system_prompt: Option<String>,
    /// Whether it was put away.
    pub archived: bool,
    /// Who made it; none once their account is gone.
    pub created_by: Option<Author>,
    /// How many messages it has; also the number of the last one. Moved by [`Change::Append`](crate::change::Change::Append) alone.
    pub message_count: u64,
    /// When the last message was stored. Moved by `Append` alone.
    pub last_message_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its settings were last changed.
    pub updated_at: Timestamp,
    /// For guarded changes of its settings.
    pub version: Version,
}

impl Chat {
    /// When something last happened in it: what lists are sorted by.
    #[must_use]
    pub fn active_at(&self) -> Timestamp {
        self.last_message_at.unwrap_or(self.created_at)
    }

    /// Where it stands in a list that goes by activity.
    #[must_use]
    pub fn activity(&self) -> ActivityKey {
        ActivityKey { at: self.active_at(), id: *self.id.as_uuid() }
    }

    /// Who made it; none once their account is gone.
    #[must_use]
    pub fn creator(&self) -> Option<UserId> {
        self.created_by.as_ref().map(|creator| creator.id)
    }

    /// Whether a member of the workspace may see it.
    #[must_use]
    pub fn visible_to(&self, user: UserId) -> bool {
        self.audience().includes(user)
    }

    /// Who may see it, of the members of its workspace.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self.visibility {
            Visibility::Workspace => Audience::Everybody,
            Visibility::Private => Audience::Only(self.creator()),
        }
    }
}

/// Who of a workspace's members may see something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All of them.
    Everybody,
    /// This one, if there still is one.
    Only(Option<UserId>),
}

impl Audience {
    /// Whether this member belongs to it.
    #[must_use]
    pub fn includes(self, user: UserId) -> bool {
        match self {
            Self::Everybody => true,
            Self::Only(only) => only == Some(user),
        }
    }
}

/// The number of a message in its chat, from 1, in the order they were stored.
pub type Seq = u64;

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// A person.
    User,
    /// A model.
    Assistant,
    /// The installation.
    System,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageStatus {
    /// Whole: a person's, or a reply of which the provider said that it has ended.
    Complete,
    /// A reply that still grows.
    Streaming,
    /// A reply that somebody ended.
    Stopped,
    /// A reply that the provider refused, broke or could not give, or that the size cap cut.
    Failed,
    /// A reply cut by a stall, a lost connection, a deadline or the end of the server.
    Interrupted,
}

/// What a reply cost, as its provider counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the reply, thoughts included.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

/// Why a reply did not become complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyError {
    /// Stable, for programs: one of [`ReplyFault`].
    pub code: ReplyFault,
    /// For people; never holds a key, an address or what a provider wrote.
    pub detail: String,
}

/// The codes of [`ReplyError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyFault {
    /// The provider could not be reached.
    ProviderUnreachable,
    /// The provider does not accept our key, or does not know the address: its configuration is wrong.
    ProviderMisconfigured,
    /// The provider takes no more requests for now.
    ProviderOverloaded,
    /// The provider refused the request.
    ProviderRefused,
    /// The provider said that it failed.
    ProviderError,
    /// The provider's answer makes no sense.
    ProviderNonsense,
    /// The provider closed before answering, or in the middle.
    ConnectionLost,
    /// The provider does not know the model, or may not use it.
    ModelUnavailable,
    /// The conversation is longer than the model takes.
    PromptTooLong,
    /// Nothing came within the deadline, or nothing more came.
    Timeout,
    /// The reply grew beyond what a reply may hold.
    TooLong,
    /// The server stopped or died while the reply ran.
    ServerStopped,
    /// The chat was deleted while the reply ran.
    Deleted,
}

impl ReplyFault {
    /// All of them, with what clients and databases call them.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::ProviderUnreachable, "provider_unreachable"),
        (Self::ProviderMisconfigured, "provider_misconfigured"),
        (Self::ProviderOverloaded, "provider_overloaded"),
        (Self::ProviderRefused, "provider_refused"),
        (Self::ProviderError, "provider_error"),
        (Self::ProviderNonsense, "provider_nonsense"),
        (Self::ConnectionLost, "connection_lost"),
        (Self::ModelUnavailable, "model_unavailable"),
        (Self::PromptTooLong, "prompt_too_long"),
        (Self::Timeout, "timeout"),
        (Self::TooLong, "too_long"),
        (Self::ServerStopped, "server_stopped"),
        (Self::Deleted, "deleted"),
    ];

    /// What clients and databases call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, _)| *fault == self).map_or("provider_error", |(_, name)| name)
    }

    /// The fault of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(fault, _)| *fault)
    }
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which one.
    pub id: MessageId,
    /// Where its chat belongs.
    pub workspace: WorkspaceId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number in the chat; zero until it is stored.
    pub seq: Seq,
    /// The message it follows; none for a chat's first.
    pub parent: Option<MessageId>,
    /// Who speaks.
    pub speaker: Speaker,
    /// Which person, for theirs; none once their account is gone.
    pub author: Option<Author>,
    /// The text.
    pub content: String,
    /// A model's thoughts, apart from its answer.
    pub reasoning: Option<String>,
    /// How far it is.
    pub status: MessageStatus,
    /// Which model a reply is by, as `provider/model`.
    pub model: Option<String>,
    /// Which provider a reply is by.
    pub provider: Option<String>,
    /// What a reply cost.
    pub usage: Option<Usage>,
    /// Why the provider ended a reply, in its own word (`stop`, `length`).
    pub finish_reason: Option<String>,
    /// Why a reply did not become complete.
    pub error: Option<ReplyError>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// For guarded changes: a reply that has ended never ends again.
    pub version: Version,
}

impl Message {
    /// The message as those are told who waited for its end. One that was still to grow when it went has gone with its chat.
    #[must_use]
    pub fn as_ended(self) -> Self {
        if self.status != MessageStatus::Streaming {
            return self;
        }
        let error = ReplyError { code: ReplyFault::Deleted, detail: "the chat was deleted".to_owned() };
        Self { status: MessageStatus::Interrupted, error: Some(error), ..self }
    }
}

/// That a reply is being made, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningReply {
    /// The reply.
    pub message: MessageId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number in the chat; zero until it is stored (`Append` fills it in).
    pub seq: Seq,
    /// Who asked for it.
    pub asked_by: UserId,
    /// The process that makes it.
    pub instance: InstanceId,
    /// Whether somebody wants it ended.
    pub stop_requested: bool,
    /// For guarded changes.
    pub version: Version,
}

/// How a model is to answer. What is none is left to the provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// At most so many tokens.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer, taken by [`stop`].
    pub stop: Vec<String>,
    /// For repeatable answers, where the provider can.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// How long to think.
    pub reasoning_effort: Option<String>,
}

/// Bounds of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// From the request to the first piece of the answer.
    pub first_byte: Duration,
    /// From one piece to the next.
    pub idle: Duration,
    /// The whole answer.
    pub total: Duration,
    /// Bytes of text and thoughts together.
    pub bytes: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
            bytes: 1 << 20,
        }
    }
}

/// How many replies may run at once; none for any number. One that waits for the reply before it runs, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyCaps {
    /// Of one user.
    pub of_user: Option<u64>,
    /// In one workspace.
    pub in_workspace: Option<u64>,
    /// In this process.
    pub here: Option<u64>,
}

/// Takes a chat's title: 1 to 200 characters.
///
/// # Errors
/// A violation of `title`.
pub fn title(title: String) -> Result<String, Violation> {
    text::bounded("title", title, 1, 200)
}

/// Takes a message's text: 1 byte to 64 KiB.
///
/// # Errors
/// A violation of `content`.
pub fn content(content: String) -> Result<String, Violation> {
    if content.trim().is_empty() {
        return Err(Violation::new("content", "must not be blank"));
    }
    text::bounded_bytes("content", content, 64 << 10)
}

/// Takes the texts that end an answer: up to four, each of 1 to 500 characters.
///
/// # Errors
/// A violation of `parameters.stop`.
pub fn stop(texts: Vec<String>) -> Result<Vec<String>, Violation> {
    if texts.len() > 4 {
        return Err(Violation::new("parameters.stop", "must have at most 4 items"));
    }
    for (index, text) in texts.iter().enumerate() {
        if text.is_empty() || text.chars().count() > 500 {
            return Err(Violation::new(format!("parameters.stop[{index}]"), "must have 1 to 500 characters"));
        }
    }
    Ok(texts)
}

/// Takes a model's id: up to 128 of `A-Z a-z 0-9 . _ : / -`.
///
/// # Errors
/// A violation of `field`.
pub fn model_id(field: &str, id: String) -> Result<String, Violation> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-');
    if id.is_empty() || id.len() > 128 || !id.chars().all(known) {
        return Err(Violation::new(field, "must be a model's id as GET /models lists it"));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    // R65
    #[test]
    fn what_ends_an_answer_is_few_and_short() {
        let texts = |texts: &[&str]| stop(texts.iter().map(ToString::to_string).collect());
        assert!(texts(&[]).is_ok() && texts(&["\n", " ", "é", &"é".repeat(500)]).is_ok());
        assert_eq!(texts(&["a"; 5]).unwrap_err().field, "parameters.stop");
        for bad in ["", &"x".repeat(501)] {
            assert_eq!(texts(&["a", bad]).unwrap_err().field, "parameters.stop[1]");
        }
    }
}
