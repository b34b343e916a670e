//! Losses in float64, for sums over all rows: one function gives value and derivative of a row.

use crate::kernels::double::{exp_of_negative, ln_1p_of_unit};
use crate::kernels::math::vectorized;
use crate::learner::Loss;

/// The loss of a row with the label `y`: its numbers `[K]`, whose losses are added up, or its class
/// `[1]`. Replaces its raw outputs `z [K]` by the derivative with respect to them. The formulas are
/// those of [`Loss`].
pub(super) fn differentiate(loss: Loss, z: &mut [f64], y: &[f32]) -> f64 {
    let mut value = 0.0;
    let labels = y.iter().map(|y| f64::from(*y));
    let y = y.first().map_or(0.0, |y| f64::from(*y));
    match loss {
        Loss::Softmax => return softmax(z, y as usize),
        Loss::Logistic => {
            let [z] = z else { return value };
            let small = exp_of_negative(-z.abs());
            let large = 1.0 / (1.0 + small);
            let p = if *z >= 0.0 { large } else { small * large };
            value = ln_1p_of_unit(small) + z.max(0.0) - y * *z;
            *z = p - y;
        }
        Loss::Squared => {
            for (z, y) in z.iter_mut().zip(labels) {
                let r = *z - y;
                value += r * r;
                *z = 2.0 * r;
            }
        }
        Loss::Absolute => {
            for (z, y) in z.iter_mut().zip(labels) {
                let r = *z - y;
                value += r.abs();
                *z = if r == 0.0 { 0.0 } else { r.signum() };
            }
        }
        Loss::Quantile => {
            for (z, y) in z.iter_mut().zip(labels) {
                let r = *z - y;
                value += 0.5 * r.abs();
                *z = if r == 0.0 { 0.0 } else { 0.5 * r.signum() };
            }
        }
        Loss::Huber => {
            for (z, y) in z.iter_mut().zip(labels) {
                let r = *z - y;
                value += if r.abs() <= 1.0 { 0.5 * r * r } else { r.abs() - 0.5 };
                *z = r.clamp(-1.0, 1.0);
            }
        }
        Loss::Poisson => {
            for (z, y) in z.iter_mut().zip(labels) {
                let mean = z.exp();
                value += mean - y * *z;
                *z = mean - y;
            }
        }
        Loss::Hinge | Loss::SquaredHinge => {
            let outputs = z.len();
            for (i, z) in z.iter_mut().enumerate() {
                let is_own = if outputs == 1 { y > 0.5 } else { i == y as usize };
                let sign = if is_own { 1.0 } else { -1.0 };
                let slack = 1.0 - sign * *z;
                // (Not `max`: it would turn NaN into a loss of 0.)
                let (own, slope) = match loss {
                    _ if slack <= 0.0 => (0.0, 0.0),
                    Loss::Hinge => (slack, -sign),
                    _ => (slack * slack, -2.0 * sign * slack),
                };
                value += own;
                *z = slope;
            }
        }
    }
    value
}

/// `log sum exp(z) - z_y`; replaces `z` by `p - [y]`.
fn softmax(z: &mut [f64], class: usize) -> f64 {
    let highest = z.iter().fold(f64::NEG_INFINITY, |most, z| most.max(*z));
    let own = z.get(class).copied().unwrap_or(highest);
    let mut total = 0.0;
    for z in &mut *z {
        *z = exp_of_negative(*z - highest);
        total += *z;
    }
    z.iter_mut().for_each(|z| *z /= total);
    if let Some(own) = z.get_mut(class) {
        *own -= 1.0;
    }
    total.ln() + (highest - own)
}

/// A row of two classes with one logit.
pub(super) struct Logit {
    /// `1 / (1 + exp(-z))`
    pub probability: f64,
    /// `weight (log(1 + exp(z)) - y z)`
    pub loss: f64,
    /// `weight (p - y)`
    pub derivative: f64,
    /// Whether the row has a weight, but its logit does not have the sign of its class.
    pub is_wrong: bool,
}

impl Logit {
    /// For a label of 0 or 1. A row of weight 0 counts as one whose logit is 0. There are no
    /// branches, so that loops over rows become vector instructions.
    #[inline(always)]
    pub(super) fn of(z: f64, label: f32, weight: f32) -> Self {
        let (own, is_one) = (f64::from(weight), label > 0.5);
        let score = if own == 0.0 { 0.0 } else { z };
        let margin = if is_one { score } else { -score };
        let small = exp_of_negative(-score.abs());
        let large = 1.0 / (1.0 + small);
        let probability = if score >= 0.0 { large } else { small * large };
        let below = if margin < 0.0 { -margin } else { 0.0 };
        let is_right = margin > 0.0;
        Self {
            probability,
            loss: own * (ln_1p_of_unit(small) + below),
            derivative: own * (probability - if is_one { 1.0 } else { 0.0 }),
            is_wrong: (own != 0.0) & !is_right,
        }
    }
}

/// Two classes with one logit per row, all rows at once: `z [r]` becomes `weight` times the
/// derivative, `losses [r]` become `weight` times the loss. Returns the number of rows with a
/// weight whose logit does not have the sign of their class.
pub(super) fn differentiate_logits(
    z: &mut [f64],
    label: &[f32],
    weight: &[f32],
    losses: &mut [f64],
) -> u64 {
    let n = z.len();
    vectorized(
        #[inline(always)]
        || {
            // (As variables of the closure, the slices have lengths that cannot change, so the loop
            // needs no bounds checks.)
            let (z, losses) = (&mut z[..n], &mut losses[..n]);
            let (label, weight) = (&label[..n], &weight[..n]);
            let mut wrong = 0;
            for i in 0..n {
                let row = Logit::of(z[i], label[i], weight[i]);
                (losses[i], z[i]) = (row.loss, row.derivative);
                wrong += u64::from(row.is_wrong);
            }
            wrong
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values are compared with those of the float32 losses, derivatives with finite differences.
    #[test]
    fn derivatives_are_differences_of_values() {
        const H: f64 = 1e-6;
        for loss in Loss::ALL {
            let outputs = if loss == Loss::Softmax { 3 } else { 1 };
            for y in [0.0, 1.0] {
                for shift in [-2.3, -0.4, 0.3, 1.7] {
                    let at: Vec<f64> = (0..outputs).map(|k| shift + 0.5 * k as f64).collect();
                    let mut slope = at.clone();
                    let value = differentiate(loss, &mut slope, &[y as f32]);
                    let single: Vec<f32> = at.iter().map(|z| *z as f32).collect();
                    let truth = loss.value(&single, y as f32);
                    assert!((value - truth).abs() < 1e-5 * (1.0 + truth), "{loss:?} {y} {shift}");
                    for k in 0..outputs {
                        let moved = |by: f64| {
                            let mut z = at.clone();
                            z[k] += by;
                            differentiate(loss, &mut z, &[y as f32])
                        };
                        let difference = (moved(H) - moved(-H)) / (2.0 * H);
                        assert!((slope[k] - difference).abs() < 1e-6, "{loss:?} {y} {shift} {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn many_logits_are_one_after_another() {
        let z: Vec<f64> = (0..37).map(|i| f64::from(i - 18) * 0.7).collect();
        let label: Vec<f32> = (0..37).map(|i| (i % 2) as f32).collect();
        let weight: Vec<f32> = (0..37).map(|i| (i % 3) as f32).collect();
        let (mut slopes, mut losses) = (z.clone(), vec![0.0; 37]);
        let wrong = differentiate_logits(&mut slopes, &label, &weight, &mut losses);
        let mut expected = 0;
        for i in 0..37 {
            let mut slope = [z[i]];
            let value = differentiate(Loss::Logistic, &mut slope, &[label[i]]);
            let own = f64::from(weight[i]);
            assert!((losses[i] - own * value).abs() < 1e-14, "{i}");
            assert!((slopes[i] - own * slope[0]).abs() < 1e-14, "{i}");
            let is_right = if label[i] > 0.5 { z[i] > 0.0 } else { z[i] < 0.0 };
            expected += u64::from(own > 0.0 && !is_right);
        }
        assert_eq!(wrong, expected);
    }
}
