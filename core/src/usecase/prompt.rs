//! What a model is told: the system prompt, and the branch from the root to the message, cut from the oldest side to fit.

use crate::error::Failure;
use crate::model::chat::{Message, MessageStatus, Speaker};
use crate::page::{Limit, PageRequest};
use crate::port::Ports;
use crate::port::inference::PromptMessage;
use crate::port::store::Order;

/// How many tokens a model is taken to have where nothing says it.
const ASSUMED_CONTEXT: u32 = 32_768;
/// How many bytes of text a token is taken to have: an estimate without a tokenizer, on the careful side for most languages.
const BYTES_A_TOKEN: usize = 3;
/// How many bytes the protocol adds to a message.
const ENVELOPE: usize = 16;

/// How many bytes of conversation fit a model, when a quarter of its context is kept for the answer.
fn budget(context_length: Option<u32>, max_tokens: Option<u32>) -> usize {
    let context = context_length.unwrap_or(ASSUMED_CONTEXT);
    let answer = max_tokens.unwrap_or(context / 4).min(context / 2);
    usize::try_from(context - answer).unwrap_or(usize::MAX).saturating_mul(BYTES_A_TOKEN)
}

/// Gathers the prompt that ends with `last`, a person's message.
///
/// It walks from the end towards the root and reads no more of a long chat than fits. The last message goes in whatever its length.
pub(super) async fn gather(
    ports: &Ports,
    last: &Message,
    system_prompt: Option<&str>,
    (context_length, max_tokens): (Option<u32>, Option<u32>),
) -> Result<Vec<PromptMessage>, Failure> {
    let mut left = budget(context_length, max_tokens).saturating_sub(system_prompt.map_or(0, str::len));
    left = left.saturating_sub(last.content.len() + ENVELOPE);
    let mut newest_first = vec![PromptMessage { speaker: last.speaker, content: last.content.clone() }];
    let mut wanted = last.parent;
    let mut page = PageRequest { after: Some(last.seq), limit: Limit::new(20).unwrap_or_default() };
    'gathering: while wanted.is_some() {
        // A parent always has a lower number than its children, so that going down the numbers passes the whole branch.
        let messages = ports.chats.messages(last.chat, Order::Descending, page).await?;
        for message in messages.items {
            if wanted != Some(message.id) {
                continue;
            }
            wanted = message.parent;
            if !worth_telling(&message) {
                continue;
            }
            let size = message.content.len() + ENVELOPE;
            if size > left {
                break 'gathering;
            }
            left -= size;
            newest_first.push(PromptMessage { speaker: message.speaker, content: message.content });
        }
        match messages.next {
            Some(next) => page = PageRequest { after: Some(next), limit: Limit::new(100).unwrap_or_default() },
            None => break,
        }
    }
    if let Some(text) = system_prompt.filter(|text| !text.trim().is_empty()) {
        newest_first.push(PromptMessage { speaker: Speaker::System, content: text.to_owned() });
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// Replies that are empty are left out, so that a broken turn never spoils the chat.
fn worth_telling(message: &Message) -> bool {
    message.speaker != Speaker::Assistant
        || (message.status != MessageStatus::Streaming && !message.content.trim().is_empty())
}
