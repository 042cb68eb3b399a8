//! Every case of every contract, on every adapter that can be reached.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use private_chat_adapters::argon2::Argon2Hasher;
use private_chat_adapters::jwt::JwtSigner;
use private_chat_adapters::memory::MemoryStore;
use private_chat_adapters::system::{OsEntropy, SystemClock};
use private_chat_core::model::secret::Secret;
use private_chat_core::port::clock::Clock;
use private_chat_core::port::passwords::PasswordHasher;
use private_chat_core::port::store::Store;
use private_chat_core::port::tokens::TokenSigner;
use private_chat_tests::contract::{Fresh, Subject, clock, passwords, store, tokens, trials};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let memory = Subject::fresh(|| async { Fresh::new(Arc::new(MemoryStore::new()) as Arc<dyn Store>) });
    let argon2 = Subject::fresh(|| async {
        Fresh::new(Arc::new(Argon2Hasher::new(0, 16, Arc::new(OsEntropy))) as Arc<dyn PasswordHasher>)
    });
    let jwt = Subject::fresh(|| async {
        let key = Secret::new(tokens::private_key());
        let signer = JwtSigner::new(&key, tokens::ISSUER.into(), tokens::AUDIENCE.into(), Arc::new(OsEntropy));
        Fresh::new(Arc::new(signer.unwrap_or_else(|why| panic!("{why}"))) as Arc<dyn TokenSigner>)
    });
    let system = Subject::fresh(|| async { Fresh::new(Arc::new(SystemClock::start()) as Arc<dyn Clock>) });
    let trials = [
        trials("memory", "store", store::CASES, &memory),
        trials("argon2", "passwords", passwords::CASES, &argon2),
        trials("jwt", "tokens", tokens::CASES, &jwt),
        trials("system", "clock", clock::CASES, &system),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
