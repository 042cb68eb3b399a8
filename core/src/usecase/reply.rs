//! The heart of the product: a reply, from its provider to the database and to everybody who watches.
//!
//! A reply belongs to the server, not to the connection of whoever asked for it. It runs as a task of its own; its text grows in the workspace's
//! [room](super::live), from where it reaches watchers at once; one *keeper* a process stores the text so far of all its replies, four times a second
//! in one transaction. It ends exactly once: the message's version is the guard.
//!
//! Processes watch each other: each moves a beat in the database, and one whose beat stands still for [`DEAD_AFTER`], by the watcher's own
//! monotonic clock, is dead. Its replies are then ended as `interrupted`.

use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use event_listener::Event as Signal;
use futures_channel::oneshot;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::{FutureExt as _, StreamExt as _, pin_mut};

use super::live::{Live, Part, ReplyWatch, Room};
use super::models::{Choice, Models};
use super::prompt;
use super::workspaces::Member;
use crate::change::{Change, Changes, Checkpoint, Event, EventKind, EventNumber, Instance, Ref, TextSoFar, Version};
use crate::error::{Backend, Conflict, Error, Failure};
use crate::id::{InstanceId, MessageId};
use crate::model::chat::{
    Audience, Message, MessageStatus, Parameters, ReplyError, ReplyFault, ReplyLimits, RunningReply, Usage,
};
use crate::port::Ports;
use crate::port::inference::{Answer, Completion, InferenceFailure, Piece};

/// A process whose beat stands still for so long is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(12);
/// How often the text so far is stored.
const FLUSH: Duration = Duration::from_millis(250);
/// How often a process without running replies moves its beat, looks after the others, and re-authorises the watchers.
const BEAT: Duration = Duration::from_secs(2);
/// How long a reply may stand in our name without being made, as it does for a moment while it begins.
const STRAY: Duration = Duration::from_secs(5);
/// How long the provider may still tell the usage after it said that the answer has ended.
const AFTERWORD: Duration = Duration::from_secs(5);

/// Why a reply is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Somebody wants it ended.
    Stopped,
    /// The server stops.
    Shutdown,
    /// It is no longer ours: ended by another process, or deleted.
    Lost,
}

/// A reply that runs here.
struct Local {
    message: Message,
    asked: Message,
    room: Arc<Room>,
    cut: Mutex<Option<Cut>>,
    cut_signal: Signal,
    ended: Signal,
    stored_bytes: AtomicUsize,
    /// The first checkpoint that must list it.
    listed_from: u64,
}

impl Local {
    fn cut(&self, why: Cut) {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.cut_signal.notify(usize::MAX);
    }

    fn is_cut(&self) -> Option<Cut> {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `work`, or for being cut.
    async fn unless_cut<T>(&self, work: impl Future<Output = T>) -> Result<T, Cut> {
        let listener = self.cut_signal.listen();
        if let Some(why) = self.is_cut() {
            return Err(why);
        }
        pin_mut!(listener);
        pin_mut!(work);
        match select(listener, work).await {
            Either::Left(_) => Err(self.is_cut().unwrap_or(Cut::Lost)),
            Either::Right((done, _)) => Ok(done),
        }
    }
}

/// How a reply ends.
struct End {
    status: MessageStatus,
    error: Option<ReplyError>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    choice: Option<Choice>,
}

impl End {
    fn of(status: MessageStatus, fault: ReplyFault, detail: impl Into<String>) -> Self {
        let error = Some(ReplyError { code: fault, detail: detail.into() });
        Self { status, error, finish_reason: None, usage: None, choice: None }
    }

    fn timeout(what: &str, limit: Duration) -> Self {
        let detail = format!("{what} within {} s", limit.as_secs_f32());
        Self::of(MessageStatus::Interrupted, ReplyFault::Timeout, detail)
    }
}

impl From<Cut> for End {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Stopped => {
                Self { status: MessageStatus::Stopped, error: None, finish_reason: None, usage: None, choice: None }
            }
            Cut::Shutdown | Cut::Lost => {
                Self::of(MessageStatus::Interrupted, ReplyFault::ServerStopped, "the server was stopped")
            }
        }
    }
}

impl From<InferenceFailure> for End {
    fn from(failure: InferenceFailure) -> Self {
        let status = if failure.cut_off { MessageStatus::Interrupted } else { MessageStatus::Failed };
        Self::of(status, failure.fault, failure.detail)
    }
}

/// What a reply is to be made of.
pub(super) struct Job {
    /// The person's message, as stored but for what the commit decides.
    pub(super) message: Message,
    /// The reply's row.
    pub(super) reply: Message,
    /// Who answers.
    pub(super) choice: Choice,
    /// What the model is told first.
    pub(super) system_prompt: Option<String>,
    /// How to answer.
    pub(super) parameters: Parameters,
    /// Who may see it.
    pub(super) audience: Audience,
    /// Who asked.
    pub(super) member: Member,
}

/// A reply that has begun.
pub(super) struct Begun {
    pub(super) message: Message,
    pub(super) reply: Message,
    pub(super) watch: Option<ReplyWatch>,
    pub(super) end: oneshot::Receiver<Message>,
}

/// All replies of this process, and its place among the processes.
pub struct Replies {
    ports: Ports,
    live: Arc<Live>,
    models: Arc<Models>,
    limits: ReplyLimits,
    /// Who we are, once the database knows.
    instance: Mutex<Option<InstanceId>>,
    running: Mutex<HashMap<MessageId, Arc<Local>>>,
    none_running: Signal,
    /// Sends that were let in and whose replies do not run yet.
    beginning: AtomicUsize,
    draining: AtomicBool,
    /// No reply may run any more: what begins now is cut at once.
    over: AtomicBool,
    beat: AtomicU64,
}

/// A send that was let in. As long as it is held, a stopping process waits for the reply that it begins.
pub(super) struct Beginning(Arc<Replies>);

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.beginning.fetch_sub(1, Ordering::SeqCst);
        self.0.none_running.notify(usize::MAX);
    }
}

impl Replies {
    /// Over these ports.
    #[must_use]
    pub fn new(ports: Ports, live: Arc<Live>, models: Arc<Models>, limits: ReplyLimits) -> Self {
        Self {
            ports,
            live,
            models,
            limits,
            instance: Mutex::default(),
            running: Mutex::default(),
            none_running: Signal::new(),
            beginning: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            over: AtomicBool::new(false),
            beat: AtomicU64::new(0),
        }
    }

    /// How many replies run here.
    #[must_use]
    pub fn running(&self) -> usize {
        self.locals().len()
    }

    /// Whether the process is stopping.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whether the database lists this process.
    #[must_use]
    pub fn registered(&self) -> bool {
        self.instance().is_some()
    }

    fn locals(&self) -> std::sync::MutexGuard<'_, HashMap<MessageId, Arc<Local>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn instance(&self) -> Option<InstanceId> {
        *self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a person's message and begins its reply; both are durable before a provider hears of it. Must not be cancelled in between.
    pub(super) async fn begin(
        self: &Arc<Self>,
        mut job: Job,
        changes: Changes,
        watched: bool,
    ) -> Result<Begun, Failure> {
        let Some(instance) = self.instance() else {
            return Err(Failure::database("this process is not registered yet"));
        };
        let event = |id| Event {
            workspace: job.reply.workspace,
            kind: EventKind::MessageCreated(job.reply.chat, id),
            at: job.reply.created_at,
        };
        let changes = changes
            .append(job.message.clone())
            .append(job.reply.clone())
            .insert(RunningReply {
                message: job.reply.id,
                workspace: job.reply.workspace,
                chat: job.reply.chat,
                seq: 0,
                asked_by: job.member.actor().user().id,
                instance,
                stop_requested: false,
                version: Version::FIRST,
            })
            .emit(event(job.message.id))
            .emit(event(job.reply.id));
        let committed = self.ports.work.commit(changes).await?;
        for (message, appended) in [&mut job.message, &mut job.reply].into_iter().zip(&committed.appended) {
            message.seq = appended.seq;
            message.parent = appended.parent;
        }
        let first = committed.first_event();
        let asker = watched.then_some(&job.member);
        let (room, watch) = self.live.begin(first, job.audience, (&job.message, &job.reply), asker);
        let (done, end) = oneshot::channel();
        let local = Arc::new(Local {
            message: job.reply.clone(),
            asked: job.message.clone(),
            room,
            cut: Mutex::default(),
            cut_signal: Signal::new(),
            ended: Signal::new(),
            stored_bytes: AtomicUsize::new(0),
            // A checkpoint that is under way may have read before this commit.
            listed_from: self.beat.load(Ordering::Acquire) + 2,
        });
        self.locals().insert(job.reply.id, local.clone());
        if self.instance() != Some(instance) {
            // We were declared dead in between, and whoever did so ends this reply.
            local.cut(Cut::Lost);
        }
        if self.over.load(Ordering::SeqCst) {
            // It was let in before the shutdown began, and its commit took longer than all that ran.
            local.cut(Cut::Shutdown);
        }
        let begun = Begun { message: job.message.clone(), reply: job.reply.clone(), watch, end };
        let replies = self.clone();
        self.ports.tasks.spawn(Box::pin(async move {
            // Whatever happens to its making, a reply ends.
            let end = AssertUnwindSafe(replies.generate(&local, &job)).catch_unwind().await;
            let end = end.unwrap_or_else(|_| {
                End::of(
                    MessageStatus::Interrupted,
                    ReplyFault::ServerStopped,
                    "the server failed while it made the reply",
                )
            });
            let message = replies.finish(&local, end).await;
            replies.locals().remove(&local.message.id);
            local.ended.notify(usize::MAX);
            replies.none_running.notify(usize::MAX);
            // Whoever waited for the end may have gone.
            let _ = done.send(message);
        }));
        Ok(begun)
    }

    /// Waits for the reply before this one on its branch.
    async fn wait_for_predecessor(&self, local: &Local) -> Result<(), Cut> {
        let Some(parent) = local.asked.parent else { return Ok(()) };
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
    async fn generate(&self, local: &Local, job: &Job) -> End {
        match self.try_generate(local, job).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn try_generate(&self, local: &Local, job: &Job) -> Result<End, End> {
        self.wait_for_predecessor(local).await?;
        let choice = local.unless_cut(self.settle(&job.choice)).await??;
        let Some(provider) = self.models.provider(&choice.provider) else {
            return Err(End::of(MessageStatus::Failed, ReplyFault::ModelUnavailable, "the provider is not configured"));
        };
        let sizes = (provider.context_length, job.parameters.max_tokens);
        let gathering = prompt::gather(&*self.ports.chats, &local.asked, job.system_prompt.as_deref(), sizes);
        let Ok(messages) = local.unless_cut(gathering).await? else {
            let detail = "the conversation could not be read from the database";
            return Err(End::of(MessageStatus::Interrupted, ReplyFault::ServerStopped, detail));
        };
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
        let mut end = match answer {
            Ok(answer) => self.listen(local, answer, started).await,
            Err(end) => end,
        };
        end.choice = Some(choice);
        Ok(end)
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

    /// Stores the end of a reply and tells it. Where somebody else has ended it, that stands.
    async fn finish(&self, local: &Local, end: End) -> Message {
        let (content, reasoning) = local.room.text_of(local.message.id);
        let choice = end.choice;
        let ended = Message {
            content,
            reasoning,
            status: end.status,
            model: choice.as_ref().and_then(Choice::id).or_else(|| local.message.model.clone()),
            usage: end.usage,
            finish_reason: end.finish_reason,
            error: end.error,
            updated_at: self.ports.clock.now(),
            ..local.message.clone()
        };
        let mut pause = FLUSH;
        loop {
            match self.end(&ended, Version::FIRST).await {
                Ok(Ended::Here(number)) => {
                    let message = Message { version: ended.version.next(), ..ended };
                    self.live.end(&local.room, Some(number), &message);
                    return message;
                }
                Ok(Ended::Elsewhere(message)) => {
                    let message = message.map_or(ended, |message| *message);
                    self.live.end(&local.room, None, &message);
                    return message;
                }
                Err(_) => {
                    // Nothing that was made is given up while the process lives: the database may come back.
                    self.ports.clock.sleep(pause).await;
                    pause = (pause * 2).min(BEAT);
                }
            }
        }
    }

    /// Ends a reply in the database, unless it has ended already.
    async fn end(&self, ended: &Message, mut running: Version) -> Result<Ended, Failure> {
        loop {
            let changes = Changes::new()
                .update(ended.clone())
                .with(Change::Delete(Ref::RunningReply(ended.id), running))
                .emit(Event {
                    workspace: ended.workspace,
                    kind: EventKind::MessageEnded(ended.chat, ended.id),
                    at: ended.updated_at,
                });
            match self.ports.work.commit(changes).await {
                Ok(committed) => return Ok(Ended::Here(committed.first_event())),
                Err(failure) if failure.conflict().is_some() => {
                    let stored = self.ports.chats.message(ended.chat, ended.id).await?;
                    let row = self.ports.replies.running(ended.id).await?;
                    match (stored, row) {
                        (Some(stored), Some(row)) if stored.status == MessageStatus::Streaming => running = row.version,
                        (stored, _) => return Ok(Ended::Elsewhere(stored.map(Box::new))),
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Asks that a running reply be ended, wherever it runs, and waits a moment for it.
    pub(super) async fn stop(&self, running: RunningReply) -> Result<(), Failure> {
        let local = self.locals().get(&running.message).cloned();
        if let Some(local) = local {
            let ended = local.ended.listen();
            local.cut(Cut::Stopped);
            if self.locals().contains_key(&running.message) {
                let sleep = self.ports.clock.sleep(Duration::from_secs(5));
                pin_mut!(sleep);
                select(ended, sleep).await;
            }
            return Ok(());
        }
        let id = running.message;
        let mut row = running;
        loop {
            if row.stop_requested {
                break;
            }
            let changes = Changes::new().update(RunningReply { stop_requested: true, ..row });
            match self.ports.work.commit(changes).await {
                Ok(_) => break,
                Err(failure) if failure.conflict().map(|(conflict, _)| conflict) == Some(Conflict::Stale) => {
                    match self.ports.replies.running(id).await? {
                        Some(again) => row = again,
                        None => return Ok(()),
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        for _ in 0..20 {
            if self.ports.replies.running(id).await?.is_none() {
                break;
            }
            self.ports.clock.sleep(FLUSH).await;
        }
        Ok(())
    }

    /// Lets running replies end, for so long; the rest is interrupted. Begins nothing new.
    pub async fn drain(&self, limit: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        self.wait_for_none(limit).await;
        self.over.store(true, Ordering::SeqCst);
        for local in self.locals().values() {
            local.cut(Cut::Shutdown);
        }
        self.wait_for_none(Duration::from_secs(3)).await;
        let instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(id) = instance {
            let gone = Change::Delete(Ref::Instance(id), Version::FIRST);
            // If this fails, the others will notice by the beat.
            let _ = self.ports.work.commit(Changes::new().with(gone)).await;
        }
    }

    async fn wait_for_none(&self, limit: Duration) {
        let sleep = self.ports.clock.sleep(limit);
        let none = async {
            loop {
                let listener = self.none_running.listen();
                // A send is counted until its reply is among those that run: looked at in this order, none slips through.
                if self.beginning.load(Ordering::SeqCst) == 0 && self.locals().is_empty() {
                    return;
                }
                listener.await;
            }
        };
        pin_mut!(sleep);
        pin_mut!(none);
        select(sleep, none).await;
    }

    /// Keeps this process among the living and its replies in the database, for as long as it runs.
    pub async fn keep(self: Arc<Self>) {
        // Side by side: a process that has many dead to bury, or a slow database to ask, must not seem dead itself meanwhile.
        let beating = self.beat();
        let burying = async {
            let mut others = Others::default();
            loop {
                // A database that is away is asked again at the next turn.
                let _ = self.bury_the_dead(&mut others).await;
                self.ports.clock.sleep(BEAT).await;
            }
        };
        let turning_out = async {
            loop {
                let _ = self.live.turn_out_the_unauthorised().await;
                self.ports.clock.sleep(BEAT).await;
            }
        };
        pin_mut!(beating);
        pin_mut!(burying);
        pin_mut!(turning_out);
        select(beating, select(burying, turning_out)).await;
    }

    /// Stores the text so far and moves the beat, until the process has taken its leave.
    async fn beat(&self) {
        let mut strays = HashMap::new();
        let mut last_beat: Option<Duration> = None;
        while !self.draining() || self.instance().is_some() {
            let now = self.ports.clock.monotonic();
            let due = last_beat.is_none_or(|last| now.saturating_sub(last) >= BEAT);
            // A database that is away is tried again at the next turn.
            if (due || self.running() > 0) && self.checkpoint(&mut strays).await.is_ok() {
                last_beat = Some(now);
            }
            self.ports.clock.sleep(FLUSH).await;
        }
    }

    /// Registers this process with the database, under an id of its own, unless it is registered already.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn register(&self) -> Result<InstanceId, Failure> {
        if let Some(id) = self.instance() {
            return Ok(id);
        }
        let id: InstanceId = self.ports.new_id();
        self.ports.work.commit(Changes::new().insert(Instance { id, beat: 0, version: Version::FIRST })).await?;
        *self.instance.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Ok(id)
    }

    /// Moves the beat, stores the text so far, and learns what others want of our replies.
    async fn checkpoint(&self, strays: &mut HashMap<MessageId, Duration>) -> Result<(), Failure> {
        let instance = match self.instance() {
            Some(instance) => instance,
            None if self.draining() => return Ok(()),
            None => self.register().await?,
        };
        let beat = self.beat.fetch_add(1, Ordering::AcqRel) + 1;
        let locals: Vec<Arc<Local>> = self.locals().values().cloned().collect();
        let (mut texts, mut grown) = (Vec::new(), Vec::new());
        for local in &locals {
            let stored = local.stored_bytes.load(Ordering::Relaxed);
            let Message { chat, seq, id: message, .. } = local.message;
            if let Some((content, reasoning)) = local.room.text_beyond(message, stored) {
                grown.push((local.clone(), content.len() + reasoning.as_ref().map_or(0, String::len)));
                texts.push(TextSoFar { chat, seq, message, content, reasoning });
            }
        }
        let checkpoint = Checkpoint { instance, beat, texts, at: self.ports.clock.now() };
        let answer = self.ports.work.checkpoint(checkpoint).await?;
        if !answer.alive {
            // The others took us for dead and have ended our replies: we go on under a new id.
            self.instance.lock().unwrap_or_else(PoisonError::into_inner).take();
            for local in locals {
                local.cut(Cut::Lost);
            }
            return Ok(());
        }
        for (local, length) in grown {
            local.stored_bytes.store(length, Ordering::Relaxed);
        }
        let listed: HashMap<MessageId, &RunningReply> =
            answer.running.iter().map(|running| (running.message, running)).collect();
        for local in locals {
            match listed.get(&local.message.id) {
                Some(running) if running.stop_requested => local.cut(Cut::Stopped),
                Some(_) => {}
                None if beat >= local.listed_from => local.cut(Cut::Lost),
                None => {}
            }
        }
        self.end_strays(&answer.running, strays).await
    }

    /// Ends replies that stand in our name and yet nobody makes: their commit came through, and the news of it did not.
    async fn end_strays(
        &self,
        listed: &[RunningReply],
        seen: &mut HashMap<MessageId, Duration>,
    ) -> Result<(), Failure> {
        let now = self.ports.clock.monotonic();
        let strays: Vec<&RunningReply> = {
            let locals = self.locals();
            listed.iter().filter(|running| !locals.contains_key(&running.message)).collect()
        };
        seen.retain(|id, _| strays.iter().any(|stray| stray.message == *id));
        for stray in strays {
            let since = *seen.entry(stray.message).or_insert(now);
            if now.saturating_sub(since) >= STRAY {
                self.interrupt(stray).await?;
            }
        }
        Ok(())
    }

    /// Ends the replies of processes whose beat stands still.
    async fn bury_the_dead(&self, others: &mut Others) -> Result<(), Failure> {
        let instances = self.ports.replies.instances().await?;
        for instance in others.dead(instances, self.ports.clock.monotonic()) {
            if Some(instance.id) == self.instance() {
                continue;
            }
            // First its entry, so that a process that was only asleep finds itself declared dead before it can finish anything.
            match self.ports.work.commit(Changes::new().delete(instance)).await {
                Ok(_) => {}
                Err(failure) if failure.conflict().is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
        for orphan in self.ports.replies.running_of(None).await? {
            self.interrupt(&orphan).await?;
        }
        Ok(())
    }

    async fn interrupt(&self, orphan: &RunningReply) -> Result<(), Failure> {
        let Some(message) = self.ports.chats.message(orphan.chat, orphan.message).await? else { return Ok(()) };
        if message.status != MessageStatus::Streaming {
            return Ok(());
        }
        let detail = "the server that made the reply is gone".to_owned();
        let ended = Message {
            status: MessageStatus::Interrupted,
            error: Some(ReplyError { code: ReplyFault::ServerStopped, detail }),
            updated_at: self.ports.clock.now(),
            ..message
        };
        if let Ended::Here(number) = self.end(&ended, orphan.version).await? {
            let room = self.live.room(ended.workspace);
            self.live.end(&room, Some(number), &Message { version: ended.version.next(), ..ended });
        }
        Ok(())
    }

    /// Lets a send in, unless something stands against beginning a reply now.
    ///
    /// # Errors
    /// `ShuttingDown`; `Unavailable` while the database does not know this process.
    pub(super) fn may_begin(self: &Arc<Self>) -> Result<Beginning, Error> {
        // Counted before the look: either the look sees that the process stops, or the stop sees the count.
        self.beginning.fetch_add(1, Ordering::SeqCst);
        let beginning = Beginning(self.clone());
        if self.draining() {
            return Err(Error::ShuttingDown);
        }
        if self.instance().is_none() {
            let cause = "this process is not registered with the database yet".into();
            return Err(Error::Unavailable { backend: Backend::Database, cause });
        }
        Ok(beginning)
    }
}

/// The other processes, as far as this one has seen them beat.
#[derive(Default)]
struct Others {
    /// The last beat of each, and for how long it stood still before our eyes.
    seen: HashMap<InstanceId, (u64, Duration)>,
    looked: Duration,
}

impl Others {
    /// Those whose beat has stood still for [`DEAD_AFTER`] before our eyes.
    ///
    /// Where we could not look for a while, because the database was away or we were asleep ourselves, the others may not have been able to
    /// beat: a gap counts for no more than two looks.
    fn dead(&mut self, present: Vec<Instance>, now: Duration) -> Vec<Instance> {
        let watched = now.saturating_sub(std::mem::replace(&mut self.looked, now)).min(2 * BEAT);
        self.seen = present
            .iter()
            .map(|instance| match self.seen.get(&instance.id) {
                Some((beat, still)) if *beat == instance.beat => (instance.id, (*beat, *still + watched)),
                _ => (instance.id, (instance.beat, Duration::ZERO)),
            })
            .collect();
        let stands_still =
            |instance: &Instance| self.seen.get(&instance.id).is_some_and(|(_, still)| *still >= DEAD_AFTER);
        present.into_iter().filter(stands_still).collect()
    }
}

enum Ended {
    Here(EventNumber),
    Elsewhere(Option<Box<Message>>),
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

#[cfg(test)]
mod tests;
