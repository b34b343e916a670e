//! The model of an online training.
//!
//! ```text
//!   columns ──► prepare ──► learn: statistics, encode, score (progressive validation), step
//!                                          └──► snapshot: a model as it is now
//! ```
//! A network grows with new categories and classes; an algorithm without a target grows with new
//! categories and follows the scale of the features.

mod features;
mod network;
mod unsupervised;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result, ScalarValue};
use gradlake_udfs::{Description, Encoder, Labels, Loss, RunningState};
use serde::{Deserialize, Serialize};

use super::progressive::{Progressive, ProgressiveState};
use super::target::TargetState;

pub use features::{FeatureRows, Features};
pub use network::{MakeDescent, NetworkLearner};
pub use unsupervised::UnsupervisedLearner;

/// The model of an online training.
pub trait OnlineLearner: Debug + Send + Sync {
    /// Reads the features of `rows` rows (flattened columns).
    ///
    /// # Errors
    /// When a column has another form than its type says.
    fn prepare(&mut self, columns: &[ArrayRef], rows: usize, out: &mut FeatureRows) -> Result<()>;

    /// Scores a mini-batch, then makes a step on it.
    ///
    /// # Errors
    /// When values are too large for their statistics, or a weight is out of range.
    fn learn(
        &mut self,
        rows: &mut FeatureRows,
        range: Range<usize>,
        targets: Targets<'_>,
        weight: &[f32],
    ) -> Result<()>;

    /// The current model, with categories and classes in the order in which a model stores them.
    ///
    /// # Errors
    /// When a scale is not finite.
    fn snapshot(&self) -> Result<Snapshot>;

    /// Whether enough has been learned for [`Self::snapshot`].
    fn is_ready(&self) -> bool;

    /// Returns what a checkpoint keeps, with the bytes of the state.
    ///
    /// # Errors
    /// Never in practice.
    fn save(&self) -> Result<(LearnerState, Vec<u8>)>;

    /// Resumes from a checkpoint.
    ///
    /// # Errors
    /// When it does not fit these columns.
    fn resume(
        &mut self,
        saved: &LearnerState,
        state: &[u8],
        classes: Vec<ScalarValue>,
    ) -> Result<()>;

    /// Progressive validation so far.
    fn progressive(&self) -> &Progressive;

    /// Rows learned from and steps made.
    fn counts(&self) -> (u64, u64);

    /// Whether every parameter is finite.
    fn is_finite(&self) -> bool;

    /// The loss of a network.
    fn loss(&self) -> Option<Loss>;

    /// The classes by their index; empty without classes.
    fn classes(&self) -> &[ScalarValue] {
        &[]
    }

    /// Gives the first classes their index.
    fn name_classes(&mut self, _classes: Vec<ScalarValue>) {}

    /// Adds a class.
    fn add_class(&mut self, _class: ScalarValue) {}
}

/// The targets of some rows.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// There are none.
    None,
    /// Indices of classes.
    Classes(&'a [f32]),
    /// Numbers in their own unit.
    Numbers(&'a [f64]),
}

/// What a checkpoint keeps of an [`OnlineLearner`] besides the bytes of its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnerState {
    /// Running statistics; None if the encoder is that of a continued model.
    pub running: Option<RunningState>,
    /// Categories that there are weights for.
    #[serde(rename = "room")]
    pub capacity: usize,
    /// Raw outputs.
    pub outputs: usize,
    /// Progressive validation.
    pub progressive: ProgressiveState,
    /// Statistics of the target; None if the target is not standardised, or if the training began
    /// with a program version that had no such statistics.
    #[serde(default)]
    pub target: Option<TargetState>,
    /// Rows learned from and steps made, of what is no network.
    #[serde(default)]
    pub counts: (u64, u64),
}

/// The parts of a model: see `Trained`.
#[derive(Debug)]
pub struct Snapshot {
    pub encoder: Encoder,
    pub labels: Labels,
    pub description: Arc<dyn Description>,
    pub parameters: Vec<f32>,
    pub moments: Vec<f32>,
    pub steps: u64,
}
