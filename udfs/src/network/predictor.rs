//! The prediction of a network of any layers.

use arrow::array::ArrayRef;
use arrow::datatypes::Fields;
use datafusion_common::Result;

use super::executor::Executor;
use super::learner::LayeredNetwork;
use crate::batch::MiniBatch;
use crate::description::{Head, Predictor};
use crate::learner::{Learner, ScoringScratch};
use crate::model::Trained;
use crate::parallel::Sequential;
use crate::scorer::OutputParts;

/// Rows that are scored at a time, so that what layers give stays in the cache.
const ROWS: usize = 32;

/// A trained network of any layers, ready to predict.
#[derive(Debug)]
pub struct LayersPredictor {
    network: LayeredNetwork,
    parameters: Vec<f32>,
    parts: OutputParts,
}

impl LayersPredictor {
    /// For a member with this network.
    ///
    /// # Errors
    /// When classes are of different types.
    pub fn new(network: LayeredNetwork, head: Head<'_>, trained: &Trained) -> Result<Self> {
        let parts = OutputParts::new(head, &trained.labels)?;
        Ok(Self { network, parameters: trained.parameters.clone(), parts })
    }
}

impl Predictor for LayersPredictor {
    fn outputs(&self) -> usize {
        self.network.outputs()
    }

    fn scratch(&self, rows: usize) -> ScoringScratch {
        let mut scratch = ScoringScratch::default();
        if let Ok(executor) = self.network.scorer(ROWS.min(rows)) {
            scratch.scratch.own = Some(Box::new(executor));
        }
        scratch
    }

    fn scores(&self, rows: &MiniBatch<'_>, scratch: &mut ScoringScratch, out: &mut [f32]) {
        let Some(executor) = scratch.scratch.own.as_mut().and_then(|own| own.downcast_mut()) else {
            return out.fill(f32::NAN);
        };
        let executor: &mut Executor = executor;
        let (outputs, width) = (self.outputs(), self.network.width());
        for start in (0..rows.rows).step_by(ROWS) {
            let end = rows.rows.min(start + ROWS);
            // (Labels and weights may be missing, and are not read.)
            let block = MiniBatch { label: &[], weight: &[], ..*rows }.slice(start, end, width);
            let out = &mut out[start * outputs..end * outputs];
            executor.scores(&Sequential, &self.parameters, &block, out);
        }
    }

    fn parts(
        &self,
        scores: &[f32],
        fields: &Fields,
        threshold: f64,
        spare: &mut Vec<f64>,
    ) -> Result<Vec<ArrayRef>> {
        self.parts.parts(scores, fields, threshold, spare)
    }
}
