//! Options of a training: unchecked name-value pairs become checked [`TrainOptions`] before any
//! data is read.
//!
//! `spec` is the table of all options, `defaults` what they are if not given, `read` turns one
//! value into a Rust type, `check` fills the struct, `rules` refuses what contradicts itself, and
//! `written` spells everything out again for the record of the model.

use std::time::Duration;

use gradlake_udfs::algorithm::Algorithm;
use gradlake_udfs::learner::{Activation, Loss};
use gradlake_udfs::optimizer::Optimizer;

mod check;
mod defaults;
mod nearest;
mod online;
mod read;
mod rules;
mod schedule;
mod spec;
mod value;
mod written;

pub use nearest::nearest;
pub use schedule::{ScheduleKind, ScheduleOption, Warmup};
pub use spec::{Row, table};
pub use value::OptionValue;

/// Checked options of TRAIN, every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// The algorithm that they were checked for.
    pub algorithm: Algorithm,
    /// The loss; None: the algorithm's own, which may depend on the number of classes.
    pub loss: Option<Loss>,
    /// Units of the hidden layers; none of a linear model.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// Probability that a hidden unit is left out of a step, `[0, 1)`.
    pub dropout: f32,
    /// Whether there is an intercept (of networks: a bias of the output layer).
    pub intercept: bool,
    /// Whether numbers are standardised.
    pub standardize: bool,
    /// How features are standardised.
    pub statistics: Statistics,
    /// How the minimum is found; `Sgd` of an algorithm without an exact solver, and where an
    /// option was given that only steps can honour.
    pub solver: Solver,
    /// How to step.
    pub optimizer: Optimizer,
    /// Size of a step, before the schedule.
    pub learning_rate: f64,
    /// Size of a step of intercepts; None: `learning_rate`.
    pub intercept_learning_rate: Option<f64>,
    /// How the learning rate changes.
    pub schedule: ScheduleOption,
    /// Strength of `|w|_1`; None: the algorithm's default (0).
    pub l1: Option<f64>,
    /// Strength of `|w|^2 / 2`; None: the algorithm's default (1 / rows where the loss is of
    /// classes and the model linear, 0 elsewhere).
    pub l2: Option<f64>,
    /// Passes over the training rows.
    pub epochs: u64,
    /// Rows of a mini-batch.
    pub batch_size: usize,
    /// Weight of the rows of a class.
    pub class_weights: ClassWeights,
    /// Start of every random choice.
    pub seed: u64,
    /// Copies trained side by side, or shards of `Parallel::Gradient`; None: the default.
    pub replicas: Option<usize>,
    /// How replicas work together; None: the default.
    pub parallel: Option<Parallel>,
    /// Whether rows are taken in random order.
    pub shuffle: bool,
    /// Rows of a round; None: the default.
    pub round_rows: Option<u64>,
    /// How evaluation rows are chosen.
    pub split: Split,
    /// The column of `Split::Column`.
    pub split_column: Option<String>,
    /// Share of evaluation rows, `(0, 1)`.
    pub split_fraction: f64,
    /// Whether training stops when the evaluation loss no longer falls (if there is one).
    pub early_stop: bool,
    /// Epochs without a better evaluation loss before it stops.
    pub patience: u64,
    /// Fall of the evaluation loss that counts as better.
    pub min_delta: f64,
    /// Time after which training stops with what it has.
    pub max_seconds: Option<f64>,
    /// Change at which Newton steps end.
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

/// How the minimum is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// Exact where the width allows, by steps elsewhere.
    Auto,
    /// The normal equations of linear regression.
    Normal,
    /// Newton steps of logistic regression.
    Newton,
    /// Steps over mini-batches.
    Sgd,
}

/// How replicas work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallel {
    /// Each trains on its share of a round, then they are averaged.
    Replicas,
    /// Each mini-batch in fixed shards, whose gradients are summed in order.
    Gradient,
}

/// How evaluation rows are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// `Random` for steps, `None` for exact solvers.
    Auto,
    /// By a stable hash of the row.
    Random,
    /// The last rows.
    Sequential,
    /// Where the split column is true.
    Column,
    /// No evaluation rows.
    None,
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

/// How features are standardised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// By the training rows, before the first step.
    Fixed,
    /// By the rows so far, as they come.
    Running,
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
    /// Whether the statement gave this option, and it is no default.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }
}
