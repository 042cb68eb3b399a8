//! Those who watch a workspace, and how they are told what happens there.
//!
//! A few are told at once. Many are told in rounds, some at a time, so that the runtime is never given a thousand things to do before the next
//! request has its turn; what happens during a round is told in the next one, all of it in one go, and text of one reply as one piece. The more there
//! is to do, the more is told together, and nobody waits for a clock.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use event_listener::{Event as Signal, EventListener};
use futures_channel::mpsc;

use super::{Delivery, LiveEvent};

/// How many are told before others have their turn.
const AT_ONCE: usize = 32;

/// A watcher's place: where its deliveries are put.
pub(super) struct Seat {
    pub(super) watcher: u64,
    pub(super) queue: mpsc::Sender<Arc<Delivery>>,
}

/// Hands a delivery to all; those who can't take it lose their seat and will join anew.
pub(super) fn hand_out(seats: &mut Vec<Seat>, delivery: &Arc<Delivery>) {
    seats.retain_mut(|seat| seat.queue.try_send(delivery.clone()).is_ok());
}

/// A place in the room.
struct Place {
    /// The first of all news that whoever sits here is told. What was news before, they have learned when they sat down.
    since: u64,
    queue: mpsc::Sender<Arc<Delivery>>,
}

impl Place {
    /// Says whether there was room for all of it.
    fn tell(&mut self, news: &[Arc<Delivery>]) -> bool {
        news.iter().all(|delivery| self.queue.try_send(delivery.clone()).is_ok())
    }
}

/// The places of a room, and the news that not all have been told yet.
#[derive(Default)]
pub(super) struct Seats {
    taken: BTreeMap<u64, Place>,
    news: Vec<Arc<Delivery>>,
    /// The number of the first of the news, among all there ever were.
    first: u64,
    /// How many of the news the present round tells; none where there is no round.
    round: usize,
    /// The round has passed all watchers before this one.
    next: u64,
    /// Before this one of the news nothing grows any more: somebody was told of it, or sat down since and knows a part of it.
    settled: usize,
    more: Signal,
}

impl Seats {
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Takes a seat for somebody who knows all that was told so far.
    pub(super) fn take(&mut self, watcher: u64, queue: mpsc::Sender<Arc<Delivery>>) {
        self.taken.insert(watcher, Place { since: self.first + self.news.len() as u64, queue });
        self.settled = self.news.len();
    }

    pub(super) fn leave(&mut self, watcher: u64) {
        self.taken.remove(&watcher);
    }

    /// Takes away all seats, and forgets what those who had them were still to be told.
    pub(super) fn clear(&mut self) {
        self.taken.clear();
        self.first += self.news.len() as u64;
        self.news.clear();
        (self.round, self.settled) = (0, 0);
    }

    /// Tells all who sit here by now: at once where they are few and nothing waits before it, else in the next round.
    pub(super) fn tell(&mut self, delivery: &Arc<Delivery>) {
        if self.taken.is_empty() {
            return;
        }
        if self.grow(delivery) {
            return;
        }
        self.news.push(delivery.clone());
        if self.taken.len() < AT_ONCE && self.news.len() == 1 {
            self.tell_some();
        } else {
            self.more.notify(usize::MAX);
        }
    }

    /// Adds more text of a reply to what is still to be told of it, if that is where it goes.
    fn grow(&mut self, more: &Delivery) -> bool {
        let Some(LiveEvent::Delta(delta)) = more.event() else { return false };
        let same = |waits: &&mut Arc<Delivery>| match waits.event() {
            Some(LiveEvent::Delta(before)) => (before.message, before.part) == (delta.message, delta.part),
            _ => false,
        };
        let grown = self.news[self.settled..].iter_mut().rev().find(same);
        let grown = grown.and_then(|waits| Some((waits.followed_by(more)?, waits)));
        grown.map(|(grown, waits)| *waits = grown).is_some()
    }

    /// Tells the next few. Says whether there was anybody left to tell anything.
    fn tell_some(&mut self) -> bool {
        if self.round == 0 {
            (self.round, self.next, self.settled) = (self.news.len(), 0, self.news.len());
        }
        let news = &self.news[..self.round];
        let mut slow = Vec::new();
        let mut told = 0;
        for (watcher, place) in self.taken.range_mut(self.next..).take(AT_ONCE) {
            let known = usize::try_from(place.since.saturating_sub(self.first)).unwrap_or(usize::MAX);
            if !place.tell(&news[known.min(news.len())..]) {
                slow.push(*watcher);
            }
            (told, self.next) = (told + 1, watcher + 1);
        }
        for watcher in slow {
            // It will join anew.
            self.taken.remove(&watcher);
        }
        let busy = !news.is_empty();
        if told < AT_ONCE {
            self.news.drain(..self.round);
            self.first += self.round as u64;
            self.settled -= self.round;
            self.round = 0;
        }
        busy
    }

    /// Tells all that is to be told.
    pub(super) fn tell_all(&mut self) {
        while self.tell_some() {}
    }

    /// Tells the next few, or says when there will be news.
    pub(super) fn proceed(&mut self) -> Option<EventListener> {
        (!self.tell_some()).then(|| self.more.listen())
    }
}

/// Lets all others have their turn that are ready for it.
pub(super) async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::id::{ChatId, MessageId};
    use crate::usecase::live::{Delta, Part};

    type Queue = mpsc::Receiver<Arc<Delivery>>;

    fn news(number: u64) -> Arc<Delivery> {
        Delivery::new(Some(number), None, None)
    }

    fn sit(seats: &mut Seats, watcher: u64, room_for: usize) -> Queue {
        let (queue, deliveries) = mpsc::channel(room_for);
        seats.take(watcher, queue);
        deliveries
    }

    fn heard(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.try_recv().ok()).filter_map(|delivery| delivery.number).collect()
    }

    #[test]
    fn a_few_are_told_at_once() {
        let mut seats = Seats::default();
        let mut queues: Vec<_> = (0..AT_ONCE as u64 - 1).map(|watcher| sit(&mut seats, watcher, 8)).collect();
        seats.tell(&news(1));
        seats.tell(&news(2));
        assert!(queues.iter_mut().all(|queue| heard(queue) == [1, 2]));
        assert!(seats.proceed().is_some(), "nothing is left to tell");
    }

    // R102
    #[test]
    fn each_of_many_is_told_all_that_comes_after_they_sat_down_once_and_in_order() {
        let many = 5 * AT_ONCE as u64;
        let mut seats = Seats::default();
        let mut early: Vec<_> = (0..many).map(|watcher| sit(&mut seats, 10 * watcher, 8)).collect();
        seats.tell(&news(1));
        seats.tell(&news(2));
        let mut between = sit(&mut seats, 10 * many, 8);
        seats.tell(&news(3));
        assert!(seats.proceed().is_none() && seats.proceed().is_none(), "a round takes its time");
        // In the midst of a round, before and behind where it is.
        let mut late = [3, 10 * many - 3].map(|watcher| sit(&mut seats, watcher, 8));
        seats.tell(&news(4));
        while seats.proceed().is_none() {}
        assert!(early.iter_mut().all(|queue| heard(queue) == [1, 2, 3, 4]));
        assert_eq!(heard(&mut between), [3, 4]);
        assert!(late.iter_mut().all(|queue| heard(queue) == [4]));
    }

    #[test]
    fn a_round_tells_some_at_a_time() {
        let mut seats = Seats::default();
        let mut queues: Vec<_> = (0..2 * AT_ONCE as u64).map(|watcher| sit(&mut seats, watcher, 8)).collect();
        let mut told = move || queues.iter_mut().map(heard).filter(|told| !told.is_empty()).count();
        seats.tell(&news(1));
        assert_eq!(told(), 0);
        assert!(seats.proceed().is_none());
        assert_eq!(told(), AT_ONCE);
    }

    // R102
    #[test]
    fn whoever_is_slow_or_leaves_misses_the_rest_and_nobody_else_does() {
        let mut seats = Seats::default();
        let mut queues: Vec<_> = (0..3 * AT_ONCE as u64).map(|watcher| sit(&mut seats, watcher, 8)).collect();
        let mut slow = sit(&mut seats, u64::MAX - 1, 0);
        for number in 1..=4 {
            seats.tell(&news(number));
        }
        seats.leave(1);
        seats.tell_all();
        assert_eq!(heard(&mut slow), [1], "a queue for one");
        assert!(matches!(slow.try_recv(), Err(mpsc::TryRecvError::Closed)), "and then its end");
        assert!(heard(&mut queues[1]).is_empty());
        assert!(queues.iter_mut().enumerate().filter(|(i, _)| *i != 1).all(|(_, queue)| heard(queue) == [1, 2, 3, 4]));
    }

    #[test]
    fn those_who_come_after_all_had_to_go_hear_only_what_is_new() {
        let mut seats = Seats::default();
        let _gone: Vec<_> = (0..2 * AT_ONCE as u64).map(|watcher| sit(&mut seats, watcher, 8)).collect();
        seats.tell(&news(1));
        seats.proceed();
        seats.clear();
        let mut again: Vec<_> = (0..2 * AT_ONCE as u64).map(|watcher| sit(&mut seats, watcher, 8)).collect();
        seats.tell(&news(2));
        seats.tell_all();
        assert!(again.iter_mut().all(|queue| heard(queue) == [2]));
    }

    fn text(message: MessageId, offset: usize, added: &str) -> Arc<Delivery> {
        let (chat, part) = (ChatId::from(Uuid::nil()), Part::Content);
        Delivery::new(None, None, Some(LiveEvent::Delta(Delta { chat, message, offset, part, added: added.into() })))
    }

    fn texts(queue: &mut Queue) -> Vec<(usize, String)> {
        let told = std::iter::from_fn(|| queue.try_recv().ok());
        told.filter_map(|delivery| match delivery.event() {
            Some(LiveEvent::Delta(delta)) => Some((delta.offset, delta.added.clone())),
            _ => None,
        })
        .collect()
    }

    // R102
    #[test]
    fn text_that_waits_is_told_as_one_piece_and_whoever_knows_its_beginning_gets_the_rest() {
        let (one, other) = (MessageId::from(Uuid::from_u128(1)), MessageId::from(Uuid::from_u128(2)));
        let mut seats = Seats::default();
        let mut early: Vec<_> = (0..2 * AT_ONCE as u64).map(|watcher| sit(&mut seats, watcher, 8)).collect();
        seats.tell(&text(one, 0, "é"));
        seats.tell(&text(other, 5, "x"));
        seats.tell(&text(one, 1, "b"));
        // Text that does not go right behind, such as all of it from the start, is a piece of its own.
        seats.tell(&text(other, 0, "whole x"));
        let mut late = sit(&mut seats, u64::MAX - 1, 8);
        seats.tell(&text(one, 2, "c"));
        assert!(seats.proceed().is_none(), "a round has begun");
        seats.tell(&text(one, 3, "d"));
        seats.tell_all();
        let told = [(0, "éb"), (5, "x"), (0, "whole x"), (2, "c"), (3, "d")].map(|(at, text)| (at, text.to_owned()));
        assert!(early.iter_mut().all(|queue| texts(queue) == told));
        assert_eq!(texts(&mut late), told[3..]);
    }
}
