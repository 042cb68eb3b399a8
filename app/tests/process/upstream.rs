//! A server of models that does as it is told, in the protocol of OpenAI: numbered words at a pace, and then an end of some kind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
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
    /// What was told with each answer that was asked for.
    prompts: Mutex<Vec<Vec<Told>>>,
    /// Titles that were asked for.
    titles: AtomicUsize,
    /// Titles that are being made.
    open_titles: AtomicUsize,
    /// How many bytes it takes to be told.
    context: AtomicUsize,
    /// Lets those answers end that wait for it.
    released: Semaphore,
    /// Lets titles be given.
    titled: Semaphore,
}

/// One turn of a conversation, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whose.
    pub(crate) role: String,
    /// What.
    pub(crate) content: String,
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

/// The title that it gives to every chat.
pub(crate) const TITLE: &str = "Counting to a number";

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
        let state = Arc::new(State {
            open: AtomicUsize::new(0),
            prompts: Mutex::default(),
            titles: AtomicUsize::new(0),
            open_titles: AtomicUsize::new(0),
            context: AtomicUsize::new(usize::MAX),
            released: Semaphore::new(0),
            titled: Semaphore::new(Semaphore::MAX_PERMITS / 2),
        });
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
        self.state.prompts.lock().unwrap().len()
    }

    /// What was told with each answer that was asked for, in the order in which they were.
    pub(crate) fn prompts(&self) -> Vec<Vec<Told>> {
        self.state.prompts.lock().unwrap().clone()
    }

    /// How many titles were asked for.
    pub(crate) fn titles(&self) -> usize {
        self.state.titles.load(Ordering::SeqCst)
    }

    /// How many titles are being made.
    pub(crate) fn open_titles(&self) -> usize {
        self.state.open_titles.load(Ordering::SeqCst)
    }

    /// Takes no more than so many bytes to be told, from now on.
    pub(crate) fn limit_context(&self, bytes: usize) {
        self.state.context.store(bytes, Ordering::SeqCst);
    }

    /// Lets titles be asked for, and gives none until [`give_titles`](Self::give_titles).
    pub(crate) fn hold_titles(&self) {
        self.state.titled.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Gives titles, now and ever after.
    pub(crate) fn give_titles(&self) {
        self.state.titled.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets the answers end that are held, now and ever after.
    pub(crate) fn release(&self) {
        self.state.released.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

/// Counts one of those that are being made.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn one_more(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(mut connection: TcpStream, state: &State) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let (head, body) = read(&mut connection).await?;
    if head.starts_with("GET /v1/models ") {
        return answer(&mut connection, "200 OK", r#"{"object":"list","data":[{"id":"counter","object":"model"}]}"#)
            .await;
    }
    let told = told(&body);
    if told.iter().any(|turn| turn.content.starts_with("Give the following conversation a title")) {
        return entitle(connection, state).await;
    }
    let script = script_of(told.last().map_or("", |last| &last.content));
    let bytes: usize = told.iter().map(|turn| turn.content.len()).sum();
    state.prompts.lock().unwrap().push(told);
    let most = state.context.load(Ordering::SeqCst);
    if bytes > most {
        let why = format!("This model's maximum context length is {most} tokens.");
        let body = format!(r#"{{"error":{{"message":"{why}","code":"context_length_exceeded"}}}}"#);
        return answer(&mut connection, "400 Bad Request", &body).await;
    }
    if script.refused {
        let key = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
        let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {key}","code":"invalid_api_key"}}}}"#);
        return answer(&mut connection, "401 Unauthorized", &body).await;
    }
    let _open = Open::one_more(&state.open);
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

/// Gives a title, at once or when it may.
async fn entitle(mut connection: TcpStream, state: &State) -> std::io::Result<()> {
    state.titles.fetch_add(1, Ordering::SeqCst);
    let _open = Open::one_more(&state.open_titles);
    let (mut reader, mut writer) = connection.split();
    let mut byte = [0; 1];
    tokio::select! {
        // Whoever asked went away.
        _ = reader.read(&mut byte) => Ok(()),
        written = async {
            let _ = state.titled.acquire().await;
            let said = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"\"{TITLE}.\""}},"finish_reason":"stop"}}]}}"#);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            writer.write_all(format!("{head}data: {said}\n\ndata: [DONE]\n\n").as_bytes()).await
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

/// What is told in a request.
fn told(body: &str) -> Vec<Told> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let turn = |turn: &Value| Told { role: text(&turn["role"]), content: text(&turn["content"]) };
    body["messages"].as_array().map(|turns| turns.iter().map(turn).collect()).unwrap_or_default()
}

/// What the last message says, whoever is named in front of it, and whatever was said before it in the same turn.
fn script_of(text: &str) -> Script {
    let words: Vec<&str> = text.split_whitespace().collect();
    let told = words.windows(3).rev().find_map(|told| match told {
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
