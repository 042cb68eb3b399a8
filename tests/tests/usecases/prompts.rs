//! What a model is told of a long chat, and what happens where that was too much.

use private_chat_adapters::memory::Script;
use private_chat_core::change::Changes;
use private_chat_core::model::chat::{Message, MessageStatus, ReplyFault, Speaker};
use private_chat_core::port::inference::InferenceFailure;
use private_chat_core::port::store::UnitOfWork as _;
use private_chat_tests::fixture::{self, Say as _};

use super::house::{Home, SECOND};

fn says(text: &str) -> Script {
    Script::new().content(text).finish("stop")
}

fn too_long() -> Script {
    Script::refusing(InferenceFailure::failed(ReplyFault::PromptTooLong, "too long"))
}

/// A conversation of so many messages.
async fn conversation(home: &Home, messages: usize) {
    for number in 0..messages {
        let asked = fixture::a_message(&home.chat, &home.ann.user);
        let speaker = if number % 2 == 0 { Speaker::User } else { Speaker::Assistant };
        let content = format!("{number:03} {}", "x".repeat(96));
        home.house.store.commit(Changes::new().say(Message { content, speaker, ..asked })).await.unwrap();
    }
}

fn size(told: &[String]) -> usize {
    told.iter().map(String::len).sum()
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_cut_to_half_and_tried_once_more() {
    let home = Home::playing([too_long(), says("Yes.")]).await;
    conversation(&home, 40).await;
    let reply = home.a.ask(&home.ann, &home.chat, "Last").await;
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Complete, "Yes."));
    let told = home.a.told();
    assert_eq!((told.len(), told[0].len()), (2, 41));
    assert!(size(&told[1]) <= size(&told[0]) / 2 && size(&told[1]) > size(&told[0]) / 3, "{}", told[1].len());
    assert!(told[0].ends_with(&told[1]), "cut from the oldest side");
    let first: usize = told[1][0][..3].parse().unwrap();
    assert_eq!(first % 2, 0, "a person begins");
}

#[tokio::test]
async fn what_is_too_long_twice_is_too_long() {
    let home = Home::playing([too_long()]).await;
    conversation(&home, 40).await;
    let reply = home.a.ask(&home.ann, &home.chat, "Last").await;
    assert_eq!(reply.status, MessageStatus::Failed);
    assert_eq!(reply.error.map(|error| error.code), Some(ReplyFault::PromptTooLong));
    assert_eq!(home.a.told().len(), 2);
    home.is_quiet().await;
}

#[tokio::test]
async fn nothing_is_tried_again_where_nothing_can_be_cut_or_something_was_said() {
    let home = Home::of(too_long()).await;
    assert_eq!(home.a.ask(&home.ann, &home.chat, "Alone").await.status, MessageStatus::Failed);
    assert_eq!(home.a.told().len(), 1, "one message can't be cut");
    for said in [Script::new().content("A"), Script::new().reasoning("Hm.")] {
        let fault = InferenceFailure::failed(ReplyFault::PromptTooLong, "too long");
        let home = Home::of(said.fail(fault)).await;
        conversation(&home, 4).await;
        let reply = home.a.ask(&home.ann, &home.chat, "Last").await;
        assert_eq!(reply.error.map(|error| error.code), Some(ReplyFault::PromptTooLong));
        assert_eq!(home.a.told().len(), 1, "people have seen of it");
    }
    let home = Home::of(Script::refusing(InferenceFailure::failed(ReplyFault::ProviderError, "500"))).await;
    conversation(&home, 4).await;
    home.a.ask(&home.ann, &home.chat, "Last").await;
    assert_eq!(home.a.told().len(), 1, "it was not for its length");
}

// R78
#[tokio::test]
async fn the_deadlines_hold_for_the_second_try() {
    let home = Home::playing([too_long(), Script::new().pause()]).await;
    conversation(&home, 4).await;
    let sent = home.a.send(&home.ann, &home.chat, "Last").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(61 * SECOND).await;
    let (_, reply) = sent.end.wait().await.unwrap();
    assert_eq!(reply.status, MessageStatus::Interrupted);
    assert_eq!(reply.error.map(|error| error.code), Some(ReplyFault::Timeout));
    home.is_quiet().await;
}
