//! The covariance matrix of encoded rows: one pass over them.
//!
//! Sums are float64 and shifted by a reference row (see `moments.rs`), so unstandardised columns
//! and timestamps do not lose precision by their distance from 0.

use datafusion_common::{Result, internal_err, plan_err};

use super::bytes::{Reader, Writer};
use super::moments::{BLOCK, Block, Moments, flushes_at};
use super::{PassSum, check_inputs, check_weights, covariance_memory};
use crate::batch::{MiniBatch, Width};

const TAG: [u8; 4] = *b"GLCS";
const VERSION: u32 = 1;

/// Weighted sums over rows: `w`, `w x`, `w x x^T`, for `n = d + t` inputs. The target is not read.
///
/// Merging is addition; where references differ the other sum is translated first.
#[derive(Clone, Debug)]
pub struct CovarianceSum {
    width: Width,
    /// Rows with a weight.
    rows: u64,
    /// `[d]`: dense numbers; nothing before the first row with a weight.
    reference: Option<Vec<f64>>,
    /// Dense columns `[x - r, 1]`.
    moments: Moments,
    block: Block,
    weights: Vec<f64>,
}

/// Mean and covariance of the rows with a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Covariance {
    /// `[n]`
    pub mean: Vec<f64>,
    /// `[n, n]`, column-major, lower triangle: `sum w (x - mean) (x - mean)^T / sum w`.
    pub matrix: Vec<f64>,
    /// Rows with a weight.
    pub rows: u64,
}

impl Covariance {
    /// The same of `dense` numbers and of the categories that `order` lists, in that order.
    pub fn ordered(&self, dense: usize, order: &[usize]) -> Self {
        let before = self.mean.len();
        let inputs: Vec<usize> = (0..dense).chain(order.iter().map(|own| dense + own)).collect();
        let n = inputs.len();
        let mut matrix = vec![0.0; n * n];
        for (j, a) in inputs.iter().enumerate() {
            for (i, b) in inputs.iter().enumerate().skip(j) {
                matrix[j * n + i] = self.matrix[a.min(b) * before + a.max(b)];
            }
        }
        let mean = inputs.iter().map(|input| self.mean[*input]).collect();
        Self { mean, matrix, rows: self.rows }
    }
}

impl CovarianceSum {
    /// Sums over no rows; the first row with a positive weight becomes the reference.
    pub fn new(width: Width) -> Self {
        Self {
            width,
            rows: 0,
            reference: None,
            moments: Moments::new(width.dense + 1, width.categories),
            block: Block::default(),
            weights: Vec::new(),
        }
    }

    /// Rows with a weight.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The sum of weights.
    pub fn weight(&self) -> f64 {
        self.moments.dense(self.width.dense, self.width.dense)
    }

    /// The width of the rows.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Whether any two rows differ.
    pub fn has_variance(&self) -> bool {
        // (Sums are relative to the first row.)
        let Width { dense: d, categories: t, .. } = self.width;
        let weight = self.weight();
        let is_mixed = |k: usize| self.moments.pair(k, k) > 0.0 && self.moments.pair(k, k) < weight;
        (0..d).any(|j| self.moments.dense(j, j) > 0.0) || (0..t).any(is_mixed)
    }

    /// Adds rows. Rows of weight 0 change nothing, whatever their values are.
    ///
    /// # Errors
    /// When the rows are of another shape or a weight is negative or not finite.
    pub fn update(&mut self, batch: &MiniBatch<'_>) -> Result<()> {
        check_inputs(self.width, batch)?;
        check_weights(batch.weight)?;
        let Width { dense: d, columns: c, .. } = self.width;
        if self.reference.is_none() {
            let Some(row) = batch.weight.iter().position(|&weight| weight != 0.0) else {
                return Ok(());
            };
            let dense = batch.dense[row * d..(row + 1) * d].iter();
            self.reference = Some(dense.map(|&x| f64::from(x)).collect());
        }
        let Some(reference) = &self.reference else { return Ok(()) };
        self.rows += batch.weight.iter().filter(|weight| **weight != 0.0).count() as u64;
        self.weights.resize(BLOCK, 0.0);
        for start in (0..batch.rows).step_by(BLOCK) {
            let rows = BLOCK.min(batch.rows - start);
            let weight = &batch.weight[start..start + rows];
            self.block.reset(rows, d + 1);
            self.block.fill(&batch.dense[start * d..(start + rows) * d], reference, weight);
            self.block.fill_column(d, |row| if weight[row] == 0.0 { 0.0 } else { 1.0 });
            for (own, weight) in self.weights.iter_mut().zip(weight) {
                *own = f64::from(*weight);
            }
            let codes = &batch.codes[start * c..(start + rows) * c];
            self.moments.add_block(&mut self.block, codes, &self.weights[..rows]);
            if flushes_at(start + rows, batch.rows) {
                self.moments.flush(&mut self.block);
            }
        }
        Ok(())
    }

    /// Follows a change of scale: dense numbers `x` become `factor x + shift`.
    pub fn rescale(&mut self, factor: &[f64], shift: &[f64]) {
        let all: Vec<f64> = factor.iter().copied().chain([1.0]).collect();
        self.moments.rescale(&all);
        let reference = self.reference.iter_mut().flatten().zip(factor).zip(shift);
        reference.for_each(|((own, factor), shift)| *own = factor * *own + shift);
    }

    /// Takes rows with so many categories from now on, more than before.
    pub fn grow(&mut self, categories: usize) {
        self.width.categories = categories;
        self.moments.grow(categories);
    }

    /// Mean and covariance.
    ///
    /// # Errors
    /// When there is no row with a weight, or the inputs are not finite.
    pub fn covariance(&self) -> Result<Covariance> {
        let weight = self.weight();
        let Some(reference) = self.reference.as_ref().filter(|_| weight > 0.0) else {
            return plan_err!("there is no row with a weight to take the covariance of");
        };
        if self.moments.values().flatten().any(|value| !value.is_finite()) {
            return plan_err!("a covariance needs finite inputs, but some are too large or NaN");
        }
        let Width { dense: d, categories: t, .. } = self.width;
        let n = d + t;
        let moments = &self.moments;
        let first = |i: usize| match i < d {
            true => moments.dense(i, d),
            false => moments.cross(i - d, d),
        };
        // The means of dense numbers are relative to the reference.
        let mut mean: Vec<f64> = (0..n).map(|i| first(i) / weight).collect();
        let mut matrix = vec![0.0; n * n];
        for j in 0..n {
            for i in j..n {
                let second = match (i < d, j < d) {
                    (true, _) => moments.dense(i, j),
                    (false, true) => moments.cross(i - d, j),
                    (false, false) => moments.pair(i - d, j - d),
                };
                matrix[j * n + i] = second / weight - mean[i] * mean[j];
            }
        }
        mean.iter_mut().zip(reference).for_each(|(mean, reference)| *mean += reference);
        Ok(Covariance { mean, matrix, rows: self.rows })
    }
}

/// They do not depend on parameters.
impl PassSum for CovarianceSum {
    type Shape = Width;
    type Scratch = ();
    const KIND: &'static str = "covariance";

    fn empty(width: Width, (): ()) -> Result<Self> {
        Ok(Self::new(width))
    }

    fn width_of(width: Width) -> Width {
        width
    }

    fn memory(width: Width) -> usize {
        covariance_memory(width)
    }

    fn add(&mut self, _parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        self.update(rows)
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        if self.width != other.width {
            return internal_err!(
                "covariance sums of widths {:?} and {:?} cannot be merged",
                self.width,
                other.width
            );
        }
        self.rows += other.rows;
        let Some(theirs) = &other.reference else { return Ok(()) };
        match &self.reference {
            None => {
                self.reference = Some(theirs.clone());
                self.moments = other.moments.clone();
            }
            Some(ours) if ours == theirs => self.moments.merge(&other.moments),
            Some(ours) => {
                let shifts = theirs.iter().zip(ours).map(|(theirs, ours)| theirs - ours);
                let delta: Vec<f64> = shifts.chain([0.0]).collect();
                let mut moved = other.moments.clone();
                moved.translate(&delta);
                self.moments.merge(&moved);
            }
        }
        Ok(())
    }

    fn take_scratch(&mut self) {}

    /// The sums in little-endian bytes: `"GLCS"`, `u32` version 1; `u64` d, c, t, rows and 1 where
    /// there is a reference, else 0; `f64` reference `[d]`; then, with `a = d + 1` columns
    /// `[x - r, 1]`, the lower triangle of `[a, a]` column by column, the sums by category
    /// `[t, a]`, and the lower triangle of the counts by pairs of categories `[t, t]` row by row.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        let Width { dense, columns, categories, .. } = self.width;
        let known = u64::from(self.reference.is_some());
        writer.integers(&[dense as u64, columns as u64, categories as u64, self.rows, known]);
        match &self.reference {
            Some(reference) => writer.numbers(reference),
            None => writer.numbers(&vec![0.0; dense]),
        }
        self.moments.values().for_each(|values| writer.numbers(values));
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "covariance sum")?;
        let (dense, columns) = (reader.dimension()?, reader.dimension()?);
        let width = Width { dense, columns, categories: reader.dimension()?, targets: 0 };
        let rows = reader.integer()?;
        let known = reader.integer()? == 1;
        let reference = reader.numbers(dense)?;
        let values = reader.numbers(Moments::packed_len(dense + 1, width.categories))?;
        reader.finish()?;
        Ok(Self {
            rows,
            reference: known.then_some(reference),
            moments: Moments::from_values(dense + 1, width.categories, &values),
            ..Self::new(width)
        })
    }
}
