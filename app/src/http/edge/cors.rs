//! Which other web origins may call, by exact comparison. Credentials in cookies play no part, so that nothing is ever said of them.

use poem::Response;
use poem::http::StatusCode;
use poem::http::header::{self, HeaderMap, HeaderValue};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Accept, Idempotency-Key, Last-Event-ID, X-Request-Id");
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, WWW-Authenticate, Allow, Location, ETag, Content-Disposition, Content-Range, \
     RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset",
);
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The origins that may call. None, unless configured.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<HeaderValue>);

impl Origins {
    /// Takes origins as browsers send them: `https://chat.example.com`, with a port where it is not the scheme's own.
    ///
    /// # Errors
    /// Which one is none. `*` and `null` are none: they would let everybody in.
    pub fn new(origins: &[String]) -> Result<Self, String> {
        origins.iter().map(|text| parse(text)).collect::<Result<_, _>>().map(Self)
    }

    /// The origin of a request, if it is one of these.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.0.iter().find(|known| *known == origin).cloned()
    }
}

fn parse(text: &str) -> Result<HeaderValue, String> {
    let wrong = || {
        format!(
            "`{text}` is no origin; write scheme, host and, where it is not the usual one, port: https://chat.example.com"
        )
    };
    // Shells of desktop and mobile applications have schemes of their own: `tauri://localhost`.
    let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let of_scheme = |c: char| letter(c) || matches!(c, '+' | '-' | '.');
    let of_host = |c: char| letter(c) || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if scheme.is_empty() || host.is_empty() || !scheme.chars().all(of_scheme) || !host.chars().all(of_host) {
        return Err(wrong());
    }
    HeaderValue::from_str(text).map_err(|_| wrong())
}

/// Whether a request only asks what it might ask.
pub(super) fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of an allowed origin, whatever its path: the request itself is to meet its error, not the preflight.
pub(super) fn preflight() -> Response {
    let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Marks an answer, errors included.
pub(super) fn mark(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // R94
    #[test]
    fn refuses_what_would_let_everybody_in() {
        for wrong in [
            "*",
            "null",
            "",
            "chat.example.com",
            "https://",
            "://a.b",
            "https://*.a.b",
            "https://a.b/",
            "https://a.b/x",
            "https://A.b",
        ] {
            assert!(Origins::new(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        for right in ["https://a.b", "http://localhost:5173", "http://[::1]:80", "tauri://localhost"] {
            assert!(Origins::new(&[right.to_owned()]).is_ok(), "{right}");
        }
    }
}
