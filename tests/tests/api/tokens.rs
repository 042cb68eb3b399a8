//! Access tokens: the one kind that is taken, and everything else that somebody might send in its place.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use private_chat_tests::client::{App, claims, text};
use private_chat_tests::contract::tokens;
use private_chat_tests::document::Document;
use serde_json::{Value, json};

/// The key that the application signs with.
static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| {
    let pem = tokens::private_key();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    RsaKeyPair::from_pkcs8(&STANDARD.decode(base64).unwrap()).unwrap()
});

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn signed(key: &RsaKeyPair, header: &Value, payload: &Value) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(payload.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", encode(signature))
}

fn with(value: &Value, field: &str, new: Value) -> Value {
    let mut changed = value.clone();
    changed[field] = new;
    changed
}

fn without(value: &Value, field: &str) -> Value {
    let mut changed = value.clone();
    changed.as_object_mut().unwrap().remove(field);
    changed
}

fn header_of(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
}

// R16, R17, R26
#[tokio::test]
async fn an_access_token_is_what_the_contract_says() {
    let app = App::start().await;
    let admin = app.setup().await;
    let token = admin.access.as_deref().unwrap();
    let header = header_of(token);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("RS256")));
    let claims = claims(token);
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "role", "sid", "sub"]);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(tokens::ISSUER), &json!(tokens::AUDIENCE)));
    assert_eq!((&claims["sub"], &claims["role"]), (&json!(admin.id), &json!("ADMIN")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    // Others can verify it by the published key.
    let answer = app.anybody().get("/.well-known/jwks.json").await;
    let set = answer.ok(200);
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["kid"], header["kid"]);
    let modulus = URL_SAFE_NO_PAD.decode(text(&keys[0]["n"])).unwrap();
    let exponent = URL_SAFE_NO_PAD.decode(text(&keys[0]["e"])).unwrap();
    let public = aws_lc_rs::signature::RsaPublicKeyComponents { n: &modulus, e: &exponent };
    let (body, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let verified = public.verify(&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256, body.as_bytes(), &signature);
    assert!(verified.is_ok());
    assert!(!answer.text().contains("\"d\""), "no private part");
}

// R15-R18, R23
#[tokio::test]
async fn every_other_token_is_refused_on_every_route() {
    let app = App::start().await;
    let admin = app.setup().await;
    let token = admin.access.clone().unwrap();
    let (header, payload) = (header_of(&token), claims(&token));
    let forged = signed(&KEY, &header, &payload);
    app.bearing(&forged).get("/auth/me").await.ok(200);

    let parts: Vec<_> = token.split('.').collect();
    let der: PublicKeyX509Der<'_> = KEY.public_key().as_der().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()));
    let confused = |secret: &[u8]| {
        let body = format!("{}.{}", encode(with(&header, "alg", json!("HS256")).to_string()), parts[1]);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body.as_bytes());
        format!("{body}.{}", encode(tag))
    };
    let none = |alg: &str| format!("{}.{}.", encode(with(&header, "alg", json!(alg)).to_string()), parts[1]);
    let other_key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let now = payload["iat"].as_i64().unwrap();
    let mut refused = vec![
        ("a refresh token", admin.refresh.clone()),
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("alg none with a signature", format!("{}{}", none("none"), parts[2])),
        ("HS256 by the public key in PEM", confused(pem.as_bytes())),
        ("HS256 by the public key in DER", confused(der.as_ref())),
        ("HS256 by nothing", confused(b"")),
        ("another key", signed(&other_key, &header, &payload)),
        ("another key that brings itself", signed(&other_key, &with(&header, "jwk", json!({"kty": "RSA"})), &payload)),
        (
            "another key at an address",
            signed(&other_key, &with(&header, "jku", json!("http://127.0.0.1/jwks")), &payload),
        ),
        ("an unknown key id", signed(&KEY, &with(&header, "kid", json!("../../etc/passwd")), &payload)),
        (
            "an altered payload",
            format!("{}.{}.{}", parts[0], encode(with(&payload, "role", json!("USER")).to_string()), parts[2]),
        ),
        ("without its signature", format!("{}.{}.", parts[0], parts[1])),
        ("without its last part", format!("{}.{}", parts[0], parts[1])),
        ("an unknown critical header", signed(&KEY, &with(&header, "crit", json!(["x"])), &payload)),
        ("alg in lower case", signed(&KEY, &with(&header, "alg", json!("rs256")), &payload)),
        ("too long", format!("{token}{}", "A".repeat(9_000))),
        ("expired", signed(&KEY, &header, &with(&with(&payload, "iat", json!(now - 1_000)), "exp", json!(now - 60)))),
        ("an end that is a text", signed(&KEY, &header, &with(&payload, "exp", json!("99999999999")))),
        ("another issuer", signed(&KEY, &header, &with(&payload, "iss", json!("somebody")))),
        ("another audience", signed(&KEY, &header, &with(&payload, "aud", json!("somebody")))),
        (
            "somebody else's session",
            signed(&KEY, &header, &with(&payload, "sub", json!("0190d5a0-7b7c-7000-8000-000000000001"))),
        ),
        (
            "a session that is none",
            signed(&KEY, &header, &with(&payload, "sid", json!("0190d5a0-7b7c-7000-8000-000000000001"))),
        ),
    ];
    for kind in ["JWT", "at+JWT2", "refresh", "challenge", "invite", "file-link"] {
        refused.push(("another type", signed(&KEY, &with(&header, "typ", json!(kind)), &payload)));
    }
    for claim in ["iss", "aud", "sub", "sid", "exp", "iat"] {
        refused.push(("a claim is missing", signed(&KEY, &header, &without(&payload, claim))));
    }
    refused.push(("no type", signed(&KEY, &without(&header, "typ"), &payload)));
    let secured: Vec<_> =
        Document::of_the_product().operations().into_iter().filter(|operation| operation.is_secured()).collect();
    for (what, bad) in &refused {
        let bearer = app.bearing(bad);
        let refused = bearer.get("/auth/me").await;
        assert_eq!(refused.status, 401, "{what}");
        for operation in &secured {
            let path = operation.path.replace(['{', '}'], "!");
            let answer = bearer.call(operation.method, &path).await;
            answer.problem(401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        }
    }
    // And the other way round: an access token is no refresh token.
    let refresh = json!({"refresh_token": token});
    app.anybody().post("/auth/refresh").json(refresh).await.problem(401, "invalid_refresh_token");
    for altered in [format!("{}A", admin.refresh), admin.refresh[1..].to_owned(), admin.refresh.to_uppercase()] {
        let refresh = json!({"refresh_token": altered});
        app.anybody().post("/auth/refresh").json(refresh).await.problem(401, "invalid_refresh_token");
    }
    app.anybody().post("/auth/refresh").json(json!({"refresh_token": admin.refresh})).await.ok(200);
}

// R29, R97, D5
#[tokio::test]
async fn a_token_comes_in_the_authorization_header_and_nowhere_else() {
    let app = App::start().await;
    let admin = app.setup().await;
    let token = admin.access.clone().unwrap();
    let basic = STANDARD.encode(format!("admin@example.com:{}", private_chat_tests::client::PASSWORD));
    let nobody = app.anybody();
    for path in
        [format!("/auth/me?token={token}"), format!("/auth/me?access_token={token}&authorization=Bearer%20{token}")]
    {
        nobody.get(&path).await.problem(401, "unauthenticated");
    }
    for (name, value) in [
        ("cookie", format!("token={token}; access_token={token}; session={token}; Authorization=Bearer {token}")),
        ("x-api-key", token.clone()),
        ("x-auth-token", token.clone()),
        ("x-authorization", format!("Bearer {token}")),
        ("proxy-authorization", format!("Bearer {token}")),
        ("authorization", format!("Basic {basic}")),
        ("authorization", format!("Token {token}")),
        ("authorization", token.clone()),
        ("authorization", format!("Bearer {token}, Bearer {token}")),
        ("authorization", format!("Bearer\u{a0}{token}")),
    ] {
        nobody.get("/auth/me").header(name, &value).await.problem(401, "unauthenticated");
    }
    admin.get("/auth/me").header("authorization", "Basic x").await.problem(401, "unauthenticated");
    nobody.get("/auth/me").header("authorization", &format!("bearer {token}")).await.ok(200);
    // No answer makes a cookie.
    let login = json!({"email": "admin@example.com", "password": private_chat_tests::client::PASSWORD});
    assert!(nobody.post("/auth/login").json(login).await.headers.get("set-cookie").is_none());
}
