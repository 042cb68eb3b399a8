//! What the core needs from outside. One port for each thing that an operator can swap.
//!
//! Every bullet under a `# Contract` is the name of a case in the contract suite that each adapter passes.

pub mod clock;
pub mod inference;
pub mod passwords;
pub mod store;
pub mod tasks;
pub mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::Failure;
use crate::id;
use clock::{Clock, Entropy};
use inference::Provider;
use passwords::PasswordHasher;
use store::{
    ChatRepository, ReplyRepository, SessionRepository, Store, UnitOfWork, UserRepository, WorkspaceRepository,
};
use tasks::Tasks;
use tokens::TokenSigner;

/// What a port answers.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Everything the core needs from outside, as one value. Cheap to clone.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is the port of its type")]
pub struct Ports {
    pub users: Arc<dyn UserRepository>,
    pub sessions: Arc<dyn SessionRepository>,
    pub workspaces: Arc<dyn WorkspaceRepository>,
    pub chats: Arc<dyn ChatRepository>,
    pub replies: Arc<dyn ReplyRepository>,
    pub work: Arc<dyn UnitOfWork>,
    pub inference: Arc<BTreeMap<String, Provider>>,
    pub passwords: Arc<dyn PasswordHasher>,
    pub tokens: Arc<dyn TokenSigner>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub tasks: Arc<dyn Tasks>,
}

impl Ports {
    /// The same ports over this database.
    #[must_use]
    pub fn over(self, store: Arc<dyn Store>) -> Self {
        Self {
            users: store.clone(),
            sessions: store.clone(),
            workspaces: store.clone(),
            chats: store.clone(),
            replies: store.clone(),
            work: store,
            ..self
        }
    }

    /// Ports of which none may be used: a test replaces those that it is about, and a call of any other fails it.
    #[cfg(any(test, feature = "mocks"))]
    #[must_use]
    pub fn untouched() -> Self {
        struct NoTasks;

        impl Tasks for NoTasks {
            fn spawn(&self, _: futures_util::future::BoxFuture<'static, ()>) {
                panic!("nothing may be spawned");
            }
        }

        Self {
            users: Arc::new(store::MockUserRepository::new()),
            sessions: Arc::new(store::MockSessionRepository::new()),
            workspaces: Arc::new(store::MockWorkspaceRepository::new()),
            chats: Arc::new(store::MockChatRepository::new()),
            replies: Arc::new(store::MockReplyRepository::new()),
            work: Arc::new(store::MockUnitOfWork::new()),
            inference: Arc::default(),
            passwords: Arc::new(passwords::MockPasswordHasher::new()),
            tokens: Arc::new(tokens::MockTokenSigner::new()),
            clock: Arc::new(clock::MockClock::new()),
            entropy: Arc::new(clock::MockEntropy::new()),
            tasks: Arc::new(NoTasks),
        }
    }

    /// A new id, of the present time and chance.
    pub fn new_id<I: From<Uuid>>(&self) -> I {
        I::from(id::time_sorted(self.clock.now(), &self.random()))
    }

    /// So many unforeseeable bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}
