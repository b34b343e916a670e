//! The option `schedule`, whose lengths are epochs and fractions until the number of rows is known.

use std::fmt;

use crate::optimizer::{Decay, Schedule};

/// How the learning rate changes, before the number of steps is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleOption {
    /// The shape after the warm-up.
    pub kind: ScheduleKind,
    /// The linear growth at the beginning.
    pub warmup: Warmup,
}

/// The shape of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScheduleKind {
    /// Constant.
    Constant,
    /// Times `factor` after every `epochs` epochs.
    Step {
        /// Epochs between two falls; None: a third of all epochs.
        epochs: Option<f64>,
        /// The factor of each.
        factor: f64,
    },
    /// Times `factor` over every `epochs` epochs, smoothly.
    Exponential {
        /// Epochs in which it falls by `factor`.
        epochs: f64,
        /// The factor.
        factor: f64,
    },
    /// Half a cosine to 0 at the end of the last epoch.
    Cosine,
}

/// How long the learning rate grows from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// A fraction of all steps, from 0 to below 1.
    Share(f64),
    /// A number of steps.
    Steps(u64),
}

impl ScheduleOption {
    /// A constant rate from the first step on.
    pub const CONSTANT: Self = Self { kind: ScheduleKind::Constant, warmup: Warmup::Share(0.0) };

    /// The schedule in steps.
    pub fn resolve(&self, steps_per_epoch: u64, epochs: u64) -> Schedule {
        let all = steps_per_epoch.saturating_mul(epochs).max(1);
        let warmup_steps = match self.warmup {
            Warmup::Share(share) => steps(share * all as f64, 0),
            Warmup::Steps(steps) => steps,
        };
        let in_steps = |epochs: f64| steps(epochs * steps_per_epoch as f64, 1);
        let decay = match self.kind {
            ScheduleKind::Constant => Decay::Constant,
            ScheduleKind::Step { epochs: Some(epochs), factor } => {
                Decay::Step { steps: in_steps(epochs), factor: factor as f32 }
            }
            ScheduleKind::Step { epochs: None, factor } => {
                Decay::Step { steps: all.div_ceil(3), factor: factor as f32 }
            }
            ScheduleKind::Exponential { epochs, factor } => {
                Decay::Exponential { steps: in_steps(epochs), factor: factor as f32 }
            }
            // `Decay` counts from the end of the warm-up.
            ScheduleKind::Cosine => {
                Decay::Cosine { steps: all.saturating_sub(warmup_steps).max(1) }
            }
        };
        Schedule { decay, warmup_steps }
    }
}

/// A rounded number of steps, at least `least`.
fn steps(steps: f64, least: u64) -> u64 {
    (steps.round() as u64).max(least)
}

impl fmt::Display for ScheduleOption {
    /// SQL's spelling.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, parameters) = match self.kind {
            ScheduleKind::Constant => ("constant", String::new()),
            ScheduleKind::Cosine => ("cosine", String::new()),
            ScheduleKind::Step { epochs: None, factor } => {
                ("step", format!(", 'factor': {factor}"))
            }
            ScheduleKind::Step { epochs: Some(epochs), factor } => {
                ("step", format!(", 'epochs': {epochs}, 'factor': {factor}"))
            }
            ScheduleKind::Exponential { epochs, factor } => {
                ("exponential", format!(", 'epochs': {epochs}, 'factor': {factor}"))
            }
        };
        let warmup = match self.warmup {
            Warmup::Share(0.0) => String::new(),
            Warmup::Share(share) => format!(", 'warmup': {share}"),
            Warmup::Steps(steps) => format!(", 'warmup': {steps}"),
        };
        if parameters.is_empty() && warmup.is_empty() {
            return write!(f, "{kind}");
        }
        write!(f, "{{'kind': '{kind}'{parameters}{warmup}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_steps() {
        let schedule = |kind, warmup| ScheduleOption { kind, warmup }.resolve(100, 10);
        assert_eq!(
            schedule(ScheduleKind::Cosine, Warmup::Share(0.1)),
            Schedule { decay: Decay::Cosine { steps: 900 }, warmup_steps: 100 }
        );
        assert_eq!(
            schedule(ScheduleKind::Step { epochs: Some(2.5), factor: 0.5 }, Warmup::Steps(7)),
            Schedule { decay: Decay::Step { steps: 250, factor: 0.5 }, warmup_steps: 7 }
        );
        assert_eq!(
            schedule(ScheduleKind::Step { epochs: None, factor: 0.5 }, Warmup::Share(0.0)),
            Schedule { decay: Decay::Step { steps: 334, factor: 0.5 }, warmup_steps: 0 }
        );
        assert_eq!(
            schedule(ScheduleKind::Exponential { epochs: 0.001, factor: 0.5 }, Warmup::Share(0.0)),
            Schedule { decay: Decay::Exponential { steps: 1, factor: 0.5 }, warmup_steps: 0 }
        );
        // More warm-up steps than steps, or no steps at all, would divide by zero.
        assert_eq!(
            schedule(ScheduleKind::Cosine, Warmup::Steps(5000)).decay,
            Decay::Cosine { steps: 1 }
        );
        let none = ScheduleOption { kind: ScheduleKind::Cosine, warmup: Warmup::Share(0.5) };
        assert_eq!(none.resolve(0, 10).decay, Decay::Cosine { steps: 1 });
    }
}
