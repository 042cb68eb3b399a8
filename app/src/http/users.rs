//! `/users`: accounts.

use poem_openapi::{Object, OpenApi};
use private_chat_core::model::user::GlobalRole;
use private_chat_core::usecase::users::NewUser;
use serde::Deserialize;

use super::caller::Admin;
use super::edge::fault::Failed;
use super::edge::guard::By;
use super::edge::json::Json;
use super::problem::EMAIL_TAKEN;
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

fails!(CreateUserFails: EMAIL_TAKEN);

#[OpenApi(prefix_path = "/users/", tag = "Tag::Users")]
impl UsersApi {
    /// Make an account
    ///
    /// For administrators.
    #[oai(path = "/", method = "post", operation_id = "create_user")]
    async fn create(
        &self,
        by: By<Admin>,
        input: Json<CreateUserRequest>,
    ) -> Result<Json<UserView, 201>, Failed<CreateUserFails>> {
        let CreateUserRequest { email, name, password, role, must_change_password } = input.0;
        let new = NewUser {
            email,
            name,
            password,
            role: role.map_or(GlobalRole::User, Into::into),
            must_change_password: must_change_password.unwrap_or(true),
        };
        Ok(Json(self.0.cases.users.create(&by.0.0, new).await?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::names::reads_as_documented;

    #[test]
    fn requests_are_read_as_the_document_shows_them() {
        reads_as_documented::<CreateUserRequest>();
    }
}
