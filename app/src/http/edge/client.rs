//! Who is at the other end: their address, what they call themselves, and the id of their request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poem::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use poem::{Addr, FromRequest, Request, RequestBody};
use private_chat_core::model::session::Device;
use uuid::Uuid;

use super::fault::Fault;
use crate::config::Network;

/// Carries the id of a request, in both directions.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A body may have so many bytes where the caller was let in.
const KNOWN_CALLER: usize = 1 << 20;
/// A body may have so many bytes as long as nobody was.
const ANYBODY: usize = 16 << 10;

/// The other end of a request. Handlers and guards take it as `&Client`; the document says nothing of it.
#[derive(Debug)]
pub struct Client {
    /// Their IP address: the socket's, or what a trusted proxy says it is.
    pub address: IpAddr,
    request_id: HeaderValue,
    user_agent: Option<HeaderValue>,
    admitted: AtomicBool,
    body_within: Duration,
}

impl Client {
    pub(super) fn new(
        request: &Request,
        proxies: &Proxies,
        body_within: Duration,
        new_id: impl FnOnce() -> Uuid,
    ) -> Self {
        let headers = request.headers();
        let peer = match &request.remote_addr().0 {
            Addr::SocketAddr(peer) => peer.ip().to_canonical(),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        Self {
            address: proxies.client(peer, headers),
            request_id: request_id(headers, new_id),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            admitted: AtomicBool::new(false),
            body_within,
        }
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    pub(super) const fn request_id_header(&self) -> &HeaderValue {
        &self.request_id
    }

    /// What the client calls itself: at most 512 bytes, without control characters.
    #[must_use]
    pub fn user_agent(&self) -> String {
        let Some(sent) = &self.user_agent else { return String::new() };
        let text = String::from_utf8_lossy(sent.as_bytes());
        let mut kept = String::new();
        for c in text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')) {
            if kept.len() + c.len_utf8() > 512 {
                break;
            }
            kept.push(c);
        }
        kept
    }

    /// The device, as sessions remember it.
    #[must_use]
    pub fn device(&self) -> Device {
        Device { address: self.address.to_string(), user_agent: self.user_agent() }
    }

    /// A guard knows the caller by now, so that they may send more.
    pub(super) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// A fault of ours: everything passes the edge.
    pub(super) fn of(request: &Request) -> Result<&Self, Fault> {
        let passed = request.data::<Arc<Self>>().map(AsRef::as_ref);
        passed.ok_or_else(|| Fault::internal("the request did not pass the edge"))
    }

    /// How many bytes the body of this request may have.
    pub(super) fn body_limit(&self) -> usize {
        if self.admitted.load(Ordering::Relaxed) { KNOWN_CALLER } else { ANYBODY }
    }

    /// How long a body may take before its rate counts.
    pub(super) const fn body_within(&self) -> Duration {
        self.body_within
    }
}

impl<'a> FromRequest<'a> for &'a Client {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Client::of(request)?)
    }
}

/// Keeps an id that somebody before us gave, if it is well-formed: 8 to 128 of `A-Z a-z 0-9 - _ .`.
fn request_id(headers: &HeaderMap, new_id: impl FnOnce() -> Uuid) -> HeaderValue {
    let well_formed = |value: &&HeaderValue| {
        (8..=128).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if let Some(kept) = headers.get(X_REQUEST_ID).filter(well_formed) {
        return kept.clone();
    }
    let mut buffer = Uuid::encode_buffer();
    let text: &str = new_id().hyphenated().encode_lower(&mut buffer);
    // Hexadecimal digits and hyphens always make a header.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown-id"))
}

/// The proxies whose `X-Forwarded-For` is believed. None, unless configured.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Those in these networks.
    #[must_use]
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The right-most address that is no trusted proxy's: what stands left of it, its sender could have made up.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(peer) {
            return peer;
        }
        let mut nearest = peer;
        let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok()).collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(address) = hop_address(hop.trim()) else { break };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        nearest
    }
}

/// Some proxies add a port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().or_else(|_| hop.parse::<std::net::SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap())).collect()
    }

    fn seen(proxies: &[&str], peer: &str, lines: &[&str]) -> String {
        let proxies = Proxies::new(proxies.iter().map(|network| network.parse().unwrap()).collect());
        proxies.client(peer.parse().unwrap(), &forwarded(lines)).to_string()
    }

    // R10
    #[test]
    fn nobody_chooses_their_own_address() {
        assert_eq!(seen(&[], "9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(seen(&["10.0.0.0/8"], "9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(seen(&["10.0.0.0/8"], "10.1.1.1", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(seen(&["10.0.0.0/8"], "10.1.1.1", &["6.6.6.6, 1.2.3.4, 10.2.2.2"]), "1.2.3.4");
        assert_eq!(seen(&["10.0.0.0/8"], "10.1.1.1", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(seen(&["10.0.0.0/8"], "10.1.1.1", &["1.2.3.4, nonsense"]), "10.1.1.1");
        assert_eq!(seen(&["10.0.0.0/8"], "10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(seen(&["::1"], "::1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(seen(&["0.0.0.0/0"], "9.9.9.9", &["8.8.8.8"]), "8.8.8.8");
    }

    #[test]
    fn keeps_well_formed_request_ids_only() {
        let kept = |id: &str| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap())]);
            request_id(&headers, Uuid::nil) == id
        };
        assert!(kept("abc-DEF_1.9") && kept(&"a".repeat(128)) && kept("12345678"));
        for bad in ["1234567", &"a".repeat(129), "with space", "semi;colon", "quote\"quote", "größer-als"] {
            assert!(!kept(bad), "{bad}");
        }
    }

    // R90
    #[test]
    fn what_a_client_calls_itself_is_one_short_line() {
        let client = |agent: &[u8]| Client {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            request_id: HeaderValue::from_static("12345678"),
            user_agent: HeaderValue::from_bytes(agent).ok(),
            admitted: AtomicBool::new(false),
            body_within: Duration::ZERO,
        };
        assert_eq!(client("a\tb\u{2028}c\u{9b}d".as_bytes()).user_agent(), "abcd");
        assert_eq!(client("é".repeat(400).as_bytes()).user_agent(), "é".repeat(256));
        assert_eq!(client(b"\xff").user_agent(), "\u{fffd}");
    }
}
