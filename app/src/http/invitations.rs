//! Invitations: under `/workspaces/{workspace_id}` as OWNERs see them, under `/invitations` as the invited do.

use poem_openapi::{Object, OpenApi};
use private_chat_core::error::{Error, Violation};
use private_chat_core::id::InvitationId;
use private_chat_core::usecase::invitations::Which;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::caller::{Caller, In, Invite};
use super::edge::fault::Failed;
use super::edge::guard::{By, Id, Query};
use super::edge::json::{Json, NoContent};
use super::page::{self, Cursor, Limit, Page};
use super::problem::{ALREADY_MEMBER, CONFLICT, IDEMPOTENCY_KEY_REUSED, NOT_FOUND, TOO_MANY_WORKSPACES};
use super::repeat::Repeat;
use super::view::{InvitationView, RoleView, WorkspaceView};
use super::{State, Tag};
use crate::fails;

/// The routes of a workspace's invitations.
pub struct InvitationsApi(pub State);

/// The routes of the caller's invitations.
pub struct InvitedApi(pub State);

/// Who is invited, as what.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct InviteRequest {
    /// Their address, whether they have an account or not.
    email: String,
    /// As what they join.
    role: RoleView,
}

/// An invitation, with its token: shown in this answer, and never again.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "CreatedInvitation")]
struct CreatedView {
    /// The invitation.
    #[serde(flatten)]
    #[oai(flatten)]
    invitation: InvitationView,
    /// What to send to whoever is invited. It is of use only to them: with `POST /invitations/accept`, or, as long as they have no account, with
    /// `POST /auth/register`.
    token: String,
}

/// Which invitation is meant: exactly one of the two is needed.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct InvitationRequest {
    /// The invitation's token. Not together with `invitation_id`.
    token: Option<String>,
    /// The invitation's id, as `GET /invitations` lists it. Not together with `token`.
    invitation_id: Option<Uuid>,
}

impl InvitationRequest {
    fn which(self) -> Result<Which, Error> {
        match (self.token, self.invitation_id) {
            (Some(token), None) => Ok(Which::Token(token)),
            (None, Some(id)) => Ok(Which::Id(id.into())),
            (None, None) | (Some(_), Some(_)) => {
                let message = "exactly one of `token` and `invitation_id` is needed";
                Err(Error::Invalid(["token", "invitation_id"].map(|field| Violation::new(field, message)).into()))
            }
        }
    }
}

fails!(InviteFails: ALREADY_MEMBER, CONFLICT, IDEMPOTENCY_KEY_REUSED);
fails!(RevokeFails: CONFLICT);
fails!(AcceptFails: NOT_FOUND, ALREADY_MEMBER, TOO_MANY_WORKSPACES, CONFLICT);
fails!(DeclineFails: NOT_FOUND, CONFLICT);

#[OpenApi(prefix_path = "/workspaces/:workspace_id", tag = "Tag::Workspaces")]
impl InvitationsApi {
    /// Invite somebody
    ///
    /// For OWNERs. The invitation stands for 7 days and can be used once, by whoever has the address. An earlier one to the same address is
    /// void.
    #[oai(path = "/invite", method = "post", operation_id = "create_invitation")]
    async fn invite(
        &self,
        by: By<In<Invite>>,
        #[oai(name = "Idempotency-Key")] input: Repeat<InviteRequest>,
    ) -> Result<Json<CreatedView, 201>, Failed<InviteFails>> {
        let InviteRequest { email, role } = input.body;
        let invited = self.0.cases.invitations.invite(&by.0.0, &email, role.into(), input.request).await?;
        let (invitation, token) = invited;
        Ok(Json(CreatedView { invitation: invitation.into(), token: token.expose().to_owned() }))
    }

    /// The pending invitations into a workspace, newest first
    ///
    /// For OWNERs.
    #[oai(path = "/invitations", method = "get", operation_id = "list_workspace_invitations")]
    async fn list(
        &self,
        by: By<In<Invite>>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<InvitationView>>, Failed> {
        let page = self.0.cases.invitations.list(&by.0.0, page::request(&limit, &cursor)?).await?;
        Ok(Json(Page::of(page)))
    }

    /// Take an invitation back
    ///
    /// For OWNERs.
    #[oai(path = "/invitations/:invitation_id", method = "delete", operation_id = "revoke_invitation")]
    async fn revoke(
        &self,
        by: By<In<Invite>>,
        invitation_id: Id<InvitationId>,
    ) -> Result<NoContent, Failed<RevokeFails>> {
        self.0.cases.invitations.revoke(&by.0.0, invitation_id.0).await?;
        Ok(NoContent)
    }
}

#[OpenApi(prefix_path = "/invitations", tag = "Tag::Workspaces")]
impl InvitedApi {
    /// The caller's invitations, newest first
    ///
    /// The pending ones that are addressed to the caller's email.
    #[oai(path = "/", method = "get", operation_id = "list_invitations")]
    async fn list(
        &self,
        by: By<Caller>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<InvitationView>>, Failed> {
        let asked = page::request(&limit, &cursor)?;
        Ok(Json(Page::of(self.0.cases.invitations.addressed_to(&by.0.0, asked).await?)))
    }

    /// Accept an invitation
    ///
    /// The caller becomes a member of the workspace. For whoever has the invited email; for anybody else there is no such invitation.
    #[oai(path = "/accept", method = "post", operation_id = "accept_invitation")]
    async fn accept(
        &self,
        by: By<Caller>,
        input: Json<InvitationRequest>,
    ) -> Result<Json<WorkspaceView>, Failed<AcceptFails>> {
        let which = input.0.which()?;
        Ok(Json(self.0.cases.invitations.accept(&by.0.0, &which).await?.into()))
    }

    /// Turn an invitation down
    ///
    /// For whoever has the invited email; for anybody else there is no such invitation.
    #[oai(path = "/decline", method = "post", operation_id = "decline_invitation")]
    async fn decline(&self, by: By<Caller>, input: Json<InvitationRequest>) -> Result<NoContent, Failed<DeclineFails>> {
        self.0.cases.invitations.decline(&by.0.0, &input.0.which()?).await?;
        Ok(NoContent)
    }
}

#[cfg(test)]
mod tests {
    use private_chat_core::model::invitation::Invited;
    use private_chat_tests::fixture::{a_user, a_workspace, an_invitation};

    use super::*;
    use crate::http::edge::names::{reads_as_documented, writes_as_documented};

    #[test]
    fn an_invitation_is_written_as_the_document_shows_it() {
        let workspace = a_workspace();
        let invitation = an_invitation(&workspace, &a_user());
        let invitation = Invited { invitation, workspace_name: workspace.name }.into();
        writes_as_documented(&CreatedView { invitation, token: "pci_x".into() });
    }

    #[test]
    fn requests_are_read_as_the_document_shows_them() {
        reads_as_documented::<InviteRequest>();
        reads_as_documented::<InvitationRequest>();
    }

    // R13
    #[test]
    fn an_invitation_is_named_in_one_way() {
        let (token, id) = (|| Some("pci_x".to_owned()), || Some(Uuid::from_u128(1)));
        let which = |token, invitation_id| InvitationRequest { token, invitation_id }.which();
        assert!(matches!(which(token(), None), Ok(Which::Token(_))));
        assert!(matches!(which(None, id()), Ok(Which::Id(_))));
        for wrong in [which(None, None), which(token(), id())] {
            let Err(Error::Invalid(wrong)) = wrong else { panic!("{wrong:?}") };
            assert_eq!(wrong.iter().map(|wrong| wrong.field.as_str()).collect::<Vec<_>>(), ["token", "invitation_id"]);
        }
    }
}
