//! Checkpoints in time: when one is due, what it holds, and when the time is up.

use std::time::{Duration, Instant};

use datafusion::common::Result;
use tokio::sync::Mutex;

use super::checkpoint::{MemberProgress, TrainingProgress};
use crate::event::{Event, EventSink, Position};
use crate::request::TrainRequest;
use crate::store::ModelStore;

/// Saves the progress of a training when a checkpoint is due.
pub struct Saver {
    /// Where to; nowhere when nothing is to be kept (EXPLAIN ANALYZE).
    store: Option<ModelStore>,
    name: String,
    fingerprint: String,
    every: Duration,
    deadline: Option<Instant>,
    started_ms: i64,
    saved: Mutex<Saved>,
    events: EventSink,
}

/// What the next checkpoint holds.
struct Saved {
    last: Instant,
    progress: TrainingProgress,
}

/// Saves the progress of one member with that of the others.
#[derive(Clone, Copy)]
pub struct MemberSaver<'a> {
    saver: &'a Saver,
    member: &'a str,
}

impl Saver {
    /// A saver that goes on from `progress`.
    pub fn new(
        store: Option<ModelStore>,
        request: &TrainRequest,
        progress: TrainingProgress,
        events: EventSink,
    ) -> Self {
        let now = Instant::now();
        let seconds = request.options.max_seconds;
        Self {
            store,
            name: request.name.clone(),
            fingerprint: request.fingerprint(),
            every: request.options.checkpoint_every,
            deadline: seconds.map(|seconds| now + Duration::from_secs_f64(seconds)),
            started_ms: progress.started_ms,
            saved: Mutex::new(Saved { last: now, progress }),
            events,
        }
    }

    /// When the training first began, in milliseconds since the epoch.
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// The saver of a member.
    pub fn of<'a>(&'a self, member: &'a str) -> MemberSaver<'a> {
        MemberSaver { saver: self, member }
    }

    async fn save(&self, saved: &mut Saved, member: &str) -> Result<()> {
        if let Some(store) = &self.store {
            let bytes = saved.progress.to_bytes()?;
            store.put_checkpoint(&self.name, &self.fingerprint, bytes, false).await?;
            saved.last = Instant::now();
            let epoch = saved.progress.members.get(member).map_or(0, |m| m.epoch);
            (self.events)(Event::Checkpoint { until: Position::Epoch(epoch) });
        }
        Ok(())
    }
}

impl MemberSaver<'_> {
    /// The member's progress so far.
    pub async fn progress(self) -> Option<MemberProgress> {
        self.saver.saved.lock().await.progress.members.get(self.member).cloned()
    }

    /// Notes the progress of the member after a round; saves it when a checkpoint is due.
    pub async fn after_round(self, progress: &MemberProgress) -> Result<()> {
        if self.saver.store.is_none() {
            return Ok(());
        }
        let mut saved = self.saver.saved.lock().await;
        let due = saved.last.elapsed() >= self.saver.every;
        if due || progress.done {
            saved.progress.members.insert(self.member.to_owned(), progress.clone());
        }
        if due {
            self.saver.save(&mut saved, self.member).await?;
        }
        Ok(())
    }

    /// Saves the progress now: the training is about to stop.
    pub async fn before_stop(self, progress: &MemberProgress) -> Result<()> {
        if self.saver.store.is_some() && !progress.state.is_empty() {
            let mut saved = self.saver.saved.lock().await;
            saved.progress.members.insert(self.member.to_owned(), progress.clone());
            self.saver.save(&mut saved, self.member).await?;
        }
        Ok(())
    }

    /// Whether the training has used up its time.
    pub fn out_of_time(self) -> bool {
        self.saver.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
