//! What is read from the log: the events of other processes, and what a watcher missed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::future::select;
use futures_util::pin_mut;

use super::room::{Delivery, Gate, Growing, Room};
use super::{Live, LiveEvent, QUEUE};
use crate::change::{EventKind, EventNumber, LoggedEvent, Version};
use crate::error::{Error, Failure};
use crate::id::{ChatId, MessageId, UserId, WorkspaceId};
use crate::model::chat::{Audience, Chat, MessageStatus};
use crate::model::workspace::Participant;
use crate::page::Limit;

/// How often the log is read while a reply runs in another process.
const BUSY_TAIL: Duration = Duration::from_millis(250);
/// How often the log is read else.
const IDLE_TAIL: Duration = Duration::from_millis(500);

/// What a watcher finds when it sits down.
pub(super) struct Seated {
    pub(super) deliveries: mpsc::Receiver<Arc<Delivery>>,
    pub(super) last: EventNumber,
    pub(super) running: Vec<Found>,
}

/// A reply that runs when a watcher sits down, with its text so far.
pub(super) struct Found {
    pub(super) message: MessageId,
    pub(super) chat: ChatId,
    pub(super) gate: Arc<Gate>,
    pub(super) begun: Arc<Delivery>,
    pub(super) so_far: Vec<Arc<Delivery>>,
}

/// An event of the log, with its subject as it is now.
pub(super) struct Loaded {
    pub(super) delivery: Arc<Delivery>,
    /// The reply that it announces, where that still runs.
    growing: Option<(MessageId, Growing)>,
}

impl Live {
    /// Takes a seat in the room, where the tail is started if none runs.
    ///
    /// A watcher may come from another process, and know of events that this room has not read yet: then they are read first. Else it would be
    /// shown an ended reply as one that runs, with less text than it has.
    pub(super) async fn sit(
        self: &Arc<Self>,
        room: &Arc<Room>,
        watcher: u64,
        known: Option<EventNumber>,
    ) -> Result<Seated, Error> {
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
                    self.ports.tasks.spawn(Box::pin(async move {
                        let (tail, rounds) = (live.tail(&room), room.tell_in_rounds());
                        pin_mut!(tail);
                        pin_mut!(rounds);
                        select(tail, rounds).await;
                    }));
                    // What was published while the log was read is in the log, and the tail's first turn finds it.
                }
                if let Some(last) = state.last
                    && (caught_up || known.is_none_or(|known| known <= last))
                {
                    let (queue, deliveries) = mpsc::channel(QUEUE);
                    state.seats.take(watcher, queue);
                    let found = |(message, growing): (&MessageId, &Growing)| Found {
                        message: *message,
                        chat: growing.chat(),
                        gate: growing.gate.clone(),
                        begun: growing.begun(),
                        so_far: growing.so_far(),
                    };
                    let running = state.growing.iter().filter(|(_, growing)| growing.created <= last).map(found);
                    return Ok(Seated { deliveries, last, running: running.collect() });
                }
            }
            let lags = room.lock().last;
            match lags {
                Some(last) => {
                    self.catch_up(room, last, false).await?;
                    caught_up = true;
                }
                None => read = Some(self.look(room).await?),
            }
        }
    }

    /// The newest event, and the replies that run elsewhere: those that run both before and after it, so that each is announced by then and
    /// the end of each is still to come. One that ended in between would be taken for running ever after.
    async fn look(&self, room: &Room) -> Result<(EventNumber, Vec<(Growing, MessageId)>), Failure> {
        let workspace = room.workspace;
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
                elsewhere.push((Growing::elsewhere(&message, gate(room, &chat), 0), message.id));
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
    async fn catch_up(&self, room: &Room, mut last: EventNumber, busy: bool) -> Result<(), Failure> {
        let texts = if busy { self.ports.replies.running_in(room.workspace).await? } else { Vec::new() };
        loop {
            let events = self.ports.replies.events(room.workspace, last, Limit::default()).await?;
            let full = events.len() == Limit::default().items();
            if let Some(first) = events.first()
                && first.number > last + 1
            {
                // We slept for so long that the log has forgotten what comes next. Those who were here join anew, and hear of it.
                let mut state = room.lock();
                if state.last == Some(last) {
                    state.last = Some(first.number - 1);
                    state.early.clear();
                    state.growing.retain(|_, growing| growing.local);
                    state.clear_seats();
                }
            }
            for logged in events {
                last = logged.number;
                let here = {
                    let state = room.lock();
                    state.last.is_none_or(|last| logged.number <= last) || state.early.contains_key(&logged.number)
                };
                let loaded = if here { None } else { Some(self.load(room, logged).await?) };
                let mut state = room.lock();
                if state.last.is_none_or(|last| logged.number != last + 1) {
                    continue;
                }
                let delivery = match (state.early.remove(&logged.number), loaded) {
                    (Some(early), _) => early,
                    (None, Some(Loaded { delivery, growing })) => {
                        if let Some((message, growing)) = growing {
                            state.growing.entry(message).or_insert(growing);
                        }
                        delivery
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

    /// An event of the log with its subject in its present state; no event where that is gone.
    pub(super) async fn load(&self, room: &Room, logged: LoggedEvent) -> Result<Loaded, Failure> {
        let (workspace, number) = (room.workspace, logged.number);
        let everybody = |event| Loaded { delivery: Delivery::new(Some(number), None, event), growing: None };
        let (id, message) = match logged.event.kind {
            EventKind::MemberJoined(user) => {
                return Ok(everybody(self.member(workspace, user).await?.map(LiveEvent::MemberJoined)));
            }
            EventKind::MemberUpdated(user) => {
                return Ok(everybody(self.member(workspace, user).await?.map(LiveEvent::MemberUpdated)));
            }
            EventKind::MemberLeft(user) => return Ok(everybody(Some(LiveEvent::MemberLeft(user)))),
            EventKind::ChatDeleted(chat, only) => {
                return Ok(Loaded { delivery: deleted(number, chat, only), growing: None });
            }
            EventKind::MessageCreated(chat, message) | EventKind::MessageEnded(chat, message) => (chat, Some(message)),
            EventKind::ChatCreated(chat)
            | EventKind::ChatUpdated(chat)
            | EventKind::ChatHidden(chat)
            | EventKind::ChatShown(chat) => (chat, None),
        };
        let Some(chat) = self.ports.chats.chat(workspace, id).await? else {
            room.close(id);
            // One that was hidden before it was deleted has its deletion told to its creator alone; the others lost it here.
            let hidden = matches!(logged.event.kind, EventKind::ChatHidden(_));
            return Ok(everybody(hidden.then_some(LiveEvent::ChatDeleted(id))));
        };
        let Some(message) = message else {
            return Ok(Loaded { delivery: chat_event(room, number, logged.event.kind, &chat), growing: None });
        };
        let gate = gate(room, &chat);
        let Some(message) = self.ports.chats.message(id, message).await? else { return Ok(everybody(None)) };
        let created = matches!(logged.event.kind, EventKind::MessageCreated(..));
        let growing = (created && message.status == MessageStatus::Streaming)
            .then(|| (message.id, Growing::elsewhere(&message, gate.clone(), number)));
        let event = if created { LiveEvent::MessageCreated(message) } else { LiveEvent::MessageEnded(message) };
        Ok(Loaded { delivery: Delivery::new(Some(number), Some(gate), Some(event.in_retrospect())), growing })
    }

    async fn member(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Participant>, Failure> {
        self.ports.workspaces.participant(workspace, user).await
    }
}

/// Who may see a chat that was read just now.
pub(super) fn gate(room: &Room, chat: &Chat) -> Arc<Gate> {
    room.gate(chat.id, chat.version, chat.audience())
}

/// What is told of a chat that is gone: to all, or where it was private to the one who could see it.
pub(super) fn deleted(number: EventNumber, chat: ChatId, only: Option<UserId>) -> Arc<Delivery> {
    let gate = only.map(|user| Gate::new(Version::FIRST, Audience::Only(Some(user))));
    Delivery::new(Some(number), gate, Some(LiveEvent::ChatDeleted(chat)))
}

/// What is told of a chat's own event, with the chat as it is now.
pub(super) fn chat_event(room: &Room, number: EventNumber, kind: EventKind, chat: &Chat) -> Arc<Delivery> {
    let (gate, number) = (gate(room, chat), Some(number));
    let creator = chat.creator();
    let private = chat.audience() != Audience::Everybody;
    let updated = LiveEvent::ChatUpdated(chat.clone());
    match kind {
        // For its creator it goes on; for the others it goes, and it comes.
        EventKind::ChatHidden(id) if private => {
            let gone = Delivery::new(number, None, Some(LiveEvent::ChatDeleted(id)));
            Delivery::split(number, &gate, (creator, updated), gone)
        }
        EventKind::ChatShown(_) if !private => {
            let new = Delivery::new(number, Some(gate.clone()), Some(LiveEvent::ChatCreated(chat.clone())));
            Delivery::split(number, &gate, (creator, updated), new)
        }
        EventKind::ChatCreated(_) => Delivery::new(number, Some(gate), Some(LiveEvent::ChatCreated(chat.clone()))),
        _ => Delivery::new(number, Some(gate), Some(updated)),
    }
}
