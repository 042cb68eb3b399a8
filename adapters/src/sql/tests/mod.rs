//! What the contract can't see: how this adapter keeps its promises.

mod mysql;
mod people;
mod search;
mod sqlite;

use private_chat_core::change::{Instance, Version};
use uuid::Uuid;

use super::*;

fn an_instance(number: u128) -> Instance {
    Instance { id: Uuid::from_u128(number).into(), beat: 0, version: Version::FIRST }
}

fn insert(number: u128) -> Changes {
    Changes::new().insert(an_instance(number))
}

fn is_unavailable<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Failure::Unavailable { .. }))
}
