//! Keeping replies: this process's place among the living, the text so far in the database, and the end of replies whose process is gone.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::select;
use futures_util::pin_mut;

use super::{BEAT, Cut, DEAD_AFTER, Ended, FLUSH, Local, Replies};
use crate::change::{Changes, Checkpoint, Instance, TextSoFar, Version};
use crate::error::Failure;
use crate::id::{InstanceId, MessageId};
use crate::model::chat::{Message, MessageStatus, ReplyError, ReplyFault, RunningReply};

/// How long a reply may stand in our name without being made, as it does for a moment while it begins.
const STRAY: Duration = Duration::from_secs(5);

impl Replies {
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn instance(id: u128, beat: u64) -> Instance {
        Instance { id: Uuid::from_u128(id).into(), beat, version: Version::FIRST }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    // F35
    #[test]
    fn a_beat_that_stands_still_for_twelve_seconds_is_a_death() {
        let mut others = Others::default();
        for second in [0, 2, 4, 6, 8, 10] {
            assert_eq!(others.dead(vec![instance(1, 5), instance(2, second)], seconds(second)), []);
        }
        assert_eq!(others.dead(vec![instance(1, 5), instance(2, 12)], seconds(12)), [instance(1, 5)]);
    }

    // F32
    #[test]
    fn a_beat_that_moves_just_in_time_is_a_life() {
        let mut others = Others::default();
        for second in (0..120).step_by(2) {
            assert_eq!(others.dead(vec![instance(1, second / 12)], seconds(second)), []);
        }
    }

    // F32: what nobody could watch counts for little, however long it was.
    #[test]
    fn nobody_is_dead_whom_nobody_watched() {
        let mut others = Others::default();
        for second in [1_000, 1_002, 2_000, 2_002, 2_004] {
            assert_eq!(others.dead(vec![instance(1, 5)], seconds(second)), []);
        }
        assert_eq!(others.dead(vec![instance(1, 5)], seconds(2_006)), [instance(1, 5)]);
    }

    // F4: nor does a database that takes its time for every look keep the dead alive.
    #[test]
    fn a_slow_watcher_sees_a_death_all_the_same() {
        let mut others = Others::default();
        for second in [0, 7, 14] {
            assert_eq!(others.dead(vec![instance(1, 5)], seconds(second)), []);
        }
        assert_eq!(others.dead(vec![instance(1, 5)], seconds(21)), [instance(1, 5)]);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut others = Others::default();
        assert_eq!(others.dead(vec![instance(1, 5)], seconds(0)), []);
        assert_eq!(others.dead(Vec::new(), seconds(2)), []);
        assert_eq!(others.seen.len(), 0);
    }
}
