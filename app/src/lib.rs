//! The driving side of private-chat: settings, the HTTP edge, and the place where everything meets.

pub mod admin;
pub mod cli;
pub mod config;
pub mod http;
pub mod logging;
pub mod serve;
pub mod wire;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use admin::AdminError;
use cli::{Admin, Cli, Command};
use config::{Config, ConfigError};
use tokio::runtime::{Builder, Runtime};
use wire::{WireError, Wired};

/// The exit code for what fails in a way that has no code of its own.
const FAILED: u8 = 1;
/// The exit code for settings, a command line or a value that are wrong.
const MISUSE: u8 = 2;

/// Runs the program with these arguments, its name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Cli { config, command } = match Cli::parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(MISUSE));
        }
    };
    let outcome = match command {
        Command::Openapi => print_document(),
        Command::Serve => with_settings(config.as_deref(), serve),
        Command::Migrate => with_settings(config.as_deref(), migrate),
        Command::ConfigCheck => with_settings(config.as_deref(), check),
        Command::Health => with_settings(config.as_deref(), health),
        Command::Admin { command, password_stdin } => {
            with_settings(config.as_deref(), |config| administer(config, &command, password_stdin))
        }
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    say(&format!("private-chat: {error}"));
    ExitCode::from(code_of(&*error))
}

type Outcome = Result<(), Box<dyn Error>>;

fn with_settings(file: Option<&Path>, command: impl FnOnce(&Config) -> Outcome) -> Outcome {
    command(&Config::load(file)?)
}

fn code_of(error: &(dyn Error + 'static)) -> u8 {
    if let Some(error) = error.downcast_ref::<AdminError>() {
        return error.code();
    }
    let misuse = error.is::<ConfigError>() || matches!(error.downcast_ref(), Some(WireError::Config(_)));
    if misuse { MISUSE } else { FAILED }
}

/// Tells the operator. Somebody who closed our output does not stop us.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn tell(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn print_document() -> Outcome {
    let document = serde_json::to_string_pretty(&http::product_document()?)?;
    writeln!(std::io::stdout(), "{document}")?;
    Ok(())
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

fn serve(config: &Config) -> Outcome {
    logging::start(&config.log)?;
    http::edge::endpoint::log_panics();
    let runtime = runtime()?;
    let wired = wire::wire(config, runtime.handle().clone())?;
    let served = runtime.block_on(serve::serve(wired, config));
    end(runtime);
    served.map_err(Into::into)
}

/// Ends the runtime. Whoever still computes a password's hash is not waited for.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_millis(100));
}

fn administer(config: &Config, command: &Admin, password_stdin: bool) -> Outcome {
    let runtime = runtime()?;
    let done = admin::run(config, command, password_stdin, &runtime);
    end(runtime);
    let user = done?;
    tell(&format!("{} {}", user.id, user.email.as_str()));
    Ok(())
}

fn migrate(config: &Config) -> Outcome {
    let store = wire::database(config)?;
    runtime()?.block_on(store.prepare()).map_err(|failure| because(&failure))?;
    tell(&format!("the {} database has the schema of this version", config.database.backend));
    Ok(())
}

/// What lies behind a failure, for an operator who knows already what failed.
fn cause_of(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// A failure with its cause, for an operator.
fn because(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn check(config: &Config) -> Outcome {
    let runtime = runtime()?;
    let Wired { ports, .. } = wire::wire(config, runtime.handle().clone())?;
    let mut failed = false;
    let mut found = |what: &str, outcome: Result<String, String>| match outcome {
        Ok(well) => tell(&format!("ok      {what}: {well}")),
        Err(why) => {
            failed = true;
            tell(&format!("FAILED  {what}: {why}"));
        }
    };
    found("keys", Ok(format!("tokens are signed by key {}", ports.tokens.key_id())));
    runtime.block_on(async {
        let database = ports.work.ping().await.map_err(|failure| cause_of(&failure));
        let well = "it answers, and has the schema of this version";
        found(&format!("database ({})", config.database.backend), database.map(|()| well.into()));
        for (name, provider) in ports.inference.iter() {
            let models = provider.inference.models().await;
            let outcome = models.map(|models| match models.as_slice() {
                [] => "it answers, and lists no model".into(),
                [only] => format!("it offers {name}/{}", only.name),
                [first, ..] => format!("it offers {} models, {name}/{} first", models.len(), first.name),
            });
            found(&format!("provider {name}"), outcome.map_err(|failure| failure.detail));
        }
    });
    for warning in config.warnings() {
        tell(&format!("note    {warning}"));
    }
    if failed { Err("not everything that is configured works".into()) } else { Ok(()) }
}

fn health(config: &Config) -> Outcome {
    let host = match config.server.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let url = format!("http://{host}:{}/health/ready", config.server.port);
    runtime()?.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build()?;
        let answer = client.get(&url).send().await.map_err(|_| format!("nothing answers at {url}"))?;
        match answer.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("not ready: {url} answers {status}").into()),
        }
    })
}
