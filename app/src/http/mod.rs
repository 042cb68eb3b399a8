//! The program's face over HTTP.
//!
//! A resource file names routes, shapes and codes; everything that holds for all of them is the [`edge`]'s.

pub mod edge;
pub mod page;
pub mod problem;
pub mod status;

use std::sync::Arc;

use poem_openapi::OpenApi;
use serde_json::Value;

use edge::Page;
use edge::document::{About, document as document_of};
use edge::endpoint::{Edge, Settings};

const ABOUT: About = About {
    title: "private-chat",
    version: env!("CARGO_PKG_VERSION"),
    description: "A self-hosted chat backend for teams that talk with AI models together.\n\n\
        Every route answers with and without a slash at its end. Errors are `application/problem+json` (RFC 9457); programs switch on `code`. \
        Ids are UUIDs, times are RFC 3339 in UTC. A field without a value is `null`. Unknown fields of a body are refused; unknown \
        parameters of a query are ignored; of two equal keys of an object the last one counts. A body may have 1 MiB, and 16 KiB where no \
        access token is needed.",
    codes: problem::ALL,
    guarded: &[
        &problem::FORBIDDEN,
        &problem::PASSWORD_CHANGE_REQUIRED,
        &problem::UNAVAILABLE,
        &problem::BUSY,
        &problem::SHUTTING_DOWN,
    ],
};

/// The OpenAPI document of an API.
///
/// # Errors
/// What is wrong with the API's description.
pub fn document<A: OpenApi>() -> Result<Value, String> {
    document_of::<A>(&ABOUT)
}

/// The whole application: the API, its document, Swagger UI and further pages, behind the edge. Guards find `state` as theirs.
///
/// # Errors
/// What is wrong with the API's description.
pub fn app<A: OpenApi, S: Send + Sync + 'static>(
    api: A,
    state: Arc<S>,
    pages: Vec<(String, Page)>,
    settings: Settings,
) -> Result<Edge<S>, String> {
    Ok(edge::edge(api, state, &document::<A>()?, pages, settings))
}
