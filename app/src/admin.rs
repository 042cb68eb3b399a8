//! `private-chat admin`: what an operator does to accounts, at the machine itself.

use std::error::Error as StdError;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::time::Duration;

use private_chat_core::error::{Error, Failure, Kind, Obstacle, Violation};
use private_chat_core::model::user::User;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::cli::Admin;
use crate::config::Config;
use crate::wire::{self, Wired};
use crate::{FAILED, MISUSE, because};

/// Why an operator's command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is nobody to ask for a password.
    #[error("there is no terminal to ask for the password at: use --password-stdin")]
    NoTerminal,
    /// The password can't be taken as it came.
    #[error("the password {0}")]
    NoPassword(&'static str),
    /// These values may not be used.
    #[error("{}", named(.0))]
    Invalid(Vec<Violation>),
    /// Another account has this email.
    #[error("an account with this email exists already")]
    EmailTaken,
    /// No account has this email.
    #[error("there is no account with this email")]
    NoAccount,
    /// This process does not belong to the installation that the database is of.
    #[error("{0}")]
    Stranger(&'static str),
    /// The operator has changed their mind.
    #[error("interrupted")]
    Interrupted,
    /// Something it needs is away.
    #[error("{0}")]
    Failed(String),
}

impl AdminError {
    /// The code that the program ends with.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::NoTerminal | Self::NoPassword(_) | Self::Invalid(_) => MISUSE,
            Self::EmailTaken => 3,
            Self::NoAccount => 4,
            Self::Stranger(_) | Self::Interrupted | Self::Failed(_) => FAILED,
        }
    }
}

impl From<Error> for AdminError {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(violations) => Self::Invalid(violations),
            Error::Conflict(Obstacle::EmailTaken) => Self::EmailTaken,
            Error::NotFound(Kind::User) => Self::NoAccount,
            other => Self::Failed(because(&other)),
        }
    }
}

impl From<Failure> for AdminError {
    fn from(failure: Failure) -> Self {
        Self::Failed(because(&failure))
    }
}

/// All that is wrong, each with the name it has on the command line.
fn named(violations: &[Violation]) -> String {
    let each = violations.iter().map(|Violation { field, message }| match field.as_str() {
        "password" => format!("the password {message}"),
        option => format!("--{option} {message}"),
    });
    each.collect::<Vec<_>>().join("; ")
}

/// How long all of it may take, a migration included.
const ATTEMPT: Duration = Duration::from_secs(300);
/// More than any password has, its line end included: what is longer is refused as too long.
const MOST_READ: u64 = 4096;

/// Carries the command out, and gives the account as it is then.
///
/// # Errors
/// An [`AdminError`], or why the program can't be put together.
pub(crate) fn run(
    config: &Config,
    command: &Admin,
    password_stdin: bool,
    runtime: &Runtime,
) -> Result<User, Box<dyn StdError>> {
    let mut interrupt = {
        let _inside = runtime.enter();
        // Taken before a password is asked for: to die of the signal would leave the terminal without its echo.
        signal(SignalKind::interrupt())?
    };
    let password = if password_stdin { read_password()? } else { ask_for_password()? };
    let wired = wire::wire(config, runtime.handle().clone())?;
    Ok(runtime.block_on(async {
        tokio::select! {
            done = timeout(ATTEMPT, carry_out(&wired, command, password)) => {
                done.unwrap_or_else(|_| Err(AdminError::Failed("the database fell silent".to_owned())))
            }
            () = told_to_stop(&mut interrupt) => Err(AdminError::Interrupted),
        }
    })?)
}

async fn told_to_stop(interrupt: &mut Signal) {
    if interrupt.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn carry_out(wired: &Wired, command: &Admin, password: String) -> Result<User, AdminError> {
    wired.ports.work.prepare().await?;
    if let Some(installation) = wired.cases.status.installation().await? {
        wired.belongs_to(&installation).map_err(AdminError::Stranger)?;
    }
    Ok(match command {
        Admin::Create { email, name } => wired.operator.create_admin(email, name.clone(), password).await?,
        Admin::ResetPassword { email, must_change } => {
            wired.operator.reset_password(email, password, *must_change).await?
        }
    })
}

/// The first line of the standard input.
fn read_password() -> Result<String, AdminError> {
    let mut line = Vec::new();
    let read = io::stdin().lock().take(MOST_READ).read_until(b'\n', &mut line);
    read.map_err(|error| AdminError::Failed(format!("can't read the standard input: {error}")))?;
    first_line(line)
}

fn first_line(mut line: Vec<u8>) -> Result<String, AdminError> {
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    }
    if line.is_empty() {
        return Err(AdminError::NoPassword("is missing: the first line of the standard input is empty"));
    }
    String::from_utf8(line).map_err(|_| AdminError::NoPassword("must be UTF-8"))
}

/// Asks twice at the terminal, which shows nothing of it.
fn ask_for_password() -> Result<String, AdminError> {
    if !io::stdin().is_terminal() {
        return Err(AdminError::NoTerminal);
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => AdminError::Interrupted,
            _ => AdminError::NoTerminal,
        })
    };
    let password = ask("Password: ")?;
    if password.is_empty() {
        return Err(AdminError::NoPassword("is empty"));
    }
    if ask("Once more: ")? == password {
        Ok(password)
    } else {
        Err(AdminError::NoPassword("was not typed the same twice"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password_without_its_end() {
        for (given, password) in [
            ("correct horse\n", "correct horse"),
            ("correct horse\r\n", "correct horse"),
            ("correct horse", "correct horse"),
            (" spaced \t\n", " spaced \t"),
            ("ends with a return\r", "ends with a return\r"),
        ] {
            assert_eq!(first_line(given.as_bytes().to_vec()).unwrap(), password);
        }
        for given in [&b""[..], b"\n", b"\r\n", b"\xff\xfe\n"] {
            assert_eq!(first_line(given.to_vec()).unwrap_err().code(), MISUSE, "{given:?}");
        }
    }

    #[test]
    fn each_wrong_value_is_named_as_the_operator_wrote_it() {
        let wrong = |field, message| Violation::new(field, message);
        let error = AdminError::from(Error::Invalid(vec![
            wrong("email", "must be an email address"),
            wrong("password", "must have at least 8 characters"),
        ]));
        assert_eq!(error.to_string(), "--email must be an email address; the password must have at least 8 characters");
        assert_eq!(error.code(), MISUSE);
    }
}
