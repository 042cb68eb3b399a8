//! Who may do what: every route of the document, and everybody who may come.

use private_chat_core::model::user::{GlobalRole, User};
use private_chat_tests::client::{Answer, App, Caller, PASSWORD, text};
use private_chat_tests::document::{Document, Operation};
use serde_json::json;
use uuid::Uuid;

use crate::team::Team;

/// What each kind of caller gets, as the matrix of the requirements has it. A body is sent that the route takes.
///
/// Columns: without a token, with one that is none, somebody of another workspace, GUEST, MEMBER, OWNER, an administrator of the installation
/// who is no member.
const MATRIX: &[(&str, [u16; 7])] = &[
    ("setup", [409; 7]),
    ("login", [200; 7]),
    ("refresh", [401; 7]),
    ("logout", [401, 401, 204, 204, 204, 204, 204]),
    // 401 all along: the current password in the body is wrong.
    ("change_password", [401; 7]),
    ("get_me", [401, 401, 200, 200, 200, 200, 200]),
    ("get_jwks", [200; 7]),
    ("create_user", [401, 401, 403, 403, 403, 403, 201]),
    ("list_workspaces", [401, 401, 200, 200, 200, 200, 200]),
    ("create_workspace", [401, 401, 201, 201, 201, 201, 201]),
    ("get_workspace", [401, 401, 404, 200, 200, 200, 404]),
    ("update_workspace", [401, 401, 404, 403, 403, 200, 404]),
    ("follow_workspace", [401, 401, 404, 200, 200, 200, 404]),
    ("list_chats", [401, 401, 404, 200, 200, 200, 404]),
    ("create_chat", [401, 401, 404, 403, 201, 201, 404]),
    ("get_chat", [401, 401, 404, 200, 200, 200, 404]),
    // The owner made the chat.
    ("update_chat", [401, 401, 404, 403, 403, 200, 404]),
    ("list_messages", [401, 401, 404, 200, 200, 200, 404]),
    ("send_message", [401, 401, 404, 403, 201, 201, 404]),
    // The reply has ended: 409 is for those who might stop it.
    ("stop_reply", [401, 401, 404, 403, 409, 409, 404]),
    ("follow_chat", [401, 401, 404, 200, 200, 200, 404]),
    ("list_models", [401, 401, 200, 200, 200, 200, 200]),
    ("get_health", [200; 7]),
    ("get_readiness", [200; 7]),
];

/// Those who must change their password may do only this.
const BEFORE_THE_PASSWORD_IS_CHANGED: [&str; 3] = ["change_password", "get_me", "logout"];

fn secured() -> Vec<Operation<'static>> {
    Document::of_the_product().operations().into_iter().filter(|operation| operation.is_secured()).collect()
}

async fn ask(caller: &Caller, team: &Team, operation: Operation<'_>) -> Answer {
    let call = caller.call(operation.method, &team.path(operation));
    match team.body(operation) {
        Some(body) => call.json(body).await,
        None => call.await,
    }
}

// R40, D1, D2, D3
#[tokio::test]
async fn every_route_lets_in_whom_the_matrix_says() {
    let team = Team::new().await;
    let document = Document::of_the_product();
    let mut wrong = Vec::new();
    for operation in document.operations() {
        let row = MATRIX.iter().find(|(id, _)| *id == operation.id());
        let (_, expected) = row.unwrap_or_else(|| panic!("{} is not in the matrix", operation.id()));
        // Signed in anew for each route, as one of them signs out.
        let fresh = async |caller: &Caller| team.app.sign_in(&caller.email).await;
        let callers = [
            team.app.anybody(),
            team.app.bearing("none"),
            fresh(&team.outsider).await,
            fresh(&team.guest).await,
            fresh(&team.member).await,
            fresh(&team.owner).await,
            fresh(&team.admin).await,
        ];
        let mut found = [0; 7];
        for (caller, found) in callers.iter().zip(&mut found) {
            *found = ask(caller, &team, operation).await.status;
        }
        if found != *expected {
            wrong.push(format!("{}: {found:?} in place of {expected:?}", operation.id()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (id, _) in MATRIX {
        assert!(document.operations().iter().any(|operation| operation.id() == *id), "there is no {id} any more");
    }
}

/// A request that is wrong in every way there is.
async fn garbage(caller: &Caller, operation: Operation<'_>, path: &str) -> Answer {
    let path = format!("{path}?limit=x&cursor=%00&after=y&order=z");
    let call = caller.call(operation.method, &path).header("last-event-id", "z").header("content-type", "text/plain");
    if operation.method == "GET" { call.await } else { call.body("{").await }
}

// D3, R53
#[tokio::test]
async fn who_asks_is_settled_before_anything_else_is_looked_at() {
    let team = Team::new().await;
    for operation in secured() {
        let impossible = operation.path.replace(['{', '}'], "!");
        for path in [team.path(operation), impossible.clone()] {
            garbage(&team.app.anybody(), operation, &path).await.problem(401, "unauthenticated");
            garbage(&team.app.bearing("a.b.c"), operation, &path).await.problem(401, "unauthenticated");
        }
        if !operation.path.contains("{workspace_id}") {
            continue;
        }
        for stranger in [&team.outsider, &team.admin] {
            garbage(stranger, operation, &team.path(operation)).await.problem(404, "not_found");
            garbage(stranger, operation, &impossible).await.problem(404, "not_found");
        }
        let (_, expected) = MATRIX.iter().find(|(id, _)| *id == operation.id()).unwrap();
        if expected[3] == 403 {
            garbage(&team.guest, operation, &team.path(operation)).await.problem(403, "forbidden");
        }
    }
}

// R42
#[tokio::test]
async fn foreign_unknown_and_impossible_are_the_same_to_the_byte() {
    let team = Team::new().await;
    let unknown = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001).to_string();
    for operation in secured().into_iter().filter(|operation| operation.path.contains("{workspace_id}")) {
        let path = |workspace: &str| team.path(operation).replace(&team.workspace, workspace);
        let mut seen = Vec::new();
        for path in [path(&team.workspace), path(&unknown), path("none"), path(&"0".repeat(4_000)), path("%00")] {
            let answer = garbage(&team.outsider, operation, &path).await;
            answer.problem(404, "not_found");
            seen.push((answer.without_request_id(), answer.header("content-length").map(str::len)));
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "{}: {seen:?}", operation.id());
    }
}

// R41
#[tokio::test]
async fn every_id_is_looked_up_within_what_the_caller_may_see() {
    let team = Team::new().await;
    let unknown = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001).to_string();
    let elsewhere = team.outsider.workspace().await;
    let foreign_chat = team.outsider.chat(&elsewhere).await;
    let (foreign_message, _) = team.outsider.say(&foreign_chat, "Mine.").await;
    let other_chat = team.owner.chat(&team.workspace).await;
    let (other_message, _) = team.owner.say(&other_chat, "Ours.").await;
    let private = team.member.post(&team.at("/chat")).json(json!({"visibility": "private"})).await.ok(201);
    let chat = team.chat.rsplit('/').next().unwrap();

    for operation in secured() {
        let path = team.path(operation);
        if operation.path.contains("{chat_id}") {
            let mut seen = Vec::new();
            // A chat of another workspace, one that only its creator may see, and one that there is not.
            for other in [foreign_chat.rsplit('/').next().unwrap(), &text(&private["id"]), &unknown, "none"] {
                let answer = garbage(&team.owner, operation, &path.replace(chat, other)).await;
                answer.problem(404, "not_found");
                seen.push(answer.without_request_id());
            }
            seen.dedup();
            assert_eq!(seen.len(), 1, "{}: {seen:?}", operation.id());
        }
        if operation.path.contains("{message_id}") {
            for other in [&text(&foreign_message["id"]), &text(&other_message["id"]), unknown.as_str(), "none"] {
                let answer = team.owner.call(operation.method, &path.replace(&team.reply, other)).await;
                answer.problem(404, "not_found");
            }
        }
    }
    // Also where a body names it.
    for parent in [&foreign_message, &other_message] {
        let body = json!({"content": "Hm.", "parent_id": parent["id"]});
        team.owner.post(&format!("{}/message", team.chat)).json(body).await.problem(404, "not_found");
    }
}

// R12
#[tokio::test]
async fn nothing_else_is_open_before_the_password_is_changed() {
    let team = Team::new().await;
    let email = team.app.account(&team.admin, "Newcomer", true).await;
    let newcomer = team.app.sign_in(&email).await;
    for operation in secured() {
        let caller = if operation.id() == "logout" { team.app.sign_in(&email).await } else { newcomer.clone() };
        if BEFORE_THE_PASSWORD_IS_CHANGED.contains(&operation.id()) {
            let answer = ask(&caller, &team, operation).await;
            assert_ne!(answer.status, 403, "{}: {}", operation.id(), answer.text());
        } else {
            let impossible = operation.path.replace(['{', '}'], "!");
            for path in [team.path(operation), impossible] {
                garbage(&caller, operation, &path).await.problem(403, "password_change_required");
            }
        }
    }
}

// R12, R26
#[tokio::test]
async fn a_role_is_what_the_database_says_and_not_the_token() {
    let app = App::start().await;
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let new = json!({"email": "x@example.com", "name": "X", "password": PASSWORD});
    ann.post("/users").json(new.clone()).await.problem(403, "forbidden");
    app.change_user(&ann, |user| User { role: GlobalRole::Admin, ..user }).await;
    ann.post("/users").json(new).await.ok(201);

    app.change_user(&ann, |user| User { is_active: false, ..user }).await;
    for operation in secured() {
        garbage(&ann, operation, &operation.path.replace(['{', '}'], "!")).await.problem(401, "unauthenticated");
    }
    let refresh = json!({"refresh_token": ann.refresh});
    app.anybody().post("/auth/refresh").json(refresh).await.problem(401, "invalid_refresh_token");
}
