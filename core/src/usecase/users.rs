//! Accounts, as administrators manage them and as their owners change their own.

mod farewell;

use std::sync::Arc;

use farewell::Farewell;

use super::auth::{self, Actor, NewAccount};
use super::idempotency::{Idempotency, Stamp};
use super::live::Live;
use super::{Stale, deciding_again};
use crate::change::{Changes, Ref};
use crate::error::{Checks, Conflict, Error, Forbidden, Kind, Obstacle, Unauthenticated, Violation};
use crate::id::UserId;
use crate::model::idempotency::{Made, Repeatable};
use crate::model::password::{Password, PasswordHash};
use crate::model::text;
use crate::model::user::{Email, GlobalRole, User};
use crate::page::{Limit, Page, PageRequest};
use crate::policy::GlobalRight;
use crate::port::Ports;
use crate::port::store::UserFilter;
use crate::time::Timestamp;

/// An account that the actor may see: their own, or any where they manage accounts. Made by [`Users::open`] alone.
#[derive(Clone, Debug)]
pub struct Account {
    actor: Actor,
    user: User,
}

impl Account {
    /// Whose it is.
    #[must_use]
    pub const fn user(&self) -> &User {
        &self.user
    }

    fn is_own(&self) -> bool {
        self.user.id == self.actor.user().id
    }
}

/// An account to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their first password.
    pub password: String,
    /// Their installation-wide role.
    pub role: GlobalRole,
    /// Whether they must replace the password before anything else.
    pub must_change_password: bool,
}

/// What is to change of an account; what is none stays.
#[derive(Debug, Default)]
pub struct UserChange {
    /// Their address.
    pub email: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// Their installation-wide role. Not one's own.
    pub role: Option<GlobalRole>,
    /// Whether they may sign in. Not for oneself.
    pub is_active: Option<bool>,
    /// Another first password, to be replaced by its owner. Not for oneself.
    pub password: Option<String>,
    /// Needed to change one's own address.
    pub current_password: Option<String>,
}

/// A [`UserChange`] that was checked, but for what the present state has against it.
struct Checked {
    email: Option<Email>,
    name: Option<String>,
    role: Option<GlobalRole>,
    is_active: Option<bool>,
    password: Option<PasswordHash>,
    /// The password that the actor has shown to know.
    proved: Option<PasswordHash>,
}

impl Checked {
    /// The user after the change.
    fn apply(&self, user: User, now: Timestamp) -> User {
        let role = self.role.unwrap_or(user.role);
        let is_active = self.is_active.unwrap_or(user.is_active);
        let ends_sessions = role != user.role || (user.is_active && !is_active);
        let user = User {
            email: self.email.clone().unwrap_or(user.email),
            name: self.name.clone().unwrap_or(user.name),
            role,
            is_active,
            updated_at: now,
            ..user
        };
        let user = if ends_sessions { user.signed_out() } else { user };
        match &self.password {
            Some(password) => User { must_change_password: true, ..user }.with_password(password.clone(), now),
            None => user,
        }
    }
}

/// Managing accounts.
pub struct Users {
    ports: Ports,
    live: Arc<Live>,
    idempotency: Arc<Idempotency>,
}

impl Users {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, live: Arc<Live>, idempotency: Arc<Idempotency>) -> Self {
        Self { ports, live, idempotency }
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `Forbidden` unless the actor manages accounts; `Unauthenticated(Token)` for one who was signed out meanwhile; `Invalid`;
    /// `Conflict(EmailTaken)`; `IdempotencyKeyReused`; `NotFound(User)` for a repeated request whose account is gone.
    pub async fn create(&self, actor: &Actor, new: NewUser, request: Option<Repeatable>) -> Result<User, Error> {
        actor.require(GlobalRight::ManageUsers)?;
        let first = |stamp| self.make(actor, new.clone(), stamp);
        let again = |made: Made| self.find(made.id.into());
        self.idempotency.once(actor.user().id, request, first, again).await
    }

    async fn make(&self, actor: &Actor, new: NewUser, stamp: Stamp) -> Result<User, Error> {
        let NewAccount { email, name, password } = NewAccount::check(&new.email, new.name, new.password)?;
        if self.ports.users.user_by_email(&email).await?.is_some() {
            return Err(Error::Conflict(Obstacle::EmailTaken));
        }
        let password = self.ports.passwords.hash(password).await?;
        let now = self.ports.clock.now();
        let user = User {
            role: new.role,
            must_change_password: new.must_change_password,
            ..User::new(self.ports.new_id(), email, name, password, now)
        };
        let made = Made { id: *user.id.as_uuid(), reply: None };
        deciding_again(|| async {
            let changes = self.as_manager(actor, user.id).await?.insert(user.clone());
            match self.ports.work.commit(stamp.add(changes, made)).await {
                Ok(_) => Ok(user.clone()),
                Err(failure) if failure.is_conflict(Conflict::Duplicate) => {
                    Err(Stale::Ended(Error::Conflict(Obstacle::EmailTaken)))
                }
                Err(failure) => Err(failure.into()),
            }
        })
        .await
    }

    /// Begins a unit of work that comes through only while the actor manages accounts. Where `changed` is their own one, its row is among the
    /// changes and speaks for itself.
    async fn as_manager(&self, actor: &Actor, changed: UserId) -> Result<Changes, Error> {
        let acting = actor.still(&self.ports).await?;
        acting.require(GlobalRight::ManageUsers)?;
        let (id, version) = (acting.user().id, acting.user().version);
        Ok(if id == changed { Changes::new() } else { Changes::new().expect(Ref::User(id), version) })
    }

    /// The accounts of the installation, newest first; `query` is looked for in their addresses and names.
    ///
    /// # Errors
    /// `Forbidden` unless the actor manages accounts.
    pub async fn list(
        &self,
        actor: &Actor,
        mut filter: UserFilter,
        page: PageRequest<UserId>,
    ) -> Result<Page<User, UserId>, Error> {
        actor.require(GlobalRight::ManageUsers)?;
        filter.query = filter.query.map(|query| text::folded(query.trim())).filter(|query| !query.is_empty());
        if filter.query.as_ref().is_some_and(|query| query.chars().any(char::is_control)) {
            // No address and no name has any.
            return Ok(Page { items: Vec::new(), next: None });
        }
        Ok(self.ports.users.users(filter, page).await?)
    }

    /// Lets the actor at an account that they may see.
    ///
    /// # Errors
    /// `NotFound(User)` for anybody else's, unless the actor manages accounts.
    pub async fn open(&self, actor: Actor, id: UserId) -> Result<Account, Error> {
        let user = if id == actor.user().id {
            actor.user().clone()
        } else if actor.require(GlobalRight::ManageUsers).is_ok() {
            self.find(id).await?
        } else {
            return Err(Error::NotFound(Kind::User));
        };
        Ok(Account { actor, user })
    }

    async fn find(&self, id: UserId) -> Result<User, Error> {
        self.ports.users.user(id).await?.ok_or(Error::NotFound(Kind::User))
    }

    /// Changes an account. Another role, another password and a deactivation end its sessions at once.
    ///
    /// # Errors
    /// `Invalid`; `Conflict(LastAdmin)`, before anything is said about one's own account; `Forbidden(OwnAccount)` for what only another
    /// administrator may change; `Unauthenticated(Credentials)` when `current_password` is wrong, or no longer the current one;
    /// `Conflict(EmailTaken)`; `NotFound(User)` when it is gone by now; `Unauthenticated(Token)` for an actor who was signed out meanwhile.
    pub async fn change(&self, account: &Account, change: UserChange) -> Result<User, Error> {
        if account.is_own() && (change.role.is_some() || change.is_active.is_some() || change.password.is_some()) {
            return Err(self.refuse_own(account, &change).await);
        }
        let checked = self.check(account, change).await?;
        deciding_again(|| async {
            let mut changes = if account.is_own() {
                account.actor.still(&self.ports).await?;
                Changes::new()
            } else {
                self.as_manager(&account.actor, account.user.id).await?
            };
            let old = self.find(account.user.id).await?;
            let changed = checked.apply(old.clone(), self.ports.clock.now());
            if old.is_active_admin() && !changed.is_active_admin() {
                changes = self.without_admin(&old, changes).await?;
            }
            if changed == (User { updated_at: changed.updated_at, ..old.clone() }) {
                return Ok(old);
            }
            if changed.email != old.email {
                if account.is_own() && checked.proved.as_ref() != Some(&old.password) {
                    // What was proved is no longer the current password; or nothing was, as the address was theirs when they asked for it.
                    return Err(Stale::Ended(Error::Unauthenticated(Unauthenticated::Credentials)));
                }
                if self.ports.users.user_by_email(&changed.email).await?.is_some() {
                    return Err(Stale::Ended(Error::Conflict(Obstacle::EmailTaken)));
                }
            }
            match self.ports.work.commit(changes.update(changed.clone())).await {
                Ok(_) => Ok(User { version: changed.version.next(), ..changed }),
                Err(failure) if failure.is_conflict(Conflict::Duplicate) => {
                    Err(Stale::Ended(Error::Conflict(Obstacle::EmailTaken)))
                }
                Err(failure) => Err(failure.into()),
            }
        })
        .await
    }

    /// Why nobody changes these things of their own account.
    async fn refuse_own(&self, account: &Account, change: &UserChange) -> Error {
        let demoted = change.role == Some(GlobalRole::User) || change.is_active == Some(false);
        if account.user.is_active_admin() && demoted {
            match self.ports.users.another_admin(account.user.id).await {
                Ok(true) => {}
                Ok(false) => return Error::Conflict(Obstacle::LastAdmin),
                Err(failure) => return failure.into(),
            }
        }
        Error::Forbidden(Forbidden::OwnAccount)
    }

    /// Checks all that can be checked before the account is read again, and the actor's own password where that is needed.
    async fn check(&self, account: &Account, change: UserChange) -> Result<Checked, Error> {
        let user = &account.user;
        let mut checks = Checks::new();
        let email = checks.take(change.email.map(|email| Email::parse("email", &email)).transpose());
        let name = checks.take(change.name.map(|name| text::name("name", name)).transpose());
        let local_part = email.as_ref().and_then(Option::as_ref).unwrap_or(&user.email).local_part().to_owned();
        let context = [name.as_ref().and_then(Option::as_deref).unwrap_or(&user.name), local_part.as_str()];
        let password = change.password.map(|password| Password::choose("password", password, &context)).transpose();
        let password = checks.take(password);
        let moves = account.is_own() && matches!(&email, Some(Some(email)) if *email != user.email);
        let current = match (moves, change.current_password) {
            (true, None) => {
                let needed = "is needed to change one's own email";
                checks.take(Err(Violation::new("current_password", needed)))
            }
            (true, Some(current)) => Some(Some(current)),
            (false, _) => Some(None),
        };
        let all = email.zip(name).zip(password.zip(current));
        let ((email, name), (password, current)) = checks.done(all)?;
        let proved = match current {
            Some(current) => {
                auth::prove(&self.ports, &user.password, current).await?;
                Some(user.password.clone())
            }
            None => None,
        };
        let password = match password {
            Some(password) => Some(self.ports.passwords.hash(password).await?),
            None => None,
        };
        Ok(Checked { email, name, role: change.role, is_active: change.is_active, password, proved })
    }

    /// The changes that go with one administrator less. Who is an administrator goes through the installation's version, so that two commits
    /// that each leave somebody can't leave nobody together.
    async fn without_admin(&self, admin: &User, changes: Changes) -> Result<Changes, Stale> {
        let installation = self.ports.users.installation().await?;
        if !self.ports.users.another_admin(admin.id).await? {
            return Err(Stale::Ended(Error::Conflict(Obstacle::LastAdmin)));
        }
        Ok(match installation {
            Some(installation) => changes.update(installation),
            None => changes,
        })
    }

    /// Ends all sessions of an account.
    ///
    /// # Errors
    /// `Forbidden` unless the actor manages accounts; `Unauthenticated(Token)` for one who was signed out meanwhile; `NotFound(User)`.
    pub async fn end_sessions(&self, actor: &Actor, id: UserId) -> Result<(), Error> {
        actor.require(GlobalRight::ManageUsers)?;
        deciding_again(|| async {
            let changes = self.as_manager(actor, id).await?;
            let user = self.find(id).await?;
            self.ports.work.commit(changes.update(user.signed_out())).await?;
            Ok(())
        })
        .await
    }

    /// Deletes an account. What they wrote stays. Workspaces of which they are the only OWNER go to `heir`, who becomes a member where they
    /// were none.
    ///
    /// # Errors
    /// `Forbidden` unless the actor manages accounts; `Unauthenticated(Token)` for one who was signed out meanwhile; `NotFound(User)`;
    /// `Conflict(LastAdmin)`; `Conflict(SoleOwner)` where there is no heir; `Invalid` for an heir who is no other active user.
    pub async fn delete(&self, actor: &Actor, id: UserId, heir: Option<UserId>) -> Result<(), Error> {
        actor.require(GlobalRight::ManageUsers)?;
        let told = deciding_again(|| async {
            let changes = self.as_manager(actor, id).await?;
            let user = self.find(id).await?;
            let mut farewell = Farewell::of(&self.ports, changes, heir, id).await?;
            if user.is_active_admin() {
                farewell.changes = self.without_admin(&user, farewell.changes).await?;
            }
            let mut page = PageRequest { after: None, limit: Limit::MOST };
            loop {
                let Page { items, next } = self.ports.workspaces.workspaces_of(id, page).await?;
                for joined in items {
                    farewell.leave(joined).await?;
                }
                match next {
                    Some(after) => page.after = Some(after),
                    None => break,
                }
            }
            farewell.commit(&user).await
        })
        .await?;
        for (workspace, number, event) in told {
            self.live.publish(workspace, number, event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
