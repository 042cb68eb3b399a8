//! The live path's last stretch: from what happens in a workspace to everybody who watches it.
//!
//! Each workspace that somebody watches, or in which a reply runs here, has a `Room`. The room holds the text so far of every running reply and
//! hands new text on at once. Durable events come in the order of their numbers: those of this process right after their commit, those of others
//! from the log, which one *tail* a room reads while somebody watches. A jump in the numbers means: read the log. So nothing depends on a message
//! bus, and several processes on one database act as one.
//!
//! A watcher that joins gets the text so far and all that follows, without a gap, because both happen under the room's lock. One that is too slow
//! loses its place in the room and joins anew from the last event it was given.

mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use event_listener::Event as Signal;
use futures_channel::mpsc;
use futures_util::future::select;
use futures_util::pin_mut;
pub use watch::{Frame, ReplyWatch, Watch};

use super::auth::still_stands;
use super::workspaces::Member;
use crate::change::{EventKind, EventNumber};
use crate::error::{Error, Failure};
use crate::id::{ChatId, MessageId, SessionId, UserId, WorkspaceId};
use crate::model::chat::{Audience, Chat, Message, MessageStatus};
use crate::model::user::GlobalRole;
use crate::model::workspace::Participant;
use crate::page::Limit;
use crate::policy::Right;
use crate::port::Ports;
use crate::time::Timestamp;

/// How many deliveries may wait for a slow watcher.
const QUEUE: usize = 256;
/// How often the log is read while a reply runs in another process.
const BUSY_TAIL: Duration = Duration::from_millis(250);
/// How often the log is read else.
const IDLE_TAIL: Duration = Duration::from_millis(500);

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the event of that name in the API")]
pub enum LiveEvent {
    MessageCreated(Message),
    MessageEnded(Message),
    ChatCreated(Chat),
    ChatUpdated(Chat),
    ChatDeleted(ChatId),
    MemberJoined(Participant),
    MemberUpdated(Participant),
    MemberLeft(UserId),
    Delta(Delta),
}

impl LiveEvent {
    /// Which chat it is of; none where it is the workspace's own.
    const fn chat(&self) -> Option<ChatId> {
        match self {
            Self::MessageCreated(message) | Self::MessageEnded(message) => Some(message.chat),
            Self::ChatCreated(chat) | Self::ChatUpdated(chat) => Some(chat.id),
            Self::ChatDeleted(chat) => Some(*chat),
            Self::Delta(delta) => Some(delta.chat),
            Self::MemberJoined(_) | Self::MemberUpdated(_) | Self::MemberLeft(_) => None,
        }
    }

    /// The event as those are told who did not see it happen: a running reply's text comes after it, as deltas.
    fn in_retrospect(self) -> Self {
        match self {
            Self::MessageCreated(message) if message.status == MessageStatus::Streaming => {
                Self::MessageCreated(blank(&message))
            }
            other => other,
        }
    }
}

/// More text of a reply: `text = text[..offset] + added`, in Unicode code points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The reply's chat.
    pub chat: ChatId,
    /// The reply.
    pub message: MessageId,
    /// Where it goes, counted in code points of that text.
    pub offset: usize,
    /// Of which text.
    pub part: Part,
    /// What is added.
    pub added: String,
}

/// The two texts of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The answer.
    Content,
    /// The thoughts.
    Reasoning,
}

/// An event on its way to all who watch, rendered by whoever needs it first.
#[derive(Debug)]
pub struct Delivery {
    number: Option<EventNumber>,
    audience: Audience,
    event: Option<LiveEvent>,
    rendered: OnceLock<Bytes>,
}

impl Delivery {
    fn new(number: Option<EventNumber>, audience: Audience, event: Option<LiveEvent>) -> Arc<Self> {
        Arc::new(Self { number, audience, event, rendered: OnceLock::new() })
    }

    /// What happened; none where only the cursor moves.
    #[must_use]
    pub const fn event(&self) -> Option<&LiveEvent> {
        self.event.as_ref()
    }

    /// The event as the driving side writes it, made once for all watchers.
    pub fn rendered(&self, render: impl FnOnce(&LiveEvent) -> Bytes) -> Bytes {
        match &self.event {
            Some(event) => self.rendered.get_or_init(|| render(event)).clone(),
            None => Bytes::new(),
        }
    }
}

/// What a watcher wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything in the workspace.
    Workspace,
    /// One chat.
    Chat(ChatId),
}

impl Scope {
    fn includes(self, chat: Option<ChatId>) -> bool {
        match self {
            Self::Workspace => true,
            Self::Chat(only) => chat == Some(only),
        }
    }
}

/// A reply that grows.
struct Growing {
    chat: ChatId,
    audience: Audience,
    created: EventNumber,
    local: bool,
    content: Text,
    reasoning: Text,
    /// Those who asked for just this reply.
    askers: Vec<Seat>,
}

/// A text and its length in code points.
#[derive(Default)]
struct Text {
    text: String,
    points: usize,
}

impl Text {
    fn push(&mut self, added: &str) -> usize {
        let offset = self.points;
        self.text.push_str(added);
        self.points += added.chars().count();
        offset
    }
}

impl Growing {
    /// A reply that begins here.
    fn here(message: &Message, audience: Audience, created: EventNumber) -> Self {
        Self {
            chat: message.chat,
            audience,
            created,
            local: true,
            content: Text::default(),
            reasoning: Text::default(),
            askers: Vec::new(),
        }
    }

    /// A reply that runs in another process, with what is stored of it.
    fn elsewhere(message: &Message, audience: Audience, created: EventNumber) -> Self {
        let mut growing = Self { local: false, ..Self::here(message, audience, created) };
        growing.content.push(&message.content);
        growing.reasoning.push(message.reasoning.as_deref().unwrap_or_default());
        growing
    }

    fn part(&mut self, part: Part) -> &mut Text {
        match part {
            Part::Content => &mut self.content,
            Part::Reasoning => &mut self.reasoning,
        }
    }

    fn length(&self) -> usize {
        self.content.text.len() + self.reasoning.text.len()
    }

    /// The answer so far, and the thoughts where there are any.
    fn texts(&self) -> (String, Option<String>) {
        let reasoning = &self.reasoning.text;
        (self.content.text.clone(), (!reasoning.is_empty()).then(|| reasoning.clone()))
    }

    /// All text so far, as deltas from the start.
    fn so_far(&self, message: MessageId) -> Vec<Arc<Delivery>> {
        [(Part::Reasoning, &self.reasoning), (Part::Content, &self.content)]
            .into_iter()
            .filter(|(_, text)| !text.text.is_empty())
            .map(|(part, text)| {
                let delta = Delta { chat: self.chat, message, offset: 0, part, added: text.text.clone() };
                Delivery::new(None, self.audience, Some(LiveEvent::Delta(delta)))
            })
            .collect()
    }
}

/// A watcher's place: where its deliveries are put.
struct Seat {
    watcher: u64,
    queue: mpsc::Sender<Arc<Delivery>>,
}

/// Hands a delivery to all; those who can't take it lose their seat and will join anew.
fn hand_out(seats: &mut Vec<Seat>, delivery: &Arc<Delivery>) {
    seats.retain_mut(|seat| seat.queue.try_send(delivery.clone()).is_ok());
}

#[derive(Default)]
struct RoomState {
    /// The last event handed out; none while no tail runs.
    last: Option<EventNumber>,
    /// Events of this process that came before their predecessors.
    early: BTreeMap<EventNumber, Arc<Delivery>>,
    growing: HashMap<MessageId, Growing>,
    seats: Vec<Seat>,
}

impl RoomState {
    fn is_idle(&self) -> bool {
        self.growing.is_empty() && self.seats.is_empty() && self.last.is_none()
    }

    /// Hands out an event whose turn it is, and those that waited for it.
    fn advance(&mut self, number: EventNumber, delivery: Arc<Delivery>) {
        let mut next = Some((number, delivery));
        while let Some((number, delivery)) = next {
            self.last = Some(number);
            if let Some(LiveEvent::MessageEnded(message)) = delivery.event() {
                // The end of a reply that runs elsewhere comes before the last of its text was looked at.
                self.follow(message);
            }
            hand_out(&mut self.seats, &delivery);
            match delivery.event() {
                Some(LiveEvent::MessageCreated(message)) => {
                    // Text that came before its reply was announced.
                    let so_far = self.growing.get(&message.id).map(|growing| growing.so_far(message.id));
                    for delivery in so_far.into_iter().flatten() {
                        hand_out(&mut self.seats, &delivery);
                    }
                }
                Some(LiveEvent::MessageEnded(message)) => {
                    self.growing.remove(&message.id);
                }
                _ => {}
            }
            next = self.early.remove(&(number + 1)).map(|delivery| (number + 1, delivery));
        }
    }

    /// Grows a reply that runs elsewhere to what is stored of it.
    fn follow(&mut self, stored: &Message) {
        for (part, text) in
            [(Part::Reasoning, stored.reasoning.as_deref().unwrap_or_default()), (Part::Content, &stored.content)]
        {
            let Some(growing) = self.growing.get_mut(&stored.id).filter(|growing| !growing.local) else { return };
            let known = growing.part(part).text.len();
            if let Some(added) = text.get(known..).filter(|added| !added.is_empty()) {
                self.grow(stored.id, part, added);
            }
        }
    }

    fn grow(&mut self, id: MessageId, part: Part, added: &str) {
        let Some(growing) = self.growing.get_mut(&id) else { return };
        let offset = growing.part(part).push(added);
        let announced = self.last.is_some_and(|last| last >= growing.created) && !self.seats.is_empty();
        if !announced && growing.askers.is_empty() {
            return;
        }
        let delta = Delta { chat: growing.chat, message: id, offset, part, added: added.to_owned() };
        let delivery = Delivery::new(None, growing.audience, Some(LiveEvent::Delta(delta)));
        hand_out(&mut growing.askers, &delivery);
        if announced {
            hand_out(&mut self.seats, &delivery);
        }
    }
}

/// A workspace, as far as it is lived in here.
pub(super) struct Room {
    workspace: WorkspaceId,
    state: Mutex<RoomState>,
    wake: Signal,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More text of a reply that runs here.
    pub(super) fn grow(&self, message: MessageId, part: Part, added: &str) {
        self.lock().grow(message, part, added);
    }

    /// The text so far of a reply.
    pub(super) fn text_of(&self, message: MessageId) -> (String, Option<String>) {
        self.lock().growing.get(&message).map_or((String::new(), None), Growing::texts)
    }

    /// The text so far of a reply, where it has grown beyond `length` bytes.
    pub(super) fn text_beyond(&self, message: MessageId, length: usize) -> Option<(String, Option<String>)> {
        self.lock().growing.get(&message).filter(|growing| growing.length() > length).map(Growing::texts)
    }

    /// An event of this process, right after its commit.
    fn publish(&self, number: EventNumber, delivery: Arc<Delivery>) {
        let mut state = self.lock();
        let Some(last) = state.last else { return };
        if number == last + 1 {
            state.advance(number, delivery);
        } else if number > last {
            state.early.insert(number, delivery);
            self.wake.notify(usize::MAX);
        }
    }
}

/// What a watcher must keep having, to go on watching.
struct Standing {
    workspace: WorkspaceId,
    user: UserId,
    role: GlobalRole,
    /// Since when they belong to the workspace: one who left and came back is no longer who opened the stream.
    joined_at: Timestamp,
    session: SessionId,
    revoked: AtomicBool,
}

/// All rooms of this process.
pub struct Live {
    ports: Ports,
    rooms: Mutex<HashMap<WorkspaceId, Arc<Room>>>,
    watchers: Mutex<HashMap<u64, Arc<Standing>>>,
    next_watcher: AtomicU64,
    closed: AtomicBool,
}

impl Live {
    /// Over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self {
            ports,
            rooms: Mutex::default(),
            watchers: Mutex::default(),
            next_watcher: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// How many streams are open.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Follows what a member may see, from the event after `after`, or from now on.
    ///
    /// # Errors
    /// `CursorExpired` for a cursor outside the kept log; `ShuttingDown`; `Unavailable`.
    pub async fn watch(
        self: &Arc<Self>,
        member: &Member,
        scope: Scope,
        after: Option<EventNumber>,
    ) -> Result<Watch, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        Watch::open(self.clone(), self.stand(member), scope, after).await
    }

    fn stand(self: &Arc<Self>, member: &Member) -> Ticket {
        let actor = member.actor();
        let standing = Arc::new(Standing {
            workspace: member.workspace(),
            user: actor.user().id,
            role: actor.user().role,
            joined_at: member.joined().membership.joined_at,
            session: actor.session(),
            revoked: AtomicBool::new(false),
        });
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, standing.clone());
        Ticket { id, standing, live: self.clone() }
    }

    pub(super) fn room(&self, workspace: WorkspaceId) -> Arc<Room> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms
            .entry(workspace)
            .or_insert_with(|| Arc::new(Room { workspace, state: Mutex::default(), wake: Signal::new() }))
            .clone()
    }

    /// Forgets the rooms in which nothing grows and nobody watches.
    fn tidy(&self) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds a room besides the map may be about to use it.
        rooms.retain(|_, room| Arc::strong_count(room) > 1 || !room.lock().is_idle());
    }

    /// A chat's event of this process, right after its commit.
    pub(super) fn publish_chat(&self, number: EventNumber, chat: &Chat, event: LiveEvent) {
        self.room(chat.workspace).publish(number, Delivery::new(Some(number), chat.audience(), Some(event)));
    }

    /// An event of the workspace itself, of this process, right after its commit.
    pub(super) fn publish(&self, workspace: WorkspaceId, number: EventNumber, event: LiveEvent) {
        self.room(workspace).publish(number, Delivery::new(Some(number), Audience::Everybody, Some(event)));
    }

    /// A reply begins here: its two messages are told, and it may grow.
    pub(super) fn begin(
        self: &Arc<Self>,
        first: EventNumber,
        audience: Audience,
        (message, reply): (&Message, &Message),
        asker: Option<&Member>,
    ) -> (Arc<Room>, Option<ReplyWatch>) {
        let room = self.room(message.workspace);
        let mut growing = Growing::here(reply, audience, first + 1);
        // The same deliveries for all who are told, so that each is rendered once.
        let told = [(first, message), (first + 1, reply)].map(|(number, message)| {
            (number, Delivery::new(Some(number), audience, Some(LiveEvent::MessageCreated(message.clone()))))
        });
        let watch = asker.map(|member| {
            let ticket = self.stand(member);
            let (queue, deliveries) = mpsc::channel(QUEUE);
            growing.askers.push(Seat { watcher: ticket.id, queue });
            let told = told.iter().map(|(_, delivery)| delivery.clone());
            ReplyWatch::asked(ticket, room.clone(), reply, audience, told, deliveries)
        });
        room.lock().growing.insert(reply.id, growing);
        for (number, delivery) in told {
            room.publish(number, delivery);
        }
        (room, watch)
    }

    /// A reply has ended, here (then with the number of its event) or by another process.
    pub(super) fn end(&self, room: &Arc<Room>, number: Option<EventNumber>, message: &Message) {
        let Some(mut growing) = room.lock().growing.remove(&message.id) else { return };
        let ended = LiveEvent::MessageEnded(message.clone());
        let delivery = Delivery::new(number, growing.audience, Some(ended));
        hand_out(&mut growing.askers, &delivery);
        if let Some(number) = number {
            room.publish(number, delivery);
        }
    }

    /// Ends the streams of those who lost the right to them: signed out, removed, deactivated, or of another role now.
    ///
    /// # Errors
    /// `Unavailable`: then everybody stays until it can be asked.
    pub async fn turn_out_the_unauthorised(&self) -> Result<(), Failure> {
        self.tidy();
        let watchers: Vec<(u64, Arc<Standing>)> = {
            let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
            watchers.iter().map(|(id, standing)| (*id, standing.clone())).collect()
        };
        if watchers.is_empty() {
            return Ok(());
        }
        let sessions: HashSet<SessionId> = watchers.iter().map(|(_, standing)| standing.session).collect();
        let memberships: HashSet<(WorkspaceId, UserId)> =
            watchers.iter().map(|(_, standing)| (standing.workspace, standing.user)).collect();
        let sessions = self.ports.sessions.sessions(&sessions.into_iter().collect::<Vec<_>>()).await?;
        let sessions: HashMap<_, _> =
            sessions.into_iter().map(|(session, user)| (session.id, (session, user))).collect();
        let members = self.ports.workspaces.memberships(&memberships.into_iter().collect::<Vec<_>>()).await?;
        let members: HashMap<_, _> = members
            .into_iter()
            .filter(|membership| Right::ReadChats.is_held_by(membership.role))
            .map(|membership| ((membership.workspace, membership.user), membership.joined_at))
            .collect();
        let now = self.ports.clock.now();
        for (id, standing) in watchers {
            let known = sessions
                .get(&standing.session)
                .is_some_and(|(session, user)| still_stands(session, user, (standing.user, standing.role), now));
            if !known || members.get(&(standing.workspace, standing.user)) != Some(&standing.joined_at) {
                standing.revoked.store(true, Ordering::Release);
                self.take_seats(standing.workspace, id);
            }
        }
        Ok(())
    }

    fn take_seats(&self, workspace: WorkspaceId, watcher: u64) {
        let room = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).get(&workspace).cloned();
        if let Some(room) = room {
            let mut state = room.lock();
            state.seats.retain(|seat| seat.watcher != watcher);
            for growing in state.growing.values_mut() {
                growing.askers.retain(|seat| seat.watcher != watcher);
            }
        }
    }

    /// Ends all streams once they have been handed what waits for them, and opens no more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let rooms: Vec<_> = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for room in rooms {
            let mut state = room.lock();
            state.seats.clear();
            for growing in state.growing.values_mut() {
                growing.askers.clear();
            }
            room.wake.notify(usize::MAX);
        }
    }

    /// Takes a seat in the room, where the tail is started if none runs.
    ///
    /// A watcher may come from another process, and know of events that this room has not read yet: then they are read first. Else it would be
    /// shown an ended reply as one that runs, with less text than it has.
    async fn sit(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        watcher: u64,
        known: Option<EventNumber>,
    ) -> Result<Seated, Error> {
        let room = self.room(workspace);
        let mut read = None;
        let mut caught_up = false;
        loop {
            {
                let mut state = room.lock();
                // Looked at under the lock under which `close` takes all seats: nobody sits down behind its back.
                if self.closed.load(Ordering::Acquire) {
                    return Err(Error::ShuttingDown);
                }
                if state.last.is_none()
                    && let Some((newest, elsewhere)) = read.take()
                {
                    state.last = Some(newest);
                    state.early.clear();
                    for (growing, message) in elsewhere {
                        state.growing.entry(message).or_insert(growing);
                    }
                    let (live, room) = (self.clone(), room.clone());
                    self.ports.tasks.spawn(Box::pin(async move { live.tail(&room).await }));
                    // What was published while the log was read is in the log, and the tail's first turn finds it.
                }
                if let Some(last) = state.last
                    && (caught_up || known.is_none_or(|known| known <= last))
                {
                    let (queue, deliveries) = mpsc::channel(QUEUE);
                    state.seats.push(Seat { watcher, queue });
                    let running = state
                        .growing
                        .iter()
                        .filter(|(_, growing)| growing.created <= last)
                        .map(|(id, growing)| (*id, growing.chat, growing.audience, growing.so_far(*id)))
                        .collect();
                    return Ok(Seated { deliveries, last, running });
                }
            }
            let lags = room.lock().last;
            match lags {
                Some(last) => {
                    self.catch_up(&room, last, false).await?;
                    caught_up = true;
                }
                None => read = Some(self.look(workspace).await?),
            }
        }
    }

    /// The newest event, and the replies that run elsewhere: those that run both before and after it, so that each is announced by then and
    /// the end of each is still to come. One that ended in between would be taken for running ever after.
    async fn look(&self, workspace: WorkspaceId) -> Result<(EventNumber, Vec<(Growing, MessageId)>), Failure> {
        let before = self.ports.replies.running_in(workspace).await?;
        let newest = self.ports.replies.log_bounds(workspace).await?.newest;
        if before.is_empty() {
            return Ok((newest, Vec::new()));
        }
        let announced: HashSet<MessageId> = before.iter().map(|(_, message)| message.id).collect();
        let running = self.ports.replies.running_in(workspace).await?;
        let mut elsewhere = Vec::with_capacity(running.len());
        for (_, message) in running.into_iter().filter(|(_, message)| announced.contains(&message.id)) {
            if let Some(chat) = self.ports.chats.chat(workspace, message.chat).await? {
                elsewhere.push((Growing::elsewhere(&message, chat.audience(), 0), message.id));
            }
        }
        Ok((newest, elsewhere))
    }

    /// Reads what other processes did in a workspace, for as long as somebody watches it.
    async fn tail(self: &Arc<Self>, room: &Arc<Room>) {
        loop {
            // Heard from here on, so that nothing that comes up during the turn waits for the next one.
            let woken = room.wake.listen();
            let (last, busy) = {
                let mut state = room.lock();
                let Some(last) = state.last.filter(|_| !state.seats.is_empty()) else {
                    state.last = None;
                    state.early.clear();
                    state.growing.retain(|_, growing| growing.local);
                    return;
                };
                (last, state.growing.values().any(|growing| !growing.local))
            };
            // A database that is away is tried again at the next turn; the watchers wait.
            let busy = match self.catch_up(room, last, busy).await {
                Ok(()) => room.lock().growing.values().any(|growing| !growing.local),
                Err(_) => false,
            };
            let pause = self.ports.clock.sleep(if busy { BUSY_TAIL } else { IDLE_TAIL });
            pin_mut!(woken);
            pin_mut!(pause);
            select(woken, pause).await;
        }
    }

    /// One turn of the tail: the text of replies that run elsewhere, as it was before the events that are read after it.
    async fn catch_up(&self, room: &Arc<Room>, mut last: EventNumber, busy: bool) -> Result<(), Failure> {
        let texts = if busy { self.ports.replies.running_in(room.workspace).await? } else { Vec::new() };
        loop {
            let events = self.ports.replies.events(room.workspace, last, Limit::default()).await?;
            let full = events.len() == Limit::default().items();
            for logged in events {
                last = logged.number;
                let here = {
                    let state = room.lock();
                    state.last.is_none_or(|last| logged.number <= last) || state.early.contains_key(&logged.number)
                };
                let loaded = if here { None } else { Some(self.load(room.workspace, logged.event.kind).await?) };
                let mut state = room.lock();
                if state.last.is_none_or(|last| logged.number != last + 1) {
                    continue;
                }
                let delivery = match (state.early.remove(&logged.number), loaded) {
                    (Some(early), _) => early,
                    (None, Some((audience, event))) => {
                        if let Some(LiveEvent::MessageCreated(message)) = &event
                            && message.status == MessageStatus::Streaming
                        {
                            let growing = || Growing::elsewhere(message, audience, logged.number);
                            state.growing.entry(message.id).or_insert_with(growing);
                        }
                        Delivery::new(Some(logged.number), audience, event.map(LiveEvent::in_retrospect))
                    }
                    // It was handed out by its own process's publish between the two looks.
                    (None, None) => continue,
                };
                state.advance(logged.number, delivery);
            }
            if !full {
                break;
            }
        }
        let mut state = room.lock();
        for (_, message) in texts {
            state.follow(&message);
        }
        Ok(())
    }

    /// An event's subject in its present state, and who may see it; no event where it is gone.
    async fn load(&self, workspace: WorkspaceId, kind: EventKind) -> Result<(Audience, Option<LiveEvent>), Failure> {
        match kind {
            EventKind::MemberJoined(user) => self.load_member(workspace, user, LiveEvent::MemberJoined).await,
            EventKind::MemberUpdated(user) => self.load_member(workspace, user, LiveEvent::MemberUpdated).await,
            EventKind::MemberLeft(user) => Ok((Audience::Everybody, Some(LiveEvent::MemberLeft(user)))),
            EventKind::MessageCreated(chat, _)
            | EventKind::MessageEnded(chat, _)
            | EventKind::ChatCreated(chat)
            | EventKind::ChatUpdated(chat)
            | EventKind::ChatDeleted(chat) => self.load_of_chat(workspace, chat, kind).await,
        }
    }

    async fn load_member(
        &self,
        workspace: WorkspaceId,
        user: UserId,
        event: fn(Participant) -> LiveEvent,
    ) -> Result<(Audience, Option<LiveEvent>), Failure> {
        let participant = self.ports.workspaces.participant(workspace, user).await?;
        Ok((Audience::Everybody, participant.map(event)))
    }

    async fn load_of_chat(
        &self,
        workspace: WorkspaceId,
        id: ChatId,
        kind: EventKind,
    ) -> Result<(Audience, Option<LiveEvent>), Failure> {
        let Some(chat) = self.ports.chats.chat(workspace, id).await? else {
            let event = matches!(kind, EventKind::ChatDeleted(_)).then_some(LiveEvent::ChatDeleted(id));
            return Ok((Audience::Everybody, event));
        };
        let audience = chat.audience();
        let event = match kind {
            EventKind::MessageCreated(_, message) => {
                self.ports.chats.message(id, message).await?.map(LiveEvent::MessageCreated)
            }
            EventKind::MessageEnded(_, message) => {
                self.ports.chats.message(id, message).await?.map(LiveEvent::MessageEnded)
            }
            EventKind::ChatCreated(_) => Some(LiveEvent::ChatCreated(chat)),
            EventKind::ChatUpdated(_) => Some(LiveEvent::ChatUpdated(chat)),
            _ => None,
        };
        Ok((audience, event))
    }
}

/// A running reply as it is announced: its text comes apart, as deltas, and its end, also where it has one by now, as an event of its own.
fn blank(message: &Message) -> Message {
    Message {
        content: String::new(),
        reasoning: None,
        status: MessageStatus::Streaming,
        usage: None,
        finish_reason: None,
        error: None,
        ..message.clone()
    }
}

/// What a watcher finds when it sits down.
struct Seated {
    deliveries: mpsc::Receiver<Arc<Delivery>>,
    last: EventNumber,
    running: Vec<(MessageId, ChatId, Audience, Vec<Arc<Delivery>>)>,
}

/// A watcher's entry among those that are re-authorised; dropping it gives up its seats.
struct Ticket {
    id: u64,
    standing: Arc<Standing>,
    live: Arc<Live>,
}

impl Ticket {
    fn is_revoked(&self) -> bool {
        self.standing.revoked.load(Ordering::Acquire)
    }

    fn may_stay(&self) -> bool {
        !self.is_revoked() && !self.live.closed.load(Ordering::Acquire)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.live.take_seats(self.standing.workspace, self.id);
    }
}
