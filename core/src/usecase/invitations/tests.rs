use std::time::Duration;

use super::*;
use crate::change::{Change, Record};
use crate::error::Forbidden;
use crate::port::passwords::MockPasswordHasher;
use crate::port::store::{MockUserRepository, MockWorkspaceRepository};
use crate::port::tokens::MockTokenSigner;
use crate::usecase::cast::Commit::{Done, Refused};
use crate::usecase::cast::{
    Commit, KEY, Ledger, NOW, actor, ann, ben, in_turn, joined, live, member, membership, now, once, ports, settings,
    work, workspace,
};

fn token() -> InvitationToken {
    InvitationToken::of(&KEY, uuid::Uuid::from_u128(40).into())
}

/// Ben is invited by ann.
fn invited() -> Invited {
    let invitation = Invitation {
        id: token().invitation,
        workspace: workspace().id,
        email: ben().email,
        role: Role::Member,
        invited_by: Author::from(&ann()),
        token: token().hash(),
        created_at: NOW,
        expires_at: NOW + invitation::LIFETIME,
        version: Version(6),
    };
    Invited { invitation, workspace_name: "Lab".into() }
}

fn over(ports: Ports) -> Invitations {
    let auth = Arc::new(Auth::new(ports.clone(), settings()));
    let (live, once) = (live(&ports), once(&ports));
    Invitations::new(ports, live, auth, once)
}

/// Who is asked for by id is ben as he is now; nobody has the address of a newcomer; each look for an invitation finds these; ann, who made
/// it, is an OWNER.
fn finding<const N: usize, const M: usize>(
    present: User,
    looks: [Option<Invited>; N],
    ends: [Commit; M],
) -> (Ports, Ledger) {
    finding_ann(Some(Role::Owner), present, looks, ends)
}

fn finding_ann<const N: usize, const M: usize>(
    role: Option<Role>,
    present: User,
    looks: [Option<Invited>; N],
    ends: [Commit; M],
) -> (Ports, Ledger) {
    let (work, ledger) = work(ends);
    let mut users = MockUserRepository::new();
    users.expect_user().returning(move |_| Ok(Some(present.clone())));
    users.expect_user_by_email().returning(|_| Ok(None));
    let mut workspaces = MockWorkspaceRepository::new();
    let mut looks = in_turn(looks);
    workspaces.expect_invitation().returning(move |_| Ok(looks()));
    let anns = role.map(|role| membership(&ann(), role));
    workspaces.expect_membership().returning(move |_, user| Ok(anns.clone().filter(|anns| anns.user == user)));
    workspaces.expect_joined().returning(|_, _| Ok(Some(joined(&ben(), Role::Member))));
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_hash().returning(|_| Ok(crate::model::password::PasswordHash::new("$hash")));
    let mut tokens = MockTokenSigner::new();
    tokens.expect_sign().returning(|_| Ok(crate::model::secret::Secret::new("token")));
    let ports = Ports {
        users: Arc::new(users),
        workspaces: Arc::new(workspaces),
        passwords: Arc::new(passwords),
        tokens: Arc::new(tokens),
        work,
        ..ports()
    };
    (ports, ledger)
}

fn by_token() -> Which {
    Which::Token(token().expose().into())
}

fn register(ports: Ports) -> Result<SignedIn, Error> {
    let new =
        Registration { token: token().expose().into(), name: "Ben".into(), password: "correct horse battery".into() };
    now(over(ports).register(new, Device::default()))
}

// R47: it gives nothing to anybody but the one who is invited, for as long as it stands; and nobody learns that it is there.
#[test]
fn an_invitation_is_for_the_invited_one_alone() {
    let of = |change: fn(&mut Invitation)| {
        let mut invited = invited();
        change(&mut invited.invitation);
        invited
    };
    let another_token = of(|found| found.token = InvitationToken::of(&KEY, uuid::Uuid::from_u128(41).into()).hash());
    let expired = of(|found| found.expires_at = NOW);
    let readdressed = User { email: Email::stored("benjamin@example.com".into()), ..ben() };
    let refused = [
        (ben(), Some(expired), vec![by_token(), Which::Id(token().invitation)]),
        (ben(), Some(another_token), vec![by_token()]),
        (ben(), None, vec![by_token(), Which::Id(token().invitation)]),
        (readdressed, Some(invited()), vec![by_token(), Which::Id(token().invitation)]),
        (User { is_active: false, ..ben() }, Some(invited()), vec![by_token()]),
        (ben(), Some(invited()), vec![Which::Token(format!("{}A", token().expose()))]),
    ];
    for (present, found, ways) in refused {
        for which in ways {
            let (ports, ledger) = finding(present.clone(), [found.clone()], []);
            let answer = now(over(ports.clone()).accept(&actor(&ben()), &which));
            assert!(matches!(answer, Err(Error::NotFound(Kind::Invitation))), "{which:?} {answer:?}");
            let answer = now(over(ports).decline(&actor(&ben()), &which));
            assert!(matches!(answer, Err(Error::NotFound(Kind::Invitation))), "{which:?} {answer:?}");
            assert!(ledger.all().is_empty());
        }
    }
    let until = of(|found| found.expires_at = NOW + Duration::from_micros(1));
    let (ports, _) = finding(ben(), [Some(until)], [Done]);
    assert!(now(over(ports).accept(&actor(&ben()), &by_token())).is_ok());
}

// R47: joining spends it in the same unit, while whoever joins is who was looked at.
#[test]
fn joining_spends_the_invitation_and_counts_on_both_sides() {
    let (ports, ledger) = finding(ben(), [Some(invited())], [Done]);
    now(over(ports).accept(&actor(&ben()), &by_token())).unwrap();
    let written = ledger.only();
    let [expected, inviter, spent, Change::Insert(Record::Membership(joined)), members, memberships] =
        written.changes()
    else {
        panic!("{written:?}")
    };
    assert_eq!(*expected, Change::Expect(Ref::User(ben().id), ben().version));
    let anns = membership(&ann(), Role::Owner);
    assert_eq!(*inviter, Change::Expect(Ref::Membership(anns.workspace, anns.user), anns.version));
    assert_eq!(*spent, Change::Delete(Ref::Invitation(token().invitation), Version(6)));
    assert_eq!((joined.user, joined.role), (ben().id, Role::Member));
    assert_eq!(*members, Change::Add { counter: Counter::Members(workspace().id), delta: 1, ceiling: None });
    let most = Some(MOST_WORKSPACES);
    assert_eq!(*memberships, Change::Add { counter: Counter::Memberships(ben().id), delta: 1, ceiling: most });
}

// R47: of two who come at once, the second finds it gone.
#[test]
fn an_invitation_that_was_spent_meanwhile_lets_nobody_in() {
    let spent = [Refused(Conflict::Stale, 1)];
    let (ports, ledger) = finding(ben(), [Some(invited()), None], spent);
    let answer = now(over(ports).accept(&actor(&ben()), &by_token()));
    assert!(matches!(answer, Err(Error::NotFound(Kind::Invitation))), "{answer:?}");
    assert_eq!(ledger.all().len(), 1);

    for refused in [Refused(Conflict::Stale, 2), Refused(Conflict::MissingParent, 3)] {
        let (ports, _) = finding(ben(), [Some(invited()), Some(invited()), None], [refused]);
        let answer = register(ports);
        assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{answer:?}");
    }
    let (ports, _) = finding(ben(), [Some(invited())], [Refused(Conflict::Duplicate, 0)]);
    let answer = register(ports);
    assert!(matches!(answer, Err(Error::Conflict(Obstacle::EmailTaken))), "{answer:?}");
    let (ports, _) = finding(ben(), [None], []);
    let answer = register(ports);
    assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{answer:?}");
}

// R46, R47: nobody grants what they lost.
#[test]
fn an_invitation_by_somebody_who_may_not_invite_any_more_lets_nobody_in() {
    for role in [None, Some(Role::Member)] {
        let (ports, ledger) = finding_ann(role, ben(), [Some(invited())], []);
        let answer = now(over(ports.clone()).accept(&actor(&ben()), &by_token()));
        assert!(matches!(answer, Err(Error::NotFound(Kind::Invitation))), "{answer:?}");
        let answer = register(ports);
        assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{answer:?}");
        assert!(ledger.all().is_empty());
    }
}

// R26: inviting, and taking back, on a right that is judged in each attempt.
#[test]
fn who_is_no_owner_any_more_invites_nobody() {
    let asked = |then: Option<Role>| {
        let (work, ledger) = work([Refused(Conflict::Stale, 0)]);
        let mut users = MockUserRepository::new();
        users.expect_user_by_email().returning(|_| Ok(None));
        let mut workspaces = MockWorkspaceRepository::new();
        let mut looks = in_turn([Some(Role::Owner), then]);
        workspaces.expect_membership().returning(move |_, _| Ok(looks().map(|role| membership(&ann(), role))));
        workspaces.expect_invitation_to().returning(|_, _| Ok(None));
        workspaces.expect_invitation().returning(|_| Ok(Some(invited())));
        let ports = Ports { users: Arc::new(users), workspaces: Arc::new(workspaces), work, ..ports() };
        (over(ports), ledger)
    };
    let ann_as_owner = member(&ann(), Role::Owner);
    let inviting = |then| {
        let (invitations, ledger) = asked(then);
        (now(invitations.invite(&ann_as_owner, "ben@example.com", Role::Member, None)).map(drop), ledger)
    };
    let revoking = |then| {
        let (invitations, ledger) = asked(then);
        (now(invitations.revoke(&ann_as_owner, token().invitation)), ledger)
    };
    for act in [&inviting as &dyn Fn(_) -> _, &revoking] {
        let (answer, ledger) = act(Some(Role::Member));
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
        assert_eq!(ledger.all().len(), 1);
        let (answer, _) = act(None);
        assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
    }
}
