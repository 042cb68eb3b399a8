//! Models behind the chat-completions protocol: OpenAI, vLLM, llama.cpp, and whatever else speaks it.
//!
//! The address and the key come from the configuration alone. Nothing that a provider writes in an error is passed on, as it may hold the
//! key. No redirect is followed and no proxy is taken from the environment, so that only the configured host is ever dialled.

mod sse;
#[cfg(test)]
mod tests;
mod wire;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use private_chat_core::model::chat::ReplyFault;
use private_chat_core::model::secret::Secret;
use private_chat_core::port::inference::{Answer, Completion, Inference, InferenceFailure, Offer};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use url::Url;

use crate::adapter::OpenError;
use crate::provider::{ProviderConfig, ProviderKind, invalid};
use wire::{Decoder, Request, TokenLimit};

/// How long a name may take to resolve, a connection to open and TLS to agree, together.
const CONNECT: Duration = Duration::from_secs(5);
/// Deadlines are the core's. This only frees a connection that was forgotten, so it is longer than any of them.
const SILENCE: Duration = Duration::from_secs(60 * 60);
/// llama.cpp and vLLM close a connection that was idle for 5 s: one of that age must not be used for the next request.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// How long the list of models, or the body of an error, may take.
const SHORT_ANSWER: Duration = Duration::from_secs(5);
/// How much of an error's body is read.
const MAX_ERROR: usize = 64 << 10;
/// How long the list of models may be.
const MAX_MODELS: usize = 4 << 20;

/// OpenAI, or a server that speaks its protocol at `base_url`.
pub const OPENAI: ProviderKind = ProviderKind { name: "openai", open: open_openai, writes_titles: true };

/// vLLM at `base_url`, which may leave out its `/v1`.
pub const VLLM: ProviderKind = ProviderKind { name: "vllm", open: open_vllm, writes_titles: true };

fn open_openai(name: &str, config: &ProviderConfig) -> Result<Arc<dyn Inference>, OpenError> {
    let key = config.key(name)?;
    let url = match &config.base_url {
        Some(url) => url,
        None if key.is_some() => "https://api.openai.com/v1",
        None => return Err(invalid(name, "api_key", "must be set, or `base_url` for a server that wants no key")),
    };
    Ok(Arc::new(OpenAi::new(&base_url(name, url)?, key.as_ref())?))
}

fn open_vllm(name: &str, config: &ProviderConfig) -> Result<Arc<dyn Inference>, OpenError> {
    let url = config.base_url.as_ref().ok_or_else(|| invalid(name, "base_url", "must be set"))?;
    let mut base = base_url(name, url)?;
    if !base.path().ends_with("/v1") {
        base.set_path(&format!("{}/v1", base.path().trim_end_matches('/')));
    }
    Ok(Arc::new(OpenAi::new(&base, config.key(name)?.as_ref())?))
}

/// Takes the address of a provider. Its path ends without a slash.
fn base_url(name: &str, url: &str) -> Result<Url, OpenError> {
    let wrong = |rule| invalid(name, "base_url", rule);
    let mut url = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| wrong("must be a URL that begins with http:// or https://"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a user or a password: the key has a place of its own, `api_key`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must not have a query or a fragment"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// A server that speaks the protocol.
pub struct OpenAi {
    client: Client,
    completions: Url,
    models: Url,
    limit: TokenLimit,
}

impl OpenAi {
    /// Gets ready to ask the server whose routes lie under `base`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the key can't be sent, or the system's TLS certificates can't be read.
    pub fn new(base: &Url, key: Option<&Secret>) -> Result<Self, OpenError> {
        let other = |error: Box<dyn Error + Send + Sync>| OpenError::Other(error);
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|error| other(error.into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .user_agent(concat!("private-chat/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(Policy::none())
            .no_proxy()
            // A connection of its own for each answer: hanging up is what every server understands, and a lost connection is one lost reply.
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .pool_idle_timeout(POOL_IDLE)
            .build()
            .map_err(|error| other(error.into()))?;
        let route = |route: &str| {
            let mut url = base.clone();
            url.set_path(&format!("{}/{route}", base.path().trim_end_matches('/')));
            url
        };
        let host = base.host_str().unwrap_or_default();
        let openai = ["openai.com", "openai.azure.com"]
            .iter()
            .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
        Ok(Self {
            client,
            completions: route("chat/completions"),
            models: route("models"),
            limit: if openai { TokenLimit::MaxCompletionTokens } else { TokenLimit::MaxTokens },
        })
    }
}

#[async_trait]
impl Inference for OpenAi {
    async fn stream(&self, completion: Completion) -> Result<Answer, InferenceFailure> {
        let request = self
            .client
            .post(self.completions.clone())
            .header(ACCEPT, "text/event-stream")
            .json(&Request::new(&completion, self.limit));
        let response = accepted(request.send().await.map_err(|error| no_answer(&error))?).await?;
        // Servers that are careless about what they call a stream are read all the same; one that says it sent something else is believed.
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if media_type.starts_with("application/json") || media_type.starts_with("text/html") {
            return Err(wire::nonsense());
        }
        let answer = stream::unfold((response, Decoder::default()), |(mut response, mut decoder)| async move {
            loop {
                if let Some(piece) = decoder.next() {
                    return Some((piece, (response, decoder)));
                }
                if decoder.ended() {
                    return None;
                }
                match response.chunk().await {
                    Ok(Some(bytes)) => decoder.push(&bytes),
                    Ok(None) => decoder.cut(lost()),
                    Err(error) if error.is_timeout() => decoder.cut(silent()),
                    Err(_) => decoder.cut(lost()),
                }
                // A flood of bytes without a piece in them must not keep the deadlines from being looked at.
                tokio::task::coop::consume_budget().await;
            }
        });
        Ok(Box::pin(answer))
    }

    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
        let request = self.client.get(self.models.clone()).timeout(SHORT_ANSWER);
        let mut response = accepted(request.send().await.map_err(|error| no_answer(&error))?).await?;
        let body = body(&mut response, MAX_MODELS).await.map_err(|error| no_answer(&error))?;
        if body.len() > MAX_MODELS {
            return Err(wire::nonsense());
        }
        wire::models(&String::from_utf8(body).map_err(|_| wire::nonsense())?)
    }
}

/// Passes an answer of success on, and reads what any other means.
async fn accepted(mut response: Response) -> Result<Response, InferenceFailure> {
    if response.status().is_success() {
        return Ok(response);
    }
    // Where the body is late or broken, the status says enough.
    let body = tokio::time::timeout(SHORT_ANSWER, body(&mut response, MAX_ERROR)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    Err(wire::refusal(response.status(), response.headers(), &body))
}

/// Reads a body to its end, or until it is longer than `limit`.
async fn body(response: &mut Response, limit: usize) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() <= limit
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why there was no answer at all.
fn no_answer(error: &reqwest::Error) -> InferenceFailure {
    if error.is_connect() {
        InferenceFailure::failed(ReplyFault::ProviderUnreachable, "The provider can't be reached.")
    } else if error.is_timeout() {
        silent()
    } else if speaks_no_http(error) {
        wire::nonsense()
    } else {
        InferenceFailure::failed(ReplyFault::ConnectionLost, "The provider closed the connection before it answered.")
    }
}

fn speaks_no_http(error: &reqwest::Error) -> bool {
    std::iter::successors(error.source(), |&error| error.source())
        .any(|error| error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse))
}

fn lost() -> InferenceFailure {
    InferenceFailure::cut_off(
        ReplyFault::ConnectionLost,
        "The connection to the provider was lost in the middle of the answer.",
    )
}

fn silent() -> InferenceFailure {
    InferenceFailure::cut_off(ReplyFault::Timeout, "The provider fell silent.")
}
