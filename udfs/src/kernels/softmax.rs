//! Softmax over `k` classes: the loss of many rows at once, value and derivative in one pass.

use super::lanes::LANES;
use super::math::{exp, tree_sum, vectorized};
use crate::learner::LossSum;

/// Rows that are processed at a time.
const BLOCK: usize = 64;

/// Returns the weighted sum of losses, and replaces the logits `z[r, k]` by `scale * weight` times
/// the derivative of the row's loss, with one exponential per logit: `e = exp(z - max)`, the loss
/// `ln(sum e) + max - z_y`, the derivative `e / sum e - [y]`.
pub fn softmax(z: &mut [f32], k: usize, label: &[f32], weight: &[f32], scale: f32) -> LossSum {
    let rows = (&mut *z, label, weight);
    vectorized(
        #[inline(always)]
        || softmax_slopes(rows, k, scale),
    )
}

/// The weighted sum of losses of rows with the logits `z[r, k]`.
pub fn softmax_sum(z: &[f32], k: usize, label: &[f32], weight: &[f32]) -> LossSum {
    vectorized(
        #[inline(always)]
        || softmax_values(z, k, label, weight),
    )
}

/// The largest logit; NaN is ignored.
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

/// [`softmax`], within a kernel.
#[inline(always)]
pub(super) fn softmax_slopes(
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

/// [`softmax_sum`], within a kernel.
#[inline(always)]
pub(super) fn softmax_values(z: &[f32], k: usize, label: &[f32], weight: &[f32]) -> LossSum {
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

    #[test]
    fn rows_of_a_softmax_do_not_mix() {
        // The second row has a NaN, the third an unknown class, the fourth logits far from 0.
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
