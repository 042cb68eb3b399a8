//! The document: complete, true to the program, and of use to generators.

use std::collections::BTreeSet;

use private_chat_tests::document::Document;
use serde_json::Value;

const COMMITTED: &str = include_str!("../../../app/openapi.json");
/// The operations that anybody may use.
const PUBLIC: [&str; 7] = ["setup", "register", "login", "refresh", "get_jwks", "get_health", "get_readiness"];
/// The events of the contract that the program has.
const EVENTS: [&str; 12] = [
    "chat.created",
    "chat.deleted",
    "chat.updated",
    "member.joined",
    "member.left",
    "member.updated",
    "message.completed",
    "message.created",
    "message.delta",
    "message.failed",
    "message.interrupted",
    "message.stopped",
];

#[test]
fn the_committed_document_is_the_programs() {
    let committed: Value = serde_json::from_str(COMMITTED).unwrap();
    let same = committed == *Document::of_the_product().json();
    assert!(same, "run `private-chat openapi > app/openapi.json`");
}

#[test]
fn every_operation_says_what_a_client_needs() {
    let document = Document::of_the_product();
    let mut ids = BTreeSet::new();
    for operation in document.operations() {
        let described = operation.described;
        let place = format!("{} {}", operation.method, operation.path);
        assert!(ids.insert(operation.id()) && !operation.id().is_empty(), "{place}: its id");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(operation.id().chars().all(plain), "{place}: {}", operation.id());
        assert!(described["summary"].as_str().is_some_and(|text| text.len() > 5), "{place}: a summary");
        assert!(
            described["tags"].as_array().is_some_and(|tags| tags.len() == 1 || operation.streams()),
            "{place}: a tag"
        );
        assert_eq!(operation.is_secured(), !PUBLIC.contains(&operation.id()), "{place}: who may");
        assert!(!operation.path.contains(':'), "{place}");
        for variable in operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let listed = operation.parameters("path");
            assert!(listed.iter().any(|(name, _)| *name == variable), "{place}: {variable}");
        }
        let responses = described["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{place}: a success");
        let has = |status: &str| responses.contains_key(status);
        assert_eq!(
            operation.is_secured(),
            has("401") && has("403") || !has("403") && operation.is_secured(),
            "{place}"
        );
        assert_eq!(operation.body().is_some(), has("400") && has("413") && has("415"), "{place}");
        assert!(has("404") || !operation.path.contains('{'), "{place}");
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{place} {status}");
            if status.as_str() >= "400" {
                let problem = &response["content"]["application/problem+json"];
                let codes = &problem["schema"]["allOf"][1]["properties"]["code"]["enum"];
                let examples = problem["examples"].as_object().unwrap();
                for code in codes.as_array().unwrap() {
                    let example = &examples[code.as_str().unwrap()]["value"];
                    assert_eq!(example["status"].to_string(), *status, "{place} {code}");
                    let faults = document.check(&problem["schema"], example);
                    assert!(faults.is_empty(), "{place} {status}: {faults:?}");
                }
                assert_eq!(response["headers"].get("WWW-Authenticate").is_some(), status == "401", "{place}");
                for name in ["Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"] {
                    assert!(response["headers"].get(name).is_some() || status != "429", "{place}: {name}");
                }
            }
            assert!(response["headers"].get("X-Request-Id").is_some(), "{place} {status}");
        }
    }
    for id in PUBLIC {
        assert!(ids.contains(id), "there is no {id}");
    }
}

#[test]
fn whatever_begins_a_reply_shows_how_it_may_be_refused() {
    let document = Document::of_the_product();
    let codes = |id: &str, status: &str| -> Vec<String> {
        let operation = document.operations().into_iter().find(|operation| operation.id() == id).unwrap();
        let schema = &operation.described["responses"][status]["content"]["application/problem+json"]["schema"];
        let listed = schema["allOf"][1]["properties"]["code"]["enum"].as_array().unwrap();
        listed.iter().map(|code| code.as_str().unwrap().to_owned()).collect()
    };
    for id in ["send_message", "edit_message", "regenerate_reply"] {
        assert_eq!(codes(id, "429"), ["too_many_replies"], "{id}");
        assert!(codes(id, "422").contains(&"idempotency_key_reused".to_owned()), "{id}");
        assert!(codes(id, "403").contains(&"forbidden".to_owned()), "{id}");
        assert_eq!(codes(id, "404"), ["not_found"], "{id}");
        assert_eq!(codes(id, "409").contains(&"not_a_reply".to_owned()), id == "regenerate_reply", "{id}");
    }
    for id in ["update_chat", "delete_chat"] {
        assert!(codes(id, "403").contains(&"forbidden".to_owned()), "{id}");
        assert_eq!(codes(id, "404"), ["not_found"], "{id}");
    }
}

#[test]
fn every_event_has_a_schema_of_its_own() {
    let document = Document::of_the_product();
    let union = &document.json()["components"]["schemas"]["Event"];
    assert_eq!(union["discriminator"]["propertyName"], "type");
    let mapping = union["discriminator"]["mapping"].as_object().unwrap();
    let known: Vec<_> = mapping.keys().map(String::as_str).collect();
    assert_eq!(known, EVENTS);
    let listed: BTreeSet<_> =
        union["oneOf"].as_array().unwrap().iter().map(|one| one["$ref"].as_str().unwrap()).collect();
    let mapped: BTreeSet<_> = mapping.values().map(|target| target.as_str().unwrap()).collect();
    assert_eq!(listed, mapped);
    assert_eq!(mapped.len(), mapping.len(), "two events share a schema");
    for (name, target) in mapping {
        let reference = serde_json::json!({"$ref": target});
        let (properties, required) = document.properties(&reference);
        let kind = properties.get("type").unwrap_or_else(|| panic!("{name} has no type"));
        assert!(required.contains("type"), "{name}");
        assert!(kind.iter().any(|schema| schema["enum"] == serde_json::json!([name])), "{name}: {kind:?}");
    }
    let streams: Vec<_> = document.operations().into_iter().filter(|operation| operation.streams()).collect();
    let mut ids: Vec<_> = streams.iter().map(|operation| operation.id()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["edit_message", "follow_chat", "follow_workspace", "regenerate_reply", "send_message"]);
    for operation in streams {
        let items = operation.described.pointer("/responses/200/content/text~1event-stream/schema/items").unwrap();
        assert_eq!(items["$ref"], "#/components/schemas/Event", "{}", operation.id());
    }
}

#[test]
fn requests_are_closed_and_answers_whole() {
    let document = Document::of_the_product();
    for operation in document.operations() {
        let Some(body) = operation.body() else { continue };
        let schema = document.resolve(body);
        assert_eq!(schema["additionalProperties"], false, "{}", operation.id());
    }
    for (name, schema) in document.json()["components"]["schemas"].as_object().unwrap() {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let said = property["description"].as_str().or_else(|| document.resolve(property)["description"].as_str());
            let said = said.is_some_and(|text| !text.is_empty()) || property.get("enum").is_some();
            assert!(said, "{name}.{field} is not described");
        }
    }
}

/// The validator itself: what it lets through, no test would see.
#[test]
fn the_validator_finds_what_is_wrong() {
    let document = Document::of_the_product();
    let me = document.operation("GET", "/auth/me/").unwrap();
    let id = "0190d5a0-7b7c-7000-8000-000000000001";
    let good = serde_json::json!({
        "id": id, "email": "a@b.c", "name": "A", "role": "USER", "is_active": true, "two_factor_enabled": false,
        "must_change_password": false, "created_at": "2026-01-31T09:30:00.123456Z", "updated_at": "2026-01-31T09:30:00.123456Z",
    });
    let faults = |value: &Value| document.faults(me, 200, "application/json", value.to_string().as_bytes());
    assert_eq!(faults(&good), Vec::<String>::new());
    for (field, bad) in [
        ("id", Value::from("x")),
        ("id", Value::from("0190d5a0-7b7c-4000-8000-000000000001")),
        ("email", Value::Null),
        ("role", Value::from("OWNER")),
        ("is_active", Value::from("true")),
        ("created_at", Value::from("2026-01-31T09:30:00Z")),
        ("password", Value::from("$argon2id$")),
    ] {
        let mut wrong = good.clone();
        wrong[field] = bad;
        assert_eq!(faults(&wrong).len(), 1, "{field}: {:?}", faults(&wrong));
    }
    let mut short = good.clone();
    short.as_object_mut().unwrap().remove("name");
    assert_eq!(faults(&short), ["$.name is left out"]);
    assert_eq!(document.faults(me, 404, "application/json", b"{}").len(), 1);
    assert_eq!(document.faults(me, 200, "text/plain", good.to_string().as_bytes()).len(), 1);
    let feed = document.operation("GET", &format!("/workspaces/{id}/events")).unwrap();
    assert_eq!(feed.id(), "follow_workspace");
    let gone = serde_json::json!({"type": "chat.deleted", "chat_id": id});
    assert_eq!(document.faults_of_event(feed, &gone), Vec::<String>::new());
    for wrong in [
        serde_json::json!({"type": "chat.lost", "chat_id": id}),
        serde_json::json!({"chat_id": id}),
        serde_json::json!({"type": "chat.deleted", "chat_id": id, "title": "x"}),
        serde_json::json!({"type": "chat.deleted"}),
    ] {
        assert_eq!(document.faults_of_event(feed, &wrong).len(), 1, "{wrong}");
    }
    assert!(document.operation("GET", "/workspaces").is_some() && document.operation("GET", "/nowhere").is_none());
}
