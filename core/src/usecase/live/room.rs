//! A workspace as far as it is lived in here: the replies that grow, those who watch, and who may see which chat.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use event_listener::Event as Signal;

use super::seats::{Seat, Seats, give_way, hand_out};
use super::{Delta, LiveEvent, Part, blank};
use crate::change::{EventNumber, Version};
use crate::id::{ChatId, MessageId, UserId, WorkspaceId};
use crate::model::chat::{Audience, Message};

/// How many times a room is tidied before it forgets who may see a chat of which nothing is on its way: about a minute, longer than any request.
const GATE_KEPT: u32 = 30;

/// Who may see a chat, by the newest that is known here. All that is on its way to watchers shares it, so that it is judged when it is delivered
/// and not when it happened.
#[derive(Debug)]
pub(super) struct Gate {
    known: Mutex<(Version, Audience)>,
    /// The chat is deleted: nothing more of it is told, but that.
    gone: AtomicBool,
    /// How often the room was tidied since it was asked for.
    idle: AtomicU32,
}

impl Gate {
    pub(super) fn new(version: Version, audience: Audience) -> Arc<Self> {
        Arc::new(Self { known: Mutex::new((version, audience)), gone: AtomicBool::new(false), idle: AtomicU32::new(0) })
    }

    /// Learns of a version of the chat; an older one than is known says nothing. Says whether it was news.
    fn learn(&self, version: Version, audience: Audience) -> bool {
        self.idle.store(0, Ordering::Relaxed);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let news = version > known.0;
        if news {
            *known = (version, audience);
        }
        news
    }

    /// Whether a watcher may be told more of the chat.
    fn lets_through(&self, user: UserId) -> bool {
        !self.gone.load(Ordering::Relaxed) && self.admits(user)
    }

    pub(super) fn admits(&self, user: UserId) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1.includes(user)
    }
}

/// An event on its way to all who watch, rendered by whoever needs it first.
#[derive(Debug)]
pub struct Delivery {
    pub(super) number: Option<EventNumber>,
    /// Whose chat it is of; none for what all members may see.
    gate: Option<Arc<Gate>>,
    event: Option<LiveEvent>,
    /// What all but one user are told in its place.
    others: Option<(Option<UserId>, Arc<Self>)>,
    rendered: OnceLock<Bytes>,
}

impl Delivery {
    /// For those whom the gate lets see it.
    pub(super) fn new(number: Option<EventNumber>, gate: Option<Arc<Gate>>, event: Option<LiveEvent>) -> Arc<Self> {
        Arc::new(Self { number, gate, event, others: None, rendered: OnceLock::new() })
    }

    /// One event for a single user, and another for all others.
    pub(super) fn split(
        number: Option<EventNumber>,
        gate: &Arc<Gate>,
        (user, event): (Option<UserId>, LiveEvent),
        others: Arc<Self>,
    ) -> Arc<Self> {
        let (gate, event) = (Some(gate.clone()), Some(event));
        Arc::new(Self { number, gate, event, others: Some((user, others)), rendered: OnceLock::new() })
    }

    /// What this user may be told of it, by now.
    pub(super) fn seen_by(self: &Arc<Self>, user: UserId) -> Option<&Arc<Self>> {
        match &self.others {
            Some((only, others)) if *only != Some(user) => others.seen_by(user),
            _ => self.gate.as_ref().is_none_or(|gate| gate.lets_through(user)).then_some(self),
        }
    }

    /// What happened; none where only the cursor moves.
    #[must_use]
    pub const fn event(&self) -> Option<&LiveEvent> {
        self.event.as_ref()
    }

    /// This text and more of it as one, where the one goes right behind the other.
    pub(super) fn followed_by(&self, more: &Self) -> Option<Arc<Self>> {
        let (Some(LiveEvent::Delta(first)), Some(LiveEvent::Delta(second))) = (self.event(), more.event()) else {
            return None;
        };
        let same_gate = match (&self.gate, &more.gate) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        if !same_gate || first.offset + first.added.chars().count() != second.offset {
            return None;
        }
        let both = Delta { added: [&*first.added, &second.added].concat(), ..first.clone() };
        Some(Self::new(None, self.gate.clone(), Some(LiveEvent::Delta(both))))
    }

    /// The chat that is new to all but one user.
    fn shows(&self) -> Option<ChatId> {
        match self.others.as_ref()?.1.event()? {
            LiveEvent::ChatCreated(chat) => Some(chat.id),
            _ => None,
        }
    }

    /// The event as the driving side writes it, made once for all watchers.
    pub fn rendered(&self, render: impl FnOnce(&LiveEvent) -> Bytes) -> Bytes {
        match &self.event {
            Some(event) => self.rendered.get_or_init(|| render(event)).clone(),
            None => Bytes::new(),
        }
    }
}

/// A reply that grows.
pub(super) struct Growing {
    /// As it is announced: without its text.
    announced: Message,
    pub(super) gate: Arc<Gate>,
    /// The number of the event that announced it.
    pub(super) created: EventNumber,
    pub(super) local: bool,
    content: Text,
    reasoning: Text,
    /// Those who asked for just this reply.
    pub(super) askers: Vec<Seat>,
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
    pub(super) fn here(message: &Message, gate: Arc<Gate>, created: EventNumber) -> Self {
        Self {
            announced: blank(message),
            gate,
            created,
            local: true,
            content: Text::default(),
            reasoning: Text::default(),
            askers: Vec::new(),
        }
    }

    /// A reply that runs in another process, with what is stored of it.
    pub(super) fn elsewhere(message: &Message, gate: Arc<Gate>, created: EventNumber) -> Self {
        let mut growing = Self { local: false, ..Self::here(message, gate, created) };
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

    pub(super) const fn chat(&self) -> ChatId {
        self.announced.chat
    }

    /// That it began, for those who did not see it happen.
    pub(super) fn begun(&self) -> Arc<Delivery> {
        let created = LiveEvent::MessageCreated(self.announced.clone());
        Delivery::new(None, Some(self.gate.clone()), Some(created))
    }

    /// All text so far, as deltas from the start.
    pub(super) fn so_far(&self) -> Vec<Arc<Delivery>> {
        let Message { chat, id: message, .. } = self.announced;
        [(Part::Reasoning, &self.reasoning), (Part::Content, &self.content)]
            .into_iter()
            .filter(|(_, text)| !text.text.is_empty())
            .map(|(part, text)| {
                let delta = Delta { chat, message, offset: 0, part, added: text.text.clone() };
                Delivery::new(None, Some(self.gate.clone()), Some(LiveEvent::Delta(delta)))
            })
            .collect()
    }
}

#[derive(Default)]
pub(super) struct RoomState {
    /// The last event handed out; none while no tail runs.
    pub(super) last: Option<EventNumber>,
    /// Events of this process that came before their predecessors.
    pub(super) early: BTreeMap<EventNumber, Arc<Delivery>>,
    pub(super) growing: HashMap<MessageId, Growing>,
    pub(super) seats: Seats,
    gates: HashMap<ChatId, Arc<Gate>>,
}

impl RoomState {
    fn is_idle(&self) -> bool {
        self.growing.is_empty() && self.seats.is_empty() && self.last.is_none() && self.gates.is_empty()
    }

    /// Lets nothing more of a deleted chat through, whatever is on its way.
    fn close(&self, chat: ChatId) {
        if let Some(gate) = self.gates.get(&chat) {
            gate.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Hands out an event whose turn it is, and those that waited for it.
    pub(super) fn advance(&mut self, number: EventNumber, delivery: Arc<Delivery>) {
        let mut next = Some((number, delivery));
        while let Some((number, delivery)) = next {
            self.last = Some(number);
            if let Some(LiveEvent::MessageEnded(message)) = delivery.event() {
                // The end of a reply that runs elsewhere comes before the last of its text was looked at.
                self.follow(message);
            }
            self.seats.tell(&delivery);
            match delivery.event() {
                Some(LiveEvent::MessageCreated(message)) => {
                    // Text that came before its reply was announced.
                    let so_far = self.growing.get(&message.id).map(Growing::so_far);
                    for delivery in so_far.into_iter().flatten() {
                        self.seats.tell(&delivery);
                    }
                }
                Some(LiveEvent::MessageEnded(message)) => {
                    self.growing.remove(&message.id);
                }
                Some(LiveEvent::ChatDeleted(chat)) => {
                    self.close(*chat);
                    // The end of its replies is not told any more. Those that run here find it out by themselves; until then they are nobody's
                    // but their askers'.
                    self.growing.retain(|_, growing| growing.local || growing.chat() != *chat);
                    for growing in self.growing.values_mut().filter(|growing| growing.chat() == *chat) {
                        growing.created = EventNumber::MAX;
                    }
                }
                _ => {}
            }
            if let Some(chat) = delivery.shows() {
                // Those to whom it is new know nothing of the replies that run in it.
                let running =
                    self.growing.values().filter(|growing| growing.chat() == chat && growing.created <= number);
                let told: Vec<_> =
                    running.flat_map(|growing| [growing.begun()].into_iter().chain(growing.so_far())).collect();
                for delivery in told {
                    self.seats.tell(&delivery);
                }
            }
            next = self.early.remove(&(number + 1)).map(|delivery| (number + 1, delivery));
        }
    }

    /// Grows a reply that runs elsewhere to what is stored of it.
    pub(super) fn follow(&mut self, stored: &Message) {
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
        let delta = Delta { chat: growing.chat(), message: id, offset, part, added: added.to_owned() };
        let delivery = Delivery::new(None, Some(growing.gate.clone()), Some(LiveEvent::Delta(delta)));
        hand_out(&mut growing.askers, &delivery);
        if announced {
            self.seats.tell(&delivery);
        }
    }

    /// Takes away all seats: whoever may stay joins anew, from the last event they were given.
    pub(super) fn clear_seats(&mut self) {
        self.seats.clear();
        for growing in self.growing.values_mut() {
            growing.askers.clear();
        }
    }

    /// Takes away one watcher's seats.
    pub(super) fn take_seats(&mut self, watcher: u64) {
        self.seats.leave(watcher);
        for growing in self.growing.values_mut() {
            growing.askers.retain(|seat| seat.watcher != watcher);
        }
    }
}

/// A workspace, as far as it is lived in here.
pub(in crate::usecase) struct Room {
    pub(super) workspace: WorkspaceId,
    state: Mutex<RoomState>,
    pub(super) wake: Signal,
}

impl Room {
    pub(super) fn of(workspace: WorkspaceId) -> Self {
        Self { workspace, state: Mutex::default(), wake: Signal::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may see a chat, of which this version was read just now.
    pub(super) fn gate(&self, chat: ChatId, version: Version, audience: Audience) -> Arc<Gate> {
        let mut state = self.lock();
        let gate = state.gates.entry(chat).or_insert_with(|| Gate::new(version, audience)).clone();
        gate.learn(version, audience);
        gate
    }

    /// Learns who may see a chat. Where that is news, whoever asked for one of its replies looks again.
    pub(super) fn learn(&self, chat: ChatId, version: Version, audience: Audience) {
        let gate = self.lock().gates.get(&chat).cloned();
        if gate.is_some_and(|gate| gate.learn(version, audience)) {
            self.look_again(chat);
        }
    }

    /// A chat was found to be deleted.
    pub(super) fn close(&self, chat: ChatId) {
        self.lock().close(chat);
    }

    /// Whether a user may see a chat, by the newest that is known here.
    pub(super) fn admits(&self, chat: ChatId, user: UserId) -> bool {
        self.lock().gates.get(&chat).is_some_and(|gate| gate.admits(user))
    }

    /// More text of a reply that runs here.
    pub(in crate::usecase) fn grow(&self, message: MessageId, part: Part, added: &str) {
        self.lock().grow(message, part, added);
    }

    /// The text so far of a reply.
    pub(in crate::usecase) fn text_of(&self, message: MessageId) -> (String, Option<String>) {
        self.lock().growing.get(&message).map_or((String::new(), None), Growing::texts)
    }

    /// Whether a reply has no text yet.
    pub(in crate::usecase) fn is_blank(&self, message: MessageId) -> bool {
        self.lock().growing.get(&message).is_none_or(|growing| growing.length() == 0)
    }

    /// The text so far of a reply, where it has grown beyond `length` bytes.
    pub(in crate::usecase) fn text_beyond(
        &self,
        message: MessageId,
        length: usize,
    ) -> Option<(String, Option<String>)> {
        self.lock().growing.get(&message).filter(|growing| growing.length() > length).map(Growing::texts)
    }

    /// An event of this process, right after its commit.
    pub(super) fn publish(&self, number: EventNumber, delivery: Arc<Delivery>) {
        let mut state = self.lock();
        let Some(last) = state.last else { return };
        if number == last + 1 {
            state.advance(number, delivery);
        } else if number > last {
            state.early.insert(number, delivery);
            self.wake.notify(usize::MAX);
        }
    }

    /// Tells those who watch what there is to tell, for as long as it is polled.
    pub(super) async fn tell_in_rounds(&self) {
        loop {
            let more = self.lock().seats.proceed();
            match more {
                None => give_way().await,
                Some(more) => more.await,
            }
        }
    }

    /// Lets those who asked for replies of a chat look again whether they may see them.
    pub(super) fn look_again(&self, chat: ChatId) {
        let nothing = Delivery::new(None, None, None);
        for growing in self.lock().growing.values_mut().filter(|growing| growing.chat() == chat) {
            hand_out(&mut growing.askers, &nothing);
        }
    }

    /// Forgets who may see the chats of which nothing is on its way, and says whether nothing at all is left.
    pub(super) fn tidy(&self) -> bool {
        let mut state = self.lock();
        // One that was asked for not long ago is kept: somebody whose look at the database began before a change of it may still come, and must
        // not open it again.
        let in_use =
            |gate: &Arc<Gate>| Arc::strong_count(gate) > 1 || gate.idle.fetch_add(1, Ordering::Relaxed) < GATE_KEPT;
        state.gates.retain(|_, gate| in_use(gate));
        state.is_idle()
    }
}
