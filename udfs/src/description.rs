//! What a trained member learned: the meaning of its parameters, how they predict and how well.
//!
//! An algorithm describes its result in three parts, none of which knows the engine or the store:
//! a [`Description`] gives tensors their names and is stored with them, a [`Predictor`] computes
//! the parts of a prediction from encoded rows, and a [`Measure`] sums what EVALUATE shows of
//! models without a target.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Fields};
use datafusion_common::{Result, plan_err};

use crate::batch::{MiniBatch, Width};
use crate::learner::{Layout, Learner, Loss, ScoringScratch};
use crate::model::{NetworkSpec, Target, Trained};
use crate::network::NetworkDescription;
use crate::options::TrainOptions;

/// The raw outputs of what learns a target by a loss.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// What is minimised.
    pub loss: Loss,
    /// Quantiles of [`Loss::Quantile`], ascending, one for each output; empty of other losses.
    pub quantiles: &'a [f64],
    /// Number of raw outputs.
    pub outputs: usize,
}

impl Head<'_> {
    /// The output whose quantile is nearest to 0.5, which is the prediction of the target; None
    /// without quantiles.
    pub fn central_output(&self) -> Option<usize> {
        let distance = |output: &usize| (self.quantiles[*output] - 0.5).abs();
        (0..self.quantiles.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

/// The description of what an algorithm learned, beside the values of its tensors.
pub trait Description: Debug + Send + Sync {
    /// The network of dense layers, of algorithms that train one.
    fn network(&self) -> Option<&NetworkSpec> {
        None
    }

    /// The network of any layers, of algorithms that train one.
    fn layers(&self) -> Option<&NetworkDescription> {
        None
    }

    /// What learns by mini-batch descent, for encoded rows of this width.
    ///
    /// # Errors
    /// When it does not fit the width.
    fn learner(&self, _width: Width) -> Result<Option<Arc<dyn Learner>>> {
        Ok(None)
    }

    /// The outputs, of what learns a target by a loss.
    fn head(&self) -> Option<Head<'_>> {
        None
    }

    /// The description as JSON, for the store. (Networks are stored in columns of their own.)
    fn to_json(&self) -> String;

    /// The tensors of the flat parameters, for encoded rows of this width.
    fn layout(&self, width: Width) -> Layout;

    /// Numbers that EXPLAIN shows as the outputs of a row.
    fn outputs(&self) -> usize;

    /// The parts of a prediction.
    fn fields(&self, targets: &[Target]) -> Vec<Field>;

    /// A member that has this description, ready to predict.
    ///
    /// # Errors
    /// When its parts do not fit together.
    fn predictor(&self, trained: &Trained) -> Result<Box<dyn Predictor>>;

    /// Sums over rows for [`Self::metrics`] at these parameters; None where metrics compare
    /// predictions with a target.
    ///
    /// # Errors
    /// When the parameters do not fit the width.
    fn measure(&self, _parameters: &[f32], _width: Width) -> Result<Option<Box<dyn Measure>>> {
        Ok(None)
    }

    /// A readable table of a member: one of [`crate::AlgorithmSpec::tables`], the same columns for
    /// every member.
    ///
    /// # Errors
    /// When the description has no such table.
    fn table(&self, _trained: &Trained, name: &str) -> Result<RecordBatch> {
        plan_err!("there is no table {name}")
    }

    /// Refuses options that would change what CONTINUE keeps of `model`, which has this
    /// description.
    ///
    /// # Errors
    /// When there is one; the error names it.
    fn check_continued(&self, model: &str, options: &TrainOptions) -> Result<()>;
}

/// A trained member, ready to predict encoded rows.
pub trait Predictor: Debug + Send + Sync {
    /// Raw numbers of a row.
    fn outputs(&self) -> usize;

    /// Working memory for up to `rows` rows at a time.
    fn scratch(&self, rows: usize) -> ScoringScratch;

    /// Writes the raw numbers `[rows, outputs]` of rows whose target and weight may be empty. Those
    /// of a row do not depend on the other rows.
    fn scores(&self, rows: &MiniBatch<'_>, scratch: &mut ScoringScratch, out: &mut [f32]);

    /// The parts of the predictions, one array for each of `fields`, from the raw numbers of all
    /// rows. `threshold` is the probability above which the larger of two classes is predicted;
    /// `spare` is memory to use again.
    ///
    /// # Errors
    /// When a part cannot have the type of its field.
    fn parts(
        &self,
        scores: &[f32],
        fields: &Fields,
        threshold: f64,
        spare: &mut Vec<f64>,
    ) -> Result<Vec<ArrayRef>>;
}

/// Sums over encoded rows from which metrics follow. Merging takes them in the order of the rows.
pub trait Measure: Debug + Send + Sync {
    /// Adds rows.
    ///
    /// # Errors
    /// When they are of another shape.
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()>;

    /// The sums as bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// Adds the sums that another measure of the same model has over other rows.
    ///
    /// # Errors
    /// When the bytes are no such sums.
    fn merge(&mut self, bytes: &[u8]) -> Result<()>;

    /// The metrics by name, in the order of [`crate::AlgorithmSpec::metrics`]; None where the rows
    /// do not define one.
    fn metrics(&self) -> Vec<(&'static str, Option<f64>)>;

    /// The sum of weights of the rows.
    fn weight(&self) -> f64;
}
