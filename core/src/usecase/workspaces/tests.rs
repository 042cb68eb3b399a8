use super::*;
use crate::change::Change;
use crate::error::Failure;
use crate::model::user::User;
use crate::port::store::MockWorkspaceRepository;
use crate::usecase::cast::Commit::{Away, Done, Refused};
use crate::usecase::cast::{Commit, Ledger, ann, ben, in_turn, joined, member, now, participant, ports, spaces, work};

/// What comes of a deletion by ann, whose role is found to be this at each attempt; there are two members, on two pages.
fn deleted<const N: usize, const M: usize>(
    anns: [Option<Role>; N],
    ends: [Commit; M],
    second_page: fn() -> Result<Participant, Failure>,
) -> (Result<(), Error>, Ledger) {
    let (work, ledger) = work(ends);
    let mut workspaces = MockWorkspaceRepository::new();
    let mut anns = in_turn(anns);
    workspaces.expect_joined().returning(move |_, _| Ok(anns().map(|role| joined(&ann(), role))));
    workspaces.expect_participants().returning(move |_, page| match page.after {
        None => Ok(Page { items: vec![participant(&ann(), Role::Owner)], next: Some(ann().id) }),
        Some(_) => Ok(Page { items: vec![second_page()?], next: None }),
    });
    let spaces = spaces(&Ports { workspaces: Arc::new(workspaces), work, ..ports() });
    (now(spaces.delete(&member(&ann(), Role::Owner))), ledger)
}

fn of_ben() -> Result<Participant, Failure> {
    Ok(participant(&ben(), Role::Guest))
}

// The counters guard the deletion of accounts: each member who is counted off is one, and there is no other.
#[test]
fn every_member_is_counted_off_while_they_are_one() {
    let (answer, ledger) = deleted([Some(Role::Owner)], [Done], of_ben);
    assert!(answer.is_ok(), "{answer:?}");
    let Joined { workspace, membership, .. } = joined(&ann(), Role::Owner);
    let counted_off = |user: User| {
        [
            Change::Expect(Ref::Membership(workspace.id, user.id), membership.version),
            Change::Add { counter: Counter::Memberships(user.id), delta: -1, ceiling: None },
        ]
    };
    let nobody_left = Change::Add { counter: Counter::Members(workspace.id), delta: -2, ceiling: Some(0) };
    let gone = [nobody_left, Change::Delete(Ref::Workspace(workspace.id), workspace.version)];
    let expected = [&counted_off(ann())[..], &counted_off(ben()), &gone].concat();
    assert_eq!(ledger.only().changes(), expected);
}

#[test]
fn who_joins_or_leaves_meanwhile_is_counted_anew() {
    for refused in [Refused(Conflict::Ceiling, 4), Refused(Conflict::Stale, 2)] {
        let (answer, ledger) = deleted([Some(Role::Owner)], [refused, Done], of_ben);
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(ledger.all().len(), 2);
    }
}

// R26
#[test]
fn the_right_to_delete_is_judged_in_each_attempt() {
    let stale = [Refused(Conflict::Stale, 5)];
    let (answer, _) = deleted([Some(Role::Owner), Some(Role::Member)], stale, of_ben);
    assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    let (answer, _) = deleted([Some(Role::Owner), None], stale, of_ben);
    assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
}

#[test]
fn a_database_that_goes_away_half_way_leaves_everything() {
    let (answer, ledger) = deleted([Some(Role::Owner)], [], || Err(Failure::database("away")));
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    assert!(ledger.all().is_empty());
    let (answer, ledger) = deleted([Some(Role::Owner)], [Away], of_ben);
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    assert_eq!(ledger.all().len(), 1, "what may have been written is not written again");
}
