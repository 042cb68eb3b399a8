//! Deleting an account: what must change wherever they were a member.

use crate::change::{Changes, Counter, Event, EventKind, Ref, Version};
use crate::error::{Error, Failure, Obstacle};
use crate::id::{UserId, WorkspaceId};
use crate::model::user::User;
use crate::model::workspace::{Joined, Membership, Participant, Role};
use crate::port::Ports;
use crate::time::Timestamp;
use crate::usecase::Stale;
use crate::usecase::live::LiveEvent;

/// A deletion of an account in the making: all that must change where they were a member.
pub(super) struct Farewell<'p> {
    ports: &'p Ports,
    now: Timestamp,
    heir: Option<User>,
    pub(super) changes: Changes,
    told: Vec<(WorkspaceId, LiveEvent)>,
    left: i64,
    inherited: i64,
    /// What nobody would own, without an heir.
    ownerless: Vec<String>,
}

impl<'p> Farewell<'p> {
    pub(super) async fn of(
        ports: &'p Ports,
        changes: Changes,
        heir: Option<UserId>,
        leaver: UserId,
    ) -> Result<Self, Stale> {
        let heir = match heir {
            Some(id) => {
                let heir = ports.users.user(id).await?.filter(|heir| heir.is_active && heir.id != leaver);
                let unfit = || Error::invalid("transfer_to", "must be the id of another user who may sign in");
                Some(heir.ok_or_else(unfit)?)
            }
            None => None,
        };
        let changes = match &heir {
            // So that they still are one who may sign in when the workspaces go to them.
            Some(heir) => changes.expect(Ref::User(heir.id), heir.version),
            None => changes,
        };
        let (told, ownerless) = (Vec::new(), Vec::new());
        Ok(Self { ports, now: ports.clock.now(), heir, changes, told, left: 0, inherited: 0, ownerless })
    }

    fn add(&mut self, add: impl FnOnce(Changes) -> Changes) {
        self.changes = add(std::mem::take(&mut self.changes));
    }

    fn tell(&mut self, workspace: WorkspaceId, kind: EventKind, event: LiveEvent) {
        let at = self.now;
        self.add(|changes| changes.emit(Event { workspace, kind, at }));
        self.told.push((workspace, event));
    }

    /// They leave a workspace.
    pub(super) async fn leave(&mut self, joined: Joined) -> Result<(), Failure> {
        let Joined { workspace, membership, .. } = joined;
        let (id, user) = (workspace.id, membership.user);
        let owns = membership.role == Role::Owner;
        if owns && !self.ports.workspaces.another_owner(id, user).await? {
            match self.heir.clone() {
                Some(heir) => self.inherit(id, &heir).await?,
                None => self.ownerless.push(workspace.name.clone()),
            }
        }
        self.add(|changes| {
            // Who owns a workspace goes through its version.
            let changes = if owns { changes.update(workspace) } else { changes };
            changes.delete(membership).add(Counter::Members(id), -1, None)
        });
        self.left += 1;
        self.tell(id, EventKind::MemberLeft(user), LiveEvent::MemberLeft(user));
        Ok(())
    }

    /// The heir becomes the owner of a workspace.
    async fn inherit(&mut self, workspace: WorkspaceId, heir: &User) -> Result<(), Failure> {
        let known = self.ports.workspaces.membership(workspace, heir.id).await?;
        let is_member = known.is_some();
        let fresh =
            Membership { workspace, user: heir.id, role: Role::Owner, joined_at: self.now, version: Version::FIRST };
        let membership = known.map_or(fresh, |known| Membership { role: Role::Owner, ..known });
        let participant =
            Participant { membership: membership.clone(), name: heir.name.clone(), email: heir.email.clone() };
        if is_member {
            self.add(|changes| changes.update(membership));
            self.tell(workspace, EventKind::MemberUpdated(heir.id), LiveEvent::MemberUpdated(participant));
        } else {
            self.add(|changes| changes.insert(membership).add(Counter::Members(workspace), 1, None));
            self.inherited += 1;
            self.tell(workspace, EventKind::MemberJoined(heir.id), LiveEvent::MemberJoined(participant));
        }
        Ok(())
    }

    /// Writes it all, and gives what is to be told with its numbers.
    pub(super) async fn commit(self, user: &User) -> Result<Vec<(WorkspaceId, u64, LiveEvent)>, Stale> {
        if !self.ownerless.is_empty() {
            return Err(Stale::Ended(Error::Conflict(Obstacle::SoleOwner(self.ownerless))));
        }
        let mut changes = self.changes;
        if let Some(heir) = self.heir
            && self.inherited > 0
        {
            changes = changes.add(Counter::Memberships(heir.id), self.inherited, None);
        }
        // Down to nothing, or they joined another workspace since theirs were read.
        let changes = changes.add(Counter::Memberships(user.id), -self.left, Some(0)).delete(user.clone());
        match self.ports.work.commit(changes).await {
            Ok(committed) => {
                let numbered = committed.events.into_iter().zip(self.told);
                Ok(numbered.map(|(number, (workspace, event))| (workspace, number, event)).collect())
            }
            Err(failure) if failure.conflict().is_some() => Err(Stale::Again),
            Err(failure) => Err(failure.into()),
        }
    }
}
