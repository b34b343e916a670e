//! Revisions: the model as it is, given to the scorers of this process that follow it, between one
//! version and the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::Result;
use gradlake_udfs::{Model, Scorer};

use super::{OnlineTraining, TICK};

/// The shortest time between two revisions.
const EVERY: Duration = Duration::from_millis(5);
/// Making revisions takes at most one part of so many of the time.
const SHARE: u32 = 20;

/// When the last revision was made, and of what.
#[derive(Debug, Default)]
pub struct Revisions {
    rows: u64,
    /// When the next one may be made; None: at once.
    next: Option<Instant>,
}

impl OnlineTraining<'_> {
    /// Whether a scorer waits for what was learned since the last revision.
    fn has_news(&self) -> bool {
        self.publisher.is_some()
            && self.learner.counts().0 > self.revisions.rows
            && self.engine.latest.is_used(&self.request.name)
    }

    /// Gives followers a revision, if there is news and the last one is a while ago.
    ///
    /// # Errors
    /// As [`OnlineTraining::model`].
    pub(super) fn revise(&mut self) -> Result<()> {
        let is_early = self.revisions.next.is_some_and(|next| Instant::now() < next);
        if is_early || !self.has_news() || !self.learner.is_finite() {
            return Ok(());
        }
        let begun = Instant::now();
        let (version, rows) = (self.version + 1, self.learner.counts().0);
        let model = Model { version, ..self.model()? };
        self.engine.latest.revise(&Arc::new(Scorer::new(Arc::new(model))?));
        let next = Instant::now() + EVERY.max(begun.elapsed() * SHARE);
        self.revisions = Revisions { rows, next: Some(next) };
        Ok(())
    }

    /// How long to wait for rows before the clock is looked at again.
    pub(super) fn next_look(&self) -> Duration {
        match self.revisions.next {
            Some(next) if self.has_news() => {
                next.saturating_duration_since(Instant::now()).min(TICK)
            }
            _ => TICK,
        }
    }
}
