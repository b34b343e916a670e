//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// The factor on the learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The shape after the warm-up.
    pub decay: Decay,
    /// Steps over which the rate grows linearly from 0 to its full value.
    pub warmup_steps: u64,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Decay {
    /// Does not fall.
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

impl Schedule {
    /// A constant rate.
    pub const CONSTANT: Schedule = Schedule { decay: Decay::Constant, warmup_steps: 0 };

    /// The factor on the learning rate at step number `step`, from 1.
    pub fn factor(&self, step: u64) -> f32 {
        if step <= self.warmup_steps {
            return (step as f64 / self.warmup_steps as f64) as f32;
        }
        // Steps made since the warm-up, as PyTorch's schedulers count them.
        let t = step.saturating_sub(1 + self.warmup_steps);
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Step { steps, factor } => f64::from(factor).powf((t / steps.max(1)) as f64),
            Decay::Exponential { steps, factor } => {
                f64::from(factor).powf(t as f64 / steps.max(1) as f64)
            }
            Decay::Cosine { steps } => {
                let share = (t as f64 / steps.max(1) as f64).min(1.0);
                0.5 * (1.0 + (std::f64::consts::PI * share).cos())
            }
        };
        factor as f32
    }
}
