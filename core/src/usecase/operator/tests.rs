use std::sync::Arc;

use super::*;
use crate::change::Version;
use crate::change::{Change, Record, Ref};
use crate::port::passwords::MockPasswordHasher;
use crate::port::store::MockUserRepository;
use crate::port::tokens::MockTokenSigner;
use crate::usecase::auth;
use crate::usecase::cast::Commit::{Away, Done, Refused};
use crate::usecase::cast::{Commit, Ledger, NOW, ann, ben, in_turn, now, ports, settings, work};

/// An operator where each look for an address finds these, and each look for the installation says whether it is set up.
fn operator<const N: usize, const M: usize, const L: usize>(
    addresses: [Option<User>; N],
    set_up: [bool; M],
    ends: [Commit; L],
) -> (Operator, Ledger) {
    let (work, ledger) = work(ends);
    let mut tokens = MockTokenSigner::new();
    tokens.expect_key_id().return_const("key".to_owned());
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_hash().returning(|_| Ok(crate::model::password::PasswordHash::new("$new")));
    let ports = Ports { tokens: Arc::new(tokens), passwords: Arc::new(passwords), work, ..ports() };
    let installation = auth::installation(&ports, &settings(), NOW);
    let mut users = MockUserRepository::new();
    let (mut addresses, mut set_up) = (in_turn(addresses), in_turn(set_up));
    users.expect_user_by_email().returning(move |_| Ok(addresses()));
    users.expect_installation().returning(move || Ok(set_up().then(|| installation.clone())));
    (Operator::new(Ports { users: Arc::new(users), ..ports }, settings()), ledger)
}

fn create(operator: &Operator) -> Result<User, Error> {
    now(operator.create_admin("ann@example.com", "Ann".into(), "correct horse battery".into()))
}

fn inserted(changes: &Changes) -> Vec<Ref> {
    let key = |change: &Change| match change {
        Change::Insert(record) => record.key(),
        other => panic!("{other:?}"),
    };
    changes.changes().iter().map(key).collect()
}

// R1: the installation is set up once, by the operator or over the web.
#[test]
fn an_administrator_who_is_not_the_first_any_more_is_another_one() {
    for refused in [Refused(Conflict::Duplicate, 1), Refused(Conflict::Duplicate, 0)] {
        let (operator, ledger) = operator([None], [false, true], [refused, Done]);
        let admin = create(&operator).unwrap();
        assert!(admin.is_active_admin() && !admin.must_change_password);
        let written = ledger.all();
        assert_eq!(inserted(&written[0])[1..], [Ref::Installation]);
        assert_eq!(inserted(&written[1]), [Ref::User(admin.id)]);
    }
    let (operator, ledger) = operator([None, Some(ann())], [false], [Refused(Conflict::Duplicate, 0)]);
    let answer = create(&operator);
    assert!(matches!(answer, Err(Error::Conflict(Obstacle::EmailTaken))), "{answer:?}");
    assert_eq!(ledger.all().len(), 1);
}

// R25: a password that the operator gives ends all sessions, and takes nothing else back that changed meanwhile.
#[test]
fn a_reset_ends_all_sessions_and_keeps_what_else_was_changed() {
    let deactivated = User { is_active: false, version: Version(8), ..ben() };
    let (operator, ledger) =
        operator([Some(ben()), Some(ben()), Some(deactivated)], [true], [Refused(Conflict::Stale, 0), Done]);
    now(operator.reset_password("ben@example.com", "correct horse battery".into(), true)).unwrap();
    let written = ledger.all();
    let [Change::Update(Record::User(user))] = written[1].changes() else { panic!("{written:?}") };
    assert_eq!((user.version, user.is_active, user.must_change_password), (Version(8), false, true));
    assert_eq!((user.password.as_str(), user.credentials_epoch), ("$new", ben().credentials_epoch + 1));
}

#[test]
fn what_can_not_be_done_is_said_and_not_tried_again() {
    let reset = |operator: &Operator| now(operator.reset_password("ben@example.com", "correct horse".into(), false));
    let (nobody, ledger) = operator([None], [true], []);
    assert!(matches!(reset(&nobody), Err(Error::NotFound(Kind::User))));
    assert!(ledger.all().is_empty());
    let (away, ledger) = operator([Some(ben())], [true], [Away]);
    assert!(matches!(reset(&away), Err(Error::Unavailable { .. })));
    assert_eq!(ledger.all().len(), 1);
    // Gone while the password was hashed.
    let (gone, ledger) = operator([Some(ben()), None], [true], []);
    assert!(matches!(reset(&gone), Err(Error::NotFound(Kind::User))));
    assert!(ledger.all().is_empty());
}
