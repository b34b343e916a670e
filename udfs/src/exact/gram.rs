//! Linear regression by its Gram matrix: one pass over the rows, then one solve.
//!
//! # Accuracy
//! Sums are float64 and shifted by a reference row (see `moments.rs`), so unstandardised columns
//! and timestamps do not lose precision by their distance from 0. The normal equations square the
//! condition number of the standardised columns: with condition `k` the weights have a relative
//! error of about `k^2 1e-16` (scikit-learn's `lstsq`: `k 1e-16`), up to `k = 1e6` or so. Beyond
//! that, columns count as dependent and the solution of least norm is taken. Weights agree with
//! scikit-learn's to 1e-9 of the largest, mostly to 1e-12, on the data sets of the tests.

use datafusion_common::{Result, exec_err, internal_err, plan_err};

use super::bytes::{Reader, Writer};
use super::shifted::ShiftedMoments;
use super::solve::{Solution, solve_semidefinite};
use super::{PassSum, check_batch, check_same, gram_memory};
use crate::batch::{MiniBatch, Width};

const TAG: [u8; 4] = *b"GLGS";
const VERSION: u32 = 2;

/// Weighted sums over rows: `w`, `w x`, `w x x^T`, `w y`, `w y x`, `w y y^T`, for `n = d + t`
/// inputs and `k` numbers of the target.
///
/// Merging is addition; where references differ the other sum is translated first.
#[derive(Clone, Debug)]
pub struct GramSum {
    rows: u64,
    shifted: ShiftedMoments,
}

/// The minimum of the objective.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSolution {
    /// `[d + t]`: weights of the dense numbers, then of the categories.
    pub weights: Vec<f64>,
    /// 0 without an intercept.
    pub intercept: f64,
    /// Independent columns (after centring, with an intercept).
    pub rank: usize,
    /// Weighted mean squared residual of these rows, without the penalty; to about 1e-15 of the
    /// variance of the target.
    pub loss: f64,
}

impl GramSum {
    /// Sums over no rows; the first row with a positive weight becomes the reference.
    pub fn new(width: Width) -> Self {
        Self { rows: 0, shifted: ShiftedMoments::new(width) }
    }

    /// Sums over no rows with a given reference, `[d]` dense numbers and the targets: sums with the
    /// same reference merge by plain addition. Means are the best reference, 0 for standardised
    /// inputs.
    pub fn with_reference(width: Width, reference: &[f64]) -> Result<Self> {
        if reference.len() != width.dense + width.targets {
            return internal_err!(
                "the reference of a Gram sum has {} numbers, expected {} and {} of the target",
                reference.len(),
                width.dense,
                width.targets
            );
        }
        let shifted = ShiftedMoments::with_reference(width, reference.to_vec());
        Ok(Self { rows: 0, shifted })
    }

    /// The width of the rows.
    pub fn width(&self) -> Width {
        self.shifted.width()
    }

    /// Rows seen, with or without weight.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The sum of weights.
    pub fn weight(&self) -> f64 {
        self.shifted.weight()
    }

    /// The weighted mean of the first target, what the best constant predicts.
    pub fn mean_target(&self) -> f64 {
        let Width { dense: y, targets, .. } = self.width();
        let reference = self.shifted.reference().map_or(0.0, |reference| reference[y]);
        reference + self.shifted.moments().dense(y + targets, y) / self.weight()
    }

    /// Adds rows. Rows of weight 0 only count in `rows`, whatever their values are.
    pub fn update(&mut self, batch: &MiniBatch) -> Result<()> {
        check_batch(self.width(), batch)?;
        self.rows += batch.rows as u64;
        self.shifted.update(batch);
        Ok(())
    }

    /// The solution for the first target; see [`Self::solve_all`].
    ///
    /// # Errors
    /// As [`Self::solve_all`], and without a target.
    pub fn solve(&self, l2: f64, intercept: bool) -> Result<LinearSolution> {
        match self.solve_all(l2, intercept)?.into_iter().next() {
            Some(solution) => Ok(solution),
            None => internal_err!("a Gram sum without a target has no solution"),
        }
    }

    /// Minimises, for each target, the weighted mean of `(y - z)^2` plus `(l2 / 2) |w|^2`,
    /// `z = w x + intercept`.
    ///
    /// Where columns depend on each other and `l2` is 0, the weights are those of least norm (after
    /// centring, with an intercept), as scikit-learn's `LinearRegression` chooses them.
    ///
    /// # Errors
    /// When `l2` is out of range, no row has a weight, or a value is not finite.
    pub fn solve_all(&self, l2: f64, intercept: bool) -> Result<Vec<LinearSolution>> {
        if !(l2.is_finite() && l2 >= 0.0) {
            return plan_err!("l2 is {l2}, it should be a finite number of at least 0");
        }
        let weight = self.weight();
        if self.rows == 0 || weight == 0.0 {
            return exec_err!("there is no row with a weight to fit a linear model to");
        }
        let Width { dense: d, categories: t, targets: k, .. } = self.width();
        let (one, n) = (d + k, d + t);
        let mut moments = self.shifted.moments().clone();
        let mut reference = self.shifted.reference().map_or(vec![0.0; d + k], <[f64]>::to_vec);
        if !intercept {
            reference.push(0.0);
            moments.translate(&reference);
            reference.fill(0.0);
        }
        if moments.values().flatten().any(|value| !value.is_finite()) || weight < 0.0 {
            return exec_err!(
                "a linear model needs finite inputs, targets and weights, and no weight below 0"
            );
        }
        // Positions of the inputs in the moments: dense columns, then categories.
        let second = |i: usize, j: usize| match (i < d, j < d) {
            (true, true) => moments.dense(i, j),
            (true, false) => moments.cross(j - d, i),
            (false, true) => moments.cross(i - d, j),
            (false, false) => moments.pair(i - d, j - d),
        };
        let with = |i: usize, column: usize| match i < d {
            true => moments.dense(i, column),
            false => moments.cross(i - d, column),
        };
        let centre = if intercept { 1.0 } else { 0.0 };
        let mean: Vec<f64> = (0..n).map(|i| centre * with(i, one) / weight).collect();
        let mean_y = |y: usize| centre * moments.dense(one, y) / weight;
        let mut gram = vec![0.0; n * n];
        for j in 0..n {
            for i in j..n {
                gram[j * n + i] = second(i, j) / weight - mean[i] * mean[j];
            }
        }
        let right = |y: usize| -> Vec<f64> {
            (0..n).map(|i| with(i, y) / weight - mean[i] * mean_y(y)).collect()
        };
        let right: Vec<Vec<f64>> = (d..d + k).map(right).collect();
        let raw: Vec<f64> = (0..n).map(|i| second(i, i) / weight).collect();
        let solutions = solve_semidefinite(&gram, &right, &raw, l2 / 2.0)?;
        let solved = |(y, solution): (usize, Solution)| {
            let (mean_y, weights) = (mean_y(y), solution.x);
            let origin = |i: usize| mean[i] + if i < d { reference[i] } else { 0.0 };
            let centred: f64 = (0..n).map(|i| weights[i] * origin(i)).sum();
            let variance = moments.dense(y, y) / weight - mean_y * mean_y;
            LinearSolution {
                loss: loss(&gram, &right[y - d], &weights, variance),
                intercept: centre * (mean_y + reference[y] - centred),
                weights,
                rank: solution.rank,
            }
        };
        Ok((d..d + k).zip(solutions).map(solved).collect())
    }
}

/// They do not depend on parameters.
impl PassSum for GramSum {
    type Shape = Width;
    type Scratch = ();
    const KIND: &'static str = "gram";

    fn empty(width: Width, (): ()) -> Result<Self> {
        Ok(Self::new(width))
    }

    fn width_of(width: Width) -> Width {
        width
    }

    fn memory(width: Width) -> usize {
        gram_memory(width)
    }

    fn add(&mut self, _parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        self.update(rows)
    }

    fn take_scratch(&mut self) {}

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(Self::KIND, self.width(), other.width())?;
        self.rows += other.rows;
        self.shifted.merge(&other.shifted);
        Ok(())
    }

    /// The sums in little-endian bytes: `"GLGS"`, `u32` version 2; `u64` d, c, t, rows and 1 where
    /// there is a reference, else 0, then k; the [moments](ShiftedMoments::write).
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(self.width());
        let known = u64::from(self.shifted.reference().is_some());
        writer.integers(&[self.rows, known, self.width().targets as u64]);
        self.shifted.write(&mut writer);
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a Gram sum")?;
        let width = reader.width()?;
        let (rows, known) = (reader.integer()?, reader.integer()? == 1);
        let width = Width { targets: reader.dimension()?, ..width };
        let shifted = ShiftedMoments::read(&mut reader, width, known)?;
        reader.finish()?;
        Ok(Self { rows, shifted })
    }
}

/// `yy - 2 w b + w A w`, the mean squared residual.
fn loss(gram: &[f64], b: &[f64], weights: &[f64], yy: f64) -> f64 {
    let n = b.len();
    let mut quadratic = 0.0;
    for j in 0..n {
        let column = &gram[j * n..(j + 1) * n];
        let below: f64 = (j + 1..n).map(|i| column[i] * weights[i]).sum();
        quadratic += weights[j] * (column[j] * weights[j] + 2.0 * below);
    }
    let linear: f64 = b.iter().zip(weights).map(|(b, w)| b * w).sum();
    // (Adding 0.0 turns -0.0 into 0.0.)
    (yy - 2.0 * linear + quadratic).max(0.0) + 0.0
}
