//! Health, the pages beside the API, and what is answered when a backend is away.

use std::sync::Arc;

use private_chat_core::error::{Backend, Failure};
use private_chat_core::port::Ports;
use private_chat_core::port::passwords::MockPasswordHasher;
use private_chat_core::port::store::{MockSessionRepository, MockUnitOfWork, MockUserRepository};
use private_chat_core::usecase::UseCases;
use private_chat_tests::client::{Answer, App, PASSWORD, ports, settings};
use serde_json::json;

fn away() -> Failure {
    Failure::database("mysql://root:hunter2@10.0.0.7:3306 refused")
}

#[track_caller]
fn comes_back(answer: &Answer, code: &str) {
    let problem = answer.problem(503, code);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
    for secret in ["hunter2", "10.0.0.7", "3306", "mysql"] {
        assert!(!problem.to_string().contains(secret), "{problem}");
    }
}

// R110
#[tokio::test]
async fn the_process_says_that_it_lives_and_is_ready() {
    let app = App::start().await;
    for path in ["/health", "/health/", "/health/ready", "/health/ready/"] {
        let answer = app.anybody().get(path).await;
        assert_eq!(answer.ok(200), json!({"status": "ok"}));
        assert_eq!(answer.header("server"), None);
    }
}

// R110, F1
#[tokio::test]
async fn without_its_database_it_lives_and_is_not_ready() {
    let mut work = MockUnitOfWork::new();
    work.expect_ping().returning(|| Err(away()));
    let mut users = MockUserRepository::new();
    users.expect_installation().returning(|| Err(away()));
    users.expect_user_by_email().returning(|_| Err(away()));
    let mut sessions = MockSessionRepository::new();
    sessions.expect_session().returning(|_| Err(away()));
    let real = App::start().await;
    let admin = real.setup().await;
    let ports = Ports { work: Arc::new(work), users: Arc::new(users), sessions: Arc::new(sessions), ..ports() };
    let app = App::serving(ports.clone(), UseCases::new(&ports, settings())).await;

    app.anybody().get("/health").await.ok(200);
    comes_back(&app.anybody().get("/health/ready").await, "unavailable");
    let setup = json!({"email": "a@b.c", "name": "A", "password": PASSWORD});
    comes_back(&app.anybody().post("/auth/setup").json(setup).await, "unavailable");
    let login = json!({"email": "a@b.c", "password": PASSWORD});
    comes_back(&app.anybody().post("/auth/login").json(login).await, "unavailable");
    comes_back(&app.anybody().post("/auth/refresh").json(json!({"refresh_token": admin.refresh})).await, "unavailable");
    comes_back(&app.bearing(admin.access.as_deref().unwrap()).get("/auth/me").await, "unavailable");
    // Who is nobody in any case is told so.
    app.bearing("none").get("/auth/me").await.problem(401, "unauthenticated");
}

// R100
#[tokio::test]
async fn more_passwords_than_can_be_hashed_is_busy() {
    let mut passwords = MockPasswordHasher::new();
    passwords.expect_hash().returning(|_| Err(Failure::Busy { backend: Backend::Passwords }));
    passwords.expect_verify().returning(|_, _| Err(Failure::Busy { backend: Backend::Passwords }));
    let app = App::on(Ports { passwords: Arc::new(passwords), ..ports() }).await;
    let setup = json!({"email": "a@b.c", "name": "A", "password": PASSWORD});
    comes_back(&app.anybody().post("/auth/setup").json(setup).await, "busy");
    let login = json!({"email": "a@b.c", "password": PASSWORD});
    comes_back(&app.anybody().post("/auth/login").json(login).await, "busy");
}

// R109
#[tokio::test]
async fn a_process_that_stops_begins_nothing_new() {
    let app = App::start().await;
    let admin = app.setup().await;
    let home = admin.workspace().await;
    let chat = admin.chat(&home).await;
    app.cases.replies.drain(std::time::Duration::ZERO).await;
    app.cases.live.close();
    comes_back(&admin.post(&format!("{chat}/message")).json(json!({"content": "Hi."})).await, "shutting_down");
    comes_back(&admin.get(&format!("{chat}/events")).await, "shutting_down");
    comes_back(&admin.get(&format!("/workspaces/{home}/events")).await, "shutting_down");
    comes_back(&app.anybody().get("/health/ready").await, "shutting_down");
    app.anybody().get("/health").await.ok(200);
    admin.get(&chat).await.ok(200);
}

// R93, R96
#[tokio::test]
async fn the_pages_beside_the_api_are_there() {
    let app = App::start().await;
    let nobody = app.anybody();
    for path in ["/openapi.json", "/openapi.json/"] {
        let document = nobody.get(path).await;
        assert_eq!(document.ok(200), *private_chat_tests::document::Document::of_the_product().json());
        assert_eq!(document.header("content-type"), Some("application/json"));
    }
    for path in ["/docs", "/docs/"] {
        let docs = nobody.get(path).await;
        assert_eq!((docs.status, docs.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(docs.header("content-security-policy").unwrap().contains("script-src 'self'"));
    }
    for path in ["/.git/config", "/debug/pprof", "/metrics.json", "/admin", "/docs/../etc/passwd", "/%2e%2e/etc/passwd"]
    {
        nobody.get(path).await.problem(404, "not_found");
    }
}
