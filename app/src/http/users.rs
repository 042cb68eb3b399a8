//! `/users`: accounts.

use poem_openapi::{Object, OpenApi};
use private_chat_core::model::user::GlobalRole;
use private_chat_core::port::store::UserFilter;
use private_chat_core::usecase::users::{NewUser, UserChange};
use serde::Deserialize;
use uuid::Uuid;

use super::caller::{Account, Admin, Managing};
use super::edge::fault::Failed;
use super::edge::guard::{By, Query};
use super::edge::json::{Json, NoContent};
use super::page::{self, Cursor, Limit, Page};
use super::problem::{
    CONFLICT, EMAIL_TAKEN, IDEMPOTENCY_KEY_REUSED, INVALID_CREDENTIALS, LAST_ADMIN, NOT_FOUND, OWN_ACCOUNT, SOLE_OWNER,
};
use super::repeat::Repeat;
use super::view::{GlobalRoleView, UserView};
use super::{State, Tag};
use crate::fails;

/// The routes under `/users`.
pub struct UsersApi(pub State);

/// An account to be made.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct CreateUserRequest {
    /// Their address.
    email: String,
    /// Their name: 1 to 100 characters.
    name: String,
    /// Their first password: 8 to 256 characters, none of the most common ones.
    password: String,
    /// Their installation-wide role; `USER` unless told.
    role: Option<GlobalRoleView>,
    /// Whether they must change the password before anything else; true unless told.
    must_change_password: Option<bool>,
}

/// What is to change; what is left out stays.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct UpdateUserRequest {
    /// Their address. One's own needs `current_password` too.
    email: Option<String>,
    /// Their name: 1 to 100 characters.
    name: Option<String>,
    /// Their installation-wide role. By another administrator only.
    role: Option<GlobalRoleView>,
    /// Whether they may sign in. By another administrator only.
    is_active: Option<bool>,
    /// Another password, which they must change before anything else: 8 to 256 characters, none of the most common ones. By another
    /// administrator only; one's own is changed with `POST /auth/password`.
    password: Option<String>,
    /// The caller's password, to change their own address.
    current_password: Option<String>,
}

fails!(CreateUserFails: EMAIL_TAKEN, CONFLICT, NOT_FOUND, IDEMPOTENCY_KEY_REUSED);
fails!(UpdateUserFails: INVALID_CREDENTIALS, OWN_ACCOUNT, LAST_ADMIN, EMAIL_TAKEN, CONFLICT);
fails!(DeleteUserFails: LAST_ADMIN, SOLE_OWNER, CONFLICT);
fails!(EndSessionsFails: CONFLICT);

#[OpenApi(prefix_path = "/users/", tag = "Tag::Users")]
impl UsersApi {
    /// The accounts, newest first
    ///
    /// For administrators.
    #[oai(path = "/", method = "get", operation_id = "list_users")]
    async fn list(
        &self,
        by: By<Admin>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
        /// What their address or name contains, whatever its case and accents.
        q: Query<Option<String>>,
        /// Those of this role alone.
        role: Query<Option<GlobalRoleView>>,
        /// Those alone who may sign in, or who may not.
        is_active: Query<Option<bool>>,
    ) -> Result<Json<Page<UserView>>, Failed> {
        let filter = UserFilter { query: q.0, role: role.0.map(Into::into), is_active: is_active.0 };
        let page = self.0.cases.users.list(&by.0.0, filter, page::request(&limit, &cursor)?).await?;
        Ok(Json(Page::of(page)))
    }

    /// Make an account
    ///
    /// For administrators.
    #[oai(path = "/", method = "post", operation_id = "create_user")]
    async fn create(
        &self,
        by: By<Admin>,
        #[oai(name = "Idempotency-Key")] input: Repeat<CreateUserRequest>,
    ) -> Result<Json<UserView, 201>, Failed<CreateUserFails>> {
        let CreateUserRequest { email, name, password, role, must_change_password } = input.body;
        let new = NewUser {
            email,
            name,
            password,
            role: role.map_or(GlobalRole::User, Into::into),
            must_change_password: must_change_password.unwrap_or(true),
        };
        Ok(Json(self.0.cases.users.create(&by.0.0, new, input.request).await?.into()))
    }

    /// An account
    ///
    /// For administrators, and for its owner.
    #[oai(path = "/:user_id", method = "get", operation_id = "get_user")]
    async fn get(&self, by: By<Account>) -> Result<Json<UserView>, Failed> {
        Ok(Json(by.0.0.user().clone().into()))
    }

    /// Change an account
    ///
    /// For administrators, and for its owner. Another role, another password and a deactivation end the user's sessions at once.
    #[oai(path = "/:user_id", method = "put", operation_id = "update_user")]
    async fn update(
        &self,
        by: By<Account>,
        input: Json<UpdateUserRequest>,
    ) -> Result<Json<UserView>, Failed<UpdateUserFails>> {
        let UpdateUserRequest { email, name, role, is_active, password, current_password } = input.0;
        let role = role.map(Into::into);
        let change = UserChange { email, name, role, is_active, password, current_password };
        Ok(Json(self.0.cases.users.change(&by.0.0, change).await?.into()))
    }

    /// Delete an account
    ///
    /// For administrators. What the user wrote stays, and shows a removed author.
    #[oai(path = "/:user_id", method = "delete", operation_id = "delete_user")]
    async fn delete(
        &self,
        by: By<Managing>,
        /// Who gets the workspaces that nobody else owns.
        transfer_to: Query<Option<Uuid>>,
    ) -> Result<NoContent, Failed<DeleteUserFails>> {
        self.0.cases.users.delete(&by.admin, by.user, transfer_to.0.map(Into::into)).await?;
        Ok(NoContent)
    }

    /// End all sessions of a user
    ///
    /// For administrators. The user can sign in again.
    #[oai(path = "/:user_id/sessions", method = "delete", operation_id = "end_user_sessions")]
    async fn end_sessions(&self, by: By<Managing>) -> Result<NoContent, Failed<EndSessionsFails>> {
        self.0.cases.users.end_sessions(&by.admin, by.user).await?;
        Ok(NoContent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::names::reads_as_documented;

    #[test]
    fn requests_are_read_as_the_document_shows_them() {
        reads_as_documented::<CreateUserRequest>();
        reads_as_documented::<UpdateUserRequest>();
    }
}
