//! What people do with the product, one file a subject.
//!
//! Rights are types: the only way to an [`Actor`](auth::Actor) is a token that verifies, the only way to a [`Member`](workspaces::Member) is a
//! membership that holds the right, and the only way to an [`InChat`](chats::InChat) is a member who may see that chat.

pub mod auth;
#[cfg(test)]
mod cast;
pub mod chats;
pub mod housekeeping;
pub mod idempotency;
pub mod invitations;
pub mod live;
pub mod members;
pub mod models;
pub mod operator;
mod prompt;
pub mod reply;
pub mod status;
pub mod title;
pub mod users;
pub mod workspaces;

use std::sync::Arc;

use crate::error::{Conflict, Error, Failure, Obstacle};
use crate::model::chat::{ReplyCaps, ReplyLimits};
use crate::model::secret::{Secret, ServerKey};
use crate::model::session::Lifetimes;
use crate::port::Ports;

/// What an operator may set of the use cases.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's own key.
    pub key: ServerKey,
    /// Of tokens and sessions.
    pub lifetimes: Lifetimes,
    /// What a stranger must know to make the first administrator, where that is wanted.
    pub setup_token: Option<Secret>,
    /// The model of chats that name none; without it, the first of the first provider.
    pub default_model: Option<String>,
    /// Bounds of every reply.
    pub reply: ReplyLimits,
    /// How many may run at once.
    pub caps: ReplyCaps,
    /// Whether chats without a title are given one by their model.
    pub titles: bool,
}

/// All use cases over one set of ports.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is the use cases of its type")]
pub struct UseCases {
    pub auth: Arc<auth::Auth>,
    pub users: Arc<users::Users>,
    pub workspaces: Arc<workspaces::Workspaces>,
    pub members: Arc<members::Members>,
    pub invitations: Arc<invitations::Invitations>,
    pub idempotency: Arc<idempotency::Idempotency>,
    pub housekeeping: Arc<housekeeping::Housekeeping>,
    pub chats: Arc<chats::Chats>,
    pub models: Arc<models::Models>,
    pub replies: Arc<reply::Replies>,
    pub live: Arc<live::Live>,
    pub status: Arc<status::Status>,
}

impl UseCases {
    /// Puts the use cases over the ports.
    #[must_use]
    pub fn new(ports: &Ports, settings: Settings) -> Self {
        let models = Arc::new(models::Models::new(ports.clone(), settings.default_model.clone()));
        let live = Arc::new(live::Live::new(ports.clone()));
        let titles = Arc::new(title::Titles::new(ports.clone(), live.clone(), models.clone(), settings.titles));
        let bounds = (settings.reply, settings.caps);
        let replies = Arc::new(reply::Replies::new(ports.clone(), live.clone(), models.clone(), titles, bounds));
        let idempotency = Arc::new(idempotency::Idempotency::new(ports.clone(), settings.key.clone()));
        let once = idempotency.clone();
        let auth = Arc::new(auth::Auth::new(ports.clone(), settings));
        Self {
            users: Arc::new(users::Users::new(ports.clone(), live.clone(), once.clone())),
            workspaces: Arc::new(workspaces::Workspaces::new(ports.clone(), models.clone(), once.clone())),
            members: Arc::new(members::Members::new(ports.clone(), live.clone())),
            invitations: Arc::new(invitations::Invitations::new(
                ports.clone(),
                live.clone(),
                auth.clone(),
                once.clone(),
            )),
            chats: Arc::new(chats::Chats::new(ports.clone(), live.clone(), models.clone(), replies.clone(), once)),
            housekeeping: Arc::new(housekeeping::Housekeeping::new(ports.clone())),
            status: Arc::new(status::Status::new(ports.clone(), replies.clone())),
            auth,
            idempotency,
            models,
            replies,
            live,
        }
    }
}

/// What a change does to a value: a field left out, given as null, or given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It has no value any more.
    Clear,
    /// It becomes this.
    Set(T),
}

impl<T> Patch<T> {
    /// Checks the new value, if there is one.
    ///
    /// # Errors
    /// What `parse` says.
    pub fn parse<U, E>(self, parse: impl FnOnce(T) -> Result<U, E>) -> Result<Patch<U>, E> {
        Ok(match self {
            Self::Keep => Patch::Keep,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(parse(value)?),
        })
    }

    /// The value after the change.
    #[must_use]
    pub fn apply(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Keep => old,
            Self::Clear => None,
            Self::Set(new) => Some(new),
        }
    }
}

/// How often a step is decided anew because somebody else changed the same row in between.
const ATTEMPTS: usize = 4;

/// Runs a step that reads, decides and commits; runs it again while the commit finds that what was read is stale.
async fn deciding_again<T, F>(mut step: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Stale>>,
{
    for _ in 0..ATTEMPTS {
        match step().await {
            Err(Stale::Again) => {}
            Err(Stale::Ended(error)) => return Err(error),
            Ok(value) => return Ok(value),
        }
    }
    Err(Error::Conflict(Obstacle::Concurrent))
}

/// Why a step did not come through.
enum Stale {
    /// What it had read was stale.
    Again,
    /// For a reason that reading again does not change.
    Ended(Error),
}

impl From<Failure> for Stale {
    fn from(failure: Failure) -> Self {
        match failure.conflict() {
            Some((Conflict::Stale, _)) => Self::Again,
            _ => Self::Ended(failure.into()),
        }
    }
}

impl From<Error> for Stale {
    fn from(error: Error) -> Self {
        Self::Ended(error)
    }
}
