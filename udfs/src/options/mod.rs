//! Options of a training: unchecked name-value pairs become checked [`TrainOptions`] before any
//! data is read.
//!
//! `entries` holds one entry for each option, from which everything about it is derived; `check`
//! converts given options to the struct and back to text; `rules` refuses combinations that
//! contradict each other.

use std::time::Duration;

use crate::algorithms::{Algorithm, OptionGroup};
use crate::learner::{Activation, Loss};
use crate::optimizer::Optimizer;

mod check;
mod choice;
mod components;
mod entries;
mod given;
mod kind;
mod nearest;
mod online;
mod rules;
mod schedule;
mod value;

pub use check::{OptionRow, option_table};
pub use choice::{Choice, Distance, Init, Parallel, Solver, Split, Statistics, Svd};
pub use components::Components;
pub use nearest::nearest;
pub use schedule::{ScheduleKind, ScheduleOption, Warmup};
pub use value::OptionValue;

/// Checked options of TRAIN, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// The algorithm that they were checked for.
    pub algorithm: Algorithm,
    /// The loss; None: the algorithm's own, which may depend on the number of classes.
    pub loss: Option<Loss>,
    /// Quantiles of [`Loss::Quantile`], ascending; empty of other losses.
    pub quantiles: Vec<f64>,
    /// Units of the hidden layers; none for a linear model.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// Probability that a hidden unit is left out of a step, `[0, 1)`.
    pub dropout: f32,
    /// Whether there is an intercept (of networks: a bias of the output layer).
    pub intercept: bool,
    /// Whether numbers are standardised.
    pub standardize: bool,
    /// The statistics by which features are standardised.
    pub statistics: Statistics,
    /// The solver; `Sgd` for an algorithm without solvers, and if an option was given that only
    /// mini-batch training can use.
    pub solver: Solver,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Learning rate, before the schedule.
    pub learning_rate: f64,
    /// Learning rate of intercepts; None: `learning_rate`.
    pub intercept_learning_rate: Option<f64>,
    /// How the learning rate changes.
    pub schedule: ScheduleOption,
    /// Strength of `|w|_1`; None: the algorithm's default (0).
    pub l1: Option<f64>,
    /// Strength of `|w|^2 / 2`; None: the algorithm's default (1 / rows for linear classifiers, 0
    /// for others).
    pub l2: Option<f64>,
    /// Norm that gradients are clipped to.
    pub clip_norm: Option<f64>,
    /// Share of a label that is spread over all classes.
    pub label_smoothing: f32,
    /// Number of clusters.
    pub k: usize,
    /// How the first centroids are chosen.
    pub init: Init,
    /// Distance of a row to a centroid.
    pub distance: Distance,
    /// Starts from other centroids, of which the best result is kept.
    pub restarts: u64,
    /// Weight of the past after each mini-batch of a stream, `[0, 1]`.
    pub decay: f64,
    /// Passes over the training rows.
    pub epochs: u64,
    /// Rows of a mini-batch.
    pub batch_size: usize,
    /// Principal components.
    pub components: Components,
    /// Whether components are divided by their standard deviation.
    pub whiten: bool,
    /// How components are found.
    pub svd: Svd,
    /// Weight of the rows of a class.
    pub class_weights: ClassWeights,
    /// Seed of every random choice.
    pub seed: u64,
    /// Copies trained side by side, or slices of `Parallel::Gradient`; None: the default.
    pub replicas: Option<usize>,
    /// How replicas work together.
    pub parallel: Parallel,
    /// Whether rows are shuffled.
    pub shuffle: bool,
    /// Rows of a round; None: the default.
    pub round_rows: Option<u64>,
    /// How evaluation rows are chosen.
    pub split: Split,
    /// The column of `Split::Column`.
    pub split_column: Option<String>,
    /// Fraction of evaluation rows, `(0, 1)`.
    pub split_fraction: f64,
    /// Whether training stops when the evaluation loss no longer falls (if there is one).
    pub early_stop: bool,
    /// Epochs without a better evaluation loss before it stops.
    pub patience: u64,
    /// Decrease of the evaluation loss that counts as better.
    pub min_delta: f64,
    /// Time after which training stops with its result so far.
    pub max_seconds: Option<f64>,
    /// Largest derivative of the objective at which solvers stop.
    pub tolerance: f64,
    /// Time between checkpoints; zero: after every round.
    pub checkpoint_every: Duration,
    /// Versions that are kept; None: all.
    pub keep_versions: Option<u64>,
    /// How often a stream's training publishes; None: the default.
    pub publish_every: Option<PublishEvery>,
    /// Names of the options that were given.
    pub(crate) given: Vec<&'static str>,
}

/// Weight of the rows of a class.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassWeights {
    /// 1 for every class.
    None,
    /// `rows / (classes * rows of the class)`, as scikit-learn's `balanced`.
    Balanced,
    /// By label, as text; 1 for a class that is not named.
    Map(Vec<(String, f64)>),
}

/// How often a stream's training publishes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PublishEvery {
    /// After every so many rows.
    Rows(u64),
    /// After so much time.
    Time(Duration),
}

impl TrainOptions {
    /// Whether the evaluation loss may end the training.
    pub(crate) fn may_stop_early(&self) -> bool {
        self.early_stop && self.split != Split::None
    }

    /// Whether the statement gave this option, so that it is not a default.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }
}
