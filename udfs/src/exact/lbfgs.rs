//! L-BFGS as a state machine between passes over the data, and OWL-QN where there is an L1 penalty.
//!
//! ```text
//!   let mut lbfgs = Lbfgs::new(start, weights, options)?;
//!   loop {
//!       let mut sum = GradientSum::new(shape)?;
//!       ... sum.update(lbfgs.trial(), &batch)? over all rows, merge ...
//!       let advance = lbfgs.advance(sum.mean_loss(), sum.gradient()?, sum.is_separated())?;
//!       if advance == Advance::Finished { break }
//!   }
//!   lbfgs.parameters(), lbfgs.report()
//! ```
//!
//! The direction is the two-loop recursion of Nocedal and Wright, Numerical Optimization, 7.4. A
//! step fulfils the weak Wolfe conditions; bracketing and safeguarded interpolation find it. Near
//! the minimum, where the objective is flat to rounding, it fulfils the approximate conditions of
//! Hager and Zhang (2005), which use only the slopes. With L1 the direction follows the
//! pseudo-gradient, steps stay in one orthant and are shortened until the objective falls (Andrew
//! and Gao 2007, "Scalable training of L1-regularized log-linear models").

mod line_search;
mod wire;

use datafusion_common::{Result, exec_err, internal_err};

use self::line_search::{End, LineSearch};

use super::report::{Advance, Outcome, Report};
use crate::kernels::double::dot;

/// Sufficient decrease, `c1` of Nocedal and Wright.
const ARMIJO: f64 = 1e-4;
/// Curvature, `c2` of Nocedal and Wright for quasi-Newton directions.
const CURVATURE: f64 = 0.9;
/// Rounding error of a mean of losses, relative to its size.
const ROUNDING: f64 = 1e-12;
/// Consecutive steps that lower the objective by no more than rounding, after which it counts as
/// minimal.
const FLAT_STEPS: u64 = 5;
/// Passes of a line search after which the direction is given up.
const TRIALS: u64 = 30;

/// Options of L-BFGS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LbfgsOptions {
    /// Penalty `l1 |w|_1` beside the mean loss; at least 0.
    pub l1: f64,
    /// Penalty `(l2 / 2) |w|^2` beside the mean loss; at least 0.
    pub l2: f64,
    /// Converged where no partial derivative of the objective is larger in absolute value.
    pub tolerance: f64,
    /// Steps taken at most.
    pub max_steps: u64,
    /// Pairs (step, change of the gradient) in the history.
    pub history: usize,
}

impl Default for LbfgsOptions {
    fn default() -> Self {
        Self { l1: 0.0, l2: 0.0, tolerance: 1e-6, max_steps: 10_000, history: 10 }
    }
}

/// A step and the change of the gradient along it.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    /// `[n]`: change of the parameters.
    step: Vec<f64>,
    /// `[n]`: change of the gradient of the smooth part.
    change: Vec<f64>,
    /// `1 / (step . change)`
    rho: f64,
}

/// L-BFGS between two passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Lbfgs {
    options: LbfgsOptions,
    /// Number of parameters that are penalised; they come first.
    weights: usize,
    /// The best so far.
    parameters: Vec<f64>,
    /// Gradient of the smooth part there; empty before the first pass.
    gradient: Vec<f64>,
    /// Where the sums of the next pass are taken.
    trial: Vec<f64>,
    /// Empty before the first pass.
    direction: Vec<f64>,
    line: LineSearch,
    /// The oldest first.
    pairs: Vec<Pair>,
    flat_steps: u64,
    report: Report,
}

impl Lbfgs {
    /// Begins at `start`; the first `weights` parameters are penalised.
    ///
    /// # Errors
    /// When an option or a parameter is out of range.
    pub fn new(start: Vec<f64>, weights: usize, options: LbfgsOptions) -> Result<Self> {
        let LbfgsOptions { l1, l2, tolerance, .. } = options;
        for (name, value) in [("l1", l1), ("l2", l2), ("tolerance", tolerance)] {
            if !(value.is_finite() && value >= 0.0) {
                return internal_err!(
                    "{name} is {value}, it should be a finite number of at least 0"
                );
            }
        }
        if weights > start.len() || start.iter().any(|x| !x.is_finite()) {
            return internal_err!("L-BFGS cannot begin at parameters that are not finite");
        }
        Ok(Self {
            options,
            weights,
            trial: start.clone(),
            parameters: start,
            gradient: vec![],
            direction: vec![],
            line: LineSearch::default(),
            pairs: vec![],
            flat_steps: 0,
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

    /// Bytes of the state once its history is full.
    pub fn bytes(parameters: usize, options: &LbfgsOptions) -> usize {
        8 * parameters * (4 + 2 * options.history)
    }

    /// Takes the mean loss and its gradient at the trial over all rows, and makes the next trial.
    /// `is_separated` says that every row is on the side of its class.
    ///
    /// # Errors
    /// When the loss is not finite where the search begins.
    pub fn advance(
        &mut self,
        loss: f64,
        mut gradient: Vec<f64>,
        is_separated: bool,
    ) -> Result<Advance> {
        if self.report.outcome != Outcome::Running {
            return Ok(Advance::Finished);
        }
        if gradient.len() != self.trial.len() {
            return internal_err!(
                "a gradient by {} parameters cannot advance L-BFGS over {}",
                gradient.len(),
                self.trial.len()
            );
        }
        self.report.passes += 1;
        let objective = loss + self.penalty(&self.trial);
        for (g, w) in gradient.iter_mut().zip(&self.trial[..self.weights]) {
            *g += self.options.l2 * w;
        }
        let is_finite = objective.is_finite() && gradient.iter().all(|g| g.is_finite());
        let is_first = self.gradient.is_empty();
        if is_first {
            if !is_finite {
                return exec_err!("a linear model needs finite inputs");
            }
        } else if !self.accepts(objective, &gradient, is_finite) {
            return self.try_again();
        } else {
            self.remember(&gradient);
            self.report.steps += 1;
            let fall = self.report.objective - objective;
            let is_flat = fall <= ROUNDING * self.report.objective.abs();
            self.flat_steps = if is_flat { self.flat_steps + 1 } else { 0 };
        }
        self.parameters.clone_from(&self.trial);
        self.gradient = gradient;
        self.report.objective = objective;
        self.report.loss = loss;
        self.report.separable = is_separated && self.options.l1 == 0.0 && self.options.l2 == 0.0;
        let pseudo = self.pseudo_gradient();
        self.report.gradient_max = pseudo.iter().fold(0.0, |most, g| g.abs().max(most));
        if self.report.gradient_max <= self.options.tolerance || self.flat_steps >= FLAT_STEPS {
            return Ok(self.finish(Outcome::Converged));
        }
        if self.report.steps >= self.options.max_steps {
            return Ok(self.finish(Outcome::StepLimit));
        }
        self.search(&pseudo);
        Ok(Advance::Continue)
    }

    /// `l1 |w|_1 + (l2 / 2) |w|^2`
    fn penalty(&self, parameters: &[f64]) -> f64 {
        let weights = &parameters[..self.weights];
        let squares: f64 = weights.iter().map(|w| w * w).sum();
        let absolute: f64 = match self.options.l1 {
            0.0 => 0.0,
            _ => weights.iter().map(|w| w.abs()).sum(),
        };
        self.options.l1 * absolute + self.options.l2 / 2.0 * squares
    }

    /// The gradient of the objective. Where a weight is 0, it is the derivative in the direction in
    /// which the objective falls fastest, and 0 if it falls in neither (Andrew and Gao, equation
    /// 4).
    fn pseudo_gradient(&self) -> Vec<f64> {
        let l1 = self.options.l1;
        let mut pseudo = self.gradient.clone();
        if l1 == 0.0 {
            return pseudo;
        }
        for (g, w) in pseudo.iter_mut().zip(&self.parameters[..self.weights]) {
            *g = match *w {
                w if w > 0.0 => *g + l1,
                w if w < 0.0 => *g - l1,
                _ if *g < -l1 => *g + l1,
                _ if *g > l1 => *g - l1,
                _ => 0.0,
            };
        }
        pseudo
    }

    /// Begins a search along the quasi-Newton direction, or, if that is not a descent direction,
    /// along the negative gradient.
    fn search(&mut self, pseudo: &[f64]) {
        self.direction = self.two_loops(pseudo);
        if self.options.l1 > 0.0 {
            // Components that would leave the orthant of the steepest descent become 0.
            for (d, g) in self.direction.iter_mut().zip(pseudo).take(self.weights) {
                if *d * *g >= 0.0 {
                    *d = 0.0;
                }
            }
        }
        let mut slope = dot(&self.direction, pseudo);
        if !(slope < 0.0 && slope.is_finite()) {
            self.pairs.clear();
            self.direction = pseudo.iter().map(|g| -g).collect();
            slope = -dot(pseudo, pseudo);
        }
        // Without information on the curvature, a step of length 1.
        let step = if self.pairs.is_empty() { 1f64.min(1.0 / (-slope).sqrt()) } else { 1.0 };
        let low = End { at: 0.0, value: self.report.objective, slope };
        self.line = LineSearch { step, slope, low, high: None, trials: 0 };
        self.move_trial();
    }

    /// `-H g`, with `H` given by the pairs, Nocedal and Wright, algorithm 7.4.
    fn two_loops(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let alpha = pair.rho * dot(&pair.step, &q);
            subtract(&mut q, &pair.change, alpha);
            alphas.push(alpha);
        }
        if let Some(last) = self.pairs.last() {
            let scale = 1.0 / (last.rho * dot(&last.change, &last.change));
            q.iter_mut().for_each(|q| *q *= scale);
        }
        for (pair, alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = pair.rho * dot(&pair.change, &q);
            subtract(&mut q, &pair.step, beta - alpha);
        }
        q
    }

    /// `parameters + step direction`; with L1, weights whose sign would change (or, where they are
    /// 0, differ from that of the descent) become 0.
    fn move_trial(&mut self) {
        let step = self.line.step;
        for ((trial, at), d) in self.trial.iter_mut().zip(&self.parameters).zip(&self.direction) {
            *trial = at + step * d;
        }
        if self.options.l1 > 0.0 {
            let weights = self.trial.iter_mut().zip(&self.parameters).take(self.weights);
            for (trial, at) in weights {
                if *trial * *at < 0.0 {
                    *trial = 0.0;
                }
            }
        }
    }

    /// Whether the trial is accepted; if not, the interval of the search becomes smaller.
    fn accepts(&mut self, objective: f64, gradient: &[f64], is_finite: bool) -> bool {
        let start = self.report.objective;
        let slack = ROUNDING * start.abs();
        self.line.trials += 1;
        let LineSearch { step, slope: first, .. } = self.line;
        if self.options.l1 > 0.0 {
            // The projection bends the path, so the expected decrease is that of the actual move.
            let pseudo = self.pseudo_gradient();
            let moved = self.trial.iter().zip(&self.parameters).zip(&pseudo);
            let promised: f64 = moved.map(|((to, from), g)| (to - from) * g).sum();
            return is_finite && objective <= start + ARMIJO * promised + slack;
        }
        let slope = dot(gradient, &self.direction);
        let falls = objective <= start + ARMIJO * step * first;
        let is_flat = objective <= start + slack && slope <= (2.0 * ARMIJO - 1.0) * first;
        let end = End { at: step, value: objective, slope };
        if !is_finite || !(falls || is_flat) {
            self.line.high =
                Some(End { value: if is_finite { objective } else { f64::INFINITY }, ..end });
            return false;
        }
        if slope < CURVATURE * first {
            self.line.low = end;
            return false;
        }
        true
    }

    /// Tries another step along the direction, or a new direction if none helps.
    fn try_again(&mut self) -> Result<Advance> {
        if self.line.trials >= TRIALS {
            if self.pairs.is_empty() {
                return Ok(self.finish(Outcome::Stalled));
            }
            self.pairs.clear();
            let pseudo = self.pseudo_gradient();
            self.search(&pseudo);
            return Ok(Advance::Continue);
        }
        self.line.step = match self.options.l1 {
            0.0 => self.line.next(),
            _ => self.line.step / 2.0,
        };
        self.move_trial();
        Ok(Advance::Continue)
    }

    /// Appends the step to the trial to the history, if the curvature along it is positive.
    fn remember(&mut self, gradient: &[f64]) {
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let step: Vec<f64> = difference(&self.trial, &self.parameters);
        let change: Vec<f64> = difference(gradient, &self.gradient);
        let (curvature, size) = (dot(&step, &change), dot(&change, &change));
        if curvature > f64::EPSILON * size {
            if self.pairs.len() >= self.options.history {
                self.pairs.remove(0);
            }
            self.pairs.push(Pair { step, change, rho: 1.0 / curvature });
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Advance {
        self.report.outcome = outcome;
        self.trial.clone_from(&self.parameters);
        Advance::Finished
    }
}

/// `from -= times what`
fn subtract(from: &mut [f64], what: &[f64], times: f64) {
    from.iter_mut().zip(what).for_each(|(from, what)| *from -= times * what);
}

#[cfg(test)]
mod tests;
