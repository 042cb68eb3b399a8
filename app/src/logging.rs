//! What the program says of itself: lines for people, or JSON for machines, on standard output.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Starts logging. `RUST_LOG` wins over the configured level.
///
/// # Errors
/// When the level can't be understood, or logging was started before.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.trim().is_empty() => {
            EnvFilter::try_new(directives).map_err(|error| format!("`RUST_LOG` can't be understood: {error}"))?
        }
        _ => EnvFilter::try_new(&log.level).map_err(|error| format!("`log.level` can't be understood: {error}"))?,
    };
    let colours = std::io::stdout().is_terminal();
    lines(log.format, colours, filter, std::io::stdout).try_init().map_err(|error| error.to_string())
}

/// Writes what `filter` lets through to `writer`.
pub fn lines<W>(format: LogFormat, colours: bool, filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Somebody who closed our output does not stop us.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Pretty => lines.with_ansi(colours).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter).with_filter(filter_fn(is_harmless)))
}

/// Libraries print bodies and headers below `info`, and with them passwords, tokens and messages: they are cut off there, whatever is asked for.
fn is_harmless(event: &Metadata<'_>) -> bool {
    event.target().starts_with("private_chat") || *event.level() <= Level::INFO
}
