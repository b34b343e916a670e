//! What a network minimises.

use crate::kernels::quantile;
use crate::learner::{Loss, LossSum};

/// What is minimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The loss of a row.
    pub loss: Loss,
    /// The quantiles of the outputs, of [`Loss::Quantile`].
    pub quantiles: Vec<f32>,
}

impl From<Loss> for Objective {
    fn from(loss: Loss) -> Self {
        Self { loss, quantiles: vec![] }
    }
}

impl Objective {
    /// See [`Loss::differentiate`].
    pub(crate) fn differentiate(
        &self,
        z: &mut [f32],
        outputs: usize,
        label: &[f32],
        weight: &[f32],
        scale: f32,
    ) -> LossSum {
        match self.quantiles.as_slice() {
            [] => self.loss.differentiate(z, outputs, label, weight, scale),
            quantiles => quantile::differentiate(quantiles, z, label, weight, scale),
        }
    }

    /// See [`Loss::sum`].
    pub(crate) fn sum(&self, z: &[f32], outputs: usize, label: &[f32], weight: &[f32]) -> LossSum {
        match self.quantiles.as_slice() {
            [] => self.loss.sum(z, outputs, label, weight),
            quantiles => quantile::sum(quantiles, z, label, weight),
        }
    }
}
