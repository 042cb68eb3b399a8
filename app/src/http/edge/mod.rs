//! The framework that the resources stand on: what every request passes on its way in and every answer on its way out.

pub mod client;
pub mod cors;
pub mod document;
pub mod endpoint;
pub mod events;
pub mod fault;
pub mod guard;
pub mod json;
pub mod serve;
pub mod time;

#[cfg(test)]
#[cfg(test)]
pub(crate) mod names;

mod body;
mod docs;
mod routes;
mod schema;
mod socket;

use std::sync::Arc;

use poem_openapi::OpenApi;
use serde_json::Value;

pub use routes::Page;

/// Puts an API behind the edge, beside its document, Swagger UI and further pages (`("/", page)`).
pub fn edge<A: OpenApi, S: Send + Sync + 'static>(
    api: A,
    state: Arc<S>,
    document: &Value,
    pages: Vec<(String, Page)>,
    settings: endpoint::Settings,
) -> endpoint::Edge<S> {
    let pages = docs::pages(document).into_iter().chain(pages).map(|(path, page)| (path, page.boxed())).collect();
    endpoint::Edge::new(routes::routes(api, pages), state, settings)
}

#[cfg(test)]
mod tests;
