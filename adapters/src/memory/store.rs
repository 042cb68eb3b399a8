//! The database of the tests.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use private_chat_core::change::{
    Changes, Checkpoint, Checkpointed, Committed, EventNumber, Instance, LoggedEvent, Ref, Version,
};
use private_chat_core::error::Failure;
use private_chat_core::id::{ChatId, InstanceId, InvitationId, MessageId, SessionId, UserId, WorkspaceId};
use private_chat_core::model::chat::{Audience, Chat, Message, RunningReply, Seq};
use private_chat_core::model::idempotency::{KeyHash, KeyedRequest};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::invitation::{Invitation, Invited};
use private_chat_core::model::session::Session;
use private_chat_core::model::text::folded;
use private_chat_core::model::user::{Email, User};
use private_chat_core::model::workspace::{Joined, Membership, Participant, Role};
use private_chat_core::page::{ActivityKey, Limit, Page, PageRequest};
use private_chat_core::port::Result;
use private_chat_core::port::store::{
    Arrival, ChatFilter, ChatRepository, LogBounds, Order, Over, ReplyRepository, SessionRepository, UnitOfWork,
    UserFilter, UserRepository, WorkspaceRepository,
};
use private_chat_core::time::Timestamp;

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

/// A page of these rows, those with the highest keys first.
fn highest_first<T, K: Copy + Ord>(
    rows: impl Iterator<Item = T>,
    page: PageRequest<K>,
    key: impl Fn(&T) -> K,
) -> Page<T, K> {
    let mut rows: Vec<T> = rows.filter(|row| page.after.is_none_or(|after| key(row) < after)).collect();
    rows.sort_unstable_by_key(|row| Reverse(key(row)));
    Page::from_overfetched(rows, page.limit, key)
}

fn matches(user: &User, filter: &UserFilter) -> bool {
    let has = |query: &String| folded(user.email.as_str()).contains(query) || folded(&user.name).contains(query);
    filter.query.as_ref().is_none_or(has)
        && filter.role.is_none_or(|role| user.role == role)
        && filter.is_active.is_none_or(|active| user.is_active == active)
}

impl MemoryStore {
    fn invitations(
        &self,
        now: Timestamp,
        page: PageRequest<InvitationId>,
        asked_for: impl Fn(&Invitation) -> bool,
    ) -> Page<Invited, InvitationId> {
        let state = self.state();
        let standing = state.invitations().filter(|invitation| invitation.stands(now) && asked_for(invitation));
        highest_first(standing.filter_map(|one| state.invited(one)), page, |invited| invited.invitation.id)
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

    async fn users(&self, filter: UserFilter, page: PageRequest<UserId>) -> Result<Page<User, UserId>> {
        let state = self.state();
        let found = state.users().filter(|user| matches(user, &filter)).cloned();
        Ok(highest_first(found, page, |user| user.id))
    }

    async fn another_admin(&self, besides: UserId) -> Result<bool> {
        Ok(self.state().users().any(|user| user.id != besides && user.is_active_admin()))
    }

    async fn keyed_request(&self, user: UserId, key: KeyHash) -> Result<Option<KeyedRequest>> {
        Ok(self.state().keyed_request(Ref::KeyedRequest(user, key)).cloned())
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        Ok(self.state().installation(Ref::Installation).cloned())
    }
}

#[async_trait]
impl SessionRepository for MemoryStore {
    async fn session(&self, id: SessionId) -> Result<Option<(Session, User)>> {
        Ok(self.state().session_of_user(id))
    }

    async fn arrival(
        &self,
        session: SessionId,
        workspace: WorkspaceId,
        chat: Option<ChatId>,
    ) -> Result<Option<Arrival>> {
        let state = self.state();
        let Some((session, user)) = state.session_of_user(session) else { return Ok(None) };
        let joined = state.joined(workspace, user.id);
        let chat = joined.as_ref().zip(chat).and_then(|(_, chat)| state.chat_in(workspace, chat));
        Ok(Some(Arrival { session, user, joined, chat }))
    }

    async fn sessions(&self, ids: &[SessionId]) -> Result<Vec<(Session, User)>> {
        let state = self.state();
        Ok(ids.iter().filter_map(|id| state.session_of_user(*id)).collect())
    }

    async fn sessions_of(
        &self,
        user: UserId,
        epoch: u64,
        now: Timestamp,
        page: PageRequest<SessionId>,
    ) -> Result<Page<Session, SessionId>> {
        let state = self.state();
        let standing = state.sessions().filter(|session| session.user == user && session.stands(now, epoch));
        Ok(highest_first(standing.cloned(), page, |session| session.id))
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
        let own = state.memberships().filter(|membership| membership.user == user);
        let joined = own.filter_map(|membership| state.joined(membership.workspace, user));
        Ok(highest_first(joined, page, |joined| joined.workspace.id))
    }

    async fn participant(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Participant>> {
        let state = self.state();
        Ok(state.membership(Ref::Membership(workspace, user)).and_then(|membership| state.participant(membership)))
    }

    async fn participants(
        &self,
        workspace: WorkspaceId,
        page: PageRequest<UserId>,
    ) -> Result<Page<Participant, UserId>> {
        let state = self.state();
        let later = |id| page.after.is_none_or(|after| id > after);
        let mut members: Vec<Participant> = state
            .memberships()
            .filter(|membership| membership.workspace == workspace && later(membership.user))
            .filter_map(|membership| state.participant(membership))
            .collect();
        members.sort_unstable_by_key(|member| member.membership.user);
        Ok(Page::from_overfetched(members, page.limit, |member| member.membership.user))
    }

    async fn another_owner(&self, workspace: WorkspaceId, besides: UserId) -> Result<bool> {
        let owns = |membership: &Membership| membership.workspace == workspace && membership.role == Role::Owner;
        Ok(self.state().memberships().any(|membership| membership.user != besides && owns(membership)))
    }

    async fn invitation(&self, id: InvitationId) -> Result<Option<Invited>> {
        let state = self.state();
        Ok(state.invitation(Ref::Invitation(id)).and_then(|invitation| state.invited(invitation)))
    }

    async fn invitation_to(&self, workspace: WorkspaceId, email: &Email) -> Result<Option<Invited>> {
        let state = self.state();
        Ok(state.invitation_to(workspace, email).and_then(|invitation| state.invited(invitation)))
    }

    async fn invitations_into(
        &self,
        workspace: WorkspaceId,
        now: Timestamp,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>> {
        Ok(self.invitations(now, page, |invitation| invitation.workspace == workspace))
    }

    async fn invitations_of(
        &self,
        email: &Email,
        now: Timestamp,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>> {
        Ok(self.invitations(now, page, |invitation| invitation.email == *email))
    }
}

#[async_trait]
impl ChatRepository for MemoryStore {
    async fn chat(&self, workspace: WorkspaceId, id: ChatId) -> Result<Option<Chat>> {
        Ok(self.state().chat_in(workspace, id))
    }

    async fn chats(&self, filter: ChatFilter, page: PageRequest<ActivityKey>) -> Result<Page<Chat, ActivityKey>> {
        let state = self.state();
        let chats = state
            .chats()
            .filter(|chat| chat.workspace == filter.workspace && chat.archived == filter.archived)
            .map(|chat| state.shown_chat(chat))
            .filter(|chat| chat.visible_to(filter.viewer))
            .filter(|chat| !filter.mine || chat.created_by.as_ref().is_some_and(|by| by.id == filter.viewer))
            .filter(|chat| filter.query.as_ref().is_none_or(|query| state.is_found(chat, query)));
        Ok(highest_first(chats, page, Chat::activity))
    }

    async fn audiences(&self, of: &[(WorkspaceId, ChatId)]) -> Result<Vec<(ChatId, Version, Audience)>> {
        let state = self.state();
        let audience = |(workspace, id): &(WorkspaceId, ChatId)| {
            let chat = state.chat(Ref::Chat(*id)).filter(|chat| chat.workspace == *workspace)?;
            Some((*id, chat.version, state.shown_chat(chat).audience()))
        };
        Ok(of.iter().filter_map(audience).collect())
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
        Ok(self.state().log_bounds(workspace))
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

    async fn purge(&self, over: Over) -> Result<u64> {
        let mut state = self.lock();
        let mut next = State::clone(&state);
        let gone = next.purge(&over);
        *state = Arc::new(next);
        Ok(gone)
    }

    async fn index_backlog(&self) -> Result<u64> {
        // Texts are searched as they stand.
        Ok(0)
    }

    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
