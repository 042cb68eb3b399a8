//! `/workspaces`: where teams talk.

use poem_openapi::param::Header;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};
use private_chat_core::usecase::workspaces::{NewWorkspace, WorkspaceChange};
use serde::Deserialize;

use super::caller::{Caller, DeleteWorkspace, EditWorkspace, In, ReadChats, SeeWorkspace};
use super::edge::events::EventStream;
use super::edge::fault::Failed;
use super::edge::guard::{By, Query};
use super::edge::json::{Json, NoContent};
use super::feed::{self, EventView, FeedFails};
use super::page::{self, Cursor, Limit, Page};
use super::problem::{CONFLICT, IDEMPOTENCY_KEY_REUSED, NOT_FOUND, TOO_MANY_WORKSPACES};
use super::repeat::Repeat;
use super::view::{WorkspaceView, patch};
use super::{State, Tag};
use crate::fails;

/// The routes under `/workspaces`.
pub struct WorkspacesApi(pub State);

/// A workspace to be made.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct CreateWorkspaceRequest {
    /// What people call it: 1 to 100 characters.
    name: String,
    /// What it is for: up to 2000 characters.
    #[serde(default)]
    #[oai(nullable)]
    description: Option<String>,
}

/// What is to change; what is left out stays.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct UpdateWorkspaceRequest {
    /// What people call it: 1 to 100 characters.
    name: Option<String>,
    /// What it is for: up to 2000 characters; null for nothing.
    #[serde(default)]
    #[oai(nullable)]
    description: MaybeUndefined<String>,
    /// The model of its chats that name none, as `GET /models` lists it; null for the server's default.
    #[serde(default)]
    #[oai(nullable)]
    default_model: MaybeUndefined<String>,
    /// What the model is told before every conversation: up to 32 KiB; null for nothing.
    #[serde(default)]
    #[oai(nullable)]
    system_prompt: MaybeUndefined<String>,
}

fails!(CreateWorkspaceFails: TOO_MANY_WORKSPACES, CONFLICT, NOT_FOUND, IDEMPOTENCY_KEY_REUSED);
fails!(ChangeWorkspaceFails: CONFLICT);

#[OpenApi(prefix_path = "/workspaces/", tag = "Tag::Workspaces")]
impl WorkspacesApi {
    /// The caller's workspaces, newest first
    #[oai(path = "/", method = "get", operation_id = "list_workspaces")]
    async fn list(
        &self,
        by: By<Caller>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<WorkspaceView>>, Failed> {
        let asked = page::request(&limit, &cursor)?;
        Ok(Json(Page::of(self.0.cases.workspaces.list(&by.0.0, asked).await?)))
    }

    /// Make a workspace
    ///
    /// The caller becomes its OWNER.
    #[oai(path = "/", method = "post", operation_id = "create_workspace")]
    async fn create(
        &self,
        by: By<Caller>,
        #[oai(name = "Idempotency-Key")] input: Repeat<CreateWorkspaceRequest>,
    ) -> Result<Json<WorkspaceView, 201>, Failed<CreateWorkspaceFails>> {
        let CreateWorkspaceRequest { name, description } = input.body;
        let new = NewWorkspace { name, description };
        Ok(Json(self.0.cases.workspaces.create(&by.0.0, new, input.request).await?.into()))
    }

    /// A workspace
    #[oai(path = "/:workspace_id", method = "get", operation_id = "get_workspace")]
    async fn get(&self, by: By<In<SeeWorkspace>>) -> Result<Json<WorkspaceView>, Failed> {
        Ok(Json(by.0.0.joined().clone().into()))
    }

    /// Change a workspace's settings
    ///
    /// For OWNERs.
    #[oai(path = "/:workspace_id", method = "put", operation_id = "update_workspace")]
    async fn update(
        &self,
        by: By<In<EditWorkspace>>,
        input: Json<UpdateWorkspaceRequest>,
    ) -> Result<Json<WorkspaceView>, Failed<ChangeWorkspaceFails>> {
        let UpdateWorkspaceRequest { name, description, default_model, system_prompt } = input.0;
        let change = WorkspaceChange {
            name,
            description: patch(description),
            default_model: patch(default_model),
            system_prompt: patch(system_prompt),
        };
        Ok(Json(self.0.cases.workspaces.change(&by.0.0, change).await?.into()))
    }

    /// Delete a workspace
    ///
    /// For OWNERs. All that is in it goes too, for everybody at once.
    #[oai(path = "/:workspace_id", method = "delete", operation_id = "delete_workspace")]
    async fn delete(&self, by: By<In<DeleteWorkspace>>) -> Result<NoContent, Failed<ChangeWorkspaceFails>> {
        self.0.cases.workspaces.delete(&by.0.0).await?;
        Ok(NoContent)
    }

    /// Follow everything in a workspace
    ///
    /// Server-sent events. Without a cursor the stream opens with a frame that has only an `id:`, and the running replies. With the last `id:`
    /// in `Last-Event-ID` (or `?after=`) what was missed comes first. Apply a delta as `text = text[:offset] + content`.
    #[oai(path = "/:workspace_id/events", method = "get", operation_id = "follow_workspace", tag = "Tag::Events")]
    async fn events(
        &self,
        by: By<In<ReadChats>>,
        #[oai(name = "Last-Event-ID")] last_event_id: Header<Option<u64>>,
        after: Query<Option<u64>>,
    ) -> Result<EventStream<EventView>, Failed<FeedFails>> {
        let cases = &self.0.cases;
        let watch = cases.live.watch(&by.0.0, last_event_id.0.or(after.0)).await?;
        Ok(feed::stream(watch, &self.0.stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::names::reads_as_documented;

    #[test]
    fn requests_are_read_as_the_document_shows_them() {
        reads_as_documented::<CreateWorkspaceRequest>();
        reads_as_documented::<UpdateWorkspaceRequest>();
    }
}
