//! Accounts.

use private_chat_tests::client::{App, PASSWORD, text};
use serde_json::{Value, json};

crate::on_every_store!(administrators_make_accounts, one_person_has_one_address);

fn new(fields: Value) -> Value {
    let mut new = json!({"email": "ann@example.com", "name": "Ann", "password": PASSWORD});
    let Value::Object(fields) = fields else { panic!("{fields}") };
    new.as_object_mut().unwrap().extend(fields);
    new
}

// R6, R46
async fn administrators_make_accounts(app: App) {
    let admin = app.setup().await;
    let ann = admin.post("/users/").json(new(json!({}))).await.ok(201);
    assert_eq!((&ann["role"], &ann["must_change_password"]), (&json!("USER"), &json!(true)));
    assert_eq!((&ann["is_active"], &ann["two_factor_enabled"]), (&json!(true), &json!(false)));
    let bob = new(json!({"email": "bob@example.com", "role": "ADMIN", "must_change_password": false}));
    let bob = admin.post("/users").json(bob).await.ok(201);
    assert_eq!((&bob["role"], &bob["must_change_password"]), (&json!("ADMIN"), &json!(false)));
    let bob = app.sign_in("bob@example.com").await;
    bob.post("/users").json(new(json!({"email": "carl@example.com"}))).await.ok(201);

    // Ann has to change her password first, and may then do what users do.
    let ann = app.sign_in("ann@example.com").await;
    ann.get("/workspaces").await.problem(403, "password_change_required");
    assert_eq!(ann.get("/auth/me").await.ok(200)["must_change_password"], true);
    let change = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    ann.post("/auth/password").json(change).await.ok(204);
    assert_eq!(ann.get("/auth/me").await.ok(200)["must_change_password"], false);
    ann.get("/workspaces").await.ok(200);
    ann.post("/users").json(new(json!({"email": "dora@example.com"}))).await.problem(403, "forbidden");
}

// R11
async fn one_person_has_one_address(app: App) {
    let admin = app.setup().await;
    let made = admin.post("/users").json(new(json!({"email": " JOSÉ@Example.com "}))).await.ok(201);
    assert_eq!(made["email"], "josé@example.com");
    for same in ["josé@example.com", "jose\u{301}@example.com", "JOSÉ@EXAMPLE.COM", "josé@example.com "] {
        admin.post("/users").json(new(json!({"email": same}))).await.problem(409, "email_taken");
        app.anybody().post("/auth/login").json(json!({"email": same, "password": PASSWORD})).await.ok(200);
    }
    let other = admin.post("/users").json(new(json!({"email": "jose@example.com"}))).await.ok(201);
    assert_ne!(text(&other["id"]), text(&made["id"]));
}

// R44, R65
#[tokio::test]
async fn an_account_is_checked_field_by_field() {
    let app = App::start().await;
    let admin = app.setup().await;
    let wrong = async |fields: Value| admin.post("/users").json(new(fields)).await.wrong_fields();
    let all = json!({"email": "x", "name": " ", "password": "short"});
    assert_eq!(wrong(all).await, ["email", "name", "password"]);
    for email in ["", "@", "a@", "a b@c.d", &format!("{}@example.com", "a".repeat(250)), "a@b@c"] {
        assert_eq!(wrong(json!({"email": email})).await, ["email"], "{email}");
    }
    for name in ["", "  ", "a\nb", "a\tb", "\u{7f}", &"x".repeat(101)] {
        assert_eq!(wrong(json!({"name": name})).await, ["name"], "{name:?}");
    }
    // R5: nor may a password be one that everybody tries first, or that the rest of the request gives away.
    for password in ["password123", "annexample", "private-chat", "seven77", &"x".repeat(1025)] {
        assert_eq!(wrong(json!({"password": password, "name": "annexample"})).await, ["password"], "{password}");
    }
    assert_eq!(wrong(json!({"role": "OWNER"})).await, ["role"]);
    assert_eq!(wrong(json!({"role": "admin"})).await, ["role"]);
    for read_only in
        ["id", "is_active", "two_factor_enabled", "created_at", "updated_at", "credentials_epoch", "version"]
    {
        assert_eq!(wrong(json!({read_only: true})).await, [read_only]);
    }
    app.anybody().post("/auth/login").json(json!({"email": "ann@example.com", "password": PASSWORD})).await.ok(401);
}
