//! Who somebody is: the first administrator, signing in, staying signed in, signing out.

use std::time::Duration;

use super::{Settings, Stale, deciding_again};
use crate::change::{Changes, Version};
use crate::error::{Checks, Conflict, Error, Forbidden, Kind, Obstacle, Unauthenticated};
use crate::id::{ChatId, SessionId, UserId, WorkspaceId};
use crate::model::chat::Chat;
use crate::model::installation::Installation;
use crate::model::password::{Password, PasswordHash};
use crate::model::secret::{Secret, ServerKey};
use crate::model::session::{Device, Presented, RefreshToken, Session};
use crate::model::text;
use crate::model::user::{Email, GlobalRole, User};
use crate::model::workspace::Joined;
use crate::page::{Page, PageRequest};
use crate::policy::GlobalRight;
use crate::port::Ports;
use crate::port::passwords::Verdict;
use crate::port::store::Arrival;
use crate::port::tokens::Claims;
use crate::time::Timestamp;

/// How often it is noted at most that a session is used.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// A user who has proved who they are. Made by [`Auth`] alone, from a token that verifies and a session that stands.
#[derive(Clone, Debug)]
pub struct Actor {
    user: User,
    session: SessionId,
}

impl Actor {
    /// Who.
    #[must_use]
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// On which device.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Lets those through who hold the right, and nobody else.
    ///
    /// # Errors
    /// `Forbidden`.
    pub const fn require(&self, right: GlobalRight) -> Result<(), Error> {
        if right.is_held_by(self.user.role) { Ok(()) } else { Err(Error::Forbidden(Forbidden::Role)) }
    }

    /// The actor as they are now: for a unit of work that expects their account to stay so.
    ///
    /// # Errors
    /// `Unauthenticated(Token)` for whoever was signed out meanwhile, as one is by a change of one's role.
    pub(super) async fn still(&self, ports: &Ports) -> Result<Self, Error> {
        let (session, user) = ports.sessions.session(self.session).await?.ok_or_else(unknown)?;
        self.unchanged(&session, user, ports.clock.now())
    }

    /// As [`still`](Self::still), with what they ask for as it is now.
    pub(super) async fn arrive_again(
        &self,
        ports: &Ports,
        workspace: WorkspaceId,
        chat: Option<ChatId>,
    ) -> Result<Arrived, Error> {
        let arrival = ports.sessions.arrival(self.session, workspace, chat).await?;
        let Arrival { session, user, joined, chat } = arrival.ok_or_else(unknown)?;
        Ok(Arrived { actor: self.unchanged(&session, user, ports.clock.now())?, joined, chat })
    }

    fn unchanged(&self, session: &Session, user: User, now: Timestamp) -> Result<Self, Error> {
        if !still_stands(session, &user, (self.user.id, self.user.role), now) {
            return Err(unknown());
        }
        Ok(Self { user, session: self.session })
    }
}

/// Somebody who has arrived: signed in, and with what they ask for in hand. What of it they may have, they get by the right that they name:
/// [`member`](Self::member) and [`in_chat`](Self::in_chat).
#[derive(Clone, Debug)]
pub struct Arrived {
    pub(super) actor: Actor,
    pub(super) joined: Option<Joined>,
    pub(super) chat: Option<Chat>,
}

/// The tokens of a session.
#[derive(Debug)]
pub struct Tokens {
    /// For the `Authorization` header.
    pub access: Secret,
    /// For `POST /auth/refresh`.
    pub refresh: RefreshToken,
    /// How long the access token stands.
    pub expires_in: Duration,
    /// How long the refresh token stands.
    pub refresh_expires_in: Duration,
}

/// Somebody who has just signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who.
    pub user: User,
    /// Their tokens.
    pub tokens: Tokens,
}

/// What makes the first administrator.
#[derive(Debug)]
pub struct Setup {
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their password.
    pub password: String,
    /// The setup token, where the operator asks for one.
    pub setup_token: Option<String>,
}

/// Signing in and out.
pub struct Auth {
    ports: Ports,
    settings: Settings,
}

impl Auth {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, settings: Settings) -> Self {
        Self { ports, settings }
    }

    /// The server's own key.
    pub(super) const fn key(&self) -> &ServerKey {
        &self.settings.key
    }

    /// Makes the first administrator, once.
    ///
    /// # Errors
    /// `Conflict(SetupCompleted)` ever after, also for all but one of those who try at once; `Invalid`; `Unauthenticated(SetupToken)` without
    /// it, where one is configured.
    pub async fn setup(&self, setup: Setup, device: Device) -> Result<SignedIn, Error> {
        if self.ports.users.installation().await?.is_some() {
            return Err(Error::Conflict(Obstacle::SetupCompleted));
        }
        if let Some(expected) = &self.settings.setup_token {
            let hash = |text: &str| self.settings.key.mac("setup-token", &[text.as_bytes()]);
            if hash(expected.expose()) != hash(setup.setup_token.as_deref().unwrap_or_default()) {
                return Err(Error::Unauthenticated(Unauthenticated::SetupToken));
            }
        }
        let NewAccount { email, name, password } = NewAccount::check(&setup.email, setup.name, setup.password)?;
        let password = self.ports.passwords.hash(password).await?;
        let now = self.ports.clock.now();
        let installation = installation(&self.ports, &self.settings, now);
        let user = User { role: GlobalRole::Admin, ..User::new(self.ports.new_id(), email, name, password, now) };
        let (session, tokens) = self.open(&user, device, now)?;
        let changes = Changes::new().insert(installation).insert(user.clone()).insert(session);
        match self.ports.work.commit(changes).await {
            Ok(_) => Ok(SignedIn { user, tokens }),
            Err(failure) if failure.conflict() == Some((Conflict::Duplicate, 0)) => {
                Err(Error::Conflict(Obstacle::SetupCompleted))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Signs in with email and password.
    ///
    /// # Errors
    /// `Unauthenticated(Credentials)`, after the same time, whether the address is unknown, the password wrong or the account inactive.
    pub async fn login(&self, email: &str, password: String, device: Device) -> Result<SignedIn, Error> {
        let wrong = Error::Unauthenticated(Unauthenticated::Credentials);
        let user = match Email::parse("email", email) {
            Ok(email) => self.ports.users.user_by_email(&email).await?,
            Err(_) => None,
        };
        let Some(password) = Password::presented(password) else { return Err(wrong) };
        let hash = user.as_ref().map(|user| user.password.clone());
        let verdict = self.ports.passwords.verify(password.clone(), hash).await?;
        let Some(user) = user.filter(|user| user.is_active && verdict != Verdict::Wrong) else { return Err(wrong) };
        let now = self.ports.clock.now();
        let (session, tokens) = self.open(&user, device, now)?;
        match self.ports.work.commit(Changes::new().insert(session)).await {
            Ok(_) => {}
            // Their account was deleted meanwhile.
            Err(failure) if failure.is_conflict(Conflict::MissingParent) => return Err(wrong),
            Err(failure) => return Err(failure.into()),
        }
        if verdict == Verdict::RightButWeak
            && let Ok(stronger) = self.ports.passwords.hash(password).await
        {
            let strengthened = User { password: stronger, ..user.clone() };
            // They are signed in by now. If this fails, the next login does it.
            let _ = self.ports.work.commit(Changes::new().update(strengthened)).await;
        }
        Ok(SignedIn { user, tokens })
    }

    /// Trades a refresh token for a new pair.
    ///
    /// # Errors
    /// `Unauthenticated(RefreshToken)`; `Unauthenticated(RefreshTokenReused)` for a spent one, which ends the whole session.
    pub async fn refresh(&self, token: &str) -> Result<Tokens, Error> {
        let refused = || Error::Unauthenticated(Unauthenticated::RefreshToken);
        let token = RefreshToken::parse(&self.settings.key, token).ok_or_else(refused)?;
        deciding_again(|| async {
            let (session, user) = self.ports.sessions.session(token.session).await?.ok_or_else(refused)?;
            let now = self.ports.clock.now();
            if !user.is_active || !session.stands(now, user.credentials_epoch) {
                return Err(Stale::Ended(refused()));
            }
            let random = self.ports.random();
            match session.present(&self.settings.key, &token, now, &self.settings.lifetimes, &random) {
                Presented::Rotated(session, next) => {
                    let tokens = self.tokens(&user, &session, next, now)?;
                    self.ports.work.commit(Changes::new().update(*session)).await?;
                    Ok(tokens)
                }
                Presented::Reused(session) => {
                    self.ports.work.commit(Changes::new().update(*session)).await?;
                    Err(Stale::Ended(Error::Unauthenticated(Unauthenticated::RefreshTokenReused)))
                }
                Presented::Refused => Err(Stale::Ended(refused())),
            }
        })
        .await
    }

    /// Ends the caller's session.
    ///
    /// # Errors
    /// `Unavailable` when the database is away.
    pub async fn logout(&self, actor: &Actor) -> Result<(), Error> {
        match self.end_session(actor, actor.session).await {
            // It was ended meanwhile.
            Err(Error::NotFound(Kind::Session)) => Ok(()),
            outcome => outcome,
        }
    }

    /// The actor's sessions that stand, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn sessions(
        &self,
        actor: &Actor,
        page: PageRequest<SessionId>,
    ) -> Result<Page<Session, SessionId>, Error> {
        let (user, now) = (&actor.user, self.ports.clock.now());
        Ok(self.ports.sessions.sessions_of(user.id, user.credentials_epoch, now, page).await?)
    }

    /// Ends one of the actor's own sessions.
    ///
    /// # Errors
    /// `NotFound(Session)` where it is none of theirs that stands.
    pub async fn end_session(&self, actor: &Actor, id: SessionId) -> Result<(), Error> {
        deciding_again(|| async {
            let found = self.ports.sessions.session(id).await?;
            let now = self.ports.clock.now();
            let session = found.filter(|(session, user)| stands(session, user, actor.user.id, now));
            let (session, _) = session.ok_or(Error::NotFound(Kind::Session))?;
            self.ports.work.commit(Changes::new().update(Session { ended: true, ..session })).await?;
            Ok(())
        })
        .await
    }

    /// Changes the caller's own password, and ends all their other sessions.
    ///
    /// # Errors
    /// `Unauthenticated(Credentials)` when the current password is wrong; `Invalid` when the new one may not be one.
    pub async fn change_password(&self, actor: &Actor, current: String, new: String) -> Result<(), Error> {
        let context = [actor.user.name.as_str(), actor.user.email.local_part()];
        let new = Password::choose("new_password", new, &context)?;
        if current == new.expose() {
            return Err(Error::invalid("new_password", "must differ from the current password"));
        }
        let old = actor.user.password.clone();
        prove(&self.ports, &old, current).await?;
        let hash = self.ports.passwords.hash(new).await?;
        deciding_again(|| async {
            let (session, user) = self.ports.sessions.session(actor.session).await?.ok_or_else(unknown)?;
            if !stands(&session, &user, actor.user.id, self.ports.clock.now()) {
                // Ended meanwhile: it must not come back to life with the new epoch.
                return Err(Stale::Ended(unknown()));
            }
            if user.password != old {
                // What was proved above is no longer the current password.
                return Err(Stale::Ended(Error::Unauthenticated(Unauthenticated::Credentials)));
            }
            let user = User { must_change_password: false, ..user };
            let user = user.with_password(hash.clone(), self.ports.clock.now());
            let session = Session { epoch: user.credentials_epoch, ..session };
            self.ports.work.commit(Changes::new().update(user).update(session)).await?;
            Ok(())
        })
        .await
    }

    /// Tells who carries this access token.
    ///
    /// # Errors
    /// `Unauthenticated(Token)`, and `Forbidden(PasswordChangeRequired)` for those who must change their password first.
    pub async fn authenticate(&self, token: &str) -> Result<Actor, Error> {
        settled(self.authenticate_for_password_change(token).await?)
    }

    /// Tells who carries this access token, for the few things that somebody may do who must change their password first.
    ///
    /// # Errors
    /// `Unauthenticated(Token)`.
    pub async fn authenticate_for_password_change(&self, token: &str) -> Result<Actor, Error> {
        let (claims, now) = self.verify(token)?;
        let (session, user) = self.ports.sessions.session(claims.session).await?.ok_or_else(unknown)?;
        self.recognise(claims.user, session, user, now)
    }

    /// Tells who carries this access token, and finds what they ask for: a workspace, and maybe a chat of it.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate).
    pub async fn arrive(&self, token: &str, workspace: WorkspaceId, chat: Option<ChatId>) -> Result<Arrived, Error> {
        let (claims, now) = self.verify(token)?;
        let arrival = self.ports.sessions.arrival(claims.session, workspace, chat).await?.ok_or_else(unknown)?;
        let Arrival { session, user, joined, chat } = arrival;
        let actor = settled(self.recognise(claims.user, session, user, now)?)?;
        Ok(Arrived { actor, joined, chat })
    }

    fn verify(&self, token: &str) -> Result<(Claims, Timestamp), Error> {
        let now = self.ports.clock.now();
        Ok((self.ports.tokens.verify(token, now).ok_or_else(unknown)?, now))
    }

    fn recognise(&self, claimed: UserId, session: Session, user: User, now: Timestamp) -> Result<Actor, Error> {
        if !stands(&session, &user, claimed, now) {
            return Err(unknown());
        }
        let actor = Actor { user, session: session.id };
        self.note_use(session, now);
        Ok(actor)
    }

    /// Notes when a session was last used, to the minute. Nobody waits for it, and it does not matter when it fails.
    fn note_use(&self, session: Session, now: Timestamp) {
        if now.since(session.last_used_at) < USE_NOTED_EVERY {
            return;
        }
        let work = self.ports.work.clone();
        let used = Session { last_used_at: now, ..session };
        self.ports.tasks.spawn(Box::pin(async move {
            let _ = work.commit(Changes::new().update(used)).await;
        }));
    }

    /// The public keys that verify access tokens, as a JWK Set in JSON.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.ports.tokens.jwks()
    }

    /// A new session, to be inserted, and its first tokens.
    pub(super) fn open(&self, user: &User, device: Device, now: Timestamp) -> Result<(Session, Tokens), Error> {
        let Settings { key, lifetimes, .. } = &self.settings;
        let of = (user.id, user.credentials_epoch);
        let random = self.ports.random();
        let (session, refresh) = Session::open(key, self.ports.new_id(), of, device, now, lifetimes, &random);
        let tokens = self.tokens(user, &session, refresh, now)?;
        Ok((session, tokens))
    }

    fn tokens(&self, user: &User, session: &Session, refresh: RefreshToken, now: Timestamp) -> Result<Tokens, Error> {
        let expires_in = self.settings.lifetimes.access.min(session.expires_at.since(now));
        let access = self.ports.tokens.sign(&Claims {
            user: user.id,
            session: session.id,
            role: user.role,
            issued_at: now,
            expires_at: now + expires_in,
        })?;
        Ok(Tokens { access, refresh, expires_in, refresh_expires_in: session.expires_at.since(now) })
    }
}

/// The installation, as it is when it is set up by an instance with these keys.
pub(super) fn installation(ports: &Ports, settings: &Settings, now: Timestamp) -> Installation {
    Installation {
        set_up_at: now,
        encryption_key: settings.key.fingerprint(),
        signing_keys: ports.tokens.key_id(),
        version: Version::FIRST,
    }
}

/// Lets those through who know the password.
///
/// # Errors
/// `Unauthenticated(Credentials)`.
pub(super) async fn prove(ports: &Ports, password: &PasswordHash, presented: String) -> Result<(), Error> {
    let wrong = || Error::Unauthenticated(Unauthenticated::Credentials);
    let presented = Password::presented(presented).ok_or_else(wrong)?;
    match ports.passwords.verify(presented, Some(password.clone())).await? {
        Verdict::Wrong => Err(wrong()),
        Verdict::Right | Verdict::RightButWeak => Ok(()),
    }
}

/// Lets nobody through who must change their password first.
fn settled(actor: Actor) -> Result<Actor, Error> {
    if actor.user.must_change_password {
        return Err(Error::Forbidden(Forbidden::PasswordChangeRequired));
    }
    Ok(actor)
}

fn unknown() -> Error {
    Error::Unauthenticated(Unauthenticated::Token)
}

/// Whether a session of this user may be used now.
pub(super) fn stands(session: &Session, user: &User, claimed: UserId, now: Timestamp) -> bool {
    user.id == claimed && session.user == claimed && user.is_active && session.stands(now, user.credentials_epoch)
}

/// Whether a session may still be used by whoever was let in with it before, as the same.
pub(super) fn still_stands(
    session: &Session,
    user: &User,
    (known, role): (UserId, GlobalRole),
    now: Timestamp,
) -> bool {
    stands(session, user, known, now) && user.role == role && !user.must_change_password
}

/// What every new account needs, checked.
pub(super) struct NewAccount {
    pub(super) email: Email,
    pub(super) name: String,
    pub(super) password: Password,
}

impl NewAccount {
    pub(super) fn check(email: &str, name: String, password: String) -> Result<Self, Error> {
        let mut checks = Checks::new();
        let email = checks.take(Email::parse("email", email));
        let name = checks.take(text::name("name", name));
        let local_part = email.as_ref().map_or("", Email::local_part);
        let context = [name.as_deref().unwrap_or_default(), local_part];
        let password = checks.take(Password::choose("password", password, &context));
        let all = match (email, name, password) {
            (Some(email), Some(name), Some(password)) => Some(Self { email, name, password }),
            _ => None,
        };
        checks.done(all)
    }
}

#[cfg(test)]
mod tests;
