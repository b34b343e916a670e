//! The covariance matrix of encoded rows: one pass over them.
//!
//! Sums are float64 and shifted by a reference row (see `moments.rs`), so unstandardised columns
//! and timestamps do not lose precision by their distance from 0.

use datafusion_common::{Result, plan_err};

use super::bytes::{Reader, Writer};
use super::shifted::ShiftedMoments;
use super::{PassSum, check_inputs, check_same, check_weights, covariance_memory};
use crate::batch::{MiniBatch, Width};

const TAG: [u8; 4] = *b"GLCS";
const VERSION: u32 = 1;

/// Weighted sums over rows: `w`, `w x`, `w x x^T`, for `n = d + t` inputs. The target is not read.
///
/// Merging is addition; where references differ the other sum is translated first.
#[derive(Clone, Debug)]
pub struct CovarianceSum {
    /// Rows with a weight.
    rows: u64,
    shifted: ShiftedMoments,
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
        let width = Width { targets: 0, ..width };
        Self { rows: 0, shifted: ShiftedMoments::new(width) }
    }

    /// Rows with a weight.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The sum of weights.
    pub fn weight(&self) -> f64 {
        self.shifted.weight()
    }

    /// The width of the rows, without a target.
    pub fn width(&self) -> Width {
        self.shifted.width()
    }

    /// Whether any two rows differ.
    pub fn has_variance(&self) -> bool {
        // (Sums are relative to the first row.)
        let Width { dense: d, categories: t, .. } = self.width();
        let (weight, moments) = (self.weight(), self.shifted.moments());
        let is_mixed = |k: usize| moments.pair(k, k) > 0.0 && moments.pair(k, k) < weight;
        (0..d).any(|j| moments.dense(j, j) > 0.0) || (0..t).any(is_mixed)
    }

    /// Adds rows. Rows of weight 0 change nothing, whatever their values are.
    ///
    /// # Errors
    /// When the rows are of another shape or a weight is negative or not finite.
    pub fn update(&mut self, batch: &MiniBatch<'_>) -> Result<()> {
        check_inputs(self.width(), batch)?;
        check_weights(batch.weight)?;
        self.rows += batch.weight.iter().filter(|weight| **weight != 0.0).count() as u64;
        self.shifted.update(batch);
        Ok(())
    }

    /// Follows a change of scale: dense numbers `x` become `factor x + shift`.
    pub fn rescale(&mut self, factor: &[f64], shift: &[f64]) {
        self.shifted.rescale(factor, shift);
    }

    /// Takes rows with so many categories from now on, more than before.
    pub fn grow(&mut self, categories: usize) {
        self.shifted.grow(categories);
    }

    /// Mean and covariance.
    ///
    /// # Errors
    /// When there is no row with a weight, or the inputs are not finite.
    pub fn covariance(&self) -> Result<Covariance> {
        let weight = self.weight();
        let Some(reference) = self.shifted.reference().filter(|_| weight > 0.0) else {
            return plan_err!("there is no row with a weight to take the covariance of");
        };
        let moments = self.shifted.moments();
        if moments.values().flatten().any(|value| !value.is_finite()) {
            return plan_err!("a covariance needs finite inputs, but some are too large or NaN");
        }
        let Width { dense: d, categories: t, .. } = self.width();
        let n = d + t;
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
        check_same(Self::KIND, self.width(), other.width())?;
        self.rows += other.rows;
        self.shifted.merge(&other.shifted);
        Ok(())
    }

    fn take_scratch(&mut self) {}

    /// The sums in little-endian bytes: `"GLCS"`, `u32` version 1; `u64` d, c, t, rows and 1 where
    /// there is a reference, else 0; the [moments](ShiftedMoments::write).
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(self.width());
        writer.integers(&[self.rows, u64::from(self.shifted.reference().is_some())]);
        self.shifted.write(&mut writer);
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "covariance sum")?;
        let width = reader.width()?;
        let (rows, known) = (reader.integer()?, reader.integer()? == 1);
        let shifted = ShiftedMoments::read(&mut reader, width, known)?;
        reader.finish()?;
        Ok(Self { rows, shifted })
    }
}
