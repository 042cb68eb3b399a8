//! The contract that every adapter signs, and what tests of the whole share.
//!
//! An adapter of a port is right when it passes the port's [`contract`], whatever lies behind it. The cases are plain functions over the port,
//! so that a crate of somebody else runs them on an adapter of its own:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use libtest_mimic::Arguments;
//! use private_chat_adapters::memory::MemoryStore;
//! use private_chat_tests::contract::{Fresh, Subject, store, trials};
//!
//! let subject = || Subject::fresh(|| async { Fresh::new(Arc::new(MemoryStore::new()) as Arc<_>) });
//! libtest_mimic::run(&Arguments::from_args(), trials("mine", "store", store::CASES, subject)).exit();
//! ```
//!
//! A store of somebody else is put to [`access::CASES`] in the same way: who may do what, in the whole application on it.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "whatever goes wrong in a test fails it")]

pub mod access;
pub mod client;
pub mod contract;
pub mod document;
pub mod fixture;
pub mod providers;
pub mod replay;
pub mod servers;
pub mod team;
