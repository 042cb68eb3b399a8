//! JSON in and out.
//!
//! What comes in is read as any JSON, held against the schema that the document shows, so that one answer names every fault, and then read
//! into the type. What goes out is written straight from the type.

use std::ops::Deref;

use poem::http::{StatusCode, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions};
use private_chat_core::error::Violation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

use super::body;
use super::fault::{Fault, codes};

const JSON: &str = "application/json";

/// A JSON body: of a request, or of an answer with this status.
///
/// `Json<Option<T>>` is a body that may be left out, together with its `Content-Type`. Of two equal keys the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<T, const STATUS: u16 = 200>(pub T);

impl<T, const STATUS: u16> Deref for Json<T, STATUS> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'a, T: DeserializeOwned + Type + 'static> ApiExtractor<'a> for Json<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    const PARAM_IS_REQUIRED: bool = T::IS_REQUIRED;

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest { description: None, content: media::<T>(), required: T::IS_REQUIRED })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(read(receive::<T>(request, body).await?)?))
    }
}

/// Takes the body of a request, which the schema of `T` has nothing against; null where there is none and `T` may be left out.
///
/// # Errors
/// 408, 413, 415, 400 or 422.
pub async fn receive<T: Type + 'static>(request: &Request, body: &mut RequestBody) -> Result<Value, Fault> {
    let typed = media_type(request)?;
    let bytes = body::read(request, body).await?;
    if bytes.is_empty() && !T::IS_REQUIRED {
        return Ok(Value::Null);
    }
    if !typed {
        return Err(Fault::new(&codes::UNSUPPORTED_MEDIA_TYPE));
    }
    let value = parse(&bytes)?;
    let faults = super::schema::Schema::of::<T>().check(&value);
    if faults.is_empty() { Ok(value) } else { Err(Fault::invalid(faults)) }
}

/// Whether the request names JSON in UTF-8 as the type of its body.
fn media_type(request: &Request) -> Result<bool, Fault> {
    let encoded = request.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if encoded {
        return Err(Fault::new(&codes::UNSUPPORTED_MEDIA_TYPE).saying("Send the body without a Content-Encoding."));
    }
    match request.headers().get(header::CONTENT_TYPE) {
        None => Ok(false),
        Some(named) if named.to_str().is_ok_and(is_json) => Ok(true),
        Some(_) => Err(Fault::new(&codes::UNSUPPORTED_MEDIA_TYPE)),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let named = essence.eq_ignore_ascii_case(JSON)
        || essence.split_once('+').is_some_and(|(base, suffix)| {
            suffix.eq_ignore_ascii_case("json")
                && base.get(..12).is_some_and(|base| base.eq_ignore_ascii_case("application/"))
        });
    named
        && parts.all(|parameter| {
            let charset = parameter.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
            charset.is_none_or(|(_, charset)| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"))
        })
}

/// Reads what is JSON, lone surrogates included: the schema's check will name the field that has one.
fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(bytes).or_else(|error| {
        let mended = without_lone_surrogates(bytes);
        mended.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| malformed(bytes, &error))
    })
}

fn malformed(bytes: &[u8], error: &serde_json::Error) -> Fault {
    let what = match error.classify() {
        _ if bytes.is_empty() => "The body is empty; JSON was expected.".to_owned(),
        Category::Eof => "The body ends before its JSON does.".to_owned(),
        // The library's own words are about syntax alone and quote nothing.
        _ => format!("The body is no JSON: {error}."),
    };
    Fault::new(&codes::MALFORMED).saying(what)
}

/// JSON may write half a surrogate pair (RFC 8259, section 8.2), which is no text. Puts NUL, which is refused by its field's name, in its place.
///
/// None where there is no such half.
fn without_lone_surrogates(bytes: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| -> Option<u16> {
        let escape = bytes.get(at..at + 6)?.strip_prefix(br"\u")?;
        u16::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()
    };
    let mut mended = None;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                mended.get_or_insert_with(|| bytes.to_vec())[at + 2..at + 6].copy_from_slice(b"0000");
                at += 6;
            }
            Some(_) => at += 6,
            None => at += 2,
        }
    }
    mended
}

/// Reads a body that was received. This is the type's own word after the schema's: at most one fault is left, such as a rule between two fields.
///
/// # Errors
/// 422.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        Fault::invalid(vec![Violation::new(field, error.into_inner().to_string())])
    })
}

fn media<T: Type>() -> Vec<MetaMediaType> {
    vec![MetaMediaType { content_type: JSON, schema: T::schema_ref() }]
}

impl<T: Serialize + Send, const STATUS: u16> IntoResponse for Json<T, STATUS> {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(256);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => {
                let status = StatusCode::from_u16(STATUS).unwrap_or(StatusCode::OK);
                Response::builder().status(status).content_type(JSON).body(body)
            }
            Err(error) => poem::Error::from(Fault::internal(error)).into_response(),
        }
    }
}

impl<T: Serialize + Type, const STATUS: u16> ApiResponse for Json<T, STATUS> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![success(STATUS, media::<T>())] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

pub(super) fn success(status: u16, content: Vec<MetaMediaType>) -> MetaResponse {
    let description = match status {
        201 => "Created",
        202 => "Accepted",
        204 => "Done",
        _ => "OK",
    };
    MetaResponse { description, status: Some(status), status_range: None, content, headers: Vec::new() }
}

/// Done, and there is nothing to say (204).
#[derive(Clone, Copy, Debug)]
pub struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into()
    }
}

impl ApiResponse for NoContent {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![success(204, Vec::new())] }
    }

    fn register(_: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::MaybeUndefined;
    use poem_openapi::{Enum, Object};
    use serde::Deserialize;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::http::edge::schema::Schema;

    #[derive(Debug, Object, Deserialize)]
    struct Send {
        #[oai(validator(max_length = 10))]
        content: String,
        parent_id: Option<Uuid>,
        parameters: Option<Parameters>,
        effort: Option<Effort>,
        #[serde(default)]
        #[oai(nullable)]
        title: MaybeUndefined<String>,
    }

    #[derive(Debug, Object, Deserialize)]
    struct Parameters {
        #[oai(validator(minimum(value = "0"), maximum(value = "2")))]
        temperature: Option<f64>,
        max_tokens: Option<u32>,
        #[oai(validator(max_items = 2))]
        stop: Option<Vec<String>>,
    }

    #[derive(Debug, Enum, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[oai(rename_all = "lowercase")]
    enum Effort {
        Low,
        High,
    }

    fn faults(value: &Value) -> Vec<String> {
        Schema::of::<Send>().check(value).into_iter().map(|v| format!("{}: {}", v.field, v.message)).collect()
    }

    // R44, R71
    #[test]
    fn every_fault_is_named_at_once() {
        let value = json!({
            "content": 5, "parent_id": "x", "effort": "medium", "role": "ADMIN",
            "parameters": {"temperature": 2.5, "max_tokens": -1, "stop": ["a", "b", "c"], "api_base": "http://x"},
        });
        assert_eq!(
            faults(&value),
            [
                "content: must be a string",
                "parent_id: must be a UUID",
                "parameters.temperature: must be at most 2",
                "parameters.max_tokens: must be at least 0",
                "parameters.stop: must have at most 2 items",
                "parameters.api_base: is not known here",
                "effort: must be one of: low, high",
                "role: is not known here",
            ]
        );
        assert_eq!(faults(&json!({})), ["content: is required"]);
        assert_eq!(faults(&json!([])), [": must be an object"]);
        assert_eq!(faults(&json!(null)), [": must not be null"]);
        assert_eq!(faults(&json!({"content": "12345678901"})), ["content: must have at most 10 characters"]);
        assert_eq!(
            faults(&json!({"content": "x", "parameters": {"max_tokens": 4_294_967_296_u64, "stop": [1, "a"]}})),
            ["parameters.max_tokens: must be at most 4294967295", "parameters.stop[0]: must be a string"]
        );
        assert_eq!(
            faults(&json!({"content": "x", "parameters": {"max_tokens": 1.0}})),
            ["parameters.max_tokens: must be an integer"]
        );
    }

    #[test]
    fn null_is_taken_only_where_the_document_says_so() {
        assert_eq!(
            faults(&json!({"content": "x", "parent_id": null, "parameters": null, "title": null})),
            ["parent_id: must not be null", "parameters: must not be null"]
        );
        let title = |value| read::<Send>(value).unwrap().title;
        assert_eq!(title(json!({"content": "x"})), MaybeUndefined::Undefined);
        assert_eq!(title(json!({"content": "x", "title": null})), MaybeUndefined::Null);
        assert_eq!(title(json!({"content": "x", "title": "t"})), MaybeUndefined::Value("t".into()));
    }

    #[test]
    fn a_flood_of_faults_is_cut() {
        let flood: serde_json::Map<_, _> = (0..10_000).map(|n| (format!("f{n}"), json!(1))).collect();
        assert_eq!(faults(&Value::Object(flood)).len(), 32);
        let long = faults(&json!({"content": "x", "y".repeat(10_000): 1}));
        assert!(long[0].len() < 150, "{}", long[0].len());
    }

    // R67
    #[test]
    fn text_that_is_none_is_refused_by_its_field() {
        let fault = "content: must be Unicode text without the character NUL and without lone surrogates";
        for text in
            [r"\u0000", r"\ud800", r"\udc00", r"\ud800x", r"\ud83d\u0041", r"\udc00\ud800", r"\ud800\ud83d\ude00"]
        {
            let value = parse(format!(r#"{{"content":"{text}"}}"#).as_bytes()).unwrap();
            assert_eq!(faults(&value), [fault], "{text}");
        }
        // An escaped backslash is no escape.
        for (text, read) in [(r"\ud83d\ude00", "😀"), (r"\\ud800", r"\ud800"), ("😀", "😀")] {
            let value = parse(format!(r#"{{"content":"{text}"}}"#).as_bytes()).unwrap();
            assert_eq!(value["content"], read, "{text}");
        }
    }

    // R64, R67
    #[test]
    fn what_is_no_json_is_malformed() {
        let deep = "[".repeat(200_000);
        for bad in ["", "{", "nul", "{\"a\":1}x", "'a'", "{a:1}", "\u{feff}{}", &deep, "[1,]", "\"a\nb\"", r#""\x""#] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().code, &codes::MALFORMED, "{}", &bad[..bad.len().min(9)]);
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}").unwrap_err().code, &codes::MALFORMED);
    }

    // R66
    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(parse(br#"{"a":1,"a":2}"#).unwrap(), json!({"a": 2}));
    }

    // R68
    #[test]
    fn only_json_in_utf_8_is_read() {
        for good in
            [JSON, "application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\"", "application/problem+json"]
        {
            assert!(is_json(good), "{good}");
        }
        for bad in
            ["", "text/plain", "application/jsonp", "text/json", "application/json; charset=latin1", "text/x+json"]
        {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
