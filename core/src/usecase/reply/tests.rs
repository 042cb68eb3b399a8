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

// F32: what nobody could watch counts for little, however long it was.
#[test]
fn nobody_is_dead_whom_nobody_watched() {
    let mut others = Others::default();
    for second in [1_000, 1_002, 2_000, 2_002, 2_004] {
        assert_eq!(others.dead(vec![instance(1, 5)], seconds(second)), []);
    }
    assert_eq!(others.dead(vec![instance(1, 5)], seconds(2_006)), [instance(1, 5)]);
}

// F4: nor does a database that takes its time for every look keep the dead alive.
#[test]
fn a_slow_watcher_sees_a_death_all_the_same() {
    let mut others = Others::default();
    for second in [0, 7, 14] {
        assert_eq!(others.dead(vec![instance(1, 5)], seconds(second)), []);
    }
    assert_eq!(others.dead(vec![instance(1, 5)], seconds(21)), [instance(1, 5)]);
}

#[test]
fn who_is_gone_is_forgotten() {
    let mut others = Others::default();
    assert_eq!(others.dead(vec![instance(1, 5)], seconds(0)), []);
    assert_eq!(others.dead(Vec::new(), seconds(2)), []);
    assert_eq!(others.seen.len(), 0);
}
