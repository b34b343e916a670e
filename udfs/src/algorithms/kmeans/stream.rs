//! k-means on a stream: clusters follow the scale of the inputs and new categories.

use std::sync::Arc;

use datafusion_common::{Result, exec_err};

use super::description::{self, KmeansSpec};
use super::online::OnlineKmeans;
use super::points::widened;
use crate::batch::{MiniBatch, Width};
use crate::estimator::{OnlineEstimator, OnlineFit};
use crate::model::Trained;
use crate::options::TrainOptions;

/// For a stream of rows of this width; a model that is continued gives the first centroids.
///
/// # Errors
/// When the model to continue has no clusters of these inputs.
pub(super) fn make(
    options: &TrainOptions,
    width: Width,
    parent: Option<&Trained>,
) -> Result<Box<dyn OnlineEstimator>> {
    let spec = match parent {
        Some(parent) => description::read(&parent.description.to_json())?,
        None => KmeansSpec { k: options.k, distance: options.distance },
    };
    let mut own = OnlineKmeans::new(width, spec.k, spec.distance, options.decay, options.seed);
    if let Some(parent) = parent {
        let (centroids, counts) = spec.split(&parent.parameters, width)?;
        own.set(width, widened(centroids), widened(counts))?;
    }
    Ok(Box::new(own))
}

impl OnlineEstimator for OnlineKmeans {
    fn rescale(&mut self, factor: &[f64], shift: &[f64]) {
        self.move_inputs(|dense| {
            for ((x, factor), shift) in dense.iter_mut().zip(factor).zip(shift) {
                *x = factor * *x + shift;
            }
        });
    }

    fn grow(&mut self, categories: usize) -> Result<()> {
        self.add_categories(categories);
        Ok(())
    }

    fn learn(&mut self, rows: &MiniBatch<'_>) -> Result<(f64, f64)> {
        let had_centroids = self.has_centroids();
        let loss = OnlineKmeans::learn(self, rows)?;
        let weight = rows.weight.iter().map(|weight| f64::from(*weight)).sum();
        Ok(if had_centroids { (loss, weight) } else { (0.0, 0.0) })
    }

    fn is_ready(&self) -> bool {
        self.has_centroids()
    }

    fn fitted(&self, categories: &[usize]) -> Result<OnlineFit> {
        let parameters = self.parameters_of(categories)?;
        Ok(OnlineFit { description: Arc::new(self.spec()), parameters })
    }

    fn bytes(&self) -> usize {
        // The centroids, their sums in float64, and in float32 what rows are compared with.
        let k = self.spec().k;
        4 * size_of::<f64>() * k * (self.width().inputs() + 1)
    }

    fn save(&self) -> Result<Vec<u8>> {
        Ok(self.to_bytes())
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let saved = Self::from_bytes(bytes)?;
        if !saved.is_like(self) {
            return exec_err!("the state of clusters is of other inputs or options");
        }
        *self = saved;
        Ok(())
    }
}
