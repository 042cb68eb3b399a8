//! The things the product is about, and their rules. Pure: no clock, no chance, no I/O.

pub mod chat;
pub mod idempotency;
pub mod installation;
pub mod invitation;
pub mod password;
pub mod search;
pub mod secret;
pub mod session;
pub mod text;
pub mod user;
pub mod workspace;
