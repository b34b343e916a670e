//! Activation functions: their names and what their derivatives need.

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

impl Activation {
    /// Every activation function.
    pub const ALL: [Activation; 6] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Elu,
        Activation::Identity,
    ];

    /// Whether its derivative needs its argument, and not its value alone.
    pub(super) fn needs_z(self) -> bool {
        self == Activation::Gelu
    }

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Gelu => "gelu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Elu => "elu",
            Activation::Identity => "identity",
        }
    }
}

impl std::str::FromStr for Activation {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Activation::ALL.into_iter().find(|a| a.name() == name).ok_or(())
    }
}
