//! Chats: making, finding, reading, changing and deleting them.

mod sending;

use std::sync::Arc;

use super::auth::{Actor, Arrived};
use super::idempotency::{Idempotency, Stamp};
use super::live::{Live, Watch};
use super::models::Models;
use super::reply::Replies;
use super::workspaces::Member;
use super::{Patch, Stale, deciding_again};
use crate::change::{Changes, Event, EventKind, EventNumber, Version};
use crate::error::{Checks, Conflict, Error, Failure, Forbidden, Kind, Obstacle, Violation};
use crate::model::chat::{self, Audience, Chat, Message, Seq, Visibility};
use crate::model::idempotency::{Made, Repeatable};
use crate::model::search::Query;
use crate::model::user::Author;
use crate::model::workspace::{self, Role};
use crate::page::{ActivityKey, Page, PageRequest};
use crate::policy::Right;
use crate::port::Ports;
use crate::port::store::{ChatFilter, Order};
use crate::time::Timestamp;
pub use sending::{EndOfReply, NewMessage, Regeneration, Sent};

/// A member in a chat that they may see. Made by [`Arrived::in_chat`] alone.
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

    /// Lets the author of a message through, and nobody else.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn require_author(&self, message: &Message) -> Result<(), Error> {
        let author = message.author.as_ref().map(|author| author.id);
        if author == Some(self.actor().user().id) { Ok(()) } else { Err(Error::Forbidden(Forbidden::Role)) }
    }

    fn require_charge_as(&self, role: Role) -> Result<(), Error> {
        if self.chat.creator() == Some(self.actor().user().id) || role == Role::Owner {
            Ok(())
        } else {
            Err(Error::Forbidden(Forbidden::Role))
        }
    }
}

impl Arrived {
    /// Lets a member of the workspace who holds the right into the chat, which they may see. Whether there is such a chat comes before what may be
    /// done in it.
    ///
    /// # Errors
    /// `NotFound(Workspace)` and `NotFound(Chat)`, in this order; `Forbidden` for a member without the right.
    pub fn in_chat(mut self, right: Right) -> Result<InChat, Error> {
        let chat = self.chat.take();
        let member = self.member(Right::ReadChats)?;
        let visible = chat.filter(|chat| chat.visible_to(member.actor().user().id));
        let chat = visible.ok_or(Error::NotFound(Kind::Chat))?;
        member.require(right)?;
        Ok(InChat { member, chat })
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

/// What is to change of a chat.
#[derive(Clone, Debug, Default)]
pub struct ChatChange {
    /// What people call it.
    pub title: Patch<String>,
    /// Who may see it.
    pub visibility: Option<Visibility>,
    /// The model that answers where a message names none.
    pub model: Patch<String>,
    /// What the model is told first, in place of the workspace's.
    pub system_prompt: Patch<String>,
    /// Whether it is put away.
    pub archived: Option<bool>,
}

/// Which of a workspace's chats are wanted.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Those put away, or those not.
    pub archived: bool,
    /// Only those that the caller made.
    pub mine: bool,
    /// Only those in which these words are found. A blank text asks for nothing.
    pub words: Option<String>,
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
        let created = EventKind::ChatCreated(chat.id);
        let committed = as_member(&self.ports, member, Right::CreateChat, |changes| {
            let changes = changes.insert(chat.clone()).emit(event(&chat, created, now));
            let changes = stamp.add(changes, Made { id: *chat.id.as_uuid(), reply: None });
            async { self.ports.work.commit(changes).await.map_err(parent_gone) }
        })
        .await?;
        self.live.publish_chat(committed.first_event(), created, &chat);
        Ok(chat)
    }

    /// The workspace's chats that the member may see, most recently active first. Where words are searched, a page may have fewer chats than it
    /// could and yet a next one.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn history(
        &self,
        member: &Member,
        which: Which,
        page: PageRequest<ActivityKey>,
    ) -> Result<Page<Chat, ActivityKey>, Error> {
        let query = which.words.as_deref().and_then(Query::parse);
        if query.as_ref().is_some_and(Query::is_empty) {
            // Nothing in it was a word, and no text has it.
            return Ok(Page { items: Vec::new(), next: None });
        }
        let Which { archived, mine, .. } = which;
        let (workspace, viewer) = (member.workspace(), member.actor().user().id);
        Ok(self.ports.chats.chats(ChatFilter { workspace, viewer, archived, mine, query }, page).await?)
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

    /// Changes a chat's settings. The member came in with [`Right::EditChat`].
    ///
    /// # Errors
    /// `Forbidden` unless the actor made the chat or is an OWNER; `Invalid`; `NotFound(Workspace)` for one who is no member any more, and
    /// `NotFound(Chat)` when it is gone by now.
    pub async fn change(&self, at: &InChat, change: ChatChange) -> Result<Chat, Error> {
        at.require_charge()?;
        let mut checks = Checks::new();
        let title = checks.take(change.title.parse(chat::title));
        let system_prompt = checks.take(change.system_prompt.parse(workspace::system_prompt));
        let model = match change.model {
            Patch::Set(model) => checks.take(self.models.check("model", model).await.map(Patch::Set)),
            other => Some(other),
        };
        let ((title, system_prompt), model) = checks.done(title.zip(system_prompt).zip(model))?;
        let (event, chat) = deciding_again(|| async {
            let (changes, old) = self.in_charge(at, Right::EditChat).await?;
            let visibility = change.visibility.unwrap_or(old.visibility);
            if visibility == Visibility::Private && old.created_by.is_none() {
                let rule =
                    "must be workspace: whoever made the chat has no account any more, and nobody else would see it";
                return Err(Error::from(Violation::new("visibility", rule)).into());
            }
            let now = self.ports.clock.now();
            let changed = Chat {
                title: title.clone().apply(old.title.clone()),
                visibility,
                model: model.clone().apply(old.model.clone()),
                system_prompt: system_prompt.clone().apply(old.system_prompt.clone()),
                archived: change.archived.unwrap_or(old.archived),
                ..old.clone()
            };
            if changed == old {
                // Nothing happened that somebody would have to be told.
                return Ok((None, old));
            }
            let kind = match (old.visibility, visibility) {
                (Visibility::Workspace, Visibility::Private) => EventKind::ChatHidden(old.id),
                (Visibility::Private, Visibility::Workspace) => EventKind::ChatShown(old.id),
                _ => EventKind::ChatUpdated(old.id),
            };
            let changed = Chat { updated_at: now, ..changed };
            let changes = changes.update(changed.clone()).emit(event(&changed, kind, now));
            let committed = self.ports.work.commit(changes).await?;
            Ok((Some((committed.first_event(), kind)), Chat { version: changed.version.next(), ..changed }))
        })
        .await?;
        match event {
            Some((number, kind)) => self.live.publish_chat(number, kind, &chat),
            // Whoever made it so did it elsewhere, and no news of it may have come yet.
            None => self.live.learn(&chat),
        }
        Ok(chat)
    }

    /// Deletes a chat with all its messages: gone for everybody at once, and its running replies end. The member came in with
    /// [`Right::DeleteChat`].
    ///
    /// # Errors
    /// `Forbidden` unless the actor made the chat or is an OWNER; `NotFound(Workspace)` and `NotFound(Chat)` as [`change`](Self::change).
    pub async fn delete(&self, at: &InChat) -> Result<(), Error> {
        at.require_charge()?;
        let (number, kind, chat) = deciding_again(|| async {
            let (changes, chat) = self.in_charge(at, Right::DeleteChat).await?;
            let only = match chat.audience() {
                Audience::Everybody => None,
                Audience::Only(user) => user,
            };
            let kind = EventKind::ChatDeleted(chat.id, only);
            let gone = event(&chat, kind, self.ports.clock.now());
            let committed = self.ports.work.commit(changes.delete(chat.clone()).emit(gone)).await?;
            Ok((committed.first_event(), kind, chat))
        })
        .await?;
        self.live.publish_chat(number, kind, &chat);
        self.replies.lose(chat.id);
        Ok(())
    }

    /// The chat as it is now, and a unit of work that expects the actor to stay in charge of it.
    async fn in_charge(&self, at: &InChat, right: Right) -> Result<(Changes, Chat), Error> {
        let membership = at.member.still(&self.ports, right).await?;
        at.require_charge_as(membership.role)?;
        let stored = self.ports.chats.chat(at.chat.workspace, at.chat.id).await?;
        let chat = stored.filter(|chat| chat.visible_to(membership.user)).ok_or(Error::NotFound(Kind::Chat))?;
        Ok((Changes::new().expect_member(&membership), chat))
    }

    /// Follows one chat, from the event after `after`, or from now on.
    ///
    /// # Errors
    /// As [`Live::watch`](super::live::Live::watch).
    pub async fn watch(&self, at: &InChat, after: Option<EventNumber>) -> Result<Watch, Error> {
        self.live.watch_chat(&at.member, &at.chat, after).await
    }
}

fn event(chat: &Chat, kind: EventKind, at: Timestamp) -> Event {
    Event { workspace: chat.workspace, kind, at }
}

/// Where what a chat's row belongs to is gone, so is the chat.
fn parent_gone(failure: Failure) -> Stale {
    match failure.conflict() {
        Some((Conflict::MissingParent, _)) => Error::NotFound(Kind::Chat).into(),
        _ => failure.into(),
    }
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
    F: Future<Output = Result<T, Stale>>,
{
    let mut membership = member.joined().membership.clone();
    for _ in 0..=super::ATTEMPTS {
        match commit(Changes::new().expect_member(&membership)).await {
            Ok(done) => return Ok(done),
            Err(Stale::Ended(error)) => return Err(error),
            Err(Stale::Again) => membership = member.still(ports, right).await?,
        }
    }
    Err(Error::Conflict(Obstacle::Concurrent))
}

#[cfg(test)]
mod tests;
