//! Everything in memory: for tests, and to look at the product without a database. Nothing outlives the process.
//!
//! The store passes the contract that the databases pass. [`ports`] gives a complete set, of which a test replaces what it is about:
//!
//! ```
//! use std::sync::Arc;
//! use private_chat_adapters::memory::{self, TestClock};
//! use private_chat_core::port::Ports;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let clock = Arc::new(TestClock::new());
//! let ports = Ports { clock: clock.clone(), ..memory::ports() };
//! # assert_eq!(ports.clock.now(), clock.now());
//! # use private_chat_core::port::clock::Clock as _;
//! # });
//! ```

mod clock;
mod credentials;
mod inference;
mod state;
mod store;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;

use private_chat_core::port::Ports;
use private_chat_core::port::inference::{Inference, Provider};
use private_chat_core::port::store::Store;

pub use clock::{SeededEntropy, TestClock};
pub use credentials::{InstantHasher, PlainSigner};
pub use inference::{Script, ScriptedInference};
pub use store::MemoryStore;
pub use tasks::OwnedTasks;

/// A complete set of ports: an empty store, a clock that stands still, the provider `scripted` with its model `parrot`.
#[must_use]
pub fn ports() -> Ports {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let script = Script::new().content("Hello, ").content("world.").finish("stop");
    Ports {
        users: store.clone(),
        sessions: store.clone(),
        workspaces: store.clone(),
        chats: store.clone(),
        replies: store.clone(),
        work: store,
        inference: providers(Arc::new(ScriptedInference::new(script))),
        passwords: Arc::new(InstantHasher::new()),
        tokens: Arc::new(PlainSigner::new()),
        clock: Arc::new(TestClock::new()),
        entropy: Arc::new(SeededEntropy::new(1)),
        tasks: Arc::new(OwnedTasks::new()),
    }
}

/// One provider, by the name `scripted`.
#[must_use]
pub fn providers(inference: Arc<dyn Inference>) -> Arc<BTreeMap<String, Provider>> {
    let provider = Provider { inference, models: Vec::new(), context_length: None, vision: false, writes_titles: true };
    Arc::new(BTreeMap::from([("scripted".to_owned(), provider)]))
}
