//! What may go wrong: [`Failure`] is what a port answers, [`Error`] what a use case answers.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The cause of a failure, kept for the log and never shown to a client.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// One thing that is wrong with what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as it is called in the request: `email`, `parameters.temperature`.
    pub field: String,
    /// What it must be.
    pub message: String,
}

impl Violation {
    /// Says that `field` breaks a rule.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What lies behind a port, in the words an operator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Users, workspaces, chats, messages.
    Database,
    /// The models' servers.
    Inference,
    /// Password hashing.
    Passwords,
    /// The signing of access tokens.
    Tokens,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Inference => "inference",
            Self::Passwords => "password hashing",
            Self::Tokens => "token signing",
        })
    }
}

/// Why a change could not be written. Nothing of its unit of work was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The row is gone or has another version: read again, decide again.
    Stale,
    /// A row with this key stands already.
    Duplicate,
    /// The row that this one belongs to is gone.
    MissingParent,
    /// A counter would pass its ceiling.
    Ceiling,
}

/// What a port may answer in place of a value.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The change at this index of a unit of work could not be made; nothing was written.
    #[error("change {change} conflicts: {conflict:?}")]
    Conflict {
        /// In which way.
        conflict: Conflict,
        /// Which one, counted from zero in the order the use case gave.
        change: usize,
    },
    /// The backend is away or too late. Trying again later may help.
    #[error("{backend} is unavailable")]
    Unavailable {
        /// Which backend.
        backend: Backend,
        /// For the log.
        #[source]
        cause: Cause,
    },
    /// More work waits for the backend than it may take on.
    #[error("{backend} is busy")]
    Busy {
        /// Which backend.
        backend: Backend,
    },
    /// What the backend holds or said makes no sense. Trying again won't help.
    #[error("{backend} answered what cannot be understood")]
    Corrupt {
        /// Which backend.
        backend: Backend,
        /// For the log.
        #[source]
        cause: Cause,
    },
}

impl Failure {
    /// The database is away.
    pub fn database(cause: impl Into<Cause>) -> Self {
        Self::Unavailable { backend: Backend::Database, cause: cause.into() }
    }

    /// What the database holds makes no sense.
    pub fn corrupt(cause: impl Into<Cause>) -> Self {
        Self::Corrupt { backend: Backend::Database, cause: cause.into() }
    }

    /// Whether some change conflicts in this way.
    #[must_use]
    pub fn is_conflict(&self, conflict: Conflict) -> bool {
        self.conflict().is_some_and(|(found, _)| found == conflict)
    }

    /// How a change conflicts, if that is what happened.
    #[must_use]
    pub const fn conflict(&self) -> Option<(Conflict, usize)> {
        match self {
            Self::Conflict { conflict, change } => Some((*conflict, *change)),
            _ => None,
        }
    }
}

/// Why a caller is not let in. No answer says which part of a credential was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// There is no access token, or none that stands.
    Token,
    /// Email and password do not belong together.
    Credentials,
    /// It is not the setup token that the operator has configured.
    SetupToken,
    /// The refresh token is none, or no longer one.
    RefreshToken,
    /// A spent refresh token came again: its whole session is ended.
    RefreshTokenReused,
    /// The invitation token is none, or no longer one.
    InvitationToken,
}

/// Why somebody who is known may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Their role does not allow it.
    Role,
    /// They must change their password first.
    PasswordChangeRequired,
    /// It is something of their own account that only another administrator may change.
    OwnAccount,
}

/// A kind of thing that was not found, or that the caller may not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user.
    User,
    /// A session.
    Session,
    /// A workspace.
    Workspace,
    /// A member of a workspace.
    Member,
    /// An invitation.
    Invitation,
    /// A chat.
    Chat,
    /// A message.
    Message,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Workspace => "workspace",
            Self::Member => "member",
            Self::Invitation => "invitation",
            Self::Chat => "chat",
            Self::Message => "message",
        })
    }
}

/// What stands against a request that is otherwise fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The first administrator exists already.
    SetupCompleted,
    /// Another account has this email.
    EmailTaken,
    /// Somebody else changed the same thing at the same time, again and again.
    Concurrent,
    /// The reply has ended, so that it can't be stopped.
    NotRunning,
    /// The message is no reply, so that it can't be given anew.
    NotAReply,
    /// The caller is in as many workspaces as one may be.
    TooManyWorkspaces,
    /// It would leave the installation without an administrator who may sign in.
    LastAdmin,
    /// It would leave workspaces without an OWNER: these, by their names.
    SoleOwner(Vec<String>),
    /// It would leave the workspace without an OWNER.
    LastOwner,
    /// They are a member already.
    AlreadyMember,
}

/// Whose running replies are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The caller's.
    Yours,
    /// Everybody's in the workspace.
    Workspace,
    /// Everybody's on this server.
    Server,
}

/// What a use case may answer in place of a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Well-formed, but not acceptable.
    #[error("{} field(s) are not acceptable", .0.len())]
    Invalid(Vec<Violation>),
    /// Nobody knows who asks.
    #[error("not authenticated: {0:?}")]
    Unauthenticated(Unauthenticated),
    /// The caller may see the thing but not do this.
    #[error("forbidden: {0:?}")]
    Forbidden(Forbidden),
    /// It does not exist, or the caller may not know that it does.
    #[error("{0} not found")]
    NotFound(Kind),
    /// It conflicts with the present state.
    #[error("conflict: {0:?}")]
    Conflict(Obstacle),
    /// The `Idempotency-Key` was used before, for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The event cursor lies outside the kept log.
    #[error("the cursor lies outside the kept log")]
    CursorExpired,
    /// As many replies run as may; the slot of any of them that ends is free.
    #[error("{most} replies run already ({whose:?})")]
    TooManyReplies {
        /// Whose they are.
        whose: Whose,
        /// How many may run.
        most: u64,
    },
    /// The server is stopping and begins nothing new.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// Too much of this is going on; try again after a while.
    #[error("{backend} is busy")]
    Busy {
        /// Which backend.
        backend: Backend,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// A backend is away.
    #[error("{backend} is unavailable")]
    Unavailable {
        /// Which backend.
        backend: Backend,
        /// For the log.
        #[source]
        cause: Cause,
    },
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[source] Cause),
}

impl Error {
    /// A request with one wrong field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, message)])
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable { backend, cause } => Self::Unavailable { backend, cause },
            Failure::Busy { backend } => Self::Busy { backend, retry_after: Duration::from_secs(1) },
            // A use case names the conflicts it foresees; one that it does not is somebody else's change to the same rows.
            Failure::Conflict { .. } => Self::Conflict(Obstacle::Concurrent),
            corrupt @ Failure::Corrupt { .. } => Self::Internal(corrupt.into()),
        }
    }
}

/// Gathers the violations of several fields, so that one answer names them all.
#[derive(Debug, Default)]
pub struct Checks(Vec<Violation>);

impl Checks {
    /// Starts with nothing wrong.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Keeps the value, or what is wrong with it.
    pub fn take<T>(&mut self, parsed: Result<T, Violation>) -> Option<T> {
        parsed.map_err(|violation| self.0.push(violation)).ok()
    }

    /// Ends the checks; `all` gives the values where every one was fine.
    ///
    /// # Errors
    /// [`Error::Invalid`] with everything that is wrong.
    pub fn done<T>(self, all: Option<T>) -> Result<T, Error> {
        match all {
            Some(all) if self.0.is_empty() => Ok(all),
            _ => Err(Error::Invalid(self.0)),
        }
    }
}
