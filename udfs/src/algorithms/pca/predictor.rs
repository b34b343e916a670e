//! The scores of rows on principal components.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, new_null_array};
use arrow::datatypes::Fields;
use datafusion_common::Result;

use super::description::Tensors;
use crate::batch::{MiniBatch, Width};
use crate::description::Predictor;
use crate::kernels::gather;
use crate::kernels::math::vectorized;
use crate::kernels::panels::{PANEL, Panels};
use crate::kernels::tiles::{ByRows, Out, Segment, Start, sum};
use crate::learner::ScoringScratch;

/// Rows that are scored at a time, so that they stay in the cache.
const BLOCK: usize = 256;

/// Part of the total variance below which the variance of a component is rounding: whitened scores
/// are 0 there.
const NOTHING: f32 = 1e-12;

/// Principal components, ready to score.
#[derive(Debug)]
pub struct PcaPredictor {
    width: Width,
    /// `k`
    outputs: usize,
    /// `[d]`
    mean: Vec<f32>,
    /// `[d, k]`: the loadings of dense numbers, over the standard deviation of whitened scores.
    dense: Panels,
    /// `[t, k]`: those of categories.
    categories: Vec<f32>,
    /// `[k]`: what the means of all categories contribute to every row.
    offset: Vec<f32>,
}

impl PcaPredictor {
    /// For these components.
    pub(super) fn new(tensors: Tensors<'_>, width: Width, whiten: bool) -> Self {
        let (d, n, k) = (width.dense, width.inputs(), tensors.variances.len());
        let scale = |variance: &f32| match whiten {
            true if *variance <= NOTHING * tensors.total => 0.0,
            true => 1.0 / f64::from(*variance).sqrt(),
            false => 1.0,
        };
        let scales: Vec<f64> = tensors.variances.iter().map(scale).collect();
        let loading = |i: usize, j: usize| scales[j] * f64::from(tensors.components[j * n + i]);
        let rows = |inputs: std::ops::Range<usize>| -> Vec<f32> {
            inputs.flat_map(|i| (0..k).map(move |j| loading(i, j) as f32)).collect()
        };
        let mut dense = Panels::new(d, k);
        dense.copy_from(&rows(0..d));
        let mean_score =
            |j| -> f64 { (d..n).map(|i| f64::from(tensors.mean[i]) * loading(i, j)).sum() };
        Self {
            width,
            outputs: k,
            mean: tensors.mean[..d].to_vec(),
            dense,
            categories: rows(d..n),
            offset: (0..k).map(|j| -mean_score(j) as f32).collect(),
        }
    }
}

impl Predictor for PcaPredictor {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn scratch(&self, rows: usize) -> ScoringScratch {
        let mut scratch = ScoringScratch::default();
        scratch.scratch.buffers = vec![vec![0.0; rows.min(BLOCK) * self.width.dense]];
        scratch
    }

    fn scores(&self, rows: &MiniBatch<'_>, scratch: &mut ScoringScratch, out: &mut [f32]) {
        let (d, k) = (self.width.dense, self.outputs);
        let Some(centred) = scratch.scratch.buffers.first_mut() else { return };
        for start in (0..rows.rows).step_by(BLOCK) {
            let block = rows.slice(start, rows.rows.min(start + BLOCK), self.width);
            let n = block.rows;
            centred.resize(centred.len().max(n * d), 0.0);
            let values = &mut centred[..n * d];
            let pairs = values.chunks_exact_mut(d.max(1)).zip(block.dense.chunks_exact(d.max(1)));
            vectorized(
                #[inline(always)]
                || {
                    for (to, from) in pairs {
                        for ((to, from), mean) in to.iter_mut().zip(from).zip(&self.mean) {
                            *to = from - mean;
                        }
                    }
                },
            );
            let out = &mut out[start * k..(start + n) * k];
            for panel in 0..self.dense.panels() {
                let segment = Segment {
                    left: ByRows { values, stride: d },
                    from: 0,
                    to: d,
                    right: self.dense.panel(panel),
                    stride: self.dense.stride(panel),
                };
                let first = panel * PANEL;
                let to = Out {
                    values: &mut out[first..],
                    stride: k,
                    rows: n,
                    width: self.dense.width(panel),
                };
                sum([segment], Start::Row(&self.offset[first..]), to);
            }
            gather::forward(block.codes, &self.categories, out, self.width.columns, k);
        }
    }

    /// One number for each component. (Members of a model may have different numbers of components:
    /// those that one does not have are NULL.)
    fn parts(
        &self,
        scores: &[f32],
        fields: &Fields,
        _threshold: f64,
        _spare: &mut Vec<f64>,
    ) -> Result<Vec<ArrayRef>> {
        let k = self.outputs;
        let rows = scores.len() / k.max(1);
        let part = |(i, field): (usize, &Arc<arrow::datatypes::Field>)| -> ArrayRef {
            if i >= k {
                return new_null_array(field.data_type(), rows);
            }
            let own = scores.iter().skip(i).step_by(k).map(|score| f64::from(*score));
            Arc::new(Float64Array::from_iter_values(own))
        };
        Ok(fields.iter().enumerate().map(part).collect())
    }
}
