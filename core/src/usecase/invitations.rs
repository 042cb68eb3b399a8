//! Inviting people into workspaces, and joining by an invitation.

use std::sync::Arc;

use super::auth::{Actor, Auth, NewAccount, SignedIn};
use super::idempotency::{Idempotency, Stamp};
use super::live::{Live, LiveEvent};
use super::workspaces::{MOST_WORKSPACES, Member};
use super::{Stale, deciding_again};
use crate::change::{Changes, Counter, Event, EventKind, Ref, Version};
use crate::error::{Conflict, Error, Failure, Kind, Obstacle, Unauthenticated};
use crate::id::InvitationId;
use crate::model::idempotency::{Made, Repeatable};
use crate::model::invitation::{self, Invitation, InvitationToken, Invited};
use crate::model::session::Device;
use crate::model::user::{Author, Email, User};
use crate::model::workspace::{Joined, Membership, Participant, Role};
use crate::page::{Page, PageRequest};
use crate::policy::Right;
use crate::port::Ports;
use crate::time::Timestamp;

/// How somebody says which invitation they mean.
#[derive(Clone, Debug)]
pub enum Which {
    /// By its token.
    Token(String),
    /// By its id, as it is listed for them.
    Id(InvitationId),
}

/// A newcomer with an invitation.
#[derive(Debug)]
pub struct Registration {
    /// The invitation's token.
    pub token: String,
    /// Their name.
    pub name: String,
    /// Their password.
    pub password: String,
}

/// Inviting, and being invited.
pub struct Invitations {
    ports: Ports,
    live: Arc<Live>,
    auth: Arc<Auth>,
    idempotency: Arc<Idempotency>,
}

impl Invitations {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, live: Arc<Live>, auth: Arc<Auth>, idempotency: Arc<Idempotency>) -> Self {
        Self { ports, live, auth, idempotency }
    }

    /// Invites whoever has this address, and gives the token that shows it. An earlier invitation of theirs is void. The member came in with
    /// [`Right::Invite`].
    ///
    /// # Errors
    /// `Invalid`; `Conflict(AlreadyMember)`; `IdempotencyKeyReused`; `NotFound(Invitation)` for a repeated request whose invitation was used
    /// or taken back; `Forbidden`, or `NotFound(Workspace)`, for a member who lost the right meanwhile.
    pub async fn invite(
        &self,
        member: &Member,
        email: &str,
        role: Role,
        request: Option<Repeatable>,
    ) -> Result<(Invited, InvitationToken), Error> {
        let email = &Email::parse("email", email)?;
        let first = |stamp| self.make(member, email, role, stamp);
        let again = |made: Made| async move {
            let invited = self.ports.workspaces.invitation(made.id.into()).await?;
            let here = invited.filter(|invited| invited.invitation.workspace == member.workspace());
            here.ok_or(Error::NotFound(Kind::Invitation))
        };
        let invited = self.idempotency.once(member.actor().user().id, request, first, again).await?;
        let token = InvitationToken::of(self.auth.key(), invited.invitation.id);
        Ok((invited, token))
    }

    async fn make(&self, member: &Member, email: &Email, role: Role, stamp: Stamp) -> Result<Invited, Error> {
        let workspace = member.workspace();
        deciding_again(|| async {
            let membership = member.still(&self.ports, Right::Invite).await?;
            // Looked for before the member is: where it is accepted in between, it can't be deleted any more, and they are found to be a member.
            let earlier = self.ports.workspaces.invitation_to(workspace, email).await?;
            if let Some(user) = self.ports.users.user_by_email(email).await?
                && self.ports.workspaces.membership(workspace, user.id).await?.is_some()
            {
                return Err(Stale::Ended(Error::Conflict(Obstacle::AlreadyMember)));
            }
            let mut changes = Changes::new().expect_member(&membership);
            if let Some(earlier) = earlier {
                changes = changes.delete(earlier.invitation);
            }
            let (id, now) = (self.ports.new_id(), self.ports.clock.now());
            let invitation = Invitation {
                id,
                workspace,
                email: email.clone(),
                role,
                invited_by: Author::from(member.actor().user()),
                token: InvitationToken::of(self.auth.key(), id).hash(),
                created_at: now,
                expires_at: now + invitation::LIFETIME,
                version: Version::FIRST,
            };
            let inserted = changes.changes().len();
            let changes = changes.insert(invitation.clone());
            let made = Made { id: *id.as_uuid(), reply: None };
            match self.ports.work.commit(stamp.add(changes, made)).await {
                Ok(_) => Ok(Invited { invitation, workspace_name: member.joined().workspace.name.clone() }),
                // Somebody else has just invited them too: theirs is the earlier one.
                Err(failure) if failure.conflict() == Some((Conflict::Duplicate, inserted)) => Err(Stale::Again),
                Err(failure) => Err(failure.into()),
            }
        })
        .await
    }

    /// The invitations into the workspace that stand, newest first. The member came in with [`Right::Invite`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(
        &self,
        member: &Member,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>, Error> {
        Ok(self.ports.workspaces.invitations_into(member.workspace(), self.ports.clock.now(), page).await?)
    }

    /// Takes an invitation back. The member came in with [`Right::Invite`].
    ///
    /// # Errors
    /// `NotFound(Invitation)` where it is none of the workspace that stands; `Forbidden`, or `NotFound(Workspace)`, for a member who lost the
    /// right meanwhile.
    pub async fn revoke(&self, member: &Member, id: InvitationId) -> Result<(), Error> {
        deciding_again(|| async {
            let membership = member.still(&self.ports, Right::Invite).await?;
            let changes = Changes::new().expect_member(&membership);
            let found = self.ports.workspaces.invitation(id).await?.map(|invited| invited.invitation);
            let here =
                found.filter(|found| found.workspace == member.workspace() && found.stands(self.ports.clock.now()));
            let invitation = here.ok_or(Error::NotFound(Kind::Invitation))?;
            self.ports.work.commit(changes.delete(invitation)).await?;
            Ok(())
        })
        .await
    }

    /// The invitations that are addressed to the actor and stand, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn addressed_to(
        &self,
        actor: &Actor,
        page: PageRequest<InvitationId>,
    ) -> Result<Page<Invited, InvitationId>, Error> {
        Ok(self.ports.workspaces.invitations_of(&actor.user().email, self.ports.clock.now(), page).await?)
    }

    /// Joins the workspace that the actor is invited into; the invitation is spent.
    ///
    /// # Errors
    /// `NotFound(Invitation)` unless it stands, whoever made it may still invite, and it is addressed to the actor; `Conflict(AlreadyMember)`; `Conflict(TooManyWorkspaces)`;
    /// `NotFound(Workspace)` for one who was removed as soon as they had joined.
    pub async fn accept(&self, actor: &Actor, which: &Which) -> Result<Joined, Error> {
        let joining = deciding_again(|| async {
            let (user, invited) = self.addressed(actor, which).await?;
            let workspace = invited.invitation.workspace;
            if self.ports.workspaces.membership(workspace, user.id).await?.is_some() {
                return Err(Stale::Ended(Error::Conflict(Obstacle::AlreadyMember)));
            }
            let inviter = self.inviter(&invited.invitation).await?.ok_or(Error::NotFound(Kind::Invitation))?;
            let joining = Joining::by(&invited.invitation, &user, self.ports.clock.now());
            // So that they still are an active user of this address.
            let changes = Changes::new().expect(Ref::User(user.id), user.version);
            match self.ports.work.commit(joining.changes(changes, invited.invitation, &inviter)).await {
                Ok(committed) => Ok((joining, committed.first_event())),
                Err(failure) => Err(joining_failed(failure, || Error::NotFound(Kind::Invitation))),
            }
        });
        let (joining, number) = joining.await?;
        let workspace = joining.membership.workspace;
        self.tell(joining, number);
        self.ports.workspaces.joined(workspace, actor.user().id).await?.ok_or(Error::NotFound(Kind::Workspace))
    }

    /// Turns an invitation down; it is spent.
    ///
    /// # Errors
    /// `NotFound(Invitation)` unless it stands and is addressed to the actor.
    pub async fn decline(&self, actor: &Actor, which: &Which) -> Result<(), Error> {
        deciding_again(|| async {
            let (_, invited) = self.addressed(actor, which).await?;
            self.ports.work.commit(Changes::new().delete(invited.invitation)).await?;
            Ok(())
        })
        .await
    }

    /// Makes an account for a newcomer with the invited address, signs them in, and lets them join: all at once.
    ///
    /// # Errors
    /// `Unauthenticated(InvitationToken)` unless the invitation stands; `Invalid`; `Conflict(EmailTaken)` for those who have an account: they
    /// sign in and accept.
    pub async fn register(&self, new: Registration, device: Device) -> Result<SignedIn, Error> {
        let unknown = || Error::Unauthenticated(Unauthenticated::InvitationToken);
        let which = Which::Token(new.token);
        let invited = self.standing(&which).await?.ok_or_else(unknown)?;
        let account = NewAccount::check(invited.invitation.email.as_str(), new.name, new.password)?;
        let NewAccount { email, name, password } = account;
        if self.ports.users.user_by_email(&email).await?.is_some() {
            return Err(Error::Conflict(Obstacle::EmailTaken));
        }
        let password = self.ports.passwords.hash(password).await?;
        let now = self.ports.clock.now();
        let user = User::new(self.ports.new_id(), email, name, password, now);
        let (session, tokens) = self.auth.open(&user, device, now)?;
        let (joining, number) = deciding_again(|| async {
            let Invited { invitation, .. } = self.standing(&which).await?.ok_or_else(unknown)?;
            let inviter = self.inviter(&invitation).await?.ok_or_else(unknown)?;
            let joining = Joining::by(&invitation, &user, now);
            let changes = Changes::new().insert(user.clone()).insert(session.clone());
            match self.ports.work.commit(joining.changes(changes, invitation, &inviter)).await {
                Ok(committed) => Ok((joining, committed.first_event())),
                Err(failure) if failure.conflict() == Some((Conflict::Duplicate, 0)) => {
                    Err(Stale::Ended(Error::Conflict(Obstacle::EmailTaken)))
                }
                Err(failure) => Err(joining_failed(failure, unknown)),
            }
        })
        .await?;
        self.tell(joining, number);
        Ok(SignedIn { user, tokens })
    }

    /// The invitation that is meant, while it stands.
    async fn standing(&self, which: &Which) -> Result<Option<Invited>, Failure> {
        let (id, token) = match which {
            Which::Id(id) => (*id, None),
            Which::Token(text) => match InvitationToken::parse(self.auth.key(), text) {
                Some(token) => (token.invitation, Some(token.hash())),
                None => return Ok(None),
            },
        };
        let found = self.ports.workspaces.invitation(id).await?;
        Ok(found.filter(|Invited { invitation, .. }| {
            invitation.stands(self.ports.clock.now()) && token.is_none_or(|token| token == invitation.token)
        }))
    }

    /// The membership of whoever made an invitation, if they still may invite: nobody grants what they lost.
    async fn inviter(&self, invitation: &Invitation) -> Result<Option<Membership>, Failure> {
        let inviter = self.ports.workspaces.membership(invitation.workspace, invitation.invited_by.id).await?;
        Ok(inviter.filter(|inviter| Right::Invite.is_held_by(inviter.role)))
    }

    /// The invitation that is meant, where it is addressed to the actor as they are now.
    async fn addressed(&self, actor: &Actor, which: &Which) -> Result<(User, Invited), Error> {
        let user = self.ports.users.user(actor.user().id).await?.filter(|user| user.is_active);
        let invited = self.standing(which).await?;
        let both = user.zip(invited).filter(|(user, invited)| invited.invitation.email == user.email);
        both.ok_or(Error::NotFound(Kind::Invitation))
    }

    fn tell(&self, joining: Joining, number: u64) {
        let workspace = joining.membership.workspace;
        self.live.publish(workspace, number, LiveEvent::MemberJoined(joining.participant()));
    }
}

/// Somebody who becomes a member.
struct Joining {
    membership: Membership,
    name: String,
    email: Email,
}

impl Joining {
    fn by(invitation: &Invitation, user: &User, now: Timestamp) -> Self {
        let membership = Membership {
            workspace: invitation.workspace,
            user: user.id,
            role: invitation.role,
            joined_at: now,
            version: Version::FIRST,
        };
        Self { membership, name: user.name.clone(), email: user.email.clone() }
    }

    /// Adds all that goes with it. The invitation is spent: whoever comes second finds it gone.
    fn changes(&self, changes: Changes, invitation: Invitation, inviter: &Membership) -> Changes {
        let Membership { workspace, user, joined_at, .. } = self.membership;
        changes
            .expect_member(inviter)
            .delete(invitation)
            .insert(self.membership.clone())
            .add(Counter::Members(workspace), 1, None)
            .add(Counter::Memberships(user), 1, Some(MOST_WORKSPACES))
            .emit(Event { workspace, kind: EventKind::MemberJoined(user), at: joined_at })
    }

    fn participant(self) -> Participant {
        Participant { membership: self.membership, name: self.name, email: self.email }
    }
}

fn joining_failed(failure: Failure, gone: impl Fn() -> Error) -> Stale {
    match failure.conflict() {
        Some((Conflict::Ceiling, _)) => Stale::Ended(Error::Conflict(Obstacle::TooManyWorkspaces)),
        Some((Conflict::MissingParent, _)) => Stale::Ended(gone()),
        // They became a member in another way, at the same time.
        Some((Conflict::Duplicate, _)) => Stale::Again,
        _ => failure.into(),
    }
}

#[cfg(test)]
mod tests;
