//! A message and its reply: what the sender sees, what is stored, what the model is told.

use private_chat_adapters::memory::{Script, ScriptedInference};
use private_chat_core::change::Changes;
use private_chat_core::error::{Error, Kind};
use private_chat_core::model::chat::{MessageStatus, Parameters, ReplyFault, Speaker, Usage};
use private_chat_core::policy::Right;
use private_chat_core::port::inference::InferenceFailure;
use private_chat_core::port::store::UnitOfWork as _;
use private_chat_core::usecase::Settings;
use private_chat_core::usecase::chats::NewMessage;
use private_chat_tests::fixture;
use private_chat_tests::fixture::Say as _;
use tokio::task::JoinSet;

use super::house::{Home, House, SECOND, TIMERS, a_message, eventually, settings, settle};
use super::screen::Viewer;
use super::troubled::Side;

// R81, R82
#[tokio::test]
async fn a_streamed_send_shows_everything_from_the_message_to_the_end() {
    let script = Script::new().reasoning("Hm, ").reasoning("well.").content("Héllo, ").pause().content("wörld 😀");
    let home = Home::of(script.content("!").usage(7, 3).finish("stop")).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let viewer = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    settle().await;
    let stored = home.house.messages(home.chat.id).await;
    assert_eq!(
        stored.iter().map(|message| message.status).collect::<Vec<_>>(),
        [MessageStatus::Complete, MessageStatus::Streaming]
    );
    assert_eq!(viewer.screen().reply().content, "Héllo, ", "text is shown when it comes");
    home.a.parrot.release();
    let screen = viewer.read_out().await;
    assert_eq!(
        screen.seen,
        [
            "created user",
            "created assistant",
            "0 \"Hm, \"",
            "4 \"well.\"",
            "0 \"Héllo, \"",
            "7 \"wörld 😀\"",
            "14 \"!\"",
            "ended complete"
        ]
    );
    assert_eq!(screen.thread(), home.house.messages(home.chat.id).await, "what is shown is what is stored");
    let reply = screen.reply();
    assert_eq!(reply.content, "Héllo, wörld 😀!");
    assert_eq!(reply.reasoning.as_deref(), Some("Hm, well."));
    assert_eq!(reply.model.as_deref(), Some("scripted/parrot"));
    assert_eq!(reply.finish_reason.as_deref(), Some("stop"));
    assert_eq!(reply.usage, Some(Usage { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 }));
    assert_eq!(sent.end.wait().await.unwrap().1, *reply);
    home.is_quiet().await;
}

#[tokio::test]
async fn a_plain_send_answers_once_the_reply_has_ended() {
    let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("length")).await;
    let sent = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    assert_eq!(sent.message, home.house.messages(home.chat.id).await[0]);
    let mut end = JoinSet::new();
    end.spawn(sent.end.wait());
    home.a.parrot.waiting(1).await;
    assert!(end.try_join_next().is_none());
    home.a.parrot.release();
    let (message, reply) = end.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!([message, reply.clone()], *home.house.messages(home.chat.id).await);
    assert_eq!((reply.content.as_str(), reply.finish_reason.as_deref()), ("Hello.", Some("length")));
    home.is_quiet().await;
}

// F30, D4
#[tokio::test]
async fn a_request_that_is_dropped_at_any_point_never_tears_a_reply() {
    let mut ever_stored = 0;
    for steps in 0..30 {
        let home = Home::of(Script::new().content("Hel").content("lo.").finish("stop")).await;
        home.a.store.set_pace(vec![1]);
        let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
        let chats = home.a.cases.chats.clone();
        let mut request = JoinSet::new();
        request.spawn(async move {
            let sent = chats.send(&at, a_message("Hi"), true, None).await.unwrap();
            let mut watch = sent.watch.unwrap();
            while watch.next().await.is_some() {}
            sent.end.wait().await.unwrap();
        });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        request.shutdown().await;
        settle().await;
        match &home.house.messages(home.chat.id).await[..] {
            [] => {}
            [_, reply] => {
                ever_stored += 1;
                assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Complete, "Hello."), "{steps}");
            }
            other => panic!("{other:?}"),
        }
        home.is_quiet().await;
    }
    assert!(ever_stored > 5, "{ever_stored}");
}

// F30: also between the commit and the news of it.
#[tokio::test]
async fn who_hangs_up_while_the_message_is_stored_gets_the_reply_all_the_same() {
    for side in [Side::Before, Side::After] {
        let home = Home::of(Script::new().content("Hello.").finish("stop")).await;
        let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
        let storing = home.a.store.hold("begin", side);
        let chats = home.a.cases.chats.clone();
        let mut request = JoinSet::new();
        request.spawn(async move { chats.send(&at, a_message("Hi"), true, None).await.map(|_| ()) });
        storing.reached().await;
        request.shutdown().await;
        storing.open();
        settle().await;
        assert_eq!((home.last().await.status, home.last().await.content.as_str()), (MessageStatus::Complete, "Hello."));
        home.is_quiet().await;
    }
}

// F30
#[tokio::test]
async fn who_hangs_up_in_the_middle_stops_nothing() {
    let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let viewer = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    viewer.leave().await;
    drop(sent.end);
    assert_eq!(home.a.cases.live.watchers(), 0);
    home.a.parrot.release();
    eventually("the reply ends", || home.a.cases.replies.running() == 0).await;
    assert_eq!(home.last().await.content, "Hello.");
    assert_eq!((home.a.parrot.ended(), home.a.parrot.dropped()), (1, 0));
    home.is_quiet().await;
}

#[tokio::test]
async fn a_second_send_waits_for_the_first_reply_and_knows_it() {
    let first = Script::new().content("One").pause().content(" answer.").finish("stop");
    let second = Script::new().content("Two.").finish("stop");
    let home = Home::playing([first, second]).await;
    let one = home.a.send(&home.ann, &home.chat, "First?").await.unwrap();
    home.a.parrot.waiting(1).await;
    let two = home.a.send_watched(&home.ann, &home.chat, "Second?").await;
    settle().await;
    assert_eq!(home.a.parrot.completions().len(), 1, "the second waits");
    assert_eq!(home.house.messages(home.chat.id).await.len(), 4, "and is stored meanwhile");
    home.a.parrot.release();
    one.end.wait().await.unwrap();
    let (_, reply) = two.end.wait().await.unwrap();
    assert_eq!(reply.content, "Two.");
    let told = home.a.parrot.completions().pop().unwrap().messages;
    let told: Vec<_> = told.iter().map(|message| (message.speaker, message.content.as_str())).collect();
    assert_eq!(told, [(Speaker::User, "First?"), (Speaker::Assistant, "One answer."), (Speaker::User, "Second?")]);
    let thread = home.house.messages(home.chat.id).await;
    for pair in thread.windows(2) {
        assert_eq!(pair[1].parent, Some(pair[0].id), "nobody forked");
    }
}

// R83
#[tokio::test]
async fn an_empty_broken_reply_is_left_out_of_later_prompts() {
    let broken = Script::refusing(InferenceFailure::failed(ReplyFault::ProviderError, "500"));
    let cut = Script::new().content("Half an").fail(InferenceFailure::cut_off(ReplyFault::ConnectionLost, "gone"));
    let fine = Script::new().content("Fine.").finish("stop");
    let home = Home::playing([broken, cut, fine]).await;
    assert_eq!(home.a.ask(&home.ann, &home.chat, "One").await.status, MessageStatus::Failed);
    assert_eq!(home.a.ask(&home.ann, &home.chat, "Two").await.status, MessageStatus::Interrupted);
    assert_eq!(home.a.ask(&home.ann, &home.chat, "Three").await.status, MessageStatus::Complete);
    let told = home.a.parrot.completions().pop().unwrap().messages;
    let told: Vec<_> = told.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(told, ["One\n\nTwo", "Half an", "Three"], "turns alternate, as many models take no others");
}

// R87
#[tokio::test]
async fn a_prompt_follows_one_branch_of_one_chat() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let other = home.a.new_chat(&home.ann, home.workspace, private_chat_core::model::chat::Visibility::Workspace).await;
    home.a.ask(&home.ann, &other, "CANARY").await;
    let first = home.a.ask(&home.ann, &home.chat, "Root").await;
    home.a.ask(&home.ann, &home.chat, "Left").await;
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let right = NewMessage { parent: Some(first.id), ..a_message("Right") };
    home.a.cases.chats.send(&at, right, false, None).await.unwrap().end.wait().await.unwrap();
    let told = home.a.parrot.completions().pop().unwrap().messages;
    let told: Vec<_> = told.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(told, ["Root", "Yes.", "Right"]);
    let stranger = NewMessage { parent: Some(home.house.last(other.id).await.id), ..a_message("Elsewhere") };
    let answer = home.a.cases.chats.send(&at, stranger, false, None).await.map(|_| ());
    assert!(matches!(answer, Err(Error::NotFound(Kind::Message))), "{answer:?}");
}

#[tokio::test]
async fn a_long_chat_costs_what_fits_and_no_more() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let mut parent = None;
    for number in 1..=2_000 {
        let text = format!("{number:04} {}", "x".repeat(495));
        let asked = fixture::a_message(&home.chat, &home.ann.user);
        let speaker = if number % 2 == 1 { Speaker::User } else { Speaker::Assistant };
        let message = private_chat_core::model::chat::Message { content: text, parent, speaker, ..asked };
        parent = Some(message.id);
        home.house.store.commit(Changes::new().say(message)).await.unwrap();
    }
    let before = home.a.store.calls("messages");
    home.a.ask(&home.ann, &home.chat, "Last").await;
    let told = home.a.parrot.completions().pop().unwrap().messages;
    // Three quarters of 32,768 tokens, three bytes each, and 516 bytes a message.
    let fit = 32_768 / 4 * 3 * 3 / 516;
    assert!((fit - 1..=fit + 1).contains(&told.len()), "{} of {fit}", told.len());
    assert!(told[0].content.starts_with(&format!("{:04} ", 2_000 - told.len() + 2)), "without a gap to the end");
    assert!(home.a.store.calls("messages") - before <= 3, "it reads no more than it tells");
}

#[tokio::test]
async fn the_system_prompt_comes_first_and_the_chats_own_goes_before_the_workspaces() {
    use private_chat_core::usecase::Patch;
    use private_chat_core::usecase::chats::NewChat;
    use private_chat_core::usecase::workspaces::WorkspaceChange;
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let owner = home.a.member(&home.ann, home.workspace, Right::EditWorkspace).await.unwrap();
    let change = WorkspaceChange { system_prompt: Patch::Set("Ours.".into()), ..WorkspaceChange::default() };
    home.a.cases.workspaces.change(&owner, change).await.unwrap();
    let visibility = private_chat_core::model::chat::Visibility::Private;
    let new = NewChat { title: None, visibility, model: None, system_prompt: Some("Mine.".into()) };
    let own = home.a.cases.chats.create(&owner, new, None).await.unwrap();
    for (chat, prompt) in [(&home.chat, "Ours."), (&own, "Mine.")] {
        let at = home.a.enter(&home.ann, chat, Right::Send).await.unwrap();
        let parameters = Parameters { temperature: Some(0.5), stop: vec!["END".into()], ..Parameters::default() };
        let new = NewMessage { parameters: parameters.clone(), ..a_message("Hi") };
        home.a.cases.chats.send(&at, new, false, None).await.unwrap().end.wait().await.unwrap();
        let asked = home.a.parrot.completions().pop().unwrap();
        assert_eq!((asked.model.as_str(), &asked.parameters), ("parrot", &parameters));
        assert_eq!(asked.messages.len(), 2);
        assert_eq!((asked.messages[0].speaker, asked.messages[0].content.as_str()), (Speaker::System, prompt));
    }
}

// R82: nothing goes to a provider before it is durable, and nothing at all where it is not.
#[tokio::test]
async fn a_provider_hears_nothing_of_a_message_that_was_not_stored() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let gate = home.a.store.hold("begin", Side::Before);
    let chats = home.a.cases.chats.clone();
    let mut sending = JoinSet::new();
    sending.spawn(async move { chats.send(&at, a_message("Hi"), true, None).await.map(|_| ()) });
    gate.reached().await;
    settle().await;
    assert_eq!(home.a.parrot.completions(), []);
    home.a.store.set_away(true);
    gate.open();
    let answer = sending.join_next().await.unwrap().unwrap();
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    settle().await;
    assert_eq!(home.a.parrot.completions(), []);
    home.a.store.set_away(false);
    home.is_quiet().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_before_anything_is_read() {
    let home = Home::of(Script::new()).await;
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    for text in ["", "  \n", "a\0b", &"x".repeat((64 << 10) + 1)] {
        let answer = home.a.cases.chats.send(&at, a_message(text), false, None).await.map(|_| ());
        assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    }
    home.is_quiet().await;
}

// A chat without watchers, rooms or seats left behind.
#[tokio::test]
async fn a_hundred_replies_leave_nothing_behind() {
    let house = House::new();
    let parrot = ScriptedInference::new(Script::new().content("Yes.").finish("stop"));
    let a = house.start(std::sync::Arc::new(parrot), Settings { ..settings() }).await;
    let home = Home::with(house, a).await;
    for _ in 0..100 {
        let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
        Viewer::of_reply(sent.watch.unwrap()).read_out().await;
    }
    home.pass(3 * SECOND).await;
    home.is_quiet().await;
    assert_eq!(home.house.clock.sleepers(), TIMERS, "only the keeper still waits for something");
}
