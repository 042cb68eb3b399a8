//! The events of the live feeds, as clients see them.

use bytes::Bytes;
use futures_util::stream::unfold;
use poem_openapi::{Object, Union};
use private_chat_core::model::chat::MessageStatus;
use private_chat_core::usecase::live::{Frame, LiveEvent, Part, ReplyWatch, Watch};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::edge::events::{EventStream, frame};
use super::problem::CURSOR_EXPIRED;
use super::view::{ChatView, MemberView, MessageView};
use crate::fails;

/// One event of a feed. Its SSE `event:` is the same as its `type`, its `id:` the cursor to come back with.
#[derive(Debug, Serialize, Union)]
#[serde(tag = "type")]
#[oai(discriminator_name = "type", one_of = true, rename = "Event")]
pub enum EventView {
    /// A person's message was stored, or a reply began.
    #[serde(rename = "message.created")]
    #[oai(mapping = "message.created")]
    MessageCreated(MessageCreated),
    /// A running reply grew.
    #[serde(rename = "message.delta")]
    #[oai(mapping = "message.delta")]
    MessageDelta(MessageDelta),
    /// A reply ended: the provider said that it is whole.
    #[serde(rename = "message.completed")]
    #[oai(mapping = "message.completed")]
    MessageCompleted(MessageCompleted),
    /// A reply ended: somebody stopped it.
    #[serde(rename = "message.stopped")]
    #[oai(mapping = "message.stopped")]
    MessageStopped(MessageStopped),
    /// A reply ended: the provider could not give it.
    #[serde(rename = "message.failed")]
    #[oai(mapping = "message.failed")]
    MessageFailed(MessageFailed),
    /// A reply ended: it was cut off.
    #[serde(rename = "message.interrupted")]
    #[oai(mapping = "message.interrupted")]
    MessageInterrupted(MessageInterrupted),
    /// A chat was made.
    #[serde(rename = "chat.created")]
    #[oai(mapping = "chat.created")]
    ChatCreated(ChatCreated),
    /// A chat's settings changed.
    #[serde(rename = "chat.updated")]
    #[oai(mapping = "chat.updated")]
    ChatUpdated(ChatUpdated),
    /// A chat is gone, or no longer to be seen.
    #[serde(rename = "chat.deleted")]
    #[oai(mapping = "chat.deleted")]
    ChatDeleted(ChatDeleted),
    /// Somebody became a member.
    #[serde(rename = "member.joined")]
    #[oai(mapping = "member.joined")]
    MemberJoined(MemberJoined),
    /// A member has another role.
    #[serde(rename = "member.updated")]
    #[oai(mapping = "member.updated")]
    MemberUpdated(MemberUpdated),
    /// A member left, or was removed.
    #[serde(rename = "member.left")]
    #[oai(mapping = "member.left")]
    MemberLeft(MemberLeft),
}

macro_rules! of_a_message {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Serialize, Object)]
        pub struct $name {
            /// The message.
            pub message: MessageView,
        }
    )*};
}

of_a_message! {
    /// A person's message was stored, or a reply began: then `status` is `streaming` and the text comes as deltas.
    MessageCreated;
    /// The whole reply.
    MessageCompleted;
    /// The reply up to where it was stopped.
    MessageStopped;
    /// The reply as far as it came, and `error`.
    MessageFailed;
    /// The reply as far as it came, and `error`.
    MessageInterrupted;
}

/// More text of a reply: `text = text[:offset] + content`. Just one of `content` and `reasoning` is there.
#[derive(Debug, Serialize, Object)]
pub struct MessageDelta {
    /// The reply's chat.
    pub chat_id: Uuid,
    /// The reply.
    pub message_id: Uuid,
    /// Where the text goes, counted in Unicode code points.
    pub offset: u64,
    /// More of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(read_only)]
    pub content: Option<String>,
    /// More of the thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(read_only)]
    pub reasoning: Option<String>,
}

/// A new chat.
#[derive(Debug, Serialize, Object)]
pub struct ChatCreated {
    /// The chat.
    pub chat: ChatView,
}

/// A chat after the change.
#[derive(Debug, Serialize, Object)]
pub struct ChatUpdated {
    /// The chat.
    pub chat: ChatView,
}

/// Which chat is gone.
#[derive(Debug, Serialize, Object)]
pub struct ChatDeleted {
    /// The chat.
    pub chat_id: Uuid,
}

/// A new member.
#[derive(Debug, Serialize, Object)]
pub struct MemberJoined {
    /// The member.
    pub member: MemberView,
}

/// A member after the change.
#[derive(Debug, Serialize, Object)]
pub struct MemberUpdated {
    /// The member.
    pub member: MemberView,
}

/// Who is no member any more.
#[derive(Debug, Serialize, Object)]
pub struct MemberLeft {
    /// The user.
    pub user_id: Uuid,
}

impl EventView {
    const fn name(&self) -> &'static str {
        match self {
            Self::MessageCreated(_) => "message.created",
            Self::MessageDelta(_) => "message.delta",
            Self::MessageCompleted(_) => "message.completed",
            Self::MessageStopped(_) => "message.stopped",
            Self::MessageFailed(_) => "message.failed",
            Self::MessageInterrupted(_) => "message.interrupted",
            Self::ChatCreated(_) => "chat.created",
            Self::ChatUpdated(_) => "chat.updated",
            Self::ChatDeleted(_) => "chat.deleted",
            Self::MemberJoined(_) => "member.joined",
            Self::MemberUpdated(_) => "member.updated",
            Self::MemberLeft(_) => "member.left",
        }
    }
}

impl From<&LiveEvent> for EventView {
    fn from(event: &LiveEvent) -> Self {
        match event {
            LiveEvent::MessageCreated(message) => {
                Self::MessageCreated(MessageCreated { message: message.clone().into() })
            }
            LiveEvent::MessageEnded(message) => {
                let (status, message) = (message.status, message.clone().into());
                match status {
                    MessageStatus::Stopped => Self::MessageStopped(MessageStopped { message }),
                    MessageStatus::Failed => Self::MessageFailed(MessageFailed { message }),
                    MessageStatus::Interrupted => Self::MessageInterrupted(MessageInterrupted { message }),
                    MessageStatus::Complete | MessageStatus::Streaming => {
                        Self::MessageCompleted(MessageCompleted { message })
                    }
                }
            }
            LiveEvent::ChatCreated(chat) => Self::ChatCreated(ChatCreated { chat: chat.clone().into() }),
            LiveEvent::ChatUpdated(chat) => Self::ChatUpdated(ChatUpdated { chat: chat.clone().into() }),
            LiveEvent::ChatDeleted(chat) => Self::ChatDeleted(ChatDeleted { chat_id: *chat.as_uuid() }),
            LiveEvent::MemberJoined(member) => Self::MemberJoined(MemberJoined { member: member.clone().into() }),
            LiveEvent::MemberUpdated(member) => Self::MemberUpdated(MemberUpdated { member: member.clone().into() }),
            LiveEvent::MemberLeft(user) => Self::MemberLeft(MemberLeft { user_id: *user.as_uuid() }),
            LiveEvent::Delta(delta) => {
                let added = delta.added.clone();
                let (content, reasoning) = match delta.part {
                    Part::Content => (Some(added), None),
                    Part::Reasoning => (None, Some(added)),
                };
                Self::MessageDelta(MessageDelta {
                    chat_id: *delta.chat.as_uuid(),
                    message_id: *delta.message.as_uuid(),
                    offset: delta.offset as u64,
                    content,
                    reasoning,
                })
            }
        }
    }
}

fails!(
    /// What whoever wants to follow a feed may be answered.
    FeedFails: CURSOR_EXPIRED
);

/// A frame as it goes over the wire. The event itself is rendered once for all who watch; only the cursor is each watcher's own.
fn wire(next: &Frame) -> Bytes {
    let event = next.delivery.rendered(|event| {
        let view = EventView::from(event);
        // A struct of texts and numbers always has a JSON form.
        frame(None, view.name(), &serde_json::to_vec(&view).unwrap_or_default())
    });
    match next.cursor {
        Some(cursor) if event.is_empty() => frame(Some(cursor), "", b""),
        Some(cursor) => Bytes::from([format!("id: {cursor}\n").as_bytes(), &event].concat()),
        None => event,
    }
}

/// Follows a workspace or a chat, until the server stops.
pub fn stream(watch: Watch, stop: &CancellationToken) -> EventStream<EventView> {
    let frames = unfold(watch, |mut watch| async move { watch.next().await.map(|next| (wire(&next), watch)) });
    EventStream::new(frames, stop.clone())
}

/// Follows one reply, to its end.
pub fn stream_reply(watch: ReplyWatch, stop: &CancellationToken) -> EventStream<EventView> {
    let frames = unfold(watch, |mut watch| async move { watch.next().await.map(|next| (wire(&next), watch)) });
    EventStream::new(frames, stop.clone())
}

#[cfg(test)]
mod tests {
    use private_chat_core::model::chat::{Chat, Message, ReplyError, ReplyFault, Usage};
    use private_chat_core::model::workspace::{Participant, Role};
    use private_chat_core::usecase::live::Delta;
    use private_chat_tests::fixture::{a_chat, a_membership, a_message, a_reply, a_user, a_workspace};

    use super::*;
    use crate::http::edge::names::writes_as_documented;

    fn an_end(chat: &Chat, status: MessageStatus) -> LiveEvent {
        let error = ReplyError { code: ReplyFault::Timeout, detail: "nothing came".into() };
        let usage = Some(Usage { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 });
        LiveEvent::MessageEnded(Message { status, error: Some(error), usage, ..a_reply(chat) })
    }

    fn a_delta(chat: &Chat, part: Part) -> LiveEvent {
        let message = a_reply(chat).id;
        LiveEvent::Delta(Delta { chat: chat.id, message, offset: 3, part, added: "more".into() })
    }

    #[test]
    fn every_event_is_written_as_the_document_shows_it() {
        let (user, workspace) = (a_user(), a_workspace());
        let chat = a_chat(&workspace, &user);
        let member = Participant {
            membership: a_membership(&workspace, &user, Role::Guest),
            name: user.name.clone(),
            email: user.email.clone(),
        };
        for (name, event) in [
            ("message.created", LiveEvent::MessageCreated(a_message(&chat, &user))),
            ("message.delta", a_delta(&chat, Part::Content)),
            ("message.delta", a_delta(&chat, Part::Reasoning)),
            ("message.completed", an_end(&chat, MessageStatus::Complete)),
            ("message.stopped", an_end(&chat, MessageStatus::Stopped)),
            ("message.failed", an_end(&chat, MessageStatus::Failed)),
            ("message.interrupted", an_end(&chat, MessageStatus::Interrupted)),
            ("chat.created", LiveEvent::ChatCreated(chat.clone())),
            ("chat.updated", LiveEvent::ChatUpdated(chat.clone())),
            ("chat.deleted", LiveEvent::ChatDeleted(chat.id)),
            ("member.joined", LiveEvent::MemberJoined(member.clone())),
            ("member.updated", LiveEvent::MemberUpdated(member)),
            ("member.left", LiveEvent::MemberLeft(user.id)),
        ] {
            let view = EventView::from(&event);
            writes_as_documented(&view);
            assert_eq!((view.name(), serde_json::to_value(&view).unwrap()["type"].as_str()), (name, Some(name)));
        }
    }
}
