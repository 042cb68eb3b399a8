use std::sync::Arc;

use futures_util::FutureExt as _;
use mockall::predicate::eq;

use super::*;
use crate::change::{Change, Record, Ref};
use crate::error::{Backend, Failure};
use crate::model::password::PasswordHash;
use crate::model::secret::ServerKey;
use crate::model::session::Lifetimes;
use crate::port::passwords::MockPasswordHasher;
use crate::port::store::{MockSessionRepository, MockUnitOfWork, MockUserRepository};
use crate::port::tokens::MockTokenSigner;
use crate::usecase::cast::{Commit, KEY, NOW, ben, ports, settings, work};

fn knowing(user: Option<User>) -> Arc<MockUserRepository> {
    let mut users = MockUserRepository::new();
    users.expect_user_by_email().returning(move |_| Ok(user.clone()));
    Arc::new(users)
}

fn login(ports: Ports, email: &str) -> Result<SignedIn, Error> {
    let auth = Auth::new(ports, settings());
    auth.login(email, "correct horse".into(), Device::default()).now_or_never().expect("nothing is waited for")
}

// R7: without a user the same work is done, on no hash, and nothing is written.
#[test]
fn an_unknown_address_costs_a_verification_of_no_hash() {
    for email in ["nobody@example.com", "no address"] {
        let mut passwords = MockPasswordHasher::new();
        passwords.expect_verify().once().withf(|_, hash| hash.is_none()).returning(|_, _| Ok(Verdict::Wrong));
        let users = knowing(None);
        let answer = login(Ports { users, passwords: Arc::new(passwords), ..ports() }, email);
        assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::Credentials))), "{answer:?}");
    }
}

// R7
#[test]
fn an_inactive_account_costs_a_verification_too() {
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_verify().once().withf(|_, hash| hash.is_some()).returning(|_, _| Ok(Verdict::Right));
    let users = knowing(Some(User { is_active: false, ..ben() }));
    let answer = login(Ports { users, passwords: Arc::new(passwords), ..ports() }, "ben@example.com");
    assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::Credentials))), "{answer:?}");
}

// R100
#[test]
fn a_hasher_that_is_busy_writes_nothing() {
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_verify().returning(|_, _| Err(Failure::Busy { backend: Backend::Passwords }));
    let users = knowing(Some(ben()));
    let answer = login(Ports { users, passwords: Arc::new(passwords), ..ports() }, "ben@example.com");
    assert!(matches!(answer, Err(Error::Busy { backend: Backend::Passwords, .. })), "{answer:?}");
}

// R3: the stronger hash comes after the session, and somebody else's change to the account goes before it.
#[test]
fn a_weak_hash_that_can_not_be_replaced_keeps_nobody_out() {
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_verify().returning(|_, _| Ok(Verdict::RightButWeak));
    passwords.expect_hash().once().returning(|_| Ok(PasswordHash::new("$stronger")));
    let mut tokens = MockTokenSigner::new();
    tokens.expect_sign().returning(|_| Ok(Secret::new("token")));
    let mut work = MockUnitOfWork::new();
    let inserts = |changes: &Changes| matches!(changes.changes(), [Change::Insert(Record::Session(_))]);
    work.expect_commit().once().withf(inserts).returning(|_| Ok(Default::default()));
    let updates = |changes: &Changes| match changes.changes() {
        [Change::Update(Record::User(user))] => user.password.as_str() == "$stronger" && user.version == Version(7),
        _ => false,
    };
    let stale = |_| Err(Failure::Conflict { conflict: Conflict::Stale, change: 0 });
    work.expect_commit().once().withf(updates).returning(stale);
    let ports = Ports {
        users: knowing(Some(ben())),
        passwords: Arc::new(passwords),
        tokens: Arc::new(tokens),
        work: Arc::new(work),
        ..ports()
    };
    assert_eq!(login(ports, "ben@example.com").unwrap().user.id, ben().id);
}

// R15, R23: garbage never reaches the database.
#[test]
fn a_refresh_token_that_is_none_of_ours_is_refused_unread() {
    let theirs = Session::open(
        &ServerKey::new([6; 32]),
        uuid::Uuid::from_u128(2).into(),
        (ben().id, 3),
        Device::default(),
        NOW,
        &Lifetimes::default(),
        &[1; 16],
    )
    .1;
    let auth = Auth::new(Ports::untouched(), settings());
    for token in ["", "pcr_", "eyJhbGciOiJub25lIn0.e30.", theirs.expose()] {
        let answer = auth.refresh(token).now_or_never().unwrap();
        assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::RefreshToken))), "{answer:?}");
    }
}

// R20: a reuse is written down before it is told.
#[test]
fn a_reuse_that_can_not_be_stored_is_not_told() {
    let id = uuid::Uuid::from_u128(2).into();
    let (session, first) =
        Session::open(&KEY, id, (ben().id, 3), Device::default(), NOW, &Lifetimes::default(), &[1; 16]);
    let Presented::Rotated(session, _) = session.present(&KEY, &first, NOW, &Lifetimes::default(), &[2; 16]) else {
        panic!("the present token rotates");
    };
    let long_ago = Session { rotated_at: Timestamp::from_micros(0), ..*session };
    let mut sessions = MockSessionRepository::new();
    sessions.expect_session().with(eq(id)).returning(move |_| Ok(Some((long_ago.clone(), ben()))));
    let mut work = MockUnitOfWork::new();
    let ends =
        |changes: &Changes| matches!(changes.changes(), [Change::Update(Record::Session(session))] if session.ended);
    work.expect_commit().once().withf(ends).returning(|_| Err(Failure::database("away")));
    let auth = Auth::new(Ports { sessions: Arc::new(sessions), work: Arc::new(work), ..ports() }, settings());
    let answer = auth.refresh(first.expose()).now_or_never().unwrap();
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}

// R1: a loser of the race is told what it lost, whatever else conflicts.
#[test]
fn only_the_installation_decides_who_set_up() {
    for (change, completed) in [(0, true), (1, false)] {
        let mut users = MockUserRepository::new();
        users.expect_installation().returning(|| Ok(None));
        let mut passwords = MockPasswordHasher::new();
        passwords.expect_hash().returning(|_| Ok(PasswordHash::new("$hash")));
        let mut tokens = MockTokenSigner::new();
        tokens.expect_key_id().return_const("key".to_owned());
        tokens.expect_sign().returning(|_| Ok(Secret::new("token")));
        let mut work = MockUnitOfWork::new();
        let in_one = |changes: &Changes| {
            let keys: Vec<_> = changes
                .changes()
                .iter()
                .map(|change| match change {
                    Change::Insert(record) => Some(record.key()),
                    _ => None,
                })
                .collect();
            matches!(keys[..], [Some(Ref::Installation), Some(Ref::User(_)), Some(Ref::Session(_))])
        };
        let conflict = move |_| Err(Failure::Conflict { conflict: Conflict::Duplicate, change });
        work.expect_commit().once().withf(in_one).returning(conflict);
        let ports = Ports {
            users: Arc::new(users),
            passwords: Arc::new(passwords),
            tokens: Arc::new(tokens),
            work: Arc::new(work),
            ..ports()
        };
        let setup = Setup {
            email: "ann@example.com".into(),
            name: "Ann".into(),
            password: "correct horse battery".into(),
            setup_token: None,
        };
        let answer = Auth::new(ports, settings()).setup(setup, Device::default()).now_or_never().unwrap();
        let told = matches!(answer, Err(Error::Conflict(Obstacle::SetupCompleted)));
        assert_eq!(told, completed, "{answer:?}");
    }
}

// An account that is deleted between the look and the session is like one that never was.
#[test]
fn an_account_that_goes_meanwhile_is_not_signed_in_to() {
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_verify().returning(|_, _| Ok(Verdict::Right));
    let mut tokens = MockTokenSigner::new();
    tokens.expect_sign().returning(|_| Ok(Secret::new("token")));
    let (work, _) = work([Commit::Refused(Conflict::MissingParent, 0)]);
    let users = knowing(Some(ben()));
    let ports = Ports { users, passwords: Arc::new(passwords), tokens: Arc::new(tokens), work, ..ports() };
    let answer = login(ports, "ben@example.com");
    assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::Credentials))), "{answer:?}");
}
