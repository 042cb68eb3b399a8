//! The database of the tests.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use private_chat_core::change::{
    Changes, Checkpoint, Checkpointed, Committed, EventNumber, Instance, LoggedEvent, Ref,
};
use private_chat_core::error::Failure;
use private_chat_core::id::{ChatId, InstanceId, MessageId, SessionId, UserId, WorkspaceId};
use private_chat_core::model::chat::{Chat, Message, RunningReply, Seq};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::session::Session;
use private_chat_core::model::user::{Email, User};
use private_chat_core::model::workspace::{Joined, Membership};
use private_chat_core::page::{ActivityKey, Limit, Page, PageRequest};
use private_chat_core::port::Result;
use private_chat_core::port::store::{
    ChatFilter, ChatRepository, LogBounds, Order, ReplyRepository, SessionRepository, UnitOfWork, UserRepository,
    WorkspaceRepository,
};

use super::state::{State, in_order};

/// A database in memory. Readers see one state as a whole; a commit makes the next one of a copy, and puts it in its place when all went well.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<Arc<State>>,
}

impl MemoryStore {
    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<State>> {
        // A state is replaced as a whole: a panic elsewhere left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> Arc<State> {
        self.lock().clone()
    }
}

#[async_trait]
impl UserRepository for MemoryStore {
    async fn user(&self, id: UserId) -> Result<Option<User>> {
        Ok(self.state().user(Ref::User(id)).cloned())
    }

    async fn user_by_email(&self, email: &Email) -> Result<Option<User>> {
        Ok(self.state().users().find(|user| user.email == *email).cloned())
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        Ok(self.state().installation(Ref::Installation).cloned())
    }
}

#[async_trait]
impl SessionRepository for MemoryStore {
    async fn session(&self, id: SessionId) -> Result<Option<(Session, User)>> {
        Ok(self.sessions(&[id]).await?.pop())
    }

    async fn sessions(&self, ids: &[SessionId]) -> Result<Vec<(Session, User)>> {
        let state = self.state();
        let with_user = |id: &SessionId| {
            let session = state.session(Ref::Session(*id))?;
            Some((session.clone(), state.user(Ref::User(session.user))?.clone()))
        };
        Ok(ids.iter().filter_map(with_user).collect())
    }
}

#[async_trait]
impl WorkspaceRepository for MemoryStore {
    async fn joined(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Joined>> {
        Ok(self.state().joined(workspace, user))
    }

    async fn membership(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Membership>> {
        Ok(self.state().membership(Ref::Membership(workspace, user)).cloned())
    }

    async fn memberships(&self, of: &[(WorkspaceId, UserId)]) -> Result<Vec<Membership>> {
        let state = self.state();
        let stands = |(workspace, user): &(_, _)| state.membership(Ref::Membership(*workspace, *user)).cloned();
        Ok(of.iter().filter_map(stands).collect())
    }

    async fn workspaces_of(&self, user: UserId, page: PageRequest<WorkspaceId>) -> Result<Page<Joined, WorkspaceId>> {
        let state = self.state();
        let mut ids: Vec<WorkspaceId> = state
            .memberships()
            .filter(|membership| membership.user == user)
            .map(|membership| membership.workspace)
            .filter(|id| page.after.is_none_or(|after| *id < after))
            .collect();
        ids.sort_unstable_by_key(|id| Reverse(*id));
        let items = ids.into_iter().filter_map(|id| state.joined(id, user)).take(page.limit.items() + 1).collect();
        Ok(Page::from_overfetched(items, page.limit, |joined: &Joined| joined.workspace.id))
    }
}

#[async_trait]
impl ChatRepository for MemoryStore {
    async fn chat(&self, workspace: WorkspaceId, id: ChatId) -> Result<Option<Chat>> {
        let state = self.state();
        let chat = state.chat(Ref::Chat(id)).filter(|chat| chat.workspace == workspace);
        Ok(chat.map(|chat| state.shown_chat(chat)))
    }

    async fn chats(&self, filter: ChatFilter, page: PageRequest<ActivityKey>) -> Result<Page<Chat, ActivityKey>> {
        let key = |chat: &Chat| ActivityKey { at: chat.active_at(), id: *chat.id.as_uuid() };
        let state = self.state();
        let mut chats: Vec<Chat> = state
            .chats()
            .filter(|chat| chat.workspace == filter.workspace && chat.archived == filter.archived)
            .filter(|chat| page.after.is_none_or(|after| key(chat) < after))
            .map(|chat| state.shown_chat(chat))
            .filter(|chat| chat.visible_to(filter.viewer))
            .filter(|chat| !filter.mine || chat.created_by.as_ref().is_some_and(|by| by.id == filter.viewer))
            .collect();
        chats.sort_unstable_by_key(|chat| Reverse(key(chat)));
        chats.truncate(page.limit.items() + 1);
        Ok(Page::from_overfetched(chats, page.limit, key))
    }

    async fn message(&self, chat: ChatId, id: MessageId) -> Result<Option<Message>> {
        let state = self.state();
        Ok(state.message(Ref::Message(chat, id)).map(|message| state.shown_message(message)))
    }

    async fn messages(&self, chat: ChatId, order: Order, page: PageRequest<Seq>) -> Result<Page<Message, Seq>> {
        let state = self.state();
        let shown = |message| state.shown_message(message);
        let most = page.limit.items() + 1;
        let items = match order {
            Order::Ascending => {
                let first = page.after.unwrap_or(0).saturating_add(1);
                state.thread(chat, first..=Seq::MAX).take(most).map(shown).collect()
            }
            Order::Descending => {
                let end = page.after.unwrap_or(Seq::MAX);
                state.thread(chat, ..end).rev().take(most).map(shown).collect()
            }
        };
        Ok(Page::from_overfetched(items, page.limit, |message: &Message| message.seq))
    }
}

#[async_trait]
impl ReplyRepository for MemoryStore {
    async fn events(&self, workspace: WorkspaceId, after: EventNumber, limit: Limit) -> Result<Vec<LoggedEvent>> {
        let logged = |(number, event)| LoggedEvent { number, event };
        Ok(self.state().events(workspace, after).take(limit.items()).map(logged).collect())
    }

    async fn log_bounds(&self, workspace: WorkspaceId) -> Result<LogBounds> {
        Ok(LogBounds { newest: self.state().newest_event(workspace), forgotten: 0 })
    }

    async fn running_in(&self, workspace: WorkspaceId) -> Result<Vec<(RunningReply, Message)>> {
        let state = self.state();
        let running = in_order(state.all_running().filter(|running| running.workspace == workspace).cloned());
        let with_message = |running: RunningReply| {
            let message = state.message(Ref::Message(running.chat, running.message))?;
            Some((running, state.shown_message(message)))
        };
        Ok(running.into_iter().filter_map(with_message).collect())
    }

    async fn running_of(&self, instance: Option<InstanceId>) -> Result<Vec<RunningReply>> {
        let state = self.state();
        let asked_for = |running: &&RunningReply| match instance {
            Some(instance) => running.instance == instance,
            None => state.instance(Ref::Instance(running.instance)).is_none(),
        };
        Ok(in_order(state.all_running().filter(asked_for).cloned()))
    }

    async fn running(&self, message: MessageId) -> Result<Option<RunningReply>> {
        Ok(self.state().running(Ref::RunningReply(message)).cloned())
    }

    async fn instances(&self) -> Result<Vec<Instance>> {
        let mut instances: Vec<Instance> = self.state().instances().copied().collect();
        instances.sort_unstable_by_key(|instance| instance.id);
        Ok(instances)
    }
}

#[async_trait]
impl UnitOfWork for MemoryStore {
    async fn commit(&self, changes: Changes) -> Result<Committed> {
        let mut state = self.lock();
        let mut next = State::clone(&state);
        let committed = next.apply(&changes).map_err(|(conflict, change)| Failure::Conflict { conflict, change })?;
        *state = Arc::new(next);
        Ok(committed)
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Checkpointed> {
        let mut state = self.lock();
        let mut next = State::clone(&state);
        let told = next.checkpoint(&checkpoint);
        *state = Arc::new(next);
        Ok(told)
    }

    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
