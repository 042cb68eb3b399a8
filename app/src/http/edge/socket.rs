//! A socket that gives up on those who are too slow.
//!
//! hyper has one deadline for the head of a request, which also ends idle connections, and none for writing. This wrapper adds a short one from
//! the first byte of a head to its end, and one for a reader that takes nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Counts the beginnings and ends of a connection's requests: odd while one is served.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicU32>);

impl Progress {
    /// A head was read in full. The request is served until what comes back is dropped.
    pub(super) fn begin(&self) -> Serving {
        self.0.fetch_add(1, Ordering::Relaxed);
        Serving(self.clone())
    }

    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// That a request is being served.
pub(super) struct Serving(Progress);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A body that knows when it was sent.
pub(super) struct Served {
    body: BoxBody<Bytes, io::Error>,
    _serving: Serving,
}

impl Served {
    pub(super) const fn new(body: BoxBody<Bytes, io::Error>, serving: Serving) -> Self {
        Self { body, _serving: serving }
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A deadline that costs a timer only once somebody has to wait.
#[derive(Default)]
struct Deadline {
    due: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn set(&mut self, after: Duration) {
        *self = Self { due: Some(Instant::now() + after), timer: None };
    }

    fn set_once(&mut self, after: Duration) {
        if self.due.is_none() {
            self.set(after);
        }
    }

    fn clear(&mut self) {
        if self.due.is_some() {
            *self = Self::default();
        }
    }

    /// Ready with an error when it has passed; pending, and sure to wake the task, before.
    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(due) = self.due else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

pub(super) struct Socket {
    socket: TcpStream,
    progress: Progress,
    head_within: Duration,
    write_within: Duration,
    head: Deadline,
    /// What `progress` was when `head` was set: a head that has ended since has no deadline any more.
    head_of: u32,
    write: Deadline,
}

impl Socket {
    pub(super) fn new(socket: TcpStream, progress: Progress, head_within: Duration, write_within: Duration) -> Self {
        // Whoever connects and says nothing gets as long as for a head.
        let mut head = Deadline::default();
        head.set(head_within);
        Self { socket, progress, head_within, write_within, head, head_of: 0, write: Deadline::default() }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(result) => {
                self.write.clear();
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.write.set_once(self.write_within);
                self.write.poll(cx)
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buffer);
        let count = this.progress.count();
        if count != this.head_of {
            this.head.clear();
        }
        match read {
            Poll::Pending => this.head.poll(cx),
            Poll::Ready(read) => {
                let serving = count % 2 == 1;
                if !serving && buffer.filled().len() > before {
                    this.head.set_once(this.head_within);
                    this.head_of = count;
                }
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.wrote(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
