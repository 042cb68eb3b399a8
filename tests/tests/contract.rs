//! Every case of every contract, on every adapter that can be reached.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use private_chat_adapters::memory::MemoryStore;
use private_chat_core::port::store::Store;
use private_chat_tests::contract::{Fresh, Subject, store, trials};
use private_chat_tests::providers;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let memory = Subject::fresh(|| async { Fresh::new(Arc::new(MemoryStore::new()) as Arc<dyn Store>) });
    let mut all = trials("memory", "store", store::CASES, &memory);
    all.extend(providers::all_trials());
    libtest_mimic::run(&arguments, all).exit_code()
}
