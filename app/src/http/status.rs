//! Whether the program lives.

use poem_openapi::{Enum, Object, OpenApi, Tags};
use serde::Serialize;

use super::edge::json::Json;

#[derive(Tags)]
enum Tag {
    /// Health
    Health,
}

/// The routes under `/health/`.
pub struct Status;

#[derive(Debug, Object, Serialize)]
struct Health {
    status: Alive,
}

#[derive(Debug, Enum, Serialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
enum Alive {
    Ok,
}

#[OpenApi(prefix_path = "/health/", tag = "Tag::Health")]
impl Status {
    /// Tells that the process lives
    ///
    /// Touches no backend.
    #[oai(path = "/", method = "get", operation_id = "get_health")]
    async fn health(&self) -> Json<Health> {
        Json(Health { status: Alive::Ok })
    }
}
