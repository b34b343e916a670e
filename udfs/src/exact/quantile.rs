//! Sums of a pass of iteratively reweighted least squares for the quantiles of a linear model.
//!
//! The loss of quantile `q` and residual `r = y - z` is the pinball loss `q r` where `r > 0`, else
//! `(q - 1) r` (Koenker and Bassett 1978). At given parameters with residuals `r0`, the parabola
//! `(r^2 / (e + |r0|) + (4 q - 2) r) / 4`, plus a constant, lies above a smoothed loss and touches
//! it at `r0` (Hunter and Lange, "Quantile Regression via an MM Algorithm", 2000, formula 8). Its
//! minimum is that of least squares with weights `1 / (e + |r0|)` and targets
//! `y + (2 q - 1) (e + |r0|)`: one Gram sum for each quantile.

use datafusion_common::{Result, internal_err};

use super::bytes::{Reader, Writer};
use super::gram::GramSum;
use super::{LinearShape, PassSum, check_batch, check_same, check_weights, gram_memory};
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::math::vectorized;
use crate::kernels::quantile::pinball;
use crate::learner::Loss;

const TAG: [u8; 4] = *b"GLQS";
const VERSION: u32 = 1;

/// Sums over rows at one set of parameters, for `K` quantiles, the outputs of the shape. Merging is
/// addition.
///
/// Parameters of a pass are those of the linear model, as [`LinearShape::parameters`] lays them
/// out, then `[K]` smoothings `e`, then the `[K]` quantiles.
#[derive(Clone, Debug)]
pub struct QuantileSum {
    shape: LinearShape,
    weight: f64,
    /// `[K]`: sums of weight times loss.
    losses: Vec<f64>,
    /// `[K]`: sums of weight times absolute residual.
    errors: Vec<f64>,
    /// `[K]`: least squares with weights times `e / (e + |r|)`, which are at most 1.
    grams: Vec<GramSum>,
    scratch: QuantileScratch,
}

/// Buffers of an update, which are not part of the sums.
#[derive(Clone, Debug, Default)]
pub struct QuantileScratch {
    /// `[d + t]`: weights of one quantile.
    parameters: Vec<f64>,
    /// `[r]`: weights and targets of its least squares.
    weight: Vec<f32>,
    label: Vec<f32>,
}

/// One quantile at the parameters of a pass.
struct Level<'a> {
    quantile: f64,
    smoothing: f64,
    /// `[d + t]`
    weights: &'a [f64],
    intercept: f64,
}

impl QuantileSum {
    /// The mean losses of the quantiles `[K]`; NaN without rows.
    pub fn mean_losses(&self) -> Vec<f64> {
        self.losses.iter().map(|loss| loss / self.weight).collect()
    }

    /// The mean absolute residuals of the quantiles `[K]`; NaN without rows.
    pub fn mean_errors(&self) -> Vec<f64> {
        self.errors.iter().map(|error| error / self.weight).collect()
    }

    /// The parameters that minimise the parabolas plus `(l2 / 2) |w|^2`, for the smoothings `[K]`
    /// of the pass.
    ///
    /// # Errors
    /// When no row has a weight, or a value is not finite.
    pub fn solve(&self, l2: f64, smoothings: &[f64]) -> Result<Vec<f64>> {
        let (n, k) = (self.shape.width.inputs(), self.shape.outputs);
        let mut parameters = vec![0.0; self.shape.parameters()];
        for (level, (gram, smoothing)) in self.grams.iter().zip(smoothings).enumerate() {
            // The mean of the parabolas is that of the least squares, times this.
            let factor = gram.weight() / (4.0 * smoothing * self.weight);
            let own = if l2 > 0.0 { l2 / factor } else { 0.0 };
            let solution = gram.solve(own, self.shape.intercept)?;
            for (input, weight) in solution.weights.iter().enumerate() {
                parameters[input * k + level] = *weight;
            }
            if self.shape.intercept {
                parameters[n * k + level] = solution.intercept;
            }
        }
        Ok(parameters)
    }

    /// Adds rows; see [`PassSum::add`].
    fn update(&mut self, parameters: &[f64], batch: &MiniBatch<'_>) -> Result<()> {
        let LinearShape { width, outputs: k, intercept, .. } = self.shape;
        check_batch(width, batch)?;
        check_weights(batch.weight)?;
        let own = self.shape.parameters();
        if parameters.len() != own + 2 * k {
            return internal_err!(
                "{} numbers were given to a pass for {k} quantiles, expected {}",
                parameters.len(),
                own + 2 * k
            );
        }
        self.weight += batch.weight.iter().map(|w| f64::from(*w)).sum::<f64>();
        let (parameters, levels) = parameters.split_at(own);
        let (smoothings, quantiles) = levels.split_at(k);
        for level in 0..k {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.parameters.clear();
            let weights = parameters[..self.shape.weights()].iter().skip(level).step_by(k);
            scratch.parameters.extend(weights);
            let at = self.shape.weights() + level;
            let at_pass = Level {
                quantile: quantiles[level],
                smoothing: smoothings[level],
                weights: &scratch.parameters,
                intercept: if intercept { parameters[at] } else { 0.0 },
            };
            let (weight, label) = (&mut scratch.weight, &mut scratch.label);
            weight.resize(batch.rows, 0.0);
            label.resize(batch.rows, 0.0);
            let (loss, error) = reweight(&at_pass, width, batch, weight, label);
            self.losses[level] += loss;
            self.errors[level] += error;
            let rows = MiniBatch { label: &*label, weight: &*weight, ..*batch };
            let done = self.grams[level].update(&rows);
            self.scratch = scratch;
            done?;
        }
        Ok(())
    }
}

/// Writes the weights and targets `[r]` of the least squares of one quantile. Returns the sums of
/// its losses and absolute residuals, times the weights of the rows.
fn reweight(
    level: &Level<'_>,
    width: Width,
    batch: &MiniBatch<'_>,
    weight: &mut [f32],
    label: &mut [f32],
) -> (f64, f64) {
    let (dense, table) = level.weights.split_at(width.dense);
    let (e, lean) = (level.smoothing, 2.0 * level.quantile - 1.0);
    let (mut losses, mut errors) = (0.0, 0.0);
    vectorized(
        #[inline(always)]
        || {
            for row in 0..batch.rows {
                let own = f64::from(batch.weight[row]);
                if own == 0.0 {
                    (weight[row], label[row]) = (0.0, 0.0);
                    continue;
                }
                let x = &batch.dense[row * width.dense..][..width.dense];
                let mut z = level.intercept + dot(x, dense);
                let codes = &batch.codes[row * width.columns..][..width.columns];
                for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                    z += table[code as usize];
                }
                let y = f64::from(batch.label[row]);
                let reach = e + (y - z).abs();
                losses += own * pinball(level.quantile, y - z);
                errors += own * (y - z).abs();
                weight[row] = (own * (e / reach)) as f32;
                label[row] = (y + lean * reach) as f32;
            }
        },
    );
    (losses, errors)
}

/// Numbers that are added up side by side.
const LANES: usize = 8;

/// `x w`, in an order that depends on the length alone.
#[inline(always)]
fn dot(x: &[f32], w: &[f64]) -> f64 {
    let ((x, last_x), (w, last_w)) = (x.as_chunks::<LANES>(), w.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, w) in x.iter().zip(w) {
        for i in 0..LANES {
            sums[i] += f64::from(x[i]) * w[i];
        }
    }
    let rest: f64 = last_x.iter().zip(last_w).map(|(x, w)| f64::from(*x) * w).sum();
    sums.iter().sum::<f64>() + rest
}

impl PassSum for QuantileSum {
    type Shape = LinearShape;
    type Scratch = QuantileScratch;
    const KIND: &'static str = "quantiles";

    fn empty(shape: LinearShape, scratch: QuantileScratch) -> Result<Self> {
        if shape.outputs == 0 || shape.width.targets != 1 {
            return internal_err!(
                "quantiles need one target and an output each, not {} targets and {} outputs",
                shape.width.targets,
                shape.outputs
            );
        }
        let zeros = vec![0.0; shape.outputs];
        let grams = (0..shape.outputs).map(|_| GramSum::new(shape.width)).collect();
        Ok(Self { shape, weight: 0.0, losses: zeros.clone(), errors: zeros, grams, scratch })
    }

    fn width_of(shape: LinearShape) -> Width {
        shape.width
    }

    fn memory(shape: LinearShape) -> usize {
        gram_memory(shape.width).saturating_mul(shape.outputs)
    }

    fn add(&mut self, parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        self.update(parameters, rows)
    }

    fn take_scratch(&mut self) -> QuantileScratch {
        std::mem::take(&mut self.scratch)
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(Self::KIND, self.shape, other.shape)?;
        self.weight += other.weight;
        self.losses.iter_mut().zip(&other.losses).for_each(|(into, from)| *into += from);
        self.errors.iter_mut().zip(&other.errors).for_each(|(into, from)| *into += from);
        self.grams.iter_mut().zip(&other.grams).try_for_each(|(into, from)| into.merge(from))
    }

    /// The sums in little-endian bytes: `"GLQS"`, `u32` version 1; `u64` d, c, t, K, 1 with
    /// intercept; `f64` weight, losses `[K]`, absolute residuals `[K]`; then K times `u64` length
    /// and a Gram sum.
    fn to_bytes(&self) -> Vec<u8> {
        let LinearShape { width, outputs, intercept, .. } = self.shape;
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(width);
        writer.integers(&[outputs as u64, u64::from(intercept)]);
        writer.numbers(&[self.weight]);
        writer.numbers(&self.losses);
        writer.numbers(&self.errors);
        self.grams.iter().for_each(|gram| writer.record(&gram.to_bytes()));
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a sum of quantiles")?;
        let width = Width { targets: 1, ..reader.width()? };
        let outputs = reader.dimension()?;
        let intercept = reader.integer()? == 1;
        let weight = reader.number()?;
        let (losses, errors) = (reader.numbers(outputs)?, reader.numbers(outputs)?);
        let mut grams = vec![];
        for _ in 0..outputs {
            let gram = GramSum::from_bytes(reader.record()?)?;
            if gram.width() != width {
                return internal_err!("a sum of quantiles has a Gram sum of another width");
            }
            grams.push(gram);
        }
        reader.finish()?;
        let shape = LinearShape { width, outputs, intercept, loss: Loss::Quantile };
        let scratch = QuantileScratch::default();
        Ok(Self { shape, weight, losses, errors, grams, scratch })
    }
}

#[cfg(test)]
mod tests;
