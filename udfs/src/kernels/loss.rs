//! Losses of many rows at once, value and derivative in one pass.
//!
//! The value of a row is computed in float32 up to what needs float64 (the square of a residual,
//! say) and summed in float64, in 16 running sums whose order depends on the number of rows alone.
//! [`Loss::value`] is the same of one row in float64.

mod rule;

use pulp::Simd;

use self::rule::{Absolute, Hinge, Huber, Logistic, Median, Poisson, Rule, Squared, SquaredHinge};
use super::lanes::{self, Kernel, LANES, Sums};
use super::math::tree_sum;
use super::softmax::{softmax_slopes, softmax_values};
use crate::learner::{Loss, LossSum};

/// Rows that are processed at a time.
const BLOCK: usize = 64;

/// Returns the weighted sum of losses of rows with one raw output each, and replaces the raw
/// outputs `z[r]` by `scale * weight` times the derivative of the row's loss. `label[r]`,
/// `weight[r]`.
///
/// A softmax has more outputs: see [`softmax`](super::softmax::softmax).
pub fn differentiate(
    loss: Loss,
    z: &mut [f32],
    label: &[f32],
    weight: &[f32],
    scale: f32,
) -> LossSum {
    lanes::run(Slopes { loss, z, label, weight, scale })
}

struct Slopes<'a> {
    loss: Loss,
    z: &'a mut [f32],
    label: &'a [f32],
    weight: &'a [f32],
    scale: f32,
}

impl Kernel for Slopes<'_> {
    type Output = LossSum;

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) -> LossSum {
        let Self { loss, z, label, weight, scale } = self;
        if let ([z], [label], [weight]) = (&mut *z, label, weight) {
            let (slope, sum) = of_row(loss, *z, *label, *weight, scale);
            *z = slope;
            return sum;
        }
        let rows = (z, label, weight);
        match loss {
            Loss::Squared => slopes::<Squared, S, V>(simd, rows, scale),
            Loss::Absolute => slopes::<Absolute, S, V>(simd, rows, scale),
            Loss::Huber => slopes::<Huber, S, V>(simd, rows, scale),
            Loss::Quantile => slopes::<Median, S, V>(simd, rows, scale),
            Loss::Poisson => slopes::<Poisson, S, V>(simd, rows, scale),
            Loss::Logistic => slopes::<Logistic, S, V>(simd, rows, scale),
            Loss::Hinge => slopes::<Hinge, S, V>(simd, rows, scale),
            Loss::SquaredHinge => slopes::<SquaredHinge, S, V>(simd, rows, scale),
            Loss::Softmax => softmax_slopes(rows, 1, scale),
        }
    }
}

/// `scale * weight` times the derivative of the loss of a row, and its weighted loss.
#[inline(always)]
pub(super) fn of_row(loss: Loss, z: f32, label: f32, weight: f32, scale: f32) -> (f32, LossSum) {
    let row = (z, label, weight);
    match loss {
        Loss::Squared => slope::<Squared>(row, scale),
        Loss::Absolute => slope::<Absolute>(row, scale),
        Loss::Huber => slope::<Huber>(row, scale),
        Loss::Quantile => slope::<Median>(row, scale),
        Loss::Poisson => slope::<Poisson>(row, scale),
        Loss::Logistic => slope::<Logistic>(row, scale),
        Loss::Hinge => slope::<Hinge>(row, scale),
        Loss::SquaredHinge => slope::<SquaredHinge>(row, scale),
        Loss::Softmax => {
            let mut z = [z];
            let sum = softmax_slopes((&mut z, &[label], &[weight]), 1, scale);
            (z[0], sum)
        }
    }
}

/// The same as [`differentiate`] for rows of several numbers: `z` and `label` `[r, k]`. The loss of
/// a row is the sum of those of its numbers.
pub fn differentiate_numbers(
    loss: Loss,
    z: &mut [f32],
    k: usize,
    label: &[f32],
    weight: &[f32],
    scale: f32,
) -> LossSum {
    let mut sum = LossSum { rows: weight.len() as u64, ..LossSum::default() };
    for ((z, y), w) in z.chunks_exact_mut(k).zip(label.chunks_exact(k)).zip(weight) {
        for (z, y) in z.iter_mut().zip(y) {
            let (slope, own) = of_row(loss, *z, *y, *w, scale);
            *z = slope;
            sum.loss += own.loss;
        }
        sum.weight += f64::from(*w);
    }
    sum
}

/// The weighted sum of the losses of rows of several numbers: `z` and `label` `[r, k]`.
pub fn sum_numbers(loss: Loss, z: &[f32], k: usize, label: &[f32], weight: &[f32]) -> LossSum {
    let mut sum = LossSum { rows: weight.len() as u64, ..LossSum::default() };
    for ((z, y), w) in z.chunks_exact(k).zip(label.chunks_exact(k)).zip(weight) {
        let own = z.iter().zip(y).map(|(z, y)| loss.value(std::slice::from_ref(z), *y));
        sum.loss += f64::from(*w) * own.sum::<f64>();
        sum.weight += f64::from(*w);
    }
    sum
}

#[inline(always)]
fn slope<R: Rule>((z, y, w): (f32, f32, f32), scale: f32) -> (f32, LossSum) {
    let (part, slope) = R::row(z, y);
    let weight = f64::from(w);
    (slope * (scale * w), LossSum { loss: weight * R::value(part), weight, rows: 1 })
}

/// The weighted sum of losses of rows with one raw output each.
pub fn sum(loss: Loss, z: &[f32], label: &[f32], weight: &[f32]) -> LossSum {
    lanes::run(Values { loss, z, label, weight })
}

struct Values<'a> {
    loss: Loss,
    z: &'a [f32],
    label: &'a [f32],
    weight: &'a [f32],
}

impl Kernel for Values<'_> {
    type Output = LossSum;

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) -> LossSum {
        let Self { loss, z, label, weight } = self;
        let rows = (z, label, weight);
        match loss {
            Loss::Squared => values::<Squared, S, V>(simd, rows),
            Loss::Absolute => values::<Absolute, S, V>(simd, rows),
            Loss::Huber => values::<Huber, S, V>(simd, rows),
            Loss::Quantile => values::<Median, S, V>(simd, rows),
            Loss::Poisson => values::<Poisson, S, V>(simd, rows),
            Loss::Logistic => values::<Logistic, S, V>(simd, rows),
            Loss::Hinge => values::<Hinge, S, V>(simd, rows),
            Loss::SquaredHinge => values::<SquaredHinge, S, V>(simd, rows),
            Loss::Softmax => softmax_values(z, 1, label, weight),
        }
    }
}

/// Running sums of weighted values and of weights.
struct Totals<S: Simd, const V: usize> {
    loss: Sums<S, V>,
    weight: Sums<S, V>,
}

impl<S: Simd, const V: usize> Totals<S, V> {
    #[inline(always)]
    fn zero(simd: S) -> Self {
        Self { loss: Sums::zero(simd), weight: Sums::zero(simd) }
    }

    /// Adds `w value(part)` of each row.
    #[inline(always)]
    fn add<R: Rule>(&mut self, parts: &[f32], weight: &[f32]) {
        let (mut losses, mut weights) = ([0.0; BLOCK], [0.0; BLOCK]);
        let products = losses.iter_mut().zip(&mut weights);
        for ((part, w), (loss, weight)) in parts.iter().zip(weight).zip(products) {
            *weight = f64::from(*w);
            *loss = f64::from(*w) * R::value(*part);
        }
        let taken = parts.len().div_ceil(LANES);
        for losses in losses.as_chunks().0.iter().take(taken) {
            self.loss.add(losses);
        }
        for weights in weights.as_chunks().0.iter().take(taken) {
            self.weight.add(weights);
        }
    }

    #[inline(always)]
    fn finish(self, rows: usize) -> LossSum {
        let (mut loss, mut weight) = ([0.0; LANES], [0.0; LANES]);
        self.loss.store(&mut loss);
        self.weight.store(&mut weight);
        LossSum { loss: tree_sum(&mut loss), weight: tree_sum(&mut weight), rows: rows as u64 }
    }
}

#[inline(always)]
fn slopes<R: Rule, S: Simd, const V: usize>(
    simd: S,
    (z, label, weight): (&mut [f32], &[f32], &[f32]),
    scale: f32,
) -> LossSum {
    let rows = label.len();
    let mut totals = Totals::<S, V>::zero(simd);
    // Zeros pad the rows that do not fill the lanes; their weight is 0, so they add nothing.
    let whole = rows - rows % LANES;
    let (z, last) = z.split_at_mut(whole);
    let mut padded = [[0.0; LANES]; 3];
    let [of_z, of_label, of_weight] = &mut padded;
    of_z[..last.len()].copy_from_slice(last);
    of_label[..last.len()].copy_from_slice(&label[whole..]);
    of_weight[..last.len()].copy_from_slice(&weight[whole..]);
    let mut at = 0;
    while at < rows {
        let own = at..whole.min(at + BLOCK);
        let rows = match own.is_empty() {
            false => (&mut z[own.clone()], &label[own.clone()], &weight[own.clone()]),
            true => (&mut of_z[..], &of_label[..], &of_weight[..]),
        };
        at += rows.0.len();
        block::<R, S, V>(rows, scale, &mut totals);
    }
    last.copy_from_slice(&of_z[..last.len()]);
    totals.finish(rows)
}

/// Up to [`BLOCK`] rows.
#[inline(always)]
fn block<R: Rule, S: Simd, const V: usize>(
    (z, label, weight): (&mut [f32], &[f32], &[f32]),
    scale: f32,
    totals: &mut Totals<S, V>,
) {
    let mut parts = [0.0; BLOCK];
    for (((z, y), w), part) in z.iter_mut().zip(label).zip(weight).zip(&mut parts) {
        let (of_value, slope) = R::row(*z, *y);
        *part = of_value;
        *z = slope * (scale * w);
    }
    totals.add::<R>(&parts[..weight.len()], weight);
}

#[inline(always)]
fn values<R: Rule, S: Simd, const V: usize>(
    simd: S,
    (z, label, weight): (&[f32], &[f32], &[f32]),
) -> LossSum {
    let mut totals = Totals::<S, V>::zero(simd);
    for ((z, label), weight) in z.chunks(BLOCK).zip(label.chunks(BLOCK)).zip(weight.chunks(BLOCK)) {
        let mut parts = [0.0; BLOCK];
        for ((z, y), part) in z.iter().zip(label).zip(&mut parts) {
            *part = R::row(*z, *y).0;
        }
        totals.add::<R>(&parts[..weight.len()], weight);
    }
    totals.finish(label.len())
}

#[cfg(test)]
mod tests;
