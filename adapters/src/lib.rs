//! What the core's ports are plugged into. One folder (or file) an adapter, one line in the register.

pub mod adapter;
#[cfg(feature = "argon2")]
pub mod argon2;
#[cfg(feature = "echo")]
pub mod echo;
#[cfg(feature = "jwt")]
pub mod jwt;
pub mod key_file;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "openai")]
pub mod openai;
pub mod provider;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "system")]
pub mod system;

#[cfg(feature = "sql")]
use private_chat_core::port::store::Store;
use provider::ProviderKind;

/// What `inference.providers.<name>.kind` may be.
pub const PROVIDER_KINDS: &[ProviderKind] = &[
    #[cfg(feature = "openai")]
    openai::OPENAI,
    #[cfg(feature = "openai")]
    openai::VLLM,
    #[cfg(feature = "echo")]
    echo::ECHO,
];
/// The databases that `database.backend` may name.
#[cfg(feature = "sql")]
pub const DATABASES: &[adapter::Adapter<dyn Store>] = &[sql::SQLITE, sql::MYSQL];
