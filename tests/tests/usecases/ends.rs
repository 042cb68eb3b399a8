//! The ways in which a reply ends, each exactly once, with all that was made.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use private_chat_adapters::memory::{Script, ScriptedInference};
use private_chat_core::error::{Error, Forbidden, Kind, Obstacle};
use private_chat_core::model::chat::{Message, MessageStatus, ReplyFault, ReplyLimits, Usage, Visibility};
use private_chat_core::model::workspace::Role;
use private_chat_core::policy::Right;
use private_chat_core::port::Ports;
use private_chat_core::port::inference::{Answer, Completion, Inference, InferenceFailure, Offer, Piece, Provider};
use private_chat_core::usecase::Settings;
use private_chat_core::usecase::chats::NewMessage;
use tokio::task::JoinSet;

use super::house::{Home, House, Person, Process, SECOND, a_message, eventually, settings, settle};
use super::screen::Viewer;
use super::troubled::Side;

fn fault(reply: &Message) -> Option<ReplyFault> {
    reply.error.as_ref().map(|error| error.code)
}

// F20-F23, F25, F29
#[tokio::test]
async fn what_a_provider_does_decides_between_failed_and_interrupted() {
    let failed = |fault| InferenceFailure::failed(fault, "why");
    let cut = |fault| InferenceFailure::cut_off(fault, "why");
    let half = || Script::new().content("Half");
    for (script, status, code, text) in [
        (Script::refusing(failed(ReplyFault::ProviderUnreachable)), MessageStatus::Failed, "provider_unreachable", ""),
        (
            Script::refusing(failed(ReplyFault::ProviderMisconfigured)),
            MessageStatus::Failed,
            "provider_misconfigured",
            "",
        ),
        (Script::refusing(failed(ReplyFault::ProviderOverloaded)), MessageStatus::Failed, "provider_overloaded", ""),
        (half().fail(failed(ReplyFault::ProviderError)), MessageStatus::Failed, "provider_error", "Half"),
        (half().fail(failed(ReplyFault::ProviderNonsense)), MessageStatus::Failed, "provider_nonsense", "Half"),
        (half().fail(cut(ReplyFault::ConnectionLost)), MessageStatus::Interrupted, "connection_lost", "Half"),
    ] {
        let home = Home::of(script).await;
        let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
        let screen = Viewer::of_reply(sent.watch.unwrap()).read_out().await;
        let stored = home.last().await;
        assert_eq!((stored.status, stored.content.as_str()), (status, text));
        assert_eq!(fault(&stored).unwrap().name(), code);
        assert_eq!(screen.thread(), home.house.messages(home.chat.id).await);
        assert_eq!(screen.seen.iter().filter(|seen| seen.starts_with("ended")).count(), 1, "exactly one end");
        home.is_quiet().await;
    }
}

#[tokio::test]
async fn a_finish_without_usage_is_complete_and_nobody_waits_for_it() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let reply = home.a.ask(&home.ann, &home.chat, "Hi").await;
    assert_eq!((reply.status, reply.usage), (MessageStatus::Complete, None));
}

// R80
#[tokio::test]
async fn a_provider_that_keeps_the_line_open_after_its_finish_is_given_five_seconds() {
    let home = Home::of(Script::new().content("Yes.").finish("stop").pause().usage(1, 1)).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.pass(4 * SECOND).await;
    assert_eq!(home.last().await.status, MessageStatus::Streaming);
    home.pass(SECOND).await;
    let reply = home.last().await;
    assert_eq!(
        (reply.status, reply.usage, reply.finish_reason.as_deref()),
        (MessageStatus::Complete, None, Some("stop"))
    );
    home.a.parrot.abandoned(1).await;
    home.is_quiet().await;
}

#[tokio::test]
async fn what_breaks_after_the_finish_takes_nothing_away() {
    let broken = InferenceFailure::cut_off(ReplyFault::ConnectionLost, "gone");
    let home = Home::of(Script::new().content("Yes.").finish("stop").usage(2, 3).fail(broken)).await;
    let reply = home.a.ask(&home.ann, &home.chat, "Hi").await;
    assert_eq!((reply.status, reply.error.clone(), reply.content.as_str()), (MessageStatus::Complete, None, "Yes."));
    assert_eq!(reply.usage, Some(Usage { prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 }));
}

fn limits() -> ReplyLimits {
    ReplyLimits { first_byte: 20 * SECOND, idle: 7 * SECOND, total: 100 * SECOND, bytes: 1 << 20 }
}

async fn is_cut_after(script: Script, releases: &[Duration], still: Duration, text: &str) {
    let home = Home::limited(script, limits()).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let viewer = Viewer::of_reply(sent.watch.unwrap());
    for pause in releases {
        home.a.parrot.waiting(1).await;
        home.pass(*pause).await;
        home.a.parrot.release();
        settle().await;
    }
    home.a.parrot.waiting(1).await;
    home.pass(still - Duration::from_millis(1)).await;
    assert_eq!(home.last().await.status, MessageStatus::Streaming, "it has its time");
    home.pass(Duration::from_millis(1)).await;
    let reply = home.last().await;
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Interrupted, text));
    assert_eq!(fault(&reply), Some(ReplyFault::Timeout));
    home.a.parrot.abandoned(1).await;
    assert_eq!(viewer.read_out().await.thread(), home.house.messages(home.chat.id).await);
    home.is_quiet().await;
}

// R78, F24
#[tokio::test]
async fn a_provider_that_never_begins_is_cut_at_the_first_byte_deadline() {
    is_cut_after(Script::new().pause().content("late"), &[], 20 * SECOND, "").await;
}

// R78, F24
#[tokio::test]
async fn a_provider_that_falls_silent_is_cut_at_the_idle_deadline() {
    let script = Script::new().content("a").pause().content("b").pause().content("c");
    is_cut_after(script, &[6 * SECOND], 7 * SECOND, "ab").await;
}

// R78: the wait for the first piece may be longer than the wait for the next one, and the other way round.
#[tokio::test]
async fn a_short_idle_deadline_counts_from_the_first_piece() {
    is_cut_after(Script::new().content("a").pause().content("b"), &[], 7 * SECOND, "a").await;
    is_cut_after(Script::new().pause().content("a").pause().content("b"), &[19 * SECOND], 7 * SECOND, "a").await;
}

// R78, F28
#[tokio::test]
async fn a_provider_that_drips_is_cut_at_the_total_deadline() {
    let script = (0..20).fold(Script::new(), |script, _| script.pause().content("."));
    let releases = vec![6 * SECOND; 16];
    is_cut_after(script, &releases, 4 * SECOND, &".".repeat(16)).await;
}

/// A provider that answers as it is told, without a script.
struct Odd<F>(F);

#[async_trait]
impl<F: Fn() -> Result<Answer, InferenceFailure> + Send + Sync> Inference for Odd<F> {
    async fn stream(&self, _: Completion) -> Result<Answer, InferenceFailure> {
        (self.0)()
    }

    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
        Ok(vec![Offer::named("odd")])
    }
}

async fn home_of(inference: impl Inference + 'static) -> Home {
    let house = House::new();
    let (ports, store, tasks) = house.ports(Arc::new(inference));
    let parrot = Arc::new(ScriptedInference::new(Script::new()));
    let a = Process::start(ports, store, tasks, parrot, settings()).await;
    Home::with(house, a).await
}

/// A provider that takes the connection and never says a word.
struct Silent;

#[async_trait]
impl Inference for Silent {
    async fn stream(&self, _: Completion) -> Result<Answer, InferenceFailure> {
        std::future::pending().await
    }

    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
        Ok(vec![Offer::named("silent")])
    }
}

// R78, F24
#[tokio::test]
async fn a_provider_that_takes_the_connection_and_says_nothing_is_cut() {
    let home = home_of(Silent).await;
    home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.pass(59 * SECOND).await;
    assert_eq!(home.last().await.status, MessageStatus::Streaming);
    home.pass(SECOND).await;
    assert_eq!(
        (home.last().await.status, fault(&home.last().await)),
        (MessageStatus::Interrupted, Some(ReplyFault::Timeout))
    );
    home.is_quiet().await;
}

#[tokio::test]
async fn a_provider_that_panics_in_the_middle_ends_its_reply_and_frees_everything() {
    let home = home_of(Odd(|| {
        let said = futures_util::stream::iter(["Half"]).map(|text| Ok(Piece::Content(text.to_owned())));
        let rest = futures_util::stream::poll_fn(|_| panic!("a fault of the adapter"));
        Ok(said.chain(rest).boxed())
    }))
    .await;
    for _ in 0..3 {
        let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
        let screen = Viewer::of_reply(sent.watch.unwrap()).read_out().await;
        let reply = home.last().await;
        assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Interrupted, "Half"));
        assert_eq!(fault(&reply), Some(ReplyFault::ServerStopped));
        assert!(screen.seen.contains(&"ended interrupted".to_owned()), "{:?}", screen.seen);
    }
    let at_once = home_of(Odd(|| panic!("a fault of the adapter"))).await;
    assert_eq!(at_once.a.ask(&at_once.ann, &at_once.chat, "Hi").await.status, MessageStatus::Interrupted);
    home.is_quiet().await;
    at_once.is_quiet().await;
}

// R85, F28
#[tokio::test]
async fn a_reply_that_grows_too_long_is_cut_at_a_character() {
    let limits = ReplyLimits { bytes: 12, ..limits() };
    let script = Script::new().reasoning("abc").content("déf").content("ghé😀").content("never").finish("stop");
    let home = Home::limited(script, limits).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let screen = Viewer::of_reply(sent.watch.unwrap()).read_out().await;
    let reply = home.last().await;
    // 3 + 4 + 4 bytes; the next character has four.
    assert_eq!((reply.status, reply.content.as_str()), (MessageStatus::Failed, "défghé"));
    assert_eq!((fault(&reply), reply.reasoning.as_deref()), (Some(ReplyFault::TooLong), Some("abc")));
    assert_eq!(*screen.reply(), reply);
    home.is_quiet().await;
}

// R85, F28
#[tokio::test]
async fn an_endless_flood_is_cut() {
    let endless = || Ok(futures_util::stream::repeat_with(|| Ok(Piece::Content("x".repeat(4096)))).boxed());
    let home = home_of(Odd(endless)).await;
    let reply = home.a.ask(&home.ann, &home.chat, "Hi").await;
    assert_eq!(
        (reply.status, fault(&reply), reply.content.len()),
        (MessageStatus::Failed, Some(ReplyFault::TooLong), 1 << 20)
    );
    home.is_quiet().await;
}

#[tokio::test]
async fn a_stop_keeps_what_was_made_and_lets_the_provider_go() {
    let home = Home::of(Script::new().content("Half").pause().content("never").finish("stop")).await;
    let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let viewer = Viewer::of_reply(sent.watch.unwrap());
    home.a.parrot.waiting(1).await;
    settle().await;
    let reply = home.last().await;
    let stopped = home.a.stop(&home.ann, &home.chat, reply.id).await.unwrap();
    assert_eq!(
        (stopped.status, stopped.content.as_str(), stopped.error.clone()),
        (MessageStatus::Stopped, "Half", None)
    );
    home.a.parrot.abandoned(1).await;
    assert_eq!(*viewer.read_out().await.reply(), stopped);
    let again = home.a.stop(&home.ann, &home.chat, reply.id).await;
    assert!(matches!(again, Err(Error::Conflict(Obstacle::NotRunning))), "{again:?}");
    let none = home.a.stop(&home.ann, &home.chat, sent.message.id).await;
    assert!(matches!(none, Err(Error::Conflict(Obstacle::NotRunning))), "{none:?}");
    let nothing = home.a.stop(&home.ann, &home.chat, private_chat_tests::fixture::new_id()).await;
    assert!(matches!(nothing, Err(Error::NotFound(Kind::Message))), "{nothing:?}");
    home.is_quiet().await;
}

#[tokio::test]
async fn a_reply_that_still_waits_for_its_turn_can_be_stopped() {
    let home = Home::of(Script::new().content("One").pause().finish("stop")).await;
    let one = home.a.send(&home.ann, &home.chat, "First").await.unwrap();
    home.a.parrot.waiting(1).await;
    home.a.send(&home.ann, &home.chat, "Second").await.unwrap();
    settle().await;
    let second = home.last().await;
    let stopped = home.a.stop(&home.ann, &home.chat, second.id).await.unwrap();
    assert_eq!((stopped.status, stopped.content.as_str()), (MessageStatus::Stopped, ""));
    assert_eq!(home.a.parrot.completions().len(), 1);
    home.a.parrot.release();
    assert_eq!(one.end.wait().await.unwrap().1.status, MessageStatus::Complete);
    home.is_quiet().await;
}

#[tokio::test]
async fn a_reply_is_stopped_by_who_asked_by_the_chats_creator_or_by_an_owner() {
    let home = Home::of(Script::new().content("Half").pause().finish("stop")).await;
    let (ben, cleo, dan) = (
        home.person("Ben", Role::Member).await,
        home.person("Cleo", Role::Member).await,
        home.person("Dan", Role::Member).await,
    );
    let chat = home.a.new_chat(&ben, home.workspace, Visibility::Workspace).await;
    let tries: [(&Person, bool); 4] = [(&dan, false), (&cleo, true), (&ben, true), (&home.ann, true)];
    for (person, may) in tries {
        let sent = home.a.send(&cleo, &chat, "Hi").await.unwrap();
        home.a.parrot.waiting(1).await;
        let reply = home.house.last(chat.id).await;
        let answer = home.a.stop(person, &chat, reply.id).await;
        if may {
            assert_eq!(answer.unwrap().status, MessageStatus::Stopped, "{}", person.user.name);
        } else {
            assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
            home.a.parrot.release();
        }
        sent.end.wait().await.unwrap();
    }
    home.is_quiet().await;
}

// R109, F33
#[tokio::test]
async fn a_drain_gives_running_replies_their_time_and_interrupts_the_rest() {
    let quick = Script::new().content("Quick").pause().content(" done.").finish("stop");
    let slow = Script::new().content("Slow").pause().finish("stop");
    let home = Home::playing([quick, slow]).await;
    let other = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    let first = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
    let first = Viewer::of_reply(first.watch.unwrap());
    home.a.parrot.waiting(1).await;
    let second = home.a.send_watched(&home.ann, &other, "Hi").await;
    let second = Viewer::of_reply(second.watch.unwrap());
    home.a.parrot.waiting(2).await;
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let mut draining = JoinSet::new();
    let replies = home.a.cases.replies.clone();
    draining.spawn(async move { replies.drain(30 * SECOND).await });
    settle().await;
    let refused = home.a.cases.chats.send(&at, a_message("Late"), true, None).await.map(|_| ());
    assert!(matches!(refused, Err(Error::ShuttingDown)), "{refused:?}");
    home.pass(10 * SECOND).await;
    home.a.parrot.release();
    settle().await;
    assert_eq!(home.last().await.content, "Quick done.");
    home.pass(19 * SECOND).await;
    assert!(draining.try_join_next().is_none(), "the slow one has its 30 s");
    home.pass(SECOND).await;
    draining.join_next().await.unwrap().unwrap();
    let slow = home.house.last(other.id).await;
    assert_eq!((slow.status, slow.content.as_str()), (MessageStatus::Interrupted, "Slow"));
    assert_eq!(fault(&slow), Some(ReplyFault::ServerStopped));
    assert_eq!(first.read_out().await.reply().status, MessageStatus::Complete);
    assert_eq!(*second.read_out().await.reply(), slow, "no stream just stops");
    use private_chat_core::port::store::ReplyRepository as _;
    assert_eq!(home.house.store.instances().await.unwrap(), [], "it takes its leave");
    home.pass(SECOND).await;
    assert_eq!(home.house.clock.sleepers(), 0, "nothing goes on");
    home.is_quiet().await;
}

// R109: a send that was let in just before the drain does not outlive it.
#[tokio::test]
async fn a_send_that_meets_the_end_of_a_drain_is_interrupted_too() {
    let home = Home::of(Script::new().content("Half").pause().finish("stop")).await;
    let other = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    home.a.send(&home.ann, &other, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    let began = home.a.store.hold("begin", Side::After);
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let chats = home.a.cases.chats.clone();
    let mut sending = JoinSet::new();
    sending
        .spawn(async move { chats.send(&at, a_message("Hi"), false, None).await.unwrap().end.wait().await.unwrap().1 });
    began.reached().await;
    // All that runs was cut already, and its end takes a while to be stored, when the send is through at last.
    let ending = home.a.store.hold("end", Side::Before);
    let replies = home.a.cases.replies.clone();
    let mut draining = JoinSet::new();
    draining.spawn(async move { replies.drain(Duration::ZERO).await });
    ending.reached().await;
    began.open();
    let reply = sending.join_next().await.unwrap().unwrap();
    assert_eq!((reply.status, fault(&reply)), (MessageStatus::Interrupted, Some(ReplyFault::ServerStopped)));
    ending.open();
    draining.join_next().await.unwrap().unwrap();
    home.is_quiet().await;
}

/// A house whose providers are these.
async fn home_with_providers(providers: &[(&str, Arc<dyn Inference>, &[&str])], default: Option<&str>) -> Home {
    let house = House::new();
    let parrot = Arc::new(ScriptedInference::new(Script::new()));
    let (ports, store, tasks) = house.ports(parrot.clone());
    let inference = providers
        .iter()
        .map(|(name, inference, models)| {
            let models = models.iter().map(ToString::to_string).collect();
            let provider = Provider {
                inference: inference.clone(),
                models,
                context_length: None,
                vision: false,
                writes_titles: false,
            };
            ((*name).to_owned(), provider)
        })
        .collect();
    let ports = Ports { inference: Arc::new(inference), ..ports };
    let settings = Settings { default_model: default.map(str::to_owned), ..settings() };
    let a = Process::start(ports, store, tasks, parrot, settings).await;
    Home::with(house, a).await
}

fn says(text: &str) -> Arc<dyn Inference> {
    Arc::new(ScriptedInference::new(Script::new().content(text).finish("stop")))
}

async fn send_to(home: &Home, model: Option<&str>) -> Result<Message, Error> {
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await?;
    let new = NewMessage { model: model.map(str::to_owned), ..a_message("Hi") };
    Ok(home.a.cases.chats.send(&at, new, false, None).await?.end.wait().await?.1)
}

// R86
#[tokio::test]
async fn the_model_is_the_messages_then_the_chats_then_the_workspaces_then_the_default() {
    use private_chat_core::usecase::Patch;
    use private_chat_core::usecase::chats::NewChat;
    use private_chat_core::usecase::workspaces::WorkspaceChange;
    let models: &[&str] = &["one", "two", "three", "four"];
    let home = home_with_providers(&[("house", says("Yes."), models)], Some("house/four")).await;
    let answered_by = |reply: Message| reply.model.unwrap();
    assert_eq!(answered_by(send_to(&home, None).await.unwrap()), "house/four");
    let owner = home.a.member(&home.ann, home.workspace, Right::EditWorkspace).await.unwrap();
    let change = WorkspaceChange { default_model: Patch::Set("house/three".into()), ..WorkspaceChange::default() };
    home.a.cases.workspaces.change(&owner, change).await.unwrap();
    assert_eq!(answered_by(send_to(&home, None).await.unwrap()), "house/three");
    let new = |model: &str| NewChat {
        title: None,
        visibility: Visibility::Workspace,
        model: Some(model.into()),
        system_prompt: None,
    };
    let chat = home.a.cases.chats.create(&owner, new("house/two"), None).await.unwrap();
    assert_eq!(answered_by(home.a.ask(&home.ann, &chat, "Hi").await), "house/two");
    assert_eq!(answered_by(send_to(&home, Some("house/one")).await.unwrap()), "house/one");
    for unknown in ["house/five", "mouse/one", "one", "house/", "house/one;drop"] {
        let answer = send_to(&home, Some(unknown)).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{unknown}: {answer:?}");
        assert!(
            matches!(home.a.cases.chats.create(&owner, new(unknown), None).await, Err(Error::Invalid(_))),
            "{unknown}"
        );
    }
    home.is_quiet().await;
}

struct Away;

#[async_trait]
impl Inference for Away {
    async fn stream(&self, _: Completion) -> Result<Answer, InferenceFailure> {
        Err(InferenceFailure::failed(ReplyFault::ProviderUnreachable, "nothing listens there"))
    }

    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
        Err(InferenceFailure::failed(ReplyFault::ProviderUnreachable, "nothing listens there"))
    }
}

// F20: a provider that is away is a failed reply, not an error.
#[tokio::test]
async fn a_provider_that_is_away_is_a_failed_reply() {
    let home = home_with_providers(&[("far", Arc::new(Away), &[])], None).await;
    let reply = send_to(&home, None).await.unwrap();
    assert_eq!((reply.status, fault(&reply)), (MessageStatus::Failed, Some(ReplyFault::ProviderUnreachable)));
    assert_eq!((reply.model, reply.provider.as_deref()), (None, Some("far")));
    let named = send_to(&home, Some("far/known")).await.unwrap();
    assert_eq!((named.status, named.model.as_deref()), (MessageStatus::Failed, Some("far/known")));
    let default = home_with_providers(&[("far", Arc::new(Away), &[])], Some("far/default")).await;
    let reply = send_to(&default, None).await.unwrap();
    assert_eq!((reply.status, reply.model.as_deref()), (MessageStatus::Failed, Some("far/default")));
    home.is_quiet().await;
    let empty = home_with_providers(&[("empty", Arc::new(Lists(Vec::new())), &[])], None).await;
    let reply = send_to(&empty, None).await.unwrap();
    assert_eq!((reply.status, fault(&reply)), (MessageStatus::Failed, Some(ReplyFault::ModelUnavailable)));
}

/// A provider that only lists.
struct Lists(Vec<String>);

#[async_trait]
impl Inference for Lists {
    async fn stream(&self, _: Completion) -> Result<Answer, InferenceFailure> {
        Err(InferenceFailure::failed(ReplyFault::ProviderRefused, "it only lists"))
    }

    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
        Ok(self.0.iter().map(Offer::named).collect())
    }
}

// A model that was settled late is told.
#[tokio::test]
async fn a_provider_that_comes_back_between_send_and_reply_answers() {
    struct Waking(std::sync::atomic::AtomicBool);

    #[async_trait]
    impl Inference for Waking {
        async fn stream(&self, completion: Completion) -> Result<Answer, InferenceFailure> {
            let said = Ok(Piece::Content(completion.model));
            Ok(futures_util::stream::iter([said, Ok(Piece::Finish("stop".into()))]).boxed())
        }

        async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
            if self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
                Ok(vec![Offer::named("late")])
            } else {
                Err(InferenceFailure::failed(ReplyFault::ProviderUnreachable, "not yet"))
            }
        }
    }

    let home = home_with_providers(&[("far", Arc::new(Waking(false.into())), &[])], None).await;
    let gate = home.a.store.hold("begin", Side::After);
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let chats = home.a.cases.chats.clone();
    let mut sending = JoinSet::new();
    sending
        .spawn(async move { chats.send(&at, a_message("Hi"), false, None).await.unwrap().end.wait().await.unwrap().1 });
    gate.reached().await;
    home.pass(6 * SECOND).await;
    gate.open();
    let reply = sending.join_next().await.unwrap().unwrap();
    assert_eq!((reply.content.as_str(), reply.model.as_deref()), ("late", Some("far/late")));
    assert_eq!(home.last().await, reply);
}

// A stop and the provider's own end at once: one of them, never both.
#[tokio::test]
async fn a_stop_that_meets_the_end_ends_once() {
    for steps in 0..25 {
        let home = Home::of(Script::new().content("Half").pause().content(" done.").finish("stop")).await;
        home.a.store.set_pace(vec![1]);
        let sent = home.a.send_watched(&home.ann, &home.chat, "Hi").await;
        let viewer = Viewer::of_reply(sent.watch.unwrap());
        home.a.parrot.waiting(1).await;
        let reply = home.last().await;
        let at = home.a.enter(&home.ann, &home.chat, Right::StopReply).await.unwrap();
        let chats = home.a.cases.chats.clone();
        home.a.parrot.release();
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        let mut stopping = JoinSet::new();
        stopping.spawn(async move { chats.stop(&at, reply.id).await });
        let screen = viewer.read_out().await;
        match stopping.join_next().await.unwrap().unwrap() {
            Ok(message) => assert_eq!(message, home.last().await),
            Err(Error::Conflict(Obstacle::NotRunning)) => {}
            Err(other) => panic!("{other:?}"),
        }
        eventually("the reply is over", || home.a.cases.replies.running() == 0).await;
        assert_eq!(*screen.reply(), home.last().await);
        assert_eq!(screen.seen.iter().filter(|seen| seen.starts_with("ended")).count(), 1);
        home.is_quiet().await;
    }
}
