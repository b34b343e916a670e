//! A chain of dense layers; with no hidden layer, a linear model.

use serde::{Deserialize, Serialize};

/// The activation function of the hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(0, x)`
    Relu,
    /// `x Phi(x)`, the exact form with erf (PyTorch's default `GELU`).
    Gelu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// `x` where positive, `exp(x) - 1` elsewhere.
    Elu,
    /// No activation.
    Identity,
}

/// A chain of dense layers.
#[derive(Clone, Debug)]
pub struct Network {}
