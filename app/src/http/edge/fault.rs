//! What goes wrong, and how it is said: problem details (RFC 9457) with a code that programs switch on.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use poem::Response;
use poem::http::header::{self, HeaderName, HeaderValue};
use poem::http::{Method, StatusCode};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use private_chat_core::error::{Cause, Error, Violation};
use serde::Serialize;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A kind of error, as clients see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// What programs switch on. Stable, `snake_case`.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The kind of error, for people.
    pub title: &'static str,
    /// What to do about it, where a place knows nothing better to say.
    pub detail: &'static str,
}

impl Code {
    /// A kind of error.
    #[must_use]
    pub const fn new(code: &'static str, status: StatusCode, title: &'static str, detail: &'static str) -> Self {
        Self { code, status, title, detail }
    }

    /// The stable URI reference of this kind.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("/problems/{}", self.code.replace('_', "-"))
    }
}

/// What the framework itself answers, and guards.
pub mod codes {
    use super::{Code, StatusCode};

    /// No JSON at all.
    pub const MALFORMED: Code =
        Code::new("malformed", StatusCode::BAD_REQUEST, "Malformed request", "The request can't be read.");
    /// Nobody knows who asks.
    pub const UNAUTHENTICATED: Code = Code::new(
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "Not authenticated",
        "Send a valid access token as `Authorization: Bearer <token>`.",
    );
    /// Somebody who is known may not do this.
    pub const FORBIDDEN: Code =
        Code::new("forbidden", StatusCode::FORBIDDEN, "Forbidden", "Your role does not allow this.");
    /// There is no such thing, or the caller may not know of it.
    pub const NOT_FOUND: Code = Code::new(
        "not_found",
        StatusCode::NOT_FOUND,
        "Not found",
        "It does not exist, or you may not know that it does.",
    );
    /// The path is right, the verb is not.
    pub const METHOD_NOT_ALLOWED: Code = Code::new(
        "method_not_allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed",
        "This path does not answer to this method; the header `Allow` lists those it does.",
    );
    /// The body came too slowly.
    pub const REQUEST_TIMEOUT: Code = Code::new(
        "request_timeout",
        StatusCode::REQUEST_TIMEOUT,
        "Request timeout",
        "The body of the request came too slowly. Send it again.",
    );
    /// The body is too large.
    pub const TOO_LARGE: Code =
        Code::new("too_large", StatusCode::PAYLOAD_TOO_LARGE, "Too large", "The body of the request is too large.");
    /// The body is of a type that this route does not read.
    pub const UNSUPPORTED_MEDIA_TYPE: Code = Code::new(
        "unsupported_media_type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Unsupported media type",
        "Send JSON in UTF-8, with `Content-Type: application/json`.",
    );
    /// Well-formed, but not acceptable.
    pub const INVALID: Code = Code::new(
        "invalid",
        StatusCode::UNPROCESSABLE_ENTITY,
        "Not acceptable",
        "Some of what was sent is not acceptable; `errors` names each field.",
    );
    /// A fault of ours.
    pub const INTERNAL: Code = Code::new(
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
        "Something went wrong on our side. Whoever runs the server finds it in the log by the request id.",
    );
}

/// One thing that went wrong in one request.
#[derive(Debug)]
pub struct Fault {
    /// Of which kind.
    pub code: &'static Code,
    /// For people.
    pub detail: Cow<'static, str>,
    /// Which fields are wrong; only where the status is 422.
    pub errors: Vec<Violation>,
    /// Headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log, never for the client.
    pub cause: Option<Cause>,
}

impl Fault {
    /// A fault of this kind.
    #[must_use]
    pub const fn new(code: &'static Code) -> Self {
        Self { code, detail: Cow::Borrowed(code.detail), errors: Vec::new(), headers: Vec::new(), cause: None }
    }

    /// What was sent has these violations.
    #[must_use]
    pub fn invalid(errors: Vec<Violation>) -> Self {
        Self { errors, ..Self::new(&codes::INVALID) }
    }

    /// A fault of ours.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::new(&codes::INTERNAL).because(cause)
    }

    /// Says it better than the kind does.
    #[must_use]
    pub fn saying(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn because(self, cause: impl Into<Cause>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when it is worth trying again, in whole seconds and at least one.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Says that as many as may are at it, and when it is worth trying again.
    /// <https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-06>
    #[must_use]
    pub fn limited(self, most: u64, after: Duration) -> Self {
        self.retry_after(after)
            .with(HeaderName::from_static("ratelimit-limit"), HeaderValue::from(most))
            .with(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(0))
            .with(HeaderName::from_static("ratelimit-reset"), HeaderValue::from(after.as_secs()))
    }

    /// Ends the connection after the answer, as what is left of the request was not read.
    #[must_use]
    pub fn closing(self) -> Self {
        self.with(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// Writes the cause down. Called once, where the answer is made.
    pub(super) fn log(&self) {
        let status = self.code.status.as_u16();
        if let Some(cause) = &self.cause {
            let cause = Chain(cause.as_ref());
            if self.code.status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(status, code = self.code.code, %cause, "the request failed");
            } else {
                tracing::warn!(status, code = self.code.code, %cause, "the request could not be served");
            }
        }
    }

    /// The answer.
    pub(super) fn answer(&self, request_id: &str) -> Response {
        let problem = Problem {
            kind: self.code.uri(),
            title: self.code.title,
            status: self.code.status.as_u16(),
            detail: &self.detail,
            code: self.code.code,
            request_id,
            errors: self.errors.iter().map(|e| Wrong { field: &e.field, message: &e.message }).collect(),
        };
        // A struct of texts and numbers always has a JSON form.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::builder().status(self.code.status).content_type(PROBLEM_JSON).body(body);
        let headers = response.headers_mut();
        if self.code.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        response
    }
}

/// An error with all that caused it, on one line.
struct Chain<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut next = self.0.source();
        while let Some(error) = next {
            let said = error.to_string();
            // Many libraries repeat their source in their own text.
            if !line.contains(&said) {
                line.push_str(": ");
                line.push_str(&said);
            }
            next = error.source();
        }
        f.write_str(&line.escape_debug().to_string())
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    errors: Vec<Wrong<'a>>,
}

#[derive(Serialize)]
struct Wrong<'a> {
    field: &'a str,
    message: &'a str,
}

impl From<Fault> for poem::Error {
    fn from(fault: Fault) -> Self {
        let mut error = Self::from_status(fault.code.status);
        error.set_data(Arc::new(fault));
        error
    }
}

/// What the framework's own errors mean.
pub(super) fn of_framework(error: &poem::Error) -> Arc<Fault> {
    use poem_openapi::error::{ParseParamError, ParsePathError};

    if let Some(fault) = error.data::<Arc<Fault>>() {
        return fault.clone();
    }
    let fault = if error.is::<ParsePathError>() {
        Fault::new(&codes::NOT_FOUND)
    } else if let Some(wrong) = error.downcast_ref::<ParseParamError>() {
        Fault::invalid(vec![Violation::new(wrong.name, reason(&wrong.reason))])
    } else {
        match error.status() {
            StatusCode::NOT_FOUND => Fault::new(&codes::NOT_FOUND).saying("There is nothing at this path."),
            StatusCode::UNAUTHORIZED => Fault::new(&codes::UNAUTHENTICATED),
            StatusCode::PAYLOAD_TOO_LARGE => Fault::new(&codes::TOO_LARGE),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Fault::new(&codes::UNSUPPORTED_MEDIA_TYPE),
            status if status.is_client_error() => Fault::new(&codes::MALFORMED),
            _ => Fault::internal(error.to_string()),
        }
    };
    Arc::new(fault)
}

/// The part for people of what poem-openapi says about a parameter: `failed to parse "T": why (occurred while parsing "U")`.
pub(super) fn reason(text: &str) -> String {
    let text = text.split_once("\": ").map_or(text, |(_, why)| why);
    let text = text.split_once(" (occurred while").map_or(text, |(why, _)| why);
    if text.starts_with("Type ") || text.starts_with("Expected input") {
        return "is missing".into();
    }
    text.into()
}

/// The method is not one of those that the path answers to.
pub(super) fn method_not_allowed(method: &Method, allow: &HeaderValue) -> Fault {
    let listed = allow.to_str().unwrap_or_default();
    let method = method.as_str();
    let method = method.get(..16).unwrap_or(method);
    Fault::new(&codes::METHOD_NOT_ALLOWED)
        .saying(format!("This path does not answer to {method}; it answers to {listed}."))
        .with(header::ALLOW, allow.clone())
}

/// The codes that a route may answer with besides those of guards and of the framework.
pub trait Codes: Send + Sync + 'static {
    /// All of them.
    const CODES: &'static [&'static Code];
}

/// No code of its own.
impl Codes for () {
    const CODES: &'static [&'static Code] = &[];
}

/// Names the codes of a route: `fails!(SignUpFails: EMAIL_TAKEN, SETUP_COMPLETED);`
#[macro_export]
macro_rules! fails {
    ($(#[$doc:meta])* $name:ident: $($code:path),+ $(,)?) => {
        $(#[$doc])*
        pub(crate) enum $name {}

        impl $crate::http::edge::fault::Codes for $name {
            const CODES: &'static [&'static $crate::http::edge::fault::Code] = &[$(&$code),+];
        }
    };
}
pub use fails;

/// What a route answers in place of a value: a fault, of the codes that it lists or of those that guards and the framework answer anywhere.
#[derive(Debug)]
pub struct Failed<C = ()> {
    fault: Fault,
    codes: PhantomData<fn() -> C>,
}

impl<C: Codes> From<Fault> for Failed<C> {
    fn from(fault: Fault) -> Self {
        // A code that the document does not list for the route would be a lie of the document.
        debug_assert!(
            fault.code.status.is_server_error()
                || matches!(fault.code.status.as_u16(), 400 | 401 | 403 | 404 | 408 | 413 | 415 | 422)
                || C::CODES.contains(&fault.code),
            "{} answers `{}`, which it does not list",
            std::any::type_name::<C>(),
            fault.code.code,
        );
        Self { fault, codes: PhantomData }
    }
}

impl<C: Codes> From<Error> for Failed<C> {
    fn from(error: Error) -> Self {
        Fault::from(error).into()
    }
}

impl<C: Codes> From<Violation> for Failed<C> {
    fn from(violation: Violation) -> Self {
        Fault::invalid(vec![violation]).into()
    }
}

impl<C: Codes> From<Failed<C>> for poem::Error {
    fn from(failed: Failed<C>) -> Self {
        failed.fault.into()
    }
}

impl<C: Codes> ApiResponse for Failed<C> {
    /// One response a status, with the codes as an enumeration; the document puts the rest around it.
    fn meta() -> MetaResponses {
        let mut responses: Vec<MetaResponse> = Vec::new();
        for code in C::CODES {
            let status = Some(code.status.as_u16());
            let of_status = responses.iter_mut().find(|response| response.status == status);
            if let Some(MetaSchemaRef::Inline(schema)) = of_status.map(|response| &mut response.content[0].schema) {
                schema.enum_items.push(code.code.into());
                continue;
            }
            let schema = MetaSchema { enum_items: vec![code.code.into()], ..MetaSchema::new("string") };
            responses.push(MetaResponse {
                description: "",
                status,
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: PROBLEM_JSON,
                    schema: MetaSchemaRef::Inline(Box::new(schema)),
                }],
                headers: Vec::new(),
            });
        }
        MetaResponses { responses }
    }

    fn register(_: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_say_why_and_nothing_of_types() {
        assert_eq!(reason(r#"failed to parse "limit": must be from 1 to 100"#), "must be from 1 to 100");
        assert_eq!(
            reason(r#"failed to parse "integer_uint64": invalid digit (occurred while parsing "optional_x")"#),
            "invalid digit"
        );
        assert_eq!(reason(r#"Type "boolean" expects an input value."#), "is missing");
    }

    // R90
    #[test]
    fn a_cause_is_one_line() {
        let cause: Cause = "a\nb\u{1b}[31m\u{2028}".into();
        let line = Chain(cause.as_ref()).to_string();
        assert!(!line.contains(['\n', '\u{1b}', '\u{2028}']), "{line:?}");
    }

    #[test]
    fn waits_are_whole_seconds_and_never_zero() {
        for (given, said) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let fault = Fault::new(&codes::INTERNAL).retry_after(Duration::from_millis(given));
            assert_eq!(fault.headers[0].1, said);
        }
    }
}
