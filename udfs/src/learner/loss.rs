//! Losses of one row: value, derivative with respect to the raw outputs, and their names.

use serde::{Deserialize, Serialize};

/// The loss of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Of two classes, one logit: PyTorch's `BCEWithLogitsLoss`; `y` is 0 or 1.
    Logistic,
    /// Of many classes, one logit each: PyTorch's `CrossEntropyLoss`; `y` is the index.
    Softmax,
    /// `max(0, 1 - s z)` with `s = 2 y - 1`; of many classes, one against the rest.
    Hinge,
    /// `max(0, 1 - s z)^2`; of many classes, one against the rest.
    SquaredHinge,
}
