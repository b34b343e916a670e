//! Newton's method for logistic regressions: one pass per step. With many rows, the first passes
//! read a sample.

use std::sync::Arc;

use datafusion_common::{Result, exec_err};

use super::solver::Solver;
use super::{Request, RoundRows};
use crate::exact::{
    Advance, LinearShape, Newton, NewtonOptions, NewtonScratch, NewtonSum, Outcome, PassSum,
    Report, newton_memory,
};
use crate::round::{Buffers, Interrupt, PassRound};

/// Number of rows from which on the solver begins with a sample of one in [`SAMPLE`] chunks.
/// Starting from the sample's result saves passes over all rows (three of five remained on the
/// benchmark's rows), and a pass over the sample takes a sixteenth of a full pass.
const MANY_ROWS: u64 = 1 << 18;
const SAMPLE: usize = 16;
/// Gradient at which the passes over the sample end: its minimum differs from that of all rows
/// anyway.
const SAMPLE_TOLERANCE: f64 = 1e-3;
/// Steps over the sample at most; if they do not suffice, its result is not used as a start.
const SAMPLE_STEPS: u64 = 10;

/// Newton's method between two passes.
#[derive(Debug)]
pub struct NewtonSolver {
    shape: LinearShape,
    options: NewtonOptions,
    newton: Newton,
    /// Whether passes still read only the sample.
    is_sample: bool,
    buffers: Arc<Buffers<NewtonScratch>>,
    interrupt: Arc<Interrupt>,
}

impl NewtonSolver {
    /// A solver before the first pass over `rows` rows.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(
        shape: LinearShape,
        options: NewtonOptions,
        rows: u64,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self> {
        let is_sample = rows >= MANY_ROWS;
        let own = match is_sample {
            true => {
                NewtonOptions { tolerance: SAMPLE_TOLERANCE, max_steps: SAMPLE_STEPS, ..options }
            }
            false => options,
        };
        Ok(Self {
            shape,
            options,
            newton: Newton::new(vec![0.0; shape.parameters()], own)?,
            is_sample,
            buffers: Arc::default(),
            interrupt,
        })
    }

    /// Begins the passes over all rows, at the sample's result if that is a minimum.
    fn leave_sample(&mut self) -> Result<()> {
        let report = self.newton.report();
        let start = match report.outcome == Outcome::Converged && !report.separable {
            true => self.newton.parameters().to_vec(),
            false => vec![0.0; self.shape.parameters()],
        };
        self.newton = Newton::new(start, self.options)?;
        self.is_sample = false;
        Ok(())
    }
}

impl Solver for NewtonSolver {
    fn pass(&mut self) -> Result<Option<Request>> {
        let report = self.newton.report();
        if report.outcome != Outcome::Running {
            return Ok(None);
        }
        let round = PassRound::<NewtonSum> {
            shape: self.shape,
            parameters: Arc::new(self.newton.trial().to_vec()),
            buffers: Arc::clone(&self.buffers),
            interrupt: Arc::clone(&self.interrupt),
        };
        let (rows, name) = match self.is_sample {
            true => {
                (RoundRows::Sample { step: SAMPLE }, format!("newton/sample/{}", report.passes))
            }
            false => (RoundRows::Training, format!("newton/{}", report.passes)),
        };
        Ok(Some(Request { round: Arc::new(round), rows, name }))
    }

    fn take(&mut self, sums: Vec<u8>) -> Result<Option<f64>> {
        let before = self.newton.report().steps;
        let advance = self.newton.advance(&NewtonSum::from_bytes(&sums)?)?;
        let report = self.newton.report();
        if self.is_sample {
            if advance == Advance::Finished {
                self.leave_sample()?;
            }
            return Ok(None);
        }
        Ok((report.steps > before).then_some(report.loss))
    }

    fn parameters(&self) -> Vec<f32> {
        self.newton.parameters().iter().map(|w| *w as f32).collect()
    }

    fn loss(&self) -> f64 {
        self.newton.report().loss
    }

    fn steps(&self) -> u64 {
        self.newton.report().steps
    }

    fn report(&self) -> Option<(&'static str, Report)> {
        Some(("newton", self.newton.report()))
    }

    fn bytes(&self) -> usize {
        let parameters = self.shape.parameters();
        newton_memory(self.shape.width, self.shape.outputs) + 16 * parameters * parameters
    }

    /// 1 over the sample and 0 over all rows, then the state of the method.
    fn save(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.is_sample)];
        bytes.extend(self.newton.to_bytes());
        bytes
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((phase, bytes)) = bytes.split_first() else {
            return exec_err!("a state of Newton's method is damaged: it is empty");
        };
        self.newton = Newton::from_bytes(bytes)?;
        self.is_sample = *phase == 1;
        Ok(())
    }
}
