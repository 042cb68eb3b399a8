//! The real program from outside: started, killed, told to stop, cut off from its database, and run in twos.
//!
//! Each trial runs `private-chat` in folders of its own. Those that need a MySQL or a real server of models are ignored where there is none.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "whatever goes wrong in a test fails it")]

/// Two trials of each function, under its name: on SQLite, and on a MySQL database of its own.
macro_rules! on_both {
    ($servers:expr, $($run:ident),* $(,)?) => {
        vec![$(
            crate::trial(stringify!($run), || $run(None)),
            crate::mysql_trial($servers, stringify!($run), |database| $run(Some(database))),
        )*]
    };
}

mod aborts;
mod admin;
mod caps;
mod client;
mod commands;
mod crash;
mod database;
mod gone;
mod hidden;
mod llm;
mod log;
mod people;
mod pressure;
mod program;
mod proxy;
mod races;
mod replay;
mod revoked;
mod start;
mod stopping;
mod tables;
mod terminal;
mod titles;
mod together;
mod turns;
mod twice;
mod upgrade;
mod upstream;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use private_chat_tests::contract::Absence;
use private_chat_tests::servers::{Database, Servers};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

/// How many trials run at once where nobody says: most of them wait most of their time.
const AT_ONCE: usize = 6;
/// How long something may go on that somebody lost the right to.
const REVOKED: Duration = Duration::from_secs(5);
/// The longest that a trial may take.
const DEADLINE: Duration = Duration::from_secs(240);

fn main() -> Result<ExitCode, String> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    let servers = Servers::from_env()?;
    let suites = [
        crash::trials(&servers),
        together::trials(&servers),
        revoked::trials(&servers),
        twice::trials(&servers),
        races::trials(&servers),
        gone::trials(&servers),
        caps::trials(&servers),
        titles::trials(&servers),
        hidden::trials(&servers),
        turns::trials(&servers),
        aborts::trials(&servers),
        replay::trials(&servers),
        upgrade::trials(),
        database::trials(&servers),
        stopping::trials(),
        start::trials(&servers),
        commands::trials(&servers),
        admin::trials(&servers),
        log::trials(),
        pressure::trials(),
        llm::trials(&servers),
    ];
    let conclusion = libtest_mimic::run(&arguments, suites.into_iter().flatten().collect());
    servers.shut_down()?;
    Ok(conclusion.exit_code())
}

/// A trial that needs nothing but the machine.
fn trial<F: Future<Output = ()>>(name: &str, run: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || in_time(&runtime()?, run()))
}

/// A trial on a MySQL database of its own.
fn mysql_trial<F: Future<Output = ()>>(
    servers: &Arc<Servers>,
    name: &str,
    run: impl FnOnce(Arc<Database>) -> F + Send + 'static,
) -> Trial {
    let servers = servers.clone();
    Trial::ignorable_test(format!("{name}::mysql"), move || {
        let server = match servers.mysql() {
            Ok(server) => server,
            Err(absence) => return absent(absence),
        };
        let runtime = runtime()?;
        let database = Arc::new(runtime.block_on(server.database()));
        in_time(&runtime, run(database.clone()))?;
        if let Some(database) = Arc::into_inner(database) {
            runtime.block_on(database.discard());
        }
        Ok(Completion::Completed)
    })
}

/// A trial with a real server of models, by its address.
fn llm_trial<F: Future<Output = ()>>(
    servers: &Arc<Servers>,
    name: &str,
    run: impl FnOnce(String) -> F + Send + 'static,
) -> Trial {
    let servers = servers.clone();
    Trial::ignorable_test(name, move || match servers.llm() {
        Ok(url) => in_time(&runtime()?, run(url)).map(|()| Completion::Completed),
        Err(absence) => absent(absence),
    })
}

fn absent(absence: Absence) -> Result<Completion, Failed> {
    if absence.demanded { Err(absence.why.into()) } else { Ok(Completion::ignored_with(absence.why)) }
}

fn runtime() -> Result<Runtime, Failed> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn in_time(runtime: &Runtime, run: impl Future<Output = ()>) -> Result<(), Failed> {
    let late = |_| Failed::from(format!("took longer than {} s", DEADLINE.as_secs()));
    runtime.block_on(async { timeout(DEADLINE, run).await.map_err(late) })
}

/// Looks until it is so. Fails after `within`.
async fn until(within: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < within, "in vain: {what}, within {within:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its trial")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
