use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::change::Change;
use crate::error::Failure;
use crate::port::Result as Answer;
use crate::port::store::MockUserRepository;
use crate::usecase::cast::{KEY, NOW, ben, in_turn, now, once, ports};

const MADE: Made = Made { id: uuid::Uuid::from_u128(30), reply: None };

fn request(body: &str) -> Repeatable {
    Repeatable::new(&KEY, "key", [b"POST", b"/users", body.as_bytes()]).unwrap()
}

fn note(body: &str, created_at: Timestamp) -> KeyedRequest {
    let Repeatable { key, fingerprint } = request(body);
    KeyedRequest { user: ben().id, key, fingerprint, made: MADE, created_at, version: Version(4) }
}

/// What comes of one request with the body `{}`, where looks for its note find these; `first` does it, `again` answers with what it made.
/// Says also how often it was done.
fn done<const N: usize>(
    looks: [Answer<Option<KeyedRequest>, &'static str>; N],
    first: impl Fn(Stamp) -> Result<&'static str, Error> + Send + Sync,
) -> (Result<&'static str, Error>, usize) {
    let mut users = MockUserRepository::new();
    let mut looks = in_turn(looks);
    users.expect_keyed_request().returning(move |_, _| looks().map_err(Failure::database));
    let times = AtomicUsize::new(0);
    let first = |stamp| {
        times.fetch_add(1, Ordering::Relaxed);
        std::future::ready(first(stamp))
    };
    let again = |made| {
        assert_eq!(made, MADE);
        std::future::ready(Ok("again"))
    };
    let idempotency = once(&Ports { users: std::sync::Arc::new(users), ..ports() });
    let outcome = now(idempotency.once(ben().id, Some(request("{}")), first, again));
    (outcome, times.into_inner())
}

fn taken() -> Error {
    Error::Conflict(Obstacle::EmailTaken)
}

// R73
#[test]
fn a_key_that_was_used_for_something_else_does_nothing() {
    let (outcome, times) = done([Ok(Some(note("other", NOW)))], |_| Ok("first"));
    assert!(matches!(outcome, Err(Error::IdempotencyKeyReused)), "{outcome:?}");
    assert_eq!(times, 0);
}

// R73: for as long as a note lives it answers; from then on it is written over, in its version, in the unit that does it anew.
#[test]
fn a_note_that_is_too_old_is_replaced_and_never_answers() {
    let young = note("{}", NOW - LIFETIME + std::time::Duration::from_micros(1));
    assert!(matches!(done([Ok(Some(young))], |_| Ok("first")), (Ok("again"), 0)));

    let old = note("other", NOW - LIFETIME);
    let (outcome, times) = done([Ok(Some(old))], |stamp| {
        let stamped = stamp.add(Changes::new(), MADE);
        assert_eq!(stamped.changes(), [Change::Update(note("{}", NOW).into())]);
        Ok("first")
    });
    assert!(matches!((outcome, times), (Ok("first"), 1)));
}

// R73: sent twice at once, it stands in its own way.
#[test]
fn a_request_that_was_beaten_by_itself_is_answered_as_that_one() {
    let old = || note("other", NOW - LIFETIME);
    for before in [None, Some(old())] {
        let (outcome, times) = done([Ok(before), Ok(Some(note("{}", NOW)))], |_| Err(taken()));
        assert!(matches!((&outcome, times), (Ok("again"), 1)), "{outcome:?}");
    }
    // By another request under its key.
    let (outcome, times) = done([Ok(None), Ok(Some(note("other", NOW)))], |_| Err(taken()));
    assert!(matches!((&outcome, times), (Err(Error::IdempotencyKeyReused), 1)), "{outcome:?}");
    // By nobody: what stands against it is told.
    for present in [None, Some(old())] {
        let (outcome, times) = done([Ok(present)], |_| Err(taken()));
        assert!(matches!((&outcome, times), (Err(Error::Conflict(Obstacle::EmailTaken)), 1)), "{outcome:?}");
    }
}

// R73: who can't know whether it was done does not do it.
#[test]
fn a_database_that_is_away_while_the_note_is_looked_for_is_no_reason_to_do_it_again() {
    let (outcome, times) = done([Err("away")], |_| Ok("first"));
    assert!(matches!((&outcome, times), (Err(Error::Unavailable { .. }), 0)), "{outcome:?}");
    let (outcome, times) = done([Ok(None), Err("away")], |_| Err(taken()));
    assert!(matches!((&outcome, times), (Err(Error::Unavailable { .. }), 1)), "{outcome:?}");
    // The commit may have come through and its answer got lost: only the client may ask again.
    let lost = || Err(Failure::database("lost").into());
    let (outcome, times) = done([Ok(None), Ok(Some(note("{}", NOW)))], |_| lost());
    assert!(matches!((&outcome, times), (Err(Error::Unavailable { .. }), 1)), "{outcome:?}");
}
