//! The heart of the product: a reply, from its provider to the database and to everybody who watches.
//!
//! A reply belongs to the server, not to the connection of whoever asked for it. It runs as a task of its own; its text grows in the workspace's
//! [room](super::live), from where it reaches watchers at once; one *keeper* a process stores the text so far of all its replies, four times a second
//! in one transaction. It ends exactly once: the message's version is the guard.
//!
//! Processes watch each other: each moves a beat in the database, and one whose beat stands still for [`DEAD_AFTER`], by the watcher's own
//! monotonic clock, is dead. Its replies are then ended as `interrupted`.

mod keeping;
mod making;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_listener::Event as Signal;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::{FutureExt as _, pin_mut};

use super::Stale;
use super::live::{Live, ReplyWatch, Room};
use super::models::{Choice, Models};
use super::title::Titles;
use super::workspaces::Member;
use crate::change::{Change, Changes, Event, EventKind, EventNumber, Follows, Ref, Running, Version};
use crate::error::{Backend, Conflict, Error, Failure, Kind, Whose};
use crate::id::{ChatId, InstanceId, MessageId};
use crate::model::chat::{
    Chat, Message, MessageStatus, Parameters, ReplyCaps, ReplyError, ReplyFault, ReplyLimits, RunningReply, Usage,
};
use crate::port::Ports;
use crate::port::inference::InferenceFailure;

/// A process whose beat stands still for so long is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(12);
/// How often the text so far is stored.
const FLUSH: Duration = Duration::from_millis(250);
/// How often a process without running replies moves its beat, looks after the others, and re-authorises the watchers.
const BEAT: Duration = Duration::from_secs(2);

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
    /// The person's message that is answered. Where it is new, as it is to be stored but for what the commit decides.
    pub(super) message: Message,
    /// What the message follows, where it is new.
    pub(super) new: Option<Follows>,
    /// The reply's row.
    pub(super) reply: Message,
    /// Their chat, as it was read.
    pub(super) chat: Chat,
    /// Who answers.
    pub(super) choice: Choice,
    /// What the model is told first.
    pub(super) system_prompt: Option<String>,
    /// How to answer.
    pub(super) parameters: Parameters,
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
    titles: Arc<Titles>,
    limits: ReplyLimits,
    caps: ReplyCaps,
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
    pub fn new(
        ports: Ports,
        live: Arc<Live>,
        models: Arc<Models>,
        titles: Arc<Titles>,
        (limits, caps): (ReplyLimits, ReplyCaps),
    ) -> Self {
        Self {
            ports,
            live,
            models,
            titles,
            limits,
            caps,
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

    /// Stores a person's message, where it is new, and begins its reply; both are durable before a provider hears of them. Must not be cancelled in
    /// between.
    pub(super) async fn begin(self: &Arc<Self>, mut job: Job, changes: Changes, watched: bool) -> Result<Begun, Stale> {
        let Some(instance) = self.instance() else {
            return Err(Failure::database("this process is not registered yet").into());
        };
        let Job { message, reply, .. } = &job;
        let (asked_by, workspace) = (job.member.actor().user().id, reply.workspace);
        let event = |id| Event { workspace, kind: EventKind::MessageCreated(reply.chat, id), at: reply.created_at };
        let (mut changes, mut caps) = (changes, Vec::new());
        for (running, whose, most) in [
            (Running::Of(asked_by), Whose::Yours, self.caps.of_user),
            (Running::In(workspace), Whose::Workspace, self.caps.in_workspace),
        ] {
            if let Some(most) = most {
                caps.push((changes.changes().len(), Error::TooManyReplies { whose, most }));
                changes = changes.cap(running, most);
            }
        }
        if let Some(follows) = job.new {
            changes = changes.append(message.clone(), follows).emit(event(message.id));
        }
        let running = RunningReply {
            message: reply.id,
            workspace,
            chat: reply.chat,
            seq: 0,
            asked_by,
            instance,
            stop_requested: false,
            version: Version::FIRST,
        };
        changes = changes.append(reply.clone(), Follows::Parent).insert(running).emit(event(reply.id));
        let committed = self.ports.work.commit(changes).await.map_err(|failure| refused(failure, caps))?;
        let new: &mut [&mut Message] =
            if job.new.is_some() { &mut [&mut job.message, &mut job.reply] } else { &mut [&mut job.reply] };
        for (message, appended) in new.iter_mut().zip(&committed.appended) {
            message.seq = appended.seq;
            message.parent = appended.parent;
        }
        let first = committed.first_event();
        let asker = watched.then_some(&job.member);
        let new: &[&Message] = if job.new.is_some() { &[&job.message, &job.reply] } else { &[&job.reply] };
        let (room, watch) = self.live.begin(first, &job.chat, new, asker);
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
            replies.titles.clone().after(&job, &message);
            replies.locals().remove(&local.message.id);
            local.ended.notify(usize::MAX);
            replies.none_running.notify(usize::MAX);
            // Whoever waited for the end may have gone.
            let _ = done.send(message);
        }));
        Ok(begun)
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
                    // Where its row is gone, too, what was made is all there is to tell.
                    let gone = || Message { status: MessageStatus::Streaming, ..ended };
                    let message = message.map_or_else(gone, |message| *message).as_ended();
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

    /// Ends the replies that run here in a chat that was deleted. Those that run elsewhere find it out by themselves.
    pub(super) fn lose(&self, chat: ChatId) {
        for local in self.locals().values().filter(|local| local.message.chat == chat) {
            local.cut(Cut::Lost);
        }
    }

    /// Lets running replies end, for so long; the rest is interrupted. Begins nothing new.
    pub async fn drain(&self, limit: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        self.titles.close();
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

    /// Lets a send in, unless something stands against beginning a reply now.
    ///
    /// # Errors
    /// `ShuttingDown`; `TooManyReplies`; `Unavailable` while the database does not know this process.
    pub(super) fn may_begin(self: &Arc<Self>) -> Result<Beginning, Error> {
        // Counted before the look: either the look sees that the process stops, or the stop sees the count.
        let before = self.beginning.fetch_add(1, Ordering::SeqCst);
        let beginning = Beginning(self.clone());
        if self.draining() {
            return Err(Error::ShuttingDown);
        }
        if self.instance().is_none() {
            let cause = "this process is not registered with the database yet".into();
            return Err(Error::Unavailable { backend: Backend::Database, cause });
        }
        // Those before it, then those that run: one that goes over meanwhile is counted twice rather than not at all, and of two that come at
        // once for the last place one gets it.
        if let Some(most) = self.caps.here
            && (before + self.running()) as u64 >= most
        {
            return Err(Error::TooManyReplies { whose: Whose::Server, most });
        }
        Ok(beginning)
    }
}

/// Why a reply was not begun; `caps` are the places of the caps in the unit, and what they say.
fn refused(failure: Failure, caps: Vec<(usize, Error)>) -> Stale {
    match failure.conflict() {
        Some((Conflict::MissingParent, _)) => Error::NotFound(Kind::Chat).into(),
        Some((Conflict::Ceiling, place)) => {
            let full = caps.into_iter().find_map(|(cap, error)| (cap == place).then_some(error));
            full.map_or_else(|| failure.into(), Stale::Ended)
        }
        _ => failure.into(),
    }
}

enum Ended {
    Here(EventNumber),
    Elsewhere(Option<Box<Message>>),
}
