//! What the core's ports are plugged into. One folder (or file) an adapter, one line in the register.

pub mod adapter;
#[cfg(feature = "argon2")]
pub mod argon2;
#[cfg(feature = "echo")]
pub mod echo;
#[cfg(feature = "jwt")]
pub mod jwt;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "openai")]
pub mod openai;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "system")]
pub mod system;

#[cfg(feature = "sql")]
use private_chat_core::port::store::Store;

/// The databases that `database.backend` may name.
#[cfg(feature = "sql")]
pub const DATABASES: &[adapter::Adapter<dyn Store>] = &[sql::SQLITE, sql::MYSQL];
