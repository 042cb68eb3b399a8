//! Chats and messages.

use std::sync::Arc;

use super::auth::Actor;
use super::deciding_again;
use super::idempotency::{Idempotency, Stamp};
use super::live::{Live, LiveEvent, ReplyWatch, Scope, Watch};
use super::models::Models;
use super::reply::{Begun, Job, Replies};
use super::workspaces::Member;
use crate::change::{Changes, Event, EventKind, EventNumber, Version};
use crate::error::{Backend, Checks, Conflict, Error, Failure, Forbidden, Kind, Obstacle};
use crate::id::{ChatId, MessageId};
use crate::model::chat::{self, Chat, Message, MessageStatus, Parameters, Seq, Speaker, Visibility};
use crate::model::idempotency::{Made, Repeatable};
use crate::model::user::Author;
use crate::model::workspace::{self, Role};
use crate::page::{ActivityKey, Page, PageRequest};
use crate::policy::Right;
use crate::port::Ports;
use crate::port::store::{ChatFilter, Order};
use crate::port::tasks::uncancelled;

/// A member in a chat that they may see. Made by [`Chats::open`] alone.
#[derive(Clone, Debug)]
pub struct InChat {
    member: Member,
    chat: Chat,
}

impl InChat {
    /// Who.
    #[must_use]
    pub const fn member(&self) -> &Member {
        &self.member
    }

    /// The chat.
    #[must_use]
    pub const fn chat(&self) -> &Chat {
        &self.chat
    }

    fn actor(&self) -> &Actor {
        self.member.actor()
    }

    /// Lets those through who made the chat or run the workspace, and nobody else.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn require_charge(&self) -> Result<(), Error> {
        self.require_charge_as(self.member.role())
    }

    fn require_charge_as(&self, role: Role) -> Result<(), Error> {
        let creator = self.chat.created_by.as_ref().map(|creator| creator.id);
        if creator == Some(self.actor().user().id) || role == Role::Owner {
            Ok(())
        } else {
            Err(Error::Forbidden(Forbidden::Role))
        }
    }
}

/// A chat to be made.
#[derive(Clone, Debug)]
pub struct NewChat {
    /// What people call it.
    pub title: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// The model that answers.
    pub model: Option<String>,
    /// What the model is told first.
    pub system_prompt: Option<String>,
}

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

/// A chat with its newest messages.
#[derive(Debug)]
pub struct Opened {
    /// The chat.
    pub chat: Chat,
    /// Its newest messages, oldest first.
    pub messages: Vec<Message>,
    /// Towards older ones.
    pub older: Option<Seq>,
}

/// Making, reading and writing chats.
pub struct Chats {
    ports: Ports,
    live: Arc<Live>,
    models: Arc<Models>,
    replies: Arc<Replies>,
    idempotency: Arc<Idempotency>,
}

impl Chats {
    /// Over these ports.
    #[must_use]
    pub const fn new(
        ports: Ports,
        live: Arc<Live>,
        models: Arc<Models>,
        replies: Arc<Replies>,
        idempotency: Arc<Idempotency>,
    ) -> Self {
        Self { ports, live, models, replies, idempotency }
    }

    /// Lets a member into a chat that they may see.
    ///
    /// # Errors
    /// `NotFound(Chat)` for any other.
    pub async fn open(&self, member: Member, id: ChatId) -> Result<InChat, Error> {
        let chat = self.ports.chats.chat(member.workspace(), id).await?;
        match chat.filter(|chat| chat.visible_to(member.actor().user().id)) {
            Some(chat) => Ok(InChat { member, chat }),
            None => Err(Error::NotFound(Kind::Chat)),
        }
    }

    /// Makes a chat. The member came in with [`Right::CreateChat`].
    ///
    /// # Errors
    /// `Invalid`; `IdempotencyKeyReused`; `NotFound(Chat)` for a repeated request whose chat is gone.
    pub async fn create(&self, member: &Member, new: NewChat, request: Option<Repeatable>) -> Result<Chat, Error> {
        let first = |stamp| self.make(member, new.clone(), stamp);
        let again = |made: Made| async move {
            let chat = self.ports.chats.chat(member.workspace(), made.id.into()).await?;
            chat.ok_or(Error::NotFound(Kind::Chat))
        };
        self.idempotency.once(member.actor().user().id, request, first, again).await
    }

    async fn make(&self, member: &Member, new: NewChat, stamp: Stamp) -> Result<Chat, Error> {
        let mut checks = Checks::new();
        let title = checks.take(new.title.map(chat::title).transpose());
        let system_prompt = checks.take(new.system_prompt.map(workspace::system_prompt).transpose());
        let model = match new.model {
            Some(model) => checks.take(self.models.check("model", model).await.map(Some)),
            None => Some(None),
        };
        let ((title, system_prompt), model) = checks.done(title.zip(system_prompt).zip(model))?;
        let now = self.ports.clock.now();
        let chat = Chat {
            id: self.ports.new_id(),
            workspace: member.workspace(),
            title,
            visibility: new.visibility,
            model,
            system_prompt,
            archived: false,
            created_by: Some(Author::from(member.actor().user())),
            message_count: 0,
            last_message_at: None,
            created_at: now,
            updated_at: now,
            version: Version::FIRST,
        };
        let committed = as_member(&self.ports, member, Right::CreateChat, |changes| {
            let changes = changes.insert(chat.clone()).emit(event(&chat, EventKind::ChatCreated(chat.id), now));
            let changes = stamp.add(changes, Made { id: *chat.id.as_uuid(), reply: None });
            async { self.ports.work.commit(changes).await }
        })
        .await?;
        self.live.publish_chat(committed.first_event(), &chat, LiveEvent::ChatCreated(chat.clone()));
        Ok(chat)
    }

    /// The workspace's chats that the member may see, most recently active first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn history(
        &self,
        member: &Member,
        (archived, mine): (bool, bool),
        page: PageRequest<ActivityKey>,
    ) -> Result<Page<Chat, ActivityKey>, Error> {
        let filter = ChatFilter { workspace: member.workspace(), viewer: member.actor().user().id, archived, mine };
        Ok(self.ports.chats.chats(filter, page).await?)
    }

    /// The chat with its newest messages.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn read(&self, at: InChat) -> Result<Opened, Error> {
        let page = self.messages(&at, Order::Descending, PageRequest::default()).await?;
        let mut messages = page.items;
        messages.reverse();
        Ok(Opened { chat: at.chat, messages, older: page.next })
    }

    /// A page of the chat's messages, over all branches, in the order they were stored.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn messages(
        &self,
        at: &InChat,
        order: Order,
        page: PageRequest<Seq>,
    ) -> Result<Page<Message, Seq>, Error> {
        Ok(self.ports.chats.messages(at.chat.id, order, page).await?)
    }

    /// Renames a chat. The member came in with [`Right::EditChat`].
    ///
    /// # Errors
    /// `Forbidden` unless the actor made the chat or is an OWNER; `Invalid`; `NotFound(Workspace)` for one who is no member any more, and
    /// `NotFound(Chat)` when it is gone by now.
    pub async fn rename(&self, at: &InChat, title: String) -> Result<Chat, Error> {
        at.require_charge()?;
        let title = chat::title(title)?;
        let (number, chat) = deciding_again(|| async {
            let membership = at.member.still(&self.ports, Right::EditChat).await?;
            at.require_charge_as(membership.role)?;
            let changes = Changes::new().expect_member(&membership);
            let stored = self.ports.chats.chat(at.chat.workspace, at.chat.id).await?;
            let old = stored.ok_or(Error::NotFound(Kind::Chat))?;
            let now = self.ports.clock.now();
            let renamed = Chat { title: Some(title.clone()), updated_at: now, ..old };
            let changed = event(&renamed, EventKind::ChatUpdated(renamed.id), now);
            let committed = self.ports.work.commit(changes.update(renamed.clone()).emit(changed)).await?;
            Ok((committed.first_event(), Chat { version: renamed.version.next(), ..renamed }))
        })
        .await?;
        self.live.publish_chat(number, &chat, LiveEvent::ChatUpdated(chat.clone()));
        Ok(chat)
    }

    /// Stores a message, begins its reply, and returns at once. The member came in with [`Right::Send`]. A request that is sent again joins the
    /// reply that it began.
    ///
    /// # Errors
    /// `Invalid`; `NotFound(Message)` for a parent that is none of the chat, and for a repeated request whose message is gone; `ShuttingDown`;
    /// `IdempotencyKeyReused`.
    pub async fn send(
        &self,
        at: &InChat,
        new: NewMessage,
        watched: bool,
        request: Option<Repeatable>,
    ) -> Result<Sent, Error> {
        let first = |stamp| self.begin(at, new.clone(), watched, stamp);
        let again = |made| self.join(at, made, watched);
        self.idempotency.once(at.actor().user().id, request, first, again).await
    }

    /// Joins a reply that a request has begun when it was sent before.
    async fn join(&self, at: &InChat, made: Made, watched: bool) -> Result<Sent, Error> {
        let gone = || Error::NotFound(Kind::Message);
        let message = self.ports.chats.message(at.chat.id, made.id.into()).await?.ok_or_else(gone)?;
        let reply = made.reply.ok_or_else(gone)?.into();
        let watch = ReplyWatch::again(&self.live, &at.member, message.clone(), reply).await?;
        let (watch, end) = if watched { (Some(watch), End::Stored) } else { (None, End::Followed(watch)) };
        Ok(self.sent(at, message, reply, watch, end))
    }

    fn sent(&self, at: &InChat, message: Message, reply: MessageId, watch: Option<ReplyWatch>, end: End) -> Sent {
        let (member, ports) = (at.member.clone(), self.ports.clone());
        Sent { message: message.clone(), watch, end: EndOfReply { member, message, reply, end, ports } }
    }

    async fn begin(&self, at: &InChat, new: NewMessage, watched: bool, stamp: Stamp) -> Result<Sent, Error> {
        let beginning = self.replies.may_begin()?;
        let mut checks = Checks::new();
        let content = checks.take(chat::content(new.content));
        let stop = checks.take(chat::stop(new.parameters.stop));
        let (content, stop) = checks.done(content.zip(stop))?;
        let parameters = Parameters { stop, ..new.parameters };
        if let Some(parent) = new.parent
            && self.ports.chats.message(at.chat.id, parent).await?.is_none()
        {
            return Err(Error::NotFound(Kind::Message));
        }
        let workspace = &at.member.joined().workspace;
        let named = [new.model.as_deref(), at.chat.model.as_deref(), workspace.default_model.as_deref()];
        let choice = self.models.choose(named).await?;
        let now = self.ports.clock.now();
        let message = Message {
            id: self.ports.new_id(),
            workspace: workspace.id,
            chat: at.chat.id,
            seq: 0,
            parent: new.parent,
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
        let reply = Message {
            id: self.ports.new_id(),
            parent: Some(message.id),
            speaker: Speaker::Assistant,
            author: None,
            content: String::new(),
            status: MessageStatus::Streaming,
            model: choice.id(),
            provider: Some(choice.provider.clone()),
            ..message.clone()
        };
        let system_prompt = at.chat.system_prompt.clone().or_else(|| workspace.system_prompt.clone());
        let (audience, member) = (at.chat.audience(), at.member.clone());
        let (replies, ports) = (self.replies.clone(), self.ports.clone());
        // From the commit to the start of the reply nothing may come in between, least of all a client that hangs up.
        let begun = uncancelled(&self.ports.tasks, async move {
            let _beginning = beginning;
            let made = Made { id: *message.id.as_uuid(), reply: Some(*reply.id.as_uuid()) };
            as_member(&ports, &member, Right::Send, |changes| {
                let job = Job {
                    message: message.clone(),
                    reply: reply.clone(),
                    choice: choice.clone(),
                    system_prompt: system_prompt.clone(),
                    parameters: parameters.clone(),
                    audience,
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
        let gone = || Error::NotFound(Kind::Message);
        let message = self.ports.chats.message(at.chat.id, id).await?.ok_or_else(gone)?;
        if message.speaker != Speaker::Assistant || message.status != MessageStatus::Streaming {
            return Err(Error::Conflict(Obstacle::NotRunning));
        }
        let running = self.ports.replies.running(id).await?.ok_or(Error::Conflict(Obstacle::NotRunning))?;
        if running.asked_by != at.actor().user().id {
            at.require_charge()?;
        }
        self.replies.stop(running).await?;
        self.ports.chats.message(at.chat.id, id).await?.ok_or_else(gone)
    }

    /// Follows one chat, from the event after `after`, or from now on.
    ///
    /// # Errors
    /// As [`Live::watch`].
    pub async fn watch(&self, at: &InChat, after: Option<EventNumber>) -> Result<Watch, Error> {
        self.live.watch(&at.member, Scope::Chat(at.chat.id), after).await
    }
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
    member: Member,
    message: Message,
    reply: MessageId,
    end: End,
    ports: Ports,
}

/// How the end of a reply comes to be known.
enum End {
    /// The reply runs here, and tells.
    Known(futures_channel::oneshot::Receiver<Message>),
    /// It runs somewhere, and is followed.
    Followed(ReplyWatch),
    /// Somebody else waits for it.
    Stored,
}

impl EndOfReply {
    /// Waits for the end, however it comes; gives the message and the reply.
    ///
    /// # Errors
    /// `Unauthenticated(Token)` or `NotFound(Workspace)` for one who was signed out, or removed, before it came; `NotFound(Message)` when it
    /// was deleted; `Unavailable` when the process stops, or loses the database, before the end is known.
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
        self.member.actor().still(&self.ports).await?;
        self.member.still(&self.ports, Right::ReadChats).await?;
        let reply = match known {
            Some(reply) => reply,
            None => {
                let stored = self.ports.chats.message(self.message.chat, self.reply).await?;
                stored.ok_or(Error::NotFound(Kind::Message))?
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

fn event(chat: &Chat, kind: EventKind, at: crate::time::Timestamp) -> Event {
    Event { workspace: chat.workspace, kind, at }
}

/// Runs a commit that begins with the expectation that the member still is one, and still holds the right: a removal and what the removed one
/// writes cannot both win.
async fn as_member<T, F>(
    ports: &Ports,
    member: &Member,
    right: Right,
    mut commit: impl FnMut(Changes) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut membership = member.joined().membership.clone();
    for _ in 0..=super::ATTEMPTS {
        let failure = match commit(Changes::new().expect_member(&membership)).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        match failure.conflict() {
            Some((Conflict::Stale, 0)) => {}
            Some((Conflict::MissingParent, _)) => return Err(Error::NotFound(Kind::Chat)),
            _ => return Err(failure.into()),
        }
        membership = member.still(ports, right).await?;
    }
    Err(Error::Conflict(Obstacle::Concurrent))
}

#[cfg(test)]
mod tests;
