//! Newton's method for logistic regression, as a state machine between passes over the data.
//!
//! ```text
//!   let mut newton = Newton::new(start, options)?;
//!   loop {
//!       let mut sum = NewtonSum::new(width, outputs, intercept)?;
//!       ... sum.update(newton.trial(), &batch)? over all rows, merge ...
//!       if newton.advance(&sum)? == Advance::Finished { break }
//!   }
//!   newton.parameters(), newton.report()
//! ```
//!
//! The method is the damped Newton method of Boyd and Vandenberghe, Convex Optimization, 9.5.2,
//! with backtracking: since a pass gives loss, gradient and Hessian together, a full step that
//! lowers the objective (nearly all of them) costs one pass.
//!
//! # Singular Hessians
//! The softmax with `K` logits does not change when one vector is added to the weights of all
//! classes. The gradient has no component in that direction. The Hessian is given one, so that the
//! step has none either. Other singular cases (dependent columns without `l2`, separable classes)
//! are damped, see `solve.rs`. Probabilities of dependent columns are unique; their weights are not
//! without l2.
//!
//! # Separable classes
//! Without `l2` the loss of separable classes has no minimum. Steps continue until the gradient is
//! below the tolerance, with large but finite weights, and the report says `separable`.

use datafusion_common::{Result, exec_err, internal_err, plan_err};

use super::bytes::{Reader, Writer};
use super::logistic::NewtonSum;
use super::report::{Advance, Outcome, Report};
use super::solve::solve_damped;

const TAG: [u8; 4] = *b"GLNM";
const VERSION: u32 = 2;

/// Sufficient decrease, Boyd and Vandenberghe's alpha.
const ARMIJO: f64 = 1e-4;

/// Rounding error of a mean of losses, relative to its size: a sum of a million terms in sequence
/// loses about 1e-13.
const ROUNDING: f64 = 1e-12;

/// Halvings after which no step can help: 2^-40 of a Newton step.
const HALVINGS: u32 = 40;

/// One Newton step from a sum.
#[derive(Clone, Debug, PartialEq)]
pub struct NewtonStep {
    /// Weighted mean log loss plus `(l2 / 2) |w|^2`.
    pub objective: f64,
    /// `parameters + direction` is the full step. As long as the parameters.
    pub direction: Vec<f64>,
    /// Newton decrement squared, `g H^-1 g`: twice the decrease that the step promises.
    pub decrement: f64,
    /// Largest absolute partial derivative of the objective. With an intercept, dense inputs are
    /// relative to the reference row, so that a timestamp does not dominate the rest.
    pub gradient_max: f64,
    /// Fraction of its diagonal that was added to the Hessian to solve it; 0 where it was regular.
    pub damping: f64,
}

impl NewtonSum {
    /// The Newton step of the objective at `parameters`, at which these sums were taken.
    pub fn step(&self, parameters: &[f64], l2: f64) -> Result<NewtonStep> {
        let count = self.parameter_count();
        if parameters.len() != count {
            return internal_err!(
                "{} parameters were given to a logistic regression of {count}",
                parameters.len()
            );
        }
        let (objective, gradient) = self.objective(parameters, l2)?;
        self.step_by(objective, &gradient, l2)
    }

    /// The step, for parameters whose objective and gradient are known.
    fn step_by(&self, objective: f64, gradient: &[f64], l2: f64) -> Result<NewtonStep> {
        let (outputs, count) = (self.outputs(), self.parameter_count());
        let weights = self.width().inputs() * outputs;
        let mut hessian = self.hessian();
        for i in 0..weights {
            hessian[i * count + i] += l2;
        }
        if outputs > 1 {
            let free = if l2 > 0.0 { weights } else { 0 };
            for start in (free..count).step_by(outputs) {
                pin_sum(&mut hessian, count, start, outputs);
            }
        }
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let damping = solve_damped(&mut hessian, &mut direction)?;
        let decrement = -gradient.iter().zip(&direction).map(|(g, d)| g * d).sum::<f64>();
        if !decrement.is_finite() || direction.iter().any(|x| !x.is_finite()) {
            return exec_err!("a Newton step is not finite: inputs or parameters are too large");
        }
        if self.intercept() {
            // From intercepts at the reference row to intercepts at 0.
            let (inputs, intercepts) = direction.split_at_mut(weights);
            for (inputs, r) in inputs.chunks_exact(outputs).zip(self.reference()) {
                inputs.iter().zip(&mut *intercepts).for_each(|(w, b)| *b -= w * r);
            }
        }
        let gradient_max = gradient.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
        Ok(NewtonStep { objective, direction, decrement, gradient_max, damping })
    }

    /// Objective and gradient at `parameters`, inputs shifted by the reference.
    fn objective(&self, parameters: &[f64], l2: f64) -> Result<(f64, Vec<f64>)> {
        if self.weight() == 0.0 {
            return exec_err!("there is no row with a weight to fit a logistic regression to");
        }
        let weights = &parameters[..self.width().inputs() * self.outputs()];
        let squares: f64 = weights.iter().map(|w| w * w).sum();
        let mut gradient = self.gradient();
        gradient.iter_mut().zip(weights).for_each(|(g, w)| *g += l2 * w);
        Ok((self.mean_loss() + l2 / 2.0 * squares, gradient))
    }
}

/// Adds `s 1 1^T / K` to the `K` rows and columns from `start`, with `s` of the size of the
/// diagonal.
fn pin_sum(hessian: &mut [f64], count: usize, start: usize, outputs: usize) {
    let diagonal = (start..start + outputs).map(|i| hessian[i * count + i]);
    let size = diagonal.sum::<f64>() / (outputs * outputs) as f64;
    for j in start..start + outputs {
        for i in j..start + outputs {
            hessian[j * count + i] += size;
        }
    }
}

/// Options of Newton's method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewtonOptions {
    /// Penalty `(l2 / 2) |w|^2` beside the mean loss; at least 0.
    pub l2: f64,
    /// Converged where no partial derivative of the objective is larger in absolute value;
    /// scikit-learn's `tol`. At 0, steps continue until rounding ends them.
    pub tolerance: f64,
    /// Newton steps taken at most.
    pub max_steps: u64,
}

impl Default for NewtonOptions {
    fn default() -> Self {
        Self { l2: 0.0, tolerance: 1e-7, max_steps: 100 }
    }
}

/// Newton's method between two passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Newton {
    options: NewtonOptions,
    /// The best so far.
    parameters: Vec<f64>,
    /// Where the sums of the next pass are taken: the start, or `parameters + scale direction`.
    trial: Vec<f64>,
    /// Empty before the first pass.
    direction: Vec<f64>,
    decrement: f64,
    scale: f64,
    halvings: u32,
    report: Report,
}

impl Newton {
    /// Begins at `start`: 0, or the parameters of a model to continue.
    pub fn new(start: Vec<f64>, options: NewtonOptions) -> Result<Self> {
        let NewtonOptions { l2, tolerance, .. } = options;
        if !(l2.is_finite() && l2 >= 0.0) {
            return plan_err!("l2 is {l2}, it should be a finite number of at least 0");
        }
        if !(tolerance.is_finite() && tolerance >= 0.0) {
            return plan_err!(
                "tolerance is {tolerance}, it should be a finite number of at least 0"
            );
        }
        if start.iter().any(|x| !x.is_finite()) {
            return exec_err!("Newton's method cannot begin at parameters that are not finite");
        }
        Ok(Self {
            options,
            trial: start.clone(),
            parameters: start,
            direction: Vec::new(),
            decrement: 0.0,
            scale: 1.0,
            halvings: 0,
            report: Report::START,
        })
    }

    /// The parameters at which the next sums must be taken.
    pub fn trial(&self) -> &[f64] {
        &self.trial
    }

    /// The best parameters so far: final once finished.
    pub fn parameters(&self) -> &[f64] {
        &self.parameters
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        self.report
    }

    /// Takes the sums at the trial over all rows, and makes the next trial.
    pub fn advance(&mut self, sum: &NewtonSum) -> Result<Advance> {
        if self.report.outcome != Outcome::Running {
            return Ok(Advance::Finished);
        }
        if self.trial.len() != sum.parameter_count() {
            return internal_err!(
                "sums over {} parameters cannot advance Newton's method over {}",
                sum.parameter_count(),
                self.trial.len()
            );
        }
        self.report.passes += 1;
        let (objective, gradient) = sum.objective(&self.trial, self.options.l2)?;
        let finite = objective.is_finite() && gradient.iter().all(|g| g.is_finite());
        if self.direction.is_empty() {
            if !finite {
                return exec_err!("a logistic regression needs finite inputs");
            }
        } else {
            let slack = ROUNDING * self.report.objective.abs();
            let enough = self.report.objective - ARMIJO * self.scale * self.decrement + slack;
            if !(finite && objective <= enough) {
                // If the step promises less than rounding, halving it cannot help.
                let done = finite && self.decrement <= slack;
                return Ok(if done { self.finish(Outcome::Converged) } else { self.halve() });
            }
            self.report.steps += 1;
        }
        self.parameters.clone_from(&self.trial);
        self.report.objective = objective;
        self.report.loss = sum.mean_loss();
        self.report.separable = self.options.l2 == 0.0 && sum.wrong() == 0;
        let previous = self.report.gradient_max;
        self.report.gradient_max = gradient.iter().fold(0.0, |most, g| g.abs().max(most));
        if self.report.gradient_max <= self.options.tolerance {
            return Ok(self.finish(Outcome::Converged));
        }
        if self.report.steps >= self.options.max_steps {
            return Ok(self.finish(Outcome::StepLimit));
        }
        let step = sum.step_by(objective, &gradient, self.options.l2)?;
        // Steps below rounding do not change the objective measurably; the gradient does change, as
        // long as it falls as fast as Newton's method makes it.
        let rounding = step.decrement <= ROUNDING * objective.abs();
        if rounding && self.report.gradient_max > 0.5 * previous {
            return Ok(self.finish(Outcome::Converged));
        }
        self.direction = step.direction;
        self.decrement = step.decrement;
        self.scale = 1.0;
        self.halvings = 0;
        self.try_step();
        Ok(Advance::Continue)
    }

    fn halve(&mut self) -> Advance {
        self.scale *= 0.5;
        self.halvings += 1;
        if self.halvings > HALVINGS {
            return self.finish(Outcome::Stalled);
        }
        self.try_step();
        Advance::Continue
    }

    fn try_step(&mut self) {
        for ((trial, at), d) in self.trial.iter_mut().zip(&self.parameters).zip(&self.direction) {
            *trial = at + self.scale * d;
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Advance {
        self.report.outcome = outcome;
        self.trial.clone_from(&self.parameters);
        Advance::Finished
    }

    /// The state in little-endian bytes: `"GLNM"`, `u32` version 2; `u64` number of parameters,
    /// length of the direction, maximum of steps, halvings; `f64` l2, tolerance, decrement, scale;
    /// the report; then parameters, trial and direction.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.integers(&[self.parameters.len() as u64, self.direction.len() as u64]);
        writer.integers(&[self.options.max_steps, self.halvings.into()]);
        writer.numbers(&[self.options.l2, self.options.tolerance, self.decrement, self.scale]);
        self.report.write(&mut writer);
        writer.numbers(&self.parameters);
        writer.numbers(&self.trial);
        writer.numbers(&self.direction);
        writer.finish()
    }

    /// The state that [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a state of Newton's method")?;
        let (count, directions) = (reader.dimension()?, reader.dimension()?);
        if directions != 0 && directions != count {
            return exec_err!("a state of Newton's method has {directions} of {count} directions");
        }
        let (max_steps, halvings) = (reader.integer()?, reader.dimension()? as u32);
        let (l2, tolerance) = (reader.number()?, reader.number()?);
        let (decrement, scale) = (reader.number()?, reader.number()?);
        let report = Report::read(&mut reader)?;
        let state = Self {
            options: NewtonOptions { l2, tolerance, max_steps },
            parameters: reader.numbers(count)?,
            trial: reader.numbers(count)?,
            direction: reader.numbers(directions)?,
            decrement,
            scale,
            halvings,
            report,
        };
        reader.finish()?;
        Ok(state)
    }
}
