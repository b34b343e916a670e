//! Linear regression by its normal equations: one pass, one solve.

use std::sync::Arc;

use datafusion_common::{Result, exec_err};

use super::solver::Solver;
use super::{Request, RoundRows};
use crate::batch::Width;
use crate::exact::{GramSum, PassSum, Report, gram_memory};
use crate::round::{Interrupt, PassRound};

/// The normal equations of a linear regression.
#[derive(Debug)]
pub struct NormalSolver {
    width: Width,
    l2: f64,
    intercept: bool,
    interrupt: Arc<Interrupt>,
    /// Weights `[d + t, targets]`, then the intercepts where there are such; and the loss.
    solution: Option<(Vec<f64>, f64)>,
}

impl NormalSolver {
    /// A solver before the pass.
    pub fn new(width: Width, l2: f64, intercept: bool, interrupt: Arc<Interrupt>) -> Self {
        Self { width, l2, intercept, interrupt, solution: None }
    }
}

impl Solver for NormalSolver {
    fn pass(&mut self) -> Result<Option<Request>> {
        if self.solution.is_some() {
            return Ok(None);
        }
        let round = PassRound::<GramSum> {
            shape: self.width,
            parameters: Arc::default(),
            buffers: Arc::default(),
            interrupt: Arc::clone(&self.interrupt),
        };
        Ok(Some(Request {
            round: Arc::new(round),
            rows: RoundRows::Training,
            name: "gram".to_owned(),
        }))
    }

    fn take(&mut self, sums: Vec<u8>) -> Result<Option<f64>> {
        let solved = GramSum::from_bytes(&sums)?.solve_all(self.l2, self.intercept)?;
        // As the network has them: `[inputs, targets]`.
        let mut parameters = vec![];
        for input in 0..self.width.inputs() {
            parameters.extend(solved.iter().map(|own| own.weights[input]));
        }
        if self.intercept {
            parameters.extend(solved.iter().map(|own| own.intercept));
        }
        let loss = solved.iter().map(|own| own.loss).sum();
        self.solution = Some((parameters, loss));
        Ok(Some(loss))
    }

    fn parameters(&self) -> Vec<f32> {
        let solution = self.solution.iter().flat_map(|(parameters, _)| parameters);
        solution.map(|w| *w as f32).collect()
    }

    fn loss(&self) -> f64 {
        self.solution.as_ref().map_or(f64::NAN, |(_, loss)| *loss)
    }

    fn steps(&self) -> u64 {
        u64::from(self.solution.is_some())
    }

    fn report(&self) -> Option<(&'static str, Report)> {
        None
    }

    fn bytes(&self) -> usize {
        4 * gram_memory(self.width)
    }

    /// `f64` loss, then the parameters; empty before the pass.
    fn save(&self) -> Vec<u8> {
        let numbers = self
            .solution
            .iter()
            .flat_map(|(parameters, loss)| [loss].into_iter().chain(parameters));
        numbers.flat_map(|number| number.to_le_bytes()).collect()
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let inputs = self.width.inputs() + usize::from(self.intercept);
        let parameters = inputs * self.width.targets;
        if !rest.is_empty() || !(bytes.is_empty() || numbers.len() == 1 + parameters) {
            return exec_err!(
                "a state of normal equations is damaged: {} bytes for {parameters} parameters",
                bytes.len()
            );
        }
        let mut numbers = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes));
        self.solution = numbers.next().map(|loss| (numbers.collect(), loss));
        Ok(())
    }
}
