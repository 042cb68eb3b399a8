//! The people of a test: accounts, and who belongs where.

use serde_json::{Value, json};

use crate::client::{Api, PASSWORD};
use crate::program::Program;

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct Person {
    /// Who.
    pub(crate) id: String,
    /// Their address.
    pub(crate) email: String,
    /// Their refresh token.
    pub(crate) refresh: String,
    /// The API, to them.
    pub(crate) api: Api,
}

impl Person {
    /// Lets an administrator make an account, and signs its owner in.
    pub(crate) async fn new(admin: &Api, name: &str, role: &str) -> Self {
        let email = format!("{name}@example.com").to_lowercase();
        let new =
            json!({"email": email, "name": name, "password": PASSWORD, "role": role, "must_change_password": false});
        admin.post("/users/", &new).await.expect(201);
        Self::log_in(admin, &email).await
    }

    /// Signs somebody in.
    pub(crate) async fn log_in(api: &Api, email: &str) -> Self {
        let body = api.post("/auth/login", &json!({"email": email, "password": PASSWORD})).await.expect(200);
        Self::from(api, &body)
    }

    /// Whoever has just been signed in by this answer.
    pub(crate) fn from(api: &Api, body: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            id: text(&body["user"]["id"]),
            email: text(&body["user"]["email"]),
            refresh: text(&body["tokens"]["refresh_token"]),
            api: api.with_token(body["tokens"]["access_token"].as_str().unwrap()),
        }
    }

    /// The API of this process, to them.
    pub(crate) fn at(&self, program: &Program) -> Api {
        self.api.moved_to(program)
    }
}

/// Lets an owner invite an address, and gives the token.
pub(crate) async fn invite(owner: &Api, workspace: &str, email: &str, role: &str) -> String {
    let invited = owner.post(&format!("{workspace}/invite"), &json!({"email": email, "role": role})).await.expect(201);
    invited["token"].as_str().unwrap().to_owned()
}

/// Lets an owner invite somebody, and them accept.
pub(crate) async fn join(owner: &Api, workspace: &str, person: &Person, role: &str) {
    let token = invite(owner, workspace, &person.email, role).await;
    let answer = person.api.post("/invitations/accept", &json!({"token": token})).await;
    assert!([200, 201].contains(&answer.status), "{answer:?}");
}

/// The path of a member.
pub(crate) fn member(workspace: &str, person: &Person) -> String {
    format!("{workspace}/members/{}", person.id)
}

/// The ids and roles of the members, as a member sees them; none where they may not see it.
pub(crate) async fn members(api: &Api, workspace: &str) -> Option<Vec<(String, String)>> {
    let answer = api.get(&format!("{workspace}/members")).await;
    if answer.status == 404 {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let items = answer.expect(200)["items"].as_array().unwrap().clone();
    Some(items.iter().map(|member| (text(&member["user"]["id"]), text(&member["role"]))).collect())
}
