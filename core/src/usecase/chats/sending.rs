//! Messages: sending, editing and asking anew, each with the reply that it begins, and stopping one.

use std::sync::Arc;

use futures_channel::oneshot;

use super::{Chats, InChat, as_member};
use crate::change::{Follows, Version};
use crate::error::{Backend, Checks, Error, Kind, Obstacle};
use crate::id::MessageId;
use crate::model::chat::{self, Message, MessageStatus, Parameters, ReplyFault, Speaker};
use crate::model::idempotency::{Made, Repeatable};
use crate::model::user::Author;
use crate::policy::Right;
use crate::port::Ports;
use crate::port::tasks::uncancelled;
use crate::usecase::idempotency::Stamp;
use crate::usecase::live::{Live, ReplyWatch};
use crate::usecase::reply::{Begun, Job};

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The text.
    pub content: String,
    /// The message it follows; the chat's last one where none is named.
    pub parent: Option<MessageId>,
    /// The model that answers this one.
    pub model: Option<String>,
    /// How it is to answer.
    pub parameters: Parameters,
}

/// How a message is to be answered anew.
#[derive(Clone, Debug, Default)]
pub struct Regeneration {
    /// The model that answers.
    pub model: Option<String>,
    /// How it is to answer.
    pub parameters: Parameters,
}

impl Chats {
    /// Stores a message, begins its reply, and returns at once. The member came in with [`Right::Send`]. A request that is sent again joins the
    /// reply that it began.
    ///
    /// # Errors
    /// `Invalid`; `NotFound(Message)` for a parent that is none of the chat, and for a repeated request whose message is gone;
    /// `TooManyReplies`; `ShuttingDown`; `IdempotencyKeyReused`.
    pub async fn send(
        &self,
        at: &InChat,
        new: NewMessage,
        watched: bool,
        request: Option<Repeatable>,
    ) -> Result<Sent, Error> {
        let new = &new;
        let first = |stamp| async move {
            let NewMessage { content, parent, model, parameters } = new.clone();
            let follows = if parent.is_some() { Follows::Parent } else { Follows::Last };
            self.write(at, (content, parent, follows), (model, parameters), watched, stamp).await
        };
        let again = |made| self.join(at, made, true, watched);
        self.idempotency.once(at.actor().user().id, request, first, again).await
    }

    /// Stores one's own message as it should have been, beside what it was, and begins its reply. The member came in with [`Right::Send`].
    ///
    /// # Errors
    /// `Forbidden` for a message of anybody else; else as [`send`](Self::send).
    pub async fn edit(
        &self,
        at: &InChat,
        (id, content): (MessageId, String),
        watched: bool,
        request: Option<Repeatable>,
    ) -> Result<Sent, Error> {
        let content = &content;
        let first = |stamp| async move {
            let old = self.message(at, id).await?;
            at.require_author(&old)?;
            let answer = (None, Parameters::default());
            self.write(at, (content.clone(), old.parent, Follows::Parent), answer, watched, stamp).await
        };
        let again = |made| self.join(at, made, true, watched);
        self.idempotency.once(at.actor().user().id, request, first, again).await
    }

    /// Begins another reply to the message that this reply answers; both stay. The member came in with [`Right::Send`].
    ///
    /// # Errors
    /// `NotFound(Message)`; `Conflict(NotAReply)`; else as [`send`](Self::send).
    pub async fn regenerate(
        &self,
        at: &InChat,
        (reply, new): (MessageId, Regeneration),
        watched: bool,
        request: Option<Repeatable>,
    ) -> Result<Sent, Error> {
        let new = &new;
        let first = |stamp| async move {
            let Regeneration { model, parameters } = new.clone();
            let reply = self.message(at, reply).await?;
            let (Speaker::Assistant, Some(asked)) = (reply.speaker, reply.parent) else {
                return Err(Error::Conflict(Obstacle::NotAReply));
            };
            let message = self.message(at, asked).await?;
            let parameters = checked(Checks::new(), Some(()), parameters)?.1;
            self.begin(at, (message, None), (model, parameters), watched, stamp).await
        };
        let again = |made| self.join(at, made, false, watched);
        self.idempotency.once(at.actor().user().id, request, first, again).await
    }

    /// A message of the chat.
    ///
    /// # Errors
    /// `NotFound(Message)`.
    pub async fn message(&self, at: &InChat, id: MessageId) -> Result<Message, Error> {
        self.ports.chats.message(at.chat.id, id).await?.ok_or(Error::NotFound(Kind::Message))
    }

    /// Joins a reply that a request has begun when it was sent before.
    async fn join(&self, at: &InChat, made: Made, tells_message: bool, watched: bool) -> Result<Sent, Error> {
        let message = self.message(at, made.id.into()).await?;
        let reply = made.reply.ok_or(Error::NotFound(Kind::Message))?.into();
        let new = tells_message.then(|| message.clone());
        let watch = ReplyWatch::again(&self.live, (&at.member, &at.chat), new, reply).await?;
        let (watch, end) = if watched { (Some(watch), End::Stored) } else { (None, End::Followed(watch)) };
        Ok(self.sent(at, message, reply, watch, end))
    }

    fn sent(&self, at: &InChat, message: Message, reply: MessageId, watch: Option<ReplyWatch>, end: End) -> Sent {
        let (at, ports, live) = (at.clone(), self.ports.clone(), self.live.clone());
        Sent { message: message.clone(), watch, end: EndOfReply { at, message, reply, end, ports, live } }
    }

    /// Stores a new message and begins its reply.
    async fn write(
        &self,
        at: &InChat,
        (content, parent, follows): (String, Option<MessageId>, Follows),
        (model, parameters): (Option<String>, Parameters),
        watched: bool,
        stamp: Stamp,
    ) -> Result<Sent, Error> {
        let mut checks = Checks::new();
        let content = checks.take(chat::content(content));
        let (content, parameters) = checked(checks, content, parameters)?;
        if let Some(parent) = parent {
            self.message(at, parent).await?;
        }
        let now = self.ports.clock.now();
        let message = Message {
            id: self.ports.new_id(),
            workspace: at.chat.workspace,
            chat: at.chat.id,
            seq: 0,
            parent,
            speaker: Speaker::User,
            author: Some(Author::from(at.actor().user())),
            content,
            reasoning: None,
            status: MessageStatus::Complete,
            model: None,
            provider: None,
            usage: None,
            finish_reason: None,
            error: None,
            created_at: now,
            updated_at: now,
            version: Version::FIRST,
        };
        self.begin(at, (message, Some(follows)), (model, parameters), watched, stamp).await
    }

    /// Begins the reply to a message, which is stored with it where it is new.
    async fn begin(
        &self,
        at: &InChat,
        (message, new): (Message, Option<Follows>),
        (model, parameters): (Option<String>, Parameters),
        watched: bool,
        stamp: Stamp,
    ) -> Result<Sent, Error> {
        let beginning = self.replies.may_begin()?;
        let workspace = &at.member.joined().workspace;
        let named = [model.as_deref(), at.chat.model.as_deref(), workspace.default_model.as_deref()];
        let choice = self.models.choose(named).await?;
        let now = self.ports.clock.now();
        let reply = Message {
            id: self.ports.new_id(),
            seq: 0,
            parent: Some(message.id),
            speaker: Speaker::Assistant,
            author: None,
            content: String::new(),
            status: MessageStatus::Streaming,
            model: choice.id(),
            provider: Some(choice.provider.clone()),
            created_at: now,
            updated_at: now,
            version: Version::FIRST,
            ..message.clone()
        };
        let system_prompt = at.chat.system_prompt.clone().or_else(|| workspace.system_prompt.clone());
        let (chat, member) = (at.chat.clone(), at.member.clone());
        let (replies, ports) = (self.replies.clone(), self.ports.clone());
        // From the commit to the start of the reply nothing may come in between, least of all a client that hangs up.
        let begun = uncancelled(&self.ports.tasks, async move {
            let _beginning = beginning;
            let made = Made { id: *message.id.as_uuid(), reply: Some(*reply.id.as_uuid()) };
            as_member(&ports, &member, Right::Send, |changes| {
                let job = Job {
                    message: message.clone(),
                    new,
                    reply: reply.clone(),
                    chat: chat.clone(),
                    choice: choice.clone(),
                    system_prompt: system_prompt.clone(),
                    parameters: parameters.clone(),
                    member: member.clone(),
                };
                replies.begin(job, stamp.add(changes, made), watched)
            })
            .await
        });
        let Begun { message, reply, watch, end } = begun.await.ok_or(Error::ShuttingDown)??;
        Ok(self.sent(at, message, reply.id, watch, End::Known(end)))
    }

    /// Ends a running reply; what was made is kept. The member came in with [`Right::StopReply`].
    ///
    /// # Errors
    /// `NotFound(Message)`; `Forbidden` unless the actor asked for it, made the chat or is an OWNER; `Conflict(NotRunning)`.
    pub async fn stop(&self, at: &InChat, id: MessageId) -> Result<Message, Error> {
        let message = self.message(at, id).await?;
        if message.speaker != Speaker::Assistant || message.status != MessageStatus::Streaming {
            return Err(Error::Conflict(Obstacle::NotRunning));
        }
        let running = self.ports.replies.running(id).await?.ok_or(Error::Conflict(Obstacle::NotRunning))?;
        if running.asked_by != at.actor().user().id {
            at.require_charge()?;
        }
        self.replies.stop(running).await?;
        self.message(at, id).await
    }
}

/// Checks the parameters together with what else was sent.
fn checked<T>(mut checks: Checks, other: Option<T>, parameters: Parameters) -> Result<(T, Parameters), Error> {
    let stop = checks.take(chat::stop(parameters.stop.clone()));
    let (other, stop) = checks.done(other.zip(stop))?;
    Ok((other, Parameters { stop, ..parameters }))
}

/// A message that is stored, and its reply that has begun.
pub struct Sent {
    /// The person's message.
    pub message: Message,
    /// The stream of the reply, where it was asked for.
    pub watch: Option<ReplyWatch>,
    /// The end of the reply.
    pub end: EndOfReply,
}

/// The end of a reply, to be waited for.
pub struct EndOfReply {
    pub(super) at: InChat,
    pub(super) message: Message,
    pub(super) reply: MessageId,
    pub(super) end: End,
    pub(super) ports: Ports,
    pub(super) live: Arc<Live>,
}

/// How the end of a reply comes to be known.
pub(super) enum End {
    /// The reply runs here, and tells.
    Known(oneshot::Receiver<Message>),
    /// It runs somewhere, and is followed.
    Followed(ReplyWatch),
    /// Somebody else waits for it.
    Stored,
}

impl EndOfReply {
    /// Waits for the end, however it comes; gives the message and the reply.
    ///
    /// # Errors
    /// `Unauthenticated(Token)` or `NotFound(Workspace)` for one who was signed out, or removed, before it came; `NotFound(Chat)` when the chat
    /// was made private, or was deleted before it could be followed; `Unavailable` when the process stops, or loses the database, before the end
    /// is known.
    pub async fn wait(self) -> Result<(Message, Message), Error> {
        let known = match self.end {
            End::Known(end) => end.await.ok(),
            End::Followed(mut watch) => {
                while watch.next().await.is_some() {}
                None
            }
            End::Stored => None,
        };
        // Like an open stream, an answer that is waited for is for those alone who still may read it.
        let chat = &self.at.chat;
        let mut again = self.at.actor().arrive_again(&self.ports, chat.workspace, Some(chat.id)).await?;
        let now = again.chat.take();
        let user = again.member(Right::ReadChats)?.actor().user().id;
        let deleted = known
            .as_ref()
            .and_then(|reply| reply.error.as_ref())
            .is_some_and(|error| error.code == ReplyFault::Deleted);
        // Nothing hides a chat from whoever made it.
        if chat.creator() != Some(user) {
            let visible = if deleted {
                // It may have been made private before it went: the last that was known of it here counts.
                self.live.admits(chat, user)
            } else {
                now.is_some_and(|chat| chat.visible_to(user))
            };
            if !visible {
                return Err(Error::NotFound(Kind::Chat));
            }
        }
        let reply = match known {
            Some(reply) => reply,
            None => {
                let stored = self.ports.chats.message(chat.id, self.reply).await?;
                stored.ok_or(Error::NotFound(Kind::Chat))?
            }
        };
        if reply.status == MessageStatus::Streaming {
            // What followed it broke off; the request can be sent again and joins anew.
            let cause = "the reply could not be followed to its end".into();
            return Err(Error::Unavailable { backend: Backend::Database, cause });
        }
        Ok((self.message, reply))
    }
}
