//! Making a reply: the prompt, the question, and the answer piece by piece, up to its end.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use futures_util::{FutureExt as _, StreamExt as _, pin_mut};

use super::{BEAT, Cut, End, FLUSH, Job, Local, Replies};
use crate::id::MessageId;
use crate::model::chat::{MessageStatus, ReplyFault};
use crate::port::inference::{Answer, Completion, InferenceFailure, Piece, PromptMessage, Provider};
use crate::usecase::live::Part;
use crate::usecase::models::Choice;
use crate::usecase::prompt::{self, Gathered};

/// How long the provider may still tell the usage after it said that the answer has ended.
const AFTERWORD: Duration = Duration::from_secs(5);

impl Replies {
    /// Waits for the end of the reply before this one on its branch.
    async fn wait_for(&self, parent: MessageId, local: &Local) -> Result<(), Cut> {
        local
            .unless_cut(async {
                loop {
                    let here = self.locals().get(&parent).cloned();
                    let ended = here.as_ref().map(|here| here.ended.listen());
                    let stored = self.ports.chats.message(local.message.chat, parent).await;
                    match stored {
                        Ok(Some(message)) if message.status == MessageStatus::Streaming => {}
                        Ok(_) => return,
                        // The database is away: there is time to wait for it, too.
                        Err(_) => {}
                    }
                    match ended {
                        // Whatever becomes of a reply that runs here, its task says so; many that wait need not ask the database.
                        Some(ended) => {
                            let sleep = self.ports.clock.sleep(BEAT);
                            pin_mut!(ended);
                            pin_mut!(sleep);
                            select(ended, sleep).await;
                        }
                        None => self.ports.clock.sleep(FLUSH).await,
                    }
                }
            })
            .await
    }

    /// Makes the reply, up to its end, however it ends.
    pub(super) async fn generate(&self, local: &Local, job: &Job) -> End {
        match self.try_generate(local, job).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn try_generate(&self, local: &Local, job: &Job) -> Result<End, End> {
        let choice = local.unless_cut(self.settle(&job.choice)).await??;
        let Some(provider) = self.models.provider(&choice.provider) else {
            return Err(End::of(MessageStatus::Failed, ReplyFault::ModelUnavailable, "the provider is not configured"));
        };
        let mut budget = prompt::budget(self.models.context_length(&choice), job.parameters.max_tokens);
        let mut cut = false;
        let end = loop {
            let gathering = prompt::gather(&*self.ports.chats, &local.asked, job.system_prompt.as_deref(), budget);
            let prompt = match local.unless_cut(gathering).await? {
                Ok(Gathered::Whole(prompt)) => prompt,
                Ok(Gathered::Waits(parent)) => {
                    self.wait_for(parent, local).await?;
                    continue;
                }
                Err(_) => {
                    let detail = "the conversation could not be read from the database";
                    return Err(End::of(MessageStatus::Interrupted, ReplyFault::ServerStopped, detail));
                }
            };
            let (bytes, shorter) = (prompt.bytes, prompt.may_be_shorter);
            let end = self.ask(local, job, (&choice, provider), prompt.messages).await?;
            let too_long = end.error.as_ref().is_some_and(|error| error.code == ReplyFault::PromptTooLong);
            if !too_long || !shorter || cut || !local.room.is_blank(local.message.id) {
                break end;
            }
            // The estimate was too high for this model: half of what was sent, and only once more.
            budget = bytes / 2;
            cut = true;
        };
        Ok(End { choice: Some(choice), ..end })
    }

    /// Asks the model, and takes its answer up to its end.
    async fn ask(
        &self,
        local: &Local,
        job: &Job,
        (choice, provider): (&Choice, &Provider),
        messages: Vec<PromptMessage>,
    ) -> Result<End, Cut> {
        let model = choice.model.clone().unwrap_or_default();
        let completion = Completion { model, messages, parameters: job.parameters.clone() };
        let started = self.ports.clock.monotonic();
        let asking = provider.inference.stream(completion);
        let deadline = self.ports.clock.sleep(self.limits.first_byte);
        let answer = local
            .unless_cut(async {
                pin_mut!(asking);
                pin_mut!(deadline);
                match select(asking, deadline).await {
                    Either::Left((answer, _)) => answer.map_err(End::from),
                    Either::Right(_) => Err(End::timeout("the provider did not answer", self.limits.first_byte)),
                }
            })
            .await?;
        Ok(match answer {
            Ok(answer) => self.listen(local, answer, started).await,
            Err(end) => end,
        })
    }

    /// The model by its name, where the choice left that to the provider.
    async fn settle(&self, choice: &Choice) -> Result<Choice, End> {
        if choice.model.is_some() {
            return Ok(choice.clone());
        }
        match self.models.first_of(&choice.provider).await {
            Ok(Some(model)) => Ok(Choice { model: Some(model), ..choice.clone() }),
            Ok(None) => {
                let detail = "the provider lists no model; name one, or set inference.default_model";
                Err(End::of(MessageStatus::Failed, ReplyFault::ModelUnavailable, detail))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Takes the answer piece by piece, until its end, a deadline, the size cap or a cut.
    async fn listen(&self, local: &Local, mut answer: Answer, started: Duration) -> End {
        let clock = &self.ports.clock;
        let total = started + self.limits.total;
        let mut bytes_left = self.limits.bytes;
        let mut due = started + self.limits.first_byte;
        let mut first = true;
        let mut finish: Option<String> = None;
        let mut usage = None;
        // One timer for all deadlines: when it rings, the deadline may have moved on, and it is wound up again.
        let mut timer: BoxFuture<'_, ()> = clock.sleep(due.min(total).saturating_sub(clock.monotonic())).boxed();
        let mut cut_signal = local.cut_signal.listen();
        let mut end = loop {
            if let Some(cut) = local.is_cut() {
                break cut.into();
            }
            enum Next {
                Piece(Option<Result<Piece, InferenceFailure>>),
                Timer,
                Cut,
            }
            let next = poll_fn(|cx| {
                if cut_signal.poll_unpin(cx).is_ready() {
                    return Poll::Ready(Next::Cut);
                }
                if let Poll::Ready(piece) = answer.poll_next_unpin(cx) {
                    return Poll::Ready(Next::Piece(piece));
                }
                timer.poll_unpin(cx).map(|()| Next::Timer)
            })
            .await;
            match next {
                Next::Cut => cut_signal = local.cut_signal.listen(),
                Next::Timer => {
                    let now = clock.monotonic();
                    if finish.is_some() && now >= due {
                        break complete(finish.take());
                    }
                    if now >= total {
                        break End::timeout("the reply did not end", self.limits.total);
                    }
                    if now >= due {
                        break if first {
                            End::timeout("the provider did not answer", self.limits.first_byte)
                        } else {
                            End::timeout("nothing more came from the provider", self.limits.idle)
                        };
                    }
                    timer = clock.sleep(due.min(total).saturating_sub(now)).boxed();
                }
                Next::Piece(Some(Ok(piece))) => {
                    if finish.is_none() {
                        let now = clock.monotonic();
                        due = now + self.limits.idle;
                        if first {
                            // The timer is set to the first byte's deadline, which may lie behind this one.
                            timer = clock.sleep(due.min(total).saturating_sub(now)).boxed();
                        }
                    }
                    first = false;
                    match piece {
                        Piece::Content(text) => {
                            if !take(local, Part::Content, &text, &mut bytes_left) {
                                break self.too_long();
                            }
                        }
                        Piece::Reasoning(text) => {
                            if !take(local, Part::Reasoning, &text, &mut bytes_left) {
                                break self.too_long();
                            }
                        }
                        Piece::Usage(told) => usage = Some(told),
                        Piece::Finish(why) => {
                            let now = clock.monotonic();
                            due = now + AFTERWORD;
                            timer = clock.sleep(AFTERWORD).boxed();
                            finish = Some(why);
                        }
                    }
                }
                // What breaks after the provider said that the answer has ended takes nothing from it.
                Next::Piece(_) if finish.is_some() => break complete(finish.take()),
                Next::Piece(None) => break complete(None),
                Next::Piece(Some(Err(failure))) => break failure.into(),
            }
        };
        end.usage = usage;
        end
    }

    fn too_long(&self) -> End {
        let detail = format!("the reply grew beyond {} bytes", self.limits.bytes);
        End::of(MessageStatus::Failed, ReplyFault::TooLong, detail)
    }
}

fn complete(finish_reason: Option<String>) -> End {
    End { status: MessageStatus::Complete, error: None, finish_reason, usage: None, choice: None }
}

/// Adds to a reply's text; false where the cap cut it.
fn take(local: &Local, part: Part, text: &str, bytes_left: &mut usize) -> bool {
    let mut fits = text.len().min(*bytes_left);
    while !text.is_char_boundary(fits) {
        fits -= 1;
    }
    if fits > 0 {
        local.room.grow(local.message.id, part, &text[..fits]);
    }
    *bytes_left -= fits;
    fits == text.len()
}
