//! Reads a request's body within its size and in its time.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use poem::http::header;
use poem::{Request, RequestBody};
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::fault::{Fault, codes};

/// So many bytes buy a second more.
const LEAST_RATE: u64 = 1024;

/// The whole body.
///
/// # Errors
/// `too_large` by what `Content-Length` says or by what comes, `request_timeout` where it comes too slowly, `malformed` where it breaks off.
pub(super) async fn read(request: &Request, body: &mut RequestBody) -> Result<Bytes, Fault> {
    let client = Client::of(request)?;
    let limit = client.body_limit();
    let declared = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let body = body.take().map_err(Fault::internal)?;
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let mut body: BoxBody<Bytes, io::Error> = body.into();
    let started = Instant::now();
    let mut whole = Bytes::new();
    let mut several = BytesMut::new();
    loop {
        let received = whole.len().max(several.len());
        let bought = Duration::from_millis(received as u64 * 1000 / LEAST_RATE);
        let frame = match timeout_at(started + client.body_within() + bought, body.frame()).await {
            Err(_) => return Err(Fault::new(&codes::REQUEST_TIMEOUT).closing()),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Fault::new(&codes::MALFORMED).saying("The body of the request broke off.").closing());
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if received + data.len() > limit {
            return Err(too_large(limit));
        }
        if whole.is_empty() && several.is_empty() {
            // Most bodies come in one piece, which is not copied.
            whole = data;
        } else {
            several.extend_from_slice(&std::mem::take(&mut whole));
            several.extend_from_slice(&data);
        }
    }
    Ok(if several.is_empty() { whole } else { several.freeze() })
}

fn too_large(limit: usize) -> Fault {
    Fault::new(&codes::TOO_LARGE)
        .saying(format!("The body of the request is too large; here it may have {limit} bytes."))
        .closing()
}
