//! Linear regression: squared, absolute, Huber or Poisson loss of one linear output for each
//! target, or the quantile loss of one for each quantile.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, dense};
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
        OptionGroup::Quantiles,
    ],
    losses: &[Loss::Squared, Loss::Absolute, Loss::Huber, Loss::Poisson, Loss::Quantile],
    solvers: &[Solver::Normal, Solver::Lbfgs, Solver::Irls],
    hidden: &[],
    epochs: 20,
    batch_size: 256,
    metrics: &[],
    tables: &[],
    describe: |outline| dense::describe(outline, Loss::Squared),
    read: dense::read,
    method: dense::method,
    make: dense::estimator,
    online: None,
    grows: true,
};

impl Algorithm {
    /// Linear regression.
    pub const LINEAR_REGRESSION: Algorithm = Algorithm(&SPEC);
}
