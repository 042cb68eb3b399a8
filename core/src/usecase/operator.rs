//! What an operator does at the machine itself, where whoever can read the keys and the database needs no other proof.

use super::auth::{self, NewAccount};
use super::{Settings, Stale, deciding_again};
use crate::change::Changes;
use crate::error::{Conflict, Error, Kind, Obstacle};
use crate::model::password::Password;
use crate::model::user::{Email, GlobalRole, User};
use crate::port::Ports;

/// Making administrators, and letting people in again who forgot their password.
pub struct Operator {
    ports: Ports,
    settings: Settings,
}

impl Operator {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, settings: Settings) -> Self {
        Self { ports, settings }
    }

    /// Makes an administrator: the first one, where there is none yet, else another one.
    ///
    /// # Errors
    /// `Invalid`; `Conflict(EmailTaken)`.
    pub async fn create_admin(&self, email: &str, name: String, password: String) -> Result<User, Error> {
        let NewAccount { email, name, password } = NewAccount::check(email, name, password)?;
        let password = self.ports.passwords.hash(password).await?;
        deciding_again(|| async {
            if self.ports.users.user_by_email(&email).await?.is_some() {
                return Err(Stale::Ended(Error::Conflict(Obstacle::EmailTaken)));
            }
            let now = self.ports.clock.now();
            let user = User::new(self.ports.new_id(), email.clone(), name.clone(), password.clone(), now);
            let user = User { role: GlobalRole::Admin, ..user };
            let mut changes = Changes::new().insert(user.clone());
            if self.ports.users.installation().await?.is_none() {
                changes = changes.insert(auth::installation(&self.ports, &self.settings, now));
            }
            match self.ports.work.commit(changes).await {
                Ok(_) => Ok(user),
                // Somebody took the address, or set the installation up, in between.
                Err(failure) if failure.is_conflict(Conflict::Duplicate) => Err(Stale::Again),
                Err(failure) => Err(failure.into()),
            }
        })
        .await
    }

    /// Gives an account another password, and ends all its sessions.
    ///
    /// # Errors
    /// `Invalid`; `NotFound(User)`.
    pub async fn reset_password(&self, email: &str, password: String, must_change: bool) -> Result<User, Error> {
        let email = Email::parse("email", email)?;
        let find = || async { self.ports.users.user_by_email(&email).await?.ok_or(Error::NotFound(Kind::User)) };
        let user = find().await?;
        let password = Password::choose("password", password, &[&user.name, user.email.local_part()])?;
        let password = self.ports.passwords.hash(password).await?;
        deciding_again(|| async {
            let user = User { must_change_password: must_change, ..find().await? };
            let user = user.with_password(password.clone(), self.ports.clock.now());
            self.ports.work.commit(Changes::new().update(user.clone())).await?;
            Ok(user)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
