//! A client: what it shows of what it was sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use private_chat_core::change::EventNumber;
use private_chat_core::id::{ChatId, MessageId, UserId};
use private_chat_core::model::chat::{Chat, Message, MessageStatus};
use private_chat_core::model::workspace::Participant;
use private_chat_core::usecase::live::{Frame, LiveEvent, Part, ReplyWatch, Watch};
use tokio::task::JoinSet;

/// What somebody sees, by the contract's one rule: `text = text[:offset] + content`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen {
    /// The last `id:`.
    pub(crate) cursor: Option<EventNumber>,
    pub(crate) messages: BTreeMap<MessageId, Message>,
    pub(crate) chats: BTreeMap<ChatId, Chat>,
    /// Those of whom it was told.
    pub(crate) members: BTreeMap<UserId, Participant>,
    /// Everything that came, in a few words each.
    pub(crate) seen: Vec<String>,
}

impl Screen {
    pub(crate) fn apply(&mut self, frame: &Frame) {
        if let Some(cursor) = frame.cursor {
            assert!(self.cursor <= Some(cursor), "the cursor went back from {:?} to {cursor}", self.cursor);
            self.cursor = Some(cursor);
        }
        let Some(event) = frame.delivery.event() else {
            self.seen.push("open".into());
            return;
        };
        match event {
            LiveEvent::MessageCreated(message) => {
                self.seen.push(format!("created {:?}", message.speaker).to_lowercase());
                self.messages.insert(message.id, message.clone());
            }
            LiveEvent::MessageEnded(message) => {
                assert_ne!(message.status, MessageStatus::Streaming, "an end that is none");
                self.seen.push(format!("ended {:?}", message.status).to_lowercase());
                self.messages.insert(message.id, message.clone());
            }
            LiveEvent::ChatCreated(chat) => {
                self.seen.push("chat".into());
                self.chats.insert(chat.id, chat.clone());
            }
            LiveEvent::ChatUpdated(chat) => {
                self.seen.push("renamed".into());
                self.chats.insert(chat.id, chat.clone());
            }
            LiveEvent::ChatDeleted(chat) => {
                self.seen.push("gone".into());
                self.chats.remove(chat);
            }
            LiveEvent::MemberJoined(member) => {
                self.seen.push("joined".into());
                self.members.insert(member.membership.user, member.clone());
            }
            LiveEvent::MemberUpdated(member) => {
                self.seen.push("role".into());
                self.members.insert(member.membership.user, member.clone());
            }
            LiveEvent::MemberLeft(user) => {
                self.seen.push("left".into());
                self.members.remove(user);
            }
            LiveEvent::Delta(delta) => {
                self.seen.push(format!("{} {:?}", delta.offset, delta.added));
                let message = self.messages.get_mut(&delta.message).expect("text of a message that was announced");
                let text = match delta.part {
                    Part::Content => &mut message.content,
                    Part::Reasoning => message.reasoning.get_or_insert_default(),
                };
                let known: Vec<char> = text.chars().collect();
                // All of it from the start, or what comes next: nothing is missing, and nothing comes twice.
                let fits = delta.offset == 0 || delta.offset == known.len();
                assert!(fits, "text at {} after {} of {text:?}", delta.offset, known.len());
                *text = known[..delta.offset].iter().collect::<String>() + &delta.added;
            }
        }
    }

    /// The one reply that it shows.
    pub(crate) fn reply(&self) -> &Message {
        let mut replies = self.messages.values().filter(|message| message.author.is_none());
        let reply = replies.next().expect("a reply is shown");
        assert!(replies.next().is_none(), "more than one reply is shown");
        reply
    }

    /// All that it shows, oldest first.
    pub(crate) fn thread(&self) -> Vec<Message> {
        let mut messages: Vec<_> = self.messages.values().cloned().collect();
        messages.sort_by_key(|message| message.seq);
        messages
    }
}

/// A client that takes what comes as soon as it comes.
pub(crate) struct Viewer {
    screen: Arc<Mutex<Screen>>,
    task: JoinSet<()>,
}

impl Viewer {
    pub(crate) fn of(watch: Watch) -> Self {
        Self::going_on(Screen::default(), watch)
    }

    /// Comes back with what it had.
    pub(crate) fn going_on(screen: Screen, mut watch: Watch) -> Self {
        Self::run(screen, |screen| async move {
            while let Some(frame) = watch.next().await {
                screen.lock().unwrap().apply(&frame);
            }
        })
    }

    pub(crate) fn of_reply(mut watch: ReplyWatch) -> Self {
        Self::run(Screen::default(), |screen| async move {
            while let Some(frame) = watch.next().await {
                screen.lock().unwrap().apply(&frame);
            }
        })
    }

    fn run<F>(screen: Screen, work: impl FnOnce(Arc<Mutex<Screen>>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let screen = Arc::new(Mutex::new(screen));
        let mut task = JoinSet::new();
        task.spawn(work(screen.clone()));
        Self { screen, task }
    }

    /// What it shows just now.
    pub(crate) fn screen(&self) -> Screen {
        self.screen.lock().unwrap().clone()
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.screen().seen
    }

    /// Whether the stream is over. Fails where the client could not make sense of it.
    pub(crate) fn ended(&mut self) -> bool {
        match self.task.try_join_next() {
            Some(outcome) => {
                outcome.unwrap();
                true
            }
            None => self.task.is_empty(),
        }
    }

    /// Hangs up, wherever it stands, with what it shows.
    pub(crate) async fn leave(mut self) -> Screen {
        self.task.abort_all();
        while let Some(outcome) = self.task.join_next().await {
            if let Err(error) = outcome {
                assert!(error.is_cancelled(), "{error}");
            }
        }
        self.screen()
    }

    /// Reads to the end of the stream.
    pub(crate) async fn read_out(mut self) -> Screen {
        while let Some(outcome) = self.task.join_next().await {
            outcome.unwrap();
        }
        self.screen()
    }
}
