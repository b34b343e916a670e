//! How to step: one pass over the parameters with a gradient.

use serde::{Deserialize, Serialize};

use crate::learner::Layout;

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
