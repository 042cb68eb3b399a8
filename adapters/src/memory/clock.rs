//! Time that passes when a test says so, and chance that is the same every time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use private_chat_core::port::clock::{Clock, Entropy};
use private_chat_core::time::Timestamp;
use tokio::sync::watch;

/// A clock that stands still until it is moved. Whoever sleeps wakes when the time has come, never before.
pub struct TestClock {
    elapsed: watch::Sender<Duration>,
    /// What the wall clock says at no elapsed time.
    start: Mutex<Timestamp>,
    /// When those who sleep want to be woken, with a number that tells them apart.
    sleepers: Mutex<BTreeSet<(Duration, u64)>>,
    next_sleeper: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl TestClock {
    /// A clock that shows 2026-01-31T09:30:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self {
            elapsed: watch::Sender::new(Duration::ZERO),
            start: Mutex::new(Timestamp::from_micros(1_769_851_800_000_000)),
            sleepers: Mutex::default(),
            next_sleeper: AtomicU64::new(0),
        }
    }

    /// Moves the time on at once. Those who sleep until then wake; what they do next happens at the new time.
    pub fn advance(&self, length: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed += length);
    }

    /// Lets the time pass: stops at every moment when somebody wants to wake, and lets them do what they do then. For work that sleeps again
    /// and again, on a runtime of one thread.
    pub async fn pass(&self, length: Duration) {
        settle().await;
        let end = *self.elapsed.borrow() + length;
        loop {
            let next = lock(&self.sleepers).first().map(|(wakes, _)| *wakes).filter(|wakes| *wakes <= end);
            self.elapsed.send_modify(|elapsed| *elapsed = next.unwrap_or(end).max(*elapsed));
            settle().await;
            if next.is_none() {
                return;
            }
        }
    }

    /// Sets the wall clock, as an operator does. The monotonic time goes on as before.
    pub fn set(&self, now: Timestamp) {
        let elapsed = self.monotonic();
        let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        *lock(&self.start) = Timestamp::from_micros(now.as_micros().saturating_sub(micros));
    }

    /// How many sleep.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        lock(&self.sleepers).len()
    }
}

/// Lets every task that can go on do so, until it waits for something.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Takes a sleeper off the list, also when it is dropped in its sleep.
struct Asleep<'a> {
    clock: &'a TestClock,
    entry: (Duration, u64),
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        lock(&self.clock.sleepers).remove(&self.entry);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *lock(&self.start) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    async fn sleep(&self, length: Duration) {
        let mut elapsed = self.elapsed.subscribe();
        let wakes = self.monotonic() + length;
        let entry = (wakes, self.next_sleeper.fetch_add(1, Ordering::Relaxed));
        lock(&self.sleepers).insert(entry);
        let _asleep = Asleep { clock: self, entry };
        // The sender lives as long as the clock that is borrowed here.
        let _ = elapsed.wait_for(|elapsed| *elapsed >= wakes).await;
    }
}

/// Bytes that look like chance and follow from a seed (SplitMix64: Steele, Lea, Flood, 2014).
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come_and_not_before() {
        let clock = Arc::new(TestClock::new());
        let mut tasks = JoinSet::new();
        let sleeper = clock.clone();
        tasks.spawn(async move { sleeper.sleep(2 * SECOND).await });
        settle().await;
        assert_eq!(clock.sleepers(), 1);
        clock.advance(2 * SECOND - Duration::from_nanos(1));
        settle().await;
        assert!(tasks.try_join_next().is_none());
        clock.advance(Duration::from_nanos(1));
        settle().await;
        assert!(tasks.try_join_next().is_some());
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test]
    async fn passing_time_stops_at_every_beat() {
        let clock = Arc::new(TestClock::new());
        let beats = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let (sleeper, seen) = (clock.clone(), beats.clone());
        tasks.spawn(async move {
            loop {
                sleeper.sleep(2 * SECOND).await;
                lock(&seen).push(sleeper.monotonic().as_secs());
            }
        });
        clock.pass(7 * SECOND).await;
        assert_eq!(*lock(&beats), [2, 4, 6]);
        clock.pass(SECOND).await;
        assert_eq!(*lock(&beats), [2, 4, 6, 8]);
        tasks.shutdown().await;
        assert_eq!(clock.sleepers(), 0, "a sleep that is dropped is over");
    }

    #[test]
    fn setting_the_wall_clock_leaves_the_monotonic_time_alone() {
        let clock = TestClock::new();
        clock.advance(SECOND);
        clock.set(Timestamp::from_micros(42));
        assert_eq!(clock.now(), Timestamp::from_micros(42));
        clock.advance(SECOND);
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp::from_micros(1_000_042), 2 * SECOND));
    }

    #[test]
    fn a_seed_gives_the_same_bytes_every_time_and_other_seeds_others() {
        let bytes = |seed, length| {
            let mut bytes = vec![0; length];
            SeededEntropy::new(seed).fill(&mut bytes);
            bytes
        };
        // The first output of the reference implementation for the seed 0.
        assert_eq!(bytes(0, 8), 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        assert_eq!(bytes(7, 21), bytes(7, 21));
        assert_ne!(bytes(7, 21), bytes(8, 21));
    }
}
