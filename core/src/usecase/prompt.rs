//! What a model is told: the system prompt, and the branch from the root to the message, cut from the oldest side to fit.

use std::collections::HashSet;

use crate::error::Failure;
use crate::id::{MessageId, UserId};
use crate::model::chat::{Message, MessageStatus, Speaker};
use crate::page::{Limit, PageRequest};
use crate::port::inference::PromptMessage;
use crate::port::store::{ChatRepository, Order};

/// How many tokens a model is taken to have where nothing says it.
const ASSUMED_CONTEXT: u32 = 32_768;
/// How many bytes of text a token is taken to have: an estimate without a tokenizer, on the careful side for most languages.
const BYTES_A_TOKEN: usize = 3;
/// How many bytes the protocol adds to a message.
const ENVELOPE: usize = 16;

/// How many bytes of conversation fit a model, when a quarter of its context is kept for the answer.
pub(super) fn budget(context_length: Option<u32>, max_tokens: Option<u32>) -> usize {
    let context = context_length.unwrap_or(ASSUMED_CONTEXT);
    let answer = max_tokens.unwrap_or(context / 4).min(context / 2);
    usize::try_from(context - answer).unwrap_or(usize::MAX).saturating_mul(BYTES_A_TOKEN)
}

/// What came of gathering a prompt.
pub(super) enum Gathered {
    /// It is whole.
    Whole(Prompt),
    /// The reply before this one on its branch still runs: there is nothing to tell of it yet.
    Waits(MessageId),
}

/// What a model is told, and what that takes.
pub(super) struct Prompt {
    pub(super) messages: Vec<PromptMessage>,
    /// How much of the budget it takes.
    pub(super) bytes: usize,
    /// Whether anything but the system prompt and the last message is in it.
    pub(super) may_be_shorter: bool,
}

/// What a message takes of the budget. In a branch of one person nobody is named; of another's message the name counts, too.
fn size(message: &Message, last: &Message) -> usize {
    let name = message.author.as_ref().filter(|author| Some(*author) != last.author.as_ref());
    message.content.len() + name.map_or(0, |author| author.name.len()) + ENVELOPE
}

/// Gathers the prompt that ends with `last`, a person's message, of up to so many bytes.
///
/// It walks from the end towards the root and reads no more of a long chat than fits. The last message goes in whatever its length.
pub(super) async fn gather(
    chats: &dyn ChatRepository,
    last: &Message,
    system_prompt: Option<&str>,
    budget: usize,
) -> Result<Gathered, Failure> {
    let fixed = system_prompt.map_or(0, str::len) + size(last, last);
    let mut left = budget.saturating_sub(fixed);
    let room = left;
    let mut newest_first = vec![last.clone()];
    let mut wanted = last.parent;
    let mut page = PageRequest { after: Some(last.seq), limit: Limit::new(20).unwrap_or_default() };
    'gathering: while let Some(parent) = wanted {
        // A parent always has a lower number than its children, so that going down the numbers passes the whole branch.
        let messages = chats.messages(last.chat, Order::Descending, page).await?;
        for message in messages.items {
            if wanted != Some(message.id) {
                continue;
            }
            if message.status == MessageStatus::Streaming {
                return Ok(Gathered::Waits(message.id));
            }
            wanted = message.parent;
            if !worth_telling(&message) {
                continue;
            }
            let size = size(&message, last);
            if size > left {
                break 'gathering;
            }
            left -= size;
            newest_first.push(message);
        }
        let mut next = messages.next;
        if wanted == Some(parent) {
            // The branch leaves the chat's end far back: what lies between is other people's, and is not read.
            next = chats.message(last.chat, parent).await?.map(|parent| parent.seq + 1);
        }
        // About as many more as fit, by those that are in: what is read and does not fit was read for nothing.
        let each = (room - left) / newest_first.len();
        let more = (left / each.max(ENVELOPE)).clamp(1, Limit::MOST.items());
        match next {
            Some(next) => page = PageRequest { after: Some(next), limit: Limit::new(more as u64).unwrap_or_default() },
            None => break,
        }
    }
    // A conversation begins with a person: what their question was cut off from would be an answer to nothing.
    while newest_first.last().is_some_and(|message| message.speaker == Speaker::Assistant) {
        newest_first.pop();
    }
    let may_be_shorter = newest_first.len() > 1;
    let system = system_prompt.filter(|text| !text.trim().is_empty());
    let system = system.map(|text| PromptMessage { speaker: Speaker::System, content: text.to_owned() });
    let messages = system.into_iter().chain(told(newest_first.into_iter().rev())).collect();
    Ok(Gathered::Whole(Prompt { messages, bytes: fixed + room - left, may_be_shorter }))
}

/// The messages as a model is told them. Where several people wrote, each of their messages begins with a name. What people wrote one after the
/// other, because a reply to it came to nothing, is one turn: many models take no other.
fn told(messages: impl Iterator<Item = Message> + Clone) -> Vec<PromptMessage> {
    let people: HashSet<Option<UserId>> = messages
        .clone()
        .filter(|message| message.speaker == Speaker::User)
        .map(|message| message.author.as_ref().map(|author| author.id))
        .collect();
    let several = people.len() > 1;
    let mut told: Vec<PromptMessage> = Vec::new();
    for Message { speaker, author, content, .. } in messages {
        let named = several && speaker == Speaker::User;
        let name = author.as_ref().map_or("Somebody", |author| &author.name);
        let content = if named { format!("{name}: {content}") } else { content };
        match told.last_mut().filter(|before| before.speaker == speaker) {
            Some(before) => before.content = format!("{}\n\n{content}", before.content),
            None => told.push(PromptMessage { speaker, content }),
        }
    }
    told
}

/// Replies that failed, and those that are empty, are left out, so that a broken turn never spoils the chat. What was stopped or interrupted is
/// told as far as it came.
fn worth_telling(message: &Message) -> bool {
    message.speaker != Speaker::Assistant
        || (message.status != MessageStatus::Failed && !message.content.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;
    use crate::change::Version;
    use crate::model::user::Author;
    use crate::page::Page;
    use crate::port::store::MockChatRepository;
    use crate::time::Timestamp;

    /// A person's message, or a model's, with the number as its id.
    fn message(seq: u64, parent: Option<u64>, author: Option<&str>, content: &str) -> Message {
        let author = author.map(|name| Author { id: Uuid::from_u128(name.len() as u128).into(), name: name.into() });
        Message {
            id: Uuid::from_u128(seq.into()).into(),
            workspace: Uuid::nil().into(),
            chat: Uuid::nil().into(),
            seq,
            parent: parent.map(|parent| Uuid::from_u128(parent.into()).into()),
            speaker: if author.is_some() { Speaker::User } else { Speaker::Assistant },
            author,
            content: content.into(),
            reasoning: None,
            status: MessageStatus::Complete,
            model: None,
            provider: None,
            usage: None,
            finish_reason: None,
            error: None,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            version: Version::FIRST,
        }
    }

    fn texts(prompt: &[PromptMessage]) -> Vec<&str> {
        prompt.iter().map(|message| message.content.as_str()).collect()
    }

    #[test]
    fn a_model_is_told_who_said_what_where_several_people_write() {
        let alone = [message(1, None, Some("Ann"), "Hi"), message(2, Some(1), None, "Hello")];
        assert_eq!(texts(&told(alone.clone().into_iter())), ["Hi", "Hello"]);
        let together = [&alone[..], &[message(3, Some(2), Some("Robert"), "And me?")]].concat();
        let prompt = told(together.clone().into_iter());
        assert_eq!(texts(&prompt), ["Ann: Hi", "Hello", "Robert: And me?"]);
        assert_eq!(prompt[2].speaker, Speaker::User);
        let gone = Message { author: None, ..together[0].clone() };
        let prompt = told([gone, together[1].clone(), together[2].clone()].into_iter());
        assert_eq!(texts(&prompt), ["Somebody: Hi", "Hello", "Robert: And me?"]);
    }

    #[test]
    fn a_branch_from_far_back_does_not_read_what_lies_between() {
        let root = message(1, None, Some("Ann"), "Root");
        let mut stored = vec![root.clone()];
        stored.extend((2..=5_000).map(|seq| message(seq, Some(seq - 1), Some("Ann"), "Elsewhere")));
        let mut chats = MockChatRepository::new();
        chats.expect_message().times(1).returning(move |_, _| Ok(Some(root.clone())));
        chats.expect_messages().times(2).returning(move |_, _, page| {
            let before = page.after.unwrap_or(u64::MAX);
            let items = stored.iter().rev().filter(|message| message.seq < before).take(page.limit.items() + 1);
            Ok(Page::from_overfetched(items.cloned().collect(), page.limit, |message| message.seq))
        });
        let last = message(5_001, Some(1), Some("Ann"), "Branch");
        let gathered = gather(&chats, &last, None, budget(None, None)).now_or_never().unwrap().unwrap();
        let Gathered::Whole(prompt) = gathered else { panic!("nothing runs") };
        assert_eq!(texts(&prompt.messages), ["Root\n\nBranch"]);
    }
}
