//! Quantiles of a linear model by iteratively reweighted least squares.
//!
//! Each pass replaces the losses by parabolas above them that touch them at the current parameters
//! (see `quantile.rs`), and the step goes towards the minimum of the parabolas: the method of
//! statsmodels' `QuantReg` with the majorisation of Hunter and Lange 2000. Two things make it
//! converge in some tens of passes instead of hundreds:
//! - a step is longer than the way to the minimum: a parabola is symmetric, so up to twice the way
//!   the objective cannot rise (de Leeuw and Heiser 1980, "relaxed updates");
//! - the smoothing begins with the mean residual and is halved from pass to pass, down to a
//!   millionth of it.

use datafusion_common::{Result, exec_err, plan_err};

use super::bytes::{Reader, Writer};
use super::quantile::QuantileSum;
use super::report::{Advance, Outcome, Report};
use super::{LinearShape, PassSum};

const TAG: [u8; 4] = *b"GLIR";
const VERSION: u32 = 1;

/// Length of a step, in ways to the minimum of the parabolas. (On California housing, quantiles
/// 0.1, 0.5 and 0.9 end after half to two thirds of the passes that steps of 1 take.)
const STEP: f64 = 1.9;
/// Passes whose steps end at the minimum: the first parabolas are far from the losses.
const PLAIN_PASSES: u64 = 3;
/// Smoothing that is not undercut, in mean absolute residuals.
const LEAST_SMOOTHING: f64 = 1e-6;
/// Smoothing where there is no residual.
const TINY: f64 = 1e-30;

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IrlsOptions {
    /// Strength of `|w|^2 / 2`.
    pub l2: f64,
    /// Fall of the objective of each quantile between two passes, as a part of it, at which the
    /// passes end.
    pub tolerance: f64,
    /// Passes at most.
    pub max_passes: u64,
}

impl Default for IrlsOptions {
    fn default() -> Self {
        Self { l2: 0.0, tolerance: 1e-8, max_passes: 100 }
    }
}

/// The iteration between two passes.
#[derive(Clone, Debug)]
pub struct Irls {
    shape: LinearShape,
    /// `[K]`
    quantiles: Vec<f64>,
    options: IrlsOptions,
    /// Parameters of the next pass, and those of the lowest objective of each quantile so far.
    trial: Vec<f64>,
    best: Vec<f64>,
    /// `[K]`: smoothings of the next pass.
    smoothings: Vec<f64>,
    /// `[K]`: objectives at the parameters of the last pass.
    last: Vec<f64>,
    /// `[K]`: objectives at the best parameters, and losses.
    objectives: Vec<f64>,
    losses: Vec<f64>,
    report: Report,
}

impl Irls {
    /// Starts at parameters of 0, for a quantile for each output of the shape.
    ///
    /// # Errors
    /// When an option or the number of quantiles is out of range.
    pub fn new(shape: LinearShape, quantiles: Vec<f64>, options: IrlsOptions) -> Result<Self> {
        if !(options.l2.is_finite() && options.l2 >= 0.0) {
            return plan_err!("l2 is {}, it should be a finite number of at least 0", options.l2);
        }
        if quantiles.len() != shape.outputs {
            return plan_err!(
                "a linear model of {} outputs cannot have {} quantiles",
                shape.outputs,
                quantiles.len()
            );
        }
        let start = vec![0.0; shape.parameters()];
        let unknown = vec![f64::INFINITY; quantiles.len()];
        Ok(Self {
            shape,
            smoothings: vec![1.0; quantiles.len()],
            objectives: unknown.clone(),
            losses: unknown.clone(),
            last: unknown,
            quantiles,
            options,
            trial: start.clone(),
            best: start,
            report: Report::START,
        })
    }

    /// The parameters of the next pass, as [`QuantileSum`] takes them.
    pub fn pass(&self) -> Vec<f64> {
        [self.trial.as_slice(), &self.smoothings, &self.quantiles].concat()
    }

    /// The best parameters so far.
    pub fn parameters(&self) -> &[f64] {
        &self.best
    }

    /// What happened so far. There is no derivative.
    pub fn report(&self) -> Report {
        self.report
    }

    /// Bytes that it allocates, with those of a solve.
    pub fn bytes(shape: LinearShape) -> usize {
        4 * super::gram_memory(shape.width)
            + QuantileSum::memory(shape)
            + 3 * size_of::<f64>() * shape.parameters()
    }

    /// Takes the sums of the pass.
    ///
    /// # Errors
    /// When a value is not finite, or no row has a weight.
    pub fn advance(&mut self, sum: &QuantileSum) -> Result<Advance> {
        let target = sum.solve(self.options.l2, &self.smoothings)?;
        let losses = sum.mean_losses();
        let objectives = self.objectives_at(&losses);
        if objectives.iter().any(|objective| !objective.is_finite()) {
            return exec_err!(
                "the quantile loss is not finite; are the inputs of very different sizes? \
                 standardize = TRUE may help"
            );
        }
        self.report.passes += 1;
        self.report.steps = self.report.passes - 1;
        self.keep_best(&objectives, &losses);
        let halved = 0.5f64.powi(i32::try_from(self.report.passes).unwrap_or(i32::MAX));
        let mut falls = self.last.iter().zip(&objectives);
        let are_small = falls.all(|(last, now)| last - now <= self.options.tolerance * now);
        let has_converged = halved <= LEAST_SMOOTHING && are_small;
        self.last = objectives;
        if has_converged {
            self.report.outcome = Outcome::Converged;
            return Ok(Advance::Finished);
        }
        if self.report.passes >= self.options.max_passes {
            self.report.outcome = Outcome::StepLimit;
            return Ok(Advance::Finished);
        }
        let step = if self.report.passes <= PLAIN_PASSES { 1.0 } else { STEP };
        for (at, to) in self.trial.iter_mut().zip(target) {
            *at += step * (to - *at);
        }
        let smoothing = |error: f64| (error * halved.max(LEAST_SMOOTHING)).max(TINY);
        self.smoothings = sum.mean_errors().into_iter().map(smoothing).collect();
        Ok(Advance::Continue)
    }

    /// Loss and penalty of each quantile at the parameters of the pass.
    fn objectives_at(&self, losses: &[f64]) -> Vec<f64> {
        let weights = &self.trial[..self.shape.weights()];
        let penalty = |level: usize| {
            let own = weights.iter().skip(level).step_by(losses.len());
            0.5 * self.options.l2 * own.map(|w| w * w).sum::<f64>()
        };
        losses.iter().enumerate().map(|(level, loss)| loss + penalty(level)).collect()
    }

    /// Keeps the parameters of the quantiles that are better than ever before.
    fn keep_best(&mut self, objectives: &[f64], losses: &[f64]) {
        let k = objectives.len();
        for level in 0..k {
            if objectives[level] >= self.objectives[level] {
                continue;
            }
            self.objectives[level] = objectives[level];
            self.losses[level] = losses[level];
            let own = self.trial.iter().skip(level).step_by(k);
            let best = self.best.iter_mut().skip(level).step_by(k);
            best.zip(own).for_each(|(best, own)| *best = *own);
        }
        self.report.objective = self.objectives.iter().sum();
        self.report.loss = self.losses.iter().sum();
    }

    /// The state in little-endian bytes: `"GLIR"`, `u32` version 1; the report; `f64`
    /// smoothings `[K]`, last objectives `[K]`, best objectives `[K]` and losses `[K]`; parameters
    /// of the next pass, best parameters.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        self.report.write(&mut writer);
        for numbers in [&self.smoothings, &self.last, &self.objectives, &self.losses] {
            writer.numbers(numbers);
        }
        writer.numbers(&self.trial);
        writer.numbers(&self.best);
        writer.finish()
    }

    /// Continues from a state of an iteration of the same shape.
    ///
    /// # Errors
    /// When the bytes are no such state.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a state of irls")?;
        let report = Report::read(&mut reader)?;
        let k = self.quantiles.len();
        let (smoothings, last) = (reader.numbers(k)?, reader.numbers(k)?);
        let (objectives, losses) = (reader.numbers(k)?, reader.numbers(k)?);
        let trial = reader.numbers(self.trial.len())?;
        let best = reader.numbers(self.best.len())?;
        reader.finish()?;
        *self = Self { report, smoothings, last, objectives, losses, trial, best, ..self.clone() };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
