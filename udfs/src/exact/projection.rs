//! The projection of encoded rows on some vectors, which passes over the rows take as parameters.
//!
//! For `l` vectors of `n = d + t` numbers, the parameters are `mean [n]`, `basis [n, l]` (a column
//! for each vector), `offset [l]` and `square [1]`: what the means of all categories contribute to
//! every row, `-sum_k mean_k basis[k]` and `sum_k mean_k^2`. So a row only visits the categories
//! that it has.

use datafusion_common::{Result, internal_err};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::moments::stride_of;
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::double::dot;
use crate::kernels::gram::widen;

/// The shape of a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionShape {
    /// Width of the rows.
    pub width: Width,
    /// Vectors, `l`.
    pub vectors: usize,
}

impl ProjectionShape {
    /// Number of parameters.
    fn len(self) -> usize {
        let (n, l) = (self.width.inputs(), self.vectors);
        n + n * l + l + 1
    }
}

/// The parameters of the projection of `x - mean`, `mean [n]`, on `vectors [l, n]`.
pub fn projection(width: Width, mean: &[f64], vectors: &[f64]) -> Vec<f64> {
    let n = width.inputs();
    let l = vectors.len() / n.max(1);
    let mut parameters = mean.to_vec();
    parameters.reserve_exact(n * l + l + 1);
    for i in 0..n {
        parameters.extend((0..l).map(|j| vectors[j * n + i]));
    }
    let of_categories = width.dense..n;
    for vector in vectors.chunks_exact(n.max(1)) {
        let terms = of_categories.clone().map(|i| mean[i] * vector[i]);
        parameters.push(-terms.sum::<f64>());
    }
    parameters.push(of_categories.map(|i| mean[i] * mean[i]).sum());
    parameters
}

/// A projection, borrowed from its parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection<'a> {
    shape: ProjectionShape,
    /// `[n]`
    pub(super) mean: &'a [f64],
    /// `[n, l]`
    basis: &'a [f64],
    /// `[l]`
    offset: &'a [f64],
    square: f64,
}

/// Rows of a block and their projection. Its contents are valid during one update.
#[derive(Clone, Debug, Default)]
pub struct ProjectionScratch {
    /// `[rows, stride]`: dense numbers minus their means; 0 of rows without weight.
    pub(super) values: Vec<f64>,
    /// `[rows, l]`
    pub(super) scores: Vec<f64>,
}

impl<'a> Projection<'a> {
    /// The projection of these parameters.
    pub(super) fn new(shape: ProjectionShape, parameters: &'a [f64]) -> Result<Self> {
        if parameters.len() != shape.len() {
            return internal_err!(
                "a projection has {} parameters, expected {}",
                parameters.len(),
                shape.len()
            );
        }
        let (n, l) = (shape.width.inputs(), shape.vectors);
        let (mean, rest) = parameters.split_at(n);
        let (basis, rest) = rest.split_at(n * l);
        let (offset, square) = rest.split_at(l);
        Ok(Self { shape, mean, basis, offset, square: square[0] })
    }

    /// Numbers of a row of [`ProjectionScratch::values`].
    pub(super) fn stride(&self) -> usize {
        stride_of(self.shape.width.dense).max(1)
    }

    /// Projects the rows of a block, whose weights are known. Rows without weight are arbitrary but
    /// finite.
    pub(super) fn project(&self, rows: &MiniBatch<'_>, to: &mut ProjectionScratch) {
        let (r, d, l) = (rows.rows, self.shape.width.dense, self.shape.vectors);
        let stride = self.stride();
        to.values.resize(to.values.len().max(r * stride), 0.0);
        widen(rows.dense, &self.mean[..d], &mut to.values, stride);
        for (row, weight) in to.values.chunks_exact_mut(stride).zip(rows.weight) {
            if *weight == 0.0 {
                row.fill(0.0);
            }
        }
        to.scores.resize(to.scores.len().max(r * l), 0.0);
        if l == 0 || r == 0 {
            return;
        }
        let scores = &mut to.scores[..r * l];
        if d == 0 {
            scores.fill(0.0);
        } else {
            matmul(
                MatMut::from_row_major_slice_mut(scores, r, l),
                Accum::Replace,
                MatRef::from_row_major_slice_with_stride(&to.values[..r * stride], r, d, stride),
                MatRef::from_row_major_slice(&self.basis[..d * l], d, l),
                1.0,
                Par::Seq,
            );
        }
        let c = self.shape.width.columns;
        if c == 0 {
            return;
        }
        let add = |into: &mut [f64], from: &[f64]| {
            into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
        };
        for (codes, scores) in rows.codes.chunks_exact(c).zip(scores.chunks_exact_mut(l)) {
            add(scores, self.offset);
            for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                let at = (d + code as usize) * l;
                add(scores, &self.basis[at..at + l]);
            }
        }
    }

    /// `|x - mean|^2` of a row from its dense numbers minus their means, and its categories.
    pub(super) fn distance(&self, values: &[f64], codes: &[u32]) -> f64 {
        let of_categories = &self.mean[self.shape.width.dense..];
        let known = codes.iter().filter(|code| **code != NO_CATEGORY);
        let categories: f64 = known.map(|code| 1.0 - 2.0 * of_categories[*code as usize]).sum();
        dot(values, values) + (self.square + categories).max(0.0)
    }
}
