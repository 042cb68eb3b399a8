//! What every token signer promises. The signer under test signs with [`private_key`], as [`ISSUER`], for [`AUDIENCE`]: a token that is wrong in
//! one way only can't be made without the key.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
    RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use private_chat_core::model::user::GlobalRole;
use private_chat_core::port::tokens::{Claims, TokenSigner};
use private_chat_core::time::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Case;

/// The cases of [`TokenSigner`].
pub const CASES: &[Case<dyn TokenSigner>] = crate::cases![
    verifies_what_it_signed,
    refuses_an_altered_token,
    refuses_a_token_ten_seconds_past_its_end,
    refuses_every_other_algorithm,
    refuses_another_key,
    refuses_another_type_of_token,
    refuses_a_missing_or_mistyped_claim,
    refuses_what_is_too_long_or_no_token_at_all,
    shows_its_public_keys,
];

/// The claim `iss`.
pub const ISSUER: &str = "the issuer";
/// The claim `aud`.
pub const AUDIENCE: &str = "the audience";

static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

/// The key that the signer under test signs with: RSA, PKCS #8 in PEM; made anew for each run.
#[must_use]
pub fn private_key() -> String {
    let der: Pkcs8V1Der<'_> = KEY.as_der().unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()))
}

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_123_456);
const NOW_SECONDS: i64 = 1_800_000_000;

fn claims() -> Claims {
    Claims {
        user: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001).into(),
        session: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0002).into(),
        role: GlobalRole::User,
        issued_at: Timestamp::from_micros(NOW_SECONDS * 1_000_000),
        expires_at: Timestamp::from_micros((NOW_SECONDS + 900) * 1_000_000),
    }
}

/// A header in which nothing is wrong.
fn header(tokens: &Arc<dyn TokenSigner>) -> Value {
    json!({ "typ": "at+jwt", "alg": "RS256", "kid": tokens.key_id() })
}

/// A payload in which nothing is wrong.
fn payload() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": claims().user.to_string(), "sid": claims().session.to_string(),
        "role": "USER", "iat": NOW_SECONDS, "exp": NOW_SECONDS + 900, "jti": "a token",
    })
}

/// `value`, with these fields put into it.
fn with(mut value: Value, fields: Value) -> Value {
    if let Value::Object(fields) = fields {
        value.as_object_mut().unwrap().extend(fields);
    }
    value
}

fn encode(part: &impl ToString) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "a header and a payload are made for one token")]
fn signed_part(header: impl ToString, payload: impl ToString) -> String {
    format!("{}.{}", encode(&header), encode(&payload))
}

fn signature(key: &RsaKeyPair, padding: &'static dyn RsaEncoding, signed: &str) -> String {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    URL_SAFE_NO_PAD.encode(signature)
}

/// Signs whatever it is as the signer under test would.
fn forge(header: impl ToString, payload: impl ToString) -> String {
    let signed = signed_part(header, payload);
    let signature = signature(&KEY, &RSA_PKCS1_SHA256, &signed);
    format!("{signed}.{signature}")
}

#[track_caller]
fn assert_accepted(tokens: &Arc<dyn TokenSigner>, token: &str, what: &str) {
    assert_eq!(tokens.verify(token, NOW), Some(claims()), "{what}");
}

#[track_caller]
fn assert_refused(tokens: &Arc<dyn TokenSigner>, token: &str, what: &str) {
    assert_eq!(tokens.verify(token, NOW), None, "{what}");
}

/// What every refusal is held against: but for the one thing that is wrong, the token is fine.
#[track_caller]
fn assert_a_good_forgery_is_accepted(tokens: &Arc<dyn TokenSigner>) {
    assert_accepted(
        tokens,
        &forge(header(tokens), payload()),
        "the signer under test signs with another key, or in another name",
    );
}

/// What was signed comes back, to the second, for both roles; and every token is another one.
pub async fn verifies_what_it_signed(tokens: Arc<dyn TokenSigner>) {
    for role in [GlobalRole::User, GlobalRole::Admin] {
        let claims = Claims { role, ..claims() };
        let token = tokens.sign(&claims).unwrap();
        assert_eq!(tokens.verify(token.expose(), NOW), Some(claims));
        assert_ne!(tokens.sign(&claims).unwrap(), token);
    }
    let finer = Claims { issued_at: NOW, expires_at: NOW + Duration::from_micros(900_700_000), ..claims() };
    let token = tokens.sign(&finer).unwrap();
    let verified = tokens.verify(token.expose(), NOW).unwrap();
    assert_eq!((verified.issued_at, verified.expires_at), (claims().issued_at, claims().expires_at));
}

/// Whatever character of it is another one, it is no token any more (R15).
pub async fn refuses_an_altered_token(tokens: Arc<dyn TokenSigner>) {
    let token = tokens.sign(&claims()).unwrap();
    let token = token.expose();
    assert_accepted(&tokens, token, "as it was signed");
    for place in (0..token.len()).step_by(7).chain([token.len() - 1]) {
        let other = if &token[place..=place] == "A" { "B" } else { "A" };
        let altered = format!("{}{other}{}", &token[..place], &token[place + 1..]);
        assert_refused(&tokens, &altered, &format!("altered at {place}"));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    let admin = encode(&with(payload(), json!({ "role": "ADMIN" })));
    for (altered, what) in [
        (format!("{head}.{body}."), "without its signature"),
        (format!("{head}.{body}"), "without its third part"),
        (format!("{head}.{admin}.{signature}"), "with another payload"),
        (format!("{}.{body}.{signature}", encode(&with(header(&tokens), json!({ "x": 1 })))), "with another header"),
        (format!("{head}.{body}.{}", &signature[..signature.len() - 4]), "with a shorter signature"),
        (format!("{head}.{body}.{signature}AAAA"), "with a longer signature"),
        (format!("{head}.{body}.{signature}="), "with padding"),
        (format!("{head}.{body}.{signature}.{signature}"), "with a fourth part"),
        (format!(" {token}"), "after a space"),
        (format!("{token}\n"), "before a line's end"),
    ] {
        assert_refused(&tokens, &altered, what);
    }
}

/// It stands to its end, a few seconds more for clocks that differ, and no longer; nor before it may be used (R19).
pub async fn refuses_a_token_ten_seconds_past_its_end(tokens: Arc<dyn TokenSigner>) {
    let token = tokens.sign(&claims()).unwrap();
    let at = |seconds: i64| {
        let now = Timestamp::from_micros(claims().expires_at.as_micros() + seconds * 1_000_000);
        tokens.verify(token.expose(), now)
    };
    assert_eq!(at(-1), Some(claims()));
    for past in [10, 11, 60, 86_400, 10 * 365 * 86_400] {
        assert_eq!(at(past), None, "{past} s past its end");
    }
    let from = |seconds: i64| forge(header(&tokens), with(payload(), json!({ "nbf": NOW_SECONDS + seconds })));
    assert_accepted(&tokens, &from(0), "from now on");
    assert_refused(&tokens, &from(10), "not yet");
}

/// `RS256`, written so, and nothing else: neither none, nor one that takes the public key for a secret, nor the others of RSA (R15).
pub async fn refuses_every_other_algorithm(tokens: Arc<dyn TokenSigner>) {
    assert_a_good_forgery_is_accepted(&tokens);
    let named = |alg: &str| signed_part(with(header(&tokens), json!({ "alg": alg })), payload());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        assert_refused(&tokens, &format!("{}.", named(alg)), alg);
        assert_refused(&tokens, &format!("{}.{}", named(alg), signature(&KEY, &RSA_PKCS1_SHA256, &named(alg))), alg);
    }

    let set: Value = serde_json::from_str(&tokens.jwks()).unwrap();
    let der = signature::KeyPair::public_key(&*KEY).as_ref().to_vec();
    let x509: aws_lc_rs::encoding::PublicKeyX509Der<'_> = signature::KeyPair::public_key(&*KEY).as_der().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(x509.as_ref()));
    let modulus = URL_SAFE_NO_PAD.decode(set["keys"][0]["n"].as_str().unwrap()).unwrap();
    let known = [pem.as_bytes(), pem.trim().as_bytes(), x509.as_ref(), &der, &modulus, tokens.jwks().as_bytes(), b""]
        .map(<[u8]>::to_vec);
    for secret in known {
        for (alg, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS512", hmac::HMAC_SHA512), ("RS256", hmac::HMAC_SHA256)]
        {
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), named(alg).as_bytes());
            assert_refused(&tokens, &format!("{}.{}", named(alg), URL_SAFE_NO_PAD.encode(tag)), alg);
        }
    }

    let elliptic = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    for alg in ["ES256", "RS256"] {
        let signature = elliptic.sign(&SystemRandom::new(), named(alg).as_bytes()).unwrap();
        assert_refused(&tokens, &format!("{}.{}", named(alg), URL_SAFE_NO_PAD.encode(signature)), alg);
    }
    for (alg, padding) in [
        ("RS512", &RSA_PKCS1_SHA512 as &'static dyn RsaEncoding),
        ("PS256", &RSA_PSS_SHA256),
        ("RS256", &RSA_PKCS1_SHA512),
        ("RS256", &RSA_PSS_SHA256),
        ("rs256", &RSA_PKCS1_SHA256),
        ("Rs256", &RSA_PKCS1_SHA256),
        ("RS256 ", &RSA_PKCS1_SHA256),
        ("ES256", &RSA_PKCS1_SHA256),
        ("HS256", &RSA_PKCS1_SHA256),
    ] {
        assert_refused(&tokens, &format!("{}.{}", named(alg), signature(&KEY, padding, &named(alg))), alg);
    }
    for alg in [json!(null), json!(["RS256"]), json!(256)] {
        assert_refused(&tokens, &forge(with(header(&tokens), json!({ "alg": alg })), payload()), &alg.to_string());
    }
}

/// Neither a key of somebody else, nor one that the token brings along or points to (R15, R18).
pub async fn refuses_another_key(tokens: Arc<dyn TokenSigner>) {
    assert_a_good_forgery_is_accepted(&tokens);
    let theirs = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = signature::KeyPair::public_key(&theirs);
    let jwk = json!({
        "kty": "RSA", "alg": "RS256", "kid": tokens.key_id(),
        "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
        "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
    });
    for extra in [
        json!({}),
        json!({ "jwk": jwk }),
        json!({ "jku": "http://127.0.0.1:1/jwks.json" }),
        json!({ "x5u": "http://127.0.0.1:1/cert.pem" }),
        json!({ "kid": "../../../../dev/null" }),
        json!({ "kid": "' or ''='" }),
        json!({ "kid": "" }),
    ] {
        let signed = signed_part(with(header(&tokens), extra.clone()), payload());
        let token = format!("{signed}.{}", signature(&theirs, &RSA_PKCS1_SHA256, &signed));
        assert_refused(&tokens, &token, &extra.to_string());
    }
    // The right signature under an unknown name, or under none.
    for kid in
        [json!("unknown"), json!(""), json!(null), json!([tokens.key_id()]), json!(tokens.key_id().to_uppercase())]
    {
        assert_refused(&tokens, &forge(with(header(&tokens), json!({ "kid": kid })), payload()), &kid.to_string());
    }
    assert_refused(&tokens, &forge(json!({ "typ": "at+jwt", "alg": "RS256" }), payload()), "no kid");
    // What points to other keys is passed over where the signature is right.
    let pointing =
        with(header(&tokens), json!({ "jwk": jwk, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/" }));
    assert_accepted(&tokens, &forge(pointing, payload()), "pointers are passed over");
}

/// A token of another kind, or one with demands that are not understood, is no access token (R16, R17).
pub async fn refuses_another_type_of_token(tokens: Arc<dyn TokenSigner>) {
    assert_a_good_forgery_is_accepted(&tokens);
    for typ in ["JWT", "jwt", "rt+jwt", "challenge+jwt", "invite+jwt", "file+jwt", "", "at"] {
        assert_refused(&tokens, &forge(with(header(&tokens), json!({ "typ": typ })), payload()), typ);
    }
    for typ in [json!(null), json!(["at+jwt"]), json!(1)] {
        assert_refused(&tokens, &forge(with(header(&tokens), json!({ "typ": typ })), payload()), &typ.to_string());
    }
    assert_refused(&tokens, &forge(json!({ "alg": "RS256", "kid": tokens.key_id() }), payload()), "no typ");
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!(null), json!("x")] {
        let demanding = with(header(&tokens), json!({ "crit": crit, "b64": false }));
        assert_refused(&tokens, &forge(demanding, payload()), &format!("crit: {crit}"));
    }
}

/// Every claim is there, once, and of its own JSON type; and it is this issuer's, for this audience (R17).
pub async fn refuses_a_missing_or_mistyped_claim(tokens: Arc<dyn TokenSigner>) {
    assert_a_good_forgery_is_accepted(&tokens);
    let refused = |payload: &Value, what: &str| assert_refused(&tokens, &forge(header(&tokens), payload), what);
    for claim in ["iss", "aud", "sub", "sid", "role", "iat", "exp", "jti"] {
        let mut without = payload();
        without.as_object_mut().unwrap().remove(claim);
        refused(&without, &format!("without {claim}"));
        for odd in [json!(null), json!({}), json!([]), json!([payload()[claim]]), json!(true)] {
            refused(&with(payload(), json!({ claim: odd })), &format!("{claim}: {odd}"));
        }
        // Twice the same name: which of the two holds is a matter of the reader.
        let text = payload().to_string();
        let twice = format!("{}, \"{claim}\": {}}}", &text[..text.len() - 1], payload()[claim]);
        assert_refused(&tokens, &forge(header(&tokens), twice), &format!("{claim} twice"));
    }
    for (claim, wrong) in [
        ("iss", json!("another issuer")),
        ("iss", json!("")),
        ("aud", json!("another audience")),
        ("aud", json!(["another", "audiences"])),
        ("sub", json!("1")),
        ("sub", json!("")),
        ("sub", json!(1)),
        ("sid", json!("not an id")),
        ("role", json!("ROOT")),
        ("role", json!("user")),
        ("role", json!(0)),
        ("iat", json!(NOW_SECONDS.to_string())),
        ("exp", json!("99999999999")),
        ("exp", json!("9999")),
        ("exp", json!(f64::MAX)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(-1)),
        ("exp", json!(0)),
        ("jti", json!(1)),
        ("nbf", json!("0")),
        ("nbf", json!(u64::MAX)),
    ] {
        refused(&with(payload(), json!({ claim: wrong })), &format!("{claim}: {wrong}"));
    }
    for (text, what) in [("", "nothing"), ("null", "null"), ("[]", "a list"), ("{", "no JSON"), ("\"x\"", "a text")] {
        assert_refused(&tokens, &forge(header(&tokens), text), what);
        assert_refused(&tokens, &forge(text, payload()), what);
    }
    assert_accepted(
        &tokens,
        &forge(header(&tokens), with(payload(), json!({ "more": 1 }))),
        "another claim does no harm",
    );
}

/// What can't be a token is refused before anything in it is read (R18).
pub async fn refuses_what_is_too_long_or_no_token_at_all(tokens: Arc<dyn TokenSigner>) {
    let padded = |length: usize| forge(header(&tokens), with(payload(), json!({ "more": "x".repeat(length) })));
    assert_accepted(&tokens, &padded(1_000), "a long one");
    let long = padded(8_000);
    assert!(long.len() > 8 << 10);
    assert_refused(&tokens, &long, "8 KiB and more, and nothing else is wrong");

    let good = forge(header(&tokens), payload());
    for odd in ["\0", "+", "/", "=", "%", "é", "\u{200b}", "\r\n", ";", ","] {
        let (start, end) = good.split_at(20);
        assert_refused(&tokens, &format!("{start}{odd}{end}"), odd);
        assert_refused(&tokens, &format!("{good}{odd}"), odd);
    }
    for none in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "Bearer",
        "null",
        "eyJ",
        "e30.e30.e30",
        &".".repeat(8_000),
        &"A".repeat(1 << 20),
    ] {
        assert_refused(&tokens, none, &none[..none.len().min(20)]);
    }
}

/// Others can verify its tokens with what it shows, and can do nothing else with it.
pub async fn shows_its_public_keys(tokens: Arc<dyn TokenSigner>) {
    let set: Value = serde_json::from_str(&tokens.jwks()).unwrap();
    let keys = set["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == tokens.key_id()).expect("the key that signs is among them");
    assert_eq!((&key["kty"], &key["use"], &key["alg"]), (&json!("RSA"), &json!("sig"), &json!("RS256")));
    for key in keys {
        let secret = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().find(|name| key.get(**name).is_some());
        assert_eq!(secret, None);
    }

    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let token = tokens.sign(&claims()).unwrap();
    let (signed, signature) = token.expose().rsplit_once('.').unwrap();
    signature::RsaPublicKeyComponents { n: number("n"), e: number("e") }
        .verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .expect("the key verifies what was signed");

    let (head, body) = signed.split_once('.').unwrap();
    let part = |text: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap() };
    assert_eq!(part(head), header(&tokens));
    let expected = with(payload(), json!({ "jti": part(body)["jti"] }));
    assert_eq!(part(body), expected);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::assert_every_promise_has_a_case;

    #[test]
    fn every_promise_has_a_case() {
        assert_every_promise_has_a_case(include_str!("../../../core/src/port/tokens.rs"), CASES);
    }
}
