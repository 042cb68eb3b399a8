//! The provider that needs nothing: it says what it is, and gives back what it was told.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use private_chat_core::model::chat::{ReplyFault, Speaker, Usage};
use private_chat_core::port::inference::{Answer, Completion, Inference, InferenceFailure, Offer, Piece};

use crate::adapter::OpenError;
use crate::provider::{ProviderConfig, ProviderKind, invalid};

/// What answers where no model is configured.
pub const ECHO: ProviderKind = ProviderKind { name: "echo", open, writes_titles: false };

const MODEL: &str = "echo";

const INTRODUCTION: &str = "I am `echo`, the built-in stand-in for a model: all I can do is repeat what you say. \
    To talk to a real model, set `OPENAI_API_KEY` or `VLLM_ENDPOINT`, or add a section `[inference.providers.<name>]` \
    to the configuration, and start the server again.\n\nYou said:\n\n";

fn open(name: &str, config: &ProviderConfig) -> Result<Arc<dyn Inference>, OpenError> {
    if config.base_url.is_some() {
        return Err(invalid(name, "base_url", "must not be set: echo asks no server"));
    }
    Ok(Arc::new(Echo))
}

/// The model `echo`. It counts words and calls them tokens; of the parameters it heeds `max_tokens`.
pub struct Echo;

#[async_trait]
impl Inference for Echo {
    async fn stream(&self, completion: Completion) -> Result<Answer, InferenceFailure> {
        let Completion { model, messages, parameters } = completion;
        if model != MODEL {
            return Err(InferenceFailure::failed(ReplyFault::ModelUnavailable, "The provider has one model, `echo`."));
        }
        let said = messages.iter().rfind(|message| message.speaker == Speaker::User);
        let text = format!("{INTRODUCTION}{}", said.map_or("", |message| &message.content));
        let most = parameters.max_tokens.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let mut words = text.split_inclusive(char::is_whitespace).map(str::to_owned);
        let mut pieces: Vec<_> = words.by_ref().take(most).map(Piece::Content).collect();
        let prompt_tokens = messages.iter().map(|message| message.content.split_whitespace().count()).sum::<usize>();
        let (prompt_tokens, completion_tokens) = (prompt_tokens as u64, pieces.len() as u64);
        let finish = if words.next().is_none() { "stop" } else { "length" };
        pieces.push(Piece::Finish(finish.to_owned()));
        pieces.push(Piece::Usage(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
        }));
        // A long answer is always ready: without a pause it would hold a thread until it is through.
        let answer = stream::iter(pieces).then(|piece| async {
            tokio::task::yield_now().await;
            Ok(piece)
        });
        Ok(answer.boxed())
    }

    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
        Ok(vec![Offer::named(MODEL)])
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;
    use private_chat_core::model::chat::Parameters;
    use private_chat_core::port::inference::PromptMessage;

    use super::*;

    async fn ask(model: &str, max_tokens: Option<u32>) -> Result<Vec<Piece>, InferenceFailure> {
        let say = |speaker, content: &str| PromptMessage { speaker, content: content.to_owned() };
        let completion = Completion {
            model: model.to_owned(),
            messages: vec![
                say(Speaker::System, "Be brief."),
                say(Speaker::User, "First."),
                say(Speaker::Assistant, "Yes?"),
                say(Speaker::User, "Café 語  🦀\n\ttwo"),
            ],
            parameters: Parameters { max_tokens, ..Parameters::default() },
        };
        Echo.stream(completion).await?.try_collect().await
    }

    fn text(pieces: &[Piece]) -> String {
        let text = |piece: &Piece| if let Piece::Content(text) = piece { text.clone() } else { String::new() };
        pieces.iter().map(text).collect()
    }

    #[tokio::test]
    async fn it_says_what_it_is_and_repeats_the_last_message_to_the_byte() {
        let pieces = ask("echo", None).await.unwrap();
        let text = text(&pieces);
        assert!(
            text.starts_with("I am `echo`") && text.contains("OPENAI_API_KEY") && text.contains("VLLM_ENDPOINT"),
            "{text}"
        );
        assert!(text.ends_with("You said:\n\nCafé 語  🦀\n\ttwo"), "{text}");
        assert!(!pieces.contains(&Piece::Content(String::new())), "{pieces:?}");
        let [.., Piece::Finish(finish), Piece::Usage(usage)] = pieces.as_slice() else { panic!("{pieces:?}") };
        assert_eq!((finish.as_str(), usage.prompt_tokens), ("stop", 8));
        assert_eq!(usage.total_tokens, 8 + pieces.len() as u64 - 2);
    }

    #[tokio::test]
    async fn it_stops_at_the_bound_of_an_answer() {
        let pieces = ask("echo", Some(3)).await.unwrap();
        assert_eq!(text(&pieces), "I am `echo`, ");
        assert!(pieces.contains(&Piece::Finish("length".to_owned())));
    }

    #[tokio::test]
    async fn it_has_one_model() {
        assert_eq!(Echo.models().await.unwrap(), [Offer::named(MODEL)]);
        assert_eq!(ask("gpt-5", None).await.unwrap_err().fault, ReplyFault::ModelUnavailable);
    }
}
