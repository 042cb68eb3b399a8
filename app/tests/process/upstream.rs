//! A server of models that does as it is told, in the protocol of OpenAI: numbered words at a pace, and then an end of some kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::spawn;

/// A running server. It ends with its runtime.
pub(crate) struct Upstream {
    /// Up to and with its `/v1`.
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    /// Answers that are being given.
    open: AtomicUsize,
    /// Answers that were asked for.
    asked: AtomicUsize,
    /// Lets those end that wait for it.
    released: Semaphore,
}

/// What a message asks for.
#[derive(Clone, Copy)]
struct Script {
    words: u64,
    pace: Duration,
    held: bool,
    refused: bool,
}

/// A message that is answered with so many words, each so many milliseconds after the one before.
pub(crate) fn count(words: u64, pace: u64) -> String {
    format!("count {words} {pace}")
}

/// The same; the answer is whole only after [`Upstream::release`].
pub(crate) fn count_and_hold(words: u64, pace: u64) -> String {
    format!("hold {words} {pace}")
}

/// A message whose answer goes on for longer than any test.
pub(crate) fn endless(pace: u64) -> String {
    count(1_000_000, pace)
}

/// A message that is refused; the refusal repeats the key.
pub(crate) const REFUSED: &str = "refuse 0 0";

/// The answer of so many words.
pub(crate) fn counted(words: u64) -> String {
    (0..words).map(word).collect()
}

fn word(number: u64) -> String {
    format!("{number} ")
}

impl Upstream {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let state =
            Arc::new(State { open: AtomicUsize::new(0), asked: AtomicUsize::new(0), released: Semaphore::new(0) });
        let serving = state.clone();
        spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let state = serving.clone();
                // A client that hangs up is no fault of the server.
                spawn(async move { drop(serve(connection, &state).await) });
            }
        });
        Self { url, state }
    }

    /// How many answers are being given.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// How many answers were asked for.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Lets the answers end that are held, now and ever after.
    pub(crate) fn release(&self) {
        self.state.released.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

struct Open<'a>(&'a State);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(mut connection: TcpStream, state: &State) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let (head, body) = read(&mut connection).await?;
    if head.starts_with("GET /v1/models ") {
        return answer(&mut connection, "200 OK", r#"{"object":"list","data":[{"id":"counter","object":"model"}]}"#)
            .await;
    }
    let script = script_of(&body);
    state.asked.fetch_add(1, Ordering::SeqCst);
    if script.refused {
        let key = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
        let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {key}","code":"invalid_api_key"}}}}"#);
        return answer(&mut connection, "401 Unauthorized", &body).await;
    }
    state.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(state);
    let (mut reader, mut writer) = connection.split();
    let mut byte = [0; 1];
    tokio::select! {
        // Whoever asked went away.
        _ = reader.read(&mut byte) => Ok(()),
        written = async {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").await?;
            for number in 0..script.words {
                let word = word(number);
                let chunk = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}"#);
                writer.write_all(format!("data: {chunk}\n\n").as_bytes()).await?;
                sleep(script.pace).await;
            }
            if script.held {
                let _ = state.released.acquire().await;
            }
            let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
            writer.write_all(format!("data: {end}\n\ndata: [DONE]\n\n").as_bytes()).await
        } => written,
    }
}

async fn answer(connection: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all((head + body).as_bytes()).await
}

/// What the last message says, whoever is named in front of it.
fn script_of(body: &str) -> Script {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = body["messages"].as_array().and_then(|all| all.last()).and_then(|last| last["content"].as_str());
    let words: Vec<&str> = text.unwrap_or_default().split_whitespace().collect();
    let told = words.windows(3).find_map(|told| match told {
        [what @ ("count" | "hold" | "refuse"), words, pace] => {
            Some((*what, words.parse().ok()?, Duration::from_millis(pace.parse().ok()?)))
        }
        _ => None,
    });
    let (what, words, pace) = told.unwrap_or(("count", 3, Duration::ZERO));
    Script { words, pace, held: what == "hold", refused: what == "refuse" }
}

/// Reads one request: its head, and its body.
async fn read(connection: &mut TcpStream) -> std::io::Result<(String, String)> {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match connection.read(&mut buffer).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&buffer[..read]),
        }
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if length.parse().is_ok_and(|length: usize| body.len() >= length) {
                return Ok((head.to_owned(), body.to_owned()));
            }
        }
    }
}
