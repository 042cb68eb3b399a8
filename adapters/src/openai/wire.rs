//! The chat-completions protocol as bytes, without I/O: what is asked, what is answered, and what is refused.
//!
//! OpenAI, vLLM and llama.cpp agree on most of it. Where they differ, this reads all of them: thoughts are called `reasoning_content` or
//! `reasoning`; `content` may be null; `finish_reason` comes with the last text or in an empty delta after it; an error is an object, or
//! just a string, or comes inside a stream that began well.

use std::collections::VecDeque;
use std::time::Duration;

use private_chat_core::model::chat::{Parameters, ReplyFault, Speaker, Usage};
use private_chat_core::port::inference::{Completion, InferenceFailure, Offer, Piece, PromptMessage};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sse::{Event, Malformed, Parser};

/// The longest wait before asking again that is passed on.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// The body of `POST /chat/completions`.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

/// What a server calls the bound of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenLimit {
    /// `max_tokens`: what every server of the protocol knows, but for OpenAI's own newer models, which refuse it.
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's own word today.
    MaxCompletionTokens,
}

impl<'a> Request<'a> {
    pub(super) fn new(completion: &'a Completion, limit: TokenLimit) -> Self {
        let Completion { model, messages, parameters } = completion;
        let Parameters {
            temperature,
            top_p,
            max_tokens,
            stop,
            seed,
            presence_penalty,
            frequency_penalty,
            reasoning_effort,
        } = parameters;
        Self {
            model,
            messages: messages.iter().map(Message::from).collect(),
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            temperature: *temperature,
            top_p: *top_p,
            max_tokens: max_tokens.filter(|_| limit == TokenLimit::MaxTokens),
            max_completion_tokens: max_tokens.filter(|_| limit == TokenLimit::MaxCompletionTokens),
            stop,
            seed: *seed,
            presence_penalty: *presence_penalty,
            frequency_penalty: *frequency_penalty,
            reasoning_effort: reasoning_effort.as_deref(),
        }
    }
}

impl<'a> From<&'a PromptMessage> for Message<'a> {
    fn from(message: &'a PromptMessage) -> Self {
        let role = match message.speaker {
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
            Speaker::System => "system",
        };
        Self { role, content: &message.content }
    }
}

/// One `data` of a stream. What is not named here is skipped, so that providers may add to it.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    /// What a model says in place of an answer that it declines to give.
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

/// Turns the body of an answer into pieces: whatever way the bytes are sliced, they are the same.
#[derive(Default)]
pub(super) struct Decoder {
    events: Parser,
    ready: VecDeque<Result<Piece, InferenceFailure>>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Open,
    /// The provider has said why the answer ended: nothing is missing, and only the cost may follow.
    Finished,
    /// Nothing that may still come matters.
    Ended,
}

impl Decoder {
    /// The next piece that is ready.
    pub(super) fn next(&mut self) -> Option<Result<Piece, InferenceFailure>> {
        self.ready.pop_front()
    }

    /// Whether no bytes are wanted any more.
    pub(super) fn ended(&self) -> bool {
        self.progress == Progress::Ended
    }

    /// Takes the next bytes of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.ended() {
            return;
        }
        let Self { events, ready, progress } = self;
        let parsed = events.push(bytes, |event| {
            if *progress == Progress::Ended {
                return;
            }
            if let Err(failure) = read(&event, ready, progress) {
                ready.push_back(Err(failure));
                *progress = Progress::Ended;
            }
        });
        if let Err(malformed) = parsed
            && *progress != Progress::Ended
        {
            ready.push_back(Err(match malformed {
                Malformed::TooLarge => InferenceFailure::failed(
                    ReplyFault::TooLong,
                    "The provider sent more at once than an answer may hold.",
                ),
                Malformed::NotUtf8 => nonsense(),
            }));
            *progress = Progress::Ended;
        }
    }

    /// Says that no more bytes will come, and why. An answer of which nothing was missing ends well.
    pub(super) fn cut(&mut self, why: InferenceFailure) {
        if self.progress == Progress::Open {
            self.ready.push_back(Err(why));
        }
        self.progress = Progress::Ended;
    }
}

fn read(
    event: &Event,
    ready: &mut VecDeque<Result<Piece, InferenceFailure>>,
    progress: &mut Progress,
) -> Result<(), InferenceFailure> {
    let data = event.data.trim();
    if data == "[DONE]" {
        *progress = Progress::Ended;
        return Ok(());
    }
    if data.is_empty() {
        return Ok(());
    }
    let chunk: Chunk = match object(data) {
        Some(chunk) => chunk,
        None => match event.name.as_deref() {
            None | Some("message") => return Err(nonsense()),
            Some("error") => return Err(in_band(&Value::Null)),
            Some(_) => return Ok(()),
        },
    };
    if let Some(error) = &chunk.error {
        return Err(in_band(error));
    }
    let mut text = |piece: fn(String) -> Piece, text: Option<String>| match text.filter(|text| !text.is_empty()) {
        None => Ok(()),
        // It can't be added to an answer that has ended, and must not get lost in silence either.
        Some(_) if *progress == Progress::Finished => Err(nonsense()),
        Some(text) => {
            ready.push_back(Ok(piece(text)));
            Ok(())
        }
    };
    // One answer was asked for.
    let choice = chunk.choices.into_iter().flatten().find(|choice| choice.index.unwrap_or(0) == 0);
    let (delta, finish) = choice.map_or((None, None), |choice| (choice.delta, choice.finish_reason));
    if let Some(delta) = delta {
        // A server between two versions of the protocol may send the same thoughts under both names.
        text(Piece::Reasoning, delta.reasoning_content.or(delta.reasoning))?;
        text(Piece::Content, delta.content)?;
        text(Piece::Content, delta.refusal)?;
    }
    if let Some(reason) = finish.filter(|reason| !reason.is_empty())
        && *progress == Progress::Open
    {
        ready.push_back(Ok(Piece::Finish(word(reason))));
        *progress = Progress::Finished;
    }
    if let Some(usage) = chunk.usage.as_ref().and_then(usage) {
        ready.push_back(Ok(Piece::Usage(usage)));
    }
    Ok(())
}

/// Reads a JSON object. (A derived `Deserialize` would take an array too, by position.)
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    json.trim_start().starts_with('{').then(|| serde_json::from_str(json).ok()).flatten()
}

/// A reason for the end of an answer: it is stored and shown, so that it must be a word and no text.
fn word(reason: String) -> String {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if reason.len() <= 32 && reason.chars().all(known) { reason } else { "other".to_owned() }
}

/// What an answer cost, where the provider says so in numbers that every reader of JSON can hold.
fn usage(usage: &Value) -> Option<Usage> {
    let count = |field| usage.get(field)?.as_u64().filter(|count| *count < 1 << 53);
    let (prompt_tokens, completion_tokens) = (count("prompt_tokens")?, count("completion_tokens")?);
    let total_tokens = count("total_tokens").unwrap_or(prompt_tokens + completion_tokens);
    Some(Usage { prompt_tokens, completion_tokens, total_tokens })
}

/// The models in the body of `GET /models`, in its order. vLLM says how long their context is.
pub(super) fn models(body: &str) -> Result<Vec<Offer>, InferenceFailure> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
        #[serde(default)]
        max_model_len: Value,
    }
    let context_length =
        |length: &Value| length.as_u64().and_then(|length| u32::try_from(length).ok()).filter(|length| *length > 0);
    let list: List = object(body).ok_or_else(nonsense)?;
    let offer = |Model { id, max_model_len }: Model| Offer { context_length: context_length(&max_model_len), name: id };
    Ok(list.data.into_iter().map(offer).collect())
}

/// The answer can't be understood.
pub(super) fn nonsense() -> InferenceFailure {
    InferenceFailure::failed(ReplyFault::ProviderNonsense, "The provider's answer makes no sense.")
}

/// What an answer with an error status means. The body only helps to tell the kinds apart: nothing of it is passed on.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> InferenceFailure {
    let error = serde_json::from_slice(body).unwrap_or(Value::Null);
    let mut failure = classify(status, error.get("error").unwrap_or(&error));
    if matches!(failure.fault, ReplyFault::ProviderOverloaded | ReplyFault::ProviderError) {
        failure.retry_after = retry_after(headers);
    }
    if let Some(after) = failure.retry_after.filter(|after| !after.is_zero()) {
        failure.detail = format!("{} Try again in {} s.", failure.detail, after.as_secs());
    }
    failure
}

/// What an error inside a stream means: servers give it the status that it would have had.
fn in_band(error: &Value) -> InferenceFailure {
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status =
        status.filter(|status| (400..600).contains(status)).and_then(|status| StatusCode::from_u16(status).ok());
    classify(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
}

fn classify(status: StatusCode, error: &Value) -> InferenceFailure {
    let says = |field, word| error.get(field).and_then(Value::as_str) == Some(word);
    let message = error.get("message").or(Some(error)).and_then(Value::as_str).unwrap_or_default();
    let too_long = says("type", "exceed_context_size_error")
        || says("code", "context_length_exceeded")
        || says("param", "input_tokens")
        || message.contains("maximum context length");
    let no_model = says("code", "model_not_found")
        || status == StatusCode::NOT_FOUND
            && (says("param", "model") || message.to_ascii_lowercase().contains("model"));
    let (fault, detail) = match status.as_u16() {
        400..=499 if no_model => {
            (ReplyFault::ModelUnavailable, "The provider does not know the model, or may not use it.".to_owned())
        }
        400 | 413 | 422 if too_long || status == StatusCode::PAYLOAD_TOO_LARGE => {
            (ReplyFault::PromptTooLong, "The conversation is longer than the model takes.".to_owned())
        }
        401 | 403 => (ReplyFault::ProviderMisconfigured, "The provider does not accept the configured key.".to_owned()),
        404 | 405 => {
            (ReplyFault::ProviderMisconfigured, "The provider does not know the configured address.".to_owned())
        }
        300..=399 => (ReplyFault::ProviderMisconfigured, "The configured address leads elsewhere.".to_owned()),
        429 => (ReplyFault::ProviderOverloaded, "The provider takes no more requests for now.".to_owned()),
        400..=499 => {
            (ReplyFault::ProviderRefused, format!("The provider refused the request (HTTP {}).", status.as_u16()))
        }
        500..=599 => (ReplyFault::ProviderError, format!("The provider failed (HTTP {}).", status.as_u16())),
        _ => return nonsense(),
    };
    InferenceFailure::failed(fault, detail)
}

/// When the provider wants to be asked again (RFC 9110, section 10.2.3). A date counts from the answer's own, so that it does not matter
/// whose clock is right.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let after = text(RETRY_AFTER)?;
    let length = if after.bytes().all(|byte| byte.is_ascii_digit()) && !after.is_empty() {
        // What is too large to be a number is capped all the same.
        Duration::from_secs(after.parse().unwrap_or(u64::MAX))
    } else {
        let (then, now) = (httpdate::parse_http_date(after).ok()?, httpdate::parse_http_date(text(DATE)?).ok()?);
        then.duration_since(now).unwrap_or_default()
    };
    Some(length.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests;
