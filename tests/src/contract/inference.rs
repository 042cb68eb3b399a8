//! What every provider of models promises: the contract of `private_chat_core::port::inference`.
//!
//! Not every promise is about every provider: [`ANSWERING`] are those of all, and the others need one that was set up for them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use private_chat_core::model::chat::{Parameters, ReplyFault, Speaker};
use private_chat_core::port::inference::{Answer, Completion, Inference, InferenceFailure, Piece, PromptMessage};
use tokio::time::timeout;

use super::Case;
use crate::cases;

/// The cases, in the order of the promises.
pub const CASES: &[Case<dyn Inference>] = cases![
    streams_the_whole_answer_and_says_that_it_ended,
    tells_what_an_answer_cost,
    stops_computing_when_the_answer_is_dropped,
    lists_its_models,
    keeps_thoughts_apart_from_the_answer,
    names_a_refused_key_as_misconfigured_without_showing_it,
    says_unreachable_where_nothing_listens,
];

/// Those of a provider that answers, and at length where the prompt holds [`FOREVER`].
pub const ANSWERING: &[Case<dyn Inference>] = CASES.split_at(4).0;
/// Those of a provider whose model thinks before it answers a prompt that holds [`THINK`].
pub const THINKING: &[Case<dyn Inference>] = CASES.split_at(5).0.split_at(4).1;
/// Those of a provider that was opened with [`REFUSED_KEY`] and does not accept it.
pub const REFUSING: &[Case<dyn Inference>] = CASES.split_at(6).0.split_at(5).1;
/// Those of a provider that was opened with the address of a closed port.
pub const ABSENT: &[Case<dyn Inference>] = CASES.split_at(6).1;

/// What a scripted model never ends its answer to.
pub const FOREVER: &str = "forever";

/// What a scripted model thinks about before it answers.
pub const THINK: &str = "think";

/// A key that must be seen nowhere.
pub const REFUSED_KEY: &str = "sk-refused-0123456789";

/// How long a failure to reach a provider may take to show.
const UNREACHABLE: Duration = Duration::from_secs(6);

async fn ask(inference: &Arc<dyn Inference>, content: &str) -> Answer {
    match inference.stream(completion(&model_of(inference).await, content)).await {
        Ok(answer) => answer,
        Err(failure) => panic!("no answer: {failure}"),
    }
}

async fn model_of(inference: &Arc<dyn Inference>) -> String {
    inference.models().await.expect("the models").first().expect("a model").name.clone()
}

fn completion(model: &str, content: &str) -> Completion {
    Completion {
        model: model.to_owned(),
        messages: vec![PromptMessage { speaker: Speaker::User, content: content.to_owned() }],
        parameters: Parameters::default(),
    }
}

async fn whole(inference: &Arc<dyn Inference>, content: &str) -> Vec<Piece> {
    ask(inference, content).await.map(|piece| piece.expect("a piece")).collect().await
}

fn content(pieces: &[Piece]) -> String {
    pieces.iter().filter_map(|piece| if let Piece::Content(text) = piece { Some(&**text) } else { None }).collect()
}

fn reasoning(pieces: &[Piece]) -> String {
    pieces.iter().filter_map(|piece| if let Piece::Reasoning(text) = piece { Some(&**text) } else { None }).collect()
}

/// An answer comes in pieces, none of them empty; the provider says why it ended, and after that only what it cost.
pub async fn streams_the_whole_answer_and_says_that_it_ended(inference: Arc<dyn Inference>) {
    let pieces = whole(&inference, "Hello").await;
    assert!(
        pieces.iter().filter(|piece| matches!(piece, Piece::Content(_))).count() > 1,
        "it came at once: {pieces:?}"
    );
    let empty = |piece: &Piece| matches!(piece, Piece::Content(text) | Piece::Reasoning(text) if text.is_empty());
    assert!(!pieces.iter().any(empty), "{pieces:?}");
    let end = pieces.iter().position(|piece| matches!(piece, Piece::Finish(_))).expect("a reason for the end");
    assert_eq!(pieces[end], Piece::Finish("stop".to_owned()));
    assert!(pieces[end + 1..].iter().all(|piece| matches!(piece, Piece::Usage(_))), "{:?}", &pieces[end..]);
}

/// The counts are of this answer, and add up.
pub async fn tells_what_an_answer_cost(inference: Arc<dyn Inference>) {
    let pieces = whole(&inference, "Hello").await;
    let usage = pieces.iter().rev().find_map(|piece| if let Piece::Usage(usage) = piece { Some(*usage) } else { None });
    let usage = usage.expect("a cost");
    assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 1, "{usage:?}");
    assert_eq!(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

/// More answers are begun and dropped than a server computes at a time: if one of them went on, nothing would be left for the last.
pub async fn stops_computing_when_the_answer_is_dropped(inference: Arc<dyn Inference>) {
    for _ in 0..3 {
        let begun = join_all((0..4).map(|_| async {
            let mut answer = ask(&inference, FOREVER).await;
            assert!(matches!(answer.next().await, Some(Ok(_))), "no first piece");
            answer
        }));
        drop(timeout(Duration::from_secs(20), begun).await.expect("four answers at a time"));
    }
    let last = timeout(Duration::from_secs(20), whole(&inference, "Hello")).await.expect("the server is still busy");
    assert!(!content(&last).is_empty());
}

/// There are some, they have names, and the first of them answers.
pub async fn lists_its_models(inference: Arc<dyn Inference>) {
    let models = inference.models().await.expect("the models");
    assert!(!models.is_empty() && models.iter().all(|model| !model.name.is_empty()), "{models:?}");
    assert!(!whole(&inference, "Hello").await.is_empty());
}

/// Both come, and neither holds the other.
pub async fn keeps_thoughts_apart_from_the_answer(inference: Arc<dyn Inference>) {
    let pieces = whole(&inference, THINK).await;
    let (content, reasoning) = (content(&pieces), reasoning(&pieces));
    assert!(!content.trim().is_empty() && !reasoning.trim().is_empty(), "{pieces:?}");
    assert!(!content.contains(reasoning.trim()) && !content.contains("think>"), "{content}");
    assert!(!reasoning.contains(content.trim()), "{reasoning}");
}

/// The reply fails, as nobody but the operator can do anything about it.
pub async fn names_a_refused_key_as_misconfigured_without_showing_it(inference: Arc<dyn Inference>) {
    for failure in failures(&inference).await {
        let shown = format!("{failure} {failure:?}");
        assert_eq!((failure.fault, failure.cut_off), (ReplyFault::ProviderMisconfigured, false), "{shown}");
        assert!(!shown.contains(REFUSED_KEY), "{shown}");
    }
}

/// The reply fails soon, and does not show where we have looked.
pub async fn says_unreachable_where_nothing_listens(inference: Arc<dyn Inference>) {
    let failures = timeout(UNREACHABLE, failures(&inference)).await.expect("a failure within its time");
    for failure in failures {
        assert_eq!((failure.fault, failure.cut_off), (ReplyFault::ProviderUnreachable, false), "{failure}");
        assert!(!failure.detail.contains("127.0.0.1") && !failure.detail.contains("localhost"), "{failure}");
    }
}

/// How both methods of the port fail.
async fn failures(inference: &Arc<dyn Inference>) -> [InferenceFailure; 2] {
    let Err(stream) = inference.stream(completion("any", "Hello")).await else { panic!("an answer came") };
    let Err(models) = inference.models().await else { panic!("models were listed") };
    [stream, models]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::assert_every_promise_has_a_case;

    #[test]
    fn every_promise_has_a_case() {
        assert_every_promise_has_a_case(include_str!("../../../core/src/port/inference.rs"), CASES);
    }
}
