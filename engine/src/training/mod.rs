//! Trainings: from a request to a published version.
//!
//! ```text
//! query ──► raw table ──► groups ──► per member: split, fit, encode ──► rounds ──► model ──► store
//! ```

mod architecture;
mod candidates;
mod checkpoint;
mod columns;
mod driver;
mod explain;
mod member;
mod members;
mod metrics;
mod model;
mod monitor;
mod parent;
#[cfg(test)]
mod plain_sql;
mod prepare;
mod progress;
mod reading;
mod rounds;
mod saver;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_err, plan_err};
use gradlake_udfs::{Iterations, Member, Model, Trained};

pub use explain::explain;

pub(crate) use self::columns::TrainingColumns;
pub(crate) use self::model::ModelParts;
pub(crate) use self::monitor::{Monitor, Pace};

use self::checkpoint::TrainingProgress;
use self::member::Shared;
use self::members::{MemberResult, train_all};
use self::reading::{TrainingRows, read_rows};
use self::rounds::RoundRunner;
use self::saver::Saver;
use crate::clock::now_ms;
use crate::dictionaries::read_dictionaries;
use crate::event::{Event, EventSink, Position};
use crate::online::OnlineTraining;
use crate::options::Statistics;
use crate::request::TrainRequest;
use crate::session::Engine;
use crate::store::{Publish, validate_name};

/// How long a training holds its model's lease without renewing it.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// The columns of the row that TRAIN returns.
pub fn result_schema() -> SchemaRef {
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        Field::new("model", DataType::Utf8, false),
        int("version"),
        int("rows"),
        int("skipped_rows"),
        int("epochs"),
        Field::new("loss", DataType::Float64, true),
        Field::new("eval_loss", DataType::Float64, true),
        int("duration_ms"),
    ]))
}

/// A trained model that is not published yet, and what EXPLAIN ANALYZE reports about it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub model: Model,
    pub report: Vec<member::Report>,
    pub duration: Duration,
}

impl Engine {
    /// Trains and publishes a model, and returns the row of [`result_schema`] (no row where IF
    /// NOT EXISTS found the model).
    ///
    /// # Errors
    /// When the request does not fit the data or the store, or the training is interrupted; what
    /// was published before stays as it was.
    pub async fn train(&self, request: &TrainRequest, events: &EventSink) -> Result<RecordBatch> {
        validate_name(&request.name)?;
        let exists = self.store.contains(&request.name).await?;
        if exists && request.if_not_exists {
            return Ok(RecordBatch::new_empty(result_schema()));
        }
        if exists && !request.or_replace {
            return already_exists(&request.name);
        }
        let created = !self.store.exists().await?;
        if created {
            events(Event::Note(format!("creating the warehouse {}", self.store.location())));
        }
        let note = |text| events(Event::Note(text));
        let lease = self.store.acquire_lease(&request.name, LEASE, &note).await?;
        let keeper = self.store.keep_lease(&lease);
        let monitor = Monitor::start(&self.store, &lease, &request.statement);
        let result = self.train_and_publish(request, &lease, &monitor.sink(events)).await;
        drop(keeper);
        monitor.end().await;
        let released = self.store.release_lease(&lease).await;
        let row = result?;
        released?;
        Ok(row)
    }

    async fn train_and_publish(
        &self,
        request: &TrainRequest,
        lease: &crate::store::Lease,
        events: &EventSink,
    ) -> Result<RecordBatch> {
        self.interrupt.clear();
        let finished = if request.options.statistics == Statistics::Running {
            let checkpoint = self.own_checkpoint(request, events).await?;
            self.run_online(request, checkpoint, true, events).await?
        } else {
            let progress = self.resume(request, events).await?;
            let saver = Saver::new(Some(self.store.clone()), request, progress, Arc::clone(events));
            self.run_training(request, saver, events).await?
        };
        let model = Arc::new(finished.model);
        if model.members.iter().all(|m| m.outcome.is_err()) {
            let reason = model.members.iter().find_map(|m| m.outcome.as_ref().err());
            return match reason {
                Some(reason) => exec_err!("{reason}"),
                None => exec_err!("the query gives no rows to train on"),
            };
        }
        let mode = if request.or_replace { Publish::Replace } else { Publish::New };
        let keep = request.options.keep_versions;
        let version = self.store.publish(&model, mode, keep, Some(lease)).await?;
        events(Event::Published { model: model.name.clone(), version });
        self.store.discard_checkpoints(&request.name).await?;
        result_row(&model, version, finished.duration)
    }

    /// The progress of an earlier run of the same statement, if it left a checkpoint.
    async fn resume(&self, request: &TrainRequest, events: &EventSink) -> Result<TrainingProgress> {
        let Some(bytes) = self.own_checkpoint(request, events).await? else {
            return Ok(TrainingProgress { started_ms: now_ms(), members: BTreeMap::new() });
        };
        let progress = TrainingProgress::from_bytes(&bytes)?;
        // A single member says how far it was when it begins.
        if !request.partition_by.is_empty() {
            events(Event::Resumed { from: Position::Groups(progress.members.len() as u64) });
        }
        Ok(progress)
    }

    /// The checkpoint that an earlier run of the same statement left.
    ///
    /// # Errors
    /// When another statement left one, and this one does not replace it.
    pub(crate) async fn own_checkpoint(
        &self,
        request: &TrainRequest,
        events: &EventSink,
    ) -> Result<Option<Vec<u8>>> {
        let Some(checkpoint) = self.store.checkpoint(&request.name).await? else {
            return Ok(None);
        };
        if let Some(warning) = &checkpoint.warning {
            events(Event::Warning(warning.clone()));
        }
        if checkpoint.fingerprint == request.fingerprint() {
            return Ok(Some(checkpoint.bytes));
        }
        if request.or_replace {
            self.store.discard_checkpoints(&request.name).await?;
            events(Event::Warning(format!(
                "the checkpoint of another training of model {} is discarded",
                request.name
            )));
            return Ok(None);
        }
        plan_err!(
            "model {0} has a checkpoint of another statement, {1} ({2}); run that statement to \
             resume it, or TRAIN OR REPLACE MODEL {0} to discard it",
            request.name,
            difference(&checkpoint.fingerprint, &request.fingerprint()),
            checkpoint.fingerprint
        )
    }

    /// The model that CONTINUE names.
    pub(crate) async fn parent(&self, request: &TrainRequest) -> Result<Option<Model>> {
        let Some((name, version)) = &request.continue_from else { return Ok(None) };
        let version = match version {
            Some(version) => *version,
            None => self.store.current_version(name).await?,
        };
        Ok(Some(self.store.load(name, Some(version)).await?))
    }

    /// Trains on every row of the query once, in the order of the query; publishes nothing.
    pub(crate) async fn run_online(
        &self,
        request: &TrainRequest,
        checkpoint: Option<Vec<u8>>,
        saves: bool,
        events: &EventSink,
    ) -> Result<Finished> {
        let begun = Instant::now();
        let parent = self.parent(request).await?;
        let columns = TrainingColumns::resolve(&self.training_state(), request, parent.as_ref())?;
        let mut training = OnlineTraining::new(
            self,
            request,
            &columns,
            parent.as_ref(),
            events,
            (None, saves),
            checkpoint,
        )
        .await?;
        events(Event::Started {
            model: request.name.clone(),
            member: String::new(),
            rows: 0,
            eval_rows: 0,
            epochs: 1,
            method: "every row once, in its order".to_owned(),
        });
        training.run().await?;
        let model = training.model()?;
        let report = member::Report {
            label: String::new(),
            method: format!("{}, every row once, in its order", request.options.optimizer.name()),
            rows: model.rows,
            eval_rows: 0,
            rows_per_replica: vec![model.rows],
            epochs: 1,
            iterations: Iterations::Epochs(1),
            encoded_bytes: (0, 0),
        };
        Ok(Finished { model, report: vec![report], duration: begun.elapsed() })
    }

    /// Reads the rows of the query, for all members.
    pub(crate) async fn read_training(
        &self,
        request: &TrainRequest,
        saver: Saver,
        events: &EventSink,
    ) -> Result<(Shared, TrainingRows)> {
        let state = self.training_state();
        let parent = self.parent(request).await?;
        let columns = TrainingColumns::resolve(&state, request, parent.as_ref())?;
        Engine::refuse_unbounded(&columns.plan, "a training that reads all rows first")?;
        request.options.check_table()?;
        let physical = state.create_physical_plan(&columns.plan).await?;
        let inputs: Vec<&str> =
            columns.roles.inputs.iter().map(|(name, _)| name.as_str()).collect();
        let physical = read_dictionaries(physical, state.runtime_env(), &inputs);
        let resources = self.resources(&state)?;
        let rows = read_rows(physical, &state, request, &columns, &resources, events).await?;
        let shared = Shared {
            interrupt: Arc::clone(&self.interrupt),
            pool: self.thread_pool()?,
            resources,
            request: request.clone(),
            columns,
            parent,
            runner: RoundRunner::new(&state, Arc::clone(&self.registry)),
            saver,
            reference: format!("{}/{}", request.name, uuid::Uuid::new_v4().simple()),
        };
        Ok((shared, rows))
    }

    /// Reads the query and trains every member; publishes nothing.
    pub(crate) async fn run_training(
        &self,
        request: &TrainRequest,
        saver: Saver,
        events: &EventSink,
    ) -> Result<Finished> {
        let begun = Instant::now();
        let (shared, rows) = self.read_training(request, saver, events).await?;
        let (shared, results) = train_all(shared, rows, events).await?;
        let mut members = vec![];
        let mut report = vec![];
        let mut skipped_rows: BTreeMap<String, u64> = BTreeMap::new();
        for MemberResult { key, skipped, outcome } in results {
            for (cause, n) in &skipped {
                *skipped_rows.entry(cause.clone()).or_default() += n;
            }
            let outcome = outcome.map(|(trained, own)| {
                report.push(own);
                Box::new(trained)
            });
            members.push(Member { key, outcome });
        }
        let rows = trained(&members).map(|t| t.rows).sum();
        let parts = ModelParts {
            request,
            columns: &shared.columns,
            options: &request.options,
            parent: shared.parent.as_ref(),
            rows,
            skipped_rows,
            started_ms: shared.saver.started_ms(),
        };
        let model = parts.model(members);
        Ok(Finished { model, report, duration: begun.elapsed() })
    }
}

/// Describes the first difference between two statements, in words of both: `which has l2 = 1 where
/// this one has l2 = 2`.
fn difference(other: &str, own: &str) -> String {
    /// Words before the one that differs, such as `l2 =`.
    const BEFORE: usize = 2;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (other, own) = (words(other), words(own));
    let first = other.iter().zip(&own).take_while(|(a, b)| a == b).count();
    let part = |words: &[String]| {
        let from = first.saturating_sub(BEFORE).min(words.len());
        let part = words[from..words.len().min(first + 1)].join(" ");
        match part.trim_matches(|c| matches!(c, ',' | '(' | ')')) {
            "" => "nothing more".to_owned(),
            part => part.to_owned(),
        }
    };
    format!("which has {} where this one has {}", part(&other), part(&own))
}

/// The error for a model that exists.
pub(crate) fn already_exists<T>(name: &str) -> Result<T> {
    plan_err!(
        "model {name} exists; TRAIN OR REPLACE MODEL {name} publishes its next version, DROP MODEL \
         {name} removes it"
    )
}

/// Why there is no row to learn from.
pub(crate) fn no_rows(skipped: &BTreeMap<String, u64>) -> String {
    if skipped.is_empty() {
        return "the query gives no rows to train on".to_owned();
    }
    let causes: Vec<_> = skipped.iter().map(|(cause, n)| format!("{n} because {cause}")).collect();
    let all: u64 = skipped.values().sum();
    format!("no row is left to train on: {all} were skipped, {}", causes.join(", "))
}

fn trained(members: &[Member]) -> impl Iterator<Item = &Trained> {
    members.iter().filter_map(|m| m.outcome.as_deref().ok())
}

fn result_row(model: &Model, version: u64, duration: Duration) -> Result<RecordBatch> {
    let int = |n: u64| Arc::new(Int64Array::from(vec![n as i64])) as ArrayRef;
    let float = |x: Option<f64>| Arc::new(Float64Array::from(vec![x])) as ArrayRef;
    // If there are many members, losses are means weighted by rows.
    let rows: u64 = model.rows;
    let mean = |loss: &dyn Fn(&Trained) -> Option<f64>| -> Option<f64> {
        let mut sum = 0.0;
        for t in trained(&model.members) {
            sum += loss(t)? * t.rows as f64;
        }
        Some(sum / rows as f64)
    };
    let loss = match trained(&model.members).collect::<Vec<_>>().as_slice() {
        [one] => (Some(one.loss), one.eval_loss),
        _ => (mean(&|t| Some(t.loss)), mean(&|t| t.eval_loss)),
    };
    let epochs = trained(&model.members).map(|t| t.history.len() as u64).max().unwrap_or(0);
    Ok(RecordBatch::try_new(
        result_schema(),
        vec![
            Arc::new(StringArray::from(vec![model.name.clone()])),
            int(version),
            int(rows),
            int(model.skipped_rows.values().sum()),
            int(epochs),
            float(loss.0),
            float(loss.1),
            int(duration.as_millis() as u64),
        ],
    )?)
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn statements_differ_in_words() {
        for (other, own, expected) in [
            (
                "TRAIN MODEL m USING x TARGET y WITH (l1 = 1, l2 = 1, seed = 3) FROM t",
                "TRAIN MODEL m USING x TARGET y WITH (l1 = 1, l2 = 2, seed = 3) FROM t",
                "which has l2 = 1 where this one has l2 = 2",
            ),
            (
                "TRAIN MODEL m USING x TARGET y FROM t",
                "TRAIN MODEL m USING x TARGET y FROM u",
                "which has y FROM t where this one has y FROM u",
            ),
            (
                "TRAIN MODEL m USING x TARGET y AS SELECT a FROM t LIMIT 3",
                "TRAIN MODEL m USING x TARGET y AS SELECT a FROM t",
                "which has FROM t LIMIT where this one has FROM t",
            ),
        ] {
            assert_eq!(difference(other, own), expected);
        }
    }
}
