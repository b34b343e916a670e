//! Linear regression: squared, absolute, Huber or Poisson loss of one linear output.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, network};
use crate::learner::Loss;
use crate::options::Solver;

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "linear_regression",
    about: "a number as a weighted sum of the features",
    target: TargetRule::Number,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Gradient,
        OptionGroup::Solver,
        OptionGroup::Tolerance,
        OptionGroup::Loss,
    ],
    losses: &[Loss::Squared, Loss::Absolute, Loss::Huber, Loss::Poisson],
    solvers: &[Solver::Normal, Solver::Lbfgs],
    hidden: &[],
    epochs: 20,
    batch_size: 256,
    metrics: &[],
    tables: &[],
    describe: |outline| network::describe(outline, Loss::Squared),
    read: network::read,
    method: network::method,
    make: network::estimator,
    online: None,
    grows: true,
};

impl Algorithm {
    /// Linear regression.
    pub const LINEAR_REGRESSION: Algorithm = Algorithm(&SPEC);
}
