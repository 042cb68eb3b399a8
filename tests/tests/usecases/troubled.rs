//! A database that fails, waits and loses its answers when a story wants it to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use private_chat_adapters::memory::MemoryStore;
use private_chat_core::change::{
    Change, Changes, Checkpoint, Checkpointed, Committed, EventNumber, Instance, LoggedEvent, Record, Version,
};
use private_chat_core::error::Failure;
use private_chat_core::id::{ChatId, InstanceId, InvitationId, MessageId, SessionId, UserId, WorkspaceId};
use private_chat_core::model::chat::{Audience, Chat, Message, RunningReply, Seq};
use private_chat_core::model::idempotency::{KeyHash, KeyedRequest};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::invitation::Invited;
use private_chat_core::model::session::Session;
use private_chat_core::model::user::{Email, User};
use private_chat_core::model::workspace::{Joined, Membership, Participant};
use private_chat_core::page::{ActivityKey, Limit, Page, PageRequest};
use private_chat_core::port::Result;
use private_chat_core::port::store::{
    Arrival, ChatFilter, ChatRepository, LogBounds, Order, Over, ReplyRepository, SessionRepository, UnitOfWork,
    UserFilter, UserRepository, WorkspaceRepository,
};
use private_chat_core::time::Timestamp;
use tokio::sync::Semaphore;

use super::house::House;

/// On which side of the database's work something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nothing was read or written yet.
    Before,
    /// It is done, and the caller does not know yet.
    After,
}

/// What happens to the next call of a name.
enum Trouble {
    /// It waits.
    Hold(Side, Arc<Gate>),
    /// It comes through, and its answer does not.
    LoseAnswer,
}

/// Where a call waits until it is let through.
pub(crate) struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    /// Returns when a call waits here.
    pub(crate) async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    /// Lets time pass until a call waits here: up to a minute.
    pub(crate) async fn reached_within(&self, house: &House) {
        for _ in 0..240 {
            if let Ok(reached) = self.reached.try_acquire() {
                return reached.forget();
            }
            house.pass(Duration::from_millis(250)).await;
        }
        panic!("no call came to the gate");
    }

    /// Lets the call through.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.reached.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }
}

/// One process's way to a store that it shares with others. Commits go by the names `begin` and `end` (of a reply), and `commit` else.
pub(crate) struct TroubledStore {
    inner: Arc<MemoryStore>,
    away: AtomicBool,
    troubles: Mutex<Vec<(&'static str, Trouble)>>,
    calls: Mutex<Vec<&'static str>>,
    /// Older events are forgotten.
    forgotten: Mutex<EventNumber>,
    /// Yields before each call: so many, and then so many again.
    pace: Mutex<Vec<usize>>,
}

impl TroubledStore {
    pub(crate) fn over(inner: Arc<MemoryStore>) -> Self {
        Self {
            inner,
            away: AtomicBool::new(false),
            troubles: Mutex::default(),
            calls: Mutex::default(),
            forgotten: Mutex::default(),
            pace: Mutex::default(),
        }
    }

    /// Whether the database can't be reached from this process.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// The next call of this name waits at the gate.
    pub(crate) fn hold(&self, name: &'static str, side: Side) -> Arc<Gate> {
        let gate = Arc::new(Gate { reached: Semaphore::new(0), open: Semaphore::new(0) });
        self.troubles.lock().unwrap().push((name, Trouble::Hold(side, gate.clone())));
        gate
    }

    /// The next call of this name comes through, and its answer gets lost.
    pub(crate) fn lose_answer(&self, name: &'static str) {
        self.troubles.lock().unwrap().push((name, Trouble::LoseAnswer));
    }

    /// Forgets the events up to this number.
    pub(crate) fn forget(&self, number: EventNumber) {
        *self.forgotten.lock().unwrap() = number;
    }

    /// Gives way to others before each call, so many times as the list says, again and again.
    pub(crate) fn set_pace(&self, pace: Vec<usize>) {
        *self.pace.lock().unwrap() = pace;
    }

    /// How often a name was called.
    pub(crate) fn calls(&self, name: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| **call == name).count()
    }

    fn next_hold(&self, name: &str, side: Side) -> Option<Arc<Gate>> {
        let mut troubles = self.troubles.lock().unwrap();
        let place = troubles.iter().position(|(wanted, trouble)| {
            *wanted == name && matches!(trouble, Trouble::Hold(held, _) if *held == side)
        })?;
        match troubles.remove(place) {
            (_, Trouble::Hold(_, gate)) => Some(gate),
            (_, Trouble::LoseAnswer) => None,
        }
    }

    fn loses(&self, name: &str) -> bool {
        let mut troubles = self.troubles.lock().unwrap();
        let place =
            troubles.iter().position(|(wanted, trouble)| *wanted == name && matches!(trouble, Trouble::LoseAnswer));
        place.map(|place| troubles.remove(place)).is_some()
    }

    fn reachable(&self) -> Result<()> {
        if self.away.load(Ordering::Relaxed) { Err(Failure::database("the database is away")) } else { Ok(()) }
    }

    async fn call<T>(&self, name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let turns = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(name);
            let pace = self.pace.lock().unwrap();
            if pace.is_empty() { 0 } else { pace[calls.len() % pace.len()] }
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if let Some(gate) = self.next_hold(name, Side::Before) {
            gate.pass().await;
        }
        self.reachable()?;
        let answer = work.await?;
        if let Some(gate) = self.next_hold(name, Side::After) {
            gate.pass().await;
        }
        if self.loses(name) {
            return Err(Failure::database("the answer got lost"));
        }
        self.reachable()?;
        Ok(answer)
    }
}

/// What a commit is about.
fn name(changes: &Changes) -> &'static str {
    let about = |wanted: fn(&Change) -> bool| changes.changes().iter().any(wanted);
    if about(|change| matches!(change, Change::Append(..))) {
        "begin"
    } else if about(|change| matches!(change, Change::Update(Record::Message(_)))) {
        "end"
    } else {
        "commit"
    }
}

macro_rules! pass_on {
    ($($port:ident { $(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* })*) => {$(
        #[async_trait]
        impl $port for TroubledStore {$(
            async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                self.call(stringify!($name), self.inner.$name($($argument),*)).await
            }
        )*}
    )*};
}

pass_on! {
    UserRepository {
        fn user(id: UserId) -> Option<User>;
        fn user_by_email(email: &Email) -> Option<User>;
        fn users(filter: UserFilter, page: PageRequest<UserId>) -> Page<User, UserId>;
        fn another_admin(besides: UserId) -> bool;
        fn keyed_request(user: UserId, key: KeyHash) -> Option<KeyedRequest>;
        fn installation() -> Option<Installation>;
    }
    SessionRepository {
        fn session(id: SessionId) -> Option<(Session, User)>;
        fn arrival(session: SessionId, workspace: WorkspaceId, chat: Option<ChatId>) -> Option<Arrival>;
        fn sessions(ids: &[SessionId]) -> Vec<(Session, User)>;
        fn sessions_of(user: UserId, epoch: u64, now: Timestamp, page: PageRequest<SessionId>) -> Page<Session, SessionId>;
    }
    WorkspaceRepository {
        fn joined(workspace: WorkspaceId, user: UserId) -> Option<Joined>;
        fn membership(workspace: WorkspaceId, user: UserId) -> Option<Membership>;
        fn memberships(of: &[(WorkspaceId, UserId)]) -> Vec<Membership>;
        fn workspaces_of(user: UserId, page: PageRequest<WorkspaceId>) -> Page<Joined, WorkspaceId>;
        fn participant(workspace: WorkspaceId, user: UserId) -> Option<Participant>;
        fn participants(workspace: WorkspaceId, page: PageRequest<UserId>) -> Page<Participant, UserId>;
        fn another_owner(workspace: WorkspaceId, besides: UserId) -> bool;
        fn invitation(id: InvitationId) -> Option<Invited>;
        fn invitation_to(workspace: WorkspaceId, email: &Email) -> Option<Invited>;
        fn invitations_into(
            workspace: WorkspaceId,
            now: Timestamp,
            page: PageRequest<InvitationId>
        ) -> Page<Invited, InvitationId>;
        fn invitations_of(email: &Email, now: Timestamp, page: PageRequest<InvitationId>) -> Page<Invited, InvitationId>;
    }
    ChatRepository {
        fn chat(workspace: WorkspaceId, id: ChatId) -> Option<Chat>;
        fn chats(filter: ChatFilter, page: PageRequest<ActivityKey>) -> Page<Chat, ActivityKey>;
        fn audiences(of: &[(WorkspaceId, ChatId)]) -> Vec<(ChatId, Version, Audience)>;
        fn message(chat: ChatId, id: MessageId) -> Option<Message>;
        fn messages(chat: ChatId, order: Order, page: PageRequest<Seq>) -> Page<Message, Seq>;
    }
}

#[async_trait]
impl ReplyRepository for TroubledStore {
    async fn events(&self, workspace: WorkspaceId, after: EventNumber, limit: Limit) -> Result<Vec<LoggedEvent>> {
        self.call("events", self.inner.events(workspace, after, limit)).await
    }

    async fn log_bounds(&self, workspace: WorkspaceId) -> Result<LogBounds> {
        let bounds = self.call("log_bounds", self.inner.log_bounds(workspace)).await?;
        Ok(LogBounds { forgotten: bounds.forgotten.max(*self.forgotten.lock().unwrap()), ..bounds })
    }

    async fn running_in(&self, workspace: WorkspaceId) -> Result<Vec<(RunningReply, Message)>> {
        self.call("running_in", self.inner.running_in(workspace)).await
    }

    async fn running_of(&self, instance: Option<InstanceId>) -> Result<Vec<RunningReply>> {
        self.call("running_of", self.inner.running_of(instance)).await
    }

    async fn running(&self, message: MessageId) -> Result<Option<RunningReply>> {
        self.call("running", self.inner.running(message)).await
    }

    async fn instances(&self) -> Result<Vec<Instance>> {
        self.call("instances", self.inner.instances()).await
    }
}

#[async_trait]
impl UnitOfWork for TroubledStore {
    async fn commit(&self, changes: Changes) -> Result<Committed> {
        self.call(name(&changes), self.inner.commit(changes)).await
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Checkpointed> {
        self.call("checkpoint", self.inner.checkpoint(checkpoint)).await
    }

    async fn purge(&self, over: Over) -> Result<u64> {
        self.call("purge", self.inner.purge(over)).await
    }

    async fn index_backlog(&self) -> Result<u64> {
        self.call("index_backlog", self.inner.index_backlog()).await
    }

    async fn prepare(&self) -> Result<()> {
        self.call("prepare", self.inner.prepare()).await
    }

    async fn ping(&self) -> Result<()> {
        self.call("ping", self.inner.ping()).await
    }
}
