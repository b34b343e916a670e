//! The training of one member: all rows, or one group of a partitioned model.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use gradlake_udfs::{
    Description, Fitted, Interrupt, Iterations, Method, Model, ParallelFor, Setup, Trained,
};

use super::columns::TrainingColumns;
use super::driver::Driver;
use super::metrics;
use super::prepare::{Prepared, untrainable};
use super::rounds::RoundRunner;
use super::saver::{Saver, position};
use crate::event::{Event, EventSink};
use crate::options::TrainOptions;
use crate::request::TrainRequest;
use crate::table::Resources;

/// Why a member has no model.
#[derive(Debug)]
pub enum Failure {
    /// Its rows do not allow one: recorded in a partitioned model, an error otherwise.
    Untrainable(String),
    /// Any other error.
    Failed(DataFusionError),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Failure::Failed(error)
    }
}

/// What EXPLAIN ANALYZE reports about a member.
#[derive(Clone, Debug)]
pub struct Report {
    /// `carrier = UA`; empty without PARTITION BY.
    pub label: String,
    /// How it was trained, in words.
    pub method: String,
    /// Training rows.
    pub rows: u64,
    /// Evaluation rows.
    pub eval_rows: u64,
    /// Rows that each replica took in an epoch.
    pub rows_per_replica: Vec<u64>,
    /// Epochs or steps.
    pub epochs: u64,
    /// Whether `epochs` counts epochs or steps.
    pub iterations: Iterations,
    /// Bytes of the encoded table in memory and spilled.
    pub encoded_bytes: (u64, u64),
}

/// What the members of a training share.
pub struct Shared {
    pub interrupt: Arc<Interrupt>,
    pub pool: Arc<dyn ParallelFor>,
    pub resources: Resources,
    pub request: TrainRequest,
    pub columns: TrainingColumns,
    pub parent: Option<Model>,
    pub runner: RoundRunner,
    pub saver: Saver,
    /// Prefix of the references of all rounds.
    pub reference: String,
}

/// One member's training.
pub struct MemberTraining<'a> {
    pub shared: &'a Shared,
    pub events: EventSink,
    /// Values of the partition columns.
    pub key: &'a [ScalarValue],
    /// `carrier = UA`; empty without PARTITION BY.
    pub label: String,
    /// Prefix of the references of its rounds.
    pub reference: String,
}

impl MemberTraining<'_> {
    /// Trains on prepared rows, if they could be prepared.
    pub async fn train(
        &self,
        prepared: Result<Prepared, Failure>,
    ) -> Result<(Trained, Report), Failure> {
        let prepared = prepared?;
        let options = &self.shared.request.options;
        let begun = Instant::now();
        let rows = prepared.train.rows();
        let eval_rows = prepared.eval.as_ref().map_or(0, |t| t.rows());
        let setup = Setup {
            options,
            plan: &prepared.plan,
            description: &prepared.description,
            encoder: &prepared.encoder,
            labels: &prepared.labels,
            rows,
            has_evaluation: prepared.eval.is_some(),
            parent: prepared.parent.as_ref(),
            threads: Arc::clone(&self.shared.pool),
            interrupt: Arc::clone(&self.shared.interrupt),
        };
        let mut estimator = setup.make().map_err(untrainable)?;
        let (method, rows_per_replica) = (setup.describe(), setup.rows_per_replica());
        let iterations = estimator.iterations();
        (self.events)(Event::Started {
            model: self.shared.request.name.clone(),
            member: self.label.clone(),
            rows,
            eval_rows,
            epochs: match iterations {
                Iterations::Epochs(epochs) => epochs,
                Iterations::Steps => 0,
            },
            method: method.clone(),
        });
        let saver = self.shared.saver.of(&self.label, prepared.train.data_hash());
        saver.resume(estimator.as_mut())?;
        if saver.is_resumed() && self.label.is_empty() {
            (self.events)(Event::Resumed { from: position(estimator.as_ref()) });
        }
        let driver = Driver {
            train: Arc::clone(&prepared.train),
            eval: prepared.eval.clone(),
            seed: options.seed,
            shuffle: options.shuffle,
            runner: &self.shared.runner,
            reference: self.reference.clone(),
            saver,
            events: Arc::clone(&self.events),
            reservation: self.shared.resources.reservation("estimator"),
        };
        let mut fitted = driver.run(estimator).await.map_err(untrainable)?;
        if let Some(warning) = fitted.warning.take() {
            (self.events)(Event::Warning(warning));
        }
        let (on, table) = match &prepared.eval {
            Some(eval) => ("evaluation", eval),
            None => ("training", &prepared.train),
        };
        let description = fitted.description.take().unwrap_or(Arc::clone(&prepared.description));
        let report = Report {
            label: self.label.clone(),
            method,
            rows,
            eval_rows,
            rows_per_replica,
            epochs: fitted.history.len() as u64,
            iterations,
            encoded_bytes: (prepared.train.memory_bytes(), prepared.train.spilled_bytes()),
        };
        log::debug!("member {} took {:?}", self.label, begun.elapsed());
        let table = Arc::clone(table);
        let trained = Outcome { description, fitted, metrics_on: on }.trained(prepared, options);
        let targets = &self.shared.columns.roles.targets;
        Ok((metrics::measure(trained, targets, &table).await?, report))
    }
}

/// What a training found for prepared rows.
struct Outcome {
    description: Arc<dyn Description>,
    fitted: Fitted,
    metrics_on: &'static str,
}

impl Outcome {
    /// The trained member.
    fn trained(self, prepared: Prepared, options: &TrainOptions) -> Trained {
        let Self { description, fitted, metrics_on } = self;
        Trained {
            rows: prepared.train.rows(),
            encoder: prepared.encoder,
            labels: prepared.labels,
            description,
            parameters: fitted.parameters,
            optimizer: (prepared.plan.method == Method::Descent).then_some(options.optimizer),
            moments: fitted.moments,
            steps: fitted.steps,
            skipped_rows: prepared.skipped,
            history: fitted.history,
            metrics: vec![],
            metrics_on: metrics_on.to_owned(),
            loss: fitted.loss,
            eval_loss: fitted.eval_loss,
        }
    }
}
