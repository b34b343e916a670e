//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// The factor on the learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The shape after the warm-up.
    pub decay: Decay,
    /// Steps over which the rate grows linearly from 0 to its full height.
    pub warmup_steps: u64,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Decay {
    /// Stays.
    Constant,
    /// Times `factor` after every `steps` steps.
    Step {
        /// Steps between two falls.
        steps: u64,
        /// The factor of each.
        factor: f32,
    },
    /// Times `factor^(step / steps)`, smoothly.
    Exponential {
        /// Steps in which it falls by `factor`.
        steps: u64,
        /// The factor.
        factor: f32,
    },
    /// Half a cosine from 1 to 0 over `steps` steps (Loshchilov and Hutter 2017, no restart).
    Cosine {
        /// Steps until it reaches 0.
        steps: u64,
    },
}
