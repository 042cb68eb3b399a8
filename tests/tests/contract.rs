//! Every case of every contract, on every adapter that can be reached.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use private_chat_adapters::memory::MemoryStore;
use private_chat_core::port::store::Store;
use private_chat_tests::contract::{Fresh, Subject, store, trials};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let memory = Subject::fresh(|| async { Fresh::new(Arc::new(MemoryStore::new()) as Arc<dyn Store>) });
    libtest_mimic::run(&arguments, trials("memory", "store", store::CASES, &memory)).exit_code()
}
