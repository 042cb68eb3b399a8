//! The first administrator, signing in, staying signed in, signing out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use private_chat_adapters::memory::TestClock;
use private_chat_core::model::user::User;
use private_chat_core::port::Ports;
use private_chat_tests::client::{Answer, App, Caller, PASSWORD, claims, ports, text};
use private_chat_tests::document::{is_id, is_time};
use serde_json::{Value, json};

use crate::sqlite::File;

crate::on_every_store!(
    setup_makes_the_first_administrator_once,
    signing_in_gives_a_session_and_signing_out_ends_it,
    a_refresh_token_is_spent_once,
    a_lost_answer_can_be_asked_for_again,
    a_new_password_ends_all_other_sessions,
);

async fn refresh(app: &App, token: &str) -> Answer {
    app.anybody().post("/auth/refresh").json(json!({"refresh_token": token})).await
}

async fn login(app: &App, email: &str, password: &str) -> Answer {
    app.anybody().post("/auth/login").json(json!({"email": email, "password": password})).await
}

async fn is_signed_in(caller: &Caller) -> bool {
    match caller.get("/auth/me").await.status {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

async fn setup_makes_the_first_administrator_once(app: App) {
    let new = json!({"email": " Ann@Example.COM ", "name": "Ann 😀", "password": PASSWORD});
    let answer = app.anybody().post("/auth/setup").json(new.clone()).await;
    let made = answer.ok(201);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let user = &made["user"];
    let fields = json!({
        "id": user["id"], "email": "ann@example.com", "name": "Ann 😀", "role": "ADMIN", "is_active": true,
        "two_factor_enabled": false, "must_change_password": false,
        "created_at": user["created_at"], "updated_at": user["created_at"],
    });
    assert_eq!(*user, fields);
    assert!(is_id(&text(&user["id"])) && is_time(&text(&user["created_at"])));
    let tokens = &made["tokens"];
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!((&tokens["expires_in"], &tokens["refresh_expires_in"]), (&json!(900), &json!(30 * 86_400)));
    let me = app.signed_in(&made).get("/auth/me").await.ok(200);
    assert_eq!(me, *user);

    app.anybody().post("/auth/setup/").json(new).await.problem(409, "setup_completed");
    let other = json!({"email": "bob@example.com", "name": "Bob", "password": PASSWORD});
    app.anybody().post("/auth/setup").json(other).await.problem(409, "setup_completed");
    login(&app, "bob@example.com", PASSWORD).await.problem(401, "invalid_credentials");
}

// R1, F46
#[tokio::test]
async fn of_fifty_who_set_up_at_once_one_succeeds() {
    let file = File::new();
    let apps = [file.app().await, file.app().await];
    let tries = (0..50).map(|n| {
        let new = json!({"email": format!("u{n}@example.com"), "name": format!("U {n}"), "password": PASSWORD});
        apps[n % 2].anybody().post("/auth/setup").json(new).into_future()
    });
    let answers = join_all(tries).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!((made.len(), refused.len()), (1, 49));
    for answer in refused {
        answer.problem(409, "setup_completed");
    }
    let admin = apps[0].signed_in(&made[0].json());
    for app in &apps {
        assert!(is_signed_in(&app.bearing(admin.access.as_deref().unwrap())).await);
        for n in 0..50 {
            let email = format!("u{n}@example.com");
            assert_eq!(login(app, &email, PASSWORD).await.status == 200, email == admin.email, "{email}");
        }
    }
}

async fn signing_in_gives_a_session_and_signing_out_ends_it(app: App) {
    let admin = app.setup().await;
    let answer = login(&app, " ADMIN@example.com", PASSWORD).await;
    let signed_in = answer.ok(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(signed_in["status"], "authenticated");
    let here = app.signed_in(&signed_in);
    assert_eq!(here.id, admin.id);
    assert_ne!(claims(here.access.as_deref().unwrap())["sid"], claims(admin.access.as_deref().unwrap())["sid"]);

    let answer = here.post("/auth/logout").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    let again = here.post("/auth/logout").await;
    again.problem(401, "unauthenticated");
    assert_eq!(again.header("www-authenticate"), Some("Bearer"));
    assert!(!is_signed_in(&here).await && is_signed_in(&admin).await);
    refresh(&app, &here.refresh).await.problem(401, "invalid_refresh_token");
    refresh(&app, &admin.refresh).await.ok(200);
}

// R7
#[tokio::test]
async fn nothing_tells_why_somebody_is_not_signed_in() {
    let app = App::start().await;
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    app.change_user(&ann, |user| User { is_active: false, ..user }).await;
    let mut seen = Vec::new();
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("no address at all", PASSWORD),
        ("admin@example.com", "wrong horse battery"),
        ("admin@example.com", ""),
        ("admin@example.com", "Correct horse battery"),
        ("ann@example.com", PASSWORD),
        ("ann@example.com", "wrong horse battery"),
        ("' OR 1=1 --", "' OR '1'='1"),
    ] {
        let answer = login(&app, email, password).await;
        answer.problem(401, "invalid_credentials");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        seen.push(answer.without_request_id());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

// R13
#[tokio::test]
async fn a_credential_of_another_type_is_none() {
    let app = App::start().await;
    app.setup().await;
    for odd in
        [json!(null), json!([]), json!([PASSWORD]), json!({}), json!({"$ne": ""}), json!(true), json!(0), json!(1e300)]
    {
        for (path, body, field) in [
            ("/auth/login", json!({"email": "admin@example.com", "password": odd}), "password"),
            ("/auth/login", json!({"email": odd, "password": PASSWORD}), "email"),
            ("/auth/refresh", json!({"refresh_token": odd}), "refresh_token"),
            ("/auth/setup", json!({"email": "a@b.c", "name": "A", "password": odd}), "password"),
            (
                "/auth/setup",
                json!({"email": "a@b.c", "name": "A", "password": PASSWORD, "setup_token": odd}),
                "setup_token",
            ),
        ] {
            assert_eq!(app.anybody().post(path).json(body).await.wrong_fields(), [field], "{path} {odd}");
        }
    }
    for empty in ["", "\u{0}", " "] {
        let status = refresh(&app, empty).await.status;
        assert!(matches!(status, 401 | 422), "{empty:?}: {status}");
    }
}

// R20
async fn a_refresh_token_is_spent_once(app: App) {
    let admin = app.setup().await;
    let first = &admin.refresh;
    let answer = refresh(&app, first).await;
    let second = answer.ok(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_ne!(second["refresh_token"], first.as_str());
    let third = refresh(&app, &text(&second["refresh_token"])).await.ok(200);
    let bearer = app.bearing(&text(&third["access_token"]));
    assert!(is_signed_in(&bearer).await && is_signed_in(&admin).await);

    let other = app.sign_in(&admin.email).await;
    let reused = refresh(&app, first).await;
    reused.problem(401, "refresh_token_reused");
    assert_eq!(reused.header("cache-control"), Some("no-store"));
    // The whole session is gone, access tokens included, and no other.
    assert!(!is_signed_in(&bearer).await && !is_signed_in(&admin).await && is_signed_in(&other).await);
    refresh(&app, &text(&third["refresh_token"])).await.problem(401, "invalid_refresh_token");
}

// R21
async fn a_lost_answer_can_be_asked_for_again(app: App) {
    let admin = app.setup().await;
    let lost = refresh(&app, &admin.refresh).await.ok(200);
    let again = refresh(&app, &admin.refresh).await.ok(200);
    // The answer that was lost is worth nothing now; using it is a reuse.
    assert_ne!(lost["refresh_token"], again["refresh_token"]);
    refresh(&app, &text(&again["refresh_token"])).await.ok(200);
    refresh(&app, &text(&lost["refresh_token"])).await.problem(401, "refresh_token_reused");
}

// R21
#[tokio::test]
async fn an_answer_is_lost_for_ten_seconds_only() {
    let clock = Arc::new(TestClock::new());
    let app = App::on(Ports { clock: clock.clone(), ..ports() }).await;
    let admin = app.setup().await;
    refresh(&app, &admin.refresh).await.ok(200);
    clock.advance(Duration::from_secs(11));
    refresh(&app, &admin.refresh).await.problem(401, "refresh_token_reused");
}

// R22, F45
#[tokio::test]
async fn twenty_refreshes_at_once_leave_one_branch() {
    let file = File::new();
    let apps = [file.app().await, file.app().await];
    let admin = apps[0].setup().await;
    let tries = (0..20).map(|n| refresh(&apps[n % 2], &admin.refresh));
    let mut got = vec![admin.refresh.clone()];
    for answer in join_all(tries).await {
        match answer.status {
            200 => got.push(text(&answer.json()["refresh_token"])),
            401 | 409 => {}
            other => panic!("{other}: {}", answer.text()),
        }
    }
    // Whichever comes first, no two of them work.
    let mut working = 0;
    for token in got.iter().rev() {
        working += usize::from(refresh(&apps[0], token).await.status == 200);
    }
    assert!(working <= 1, "{working} of {} work", got.len());
}

// R19, R24
#[tokio::test]
async fn tokens_and_sessions_end_in_their_time() {
    let clock = Arc::new(TestClock::new());
    let app = App::on(Ports { clock: clock.clone(), ..ports() }).await;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let admin = app.setup().await;
    clock.advance(minutes(14));
    assert!(is_signed_in(&admin).await);
    clock.advance(minutes(1) + Duration::from_secs(10));
    assert!(!is_signed_in(&admin).await);
    // Each refresh lasts 30 days, and all of them together 90.
    let mut token = admin.refresh;
    for _ in 0..3 {
        clock.advance(minutes(29 * 24 * 60));
        let tokens = refresh(&app, &token).await.ok(200);
        token = text(&tokens["refresh_token"]);
    }
    clock.advance(minutes(4 * 24 * 60));
    refresh(&app, &token).await.problem(401, "invalid_refresh_token");
    let idle = app.sign_in("admin@example.com").await;
    clock.advance(minutes(30 * 24 * 60 + 1));
    refresh(&app, &idle.refresh).await.problem(401, "invalid_refresh_token");
}

// R6, R14, R25
async fn a_new_password_ends_all_other_sessions(app: App) {
    let admin = app.setup().await;
    let other = app.sign_in(&admin.email).await;
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        admin.post("/auth/password").json(body).await
    };
    change("wrong horse battery", "another horse battery").await.problem(401, "invalid_credentials");
    assert!(is_signed_in(&admin).await, "a wrong password signs nobody out");
    for bad in ["short", "password123", "admin12345", PASSWORD, &"x".repeat(257), &"😀".repeat(257)] {
        assert_eq!(change(PASSWORD, bad).await.wrong_fields(), ["new_password"], "{bad}");
    }
    change(PASSWORD, "another horse battery").await.ok(204);
    assert!(is_signed_in(&admin).await && !is_signed_in(&other).await);
    refresh(&app, &other.refresh).await.problem(401, "invalid_refresh_token");
    login(&app, &admin.email, PASSWORD).await.problem(401, "invalid_credentials");
    login(&app, &admin.email, "another horse battery").await.ok(200);
}

// R4
#[tokio::test]
async fn passwords_are_taken_as_they_are() {
    let app = App::start().await;
    let admin = app.setup().await;
    let long = "b".repeat(78);
    for (n, password) in [
        format!("{long}xy"),
        "é".repeat(256),
        "pässwörd 🐎🔋".into(),
        " spaces around it ".into(),
        "\t a tab \t".into(),
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("u{n}@example.com");
        let new = json!({"email": email, "name": "U", "password": password, "must_change_password": false});
        admin.post("/users").json(new).await.ok(201);
        login(&app, &email, &password).await.ok(200);
        for near in [format!("{password} "), password.to_uppercase(), password.trim().to_owned()] {
            if near != password {
                login(&app, &email, &near).await.problem(401, "invalid_credentials");
            }
        }
    }
    login(&app, "u0@example.com", &format!("{long}xz")).await.problem(401, "invalid_credentials");
}

// R1, R2
#[tokio::test]
async fn a_setup_token_keeps_strangers_from_being_first() {
    use private_chat_core::model::secret::Secret;
    use private_chat_core::usecase::Settings;
    use private_chat_tests::client::settings;
    let token = Some(Secret::new("only the operator knows"));
    let app = App::with(ports(), Settings { setup_token: token, ..settings() }).await;
    let new = |token: Value| json!({"email": "a@b.c", "name": "A", "password": PASSWORD, "setup_token": token});
    let without = json!({"email": "a@b.c", "name": "A", "password": PASSWORD});
    app.anybody().post("/auth/setup").json(without).await.problem(401, "invalid_setup_token");
    for wrong in ["", "only the operator know", "only the operator knows "] {
        app.anybody().post("/auth/setup").json(new(wrong.into())).await.problem(401, "invalid_setup_token");
    }
    app.anybody().post("/auth/setup").json(new("only the operator knows".into())).await.ok(201);
}

#[tokio::test]
async fn there_is_nobody_before_the_setup() {
    let app = App::start().await;
    for (email, password) in [("admin@example.com", "admin"), ("admin", "admin"), ("root@localhost", "root")] {
        login(&app, email, password).await.problem(401, "invalid_credentials");
    }
}
