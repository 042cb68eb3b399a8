//! What every clock promises that goes by itself. (A clock that tests move is no subject of this: it would wait for ever.)

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use private_chat_core::port::clock::Clock;
use private_chat_core::time::Timestamp;

use super::Case;

/// The cases of [`Clock`].
pub const CASES: &[Case<dyn Clock>] = crate::cases![
    tells_the_wall_clock_to_the_microsecond,
    tells_a_monotonic_time_that_never_goes_back,
    sleeps_at_least_as_long_as_asked,
];

#[expect(clippy::disallowed_methods, reason = "another opinion of the time is what the clock is held against")]
fn system() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
}

/// It tells what the system tells, and no rounder.
pub async fn tells_the_wall_clock_to_the_microsecond(clock: Arc<dyn Clock>) {
    let (before, told, after) = (system(), clock.now(), system());
    assert!(before <= told && told <= after, "{told} is not from {before} to {after}");

    let mut finer = false;
    for _ in 0..50 {
        finer |= clock.now().as_micros() % 1_000 != 0;
        tokio::time::sleep(Duration::from_micros(10)).await;
    }
    assert!(finer, "fifty times in a row, whole milliseconds");
}

/// It goes on, and never back, whoever asks.
pub async fn tells_a_monotonic_time_that_never_goes_back(clock: Arc<dyn Clock>) {
    let askers = (0..4).map(|_| {
        let clock = clock.clone();
        tokio::task::spawn_blocking(move || {
            let times: Vec<Duration> = (0..10_000).map(|_| clock.monotonic()).collect();
            assert!(times.is_sorted());
        })
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await.unwrap();
    }
    let before = clock.monotonic();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let passed = clock.monotonic().saturating_sub(before);
    assert!(passed >= Duration::from_millis(20), "{passed:?}");
}

/// It never wakes anybody early.
pub async fn sleeps_at_least_as_long_as_asked(clock: Arc<dyn Clock>) {
    for length in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(5), Duration::from_millis(50)] {
        let before = clock.monotonic();
        clock.sleep(length).await;
        let slept = clock.monotonic().saturating_sub(before);
        assert!(slept >= length, "{slept:?} of {length:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::assert_every_promise_has_a_case;

    #[test]
    fn every_promise_has_a_case() {
        assert_every_promise_has_a_case(include_str!("../../../core/src/port/clock.rs"), CASES);
    }
}
