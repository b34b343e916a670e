//! L-BFGS for any linear model whose loss has a gradient, and OWL-QN with an L1 penalty.

use std::sync::Arc;

use datafusion_common::Result;

use super::solver::Solver;
use super::{Request, RoundRows};
use crate::exact::{
    GradientScratch, GradientSum, Lbfgs, LbfgsOptions, LinearShape, Outcome, Report,
};
use crate::round::{Buffers, GradientRound, Interrupt};

/// L-BFGS between two passes.
#[derive(Debug)]
pub struct LbfgsSolver {
    shape: LinearShape,
    options: LbfgsOptions,
    lbfgs: Lbfgs,
    is_stopped: bool,
    buffers: Arc<Buffers<GradientScratch>>,
    interrupt: Arc<Interrupt>,
}

impl LbfgsSolver {
    /// A solver before the first pass.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(
        shape: LinearShape,
        options: LbfgsOptions,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self> {
        let start = vec![0.0; shape.parameters()];
        let lbfgs = Lbfgs::new(start, shape.weights(), options)?;
        Ok(Self { shape, options, lbfgs, is_stopped: false, buffers: Arc::default(), interrupt })
    }
}

impl Solver for LbfgsSolver {
    fn pass(&mut self) -> Result<Option<Request>> {
        let report = self.lbfgs.report();
        if report.outcome != Outcome::Running || (self.is_stopped && report.steps > 0) {
            return Ok(None);
        }
        let round = GradientRound::new(
            self.shape,
            Arc::new(self.lbfgs.trial().to_vec()),
            Arc::clone(&self.buffers),
            Arc::clone(&self.interrupt),
        );
        let name = format!("lbfgs/{}", report.passes);
        Ok(Some(Request { round: Arc::new(round), rows: RoundRows::Training, name }))
    }

    fn take(&mut self, sums: Vec<u8>) -> Result<Option<f64>> {
        let before = self.lbfgs.report().steps;
        let sum = GradientSum::from_bytes(&sums)?;
        self.lbfgs.advance(sum.mean_loss(), &sum.gradient()?, sum.is_separated())?;
        let report = self.lbfgs.report();
        Ok((report.steps > before).then_some(report.loss))
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn parameters(&self) -> Vec<f32> {
        self.lbfgs.parameters().iter().map(|w| *w as f32).collect()
    }

    fn loss(&self) -> f64 {
        self.lbfgs.report().loss
    }

    fn steps(&self) -> u64 {
        self.lbfgs.report().steps
    }

    fn warning(&self) -> Option<String> {
        warning("l-bfgs", &self.lbfgs.report(), self.is_stopped)
    }

    fn bytes(&self) -> usize {
        Lbfgs::bytes(self.shape.parameters(), &self.options)
    }

    fn save(&self) -> Vec<u8> {
        self.lbfgs.to_bytes()
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.lbfgs = Lbfgs::from_bytes(bytes)?;
        Ok(())
    }
}

/// The warning for the user about how a solver ended; `is_stopped` if it was asked to stop.
pub(super) fn warning(solver: &str, report: &Report, is_stopped: bool) -> Option<String> {
    if report.separable {
        return Some(
            "the classes are separable, so the weights would grow for ever; they were stopped \
             where the gradient is small; l2 > 0 bounds them"
                .to_owned(),
        );
    }
    let steps = match report.steps {
        1 => "1 step".to_owned(),
        n => format!("{n} steps"),
    };
    match report.outcome {
        Outcome::StepLimit => Some(format!("{solver} did not converge in {steps}")),
        Outcome::Stalled => Some(format!(
            "{solver} stopped after {steps}, where none lowers the loss any more: its largest \
             derivative is {:.1e}",
            report.gradient_max
        )),
        Outcome::Running if is_stopped => Some(format!(
            "max_seconds is used up: {solver} stopped after {steps}, where its largest derivative \
             is {:.1e}",
            report.gradient_max
        )),
        Outcome::Running | Outcome::Converged => None,
    }
}
