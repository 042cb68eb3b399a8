use std::sync::Arc;

use super::*;
use crate::change::{Change, Ref};
use crate::error::{Conflict, Forbidden};
use crate::model::user::User;
use crate::port::store::MockWorkspaceRepository;
use crate::usecase::cast::Commit::{Done, Refused};
use crate::usecase::cast::{
    Commit, Ledger, ann, ben, in_turn, joined, live, member, membership, now, participant, ports, work, workspace,
};

/// What ann does to somebody of this role, while her own membership is found to be this at each attempt.
fn done<T, const N: usize, const M: usize>(
    (whom, role): (&User, Role),
    another_owner: bool,
    anns: [Option<Role>; N],
    ends: [Commit; M],
    act: impl AsyncFnOnce(Members, &Member) -> Result<T, Error>,
) -> (Result<T, Error>, Ledger) {
    let (work, ledger) = work(ends);
    let mut workspaces = MockWorkspaceRepository::new();
    let (found, shown) = (joined(whom, role), participant(whom, role));
    workspaces.expect_joined().returning(move |_, _| Ok(Some(found.clone())));
    workspaces.expect_participant().returning(move |_, _| Ok(Some(shown.clone())));
    workspaces.expect_another_owner().returning(move |_, _| Ok(another_owner));
    workspaces.expect_invitation_to().returning(|_, _| Ok(None));
    let mut anns = in_turn(anns);
    workspaces.expect_membership().returning(move |_, _| Ok(anns().map(|role| membership(&ann(), role))));
    let ports = Ports { workspaces: Arc::new(workspaces), work, ..ports() };
    let members = Members::new(ports.clone(), live(&ports));
    (now(act(members, &member(&ann(), Role::Owner))), ledger)
}

async fn promote(members: Members, ann: &Member) -> Result<(), Error> {
    members.change_role(ann, ben().id, Role::Owner).await.map(drop)
}

async fn remove(members: Members, ann: &Member) -> Result<(), Error> {
    members.remove(ann, ben().id).await
}

// R26: an attempt that is decided again is not decided on the right of the one before.
#[test]
fn the_right_is_judged_in_each_attempt() {
    let stale = [Refused(Conflict::Stale, 0)];
    let (demoted, removed) = ([Some(Role::Owner), Some(Role::Member)], [Some(Role::Owner), None]);
    let whom = (&ben(), Role::Guest);
    for act in [0, 1] {
        let acting = async |members: Members, ann: &Member| match act {
            0 => promote(members, ann).await,
            _ => remove(members, ann).await,
        };
        let (answer, ledger) = done(whom, true, demoted, stale, acting);
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
        let expected =
            Change::Expect(Ref::Membership(workspace().id, ann().id), membership(&ann(), Role::Owner).version);
        assert_eq!(ledger.only().changes()[0], expected);

        let (answer, ledger) = done(whom, true, removed, stale, acting);
        assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
        assert_eq!(ledger.all().len(), 1);
    }
}

// R48: what takes an OWNER away goes through the workspace's version, and only that does.
#[test]
fn an_owner_goes_only_while_another_stays() {
    let owner = [Some(Role::Owner)];
    let through_the_workspace = |ledger: &Ledger| ledger.only().changes().contains(&Change::Update(workspace().into()));
    let demote = async |members: Members, ann: &Member| members.change_role(ann, ben().id, Role::Guest).await.map(drop);
    let leave = async |members: Members, ann: &Member| members.remove(ann, ann.actor().user().id).await;

    let (answer, ledger) = done((&ben(), Role::Owner), true, owner, [Done], demote);
    assert!(answer.is_ok() && through_the_workspace(&ledger), "{answer:?}");
    let (answer, ledger) = done((&ben(), Role::Owner), true, owner, [Done], remove);
    assert!(answer.is_ok() && through_the_workspace(&ledger), "{answer:?}");
    let (answer, ledger) = done((&ann(), Role::Owner), true, owner, [Done], leave);
    assert!(answer.is_ok() && through_the_workspace(&ledger), "{answer:?}");

    for (whom, act) in [(ben(), 0), (ben(), 1), (ann(), 2)] {
        let acting = async |members: Members, ann: &Member| match act {
            0 => demote(members, ann).await,
            1 => remove(members, ann).await,
            _ => leave(members, ann).await,
        };
        let (answer, ledger) = done((&whom, Role::Owner), false, owner, [], acting);
        assert!(matches!(answer, Err(Error::Conflict(Obstacle::LastOwner))), "{answer:?}");
        assert!(ledger.all().is_empty());
    }

    let (answer, ledger) = done((&ben(), Role::Member), false, owner, [Done], promote);
    assert!(answer.is_ok() && !through_the_workspace(&ledger), "promotions are innocent of each other: {answer:?}");
}

// Both counters move with the row itself: they are what the deletions of users and workspaces go by.
#[test]
fn a_removal_moves_both_counters_with_the_row() {
    let (answer, ledger) = done((&ben(), Role::Member), true, [Some(Role::Owner)], [Done], remove);
    assert!(answer.is_ok(), "{answer:?}");
    let (lab, ben) = (workspace().id, membership(&ben(), Role::Member));
    let one_less = |counter| Change::Add { counter, delta: -1, ceiling: None };
    assert_eq!(
        ledger.only().changes()[1..],
        [
            Change::Delete(Ref::Membership(lab, ben.user), ben.version),
            one_less(Counter::Members(lab)),
            one_less(Counter::Memberships(ben.user)),
        ]
    );
}
