//! A server of models that answers as llama.cpp and vLLM once did, from recordings: whatever the machine, both can be asked.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::contract::inference::{FOREVER, REFUSED_KEY, THINK};

/// How many answers it makes at a time, as a real server does.
const SLOTS: usize = 4;

/// Starts a server that answers like `recorded`, a folder of `tests/data/openai`, and gives its address up to and with its `/v1`. It ends with
/// its runtime.
///
/// The last message decides: one that holds [`THINK`] is thought about, one that holds [`FOREVER`] is answered without an end, and
/// [`REFUSED_KEY`] is not let in.
pub async fn start(recorded: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let slots = Arc::new(Semaphore::new(SLOTS));
    spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            // A client that hangs up is no fault of the server.
            let slots = slots.clone();
            spawn(async move { drop(serve(connection, recorded, &slots).await) });
        }
    });
    format!("http://{address}/v1")
}

#[expect(clippy::disallowed_methods, reason = "the server ends with the runtime of its test")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

async fn serve(mut connection: TcpStream, recorded: &str, slots: &Semaphore) -> std::io::Result<()> {
    let request = read(&mut connection).await?;
    if request.contains(REFUSED_KEY) {
        // Some servers repeat the key in their answer.
        let body = format!("{{\"error\": {{\"message\": \"Incorrect API key provided: {REFUSED_KEY}\"}}}}");
        let head = format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        return connection.write_all((head + &body).as_bytes()).await;
    }
    if request.starts_with("GET /v1/models ") {
        return connection.write_all(&recording(recorded, "models")).await;
    }
    if !request.starts_with("POST /v1/chat/completions ") {
        return connection.write_all(&recording(recorded, "unknown-path")).await;
    }
    let Ok(_slot) = slots.acquire().await else { return Ok(()) };
    if request.contains(FOREVER) {
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await?;
        loop {
            connection.write_all(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tick \"}}]}\n\n").await?;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    let case = if request.contains(THINK) { "reasoning-stream" } else { "chat-stream-usage" };
    connection.write_all(&recording(recorded, case)).await
}

/// Reads one request to the end of its body.
async fn read(connection: &mut TcpStream) -> std::io::Result<String> {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match connection.read(&mut buffer).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&buffer[..read]),
        }
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_none_or(|length| length.parse().is_ok_and(|length: usize| body.len() >= length)) {
                return Ok(text.into_owned());
            }
        }
    }
}

/// A recorded answer as it is sent again: its transfer coding is undone, so that it ends with the connection.
fn recording(recorded: &str, case: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/openai/{recorded}/{case}.http"));
    let bytes = std::fs::read(file).expect("a recording");
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head and a body");
    let head = String::from_utf8_lossy(&bytes[..split]);
    let kept = head.split("\r\n").filter(|line| {
        let line = line.to_ascii_lowercase();
        !["transfer-encoding", "keep-alive", "connection"].iter().any(|name| line.starts_with(name))
    });
    let head: String = kept.map(|line| format!("{line}\r\n")).collect();
    [(head + "Connection: close\r\n\r\n").as_bytes(), &bytes[split + 4..]].concat()
}
