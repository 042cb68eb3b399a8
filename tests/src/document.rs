//! Holds what the program answers against its OpenAPI document.
//!
//! The document is taken at its word: an answer has every field that it shows and no other, an undocumented status is a fault. The validator
//! knows the part of JSON Schema that the document uses, and panics at what it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use private_chat::http::product_document;
use serde_json::{Map, Value};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const EVENTS: &str = "text/event-stream";

/// The OpenAPI document.
pub struct Document(Value);

/// One operation of the document.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// In capitals.
    pub method: &'a str,
    /// With its variables: `/workspaces/{workspace_id}`.
    pub path: &'a str,
    /// What the document says of it.
    pub described: &'a Value,
}

impl<'a> Operation<'a> {
    /// Its name in generated clients.
    #[must_use]
    pub fn id(self) -> &'a str {
        self.described["operationId"].as_str().unwrap_or_default()
    }

    /// Whether it wants an access token.
    #[must_use]
    pub fn is_secured(self) -> bool {
        self.described.get("security").is_some()
    }

    /// The schema of its body, where it takes one.
    #[must_use]
    pub fn body(self) -> Option<&'a Value> {
        self.described.pointer("/requestBody/content/application~1json/schema")
    }

    /// Whether it can answer with a stream of events.
    #[must_use]
    pub fn streams(self) -> bool {
        self.described.pointer("/responses/200/content/text~1event-stream").is_some()
    }

    /// Its parameters in the query and in headers.
    #[must_use]
    pub fn parameters(self, place: &str) -> Vec<(&'a str, &'a Value)> {
        let all = self.described["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter()
            .filter(|parameter| parameter["in"] == place)
            .map(|parameter| (parameter["name"].as_str().unwrap_or_default(), &parameter["schema"]))
            .collect()
    }

    fn matches(self, path: &str) -> bool {
        let (mut shown, mut asked) = (segments(self.path), segments(path));
        loop {
            match (shown.next(), asked.next()) {
                (None, None) => return true,
                (Some(shown), Some(asked)) if shown == asked || (shown.starts_with('{') && !asked.is_empty()) => {}
                _ => return false,
            }
        }
    }
}

/// The parts of a path, without a slash at its end.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.trim_end_matches('/').split('/')
}

impl Document {
    /// The program's own.
    ///
    /// # Panics
    /// When the API's description is wrong.
    pub fn of_the_product() -> &'static Self {
        static KNOWN: OnceLock<Document> = OnceLock::new();
        KNOWN.get_or_init(|| Self(product_document().expect("the API is described well")))
    }

    /// All of it.
    #[must_use]
    pub const fn json(&self) -> &Value {
        &self.0
    }

    /// Every operation there is.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().expect("paths");
        paths
            .iter()
            .flat_map(|(path, verbs)| {
                let verbs = verbs.as_object().expect("verbs");
                verbs.iter().filter(|(verb, _)| METHODS.contains(&verb.as_str())).map(move |(verb, described)| {
                    let method = match verb.as_str() {
                        "get" => "GET",
                        "post" => "POST",
                        "put" => "PUT",
                        "patch" => "PATCH",
                        _ => "DELETE",
                    };
                    Operation { method, path, described }
                })
            })
            .collect()
    }

    /// The operation that answers there, if the document has one.
    #[must_use]
    pub fn operation(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let path = path.split('?').next().unwrap_or_default();
        let mut fitting: Vec<_> =
            self.operations().into_iter().filter(|known| known.method == method && known.matches(path)).collect();
        // A path without variables comes before one with.
        fitting.sort_by_key(|known| known.path.matches('{').count());
        fitting.into_iter().next()
    }

    /// Everything that is wrong with an answer: its status, its media type, its body.
    #[must_use]
    pub fn faults(&self, operation: Operation<'_>, status: u16, media: &str, body: &[u8]) -> Vec<String> {
        let Some(response) = operation.described["responses"].get(status.to_string()) else {
            return vec![format!("{} is not documented to answer {status}", operation.id())];
        };
        let content = response["content"].as_object();
        let Some(content) = content.filter(|content| !content.is_empty()) else {
            return if body.is_empty() { Vec::new() } else { vec!["has a body, which is not documented".into()] };
        };
        let essence = media.split(';').next().unwrap_or_default().trim();
        let Some(shown) = content.get(essence) else {
            return vec![format!("answers {status} in `{media}`, which is not documented")];
        };
        if essence == EVENTS {
            return Vec::new();
        }
        assert!(matches!(essence, JSON | PROBLEM), "{essence} is not JSON");
        match serde_json::from_slice(body) {
            Ok(value) => self.check(&shown["schema"], &value),
            Err(error) => vec![format!("is no JSON: {error}")],
        }
    }

    /// Everything that is wrong with an event of an operation's stream.
    #[must_use]
    pub fn faults_of_event(&self, operation: Operation<'_>, event: &Value) -> Vec<String> {
        match operation.described.pointer("/responses/200/content/text~1event-stream/schema/items") {
            Some(schema) => self.check(schema, event),
            None => vec![format!("{} is not documented to stream", operation.id())],
        }
    }

    /// Everything that is wrong with a value.
    #[must_use]
    pub fn check(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.value(schema, value, "$", &mut faults);
        faults
    }

    /// A schema without references, at its top.
    ///
    /// # Panics
    /// When a reference leads nowhere.
    #[must_use]
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let target = self.0.pointer(reference.trim_start_matches('#'));
                self.resolve(target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
            }
            None => schema,
        }
    }

    /// The properties of an object and of all that it is made of, and which of them it must have.
    #[must_use]
    pub fn properties<'a>(&'a self, schema: &'a Value) -> (BTreeMap<&'a str, Vec<&'a Value>>, BTreeSet<&'a str>) {
        let schema = self.resolve(schema);
        let own = schema["properties"].as_object().into_iter().flatten();
        let mut properties: BTreeMap<_, Vec<_>> = own.map(|(name, property)| (name.as_str(), vec![property])).collect();
        let mut required: BTreeSet<_> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let (more, needed) = self.properties(part);
            for (name, property) in more {
                properties.entry(name).or_default().extend(property);
            }
            required.extend(needed);
        }
        (properties, required)
    }

    fn value(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = self.resolve(schema);
        known_words(schema);
        if value.is_null() {
            if schema["nullable"] != true {
                faults.push(format!("{at} is null"));
            }
            return;
        }
        if let Some(discriminator) = schema.get("discriminator") {
            return self.variant(discriminator, value, at, faults);
        }
        assert!(schema.get("oneOf").is_none(), "a union without a discriminator: {schema}");
        if let Some(listed) = schema["enum"].as_array()
            && !listed.contains(value)
        {
            faults.push(format!("{at} is {value}, none of {listed:?}"));
        }
        // A part may do no more than describe.
        let Some(kind) = self.type_of(schema) else { return };
        if kind != "object" {
            for part in schema["allOf"].as_array().into_iter().flatten() {
                self.value(part, value, at, faults);
            }
        }
        match (kind, value) {
            ("object", Value::Object(fields)) => self.object(schema, fields, at, faults),
            ("array", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&schema["items"], item, &format!("{at}[{index}]"), faults);
                }
            }
            ("string", Value::String(text)) => {
                let fits = match schema["format"].as_str() {
                    None => true,
                    Some("uuid") => is_id(text),
                    Some("uri-reference") => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()),
                    Some("date-time") => is_time(text),
                    Some(other) => panic!("the format {other} is not known here"),
                };
                if !fits {
                    faults.push(format!("{at} is `{text}`, which is no {}", schema["format"]));
                }
            }
            ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                bounds(schema, number, at, faults);
            }
            ("number", Value::Number(number)) => bounds(schema, number, at, faults),
            ("boolean", Value::Bool(_)) => {}
            (shown, _) => faults.push(format!("{at} is {value}, which is no {shown}")),
        }
    }

    /// A schema that only puts others together has their type.
    fn type_of<'a>(&'a self, schema: &'a Value) -> Option<&'a str> {
        let mut parts = schema["allOf"].as_array().into_iter().flatten();
        schema["type"].as_str().or_else(|| parts.find_map(|part| self.type_of(self.resolve(part))))
    }

    fn variant(&self, discriminator: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let property = discriminator["propertyName"].as_str().unwrap_or_default();
        let kind = value[property].as_str().unwrap_or_default();
        match discriminator["mapping"][kind].as_str() {
            Some(target) => {
                let target = serde_json::json!({ "$ref": target });
                self.value(&target, value, &format!("{at}<{kind}>"), faults);
            }
            None => faults.push(format!("{at} has no variant `{kind}`")),
        }
    }

    fn object(&self, schema: &Value, fields: &Map<String, Value>, at: &str, faults: &mut Vec<String>) {
        let (properties, required) = self.properties(schema);
        faults.extend(
            required.iter().filter(|name| !fields.contains_key(**name)).map(|name| format!("{at}.{name} is left out")),
        );
        for (name, value) in fields {
            match properties.get(name.as_str()) {
                Some(shown) => {
                    for schema in shown {
                        self.value(schema, value, &format!("{at}.{name}"), faults);
                    }
                }
                None => faults.push(format!("{at}.{name} is not documented")),
            }
        }
    }
}

/// Panics at what the validator would pass over in silence.
fn known_words(schema: &Value) {
    const KNOWN: [&str; 19] = [
        "type",
        "format",
        "nullable",
        "enum",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "allOf",
        "oneOf",
        "discriminator",
        "description",
        "example",
        "minimum",
        "maximum",
        "default",
        "maxLength",
        "maxItems",
        "title",
    ];
    for word in schema.as_object().into_iter().flatten().map(|(word, _)| word) {
        assert!(KNOWN.contains(&word.as_str()), "`{word}` is not known here: {schema}");
    }
}

fn bounds(schema: &Value, number: &serde_json::Number, at: &str, faults: &mut Vec<String>) {
    let value = number.as_f64().unwrap_or_default();
    if schema["minimum"].as_f64().is_some_and(|least| value < least) {
        faults.push(format!("{at} is {value}, which is too little"));
    }
    if schema["maximum"].as_f64().is_some_and(|most| value > most) {
        faults.push(format!("{at} is {value}, which is too much"));
    }
}

/// A UUID in its usual form, of version 7.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 36
        && uuid::Uuid::try_parse(text).is_ok_and(|id| id.get_version_num() == 7)
        && text == text.to_lowercase()
}

/// `2026-01-31T09:30:00.123456Z`.
#[must_use]
pub fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00.000000Z";
    text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form })
}
