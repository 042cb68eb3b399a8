//! What people live through, over several steps and several processes: the use cases on the memory adapters, which have signed the contract.
//!
//! Time passes when a story says so, and everything runs on one thread, so that a story goes the same way every time.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "whatever goes wrong in a test fails it")]

mod accounts;
mod conversations;
mod crowd;
mod deaths;
mod deletion;
mod ends;
mod feeds;
mod fuzz;
mod house;
mod housekeeping;
mod invitations;
mod members;
mod outages;
mod repeats;
mod resume;
mod rights;
mod screen;
mod sending;
mod sessions;
mod troubled;
mod turmoil;
mod users;
mod workspaces;
