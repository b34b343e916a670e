//! A model: encoder, learner and parameters, the result of training and the input of prediction.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;

use crate::algorithms::Algorithm;
use crate::description::{Description, Head};
use crate::encoder::Encoder;
use crate::learner::{Activation, Loss, Network};
use crate::optimizer::Optimizer;

/// The target column.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Name of the column.
    pub name: String,
    /// Type of the column, and of `predicted_<name>`.
    pub data_type: DataType,
}

/// `label = (y - mean) / stddev` of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelScale {
    /// Subtracted from the target.
    pub mean: f64,
    /// The target is divided by it.
    pub stddev: f64,
}

impl LabelScale {
    /// The scale of a target that is not standardised.
    pub const NONE: LabelScale = LabelScale { mean: 0.0, stddev: 1.0 };
}

/// The names of the `numbers` numbers of targets: `b`, or `v[2]` of a vector; one name for the
/// outputs of one target.
pub fn target_names<'a>(names: impl Iterator<Item = &'a str>, numbers: usize) -> Vec<String> {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [vector] if numbers > 1 => (1..=numbers).map(|i| format!("{vector}[{i}]")).collect(),
        names => names.iter().copied().map(str::to_owned).collect(),
    }
}

/// A figure that was measured when a model was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The target, where there are several.
    pub target: Option<String>,
    /// The name of the metric.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// The encoding of the labels of a trained group.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// There is no target.
    None,
    /// Numbers: one scale for each of the targets' numbers.
    Numbers(Vec<LabelScale>),
    /// Classes in ascending order, of the target's type; the label is the index.
    Classes(Vec<ScalarValue>),
}

impl Labels {
    /// Numbers in an encoded row.
    pub fn targets(&self) -> usize {
        match self {
            Labels::None => 0,
            Labels::Classes(_) => 1,
            Labels::Numbers(scales) => scales.len(),
        }
    }

    /// Number of classes; None of numbers, or without a target.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Labels::Classes(classes) => Some(classes.len()),
            Labels::Numbers(_) | Labels::None => None,
        }
    }
}

/// A named, versioned model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name in the store.
    pub name: String,
    /// Version in the store, from 1 (0 before it is published).
    pub version: u64,
    /// The algorithm that `USING` named.
    pub algorithm: Algorithm,
    /// Target columns; none of an algorithm that has no target.
    pub targets: Vec<Target>,
    /// Input columns in order, with their types: the columns that PREDICT needs (after TRANSFORM).
    pub inputs: Vec<(String, DataType)>,
    /// `TRANSFORM` as (output name, SQL expression), empty without the clause.
    pub transform: Vec<(String, String)>,
    /// `WEIGHT`: the column of row weights, which metrics also use.
    pub weight: Option<String>,
    /// Names (and types) of the `PARTITION BY` columns, empty without the clause.
    pub partition_by: Vec<(String, DataType)>,
    /// Options of the training as name -> value in SQL's spelling, every default written out.
    pub options: BTreeMap<String, String>,
    /// The normalised text of the TRAIN statement.
    pub statement: String,
    /// Name and version of the model that the training continued.
    pub parent: Option<(String, u64)>,
    /// Seed of the training.
    pub seed: u64,
    /// Number of training rows (all groups).
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
    /// The result of the training, or the reason why nothing could be learned.
    pub outcome: Result<Box<Trained>, String>,
}

impl Model {
    /// The target column; None of an algorithm that has no target.
    pub fn target(&self) -> Option<&Target> {
        self.targets.first()
    }
}

/// The result of training one group.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Fitted preprocessing.
    pub encoder: Encoder,
    /// The encoding of labels as numbers.
    pub labels: Labels,
    /// What the parameters mean.
    pub description: Arc<dyn Description>,
    /// Flat parameters in the layout of the description.
    pub parameters: Vec<f32>,
    /// The optimizer, or None for a solver.
    pub optimizer: Option<Optimizer>,
    /// Its moments, as [`Optimizer::moment_values`] counts them: buffers as long as the parameters,
    /// one after another, then totals.
    pub moments: Vec<f32>,
    /// Steps made.
    pub steps: u64,
    /// Number of training rows (without evaluation rows).
    pub rows: u64,
    /// Skipped rows by cause.
    pub skipped_rows: BTreeMap<String, u64>,
    /// One entry per epoch, or per step of a solver.
    pub history: Vec<HistoryEntry>,
    /// Final metrics on the evaluation split, or on the training rows without.
    pub metrics: Vec<Metric>,
    /// `evaluation` or `training`: which rows `metrics` were measured on.
    pub metrics_on: String,
    /// Mean loss of the training rows at the end, and of the evaluation rows if there are any.
    pub loss: f64,
    /// See `loss`.
    pub eval_loss: Option<f64>,
}

/// One line of the history of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Number from 1.
    pub epoch: u64,
    /// Mean loss of the rows, each before the step that learned it.
    pub loss: f64,
    /// Mean loss of the evaluation rows after the iteration.
    pub eval_loss: Option<f64>,
    /// Learning rate of its last step (NaN for solvers).
    pub learning_rate: f64,
    /// Rows learned from.
    pub rows: u64,
    /// Wall-clock time.
    pub duration_ms: u64,
}

/// The settings that determine a [`Network`], for the store.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkSpec {
    /// Units of the hidden layers; none for a linear model.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// The loss, which also determines the link from logits to probabilities.
    pub loss: Loss,
    /// Quantiles of [`Loss::Quantile`], ascending, one for each output; empty of other losses.
    pub quantiles: Vec<f64>,
    /// Number of raw outputs.
    pub outputs: usize,
    /// Whether the output layer has a bias.
    pub intercept: bool,
    /// Dropout probability after each hidden activation, in training.
    pub dropout: f32,
}

impl NetworkSpec {
    /// Its outputs.
    pub fn head(&self) -> Head<'_> {
        Head { loss: self.loss, quantiles: &self.quantiles, outputs: self.outputs }
    }

    /// The network for rows of this width.
    pub fn network(&self, width: crate::batch::Width) -> Network {
        Network::new(self, width)
    }
}
