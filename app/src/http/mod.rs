//! The program's face over HTTP.
//!
//! A resource file names routes, shapes and codes; everything that holds for all of them is the [`edge`]'s.

pub mod auth;
pub mod caller;
pub mod chats;
pub mod edge;
pub mod feed;
pub mod invitations;
pub mod members;
pub mod models;
pub mod page;
pub mod problem;
pub mod repeat;
pub mod status;
pub mod users;
pub mod view;
pub mod workspaces;

use std::sync::Arc;

use poem_openapi::{OpenApi, Tags};
use private_chat_core::usecase::UseCases;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

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
        access token is needed.\n\n\
        A request that makes something takes an `Idempotency-Key`: sent again under the same key within 24 h, it makes nothing again and \
        answers with what it made.",
    codes: problem::ALL,
    guarded: &[
        &problem::FORBIDDEN,
        &problem::PASSWORD_CHANGE_REQUIRED,
        &problem::UNAVAILABLE,
        &problem::BUSY,
        &problem::SHUTTING_DOWN,
    ],
};

/// The subjects that the document sorts operations by.
#[derive(Tags)]
enum Tag {
    /// Signing in and out
    Auth,
    /// Accounts
    Users,
    /// Where teams talk
    Workspaces,
    /// Chats, messages and models
    Chats,
    /// What happens, as it happens
    Events,
    /// For those who run the server
    Health,
}

/// What every route stands on.
#[derive(Clone)]
pub struct State {
    /// What the product does.
    pub cases: UseCases,
    /// Ends the streams that are open, when the server stops.
    pub stop: CancellationToken,
}

fn api(state: &State) -> Api {
    (
        auth::AuthApi(state.clone()),
        auth::KeysApi(state.clone()),
        users::UsersApi(state.clone()),
        workspaces::WorkspacesApi(state.clone()),
        members::MembersApi(state.clone()),
        invitations::InvitationsApi(state.clone()),
        invitations::InvitedApi(state.clone()),
        chats::ChatsApi(state.clone()),
        models::ModelsApi(state.clone()),
        status::Liveness,
        status::Readiness(state.clone()),
    )
}

type Api = (
    auth::AuthApi,
    auth::KeysApi,
    users::UsersApi,
    workspaces::WorkspacesApi,
    members::MembersApi,
    invitations::InvitationsApi,
    invitations::InvitedApi,
    chats::ChatsApi,
    models::ModelsApi,
    status::Liveness,
    status::Readiness,
);

/// The product's OpenAPI document.
///
/// # Errors
/// What is wrong with the API's description.
pub fn product_document() -> Result<Value, String> {
    document::<Api>()
}

/// The product: its API, the document, Swagger UI and further pages, behind the edge.
///
/// # Errors
/// What is wrong with the API's description.
pub fn product(state: State, pages: Vec<(String, Page)>, settings: Settings) -> Result<Edge<State>, String> {
    app(api(&state), Arc::new(state), pages, settings)
}

/// The OpenAPI document of an API.
fn document<A: OpenApi>() -> Result<Value, String> {
    document_of::<A>(&ABOUT)
}

/// An API, its document, Swagger UI and further pages, behind the edge. Guards find `state` as theirs.
fn app<A: OpenApi, S: Send + Sync + 'static>(
    api: A,
    state: Arc<S>,
    pages: Vec<(String, Page)>,
    settings: Settings,
) -> Result<Edge<S>, String> {
    Ok(edge::edge(api, state, &document::<A>()?, pages, settings))
}
