//! Requests that may be sent again: the header `Idempotency-Key`.

use std::sync::Arc;

use poem::http::HeaderMap;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use private_chat_core::error::Violation;
use private_chat_core::model::idempotency::{Repeatable, check_key};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::State;
use super::edge::fault::Fault;
use super::edge::json::{self, Json};

const HEADER: &str = "Idempotency-Key";

/// A JSON body, and under which `Idempotency-Key` it was sent: `#[oai(name = "Idempotency-Key")] input: Repeat<…>`.
///
/// The header is looked at before the body, and the body is read once. What the body says counts, not how it is written: neither spaces nor the
/// order of keys make it another one.
#[derive(Clone, Debug)]
pub struct Repeat<T> {
    /// The body.
    pub body: T,
    /// What tells this request from others, where it carries a key.
    pub request: Option<Repeatable>,
}

impl<'a, T: DeserializeOwned + Type + 'static> ApiExtractor<'a> for Repeat<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter, ApiExtractorType::RequestObject];
    // Of the header: whether the body is, its own description says.
    const PARAM_IS_REQUIRED: bool = false;

    type ParamType = String;
    type ParamRawType = String;

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some(
                "A name that the client chooses for this request, such as a UUID. For 24 h the same request under the same key is not done \
                 again: it answers with what it made the first time, as that is now, and with 404 where that is gone.",
            ),
            min_length: Some(1),
            max_length: Some(255),
            pattern: Some("^[!-~]+$".into()),
            example: Some("0190d5a0-7b7c-7000-8000-000000000002".into()),
            ..MetaSchema::new("string")
        })))
    }

    fn request_meta() -> Option<MetaRequest> {
        Json::<T>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        let Some(key) = key(request.headers())? else {
            return Ok(Self { body: json::read(json::receive::<T>(request, body).await?)?, request: None });
        };
        let state = request.data::<Arc<State>>();
        let state = state.ok_or_else(|| Fault::internal("the state is not the application's"))?;
        let (verb, path) = (request.method().as_str().as_bytes(), path(request).as_bytes());
        let value = json::receive::<T>(request, body).await?;
        let asked = [verb, path, &canonical(&value)?];
        let repeatable = state.cases.idempotency.repeatable(key, asked).map_err(Fault::from)?;
        Ok(Self { body: json::read(value)?, request: Some(repeatable) })
    }
}

/// The key of a request, which has one or none.
fn key(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let wrong = |violation| Fault::invalid(vec![violation]);
    let mut sent = headers.get_all(HEADER).iter();
    match (sent.next(), sent.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(wrong(Violation::new(HEADER, "must come once"))),
        (Some(only), None) => {
            // What is no text is refused like none.
            let key = only.to_str().unwrap_or_default();
            check_key(key).map_err(wrong)?;
            Ok(Some(key))
        }
    }
}

/// The one path of what the request is to, without the slash that may end it.
fn path(request: &Request) -> &str {
    request.uri().path().trim_end_matches('/')
}

/// The one form of a body, however it was written: without spaces, its keys in their order.
fn canonical(value: &Value) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value).map_err(Fault::internal)
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    // R73
    #[test]
    fn a_key_comes_once_or_not_at_all() {
        let sent = |values: &[&'static [u8]]| {
            let headers: HeaderMap =
                values.iter().map(|value| (HEADER.parse().unwrap(), HeaderValue::from_bytes(value).unwrap())).collect();
            key(&headers)
                .map(|key| key.map(ToOwned::to_owned))
                .map_err(|fault| (fault.code.code, fault.errors[0].field.clone()))
        };
        assert_eq!(sent(&[]), Ok(None));
        assert_eq!(sent(&[b"a-key"]), Ok(Some("a-key".into())));
        for wrong in [&[&b"a"[..], b"a"][..], &[b"a", b"b"], &[b"\xff"], &["é".as_bytes()]] {
            assert_eq!(sent(wrong), Err(("invalid", HEADER.into())), "{wrong:?}");
        }
    }

    // R73
    #[test]
    fn a_body_is_the_same_however_it_is_written() {
        let form = |text: &str| canonical(&serde_json::from_str(text).unwrap()).unwrap();
        let first = form(r#"{"name":"é","list":[1,{"a":true,"b":null}]}"#);
        assert_eq!(form(" { \"list\" : [1, {\"b\":null,\n\"a\":true}], \"name\":\"\\u00e9\" } "), first);
        for other in [
            r#"{"name":"e","list":[1,{"a":true,"b":null}]}"#,
            r#"{"name":"é","list":[{"a":true,"b":null},1]}"#,
            r#"{"name":"é","list":[1,{"a":true}]}"#,
            r#"{"name":"é","list":["1",{"a":true,"b":null}]}"#,
        ] {
            assert_ne!(form(other), first, "{other}");
        }
    }

    #[test]
    fn a_thing_has_one_path() {
        let path_of = |uri: &str| path(&Request::builder().uri_str(uri).finish()).to_owned();
        assert_eq!(path_of("/users/"), "/users");
        assert_eq!(path_of("/users?x=/"), "/users");
        assert_ne!(path_of("/users/a"), path_of("/users/b"));
    }
}
