//! Too many connections.

use std::time::Duration;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::ends;
use crate::program::Home;
use crate::upstream::{Upstream, count};
use crate::{trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("running_out_of_files_kills_nothing", few_files),
        trial("a_thousand_idle_connections_are_in_nobodys_way", many_connections),
        trial("more_than_may_connect_wait", more_than_may),
        trial("an_output_that_nobody_reads_any_more_is_no_reason_to_end", closed_output),
    ]
}

async fn connect(address: &str, many: usize) -> Vec<TcpStream> {
    let connections = join_all((0..many).map(|_| TcpStream::connect(address))).await;
    connections.into_iter().map(Result::unwrap).collect()
}

// R103, F40
async fn few_files() {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream);
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let chat = ann.make_chat(&workspace).await;
    ann.exchange(&chat, &count(1, 0)).await.expect(201);
    let feed = ann.follow(&workspace, None).await;

    program.limit_files(64);
    let idle = connect(program.address(), 100).await;
    until(Duration::from_secs(30), "it runs out of files", async || {
        !program.entries("connections can't be accepted for the moment").is_empty()
    })
    .await;
    assert!(program.is_alive());
    drop(idle);
    until(Duration::from_secs(30), "it takes connections again", async || {
        let asked = timeout(Duration::from_secs(2), program.api().try_post("/auth/login", &json!({}))).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 422))
    })
    .await;
    // Nothing of it was felt by those who were there before.
    ann.exchange(&chat, &count(3, 0)).await.expect(201);
    feed.until("the reply ends", |seen| ends(seen).len() == 1).await;
    program.stop().await;
}

// R103, F42
async fn many_connections() {
    const MANY: usize = 1_000;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let upstream = Upstream::start().await;
    let home = Home::with_keys().asking(&upstream);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let chat = ann.make_chat(&ann.make_workspace().await).await;
    let idle = connect(program.address(), MANY).await;
    let answer = program.api().with_token(ann.token()).exchange(&chat, &count(3, 0)).await.expect(201);
    assert_eq!(answer["reply"]["status"], "complete");
    drop(idle);
    program.stop().await;
}

// R103
async fn more_than_may() {
    let home = Home::with_keys().set("PRIVATE_CHAT_SERVER__MAX_CONNECTIONS", "8");
    let program = home.start().await;
    let mut idle = connect(program.address(), 8).await;
    // Those that are full are served, and one more waits until one of them goes.
    let waiting = program.api();
    let mut asked = std::pin::pin!(waiting.get("/health/"));
    assert!(timeout(Duration::from_millis(500), &mut asked).await.is_err(), "a ninth was let in");
    drop(idle.pop());
    asked.await.expect(200);
    drop(idle);
    program.stop().await;
}

// F39
async fn closed_output() {
    let home = Home::with_keys();
    let mut program = home.start().await;
    let ann = program.api().set_up().await;
    program.close_output();
    for _ in 0..5 {
        ann.make_workspace().await;
    }
    assert!(program.log().iter().filter(|line| line.contains("/workspaces")).count() <= 1, "its output was closed");
    program.terminate();
    assert_eq!(program.ended(Duration::from_secs(30)).await.code(), Some(0));
}
