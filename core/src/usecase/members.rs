//! Who belongs to a workspace, and as what.

use std::sync::Arc;

use super::deciding_again;
use super::live::{Live, LiveEvent};
use super::workspaces::Member;
use crate::change::{Changes, Counter, Event, EventKind};
use crate::error::{Error, Kind, Obstacle};
use crate::id::{UserId, WorkspaceId};
use crate::model::workspace::{Joined, Membership, Participant, Role, Workspace};
use crate::page::{Page, PageRequest};
use crate::policy::Right;
use crate::port::Ports;

/// Listing, promoting, demoting and removing members.
///
/// What takes an OWNER from a workspace goes through the workspace's version: of two such changes that each leave an OWNER, and together would
/// leave none, the second decides again. All else is a matter of the rows of those concerned.
pub struct Members {
    ports: Ports,
    live: Arc<Live>,
}

impl Members {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, live: Arc<Live>) -> Self {
        Self { ports, live }
    }

    /// The members, in the order in which their accounts were made. The member came in with [`Right::SeeMembers`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self, member: &Member, page: PageRequest<UserId>) -> Result<Page<Participant, UserId>, Error> {
        Ok(self.ports.workspaces.participants(member.workspace(), page).await?)
    }

    /// Gives a member another role. The actor came in with [`Right::ChangeRoles`].
    ///
    /// # Errors
    /// `NotFound(Member)`; `Conflict(LastOwner)` where nobody would own the workspace; `Forbidden`, or `NotFound(Workspace)`, for an actor who
    /// lost the right meanwhile.
    pub async fn change_role(&self, member: &Member, user: UserId, role: Role) -> Result<Participant, Error> {
        let workspace = member.workspace();
        let (number, participant) = deciding_again(|| async {
            let participant = self.find(workspace, user).await?;
            let acting = member.still(&self.ports, Right::ChangeRoles).await?;
            if participant.membership.role == role {
                return Ok((None, participant));
            }
            let mut changes = expecting(&acting, user);
            if participant.membership.role == Role::Owner {
                changes = changes.update(self.without_owner(&participant.membership).await?);
            }
            let changed = Membership { role, ..participant.membership };
            let changes = changes.update(changed.clone()).emit(self.event(workspace, EventKind::MemberUpdated(user)));
            let committed = self.ports.work.commit(changes).await?;
            let membership = Membership { version: changed.version.next(), ..changed };
            Ok((Some(committed.first_event()), Participant { membership, ..participant }))
        })
        .await?;
        if let Some(number) = number {
            self.live.publish(workspace, number, LiveEvent::MemberUpdated(participant.clone()));
        }
        Ok(participant)
    }

    /// Removes a member, or lets the actor leave. The actor came in with [`Right::Leave`].
    ///
    /// Invitations that they made, or that are addressed to them, are void.
    ///
    /// # Errors
    /// `Forbidden` for somebody else without [`Right::RemoveMembers`]; `NotFound(Member)`; `Conflict(LastOwner)`; `NotFound(Workspace)` for an
    /// actor who is no member any more.
    pub async fn remove(&self, member: &Member, user: UserId) -> Result<(), Error> {
        let workspace = member.workspace();
        if user != member.actor().user().id {
            member.require(Right::RemoveMembers)?;
        }
        let number = deciding_again(|| async {
            let participant = self.find(workspace, user).await?;
            let mut changes = if user == member.actor().user().id {
                Changes::new()
            } else {
                expecting(&member.still(&self.ports, Right::RemoveMembers).await?, user)
            };
            if participant.membership.role == Role::Owner {
                changes = changes.update(self.without_owner(&participant.membership).await?);
            }
            if let Some(invited) = self.ports.workspaces.invitation_to(workspace, &participant.email).await? {
                changes = changes.delete(invited.invitation);
            }
            let changes = changes
                .delete(participant.membership)
                .add(Counter::Members(workspace), -1, None)
                .add(Counter::Memberships(user), -1, None)
                .emit(self.event(workspace, EventKind::MemberLeft(user)));
            Ok(self.ports.work.commit(changes).await?.first_event())
        })
        .await?;
        self.live.publish(workspace, number, LiveEvent::MemberLeft(user));
        Ok(())
    }

    async fn find(&self, workspace: WorkspaceId, user: UserId) -> Result<Participant, Error> {
        self.ports.workspaces.participant(workspace, user).await?.ok_or(Error::NotFound(Kind::Member))
    }

    /// The workspace, to be updated: somebody else must own it when this OWNER does no more.
    async fn without_owner(&self, owner: &Membership) -> Result<Workspace, Error> {
        // The workspace first: whatever changes after it was read, its version tells.
        let joined = self.ports.workspaces.joined(owner.workspace, owner.user).await?;
        let Joined { workspace, .. } = joined.ok_or(Error::NotFound(Kind::Member))?;
        if self.ports.workspaces.another_owner(workspace.id, owner.user).await? {
            Ok(workspace)
        } else {
            Err(Error::Conflict(Obstacle::LastOwner))
        }
    }

    fn event(&self, workspace: WorkspaceId, kind: EventKind) -> Event {
        Event { workspace, kind, at: self.ports.clock.now() }
    }
}

/// Begins a unit of work that comes through only while the acting member still is as they were read. Their own row may be among the changes,
/// and then speaks for itself.
fn expecting(acting: &Membership, changed: UserId) -> Changes {
    if acting.user == changed { Changes::new() } else { Changes::new().expect_member(acting) }
}

#[cfg(test)]
mod tests;
