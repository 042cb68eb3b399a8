//! A client: what a frontend does, over HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::program::Program;
use crate::{spawn, until};

/// A password that may be one.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The longest that any answer but a stream may take.
const ANSWER: Duration = Duration::from_secs(60);

/// What `Ann`, the first administrator, is called.
pub(crate) const ANN: &str = "ann@example.com";

/// The API of one process, to one person.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    http: Client,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its head.
    pub(crate) headers: HeaderMap,
    /// Its body, where that is JSON.
    pub(crate) body: Value,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Answer {
    async fn of(response: Response, sent: Instant) -> Result<Self, reqwest::Error> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        Ok(Self { status, headers, body, took: sent.elapsed() })
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Makes sure that it is the problem of this code.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert!(status != 503 || self.headers.contains_key("retry-after"), "{:?}", self.headers);
    }
}

impl Api {
    /// The API at `host:port`, to a stranger.
    pub(crate) fn at(address: &str) -> Self {
        let http = Client::builder().no_proxy().connect_timeout(Duration::from_secs(10)).build().unwrap();
        Self { base: format!("http://{address}"), http, token: None }
    }

    /// The same, to whoever has this access token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The access token.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    /// The same person, at another process.
    pub(crate) fn moved_to(&self, program: &Program) -> Self {
        program.api().with_token(self.token())
    }

    /// A request that was not sent yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request; an error where no whole answer comes.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let sent = Instant::now();
        Answer::of(request.timeout(ANSWER).send().await?, sent).await
    }

    /// Asks.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await.unwrap()
    }

    /// Sends JSON; an error where no whole answer comes.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Sends JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).await.unwrap()
    }

    /// Sends JSON to be stored.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await.unwrap()
    }

    /// Changes what is named, and no more.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await.unwrap()
    }

    /// Deletes.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await.unwrap()
    }

    /// Sends JSON under an `Idempotency-Key`.
    pub(crate) async fn post_once(&self, path: &str, body: &Value, key: &str) -> Answer {
        self.once(Method::POST, path, body, key).await
    }

    /// The same, by another method.
    pub(crate) async fn once(&self, method: Method, path: &str, body: &Value, key: &str) -> Answer {
        self.send(self.request(method, path).header("Idempotency-Key", key).json(body)).await.unwrap()
    }

    /// Makes the first administrator, and is them from now on.
    pub(crate) async fn set_up(&self) -> Self {
        let ann = json!({"email": ANN, "name": "Ann", "password": PASSWORD});
        let body = self.post("/auth/setup", &ann).await.expect(201);
        self.with_token(body["tokens"]["access_token"].as_str().unwrap())
    }

    /// Signs the administrator in, with a session of its own.
    pub(crate) async fn log_in(&self) -> Self {
        self.log_in_as(ANN, PASSWORD).await.expect("these are theirs")
    }

    /// Signs somebody in, with a session of its own; nobody, when these do not belong together.
    pub(crate) async fn log_in_as(&self, email: &str, password: &str) -> Option<Self> {
        let answer = self.post("/auth/login", &json!({"email": email, "password": password})).await;
        if answer.status == 401 {
            answer.is_problem(401, "invalid_credentials");
            return None;
        }
        Some(self.with_token(answer.expect(200)["tokens"]["access_token"].as_str().unwrap()))
    }

    /// Who they are.
    pub(crate) async fn me(&self) -> Value {
        self.get("/auth/me").await.expect(200)
    }

    /// Makes a workspace, and gives its path.
    pub(crate) async fn make_workspace(&self) -> String {
        let body = self.post("/workspaces", &json!({"name": "Research"})).await.expect(201);
        format!("/workspaces/{}", body["id"].as_str().unwrap())
    }

    /// Makes a chat, and gives its path.
    pub(crate) async fn make_chat(&self, workspace: &str) -> String {
        let body = self.post(&format!("{workspace}/chat"), &json!({})).await.expect(201);
        format!("{workspace}/chat/{}", body["id"].as_str().unwrap())
    }

    /// Sends a message, and follows its reply.
    pub(crate) async fn say(&self, chat: &str, content: &str) -> Follow {
        self.try_say(chat, content).await.unwrap()
    }

    /// Sends a message, and follows its reply; without, the status of the answer, where there is one.
    pub(crate) async fn try_say(&self, chat: &str, content: &str) -> Result<Follow, Option<u16>> {
        Follow::of(self.request(Method::POST, &format!("{chat}/message")).json(&json!({"content": content}))).await
    }

    /// The same, where the answer may be that it is too much, or that there is nothing to say it in.
    pub(crate) async fn offer(&self, chat: &str, content: &str) -> Result<Follow, Answer> {
        let request = self.request(Method::POST, &format!("{chat}/message")).json(&json!({"content": content}));
        Follow::try_of(request).await.unwrap()
    }

    /// Has a message of one's own answered anew, as it should have been, and follows its reply.
    pub(crate) async fn offer_edit(&self, chat: &str, message: &str, content: &str) -> Result<Follow, Answer> {
        let request = self.request(Method::PATCH, &format!("{chat}/message/{message}"));
        Follow::try_of(request.json(&json!({"content": content}))).await.unwrap()
    }

    /// Has a reply given anew, and follows it.
    pub(crate) async fn offer_regeneration(&self, chat: &str, reply: &str) -> Result<Follow, Answer> {
        let request = self.request(Method::POST, &format!("{chat}/message/{reply}/regenerate"));
        Follow::try_of(request).await.unwrap()
    }

    /// The same under an `Idempotency-Key`.
    pub(crate) async fn say_once(&self, chat: &str, content: &str, key: &str) -> Follow {
        let request = self.request(Method::POST, &format!("{chat}/message")).header("Idempotency-Key", key);
        Follow::of(request.json(&json!({"content": content}))).await.unwrap()
    }

    /// Sends a message, and waits for the end of its reply.
    pub(crate) async fn exchange(&self, chat: &str, content: &str) -> Answer {
        self.post(&format!("{chat}/message"), &json!({"content": content})).await
    }

    /// Follows a workspace or a chat, from now on or after a cursor.
    pub(crate) async fn follow(&self, path: &str, after: Option<u64>) -> Follow {
        let mut request = self.request(Method::GET, &format!("{path}/events"));
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after.to_string());
        }
        let follow = Follow::of(request).await.expect("it may be followed");
        if after.is_none() {
            follow.until("the stream opens", |seen| !seen.is_empty()).await;
        }
        follow
    }

    /// The messages of a chat, oldest first.
    pub(crate) async fn messages(&self, chat: &str) -> Vec<Value> {
        self.get(chat).await.expect(200)["messages"].as_array().unwrap().clone()
    }

    /// Waits until the process is ready.
    pub(crate) async fn ready(&self) {
        until(Duration::from_secs(60), "the process is ready", async || self.get("/health/ready").await.status == 200)
            .await;
    }
}

/// One event, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The cursor.
    pub(crate) id: Option<u64>,
    /// What happened; empty where only the cursor moved.
    pub(crate) event: String,
    /// The data.
    pub(crate) data: Value,
    /// When it came.
    pub(crate) at: Instant,
}

impl Seen {
    /// The reply that it is about.
    pub(crate) fn reply(&self) -> Option<&str> {
        self.data["message_id"].as_str().or_else(|| self.data["message"]["id"].as_str())
    }

    /// Whether it is the end of a reply.
    pub(crate) fn is_end(&self) -> bool {
        ["message.completed", "message.stopped", "message.failed", "message.interrupted"].contains(&self.event.as_str())
    }
}

/// The ends of replies among these events.
pub(crate) fn ends(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|seen| seen.is_end()).collect()
}

/// What a client shows of a reply after these events, by the rule of the API.
pub(crate) fn text<'a>(seen: impl IntoIterator<Item = &'a Seen>, reply: &str) -> String {
    let mut text: Vec<char> = Vec::new();
    for seen in seen.into_iter().filter(|seen| seen.reply() == Some(reply)) {
        if let (Some(offset), Some(added)) = (seen.data["offset"].as_u64(), seen.data["content"].as_str()) {
            let offset = usize::try_from(offset).unwrap();
            assert!(offset <= text.len(), "a delta beyond what was sent: {seen:?}");
            text.truncate(offset);
            text.extend(added.chars());
        }
    }
    text.into_iter().collect()
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As HTTP has it.
    Clean,
    /// In the middle.
    Cut,
}

/// A stream of events, read as it comes.
pub(crate) struct Follow {
    state: Arc<Mutex<(Vec<Seen>, Option<End>)>>,
}

impl Follow {
    async fn of(request: RequestBuilder) -> Result<Self, Option<u16>> {
        let answered = Self::try_of(request).await.map_err(|_| None)?;
        answered.map_err(|answer| Some(answer.status))
    }

    /// Follows what is answered; where that is no stream, the answer. An error where nothing comes.
    pub(crate) async fn try_of(request: RequestBuilder) -> Result<Result<Self, Answer>, reqwest::Error> {
        let sent = Instant::now();
        let response = timeout(ANSWER, request.header(ACCEPT, "text/event-stream").send()).await.unwrap()?;
        if response.status() != 200 {
            return Answer::of(response, sent).await.map(Err);
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let state = Arc::new(Mutex::new((Vec::new(), None)));
        spawn(read(response, state.clone()));
        Ok(Ok(Self { state }))
    }

    /// All that came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().0.clone()
    }

    /// How it ended, once it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.state.lock().unwrap().1
    }

    /// The id of the reply that begins in it.
    pub(crate) async fn reply(&self) -> String {
        let begun = |seen: &Seen| seen.event == "message.created" && seen.data["message"]["role"] == "assistant";
        self.until("a reply begins", |seen| seen.iter().any(begun)).await;
        let seen = self.seen();
        seen.iter().find(|seen| begun(seen)).unwrap().reply().unwrap().to_owned()
    }

    /// Waits for what came to be like this.
    pub(crate) async fn until(&self, what: &str, like_this: impl Fn(&[Seen]) -> bool) {
        until(Duration::from_secs(60), what, async || {
            let state = self.state.lock().unwrap();
            let is = like_this(&state.0);
            assert!(is || state.1.is_none(), "the stream ended before {what}: {:?}", state.0.last());
            is
        })
        .await;
    }

    /// Waits until a reply shows so many words.
    pub(crate) async fn until_words(&self, reply: &str, words: usize) {
        self.until("the reply grows", |seen| text(seen, reply).split_whitespace().count() >= words).await;
    }

    /// Waits for its end, and gives all that came.
    pub(crate) async fn ended(&self, within: Duration) -> (Vec<Seen>, End) {
        until(within, "the stream ends", async || self.end().is_some()).await;
        (self.seen(), self.end().unwrap())
    }
}

async fn read(response: Response, state: Arc<Mutex<(Vec<Seen>, Option<End>)>>) {
    let mut body = response.bytes_stream();
    let mut buffer = Vec::new();
    let end = loop {
        match body.next().await {
            Some(Ok(bytes)) => buffer.extend_from_slice(&bytes),
            Some(Err(_)) => break End::Cut,
            None if buffer.is_empty() => break End::Clean,
            // Half an event is none.
            None => break End::Cut,
        }
        let at = Instant::now();
        while let Some(length) = buffer.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = buffer.drain(..length + 2).collect();
            if let Some(seen) = parse(std::str::from_utf8(&block).unwrap(), at) {
                state.lock().unwrap().0.push(seen);
            }
        }
    };
    state.lock().unwrap().1 = Some(end);
}

fn parse(block: &str, at: Instant) -> Option<Seen> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let (id, event, data) = (field("id"), field("event"), field("data"));
    if id.is_none() && event.is_none() {
        return None;
    }
    Some(Seen {
        id: id.map(|id| id.parse().unwrap()),
        event: event.unwrap_or_default().to_owned(),
        data: data.map_or(Value::Null, |data| serde_json::from_str(data).unwrap()),
        at,
    })
}
