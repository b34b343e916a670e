//! How much of the variance of rows the components explain.

use datafusion_common::Result;

use super::description::Tensors;
use crate::batch::{MiniBatch, Width};
use crate::description::Measure;
use crate::exact::{PassSum, ProjectionShape, ResidualSum, orthonormalize, projection};

/// What EVALUATE shows, in order.
pub(super) static METRICS: [&str; 2] =
    ["total_explained_variance_ratio", "mean_squared_reconstruction_error"];

/// Sums of squared distances from the mean of the model, and from the space of its components.
#[derive(Debug)]
pub struct PcaMeasure {
    parameters: Vec<f64>,
    sum: ResidualSum,
}

impl PcaMeasure {
    /// Over no row.
    ///
    /// # Errors
    /// Never in practice.
    pub(super) fn new(tensors: Tensors<'_>, width: Width) -> Result<Self> {
        let double =
            |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
        // Rounded to float32, components are orthonormal to 1e-7; the error of a row that they
        // reconstruct well would be lost in it.
        let mut vectors = double(tensors.components);
        orthonormalize(&mut vectors, width.inputs());
        let shape = ProjectionShape { width, vectors: tensors.variances.len() };
        let parameters = projection(width, &double(tensors.mean), &vectors);
        Ok(Self { parameters, sum: ResidualSum::empty(shape, Default::default())? })
    }
}

impl Measure for PcaMeasure {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        self.sum.add(&self.parameters, rows)
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.sum.to_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        self.sum.merge(&ResidualSum::from_bytes(bytes)?)
    }

    fn metrics(&self) -> Vec<(&'static str, Option<f64>)> {
        let ResidualSum { weight, total, residual, .. } = self.sum;
        let [ratio, error] = METRICS;
        vec![
            (ratio, (total > 0.0).then(|| 1.0 - residual / total)),
            (error, (weight > 0.0).then(|| residual / weight)),
        ]
    }

    fn weight(&self) -> f64 {
        self.sum.weight
    }
}
