//! What every request passes, in one place: its id, its client, cross-origin rules, panics, errors, headers, and its line in the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use poem::http::Method;
use poem::http::header::{self, HeaderName, HeaderValue};
use poem::{Endpoint, PathPattern, Request, Response, Route};
use private_chat_core::id::time_sorted;
use private_chat_core::port::clock::{Clock, Entropy};
use private_chat_core::time::Timestamp;
use tracing::Instrument as _;
use uuid::Uuid;

use super::client::{Client, Proxies, X_REQUEST_ID};
use super::cors::{self, Origins};
use super::fault::{self, Fault, codes};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOTHING_ACTIVE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const TWO_YEARS: HeaderValue = HeaderValue::from_static("max-age=63072000");
const X_CONTENT_TYPE_OPTIONS: HeaderName = header::X_CONTENT_TYPE_OPTIONS;

/// How long the body of a request may take, unless told.
pub const BODY_WITHIN: Duration = Duration::from_secs(30);

/// What the edge is told.
#[derive(Clone)]
pub struct Settings {
    /// Which other origins may call.
    pub origins: Origins,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: Proxies,
    /// Whether clients reach the server by TLS, so that they may be told to insist on it.
    pub tls: bool,
    /// How long a body may take to come; each KiB of it that has come gives a second more.
    pub body_within: Duration,
    /// For durations in the log and for ids.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub entropy: Arc<dyn Entropy>,
}

/// The outermost endpoint. Guards find `S` as their state.
pub struct Edge<S> {
    routes: Route,
    state: Arc<S>,
    settings: Settings,
    ids: RequestIds,
}

impl<S: Send + Sync + 'static> Edge<S> {
    pub(super) fn new(routes: Route, state: Arc<S>, settings: Settings) -> Self {
        let ids = RequestIds::new(&*settings.entropy);
        Self { routes, state, settings, ids }
    }

    async fn answer(&self, request: Request, preflight: bool) -> Result<(Response, Option<PathPattern>), Failure> {
        if preflight {
            return Ok((cors::preflight(), None));
        }
        match AssertUnwindSafe(self.routes.call(request)).catch_unwind().await {
            Ok(Ok(mut response)) => {
                let route = response.data::<PathPattern>().cloned();
                match response.extensions_mut().remove::<Arc<Fault>>() {
                    None => Ok((response, route)),
                    Some(fault) => Err(Failure { fault, route }),
                }
            }
            Ok(Err(error)) => {
                Err(Failure { fault: fault::of_framework(&error), route: error.data::<PathPattern>().cloned() })
            }
            // The panic hook has logged the place.
            Err(_) => Err(Failure { fault: Arc::new(Fault::new(&codes::INTERNAL).closing()), route: None }),
        }
    }

    /// What every answer carries.
    fn dress(&self, response: &mut Response, client: &Client, origin: Option<HeaderValue>) {
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, client.request_id_header().clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(header::REFERRER_POLICY, NO_REFERRER);
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NOTHING_ACTIVE);
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        if self.settings.tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, TWO_YEARS);
        }
        cors::mark(headers, origin);
    }
}

/// Makes ids for requests. They are unique and no secret: this process's own random part and a count, so that no request waits for the system's
/// generator.
struct RequestIds {
    process: [u8; 6],
    count: AtomicU32,
}

impl RequestIds {
    fn new(entropy: &dyn Entropy) -> Self {
        let mut process = [0; 6];
        entropy.fill(&mut process);
        Self { process, count: AtomicU32::new(0) }
    }

    fn next(&self, now: Timestamp) -> Uuid {
        let [a, b, c, d] = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [u, v, w, x, y, z] = self.process;
        time_sorted(now, &[u, v, w, x, y, z, a, b, c, d])
    }
}

/// What is answered in place of a response, and on which route.
struct Failure {
    fault: Arc<Fault>,
    route: Option<PathPattern>,
}

impl<S: Send + Sync + 'static> Endpoint for Edge<S> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let begun = self.settings.clock.monotonic();
        let Settings { proxies, body_within, .. } = &self.settings;
        let client =
            Arc::new(Client::new(&request, proxies, *body_within, || self.ids.next(self.settings.clock.now())));
        let origin = self.settings.origins.allowed(request.headers());
        let method = request.method().clone();
        let uri = request.uri().clone();
        let preflight = method == Method::OPTIONS && origin.is_some() && cors::is_preflight(request.headers());
        request.set_data(client.clone());
        request.set_data(self.state.clone());

        // Enabled at every level, so that each line within carries the id.
        let span = tracing::error_span!("request", request_id = client.request_id());
        let answered = self.answer(request, preflight).instrument(span.clone()).await;
        let response = span.in_scope(|| {
            let (mut response, route, code) = match answered {
                Ok((response, route)) => (response, route, None),
                Err(Failure { fault, route }) => {
                    fault.log();
                    (fault.answer(client.request_id()), route, Some(fault.code.code))
                }
            };
            self.dress(&mut response, &client, origin);
            let took = self.settings.clock.monotonic().saturating_sub(begun);
            tracing::info!(
                method = %Shown(method.as_str()),
                route = %Shown(route.as_ref().map_or_else(|| uri.path(), |route| &route.0)),
                status = response.status().as_u16(),
                code,
                micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                client = %client.address,
                "answered"
            );
            response
        });
        Ok(response)
    }
}

/// A client's text on one short line of the log.
struct Shown<'a>(&'a str);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MOST: usize = 200;
        let cut = self.0.char_indices().nth(MOST).map_or(self.0, |(end, _)| &self.0[..end]);
        if cut.bytes().all(|byte| byte.is_ascii_graphic()) {
            return f.write_str(cut);
        }
        cut.escape_debug().fmt(f)
    }
}

/// Logs the place of a panic and nothing else: its message may quote what somebody wrote.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Shown(text).to_string()
    }

    // R90
    #[test]
    fn a_path_is_one_short_line() {
        assert_eq!(shown("/users/:user_id"), "/users/:user_id");
        let odd = shown("/a\n\u{1b}[31m\u{2028}b");
        assert!(odd.is_ascii() && !odd.contains(['\n', '\u{1b}']), "{odd:?}");
        assert_eq!(shown(&"x".repeat(10_000)).len(), 200);
    }
}
