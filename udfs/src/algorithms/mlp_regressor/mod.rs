//! Multi-layer perceptrons for numbers.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, dense};
use crate::learner::Loss;

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "mlp_regressor",
    about: "a number from a network of dense layers",
    target: TargetRule::Number,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Gradient,
        OptionGroup::Layers,
        OptionGroup::Loss,
        OptionGroup::Quantiles,
    ],
    losses: &[Loss::Squared, Loss::Absolute, Loss::Huber, Loss::Poisson, Loss::Quantile],
    solvers: &[],
    hidden: &[128],
    epochs: 10,
    batch_size: 128,
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
    /// Multi-layer perceptron for numbers.
    pub const MLP_REGRESSOR: Algorithm = Algorithm(&SPEC);
}
