//! The whole application over a real socket, and those who call it.
//!
//! ```no_run
//! # async fn story() {
//! use private_chat_tests::client::App;
//! use serde_json::json;
//!
//! let app = App::start().await;
//! let admin = app.setup().await;
//! let ann = app.user(&admin, "Ann").await;
//! let workspace = ann.post("/workspaces").json(json!({"name": "Research"})).await.ok(201);
//! assert_eq!(workspace["role"], "OWNER");
//! # }
//! ```
//!
//! Every answer is held against the OpenAPI document as it comes: what it does not show, no test has to look for.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use private_chat::http::edge::client::Proxies;
use private_chat::http::edge::cors::Origins;
use private_chat::http::edge::{endpoint, serve};
use private_chat::http::{State, product};
use private_chat_adapters::jwt::JwtSigner;
use private_chat_adapters::memory;
use private_chat_adapters::system::{OsEntropy, SystemClock};
use private_chat_core::change::{Changes, Counter, Version};
use private_chat_core::model::chat::{ReplyCaps, ReplyLimits};
use private_chat_core::model::secret::{Secret, ServerKey};
use private_chat_core::model::session::Lifetimes;
use private_chat_core::model::user::{Email, User};
use private_chat_core::model::workspace::{Membership, Role};
use private_chat_core::port::Ports;
use private_chat_core::usecase::{Settings, UseCases};
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::contract::tokens;
use crate::document::{Document, Operation};

/// How long anything may take on a busy machine. Nothing but a fault ever takes as long.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Waits for what must come, and not for ever.
///
/// # Panics
/// When it does not come.
pub async fn patiently<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("what must come has come in time")
}

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";
const EVENTS: &str = "text/event-stream";

/// A complete set of ports: an empty store in memory, passwords that cost nothing, real tokens, the machine's time, the model `scripted/parrot`.
#[must_use]
pub fn ports() -> Ports {
    let entropy = Arc::new(OsEntropy);
    let key = Secret::new(tokens::private_key());
    let signer = JwtSigner::new(&key, tokens::ISSUER.into(), tokens::AUDIENCE.into(), entropy.clone());
    Ports {
        tokens: Arc::new(signer.unwrap_or_else(|why| panic!("{why}"))),
        clock: Arc::new(SystemClock::start()),
        entropy,
        ..memory::ports()
    }
}

/// What an operator may set, as it is unless they do.
#[must_use]
pub fn settings() -> Settings {
    Settings {
        key: ServerKey::new([7; 32]),
        lifetimes: Lifetimes::default(),
        setup_token: None,
        default_model: None,
        reply: ReplyLimits::default(),
        caps: ReplyCaps::default(),
        titles: false,
    }
}

/// The application, listening.
pub struct App {
    /// Where.
    pub address: SocketAddr,
    /// What it stands on.
    pub ports: Ports,
    /// What it does.
    pub cases: UseCases,
    http: reqwest::Client,
    stop: CancellationToken,
    // Ends with the application.
    _server: JoinSet<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.cases.live.close();
        self.stop.cancel();
    }
}

impl App {
    /// In memory.
    pub async fn start() -> Self {
        Self::on(ports()).await
    }

    /// On these ports.
    pub async fn on(ports: Ports) -> Self {
        Self::with(ports, settings()).await
    }

    /// On these ports, with these settings.
    pub async fn with(ports: Ports, settings: Settings) -> Self {
        ports.work.prepare().await.expect("the store can be prepared");
        let cases = UseCases::new(&ports, settings);
        cases.replies.register().await.expect("the process can be registered");
        ports.tasks.spawn(Box::pin(cases.replies.clone().keep()));
        Self::serving(ports, cases).await
    }

    /// Serves these use cases as they are, of a process that has not joined its database.
    pub async fn serving(ports: Ports, cases: UseCases) -> Self {
        let stop = CancellationToken::new();
        let edge = endpoint::Settings {
            origins: Origins::default(),
            proxies: Proxies::default(),
            tls: false,
            body_within: endpoint::BODY_WITHIN,
            clock: ports.clock.clone(),
            entropy: ports.entropy.clone(),
        };
        let state = State { cases: cases.clone(), stop: stop.clone() };
        let app = Arc::new(product(state, Vec::new(), edge).expect("the API is described well"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let mut server = JoinSet::new();
        let stopped = stop.clone();
        server.spawn(async move {
            serve::serve(listener, app, serve::Settings::default(), stopped).await.expect("an address");
        });
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(PATIENCE)
            .build()
            .expect("a client");
        Self { address, ports, cases, http, stop, _server: server }
    }

    /// Somebody without a token.
    #[must_use]
    pub fn anybody(&self) -> Caller {
        Caller {
            http: self.http.clone(),
            address: self.address,
            access: None,
            refresh: String::new(),
            id: String::new(),
            email: String::new(),
        }
    }

    /// Somebody with this access token.
    #[must_use]
    pub fn bearing(&self, token: &str) -> Caller {
        Caller { access: Some(token.to_owned()), ..self.anybody() }
    }

    /// Makes the first administrator.
    pub async fn setup(&self) -> Caller {
        let new = json!({"email": "admin@example.com", "name": "Admin", "password": PASSWORD});
        self.signed_in(&self.anybody().post("/auth/setup").json(new).await.ok(201))
    }

    /// Makes an account, and signs it in. The email is made of the name.
    pub async fn user(&self, admin: &Caller, name: &str) -> Caller {
        let email = self.account(admin, name, false).await;
        self.sign_in(&email).await
    }

    /// Makes an account, and tells its email.
    pub async fn account(&self, admin: &Caller, name: &str, must_change_password: bool) -> String {
        let email = format!("{}@example.com", name.to_lowercase().replace(' ', "."));
        let new = json!({
            "email": email, "name": name, "password": PASSWORD, "must_change_password": must_change_password,
        });
        admin.post("/users").json(new).await.ok(201);
        email
    }

    /// Signs in with everybody's password.
    pub async fn sign_in(&self, email: &str) -> Caller {
        let credentials = json!({"email": email, "password": PASSWORD});
        self.signed_in(&self.anybody().post("/auth/login").json(credentials).await.ok(200))
    }

    /// Whoever has just signed in, as setup and login answer.
    #[must_use]
    pub fn signed_in(&self, answer: &Value) -> Caller {
        Caller {
            access: Some(text(&answer["tokens"]["access_token"])),
            refresh: text(&answer["tokens"]["refresh_token"]),
            id: text(&answer["user"]["id"]),
            email: text(&answer["user"]["email"]),
            ..self.anybody()
        }
    }

    /// Lets a user join a workspace without being asked.
    pub async fn join(&self, workspace: &str, user: &Caller, role: Role) {
        let membership = Membership {
            workspace: id(workspace).into(),
            user: id(&user.id).into(),
            role,
            joined_at: self.ports.clock.now(),
            version: Version::FIRST,
        };
        let (members, memberships) = (Counter::Members(membership.workspace), Counter::Memberships(membership.user));
        let changes = Changes::new().insert(membership).add(members, 1, None).add(memberships, 1, None);
        self.ports.work.commit(changes).await.expect("somebody new");
    }

    /// Takes a user out of a workspace without asking anybody.
    pub async fn leave(&self, workspace: &str, user: &Caller) {
        let of = (id(workspace).into(), id(&user.id).into());
        let stored = self.ports.workspaces.membership(of.0, of.1).await.expect("a store that answers");
        let changes = Changes::new().delete(stored.expect("a member")).add(Counter::Members(of.0), -1, None).add(
            Counter::Memberships(of.1),
            -1,
            None,
        );
        self.ports.work.commit(changes).await.expect("nobody else changes it");
    }

    /// Changes an account behind everybody's back.
    pub async fn change_user(&self, user: &Caller, change: impl FnOnce(User) -> User) {
        let email = Email::stored(user.email.clone());
        let stored = self.ports.users.user_by_email(&email).await.expect("a store that answers").expect("an account");
        self.ports.work.commit(Changes::new().update(change(stored))).await.expect("nobody else changes it");
    }

    /// Sends bytes as they are, and reads until the end of the connection.
    pub async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.address).await.expect("the application listens");
        let (mut read, mut write) = socket.split();
        let mut answer = Vec::new();
        let both = async {
            // Whoever is refused early need not be heard to the end.
            let sending = async { write.write_all(bytes).await.ok() };
            let reading = async { read.read_to_end(&mut answer).await.ok() };
            tokio::join!(sending, reading)
        };
        patiently(both).await;
        answer
    }
}

fn id(text: &str) -> Uuid {
    Uuid::try_parse(text).expect("an id")
}

/// A text in JSON.
///
/// # Panics
/// When it is none.
#[track_caller]
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The claims of an access token, unverified.
///
/// # Panics
/// When it is no JWT.
#[must_use]
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    serde_json::from_slice(&payload.expect("a JWT")).expect("claims")
}

/// Somebody who calls the application.
#[derive(Clone, Debug)]
pub struct Caller {
    http: reqwest::Client,
    address: SocketAddr,
    /// Their access token.
    pub access: Option<String>,
    /// Their refresh token.
    pub refresh: String,
    /// Their id.
    pub id: String,
    /// Their address.
    pub email: String,
}

impl Caller {
    /// A GET.
    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    /// A POST.
    pub fn post(&self, path: &str) -> Call {
        self.call("POST", path)
    }

    /// A PUT.
    pub fn put(&self, path: &str) -> Call {
        self.call("PUT", path)
    }

    /// A PATCH.
    pub fn patch(&self, path: &str) -> Call {
        self.call("PATCH", path)
    }

    /// A DELETE.
    pub fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    /// A request with this method.
    pub fn call(&self, method: &str, path: &str) -> Call {
        let named = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.http.request(named, format!("http://{}{path}", self.address));
        let request = match &self.access {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        Call { request, method: method.to_owned(), path: path.to_owned() }
    }

    /// A new workspace of theirs; tells its id.
    pub async fn workspace(&self) -> String {
        text(&self.post("/workspaces").json(json!({"name": "Research"})).await.ok(201)["id"])
    }

    /// Invites somebody into a workspace; tells the invitation, with its token.
    pub async fn invite(&self, workspace: &str, email: &str, role: &str) -> Value {
        let invitation = json!({"email": email, "role": role});
        self.post(&format!("/workspaces/{workspace}/invite")).json(invitation).await.ok(201)
    }

    /// The id of their session, as their access token has it.
    ///
    /// # Panics
    /// When they are not signed in.
    #[must_use]
    pub fn session(&self) -> String {
        text(&claims(self.access.as_deref().expect("somebody who is signed in"))["sid"])
    }

    /// A new chat; tells its path.
    pub async fn chat(&self, workspace: &str) -> String {
        let chat = self.post(&format!("/workspaces/{workspace}/chat")).json(json!({})).await.ok(201);
        format!("/workspaces/{workspace}/chat/{}", text(&chat["id"]))
    }

    /// Sends a message into the chat at this path and waits for the end of its reply; tells both.
    pub async fn say(&self, chat: &str, content: &str) -> (Value, Value) {
        let exchange = self.post(&format!("{chat}/message")).json(json!({"content": content})).await.ok(201);
        (exchange["message"].clone(), exchange["reply"].clone())
    }
}

/// A request on its way: `await` it for the answer.
#[must_use]
pub struct Call {
    request: RequestBuilder,
    method: String,
    path: String,
}

impl Call {
    /// With this as JSON.
    pub fn json(self, body: impl Into<Value>) -> Self {
        self.header("content-type", "application/json").body(body.into().to_string())
    }

    /// With these bytes.
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self { request: self.request.body(body), ..self }
    }

    /// With this header as well.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    /// Asks for events, and gets them.
    ///
    /// # Panics
    /// When the answer is something else.
    pub async fn events(self) -> Events {
        let request = self.request.header(ACCEPT, EVENTS);
        let response = patiently(request.send()).await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default().to_owned();
        if status != 200 || media != EVENTS {
            panic!("{} {}: {status} {media}: {:?}", self.method, self.path, response.text().await);
        }
        assert_eq!(headers.get(CACHE_CONTROL).expect("it"), "no-cache, no-transform");
        Events {
            operation: (self.method, self.path),
            headers,
            stream: response.bytes_stream().boxed(),
            buffer: Vec::new(),
            comments: 0,
        }
    }

    async fn send(self) -> Answer {
        let asked = format!("{} {}", self.method, self.path);
        let response =
            timeout(PATIENCE, self.request.send()).await.unwrap_or_else(|_| panic!("{asked}: no answer in time"));
        let response = response.unwrap_or_else(|error| panic!("{asked}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let streams = headers.get(CONTENT_TYPE).is_some_and(|media| media == EVENTS);
        // A stream has no end to wait for; whoever wants its events asks for them.
        let body = if streams {
            Bytes::new()
        } else {
            response.bytes().await.unwrap_or_else(|error| panic!("{asked}: {error:?}"))
        };
        let answer = Answer { status, headers, body, asked };
        answer.hold_against_the_document(&self.method, &self.path);
        answer
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = BoxFuture<'static, Answer>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    asked: String,
}

impl Answer {
    fn hold_against_the_document(&self, method: &str, path: &str) {
        let media = self.header("content-type").unwrap_or_default();
        let asked = &self.asked;
        assert!(self.header("x-request-id").is_some_and(|id| id.len() >= 8), "{asked}: no request id");
        if self.status >= 400 {
            let problem = self.json();
            assert_eq!(media, "application/problem+json", "{asked}");
            assert_eq!(problem["status"], self.status, "{asked}: {problem}");
            assert_eq!(problem["request_id"], self.header("x-request-id").unwrap_or_default(), "{asked}");
            let fields = problem["errors"].as_array().map(Vec::len);
            assert_eq!(fields == Some(0), problem["code"] != "invalid", "{asked}: {problem}");
        }
        let document = Document::of_the_product();
        if let Some(operation) = document.operation(method, path) {
            let faults = document.faults(operation, self.status, media, &self.body);
            assert!(faults.is_empty(), "{asked}: {}: {}", faults.join("; "), self.text());
        }
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("{}: {}: {error}: {}", self.asked, self.status, self.text()))
    }

    /// A header, where there is one and no more.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.get_all(name).iter();
        match (all.next(), all.next()) {
            (Some(only), None) => only.to_str().ok(),
            _ => None,
        }
    }

    /// The body, of an answer with this status; null where it is empty.
    ///
    /// # Panics
    /// When the status is another.
    #[track_caller]
    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The problem of this status and code.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.ok(status);
        assert_eq!(problem["code"], code, "{}: {problem}", self.asked);
        problem
    }

    /// The fields that a 422 names.
    ///
    /// # Panics
    /// When it is something else.
    #[track_caller]
    #[must_use]
    pub fn wrong_fields(&self) -> Vec<String> {
        let problem = self.problem(422, "invalid");
        problem["errors"].as_array().expect("errors").iter().map(|error| text(&error["field"])).collect()
    }

    /// Whether this answer to an operation may have left less, or other things, than there were.
    #[must_use]
    pub fn changed(&self, operation: Operation<'_>) -> bool {
        operation.method != "GET" && self.status < 300
    }

    /// The body without what differs between any two problems.
    #[must_use]
    pub fn without_request_id(&self) -> String {
        let id = self.header("x-request-id").unwrap_or_default();
        self.text().replace(id, "")
    }
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The cursor, where it comes with one.
    pub id: Option<u64>,
    /// Its name; empty where only the cursor moves.
    pub name: String,
    /// What it says; null where only the cursor moves.
    pub data: Value,
}

/// A stream of events, read as browsers do (WHATWG HTML, section 9.2.6), each held against the document.
pub struct Events {
    operation: (String, String),
    /// The headers of the answer.
    pub headers: HeaderMap,
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: Vec<u8>,
    /// How many comments came.
    pub comments: usize,
}

impl Events {
    /// The next event; none at the end of the stream.
    ///
    /// # Panics
    /// When nothing comes, or the connection breaks, or the event is not as documented.
    pub async fn next(&mut self) -> Option<Event> {
        // Comments are no events: a stream that only lives on is waited for no longer than a silent one.
        patiently(self.read()).await
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match self.parse(&String::from_utf8(frame).expect("UTF-8")) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            match self.stream.next().await {
                Some(bytes) => self.buffer.extend(bytes.expect("the stream ends in order")),
                None => {
                    assert!(self.buffer.is_empty(), "the stream ends within a frame");
                    return None;
                }
            }
        }
    }

    fn parse(&mut self, frame: &str) -> Option<Event> {
        let mut event = Event { id: None, name: String::new(), data: Value::Null };
        let mut data: Vec<&str> = Vec::new();
        let mut fields = 0;
        for line in frame.lines().filter(|line| !line.is_empty()) {
            match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
                Some(("", _)) => {
                    self.comments += 1;
                    continue;
                }
                Some(("id", id)) => event.id = Some(id.parse().expect("a number")),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", line)) => data.push(line),
                _ => panic!("a line that is none: {line}"),
            }
            fields += 1;
        }
        if fields == 0 {
            return None;
        }
        if !data.is_empty() {
            event.data = serde_json::from_str(&data.join("\n")).expect("JSON");
            assert_eq!(event.data["type"], event.name.as_str(), "{}", event.data);
            let document = Document::of_the_product();
            let (method, path) = &self.operation;
            let operation = document.operation(method, path).expect("an operation");
            let faults = document.faults_of_event(operation, &event.data);
            assert!(faults.is_empty(), "{method} {path}: {}: {}", faults.join("; "), event.data);
        }
        Some(event)
    }

    /// The next event of this name; those before it are passed over.
    ///
    /// # Panics
    /// When the stream ends first.
    pub async fn until(&mut self, name: &str) -> Event {
        loop {
            let next = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
            if next.name == name {
                return next;
            }
        }
    }

    /// All events to the end.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

/// The text of a reply, as a client shows it that applies these events: `text = text[:offset] + content`.
#[must_use]
pub fn shown(events: &[Event], reply: &str) -> String {
    let mut shown: Vec<char> = Vec::new();
    for event in events.iter().filter(|event| event.name == "message.delta" && event.data["message_id"] == reply) {
        if let (Some(offset), Some(content)) = (event.data["offset"].as_u64(), event.data["content"].as_str()) {
            let offset = usize::try_from(offset).expect("a length");
            assert!(offset <= shown.len(), "an offset beyond what was sent");
            shown.truncate(offset);
            shown.extend(content.chars());
        }
    }
    shown.into_iter().collect()
}
