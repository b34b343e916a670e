//! Defaults that depend on the algorithm or the optimizer, all in one place.

use std::time::Duration;

use gradlake_udfs::algorithm::Algorithm;
use gradlake_udfs::learner::Activation;
use gradlake_udfs::optimizer::Optimizer;

use super::{ClassWeights, ScheduleOption, Solver, Split, Statistics, TrainOptions};

/// Units of one hidden layer.
const HIDDEN: usize = 128;

impl TrainOptions {
    /// The options of a training that gives none.
    pub fn default_of(algorithm: Algorithm) -> Self {
        let is_network = algorithm.is_network();
        let has_exact_solver =
            matches!(algorithm, Algorithm::LinearRegression | Algorithm::LogisticRegression);
        let optimizer = optimizer("adam").unwrap_or(Optimizer::Sgd);
        Self {
            algorithm,
            loss: None,
            hidden: if is_network { vec![HIDDEN] } else { vec![] },
            activation: Activation::Relu,
            dropout: 0.0,
            intercept: true,
            standardize: true,
            statistics: Statistics::Fixed,
            solver: if has_exact_solver { Solver::Auto } else { Solver::Sgd },
            optimizer,
            learning_rate: learning_rate(algorithm, &optimizer),
            intercept_learning_rate: None,
            schedule: ScheduleOption::CONSTANT,
            l1: None,
            l2: None,
            epochs: if is_network { 10 } else { 20 },
            batch_size: if is_network { 128 } else { 256 },
            class_weights: ClassWeights::None,
            seed: 0,
            replicas: None,
            parallel: None,
            shuffle: true,
            round_rows: None,
            split: Split::Auto,
            split_column: None,
            split_fraction: 0.1,
            early_stop: true,
            patience: 5,
            min_delta: 0.0,
            max_seconds: None,
            // scikit-learn's `tol` of its Newton solvers is 1e-4 on a gradient that is not a mean.
            tolerance: 1e-6,
            checkpoint_every: Duration::from_secs(60),
            keep_versions: None,
            publish_every: None,
            given: vec![],
        }
    }
}

/// The optimizer of that name with PyTorch's defaults (momentum 0.9, where PyTorch has 0).
pub(super) fn optimizer(name: &str) -> Option<Optimizer> {
    let (momentum, beta1, beta2) = (0.9, 0.9, 0.999);
    Some(match name {
        "sgd" => Optimizer::Sgd,
        "momentum" => Optimizer::Momentum { momentum },
        "nesterov" => Optimizer::Nesterov { momentum },
        "adagrad" => Optimizer::Adagrad { epsilon: 1e-10 },
        "rmsprop" => Optimizer::RmsProp { beta2: 0.99, epsilon: 1e-8 },
        "adam" => Optimizer::Adam { beta1, beta2, epsilon: 1e-8 },
        "adamw" => Optimizer::AdamW { beta1, beta2, epsilon: 1e-8 },
        "ftrl" => Optimizer::Ftrl { beta: 1.0 },
        "adaptive_invariant" => Optimizer::AdaptiveInvariant,
        _ => return None,
    })
}

/// The learning rate of an optimizer: networks want smaller steps than linear models.
pub(super) fn learning_rate(algorithm: Algorithm, optimizer: &Optimizer) -> f64 {
    let (linear, network) = match optimizer {
        Optimizer::Sgd => (0.01, 0.1),
        Optimizer::Momentum { .. } | Optimizer::Nesterov { .. } => (0.001, 0.01),
        Optimizer::Adagrad { .. } => (0.05, 0.01),
        Optimizer::RmsProp { .. } | Optimizer::Adam { .. } | Optimizer::AdamW { .. } => {
            (0.01, 0.001)
        }
        Optimizer::Ftrl { .. } => (0.1, 0.01),
        // Vowpal Wabbit's; a network that takes it is linear.
        Optimizer::AdaptiveInvariant => (0.5, 0.5),
    };
    if algorithm.is_network() { network } else { linear }
}
