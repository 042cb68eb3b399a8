//! Every case of every contract, on every adapter that can be reached: memory and SQLite always, others where [`Servers`] finds a server. On
//! each database also who may do what in the whole application.

#![expect(clippy::unwrap_used, reason = "whatever goes wrong in a test fails it")]

use std::process::ExitCode;
use std::sync::Arc;

use figment::Figment;
use libtest_mimic::{Arguments, Trial};
use private_chat_adapters::DATABASES;
use private_chat_adapters::adapter::Adapter;
use private_chat_adapters::argon2::Argon2Hasher;
use private_chat_adapters::jwt::JwtSigner;
use private_chat_adapters::memory::MemoryStore;
use private_chat_adapters::system::{OsEntropy, SystemClock};
use private_chat_core::model::secret::Secret;
use private_chat_core::port::clock::Clock;
use private_chat_core::port::passwords::PasswordHasher;
use private_chat_core::port::store::Store;
use private_chat_core::port::tokens::TokenSigner;
use private_chat_tests::access;
use private_chat_tests::contract::{Fresh, Subject, clock, passwords, store, tokens, trials};
use private_chat_tests::providers::providers;
use private_chat_tests::servers::Servers;

fn main() -> Result<ExitCode, String> {
    let arguments = Arguments::from_args();
    let servers = Servers::from_env()?;
    let mut all = databases(&servers);
    all.extend(providers(&servers));
    all.extend(machine());
    let conclusion = libtest_mimic::run(&arguments, all);
    servers.shut_down()?;
    Ok(conclusion.exit_code())
}

/// The adapters that need nothing but the machine.
fn machine() -> Vec<Trial> {
    let argon2 = || {
        Subject::fresh(|| async {
            Fresh::new(Arc::new(Argon2Hasher::new(0, 16, Arc::new(OsEntropy))) as Arc<dyn PasswordHasher>)
        })
    };
    let jwt = || {
        Subject::fresh(|| async {
            let key = Secret::new(tokens::private_key());
            let signer = JwtSigner::new(&key, tokens::ISSUER.into(), tokens::AUDIENCE.into(), Arc::new(OsEntropy));
            Fresh::new(Arc::new(signer.unwrap_or_else(|why| panic!("{why}"))) as Arc<dyn TokenSigner>)
        })
    };
    let system = || Subject::fresh(|| async { Fresh::new(Arc::new(SystemClock::start()) as Arc<dyn Clock>) });
    let trials = [
        trials("argon2", "passwords", passwords::CASES, argon2),
        trials("jwt", "tokens", tokens::CASES, jwt),
        trials("system", "clock", clock::CASES, system),
    ];
    trials.into_iter().flatten().collect()
}

fn databases(servers: &Arc<Servers>) -> Vec<Trial> {
    let memory = || Subject::fresh(|| async { prepared(Arc::new(MemoryStore::new())).await });
    let all = [trials("memory", "store", store::CASES, memory), trials("memory", "access", access::CASES, memory)];
    let others = DATABASES.iter().flat_map(|adapter| {
        [("store", store::CASES), ("access", access::CASES)].map(|(contract, cases)| {
            let servers = servers.clone();
            trials(adapter.name, contract, cases, move || database(adapter, &servers))
        })
    });
    all.into_iter().chain(others).flatten().collect()
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
