//! A provider that says what a test wrote down for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use private_chat_core::model::chat::Usage;
use private_chat_core::port::inference::{Answer, Completion, Inference, InferenceFailure, Offer, Piece};
use tokio::sync::{Semaphore, watch};

#[derive(Clone, Debug)]
enum Step {
    Say(Piece),
    Wait,
    Fail(InferenceFailure),
}

/// One answer, step by step. An answer whose steps are over has ended well, also without a [`finish`](Self::finish).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Script {
    refusal: Option<InferenceFailure>,
    steps: VecDeque<Step>,
}

impl Script {
    /// An answer without a word.
    pub const fn new() -> Self {
        Self { refusal: None, steps: VecDeque::new() }
    }

    /// No answer at all: [`Inference::stream`] fails.
    pub const fn refusing(failure: InferenceFailure) -> Self {
        Self { refusal: Some(failure), steps: VecDeque::new() }
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// More of the text.
    pub fn content(self, text: &str) -> Self {
        self.then(Step::Say(Piece::Content(text.to_owned())))
    }

    /// More of the thoughts.
    pub fn reasoning(self, text: &str) -> Self {
        self.then(Step::Say(Piece::Reasoning(text.to_owned())))
    }

    /// What it cost.
    pub fn usage(self, prompt_tokens: u64, completion_tokens: u64) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        self.then(Step::Say(Piece::Usage(Usage { prompt_tokens, completion_tokens, total_tokens })))
    }

    /// Why it ended.
    pub fn finish(self, reason: &str) -> Self {
        self.then(Step::Say(Piece::Finish(reason.to_owned())))
    }

    /// Nothing, until [`ScriptedInference::release`].
    pub fn pause(self) -> Self {
        self.then(Step::Wait)
    }

    /// The answer breaks off with this failure.
    pub fn fail(self, failure: InferenceFailure) -> Self {
        self.then(Step::Fail(failure))
    }
}

/// What has become of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    waiting: usize,
    waited: usize,
    ended: usize,
    dropped: usize,
}

struct Shared {
    scripts: Mutex<VecDeque<Script>>,
    completions: Mutex<Vec<Completion>>,
    released: Semaphore,
    counts: watch::Sender<Counts>,
}

/// A provider that plays scripts, and remembers what it was asked.
pub struct ScriptedInference {
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScriptedInference {
    /// Plays one script for every answer.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self::playing([script])
    }

    /// Plays one script after the other, and the last one again and again.
    #[must_use]
    pub fn playing(scripts: impl IntoIterator<Item = Script>) -> Self {
        let shared = Shared {
            scripts: Mutex::new(scripts.into_iter().collect()),
            completions: Mutex::default(),
            released: Semaphore::new(0),
            counts: watch::Sender::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lets the answer that waits longest, or else the next one that comes to a pause, go on.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }

    /// Returns when this many answers wait at a pause.
    pub async fn waiting(&self, answers: usize) {
        self.until(|counts| counts.waiting == answers).await;
    }

    /// Returns when this many answers were dropped before their end.
    pub async fn abandoned(&self, answers: usize) {
        self.until(|counts| counts.dropped == answers).await;
    }

    async fn until(&self, reached: impl Fn(&Counts) -> bool) {
        // The sender lives as long as the provider that is borrowed here.
        let _ = self.shared.counts.subscribe().wait_for(|counts| reached(counts)).await;
    }

    /// How many answers were dropped before their end.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.shared.counts.borrow().dropped
    }

    /// How many answers were read to their end.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.shared.counts.borrow().ended
    }

    /// All that it was asked, in order.
    #[must_use]
    pub fn completions(&self) -> Vec<Completion> {
        lock(&self.shared.completions).clone()
    }
}

/// An answer on its way. Whether it got to its end is counted when it goes.
struct Playing {
    shared: Arc<Shared>,
    steps: VecDeque<Step>,
    ended: bool,
}

impl Playing {
    async fn next(&mut self) -> Option<Result<Piece, InferenceFailure>> {
        loop {
            match self.steps.pop_front() {
                Some(Step::Say(piece)) => return Some(Ok(piece)),
                Some(Step::Wait) => Waiting::until_released(&self.shared).await,
                Some(Step::Fail(failure)) => {
                    self.steps.clear();
                    return Some(Err(failure));
                }
                None => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let ended = self.ended;
        self.shared.counts.send_modify(|counts| if ended { counts.ended += 1 } else { counts.dropped += 1 });
    }
}

/// Counts an answer as waiting for as long as it does, also when it is dropped there.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    async fn until_released(shared: &'a Shared) {
        shared.counts.send_modify(|counts| counts.waiting += 1);
        let _waiting = Self(shared);
        // It is never closed.
        if let Ok(permit) = shared.released.acquire().await {
            permit.forget();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counts.send_modify(|counts| counts.waiting -= 1);
    }
}

#[async_trait]
impl Inference for ScriptedInference {
    async fn stream(&self, completion: Completion) -> Result<Answer, InferenceFailure> {
        lock(&self.shared.completions).push(completion);
        let script = {
            let mut scripts = lock(&self.shared.scripts);
            let next = if scripts.len() > 1 { scripts.pop_front() } else { scripts.front().cloned() };
            next.unwrap_or_default()
        };
        if let Some(refusal) = script.refusal {
            return Err(refusal);
        }
        let playing = Playing { shared: self.shared.clone(), steps: script.steps, ended: false };
        let answer = futures_util::stream::unfold(playing, |mut playing| async {
            playing.next().await.map(|piece| (piece, playing))
        });
        Ok(answer.boxed())
    }

    async fn models(&self) -> Result<Vec<Offer>, InferenceFailure> {
        Ok(vec![Offer::named("parrot")])
    }
}

#[cfg(test)]
mod tests {
    use private_chat_core::model::chat::{Parameters, ReplyFault};

    use super::*;

    fn completion(model: &str) -> Completion {
        Completion { model: model.to_owned(), messages: Vec::new(), parameters: Parameters::default() }
    }

    #[tokio::test]
    async fn plays_its_steps_and_waits_where_it_is_told() {
        let script = Script::new().reasoning("Hm.").content("Hel").pause().content("lo").usage(3, 2).finish("stop");
        let parrot = Arc::new(ScriptedInference::new(script));
        let mut answer = parrot.stream(completion("one")).await.unwrap();
        assert_eq!(answer.next().await, Some(Ok(Piece::Reasoning("Hm.".into()))));
        assert_eq!(answer.next().await, Some(Ok(Piece::Content("Hel".into()))));
        let mut rest = tokio::task::JoinSet::new();
        rest.spawn(answer.collect::<Vec<_>>());
        parrot.waiting(1).await;
        assert!(rest.try_join_next().is_none());
        parrot.release();
        let rest = rest.join_next().await.unwrap().unwrap();
        assert_eq!(rest.len(), 3);
        assert_eq!(rest[2], Ok(Piece::Finish("stop".into())));
        assert_eq!((parrot.ended(), parrot.dropped()), (1, 0));
        assert_eq!(parrot.completions(), [completion("one")]);
    }

    #[tokio::test]
    async fn counts_answers_that_are_dropped_before_their_end() {
        let parrot = ScriptedInference::new(Script::new().content("a").pause());
        let mut answer = parrot.stream(completion("one")).await.unwrap();
        let _ = answer.next().await;
        drop(answer);
        parrot.abandoned(1).await;
        assert_eq!((parrot.ended(), parrot.dropped()), (0, 1));
    }

    #[tokio::test]
    async fn fails_before_and_in_the_middle_and_repeats_the_last_script() {
        let refusal = InferenceFailure::failed(ReplyFault::ProviderOverloaded, "busy");
        let broken = InferenceFailure::cut_off(ReplyFault::ConnectionLost, "gone");
        let script = Script::new().content("a").fail(broken.clone()).content("never said");
        let parrot = ScriptedInference::playing([Script::refusing(refusal.clone()), script]);
        assert_eq!(parrot.stream(completion("one")).await.err(), Some(refusal));
        for _ in 0..2 {
            let answer: Vec<_> = parrot.stream(completion("two")).await.unwrap().collect().await;
            assert_eq!(answer, [Ok(Piece::Content("a".into())), Err(broken.clone())]);
        }
    }
}
