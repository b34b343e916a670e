//! Revisions: between two versions, the current model is passed to the scorers in this process that
//! use the latest version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::Result;
use gradlake_udfs::{Model, Scorer};

use super::{OnlineTraining, TICK};

/// The shortest time between two revisions.
const EVERY: Duration = Duration::from_millis(5);
/// Making revisions takes at most `1 / SHARE` of the time.
const SHARE: u32 = 20;

/// The rows of the last revision, and when the next one may be made.
#[derive(Debug, Default)]
pub struct Revisions {
    rows: u64,
    /// When the next one may be made; None means now.
    next: Option<Instant>,
}

impl OnlineTraining<'_> {
    /// Whether a scorer waits for what was learned since the last revision.
    fn has_news(&self) -> bool {
        self.publisher.is_some()
            && self.learner.counts().0 > self.revisions.rows
            && self.learner.is_ready()
            && self.engine.latest.is_used(&self.request.name)
    }

    /// Passes a revision to the scorers if there is news and the last one is long enough ago.
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

    /// How long to wait for rows before timers are checked again.
    pub(super) fn next_look(&self) -> Duration {
        match self.revisions.next {
            Some(next) if self.has_news() => {
                next.saturating_duration_since(Instant::now()).min(TICK)
            }
            _ => TICK,
        }
    }
}
