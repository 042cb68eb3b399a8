//! The OpenAPI document: poem-openapi's, made to say all that is true.
//!
//! What it leaves out is what guards and the framework answer, that requests are closed, that answers leave nothing out, and what unsigned means.
//! All of it follows from what an operation has, so that it is added once, here, and not by hand at each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, MetaPath, Registry};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use super::fault::{Code, PROBLEM_JSON, codes};
use super::schema::format_range;

/// What the document says of itself, and the codes behind the rules.
pub struct About {
    /// The product.
    pub title: &'static str,
    /// Its version.
    pub version: &'static str,
    /// For people, as Markdown.
    pub description: &'static str,
    /// Every code that an operation may list.
    pub codes: &'static [&'static Code],
    /// What any operation with a guard may answer, besides the framework's own.
    pub guarded: &'static [&'static Code],
}

/// The document of an API.
///
/// # Errors
/// What is wrong with the API: an operation without an id, a variable that the path does not have, an object that is both sent and answered,
/// two variants of a union that share an object.
pub fn document<A: OpenApi>(about: &About) -> Result<Value, String> {
    let service = OpenApiService::new(Described::<A>(PhantomData), about.title, about.version);
    let spec = service.description(about.description).spec();
    let mut spec: Value = serde_json::from_str(&spec).map_err(|error| error.to_string())?;
    spec["openapi"] = json!("3.0.3");
    if let Some(root) = spec.as_object_mut() {
        root.remove("servers");
    }
    operations(&mut spec, about)?;
    schemas(&mut spec)?;
    Ok(spec)
}

/// An API's description alone, with each path once however many parts of the API share it.
struct Described<A>(PhantomData<fn() -> A>);

impl<A: OpenApi> OpenApi for Described<A> {
    fn meta() -> Vec<MetaApi> {
        let mut paths: Vec<MetaPath> = Vec::new();
        for mut path in A::meta().into_iter().flat_map(|api| api.paths) {
            path.path = template(&path.path);
            match paths.iter_mut().find(|known| known.path == path.path) {
                Some(known) => known.operations.extend(path.operations),
                None => paths.push(path),
            }
        }
        vec![MetaApi { paths }]
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}

/// poem-openapi leaves the variables of a `prefix_path` as they are written: `/workspaces/:workspace_id/chat/{chat_id}`.
fn template(path: &str) -> String {
    let each = path.split('/').map(|segment| match segment.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    });
    each.collect::<Vec<_>>().join("/")
}

fn operations(spec: &mut Value, about: &About) -> Result<(), String> {
    for (path, operations) in entries(spec.get_mut("paths")) {
        for (method, operation) in entries(Some(operations)) {
            let place = format!("{} {path}", method.to_uppercase());
            if operation.get("operationId").and_then(Value::as_str).is_none() {
                return Err(format!("{place} has no operation id"));
            }
            parameters(operation, path).map_err(|wrong| format!("{place}: {wrong}"))?;
            answers(operation, path, about).map_err(|wrong| format!("{place}: {wrong}"))?;
        }
    }
    Ok(())
}

/// Lists every variable of the path, also those that only a guard reads.
fn parameters(operation: &mut Value, path: &str) -> Result<(), String> {
    let mut listed = match operation.get_mut("parameters").map(Value::take) {
        Some(Value::Array(listed)) => listed,
        _ => Vec::new(),
    };
    let variables: Vec<_> =
        path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
    let mut all = Vec::new();
    for name in &variables {
        let at = listed.iter().position(|known| known["in"] == "path" && known["name"] == *name);
        all.push(match at {
            Some(at) => listed.remove(at),
            None => {
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}})
            }
        });
    }
    if let Some(stray) = listed.iter().find(|known| known["in"] == "path") {
        return Err(format!("the path has no variable {}", stray["name"]));
    }
    all.extend(listed);
    for parameter in all.iter_mut().filter_map(Value::as_object_mut) {
        parameter.remove("explode");
        parameter.retain(|key, value| key != "deprecated" || *value != json!(false));
    }
    if !all.is_empty() {
        operation["parameters"] = all.into();
    }
    Ok(())
}

/// Puts the problems of an operation together: those that it lists, and those that follow from what it has.
fn answers(operation: &mut Value, path: &str, about: &About) -> Result<(), String> {
    let mut problems: BTreeMap<u16, Vec<&'static Code>> = BTreeMap::new();
    let mut add = |code: &'static Code| {
        let same = problems.entry(code.status.as_u16()).or_default();
        if !same.contains(&code) {
            same.push(code);
        }
    };
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let has_query = parameters.is_some_and(|all| all.iter().any(|parameter| parameter["in"] != "path"));
    if operation.get("requestBody").is_some() {
        let body = [
            &codes::MALFORMED,
            &codes::REQUEST_TIMEOUT,
            &codes::TOO_LARGE,
            &codes::UNSUPPORTED_MEDIA_TYPE,
            &codes::INVALID,
        ];
        body.into_iter().for_each(&mut add);
    }
    if has_query {
        add(&codes::INVALID);
    }
    if operation.get("security").is_some() {
        add(&codes::UNAUTHENTICATED);
        about.guarded.iter().copied().for_each(&mut add);
    }
    if path.contains('{') {
        add(&codes::NOT_FOUND);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return Err("answers nothing".into());
    };
    for response in responses.values() {
        let listed = response.pointer("/content/application~1problem+json/schema/enum").and_then(Value::as_array);
        for listed in listed.into_iter().flatten() {
            let code = about.codes.iter().find(|code| *listed == code.code);
            add(code.ok_or_else(|| format!("lists the unknown code {listed}"))?);
        }
    }
    add(&codes::INTERNAL);
    for response in responses.values_mut() {
        response["headers"]["X-Request-Id"] = header("X-Request-Id");
    }
    for (status, of_status) in problems {
        responses.insert(status.to_string(), problem(status, &of_status));
    }
    Ok(())
}

fn problem(status: u16, of_status: &[&'static Code]) -> Value {
    let names: Vec<_> = of_status.iter().map(|code| code.code).collect();
    let said: Vec<_> = of_status.iter().map(|code| format!("`{}`: {}", code.code, code.detail)).collect();
    let examples: Map<_, _> =
        of_status.iter().map(|code| (code.code.to_owned(), json!({"value": example(code)}))).collect();
    let with: &[&str] = match status {
        401 => &["WWW-Authenticate"],
        429 => &["Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"],
        502 | 503 => &["Retry-After"],
        _ => &[],
    };
    let headers: Map<_, _> = ["X-Request-Id"].iter().chain(with).map(|&name| (name.to_owned(), header(name))).collect();
    json!({
        "description": said.join("\n\n"),
        "headers": headers,
        "content": {PROBLEM_JSON: {
            "schema": {"allOf": [
                {"$ref": "#/components/schemas/Problem"},
                {"type": "object", "properties": {"code": {"type": "string", "enum": names}}},
            ]},
            "examples": examples,
        }},
    })
}

/// A reference to the header of this name.
fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn example(code: &Code) -> Value {
    let errors = if code == &codes::INVALID {
        json!([{"field": "email", "message": "must be an email address"}])
    } else {
        json!([])
    };
    json!({
        "type": code.uri(), "title": code.title, "status": code.status.as_u16(), "detail": code.detail, "code": code.code,
        "request_id": "0190d5a0-7b7c-7000-8000-000000000001", "errors": errors,
    })
}

fn schemas(spec: &mut Value) -> Result<(), String> {
    let (mut sent, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for (_, operations) in entries(spec.get_mut("paths")) {
        for (_, operation) in entries(Some(operations)) {
            references(&operation["requestBody"], &mut sent);
            references(&operation["responses"], &mut answered);
        }
    }
    let mut components = match spec["components"]["schemas"].take() {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    };
    for reached in [&mut sent, &mut answered] {
        close(reached, &components);
    }
    for (name, schema) in &mut components {
        if let Some(variants) = schema.pointer("/discriminator/mapping").and_then(Value::as_object) {
            // poem-openapi names a variant's schema by its object, so that the later one takes the place of the earlier.
            let distinct: BTreeSet<_> = variants.values().filter_map(Value::as_str).collect();
            if distinct.len() < variants.len() {
                return Err(format!("two variants of the union {name} hold the same object; give each its own"));
            }
        }
        if schema.get("properties").is_none() {
            continue;
        }
        match (sent.contains(name), answered.contains(name)) {
            // What may be left out of a request is null in an answer: one schema can't say both.
            (true, true) => return Err(format!("the object {name} is both sent and answered; use two types")),
            (true, false) => schema["additionalProperties"] = json!(false),
            (false, true) => nothing_left_out(schema),
            (false, false) => {}
        }
    }
    components.insert("Problem".into(), problem_schema());
    components.insert("FieldError".into(), field_error_schema());
    spec["components"]["schemas"] = components.into();
    spec["components"]["headers"] = json!({
        "X-Request-Id": {"description": "The request's id, for whoever reads the log.", "schema": {"type": "string"}},
        "WWW-Authenticate": {"description": "Always `Bearer`.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer", "minimum": 1}},
        "RateLimit-Limit": {"description": "How many there may be.", "schema": {"type": "integer", "minimum": 0}},
        "RateLimit-Remaining": {"description": "How many more there may be now.", "schema": {"type": "integer", "minimum": 0}},
        "RateLimit-Reset": {"description": "Seconds until it is worth looking again.", "schema": {"type": "integer", "minimum": 0}},
    });
    bounds(spec);
    Ok(())
}

/// The names of the schemas that a part of the document refers to.
fn references(part: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str().and_then(|target| target.strip_prefix("#/components/schemas/")) {
                    // A discriminator's mapping refers too, by other keys.
                    Some(name) if key == "$ref" || key.contains('.') => {
                        found.insert(name.to_owned());
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Adds what is reached through others.
fn close(reached: &mut BTreeSet<String>, components: &Map<String, Value>) {
    let mut waiting: Vec<_> = reached.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        let mut next = BTreeSet::new();
        references(components.get(&name).unwrap_or(&Value::Null), &mut next);
        waiting.extend(next.into_iter().filter(|name| reached.insert(name.clone())));
    }
}

/// Answers hold every property: one without a value is null. A property that is marked `read_only` is the exception: it may be left out.
fn nothing_left_out(schema: &mut Value) {
    let mut required: BTreeSet<String> = strings(&schema["required"]);
    for (name, property) in entries(schema.get_mut("properties")) {
        let left_out = property.as_object_mut().and_then(|property| property.remove("readOnly")).is_some();
        if !left_out && required.insert(name.clone()) {
            nullable(property);
        }
    }
    schema["required"] = required.into_iter().collect();
}

fn nullable(property: &mut Value) {
    if property.get("$ref").is_some() {
        *property = json!({"allOf": [property.take()]});
    } else if let Some(parts) = property.get_mut("allOf").and_then(Value::as_array_mut) {
        // poem-openapi repeats what it adds to a reference beside it and inside.
        parts.retain(|part| part.get("$ref").is_some());
    }
    if let Some(listed) = property.get_mut("enum").and_then(Value::as_array_mut) {
        listed.push(Value::Null);
    }
    property["nullable"] = json!(true);
}

/// States the bounds that a number's format has.
fn bounds(part: &mut Value) {
    if let Some(fields) = part.as_object_mut() {
        let format = fields.get("format").and_then(Value::as_str).map_or((None, None), format_range);
        for (key, bound) in [("minimum", format.0), ("maximum", format.1)] {
            if let Some(bound) = bound
                && !fields.contains_key(key)
            {
                #[expect(clippy::cast_possible_truncation, reason = "the bounds of formats are whole and small")]
                fields.insert(key.to_owned(), json!(bound as i64));
            }
        }
        fields.values_mut().for_each(bounds);
    } else if let Some(items) = part.as_array_mut() {
        items.iter_mut().for_each(bounds);
    }
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "title": "Problem",
        "description": "An error, as RFC 9457 defines it. Programs switch on `code`.",
        "required": ["type", "title", "status", "detail", "code", "request_id", "errors"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "The kind of error."},
            "title": {"type": "string", "description": "The kind of error, for people."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What is wrong and what to do, for people."},
            "code": {"type": "string", "description": "The kind of error, for programs."},
            "request_id": {"type": "string", "description": "The request's id, for whoever reads the log."},
            "errors": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/FieldError"},
                "description": "Each field that is wrong; empty unless the status is 422.",
            },
        },
    })
}

fn field_error_schema() -> Value {
    json!({
        "type": "object",
        "title": "FieldError",
        "required": ["field", "message"],
        "properties": {
            "field": {"type": "string", "description": "The field, such as `parameters.temperature`; empty for the whole body."},
            "message": {"type": "string", "description": "What it must be."},
        },
    })
}

fn entries(value: Option<&mut Value>) -> impl Iterator<Item = (&String, &mut Value)> {
    value.and_then(Value::as_object_mut).into_iter().flatten()
}

fn strings(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}
