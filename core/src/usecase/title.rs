//! Titles: a chat that was given none is given one by its model, once there is something to go by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use event_listener::Event as Signal;
use futures_util::future::select;
use futures_util::{StreamExt as _, pin_mut};

use super::deciding_again;
use super::live::Live;
use super::models::Models;
use super::reply::Job;
use crate::change::{Changes, Event, EventKind, EventNumber};
use crate::error::Error;
use crate::id::{ChatId, WorkspaceId};
use crate::model::chat::{Chat, Message, MessageStatus, Parameters, Seq, Speaker};
use crate::port::Ports;
use crate::port::inference::{Completion, Inference, Piece, PromptMessage};

/// How long a model may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many titles may be in the making at once. A further chat gets its title with its next reply.
const AT_ONCE: usize = 4;
/// Up to which message of its chat a reply is a reason to ask.
const EARLY: Seq = 10;
/// How many characters of each message the model is told.
const EXCERPT: usize = 2_000;
/// How many tokens the answer may have: few for a title, many for one who thinks first.
const TOKENS: u32 = 1_000;
/// How many bytes of it are read.
const ANSWER: usize = 16 << 10;
/// How many characters a title has at most.
const LONGEST: usize = 80;

const REQUEST: &str = "Give the following conversation a title of two to six words, in the language in which it is held. \
                       Answer with the title alone: no quotation marks, no full stop, nothing before or after it.";

/// Giving titles, in the background: no reply waits for one, and one that can't be had changes nothing.
pub struct Titles {
    ports: Ports,
    live: Arc<Live>,
    models: Arc<Models>,
    wanted: bool,
    writing: AtomicUsize,
    closed: AtomicBool,
    closing: Signal,
}

impl Titles {
    /// Over these ports; where they are not `wanted`, chats keep none.
    #[must_use]
    pub fn new(ports: Ports, live: Arc<Live>, models: Arc<Models>, wanted: bool) -> Self {
        let (writing, closed, closing) = (AtomicUsize::new(0), AtomicBool::new(false), Signal::new());
        Self { ports, live, models, wanted, writing, closed, closing }
    }

    /// Gives up what is in the making, and begins no more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify(usize::MAX);
    }

    /// A reply has ended: if its chat has no title, its model is asked for one.
    pub(super) fn after(self: Arc<Self>, job: &Job, reply: &Message) {
        let early = reply.seq <= EARLY && job.chat.title.is_none();
        if !self.wanted || !early || reply.status != MessageStatus::Complete || self.closed.load(Ordering::SeqCst) {
            return;
        }
        let named = reply.model.as_deref().and_then(|id| id.split_once('/'));
        let Some((provider, model)) = named.and_then(|(name, model)| Some((self.models.provider(name)?, model))) else {
            return;
        };
        if !provider.writes_titles || self.writing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_err() {
            return;
        }
        let completion = Completion {
            model: model.to_owned(),
            messages: vec![PromptMessage { speaker: Speaker::User, content: request(&job.message, reply) }],
            parameters: Parameters { max_tokens: Some(TOKENS), ..Parameters::default() },
        };
        let (inference, chat) = (provider.inference.clone(), (reply.workspace, reply.chat));
        let tasks = self.ports.tasks.clone();
        tasks.spawn(Box::pin(async move {
            let place = Place(&self);
            let closing = self.closing.listen();
            let patience = self.ports.clock.sleep(PATIENCE);
            if !self.closed.load(Ordering::SeqCst) {
                let writing = self.write(chat, &*inference, completion);
                pin_mut!(closing, patience, writing);
                // What goes wrong leaves the chat as it is, and nobody waits to hear of it.
                select(writing, select(closing, patience)).await;
            }
            drop(place);
        }));
    }

    /// Asks for a title, and gives it to the chat unless that has one by now.
    async fn write(
        &self,
        (workspace, id): (WorkspaceId, ChatId),
        inference: &dyn Inference,
        completion: Completion,
    ) -> Result<(), Error> {
        let untitled = |chat: Option<Chat>| chat.filter(|chat| chat.title.is_none());
        if untitled(self.ports.chats.chat(workspace, id).await?).is_none() {
            return Ok(());
        }
        let Some(title) = answer(inference, completion).await.as_deref().and_then(title_in) else { return Ok(()) };
        let titled: Option<(EventNumber, Chat)> = deciding_again(|| async {
            let Some(chat) = untitled(self.ports.chats.chat(workspace, id).await?) else { return Ok(None) };
            let now = self.ports.clock.now();
            let chat = Chat { title: Some(title.clone()), updated_at: now, ..chat };
            let event = Event { workspace, kind: EventKind::ChatUpdated(id), at: now };
            let committed = self.ports.work.commit(Changes::new().update(chat.clone()).emit(event)).await?;
            Ok(Some((committed.first_event(), Chat { version: chat.version.next(), ..chat })))
        })
        .await?;
        if let Some((number, chat)) = titled {
            self.live.publish_chat(number, EventKind::ChatUpdated(id), &chat);
        }
        Ok(())
    }
}

/// One more title in the making, if there may be.
fn one_more(writing: usize) -> Option<usize> {
    (writing < AT_ONCE).then_some(writing + 1)
}

/// A place among those in the making.
struct Place<'t>(&'t Titles);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the model is asked. All in one message of a person, as some models take no other first.
fn request(message: &Message, reply: &Message) -> String {
    let excerpt = |text: &str| text.chars().take(EXCERPT).collect::<String>();
    format!("{REQUEST}\n\nQuestion:\n{}\n\nAnswer:\n{}", excerpt(&message.content), excerpt(&reply.content))
}

/// The whole answer; none where it does not come to its end.
async fn answer(inference: &dyn Inference, completion: Completion) -> Option<String> {
    let mut pieces = inference.stream(completion).await.ok()?;
    let mut text = String::new();
    while let Some(piece) = pieces.next().await {
        match piece.ok()? {
            Piece::Content(more) if text.len() + more.len() <= ANSWER => text.push_str(&more),
            Piece::Content(_) => return None,
            Piece::Finish(_) => return Some(text),
            Piece::Reasoning(_) | Piece::Usage(_) => {}
        }
    }
    Some(text)
}

/// The title in what a model answered: its first line, without the thoughts before it and the ornaments around it.
fn title_in(answer: &str) -> Option<String> {
    let answer = answer.rsplit_once("</think>").map_or(answer, |(_, after)| after);
    let ornament = |c: char| c.is_whitespace() || c.is_control() || "\"'`*_#“”„‟«»‘’「」『』<>".contains(c);
    let bare = |text: &str| text.trim_matches(ornament).to_owned();
    let line = answer.lines().map(bare).find(|line| !line.is_empty() && line != "think")?;
    let named = line.split_once(':').filter(|(name, _)| name.trim_matches(ornament).eq_ignore_ascii_case("title"));
    let line = bare(named.map_or(line.as_str(), |(_, title)| title));
    let line = line.strip_suffix(['.', '。']).filter(|line| !line.ends_with('.')).unwrap_or(&line);
    let words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let title = words.join(" ");
    if title.chars().count() > LONGEST {
        return Some(title.chars().take(LONGEST - 1).chain(['…']).collect());
    }
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_without_ornaments() {
        for (answer, title) in [
            ("Baking bread", "Baking bread"),
            ("  \n\n**\"Baking bread.\"**\nIt is about bread.", "Baking bread"),
            ("Title: Brot backen", "Brot backen"),
            ("**Title:** Brot backen", "Brot backen"),
            ("# Title: “Pain”", "Pain"),
            ("<think>\nBread, then.\n</think>\n\nBread", "Bread"),
            ("「パンの焼き方」", "パンの焼き方"),
            ("パンの焼き方。", "パンの焼き方"),
            ("Ratio 3:2", "Ratio 3:2"),
            ("And then…", "And then…"),
            ("etc...", "etc..."),
            ("a\tb\u{7}c", "a b c"),
        ] {
            assert_eq!(title_in(answer).as_deref(), Some(title), "{answer}");
        }
        for nothing in ["", " \n\"\"\n**", "Title:", "<think>\n"] {
            assert_eq!(title_in(nothing), None, "{nothing}");
        }
        let long = title_in(&"é".repeat(500)).unwrap();
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with('…'));
    }
}
