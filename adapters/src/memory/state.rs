//! What the store holds, and what changes make of it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use private_chat_core::change::{
    Appended, Change, Changes, Checkpoint, Checkpointed, Committed, Counter, Event, EventNumber, Follows, Instance,
    Record, Ref, Running, Version,
};
use private_chat_core::error::Conflict;
use private_chat_core::id::{ChatId, MessageId, SessionId, UserId, WorkspaceId};
use private_chat_core::model::chat::{Chat, Message, MessageStatus, RunningReply, Seq};
use private_chat_core::model::idempotency::KeyedRequest;
use private_chat_core::model::installation::Installation;
use private_chat_core::model::invitation::{Invitation, Invited};
use private_chat_core::model::search::{Query, terms};
use private_chat_core::model::session::Session;
use private_chat_core::model::user::{Author, Email, User};
use private_chat_core::model::workspace::{Joined, Membership, Participant, Workspace};
use private_chat_core::port::store::{LogBounds, Over};

/// All rows of all kinds in one table. Rows are shared between one state and the next, so that a copy costs little.
#[derive(Clone, Default)]
pub(super) struct State {
    rows: HashMap<Ref, Arc<Record>>,
    /// The messages of each chat by their numbers.
    sequence: BTreeMap<(ChatId, Seq), MessageId>,
    log: BTreeMap<(WorkspaceId, EventNumber), Event>,
    /// The newest and the newest forgotten event of each log.
    heads: HashMap<WorkspaceId, LogBounds>,
    counters: HashMap<Counter, i64>,
}

/// Typed access to the rows of a kind: one by its key, and all of them in no order.
macro_rules! kinds {
    ($($one:ident, $all:ident: $kind:ident;)*) => {
        impl State {$(
            pub(super) fn $one(&self, key: Ref) -> Option<&$kind> {
                match self.rows.get(&key)?.as_ref() {
                    Record::$kind(row) => Some(row),
                    _ => None,
                }
            }

            pub(super) fn $all(&self) -> impl Iterator<Item = &$kind> {
                self.rows.values().filter_map(|row| match row.as_ref() {
                    Record::$kind(row) => Some(row),
                    _ => None,
                })
            }
        )*}
    };
}
kinds! {
    installation, _installations: Installation;
    user, users: User;
    session, sessions: Session;
    workspace, _workspaces: Workspace;
    membership, memberships: Membership;
    invitation, invitations: Invitation;
    chat, chats: Chat;
    message, _messages: Message;
    running, all_running: RunningReply;
    instance, instances: Instance;
    keyed_request, _keyed_requests: KeyedRequest;
}

/// The rows that a row can't be without.
fn parents(record: &Record) -> Vec<Ref> {
    match record {
        Record::Installation(_) | Record::User(_) | Record::Workspace(_) | Record::Instance(_) => Vec::new(),
        Record::Session(session) => vec![Ref::User(session.user)],
        Record::Membership(membership) => vec![Ref::Workspace(membership.workspace), Ref::User(membership.user)],
        Record::Invitation(invitation) => vec![Ref::Membership(invitation.workspace, invitation.invited_by.id)],
        Record::Chat(chat) => vec![Ref::Workspace(chat.workspace)],
        Record::Message(message) => vec![Ref::Chat(message.chat)],
        Record::RunningReply(running) => vec![Ref::Message(running.chat, running.message)],
        Record::KeyedRequest(request) => vec![Ref::User(request.user)],
    }
}

fn set_version(record: &mut Record, version: Version) {
    *match record {
        Record::Installation(row) => &mut row.version,
        Record::User(row) => &mut row.version,
        Record::Session(row) => &mut row.version,
        Record::Workspace(row) => &mut row.version,
        Record::Membership(row) => &mut row.version,
        Record::Invitation(row) => &mut row.version,
        Record::Chat(row) => &mut row.version,
        Record::Message(row) => &mut row.version,
        Record::RunningReply(row) => &mut row.version,
        Record::Instance(row) => &mut row.version,
        Record::KeyedRequest(row) => &mut row.version,
    } = version;
}

impl State {
    /// Makes all changes of a unit of work, or says which one can't be made and leaves the state spoilt.
    pub(super) fn apply(&mut self, changes: &Changes) -> Result<Committed, (Conflict, usize)> {
        let mut appended = Vec::new();
        // What the unit itself begins does not count.
        for (place, change) in changes.changes().iter().enumerate() {
            if let Change::Cap { running, most } = change {
                self.cap(*running, *most).map_err(|conflict| (conflict, place))?;
            }
        }
        for (place, change) in changes.changes().iter().enumerate() {
            let done = match change {
                Change::Insert(record) => self.insert(record.clone()),
                Change::Update(record) => self.update(record.clone()),
                Change::Delete(key, version) => self.expect(*key, *version).map(|()| self.remove(*key)),
                Change::Expect(key, version) => self.expect(*key, *version),
                Change::Append(message, follows) => {
                    self.append(message.clone(), *follows).map(|place| appended.push(place))
                }
                Change::Cap { .. } => Ok(()),
                Change::Add { counter, delta, ceiling } => self.add(*counter, *delta, *ceiling),
            };
            done.map_err(|conflict| (conflict, place))?;
        }
        let behind = changes.changes().len();
        let logged = changes.events().iter().map(|event| self.emit(*event));
        let events = logged.collect::<Result<_, _>>().map_err(|conflict| (conflict, behind))?;
        Ok(Committed { events, appended })
    }

    fn emit(&mut self, event: Event) -> Result<EventNumber, Conflict> {
        if !self.rows.contains_key(&Ref::Workspace(event.workspace)) {
            return Err(Conflict::MissingParent);
        }
        let head = self.heads.entry(event.workspace).or_default();
        head.newest += 1;
        self.log.insert((event.workspace, head.newest), event);
        Ok(head.newest)
    }

    fn insert(&mut self, mut record: Record) -> Result<(), Conflict> {
        let key = record.key();
        let number_taken =
            matches!(&record, Record::Message(message) if self.sequence.contains_key(&(message.chat, message.seq)));
        if self.rows.contains_key(&key) || self.address_taken(&record) || number_taken {
            return Err(Conflict::Duplicate);
        }
        self.has_parents(&record)?;
        match &mut record {
            Record::RunningReply(running) => {
                let reply = self.message(Ref::Message(running.chat, running.message));
                running.seq = reply.map_or(0, |reply| reply.seq);
            }
            Record::Message(message) => {
                self.sequence.insert((message.chat, message.seq), message.id);
            }
            _ => {}
        }
        self.rows.insert(key, Arc::new(record));
        Ok(())
    }

    fn update(&mut self, mut record: Record) -> Result<(), Conflict> {
        let key = record.key();
        self.expect(key, record.version())?;
        if self.address_taken(&record) {
            return Err(Conflict::Duplicate);
        }
        // What only `Append` moves stays as it is.
        match &mut record {
            Record::Chat(chat) => {
                if let Some(stored) = self.chat(key) {
                    (chat.message_count, chat.last_message_at) = (stored.message_count, stored.last_message_at);
                }
            }
            Record::Message(message) => {
                if let Some(stored) = self.message(key) {
                    (message.seq, message.parent) = (stored.seq, stored.parent);
                }
            }
            Record::RunningReply(running) => {
                if let Some(stored) = self.running(key) {
                    running.seq = stored.seq;
                }
            }
            _ => {}
        }
        let version = record.version().next();
        set_version(&mut record, version);
        self.rows.insert(key, Arc::new(record));
        Ok(())
    }

    fn expect(&self, key: Ref, version: Version) -> Result<(), Conflict> {
        match self.rows.get(&key) {
            Some(row) if row.version() == version => Ok(()),
            _ => Err(Conflict::Stale),
        }
    }

    /// Takes a row away, and whatever can't be without it.
    fn remove(&mut self, key: Ref) {
        let Some(row) = self.rows.remove(&key) else { return };
        match row.as_ref() {
            Record::User(user) => {
                self.counters.remove(&Counter::Memberships(user.id));
            }
            Record::Workspace(workspace) => {
                self.counters.remove(&Counter::Members(workspace.id));
                self.log.retain(|(of, _), _| *of != workspace.id);
                self.heads.remove(&workspace.id);
            }
            Record::Message(message) => {
                self.sequence.remove(&(message.chat, message.seq));
            }
            _ => {}
        }
        let children: Vec<Ref> =
            self.rows.iter().filter(|(_, row)| parents(row).contains(&key)).map(|(child, _)| *child).collect();
        for child in children {
            if let (Ref::Workspace(_), Ref::Membership(_, user)) = (key, child) {
                *self.counters.entry(Counter::Memberships(user)).or_default() -= 1;
            }
            self.remove(child);
        }
    }

    fn append(&mut self, message: Message, follows: Follows) -> Result<Appended, Conflict> {
        let chat_key = Ref::Chat(message.chat);
        let Some(chat) = self.chat(chat_key) else { return Err(Conflict::MissingParent) };
        let seq = chat.message_count + 1;
        let chat = Chat { message_count: seq, last_message_at: Some(message.created_at), ..chat.clone() };
        let parent = match (follows, message.parent) {
            (Follows::Last, _) => self.thread(message.chat, ..=Seq::MAX).next_back().map(|last| last.id),
            (Follows::Parent, Some(named)) if !self.rows.contains_key(&Ref::Message(message.chat, named)) => {
                return Err(Conflict::MissingParent);
            }
            (Follows::Parent, named) => named,
        };
        self.insert(Message { seq, parent, ..message }.into())?;
        self.rows.insert(chat_key, Arc::new(chat.into()));
        Ok(Appended { seq, parent })
    }

    fn cap(&self, running: Running, most: u64) -> Result<(), Conflict> {
        let counted = |reply: &&RunningReply| match running {
            Running::Of(user) => reply.asked_by == user,
            Running::In(workspace) => reply.workspace == workspace,
        };
        let run = self.all_running().filter(counted).count() as u64;
        if run < most { Ok(()) } else { Err(Conflict::Ceiling) }
    }

    fn add(&mut self, counter: Counter, delta: i64, ceiling: Option<i64>) -> Result<(), Conflict> {
        let owner = match counter {
            Counter::Members(workspace) => Ref::Workspace(workspace),
            Counter::Memberships(user) => Ref::User(user),
        };
        if !self.rows.contains_key(&owner) {
            return Err(Conflict::MissingParent);
        }
        let value = self.counters.entry(counter).or_default();
        let moved = value.saturating_add(delta);
        if ceiling.is_some_and(|ceiling| moved > ceiling) {
            return Err(Conflict::Ceiling);
        }
        *value = moved;
        Ok(())
    }

    fn has_parents(&self, record: &Record) -> Result<(), Conflict> {
        let author = match record {
            Record::Chat(chat) => chat.created_by.as_ref(),
            Record::Message(message) => message.author.as_ref(),
            _ => None,
        };
        let needed = parents(record).into_iter().chain(author.map(|author| Ref::User(author.id)));
        for parent in needed {
            if !self.rows.contains_key(&parent) {
                return Err(Conflict::MissingParent);
            }
        }
        Ok(())
    }

    /// Whether the address stands already, among all users or among those who are invited into one workspace.
    fn address_taken(&self, record: &Record) -> bool {
        match record {
            Record::User(user) => self.users().any(|other| other.id != user.id && other.email == user.email),
            Record::Invitation(invitation) => self
                .invitation_to(invitation.workspace, &invitation.email)
                .is_some_and(|other| other.id != invitation.id),
            _ => false,
        }
    }

    /// Removes what is over, and says how many rows that were. What deleted chats and workspaces leave behind is gone with them already.
    pub(super) fn purge(&mut self, over: &Over) -> u64 {
        let before = self.rows.len();
        self.rows.retain(|_, row| match row.as_ref() {
            Record::Session(session) => session.expires_at >= over.sessions,
            Record::Invitation(invitation) => invitation.expires_at >= over.invitations,
            Record::KeyedRequest(request) => request.created_at >= over.keyed_requests,
            _ => true,
        });
        let mut gone = (before - self.rows.len()) as u64;
        for (workspace, head) in &mut self.heads {
            // From the front, up to the first one that is to be kept.
            while let Entry::Occupied(oldest) = self.log.entry((*workspace, head.forgotten + 1))
                && oldest.get().at < over.events
            {
                oldest.remove();
                head.forgotten += 1;
                gone += 1;
            }
        }
        gone
    }

    /// Moves a process's beat and the texts of its replies.
    pub(super) fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Checkpointed {
        let instance_key = Ref::Instance(checkpoint.instance);
        let Some(instance) = self.instance(instance_key) else { return Checkpointed::default() };
        let instance = Instance { beat: checkpoint.beat, ..*instance };
        self.rows.insert(instance_key, Arc::new(instance.into()));
        for text in &checkpoint.texts {
            let runs_here = self
                .running(Ref::RunningReply(text.message))
                .is_some_and(|running| running.instance == checkpoint.instance);
            let key = Ref::Message(text.chat, text.message);
            if let (true, Some(reply)) = (runs_here, self.message(key)) {
                let grown = Message {
                    content: text.content.clone(),
                    reasoning: text.reasoning.clone(),
                    updated_at: checkpoint.at,
                    ..reply.clone()
                };
                self.rows.insert(key, Arc::new(grown.into()));
            }
        }
        let running = self.all_running().filter(|running| running.instance == checkpoint.instance).cloned();
        Checkpointed { alive: true, running: in_order(running) }
    }

    pub(super) fn session_of_user(&self, id: SessionId) -> Option<(Session, User)> {
        let session = self.session(Ref::Session(id))?;
        Some((session.clone(), self.user(Ref::User(session.user))?.clone()))
    }

    /// The chat of this id in this workspace, as it is shown.
    pub(super) fn chat_in(&self, workspace: WorkspaceId, id: ChatId) -> Option<Chat> {
        let chat = self.chat(Ref::Chat(id)).filter(|chat| chat.workspace == workspace)?;
        Some(self.shown_chat(chat))
    }

    pub(super) fn joined(&self, workspace: WorkspaceId, user: UserId) -> Option<Joined> {
        let membership = self.membership(Ref::Membership(workspace, user))?.clone();
        let workspace = self.workspace(Ref::Workspace(workspace))?.clone();
        let members = self.counters.get(&Counter::Members(workspace.id)).copied().unwrap_or_default();
        Some(Joined { workspace, membership, member_count: u64::try_from(members).unwrap_or_default() })
    }

    pub(super) fn participant(&self, membership: &Membership) -> Option<Participant> {
        let User { name, email, .. } = self.user(Ref::User(membership.user))?.clone();
        Some(Participant { membership: membership.clone(), name, email })
    }

    pub(super) fn invitation_to(&self, workspace: WorkspaceId, email: &Email) -> Option<&Invitation> {
        self.invitations().find(|invitation| invitation.workspace == workspace && invitation.email == *email)
    }

    /// The invitation as it is shown.
    pub(super) fn invited(&self, invitation: &Invitation) -> Option<Invited> {
        let invited_by = self.author(Some(&invitation.invited_by))?;
        let workspace_name = self.workspace(Ref::Workspace(invitation.workspace))?.name.clone();
        Some(Invited { invitation: Invitation { invited_by, ..invitation.clone() }, workspace_name })
    }

    /// The messages of a chat in a range of numbers, oldest first, as they were written.
    pub(super) fn thread(
        &self,
        chat: ChatId,
        range: impl std::ops::RangeBounds<Seq>,
    ) -> impl DoubleEndedIterator<Item = &Message> {
        let bounds = (range.start_bound().map(|seq| (chat, *seq)), range.end_bound().map(|seq| (chat, *seq)));
        // An open end of the range would reach into other chats.
        let bounds = match bounds {
            (std::ops::Bound::Unbounded, end) => (std::ops::Bound::Included((chat, 0)), end),
            bounds => bounds,
        };
        self.sequence.range(bounds).filter_map(move |(_, id)| self.message(Ref::Message(chat, *id)))
    }

    /// The events of a workspace after this number, in order.
    pub(super) fn events(
        &self,
        workspace: WorkspaceId,
        after: EventNumber,
    ) -> impl Iterator<Item = (EventNumber, Event)> {
        let later = after.saturating_add(1);
        self.log.range((workspace, later)..=(workspace, EventNumber::MAX)).map(|((_, number), event)| (*number, *event))
    }

    /// Which part of a workspace's log is kept.
    pub(super) fn log_bounds(&self, workspace: WorkspaceId) -> LogBounds {
        self.heads.get(&workspace).copied().unwrap_or_default()
    }

    /// Whether the title of a chat, or one of its final messages, has all that is searched for.
    pub(super) fn is_found(&self, chat: &Chat, query: &Query) -> bool {
        let has = |text: &str| query.finds(&terms(text));
        let is_final = |message: &&Message| message.status != MessageStatus::Streaming;
        chat.title.as_deref().is_some_and(has)
            || self.thread(chat.id, ..=Seq::MAX).filter(is_final).any(|message| has(&message.content))
    }

    /// The author under their present name; none once their account is gone.
    fn author(&self, author: Option<&Author>) -> Option<Author> {
        self.user(Ref::User(author?.id)).map(Author::from)
    }

    /// The chat as it is shown.
    pub(super) fn shown_chat(&self, chat: &Chat) -> Chat {
        Chat { created_by: self.author(chat.created_by.as_ref()), ..chat.clone() }
    }

    /// The message as it is shown.
    pub(super) fn shown_message(&self, message: &Message) -> Message {
        Message { author: self.author(message.author.as_ref()), ..message.clone() }
    }
}

/// Running replies in the order in which they began, so that a test sees the same every time.
pub(super) fn in_order(running: impl Iterator<Item = RunningReply>) -> Vec<RunningReply> {
    let mut running: Vec<_> = running.collect();
    running.sort_by_key(|running| running.message);
    running
}
