//! The codes of the product's errors, and which of them a use case's [`Error`] is.

use std::time::Duration;

use poem::http::StatusCode;
use private_chat_core::error::{Backend, Error, Forbidden, Obstacle, Unauthenticated, Whose};

use super::edge::fault::{Code, Fault, codes};

pub use super::edge::fault::codes::*;

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $title:literal, $detail:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code::new($code, StatusCode::$status, $title, $detail);)*

        /// Every code there is.
        pub const ALL: &[&Code] = &[
            &codes::MALFORMED,
            &codes::UNAUTHENTICATED,
            &codes::FORBIDDEN,
            &codes::NOT_FOUND,
            &codes::METHOD_NOT_ALLOWED,
            &codes::REQUEST_TIMEOUT,
            &codes::TOO_LARGE,
            &codes::UNSUPPORTED_MEDIA_TYPE,
            &codes::INVALID,
            &codes::INTERNAL,
            $(&$name,)*
        ];
    };
}

problems! {
    /// Email and password do not belong together.
    INVALID_CREDENTIALS = "invalid_credentials", UNAUTHORIZED, "Wrong credentials",
        "The password is wrong, or there is no active account with this email.";
    /// The setup token is not the configured one.
    INVALID_SETUP_TOKEN = "invalid_setup_token", UNAUTHORIZED, "Invalid setup token",
        "Send the setup token that whoever runs the server has configured as `setup_token`.";
    /// The refresh token is none.
    INVALID_REFRESH_TOKEN = "invalid_refresh_token", UNAUTHORIZED, "Invalid refresh token",
        "The refresh token is unknown, spent or expired. Sign in again.";
    /// The refresh token was spent before.
    REFRESH_TOKEN_REUSED = "refresh_token_reused", UNAUTHORIZED, "Refresh token reused",
        "This refresh token was used before. Somebody may have a copy, so its session was ended. Sign in again.";
    /// The invitation token is none.
    INVALID_INVITATION_TOKEN = "invalid_invitation_token", UNAUTHORIZED, "Invalid invitation token",
        "The invitation is unknown, used, taken back or expired. Ask whoever invited you for another one.";
    /// Nothing else is open before the password is changed.
    PASSWORD_CHANGE_REQUIRED = "password_change_required", FORBIDDEN, "Password change required",
        "Change your password first, with POST /auth/password.";
    /// It is something of one's own account that is another administrator's to change.
    OWN_ACCOUNT = "own_account", FORBIDDEN, "Own account",
        "Another administrator must set the role, the activity and the password of your account. You change your password with POST /auth/password.";
    /// The first administrator exists.
    SETUP_COMPLETED = "setup_completed", CONFLICT, "Setup completed",
        "The first administrator exists already. Sign in, or ask them for an account.";
    /// Another account has the email.
    EMAIL_TAKEN = "email_taken", CONFLICT, "Email taken",
        "Another account has this email.";
    /// Somebody else changed it at the same time.
    CONFLICT = "conflict", CONFLICT, "Conflict",
        "Somebody else changed this at the same time. Load it again and repeat the change.";
    /// The reply has ended.
    NOT_RUNNING = "not_running", CONFLICT, "Not running",
        "The reply has ended already, so that there is nothing to stop.";
    /// The message is no reply.
    NOT_A_REPLY = "not_a_reply", CONFLICT, "Not a reply",
        "Only a reply can be given anew. Name the reply, or edit your own message to have it answered again.";
    /// As many replies run as may.
    TOO_MANY_REPLIES = "too_many_replies", TOO_MANY_REQUESTS, "Too many running replies",
        "As many replies run as may. Wait for one to end, or stop one.";
    /// The caller is in too many workspaces.
    TOO_MANY_WORKSPACES = "too_many_workspaces", CONFLICT, "Too many workspaces",
        "You are in as many workspaces as one may be. Leave or delete one first.";
    /// Nobody would be left to manage accounts.
    LAST_ADMIN = "last_admin", CONFLICT, "Last administrator",
        "This is the only administrator who may sign in. Make somebody else an administrator first.";
    /// Workspaces would be left without an OWNER.
    SOLE_OWNER = "sole_owner", CONFLICT, "Sole owner",
        "Nobody else owns some of this user's workspaces. Say who gets them with `?transfer_to={user_id}`, or delete them first.";
    /// The workspace would be left without an OWNER.
    LAST_OWNER = "last_owner", CONFLICT, "Last owner",
        "This is the only OWNER of the workspace. Make another member an OWNER first, or delete the workspace.";
    /// They are in the workspace already.
    ALREADY_MEMBER = "already_member", CONFLICT, "Already a member",
        "Whoever has this email is a member of the workspace already.";
    /// The key was used for another request.
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "Idempotency key reused",
        "This `Idempotency-Key` was used in the last 24 h for another request. Take a new key for each request, and the same one only to repeat it.";
    /// The event cursor is too old.
    CURSOR_EXPIRED = "cursor_expired", GONE, "Cursor expired",
        "The events after this cursor are no longer kept. Load the present state and follow without a cursor.";
    /// The models' servers are away.
    INFERENCE_UNAVAILABLE = "inference_unavailable", BAD_GATEWAY, "Inference unavailable",
        "The models' servers can't be reached. Try again later.";
    /// A backend is away.
    UNAVAILABLE = "unavailable", SERVICE_UNAVAILABLE, "Unavailable",
        "A part of the server is away. Try again later.";
    /// Too much is going on.
    BUSY = "busy", SERVICE_UNAVAILABLE, "Busy",
        "The server has more to do than it can. Try again later.";
    /// The server is stopping.
    SHUTTING_DOWN = "shutting_down", SERVICE_UNAVAILABLE, "Shutting down",
        "The server is shutting down and begins nothing new. Try again in a moment.";
}

/// For what comes back by itself, nobody knows when.
pub(super) const SOON: Duration = Duration::from_secs(2);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(violations) => Self::invalid(violations),
            Error::Unauthenticated(why) => Self::new(match why {
                Unauthenticated::Token => &UNAUTHENTICATED,
                Unauthenticated::Credentials => &INVALID_CREDENTIALS,
                Unauthenticated::SetupToken => &INVALID_SETUP_TOKEN,
                Unauthenticated::RefreshToken => &INVALID_REFRESH_TOKEN,
                Unauthenticated::RefreshTokenReused => &REFRESH_TOKEN_REUSED,
                Unauthenticated::InvitationToken => &INVALID_INVITATION_TOKEN,
            }),
            Error::Forbidden(why) => Self::new(match why {
                Forbidden::Role => &FORBIDDEN,
                Forbidden::PasswordChangeRequired => &PASSWORD_CHANGE_REQUIRED,
                Forbidden::OwnAccount => &OWN_ACCOUNT,
            }),
            Error::NotFound(kind) => {
                Self::new(&NOT_FOUND).saying(format!("There is no such {kind}, or you may not know that there is."))
            }
            Error::Conflict(Obstacle::SoleOwner(workspaces)) => Self::new(&SOLE_OWNER).saying(sole_owner(&workspaces)),
            Error::Conflict(obstacle) => Self::new(match obstacle {
                Obstacle::SetupCompleted => &SETUP_COMPLETED,
                Obstacle::EmailTaken => &EMAIL_TAKEN,
                Obstacle::Concurrent => &CONFLICT,
                Obstacle::NotRunning => &NOT_RUNNING,
                Obstacle::NotAReply => &NOT_A_REPLY,
                Obstacle::TooManyWorkspaces => &TOO_MANY_WORKSPACES,
                Obstacle::LastAdmin => &LAST_ADMIN,
                Obstacle::SoleOwner(_) => &SOLE_OWNER,
                Obstacle::LastOwner => &LAST_OWNER,
                Obstacle::AlreadyMember => &ALREADY_MEMBER,
            }),
            Error::IdempotencyKeyReused => Self::new(&IDEMPOTENCY_KEY_REUSED),
            Error::CursorExpired => Self::new(&CURSOR_EXPIRED),
            Error::TooManyReplies { whose, most } => too_many_replies(whose, most),
            Error::ShuttingDown => Self::new(&SHUTTING_DOWN).retry_after(SOON),
            Error::Busy { backend, retry_after } => Self::new(&BUSY)
                .saying(format!("The server has more to do than it can ({backend}). Try again later."))
                .retry_after(retry_after),
            Error::Unavailable { backend: Backend::Inference, cause } => {
                Self::new(&INFERENCE_UNAVAILABLE).because(cause).retry_after(SOON)
            }
            Error::Unavailable { backend, cause } => Self::new(&UNAVAILABLE)
                .saying(format!("A part of the server is away ({backend}). Try again later."))
                .because(cause)
                .retry_after(SOON),
            Error::Internal(cause) => Self::internal(cause),
        }
    }
}

/// When it is worth trying again while as many replies run as may: nobody knows which one ends first.
const A_REPLY: Duration = Duration::from_secs(5);

fn too_many_replies(whose: Whose, most: u64) -> Fault {
    let of = match whose {
        Whose::Yours => "of yours",
        Whose::Workspace => "in this workspace",
        Whose::Server => "on this server",
    };
    Fault::new(&TOO_MANY_REPLIES)
        .saying(format!("{most} replies {of} run already, which is as many as may. Wait for one to end, or stop one."))
        .limited(most, A_REPLY)
}

/// Names the workspaces that nobody would own, as many as somebody reads.
fn sole_owner(workspaces: &[String]) -> String {
    const NAMED: usize = 10;
    let named: Vec<_> = workspaces.iter().take(NAMED).map(|name| format!("“{name}”")).collect();
    let more = match workspaces.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = named.join(", ");
    format!(
        "Nobody else owns {named}{more}. Say who gets what this user owns alone with `?transfer_to={{user_id}}`, or delete it first."
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use poem::http::header;
    use private_chat_core::error::Kind;

    use super::*;

    // R69
    #[test]
    fn codes_are_unique_and_in_snake_case() {
        let mut seen = HashSet::new();
        for code in ALL {
            assert!(seen.insert(code.code), "{} twice", code.code);
            assert!(code.code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", code.code);
            assert!(code.status.as_u16() >= 400 && !code.title.is_empty() && code.detail.ends_with('.'));
        }
    }

    #[test]
    fn what_may_come_back_says_when() {
        let away = |backend| Error::Unavailable { backend, cause: "10.0.0.7:3306 refused".into() };
        let busy = Error::Busy { backend: Backend::Passwords, retry_after: Duration::from_millis(1_500) };
        for (error, status) in [(away(Backend::Database), 503), (away(Backend::Inference), 502), (busy, 503)] {
            let fault = Fault::from(error);
            assert_eq!(fault.code.status.as_u16(), status);
            assert_eq!(fault.headers[0].0, header::RETRY_AFTER);
            assert_eq!(fault.headers[0].1, "2");
            assert!(!fault.detail.contains("10.0.0.7"), "{}", fault.detail);
        }
    }

    // R42
    #[test]
    fn nothing_tells_foreign_from_unknown() {
        let fault = Fault::from(Error::NotFound(Kind::Chat));
        assert_eq!(fault.code.status, 404);
        assert_eq!(fault.detail, "There is no such chat, or you may not know that there is.");
    }

    #[test]
    fn an_owner_who_leaves_nobody_is_told_what_they_own() {
        let owned = |names: usize| (1..=names).map(|number| format!("W{number}")).collect();
        let detail = |names| Fault::from(Error::Conflict(Obstacle::SoleOwner(owned(names)))).detail.into_owned();
        assert!(detail(1).starts_with("Nobody else owns “W1”. "), "{}", detail(1));
        assert!(detail(10).contains("“W9”, “W10”. "), "{}", detail(10));
        let long = detail(2_000);
        assert!(long.contains("“W10” and 1990 more. ") && !long.contains("W11"), "{long}");
        assert!(long.contains("`?transfer_to={user_id}`"), "{long}");
    }
}
