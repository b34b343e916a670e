//! Publications of an online training: the current model as a version, and a row that reports it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use gradlake_udfs::{HistoryEntry, Member, Metric, Model, Scorer, Trained};
use tokio::sync::mpsc;

use super::super::report::StreamRow;
use super::OnlineTraining;
use crate::clock::now_ms;
use crate::event::Event;
use crate::source::Lag;
use crate::store::{Lease, Publish};
use crate::training::ModelParts;

/// Versions that a stream keeps by default: it publishes without end.
const KEEP_VERSIONS: u64 = 10;

/// Where versions of a stream's training go.
#[derive(Debug)]
pub struct Publisher {
    pub lease: Lease,
    pub rows: mpsc::Sender<Result<RecordBatch>>,
}

impl OnlineTraining<'_> {
    /// Publishes the current model and sends a row that reports it.
    ///
    /// # Errors
    /// When the store cannot be written or the lease is lost.
    pub async fn publish(&mut self) -> Result<()> {
        self.check_finite()?;
        // After a damaged checkpoint, training resumes from an older one and comes to rows that
        // already have a version.
        if self.is_resumed && self.is_published().await? {
            (self.published, self.published_rows) = (Instant::now(), self.learner.counts().0);
            return Ok(());
        }
        self.save(true).await?;
        self.publish_version().await
    }

    pub(super) async fn publish_version(&mut self) -> Result<()> {
        self.tell();
        let Some(publisher) = &self.publisher else { return Ok(()) };
        let model = Arc::new(self.model()?);
        let keep = Some(self.options.keep_versions.unwrap_or(KEEP_VERSIONS));
        let store = &self.engine.store;
        let version = store.publish(&model, Publish::Replace, keep, Some(&publisher.lease)).await?;
        self.version = version;
        (self.published, self.published_rows) = (Instant::now(), model.rows);
        if self.engine.latest.is_used(&model.name) {
            let model = Model { version, ..model.as_ref().clone() };
            self.engine.latest.revise(&Arc::new(Scorer::new(Arc::new(model))?));
        }
        (self.events)(Event::Published { model: model.name.clone(), version });
        let rows = self.learner.counts().0;
        let waiting = self.lag().map(|lag| match lag {
            Lag::Bytes(n) | Lag::Files(n) => n,
        });
        let row = StreamRow {
            model: &self.request.name,
            version,
            rows,
            skipped: self.intake.counted().values().sum(),
            progressive: self.learner.progressive(),
            target: self.request.algorithm.spec().target,
            rows_per_second: self.rate.take(rows),
            waiting,
        };
        // The receiver may be gone; the training goes on.
        let _ = publisher.rows.send(row.batch()).await;
        Ok(())
    }

    /// Publishes a version that the checkpoint marks as due if a crash prevented that.
    pub(super) async fn publish_what_was_due(&mut self) -> Result<()> {
        if !self.publish_on_start || self.publisher.is_none() {
            return Ok(());
        }
        if self.is_published().await? { Ok(()) } else { self.publish_version().await }
    }

    /// Whether there is anything to publish.
    pub fn has_learned(&self) -> bool {
        self.learner.counts().0 > 0
    }

    /// Whether all that was learned is published.
    pub async fn is_published(&self) -> Result<bool> {
        let rows = self.learner.counts().0;
        if !self.engine.store.contains(&self.request.name).await? {
            return Ok(false);
        }
        let (versions, _) = self.engine.store.versions(&self.request.name).await?;
        Ok(versions.iter().any(|entry| entry.version >= self.first_version && entry.rows == rows))
    }

    /// The current model.
    ///
    /// # Errors
    /// When a scale is not finite.
    pub fn model(&self) -> Result<Model> {
        let snapshot = self.learner.snapshot()?;
        let progressive = self.learner.progressive();
        let (all, rows) = (progressive.all(), self.learner.counts().0);
        let loss = all.mean_loss().unwrap_or(f64::NAN);
        let mut metrics = vec![];
        let own = |name: &str, value: Option<f64>| {
            value.map(|value| Metric { target: None, name: name.to_owned(), value })
        };
        if self.request.algorithm.is_classifier() {
            metrics.extend(own("accuracy", all.accuracy()));
            if self.learner.loss().is_some_and(|loss| loss.has_probabilities()) {
                metrics.extend(own("log_loss", all.mean_loss()));
            }
        } else if self.learner.loss().is_some() {
            metrics.extend(own("mean_absolute_error", all.mean_absolute_error()));
        } else {
            metrics.extend(own("mean_loss", all.mean_loss()));
        }
        let skipped_rows: BTreeMap<String, u64> = self.intake.counted().clone();
        let finished_ms = now_ms();
        let trained = Trained {
            encoder: snapshot.encoder,
            labels: snapshot.labels,
            description: snapshot.description,
            parameters: snapshot.parameters,
            optimizer: self.learner.loss().map(|_| self.options.optimizer),
            moments: snapshot.moments,
            steps: snapshot.steps,
            rows,
            skipped_rows: skipped_rows.clone(),
            history: vec![HistoryEntry {
                epoch: 1,
                loss,
                eval_loss: None,
                learning_rate: self.options.learning_rate,
                rows,
                duration_ms: (finished_ms - self.started_ms).max(0) as u64,
            }],
            metrics,
            metrics_on: "progressive".to_owned(),
            loss,
            eval_loss: None,
        };
        let parts = ModelParts {
            request: self.request,
            columns: self.columns,
            options: &self.options,
            parent: self.parent,
            rows,
            skipped_rows,
            started_ms: self.started_ms,
        };
        Ok(parts.model(vec![Member { key: vec![], outcome: Ok(Box::new(trained)) }]))
    }
}
