//! Serving: from the first look at the database to the last reply.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use private_chat_core::error::Failure;
use private_chat_core::usecase::housekeeping::Housekeeping;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cause_of;
use crate::config::Config;
use crate::http::edge::client::Proxies;
use crate::http::edge::cors::Origins;
use crate::http::edge::endpoint;
use crate::http::edge::serve::{Settings, serve as serve_http};
use crate::http::{self, State};
use crate::wire::Wired;

/// Why serving could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened at.
    #[error("can't listen at {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        cause: io::Error,
    },
    /// The database is there, and can't be used by this program.
    #[error("the database can't be used: {0}")]
    Database(String),
    /// This process does not belong to the installation that the database is of.
    #[error("{0}")]
    Stranger(&'static str),
    /// The operating system refuses something.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The API's description is wrong: a fault of ours.
    #[error("{0}")]
    Description(String),
}

/// How long connections may take to end after the last reply has.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the start waits for the database before it answers requests without.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an installation that is not set up yet is looked at.
const UNSET: Duration = Duration::from_secs(2);
/// How long one attempt at joining may take, a migration included.
const ATTEMPT: Duration = Duration::from_secs(300);

/// Serves until SIGTERM or SIGINT, then lets running replies end. A second signal ends it at once.
///
/// # Errors
/// Why it could not begin, or had to end.
pub async fn serve(wired: Wired, config: &Config) -> Result<(), ServeError> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen()?;
    let address = format!("{}:{}", config.server.host, config.server.port);
    let listener = TcpListener::bind((config.server.host.as_str(), config.server.port))
        .await
        .map_err(|cause| ServeError::Listen { address, cause })?;

    let cases = wired.cases.clone();
    let streams = CancellationToken::new();
    let state = State { cases: cases.clone(), stop: streams.clone() };
    let app = Arc::new(http::product(state, Vec::new(), edge(&wired, config)?).map_err(ServeError::Description)?);

    // With the database at hand the first request finds everything; without it the process lives, and waits for it.
    let away = CancellationToken::new();
    let joining = join(&wired, &away);
    tokio::pin!(joining);
    let ready = tokio::select! {
        joined = &mut joining => joined.map(|()| true)?,
        () = away.cancelled() => false,
        () = sleep(PATIENCE) => false,
        () = signals.next() => return Ok(()),
    };
    tracing::info!(address = %listener.local_addr()?, ready, "listening");
    let settings =
        Settings { max_connections: config.server.max_connections, drain: LAST_WORDS, ..Settings::default() };
    let accepting = CancellationToken::new();
    let server = serve_http(listener, app, settings, accepting.clone());
    tokio::pin!(server);

    let until_told = async {
        if !ready {
            tokio::select! {
                joined = &mut joining => joined?,
                () = signals.next() => return Ok::<_, ServeError>(()),
            }
            tracing::info!("the database has come: ready");
        }
        wired.ports.tasks.spawn(Box::pin(cases.replies.clone().keep()));
        tokio::select! {
            () = signals.next() => Ok(()),
            stranger = turns_out_a_stranger(&wired) => Err(stranger),
            never = keep_house(&cases.housekeeping) => match never {},
        }
    };
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        told = until_told => told?,
    }

    tracing::info!(replies = cases.replies.running(), "stopping: nothing new begins, running replies may end");
    let in_order = async {
        // Connections are taken until the last reply has ended, to be told that this process is not ready.
        tokio::select! {
            ended = &mut server => return ended,
            () = cases.replies.drain(config.server.drain_timeout) => {}
        }
        cases.live.close();
        accepting.cancel();
        // By now a stream lacks nothing but its last words; one that finds none of its own ends without.
        tokio::select! {
            ended = &mut server => return ended,
            () = sleep(LAST_WORDS / 2) => streams.cancel(),
        }
        (&mut server).await
    };
    tokio::select! {
        ended = in_order => ended?,
        () = signals.next() => tracing::warn!("stopped at once, as told twice"),
    }
    tracing::info!("stopped");
    Ok(())
}

fn edge(wired: &Wired, config: &Config) -> Result<endpoint::Settings, ServeError> {
    Ok(endpoint::Settings {
        origins: Origins::new(&config.cors.allowed_origins).map_err(ServeError::Description)?,
        proxies: Proxies::new(config.server.trusted_proxies.clone()),
        tls: config.server.public_url.as_ref().is_some_and(|url| url.starts_with("https:")),
        body_within: endpoint::BODY_WITHIN,
        clock: wired.ports.clock.clone(),
        entropy: wired.ports.entropy.clone(),
    })
}

/// Brings the database up to date and joins the other processes on it, however long that takes. Says by `away` that the database is not there
/// just now.
async fn join(wired: &Wired, away: &CancellationToken) -> Result<(), ServeError> {
    let mut pause = Duration::from_millis(250);
    loop {
        let why = match timeout(ATTEMPT, try_join(wired)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Joining::Refused(error))) => return Err(error),
            Ok(Err(Joining::Away(why))) => why,
            Err(_) => "it fell silent".to_owned(),
        };
        tracing::warn!(why, "the database is away: waiting for it, and not ready until it comes");
        away.cancel();
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(4));
    }
}

/// Returns when others set the installation up with keys that are not ours: before that, nothing tells that they differ.
async fn turns_out_a_stranger(wired: &Wired) -> ServeError {
    loop {
        // A database that is away is asked again.
        if let Ok(Some(installation)) = wired.cases.status.installation().await {
            match wired.belongs_to(&installation) {
                Ok(()) => std::future::pending::<()>().await,
                Err(stranger) => return ServeError::Stranger(stranger),
            }
        }
        sleep(UNSET).await;
    }
}

/// Removes what is over, now and again and again. To be dropped when the process stops: what is left, the next one removes.
async fn keep_house(housekeeping: &Housekeeping) -> Infallible {
    let mut failing = false;
    loop {
        match housekeeping.tidy().await {
            Ok(removed) => {
                failing = false;
                if removed > 0 {
                    tracing::debug!(removed, "rows of what is over were removed");
                }
            }
            // Once for each time that it begins to fail: whatever it fails at is told elsewhere, too.
            Err(failure) if !failing => {
                failing = true;
                tracing::warn!(why = cause_of(&failure), "what is over can't be removed: trying again later");
            }
            Err(_) => {}
        }
        sleep(Housekeeping::EVERY).await;
    }
}

enum Joining {
    Away(String),
    Refused(ServeError),
}

impl From<Failure> for Joining {
    fn from(failure: Failure) -> Self {
        let cause = cause_of(&failure);
        match failure {
            Failure::Corrupt { .. } => Self::Refused(ServeError::Database(cause)),
            _ => Self::Away(cause),
        }
    }
}

async fn try_join(wired: &Wired) -> Result<(), Joining> {
    wired.ports.work.prepare().await?;
    if let Some(installation) = wired.cases.status.installation().await? {
        wired.belongs_to(&installation).map_err(|stranger| Joining::Refused(ServeError::Stranger(stranger)))?;
    }
    wired.cases.replies.register().await?;
    Ok(())
}

/// What an operator or a supervisor sends to end the program.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
