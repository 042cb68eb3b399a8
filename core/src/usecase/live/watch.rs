//! The streams that watchers read.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_channel::mpsc;
use futures_util::StreamExt as _;

use super::room::{Gate, Room};
use super::seats::Seat;
use super::tail::Found;
use super::{Delivery, Live, LiveEvent, QUEUE, Ticket, blank};
use crate::change::EventNumber;
use crate::error::{Error, Failure, Kind};
use crate::id::{ChatId, MessageId};
use crate::model::chat::{Chat, Message, MessageStatus};
use crate::page::Limit;
use crate::usecase::workspaces::Member;

/// What a watcher gets next.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The cursor, where it has moved since the last frame.
    pub cursor: Option<EventNumber>,
    /// What happened.
    pub delivery: Arc<Delivery>,
}

impl Frame {
    /// That a chat is gone, for whoever watches nothing else.
    fn gone(chat: ChatId) -> Self {
        Self { cursor: None, delivery: Delivery::new(None, None, Some(LiveEvent::ChatDeleted(chat))) }
    }
}

/// One watcher's stream of a workspace or a chat.
pub struct Watch {
    member: Ticket,
    room: Arc<Room>,
    /// The chat that is watched, where it is one, and who may see it.
    only: Option<(ChatId, Arc<Gate>)>,
    /// The last event that was delivered or skipped.
    position: Option<EventNumber>,
    /// The last one whose number the client was told.
    told: Option<EventNumber>,
    /// Up to where the log is still to be read.
    replay: Option<EventNumber>,
    backlog: VecDeque<Arc<Delivery>>,
    /// The running replies, for after the replay.
    snapshot: VecDeque<Arc<Delivery>>,
    queue: Option<mpsc::Receiver<Arc<Delivery>>>,
    /// The chat that was watched is gone.
    over: bool,
}

impl Watch {
    /// Joins the workspace's room.
    pub(super) async fn open(
        member: Ticket,
        room: Arc<Room>,
        only: Option<(ChatId, Arc<Gate>)>,
        after: Option<EventNumber>,
    ) -> Result<Self, Error> {
        let mut watch = Self {
            member,
            room,
            only,
            position: after,
            told: after,
            replay: None,
            backlog: VecDeque::new(),
            snapshot: VecDeque::new(),
            queue: None,
            over: false,
        };
        watch.join().await?;
        Ok(watch)
    }

    /// The next frame; none when the stream is over: the watcher may not stay, the chat that they watch is gone, the server stops, or the
    /// database is away.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.over || self.member.is_revoked() {
                return None;
            }
            if let Some((chat, gate)) = &self.only
                && !gate.admits(self.member.standing.user)
            {
                self.over = true;
                return Some(Frame::gone(*chat));
            }
            if let Some(delivery) = self.backlog.pop_front() {
                if let Some(frame) = self.frame(&delivery) {
                    return Some(frame);
                }
                continue;
            }
            if let Some(until) = self.replay {
                // A stream that can't go on ends; the client comes back with its cursor. Boxed, as is `join`: what is rarely done takes no room in
                // every stream.
                Box::pin(self.read_on(until)).await.ok()?;
                continue;
            }
            if !self.snapshot.is_empty() {
                self.backlog.append(&mut self.snapshot);
                continue;
            }
            match &mut self.queue {
                Some(queue) => match queue.next().await {
                    Some(delivery) => self.backlog.push_back(delivery),
                    None => self.queue = None,
                },
                None if self.member.may_stay() => Box::pin(self.join()).await.ok()?,
                None => return None,
            }
        }
    }

    /// Sits down in the room, and notes what is to be told before what comes.
    async fn join(&mut self) -> Result<(), Error> {
        let live = self.member.live.clone();
        if let Some(after) = self.position {
            let bounds = live.ports.replies.log_bounds(self.room.workspace).await?;
            if after < bounds.forgotten || after > bounds.newest {
                return Err(Error::CursorExpired);
            }
        }
        let seated = live.sit(&self.room, self.member.id, self.position).await?;
        self.queue = Some(seated.deliveries);
        self.snapshot.clear();
        let fresh = self.position.is_none();
        for Found { chat, gate, begun, so_far } in seated.running {
            if !gate.admits(self.member.standing.user) || !self.includes(Some(chat)) {
                continue;
            }
            self.snapshot.extend(fresh.then_some(begun).into_iter().chain(so_far));
        }
        match self.position {
            Some(after) if after < seated.last => self.replay = Some(seated.last),
            Some(_) => {}
            None => {
                self.position = Some(seated.last);
                self.backlog.push_back(Delivery::new(Some(seated.last), None, None));
            }
        }
        Ok(())
    }

    fn includes(&self, chat: Option<ChatId>) -> bool {
        self.only.as_ref().is_none_or(|(only, _)| chat == Some(*only))
    }

    /// Reads one page of what was missed.
    async fn read_on(&mut self, until: EventNumber) -> Result<(), Failure> {
        let live = &self.member.live;
        let after = self.position.unwrap_or_default();
        let events = live.ports.replies.events(self.room.workspace, after, Limit::default()).await?;
        if events.first().is_none_or(|first| first.number != after + 1) {
            // The log has forgotten what comes next since it was asked for its bounds. The client comes back with its cursor, and is told so.
            return Err(Failure::database("the log was forgotten while it was replayed"));
        }
        // Taken over at once at the end: whoever drops this half-way has missed nothing.
        let (mut page, mut position) = (Vec::new(), None);
        for logged in events.into_iter().take_while(|logged| logged.number <= until) {
            position = Some(logged.number);
            page.push(live.load(&self.room, logged).await?.delivery);
        }
        self.backlog.extend(page);
        self.replay = position.filter(|position| *position < until).map(|_| until);
        self.position = position.or(self.position);
        Ok(())
    }

    /// What the client is to see of a delivery, with the cursor where that has moved.
    fn frame(&mut self, delivery: &Arc<Delivery>) -> Option<Frame> {
        if let Some(number) = delivery.number {
            self.position = self.position.max(Some(number));
        }
        let delivery = delivery.seen_by(self.member.standing.user)?;
        let seen = match delivery.event() {
            Some(event) => self.includes(event.chat()),
            // Only the opening frame has no event and yet must be seen.
            None => self.told.is_none(),
        };
        if !seen {
            return None;
        }
        self.over = self.only.is_some() && matches!(delivery.event(), Some(LiveEvent::ChatDeleted(_)));
        let cursor = match delivery.number {
            Some(number) => Some(number),
            None if self.backlog.is_empty() && self.replay.is_none() => self.position,
            None => None,
        };
        // It never goes back.
        let cursor = cursor.filter(|_| cursor > self.told);
        self.told = self.told.max(cursor);
        Some(Frame { cursor, delivery: delivery.clone() })
    }
}

/// The stream of one reply: from the two messages to the reply's end.
pub struct ReplyWatch(Source);

/// Where a reply's stream comes from.
enum Source {
    /// A seat at the reply itself, for whoever asked for it here.
    Asked(Asked),
    /// The chat's feed, for whoever asks again: the reply may run in another process, or have ended.
    Again(Box<Again>),
}

impl ReplyWatch {
    /// The next frame; none after the reply's end.
    pub async fn next(&mut self) -> Option<Frame> {
        match &mut self.0 {
            Source::Asked(asked) => asked.next().await,
            Source::Again(again) => again.next().await,
        }
    }

    /// The stream of a reply that begins here: opened with what is told to everybody, and fed from the seat whose other end is `queue`.
    pub(super) fn asked(
        ticket: Ticket,
        room: Arc<Room>,
        reply: &Message,
        gate: Arc<Gate>,
        told: impl IntoIterator<Item = Arc<Delivery>>,
        queue: mpsc::Receiver<Arc<Delivery>>,
    ) -> Self {
        Self(Source::Asked(Asked {
            ticket,
            room,
            chat: reply.chat,
            message: reply.id,
            gate,
            backlog: told.into_iter().collect(),
            queue: Some(queue),
            ended: false,
        }))
    }

    /// The stream of a reply that began before, here or elsewhere: what was told of it, as it is now, and what is still to come. The message that
    /// it answers is told where it was new.
    pub(in crate::usecase) async fn again(
        live: &Arc<Live>,
        (member, chat): (&Member, &Chat),
        new: Option<Message>,
        reply: MessageId,
    ) -> Result<Self, Error> {
        // Seated first: what happens after the reply is read is then told.
        let feed = live.watch_chat(member, chat, None).await?;
        let reply = live.ports.chats.message(chat.id, reply).await?.ok_or(Error::NotFound(Kind::Message))?;
        let gate = feed.only.as_ref().map(|(_, gate)| gate.clone());
        let tell = |event| Delivery::new(None, gate.clone(), Some(event));
        let mut told: VecDeque<_> = new.map(|message| tell(LiveEvent::MessageCreated(message))).into_iter().collect();
        if reply.status != MessageStatus::Streaming {
            told.push_back(tell(LiveEvent::MessageCreated(blank(&reply))));
            told.push_back(tell(LiveEvent::MessageEnded(reply.clone())));
        }
        Ok(Self(Source::Again(Box::new(Again { feed, reply: reply.id, told, ended: false }))))
    }
}

/// Whether nothing comes after this in the stream of one reply.
const fn is_last(event: Option<&LiveEvent>) -> bool {
    matches!(event, Some(LiveEvent::MessageEnded(_) | LiveEvent::ChatDeleted(_)))
}

/// The stream of a reply that was asked for before.
struct Again {
    feed: Watch,
    reply: MessageId,
    told: VecDeque<Arc<Delivery>>,
    ended: bool,
}

impl Again {
    async fn next(&mut self) -> Option<Frame> {
        while !self.ended {
            let (frame, told) = match self.told.pop_front() {
                // What there is to say of a chat that is closed to the watcher, the feed says at once.
                Some(delivery) => match delivery.seen_by(self.feed.member.standing.user) {
                    Some(delivery) => (Frame { cursor: None, delivery: delivery.clone() }, true),
                    None => continue,
                },
                None => (self.feed.next().await?, false),
            };
            let of_reply = match frame.delivery.event() {
                Some(LiveEvent::MessageCreated(message) | LiveEvent::MessageEnded(message)) => message.id == self.reply,
                Some(LiveEvent::Delta(delta)) => delta.message == self.reply,
                event => is_last(event),
            };
            if told || of_reply {
                self.ended = is_last(frame.delivery.event());
                return Some(frame);
            }
        }
        None
    }
}

/// The stream of a reply, for whoever asked for it here.
struct Asked {
    ticket: Ticket,
    room: Arc<Room>,
    chat: ChatId,
    message: MessageId,
    gate: Arc<Gate>,
    backlog: VecDeque<Arc<Delivery>>,
    queue: Option<mpsc::Receiver<Arc<Delivery>>>,
    ended: bool,
}

impl Asked {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.ended || self.ticket.is_revoked() {
                return None;
            }
            if !self.gate.admits(self.ticket.standing.user) {
                self.ended = true;
                return Some(Frame::gone(self.chat));
            }
            if let Some(delivery) = self.backlog.pop_front() {
                if delivery.event().is_some() {
                    self.ended = is_last(delivery.event());
                    return Some(Frame { cursor: delivery.number, delivery });
                }
                continue;
            }
            match &mut self.queue {
                Some(queue) => match queue.next().await {
                    Some(delivery) => self.backlog.push_back(delivery),
                    None => self.queue = None,
                },
                None if self.ticket.may_stay() => Box::pin(self.join()).await?,
                None => return None,
            }
        }
    }

    /// Joins again after having been too slow, or finds the reply ended.
    async fn join(&mut self) -> Option<()> {
        {
            let mut state = self.room.lock();
            if let Some(growing) = state.growing.get_mut(&self.message) {
                let (queue, deliveries) = mpsc::channel(QUEUE);
                growing.askers.push(Seat { watcher: self.ticket.id, queue });
                self.backlog.extend(growing.so_far());
                self.queue = Some(deliveries);
                return Some(());
            }
        }
        let message = self.ticket.live.ports.chats.message(self.chat, self.message).await.ok()?;
        self.backlog.push_back(match message {
            Some(message) => Delivery::new(None, None, Some(LiveEvent::MessageEnded(message.as_ended()))),
            None => Delivery::new(None, None, Some(LiveEvent::ChatDeleted(self.chat))),
        });
        Some(())
    }
}
