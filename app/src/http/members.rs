//! `/workspaces/{workspace_id}/members`: who belongs to a workspace.

use poem_openapi::{Object, OpenApi};
use private_chat_core::id::UserId;
use serde::Deserialize;

use super::caller::{ChangeRoles, In, Leave, SeeMembers};
use super::edge::fault::Failed;
use super::edge::guard::{By, Id, Query};
use super::edge::json::{Json, NoContent};
use super::page::{self, Cursor, Limit, Page};
use super::problem::{CONFLICT, LAST_OWNER};
use super::view::{MemberView, RoleView};
use super::{State, Tag};
use crate::fails;

/// The routes of members.
pub struct MembersApi(pub State);

/// What a member is to be.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct UpdateMemberRequest {
    /// Their role in the workspace.
    role: RoleView,
}

fails!(MemberFails: LAST_OWNER, CONFLICT);

#[OpenApi(prefix_path = "/workspaces/:workspace_id", tag = "Tag::Workspaces")]
impl MembersApi {
    /// The members of a workspace
    ///
    /// In the order in which their accounts were made.
    #[oai(path = "/members", method = "get", operation_id = "list_members")]
    async fn list(
        &self,
        by: By<In<SeeMembers>>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<MemberView>>, Failed> {
        let page = self.0.cases.members.list(&by.0.0, page::request(&limit, &cursor)?).await?;
        Ok(Json(Page::of(page)))
    }

    /// Give a member another role
    ///
    /// For OWNERs.
    #[oai(path = "/members/:user_id", method = "put", operation_id = "update_member")]
    async fn update(
        &self,
        by: By<In<ChangeRoles>>,
        user_id: Id<UserId>,
        input: Json<UpdateMemberRequest>,
    ) -> Result<Json<MemberView>, Failed<MemberFails>> {
        let role = input.0.role.into();
        Ok(Json(self.0.cases.members.change_role(&by.0.0, user_id.0, role).await?.into()))
    }

    /// Remove a member, or leave
    ///
    /// Everybody may leave; OWNERs may remove others. What was written stays. Invitations that the member made are void.
    #[oai(path = "/members/:user_id", method = "delete", operation_id = "remove_member")]
    async fn remove(&self, by: By<In<Leave>>, user_id: Id<UserId>) -> Result<NoContent, Failed<MemberFails>> {
        self.0.cases.members.remove(&by.0.0, user_id.0).await?;
        Ok(NoContent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::names::reads_as_documented;

    #[test]
    fn requests_are_read_as_the_document_shows_them() {
        reads_as_documented::<UpdateMemberRequest>();
    }
}
