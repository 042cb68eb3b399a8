//! Accounts.

use private_chat_core::model::workspace::Role;
use private_chat_tests::client::{Answer, App, Caller, PASSWORD, text};
use serde_json::{Value, json};

use crate::workspaces::walk;

crate::on_every_store!(
    administrators_make_accounts,
    one_person_has_one_address,
    names_and_addresses_of_every_kind_are_kept_or_refused,
    accounts_are_found_by_what_they_contain,
    accounts_are_paged_newest_first,
    people_change_their_own_name_and_address,
    administrators_change_accounts_and_end_their_sessions,
    the_last_administrator_stays_one,
    what_only_the_deleted_owned_goes_to_an_heir,
    what_the_deleted_wrote_stays_without_them,
);

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

async fn login(app: &App, email: &str, password: &str) -> Answer {
    app.anybody().post("/auth/login").json(json!({"email": email, "password": password})).await
}

/// Changes an account in the name of this caller.
async fn change(by: &Caller, of: &Caller, fields: Value) -> Answer {
    by.put(&format!("/users/{}", of.id)).json(fields).await
}

async fn is_signed_in(caller: &Caller) -> bool {
    match caller.get("/auth/me").await.status {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

// R11, R67
async fn names_and_addresses_of_every_kind_are_kept_or_refused(app: App) {
    let admin = app.setup().await;
    for (n, name) in [
        "e\u{301} is not é",
        "😀👩\u{200d}👩\u{200d}👧\u{200d}👦 \u{10ffff}",
        "\u{202e}right to left\u{202c} שלום",
        "zero\u{200b}width\u{feff}\u{2060}",
        "ｆｕｌｌ ｗｉｄｔｈ",
        " spaces  around ",
        "' OR 1=1 -- \" % _ \\ ` /* */",
        "<script>alert(1)</script> {{7*7}}",
    ]
    .into_iter()
    .enumerate()
    {
        let made = new(json!({"email": format!("person{n}@example.com"), "name": name}));
        let made = admin.post("/users").json(made).await.ok(201);
        let path = format!("/users/{}", text(&made["id"]));
        assert_eq!((&made["name"], &admin.get(&path).await.ok(200)["name"]), (&json!(name), &json!(name)));
        let renamed = format!("{name} ");
        assert_eq!(admin.put(&path).json(json!({"name": renamed})).await.ok(200)["name"], renamed);
        assert_eq!(admin.get(&path).await.ok(200)["name"], renamed);
    }

    // Of those that look the same, at most one is an account, and whoever signs in with any is that one or nobody.
    let ann = admin.post("/users").json(new(json!({}))).await.ok(201);
    for same in [
        "ANN@EXAMPLE.COM",
        " ann@example.com",
        "ann@example.com\u{3000}",
        "ａｎｎ@example.com",
        "ann@ｅｘａｍｐｌｅ.com",
        "ann＠example.com",
        "a\u{200b}nn@example.com",
        "ann@example.com\u{200f}",
        "\u{202e}ann@example.com",
        "\u{feff}ann@example.com",
        "an\u{ad}n@example.com",
        "ann@exa\u{2060}mple.com",
        "ann\u{0}@example.com",
        "ann@example.com\u{0}",
        "ann\n@example.com",
    ] {
        let refused = admin.post("/users").json(new(json!({"email": same}))).await;
        assert!(matches!(refused.status, 409 | 422), "{same:?} is another account: {}", refused.text());
        if refused.status == 422 {
            assert_eq!(refused.wrong_fields(), ["email"], "{same:?}");
        }
        let signed_in = login(&app, same, PASSWORD).await;
        match signed_in.status {
            200 => assert_eq!(signed_in.json()["user"]["id"], ann["id"], "{same:?}"),
            other => assert!(matches!(other, 401 | 422), "{same:?}: {other}"),
        }
    }
    // Some are odd, and somebody's all the same.
    for own in ["😀@example.com", "ann+tag@example.com", "a.n.n@example.com", "o'ann@example.com", "안녕@例え.jp"]
    {
        let made = admin.post("/users").json(new(json!({"email": own}))).await.ok(201);
        assert_eq!(made["email"], own);
        assert_eq!(login(&app, own, PASSWORD).await.ok(200)["user"]["id"], made["id"]);
    }
}

// R70, R72
async fn accounts_are_found_by_what_they_contain(app: App) {
    let admin = app.setup().await;
    for (name, email, role) in [
        ("José Ñandú", "jn@one.example", "USER"),
        ("100% Anna", "anna@one.example", "ADMIN"),
        ("under_score", "us@two.example", "USER"),
        ("O'Brien \"Q\"", "ob@two.example", "USER"),
        ("back\\slash", "bs@two.example", "USER"),
        ("ＷＩＤＥ", "wd@two.example", "USER"),
        ("Straße 東京 😀", "st@two.example", "USER"),
    ] {
        admin.post("/users").json(new(json!({"name": name, "email": email, "role": role}))).await.ok(201);
    }
    let bob = app.user(&admin, "Bob").await;
    change(&admin, &bob, json!({"is_active": false})).await.ok(200);

    let found = async |query: &[(&str, &str)]| {
        let query: String =
            query.iter().map(|(name, value)| format!("{name}={}&", encoded(value))).collect::<Vec<_>>().concat();
        let page = admin.get(&format!("/users?{query}")).await.ok(200);
        let names = page["items"].as_array().unwrap().iter().map(|user| text(&user["name"]));
        // Within a millisecond chance decides which is newer.
        sorted(names.collect())
    };
    for (query, names) in [
        ("josé", &["José Ñandú"][..]),
        ("JOSE\u{301} nandu", &["José Ñandú"]),
        ("ndu", &["José Ñandú"]),
        ("%", &["100% Anna"]),
        ("0% a", &["100% Anna"]),
        ("_", &["under_score"]),
        ("o'b", &["O'Brien \"Q\""]),
        ("\"", &["O'Brien \"Q\""]),
        ("\\", &["back\\slash"]),
        ("wide", &["ＷＩＤＥ"]),
        ("ｗｉｄｅ", &["ＷＩＤＥ"]),
        ("東京", &["Straße 東京 😀"]),
        ("😀", &["Straße 東京 😀"]),
        ("ONE.example", &["100% Anna", "José Ñandú"]),
        ("anna@", &["100% Anna"]),
        ("  anna  ", &["100% Anna"]),
        ("nobody", &[]),
        ("' OR 1=1 --", &[]),
        ("%anna%", &[]),
        ("[a-z]", &[]),
        ("a*", &[]),
        ("jn@one.example josé", &[]),
        ("an\nna", &[]),
    ] {
        assert_eq!(found(&[("q", query)]).await, names, "{query:?}");
    }
    let everybody = found(&[]).await;
    assert_eq!(everybody.len(), 9);
    assert_eq!(found(&[("q", "")]).await, everybody);
    assert_eq!(found(&[("q", "  ")]).await, everybody);
    assert_eq!(found(&[("role", "ADMIN")]).await, ["100% Anna", "Admin"]);
    assert_eq!(found(&[("is_active", "false")]).await, ["Bob"]);
    assert_eq!(found(&[("role", "ADMIN"), ("is_active", "true"), ("q", "ANNA")]).await, ["100% Anna"]);
    assert_eq!(found(&[("role", "USER"), ("q", "anna")]).await, [""; 0]);
    for (wrong, field) in
        [("role=admin", "role"), ("role=OWNER", "role"), ("role=", "role"), ("is_active=1", "is_active")]
    {
        assert_eq!(admin.get(&format!("/users?{wrong}")).await.wrong_fields(), [field], "{wrong}");
    }
    for twice in ["q", "role", "is_active"] {
        assert_eq!(admin.get(&format!("/users?{twice}=true&{twice}=true")).await.wrong_fields(), [twice]);
    }

    // However long and hostile: it is found nowhere, or refused.
    for piece in ["a", "%", "_%", "a*a?", "(a+)+$", "é", "\\'", "\u{200b}"] {
        // As long as a path may be.
        let hostile = encoded(piece).repeat(60_000 / encoded(piece).len());
        let answer = admin.get(&format!("/users?q={hostile}")).await;
        match answer.status {
            200 => assert_eq!(answer.json()["items"], json!([]), "{piece}"),
            _ => assert_eq!(answer.wrong_fields(), ["q"], "{piece}"),
        }
    }
    assert_eq!(found(&[]).await, everybody);
}

/// Text as it stands in a query.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

// R105
async fn accounts_are_paged_newest_first(app: App) {
    let admin = app.setup().await;
    let mut people = vec![admin.id.clone()];
    for n in 0..6 {
        people.push(app.user(&admin, &format!("Person {n}")).await.id);
    }
    people.sort_by(|a, b| b.cmp(a));
    for limit in [1, 2, 3, 6, 7, 100] {
        assert_eq!(walk(&admin, "/users", limit).await, people);
    }
    people.retain(|id| *id != admin.id);
    for limit in [1, 4, 6] {
        assert_eq!(walk(&admin, "/users/?role=USER&q=person", limit).await, people);
    }
    // Whoever comes in between shifts nothing.
    let first = admin.get("/users?limit=3").await.ok(200);
    app.account(&admin, "Newcomer", true).await;
    let rest = admin.get(&format!("/users?limit=100&cursor={}", text(&first["next_cursor"]))).await.ok(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 4);
    assert_eq!(rest["items"][0]["id"].as_str(), people.get(3).map(String::as_str));
    let foreign = text(&admin.get("/users?limit=1").await.ok(200)["next_cursor"]);
    assert_eq!(admin.get(&format!("/users?cursor={foreign}x")).await.wrong_fields(), ["cursor"]);
}

// R14, R46
async fn people_change_their_own_name_and_address(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let me = ann.get("/auth/me").await.ok(200);
    assert_eq!(ann.get(&format!("/users/{}", ann.id)).await.ok(200), me);
    assert_eq!(change(&ann, &ann, json!({})).await.ok(200), me);

    let renamed = change(&ann, &ann, json!({"name": "Anna", "email": " ANN@example.com"})).await.ok(200);
    assert_eq!((&renamed["name"], &renamed["email"]), (&json!("Anna"), &json!("ann@example.com")));
    assert!(text(&renamed["updated_at"]) > text(&me["updated_at"]));
    assert_eq!(renamed["created_at"], me["created_at"]);

    // Another address needs the password.
    let moved = |fields: Value| {
        let mut all = json!({"email": "anna@example.com"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        change(&ann, &ann, all)
    };
    assert_eq!(moved(json!({})).await.wrong_fields(), ["current_password"]);
    for wrong in ["", "wrong horse battery", &PASSWORD.to_uppercase(), &format!("{PASSWORD} ")] {
        moved(json!({"current_password": wrong})).await.problem(401, "invalid_credentials");
    }
    let all = change(&ann, &ann, json!({"email": "x", "name": " ", "current_password": "x"})).await;
    assert_eq!(all.wrong_fields(), ["email", "name"]);
    let taken = change(&ann, &ann, json!({"email": "admin@example.com", "current_password": PASSWORD})).await;
    taken.problem(409, "email_taken");
    assert_eq!(ann.get("/auth/me").await.ok(200), renamed);
    assert_eq!(moved(json!({"current_password": PASSWORD})).await.ok(200)["email"], "anna@example.com");
    assert!(is_signed_in(&ann).await);
    login(&app, "ann@example.com", PASSWORD).await.problem(401, "invalid_credentials");
    login(&app, "ANNA@example.com", PASSWORD).await.ok(200);
    // The old one is free.
    admin.post("/users").json(new(json!({}))).await.ok(201);

    // Role, activity and password are somebody else's to set.
    for own in [
        json!({"role": "ADMIN"}),
        json!({"role": "USER"}),
        json!({"is_active": false}),
        json!({"is_active": true}),
        json!({"password": "another horse battery"}),
        json!({"name": "Boss", "role": "ADMIN"}),
    ] {
        change(&ann, &ann, own.clone()).await.problem(403, "own_account");
    }
    let me = ann.get("/auth/me").await.ok(200);
    assert_eq!((&me["role"], &me["name"]), (&json!("USER"), &json!("Anna")));
}

// R12, R25, R38
async fn administrators_change_accounts_and_end_their_sessions(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let bob = app.user(&admin, "Bob").await;
    let taken = change(&admin, &ann, json!({"email": "bob@example.com"})).await;
    taken.problem(409, "email_taken");
    let wrong = change(&admin, &ann, json!({"email": "", "name": "", "password": "short"})).await;
    assert_eq!(wrong.wrong_fields(), ["email", "name", "password"]);
    let wrong = change(&admin, &ann, json!({"role": "OWNER", "is_active": "false", "id": ann.id})).await;
    assert_eq!(sorted(wrong.wrong_fields()), ["id", "is_active", "role"]);
    let moved = change(&admin, &ann, json!({"email": "ann@elsewhere.example", "name": "Annie"})).await.ok(200);
    assert_eq!((&moved["email"], &moved["name"]), (&json!("ann@elsewhere.example"), &json!("Annie")));
    // None of it is a reason to sign anybody out, nor is what is so already.
    change(&admin, &ann, json!({"role": "USER", "is_active": true})).await.ok(200);
    assert!(is_signed_in(&ann).await);

    let promoted = change(&admin, &ann, json!({"role": "ADMIN"})).await.ok(200);
    assert_eq!(promoted["role"], "ADMIN");
    assert!(!is_signed_in(&ann).await);
    let refresh = json!({"refresh_token": ann.refresh});
    app.anybody().post("/auth/refresh").json(refresh).await.problem(401, "invalid_refresh_token");
    let ann = app.sign_in("ann@elsewhere.example").await;
    ann.get("/users").await.ok(200);

    let reset = json!({"password": "another horse battery"});
    let reset = change(&admin, &ann, reset).await.ok(200);
    assert_eq!(reset["must_change_password"], true);
    assert!(!is_signed_in(&ann).await);
    login(&app, "ann@elsewhere.example", PASSWORD).await.problem(401, "invalid_credentials");
    let ann = app.signed_in(&login(&app, "ann@elsewhere.example", "another horse battery").await.ok(200));
    ann.get("/users").await.problem(403, "password_change_required");
    let own = json!({"current_password": "another horse battery", "new_password": PASSWORD});
    ann.post("/auth/password").json(own).await.ok(204);
    ann.get("/users").await.ok(200);

    let closed = change(&admin, &ann, json!({"is_active": false})).await.ok(200);
    assert_eq!(closed["is_active"], false);
    assert!(!is_signed_in(&ann).await);
    login(&app, "ann@elsewhere.example", PASSWORD).await.problem(401, "invalid_credentials");
    change(&admin, &ann, json!({"is_active": true})).await.ok(200);
    assert!(!is_signed_in(&ann).await, "what was ended stays ended");
    let ann = app.sign_in("ann@elsewhere.example").await;

    let sessions = format!("/users/{}/sessions", ann.id);
    admin.delete(&sessions).await.ok(204);
    assert!(!is_signed_in(&ann).await);
    admin.delete(&sessions).await.ok(204);
    app.sign_in("ann@elsewhere.example").await;
    assert!(is_signed_in(&bob).await && is_signed_in(&admin).await);
}

fn sorted(mut fields: Vec<String>) -> Vec<String> {
    fields.sort();
    fields
}

// R48
async fn the_last_administrator_stays_one(app: App) {
    let admin = app.setup().await;
    let own = format!("/users/{}", admin.id);
    for last in [json!({"role": "USER"}), json!({"is_active": false}), json!({"role": "USER", "name": "X"})] {
        change(&admin, &admin, last).await.problem(409, "last_admin");
    }
    admin.delete(&own).await.problem(409, "last_admin");
    let heir = admin.delete(&format!("{own}?transfer_to={}", admin.id)).await;
    assert_eq!(heir.wrong_fields(), ["transfer_to"]);
    for own in [json!({"role": "ADMIN"}), json!({"is_active": true}), json!({"password": "another horse battery"})] {
        change(&admin, &admin, own).await.problem(403, "own_account");
    }
    // One who may not sign in does not count.
    let ann = app.user(&admin, "Ann").await;
    change(&admin, &ann, json!({"role": "ADMIN", "is_active": false})).await.ok(200);
    admin.delete(&own).await.problem(409, "last_admin");
    change(&admin, &ann, json!({"is_active": true})).await.ok(200);
    // There are two: still nobody demotes themselves.
    for last in [json!({"role": "USER"}), json!({"is_active": false})] {
        change(&admin, &admin, last).await.problem(403, "own_account");
    }
    let ann = app.sign_in("ann@example.com").await;
    change(&ann, &admin, json!({"role": "USER"})).await.ok(200);
    assert!(!is_signed_in(&admin).await);
    change(&ann, &ann, json!({"role": "USER"})).await.problem(409, "last_admin");
    let admin = app.sign_in("admin@example.com").await;
    admin.get("/users").await.problem(403, "forbidden");
    ann.delete(&own).await.ok(204);
    ann.delete(&own).await.problem(404, "not_found");
    ann.get(&own).await.problem(404, "not_found");
    change(&ann, &admin, json!({"name": "X"})).await.problem(404, "not_found");
    assert!(!is_signed_in(&admin).await);
    login(&app, "admin@example.com", PASSWORD).await.problem(401, "invalid_credentials");
    // Whoever may, may also go, as long as somebody stays.
    let bob = app.user(&ann, "Bob").await;
    change(&ann, &bob, json!({"role": "ADMIN"})).await.ok(200);
    ann.delete(&format!("/users/{}", ann.id)).await.ok(204);
    assert!(!is_signed_in(&ann).await);
}

async fn what_only_the_deleted_owned_goes_to_an_heir(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let bob = app.user(&admin, "Bob").await;
    let carl = app.user(&admin, "Carl").await;
    let named = async |name: &str| text(&ann.post("/workspaces").json(json!({"name": name})).await.ok(201)["id"]);
    let (alone, with_bob, shared) = (named("Quiet corner").await, named("Lab").await, named("Commons").await);
    app.join(&with_bob, &bob, Role::Guest).await;
    app.join(&shared, &carl, Role::Owner).await;
    let path = format!("/users/{}", ann.id);
    let refused = admin.delete(&path).await.problem(409, "sole_owner");
    let detail = text(&refused["detail"]);
    assert!(detail.contains("“Quiet corner”") && detail.contains("“Lab”"), "{detail}");
    assert!(!detail.contains("Commons"), "{detail}");

    change(&admin, &carl, json!({"is_active": false})).await.ok(200);
    for unfit in [&ann.id, &carl.id, "0190d5a0-7b7c-7000-8000-000000000001", "none", "", "%00"] {
        let answer = admin.delete(&format!("{path}?transfer_to={unfit}")).await;
        assert_eq!(answer.wrong_fields(), ["transfer_to"], "{unfit}");
    }
    assert!(is_signed_in(&ann).await);
    let feed = format!("/workspaces/{alone}/events");
    let mut feed = ann.get(&feed).events().await;
    feed.next().await.unwrap();
    let mut lab = bob.get(&format!("/workspaces/{with_bob}/events")).events().await;
    lab.next().await.unwrap();

    admin.delete(&format!("{path}/?transfer_to={}", bob.id)).await.ok(204);
    feed.rest().await;
    for (workspace, members) in [(&alone, 1), (&with_bob, 1)] {
        let inherited = bob.get(&format!("/workspaces/{workspace}")).await.ok(200);
        assert_eq!((&inherited["role"], &inherited["member_count"]), (&json!("OWNER"), &json!(members)));
    }
    bob.get(&format!("/workspaces/{shared}")).await.problem(404, "not_found");
    change(&admin, &carl, json!({"is_active": true})).await.ok(200);
    let carl = app.sign_in("carl@example.com").await;
    assert_eq!(carl.get(&format!("/workspaces/{shared}")).await.ok(200)["member_count"], 1);
    let told = [lab.next().await.unwrap(), lab.next().await.unwrap()];
    let mut names = told.each_ref().map(|event| event.name.as_str());
    names.sort_unstable();
    assert_eq!(names, ["member.left", "member.updated"]);
    for event in told {
        match event.name.as_str() {
            "member.left" => assert_eq!(event.data["user_id"], ann.id.as_str()),
            _ => assert_eq!(
                (&event.data["member"]["user"]["id"], &event.data["member"]["role"]),
                (&json!(bob.id), &json!("OWNER"))
            ),
        }
    }
}

// R49
async fn what_the_deleted_wrote_stays_without_them(app: App) {
    let admin = app.setup().await;
    let owner = app.user(&admin, "Owner").await;
    let ann = app.user(&admin, "Ann").await;
    let home = owner.workspace().await;
    app.join(&home, &ann, Role::Owner).await;
    let chat = ann.chat(&home).await;
    let (message, reply) = ann.say(&chat, "I was here.").await;
    let invitation = ann.invite(&home, "newcomer@example.com", "MEMBER").await;
    assert_eq!(message["author"]["name"], "Ann");

    admin.delete(&format!("/users/{}", ann.id)).await.ok(204);
    assert!(!is_signed_in(&ann).await);
    let read = owner.get(&chat).await.ok(200);
    assert_eq!(read["created_by"], Value::Null);
    let without = |message: &Value| {
        let mut message = message.clone();
        message["author"] = Value::Null;
        message
    };
    assert_eq!(read["messages"], json!([without(&message), reply]));
    assert_eq!(
        owner.get(&format!("/workspaces/{home}/chats/history")).await.ok(200)["items"][0]["created_by"],
        Value::Null
    );
    let members = owner.get(&format!("/workspaces/{home}/members")).await.ok(200);
    assert_eq!(members["items"].as_array().unwrap().len(), 1);
    // What they promised to others goes with them.
    assert_eq!(owner.get(&format!("/workspaces/{home}/invitations")).await.ok(200)["items"], json!([]));
    let register = json!({"token": invitation["token"], "name": "New", "password": PASSWORD});
    app.anybody().post("/auth/register").json(register).await.problem(401, "invalid_invitation_token");
    // One who comes with the same address is somebody else.
    let again = app.user(&admin, "Ann").await;
    assert_ne!(again.id, ann.id);
    again.get(&chat).await.problem(404, "not_found");
    app.join(&home, &again, Role::Member).await;
    assert_eq!(again.get(&chat).await.ok(200)["messages"][0]["author"], Value::Null);
    owner.say(&chat, "We go on.").await;
}
