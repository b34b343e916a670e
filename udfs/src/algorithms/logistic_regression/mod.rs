//! Logistic regression of two or many classes: one logit, or one for each class.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, dense, loss};
use crate::options::Solver;

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "logistic_regression",
    about: "probabilities of classes from weighted sums of the features",
    target: TargetRule::Class,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Gradient,
        OptionGroup::Classes,
        OptionGroup::Solver,
        OptionGroup::Tolerance,
    ],
    losses: &[],
    solvers: &[Solver::Newton, Solver::Lbfgs],
    hidden: &[],
    epochs: 20,
    batch_size: 256,
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
    /// Logistic regression of two or many classes.
    pub const LOGISTIC_REGRESSION: Algorithm = Algorithm(&SPEC);
}
