//! `/auth`: the first administrator, newcomers with an invitation, signing in, staying signed in, signing out.

use poem_openapi::{Object, OpenApi, Union};
use private_chat_core::error::Error;
use private_chat_core::id::SessionId;
use private_chat_core::usecase::auth::{Setup, SignedIn, Tokens};
use private_chat_core::usecase::invitations::Registration;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, CallerEvenIfUnsettled};
use super::edge::client::Client;
use super::edge::fault::{Failed, Fault};
use super::edge::guard::{By, Id, Query};
use super::edge::json::{Json, NoContent};
use super::page::{self, Cursor, Limit, Page};
use super::problem::{
    BUSY, CONFLICT, EMAIL_TAKEN, INVALID_CREDENTIALS, INVALID_INVITATION_TOKEN, INVALID_REFRESH_TOKEN,
    INVALID_SETUP_TOKEN, REFRESH_TOKEN_REUSED, SETUP_COMPLETED, UNAVAILABLE,
};
use super::view::{SessionView, UserView};
use super::{State, Tag};
use crate::fails;

/// The routes under `/auth`.
pub struct AuthApi(pub State);

/// What makes the first administrator.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct SetupRequest {
    /// Their address.
    email: String,
    /// Their name: 1 to 100 characters.
    name: String,
    /// Their password: 8 to 256 characters, none of the most common ones.
    password: String,
    /// The setup token, where the operator has configured one.
    setup_token: Option<String>,
}

/// What makes the account of somebody who is invited.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct RegisterRequest {
    /// The token of the invitation.
    token: String,
    /// Their name: 1 to 100 characters.
    name: String,
    /// Their password: 8 to 256 characters, none of the most common ones.
    password: String,
}

/// Who signs in.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct LoginRequest {
    /// Their address.
    email: String,
    /// Their password.
    password: String,
}

/// A refresh token to be spent.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct RefreshRequest {
    /// The refresh token.
    refresh_token: String,
}

/// A change of one's own password.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
struct PasswordRequest {
    /// The password as it is.
    current_password: String,
    /// The password as it shall be: 8 to 256 characters, none of the most common ones.
    new_password: String,
}

/// The tokens of a session.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Tokens")]
pub struct TokensView {
    /// A JWT for the `Authorization` header.
    pub access_token: String,
    /// For `POST /auth/refresh`, once.
    pub refresh_token: String,
    /// How to send the access token.
    pub token_type: TokenType,
    /// How long the access token stands, in seconds.
    pub expires_in: u64,
    /// How long the refresh token stands, in seconds.
    pub refresh_expires_in: u64,
}

/// How to send an access token.
#[derive(Clone, Copy, Debug, Serialize, poem_openapi::Enum)]
pub enum TokenType {
    /// As `Authorization: Bearer …` (RFC 6750).
    Bearer,
}

impl From<Tokens> for TokensView {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access.expose().to_owned(),
            refresh_token: tokens.refresh.expose().to_owned(),
            token_type: TokenType::Bearer,
            expires_in: tokens.expires_in.as_secs(),
            refresh_expires_in: tokens.refresh_expires_in.as_secs(),
        }
    }
}

/// Somebody who has just signed in.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "SignedIn")]
struct SignedInView {
    /// Who.
    user: UserView,
    /// Their tokens.
    tokens: TokensView,
}

impl From<SignedIn> for SignedInView {
    fn from(SignedIn { user, tokens }: SignedIn) -> Self {
        Self { user: user.into(), tokens: tokens.into() }
    }
}

/// How far a login is.
#[derive(Debug, Serialize, Union)]
#[serde(tag = "status", rename_all = "snake_case")]
#[oai(discriminator_name = "status", one_of = true, rename = "Login")]
enum LoginView {
    /// Signed in.
    #[oai(mapping = "authenticated")]
    Authenticated(SignedInView),
}

/// A set of public keys (RFC 7517, section 5).
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(rename = "JwkSet")]
struct JwkSetView {
    /// The keys.
    keys: Vec<JwkView>,
}

/// A public RSA key (RFC 7517, RFC 7518).
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(rename = "Jwk")]
struct JwkView {
    /// The key's type, `RSA`.
    kty: String,
    /// What it is for, `sig`.
    #[serde(rename = "use")]
    #[oai(rename = "use")]
    purpose: String,
    /// The algorithm it is used with, `RS256`.
    alg: String,
    /// Which key, as tokens name it.
    kid: String,
    /// The modulus.
    n: String,
    /// The exponent.
    e: String,
}

fails!(SetupFails: SETUP_COMPLETED, INVALID_SETUP_TOKEN, BUSY, UNAVAILABLE);
fails!(RegisterFails: INVALID_INVITATION_TOKEN, EMAIL_TAKEN, BUSY, UNAVAILABLE);
fails!(LoginFails: INVALID_CREDENTIALS, BUSY, UNAVAILABLE);
fails!(RefreshFails: INVALID_REFRESH_TOKEN, REFRESH_TOKEN_REUSED, CONFLICT, UNAVAILABLE);
fails!(LogoutFails: CONFLICT);
fails!(EndSessionFails: CONFLICT);
fails!(PasswordFails: INVALID_CREDENTIALS, CONFLICT);

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl AuthApi {
    /// Make the first administrator
    ///
    /// Works once; of many who try at the same time exactly one succeeds.
    #[oai(path = "/setup", method = "post", operation_id = "setup")]
    async fn setup(
        &self,
        client: &Client,
        input: Json<SetupRequest>,
    ) -> Result<Json<SignedInView, 201>, Failed<SetupFails>> {
        let SetupRequest { email, name, password, setup_token } = input.0;
        let setup = Setup { email, name, password, setup_token };
        Ok(Json(self.0.cases.auth.setup(setup, client.device()).await?.into()))
    }

    /// Make an account by an invitation
    ///
    /// For those who have none yet: the account has the invited email, is signed in, and is a member of the workspace. Those who have an account
    /// sign in and accept the invitation.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(
        &self,
        client: &Client,
        input: Json<RegisterRequest>,
    ) -> Result<Json<SignedInView, 201>, Failed<RegisterFails>> {
        let RegisterRequest { token, name, password } = input.0;
        let new = Registration { token, name, password };
        Ok(Json(self.0.cases.invitations.register(new, client.device()).await?.into()))
    }

    /// Sign in
    ///
    /// The answer is the same, and takes as long, for an unknown address, a wrong password and an account that may not sign in.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, client: &Client, input: Json<LoginRequest>) -> Result<Json<LoginView>, Failed<LoginFails>> {
        let LoginRequest { email, password } = input.0;
        let signed_in = self.0.cases.auth.login(&email, password, client.device()).await?;
        Ok(Json(LoginView::Authenticated(signed_in.into())))
    }

    /// Trade a refresh token for a new pair
    ///
    /// A refresh token is spent by this. Sent again within 10 s because the answer was lost, while its successor is unused, it yields another
    /// pair and the unused one dies. Sent again in any other case it ends the whole session: somebody may have a copy.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(&self, input: Json<RefreshRequest>) -> Result<Json<TokensView>, Failed<RefreshFails>> {
        Ok(Json(self.0.cases.auth.refresh(&input.refresh_token).await?.into()))
    }

    /// Sign out
    ///
    /// Ends this session: its access token, its refresh token, and its open streams.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, by: By<CallerEvenIfUnsettled>) -> Result<NoContent, Failed<LogoutFails>> {
        self.0.cases.auth.logout(&by.0.0).await?;
        Ok(NoContent)
    }

    /// The caller's sessions, newest first
    ///
    /// Each is a device on which they are signed in.
    #[oai(path = "/sessions", method = "get", operation_id = "list_sessions")]
    async fn sessions(
        &self,
        by: By<Caller>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<SessionView>>, Failed> {
        let page = self.0.cases.auth.sessions(&by.0.0, page::request(&limit, &cursor)?).await?;
        let current = by.0.0.session();
        Ok(Json(Page::of(page.map(|session| SessionView::seen_from(current, session)))))
    }

    /// End one of the caller's sessions
    ///
    /// Signs that device out: its access token, its refresh token, and its open streams.
    #[oai(path = "/sessions/:session_id", method = "delete", operation_id = "end_session")]
    async fn end_session(
        &self,
        by: By<Caller>,
        session_id: Id<SessionId>,
    ) -> Result<NoContent, Failed<EndSessionFails>> {
        self.0.cases.auth.end_session(&by.0.0, session_id.0).await?;
        Ok(NoContent)
    }

    /// Change one's own password
    ///
    /// Ends all other sessions of the caller.
    #[oai(path = "/password", method = "post", operation_id = "change_password")]
    async fn change_password(
        &self,
        by: By<CallerEvenIfUnsettled>,
        input: Json<PasswordRequest>,
    ) -> Result<NoContent, Failed<PasswordFails>> {
        let PasswordRequest { current_password, new_password } = input.0;
        self.0.cases.auth.change_password(&by.0.0, current_password, new_password).await?;
        Ok(NoContent)
    }

    /// Who the caller is
    #[oai(path = "/me", method = "get", operation_id = "get_me")]
    async fn me(&self, by: By<CallerEvenIfUnsettled>) -> Result<Json<UserView>, Failed> {
        Ok(Json(by.0.0.user().clone().into()))
    }
}

/// The public keys.
pub struct KeysApi(pub State);

#[OpenApi(tag = "Tag::Auth")]
impl KeysApi {
    /// The public keys that verify access tokens
    ///
    /// For other services that accept this server's access tokens. They stand until the token ends, whatever happens to the session.
    #[oai(path = "/.well-known/jwks.json", method = "get", operation_id = "get_jwks")]
    async fn jwks(&self) -> Result<Json<JwkSetView>, Failed> {
        let jwks = self.0.cases.auth.jwks();
        let keys = serde_json::from_str(&jwks).map_err(|cause| Fault::from(Error::Internal(cause.into())))?;
        Ok(Json(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::names::reads_as_documented;

    #[test]
    fn requests_are_read_as_the_document_shows_them() {
        reads_as_documented::<SetupRequest>();
        reads_as_documented::<RegisterRequest>();
        reads_as_documented::<LoginRequest>();
        reads_as_documented::<RefreshRequest>();
        reads_as_documented::<PasswordRequest>();
    }
}
