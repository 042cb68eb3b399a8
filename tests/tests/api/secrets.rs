//! What must not be seen anywhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use private_chat::config::LogFormat;
use private_chat::logging;
use private_chat_adapters::PROVIDER_KINDS;
use private_chat_adapters::argon2::Argon2Hasher;
use private_chat_adapters::provider::{ProviderConfig, open};
use private_chat_adapters::system::OsEntropy;
use private_chat_core::model::secret::Secret;
use private_chat_core::port::Ports;
use private_chat_tests::client::{Answer, App, Caller, claims, ports, text};
use private_chat_tests::contract::inference::REFUSED_KEY;
use private_chat_tests::replay;
use private_chat_tests::team::Team;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::sqlite::File;

/// A log in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Texts that stand nowhere else, so that they are known again wherever they turn up.
const PASSWORD: &str = "canary-password-7f3a";
const NEW_PASSWORD: &str = "canary-new-password-7f3a";
const WRONG_PASSWORD: &str = "canary-wrong-password-7f3a";
const SETUP_TOKEN: &str = "canary-setup-token-7f3a";
const MESSAGE: &str = "canary-message-7f3a";
const PROMPT: &str = "canary-prompt-7f3a";
const TITLE: &str = "canary-title-7f3a";
const KEY: &str = "canary-provider-key-7f3a";
const GARBAGE: &str = "canary-garbage-7f3a";
const NEWCOMERS_PASSWORD: &str = "canary-newcomers-password-7f3a";
const RESET_PASSWORD: &str = "canary-reset-password-7f3a";
const IDEMPOTENCY_KEY: &str = "canary-idempotency-key-7f3a";
const SEARCHED: &str = "canary-searched-7f3a";

/// Everything that came back, but for what is its own answer.
#[derive(Default)]
struct Answers(Vec<String>);

impl Answers {
    /// Keeps the headers, and the body where it is a problem.
    fn see(&mut self, answer: Answer) -> Answer {
        self.0.push(format!("{:?}", answer.headers));
        if answer.status >= 400 {
            self.0.push(answer.text());
        }
        answer
    }
}

fn provider(kind: &str, address: &str, key: &str) -> private_chat_core::port::inference::Provider {
    let mut config = ProviderConfig::of_kind(kind);
    config.base_url = Some(address.to_owned());
    config.api_key = Some(Secret::new(key));
    open(PROVIDER_KINDS, kind, &config).unwrap()
}

// R77, R89, A16.2.5
#[tokio::test]
async fn no_secret_and_no_message_is_in_the_log_or_in_an_error() {
    let log = Memory::default();
    let writer = log.clone();
    let lines = logging::lines(LogFormat::Json, false, EnvFilter::new("trace"), move || writer.clone());
    tracing::subscriber::set_global_default(lines).unwrap();

    let address = replay::start("llama.cpp").await;
    let inference = BTreeMap::from([
        ("refused".to_owned(), provider("openai", &address, REFUSED_KEY)),
        ("trusted".to_owned(), provider("openai", &address, KEY)),
    ]);
    let entropy = Arc::new(OsEntropy);
    let file = File::new();
    let ports = Ports {
        inference: Arc::new(inference),
        passwords: Arc::new(Argon2Hasher::new(0, 16, entropy)),
        ..ports().over(file.store())
    };
    let settings = private_chat_core::usecase::Settings {
        setup_token: Some(Secret::new(SETUP_TOKEN)),
        ..private_chat_tests::client::settings()
    };
    let app = App::with(ports, settings).await;
    let mut answers = Answers::default();
    let mut secrets = vec![
        PASSWORD.to_owned(),
        NEW_PASSWORD.into(),
        WRONG_PASSWORD.into(),
        SETUP_TOKEN.into(),
        MESSAGE.into(),
        PROMPT.into(),
        TITLE.into(),
        KEY.into(),
        GARBAGE.into(),
        REFUSED_KEY.into(),
        NEWCOMERS_PASSWORD.into(),
        RESET_PASSWORD.into(),
        IDEMPOTENCY_KEY.into(),
        SEARCHED.into(),
    ];
    let nobody = app.anybody();

    // Accounts and sessions.
    let setup = json!({"email": "a@b.c", "name": "A", "password": PASSWORD, "setup_token": SETUP_TOKEN});
    let mut wrong = setup.clone();
    wrong["setup_token"] = json!(WRONG_PASSWORD);
    answers.see(nobody.post("/auth/setup").json(wrong).await).problem(401, "invalid_setup_token");
    let admin = app.signed_in(&answers.see(nobody.post("/auth/setup").json(setup.clone()).await).ok(201));
    answers.see(nobody.post("/auth/setup").json(setup).await).problem(409, "setup_completed");
    let login = |password: &str| json!({"email": "a@b.c", "password": password});
    answers.see(nobody.post("/auth/login").json(login(WRONG_PASSWORD)).await).problem(401, "invalid_credentials");
    let other = app.signed_in(&answers.see(nobody.post("/auth/login").json(login(PASSWORD)).await).ok(200));
    let refresh = json!({"refresh_token": other.refresh});
    let refreshed = answers.see(nobody.post("/auth/refresh").json(refresh.clone()).await).ok(200);
    let next = json!({"refresh_token": refreshed["refresh_token"]});
    let again = answers.see(nobody.post("/auth/refresh").json(next).await).ok(200);
    answers.see(nobody.post("/auth/refresh").json(refresh).await).problem(401, "refresh_token_reused");
    let change = json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD});
    let backwards = json!({"current_password": WRONG_PASSWORD, "new_password": NEW_PASSWORD});
    answers.see(admin.post("/auth/password").json(backwards).await).problem(401, "invalid_credentials");
    answers.see(admin.post("/auth/password").json(change).await).ok(204);
    for caller in [&admin, &other] {
        secrets.extend([caller.access.clone().unwrap(), caller.refresh.clone()]);
    }
    for tokens in [&refreshed, &again] {
        secrets.extend([text(&tokens["access_token"]), text(&tokens["refresh_token"])]);
    }

    // What people write, and what a model answers.
    let home = text(&admin.post("/workspaces").json(json!({"name": "W"})).await.ok(201)["id"]);
    secrets.extend(people(&app, &admin, &home, &mut answers).await);
    let chat = json!({"title": TITLE, "system_prompt": PROMPT});
    let chat = answers.see(admin.post(&format!("/workspaces/{home}/chat")).json(chat).await).ok(201);
    let send = format!("/workspaces/{home}/chat/{}/message", text(&chat["id"]));
    let model = async |provider: &str| {
        let listed = admin.get("/models").await.ok(200);
        let items = listed["items"].as_array().unwrap().clone();
        items.iter().map(|model| text(&model["id"])).find(|id| id.starts_with(provider))
    };
    let trusted = model("trusted").await.unwrap();
    let sent = json!({"content": MESSAGE, "model": trusted});
    let sent = answers.see(admin.post(&send).json(sent).await).ok(201);
    assert_eq!(sent["reply"]["status"], "complete", "{sent}");
    assert!(!text(&sent["reply"]["content"]).is_empty());
    secrets.push(text(&sent["reply"]["content"]));
    let refused = json!({"content": MESSAGE, "model": trusted.replace("trusted/", "refused/")});
    let refused = answers.see(admin.post(&send).json(refused).await).ok(201);
    assert_eq!(refused["reply"]["error"]["code"], "provider_misconfigured", "{refused}");
    answers.0.push(refused["reply"].to_string());

    // Everything that is wrong, and holds a secret.
    wrong_in_every_way(&app, &admin, &send, &mut answers).await;

    let log = log.text();
    let session = text(&claims(admin.access.as_deref().unwrap())["sid"]);
    for expected in ["answered", "request_id", "/workspaces/:workspace_id/chat/:chat_id/message", "\"status\":401"] {
        assert!(log.contains(expected), "the log says nothing of {expected}: {}", &log[..log.len().min(2_000)]);
    }
    assert!(!session.is_empty());
    let answers = answers.0.join("\n");
    for secret in secrets {
        for (place, text) in [("the log", &log), ("an answer", &answers)] {
            if let Some(at) = text.find(&secret) {
                let (from, to) = (text.floor_char_boundary(at.saturating_sub(300)), text.ceil_char_boundary(at + 200));
                panic!("`{secret}` is in {place}: …{}…", &text[from..to]);
            }
        }
    }
}

/// People come and change; gives the secrets that are made of it.
async fn people(app: &App, admin: &Caller, home: &str, answers: &mut Answers) -> Vec<String> {
    let nobody = app.anybody();
    let invited = json!({"email": "new@b.c", "role": "MEMBER"});
    let invite = || admin.post(&format!("/workspaces/{home}/invite")).header("idempotency-key", IDEMPOTENCY_KEY);
    let made = answers.see(invite().json(invited).await).ok(201);
    let other = json!({"email": "other@b.c", "role": "MEMBER"});
    answers.see(invite().json(other).await).problem(422, "idempotency_key_reused");
    let register = json!({"token": made["token"], "name": "New", "password": NEWCOMERS_PASSWORD});
    let mut wrong = register.clone();
    wrong["name"] = json!("");
    assert_eq!(answers.see(nobody.post("/auth/register").json(wrong).await).wrong_fields(), ["name"]);
    let newcomer = app.signed_in(&answers.see(nobody.post("/auth/register").json(register.clone()).await).ok(201));
    answers.see(nobody.post("/auth/register").json(register).await).problem(401, "invalid_invitation_token");
    for route in ["accept", "decline"] {
        let spent = newcomer.post(&format!("/invitations/{route}")).json(json!({"token": made["token"]}));
        answers.see(spent.await).problem(404, "not_found");
    }
    let own = format!("/users/{}", newcomer.id);
    let moved = json!({"email": "moved@b.c", "current_password": WRONG_PASSWORD});
    answers.see(newcomer.put(&own).json(moved).await).problem(401, "invalid_credentials");
    answers.see(newcomer.put(&own).json(json!({"password": RESET_PASSWORD})).await).problem(403, "own_account");
    answers.see(admin.get(&format!("/users?q={SEARCHED}")).await).ok(200);
    answers.see(admin.get(&format!("/users?q={SEARCHED}&role={GARBAGE}")).await).problem(422, "invalid");
    answers.see(admin.put(&own).json(json!({"password": RESET_PASSWORD})).await).ok(200);
    vec![text(&made["token"]), newcomer.access.unwrap(), newcomer.refresh]
}

async fn wrong_in_every_way(app: &App, admin: &Caller, send: &str, answers: &mut Answers) {
    let nobody = app.anybody();
    for (path, field) in
        [("/auth/login", "password"), ("/auth/refresh", "refresh_token"), ("/auth/setup", "setup_token")]
    {
        for body in [
            format!("{{\"{field}\": \"{GARBAGE}\""),
            format!("{{\"{field}\": \"{GARBAGE}\\x\"}}"),
            format!("{{\"{field}\": {GARBAGE}}}"),
            GARBAGE.to_owned(),
            format!("{{\"{field}\": [\"{GARBAGE}\"]}}"),
            format!("{{\"{field}\": {{\"a\": \"{GARBAGE}\"}}}}"),
            format!("{{\"{field}\": \"{GARBAGE}\\u0000\"}}"),
            format!("{{\"{field}\": \"{GARBAGE}\", \"{field}\": 7}}"),
        ] {
            let answer = nobody.post(path).header("content-type", "application/json").body(body).await;
            assert!(matches!(answer.status, 400 | 422), "{}", answer.text());
            answers.see(answer);
        }
        let typed = nobody.post(path).header("content-type", GARBAGE).body(format!("{{\"{field}\": \"{GARBAGE}\"}}"));
        answers.see(typed.await).problem(415, "unsupported_media_type");
    }
    for body in [
        json!({"content": 7, "reasoning": GARBAGE}),
        json!({"content": "x", "parent_id": GARBAGE}),
        json!({"content": [GARBAGE]}),
        json!({"content": "x", "parameters": {"stop": GARBAGE, "temperature": GARBAGE}}),
        json!({"content": format!("{GARBAGE}{}", "x".repeat(70_000))}),
    ] {
        let _ = answers.see(admin.post(send).json(body).await).wrong_fields();
    }
    let role =
        json!({"email": format!("{GARBAGE}@"), "name": format!("{GARBAGE}\n"), "password": "7", "role": GARBAGE});
    let _ = answers.see(admin.post("/users").json(role).await).wrong_fields();
    for query in ["limit", "cursor", "token", "access_token"] {
        answers.see(admin.get(&format!("/workspaces?{query}={GARBAGE}")).await);
    }
    for token in [GARBAGE.to_owned(), format!("{GARBAGE}.{GARBAGE}.{GARBAGE}"), format!("{GARBAGE} {GARBAGE}")] {
        answers.see(app.bearing(&token).get("/auth/me").await).problem(401, "unauthenticated");
    }
    let cookie = nobody.get("/auth/me").header("cookie", &format!("session={GARBAGE}"));
    answers.see(cookie.await).problem(401, "unauthenticated");
}

// R45
#[tokio::test]
async fn answers_hold_what_they_list_and_nothing_else() {
    let team = Team::new().await;
    // Whoever is no administrator learns nobody else's email, and nobody learns a hash or a version.
    let mut seen = String::new();
    for path in ["", "/chats/history"] {
        seen.push_str(&team.guest.get(&team.at(path)).await.text());
    }
    for path in ["", "/messages"] {
        seen.push_str(&team.guest.get(&format!("{}{path}", team.chat)).await.text());
    }
    assert!(seen.contains("Owner") && !seen.contains(&team.owner.email), "{seen}");
    for (caller, path) in [
        (&team.admin, "/auth/me".to_owned()),
        (&team.admin, "/users".to_owned()),
        (&team.owner, "/auth/sessions".to_owned()),
        (&team.owner, team.at("/invitations")),
        (&team.guest, team.at("/members")),
    ] {
        seen.push_str(&caller.get(&path).await.ok(200).to_string());
    }
    assert!(!seen.contains(&team.token), "an invitation's token is shown again: {seen}");
    for hidden in ["argon2", "$instant", "hash", "epoch", "version", "secret"] {
        assert!(!seen.contains(hidden), "{hidden}: {seen}");
    }
    let value: Value = team.owner.get(&team.chat).await.ok(200);
    assert!(value["messages"][0].get("seq").is_none());
}
