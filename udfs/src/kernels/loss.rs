//! Losses of many rows at once, value and derivative in one pass.
//!
//! The value of a row is computed in float32 up to what needs float64 (the square of a residual,
//! say) and summed in float64, in 16 running sums whose order depends on the number of rows alone.
//! [`Loss::value`] is the same of one row in float64.

use pulp::Simd;

use super::lanes::{self, Kernel, LANES, Sums};
use super::math::{exp, logistic, tree_sum};
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

/// The same as [`differentiate`] for rows of several numbers: `z` and `label` `[r, k]`. The loss of a
/// row is the sum of those of its numbers.
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

/// The loss of one row with one output.
trait Rule {
    /// The intermediate result that gives the value, and the derivative.
    fn row(z: f32, y: f32) -> (f32, f32);

    /// The value from the intermediate result.
    fn value(part: f32) -> f64;
}

struct Squared;
impl Rule for Squared {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        (z - y, 2.0 * (z - y))
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part) * f64::from(part)
    }
}

struct Absolute;
impl Rule for Absolute {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let r = z - y;
        (r.abs(), if r == 0.0 { 0.0 } else { r.signum() })
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

/// The quantile loss where no levels are known: other levels are of `quantile.rs`.
struct Median;
impl Rule for Median {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (value, slope) = Absolute::row(z, y);
        (0.5 * value, 0.5 * slope)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

struct Huber;
impl Rule for Huber {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        ((z - y).abs(), (z - y).clamp(-1.0, 1.0))
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        let a = f64::from(part);
        if a <= 1.0 { 0.5 * a * a } else { a - 0.5 }
    }
}

struct Poisson;
impl Rule for Poisson {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let e = exp(z);
        (e - y * z, e - y)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

struct Logistic;
impl Rule for Logistic {
    /// `ln(1 + e^z) - y z`; its part `max(z, 0) - y z` is exact for the labels 0 and 1.
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (bent, p) = logistic(z);
        (z.max(0.0) - y * z + bent, p - y)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

/// The sign of the label and `1 - s z` where positive (or NaN), else 0.
#[inline(always)]
fn slack(z: f32, y: f32) -> (f32, f32) {
    let s = if y > 0.5 { 1.0 } else { -1.0 };
    let slack = 1.0 - s * z;
    // (Not `max`: it would turn NaN into a loss of 0.)
    (s, if slack <= 0.0 { 0.0 } else { slack })
}

struct Hinge;
impl Rule for Hinge {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (s, slack) = slack(z, y);
        (slack, if slack == 0.0 { 0.0 } else { -s })
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

struct SquaredHinge;
impl Rule for SquaredHinge {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (s, slack) = slack(z, y);
        (slack, -2.0 * s * slack)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part) * f64::from(part)
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
mod tests {
    use super::*;
    use crate::kernels::lanes::on_every_width;
    use crate::kernels::rng::{mix, unit};

    fn draws(what: u64, n: usize) -> impl Iterator<Item = f32> {
        (0..n as u64).map(move |i| unit(mix(5, what, i)))
    }

    /// Labels of a loss: numbers, counts or one of `k` classes.
    fn labels(loss: Loss, rows: usize, k: usize) -> Vec<f32> {
        let numbers = draws(1, rows);
        match loss {
            Loss::Squared | Loss::Absolute | Loss::Huber => numbers.map(|u| 4.0 * u).collect(),
            Loss::Poisson => numbers.map(|u| (5.0 * u).floor()).collect(),
            _ => numbers.map(|u| (k.max(2) as f32 * u).floor()).collect(),
        }
    }

    /// The value in float64 and the slope by central differences of it.
    fn reference(loss: Loss, z: &[f64], y: f64) -> f64 {
        let sign = if y > 0.5 { 1.0 } else { -1.0 };
        let slack = 1.0 - sign * z[0];
        match loss {
            Loss::Squared => (z[0] - y).powi(2),
            Loss::Absolute => (z[0] - y).abs(),
            Loss::Quantile => 0.5 * (z[0] - y).abs(),
            Loss::Huber if (z[0] - y).abs() <= 1.0 => 0.5 * (z[0] - y).powi(2),
            Loss::Huber => (z[0] - y).abs() - 0.5,
            Loss::Poisson => z[0].exp() - y * z[0],
            Loss::Logistic if y > 0.5 => (-z[0].abs()).exp().ln_1p() + (-z[0]).max(0.0),
            Loss::Logistic => (-z[0].abs()).exp().ln_1p() + z[0].max(0.0),
            Loss::Softmax => {
                let others = z.iter().map(|other| (other - z[y as usize]).exp());
                others.sum::<f64>().ln()
            }
            Loss::Hinge => slack.max(0.0),
            Loss::SquaredHinge => slack.max(0.0).powi(2),
        }
    }

    #[test]
    fn values_and_slopes_of_all_lengths_are_those_of_float64() {
        for loss in Loss::ALL {
            let widths: &[usize] = if loss == Loss::Softmax { &[2, 3, 10, 33, 100] } else { &[1] };
            for (k, rows) in widths
                .iter()
                .flat_map(|k| [0, 1, 2, 5, 15, 16, 17, 63, 64, 65, 79, 128, 200].map(|r| (*k, r)))
            {
                let z: Vec<f32> = draws(2, rows * k).map(|u| 12.0 * u - 6.0).collect();
                let label = labels(loss, rows, k);
                let weight: Vec<f32> = draws(3, rows).map(|u| 2.0 * u).collect();
                let mut slopes = z.clone();
                let found = loss.differentiate(&mut slopes, k, &label, &weight, 0.5);
                let mut truth = 0.0;
                for (r, (y, w)) in label.iter().zip(&weight).enumerate() {
                    let (y, w) = (f64::from(*y), f64::from(*w));
                    let own: Vec<f64> = z[r * k..][..k].iter().map(|z| f64::from(*z)).collect();
                    truth += w * reference(loss, &own, y);
                    for class in 0..k {
                        let at = |by: f64| {
                            let mut moved = own.clone();
                            moved[class] += by;
                            reference(loss, &moved, y)
                        };
                        let slope = 0.5 * w * (at(1e-6) - at(-1e-6)) / 2e-6;
                        let error = (f64::from(slopes[r * k + class]) - slope).abs();
                        let size = 1.0
                            + own[class].abs().exp() * f64::from(u8::from(loss == Loss::Poisson));
                        assert!(error < 1e-5 * size, "{loss:?} {rows} x {k}, {r}: {error}");
                    }
                }
                let weights: f64 = weight.iter().map(|w| f64::from(*w)).sum();
                for sum in [found, loss.sum(&z, k, &label, &weight)] {
                    let error = (sum.loss - truth).abs();
                    assert!(error <= 1e-6 * truth.abs(), "{loss:?} {rows} x {k}: {sum:?} {truth}");
                    assert!((sum.weight - weights).abs() <= 1e-12 * weights);
                    assert_eq!(sum.rows, rows as u64);
                }
            }
        }
    }

    #[test]
    fn rows_do_not_mix_and_every_vector_width_gives_the_same_bits() {
        for loss in Loss::ALL.into_iter().filter(|loss| *loss != Loss::Softmax) {
            for rows in [1, 2, 5, 16, 17, 63, 64, 65, 100] {
                let z: Vec<f32> = draws(2, rows).map(|u| 12.0 * u - 6.0).collect();
                let (label, weight) = (labels(loss, rows, 2), vec![0.75; rows]);
                let of = |z: &[f32]| {
                    let mut slopes = z.to_vec();
                    let sum = differentiate(loss, &mut slopes, &label, &weight, 0.5);
                    (slopes, sum)
                };
                let (slopes, found) = of(&z);
                assert_eq!(found, sum(loss, &z, &label, &weight), "{loss:?} {rows}");
                for (r, (z, y)) in z.iter().zip(&label).enumerate() {
                    let alone = of_row(loss, *z, *y, 0.75, 0.5).0;
                    assert_eq!(slopes[r], alone, "{loss:?} {rows}, {r}");
                }
                on_every_width(|width| {
                    let (mut z, label, weight) = (z.clone(), &label[..], &weight[..]);
                    let kernel = Slopes { loss, z: &mut z, label, weight, scale: 0.5 };
                    assert_eq!((width.run(kernel), &z), (found, &slopes), "{loss:?} {rows}");
                });
                let mut broken = z.clone();
                broken[rows / 2] = f32::NAN;
                let (mut slopes_of_broken, sum) = of(&broken);
                assert!(sum.loss.is_nan(), "{loss:?} {rows}");
                slopes_of_broken[rows / 2] = slopes[rows / 2];
                assert_eq!(slopes_of_broken, slopes, "{loss:?} {rows}");
            }
        }
    }

    #[test]
    fn the_loss_of_a_single_row_keeps_its_digits_far_from_zero() {
        for i in -8000..=8000 {
            let z = i as f32 * 0.01;
            for y in [0.0f32, 1.0] {
                let found = Loss::Logistic.sum(&[z], 1, &[y], &[1.0]).loss;
                let truth = reference(Loss::Logistic, &[f64::from(z)], f64::from(y));
                assert!((found - truth).abs() <= 1e-6 * truth, "{z} {y}: {found} {truth}");
            }
        }
    }
}
