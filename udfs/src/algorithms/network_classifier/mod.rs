//! Networks of any layers for classes.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, loss, network};
use crate::learner::Loss;
use crate::network::{LAYERS, NetworkDescription};

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "network_classifier",
    about: "probabilities of classes from a network of any layers",
    target: TargetRule::Classes,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Gradient,
        OptionGroup::Classes,
        OptionGroup::Loss,
        OptionGroup::Networks,
    ],
    losses: &[Loss::Softmax, Loss::Logistic],
    solvers: &[],
    hidden: &[],
    epochs: 10,
    batch_size: 128,
    metrics: &[],
    tables: &[LAYERS],
    describe: |outline| network::describe(outline, loss::probabilistic(outline.classes)),
    read: NetworkDescription::read,
    method: network::method,
    make: network::estimator,
    online: None,
    grows: true,
};

impl Algorithm {
    /// Network of any layers for classes.
    pub const NETWORK_CLASSIFIER: Algorithm = Algorithm(&SPEC);
}
