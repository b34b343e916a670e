//! Networks of any layers for numbers.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, network};
use crate::learner::Loss;
use crate::network::{LAYERS, NetworkDescription};

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "network_regressor",
    about: "numbers from a network of any layers",
    target: TargetRule::Number,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Gradient,
        OptionGroup::Quantiles,
        OptionGroup::Loss,
        OptionGroup::Networks,
    ],
    losses: &[Loss::Squared, Loss::Absolute, Loss::Huber, Loss::Poisson, Loss::Quantile],
    solvers: &[],
    hidden: &[],
    epochs: 10,
    batch_size: 128,
    metrics: &[],
    tables: &[LAYERS],
    describe: |outline| network::describe(outline, Loss::Squared),
    read: NetworkDescription::read,
    method: network::method,
    make: network::estimator,
    online: None,
    grows: false,
};

impl Algorithm {
    /// Network of any layers for numbers.
    pub const NETWORK_REGRESSOR: Algorithm = Algorithm(&SPEC);
}
