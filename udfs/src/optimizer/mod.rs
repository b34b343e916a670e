//! Optimizers: one pass over the parameters with a gradient.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::kernels::math::vectorized;
use crate::learner::{Layout, Role, Tensor};

mod adaptive;
mod ftrl;
pub(crate) mod invariant;
mod lazy;
mod momentum;
mod schedule;
mod sparse;

pub use lazy::LazySgd;
pub use schedule::{Decay, Schedule};
pub(crate) use sparse::Numbers;

/// An optimizer and its hyper-parameters, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Optimizer {
    /// `w -= lr g`
    Sgd,
    /// `v = momentum v + g; w -= lr v`
    Momentum {
        /// Decay of the velocity.
        momentum: f32,
    },
    /// `v = momentum v + g; w -= lr (g + momentum v)`
    Nesterov {
        /// Decay of the velocity.
        momentum: f32,
    },
    /// `a += g^2; w -= lr g / (sqrt(a) + epsilon)`
    Adagrad {
        /// Added to the root.
        epsilon: f32,
    },
    /// `a = beta2 a + (1 - beta2) g^2; w -= lr g / (sqrt(a) + epsilon)`
    RmsProp {
        /// Decay of the mean square (PyTorch's `alpha`).
        beta2: f32,
        /// Added to the root.
        epsilon: f32,
    },
    /// Kingma and Ba 2015, L2 coupled to the gradient.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root.
        epsilon: f32,
    },
    /// Loshchilov and Hutter 2019, L2 as decoupled decay.
    AdamW {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root.
        epsilon: f32,
    },
    /// FTRL-Proximal, McMahan et al. 2013; `alpha` is the learning rate, L1 and L2 act inside.
    Ftrl {
        /// `beta` of the per-coordinate rate.
        beta: f32,
    },
    /// The default update of Vowpal Wabbit (adaptive, normalised, importance-invariant), of linear
    /// models alone; see [`Optimizer::takes_rows`].
    AdaptiveInvariant,
}

/// The inputs of a step beside parameters and gradient.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// Learning rate of this step (the schedule applied).
    pub learning_rate: f32,
    /// Learning rate of tensors with `Role::Intercept`.
    pub intercept_learning_rate: f32,
    /// The learning rate of the previous step divided by that of this step. None at the first step
    /// of a training, and for optimizers that do not use it. The moments of FTRL represent weights
    /// at a certain rate.
    pub previous: Option<f32>,
    /// L1 strength, on `Role::Weight` alone.
    pub l1: f32,
    /// L2 strength, on `Role::Weight` alone.
    pub l2: f32,
    /// Number of this step, from 1.
    pub step: u64,
}

/// The settings of a step for the values of one tensor.
#[derive(Clone, Copy, Debug)]
struct TensorStep {
    learning_rate: f32,
    previous: Option<f32>,
    l1: f32,
    l2: f32,
    /// `1 - beta^step` of both moments of Adam.
    corrections: [f64; 2],
}

impl Optimizer {
    /// The name in SQL.
    pub fn name(&self) -> &'static str {
        match self {
            Optimizer::Sgd => "sgd",
            Optimizer::Momentum { .. } => "momentum",
            Optimizer::Nesterov { .. } => "nesterov",
            Optimizer::Adagrad { .. } => "adagrad",
            Optimizer::RmsProp { .. } => "rmsprop",
            Optimizer::Adam { .. } => "adam",
            Optimizer::AdamW { .. } => "adamw",
            Optimizer::Ftrl { .. } => "ftrl",
            Optimizer::AdaptiveInvariant => "adaptive_invariant",
        }
    }

    /// Number of moment buffers, each as long as the parameters.
    pub fn moments(&self) -> usize {
        match self {
            Optimizer::Sgd => 0,
            Optimizer::Momentum { .. }
            | Optimizer::Nesterov { .. }
            | Optimizer::Adagrad { .. }
            | Optimizer::RmsProp { .. } => 1,
            Optimizer::Adam { .. }
            | Optimizer::AdamW { .. }
            | Optimizer::Ftrl { .. }
            | Optimizer::AdaptiveInvariant => 2,
        }
    }

    /// Number of all moment values for so many parameters: [`Optimizer::moments`] buffers of their
    /// length, then totals that belong to no single parameter, two values for each of
    /// [`Optimizer::total_names`].
    pub fn moment_values(&self, parameters: usize) -> usize {
        self.moments() * parameters + 2 * self.total_names().len()
    }

    /// Names of the totals, for the table of moments. Each total is a float64, stored as the sum of
    /// two float32.
    pub fn total_names(&self) -> &'static [&'static str] {
        match self {
            Optimizer::AdaptiveInvariant => &["weight_sum", "norm_sum"],
            _ => &[],
        }
    }

    /// Whether a step uses a row of a linear model and not a gradient: such an optimizer learns the
    /// rows of a mini-batch one after another, and [`Optimizer::step`] does nothing.
    pub fn takes_rows(&self) -> bool {
        *self == Optimizer::AdaptiveInvariant
    }

    /// Names of the moment buffers, for the table of moments.
    pub fn moment_names(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd => &[],
            Optimizer::Momentum { .. } | Optimizer::Nesterov { .. } => &["velocity"],
            Optimizer::Adagrad { .. } => &["square_sum"],
            Optimizer::RmsProp { .. } => &["square_mean"],
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => &["first_moment", "second_moment"],
            Optimizer::Ftrl { .. } => &["z", "n"],
            Optimizer::AdaptiveInvariant => &["square_sum", "scale"],
        }
    }

    /// One step: changes `parameters` and `moments` by a `gradient`, in one pass over each tensor.
    ///
    /// L2 is added to the gradient, except that AdamW decouples it and FTRL has it inside. L1 is
    /// proximal: after the step, values are pulled towards 0 by the step's own rate times `l1` (for
    /// adaptive optimizers, the rate of that coordinate). A value that would cross 0 becomes 0.
    pub fn step(
        &self,
        layout: &Layout,
        size: &StepSize,
        parameters: &mut [f32],
        gradient: &[f32],
        moments: &mut [f32],
    ) {
        self.step_ranges(layout, size, (parameters, gradient, moments), |range| range);
    }

    /// A step on the part of each tensor that `own` selects from the tensor's range.
    fn step_ranges(
        &self,
        layout: &Layout,
        size: &StepSize,
        (parameters, gradient, moments): (&mut [f32], &[f32], &mut [f32]),
        own: impl Fn(Range<usize>) -> Range<usize>,
    ) {
        let n = layout.len();
        let (first, second) = moments.split_at_mut(if self.moments() > 0 { n } else { 0 });
        let corrections = self.corrections(size.step);
        vectorized(
            #[inline(always)]
            || {
                for tensor in stepped(layout) {
                    let range = own(tensor.range());
                    let step = TensorStep { corrections, ..tensor_step(tensor.role, size) };
                    let w = &mut parameters[range.clone()];
                    let g = &gradient[range.clone()];
                    let m = first.get_mut(range.clone()).unwrap_or_default();
                    let v = second.get_mut(range).unwrap_or_default();
                    self.step_values(step, w, g, m, v);
                }
            },
        );
    }

    /// [`Optimizer::step`] on some values of a tensor with this role.
    pub fn step_part(
        &self,
        role: Role,
        size: &StepSize,
        values: (&mut [f32], &[f32]),
        moments: (&mut [f32], &mut [f32]),
    ) {
        if role == Role::Buffer {
            return;
        }
        let step =
            TensorStep { corrections: self.corrections(size.step), ..tensor_step(role, size) };
        let ((w, g), (m, v)) = (values, moments);
        vectorized(
            #[inline(always)]
            || self.step_values(step, w, g, m, v),
        );
    }

    /// The bias corrections of Adam's moments, which begin at 0 and so are too small.
    fn corrections(&self, step: u64) -> [f64; 2] {
        match *self {
            Optimizer::Adam { beta1, beta2, .. } | Optimizer::AdamW { beta1, beta2, .. } => {
                [beta1, beta2].map(|beta| correction(f64::from(beta), step as f64))
            }
            _ => [1.0; 2],
        }
    }

    /// Whether a step depends on the learning rate of the step before.
    pub(crate) fn looks_back(&self) -> bool {
        matches!(self, Optimizer::Ftrl { .. })
    }

    /// One step of some values of one tensor.
    #[inline(always)]
    fn step_values(&self, own: TensorStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        match *self {
            Optimizer::Sgd => momentum::sgd(own, w, g),
            Optimizer::Momentum { momentum } => momentum::momentum(own, momentum, w, g, m),
            Optimizer::Nesterov { momentum } => momentum::nesterov(own, momentum, w, g, m),
            Optimizer::Adagrad { epsilon } => adaptive::adagrad(own, epsilon, w, g, m),
            Optimizer::RmsProp { beta2, epsilon } => {
                adaptive::rmsprop(own, beta2, epsilon, w, g, m);
            }
            Optimizer::Adam { beta1, beta2, epsilon } => {
                adaptive::adam(own, (beta1, beta2, epsilon), false, w, g, m, v);
            }
            Optimizer::AdamW { beta1, beta2, epsilon } => {
                adaptive::adam(own, (beta1, beta2, epsilon), true, w, g, m, v);
            }
            Optimizer::Ftrl { beta } => ftrl::ftrl(own, beta, w, g, m, v),
            Optimizer::AdaptiveInvariant => {}
        }
    }

    /// Fills the moments of a training that begins with `parameters`: zeros, except that FTRL's
    /// moments are such that its closed form gives these parameters.
    pub fn initialize_moments(
        &self,
        layout: &Layout,
        size: &StepSize,
        parameters: &[f32],
        moments: &mut [f32],
    ) {
        moments.fill(0.0);
        if let Optimizer::Ftrl { beta } = *self {
            for tensor in stepped(layout) {
                let own = tensor_step(tensor.role, size);
                let (z, n) = moments.split_at_mut(layout.len());
                let range = tensor.range();
                ftrl::fit(own, beta, &parameters[range.clone()], &mut z[range.clone()], &n[range]);
            }
        }
    }

    /// Makes the parameters fit averaged moments: FTRL's parameters are a function of its moments.
    /// Other optimizers need nothing.
    pub fn after_merge(
        &self,
        layout: &Layout,
        size: &StepSize,
        parameters: &mut [f32],
        moments: &[f32],
    ) {
        if let Optimizer::Ftrl { beta } = *self {
            let (z, n) = moments.split_at(layout.len());
            for tensor in stepped(layout) {
                let own = tensor_step(tensor.role, size);
                let range = tensor.range();
                ftrl::weights(
                    own,
                    beta,
                    &mut parameters[range.clone()],
                    &z[range.clone()],
                    &n[range],
                );
            }
        }
    }
}

/// The tensors that steps change: all but running statistics.
#[inline(always)]
fn stepped(layout: &Layout) -> impl Iterator<Item = &Tensor> {
    layout.tensors().iter().filter(|tensor| tensor.role != Role::Buffer)
}

fn tensor_step(role: Role, size: &StepSize) -> TensorStep {
    let learning_rate = match role {
        Role::Intercept => size.intercept_learning_rate,
        Role::Weight | Role::Bias | Role::Scale => size.learning_rate,
        // (Never asked for: see `stepped`.)
        Role::Buffer => 0.0,
    };
    let (l1, l2) = if role == Role::Weight { (size.l1, size.l2) } else { (0.0, 0.0) };
    TensorStep { learning_rate, previous: size.previous, l1, l2, corrections: [1.0; 2] }
}

/// Soft-thresholding: the proximal operator of `threshold |w|`. NaN stays NaN, so that a diverged
/// training remains visible; zero has no sign.
#[inline(always)]
fn shrink(w: f32, threshold: f32) -> f32 {
    w - w.max(-threshold).min(threshold)
}

/// Sets a decaying mean to 0 once it is small. Without new gradients, for example of a unit that is
/// never active, it would become denormal and stay so, and a machine takes a hundred times as long
/// to multiply denormal numbers. NaN stays NaN.
#[inline(always)]
fn without_rests(mean: f32, least: f32) -> f32 {
    if mean.abs() < least { 0.0 } else { mean }
}

/// A mean, or its root, below this changes no weight.
const LEAST: f32 = 1e-34;

/// The same for means of gradients and of their squares, which are divided by at least `epsilon`: a
/// fraction of 1e-9 of it.
fn least(epsilon: f32) -> [f32; 2] {
    let part = 1e-9 * epsilon;
    [part.min(LEAST), (part * part).min(LEAST)]
}

/// `1 - beta^t`, in float64: `beta2^t` is close to 1 for many steps.
fn correction(beta: f64, t: f64) -> f64 {
    // beta^t <= exp(-(1 - beta) t), and 1 - e^-40 is 1 in float64.
    if (1.0 - beta) * t > 40.0 { 1.0 } else { 1.0 - beta.powf(t) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_are_left_out_where_they_are_1() {
        for beta in [0.0, 0.5, 0.9, 0.95, 0.999, 0.9999f32].map(f64::from) {
            for t in (1..2000).chain((2000..1_000_000).step_by(777)) {
                let t = f64::from(t);
                assert_eq!(correction(beta, t), 1.0 - beta.powf(t), "{beta}^{t}");
            }
        }
    }

    const ALL: [Optimizer; 8] = [
        Optimizer::Sgd,
        Optimizer::Momentum { momentum: 0.9 },
        Optimizer::Nesterov { momentum: 0.9 },
        Optimizer::Adagrad { epsilon: 1e-10 },
        Optimizer::RmsProp { beta2: 0.99, epsilon: 1e-8 },
        Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        Optimizer::Ftrl { beta: 1.0 },
    ];

    /// Moments of weights whose gradient is 0 from some step on become 0, not denormal.
    #[test]
    fn moments_that_decay_come_to_nothing() {
        for optimizer in ALL {
            if matches!(optimizer, Optimizer::Adagrad { .. } | Optimizer::Ftrl { .. }) {
                continue;
            }
            let (mut w, mut state) = ([0.5f32; 20], [0.0f32; 40]);
            let (m, v) = state.split_at_mut(20);
            for step in 1..200_000 {
                let g = [if step < 5 { 1e-3 } else { 0.0 }; 20];
                let size = StepSize {
                    learning_rate: 0.01,
                    intercept_learning_rate: 0.01,
                    previous: None,
                    l1: 0.0,
                    l2: 0.0,
                    step,
                };
                optimizer.step_part(Role::Weight, &size, (&mut w, &g), (m, v));
            }
            assert!(m.iter().chain(v.iter()).all(|v| *v == 0.0), "{optimizer:?}");
            assert!(w.iter().all(|w| w.is_finite() && *w != 0.5), "{optimizer:?}");
        }
        assert!(without_rests(f32::NAN, LEAST).is_nan());
        assert_eq!(without_rests(-1e-33, LEAST), -1e-33);
        assert_eq!(least(1e-8)[0], LEAST);
        assert!((least(1e-8)[1] / LEAST - 1.0).abs() < 1e-3);
        // A small epsilon is added to small roots.
        assert!(least(1e-20)[1] < 1e-44 && least(1e-30)[1] == 0.0);
    }

    #[test]
    fn shrink_pulls_towards_zero_and_hides_nothing() {
        for (w, threshold, truth) in
            [(3.0, 1.0, 2.0), (-3.0, 1.0, -2.0), (0.5, 1.0, 0.0), (-0.5, 1.0, 0.0), (2.0, 0.0, 2.0)]
        {
            assert_eq!(shrink(w, threshold).to_bits(), f32::to_bits(truth), "{w} {threshold}");
        }
        assert_eq!(shrink(1.0, f32::INFINITY), 0.0);
        assert_eq!(shrink(f32::NEG_INFINITY, 1.0), f32::NEG_INFINITY);
        assert!(shrink(f32::NAN, 1.0).is_nan() && shrink(f32::NAN, 0.0).is_nan());
    }

    #[test]
    fn running_statistics_are_left_alone_and_scales_do_not_decay() {
        let mut layout = Layout::default();
        layout.push(0, "weight", vec![2], Role::Scale);
        layout.push(0, "running_mean", vec![2], Role::Buffer);
        let size = StepSize {
            learning_rate: 0.1,
            intercept_learning_rate: 0.1,
            previous: None,
            l1: 0.5,
            l2: 0.5,
            step: 1,
        };
        for optimizer in ALL {
            let mut w = [1.0, -2.0, 3.0, 0.25];
            let mut moments = vec![0.0; 4 * optimizer.moments()];
            optimizer.initialize_moments(&layout, &size, &w, &mut moments);
            optimizer.step(&layout, &size, &mut w, &[0.0; 4], &mut moments);
            optimizer.after_merge(&layout, &size, &mut w, &moments);
            // (FTRL computes weights from its moments, which rounds them.)
            assert!((w[0] - 1.0).abs() < 1e-6 && (w[1] + 2.0).abs() < 1e-6, "{optimizer:?} {w:?}");
            assert_eq!(w[2..], [3.0, 0.25], "{optimizer:?}");
            optimizer.step(&layout, &size, &mut w, &[1.0; 4], &mut moments);
            assert!(w[0] < 1.0 && w[2..] == [3.0, 0.25], "{optimizer:?} {w:?}");
            let own = moments.len().min(4);
            let (first, second) = moments.split_at_mut(own);
            let (m, v) = (first.get_mut(2..).unwrap_or_default(), second);
            let v = v.get_mut(2..).unwrap_or_default();
            optimizer.step_part(Role::Buffer, &size, (&mut w[2..], &[1.0; 2]), (m, v));
            assert_eq!(w[2..], [3.0, 0.25], "{optimizer:?}");
        }
    }

    #[test]
    fn a_gradient_that_is_no_number_is_not_hidden() {
        let mut layout = Layout::default();
        layout.push(0, "weight", vec![1, 2], Role::Weight);
        layout.push(0, "bias", vec![2], Role::Intercept);
        for optimizer in ALL {
            for l1 in [0.0, 0.5] {
                let mut size = StepSize {
                    learning_rate: 0.1,
                    intercept_learning_rate: 0.1,
                    previous: None,
                    l1,
                    l2: 0.01,
                    step: 1,
                };
                let mut w = [1.0, -2.0, 3.0, 0.0];
                let mut moments = vec![0.0; 4 * optimizer.moments()];
                optimizer.initialize_moments(&layout, &size, &w, &mut moments);
                for (step, g) in [f32::NAN, 0.5].into_iter().enumerate() {
                    (size.step, size.previous) = (step as u64 + 1, (step > 0).then_some(1.0));
                    optimizer.step(&layout, &size, &mut w, &[g, 0.5, g, 0.5], &mut moments);
                    optimizer.after_merge(&layout, &size, &mut w, &moments);
                    assert!(w[0].is_nan() && w[2].is_nan(), "{optimizer:?} {l1}: {w:?}");
                    assert!(w[1].is_finite() && w[3].is_finite(), "{optimizer:?} {l1}: {w:?}");
                }
            }
        }
    }
}
