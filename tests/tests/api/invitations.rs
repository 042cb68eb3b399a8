//! Invitations into workspaces.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use private_chat_adapters::memory::TestClock;
use private_chat_core::port::Ports;
use private_chat_tests::client::{Answer, App, Caller, PASSWORD, ports, text};
use private_chat_tests::document::{is_id, is_time};
use private_chat_tests::team::Team;
use serde_json::{Value, json};

use crate::workspaces::walk;

crate::on_every_store!(
    an_invitation_shows_its_token_once_and_lets_in_once,
    an_invitation_is_declined_taken_back_or_replaced,
    a_newcomer_registers_and_is_in,
    of_many_who_use_an_invitation_at_once_one_does,
    invitations_are_paged_newest_first,
);

async fn accept(caller: &Caller, which: Value) -> Answer {
    caller.post("/invitations/accept").json(which).await
}

async fn decline(caller: &Caller, which: Value) -> Answer {
    caller.post("/invitations/decline").json(which).await
}

async fn register(app: &App, token: &Value) -> Answer {
    let new = json!({"token": token, "name": "Nora", "password": PASSWORD});
    app.anybody().post("/auth/register").json(new).await
}

fn by_token(invitation: &Value) -> Value {
    json!({"token": invitation["token"]})
}

fn by_id(invitation: &Value) -> Value {
    json!({"invitation_id": invitation["id"]})
}

async fn listed(caller: &Caller, path: &str) -> Vec<Value> {
    caller.get(path).await.ok(200)["items"].as_array().unwrap().clone()
}

// R47
async fn an_invitation_shows_its_token_once_and_lets_in_once(app: App) {
    let team = Team::on(app).await;
    let path = team.at("/invite/");
    let invited = json!({"email": format!(" {} ", team.outsider.email.to_uppercase()), "role": "GUEST"});
    let made = team.owner.post(&path).json(invited).await.ok(201);
    let fields = json!({
        "id": made["id"], "workspace_id": team.workspace, "workspace_name": "Research", "email": team.outsider.email,
        "role": "GUEST", "invited_by": {"id": team.owner.id, "name": "Owner"}, "created_at": made["created_at"],
        "expires_at": made["expires_at"], "token": made["token"],
    });
    assert_eq!(made, fields);
    assert!(is_id(&text(&made["id"])) && is_time(&text(&made["created_at"])) && is_time(&text(&made["expires_at"])));
    // It gives nothing until it is accepted.
    team.outsider.get(&team.at("")).await.problem(404, "not_found");
    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("token");
    assert_eq!(listed(&team.outsider, "/invitations/").await, [shown.clone()]);
    let here = listed(&team.owner, &team.at("/invitations/")).await;
    assert_eq!((here.len(), &here[0]), (2, &shown));
    assert!(listed(&team.guest, "/invitations").await.is_empty());

    for other in [&team.guest, &team.admin, &team.owner] {
        for which in [by_token(&made), by_id(&made)] {
            accept(other, which.clone()).await.problem(404, "not_found");
            decline(other, which).await.problem(404, "not_found");
        }
    }
    let joined = accept(&team.outsider, by_token(&made)).await.ok(200);
    assert_eq!(
        (&joined["id"], &joined["role"], &joined["member_count"]),
        (&json!(team.workspace), &json!("GUEST"), &json!(5))
    );
    assert_eq!(team.outsider.get(&team.at("")).await.ok(200), joined);
    for which in [by_token(&made), by_id(&made)] {
        accept(&team.outsider, which.clone()).await.problem(404, "not_found");
        decline(&team.outsider, which).await.problem(404, "not_found");
    }
    assert!(listed(&team.outsider, "/invitations").await.is_empty());
    register(&team.app, &made["token"]).await.problem(401, "invalid_invitation_token");
    let again = json!({"email": team.outsider.email, "role": "OWNER"});
    team.owner.post(&path).json(again).await.problem(409, "already_member");
    let own = json!({"email": team.owner.email, "role": "GUEST"});
    team.owner.post(&path).json(own).await.problem(409, "already_member");
}

async fn an_invitation_is_declined_taken_back_or_replaced(app: App) {
    let team = Team::on(app).await;
    let (owner, outsider) = (&team.owner, &team.outsider);
    let invite = async |role: &str| owner.invite(&team.workspace, &outsider.email, role).await;
    let declined = invite("MEMBER").await;
    assert_eq!(decline(outsider, by_id(&declined)).await.ok(204), Value::Null);
    accept(outsider, by_token(&declined)).await.problem(404, "not_found");

    let taken_back = invite("MEMBER").await;
    let path = team.at(&format!("/invitations/{}", text(&taken_back["id"])));
    team.member.delete(&path).await.problem(403, "forbidden");
    owner.delete(&path).await.ok(204);
    owner.delete(&path).await.problem(404, "not_found");
    accept(outsider, by_token(&taken_back)).await.problem(404, "not_found");
    decline(outsider, by_id(&taken_back)).await.problem(404, "not_found");

    let earlier = invite("OWNER").await;
    let later = invite("GUEST").await;
    assert_ne!(earlier["token"], later["token"]);
    assert_eq!(listed(outsider, "/invitations").await.len(), 1);
    accept(outsider, by_token(&earlier)).await.problem(404, "not_found");
    accept(outsider, by_id(&earlier)).await.problem(404, "not_found");
    assert_eq!(accept(outsider, by_id(&later)).await.ok(200)["role"], "GUEST");

    // It is the address's, not the account's.
    let moved = json!({"email": "moved@example.com", "current_password": PASSWORD});
    let newcomer = team.app.user(&team.admin, "Mover").await;
    let old = owner.invite(&team.workspace, &newcomer.email, "GUEST").await;
    newcomer.put(&format!("/users/{}", newcomer.id)).json(moved).await.ok(200);
    accept(&newcomer, by_token(&old)).await.problem(404, "not_found");
    let new = owner.invite(&team.workspace, "MOVED@example.com", "OWNER").await;
    assert_eq!(accept(&newcomer, by_token(&new)).await.ok(200)["role"], "OWNER");
}

// R46, R65
#[tokio::test]
async fn an_invitation_is_checked_field_by_field() {
    let team = Team::new().await;
    let path = team.at("/invite");
    let wrong = async |body: Value| team.owner.post(&path).json(body).await.wrong_fields();
    assert_eq!(wrong(json!({})).await, ["email", "role"]);
    assert_eq!(wrong(json!({"email": 7, "role": "ADMIN", "token": "x"})).await, ["email", "role", "token"]);
    for email in ["", "x", "@", "a@b@c", "a\u{200b}@b.c"] {
        assert_eq!(wrong(json!({"email": email, "role": "GUEST"})).await, ["email"], "{email}");
    }
    for role in ["USER", "guest", "", "OWNER "] {
        assert_eq!(wrong(json!({"email": "a@b.c", "role": role})).await, ["role"], "{role}");
    }
    let both = json!({"token": team.token, "invitation_id": team.invitation});
    for route in ["/invitations/accept", "/invitations/decline"] {
        for which in [json!({}), both.clone()] {
            let answer = team.outsider.post(route).json(which.clone()).await;
            assert_eq!(answer.wrong_fields(), ["token", "invitation_id"], "{which}");
        }
        for id in [json!(""), json!("none"), json!(7), json!(null)] {
            let answer = team.outsider.post(route).json(json!({"invitation_id": id})).await;
            assert_eq!(answer.wrong_fields(), ["invitation_id"], "{id}");
        }
    }
}

// R47
#[tokio::test]
async fn an_invitation_stands_for_seven_days() {
    let clock = Arc::new(TestClock::new());
    let app = App::on(Ports { clock: clock.clone(), ..ports() }).await;
    let team = Team::on(app).await;
    let made = team.owner.invite(&team.workspace, &team.outsider.email, "GUEST").await;
    clock.advance(Duration::from_secs(7 * 86_400) - Duration::from_micros(1));
    let [owner, outsider] = [&team.owner, &team.outsider].map(|caller| team.app.sign_in(&caller.email));
    let (owner, outsider) = (owner.await, outsider.await);
    assert_eq!(listed(&outsider, "/invitations").await.len(), 1);
    assert_eq!(listed(&owner, &team.at("/invitations")).await.len(), 2);
    clock.advance(Duration::from_micros(1));
    assert!(listed(&outsider, "/invitations").await.is_empty());
    assert!(listed(&owner, &team.at("/invitations")).await.is_empty());
    for which in [by_token(&made), by_id(&made)] {
        accept(&outsider, which.clone()).await.problem(404, "not_found");
        decline(&outsider, which).await.problem(404, "not_found");
    }
    register(&team.app, &json!(team.token)).await.problem(401, "invalid_invitation_token");
    owner.delete(&team.at(&format!("/invitations/{}", text(&made["id"])))).await.problem(404, "not_found");
    // One that is over is in nobody's way.
    let again = owner.invite(&team.workspace, &outsider.email, "MEMBER").await;
    accept(&outsider, by_token(&again)).await.ok(200);
}

async fn a_newcomer_registers_and_is_in(app: App) {
    let team = Team::on(app).await;
    let nobody = team.app.anybody();
    let made = team.owner.invite(&team.workspace, " Nora@Example.com", "GUEST").await;
    let new = json!({"token": made["token"], "name": "Nora", "password": PASSWORD});
    let with = |field: &str, value: Value| {
        let mut body = new.clone();
        body[field] = value;
        nobody.post("/auth/register").json(body)
    };
    // What is wrong is said, and uses nothing up.
    let mut all = new.clone();
    all["name"] = json!(" ");
    all["password"] = json!("short");
    assert_eq!(nobody.post("/auth/register").json(all).await.wrong_fields(), ["name", "password"]);
    assert_eq!(with("password", json!("nora nora")).await.wrong_fields(), ["password"], "their own name");
    for read_only in ["email", "role", "workspace_id", "is_active", "must_change_password", "id"] {
        assert_eq!(with(read_only, json!("ADMIN")).await.wrong_fields(), [read_only]);
    }
    let token = text(&made["token"]);
    let shifted = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { "E" } else { "A" });
    let swapped = format!("pci_{}", team.owner.refresh.trim_start_matches("pcr_"));
    for bad in ["", "x", "pci_", &token[4..], &format!("{token}x"), &shifted, &swapped, &team.owner.refresh] {
        let answer = with("token", json!(bad)).await;
        assert!(*bad != *token);
        answer.problem(401, "invalid_invitation_token");
    }
    // A token of an invitation signs nobody in, nor does another one register.
    nobody.get("/auth/me").header("authorization", &format!("Bearer {token}")).await.problem(401, "unauthenticated");
    let refresh = nobody.post("/auth/refresh").json(json!({"refresh_token": token}));
    refresh.await.problem(401, "invalid_refresh_token");

    let answer = nobody.post("/auth/register/").json(new.clone()).await;
    let registered = answer.ok(201);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let user = &registered["user"];
    let fields = json!({
        "id": user["id"], "email": "nora@example.com", "name": "Nora", "role": "USER", "is_active": true,
        "two_factor_enabled": false, "must_change_password": false,
        "created_at": user["created_at"], "updated_at": user["created_at"],
    });
    assert_eq!(*user, fields);
    let nora = team.app.signed_in(&registered);
    assert_eq!(nora.get("/auth/me").await.ok(200), *user);
    let home = nora.get(&team.at("")).await.ok(200);
    assert_eq!((&home["role"], &home["member_count"]), (&json!("GUEST"), &json!(5)));
    let refresh = team.app.anybody().post("/auth/refresh").json(json!({"refresh_token": nora.refresh}));
    refresh.await.ok(200);
    team.app.sign_in("nora@example.com").await;
    nobody.post("/auth/register").json(new).await.problem(401, "invalid_invitation_token");
    accept(&nora, by_token(&made)).await.problem(404, "not_found");

    // Whoever has an account signs in and accepts.
    let made = team.owner.invite(&team.workspace, &team.outsider.email, "GUEST").await;
    register(&team.app, &made["token"]).await.problem(409, "email_taken");
    accept(&team.outsider, by_token(&made)).await.ok(200);
}

// R47
async fn of_many_who_use_an_invitation_at_once_one_does(app: App) {
    let team = Team::on(app).await;
    for round in 0..5 {
        let email = format!("racer{round}@example.com");
        let racer = team.app.user(&team.admin, &format!("racer{round}")).await;
        let made = team.owner.invite(&team.workspace, &email, "GUEST").await;
        let tries = (0..20).map(async |n| {
            let which = if n % 2 == 0 { by_id(&made) } else { by_token(&made) };
            if n % 4 == 0 { decline(&racer, which).await } else { accept(&racer, which).await }
        });
        let answers = join_all(tries).await;
        let used = answers.iter().filter(|answer| answer.status < 300).count();
        assert_eq!(used, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        for refused in answers.iter().filter(|answer| answer.status >= 300) {
            assert!(matches!(refused.status, 404 | 409), "{}", refused.text());
        }
        let accepted = answers.iter().any(|answer| answer.status == 200);
        assert_eq!(racer.get(&team.at("")).await.status == 200, accepted);

        let made = team.owner.invite(&team.workspace, &format!("new{round}@example.com"), "GUEST").await;
        let answers = join_all((0..20).map(|_| register(&team.app, &made["token"]))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        for refused in answers.iter().filter(|answer| answer.status != 201) {
            assert!(matches!(refused.status, 401 | 409), "{}", refused.text());
        }
    }
    let home = team.owner.get(&team.at("")).await.ok(200);
    let members = team.owner.get(&team.at("/members?limit=100")).await.ok(200);
    assert_eq!(home["member_count"], members["items"].as_array().unwrap().len());
}

// R105
async fn invitations_are_paged_newest_first(app: App) {
    let team = Team::on(app).await;
    let mut here = vec![team.invitation.clone()];
    for n in 0..4 {
        let made = team.owner.invite(&team.workspace, &format!("p{n}@example.com"), "GUEST").await;
        here.push(text(&made["id"]));
    }
    let mut theirs = Vec::new();
    for _ in 0..5 {
        let workspace = team.member.workspace().await;
        theirs.push(text(&team.member.invite(&workspace, &team.outsider.email, "GUEST").await["id"]));
    }
    for (caller, path, ids) in
        [(&team.owner, team.at("/invitations"), &mut here), (&team.outsider, "/invitations".to_owned(), &mut theirs)]
    {
        ids.sort_by(|a, b| b.cmp(a));
        for limit in [1, 2, 5, 100] {
            assert_eq!(walk(caller, &path, limit).await, *ids);
        }
        for bad in ["limit=0", "limit=101", "limit=x"] {
            assert_eq!(caller.get(&format!("{path}?{bad}")).await.wrong_fields(), ["limit"]);
        }
        assert_eq!(caller.get(&format!("{path}?cursor=x")).await.wrong_fields(), ["cursor"]);
    }
}
