//! Workspaces, and the right to be in one.

use std::sync::Arc;

use super::auth::{Actor, Arrived};
use super::idempotency::{Idempotency, Stamp};
use super::models::Models;
use super::{Patch, Stale, deciding_again};
use crate::change::{Changes, Counter, Version};
use crate::error::{Checks, Conflict, Error, Forbidden, Kind, Obstacle};
use crate::id::{UserId, WorkspaceId};
use crate::model::idempotency::{Made, Repeatable};
use crate::model::text;
use crate::model::workspace::{self, Joined, Membership, Role, Workspace};
use crate::page::{Page, PageRequest};
use crate::policy::Right;
use crate::port::Ports;

/// How many workspaces one may be in.
pub(super) const MOST_WORKSPACES: i64 = 10_000;

/// A member of a workspace who holds the right they came with. Made by [`Arrived::member`] alone.
#[derive(Clone, Debug)]
pub struct Member {
    actor: Actor,
    joined: Joined,
}

impl Member {
    /// Who.
    #[must_use]
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The workspace, as they see it.
    #[must_use]
    pub const fn joined(&self) -> &Joined {
        &self.joined
    }

    /// As what.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.joined.membership.role
    }

    /// The workspace's id.
    #[must_use]
    pub const fn workspace(&self) -> WorkspaceId {
        self.joined.workspace.id
    }

    /// Lets those through who hold another right too.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn require(&self, right: Right) -> Result<(), Error> {
        if right.is_held_by(self.role()) { Ok(()) } else { Err(Error::Forbidden(Forbidden::Role)) }
    }

    /// The membership as it is now, if it still holds the right: for a unit of work that expects it to stay so.
    ///
    /// # Errors
    /// `NotFound(Workspace)` for whoever is no member any more; `Forbidden` for one without the right.
    pub(super) async fn still(&self, ports: &Ports, right: Right) -> Result<Membership, Error> {
        let membership = ports.workspaces.membership(self.workspace(), self.actor.user().id).await?;
        let membership = membership.ok_or(Error::NotFound(Kind::Workspace))?;
        if right.is_held_by(membership.role) { Ok(membership) } else { Err(Error::Forbidden(Forbidden::Role)) }
    }
}

impl Arrived {
    /// Lets a member of the workspace in who holds the right.
    ///
    /// # Errors
    /// `NotFound(Workspace)` for everybody else, whether it exists or not; `Forbidden` for a member without the right.
    pub fn member(self, right: Right) -> Result<Member, Error> {
        let joined = self.joined.ok_or(Error::NotFound(Kind::Workspace))?;
        let member = Member { actor: self.actor, joined };
        member.require(right)?;
        Ok(member)
    }
}

/// A workspace to be made.
#[derive(Clone, Debug)]
pub struct NewWorkspace {
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
}

/// What is to change of a workspace.
#[derive(Debug, Default)]
pub struct WorkspaceChange {
    /// What people call it; it always has a name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Patch<String>,
    /// The model of its chats that name none.
    pub default_model: Patch<String>,
    /// What the model is told before every conversation.
    pub system_prompt: Patch<String>,
}

/// Making, finding and changing workspaces.
pub struct Workspaces {
    ports: Ports,
    models: Arc<Models>,
    idempotency: Arc<Idempotency>,
}

impl Workspaces {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, models: Arc<Models>, idempotency: Arc<Idempotency>) -> Self {
        Self { ports, models, idempotency }
    }

    /// Makes a workspace; the actor becomes its OWNER.
    ///
    /// # Errors
    /// `Invalid`; `Conflict(TooManyWorkspaces)`; `IdempotencyKeyReused`; `NotFound(Workspace)` for a repeated request whose workspace is gone.
    pub async fn create(&self, actor: &Actor, new: NewWorkspace, request: Option<Repeatable>) -> Result<Joined, Error> {
        let user = actor.user().id;
        let first = |stamp| self.make(user, new.clone(), stamp);
        let again = |made: Made| async move {
            let joined = self.ports.workspaces.joined(made.id.into(), user).await?;
            joined.ok_or(Error::NotFound(Kind::Workspace))
        };
        self.idempotency.once(user, request, first, again).await
    }

    async fn make(&self, owner: UserId, new: NewWorkspace, stamp: Stamp) -> Result<Joined, Error> {
        let mut checks = Checks::new();
        let name = checks.take(text::name("name", new.name));
        let description = checks.take(new.description.map(workspace::description).transpose());
        let (name, description) = checks.done(name.zip(description))?;
        let now = self.ports.clock.now();
        let workspace = Workspace {
            id: self.ports.new_id(),
            name,
            description,
            default_model: None,
            system_prompt: None,
            require_two_factor: false,
            created_at: now,
            updated_at: now,
            version: Version::FIRST,
        };
        let membership = Membership {
            workspace: workspace.id,
            user: owner,
            role: Role::Owner,
            joined_at: now,
            version: Version::FIRST,
        };
        let changes = Changes::new()
            .insert(workspace.clone())
            .insert(membership.clone())
            .add(Counter::Members(workspace.id), 1, None)
            .add(Counter::Memberships(owner), 1, Some(MOST_WORKSPACES));
        let made = Made { id: *workspace.id.as_uuid(), reply: None };
        match self.ports.work.commit(stamp.add(changes, made)).await {
            Ok(_) => Ok(Joined { workspace, membership, member_count: 1 }),
            Err(failure) if failure.is_conflict(Conflict::Ceiling) => Err(Error::Conflict(Obstacle::TooManyWorkspaces)),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The actor's workspaces, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(
        &self,
        actor: &Actor,
        page: PageRequest<WorkspaceId>,
    ) -> Result<Page<Joined, WorkspaceId>, Error> {
        Ok(self.ports.workspaces.workspaces_of(actor.user().id, page).await?)
    }

    /// Changes a workspace's settings. The member came in with [`Right::EditWorkspace`].
    ///
    /// # Errors
    /// `Invalid`; `NotFound` when it is gone by now.
    pub async fn change(&self, member: &Member, change: WorkspaceChange) -> Result<Joined, Error> {
        let mut checks = Checks::new();
        let name = checks.take(change.name.map(|name| text::name("name", name)).transpose());
        let description = checks.take(change.description.parse(workspace::description));
        let system_prompt = checks.take(change.system_prompt.parse(workspace::system_prompt));
        let default_model = match change.default_model {
            Patch::Set(model) => checks.take(self.models.check("default_model", model).await.map(Patch::Set)),
            other => Some(other),
        };
        let all = name.zip(description).zip(system_prompt.zip(default_model));
        let ((name, description), (system_prompt, default_model)) = checks.done(all)?;
        deciding_again(|| async {
            let user = member.actor.user().id;
            let joined = self.ports.workspaces.joined(member.workspace(), user).await?;
            let joined = joined.ok_or(Error::NotFound(Kind::Workspace))?;
            if !Right::EditWorkspace.is_held_by(joined.membership.role) {
                return Err(Stale::Ended(Error::Forbidden(Forbidden::Role)));
            }
            let old = joined.workspace;
            let changed = Workspace {
                name: name.clone().unwrap_or(old.name),
                description: description.clone().apply(old.description),
                default_model: default_model.clone().apply(old.default_model),
                system_prompt: system_prompt.clone().apply(old.system_prompt),
                updated_at: self.ports.clock.now(),
                ..old
            };
            self.ports.work.commit(Changes::new().update(changed.clone())).await?;
            Ok(Joined { workspace: Workspace { version: changed.version.next(), ..changed }, ..joined })
        })
        .await
    }

    /// Deletes a workspace with all that is in it: gone for everybody at once. The member came in with [`Right::DeleteWorkspace`].
    ///
    /// # Errors
    /// `NotFound(Workspace)` when it is gone by now; `Forbidden` for one who is no OWNER any more.
    pub async fn delete(&self, member: &Member) -> Result<(), Error> {
        let id = member.workspace();
        deciding_again(|| async {
            let joined = self.ports.workspaces.joined(id, member.actor.user().id).await?;
            let joined = joined.ok_or(Error::NotFound(Kind::Workspace))?;
            if !Right::DeleteWorkspace.is_held_by(joined.membership.role) {
                return Err(Stale::Ended(Error::Forbidden(Forbidden::Role)));
            }
            // Taking an OWNER away moves the workspace's version: whoever is one here is one when it goes.
            self.ports.work.commit(Changes::new().delete(joined.workspace)).await?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
