//! Saves checkpoints: when one is due, what it holds, and when the time of the training is over.

use std::time::{Duration, Instant};

use datafusion::common::{Result, exec_err};
use gradlake_udfs::Estimator;
use tokio::sync::Mutex;

use super::checkpoint::{MemberProgress, TrainingProgress};
use crate::event::{Event, EventSink, Position};
use crate::request::TrainRequest;
use crate::store::ModelStore;

/// Saves the progress of a training when a checkpoint is due.
pub struct Saver {
    /// The store; None if nothing is to be saved (EXPLAIN ANALYZE).
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
    data_hash: u64,
}

impl Saver {
    /// A saver that continues from `progress`.
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

    /// The saver of a member whose training rows have this hash.
    pub fn of<'a>(&'a self, member: &'a str, data_hash: u64) -> MemberSaver<'a> {
        MemberSaver { saver: self, member, data_hash }
    }

    async fn save(&self, saved: &mut Saved, member: &str) -> Result<()> {
        if let Some(store) = &self.store {
            let bytes = saved.progress.to_bytes()?;
            store.put_checkpoint(&self.name, &self.fingerprint, bytes, false).await?;
            saved.last = Instant::now();
            let completed = saved.progress.members.get(member).map_or(0, |m| m.completed);
            (self.events)(Event::Checkpoint { until: Position::Epoch(completed) });
        }
        Ok(())
    }
}

impl MemberSaver<'_> {
    /// Restores an estimator from the saved progress of the member, if there is any.
    ///
    /// # Errors
    /// When the data has changed since.
    pub async fn resume(self, estimator: &mut dyn Estimator) -> Result<()> {
        let saved = self.saver.saved.lock().await;
        let Some(progress) = saved.progress.members.get(self.member) else { return Ok(()) };
        if progress.data_hash != self.data_hash {
            return exec_err!(
                "the training of model {0} cannot be resumed, because its data has changed since \
                 the checkpoint; TRAIN OR REPLACE MODEL {0} with another seed or DROP MODEL {0} \
                 begins anew",
                self.saver.name
            );
        }
        estimator.restore(&progress.estimator)
    }

    /// Whether the member's training resumes from a checkpoint.
    pub async fn is_resumed(self) -> bool {
        self.saver.saved.lock().await.progress.members.contains_key(self.member)
    }

    /// Saves the estimator when a checkpoint is due.
    pub async fn after_round(self, estimator: &dyn Estimator) -> Result<()> {
        if self.saver.store.is_none() {
            return Ok(());
        }
        let mut saved = self.saver.saved.lock().await;
        if saved.last.elapsed() >= self.saver.every {
            self.note(&mut saved, estimator)?;
            self.saver.save(&mut saved, self.member).await?;
        }
        Ok(())
    }

    /// Records the state of an estimator that is done, for the checkpoints of other members.
    pub async fn at_end(self, estimator: &dyn Estimator) -> Result<()> {
        if self.saver.store.is_some() {
            let mut saved = self.saver.saved.lock().await;
            self.note(&mut saved, estimator)?;
        }
        Ok(())
    }

    /// Saves the estimator now: the training is about to stop.
    pub async fn save_now(self, estimator: &dyn Estimator) -> Result<()> {
        if self.saver.store.is_some() {
            let mut saved = self.saver.saved.lock().await;
            self.note(&mut saved, estimator)?;
            self.saver.save(&mut saved, self.member).await?;
        }
        Ok(())
    }

    fn note(self, saved: &mut Saved, estimator: &dyn Estimator) -> Result<()> {
        let progress = MemberProgress {
            data_hash: self.data_hash,
            completed: estimator.completed(),
            estimator: estimator.save()?,
        };
        saved.progress.members.insert(self.member.to_owned(), progress);
        Ok(())
    }

    /// Whether the training has used up its time.
    pub fn is_out_of_time(self) -> bool {
        self.saver.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
