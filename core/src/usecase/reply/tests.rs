use uuid::Uuid;

use super::*;

fn instance(id: u128, beat: u64) -> Instance {
    Instance { id: Uuid::from_u128(id).into(), beat, version: Version::FIRST }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

// F35
#[test]
fn a_beat_that_stands_still_for_twelve_seconds_is_a_death() {
    let mut others = Others::default();
    for second in [0, 2, 4, 6, 8, 10] {
        assert_eq!(others.dead(vec![instance(1, 5), instance(2, second)], seconds(second)), []);
    }
    assert_eq!(others.dead(vec![instance(1, 5), instance(2, 12)], seconds(12)), [instance(1, 5)]);
}

// F32
#[test]
fn a_beat_that_moves_just_in_time_is_a_life() {
    let mut others = Others::default();
    for second in (0..120).step_by(2) {
        assert_eq!(others.dead(vec![instance(1, second / 12)], seconds(second)), []);
    }
}

// F32: a watcher that was asleep, or without a database, begins to count anew.
#[test]
fn nobody_is_dead_whom_nobody_watched() {
    let mut others = Others::default();
    for second in (0..100).step_by(11) {
        assert_eq!(others.dead(vec![instance(1, 5)], seconds(second)), []);
    }
    for second in (99..=109).step_by(2) {
        assert_eq!(others.dead(vec![instance(1, 5)], seconds(second)), []);
    }
    assert_eq!(others.dead(vec![instance(1, 5)], seconds(111)), [instance(1, 5)]);
}

#[test]
fn who_is_gone_is_forgotten() {
    let mut others = Others::default();
    assert_eq!(others.dead(vec![instance(1, 5)], seconds(0)), []);
    assert_eq!(others.dead(Vec::new(), seconds(2)), []);
    assert_eq!(others.seen.len(), 0);
}
