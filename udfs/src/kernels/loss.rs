//! Losses of many rows at once, value and derivative in one pass.
//!
//! The value of a row is computed in float32 up to what needs float64 (the square of a residual, say)
//! and summed in float64, in 16 running sums whose order depends on the number of rows alone (of fewer
//! rows than that, one after another).
//! [`Loss::value`] is the same of one row in float64.

use super::math::{exp, logistic, tree_sum, vectorized};
use crate::learner::{Loss, LossSum};

/// Rows in hand at a time.
const BLOCK: usize = 64;
/// Running sums.
const LANES: usize = 16;

/// The weighted sum of losses of rows with one raw output each, and in `z[r]` the raw outputs replaced
/// by `scale * weight` times the derivative of the row's loss. `label[r]`, `weight[r]`.
///
/// A softmax has more outputs: see [`softmax`].
pub fn differentiate(
    loss: Loss,
    z: &mut [f32],
    label: &[f32],
    weight: &[f32],
    scale: f32,
) -> LossSum {
    let rows = (&mut *z, label, weight);
    vectorized(
        #[inline(always)]
        || match loss {
            Loss::Squared => slopes::<Squared>(rows, scale),
            Loss::Absolute => slopes::<Absolute>(rows, scale),
            Loss::Huber => slopes::<Huber>(rows, scale),
            Loss::Poisson => slopes::<Poisson>(rows, scale),
            Loss::Logistic => slopes::<Logistic>(rows, scale),
            Loss::Hinge => slopes::<Hinge>(rows, scale),
            Loss::SquaredHinge => slopes::<SquaredHinge>(rows, scale),
            Loss::Softmax => softmax_slopes(rows, 1, scale),
        },
    )
}

/// The weighted sum of losses of rows with one raw output each.
pub fn sum(loss: Loss, z: &[f32], label: &[f32], weight: &[f32]) -> LossSum {
    vectorized(
        #[inline(always)]
        || match loss {
            Loss::Squared => values::<Squared>(z, label, weight),
            Loss::Absolute => values::<Absolute>(z, label, weight),
            Loss::Huber => values::<Huber>(z, label, weight),
            Loss::Poisson => values::<Poisson>(z, label, weight),
            Loss::Logistic => values::<Logistic>(z, label, weight),
            Loss::Hinge => values::<Hinge>(z, label, weight),
            Loss::SquaredHinge => values::<SquaredHinge>(z, label, weight),
            Loss::Softmax => softmax_values(z, 1, label, weight),
        },
    )
}

/// [`differentiate`] of softmax over `k` classes, `z[r, k]`, with one exponential a logit:
/// `e = exp(z - max)`, the loss `ln(sum e) + max - z_y`, the derivative `e / sum e - [y]`.
pub fn softmax(z: &mut [f32], k: usize, label: &[f32], weight: &[f32], scale: f32) -> LossSum {
    let rows = (&mut *z, label, weight);
    vectorized(
        #[inline(always)]
        || softmax_slopes(rows, k, scale),
    )
}

/// [`sum`] of softmax over `k` classes, `z[r, k]`.
pub fn softmax_sum(z: &[f32], k: usize, label: &[f32], weight: &[f32]) -> LossSum {
    vectorized(
        #[inline(always)]
        || softmax_values(z, k, label, weight),
    )
}

/// The loss of one row with one output.
trait Rule {
    /// What the value is made of, and the derivative.
    fn row(z: f32, y: f32) -> (f32, f32);

    /// The value.
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
    /// `ln(1 + e^z) - y z`, of which `max(z, 0) - y z` is exact for the labels 0 and 1.
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

/// The sign of the label and `1 - s z` where positive (or no number), else 0.
#[inline(always)]
fn slack(z: f32, y: f32) -> (f32, f32) {
    let s = if y > 0.5 { 1.0 } else { -1.0 };
    let slack = 1.0 - s * z;
    // (Not `max`, which would make a loss of 0 of NaN.)
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
struct Sums {
    loss: [f64; LANES],
    weight: [f64; LANES],
}

impl Sums {
    const ZERO: Sums = Sums { loss: [0.0; LANES], weight: [0.0; LANES] };

    /// Adds `w value(part)` of each row.
    #[inline(always)]
    fn add(&mut self, parts: &[f32], weight: &[f32], value: impl Fn(f32) -> f64) {
        let Sums { loss, weight: weights } = self;
        for (parts, weight) in parts.chunks(LANES).zip(weight.chunks(LANES)) {
            if let (Ok(parts), Ok(weight)) =
                (<&[f32; LANES]>::try_from(parts), <&[f32; LANES]>::try_from(weight))
            {
                for i in 0..LANES {
                    loss[i] += f64::from(weight[i]) * value(parts[i]);
                    weights[i] += f64::from(weight[i]);
                }
                continue;
            }
            for (i, (part, w)) in parts.iter().zip(weight).enumerate() {
                loss[i] += f64::from(*w) * value(*part);
                weights[i] += f64::from(*w);
            }
        }
    }

    #[inline(always)]
    fn finish(mut self, rows: usize) -> LossSum {
        LossSum {
            loss: tree_sum(&mut self.loss),
            weight: tree_sum(&mut self.weight),
            rows: rows as u64,
        }
    }
}

#[inline(always)]
fn slopes<R: Rule>((z, label, weight): (&mut [f32], &[f32], &[f32]), scale: f32) -> LossSum {
    if z.len() < LANES {
        let mut sum = LossSum { rows: label.len() as u64, ..LossSum::default() };
        for ((z, y), w) in z.iter_mut().zip(label).zip(weight) {
            let (part, slope) = R::row(*z, *y);
            sum.loss += f64::from(*w) * R::value(part);
            sum.weight += f64::from(*w);
            *z = slope * (scale * w);
        }
        return sum;
    }
    let mut sums = Sums::ZERO;
    let mut parts = [0.0; BLOCK];
    let rows = z.chunks_mut(BLOCK).zip(label.chunks(BLOCK)).zip(weight.chunks(BLOCK));
    for ((z, label), weight) in rows {
        let own = z.iter_mut().zip(label).zip(weight).zip(&mut parts);
        for (((z, y), w), part) in own {
            let (of_value, slope) = R::row(*z, *y);
            *part = of_value;
            *z = slope * (scale * w);
        }
        sums.add(&parts[..z.len()], weight, R::value);
    }
    sums.finish(label.len())
}

#[inline(always)]
fn values<R: Rule>(z: &[f32], label: &[f32], weight: &[f32]) -> LossSum {
    if z.len() < LANES {
        let mut sum = LossSum { rows: label.len() as u64, ..LossSum::default() };
        for ((z, y), w) in z.iter().zip(label).zip(weight) {
            sum.loss += f64::from(*w) * R::value(R::row(*z, *y).0);
            sum.weight += f64::from(*w);
        }
        return sum;
    }
    let mut sums = Sums::ZERO;
    let mut parts = [0.0; BLOCK];
    let rows = z.chunks(BLOCK).zip(label.chunks(BLOCK)).zip(weight.chunks(BLOCK));
    for ((z, label), weight) in rows {
        for ((z, y), part) in z.iter().zip(label).zip(&mut parts) {
            *part = R::row(*z, *y).0;
        }
        sums.add(&parts[..z.len()], weight, R::value);
    }
    sums.finish(label.len())
}

/// The largest logit; of NaN it knows nothing.
#[inline(always)]
fn largest(z: &[f32]) -> f32 {
    let mut top = [f32::NEG_INFINITY; LANES];
    let whole = z.chunks_exact(LANES);
    let rest = whole.remainder();
    for z in whole {
        for i in 0..LANES {
            top[i] = if z[i] > top[i] { z[i] } else { top[i] };
        }
    }
    let over = |top: f32, z: &f32| if *z > top { *z } else { top };
    let top = if z.len() >= LANES { top.iter().fold(f32::NEG_INFINITY, over) } else { top[0] };
    rest.iter().fold(top, over)
}

/// The sum in float64.
#[inline(always)]
fn total(e: &[f32]) -> f64 {
    const WIDTH: usize = 8;
    let mut sums = [0.0f64; WIDTH];
    let whole = e.chunks_exact(WIDTH);
    let rest = whole.remainder();
    for e in whole {
        for i in 0..WIDTH {
            sums[i] += f64::from(e[i]);
        }
    }
    for (sum, e) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*e);
    }
    tree_sum(&mut sums)
}

#[inline(always)]
fn softmax_slopes(
    (z, label, weight): (&mut [f32], &[f32], &[f32]),
    k: usize,
    scale: f32,
) -> LossSum {
    let mut sum = LossSum { rows: label.len() as u64, ..LossSum::default() };
    if k == 0 {
        return sum;
    }
    let (mut own, mut totals) = ([0.0f32; BLOCK], [0.0f64; BLOCK]);
    let rows = z.chunks_mut(BLOCK * k).zip(label.chunks(BLOCK)).zip(weight.chunks(BLOCK));
    for ((z, label), weight) in rows {
        for ((z, y), own) in z.chunks_exact_mut(k).zip(label).zip(&mut own) {
            let top = largest(z);
            for z in z.iter_mut() {
                *z -= top;
            }
            *own = z.get(*y as usize).copied().unwrap_or(0.0);
        }
        for z in z.iter_mut() {
            *z = exp(*z);
        }
        let each = z.chunks_exact_mut(k).zip(label).zip(weight).zip(&mut totals);
        for (((e, y), w), of_row) in each {
            *of_row = total(e);
            let factor = scale * w;
            let share = factor / *of_row as f32;
            for e in e.iter_mut() {
                *e *= share;
            }
            if let Some(e) = e.get_mut(*y as usize) {
                *e -= factor;
            }
        }
        for ((total, own), w) in totals.iter().zip(&own).zip(weight) {
            sum.loss += f64::from(*w) * (total.ln() - f64::from(*own));
            sum.weight += f64::from(*w);
        }
    }
    sum
}

#[inline(always)]
fn softmax_values(z: &[f32], k: usize, label: &[f32], weight: &[f32]) -> LossSum {
    let mut sum = LossSum { rows: label.len() as u64, ..LossSum::default() };
    if k == 0 {
        return sum;
    }
    let mut e = [0.0f32; BLOCK];
    for ((z, y), w) in z.chunks_exact(k).zip(label).zip(weight) {
        let top = largest(z);
        let mut of_row = 0.0;
        for z in z.chunks(BLOCK) {
            for (e, z) in e.iter_mut().zip(z) {
                *e = exp(z - top);
            }
            of_row += total(&e[..z.len()]);
        }
        let own = z.get(*y as usize).map_or(0.0, |z| z - top);
        sum.loss += f64::from(*w) * (of_row.ln() - f64::from(own));
        sum.weight += f64::from(*w);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
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
            for (k, rows) in
                widths.iter().flat_map(|k| [0, 1, 2, 15, 16, 17, 63, 64, 65, 200].map(|r| (*k, r)))
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

    #[test]
    fn rows_of_a_softmax_do_not_mix() {
        // The second row is no number, the third of an unknown class, the fourth far from 0.
        let z = [1.0, 2.0, f32::NAN, 0.0, 1.0, 2.0, -1e4, 1e4];
        let mut slopes = z;
        let (label, weight) = ([0.0, 0.0, 7.0, 0.0], [1.0; 4]);
        let sum = softmax(&mut slopes, 2, &label, &weight, 1.0);
        assert!(sum.loss.is_nan());
        assert!(slopes[2].is_nan());
        let expected = 1.0 / (1.0 + (-1f32).exp());
        assert!((slopes[1] - expected).abs() < 1e-6 && (slopes[0] + expected).abs() < 1e-6);
        assert!((slopes[5] - expected).abs() < 1e-6);
        assert_eq!(slopes[6..], [-1.0, 1.0]);
        assert_eq!(softmax_sum(&z[6..], 2, &[0.0], &[1.0]).loss, 2e4);
    }
}
