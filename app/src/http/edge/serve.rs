//! The accept loop: HTTP/1.1, with a deadline for everything a client can be slow at, and a cap on how many there are.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::socket::{Progress, Served, Socket};

/// How patient the server is, and with how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once; more wait in the system's queue.
    pub max_connections: usize,
    /// From the first byte of a request's head to its end, and for the first byte of a connection.
    pub head: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For a client that takes nothing of its answer.
    pub write: Duration,
    /// For running requests once the server stops.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

/// Serves until `stop`, then lets running requests end for as long as [`Settings::drain`]. Streams must end by themselves when the server stops.
///
/// # Errors
/// Where the listener has no address.
pub async fn serve<E: Endpoint + 'static>(
    listener: TcpListener,
    app: Arc<E>,
    settings: Settings,
    stop: CancellationToken,
) -> io::Result<()> {
    let here = listener.local_addr()?;
    let slots = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    accept_all(&listener, &slots, &stop, |socket, peer, slot| {
        let connection = connection(socket, (here, peer), app.clone(), settings, stop.clone());
        let cut = cut.clone();
        connections.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = cut.cancelled() => {}
            }
            drop(slot);
        });
    })
    .await;
    drop(listener);
    connections.close();
    if timeout(settings.drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "some requests did not end in time and are cut");
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn accept_all(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
    mut serve: impl FnMut(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit),
) {
    const LEAST_PAUSE: Duration = Duration::from_millis(5);
    const MOST_PAUSE: Duration = Duration::from_secs(1);
    let mut pause = LEAST_PAUSE;
    loop {
        // A slot first, so that those who don't fit wait in the system's queue and cost nothing.
        let accepted = tokio::select! {
            accepted = async {
                let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|(socket, peer)| (socket, peer, slot))
            } => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, peer, slot)) => {
                pause = LEAST_PAUSE;
                serve(socket, peer, slot);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                // Such as too many open files: it passes when connections end.
                tracing::warn!(%error, "connections can't be accepted for the moment");
                tokio::select! {
                    () = sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(MOST_PAUSE);
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

async fn connection<E: Endpoint>(
    socket: TcpStream,
    (here, peer): (SocketAddr, SocketAddr),
    app: Arc<E>,
    settings: Settings,
    stop: CancellationToken,
) {
    // Events are small and must not wait for company. A socket that is closed already fails at its first use.
    let _ = socket.set_nodelay(true);
    let progress = Progress::default();
    let io = TokioIo::new(Socket::new(socket, progress.clone(), settings.head, settings.write));
    let (here, peer) = (LocalAddr(Addr::socket(here)), RemoteAddr(Addr::socket(peer)));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let serving = progress.begin();
        let app = app.clone();
        let request = poem::Request::from((request, here.clone(), peer.clone(), Scheme::HTTP));
        async move {
            // hyper keeps the place of this future for as long as the connection lives: what answers is boxed, so that it is gone once an answer
            // streams.
            let response: hyper::Response<BoxBody<bytes::Bytes, io::Error>> =
                Box::pin(async move { app.get_response(request).await }).await.into();
            Ok::<_, Infallible>(response.map(|body| Served::new(body, serving)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.idle)
        .max_buf_size(64 << 10)
        .serve_connection(io, service);
    tokio::pin!(connection);
    // What goes wrong with a connection is its client's doing, and is over with it.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
