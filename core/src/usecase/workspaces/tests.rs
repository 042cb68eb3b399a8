use super::*;
use crate::change::{Change, Ref};
use crate::port::store::MockWorkspaceRepository;
use crate::usecase::cast::Commit::{Away, Done, Refused};
use crate::usecase::cast::{Commit, Ledger, ann, in_turn, joined, member, now, ports, spaces, work};

/// What comes of a deletion by ann, whose role is found to be this at each attempt.
fn deleted<const N: usize, const M: usize>(anns: [Option<Role>; N], ends: [Commit; M]) -> (Result<(), Error>, Ledger) {
    let (work, ledger) = work(ends);
    let mut workspaces = MockWorkspaceRepository::new();
    let mut anns = in_turn(anns);
    workspaces.expect_joined().returning(move |_, _| Ok(anns().map(|role| joined(&ann(), role))));
    let spaces = spaces(&Ports { workspaces: Arc::new(workspaces), work, ..ports() });
    (now(spaces.delete(&member(&ann(), Role::Owner))), ledger)
}

#[test]
fn it_goes_in_the_version_in_which_the_owner_was_read() {
    let (answer, ledger) = deleted([Some(Role::Owner)], [Done]);
    assert!(answer.is_ok(), "{answer:?}");
    let workspace = joined(&ann(), Role::Owner).workspace;
    assert_eq!(ledger.only().changes(), [Change::Delete(Ref::Workspace(workspace.id), workspace.version)]);
}

// R26
#[test]
fn the_right_to_delete_is_judged_in_each_attempt() {
    let stale = [Refused(Conflict::Stale, 0)];
    let (answer, _) = deleted([Some(Role::Owner), Some(Role::Member)], stale);
    assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    let (answer, _) = deleted([Some(Role::Owner), None], stale);
    assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
}

#[test]
fn a_database_that_goes_away_is_not_asked_again() {
    let (answer, ledger) = deleted([Some(Role::Owner)], [Away]);
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    assert_eq!(ledger.all().len(), 1, "what may have been written is not written again");
}
