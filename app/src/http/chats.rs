//! Chats and messages, under `/workspaces/{workspace_id}`.

use poem_openapi::param::Header;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object, OpenApi};
use private_chat_core::id::MessageId;
use private_chat_core::model::chat::{Parameters, Visibility};
use private_chat_core::page::Cursor as _;
use private_chat_core::port::store::Order;
use private_chat_core::usecase::chats::{ChatChange, NewChat, NewMessage, Opened, Regeneration, Sent, Which};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::caller::{
    AtMessage, CreateChat, DeleteChat, EditChat, In, InCharge, InChat, ItsAuthor, ReadChats, Send, StopReply,
};
use super::edge::events::{EventStream, OrEvents, WantsEvents};
use super::edge::fault::{Codes, Failed};
use super::edge::guard::{By, Id, Query};
use super::edge::json::{Json, NoContent};
use super::feed::{self, EventView, FeedFails};
use super::page::{self, Cursor, Limit, Page};
use super::problem::{CONFLICT, IDEMPOTENCY_KEY_REUSED, NOT_A_REPLY, NOT_RUNNING, TOO_MANY_REPLIES};
use super::repeat::Repeat;
use super::view::{ChatView, MessageView, VisibilityView, patch};
use super::{State, Tag};
use crate::fails;

/// The routes of chats.
pub struct ChatsApi(pub State);

/// A chat to be made.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct CreateChatRequest {
    /// What people call it: 1 to 200 characters.
    #[serde(default)]
    #[oai(nullable)]
    title: Option<String>,
    /// Who may see it; `workspace` unless told.
    visibility: Option<VisibilityView>,
    /// The model that answers, as `GET /models` lists it.
    #[serde(default)]
    #[oai(nullable)]
    model: Option<String>,
    /// What the model is told first, in place of the workspace's: up to 32 KiB.
    #[serde(default)]
    #[oai(nullable)]
    system_prompt: Option<String>,
}

/// What is to change; what is left out stays.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct UpdateChatRequest {
    /// What people call it: 1 to 200 characters; null for nothing.
    #[serde(default)]
    #[oai(nullable)]
    title: MaybeUndefined<String>,
    /// Who may see it. Made private it is gone for everybody but whoever made it.
    visibility: Option<VisibilityView>,
    /// The model that answers, as `GET /models` lists it; null for the workspace's.
    #[serde(default)]
    #[oai(nullable)]
    model: MaybeUndefined<String>,
    /// What the model is told first, in place of the workspace's: up to 32 KiB; null for the workspace's.
    #[serde(default)]
    #[oai(nullable)]
    system_prompt: MaybeUndefined<String>,
    /// Whether it is put away: lists show it with `?archived=true` alone.
    archived: Option<bool>,
}

/// A message as it should have been.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct EditMessageRequest {
    /// The text: up to 64 KiB.
    content: String,
}

/// How a message is to be answered anew.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct RegenerateReplyRequest {
    /// The model that answers, as `GET /models` lists it; the chat's where none is named.
    #[serde(default)]
    #[oai(nullable)]
    model: Option<String>,
    /// How it is to answer.
    #[serde(default)]
    #[oai(nullable)]
    parameters: Option<ParametersRequest>,
}

/// A message to be sent.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct SendMessageRequest {
    /// The text: up to 64 KiB.
    content: String,
    /// The message it follows; the chat's last one where none is named.
    #[serde(default)]
    #[oai(nullable)]
    parent_id: Option<Uuid>,
    /// The model that answers this one, as `GET /models` lists it.
    #[serde(default)]
    #[oai(nullable)]
    model: Option<String>,
    /// How it is to answer.
    #[serde(default)]
    #[oai(nullable)]
    parameters: Option<ParametersRequest>,
}

/// How a model is to answer. What is left out is the provider's choice.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, rename = "Parameters")]
struct ParametersRequest {
    /// How freely it chooses words: 0 to 2.
    #[oai(validator(minimum(value = "0"), maximum(value = "2")))]
    temperature: Option<f64>,
    /// Of how much of the probable it chooses: 0 to 1.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    top_p: Option<f64>,
    /// How many tokens the answer may have.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    max_tokens: Option<u32>,
    /// Texts that end the answer: up to four, each of 1 to 500 characters.
    #[oai(validator(max_items = 4))]
    stop: Option<Vec<String>>,
    /// For repeatable answers, where the provider can.
    seed: Option<i64>,
    /// How much to avoid what was mentioned: -2 to 2.
    #[oai(validator(minimum(value = "-2"), maximum(value = "2")))]
    presence_penalty: Option<f64>,
    /// How much to avoid repetition: -2 to 2.
    #[oai(validator(minimum(value = "-2"), maximum(value = "2")))]
    frequency_penalty: Option<f64>,
    /// How long to think, in the provider's word: `low`, `medium`, `high`.
    #[oai(validator(max_length = 32))]
    reasoning_effort: Option<String>,
}

impl From<ParametersRequest> for Parameters {
    fn from(request: ParametersRequest) -> Self {
        Self {
            temperature: request.temperature,
            top_p: request.top_p,
            max_tokens: request.max_tokens,
            stop: request.stop.unwrap_or_default(),
            seed: request.seed,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            reasoning_effort: request.reasoning_effort,
        }
    }
}

/// The way through a chat's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase", rename = "Order")]
enum OrderQuery {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}

/// A message, and how its reply ended.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Exchange")]
struct ExchangeView {
    /// The message that was sent.
    message: MessageView,
    /// The reply. `status` and `error` tell how it ended.
    reply: MessageView,
}

/// A chat, with its newest messages.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "ChatWithMessages")]
struct OpenedView {
    /// The chat.
    #[serde(flatten)]
    #[oai(flatten)]
    chat: ChatView,
    /// Its newest messages, oldest first.
    messages: Vec<MessageView>,
    /// The `cursor` for older ones, with `GET …/messages`; null where these are all.
    messages_cursor: Option<String>,
}

impl From<Opened> for OpenedView {
    fn from(Opened { chat, messages, older }: Opened) -> Self {
        Self {
            chat: chat.into(),
            messages: messages.into_iter().map(Into::into).collect(),
            messages_cursor: older.map(|older| older.encode()),
        }
    }
}

fails!(CreateFails: CONFLICT, IDEMPOTENCY_KEY_REUSED);
fails!(UpdateChatFails: CONFLICT);
fails!(StopFails: NOT_RUNNING, CONFLICT);
fails!(SendFails: CONFLICT, IDEMPOTENCY_KEY_REUSED, TOO_MANY_REPLIES);
fails!(RegenerateFails: NOT_A_REPLY, CONFLICT, IDEMPOTENCY_KEY_REUSED, TOO_MANY_REPLIES);

/// What a send answers, and whatever else begins a reply.
type Answer<C> = Result<OrEvents<Json<ExchangeView, 201>, EventView>, Failed<C>>;

#[OpenApi(prefix_path = "/workspaces/:workspace_id", tag = "Tag::Chats")]
impl ChatsApi {
    /// The workspace's chats, most recently active first
    ///
    /// Those that the caller may see. `q` finds those of which the title, or one message, has all its words: whole words, whatever their case and
    /// accents. Scripts without blanks between words are found by any part. Such a page may have fewer chats than `limit` and yet a `next_cursor`.
    #[oai(path = "/chats/history", method = "get", operation_id = "list_chats")]
    async fn history(
        &self,
        by: By<In<ReadChats>>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
        q: Query<Option<String>>,
        archived: Query<Option<bool>>,
        mine: Query<Option<bool>>,
    ) -> Result<Json<Page<ChatView>>, Failed> {
        let which = Which { archived: archived.0.unwrap_or(false), mine: mine.0.unwrap_or(false), words: q.0 };
        let page = self.0.cases.chats.history(&by.0.0, which, page::request(&limit, &cursor)?).await?;
        Ok(Json(Page::of(page)))
    }

    /// Make a chat
    #[oai(path = "/chat", method = "post", operation_id = "create_chat")]
    async fn create(
        &self,
        by: By<In<CreateChat>>,
        #[oai(name = "Idempotency-Key")] input: Repeat<CreateChatRequest>,
    ) -> Result<Json<ChatView, 201>, Failed<CreateFails>> {
        let CreateChatRequest { title, visibility, model, system_prompt } = input.body;
        let visibility = visibility.map_or(Visibility::Workspace, Into::into);
        let new = NewChat { title, visibility, model, system_prompt };
        Ok(Json(self.0.cases.chats.create(&by.0.0, new, input.request).await?.into()))
    }

    /// A chat, with its newest messages
    #[oai(path = "/chat/:chat_id", method = "get", operation_id = "get_chat")]
    async fn get(&self, by: By<InChat<ReadChats>>) -> Result<Json<OpenedView>, Failed> {
        Ok(Json(self.0.cases.chats.read(by.0.0).await?.into()))
    }

    /// Change a chat's settings
    ///
    /// For whoever made it, and for OWNERs.
    #[oai(path = "/chat/:chat_id", method = "patch", operation_id = "update_chat")]
    async fn update(
        &self,
        by: By<InCharge<EditChat>>,
        input: Json<UpdateChatRequest>,
    ) -> Result<Json<ChatView>, Failed<UpdateChatFails>> {
        let UpdateChatRequest { title, visibility, model, system_prompt, archived } = input.0;
        let change = ChatChange {
            title: patch(title),
            visibility: visibility.map(Into::into),
            model: patch(model),
            system_prompt: patch(system_prompt),
            archived,
        };
        Ok(Json(self.0.cases.chats.change(&by.0.0, change).await?.into()))
    }

    /// Delete a chat
    ///
    /// For whoever made it, and for OWNERs. Its messages go too, for everybody at once, and its running replies end.
    #[oai(path = "/chat/:chat_id", method = "delete", operation_id = "delete_chat")]
    async fn delete(&self, by: By<InCharge<DeleteChat>>) -> Result<NoContent, Failed<UpdateChatFails>> {
        self.0.cases.chats.delete(&by.0.0).await?;
        Ok(NoContent)
    }

    /// A chat's messages, over all branches
    ///
    /// In the order they were stored, newest first unless told. A cursor belongs to the order it was made in.
    #[oai(path = "/chat/:chat_id/messages", method = "get", operation_id = "list_messages")]
    async fn messages(
        &self,
        by: By<InChat<ReadChats>>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
        order: Query<Option<OrderQuery>>,
    ) -> Result<Json<Page<MessageView>>, Failed> {
        let order = match order.0.unwrap_or_default() {
            OrderQuery::Asc => Order::Ascending,
            OrderQuery::Desc => Order::Descending,
        };
        let page = self.0.cases.chats.messages(&by.0.0, order, page::request(&limit, &cursor)?).await?;
        Ok(Json(Page::of(page)))
    }

    /// Send a message
    ///
    /// With `Accept: text/event-stream` the answer is the stream of the reply, from `message.created` to its end. Else it comes once the reply
    /// has ended, however it ended. Going away stops nothing: the reply belongs to the server.
    #[oai(path = "/chat/:chat_id/message", method = "post", operation_id = "send_message")]
    async fn send(
        &self,
        by: By<InChat<Send>>,
        wants_events: WantsEvents,
        #[oai(name = "Idempotency-Key")] input: Repeat<SendMessageRequest>,
    ) -> Answer<SendFails> {
        let SendMessageRequest { content, parent_id, model, parameters } = input.body;
        let new = NewMessage {
            content,
            parent: parent_id.map(Into::into),
            model,
            parameters: parameters.unwrap_or_default().into(),
        };
        let sent = self.0.cases.chats.send(&by.0.0, new, wants_events.0, input.request).await?;
        self.answer(sent).await
    }

    /// Edit one's own message
    ///
    /// The edited message is a sibling of what it was, which stays, and is answered anew. Answers as a send does.
    #[oai(path = "/chat/:chat_id/message/:message_id", method = "patch", operation_id = "edit_message")]
    async fn edit(
        &self,
        by: By<ItsAuthor>,
        message_id: Id<MessageId>,
        wants_events: WantsEvents,
        #[oai(name = "Idempotency-Key")] input: Repeat<EditMessageRequest>,
    ) -> Answer<SendFails> {
        let edited = (message_id.0, input.body.content);
        let sent = self.0.cases.chats.edit(&by.0.0, edited, wants_events.0, input.request).await?;
        self.answer(sent).await
    }

    /// Have a message answered again
    ///
    /// `message_id` is the reply. The new one is its sibling, and both stay. Answers as a send does, with the message that is answered.
    #[oai(path = "/chat/:chat_id/message/:message_id/regenerate", method = "post", operation_id = "regenerate_reply")]
    async fn regenerate(
        &self,
        by: By<AtMessage<Send>>,
        message_id: Id<MessageId>,
        wants_events: WantsEvents,
        #[oai(name = "Idempotency-Key")] input: Repeat<Option<RegenerateReplyRequest>>,
    ) -> Answer<RegenerateFails> {
        let RegenerateReplyRequest { model, parameters } = input.body.unwrap_or_default();
        let new = Regeneration { model, parameters: parameters.unwrap_or_default().into() };
        let asked = (message_id.0, new);
        let sent = self.0.cases.chats.regenerate(&by.0.0, asked, wants_events.0, input.request).await?;
        self.answer(sent).await
    }

    /// End a running reply
    ///
    /// For whoever asked for it, whoever made the chat, and OWNERs. What was made is kept, with status `stopped`. Answers with the reply once it
    /// has ended, or after 5 s as it is then.
    #[oai(path = "/chat/:chat_id/message/:message_id/stop", method = "post", operation_id = "stop_reply")]
    async fn stop(
        &self,
        by: By<InChat<StopReply>>,
        message_id: Id<MessageId>,
    ) -> Result<Json<MessageView>, Failed<StopFails>> {
        Ok(Json(self.0.cases.chats.stop(&by.0.0, message_id.0).await?.into()))
    }

    /// Follow one chat
    ///
    /// As the workspace's feed, for this chat alone.
    #[oai(path = "/chat/:chat_id/events", method = "get", operation_id = "follow_chat", tag = "Tag::Events")]
    async fn events(
        &self,
        by: By<InChat<ReadChats>>,
        #[oai(name = "Last-Event-ID")] last_event_id: Header<Option<u64>>,
        after: Query<Option<u64>>,
    ) -> Result<EventStream<EventView>, Failed<FeedFails>> {
        let watch = self.0.cases.chats.watch(&by.0.0, last_event_id.0.or(after.0)).await?;
        Ok(feed::stream(watch, &self.0.stop))
    }
}

impl ChatsApi {
    /// The stream of a reply that has begun, or its end.
    async fn answer<C: Codes>(&self, sent: Sent) -> Answer<C> {
        if let Some(watch) = sent.watch {
            return Ok(OrEvents::Live(feed::stream_reply(watch, &self.0.stop)));
        }
        let (message, reply) = sent.end.wait().await?;
        Ok(OrEvents::Whole(Json(ExchangeView { message: message.into(), reply: reply.into() })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::names::reads_as_documented;

    #[test]
    fn requests_are_read_as_the_document_shows_them() {
        reads_as_documented::<CreateChatRequest>();
        reads_as_documented::<UpdateChatRequest>();
        reads_as_documented::<SendMessageRequest>();
        reads_as_documented::<EditMessageRequest>();
        reads_as_documented::<RegenerateReplyRequest>();
        reads_as_documented::<ParametersRequest>();
    }
}
