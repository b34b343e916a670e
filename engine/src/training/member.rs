//! The training of one member: all rows, or one group of a partitioned model.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::{ScalarValue, exec_datafusion_err};
use datafusion::error::DataFusionError;
use gradlake_udfs::learner::{Learner, Loss, Network};
use gradlake_udfs::model::{Labels, Model, Trained};
use gradlake_udfs::round::{Descent, Interrupt, Progress};
use gradlake_udfs::shards::Shards;
use gradlake_udfs::state::State;

use super::columns::TrainingColumns;
use super::descent::DescentPlan;
use super::plan::{Method, layout};
use super::prepare::Prepared;
use super::rounds::RoundRunner;
use super::saver::Saver;
use super::{exact, metrics};
use crate::event::{Event, EventSink};
use crate::options::TrainOptions;
use crate::request::TrainRequest;

/// Why a member has no model.
#[derive(Debug)]
pub enum Failure {
    /// Its rows do not allow one: recorded in a partitioned model, an error otherwise.
    Untrainable(String),
    /// Something broke.
    Failed(DataFusionError),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Failure::Failed(error)
    }
}

/// What EXPLAIN ANALYZE tells of a member.
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
    /// Whether they are steps of a solver.
    pub is_exact: bool,
    /// Bytes of the encoded table in memory and spilled.
    pub encoded_bytes: (u64, u64),
}

/// What the members of a training share.
pub struct Shared {
    pub interrupt: Arc<Interrupt>,
    pub shards: Arc<dyn Shards>,
    pub request: TrainRequest,
    pub columns: TrainingColumns,
    pub parent: Option<Model>,
    pub runner: RoundRunner,
    pub saver: Saver,
    /// What the rounds of all are called.
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
    /// What its rounds are called.
    pub reference: String,
}

impl MemberTraining<'_> {
    /// Trains on rows that are prepared.
    pub async fn train(&self, prepared: Prepared) -> Result<(Trained, Report), Failure> {
        let options = &self.shared.request.options;
        let begun = Instant::now();
        let network = Arc::new(prepared.network.network(prepared.encoder.width()));
        let rows = prepared.train.rows();
        let eval_rows = prepared.eval.as_ref().map_or(0, |t| t.rows());
        let l2 = options.l2.unwrap_or_else(|| default_l2(prepared.network.loss, options, rows));
        let started = |epochs: u64, method: String| {
            (self.events)(Event::Started {
                model: self.shared.request.name.clone(),
                member: self.label.clone(),
                rows,
                eval_rows,
                epochs,
                method,
            });
        };
        let loss_scale = loss_scale(prepared.network.loss, &prepared.labels);
        let mut rows_per_replica = vec![rows];
        let (state, history, loss, eval_loss, description) = match prepared.method {
            Method::Normal | Method::Newton => {
                let description = prepared.method.name().to_owned();
                started(0, description.clone());
                let solved = exact::solve(
                    self,
                    prepared.method,
                    &prepared.train,
                    prepared.eval.as_ref(),
                    &network,
                    l2,
                    loss_scale,
                )
                .await?;
                if let Some(warning) = solved.warning {
                    (self.events)(Event::Warning(warning));
                }
                (solved.state, solved.history, solved.loss, solved.eval_loss, description)
            }
            Method::Descent => {
                let plan = self.descent_plan(&prepared, &network, l2, loss_scale, options);
                rows_per_replica = shares(rows, plan.round_rows, plan.replicas);
                let description = describe(&plan);
                started(plan.epochs, description.clone());
                let start = self.start_state(&plan.descent, prepared.parent.as_ref());
                let progress = self.progress(prepared.train.data_hash()).await?;
                let saver = self.shared.saver.of(&self.label);
                let runner = &self.shared.runner;
                let done = plan.run(runner, start, progress, &saver, &self.events).await?;
                if let Some(warning) = done.warning {
                    (self.events)(Event::Warning(warning));
                }
                let best = done.history.iter().find(|h| h.epoch == done.best_epoch);
                let best = best.or(done.history.last());
                let (loss, eval_loss) = best.map_or((f64::NAN, None), |h| (h.loss, h.eval_loss));
                (done.state, done.history, loss, eval_loss, description)
            }
        };
        let (on, table) = match &prepared.eval {
            Some(eval) => ("evaluation", eval),
            None => ("training", &prepared.train),
        };
        let metrics =
            metrics::measure(&network, &prepared.network, &prepared.labels, &state, table).await?;
        let report = Report {
            label: self.label.clone(),
            method: description,
            rows,
            eval_rows,
            rows_per_replica,
            epochs: history.len() as u64,
            is_exact: prepared.method != Method::Descent,
            encoded_bytes: (prepared.train.memory_bytes(), prepared.train.spilled_bytes()),
        };
        log::debug!("member {} took {:?}", self.label, begun.elapsed());
        let optimizer = (prepared.method == Method::Descent).then_some(options.optimizer);
        let trained = Trained {
            encoder: prepared.encoder,
            labels: prepared.labels,
            network: prepared.network,
            parameters: state.parameters,
            optimizer,
            moments: if optimizer.is_some() { state.moments } else { vec![] },
            steps: state.steps,
            rows,
            skipped_rows: prepared.skipped,
            history,
            metrics,
            metrics_on: on.to_owned(),
            loss,
            eval_loss,
        };
        Ok((trained, report))
    }

    fn descent_plan(
        &self,
        prepared: &Prepared,
        network: &Arc<Network>,
        l2: f64,
        loss_scale: f64,
        options: &TrainOptions,
    ) -> DescentPlan {
        let rows = prepared.train.rows();
        let layout = layout(options, network.flops_per_row(), rows);
        let rows_per_step = (options.batch_size * layout.replicas) as u64;
        let steps_per_epoch = rows.div_ceil(rows_per_step).max(1);
        let descent = Descent {
            learner: Arc::<Network>::clone(network),
            optimizer: options.optimizer,
            schedule: options.schedule.resolve(steps_per_epoch, options.epochs),
            first_step: prepared.parent.as_ref().map_or(0, |p| p.steps),
            learning_rate: options.learning_rate as f32,
            intercept_learning_rate: options
                .intercept_learning_rate
                .unwrap_or(options.learning_rate) as f32,
            l1: options.l1.unwrap_or(0.0) as f32,
            l2: l2 as f32,
            seed: options.seed,
            batch_size: options.batch_size,
            shards: layout.shards,
            runner: Arc::clone(&self.shared.shards),
            first_categories: prepared.encoder.first_categories(),
            progress: Arc::new(Progress::default()),
            interrupt: Arc::clone(&self.shared.interrupt),
        };
        DescentPlan {
            descent: Arc::new(descent),
            train: Arc::clone(&prepared.train),
            eval: prepared.eval.clone(),
            epochs: options.epochs,
            replicas: layout.replicas,
            round_rows: layout.round_rows,
            shuffle: options.shuffle,
            patience: options.early_stop.then_some(options.patience),
            min_delta: options.min_delta,
            reference: self.reference.clone(),
            loss_scale,
        }
    }

    /// Initial parameters, or those of the model to continue, with its moments where the
    /// optimizer is the same.
    fn start_state(&self, descent: &Descent, parent: Option<&Trained>) -> State {
        let Some(parent) = parent else { return descent.initial_state() };
        let mut state = descent.state_from(parent.parameters.clone());
        if parent.optimizer == Some(descent.optimizer) {
            state.moments.clone_from(&parent.moments);
        }
        state.steps = parent.steps;
        state
    }

    /// The member's progress in a checkpoint, if it is of the same data.
    async fn progress(&self, data_hash: u64) -> Result<super::checkpoint::MemberProgress, Failure> {
        let mut progress = self.shared.saver.of(&self.label).progress().await.unwrap_or_default();
        if !progress.state.is_empty() && progress.data_hash != data_hash {
            return Err(Failure::Failed(exec_datafusion_err!(
                "the training of model {0} cannot be resumed, because its data has changed since \
                 the checkpoint; TRAIN OR REPLACE MODEL {0} with another seed or DROP MODEL {0} \
                 begins anew",
                self.shared.request.name
            )));
        }
        progress.data_hash = data_hash;
        Ok(progress)
    }
}

/// L2 where the options give none: scikit-learn's `C = 1` of the linear classifiers, which is
/// `1 / rows` of the mean loss; 0 elsewhere.
fn default_l2(loss: Loss, options: &TrainOptions, rows: u64) -> f64 {
    let linear = options.hidden.is_empty();
    match loss {
        Loss::Logistic | Loss::Softmax | Loss::Hinge | Loss::SquaredHinge if linear => {
            1.0 / rows.max(1) as f64
        }
        _ => 0.0,
    }
}

/// From the loss of a standardised target to the target's own units.
fn loss_scale(loss: Loss, labels: &Labels) -> f64 {
    match (loss, labels) {
        (Loss::Squared | Loss::Huber, Labels::Numbers { stddev, .. }) => stddev * stddev,
        (Loss::Absolute, Labels::Numbers { stddev, .. }) => *stddev,
        _ => 1.0,
    }
}

/// `adam, batch 128, 2 replicas, 4 rounds an epoch`.
fn describe(plan: &DescentPlan) -> String {
    let mut text = format!("{}, batch {}", plan.descent.optimizer.name(), plan.descent.batch_size);
    let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    text += &format!(", {}", plural(plan.replicas as u64, "replica"));
    let shards = plan.descent.effective_shards();
    if shards > 1 {
        text += &format!(", {}", plural(shards as u64, "shard"));
    }
    let rounds = plan.train.rows().div_ceil(plan.round_rows).max(1);
    text + &format!(", {} an epoch", plural(rounds, "round"))
}

/// Rows that each replica takes in an epoch, as the rounds cut them.
fn shares(rows: u64, round_rows: u64, replicas: usize) -> Vec<u64> {
    let mut shares = vec![0; replicas];
    let mut start = 0;
    while start < rows {
        let round = round_rows.min(rows - start);
        for (i, share) in shares.iter_mut().enumerate() {
            let cut = |i: usize| round * i as u64 / replicas as u64;
            *share += cut(i + 1) - cut(i);
        }
        start += round;
    }
    shares
}
