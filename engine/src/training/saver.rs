//! Checkpoints in time: when one is due, what it holds, and when the time is up.

use std::time::{Duration, Instant};

use datafusion::common::Result;

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
    last: Instant,
    progress: TrainingProgress,
    member: String,
    events: EventSink,
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
            last: now,
            progress,
            member: String::new(),
            events,
        }
    }

    /// When the training first began, in milliseconds since the epoch.
    pub fn started_ms(&self) -> i64 {
        self.progress.started_ms
    }

    /// Turns to a member and returns its progress so far.
    pub fn begin(&mut self, member: &str) -> Option<MemberProgress> {
        member.clone_into(&mut self.member);
        self.progress.members.get(member).cloned()
    }

    /// Notes the progress of the member after a round; saves it when a checkpoint is due.
    pub async fn after_round(&mut self, progress: &MemberProgress) -> Result<()> {
        if self.store.is_none() {
            return Ok(());
        }
        let due = self.last.elapsed() >= self.every;
        if due || progress.done {
            self.progress.members.insert(self.member.clone(), progress.clone());
        }
        if due {
            self.save().await?;
        }
        Ok(())
    }

    /// Saves the progress now: the training is about to stop.
    pub async fn before_stop(&mut self, progress: &MemberProgress) -> Result<()> {
        if self.store.is_some() && !progress.state.is_empty() {
            self.progress.members.insert(self.member.clone(), progress.clone());
            self.save().await?;
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<()> {
        if let Some(store) = &self.store {
            let bytes = self.progress.to_bytes()?;
            store.put_checkpoint(&self.name, &self.fingerprint, bytes, false).await?;
            self.last = Instant::now();
            let epoch = self.progress.members.get(&self.member).map_or(0, |m| m.epoch);
            (self.events)(Event::Checkpoint { until: Position::Epoch(epoch) });
        }
        Ok(())
    }

    /// Whether the training has used up its time.
    pub fn out_of_time(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
