//! The prediction of a dense network.

use arrow::array::ArrayRef;
use arrow::datatypes::Fields;
use datafusion_common::Result;

use super::OutputParts;
use crate::batch::MiniBatch;
use crate::description::Predictor;
use crate::learner::{Scoring, ScoringScratch};
use crate::model::{NetworkSpec, Trained};

/// A trained network, ready to predict.
#[derive(Debug)]
pub struct NetworkPredictor {
    scoring: Scoring,
    parameters: Vec<f32>,
    outputs: usize,
    parts: OutputParts,
}

impl NetworkPredictor {
    /// For a member with this network.
    ///
    /// # Errors
    /// When classes are of different types.
    pub fn new(spec: &NetworkSpec, trained: &Trained) -> Result<Self> {
        let network = spec.network(trained.encoder.width());
        Ok(Self {
            scoring: Scoring::new(&network, &trained.parameters),
            parameters: trained.parameters.clone(),
            outputs: spec.outputs,
            parts: OutputParts::new(spec.head(), &trained.labels)?,
        })
    }
}

impl Predictor for NetworkPredictor {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn scratch(&self, rows: usize) -> ScoringScratch {
        self.scoring.scratch(rows)
    }

    fn scores(&self, rows: &MiniBatch<'_>, scratch: &mut ScoringScratch, out: &mut [f32]) {
        self.scoring.scores(&self.parameters, rows, scratch, out);
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
