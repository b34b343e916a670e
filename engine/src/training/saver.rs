//! Saves checkpoints: when one is due, what it holds, and when the time of the training is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::common::{Result, exec_err};
use gradlake_udfs::{Estimator, Iterations};

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
    /// Whether the training continues from a checkpoint.
    is_resumed: bool,
    /// What the next checkpoint holds. Members that train side by side hold the lock briefly.
    progress: Mutex<TrainingProgress>,
    /// When the next checkpoint is due. The lock is held while one is written, so that an older one
    /// does not replace a newer one.
    due: tokio::sync::Mutex<Instant>,
    events: EventSink,
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
            due: tokio::sync::Mutex::new(now + request.options.checkpoint_every),
            deadline: seconds.map(|seconds| now + Duration::from_secs_f64(seconds)),
            started_ms: progress.started_ms,
            is_resumed: !progress.members.is_empty(),
            progress: Mutex::new(progress),
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

    fn progress(&self) -> MutexGuard<'_, TrainingProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a checkpoint, whose event names the position of the member that caused it.
    async fn save(&self, store: &ModelStore, until: Position, due: &mut Instant) -> Result<()> {
        let bytes = self.progress().to_bytes()?;
        store.put_checkpoint(&self.name, &self.fingerprint, bytes, false).await?;
        *due = Instant::now() + self.every;
        (self.events)(Event::Checkpoint { until });
        Ok(())
    }
}

/// How far an estimator is.
pub fn position(estimator: &dyn Estimator) -> Position {
    match estimator.iterations() {
        Iterations::Epochs(_) => Position::Epoch(estimator.completed()),
        Iterations::Steps => Position::Step(estimator.completed()),
    }
}

impl MemberSaver<'_> {
    /// Restores an estimator from the saved progress of the member, if there is any.
    ///
    /// # Errors
    /// When the data has changed since.
    pub fn resume(self, estimator: &mut dyn Estimator) -> Result<()> {
        if !self.saver.is_resumed {
            return Ok(());
        }
        let progress = self.saver.progress();
        let Some(progress) = progress.members.get(self.member) else { return Ok(()) };
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
    pub fn is_resumed(self) -> bool {
        self.saver.is_resumed && self.saver.progress().members.contains_key(self.member)
    }

    /// Saves the estimator when a checkpoint is due. While another member saves, this one goes on.
    pub async fn after_round(self, estimator: &dyn Estimator) -> Result<()> {
        let Some(store) = &self.saver.store else { return Ok(()) };
        let Ok(mut due) = self.saver.due.try_lock() else { return Ok(()) };
        if Instant::now() < *due {
            return Ok(());
        }
        self.record(estimator)?;
        self.saver.save(store, position(estimator), &mut due).await
    }

    /// Saves the estimator now.
    pub async fn save_now(self, estimator: &dyn Estimator) -> Result<()> {
        let Some(store) = &self.saver.store else { return Ok(()) };
        self.record(estimator)?;
        let mut due = self.saver.due.lock().await;
        self.saver.save(store, position(estimator), &mut due).await
    }

    /// Records the state of an estimator for the next checkpoint, which may be that of another
    /// member.
    pub fn record(self, estimator: &dyn Estimator) -> Result<()> {
        if self.saver.store.is_none() {
            return Ok(());
        }
        let progress = MemberProgress {
            data_hash: self.data_hash,
            completed: estimator.completed(),
            estimator: estimator.save()?,
        };
        self.saver.progress().members.insert(self.member.to_owned(), progress);
        Ok(())
    }

    /// Whether the training has used up its time.
    pub fn is_out_of_time(self) -> bool {
        self.saver.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
