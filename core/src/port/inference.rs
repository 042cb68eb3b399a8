//! The models.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::model::chat::{Parameters, ReplyFault, Speaker, Usage};

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptMessage {
    /// Who speaks.
    pub speaker: Speaker,
    /// What.
    pub content: String,
}

/// What a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The model, as its provider calls it.
    pub model: String,
    /// The system prompt, if there is one, then the conversation, oldest first.
    pub messages: Vec<PromptMessage>,
    /// How to answer.
    pub parameters: Parameters,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More of the text. Never empty.
    Content(String),
    /// More of the thoughts. Never empty.
    Reasoning(String),
    /// What it cost.
    Usage(Usage),
    /// The provider says why the answer has ended. What comes after it may only be usage.
    Finish(String),
}

/// Why a provider gave no answer, or no more of it. Nothing in it comes from the provider's own text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault:?}: {detail}")]
pub struct InferenceFailure {
    /// Which fault the reply shows.
    pub fault: ReplyFault,
    /// Whether the connection broke or fell silent (the reply is `interrupted`), or the provider refused or spoke nonsense (it is `failed`).
    pub cut_off: bool,
    /// For people: no key, no address, nothing that the provider wrote.
    pub detail: String,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl InferenceFailure {
    /// The provider refused, or spoke nonsense.
    pub fn failed(fault: ReplyFault, detail: impl Into<String>) -> Self {
        Self { fault, cut_off: false, detail: detail.into(), retry_after: None }
    }

    /// The answer broke off.
    pub fn cut_off(fault: ReplyFault, detail: impl Into<String>) -> Self {
        Self { fault, cut_off: true, detail: detail.into(), retry_after: None }
    }
}

/// A model, as a provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What the provider calls it.
    pub name: String,
    /// How many tokens prompt and reply may have together, where the provider says it.
    pub context_length: Option<u32>,
}

impl Offer {
    /// A model of which no more is said than its name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), context_length: None }
    }
}

/// The answer as it comes. It ends well after [`Piece::Finish`] or the protocol's own end mark; an answer that just ends is an error item.
pub type Answer = BoxStream<'static, Result<Piece, InferenceFailure>>;

/// A server of models.
///
/// # Contract
/// - streams the whole answer and says that it ended
/// - tells what an answer cost
/// - stops computing when the answer is dropped
/// - lists its models
/// - keeps thoughts apart from the answer
/// - names a refused key as misconfigured without showing it
/// - says unreachable where nothing listens
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Inference: Send + Sync {
    /// Asks a model. Dropping the answer ends the computation. Deadlines on it are the caller's business.
    ///
    /// # Errors
    /// When the provider gave no answer at all.
    async fn stream(&self, completion: Completion) -> Result<Answer, InferenceFailure>;

    /// The models it offers.
    ///
    /// # Errors
    /// When it does not answer.
    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure>;
}

/// A provider as it is configured.
#[derive(Clone)]
pub struct Provider {
    /// How to ask it.
    pub inference: Arc<dyn Inference>,
    /// The models that may be used; empty for all that it lists.
    pub models: Vec<String>,
    /// How many tokens prompt and reply may have together, where the operator says it. It goes before what the provider says of a model.
    pub context_length: Option<u32>,
    /// Whether its models take images.
    pub vision: bool,
    /// Whether it is worth asking for a chat's title.
    pub writes_titles: bool,
}
