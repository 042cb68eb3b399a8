//! The adapter against servers that do as they are told.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use private_chat_core::model::chat::Parameters;
use private_chat_core::model::chat::Speaker;
use private_chat_core::port::inference::{Piece, PromptMessage, Provider};
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::*;
use crate::PROVIDER_KINDS;
use crate::provider::open;

pub(super) const SERVERS: [&str; 2] = ["llama.cpp", "vllm"];

/// What the recorded servers' model recites.
pub(super) const TEXT: &str = "Hello! I am a small scripted model, and this is all that I'll ever say.\n\nCafé 語 🦀\n\n\
    - **bold** item\n- second item\n\n```rust\nfn main() {\n    println!(\"hi\");\n}\n```";

const KEY: &str = "sk-canary-0123456789";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const HI: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const DONE: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// An answer that a server gave once.
pub(super) struct Recorded {
    pub(super) status: StatusCode,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

pub(super) fn recorded(server: &str, case: &str) -> Recorded {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/data/openai/{server}/{case}.http"));
    let bytes = std::fs::read(file).unwrap();
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..split]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    // The recording has undone the transfer coding, so that its body ends with the connection.
    let head: String = head
        .split("\r\n")
        .filter(|line| !line.to_ascii_lowercase().starts_with("transfer-encoding"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    Recorded { status, head: head + "\r\n", body: bytes[split + 4..].to_vec() }
}

pub(super) fn said(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .filter_map(|piece| if let Piece::Content(text) = piece { Some(text.as_str()) } else { None })
        .collect()
}

pub(super) fn thought(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .filter_map(|piece| if let Piece::Reasoning(text) = piece { Some(text.as_str()) } else { None })
        .collect()
}

/// What a scripted server does once it has read a request.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    /// The same, byte by byte.
    Trickle(Vec<u8>),
    /// Sends without an end, until the client is gone.
    Flood(Vec<u8>),
    /// Ends its own half of the connection and reads on.
    HalfClose,
    /// Breaks the connection in place of closing it.
    Reset,
    /// Stays until the client is gone.
    Hold,
}

fn send(text: impl AsRef<[u8]>) -> Step {
    Step::Send(text.as_ref().to_vec())
}

/// What a scripted server has seen.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request(String),
    /// The client has hung up, after it was sent so many bytes.
    Gone(usize),
}

struct Server {
    address: SocketAddr,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Server {
    /// Starts a server that does the same for every request, each on a connection of its own.
    #[expect(clippy::disallowed_methods, reason = "the test ends with its runtime, and the server with it")]
    async fn start(steps: impl Into<Vec<Step>>) -> Self {
        let steps = steps.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (report, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(perform(connection, steps.clone(), report.clone()));
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    async fn request(&mut self) -> String {
        match self.seen.recv().await {
            Some(Seen::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }
}

async fn perform(mut connection: TcpStream, steps: Vec<Step>, report: mpsc::UnboundedSender<Seen>) {
    let mut request = Vec::new();
    let whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        (body.len() >= length.parse().unwrap()).then(|| text.clone())
    };
    let request = loop {
        let mut buffer = [0; 4096];
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
        if let Some(request) = whole(&request) {
            break request;
        }
    };
    let _ = report.send(Seen::Request(request));
    let mut sent = 0;
    for step in steps {
        let done = match step {
            Step::Send(bytes) => {
                sent += bytes.len();
                connection.write_all(&bytes).await
            }
            Step::Trickle(bytes) => {
                async {
                    connection.set_nodelay(true)?;
                    for byte in bytes {
                        connection.write_all(&[byte]).await?;
                        tokio::task::yield_now().await;
                    }
                    Ok(())
                }
                .await
            }
            Step::Flood(bytes) => loop {
                match connection.write_all(&bytes).await {
                    Ok(()) => sent += bytes.len(),
                    Err(error) => break Err(error),
                }
            },
            Step::HalfClose => connection.shutdown().await,
            Step::Reset => connection.set_zero_linger(),
            Step::Hold => match connection.read(&mut [0]).await {
                Ok(0) => Err(std::io::ErrorKind::ConnectionReset.into()),
                other => other.map(|_| ()),
            },
        };
        if done.is_err() {
            let _ = report.send(Seen::Gone(sent));
            return;
        }
    }
}

fn provider(kind: &str, base_url: &str) -> Provider {
    let mut config = ProviderConfig::of_kind(kind);
    config.base_url = Some(base_url.to_owned());
    config.api_key = Some(Secret::new(KEY));
    open(PROVIDER_KINDS, "mine", &config).unwrap()
}

fn completion() -> Completion {
    Completion {
        model: "tiny-script".to_owned(),
        messages: vec![PromptMessage { speaker: Speaker::User, content: "Hi".to_owned() }],
        parameters: Parameters::default(),
    }
}

/// The whole answer of the server at this address. It never takes longer than the adapter may take to notice that nothing is there.
async fn ask(base_url: &str) -> (Vec<Piece>, Result<(), InferenceFailure>) {
    let whole = async {
        let mut pieces = Vec::new();
        let mut answer = match provider("openai", base_url).inference.stream(completion()).await {
            Ok(answer) => answer,
            Err(failure) => return (pieces, Err(failure)),
        };
        while let Some(piece) = answer.next().await {
            match piece {
                Ok(piece) => pieces.push(piece),
                Err(failure) => {
                    assert!(answer.next().await.is_none(), "something came after {failure:?}");
                    return (pieces, Err(failure));
                }
            }
        }
        (pieces, Ok(()))
    };
    timeout(Duration::from_secs(6), whole).await.expect("an answer or a failure within six seconds")
}

/// How asking a server of this script fails, and what was said until then. Whatever it is, it shows neither the key nor the address.
async fn failure(steps: impl Into<Vec<Step>>) -> (String, InferenceFailure) {
    let server = Server::start(steps).await;
    let (pieces, end) = ask(&server.url()).await;
    let failure = end.expect_err("the answer ended well");
    let shown = format!("{failure} {failure:?}");
    assert!(!shown.contains("canary") && !shown.contains("127.0.0.1"), "{shown}");
    (said(&pieces), failure)
}

#[tokio::test]
async fn recorded_answers_come_whole_through_a_socket_that_sends_byte_by_byte() {
    for name in SERVERS {
        let recorded = recorded(name, "chat-stream-usage");
        let server = Server::start([send(recorded.head), Step::Trickle(recorded.body)]).await;
        let (pieces, end) = ask(&server.url()).await;
        assert_eq!((said(&pieces).as_str(), end), (TEXT, Ok(())), "{name}");
    }
}

#[tokio::test]
async fn recorded_errors_are_told_apart_through_a_socket() {
    for (name, case, fault) in [
        ("llama.cpp", "unauthorized", ReplyFault::ProviderMisconfigured),
        ("vllm", "unauthorized", ReplyFault::ProviderMisconfigured),
        ("vllm", "unknown-model-stream", ReplyFault::ModelUnavailable),
        ("vllm", "prompt-too-long-stream", ReplyFault::PromptTooLong),
    ] {
        let recorded = recorded(name, case);
        let (said, failure) = failure([send(recorded.head), send(recorded.body)]).await;
        assert_eq!((said.as_str(), failure.fault, failure.cut_off), ("", fault, false), "{name} {case}");
    }
}

#[tokio::test]
async fn a_request_goes_to_the_configured_routes_with_the_key() {
    let mut server = Server::start([send(OK), send(DONE)]).await;
    for (kind, path, route) in [
        ("openai", "/v1", "/v1"),
        ("openai", "/v1/", "/v1"),
        ("openai", "/gateway", "/gateway"),
        ("vllm", "", "/v1"),
        ("vllm", "/", "/v1"),
        ("vllm", "/v1", "/v1"),
        ("vllm", "/gpu/v1/", "/gpu/v1"),
        ("vllm", "/gpu", "/gpu/v1"),
    ] {
        let provider = provider(kind, &format!("http://{}{path}", server.address));
        provider.inference.stream(completion()).await.map(|_| ()).unwrap();
        let request = server.request().await;
        assert!(
            request.starts_with(&format!("POST {route}/chat/completions HTTP/1.1\r\n")),
            "{kind} {path}: {request}"
        );
        assert!(request.contains(&format!("authorization: Bearer {KEY}\r\n")), "{request}");
        assert!(
            request.contains("\"model\":\"tiny-script\"") && request.contains("content-type: application/json\r\n"),
            "{request}"
        );

        let _ = provider.inference.models().await;
        let request = server.request().await;
        assert!(request.starts_with(&format!("GET {route}/models HTTP/1.1\r\n")), "{kind} {path}: {request}");
    }
}

#[test]
fn openai_itself_is_asked_in_its_own_words() {
    for (url, limit) in [
        ("https://api.openai.com/v1", TokenLimit::MaxCompletionTokens),
        ("https://mine.openai.azure.com/openai/v1", TokenLimit::MaxCompletionTokens),
        ("https://notopenai.com/v1", TokenLimit::MaxTokens),
        ("https://openai.com.evil.example/v1", TokenLimit::MaxTokens),
        ("http://gpu:8000/v1", TokenLimit::MaxTokens),
    ] {
        assert_eq!(OpenAi::new(&Url::parse(url).unwrap(), None).unwrap().limit, limit, "{url}");
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_unreachable() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = taken.local_addr().unwrap();
    drop(taken);
    // It takes connections and then says nothing, so that TLS never agrees.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = Server::start([send("HTTP/1.1 400 Bad Request\r\n\r\n")]).await;
    for url in [
        format!("http://{closed}/v1"),
        "http://no-such-host.invalid/v1".to_owned(),
        format!("https://{}/v1", silent.local_addr().unwrap()),
        format!("https://{}/v1", plain.address),
    ] {
        let (_, end) = ask(&url).await;
        let failure = end.unwrap_err();
        assert_eq!((failure.fault, failure.cut_off), (ReplyFault::ProviderUnreachable, false), "{url}");
        assert!(!failure.to_string().contains("127.0.0.1") && !failure.to_string().contains("invalid"), "{failure}");
    }
}

#[tokio::test]
async fn a_key_that_a_provider_repeats_is_not_shown() {
    for status in ["400 Bad", "401 No", "403 No", "404 No", "429 Slow", "500 Oh", "302 There"] {
        let body = format!("{{\"error\": {{\"message\": \"bad key {KEY} at 127.0.0.1\", \"code\": \"{KEY}\"}}}}");
        let head = format!(
            "HTTP/1.1 {status} {KEY}\r\nLocation: http://127.0.0.1/{KEY}\r\nRetry-After: {KEY}\r\nConnection: close\r\n\r\n"
        );
        failure([send(head), send(body)]).await;
    }
    failure([send(OK), send(format!("data: {{\"error\": \"{KEY}\"}}\n\n"))]).await;
    failure([send(OK), send(format!("data: {KEY}\n\n"))]).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut elsewhere = Server::start([send(OK), send(HI), send(DONE)]).await;
    let head =
        format!("HTTP/1.1 307 There\r\nLocation: {}/chat/completions\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    let (_, failure) = failure([send(head)]).await;
    assert_eq!(failure.fault, ReplyFault::ProviderMisconfigured);
    assert!(elsewhere.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_connection_that_ends_before_an_answer_is_a_failure() {
    for steps in [vec![], vec![Step::Reset], vec![send("HTTP/1.1 200 OK\r\nContent-Ty")]] {
        let (_, failure) = failure(steps).await;
        assert_eq!((failure.fault, failure.cut_off), (ReplyFault::ConnectionLost, false));
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_cuts_the_answer_off() {
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{HI}\r\n", HI.len());
    let counted = format!("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{HI}");
    for steps in [
        vec![send(OK), send(HI)],
        vec![send(OK), send(HI), send("data: {\"choices\"")],
        vec![send(OK), send(HI), Step::HalfClose, Step::Hold],
        vec![send(&chunked)],
        vec![send(&chunked), send("zz\r\n")],
        vec![send(&counted)],
    ] {
        let (said, failure) = failure(steps.clone()).await;
        assert_eq!(
            (said.as_str(), failure.fault, failure.cut_off),
            ("Hi", ReplyFault::ConnectionLost, true),
            "{steps:?}"
        );
    }
    let (_, failure) = failure([send(OK), send(HI), Step::Reset]).await;
    assert_eq!((failure.fault, failure.cut_off), (ReplyFault::ConnectionLost, true));
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_end_does_no_harm() {
    let finish = DONE.strip_suffix("data: [DONE]\n\n").unwrap();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [finish, DONE] {
        let server = Server::start([send(format!("{chunked}{:x}\r\n{HI}{body}\r\n", HI.len() + body.len()))]).await;
        let (pieces, end) = ask(&server.url()).await;
        assert_eq!((said(&pieces).as_str(), end), ("Hi", Ok(())), "{body}");
    }
}

#[tokio::test]
async fn what_is_no_stream_makes_no_sense() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Log in</html>",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"choices\": []}",
        &format!("{OK}data: <html>\n\n"),
    ] {
        let (_, failure) = failure([send(answer)]).await;
        assert_eq!((failure.fault, failure.cut_off), (ReplyFault::ProviderNonsense, false), "{answer}");
    }
}

#[tokio::test]
async fn an_error_after_a_hundred_tokens_keeps_them() {
    let error = "data: {\"error\": {\"message\": \"CUDA out of memory\", \"code\": 500}}\n\n";
    let (said, failure) = failure([send(OK), send(HI.repeat(100)), send(error), Step::Hold]).await;
    assert_eq!((said, failure.fault, failure.cut_off), ("Hi".repeat(100), ReplyFault::ProviderError, false));
}

#[tokio::test]
async fn an_endless_line_and_an_endless_error_are_given_up() {
    let (said, failure_of_line) = failure([send(OK), send(HI), send("data: "), Step::Flood(vec![b'x'; 1 << 16])]).await;
    assert_eq!((said.as_str(), failure_of_line.fault), ("Hi", ReplyFault::TooLong));

    for body in [Step::Flood(vec![b'x'; 1 << 16]), Step::Hold] {
        let (_, failure) = failure([send("HTTP/1.1 500 Oh\r\n\r\n"), body]).await;
        assert_eq!(failure.fault, ReplyFault::ProviderError);
    }
}

#[tokio::test]
async fn pieces_come_at_once_and_a_slow_reader_slows_the_provider() {
    let mut server = Server::start([send(OK), Step::Flood(HI.repeat(1000).into_bytes())]).await;
    let mut answer = provider("openai", &server.url()).inference.stream(completion()).await.map_err(|_| ()).unwrap();
    server.request().await;
    assert_eq!(answer.next().await, Some(Ok(Piece::Content("Hi".to_owned()))));
    sleep(Duration::from_millis(200)).await;
    drop(answer);
    let Some(Seen::Gone(sent)) = timeout(Duration::from_secs(2), server.seen.recv()).await.unwrap() else { panic!() };
    assert!(sent < 32 << 20, "{sent} bytes were taken for one piece");
}

#[tokio::test]
async fn the_first_piece_does_not_wait_for_the_second_and_dropping_hangs_up() {
    let mut server = Server::start([send(OK), send(HI), Step::Hold]).await;
    let provider = provider("openai", &server.url());
    let mut answer = provider.inference.stream(completion()).await.map_err(|_| ()).unwrap();
    server.request().await;
    let first = timeout(Duration::from_secs(1), answer.next()).await.expect("the piece that was sent");
    assert_eq!(first, Some(Ok(Piece::Content("Hi".to_owned()))));
    assert!(timeout(Duration::from_millis(50), answer.next()).await.is_err());
    assert!(server.seen.try_recv().is_err());
    drop(answer);
    let gone = timeout(Duration::from_secs(1), server.seen.recv()).await.expect("the server learns of it");
    assert_eq!(gone, Some(Seen::Gone(OK.len() + HI.len())));
}

#[tokio::test]
async fn giving_up_before_an_answer_hangs_up_too() {
    let mut server = Server::start([Step::Hold]).await;
    let provider = provider("openai", &server.url());
    assert!(timeout(Duration::from_millis(100), provider.inference.stream(completion())).await.is_err());
    server.request().await;
    let gone = timeout(Duration::from_secs(1), server.seen.recv()).await.expect("the server learns of it");
    assert_eq!(gone, Some(Seen::Gone(0)));
}

#[tokio::test]
async fn models_are_listed_within_bounds() {
    for name in SERVERS {
        let recorded = recorded(name, "models");
        let server = Server::start([send(recorded.head), send(recorded.body)]).await;
        assert_eq!(
            provider("openai", &server.url()).inference.models().await.unwrap()[0].name,
            "tiny-script",
            "{name}"
        );
    }
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    let cases = [
        (vec![send(json), Step::Flood(vec![b' '; 1 << 16])], ReplyFault::ProviderNonsense),
        (vec![send(json), Step::Hold], ReplyFault::Timeout),
        (vec![Step::Hold], ReplyFault::Timeout),
        (vec![], ReplyFault::ConnectionLost),
        (vec![send("HTTP/1.1 401 No\r\n\r\n")], ReplyFault::ProviderMisconfigured),
    ];
    let ask = |(steps, fault): (Vec<Step>, _)| async move {
        let server = Server::start(steps.clone()).await;
        let provider = provider("vllm", &server.url());
        let listed = timeout(Duration::from_secs(6), provider.inference.models()).await.expect("within six seconds");
        assert_eq!(listed.unwrap_err().fault, fault, "{steps:?}");
    };
    join_all(cases.map(ask)).await;
}
