//! Multi-layer perceptrons for classes.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, dense, loss};
use crate::learner::Loss;

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "mlp_classifier",
    about: "probabilities of classes from a network of dense layers",
    target: TargetRule::Classes,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Gradient,
        OptionGroup::Layers,
        OptionGroup::Classes,
        OptionGroup::Loss,
    ],
    losses: &[Loss::Softmax, Loss::Logistic],
    solvers: &[],
    hidden: &[128],
    epochs: 10,
    batch_size: 128,
    metrics: &[],
    tables: &[],
    describe: |outline| dense::describe(outline, loss::probabilistic(outline.classes)),
    read: dense::read,
    method: dense::method,
    make: dense::estimator,
    online: None,
    grows: true,
};

impl Algorithm {
    /// Multi-layer perceptron for classes.
    pub const MLP_CLASSIFIER: Algorithm = Algorithm(&SPEC);
}
