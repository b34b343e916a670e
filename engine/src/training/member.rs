//! The training of one member: all rows, or one group of a partitioned model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::{ScalarValue, exec_datafusion_err};
use datafusion::error::DataFusionError;
use gradlake_udfs::encoder::Encoder;
use gradlake_udfs::learner::{Learner, Loss, Network};
use gradlake_udfs::model::{Labels, Model, NetworkSpec, Trained};
use gradlake_udfs::round::{Descent, Progress};
use gradlake_udfs::state::State;

use super::columns::TrainingColumns;
use super::descent::DescentPlan;
use super::plan::{Method, default_loss, layout, method};
use super::rounds::RoundRunner;
use super::saver::Saver;
use super::{exact, metrics};
use crate::event::{Event, EventSink};
use crate::options::{Split, TrainOptions};
use crate::request::TrainRequest;
use crate::session::Engine;
use crate::table::{EncodedTable, Encoding, RawTable, Side, SplitRule, Subset};

/// Rows below which `split = 'auto'` keeps every row for training.
const SPLIT_MIN_ROWS: u64 = 500;
/// Evaluation rows at most of `split = 'auto'`: more tell no more.
const SPLIT_MAX_ROWS: f64 = 10_000.0;

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
    /// Bytes of the encoded table in memory and spilled.
    pub encoded_bytes: (u64, u64),
}

/// One member's training.
pub struct MemberTraining<'a> {
    pub engine: &'a Engine,
    pub request: &'a TrainRequest,
    pub columns: &'a TrainingColumns,
    pub parent: Option<&'a Model>,
    pub runner: &'a RoundRunner,
    pub events: &'a EventSink,
    /// Values of the partition columns.
    pub key: &'a [ScalarValue],
    /// `carrier = UA`; empty without PARTITION BY.
    pub label: String,
    /// What its rounds are called.
    pub reference: String,
    /// Whether there is no other member, so that the raw rows are not needed afterwards.
    pub only: bool,
}

/// The rows of a member as its learner takes them.
struct Prepared {
    encoder: Encoder,
    labels: Labels,
    network: NetworkSpec,
    method: Method,
    train: Arc<EncodedTable>,
    eval: Option<Arc<EncodedTable>>,
    skipped: BTreeMap<String, u64>,
    parent: Option<Trained>,
}

impl MemberTraining<'_> {
    /// Trains on the rows of `subset`.
    pub async fn run(
        &self,
        raw: &mut RawTable,
        subset: Subset,
        saver: &mut Saver,
    ) -> Result<(Trained, Report), Failure> {
        let prepared = self.prepare(raw, &subset).await?;
        if self.only {
            raw.release();
        }
        let options = &self.request.options;
        let begun = Instant::now();
        let network = Arc::new(prepared.network.network(prepared.encoder.width()));
        let rows = prepared.train.rows();
        let eval_rows = prepared.eval.as_ref().map_or(0, |t| t.rows());
        let l2 = options.l2.unwrap_or_else(|| default_l2(prepared.network.loss, options, rows));
        let started = |epochs: u64, method: String| {
            (self.events)(Event::Started {
                model: self.request.name.clone(),
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
                started(exact::steps(prepared.method), description.clone());
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
                let plan = self.descent_plan(&prepared, &network, l2, loss_scale, options)?;
                rows_per_replica = shares(rows, plan.round_rows, plan.replicas);
                let description = describe(&plan);
                started(plan.epochs, description.clone());
                let start = self.start_state(&plan.descent, prepared.parent.as_ref());
                let progress = self.progress(saver, prepared.train.data_hash())?;
                let done = plan.run(self.runner, start, progress, saver, self.events).await?;
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

    /// Splits, fits and encodes the rows.
    async fn prepare(&self, raw: &RawTable, subset: &Subset) -> Result<Prepared, Failure> {
        let options = &self.request.options;
        let parent = match self.parent {
            Some(parent) => Some(self.parent_member(parent)?),
            None => None,
        };
        // The method decides on the split, and the width, which the split may narrow, on the
        // method: the width of all rows is taken, and the encoder fitted again where it matters.
        let classifier = self.request.algorithm.is_classifier();
        let standardize_target = options.standardize && !classifier;
        if subset.rows() == 0 {
            return Err(Failure::Untrainable(super::no_rows(subset.skipped())));
        }
        let mut mask = raw.split(subset, &SplitRule::None).await?;
        let mut fitted = raw.fit(subset, &mask, options.standardize, standardize_target).await?;
        let network = self.network_spec(&fitted.labels)?;
        let method = match &parent {
            Some(_) => Method::Descent,
            None => method(
                options,
                network.loss,
                fitted.encoder.width(),
                network.outputs,
                subset.rows(),
            ),
        };
        let rule = split_rule(options, method, subset.rows());
        if !matches!(rule, SplitRule::None) {
            mask = raw.split(subset, &rule).await?;
            fitted = raw.fit(subset, &mask, options.standardize, standardize_target).await?;
        }
        if mask.training_rows() == 0 {
            return Err(Failure::Untrainable(format!(
                "the split leaves none of {} rows for training",
                subset.rows()
            )));
        }
        let (encoder, labels) = match &parent {
            Some(parent) => (parent.encoder.clone(), parent.labels.clone()),
            None => (fitted.encoder.clone(), fitted.labels.clone()),
        };
        self.check_labels(&labels)?;
        let network = match &parent {
            Some(parent) if options.is_given("dropout") => {
                NetworkSpec { dropout: options.dropout, ..parent.network.clone() }
            }
            Some(parent) => parent.network.clone(),
            None => self.network_spec(&labels)?,
        };
        // Only the loss's own scale needs a raw target; see `NetworkSpec`.
        let labels = match labels {
            Labels::Numbers { .. } if network.loss == Loss::Poisson => {
                Labels::Numbers { mean: 0.0, stddev: 1.0 }
            }
            labels => labels,
        };
        let shuffle = (options.shuffle && method == Method::Descent).then_some(options.seed);
        if network.loss == Loss::Poisson && fitted.smallest_target < 0.0 {
            return Err(Failure::Untrainable(format!(
                "loss = 'poisson' needs a target of at least 0, but {} has {}",
                self.columns.target.0, fitted.smallest_target
            )));
        }
        let encode = |side: Side, shuffle: Option<u64>| {
            let encoding = Encoding {
                encoder: &encoder,
                labels: &labels,
                class_weights: &options.class_weights,
                fitted: &fitted,
                shuffle,
            };
            EncodedTable::encode(raw, subset, &mask, side, encoding)
        };
        let train = Arc::new(encode(Side::Training, shuffle).await?);
        if train.rows() == 0 {
            return Err(Failure::Untrainable("no row is left to train on".to_owned()));
        }
        let eval = match mask.evaluation_rows() {
            0 => None,
            _ => Some(encode(Side::Evaluation, None).await?).filter(|t| t.rows() > 0),
        };
        let mut skipped = subset.skipped().clone();
        for table in [Some(train.as_ref()), eval.as_ref()].into_iter().flatten() {
            for (cause, n) in table.skipped() {
                *skipped.entry(cause.clone()).or_default() += n;
            }
        }
        Ok(Prepared {
            encoder,
            labels,
            network,
            method,
            train,
            eval: eval.map(Arc::new),
            skipped,
            parent,
        })
    }

    /// The member of the model to continue that has the same key.
    fn parent_member(&self, parent: &Model) -> Result<Trained, Failure> {
        match parent.members.iter().find(|m| m.key == self.key) {
            Some(member) => match &member.outcome {
                Ok(trained) => Ok(trained.as_ref().clone()),
                Err(reason) => Err(Failure::Untrainable(format!(
                    "model {} has no model for {} to continue: {reason}",
                    parent.name, self.label
                ))),
            },
            None => Err(Failure::Untrainable(format!(
                "model {} has no model for {} to continue",
                parent.name, self.label
            ))),
        }
    }

    /// Refuses labels that nothing can be learned from.
    fn check_labels(&self, labels: &Labels) -> Result<(), Failure> {
        let target = &self.columns.target.0;
        match labels {
            Labels::Classes(classes) if classes.len() < 2 => {
                let only = classes.first().map_or("none".to_owned(), ToString::to_string);
                Err(Failure::Untrainable(format!(
                    "the target {target} has one class only, {only}; a classifier needs two"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The network for these labels.
    fn network_spec(&self, labels: &Labels) -> Result<NetworkSpec, Failure> {
        let options = &self.request.options;
        self.check_labels(labels)?;
        let classes = match labels {
            Labels::Classes(classes) => Some(classes.len()),
            Labels::Numbers { .. } => None,
        };
        let loss = match (options.loss, classes) {
            (Some(Loss::Logistic), Some(n)) if n > 2 => {
                return Err(Failure::Untrainable(format!(
                    "loss = 'logistic' is for two classes, but the target {} has {n}; use \
                     'softmax'",
                    self.columns.target.0
                )));
            }
            (Some(loss), _) => loss,
            (None, _) => default_loss(self.request.algorithm, classes.unwrap_or(0)),
        };
        let outputs = match (loss, classes) {
            (Loss::Softmax, Some(n)) => n,
            (Loss::Hinge | Loss::SquaredHinge, Some(n)) if n > 2 => n,
            _ => 1,
        };
        Ok(NetworkSpec {
            hidden: options.hidden.clone(),
            activation: options.activation,
            loss,
            outputs,
            intercept: options.intercept,
            dropout: options.dropout,
        })
    }

    fn descent_plan(
        &self,
        prepared: &Prepared,
        network: &Arc<Network>,
        l2: f64,
        loss_scale: f64,
        options: &TrainOptions,
    ) -> Result<DescentPlan, Failure> {
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
            runner: self.engine.shards()?,
            progress: Arc::new(Progress::default()),
            interrupt: Arc::clone(&self.engine.interrupt),
        };
        Ok(DescentPlan {
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
        })
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
    fn progress(
        &self,
        saver: &mut Saver,
        data_hash: u64,
    ) -> Result<super::checkpoint::MemberProgress, Failure> {
        let mut progress = saver.begin(&self.label).unwrap_or_default();
        if !progress.state.is_empty() && progress.data_hash != data_hash {
            return Err(Failure::Failed(exec_datafusion_err!(
                "the training of model {0} cannot be resumed, because its data has changed since \
                 the checkpoint; TRAIN OR REPLACE MODEL {0} with another seed or DROP MODEL {0} \
                 begins anew",
                self.request.name
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

/// The split that the options mean for a method and number of rows.
fn split_rule(options: &TrainOptions, method: Method, rows: u64) -> SplitRule {
    let fraction = options.split_fraction;
    match options.split {
        Split::None => SplitRule::None,
        Split::Random => SplitRule::Random { fraction, seed: options.seed },
        Split::Sequential => SplitRule::Sequential { fraction },
        Split::Column => SplitRule::Column,
        Split::Auto if method != Method::Descent || rows < SPLIT_MIN_ROWS => SplitRule::None,
        Split::Auto => SplitRule::Random {
            fraction: fraction.min(SPLIT_MAX_ROWS / rows as f64),
            seed: options.seed,
        },
    }
}

/// `adam, batch 128, 2 replicas, 10 rounds an epoch`.
fn describe(plan: &DescentPlan) -> String {
    let mut text = format!("{}, batch {}", plan.descent.optimizer.name(), plan.descent.batch_size);
    let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    text += &format!(", {}", plural(plan.replicas as u64, "replica"));
    if plan.descent.shards > 1 {
        text += &format!(", {}", plural(plan.descent.shards as u64, "shard"));
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
