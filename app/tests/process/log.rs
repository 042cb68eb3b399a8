//! What must not be in the log.

use libtest_mimic::Trial;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::client::ends;
use crate::program::Home;
use crate::trial;
use crate::upstream::{REFUSED, Upstream};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("no_secret_and_no_text_is_logged_at_any_level", canaries)]
}

// R77, R89, R90
async fn canaries() {
    const PASSWORD: &str = "canary-of-a-password";
    const WRONG: &str = "canary-of-a-wrong-password";
    const NEW: &str = "canary-of-a-new-password";
    const KEY: &str = "sk-canary-of-a-provider";
    const TEXT: &str = "canary-of-a-message";
    const SYSTEM: &str = "canary-of-a-system-prompt";
    const QUERY: &str = "canary-of-a-query";
    const SETUP: &str = "canary-of-a-setup-token";
    const FIRST: &str = "canary-of-a-first-password";
    const RESET: &str = "canary-of-another-password";
    const NEWCOMER: &str = "canary-of-a-newcomer";
    const REPEATED: &str = "canary-of-a-repeated-request";
    let upstream = Upstream::start().await;
    let home = Home::with_keys()
        .asking(&upstream)
        .set("OPENAI_API_KEY", KEY)
        .set("PRIVATE_CHAT_SECURITY__SETUP_TOKEN", SETUP)
        .set("RUST_LOG", "trace");
    let program = home.start().await;
    let stranger = program.api();
    let mut secrets = [PASSWORD, WRONG, NEW, KEY, TEXT, SYSTEM, QUERY, SETUP, FIRST, RESET, NEWCOMER, REPEATED]
        .map(str::to_owned)
        .to_vec();
    let mut problems = Vec::new();

    let ann = json!({"email": "ann@example.com", "name": "Ann", "password": PASSWORD, "setup_token": SETUP});
    let made = stranger.post("/auth/setup", &ann).await.expect(201);
    let wrong = json!({"email": "ann@example.com", "password": WRONG});
    problems.push(stranger.post("/auth/login", &wrong).await.expect(401));
    let right = json!({"email": "ann@example.com", "password": PASSWORD});
    let tokens = stranger.post("/auth/login", &right).await.expect(200)["tokens"].clone();
    let renewed = stranger.post("/auth/refresh", &json!({"refresh_token": tokens["refresh_token"]})).await.expect(200);
    for tokens in [&made["tokens"], &tokens, &renewed] {
        for kind in ["access_token", "refresh_token"] {
            secrets.push(tokens[kind].as_str().unwrap().to_owned());
        }
    }
    let ann = stranger.with_token(renewed["access_token"].as_str().unwrap());
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    assert_eq!(ann.post("/auth/password", &change).await.status, 204);
    let forged = format!("{}canary", ann.token());
    problems.push(stranger.with_token(&forged).get("/auth/me").await.expect(401));

    let workspace = ann.make_workspace().await;
    let request = ann.request(Method::PUT, &workspace).json(&json!({"system_prompt": SYSTEM}));
    ann.send(request).await.unwrap().expect(200);
    let chat = ann.make_chat(&workspace).await;
    let stream = ann.say(&chat, &format!("{TEXT} count 5 1")).await;
    stream.until("the reply ends", |seen| !ends(seen).is_empty()).await;
    let refused = ann.exchange(&chat, &format!("{TEXT} {REFUSED}")).await.expect(201);
    assert_eq!(refused["reply"]["status"], "failed");
    problems.push(refused["reply"]["error"].clone());
    // Accounts that others make, and those that come by an invitation.
    let bob = json!({"email": "bob@example.com", "name": "Bob", "password": FIRST});
    let bob = ann.post_once("/users/", &bob, REPEATED).await.expect(201);
    ann.put(&format!("/users/{}", bob["id"].as_str().unwrap()), &json!({"password": RESET})).await.expect(200);
    let own = format!("/users/{}", ann.me().await["id"].as_str().unwrap());
    let moved = json!({"email": "anna@example.com", "current_password": WRONG});
    problems.push(ann.put(&own, &moved).await.expect(401));
    let cyd = json!({"email": "cyd@example.com", "role": "MEMBER"});
    let invited = ann.post_once(&format!("{workspace}/invite"), &cyd, REPEATED).await;
    problems.push(invited.expect(422));
    let invited = ann.post(&format!("{workspace}/invite"), &cyd).await.expect(201);
    let token = invited["token"].as_str().unwrap().to_owned();
    problems.push(ann.post("/invitations/accept", &json!({"token": token})).await.expect(404));
    let cyd = json!({"token": token, "name": "Cyd", "password": NEWCOMER});
    let cyd = stranger.post("/auth/register", &cyd).await.expect(201);
    secrets.extend([token, cyd["tokens"]["refresh_token"].as_str().unwrap().to_owned()]);
    // What is wrong is told without being repeated.
    let wrong = json!({"content": [TEXT], "canary": TEXT});
    problems.push(ann.post(&format!("{chat}/message"), &wrong).await.expect(422));
    let broken = ann.request(Method::POST, &format!("{chat}/message")).header("content-type", "application/json");
    problems.push(ann.send(broken.body(format!("{{\"content\": \"{TEXT}"))).await.unwrap().expect(400));
    ann.get(&format!("/auth/me?token={QUERY}")).await.expect(200);
    let evil = HeaderValue::from_bytes("red\tand\u{2028}more".as_bytes()).unwrap();
    ann.send(ann.request(Method::GET, "/auth/me").header("user-agent", evil)).await.unwrap().expect(200);
    ann.get("/%1b%5b31m/%0a%7b%7d/%e2%80%a8").await.expect(404);
    ann.post("/auth/logout", &json!({})).await.expect(204);
    let waiting = program.api();
    program.terminate();
    drop(waiting);
    let mut program = program;
    program.ended(std::time::Duration::from_secs(30)).await;

    let log = program.log();
    let problems: String = problems.iter().map(Value::to_string).collect();
    for secret in &secrets {
        let told = log.iter().find(|line| line.contains(secret.as_str()));
        assert!(told.is_none(), "{secret} is in the log: {told:?}");
        assert!(!problems.contains(secret.as_str()), "{secret} is in an answer: {problems}");
    }
    // It is no silence that keeps them.
    let requests = log.iter().filter(|line| line.contains("/auth/login")).count();
    assert!(requests >= 2, "{log:?}");
    for line in &log {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "one object a line: {line}");
        assert!(!line.contains('\u{1b}') && !line.contains('\u{2028}'), "{line}");
    }
}
