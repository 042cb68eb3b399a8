//! `/health`: whether the program lives, and is fit to serve.

use poem_openapi::{Enum, Object, OpenApi};
use private_chat_core::usecase::status::NotReady;
use serde::Serialize;

use super::edge::fault::{Failed, Fault};
use super::edge::json::Json;
use super::problem::{SHUTTING_DOWN, SOON, UNAVAILABLE};
use super::{State, Tag};
use crate::fails;

/// The route of liveness, which needs nothing.
pub struct Liveness;

/// The route of readiness.
pub struct Readiness(pub State);

#[derive(Debug, Object, Serialize)]
struct Health {
    /// Always `ok`: whoever reads it has its answer.
    status: Alive,
}

#[derive(Debug, Enum, Serialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
enum Alive {
    Ok,
}

fails!(ReadyFails: UNAVAILABLE, SHUTTING_DOWN);

#[OpenApi(prefix_path = "/health/", tag = "Tag::Health")]
impl Liveness {
    /// Tells that the process lives
    ///
    /// Touches no backend.
    #[oai(path = "/", method = "get", operation_id = "get_health")]
    async fn health(&self) -> Json<Health> {
        Json(Health { status: Alive::Ok })
    }
}

#[OpenApi(prefix_path = "/health/", tag = "Tag::Health")]
impl Readiness {
    /// Tells whether the process is fit to serve
    ///
    /// The database answers and has the schema of this version, and the process is not stopping.
    #[oai(path = "/ready", method = "get", operation_id = "get_readiness")]
    async fn ready(&self) -> Result<Json<Health>, Failed<ReadyFails>> {
        match self.0.cases.status.ready().await {
            Ok(()) => Ok(Json(Health { status: Alive::Ok })),
            Err(NotReady::Database) => Err(Fault::new(&UNAVAILABLE)
                .saying("The database does not answer, or does not have the schema of this version yet.")
                .retry_after(SOON)
                .into()),
            Err(NotReady::Draining) => Err(Fault::new(&SHUTTING_DOWN).retry_after(SOON).into()),
        }
    }
}
