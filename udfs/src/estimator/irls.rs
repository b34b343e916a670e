//! Iteratively reweighted least squares for the quantiles of a linear model: one pass per step.

use std::sync::Arc;

use datafusion_common::Result;

use super::solver::Solver;
use super::{Request, RoundRows};
use crate::exact::{
    Irls, IrlsOptions, LinearShape, Outcome, PassSum, QuantileScratch, QuantileSum, Report,
};
use crate::round::{Buffers, Interrupt, PassRound};

/// The iteration between two passes.
#[derive(Debug)]
pub struct IrlsSolver {
    shape: LinearShape,
    irls: Irls,
    buffers: Arc<Buffers<QuantileScratch>>,
    interrupt: Arc<Interrupt>,
}

impl IrlsSolver {
    /// A solver before the first pass.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(
        shape: LinearShape,
        quantiles: Vec<f64>,
        options: IrlsOptions,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self> {
        let irls = Irls::new(shape, quantiles, options)?;
        Ok(Self { shape, irls, buffers: Arc::default(), interrupt })
    }
}

impl Solver for IrlsSolver {
    fn pass(&mut self) -> Result<Option<Request>> {
        let report = self.irls.report();
        if report.outcome != Outcome::Running {
            return Ok(None);
        }
        let round = PassRound::<QuantileSum> {
            shape: self.shape,
            parameters: Arc::new(self.irls.pass()),
            buffers: Arc::clone(&self.buffers),
            interrupt: Arc::clone(&self.interrupt),
        };
        let name = format!("irls/{}", report.passes);
        Ok(Some(Request { round: Arc::new(round), rows: RoundRows::Training, name }))
    }

    /// The first pass measures the start, which is no step.
    fn take(&mut self, sums: Vec<u8>) -> Result<Option<f64>> {
        let before = self.irls.report().steps;
        self.irls.advance(&QuantileSum::from_bytes(&sums)?)?;
        let report = self.irls.report();
        Ok((report.steps > before).then_some(report.loss))
    }

    fn parameters(&self) -> Vec<f32> {
        self.irls.parameters().iter().map(|w| *w as f32).collect()
    }

    fn loss(&self) -> f64 {
        self.irls.report().loss
    }

    fn steps(&self) -> u64 {
        self.irls.report().steps
    }

    fn report(&self) -> Option<(&'static str, Report)> {
        Some(("irls", self.irls.report()))
    }

    fn bytes(&self) -> usize {
        Irls::bytes(self.shape)
    }

    fn save(&self) -> Vec<u8> {
        self.irls.to_bytes()
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.irls.restore(bytes)
    }
}
