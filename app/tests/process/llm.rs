//! The main job, with a real server of models behind it.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use private_chat_tests::servers::Servers;
use serde_json::json;

use crate::client::{End, ends, text};
use crate::program::Home;
use crate::{llm_trial, until};

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        llm_trial(servers, "llm::the_main_job", main_job),
        llm_trial(servers, "llm::an_endless_reply_is_stopped", stopped),
        llm_trial(servers, "llm::an_endless_reply_is_cut_at_the_cap", capped),
    ]
}

fn asking(url: &str) -> Home {
    Home::with_keys().set("OPENAI_BASE_URL", url).set("OPENAI_API_KEY", "none")
}

async fn main_job(url: String) {
    let home = asking(&url);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let chat = ann.make_chat(&ann.make_workspace().await).await;
    let stream = ann.say(&chat, "Who are you?").await;
    let reply = stream.reply().await;
    let (seen, end) = stream.ended(Duration::from_secs(120)).await;
    assert_eq!((ends(&seen).len(), end), (1, End::Clean));
    let message = &ends(&seen)[0].data["message"];
    assert_eq!((ends(&seen)[0].event.as_str(), &message["status"]), ("message.completed", &json!("complete")));
    assert_eq!(message["content"], text(&seen, &reply));
    assert!(!message["content"].as_str().unwrap().is_empty());
    assert!(message["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{message}");
    assert!(message["model"].as_str().unwrap().starts_with("openai/"), "{message}");
    assert_eq!(ann.messages(&chat).await[1], *message);
    program.stop().await;
}

// F30
async fn stopped(url: String) {
    let home = asking(&url);
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    // A quick server comes to the end of its context within a second: on a busy machine that may be before the stop.
    let mut tries = 0;
    let (stream, reply, stopped) = loop {
        let chat = ann.make_chat(&workspace).await;
        let stream = ann.say(&chat, "Go on forever.").await;
        let reply = stream.reply().await;
        stream.until_words(&reply, 20).await;
        let answer = ann.post(&format!("{chat}/message/{reply}/stop"), &json!({})).await;
        tries += 1;
        if answer.status == 200 || tries == 10 {
            break (stream, reply, answer.expect(200));
        }
    };
    assert_eq!(stopped["status"], "stopped");
    let (seen, end) = stream.ended(Duration::from_secs(30)).await;
    assert_eq!((ends(&seen).len(), ends(&seen)[0].event.as_str(), end), (1, "message.stopped", End::Clean));
    assert_eq!(ends(&seen)[0].data["message"], stopped);
    assert_eq!(stopped["content"], text(&seen, &reply));
    // The provider is free for the next, who does not wait for what nobody wants any more.
    let chat = ann.make_chat(&workspace).await;
    let answer = ann.exchange(&chat, "Who are you?").await.expect(201);
    assert_eq!(answer["reply"]["status"], "complete", "{answer}");
}

// R85, F28
async fn capped(url: String) {
    const MOST: usize = 2_000;
    let home = asking(&url).set("PRIVATE_CHAT_INFERENCE__MAX_REPLY_BYTES", &MOST.to_string());
    let program = home.start().await;
    let ann = program.api().set_up().await;
    let chat = ann.make_chat(&ann.make_workspace().await).await;
    let answer = ann.exchange(&chat, "Go on forever.").await.expect(201);
    let reply = &answer["reply"];
    assert_eq!((&reply["status"], &reply["error"]["code"]), (&json!("failed"), &json!("too_long")));
    let length = reply["content"].as_str().unwrap().len() + reply["reasoning"].as_str().unwrap_or_default().len();
    assert!(length <= MOST && length > MOST - 4, "{length}");
    until(Duration::from_secs(30), "it is stored so", async || ann.messages(&chat).await[1] == *reply).await;
}
