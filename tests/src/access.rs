//! Who may do what: every route of the document, and everybody who may come.
//!
//! These are cases like those of a [`contract`](crate::contract), put to the whole application on a store: access control is only as good as the
//! look-ups under it.

use std::collections::BTreeSet;
use std::sync::Arc;

use private_chat_core::model::user::{GlobalRole, User};
use private_chat_core::port::store::Store;
use serde_json::json;
use uuid::Uuid;

use crate::client::{Answer, App, Caller, PASSWORD, ports, text};
use crate::contract::Case;
use crate::document::{Document, Operation};
use crate::team::Team;

/// Every one of them.
pub const CASES: &[Case<dyn Store>] = crate::cases![
    every_route_lets_in_whom_the_matrix_says,
    everybody_may_do_with_their_own_what_the_matrix_says,
    who_asks_is_settled_before_anything_else_is_looked_at,
    foreign_unknown_and_impossible_are_the_same_to_the_byte,
    every_id_is_looked_up_within_what_the_caller_may_see,
    a_private_chat_is_nothing_to_anybody_but_its_creator,
    nothing_else_is_open_before_the_password_is_changed,
    a_role_is_what_the_database_says_and_not_the_token,
];

/// What each kind of caller gets, as the matrix of the requirements has it. A body is sent that the route takes; what it is about is the team's,
/// or [`Team::somebody`]'s, and none of the callers' own.
///
/// Columns: without a token, with one that is none, somebody of another workspace, GUEST, MEMBER, OWNER, an administrator of the installation
/// who is no member.
const MATRIX: &[(&str, [u16; 7])] = &[
    ("setup", [409; 7]),
    ("register", [201; 7]),
    ("login", [200; 7]),
    ("refresh", [401; 7]),
    ("logout", [401, 401, 204, 204, 204, 204, 204]),
    ("list_sessions", [401, 401, 200, 200, 200, 200, 200]),
    ("end_session", [401, 401, 404, 404, 404, 404, 404]),
    // 401 all along: the current password in the body is wrong.
    ("change_password", [401; 7]),
    ("get_me", [401, 401, 200, 200, 200, 200, 200]),
    ("get_jwks", [200; 7]),
    ("list_users", [401, 401, 403, 403, 403, 403, 200]),
    ("create_user", [401, 401, 403, 403, 403, 403, 201]),
    ("get_user", [401, 401, 404, 404, 404, 404, 200]),
    ("update_user", [401, 401, 404, 404, 404, 404, 200]),
    ("delete_user", [401, 401, 403, 403, 403, 403, 204]),
    ("end_user_sessions", [401, 401, 403, 403, 403, 403, 204]),
    ("list_workspaces", [401, 401, 200, 200, 200, 200, 200]),
    ("create_workspace", [401, 401, 201, 201, 201, 201, 201]),
    ("get_workspace", [401, 401, 404, 200, 200, 200, 404]),
    ("update_workspace", [401, 401, 404, 403, 403, 200, 404]),
    ("delete_workspace", [401, 401, 404, 403, 403, 204, 404]),
    ("follow_workspace", [401, 401, 404, 200, 200, 200, 404]),
    ("list_members", [401, 401, 404, 200, 200, 200, 404]),
    ("update_member", [401, 401, 404, 403, 403, 200, 404]),
    ("remove_member", [401, 401, 404, 403, 403, 204, 404]),
    ("create_invitation", [401, 401, 404, 403, 403, 201, 404]),
    ("list_workspace_invitations", [401, 401, 404, 403, 403, 200, 404]),
    ("revoke_invitation", [401, 401, 404, 403, 403, 204, 404]),
    ("list_invitations", [401, 401, 200, 200, 200, 200, 200]),
    // It is addressed to somebody else.
    ("accept_invitation", [401, 401, 404, 404, 404, 404, 404]),
    ("decline_invitation", [401, 401, 404, 404, 404, 404, 404]),
    ("list_chats", [401, 401, 404, 200, 200, 200, 404]),
    ("create_chat", [401, 401, 404, 403, 201, 201, 404]),
    ("get_chat", [401, 401, 404, 200, 200, 200, 404]),
    // The owner made the chat.
    ("update_chat", [401, 401, 404, 403, 403, 200, 404]),
    ("delete_chat", [401, 401, 404, 403, 403, 204, 404]),
    ("list_messages", [401, 401, 404, 200, 200, 200, 404]),
    ("send_message", [401, 401, 404, 403, 201, 201, 404]),
    // It is the owner's message.
    ("edit_message", [401, 401, 404, 403, 403, 201, 404]),
    ("regenerate_reply", [401, 401, 404, 403, 201, 201, 404]),
    // The reply has ended: 409 is for those who might stop it.
    ("stop_reply", [401, 401, 404, 403, 409, 409, 404]),
    ("follow_chat", [401, 401, 404, 200, 200, 200, 404]),
    ("list_models", [401, 401, 200, 200, 200, 200, 200]),
    ("get_health", [200; 7]),
    ("get_readiness", [200; 7]),
];

/// What they get on their own: their account, their session, their membership, an invitation that is addressed to them.
///
/// Columns: those of the matrix who are signed in.
const OWN: &[(&str, [u16; 5])] = &[
    ("end_session", [204; 5]),
    ("get_user", [200; 5]),
    ("update_user", [200; 5]),
    // There is no other administrator.
    ("delete_user", [403, 403, 403, 403, 409]),
    ("end_user_sessions", [403, 403, 403, 403, 204]),
    // There is no other OWNER.
    ("update_member", [404, 403, 403, 409, 404]),
    ("remove_member", [404, 204, 204, 409, 404]),
    ("accept_invitation", [200; 5]),
    ("decline_invitation", [204; 5]),
];

/// Those who must change their password may do only this.
const BEFORE_THE_PASSWORD_IS_CHANGED: [&str; 3] = ["change_password", "get_me", "logout"];

fn secured() -> Vec<Operation<'static>> {
    Document::of_the_product().operations().into_iter().filter(|operation| operation.is_secured()).collect()
}

/// What the matrix says of an operation.
fn row(operation: Operation<'_>) -> [u16; 7] {
    let row = MATRIX.iter().find(|(id, _)| *id == operation.id());
    row.unwrap_or_else(|| panic!("{} is not in the matrix", operation.id())).1
}

/// Who comes, in the order of the matrix.
fn callers(team: &Team) -> [Caller; 7] {
    [
        team.app.anybody(),
        team.app.bearing("none"),
        team.outsider.clone(),
        team.guest.clone(),
        team.member.clone(),
        team.owner.clone(),
        team.admin.clone(),
    ]
}

async fn ask(caller: &Caller, team: &Team, operation: Operation<'_>) -> Answer {
    send(caller, team, operation, &team.path(operation)).await
}

async fn send(caller: &Caller, team: &Team, operation: Operation<'_>, path: &str) -> Answer {
    let call = caller.call(operation.method, path);
    match team.body(operation) {
        Some(body) => call.json(body).await,
        None => call.await,
    }
}

// R40, D1, D2, D3
async fn every_route_lets_in_whom_the_matrix_says(store: Arc<dyn Store>) {
    let mut team = Team::over(store).await;
    let document = Document::of_the_product();
    let mut wrong = Vec::new();
    for operation in document.operations() {
        let (expected, mut found) = (row(operation), [0; 7]);
        for (column, found) in found.iter_mut().enumerate() {
            let answer = ask(&callers(&team)[column], &team, operation).await;
            *found = answer.status;
            // Whoever comes next finds everything as it was.
            if answer.changed(operation) {
                team = team.another().await;
            }
        }
        if found != expected {
            wrong.push(format!("{}: {found:?} in place of {expected:?}", operation.id()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: BTreeSet<_> = document.operations().into_iter().map(Operation::id).collect();
    for (id, _) in MATRIX {
        assert!(known.contains(id), "there is no {id} any more");
    }
}

// R40, R28, R46, R47
async fn everybody_may_do_with_their_own_what_the_matrix_says(store: Arc<dyn Store>) {
    let mut team = Team::over(store).await;
    let about_people = |operation: &Operation<'_>| {
        let named = ["{user_id}", "{session_id}"].iter().any(|name| operation.path.contains(name));
        named || ["accept_invitation", "decline_invitation"].contains(&operation.id())
    };
    let mut wrong = Vec::new();
    for operation in secured().into_iter().filter(about_people) {
        let row = OWN.iter().find(|(id, _)| *id == operation.id());
        let (_, expected) = row.unwrap_or_else(|| panic!("{}: what do people get on their own?", operation.id()));
        let mut found = [0; 5];
        for (column, found) in found.iter_mut().enumerate() {
            let caller = callers(&team)[column + 2].clone();
            let elsewhere = team.somebody.workspace().await;
            team.invitation = text(&team.somebody.invite(&elsewhere, &caller.email, "GUEST").await["id"]);
            team.somebody = caller.clone();
            *found = ask(&caller, &team, operation).await.status;
            team = team.another().await;
        }
        if found != *expected {
            wrong.push(format!("{}: {found:?} in place of {expected:?}", operation.id()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A request that is wrong in every way there is.
async fn garbage(caller: &Caller, operation: Operation<'_>, path: &str) -> Answer {
    let path = format!("{path}?limit=x&cursor=%00&after=y&order=z&role=x&is_active=x&transfer_to=x");
    let call = caller.call(operation.method, &path).header("last-event-id", "z").header("content-type", "text/plain");
    let call = call.header("idempotency-key", "a b");
    if operation.method == "GET" { call.await } else { call.body("{").await }
}

// D3, R53
async fn who_asks_is_settled_before_anything_else_is_looked_at(store: Arc<dyn Store>) {
    let team = Team::over(store).await;
    for operation in secured() {
        let impossible = operation.path.replace(['{', '}'], "!");
        for path in [team.path(operation), impossible.clone()] {
            garbage(&team.app.anybody(), operation, &path).await.problem(401, "unauthenticated");
            garbage(&team.app.bearing("a.b.c"), operation, &path).await.problem(401, "unauthenticated");
        }
        for (caller, expected) in callers(&team).iter().zip(row(operation)) {
            match expected {
                403 => garbage(caller, operation, &team.path(operation)).await.problem(403, "forbidden"),
                404 if operation.path.contains("{workspace_id}") || operation.path.starts_with("/users/") => {
                    garbage(caller, operation, &impossible).await.problem(404, "not_found");
                    garbage(caller, operation, &team.path(operation)).await.problem(404, "not_found")
                }
                _ => continue,
            };
        }
    }
}

/// An id of nothing.
fn unknown() -> String {
    Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001).to_string()
}

// R42
async fn foreign_unknown_and_impossible_are_the_same_to_the_byte(store: Arc<dyn Store>) {
    let team = Team::over(store).await;
    for operation in secured() {
        let path = team.path(operation);
        let known = match (operation.path.contains("{workspace_id}"), operation.path.contains("{user_id}")) {
            (true, _) => &team.workspace,
            (false, true) => &team.somebody.id,
            (false, false) => continue,
        };
        let mut seen = Vec::new();
        for other in [known, &unknown(), "none", &"0".repeat(4_000), "%00"] {
            let answer = garbage(&team.outsider, operation, &path.replace(known, other)).await;
            assert!(matches!(answer.status, 403 | 404), "{}: {}", operation.id(), answer.status);
            seen.push((answer.without_request_id(), answer.header("content-length").map(str::len)));
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "{}: {seen:?}", operation.id());
    }
}

/// One thing of each kind that the owner of the team may not know of, though it is there.
struct Foreign {
    /// A chat of another workspace, and one that only its creator may see.
    chats: [String; 2],
    /// A message of another workspace, and one of another chat.
    messages: [String; 2],
    /// Two who are no members.
    people: [String; 2],
    /// An invitation into another workspace, and its token.
    invitation: [String; 2],
}

impl Foreign {
    async fn to(team: &Team) -> Self {
        let elsewhere = team.outsider.workspace().await;
        let foreign_chat = team.outsider.chat(&elsewhere).await;
        let (foreign_message, _) = team.outsider.say(&foreign_chat, "Mine.").await;
        let other_chat = team.owner.chat(&team.workspace).await;
        let (other_message, _) = team.owner.say(&other_chat, "Ours.").await;
        let private = team.member.post(&team.at("/chat")).json(json!({"visibility": "private"})).await.ok(201);
        let invitation = team.outsider.invite(&elsewhere, &team.guest.email, "GUEST").await;
        Self {
            chats: [foreign_chat.rsplit('/').next().unwrap().to_owned(), text(&private["id"])],
            messages: [text(&foreign_message["id"]), text(&other_message["id"])],
            people: [team.outsider.id.clone(), team.admin.id.clone()],
            invitation: [text(&invitation["id"]), text(&invitation["token"])],
        }
    }
}

// R41, R42
async fn every_id_is_looked_up_within_what_the_caller_may_see(store: Arc<dyn Store>) {
    let team = Team::over(store).await;
    let foreign = Foreign::to(&team).await;
    let (unknown, chat) = (unknown(), team.chat.rsplit('/').next().unwrap());
    for operation in secured() {
        for (variable, ours, others) in [
            ("{chat_id}", chat, &foreign.chats[..]),
            (
                "{message_id}",
                if operation.id() == "edit_message" { &team.message } else { &team.reply },
                &foreign.messages,
            ),
            ("{user_id}", &team.somebody.id, &foreign.people),
            ("{session_id}", &team.somebody.session(), &[team.outsider.session()]),
            ("{invitation_id}", &team.invitation, &foreign.invitation[..1]),
        ] {
            if !operation.path.contains(variable) {
                continue;
            }
            // To those who manage accounts none is foreign.
            let (caller, others) = match operation.path.starts_with("/users/") {
                true => (&team.admin, &[][..]),
                false => (&team.owner, others),
            };
            let mut seen = Vec::new();
            for other in others.iter().map(String::as_str).chain([unknown.as_str(), "none"]) {
                let path = team.path(operation).replace(ours, other);
                // The guard looks at the chat and the message, before anything else of the request.
                let answer = match variable {
                    "{chat_id}" | "{message_id}" => garbage(caller, operation, &path).await,
                    _ => send(caller, &team, operation, &path).await,
                };
                answer.problem(404, "not_found");
                seen.push(answer.without_request_id());
            }
            seen.dedup();
            assert_eq!(seen.len(), 1, "{} {variable}: {seen:?}", operation.id());
        }
    }
    // Also where a body or a query names it.
    for parent in foreign.messages.iter().chain([&unknown]) {
        let body = json!({"content": "Hm.", "parent_id": parent});
        team.owner.post(&format!("{}/message", team.chat)).json(body).await.problem(404, "not_found");
    }
    for route in ["/invitations/accept", "/invitations/decline"] {
        let mut seen = Vec::new();
        let [id, token] = &foreign.invitation;
        for body in [
            json!({"invitation_id": id}),
            json!({"token": token}),
            json!({"invitation_id": unknown}),
            json!({"token": "pci_none"}),
            json!({"token": ""}),
        ] {
            let answer = team.owner.post(route).json(body).await;
            answer.problem(404, "not_found");
            seen.push(answer.without_request_id());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "{route}: {seen:?}");
    }
    // What was refused is still there for those whose it is.
    team.guest.post("/invitations/accept").json(json!({"token": foreign.invitation[1]})).await.ok(200);
    team.outsider.get("/auth/me").await.ok(200);
}

// D2, R41, R42
async fn a_private_chat_is_nothing_to_anybody_but_its_creator(store: Arc<dyn Store>) {
    let mut team = Team::over(store).await;
    let private = team.member.post(&team.at("/chat")).json(json!({"visibility": "private"})).await.ok(201);
    let theirs = team.at(&format!("/chat/{}", text(&private["id"])));
    let ours = std::mem::replace(&mut team.chat, theirs);
    let (message, reply) = team.member.say(&team.chat, "Mine.").await;
    (team.message, team.reply) = (text(&message["id"]), text(&reply["id"]));
    let of_a_chat = |operation: &Operation<'_>| operation.path.contains("{chat_id}");
    for operation in secured().into_iter().filter(of_a_chat) {
        let path = team.path(operation);
        for caller in &callers(&team)[2..] {
            if caller.id != team.member.id {
                // Also what would be refused for any other reason, and to the byte what is said of no chat at all.
                let refused = [ask(caller, &team, operation).await, garbage(caller, operation, &path).await];
                let nothing = garbage(caller, operation, &path.replace(&text(&private["id"]), &unknown())).await;
                for answer in refused {
                    answer.problem(404, "not_found");
                    assert_eq!(answer.without_request_id(), nothing.without_request_id(), "{}", operation.id());
                }
            }
        }
    }
    // For its creator each route does what it does in any other chat, and what removes the chat comes last.
    let (last, others): (Vec<_>, Vec<_>) =
        secured().into_iter().filter(of_a_chat).partition(|operation| operation.method == "DELETE");
    for operation in others.into_iter().chain(last) {
        // As the owner gets it in the team's chat, which is theirs.
        assert_eq!(ask(&team.member, &team, operation).await.status, row(operation)[5], "{}", operation.id());
    }
    team.owner.get(&ours).await.ok(200);
}

// R12
async fn nothing_else_is_open_before_the_password_is_changed(store: Arc<dyn Store>) {
    let team = Team::over(store).await;
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
async fn a_role_is_what_the_database_says_and_not_the_token(store: Arc<dyn Store>) {
    let app = App::on(ports().over(store)).await;
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
