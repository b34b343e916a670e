//! Losses: the value of a row, its derivative by the raw outputs, and the link to probabilities.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::LossSum;
use crate::kernels::double::exp_of_negative;
use crate::kernels::loss as kernels;
use crate::kernels::math::{sigmoid, softplus, vectorized};
use crate::kernels::softmax;

/// The loss of one row with label `y` and raw outputs `z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `(y - z)^2`, PyTorch's `MSELoss`.
    Squared,
    /// `|y - z|`, PyTorch's `L1Loss`.
    Absolute,
    /// PyTorch's `HuberLoss` with `delta = 1`.
    Huber,
    /// `exp(z) - y z`, PyTorch's `PoissonNLLLoss(log_input=True, full=False)`.
    Poisson,
    /// Of two classes, one logit: PyTorch's `BCEWithLogitsLoss`; `y` is 0 or 1. Of several boolean
    /// targets, one logit each, whose losses are added up.
    Logistic,
    /// Of many classes, one logit each: PyTorch's `CrossEntropyLoss`; `y` is the index.
    Softmax,
    /// `max(0, 1 - s z)` with `s = 2 y - 1`; of many classes, one against the rest.
    Hinge,
    /// `max(0, 1 - s z)^2`; of many classes, one against the rest.
    SquaredHinge,
    /// `q (y - z)` where `y > z`, else `(1 - q) (z - y)`, the pinball loss (Koenker and Bassett
    /// 1978), summed over one output for each quantile `q`. The quantiles are not part of the loss:
    /// see [`kernels::quantile`](crate::kernels::quantile). Where none are known, as in the methods
    /// here, it is that of the median, half the absolute error.
    Quantile,
}

impl Loss {
    /// Every loss that depends on raw outputs and label alone: all but [`Loss::Quantile`].
    pub const ALL: [Loss; 8] = [
        Loss::Squared,
        Loss::Absolute,
        Loss::Huber,
        Loss::Poisson,
        Loss::Logistic,
        Loss::Softmax,
        Loss::Hinge,
        Loss::SquaredHinge,
    ];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Squared => "squared",
            Loss::Absolute => "absolute",
            Loss::Huber => "huber",
            Loss::Poisson => "poisson",
            Loss::Logistic => "logistic",
            Loss::Softmax => "softmax",
            Loss::Hinge => "hinge",
            Loss::SquaredHinge => "squared_hinge",
            Loss::Quantile => "quantile",
        }
    }

    /// Whether labels are indices of classes.
    pub fn is_of_classes(self) -> bool {
        matches!(self, Loss::Logistic | Loss::Softmax | Loss::Hinge | Loss::SquaredHinge)
    }

    /// Whether raw outputs are logits of classes.
    pub fn has_probabilities(self) -> bool {
        matches!(self, Loss::Logistic | Loss::Softmax)
    }

    /// Whether a row has one label, whatever the number of outputs; otherwise each output has its
    /// own, and the losses are added up.
    pub(crate) fn has_one_label(self) -> bool {
        matches!(self, Loss::Softmax | Loss::Hinge | Loss::SquaredHinge)
    }

    /// Whether it has a derivative everywhere, so that its minimum is where the gradient is 0.
    pub fn has_gradient(self) -> bool {
        !matches!(self, Loss::Absolute | Loss::Hinge | Loss::Quantile)
    }

    /// Whether the prediction is the exponential of the raw output.
    pub fn is_log_link(self) -> bool {
        self == Loss::Poisson
    }

    /// Returns the weighted sum of losses of some rows, and replaces the raw outputs
    /// `z[r, outputs]` by `scale * weight` times the derivative of the row's loss. Labels are
    /// classes `[r]`, or numbers or booleans `[r, outputs]`, whose losses are added up.
    pub fn differentiate(
        self,
        z: &mut [f32],
        outputs: usize,
        label: &[f32],
        weight: &[f32],
        scale: f32,
    ) -> LossSum {
        match self {
            Loss::Softmax => return softmax::softmax(z, outputs, label, weight, scale),
            _ if outputs == 1 => return kernels::differentiate(self, z, label, weight, scale),
            _ if !self.has_one_label() => {
                return kernels::differentiate_numbers(self, z, outputs, label, weight, scale);
            }
            _ => {}
        }
        let mut sum = LossSum { rows: label.len() as u64, ..LossSum::default() };
        for ((z, &y), &w) in z.chunks_exact_mut(outputs).zip(label).zip(weight) {
            sum.loss += f64::from(w) * self.value(z, y);
            sum.weight += f64::from(w);
            let factor = scale * w;
            self.derivative(z, y);
            for d in z {
                *d *= factor;
            }
        }
        sum
    }

    /// The weighted sum of losses of some rows with raw outputs `z[r, outputs]`.
    pub fn sum(self, z: &[f32], outputs: usize, label: &[f32], weight: &[f32]) -> LossSum {
        match self {
            Loss::Softmax => return softmax::softmax_sum(z, outputs, label, weight),
            _ if outputs == 1 => return kernels::sum(self, z, label, weight),
            _ if !self.has_one_label() => {
                return kernels::sum_numbers(self, z, outputs, label, weight);
            }
            _ => {}
        }
        let mut sum = LossSum { rows: label.len() as u64, ..LossSum::default() };
        for ((z, &y), &w) in z.chunks_exact(outputs).zip(label).zip(weight) {
            sum.loss += f64::from(w) * self.value(z, y);
            sum.weight += f64::from(w);
        }
        sum
    }

    /// The loss of one row, in float64.
    #[inline]
    pub fn value(self, z: &[f32], y: f32) -> f64 {
        let Some(&first) = z.first() else { return 0.0 };
        let (z0, y0) = (f64::from(first), f64::from(y));
        match self {
            Loss::Squared => (y0 - z0) * (y0 - z0),
            Loss::Absolute => (y0 - z0).abs(),
            Loss::Quantile => 0.5 * (y0 - z0).abs(),
            Loss::Huber => {
                let a = (y0 - z0).abs();
                if a <= 1.0 { 0.5 * a * a } else { a - 0.5 }
            }
            Loss::Poisson => z0.exp() - y0 * z0,
            // -y log p - (1 - y) log(1 - p) = log(1 + e^z) - y z
            Loss::Logistic => softplus(z0) - y0 * z0,
            Loss::Softmax => {
                let top = z.iter().fold(f32::NEG_INFINITY, |top, z| top.max(*z));
                let total: f64 = z.iter().map(|z| f64::from(z - top).exp()).sum();
                total.ln() - f64::from(z.get(y as usize).copied().unwrap_or(top) - top)
            }
            Loss::Hinge | Loss::SquaredHinge => signs(z.len(), y)
                .zip(z)
                .map(|(s, z)| {
                    let slack = f64::from(1.0 - s * z);
                    match self {
                        // (Not `max`: it would turn NaN into a loss of 0.)
                        _ if slack <= 0.0 => 0.0,
                        Loss::Hinge => slack,
                        _ => slack * slack,
                    }
                })
                .sum(),
        }
    }

    /// Replaces the raw outputs of one row by the derivative of its loss.
    #[inline]
    pub(crate) fn derivative(self, z: &mut [f32], y: f32) {
        match self {
            Loss::Squared => z.iter_mut().for_each(|z| *z = 2.0 * (*z - y)),
            Loss::Absolute => z.iter_mut().for_each(|z| {
                let r = *z - y;
                *z = if r == 0.0 { 0.0 } else { r.signum() };
            }),
            Loss::Quantile => z.iter_mut().for_each(|z| {
                let r = *z - y;
                *z = if r == 0.0 { 0.0 } else { 0.5 * r.signum() };
            }),
            Loss::Huber => z.iter_mut().for_each(|z| *z = (*z - y).clamp(-1.0, 1.0)),
            Loss::Poisson => z.iter_mut().for_each(|z| *z = z.exp() - y),
            Loss::Logistic => z.iter_mut().for_each(|z| *z = sigmoid(*z) - y),
            Loss::Softmax => {
                let top = z.iter().fold(f32::NEG_INFINITY, |top, z| top.max(*z));
                let mut total = 0.0;
                for z in z.iter_mut() {
                    *z = crate::kernels::math::exp(*z - top);
                    total += *z;
                }
                for z in z.iter_mut() {
                    *z /= total;
                }
                if let Some(own) = z.get_mut(y as usize) {
                    *own -= 1.0;
                }
            }
            Loss::Hinge | Loss::SquaredHinge => {
                for (s, z) in signs(z.len(), y).zip(z.iter_mut()) {
                    let slack = 1.0 - s * *z;
                    *z = match self {
                        _ if slack <= 0.0 => 0.0,
                        Loss::Hinge => -s,
                        _ => -2.0 * s * slack,
                    };
                }
            }
        }
    }
}

/// The sign of each output: with one output, that of the positive class; with many, + for the own
/// class.
fn signs(outputs: usize, y: f32) -> impl Iterator<Item = f32> {
    (0..outputs).map(move |i| {
        let positive = if outputs == 1 { y > 0.5 } else { i == y as usize };
        if positive { 1.0 } else { -1.0 }
    })
}

/// Probabilities `[r, classes]` in float64 from logits `[r, outputs]`: for a logistic loss, both
/// classes from one logit; for a softmax, all classes.
pub fn probabilities(loss: Loss, logits: &[f32], outputs: usize, out: &mut [f64]) {
    if loss == Loss::Logistic {
        return vectorized(
            #[inline(always)]
            || {
                for (z, p) in logits.iter().zip(out.as_chunks_mut::<2>().0) {
                    let z = f64::from(*z);
                    // Both probabilities come from the small tail, so that neither rounds to
                    // exactly 1 too soon.
                    let e = exp_of_negative(-z.abs());
                    let small = e / (1.0 + e);
                    let large = 1.0 - small;
                    *p = if z > 0.0 { [small, large] } else { [large, small] };
                }
            },
        );
    }
    vectorized(
        #[inline(always)]
        || {
            for (z, p) in logits.chunks_exact(outputs).zip(out.chunks_exact_mut(outputs)) {
                let top = z.iter().fold(f32::NEG_INFINITY, |top, z| top.max(*z));
                let mut total = 0.0;
                for (z, p) in z.iter().zip(p.iter_mut()) {
                    *p = exp_of_negative(f64::from(z - top));
                    total += *p;
                }
                p.iter_mut().for_each(|p| *p /= total);
            }
        },
    );
}

impl FromStr for Loss {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut all = Loss::ALL.into_iter().chain([Loss::Quantile]);
        all.find(|loss| loss.name() == name).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_are_no_numbers_make_no_finite_loss() {
        for loss in Loss::ALL {
            for outputs in [1, 3] {
                let mut z = vec![0.5; outputs];
                z[outputs - 1] = f32::NAN;
                if loss == Loss::Softmax || outputs == 1 || loss.name().ends_with("hinge") {
                    let sum = loss.differentiate(&mut z, outputs, &[0.0], &[1.0], 1.0);
                    assert!(sum.loss.is_nan(), "{loss:?} {outputs}");
                }
            }
        }
    }

    #[test]
    fn losses_and_derivatives_stay_finite_far_from_zero() {
        for loss in Loss::ALL {
            let outputs = if loss == Loss::Softmax { 2 } else { 1 };
            for far in [-1e4f32, -100.0, 100.0, 1e4] {
                for y in [0.0, 1.0] {
                    let mut z = vec![far, 0.0];
                    z.truncate(outputs);
                    let sum = loss.differentiate(&mut z, outputs, &[y], &[1.0], 1.0);
                    if loss != Loss::Poisson || far < 88.0 {
                        assert!(sum.loss.is_finite() && z[0].is_finite(), "{loss:?} {far} {y}");
                    }
                }
            }
        }
        // PyTorch 2.15, float64: 100 and 3.72e-44, which is below the precision of 100.
        assert_eq!(Loss::Logistic.value(&[-100.0], 1.0), 100.0);
        assert!(Loss::Logistic.value(&[100.0], 1.0) < 1e-43);
        assert_eq!(Loss::Softmax.value(&[-1e4, 0.0], 0.0), 1e4);
    }
}
