//! Server-sent events, as the WHATWG HTML standard defines them (section 9.2).

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use poem::http::header::{self, HeaderName, HeaderValue};
use poem::{Body, FromRequest, IntoResponse, Request, RequestBody, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::json::success;

const EVENT_STREAM: &str = "text/event-stream";
/// Clients are promised a sign of life at least every 15 s.
const BEAT: Duration = Duration::from_secs(14);
/// How many bytes of frames may go out in one piece.
const PIECE: usize = 16 << 10;
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// One event as bytes. Without data it only moves the client's cursor. The data is JSON, which has no line breaks.
#[must_use]
pub fn frame(id: Option<u64>, event: &str, data: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(data.len() + event.len() + 48);
    if let Some(id) = id {
        bytes.extend_from_slice(b"id: ");
        bytes.extend_from_slice(id.to_string().as_bytes());
        bytes.push(b'\n');
    }
    if !data.is_empty() {
        bytes.extend_from_slice(b"event: ");
        bytes.extend_from_slice(event.as_bytes());
        for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.extend_from_slice(b"\ndata: ");
            bytes.extend_from_slice(line);
        }
        bytes.push(b'\n');
    }
    bytes.push(b'\n');
    bytes.into()
}

/// An answer of events of type `T`, which only the document needs to know.
///
/// It ends with its frames or with `stop`, and says `: keep-alive` in between.
pub struct EventStream<T> {
    live: Live,
    event: PhantomData<fn() -> T>,
}

impl<T> EventStream<T> {
    /// Each item is one frame or several, whole.
    pub fn new(frames: impl Stream<Item = Bytes> + Send + 'static, stop: CancellationToken) -> Self {
        Self::beating(frames, stop, BEAT)
    }

    fn beating(frames: impl Stream<Item = Bytes> + Send + 'static, stop: CancellationToken, every: Duration) -> Self {
        let mut beat = interval_at(tokio::time::Instant::now() + every, every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let live = Live { frames: Box::pin(frames.fuse()), beat, stop: Box::pin(stop.cancelled_owned()) };
        Self { live, event: PhantomData }
    }
}

struct Live {
    frames: BoxStream<'static, Bytes>,
    beat: Interval,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Live {
    /// One piece in place of many, for the sake of whoever reads it: each piece has a header of its own.
    fn with_all_that_is_ready(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut piece = BytesMut::new();
        while let Poll::Ready(Some(frame)) = self.frames.poll_next_unpin(cx) {
            if piece.is_empty() {
                piece.extend_from_slice(&first);
            }
            piece.extend_from_slice(&frame);
            if piece.len() >= PIECE {
                break;
            }
        }
        if piece.is_empty() { first } else { piece.freeze() }
    }
}

impl Stream for Live {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Poll::Ready(first) = self.frames.poll_next_unpin(cx) {
            return Poll::Ready(first.map(|first| Ok(self.with_all_that_is_ready(first, cx))));
        }
        if self.beat.poll_tick(cx).is_ready() {
            return Poll::Ready(Some(Ok(KEEP_ALIVE)));
        }
        self.stop.as_mut().poll(cx).map(|()| None)
    }
}

impl<T> IntoResponse for EventStream<T> {
    fn into_response(self) -> Response {
        let mut response = Response::builder().content_type(EVENT_STREAM).body(Body::from_bytes_stream(self.live));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        // Proxies that gather answers would keep the events back.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        response
    }
}

impl<T: Type> ApiResponse for EventStream<T> {
    fn meta() -> MetaResponses {
        let schema = MetaSchema { items: Some(Box::new(T::schema_ref())), ..MetaSchema::new("array") };
        let content = MetaMediaType { content_type: EVENT_STREAM, schema: MetaSchemaRef::Inline(Box::new(schema)) };
        MetaResponses { responses: vec![success(200, vec![content])] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// One answer or the events that lead to it, as the request's `Accept` says.
pub enum OrEvents<A, T> {
    /// The answer.
    Whole(A),
    /// The events.
    Live(EventStream<T>),
}

impl<A: IntoResponse, T: Send> IntoResponse for OrEvents<A, T> {
    fn into_response(self) -> Response {
        match self {
            Self::Whole(answer) => answer.into_response(),
            Self::Live(events) => events.into_response(),
        }
    }
}

impl<A: ApiResponse, T: Type> ApiResponse for OrEvents<A, T> {
    fn meta() -> MetaResponses {
        let mut meta = A::meta();
        for live in EventStream::<T>::meta().responses {
            match meta.responses.iter_mut().find(|response| response.status == live.status) {
                Some(same) => same.content.extend(live.content),
                None => meta.responses.push(live),
            }
        }
        meta
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
        EventStream::<T>::register(registry);
    }
}

/// Whether the client asks for events: `Accept: text/event-stream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantsEvents(pub bool);

impl<'a> FromRequest<'a> for WantsEvents {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let ranges = request.headers().get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        Ok(Self(ranges.flat_map(|accept| accept.split(',')).any(names_events)))
    }
}

/// Only by name: `*/*` is what clients send that have no opinion.
fn names_events(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let named = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(EVENT_STREAM));
    named && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[test]
    fn frames_are_what_an_event_source_reads() {
        assert_eq!(frame(Some(7), "chat.updated", b"{}"), "id: 7\nevent: chat.updated\ndata: {}\n\n");
        assert_eq!(frame(None, "message.delta", b"{}"), "event: message.delta\ndata: {}\n\n");
        assert_eq!(frame(Some(7), "", b""), "id: 7\n\n");
        assert_eq!(frame(None, "x", b"a\nb"), "event: x\ndata: a\ndata: b\n\n");
    }

    // R102
    #[tokio::test]
    async fn silence_is_broken_in_time_and_stop_ends_it() {
        const EVERY: Duration = Duration::from_millis(20);
        let stop = CancellationToken::new();
        let mut live = EventStream::<String>::beating(stream::pending(), stop.clone(), EVERY).live;
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(live.next().await.unwrap().unwrap(), KEEP_ALIVE);
        }
        assert!(begun.elapsed() >= EVERY * 3 && begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        stop.cancel();
        assert!(live.next().await.is_none());
    }

    #[test]
    fn the_promised_sign_of_life_comes_within_fifteen_seconds() {
        assert!(BEAT < Duration::from_secs(15));
    }

    async fn pieces(frames: impl Stream<Item = Bytes> + Send + 'static) -> Vec<Bytes> {
        let live = EventStream::<String>::new(frames, CancellationToken::new()).live;
        live.map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn ends_with_its_frames() {
        assert_eq!(pieces(stream::iter([frame(Some(1), "a", b"1")])).await, ["id: 1\nevent: a\ndata: 1\n\n"]);
    }

    #[tokio::test]
    async fn what_is_ready_goes_out_in_one_piece_and_nothing_waits_for_more() {
        let (all, later) = (["1", "2", "3"].map(|data| frame(None, "a", data.as_bytes())), frame(None, "b", b"4"));
        let yielded = stream::once(async {
            tokio::task::yield_now().await;
            frame(None, "b", b"4")
        });
        assert_eq!(pieces(stream::iter(all.clone()).chain(yielded)).await, [all.concat(), later.to_vec()]);
        let long = stream::iter(vec![Bytes::from_static(&[b'x'; PIECE]); 3]);
        assert_eq!(pieces(long).await.iter().map(Bytes::len).collect::<Vec<_>>(), [2 * PIECE, PIECE]);
    }

    #[test]
    fn only_those_who_name_events_get_them() {
        for (range, wanted) in [
            ("text/event-stream", true),
            (" Text/Event-Stream;q=0.9", true),
            ("text/event-stream;q=0", false),
            ("*/*", false),
            ("application/json", false),
        ] {
            assert_eq!(names_events(range), wanted, "{range}");
        }
    }
}
