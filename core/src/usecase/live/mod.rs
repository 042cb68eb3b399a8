//! The live path's last stretch: from what happens in a workspace to everybody who watches it.
//!
//! Each workspace that somebody watches, or in which a reply runs here, has a `Room`. The room holds the text so far of every running reply and
//! hands new text on at once. Durable events come in the order of their numbers: those of this process right after their commit, those of others
//! from the log, which one *tail* a room reads while somebody watches. A jump in the numbers means: read the log. So nothing depends on a message
//! bus, and several processes on one database act as one.
//!
//! A watcher that joins gets the text so far and all that follows, without a gap, because both happen under the room's lock. One that is too slow
//! loses its place in the room and joins anew from the last event it was given.
//!
//! What a watcher may see is judged when it is delivered: all that is on its way passes the gate of its chat, which closes in this process with
//! the commit that makes the chat private, and in others when they read of it.

mod room;
mod seats;
mod tail;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::mpsc;
pub use room::Delivery;
use room::Growing;
pub(super) use room::Room;
use seats::{Seat, hand_out};
use tail::{chat_event, deleted};
pub use watch::{Frame, ReplyWatch, Watch};

use super::auth::still_stands;
use super::workspaces::Member;
use crate::change::{EventKind, EventNumber};
use crate::error::{Error, Failure};
use crate::id::{ChatId, MessageId, SessionId, UserId, WorkspaceId};
use crate::model::chat::{Chat, Message, MessageStatus};
use crate::model::user::GlobalRole;
use crate::model::workspace::Participant;
use crate::policy::Right;
use crate::port::Ports;
use crate::time::Timestamp;

/// How many deliveries may wait for a slow watcher.
const QUEUE: usize = 256;

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

/// What a watcher must keep having, to go on watching.
struct Standing {
    workspace: WorkspaceId,
    /// The one chat that they watch, where it is one.
    chat: Option<ChatId>,
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

    /// Follows all that a member may see in a workspace, from the event after `after`, or from now on.
    ///
    /// # Errors
    /// `CursorExpired` for a cursor outside the kept log; `ShuttingDown`; `Unavailable`.
    pub async fn watch(self: &Arc<Self>, member: &Member, after: Option<EventNumber>) -> Result<Watch, Error> {
        let room = self.room(member.workspace());
        Watch::open(self.stand(member, None), room, None, after).await
    }

    /// Follows one chat, which the member may see.
    pub(super) async fn watch_chat(
        self: &Arc<Self>,
        member: &Member,
        chat: &Chat,
        after: Option<EventNumber>,
    ) -> Result<Watch, Error> {
        let room = self.room(member.workspace());
        let gate = tail::gate(&room, chat);
        Watch::open(self.stand(member, Some(chat.id)), room, Some((chat.id, gate)), after).await
    }

    /// Whether a user may see a chat of this process's room, by the newest that is known here; no, where nothing is known any more.
    pub(super) fn admits(&self, chat: &Chat, user: UserId) -> bool {
        self.room(chat.workspace).admits(chat.id, user)
    }

    fn stand(self: &Arc<Self>, member: &Member, chat: Option<ChatId>) -> Ticket {
        let actor = member.actor();
        let standing = Arc::new(Standing {
            workspace: member.workspace(),
            chat,
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
        rooms.entry(workspace).or_insert_with(|| Arc::new(Room::of(workspace))).clone()
    }

    /// Forgets the rooms in which nothing grows and nobody watches.
    fn tidy(&self) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds a room besides the map may be about to use it.
        rooms.retain(|_, room| {
            let idle = room.tidy();
            Arc::strong_count(room) > 1 || !idle
        });
    }

    /// A chat's own event of this process, right after its commit.
    pub(super) fn publish_chat(&self, number: EventNumber, kind: EventKind, chat: &Chat) {
        let room = self.room(chat.workspace);
        if let EventKind::ChatDeleted(id, only) = kind {
            room.publish(number, deleted(number, id, only));
        } else {
            room.publish(number, chat_event(&room, number, kind, chat));
            // Whoever asked for one of its replies may be one of those who no longer see it.
            room.look_again(chat.id);
        }
    }

    /// Learns who may see a chat that was read just now.
    pub(super) fn learn(&self, chat: &Chat) {
        self.room(chat.workspace).learn(chat.id, chat.version, chat.audience());
    }

    /// An event of the workspace itself, of this process, right after its commit.
    pub(super) fn publish(&self, workspace: WorkspaceId, number: EventNumber, event: LiveEvent) {
        self.room(workspace).publish(number, Delivery::new(Some(number), None, Some(event)));
    }

    /// A reply begins here: it is told, with the message that it answers where that is new, and it may grow.
    pub(super) fn begin(
        self: &Arc<Self>,
        first: EventNumber,
        chat: &Chat,
        new: &[&Message],
        asker: Option<&Member>,
    ) -> (Arc<Room>, Option<ReplyWatch>) {
        let room = self.room(chat.workspace);
        let gate = tail::gate(&room, chat);
        // The same deliveries for all who are told, so that each is rendered once.
        let told: Vec<_> = (first..)
            .zip(new)
            .map(|(number, message)| {
                let event = LiveEvent::MessageCreated((*message).clone());
                (number, Delivery::new(Some(number), Some(gate.clone()), Some(event)))
            })
            .collect();
        let Some((reply, (created, _))) = new.last().zip(told.last()) else { return (room, None) };
        let mut growing = Growing::here(reply, gate.clone(), *created);
        let watch = asker.map(|member| {
            let ticket = self.stand(member, Some(chat.id));
            let (queue, deliveries) = mpsc::channel(QUEUE);
            growing.askers.push(Seat { watcher: ticket.id, queue });
            let told = told.iter().map(|(_, delivery)| delivery.clone());
            ReplyWatch::asked(ticket, room.clone(), reply, gate, told, deliveries)
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
        let delivery = Delivery::new(number, Some(growing.gate), Some(ended));
        hand_out(&mut growing.askers, &delivery);
        if let Some(number) = number {
            room.publish(number, delivery);
        }
    }

    /// Ends the streams of those who lost the right to them: signed out, removed, deactivated, of another role now, or of a chat that is private
    /// now.
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
        self.judge_chats().await
    }

    /// Learns who may see the chats that are watched one by one: in a room that nobody watches as a whole, no event tells.
    async fn judge_chats(&self) -> Result<(), Failure> {
        let chats: HashSet<(WorkspaceId, ChatId)> = {
            let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
            watchers.values().filter_map(|standing| Some((standing.workspace, standing.chat?))).collect()
        };
        if chats.is_empty() {
            return Ok(());
        }
        let of: Vec<_> = chats.into_iter().collect();
        let workspaces: HashMap<ChatId, WorkspaceId> = of.iter().map(|(workspace, chat)| (*chat, *workspace)).collect();
        for (chat, version, audience) in self.ports.chats.audiences(&of).await? {
            let Some(workspace) = workspaces.get(&chat) else { continue };
            self.room(*workspace).learn(chat, version, audience);
        }
        Ok(())
    }

    fn take_seats(&self, workspace: WorkspaceId, watcher: u64) {
        let room = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).get(&workspace).cloned();
        if let Some(room) = room {
            room.lock().take_seats(watcher);
        }
    }

    /// Ends all streams once they have been handed what waits for them, and opens no more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let rooms: Vec<_> = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for room in rooms {
            let mut state = room.lock();
            state.seats.tell_all();
            state.clear_seats();
            room.wake.notify(usize::MAX);
        }
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
