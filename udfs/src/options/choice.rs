//! Options whose value is one of some names.

use crate::learner::{Activation, Loss};

/// A value that is one of some names.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every value, in the order in which messages name them.
    const ALL: &'static [Self];

    /// The name in SQL.
    fn name(self) -> &'static str;

    /// All names.
    fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|value| value.name()).collect()
    }

    /// The value of that name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == name)
    }
}

/// Implements [`Choice`] by a list of values and names.
macro_rules! choice {
    ($type:ty { $($value:path => $name:literal),+ $(,)? }) => {
        impl Choice for $type {
            const ALL: &'static [Self] = &[$($value),+];

            fn name(self) -> &'static str {
                match self {
                    $($value => $name),+
                }
            }
        }
    };
}

/// The solver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// A solver where the shape of the rows allows, otherwise mini-batches.
    Auto,
    /// The normal equations of linear regression.
    Normal,
    /// Newton steps of logistic regression.
    Newton,
    /// L-BFGS over all rows; OWL-QN with an L1 penalty.
    Lbfgs,
    /// Iteratively reweighted least squares of quantiles.
    Irls,
    /// Mini-batch training.
    Sgd,
}

choice!(Solver {
    Solver::Auto => "auto",
    Solver::Normal => "normal",
    Solver::Newton => "newton",
    Solver::Lbfgs => "lbfgs",
    Solver::Irls => "irls",
    Solver::Sgd => "sgd",
});

/// How replicas work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallel {
    /// Depends on the shape of the work.
    Auto,
    /// Each replica trains on its share of a round, then they are averaged.
    Replicas,
    /// Each mini-batch is cut into a fixed number of slices, whose gradients are summed in order.
    Gradient,
}

choice!(Parallel {
    Parallel::Auto => "auto",
    Parallel::Replicas => "replicas",
    Parallel::Gradient => "gradient",
});

/// How evaluation rows are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// `Random` for mini-batches, `None` for solvers.
    Auto,
    /// By a stable hash of the row.
    Random,
    /// The last rows.
    Sequential,
    /// Where the split column is true.
    Column,
    /// No evaluation rows.
    None,
}

choice!(Split {
    Split::Auto => "auto",
    Split::Random => "random",
    Split::Sequential => "sequential",
    Split::Column => "column",
    Split::None => "none",
});

/// The statistics by which features are standardised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// By the training rows, before the first step.
    Fixed,
    /// By the rows so far, updated as rows arrive.
    Running,
}

choice!(Statistics {
    Statistics::Fixed => "fixed",
    Statistics::Running => "running",
});

/// How principal components are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Svd {
    /// By the number of operations.
    Auto,
    /// Eigenvectors of the covariance matrix, in one pass over the rows.
    Covariance,
    /// Random projections, in some eight passes over the rows.
    Randomized,
}

choice!(Svd {
    Svd::Auto => "auto",
    Svd::Covariance => "covariance",
    Svd::Randomized => "randomized",
});

/// How the first centroids are chosen among the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Some passes that choose many rows by their distance, then k of them (k-means||, Bahmani et
    /// al. 2012).
    Scalable,
    /// One pass for each centroid, which chooses a row by its distance (k-means++, Arthur and
    /// Vassilvitskii 2007).
    PlusPlus,
    /// Any rows.
    Random,
}

choice!(Init {
    Init::Scalable => "kmeans||",
    Init::PlusPlus => "kmeans++",
    Init::Random => "random",
});

/// The distance of a row to a centroid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Of the rows themselves.
    Euclidean,
    /// 1 - the cosine of their angle; 1 of a row or centroid of zeros.
    Cosine,
}

choice!(Distance {
    Distance::Euclidean => "euclidean",
    Distance::Cosine => "cosine",
});

choice!(Activation {
    Activation::Relu => "relu",
    Activation::Gelu => "gelu",
    Activation::Tanh => "tanh",
    Activation::Sigmoid => "sigmoid",
    Activation::Elu => "elu",
    Activation::Identity => "identity",
});

choice!(Loss {
    Loss::Squared => "squared",
    Loss::Absolute => "absolute",
    Loss::Huber => "huber",
    Loss::Poisson => "poisson",
    Loss::Quantile => "quantile",
    Loss::Softmax => "softmax",
    Loss::Logistic => "logistic",
    Loss::Hinge => "hinge",
    Loss::SquaredHinge => "squared_hinge",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_values_themselves() {
        for loss in Loss::ALL.into_iter().chain([Loss::Quantile]) {
            assert_eq!(<Loss as Choice>::named(loss.name()), Some(loss));
        }
        for activation in Activation::ALL {
            assert_eq!(<Activation as Choice>::named(activation.name()), Some(activation));
        }
        assert_eq!(Solver::named("lbfgs"), Some(Solver::Lbfgs));
        assert_eq!(Split::named("none"), Some(Split::None));
        assert_eq!(Split::named("None"), None);
    }
}
