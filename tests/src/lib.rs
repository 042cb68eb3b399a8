//! The contract that every adapter signs, and what tests of the whole share.
//!
//! An adapter of a port is right when it passes the port's [`contract`], whatever lies behind it. The cases are plain functions over the port,
//! so that a crate of somebody else runs them on an adapter of its own.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "whatever goes wrong in a test fails it")]

pub mod client;
pub mod contract;
pub mod document;
pub mod fixture;
pub mod providers;
pub mod replay;
pub mod servers;
