//! L-BFGS for any linear model whose loss has a gradient, and OWL-QN with an L1 penalty.

use std::sync::Arc;

use datafusion_common::Result;

use super::solver::Solver;
use super::{Request, RoundRows};
use crate::exact::{
    GradientScratch, GradientSum, Lbfgs, LbfgsOptions, LinearShape, Outcome, PassSum, Report,
};
use crate::round::{Buffers, Interrupt, PassRound};

/// L-BFGS between two passes.
#[derive(Debug)]
pub struct LbfgsSolver {
    shape: LinearShape,
    options: LbfgsOptions,
    lbfgs: Lbfgs,
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
        Ok(Self { shape, options, lbfgs, buffers: Arc::default(), interrupt })
    }
}

impl Solver for LbfgsSolver {
    fn pass(&mut self) -> Result<Option<Request>> {
        let report = self.lbfgs.report();
        if report.outcome != Outcome::Running {
            return Ok(None);
        }
        let round = PassRound::<GradientSum> {
            shape: self.shape,
            parameters: Arc::new(self.lbfgs.trial().to_vec()),
            buffers: Arc::clone(&self.buffers),
            interrupt: Arc::clone(&self.interrupt),
        };
        let name = format!("lbfgs/{}", report.passes);
        Ok(Some(Request { round: Arc::new(round), rows: RoundRows::Training, name }))
    }

    fn take(&mut self, sums: Vec<u8>) -> Result<Option<f64>> {
        let before = self.lbfgs.report().steps;
        let sum = GradientSum::from_bytes(&sums)?;
        self.lbfgs.advance(sum.mean_loss(), sum.gradient()?, sum.is_separated())?;
        let report = self.lbfgs.report();
        Ok((report.steps > before).then_some(report.loss))
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

    fn report(&self) -> Option<(&'static str, Report)> {
        Some(("l-bfgs", self.lbfgs.report()))
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
