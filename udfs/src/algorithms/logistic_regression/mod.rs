//! Logistic regression of two or many classes: one logit, or one for each class.

use super::{Algorithm, AlgorithmSpec, OptionGroup, TargetRule, network};
use crate::learner::Loss;
use crate::options::Solver;

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "logistic_regression",
    about: "probabilities of classes from weighted sums of the features",
    target: TargetRule::Class,
    options: &[OptionGroup::Classes, OptionGroup::Solver],
    losses: &[],
    default_loss: |classes| if classes == 2 { Loss::Logistic } else { Loss::Softmax },
    solvers: &[Solver::Newton, Solver::Lbfgs],
    hidden: &[],
    epochs: 20,
    batch_size: 256,
    make: network::estimator,
    grows: true,
};

impl Algorithm {
    /// Logistic regression of two or many classes.
    pub const LOGISTIC_REGRESSION: Algorithm = Algorithm(&SPEC);
}
