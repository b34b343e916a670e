//! How to step: one pass over the parameters with a gradient.

use serde::{Deserialize, Serialize};

use crate::kernels::math::vectorized;
use crate::learner::{Layout, Role};

mod adaptive;
mod ftrl;
mod momentum;
mod schedule;

pub use schedule::{Decay, Schedule};

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
}

/// What one step takes beside parameters and gradient.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// Learning rate of this step (the schedule applied).
    pub learning_rate: f32,
    /// Learning rate of tensors with `Role::Intercept`.
    pub intercept_learning_rate: f32,
    /// L1 strength, on `Role::Weight` alone.
    pub l1: f32,
    /// L2 strength, on `Role::Weight` alone.
    pub l2: f32,
    /// Number of this step, from 1.
    pub step: u64,
}

/// What a step takes for the values of one tensor.
#[derive(Clone, Copy, Debug)]
struct TensorStep {
    learning_rate: f32,
    l1: f32,
    l2: f32,
    step: u64,
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
        }
    }

    /// Buffers of the parameters' length that it keeps.
    pub fn moments(&self) -> usize {
        match self {
            Optimizer::Sgd => 0,
            Optimizer::Momentum { .. }
            | Optimizer::Nesterov { .. }
            | Optimizer::Adagrad { .. }
            | Optimizer::RmsProp { .. } => 1,
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } | Optimizer::Ftrl { .. } => 2,
        }
    }

    /// Names of these buffers, for the table of moments.
    pub fn moment_names(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd => &[],
            Optimizer::Momentum { .. } | Optimizer::Nesterov { .. } => &["velocity"],
            Optimizer::Adagrad { .. } => &["square_sum"],
            Optimizer::RmsProp { .. } => &["square_mean"],
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => &["first_moment", "second_moment"],
            Optimizer::Ftrl { .. } => &["z", "n"],
        }
    }

    /// One step: changes `parameters` and `moments` by a `gradient`, in one pass over each tensor.
    ///
    /// L2 is added to the gradient, but decoupled by AdamW and inside FTRL. L1 is proximal: after
    /// the step, values are pulled towards 0 by the step's own rate times `l1` (of adaptive
    /// optimizers the rate of that coordinate), and stay at 0 where they would cross it.
    pub fn step(
        &self,
        layout: &Layout,
        size: &StepSize,
        parameters: &mut [f32],
        gradient: &[f32],
        moments: &mut [f32],
    ) {
        let n = layout.len();
        let (first, second) = moments.split_at_mut(if self.moments() > 0 { n } else { 0 });
        for tensor in layout.tensors() {
            let range = tensor.range();
            let own = tensor_step(tensor.role, size);
            let w = &mut parameters[range.clone()];
            let g = &gradient[range.clone()];
            let m = first.get_mut(range.clone()).unwrap_or_default();
            let v = second.get_mut(range).unwrap_or_default();
            vectorized(
                #[inline(always)]
                || match *self {
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
                },
            );
        }
    }

    /// Fills the moments of a training that begins with `parameters`: zeros, but of FTRL such that
    /// its closed form gives these parameters back.
    pub fn initialize_moments(
        &self,
        layout: &Layout,
        size: &StepSize,
        parameters: &[f32],
        moments: &mut [f32],
    ) {
        moments.fill(0.0);
        if let Optimizer::Ftrl { beta } = *self {
            for tensor in layout.tensors() {
                let own = tensor_step(tensor.role, size);
                ftrl::initialize(
                    own,
                    beta,
                    &parameters[tensor.range()],
                    &mut moments[tensor.range()],
                );
            }
        }
    }

    /// Makes parameters fit moments that were averaged: those of FTRL are a function of its
    /// moments, of others nothing is to do.
    pub fn after_merge(
        &self,
        layout: &Layout,
        size: &StepSize,
        parameters: &mut [f32],
        moments: &[f32],
    ) {
        if let Optimizer::Ftrl { beta } = *self {
            let (z, n) = moments.split_at(layout.len());
            for tensor in layout.tensors() {
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

fn tensor_step(role: Role, size: &StepSize) -> TensorStep {
    let learning_rate = match role {
        Role::Intercept => size.intercept_learning_rate,
        Role::Weight | Role::Bias => size.learning_rate,
    };
    let (l1, l2) = if role == Role::Weight { (size.l1, size.l2) } else { (0.0, 0.0) };
    TensorStep { learning_rate, l1, l2, step: size.step }
}

/// Soft-thresholding: the proximal operator of `threshold |w|`.
#[inline(always)]
fn shrink(w: f32, threshold: f32) -> f32 {
    (w.abs() - threshold).max(0.0).copysign(w)
}
