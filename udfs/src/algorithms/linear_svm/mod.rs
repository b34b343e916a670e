//! Linear support vector machines of two or many classes, one against the rest.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, dense};
use crate::learner::Loss;
use crate::options::Solver;

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "linear_svm",
    about: "classes apart by the widest margin",
    target: TargetRule::Class,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Gradient,
        OptionGroup::Classes,
        OptionGroup::Solver,
        OptionGroup::Tolerance,
        OptionGroup::Loss,
    ],
    losses: &[Loss::Hinge, Loss::SquaredHinge],
    solvers: &[Solver::Lbfgs],
    hidden: &[],
    epochs: 20,
    batch_size: 256,
    metrics: &[],
    tables: &[],
    // The default of scikit-learn's `LinearSVC`.
    describe: |outline| dense::describe(outline, Loss::SquaredHinge),
    read: dense::read,
    method: dense::method,
    make: dense::estimator,
    online: None,
    // A third hinge output has no logit to start from.
    grows: false,
};

impl Algorithm {
    /// Linear support vector machine of two or many classes.
    pub const LINEAR_SVM: Algorithm = Algorithm(&SPEC);
}
