//! Every case of every contract, on every adapter that can be reached: memory and SQLite always, others where [`Servers`] finds a server.

#![expect(clippy::unwrap_used, reason = "whatever goes wrong in a test fails it")]

use std::process::ExitCode;
use std::sync::Arc;

use figment::Figment;
use libtest_mimic::{Arguments, Trial};
use private_chat_adapters::DATABASES;
use private_chat_adapters::adapter::Adapter;
use private_chat_adapters::memory::MemoryStore;
use private_chat_core::port::store::Store;
use private_chat_tests::contract::{Fresh, Subject, store, trials};
use private_chat_tests::servers::Servers;

fn main() -> Result<ExitCode, String> {
    let arguments = Arguments::from_args();
    let servers = Servers::from_env()?;
    let conclusion = libtest_mimic::run(&arguments, databases(&servers));
    servers.shut_down()?;
    Ok(conclusion.exit_code())
}

fn databases(servers: &Arc<Servers>) -> Vec<Trial> {
    let memory = || Subject::fresh(|| async { prepared(Arc::new(MemoryStore::new())).await });
    let mut all = trials("memory", "store", store::CASES, memory);
    for adapter in DATABASES {
        let servers = servers.clone();
        all.extend(trials(adapter.name, "store", store::CASES, move || database(adapter, &servers)));
    }
    all
}

/// An empty database for each case: one of its own on a server, or files in a folder of their own.
fn database(adapter: &'static Adapter<dyn Store>, servers: &Servers) -> Subject<dyn Store> {
    if adapter.name != "mysql" {
        return Subject::fresh(move || async move {
            let folder = tempfile::tempdir().unwrap();
            let config = Figment::new().merge(("data_dir", folder.path())).merge(("database.sqlite.path", "case.db"));
            opened(adapter, &config).await.discarded_by(async move { drop(folder) })
        });
    }
    match servers.mysql() {
        Err(absence) => Subject::Absent(absence),
        Ok(server) => Subject::fresh(move || {
            let server = server.clone();
            async move {
                let database = server.database().await;
                opened(adapter, &database.config()).await.discarded_by(database.discard())
            }
        }),
    }
}

async fn opened(adapter: &Adapter<dyn Store>, config: &Figment) -> Fresh<dyn Store> {
    let store = (adapter.open)(config).unwrap_or_else(|error| panic!("{}: {error}", adapter.name));
    prepared(store).await
}

async fn prepared(store: Arc<dyn Store>) -> Fresh<dyn Store> {
    store.prepare().await.unwrap();
    store.ping().await.unwrap();
    Fresh::new(store)
}
