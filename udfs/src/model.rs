//! A model: encoder, learner and parameters, as training leaves it and prediction takes it.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;

use crate::algorithms::Algorithm;
use crate::encoder::Encoder;
use crate::learner::{Activation, Loss, Network};
use crate::optimizer::Optimizer;

/// The target column and how labels became numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Name of the column.
    pub name: String,
    /// Type of the column, and of `predicted_<name>`.
    pub data_type: DataType,
}

/// What a trained group knows of its labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Numbers: `label = (y - mean) / stddev` (0 and 1 where the target is not standardised).
    Numbers {
        /// Subtracted from the target.
        mean: f64,
        /// The target is divided by it.
        stddev: f64,
    },
    /// Classes in ascending order, of the target's type; the label is the index.
    Classes(Vec<ScalarValue>),
}

/// One named, versioned artefact.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name in the store.
    pub name: String,
    /// Version in the store, from 1 (0 before it is published).
    pub version: u64,
    /// What `USING` named.
    pub algorithm: Algorithm,
    /// Target column.
    pub target: Target,
    /// Input columns in order, with their types: what PREDICT needs (after TRANSFORM).
    pub inputs: Vec<(String, DataType)>,
    /// `TRANSFORM` as (output name, SQL expression), empty without the clause.
    pub transform: Vec<(String, String)>,
    /// `WEIGHT`: the column of row weights, honoured by metrics too.
    pub weight: Option<String>,
    /// Names (and types) of the `PARTITION BY` columns, empty without the clause.
    pub partition_by: Vec<(String, DataType)>,
    /// Options of the training as name -> value in SQL's spelling, every default written out.
    pub options: BTreeMap<String, String>,
    /// The normalised text of the TRAIN statement.
    pub statement: String,
    /// Name and version of the model it was continued from.
    pub parent: Option<(String, u64)>,
    /// Seed of the training.
    pub seed: u64,
    /// Training rows taken (all groups).
    pub rows: u64,
    /// Skipped rows by cause (all groups).
    pub skipped_rows: BTreeMap<String, u64>,
    /// Milliseconds since the epoch at the beginning and the end of the training.
    pub started_ms: i64,
    /// See `started_ms`.
    pub finished_ms: i64,
    /// One member without PARTITION BY; one per group with it, in ascending order of its key.
    pub members: Vec<Member>,
}

/// The model of one group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Values of the partition columns; empty without PARTITION BY.
    pub key: Vec<ScalarValue>,
    /// What was learned, or why nothing could be.
    pub outcome: Result<Box<Trained>, String>,
}

/// What training one group left.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Frozen preprocessing.
    pub encoder: Encoder,
    /// How labels became numbers.
    pub labels: Labels,
    /// The shape of the learner; see [`NetworkSpec::network`].
    pub network: NetworkSpec,
    /// Flat parameters in the learner's layout.
    pub parameters: Vec<f32>,
    /// The optimizer, or None of an exact solver.
    pub optimizer: Option<Optimizer>,
    /// Its moments, `optimizer.moments()` buffers of the parameters' length one after another.
    pub moments: Vec<f32>,
    /// Steps made.
    pub steps: u64,
    /// Rows taken for training (without evaluation rows).
    pub rows: u64,
    /// Skipped rows by cause.
    pub skipped_rows: BTreeMap<String, u64>,
    /// One entry per epoch (or Newton step).
    pub history: Vec<HistoryEntry>,
    /// Final metrics (name -> value) on the evaluation split, or on the training rows without.
    pub metrics: Vec<(String, f64)>,
    /// `evaluation` or `training`: which rows `metrics` were measured on.
    pub metrics_on: String,
    /// Mean loss of the training rows at the end, and of the evaluation rows if there are any.
    pub loss: f64,
    /// See `loss`.
    pub eval_loss: Option<f64>,
}

/// One line of the record of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Number from 1.
    pub epoch: u64,
    /// Mean loss of the rows as they were learned from.
    pub loss: f64,
    /// Mean loss of the evaluation rows after it.
    pub eval_loss: Option<f64>,
    /// Learning rate of its last step (NaN of exact solvers).
    pub learning_rate: f64,
    /// Rows learned from.
    pub rows: u64,
    /// Wall-clock time.
    pub duration_ms: u64,
}

/// All that determines a [`Network`], for the store.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkSpec {
    /// Units of the hidden layers; none for a linear model.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// Loss, which decides on the link from logits to probabilities.
    pub loss: Loss,
    /// Number of raw outputs.
    pub outputs: usize,
    /// Whether the output layer has a bias.
    pub intercept: bool,
    /// Dropout probability after each hidden activation, in training.
    pub dropout: f32,
}

impl NetworkSpec {
    /// The network for rows of this width.
    pub fn network(&self, width: crate::batch::Width) -> Network {
        Network::new(self, width)
    }
}
