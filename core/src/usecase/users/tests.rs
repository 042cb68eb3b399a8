use std::sync::Arc;

use super::*;
use crate::change::{Change, Counter, Record, Version};
use crate::model::installation::Installation;
use crate::model::workspace::Role;
use crate::port::passwords::{MockPasswordHasher, Verdict};
use crate::port::store::{MockUserRepository, MockWorkspaceRepository};
use crate::usecase::cast::Commit::{Away, Done, Refused};
use crate::usecase::cast::{
    Commit, Ledger, NOW, actor, ann, ben, in_turn, joined, live, now, once, participant, ports, signed_in, work,
    workspace,
};

fn over(ports: Ports) -> Users {
    let (live, once) = (live(&ports), once(&ports));
    Users::new(ports, live, once)
}

/// Users of whom this one is found, as each look finds them.
fn finding<const N: usize>(looks: [User; N]) -> MockUserRepository {
    let mut users = MockUserRepository::new();
    let mut looks = in_turn(looks);
    users.expect_user().returning(move |_| Ok(Some(looks())));
    users
}

fn with_others(mut users: MockUserRepository, another_admin: bool) -> MockUserRepository {
    users.expect_another_admin().returning(move |_| Ok(another_admin));
    users.expect_installation().returning(|| Ok(Some(installation())));
    users
}

fn installation() -> Installation {
    Installation { set_up_at: NOW, encryption_key: "e".into(), signing_keys: "s".into(), version: Version(5) }
}

fn free(mut users: MockUserRepository) -> MockUserRepository {
    users.expect_user_by_email().returning(|_| Ok(None));
    users
}

fn own(user: &User) -> Account {
    Account { actor: actor(user), user: user.clone() }
}

fn ben_by_ann() -> Account {
    Account { actor: actor(&ann()), user: ben() }
}

fn demotion() -> UserChange {
    UserChange { role: Some(GlobalRole::User), ..UserChange::default() }
}

fn deactivation() -> UserChange {
    UserChange { is_active: Some(false), ..UserChange::default() }
}

fn moving(current_password: Option<&str>) -> UserChange {
    let current_password = current_password.map(Into::into);
    UserChange { email: Some("new@example.com".into()), current_password, ..UserChange::default() }
}

fn hashing(verdict: Verdict) -> Arc<MockPasswordHasher> {
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_verify().returning(move |_, _| Ok(verdict));
    passwords.expect_hash().returning(|_| Ok(PasswordHash::new("$new")));
    Arc::new(passwords)
}

/// The change of ben's account by ann, where each look finds these.
fn changed<const N: usize, const M: usize>(
    change: UserChange,
    before: User,
    anns: [User; N],
    ends: [Commit; M],
) -> (Result<User, Error>, Ledger) {
    let (work, ledger) = work(ends);
    let users = Arc::new(with_others(free(finding([before])), true));
    let ports = Ports { users, sessions: signed_in(anns), passwords: hashing(Verdict::Right), work, ..ports() };
    (now(over(ports).change(&ben_by_ann(), change)), ledger)
}

// The contract's order: 409 for the last administrator, whoever asks, before the 403 for one's own account.
#[test]
fn the_last_administrator_is_told_so_before_that_it_is_their_own_account() {
    let asked = |change, another_admin| {
        let users = Arc::new(with_others(MockUserRepository::new(), another_admin));
        now(over(Ports { users, ..ports() }).change(&own(&ann()), change))
    };
    for change in [demotion, deactivation] {
        let answer = asked(change(), false);
        assert!(matches!(answer, Err(Error::Conflict(Obstacle::LastAdmin))), "{answer:?}");
        let answer = asked(change(), true);
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::OwnAccount))), "{answer:?}");
    }
    // What takes no administrator away is not a matter of who is left.
    for change in [
        UserChange { role: Some(GlobalRole::Admin), ..UserChange::default() },
        UserChange { password: Some("correct horse battery".into()), ..UserChange::default() },
    ] {
        let answer = asked(change, false);
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::OwnAccount))), "{answer:?}");
    }
}

// R48: what leaves one administrator less comes through the installation's version, or not at all.
#[test]
fn an_administrator_goes_only_while_another_stays() {
    let zoe = || User { role: GlobalRole::Admin, ..ben() };
    for change in [demotion, deactivation] {
        let (answer, ledger) = changed(change(), zoe(), [ann()], [Done]);
        assert!(!answer.unwrap().is_active_admin());
        let written = ledger.only();
        assert_eq!(written.changes()[0], Change::Expect(Ref::User(ann().id), ann().version));
        assert!(written.changes().contains(&Change::Update(installation().into())), "{written:?}");
    }
    // One who may not sign in is none that could be missed.
    let (_, ledger) = changed(demotion(), User { is_active: false, ..zoe() }, [ann()], [Done]);
    assert!(!ledger.only().changes().contains(&Change::Update(installation().into())));

    let users = Arc::new(with_others(finding([zoe()]), false));
    let alone = over(Ports { users, sessions: signed_in([ann()]), ..ports() });
    let answer = now(alone.change(&ben_by_ann(), demotion()));
    assert!(matches!(answer, Err(Error::Conflict(Obstacle::LastAdmin))), "{answer:?}");
}

// R12, R48: of several attempts each is the actor's own to make.
#[test]
fn an_administrator_who_was_demoted_meanwhile_changes_nothing() {
    let demoted = || User { role: GlobalRole::User, ..ann() }.signed_out();
    let refused = |answer: &Error| matches!(answer, Error::Unauthenticated(Unauthenticated::Token));
    let (answer, ledger) = changed(deactivation(), ben(), [ann(), demoted()], [Refused(Conflict::Stale, 0)]);
    assert!(answer.as_ref().is_err_and(refused), "{answer:?}");
    assert_eq!(ledger.all().len(), 1);

    let managing = |looks: [User; 2]| {
        let (work, _) = work([Refused(Conflict::Stale, 0)]);
        let users = Arc::new(free(finding([ben()])));
        let mut workspaces = MockWorkspaceRepository::new();
        workspaces.expect_workspaces_of().returning(|_, _| Ok(Page { items: Vec::new(), next: None }));
        let workspaces = Arc::new(workspaces);
        let passwords = hashing(Verdict::Right);
        over(Ports { users, workspaces, passwords, sessions: signed_in(looks), work, ..ports() })
    };
    let new = NewUser {
        email: "new@example.com".into(),
        name: "New".into(),
        password: "correct horse battery".into(),
        role: GlobalRole::Admin,
        must_change_password: true,
    };
    let answers = [
        now(managing([ann(), demoted()]).create(&actor(&ann()), new, None)).map(drop),
        now(managing([ann(), demoted()]).end_sessions(&actor(&ann()), ben().id)),
        now(managing([ann(), demoted()]).delete(&actor(&ann()), ben().id, None)),
    ];
    for answer in answers {
        assert!(answer.as_ref().is_err_and(refused), "{answer:?}");
    }
}

// R14: one's own address moves with one's password, the one that is in force when it moves.
#[test]
fn ones_own_address_needs_ones_present_password() {
    let asked = |change, verdict, stored: User| {
        let users = Arc::new(free(finding([stored.clone()])));
        let ports = Ports { users, passwords: hashing(verdict), sessions: signed_in([stored]), ..ports() };
        now(over(ports).change(&own(&ben()), change))
    };
    let answer = asked(moving(None), Verdict::Right, ben());
    let named = |violations: &[Violation]| violations[0].field == "current_password";
    assert!(matches!(&answer, Err(Error::Invalid(violations)) if named(violations)), "{answer:?}");

    let other_password = || User { password: PasswordHash::new("$other"), ..ben() };
    for (verdict, stored) in [(Verdict::Wrong, ben()), (Verdict::Right, other_password())] {
        let answer = asked(moving(Some("correct horse battery")), verdict, stored);
        assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::Credentials))), "{answer:?}");
    }

    // It was theirs when they asked for it, so that nothing had to be proved, and is another one by now.
    let same = UserChange { email: Some(ben().email.as_str().into()), ..UserChange::default() };
    let answer = asked(same, Verdict::Right, User { email: Email::stored("moved@example.com".into()), ..ben() });
    assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::Credentials))), "{answer:?}");

    let (work, ledger) = work([Done]);
    let users = Arc::new(free(finding([ben()])));
    let ports = Ports { users, passwords: hashing(Verdict::Right), sessions: signed_in([ben()]), work, ..ports() };
    let answer = now(over(ports).change(&own(&ben()), moving(Some("correct horse battery"))));
    assert_eq!(answer.unwrap().email.as_str(), "new@example.com");
    assert_eq!(ledger.all().len(), 1);
}

// R25
#[test]
fn another_role_another_password_and_a_deactivation_end_sessions_and_nothing_else_does() {
    let ends = |change, before| {
        let (_, ledger) = changed(change, before, [ann()], [Done]);
        let written = ledger.only();
        let Some(Change::Update(Record::User(after))) = written.changes().last() else { panic!("{written:?}") };
        assert_eq!(after.must_change_password, after.password.as_str() == "$new");
        after.credentials_epoch > ben().credentials_epoch
    };
    let admin = UserChange { role: Some(GlobalRole::Admin), ..UserChange::default() };
    let password = UserChange { password: Some("correct horse battery".into()), ..UserChange::default() };
    for change in [admin, deactivation(), password] {
        assert!(ends(change, ben()));
    }
    let name = UserChange { name: Some("Benjamin".into()), ..demotion() };
    let back = UserChange { is_active: Some(true), ..UserChange::default() };
    for (change, before) in [(moving(None), ben()), (name, ben()), (back, User { is_active: false, ..ben() })] {
        assert!(!ends(change, before));
    }
}

// R48: an account goes with all that depends on it, or not at all.
#[test]
fn an_account_goes_with_its_memberships_or_stays() {
    let deleted = |another_owner, heir: Option<UserId>, ends: [Commit; 1]| {
        let (work, ledger) = work(ends);
        let mut users = MockUserRepository::new();
        users.expect_user().returning(|id| Ok([ann(), ben()].into_iter().find(|user| user.id == id)));
        let mut workspaces = MockWorkspaceRepository::new();
        let owned = || Page { items: vec![joined(&ben(), Role::Owner)], next: None };
        workspaces.expect_workspaces_of().returning(move |_, _| Ok(owned()));
        workspaces.expect_another_owner().returning(move |_, _| Ok(another_owner));
        workspaces.expect_membership().returning(|_, _| Ok(None));
        let (users, workspaces) = (Arc::new(users), Arc::new(workspaces));
        let users = over(Ports { users, workspaces, sessions: signed_in([ann()]), work, ..ports() });
        (now(users.delete(&actor(&ann()), ben().id, heir)), ledger)
    };
    let (lab, of_ben) = (workspace().id, participant(&ben(), Role::Owner).membership);
    let leaves = [
        Change::Update(workspace().into()),
        Change::Delete(Ref::Membership(lab, ben().id), of_ben.version),
        Change::Add { counter: Counter::Members(lab), delta: -1, ceiling: None },
    ];
    let gone = [
        Change::Add { counter: Counter::Memberships(ben().id), delta: -1, ceiling: Some(0) },
        Change::Delete(Ref::User(ben().id), ben().version),
    ];

    let (answer, ledger) = deleted(true, None, [Done]);
    assert!(answer.is_ok(), "{answer:?}");
    let written = ledger.only();
    assert_eq!(written.changes()[1..], [&leaves[..], &gone[..]].concat());

    let (answer, ledger) = deleted(false, None, [Done]);
    assert!(matches!(&answer, Err(Error::Conflict(Obstacle::SoleOwner(names))) if names == &["Lab"]), "{answer:?}");
    assert!(ledger.all().is_empty());

    let (answer, ledger) = deleted(false, Some(ann().id), [Done]);
    assert!(answer.is_ok(), "{answer:?}");
    let written = ledger.only();
    assert_eq!(written.changes()[1], Change::Expect(Ref::User(ann().id), ann().version), "who inherits may sign in");
    let inherits = |change: &Change| matches!(change, Change::Insert(Record::Membership(new)) if new.user == ann().id);
    assert!(written.changes().iter().any(inherits));
    let one_more = Change::Add { counter: Counter::Memberships(ann().id), delta: 1, ceiling: None };
    assert!(written.changes().contains(&one_more));

    for nobody in [ben().id, uuid::Uuid::from_u128(9).into()] {
        let (answer, ledger) = deleted(false, Some(nobody), [Done]);
        assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
        assert!(ledger.all().is_empty());
    }

    let (answer, _) = deleted(true, None, [Away]);
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "a database that is away is asked once: {answer:?}");
}
