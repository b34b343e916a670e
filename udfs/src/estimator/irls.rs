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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::batch::{Rows, Width};
    use crate::estimator::{Estimator, Next, SolverEstimator, SolverSettings};
    use crate::kernels::rng::{mix, unit};
    use crate::learner::{Activation, Loss};
    use crate::model::NetworkSpec;
    use crate::round::Partial;

    const QUANTILES: [f64; 2] = [0.2, 0.9];

    fn rows() -> Rows {
        let draw = |what, i| 2.0 * unit(mix(4, what, i)) - 1.0;
        let x: Vec<f32> = (0..200).map(|i| draw(1, i)).collect();
        let label = x.iter().zip(0..).map(|(x, i)| x + (2.0 + x) * draw(2, i));
        let (label, weight) = (label.collect(), vec![1.0; 200]);
        Rows { dense: x, label, weight, ..Rows::default() }
    }

    fn estimator() -> SolverEstimator<IrlsSolver> {
        let width = Width { dense: 1, ..Width::default() };
        let spec = NetworkSpec {
            hidden: vec![],
            activation: Activation::Relu,
            loss: Loss::Quantile,
            quantiles: QUANTILES.to_vec(),
            outputs: 2,
            intercept: true,
            dropout: 0.0,
        };
        let settings = SolverSettings {
            network: Arc::new(spec.network(width)),
            rows: 200,
            has_evaluation: false,
            loss_scale: 1.0,
        };
        let shape = LinearShape { width, outputs: 2, intercept: true, loss: Loss::Quantile };
        let solver =
            IrlsSolver::new(shape, QUANTILES.to_vec(), IrlsOptions::default(), Arc::default());
        SolverEstimator::new(settings, solver.unwrap())
    }

    /// Makes up to so many passes, and says whether there is another.
    fn run(estimator: &mut SolverEstimator<IrlsSolver>, passes: usize) -> bool {
        let rows = rows();
        for _ in 0..passes {
            let Next::Run(request) = estimator.next().unwrap() else { return false };
            let mut replica = request.round.replica(0).unwrap();
            replica.update(&rows.batch()).unwrap();
            let partial = Partial { replica: 0, bytes: replica.finish().unwrap() };
            let result = request.round.merge(vec![partial]).unwrap();
            estimator.take(result, Duration::ZERO).unwrap();
        }
        true
    }

    #[test]
    fn a_restored_training_goes_on_to_the_same_bits() {
        let mut whole = estimator();
        assert!(!run(&mut whole, 200));
        let (steps, saved) = (whole.completed(), whole.save().unwrap());
        let whole = Box::new(whole).finish().unwrap();
        assert_eq!((whole.warning, whole.history.len() as u64), (None, steps));
        assert!(whole.history.is_sorted_by(|a, b| a.loss >= b.loss), "{:?}", whole.history);
        for cut in [0, 1, 12] {
            let mut first = estimator();
            run(&mut first, cut);
            let mut second = estimator();
            second.restore(&first.save().unwrap()).unwrap();
            assert!(!run(&mut second, 200));
            assert_eq!(second.save().unwrap(), saved, "after {cut}");
            assert_eq!(Box::new(second).finish().unwrap().parameters, whole.parameters);
        }
    }

    #[test]
    fn a_training_that_is_stopped_has_the_best_parameters_so_far() {
        let mut estimator = estimator();
        run(&mut estimator, 1);
        estimator.stop();
        assert!(!run(&mut estimator, 200));
        let fitted = Box::new(estimator).finish().unwrap();
        assert_eq!(fitted.warning.unwrap(), "max_seconds is used up: irls stopped after 1 step");
        assert!(fitted.parameters.iter().any(|w| *w != 0.0));
    }
}
