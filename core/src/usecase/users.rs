//! Accounts, as administrators manage them.

use super::auth::{Actor, NewAccount};
use crate::change::{Changes, Version};
use crate::error::{Conflict, Error, Obstacle};
use crate::model::user::{GlobalRole, User};
use crate::port::Ports;

/// An account to be made.
#[derive(Debug)]
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

/// Managing accounts.
pub struct Users {
    ports: Ports,
}

impl Users {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `Forbidden` unless the actor is an administrator; `Invalid`; `Conflict(EmailTaken)`.
    pub async fn create(&self, actor: &Actor, new: NewUser) -> Result<User, Error> {
        actor.require_admin()?;
        let NewAccount { email, name, password } = NewAccount::check(&new.email, new.name, new.password)?;
        if self.ports.users.user_by_email(&email).await?.is_some() {
            return Err(Error::Conflict(Obstacle::EmailTaken));
        }
        let password = self.ports.passwords.hash(password).await?;
        let now = self.ports.clock.now();
        let user = User {
            id: self.ports.new_id(),
            email,
            name,
            role: new.role,
            is_active: true,
            must_change_password: new.must_change_password,
            password,
            credentials_epoch: 0,
            created_at: now,
            updated_at: now,
            version: Version::FIRST,
        };
        match self.ports.work.commit(Changes::new().insert(user.clone())).await {
            Ok(_) => Ok(user),
            Err(failure) if failure.conflict().is_some_and(|(conflict, _)| conflict == Conflict::Duplicate) => {
                Err(Error::Conflict(Obstacle::EmailTaken))
            }
            Err(failure) => Err(failure.into()),
        }
    }
}
