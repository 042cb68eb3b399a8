//! The whole framework under a small application, over real sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use poem_openapi::param::Header;
use poem_openapi::{Object, OpenApi, Union};
use private_chat_core::error::{Backend, Error, Forbidden, Kind, Obstacle};
use private_chat_core::id::{ChatId, WorkspaceId};
use private_chat_core::port::clock::{Clock, Entropy};
use private_chat_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::client::{Client, Proxies};
use super::cors::Origins;
use super::endpoint::Settings;
use super::events::{EventStream, OrEvents, WantsEvents, frame};
use super::fault::{Failed, Fault, codes};
use super::guard::{Asked, By, Guard, Id, Query};
use super::json::{Json, NoContent};
use super::serve;
use super::time::Time;
use crate::fails;
use crate::http::page::{self, Cursor, Limit, Page};
use crate::http::problem::{CONFLICT, EMAIL_TAKEN};

const WORKSPACE: &str = "0190d5a0-7b7c-7000-8000-000000000001";
const UNKNOWN: &str = "0190d5a0-7b7c-7000-8000-000000000002";

// ---- The application ----

struct State {
    stop: CancellationToken,
}

/// Anybody with the token `good`.
struct Caller;

impl Guard for Caller {
    type State = State;

    async fn admit(_: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        match asked.bearer()? {
            "good" | "guest" => Ok(Self),
            _ => Err(Fault::new(&codes::UNAUTHENTICATED)),
        }
    }
}

/// A caller who may write in the path's workspace.
struct Member {
    workspace: WorkspaceId,
}

impl Guard for Member {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        Caller::admit(state, asked).await?;
        let workspace: WorkspaceId = asked.id("workspace_id");
        if workspace.to_string() != WORKSPACE {
            return Err(Error::NotFound(Kind::Workspace).into());
        }
        if asked.bearer()? == "guest" {
            return Err(Error::Forbidden(Forbidden::Role).into());
        }
        Ok(Self { workspace })
    }
}

#[derive(Object, Deserialize)]
struct NewThing {
    /// What it is called
    #[oai(validator(max_length = 2000))]
    name: String,
    #[oai(validator(maximum(value = "2")))]
    weight: Option<f64>,
    copies: Option<u32>,
}

#[derive(Object, Deserialize)]
struct Again {
    copies: Option<u32>,
}

#[derive(Object, Serialize, Clone)]
struct Thing {
    name: String,
    weight: Option<f64>,
    parent: Option<Parent>,
    /// Left out where there is none
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(read_only)]
    note: Option<String>,
    created_at: Time,
}

#[derive(Object, Serialize, Clone)]
struct Parent {
    id: Uuid,
}

#[derive(Object, Serialize)]
struct Seen {
    address: String,
    user_agent: String,
    workspace: Option<Uuid>,
}

#[derive(Union)]
#[oai(one_of = true, discriminator_name = "type")]
enum Event {
    #[oai(mapping = "thing.created")]
    Created(ThingCreated),
    #[oai(mapping = "thing.gone")]
    Gone(ThingGone),
}

#[derive(Object)]
struct ThingCreated {
    thing: Thing,
}

#[derive(Object)]
struct ThingGone {
    parent: Option<Parent>,
}

fails!(
    /// Of creating a thing
    CreateFails: CONFLICT, EMAIL_TAKEN
);

fn thing(name: &str) -> Thing {
    Thing { name: name.into(), weight: None, parent: None, note: None, created_at: Time(Timestamp::from_micros(0)) }
}

struct Things(Arc<State>);

#[OpenApi(prefix_path = "/workspaces/:workspace_id/things/")]
impl Things {
    #[oai(path = "/", method = "get", operation_id = "list_things")]
    async fn list(
        &self,
        _who: By<Member>,
        limit: Query<Limit>,
        cursor: Query<Cursor>,
        archived: Query<Option<bool>>,
    ) -> Result<Json<Page<Thing>>, Failed> {
        let request = page::request::<u64>(&limit, &cursor)?;
        let name = format!("{} after {:?}, {:?}", request.limit.items(), request.after, archived.0);
        Ok(Json(Page { items: vec![thing(&name)], next_cursor: None }))
    }

    #[oai(path = "/", method = "post", operation_id = "create_thing")]
    async fn create(&self, _who: By<Member>, new: Json<NewThing>) -> Result<Json<Thing, 201>, Failed<CreateFails>> {
        let Json(NewThing { name, weight, copies }) = new;
        match name.as_str() {
            "stale" => Err(Error::Conflict(Obstacle::Concurrent).into()),
            "away" => Err(Error::Unavailable { backend: Backend::Database, cause: "10.0.0.7 refused".into() }.into()),
            "broken" => Err(Error::Internal("select * from secrets".into()).into()),
            _ if copies == Some(0) => Err(Error::invalid("copies", "must not be zero").into()),
            _ => Ok(Json(Thing { weight, ..thing(&name) })),
        }
    }

    #[oai(path = "/:thing_id/again", method = "post", operation_id = "repeat_thing")]
    async fn again(&self, _who: By<Member>, thing_id: Id<ChatId>, how: Json<Option<Again>>) -> Json<Thing> {
        let copies = how.0.and_then(|how| how.copies);
        Json(thing(&format!("{} {copies:?}", thing_id.0)))
    }

    #[oai(path = "/:thing_id", method = "delete", operation_id = "delete_thing")]
    async fn delete(&self, _who: By<Member>, _client: &Client) -> NoContent {
        NoContent
    }

    #[oai(path = "/events", method = "get", operation_id = "follow_things")]
    async fn events(
        &self,
        _who: By<Member>,
        wants: WantsEvents,
        #[oai(name = "Last-Event-ID")] _last: Header<Option<u64>>,
    ) -> OrEvents<Json<Thing, 201>, Event> {
        if !wants.0 {
            return OrEvents::Whole(Json(thing("whole")));
        }
        let first = stream::iter([frame(Some(1), "thing.created", b"{}")]);
        let frames = futures_util::StreamExt::chain(first, stream::pending());
        OrEvents::Live(EventStream::new(frames, self.0.stop.clone()))
    }
}

struct Odd;

#[OpenApi]
impl Odd {
    #[oai(path = "/seen", method = "get", operation_id = "see")]
    async fn seen(&self, client: &Client) -> Json<Seen> {
        let device = client.device();
        Json(Seen { address: device.address, user_agent: device.user_agent, workspace: None })
    }

    #[oai(path = "/seen/:workspace_id", method = "get", operation_id = "see_member")]
    async fn seen_member(&self, who: By<Member>) -> Json<Seen> {
        let workspace = Some(*who.workspace.as_uuid());
        Json(Seen { address: String::new(), user_agent: String::new(), workspace })
    }

    #[oai(path = "/open", method = "post", operation_id = "open")]
    async fn open(&self, new: Json<NewThing>) -> Json<Thing> {
        Json(thing(&new.0.name))
    }

    #[oai(path = "/panics", method = "get", operation_id = "panic")]
    async fn panics(&self) -> Json<Seen> {
        tracing::warn!("about to");
        panic!("with a secret")
    }

    #[oai(path = "/slow", method = "get", operation_id = "be_slow")]
    async fn slow(&self) -> NoContent {
        sleep(Duration::from_millis(300)).await;
        NoContent
    }

    #[oai(path = "/large", method = "get", operation_id = "be_large")]
    async fn large(&self) -> Json<String> {
        Json("x".repeat(32 << 20))
    }
}

type Api = (Things, Odd, crate::http::status::Liveness);

// ---- The server ----

struct TestClock(Instant);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, length: Duration) {
        sleep(length).await;
    }
}

struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

async fn start() -> Server {
    start_with(serve::Settings::default(), &[]).await
}

async fn start_with(settings: serve::Settings, proxies: &[&str]) -> Server {
    let stop = CancellationToken::new();
    let state = Arc::new(State { stop: stop.clone() });
    let api: Api = (Things(state.clone()), Odd, crate::http::status::Liveness);
    let proxies = proxies.iter().map(|network| network.parse().unwrap()).collect();
    let edge = Settings {
        origins: Origins::new(&["https://good.com".into(), "http://localhost:5173".into()]).unwrap(),
        proxies: Proxies::new(proxies),
        tls: false,
        body_within: Duration::from_millis(400),
        clock: Arc::new(TestClock(Instant::now())),
        entropy: Arc::new(NoEntropy),
    };
    let app = Arc::new(crate::http::app(api, state, Vec::new(), edge).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let stopping = stop.clone();
    tasks.spawn(async move { serve::serve(listener, app, settings, stopping).await.unwrap() });
    tasks.close();
    Server { address, stop, tasks }
}

/// An answer off the wire.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Holds the answer against all that contract and RFC 9457 say of an error.
    fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("/problems/{}", code.replace('_', "-")));
        assert_eq!(problem["request_id"], self.header("x-request-id").unwrap());
        assert!(!problem["title"].as_str().unwrap().is_empty() && problem["detail"].as_str().unwrap().ends_with('.'));
        assert_eq!(problem["errors"].as_array().unwrap().is_empty(), status != 422, "{problem}");
        assert_eq!(self.header("www-authenticate").is_some(), status == 401);
        problem
    }

    fn fields(&self) -> Vec<String> {
        let problem = self.problem(422, "invalid");
        let each = problem["errors"].as_array().unwrap().iter();
        each.map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

impl Server {
    async fn raw(&self, request: &[u8]) -> Answer {
        Answer::parse(&self.bytes(request).await)
    }

    /// Everything that comes back until the connection ends.
    async fn bytes(&self, request: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(20), async {
            // The server may answer, and close, before it has read all.
            let _ = socket.write_all(request).await;
            let _ = socket.read_to_end(&mut answer).await;
        })
        .await
        .expect("the connection ends");
        answer
    }

    async fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.raw(format!("{head}\r\n{body}").as_bytes()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &["Authorization: Bearer good"], "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let headers = ["Authorization: Bearer good", "Content-Type: application/json"];
        self.send("POST", path, &headers, body).await
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(5), self.tasks.wait()).await.expect("the server ends");
    }
}

fn things(rest: &str) -> String {
    format!("/workspaces/{WORKSPACE}/things{rest}")
}

// ---- Routing ----

#[tokio::test]
async fn every_route_answers_with_and_without_a_slash() {
    let server = start().await;
    for path in ["/health", "/health/", &things(""), &things("/"), "/docs", "/docs/", "/openapi.json"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(server.get("/health/").await.json(), json!({"status": "ok"}));
    server.get("/health//").await.problem(404, "not_found");
    server.end().await;
}

// R68, R69
#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let server = start().await;
    for path in ["/nothing", "/", "/things", "//", "/%ff", "/.git/config", "/workspaces/%00/things"] {
        let answer = server.get(path).await;
        assert!(answer.problem(404, "not_found")["detail"].as_str().unwrap().len() > 10);
    }
    let answer = server.send("PUT", &things("/"), &[], "").await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    let answer = server.send("PATCH", &things(&format!("/{UNKNOWN}")), &[], "").await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("DELETE, OPTIONS"));
    server.send("TRACE", "/health/", &["Cookie: secret"], "").await.problem(405, "method_not_allowed");
    let long = format!("X{}", "Y".repeat(400));
    server.send(&long, "/health/", &[], "").await.problem(405, "method_not_allowed");
    let answer = server.send("OPTIONS", "/health/", &[], "").await;
    assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    let answer = server.send("HEAD", "/health", &[], "").await;
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("15"), 0));
    server.end().await;
}

// ---- Who asks ----

// R97, D3
#[tokio::test]
async fn who_asks_is_settled_before_anything_else() {
    let server = start().await;
    let garbage = &["Content-Type: application/json"][..];
    let with = |token| [token, "Content-Type: application/json"];
    let here = things("/?limit=abc");
    let nowhere = "/workspaces/not-a-uuid/things/?limit=abc";
    server.send("POST", nowhere, garbage, "{{{").await.problem(401, "unauthenticated");
    server.send("GET", &here, &[], "").await.problem(401, "unauthenticated");
    for token in ["Authorization: Basic Z29vZA==", "Cookie: token=good", "X-Api-Key: good", "Authorization: good"] {
        server
            .send("GET", &things("/?token=good&access_token=good"), &[token], "")
            .await
            .problem(401, "unauthenticated");
    }
    server.send("POST", nowhere, &with("Authorization: Bearer good"), "{{{").await.problem(404, "not_found");
    let foreign = format!("/workspaces/{UNKNOWN}/things/");
    server.send("POST", &foreign, &with("Authorization: Bearer good"), "{{{").await.problem(404, "not_found");
    server.send("POST", &here, &with("Authorization: Bearer guest"), "{{{").await.problem(403, "forbidden");
    server.send("POST", &here, &with("Authorization: Bearer good"), "{{{").await.problem(400, "malformed");
    assert_eq!(server.send("GET", &here, &["Authorization: Bearer good"], "").await.fields(), ["limit"]);
    server.end().await;
}

// R42
#[tokio::test]
async fn foreign_unknown_and_impossible_look_the_same() {
    let server = start().await;
    let mut seen = Vec::new();
    for id in [UNKNOWN, "not-a-uuid", "0190D5A0-7B7C-7000-8000-000000000009", "%2e%2e", "urn:uuid:x"] {
        let headers = ["Authorization: Bearer good", "X-Request-Id: the-same-id"];
        let answer = server.send("GET", &format!("/workspaces/{id}/things"), &headers, "").await;
        answer.problem(404, "not_found");
        seen.push(answer.body);
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
    server.end().await;
}

#[tokio::test]
async fn path_variables_are_read_by_name() {
    let server = start().await;
    let answer = server.get(&format!("/seen/{WORKSPACE}")).await;
    assert_eq!(answer.json()["workspace"], WORKSPACE);
    let answer = server.post(&things(&format!("/{UNKNOWN}/again")), "").await;
    assert_eq!(answer.json()["name"], format!("{UNKNOWN} None"));
    server.post(&things("/nonsense/again"), "").await.problem(404, "not_found");
    server.end().await;
}

// ---- Queries ----

// R65, R66
#[tokio::test]
async fn queries_are_held_to_what_the_document_says() {
    let server = start().await;
    let no_cursor = "is no cursor of this list; leave it out to start from the first page";
    for (query, field, said) in [
        ("?limit=0", "limit", "must be at least 1"),
        ("?limit=101", "limit", "must be at most 100"),
        ("?limit=-1", "limit", "must be at least 1"),
        ("?limit=", "limit", "must be an integer"),
        ("?limit=null", "limit", "must be an integer"),
        ("?limit=1e1", "limit", "must be an integer"),
        ("?limit=10&limit=20", "limit", "must come once"),
        ("?limit=99999999999999999999", "limit", "must be an integer"),
        ("?cursor=nonsense", "cursor", no_cursor),
        ("?cursor=", "cursor", no_cursor),
        ("?archived=perhaps", "archived", "must be true or false"),
        ("?archived=1", "archived", "must be true or false"),
        ("?archived=null", "archived", "must be true or false"),
        ("?archived=%00", "archived", "must be true or false"),
    ] {
        let answer = server.get(&things(query)).await;
        assert_eq!(answer.json()["errors"], json!([{"field": field, "message": said}]), "{query}");
    }
    let long = format!("?cursor={}", "A".repeat(10_000));
    assert_eq!(server.get(&things(&long)).await.fields(), ["cursor"]);
    let name = |answer: Answer| answer.json()["items"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(name(server.get(&things("?unknown=1&unknown=2")).await), "50 after None, None");
    let cursor = private_chat_core::page::Cursor::encode(&7_u64);
    let asked = format!("?limit=100&archived=true&cursor={cursor}");
    assert_eq!(name(server.get(&things(&asked)).await), "100 after Some(7), Some(true)");
    server.end().await;
}

// ---- Bodies ----

#[tokio::test]
async fn answers_have_every_field_and_times_six_digits() {
    let server = start().await;
    let answer = server.post(&things("/"), r#"{"name":"n","weight":1.5}"#).await;
    assert_eq!(answer.status, 201);
    let expected = json!({"name": "n", "weight": 1.5, "parent": null, "created_at": "1970-01-01T00:00:00.000000Z"});
    assert_eq!(answer.json(), expected);
    assert_eq!(
        server.send("DELETE", &things(&format!("/{UNKNOWN}")), &["Authorization: Bearer good"], "").await.status,
        204
    );
    server.end().await;
}

// R13, R44, R67, R71
#[tokio::test]
async fn a_body_of_another_shape_is_422_and_names_every_field() {
    let server = start().await;
    let path = things("/");
    let body = r#"{"name":5,"weight":2.1,"copies":-1,"role":"ADMIN"}"#;
    assert_eq!(server.post(&path, body).await.fields(), ["name", "weight", "copies", "role"]);
    assert_eq!(server.post(&path, "{}").await.fields(), ["name"]);
    for body in ["null", "[]", "5", "\"x\"", "true"] {
        assert_eq!(server.post(&path, body).await.fields(), [""], "{body}");
    }
    assert_eq!(server.post(&path, r#"{"name":null}"#).await.fields(), ["name"]);
    assert_eq!(server.post(&path, r#"{"name":"\u0000"}"#).await.fields(), ["name"]);
    assert_eq!(server.post(&path, r#"{"name":"\ud800"}"#).await.fields(), ["name"]);
    assert_eq!(server.post(&path, r#"{"name":"x","copies":0}"#).await.fields(), ["copies"]);
    let odd = "😀\u{202e}\u{200b}e\u{301}";
    assert_eq!(server.post(&path, &json!({ "name": odd }).to_string()).await.json()["name"], odd);
    server.end().await;
}

// R64, R67
#[tokio::test]
async fn what_is_no_json_is_400_and_the_process_lives() {
    let server = start().await;
    for body in ["{", "{\"name\":\"x\"}}", "name=x", &"[".repeat(200_000), &"{\"a\":".repeat(100_000)] {
        server.post(&things("/"), body).await.problem(400, "malformed");
    }
    let mut raw = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer good\r\n\
         Content-Type: application/json\r\nContent-Length: 12\r\n\r\n",
        things("/")
    )
    .into_bytes();
    raw.extend_from_slice(b"{\"name\":\"\xff\"}");
    server.raw(&raw).await.problem(400, "malformed");
    let answer =
        server.send("POST", &things("/"), &["Authorization: Bearer good", "Content-Type: application/json"], "").await;
    answer.problem(400, "malformed");
    server.end().await;
}

// R68
#[tokio::test]
async fn the_media_type_must_be_named_where_there_is_a_body() {
    let server = start().await;
    for kind in
        ["X-Other: 1", "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "Content-Type: "]
    {
        let answer = server.send("POST", &things("/"), &["Authorization: Bearer good", kind], r#"{"name":"x"}"#).await;
        answer.problem(415, "unsupported_media_type");
    }
    let gzip = ["Authorization: Bearer good", "Content-Type: application/json", "Content-Encoding: gzip"];
    server.send("POST", &things("/"), &gzip, "x").await.problem(415, "unsupported_media_type");
    server.end().await;
}

#[tokio::test]
async fn an_optional_body_may_be_left_out_with_its_type() {
    let server = start().await;
    let path = things(&format!("/{UNKNOWN}/again"));
    let name = |answer: Answer| answer.json()["name"].as_str().unwrap().rsplit_once(' ').unwrap().1.to_owned();
    let token = "Authorization: Bearer good";
    assert_eq!(name(server.send("POST", &path, &[token], "").await), "None");
    assert_eq!(name(server.send("POST", &path, &[token, "Content-Length: 0"], "").await), "None");
    assert_eq!(name(server.send("POST", &path, &[token, "Content-Type: application/json"], "").await), "None");
    assert_eq!(name(server.post(&path, r#"{"copies":3}"#).await), "Some(3)");
    assert_eq!(name(server.post(&path, "{}").await), "None");
    assert_eq!(server.post(&path, "null").await.fields(), [""]);
    assert_eq!(server.post(&path, r#"{"copies":null}"#).await.fields(), ["copies"]);
    server.send("POST", &path, &[token], "{}").await.problem(415, "unsupported_media_type");
    server.end().await;
}

// R63
#[tokio::test]
async fn a_body_is_cut_at_its_cap_however_it_comes() {
    let server = start().await;
    let of = |length: usize| format!("{{\"name\":\"x\"{}}}", " ".repeat(length - 12));
    assert_eq!(server.post("/open", &of(16 << 10)).await.status, 200);
    server.post("/open", &of((16 << 10) + 1)).await.problem(413, "too_large");
    assert_eq!(server.post(&things("/"), &of(1 << 20)).await.status, 201);
    server.post(&things("/"), &of((1 << 20) + 1)).await.problem(413, "too_large");

    let head = |path: &str, rest: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\n{rest}\r\n"
        )
    };
    // By what is declared alone, before any of it comes.
    let answer = server.raw(head("/open", "Content-Length: 99999999999\r\n").as_bytes()).await;
    assert_eq!(answer.header("connection"), Some("close"));
    answer.problem(413, "too_large");
    // In pieces, without a length.
    let chunk = format!("400\r\n{}\r\n", " ".repeat(1024));
    let chunked = head("/open", "Transfer-Encoding: chunked\r\n") + &chunk.repeat(17);
    server.raw(chunked.as_bytes()).await.problem(413, "too_large");
    let ended = head("/open", "Transfer-Encoding: chunked\r\nConnection: close\r\n")
        + &chunk
        + "c\r\n{\"name\":\"x\"}\r\n0\r\n\r\n";
    assert_eq!(server.raw(ended.as_bytes()).await.status, 200);
    // A length that is longer than what comes: the client gives up, nobody else notices.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all((head("/open", "Content-Length: 100\r\n") + "{\"name\"").as_bytes()).await.unwrap();
    drop(socket);
    assert_eq!(server.get("/health/").await.status, 200);
    server.end().await;
}

// R98
#[tokio::test]
async fn one_request_is_never_two() {
    let server = start().await;
    let smuggled = "GET /seen HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = format!(
        "POST /open HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         c\r\n{{\"name\":\"x\"}}\r\n0\r\n\r\n{smuggled}"
    );
    for request in [
        both.clone(),
        both.replace(
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
        ),
    ] {
        let answers = String::from_utf8_lossy(&server.bytes(request.as_bytes()).await).into_owned();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        assert!(!answers.contains("address"), "{answers}");
    }
    for odd in [
        "Content-Length: 12\r\nContent-Length: 13",
        "Content-Length: +12",
        "Content-Length: 12, 13",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "X-Folded: a\r\n b",
    ] {
        let request = format!(
            "POST /open HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{odd}\r\n\r\n{{\"name\":\"x\"}}{smuggled}"
        );
        let answers = String::from_utf8_lossy(&server.bytes(request.as_bytes()).await).into_owned();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{odd}: {answers}");
        assert!(answers.starts_with("HTTP/1.1 400"), "{odd}: {answers}");
    }
    server.end().await;
}

// ---- Errors ----

// R69, R77
#[tokio::test]
async fn causes_stay_inside() {
    let server = start().await;
    server.post(&things("/"), r#"{"name":"stale"}"#).await.problem(409, "conflict");
    let away = server.post(&things("/"), r#"{"name":"away"}"#).await;
    away.problem(503, "unavailable");
    assert_eq!(away.header("retry-after"), Some("2"));
    let broken = server.post(&things("/"), r#"{"name":"broken"}"#).await;
    broken.problem(500, "internal");
    for answer in [away, broken] {
        let shown = String::from_utf8(answer.body).unwrap();
        assert!(!shown.contains("10.0.0.7") && !shown.contains("select"), "{shown}");
    }
    server.end().await;
}

#[tokio::test]
#[should_panic(expected = "which it does not list")]
async fn a_route_can_answer_only_what_it_lists() {
    let _ = Failed::<()>::from(Error::CursorExpired);
}

// R71, R69
#[tokio::test]
async fn a_panic_is_a_problem_of_one_request() {
    let server = start().await;
    let answer = server.get("/panics").await;
    answer.problem(500, "internal");
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    assert_eq!(server.get("/health/").await.status, 200);
    server.end().await;
}

// ---- Headers ----

// R96, R93, R29
#[tokio::test]
async fn every_answer_carries_the_same_headers() {
    let server = start().await;
    for path in ["/health/", "/nothing", "/panics", "/docs", "/openapi.json"] {
        let answer = server.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{path}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{path}");
        assert!(answer.header("server").is_none() && answer.header("x-powered-by").is_none());
        let store = if path.contains("doc") || path.contains("openapi") { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(store), "{path}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_well_formed_request_id_is_kept() {
    let server = start().await;
    let id = |answer: Answer| answer.header("x-request-id").unwrap().to_owned();
    assert_eq!(id(server.send("GET", "/health/", &["X-Request-Id: from-the-proxy.1"], "").await), "from-the-proxy.1");
    for odd in ["short", "has space in it", "with;semicolon", "<script>alert(1)</script>"] {
        let made = id(server.send("GET", "/health/", &[&format!("X-Request-Id: {odd}")], "").await);
        assert_eq!(Uuid::parse_str(&made).unwrap().get_version_num(), 7, "{odd}");
    }
    server.end().await;
}

// R94, R95
#[tokio::test]
async fn only_listed_origins_may_read_answers() {
    let server = start().await;
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(ToOwned::to_owned);
    for path in ["/health/", "/nothing", "/panics", &things("/")] {
        for good in ["https://good.com", "http://localhost:5173"] {
            let answer = server.send("GET", path, &[&format!("Origin: {good}")], "").await;
            assert_eq!(allowed(&answer).as_deref(), Some(good), "{path}");
            assert!(answer.header("access-control-expose-headers").unwrap().contains("X-Request-Id"));
            assert!(answer.header("access-control-allow-credentials").is_none());
        }
    }
    let preflight = |origin: &str| [format!("Origin: {origin}"), "Access-Control-Request-Method: PATCH".into()];
    for bad in [
        "null",
        "http://good.com",
        "https://good.com.evil",
        "https://evil-good.com",
        "https://good.com:8443",
        "https://GOOD.com",
        "https://good.com/",
        "*",
        "https://sub.good.com",
        "https://gööd.com",
        "",
        "http://localhost",
    ] {
        let answer = server.send("GET", "/health/", &[&format!("Origin: {bad}")], "").await;
        assert_eq!((answer.status, allowed(&answer)), (200, None), "{bad}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{bad}");
        let [origin, method] = preflight(bad);
        let answer = server.send("OPTIONS", "/health/", &[&origin, &method], "").await;
        assert_eq!((allowed(&answer), answer.header("access-control-allow-methods")), (None, None), "{bad}");
    }
    for path in [&things("/"), "/nothing"] {
        let [origin, method] = preflight("https://good.com");
        let answer = server
            .send("OPTIONS", path, &[&origin, &method, "Access-Control-Request-Headers: authorization"], "")
            .await;
        assert_eq!((answer.status, allowed(&answer).as_deref()), (204, Some("https://good.com")));
        assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
        assert!(answer.header("access-control-allow-headers").unwrap().contains("Authorization"));
        assert!(answer.header("access-control-max-age").is_some());
    }
    server.end().await;
}

// R10
#[tokio::test]
async fn the_address_is_the_sockets_unless_a_trusted_proxy_says_otherwise() {
    let forged = ["X-Forwarded-For: 6.6.6.6, 1.2.3.4", "X-Real-IP: 6.6.6.6", "User-Agent: curl\t/8"];
    let server = start().await;
    let seen = server.send("GET", "/seen", &forged, "").await.json();
    assert_eq!(seen, json!({"address": "127.0.0.1", "user_agent": "curl/8", "workspace": null}));
    server.end().await;
    let server = start_with(serve::Settings::default(), &["127.0.0.0/8"]).await;
    assert_eq!(server.send("GET", "/seen", &forged, "").await.json()["address"], "1.2.3.4");
    server.end().await;
}

// ---- Log ----

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// R88, R89, R90
#[tokio::test]
async fn every_line_has_the_request_id_and_none_a_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let server = start().await;
    let secret = [
        "Authorization: Bearer good",
        "X-Request-Id: the-request-id",
        "Content-Type: application/json",
        "User-Agent: canary",
    ];
    server.send("GET", &things("/?cursor=canary"), &secret, "").await;
    server.send("POST", &things("/"), &secret, r#"{"name":"broken","canary":1}"#).await;
    server.send("POST", &things("/"), &secret, r#"{"name":"broken"}"#).await;
    server.send("GET", "/panics", &secret, "").await;
    server.send("GET", "/odd%0apath\u{2028}x", &secret, "").await;
    server.end().await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Five answers, one cause, and what the handler said before it panicked.
    assert_eq!(lines.len(), 7, "{text}");
    assert!(lines.iter().all(|line| line["span"]["request_id"] == "the-request-id"), "{text}");
    for secret in ["canary", "good", "limit", "\u{2028}"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert_eq!(text.matches("select * from secrets").count(), 1);
    let fields = &lines[0]["fields"];
    assert_eq!(fields["route"], "/workspaces/:workspace_id/things/");
    assert_eq!(
        (&fields["method"], &fields["status"], &fields["client"]),
        (&json!("GET"), &json!(422), &json!("127.0.0.1"))
    );
    assert!(fields["micros"].is_u64());
}

// ---- Events ----

#[tokio::test]
async fn a_stream_comes_at_once_and_ends_with_the_server() {
    let server = start().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nAccept: text/event-stream\r\n\r\n",
        things("/events")
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: {}\n\n\r\n") {
        let mut part = [0; 1024];
        let read = timeout(Duration::from_secs(5), socket.read(&mut part)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
    }
    let answer = Answer::parse(&seen);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    server.stop.cancel();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    // The end of a chunked body, so that no client takes it for a cut.
    assert_eq!(rest, b"0\r\n\r\n");
    assert_eq!(server.tasks.len(), 0);
}

#[tokio::test]
async fn a_cursor_that_is_none_is_named_as_the_header_is() {
    let server = start().await;
    let headers = ["Authorization: Bearer good", "Last-Event-ID: x"];
    assert_eq!(server.send("GET", &things("/events"), &headers, "").await.fields(), ["Last-Event-ID"]);
    server.end().await;
}

#[tokio::test]
async fn who_does_not_name_events_gets_one_answer() {
    let server = start().await;
    assert_eq!(server.get(&things("/events")).await.status, 201);
    server.end().await;
}

// ---- Time ----

fn impatient() -> serve::Settings {
    serve::Settings {
        max_connections: 64,
        head: Duration::from_millis(300),
        idle: Duration::from_millis(900),
        write: Duration::from_millis(300),
        drain: Duration::from_millis(600),
    }
}

/// How long until the server closes the connection, and what it said.
async fn closed(socket: &mut TcpStream) -> (Duration, Vec<u8>) {
    let begun = Instant::now();
    let mut said = Vec::new();
    let _ = timeout(Duration::from_secs(10), socket.read_to_end(&mut said)).await.expect("the server closes");
    (begun.elapsed(), said)
}

// R99
#[tokio::test]
async fn a_slow_head_is_cut_and_an_idle_connection_waits_longer() {
    let server = start_with(impatient(), &[]).await;
    let short = Duration::from_millis(250)..Duration::from_millis(800);
    let long = Duration::from_millis(850)..Duration::from_millis(3_000);
    for head in ["", "GET /health/ HTTP/1.1\r\nHost: x\r\n"] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        let (after, said) = closed(&mut socket).await;
        assert!(short.contains(&after) && said.is_empty(), "{head:?}: {after:?} {said:?}");
    }
    // One byte at a time does not help.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    for byte in "GET /health/ HTTP/1.1\r\nX-Slow: yes\r\n".bytes().cycle() {
        if socket.write_all(&[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(30)).await;
    }
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    // Between requests there is more time, and then as little for a head as at first.
    let whole = b"GET /health/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let mut part = [0; 4096];
    for _ in 0..3 {
        socket.write_all(whole).await.unwrap();
        assert!(socket.read(&mut part).await.unwrap() > 0);
        sleep(Duration::from_millis(500)).await;
    }
    socket.write_all(whole).await.unwrap();
    assert!(socket.read(&mut part).await.unwrap() > 0);
    let (after, said) = closed(&mut socket).await;
    assert!(long.contains(&after) && said.is_empty(), "{after:?}");
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(whole).await.unwrap();
    assert!(socket.read(&mut part).await.unwrap() > 0);
    socket.write_all(b"GET /he").await.unwrap();
    let (after, _) = closed(&mut socket).await;
    assert!(short.contains(&after), "{after:?}");
    server.end().await;
}

// R99
#[tokio::test]
async fn a_body_must_keep_coming() {
    let server = start().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /open HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let (after, said) = closed(&mut socket).await;
    assert!((Duration::from_millis(350)..Duration::from_millis(2_000)).contains(&after), "{after:?}");
    Answer::parse(&said).problem(408, "request_timeout");
    // One that is slow, but moves, gets through.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(head.replace("Host: x", "Connection: close").as_bytes()).await.unwrap();
    for _ in 0..8 {
        socket.write_all(" ".repeat(248).as_bytes()).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    socket.write_all(b"  \"name\":\"x\"  }").await.unwrap();
    let (_, said) = closed(&mut socket).await;
    assert_eq!(Answer::parse(&said).status, 200, "{}", String::from_utf8_lossy(&said));
    server.end().await;
}

#[tokio::test]
async fn a_slow_handler_is_no_slow_head() {
    let server = start_with(serve::Settings { head: Duration::from_millis(100), ..impatient() }, &[]).await;
    assert_eq!(server.get("/slow").await.status, 204);
    server.end().await;
}

// R99
#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut() {
    let server = start_with(impatient(), &[]).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(1_500)).await;
    let mut all = Vec::new();
    let _ = timeout(Duration::from_secs(5), socket.read_to_end(&mut all)).await.expect("the connection is over");
    assert!(all.len() < 32 << 20, "{}", all.len());
    server.end().await;
}

// R103
#[tokio::test]
async fn connections_beyond_the_cap_wait() {
    let server = start_with(serve::Settings { max_connections: 2, ..impatient() }, &[]).await;
    let silent = [TcpStream::connect(server.address).await.unwrap(), TcpStream::connect(server.address).await.unwrap()];
    sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    assert_eq!(server.get("/health/").await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    drop(silent);
    server.end().await;
}

// R109
#[tokio::test]
async fn a_running_request_ends_before_the_server_does() {
    let server = start().await;
    let request = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    server.stop.cancel();
    let (_, said) = closed(&mut socket).await;
    assert_eq!(Answer::parse(&said).status, 204);
    timeout(Duration::from_secs(5), server.tasks.wait()).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

// R109
#[tokio::test]
async fn who_does_not_end_in_time_is_cut() {
    let server = start_with(serve::Settings { write: Duration::from_secs(60), ..impatient() }, &[]).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    server.stop.cancel();
    timeout(Duration::from_secs(5), server.tasks.wait()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(550), "{:?}", begun.elapsed());
}

// ---- The document ----

fn described() -> Value {
    crate::http::document::<Api>().unwrap()
}

#[test]
fn the_document_lists_what_guards_and_framework_answer() {
    let document = described();
    assert_eq!(document, described());
    assert_eq!(document["openapi"], "3.0.3");
    let statuses = |path: &str, method: &str| {
        let responses = document["paths"][path][method]["responses"].as_object();
        responses.unwrap_or_else(|| panic!("{method} {path}")).keys().cloned().collect::<Vec<_>>()
    };
    let list = "/workspaces/{workspace_id}/things/";
    assert_eq!(statuses("/health/", "get"), ["200", "500"]);
    assert_eq!(statuses(list, "get"), ["200", "401", "403", "404", "422", "500", "503"]);
    assert_eq!(
        statuses(list, "post"),
        ["201", "400", "401", "403", "404", "408", "409", "413", "415", "422", "500", "503"]
    );
    assert_eq!(
        statuses("/workspaces/{workspace_id}/things/events", "get"),
        ["200", "201", "401", "403", "404", "422", "500", "503"]
    );
    let conflict = &document["paths"][list]["post"]["responses"]["409"]["content"]["application/problem+json"];
    assert_eq!(conflict["schema"]["allOf"][1]["properties"]["code"]["enum"], json!(["conflict", "email_taken"]));
    assert_eq!(conflict["examples"]["conflict"]["value"]["status"], 409);
    assert_eq!(document["paths"][list]["post"]["security"], json!([{"bearer": []}]));
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let id = &document["paths"]["/workspaces/{workspace_id}/things/{thing_id}"]["delete"]["parameters"];
    assert_eq!(id.as_array().unwrap().len(), 2, "{id}");
    assert_eq!(
        id[1],
        json!({"name": "thing_id", "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}})
    );
    let limit = &document["paths"][list]["get"]["parameters"][1];
    assert_eq!(limit["schema"], json!({"type": "integer", "minimum": 1.0, "maximum": 100.0, "default": 50}));
    assert_eq!((&limit["name"], &limit["required"]), (&json!("limit"), &json!(false)));
}

#[test]
fn requests_are_closed_and_answers_leave_nothing_out() {
    let document = described();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["NewThing"]["additionalProperties"], false);
    assert_eq!(schemas["NewThing"]["required"], json!(["name"]));
    assert_eq!(schemas["NewThing"]["properties"]["copies"]["minimum"], 0);
    assert_eq!(schemas["NewThing"]["properties"]["copies"]["maximum"], u32::MAX);
    let thing = &schemas["Thing"];
    assert_eq!(thing["required"], json!(["created_at", "name", "parent", "weight"]));
    assert_eq!(thing["properties"]["weight"]["nullable"], true);
    assert_eq!(
        thing["properties"]["parent"],
        json!({"nullable": true, "allOf": [{"$ref": "#/components/schemas/Parent"}]})
    );
    assert_eq!(thing["properties"]["note"].get("readOnly"), None);
    assert!(thing.get("additionalProperties").is_none());
    assert_eq!(schemas["Page_Thing"]["required"], json!(["items", "next_cursor"]));
    // Only events reach it.
    assert_eq!(schemas["ThingGone"]["required"], json!(["parent"]));
    let events = &document["paths"]["/workspaces/{workspace_id}/things/events"]["get"]["responses"]["200"]["content"];
    assert_eq!(
        events["text/event-stream"]["schema"],
        json!({"type": "array", "items": {"$ref": "#/components/schemas/Event"}})
    );
    assert!(schemas["Event"]["discriminator"]["mapping"]["thing.created"].is_string());
}

struct Wrong;

#[OpenApi]
impl Wrong {
    #[oai(path = "/wrong/:thing_id", method = "get", operation_id = "be_wrong")]
    async fn wrong(&self, other_id: Id<ChatId>) -> NoContent {
        let _ = other_id;
        NoContent
    }
}

struct Unnamed;

#[OpenApi]
impl Unnamed {
    #[oai(path = "/unnamed", method = "get")]
    async fn unnamed(&self) -> NoContent {
        NoContent
    }
}

struct Echo;

#[OpenApi]
impl Echo {
    #[oai(path = "/echo", method = "post", operation_id = "echo")]
    async fn echo(&self, sent: Json<Both>) -> Json<Both> {
        Json(sent.0)
    }
}

#[derive(Object, Serialize, Deserialize)]
struct Both {
    name: String,
}

#[derive(Union)]
#[oai(one_of = true, discriminator_name = "type")]
enum Twins {
    #[oai(mapping = "one")]
    One(ThingGone),
    #[oai(mapping = "two")]
    Two(ThingGone),
}

struct Confused;

#[OpenApi]
impl Confused {
    #[oai(path = "/twins", method = "get", operation_id = "get_twins")]
    async fn twins(&self) -> EventStream<Twins> {
        EventStream::new(stream::empty(), CancellationToken::new())
    }
}

#[test]
fn an_api_that_would_make_a_wrong_document_does_not_start() {
    let error = crate::http::document::<(Wrong, Odd)>().unwrap_err();
    assert!(error.contains("GET /wrong/{thing_id}") && error.contains("other_id"), "{error}");
    assert!(crate::http::document::<(Unnamed, Odd)>().unwrap_err().contains("operation id"));
    assert!(crate::http::document::<(Echo, Odd)>().unwrap_err().contains("Both"));
    assert!(crate::http::document::<(Confused, Odd)>().unwrap_err().contains("Twins"));
}

#[tokio::test]
async fn swagger_ui_needs_no_inline_script() {
    let server = start().await;
    let page = server.get("/docs/").await;
    let html = String::from_utf8(page.body.clone()).unwrap();
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self';"));
    let mut loaded = 0;
    for path in html.split('"').filter(|part| part.starts_with("/docs/")) {
        assert_eq!(server.send("GET", path, &[], "").await.status, 200, "{path}");
        loaded += 1;
    }
    assert_eq!(loaded, 3);
    assert!(!html.contains("<script>") && !html.contains("onload"), "{html}");
    assert_eq!(server.get("/openapi.json").await.json(), described());
    server.end().await;
}
