//! Timers of an online training: they save checkpoints, publish versions and report progress.

use std::time::{Duration, Instant};

use datafusion::common::Result;
use gradlake_udfs::TargetRule;

use super::super::checkpoint::OnlineProgress;
use super::OnlineTraining;
use crate::event::{Event, Position};
use crate::options::PublishEvery;
use crate::source::{Lag, Report};

/// How often a stream publishes by default.
const PUBLISH_EVERY: PublishEvery = PublishEvery::Time(Duration::from_secs(60));

impl OnlineTraining<'_> {
    /// Runs what is due: warnings, a publication or a checkpoint.
    pub(super) async fn run_timers(&mut self) -> Result<()> {
        self.tell_warnings(Report::take_warnings);
        if let PublishEvery::Time(every) = self.options.publish_every.unwrap_or(PUBLISH_EVERY)
            && self.publisher.is_some()
            && self.published.elapsed() >= every
            && self.learner.counts().0 > self.published_rows
            && self.learner.is_ready()
        {
            return self.publish().await;
        }
        let is_saved = self.saved_until == self.consumed;
        if self.saves && !is_saved && self.saved.elapsed() >= self.options.checkpoint_every {
            self.save(false).await?;
        }
        Ok(())
    }

    /// The row count of the publication after `rows`.
    pub(super) fn publication_after(&self, rows: u64) -> Option<u64> {
        match self.options.publish_every {
            Some(PublishEvery::Rows(every)) if self.publisher.is_some() => {
                Some((rows / every + 1) * every)
            }
            _ => None,
        }
    }

    /// Saves a checkpoint of the rows that are consumed.
    pub(super) async fn save(&mut self, publishes: bool) -> Result<()> {
        if !self.saves {
            return Ok(());
        }
        if let Some(publisher) = &self.publisher {
            self.engine.store.check_lease(&publisher.lease).await?;
        }
        self.intake.count_skipped(self.consumed);
        let reach = self.query.as_ref().map_or(0, |query| query.reach.unwrap_or(0));
        let from = self.consumed.saturating_sub(reach);
        let cursors = match self.query {
            Some(_) => self.ledger.cursors_between(from, self.consumed),
            None => vec![],
        };
        let (learner, state) = self.learner.save()?;
        let progress = OnlineProgress::new(
            self.started_ms,
            (self.consumed, from),
            cursors,
            self.intake.counted().clone(),
            self.learner.classes(),
            learner,
            self.first_version,
            publishes,
        );
        let bytes = progress.to_bytes(&state)?;
        let outlives = self.query.is_some();
        let fingerprint = self.request.fingerprint();
        self.engine.store.put_checkpoint(&self.request.name, &fingerprint, bytes, outlives).await?;
        self.ledger.forget_before(from);
        self.saved = Instant::now();
        self.saved_until = self.consumed;
        let rows = self.learner.counts().0;
        (self.events)(Event::Checkpoint { until: Position::Row(rows) });
        Ok(())
    }

    /// Reports the progress of the training.
    pub(super) fn tell(&mut self) {
        let rows = self.learner.counts().0;
        let progressive = self.learner.progressive();
        let recent = progressive.window();
        let target = self.request.algorithm.spec().target;
        let event = Event::Streaming {
            rows,
            rows_per_second: self.pace.at(Instant::now(), rows).unwrap_or(0.0),
            loss: progressive.all().mean_loss(),
            recent_loss: recent.mean_loss(),
            recent_accuracy: recent.accuracy().filter(|_| target.is_class()),
            recent_error: recent.mean_absolute_error().filter(|_| target == TargetRule::Number),
            waiting: self.lag(),
        };
        (self.events)(event);
    }

    /// Whether the source can replay rows that are not in a checkpoint.
    pub(super) fn is_replayable(&self) -> bool {
        self.query.as_ref().is_none_or(|query| query.table().source().is_replayable())
    }

    /// Reports the warnings of the source.
    pub(super) fn tell_warnings(&self, take: fn(&Report) -> Vec<String>) {
        if let Some(query) = &self.query {
            for warning in take(&query.table().source().report()) {
                (self.events)(Event::Warning(warning));
            }
        }
    }

    /// What waits in the source, if it can report that.
    pub(super) fn lag(&self) -> Option<Lag> {
        self.query.as_ref().and_then(|query| query.table().source().report().lag())
    }
}
