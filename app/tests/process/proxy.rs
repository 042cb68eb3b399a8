//! A wire that can be cut: a TCP proxy in front of a server, closed until it is opened.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::spawn;

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// It arrives.
    Whole,
    /// It arrives once the wire is whole again, as after lost packets.
    Silent,
    /// It never arrives, and nobody is told: as when a machine loses its power.
    Lost,
    /// Connections break, and new ones with them.
    Cut,
}

/// A proxy. It ends with its runtime.
pub(crate) struct Proxy {
    /// Where it is, or will be.
    pub(crate) address: SocketAddr,
    behind: String,
    wire: watch::Sender<Wire>,
    closed: Mutex<Option<TcpSocket>>,
}

impl Proxy {
    /// A port at which nobody listens, and which nobody else can have.
    pub(crate) fn closed(behind: impl Into<String>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        Self { address, behind: behind.into(), wire: watch::Sender::new(Wire::Whole), closed: Mutex::new(Some(socket)) }
    }

    /// Begins to listen.
    pub(crate) fn open(&self) {
        let listener = self.closed.lock().unwrap().take().unwrap().listen(1024).unwrap();
        let (behind, wire) = (self.behind.clone(), self.wire.clone());
        spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (behind, wire) = (behind.clone(), wire.subscribe());
                spawn(async move { drop(pass(client, &behind, wire).await) });
            }
        });
    }

    /// Sets what becomes of what is sent, from now on.
    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn pass(client: TcpStream, behind: &str, mut wire: watch::Receiver<Wire>) -> std::io::Result<()> {
    if matches!(*wire.borrow_and_update(), Wire::Silent | Wire::Lost) {
        // Taken by the system, and not answered.
        let _ = wire.wait_for(|wire| !matches!(wire, Wire::Silent | Wire::Lost)).await;
    }
    if *wire.borrow() == Wire::Cut {
        return Ok(());
    }
    let server = TcpStream::connect(behind).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = wire.clone();
    tokio::select! {
        done = pump(from_client, to_server, wire.clone()) => done,
        done = pump(from_server, to_client, wire) => done,
        _ = cut.wait_for(|wire| *wire == Wire::Cut) => Ok(()),
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) -> std::io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        let _ = wire.wait_for(|wire| *wire != Wire::Silent).await;
        if *wire.borrow() == Wire::Lost {
            // From now on neither end hears of the other, not even that it has gone.
            std::future::pending::<()>().await;
        }
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
