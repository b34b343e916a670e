//! What a solver reports between two passes, and how it ended.

use datafusion_common::{Result, exec_err};

use super::bytes::{Reader, Writer};

/// Whether another pass over the data is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Take the sums at the new trial.
    Continue,
    /// The parameters are final; the report says why.
    Finished,
}

/// The outcome of a solver so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Passes are still needed.
    Running,
    /// The gradient is below the tolerance, or as small as rounding lets it become.
    Converged,
    /// `max_steps` steps were taken.
    StepLimit,
    /// No step along the direction lowered the objective.
    Stalled,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Running, Self::Converged, Self::StepLimit, Self::Stalled];
}

/// What happened so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The outcome so far.
    pub outcome: Outcome,
    /// Steps taken.
    pub steps: u64,
    /// Passes over the data, rejected steps included.
    pub passes: u64,
    /// Mean loss plus penalty at the parameters.
    pub objective: f64,
    /// Mean loss at the parameters.
    pub loss: f64,
    /// Largest absolute partial derivative at the parameters.
    pub gradient_max: f64,
    /// The classes are separable and nothing bounds the weights: they would grow without limit.
    pub separable: bool,
}

impl Report {
    /// Before the first pass.
    pub(super) const START: Self = Self {
        outcome: Outcome::Running,
        steps: 0,
        passes: 0,
        objective: f64::INFINITY,
        loss: f64::INFINITY,
        gradient_max: f64::INFINITY,
        separable: false,
    };

    /// Appends the report to a record: `u64` outcome (its index in [`Outcome`]), steps, passes, 1
    /// where separable; `f64` objective, loss, largest derivative.
    pub(super) fn write(&self, writer: &mut Writer) {
        let outcome = Outcome::ALL.iter().position(|one| *one == self.outcome).unwrap_or(0);
        let separable = u64::from(self.separable);
        writer.integers(&[outcome as u64, self.steps, self.passes, separable]);
        writer.numbers(&[self.objective, self.loss, self.gradient_max]);
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let Some(&outcome) = Outcome::ALL.get(reader.dimension()?) else {
            return exec_err!("a state of a solver has an unknown outcome");
        };
        let (steps, passes) = (reader.integer()?, reader.integer()?);
        let separable = reader.integer()? == 1;
        let (objective, loss) = (reader.number()?, reader.number()?);
        let gradient_max = reader.number()?;
        Ok(Self { outcome, steps, passes, objective, loss, gradient_max, separable })
    }
}
