//! The core of private-chat: what the product does, and nothing of how the world is reached.
//!
//! A request reaches a use case ([`usecase`]), which reads through ports ([`port`]), decides in plain code ([`model`], [`policy`]) and hands
//! everything it wants written to one [`commit`](port::store::UnitOfWork::commit) as a value ([`change`]). Nothing here knows HTTP, SQL or a
//! runtime: time, chance, tasks, databases, models and keys are ports, and whoever drives the core plugs them in as [`Ports`](port::Ports).

#![warn(missing_docs)]

pub mod change;
pub mod error;
pub mod id;
pub mod model;
pub mod page;
pub mod policy;
pub mod port;
pub mod time;
pub mod usecase;
