//! Bad input of every kind: what is answered, and that the process lives.

use futures_util::stream;
use private_chat_tests::client::{Answer, App, Caller, PASSWORD};
use private_chat_tests::document::{Document, Operation};
use private_chat_tests::team::Team;
use serde_json::{Value, json};

fn with_body() -> Vec<Operation<'static>> {
    Document::of_the_product().operations().into_iter().filter(|operation| operation.body().is_some()).collect()
}

/// Whoever may use the operation.
fn caller<'a>(team: &'a Team, operation: Operation<'_>) -> &'a Caller {
    match operation.id() {
        "end_session" => &team.somebody,
        _ if operation.path.starts_with("/users/") => &team.admin,
        _ => &team.owner,
    }
}

async fn send(team: &Team, operation: Operation<'_>, body: impl Into<reqwest::Body>) -> Answer {
    let call = caller(team, operation).call(operation.method, &team.path(operation));
    call.header("content-type", "application/json").body(body).await
}

async fn lives(app: &App) {
    app.anybody().get("/health").await.ok(200);
}

// R64, R66-R69
#[tokio::test]
async fn what_is_no_json_is_malformed_on_every_route() {
    let team = Team::new().await;
    for operation in with_body() {
        let valid = team.body(operation).unwrap().to_string();
        let deep = |open: &str| open.repeat(if operation.is_secured() { 200_000 } else { 3_000 });
        let bad: [(&str, Vec<u8>); 12] = [
            ("nothing", Vec::new()),
            ("half", valid[..valid.len() - 1].into()),
            ("twice", format!("{valid}{valid}").into()),
            ("a word", "nul".into()),
            ("single quotes", "{'a': 1}".into()),
            ("a comma too many", "{\"a\": 1,}".into()),
            ("a byte order mark", format!("\u{feff}{valid}").into()),
            ("no UTF-8", b"{\"name\": \"\xff\xfe\"}".into()),
            ("an overlong NUL", b"{\"name\": \"\xc0\x80\"}".into()),
            ("a form", "email=a&password=b".into()),
            ("brackets", deep("[").into()),
            ("braces", deep("{\"a\":").into()),
        ];
        for (what, body) in bad {
            if body.is_empty() && operation.id() == "regenerate_reply" {
                // It may be left out.
                continue;
            }
            let answer = send(&team, operation, body).await;
            assert_eq!(answer.status, 400, "{} {what}: {}", operation.id(), answer.text());
            answer.problem(400, "malformed");
        }
        for value in ["null", "true", "[]", "\"x\"", "7", "[{}]"] {
            let answer = send(&team, operation, value).await;
            assert_eq!(answer.wrong_fields(), [""], "{} {value}", operation.id());
        }
        for number in ["1e999", "-1e999", &"9".repeat(400)] {
            let answer = send(&team, operation, format!("{{\"a\": {number}}}")).await;
            assert!(matches!(answer.status, 400 | 422), "{} {number}: {}", operation.id(), answer.status);
        }
    }
    lives(&team.app).await;
}

// R68
#[tokio::test]
async fn the_media_type_must_be_json_on_every_route() {
    let team = Team::new().await;
    for operation in with_body() {
        let body = team.body(operation).unwrap().to_string();
        let call = || caller(&team, operation).call(operation.method, &team.path(operation));
        call().body(body.clone()).await.problem(415, "unsupported_media_type");
        for media in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml", "x"]
        {
            call().header("content-type", media).body(body.clone()).await.problem(415, "unsupported_media_type");
        }
        let packed = call().header("content-type", "application/json").header("content-encoding", "gzip").body(body);
        packed.await.problem(415, "unsupported_media_type");
    }
}

// R68, R69
#[tokio::test]
async fn unknown_paths_and_verbs_are_problems_too() {
    let team = Team::new().await;
    let document = Document::of_the_product();
    for operation in document.operations() {
        let path = team.path(operation);
        for verb in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            if document.operation(verb, &path).is_some() {
                continue;
            }
            for caller in [&team.app.anybody(), &team.owner] {
                let answer = caller.call(verb, &path).await;
                answer.problem(405, "method_not_allowed");
                let allowed = answer.header("allow").unwrap();
                assert!(allowed.contains(operation.method) && !allowed.contains(verb), "{verb} {path}: {allowed}");
            }
        }
        team.owner.get(&format!("{path}/nothing/at/all")).await.problem(404, "not_found");
    }
    for path in ["/nothing", "//", "/auth", "/users/x/y/z", "/WORKSPACES", "/auth/me/../me/x"] {
        team.app.anybody().get(path).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn every_route_answers_with_and_without_a_slash_and_to_head_as_to_get() {
    let mut team = Team::new().await;
    for operation in Document::of_the_product().operations() {
        let mut seen = Vec::new();
        for end in ["", "/", "?x=y", "/?x=y"] {
            let path = format!("{}{end}", team.path(operation).trim_end_matches('/'));
            // An empty object says enough: what it is refused for, it is refused for on both.
            let call = caller(&team, operation).call(operation.method, &path);
            let answer = if operation.body().is_some() { call.json(json!({})).await } else { call.await };
            seen.push((answer.status, answer.header("location").map(str::to_owned)));
            if answer.changed(operation) {
                team = team.another().await;
            }
            if operation.method == "GET" && !operation.streams() {
                let head = caller(&team, operation).call("HEAD", &path).await;
                assert_eq!((head.status, head.body.len()), (answer.status, 0), "{path}");
                assert_eq!(head.header("content-type"), answer.header("content-type"), "{path}");
            }
        }
        seen.dedup();
        assert!(seen.len() == 1 && !matches!(seen[0].0, 301..=308 | 404 | 405), "{}: {seen:?}", operation.id());
    }
}

// R63
#[tokio::test]
async fn a_body_is_cut_at_its_cap_whether_it_says_its_length_or_not() {
    let team = Team::new().await;
    for operation in with_body() {
        let size = if operation.is_secured() { 3 << 20 } else { (16 << 10) + 1 };
        let body = format!("{{\"content\": \"{}\"}}", "x".repeat(size));
        send(&team, operation, body.clone()).await.problem(413, "too_large");
        let pieces: Vec<_> =
            body.as_bytes().chunks(16 << 10).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let chunked = reqwest::Body::wrap_stream(stream::iter(pieces));
        send(&team, operation, chunked).await.problem(413, "too_large");
        // Who is not let in is told so, and not how much they may send.
        if operation.is_secured() {
            let call = team.app.anybody().call(operation.method, &team.path(operation));
            call.header("content-type", "application/json").body(body).await.problem(401, "unauthenticated");
        }
    }
    // Exactly as much as may be.
    let padded = |size: usize, body: &Value| format!("{body}{}", " ".repeat(size - body.to_string().len()));
    let largest = padded(1 << 20, &json!({"name": "Large"}));
    team.owner.post("/workspaces").header("content-type", "application/json").body(largest).await.ok(201);
    let largest = padded(16 << 10, &json!({"refresh_token": "x"}));
    let refresh = team.app.anybody().post("/auth/refresh").header("content-type", "application/json").body(largest);
    refresh.await.problem(401, "invalid_refresh_token");
    lives(&team.app).await;
}

// R63, R98
#[tokio::test]
async fn a_length_that_lies_does_no_harm() {
    let team = Team::new().await;
    let token = team.owner.access.as_deref().unwrap();
    let head = format!(
        "POST /workspaces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    for (rest, status) in [
        ("Content-Length: 99999999999\r\n\r\n{}", "413"),
        ("Content-Length: 99999999999999999999\r\n\r\n{}", "400"),
        ("Content-Length: -1\r\n\r\n{}", "400"),
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "400"),
        ("Transfer-Encoding: chunked\r\n\r\nZ\r\n{}\r\n0\r\n\r\n", "400"),
        ("Content-Length: 15\r\n\r\n{\"name\": \"New\"}GET /auth/me HTTP/1.1\r\n\r\n", "201"),
    ] {
        let answer = String::from_utf8(team.app.raw(format!("{head}{rest}").as_bytes()).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{rest}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one request, one answer: {answer}");
    }
    lives(&team.app).await;
}

// R66
#[tokio::test]
async fn of_two_equal_keys_the_last_counts_and_none_slips_through() {
    let team = Team::new().await;
    let post =
        |path: &str, body: &str| team.owner.post(path).header("content-type", "application/json").body(body.to_owned());
    let made = post("/workspaces", r#"{"name": "First", "name": "Last"}"#).await.ok(201);
    assert_eq!(made["name"], "Last");
    assert_eq!(post("/workspaces", r#"{"name": "First", "name": null}"#).await.wrong_fields(), ["name"]);
    let admin =
        r#"{"email": "a@b.c", "name": "A", "password": "correct horse battery", "role": "USER", "role": "ADMIN"}"#;
    post("/users", admin).await.problem(403, "forbidden");
}

/// A field, and where it lies in a body.
type Place = Vec<String>;

/// Every field of a body and of the objects in it.
fn places(
    document: &'static Document,
    schema: &'static Value,
    at: &[String],
    found: &mut Vec<(Place, &'static Value)>,
) {
    let (properties, _) = document.properties(schema);
    for (name, shown) in properties {
        let place = [at, &[name.to_owned()]].concat();
        found.push((place.clone(), shown[0]));
        places(document, shown[0], &place, found);
    }
}

fn put(body: &mut Value, place: &[String], value: Value) {
    let (last, way) = place.split_last().unwrap();
    let mut at = body;
    for step in way {
        if !at[step].is_object() {
            at[step] = json!({});
        }
        at = &mut at[step];
    }
    at[last] = value;
}

/// Values that somebody might send in place of what the schema shows.
fn odd(document: &Document, schema: &Value) -> Vec<Value> {
    let schema = document.resolve(schema);
    let long = |length: usize| Value::from("x".repeat(length));
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!([[]]),
        json!([null]),
        json!({}),
        json!({"x": 1}),
        json!({"$ne": 1}),
        json!(""),
        json!(" "),
        json!("x"),
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!("\u{7f}\u{9b}\u{2028}"),
        json!("😀".repeat(300)),
        json!("\u{202e}\u{200b}\u{feff}"),
        json!("' OR '1'='1"),
        json!("\"; DROP TABLE users; --"),
        json!("%' ESCAPE '"),
        json!("../../etc/passwd"),
        json!("${jndi:x}"),
        json!("0190d5a0-7b7c-7000-8000-000000000001"),
        json!("true"),
        json!("1"),
        json!("a@b.c"),
        long(101),
        long(255),
        long(1_025),
        long(12_000),
    ];
    for bound in ["minimum", "maximum"] {
        if let Some(edge) = schema[bound].as_f64() {
            values.extend([
                json!(edge),
                json!(edge - 0.001),
                json!(edge + 0.001),
                json!(edge - 1.0),
                json!(edge + 1.0),
            ]);
        }
    }
    for length in [schema["maxLength"].as_u64(), schema["maxItems"].as_u64()].into_iter().flatten() {
        let length = usize::try_from(length).unwrap();
        values.extend([long(length), long(length + 1), json!(vec!["x"; length]), json!(vec!["x"; length + 1])]);
    }
    values
}

// R70, R71, R13
#[tokio::test]
async fn nothing_that_a_body_may_hold_is_a_fault_of_ours() {
    let mut team = Team::new().await;
    let document = Document::of_the_product();
    let mut sent = 0;
    for operation in with_body() {
        let mut fields = Vec::new();
        places(document, operation.body().unwrap(), &[], &mut fields);
        assert!(!fields.is_empty());
        let (_, required) = document.properties(operation.body().unwrap());
        for (place, schema) in fields {
            let mut without = team.body(operation).unwrap();
            without.as_object_mut().unwrap().remove(&place[0]);
            if place.len() == 1 && required.contains(place[0].as_str()) {
                let answer = send(&team, operation, without.to_string()).await;
                assert_eq!(answer.wrong_fields(), place, "{}", operation.id());
            }
            for value in odd(document, schema) {
                let mut body = team.body(operation).unwrap();
                put(&mut body, &place, value);
                let answer = send(&team, operation, body.to_string()).await;
                assert!(answer.status < 500, "{} {body}: {}", operation.id(), answer.text());
                sent += 1;
                if answer.changed(operation) {
                    // What was sent changed nothing but what it was to change.
                    assert_eq!(
                        team.owner.get(&team.at("")).await.ok(200)["role"],
                        "OWNER",
                        "{} {body}",
                        operation.id()
                    );
                    assert_eq!(team.owner.get("/auth/me").await.ok(200)["role"], "USER", "{} {body}", operation.id());
                    team = team.another().await;
                }
            }
        }
    }
    assert!(sent > 500, "{sent}");
    lives(&team.app).await;
}

/// What a client might like to set, and what only we do.
const READ_ONLY: [&str; 14] = [
    "id",
    "role",
    "workspace_id",
    "owner_id",
    "user_id",
    "created_at",
    "updated_at",
    "joined_at",
    "expires_at",
    "is_active",
    "two_factor_enabled",
    "must_change_password",
    "credentials_epoch",
    "__proto__",
];

// R44
#[tokio::test]
async fn nobody_sets_what_is_not_theirs_to_set() {
    let team = Team::new().await;
    let document = Document::of_the_product();
    for operation in with_body() {
        let (known, _) = document.properties(operation.body().unwrap());
        let mut all = team.body(operation).unwrap();
        let mut refused = Vec::new();
        for field in READ_ONLY.into_iter().filter(|field| !known.contains_key(field)) {
            for value in [json!(true), json!("ADMIN"), json!(null), json!({"$set": 1})] {
                let mut body = team.body(operation).unwrap();
                body[field] = value;
                let answer = send(&team, operation, body.to_string()).await;
                assert_eq!(answer.wrong_fields(), [field], "{} {body}", operation.id());
            }
            all[field] = json!("x");
            refused.push(field);
        }
        // All of them in one answer, together with what is of a wrong type.
        let (first, _) = known.iter().next().unwrap();
        all[*first] = json!([[]]);
        refused.push(first);
        let mut found = send(&team, operation, all.to_string()).await.wrong_fields();
        found.sort();
        refused.sort_unstable();
        assert_eq!(found, refused, "{}", operation.id());
    }
    // None of it was done.
    assert_eq!(team.admin.get("/users?limit=100").await.ok(200)["items"].as_array().unwrap().len(), 6);
    let me = team.owner.get("/auth/me").await.ok(200);
    assert_eq!((&me["name"], &me["role"]), (&json!("Owner"), &json!("USER")));
    let home = team.owner.get(&team.at("")).await.ok(200);
    assert_eq!((&home["name"], &home["member_count"]), (&json!("Research"), &json!(4)));
}

/// A request that succeeds with the secret in it, and by whom it is sent.
async fn with_secret(team: &Team, operation: Operation<'static>, field: &str) -> (Caller, Value) {
    let mut body = team.body(operation).unwrap();
    match operation.id() {
        // Its own address is the one thing that somebody proves themselves for.
        "update_user" if field == "current_password" => {
            body = json!({"email": "elsewhere@example.com", "current_password": PASSWORD});
            return (team.somebody.clone(), body);
        }
        "update_user" => body["password"] = json!("another horse battery"),
        "change_password" => body["current_password"] = json!(PASSWORD),
        "refresh" => body["refresh_token"] = json!(team.outsider.refresh),
        "accept_invitation" | "decline_invitation" => {
            let made = team.owner.invite(&team.workspace, &team.outsider.email, "GUEST").await;
            return (team.outsider.clone(), json!({"token": made["token"]}));
        }
        _ => {}
    }
    (caller(team, operation).clone(), body)
}

// R13
#[tokio::test]
async fn what_is_no_secret_never_succeeds() {
    let mut team = Team::new().await;
    let document = Document::of_the_product();
    let secret = |name: &str| name.contains("password") && !name.starts_with("must_") || name.contains("token");
    let mut tried = 0;
    for operation in with_body() {
        let (known, _) = document.properties(operation.body().unwrap());
        for field in known.keys().copied().filter(|name| secret(name)) {
            let (by, good) = with_secret(&team, operation, field).await;
            let path = team.path(operation);
            for none in [
                json!(null),
                json!(true),
                json!(false),
                json!(0),
                json!(1.5),
                json!([]),
                json!([good[field]]),
                json!([null]),
                json!({}),
                json!({"$ne": ""}),
                json!({"length": 20}),
                json!(""),
                json!(" "),
                json!("null"),
                json!("\u{0}"),
                json!("\u{feff}"),
            ] {
                let mut body = good.clone();
                body[field] = none;
                let answer = by.call(operation.method, &path).json(body.clone()).await;
                let refused = matches!(answer.status, 401 | 404 | 409 | 422);
                assert!(refused, "{} {body}: {}", operation.id(), answer.text());
                if !body[field].is_string() {
                    assert_eq!(answer.wrong_fields(), [field], "{} {body}", operation.id());
                }
                tried += 1;
            }
            // It was the secret that was refused.
            if good.get(field).is_some() && operation.id() != "setup" {
                let answer = by.call(operation.method, &path).json(good).await;
                assert!(answer.status < 300, "{} {field}: {}", operation.id(), answer.text());
                team = team.another().await;
            }
        }
    }
    assert!(tried > 150, "{tried}");
    lives(&team.app).await;
}

// R65, R66, R71
#[tokio::test]
async fn nothing_that_a_query_may_hold_is_a_fault_of_ours() {
    let team = Team::new().await;
    let odd = [
        "",
        "x",
        "0",
        "-1",
        "1.5",
        "1e9",
        "18446744073709551615",
        "18446744073709551616",
        "null",
        "true",
        "True",
        "%00",
        "%ff",
        "%",
        "%zz",
        "%F0%9F%98%80",
        "'%20OR%201=1",
        "asc",
        "ASC",
        "[]",
        "%0d%0aX-Y:%201",
        &"9".repeat(4_000),
    ];
    for operation in Document::of_the_product().operations() {
        for (name, _) in operation.parameters("query") {
            for value in odd {
                let path = format!("{}?{name}={value}", team.path(operation));
                let answer = caller(&team, operation).call(operation.method, &path).await;
                assert!(answer.status < 500, "{path}: {}", answer.text());
                if answer.status == 422 {
                    assert_eq!(answer.wrong_fields(), [name], "{path}");
                }
            }
        }
    }
    for query in [
        "?",
        "?&&&",
        "?=",
        "?limit",
        "?limit=1&limit",
        "?%",
        "?%ff=%ff",
        "?a[b]=c",
        &format!("?{}", "a=b&".repeat(2_000)),
    ] {
        let status = team.owner.get(&format!("/workspaces{query}")).await.status;
        assert!(matches!(status, 200 | 422), "{query}: {status}");
    }
    lives(&team.app).await;
}

// R67
#[tokio::test]
async fn text_that_is_no_unicode_is_refused_by_its_field() {
    let team = Team::new().await;
    for operation in with_body() {
        let (properties, _) = Document::of_the_product().properties(operation.body().unwrap());
        let texts = properties.iter().filter(|(_, shown)| {
            let schema = Document::of_the_product().resolve(shown[0]);
            schema["type"] == "string" && schema.get("enum").is_none() && schema.get("format").is_none()
        });
        for (name, _) in texts {
            for escape in [r"\u0000", r"a\u0000", r"\ud800", r"\udc00x", r"\udc00\ud800", r"\ud800\u0041"] {
                let mut body = team.body(operation).unwrap();
                body[*name] = json!("REPLACE");
                let body = body.to_string().replace("REPLACE", escape);
                assert_eq!(send(&team, operation, body).await.wrong_fields(), [*name], "{} {escape}", operation.id());
            }
        }
    }
}

// R94, R95
#[tokio::test]
async fn nobody_may_read_across_origins_unless_configured() {
    let team = Team::new().await;
    for origin in ["https://evil.example", "null", "http://localhost:8000", "https://größe.example"] {
        for path in ["/auth/me", "/nothing", "/health"] {
            let answer = team.owner.get(path).header("origin", origin).await;
            assert!(answer.headers.get("access-control-allow-origin").is_none(), "{origin} {path}");
            assert!(answer.headers.get_all("vary").iter().any(|vary| vary == "Origin"));
        }
        let preflight = team.owner.call("OPTIONS", "/auth/me").header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "GET").await;
        assert!(preflight.headers.get("access-control-allow-origin").is_none());
    }
}

// R96, R93
#[tokio::test]
async fn every_answer_is_dressed() {
    let team = Team::new().await;
    for path in ["/auth/me", "/health", "/nothing", &team.chat, "/workspaces?limit=x"] {
        let answer = team.owner.get(path).header("x-request-id", "my-own-id-7").await;
        assert_eq!(answer.header("x-request-id"), Some("my-own-id-7"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        for absent in ["server", "x-powered-by", "via", "strict-transport-security"] {
            assert_eq!(answer.header(absent), None, "{absent}");
        }
    }
    for bad in ["short", "with space", &"x".repeat(200), "a/b/c/d/e/f"] {
        let answer = team.owner.get("/health").header("x-request-id", bad).await;
        assert_ne!(answer.header("x-request-id"), Some(bad));
    }
}
