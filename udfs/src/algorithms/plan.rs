//! The plan of a training, made before it runs: from checked options and the shape of the rows to
//! method, split, shuffle, replicas and rounds. EXPLAIN TRAIN prints it, and the training runs it.

use std::fmt;

use crate::batch::Width;
use crate::description::Description;
use crate::options::{Parallel, Split, TrainOptions};

/// Floating-point operations of a mini-batch that justify another slice: handing a slice to another
/// thread takes some 10 microseconds (at 50 GFLOP/s and more a core).
const FLOPS_PER_SLICE: u64 = 8_000_000;
/// Slices at most, whatever the machine: the sums, and so the weights, depend on the number.
const MAX_SLICES: usize = 8;
/// Floating-point operations of a round, unless options decide: some seconds on one core, so that
/// checkpoints and `max_seconds` soon reach the end of a round.
const FLOPS_PER_ROUND: u64 = 400_000_000_000;
/// Rows of such a round at most: rows of few operations wait for memory, up to 100 ns each.
const ROWS_PER_ROUND: u64 = 50_000_000;
/// Rounds (merges) of an epoch with more than one replica, at least. More rounds cost time, up to a
/// millisecond each, and do not improve the model: after 1, 3 and 10 epochs of 2 and 8 replicas
/// over Adult, California housing and a synthetic data set of 100,000 rows, linear and with a
/// hidden layer, 10 merges an epoch differed from 4 by less than 0.001 of log loss and 0.005 of R2,
/// in either direction.
const MERGES_PER_EPOCH: u64 = 4;

/// Rows below which `split = 'auto'` keeps every row for training.
const SPLIT_MIN_ROWS: u64 = 500;
/// Evaluation rows at most of `split = 'auto'`: more rows give no more information.
const SPLIT_MAX_ROWS: f64 = 10_000.0;

/// How the parameters are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Normal equations of a linear regression.
    Normal,
    /// Newton steps of a logistic regression.
    Newton,
    /// Quasi-Newton steps of a linear model: L-BFGS, or OWL-QN where there is an L1 penalty.
    Lbfgs,
    /// Iteratively reweighted least squares of quantiles.
    Irls,
    /// Mini-batch descent.
    Descent,
    /// Lloyd's rounds of k-means.
    Lloyd,
    /// Eigenvectors of the covariance matrix.
    Covariance,
    /// Eigenvectors by random projections.
    Randomized,
}

impl Method {
    /// Its name in EXPLAIN and the history.
    pub fn name(self) -> &'static str {
        match self {
            Method::Normal => "normal equations",
            Method::Newton => "newton",
            Method::Lbfgs => "l-bfgs",
            Method::Irls => "irls",
            Method::Descent => "sgd",
            Method::Lloyd => "lloyd",
            Method::Covariance => "covariance",
            Method::Randomized => "randomized",
        }
    }
}

/// How rows are split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SplitRule {
    /// All rows train.
    None,
    /// By a hash of the row's features and target, so that equal rows are on the same side and a
    /// row keeps its side wherever it is stored.
    Random {
        /// Fraction of evaluation rows.
        fraction: f64,
        /// Seed of the hash.
        seed: u64,
    },
    /// The last rows evaluate.
    Sequential {
        /// Fraction of evaluation rows.
        fraction: f64,
    },
    /// The rows where the split column is true evaluate.
    Column,
}

impl fmt::Display for SplitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitRule::None => write!(f, "none, every row trains"),
            SplitRule::Random { fraction, .. } => {
                write!(f, "random, {fraction:.4} of the rows evaluate")
            }
            SplitRule::Sequential { fraction } => {
                write!(f, "sequential, the last {fraction:.4} of the rows evaluate")
            }
            SplitRule::Column => write!(f, "by the split column"),
        }
    }
}

/// The shape of the rows of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of an encoded row.
    pub width: Width,
    /// Number of classes; None of a number.
    pub classes: Option<usize>,
    /// Number of all rows, including the evaluation rows.
    pub rows: u64,
}

/// The plan of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingPlan {
    /// How the parameters are found.
    pub method: Method,
    /// How evaluation rows are chosen.
    pub split: SplitRule,
    /// Seed of the full shuffle of the training rows; None: they keep their order.
    pub shuffle: Option<u64>,
}

impl TrainingPlan {
    /// The plan for what `description` describes and rows of this shape; `continues` says that the
    /// training continues a model.
    pub fn decide(
        options: &TrainOptions,
        description: &dyn Description,
        shape: &Shape,
        continues: bool,
    ) -> Self {
        let method = (options.algorithm.spec().method)(options, description, shape, continues);
        Self {
            method,
            split: split_rule(options, method, shape.rows),
            shuffle: (options.shuffle && method == Method::Descent).then_some(options.seed),
        }
    }
}

/// The split for these options, method and number of rows.
fn split_rule(options: &TrainOptions, method: Method, rows: u64) -> SplitRule {
    let fraction = options.split_fraction;
    match options.split {
        Split::None => SplitRule::None,
        Split::Random => SplitRule::Random { fraction, seed: options.seed },
        Split::Sequential => SplitRule::Sequential { fraction },
        Split::Column => SplitRule::Column,
        Split::Auto if method != Method::Descent || rows < SPLIT_MIN_ROWS => SplitRule::None,
        Split::Auto => SplitRule::Random {
            fraction: fraction.min(SPLIT_MAX_ROWS / rows as f64),
            seed: options.seed,
        },
    }
}

/// How rows are divided among replicas, slices and rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundLayout {
    /// Copies of the state.
    pub replicas: usize,
    /// Slices of a mini-batch.
    pub slices: usize,
    /// Rows of a round.
    pub round_rows: u64,
}

impl RoundLayout {
    /// The layout for these options and so many training rows. It depends on the shape of the work
    /// and never on the machine.
    pub fn decide(options: &TrainOptions, flops_per_row: u64, rows: u64) -> Self {
        layout(options, flops_per_row, rows)
    }
}

fn layout(options: &TrainOptions, flops_per_row: u64, rows: u64) -> RoundLayout {
    let batch = options.batch_size as u64;
    let (replicas, slices) = match (options.parallel, options.replicas) {
        // The optimizer learns rows one after another, so slices would have nothing to do.
        (Parallel::Auto, None) if options.optimizer.takes_rows() => (1, 1),
        (Parallel::Replicas, n) => (n.unwrap_or(1), 1),
        (Parallel::Auto, Some(n)) => (n, 1),
        (Parallel::Gradient, Some(n)) => (1, n.min(options.batch_size)),
        (Parallel::Gradient | Parallel::Auto, None) => {
            let slices = (batch * flops_per_row / FLOPS_PER_SLICE).clamp(1, MAX_SLICES as u64);
            (1, (slices as usize).min(options.batch_size))
        }
    };
    let unit = batch * replicas as u64;
    let most = (FLOPS_PER_ROUND / flops_per_row.max(1)).min(ROWS_PER_ROUND);
    let wanted = match options.round_rows {
        Some(rows) => rows,
        None if replicas > 1 => {
            rows.div_ceil(MERGES_PER_EPOCH).min(most.saturating_mul(replicas as u64))
        }
        None => most,
    };
    // Whole mini-batches for every replica, so that cutting rounds elsewhere does not change the
    // result.
    let round_rows = wanted.max(1).div_ceil(unit).saturating_mul(unit);
    RoundLayout { replicas, slices, round_rows }
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, Outline};
    use super::*;
    use crate::options::OptionValue;

    /// What is decided for quantiles of `targets` numbers.
    fn of_quantiles(
        given: &[(&str, OptionValue)],
        dense: usize,
        targets: usize,
    ) -> datafusion_common::Result<(Method, usize)> {
        let quantile = ("loss".to_owned(), OptionValue::from("quantile"));
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let given: Vec<_> = given.chain([quantile]).collect();
        let options = TrainOptions::check(Algorithm::LINEAR_REGRESSION, &given)?;
        let outline = Outline {
            options: &options,
            target: "a, b",
            classes: None,
            targets,
            parent: None,
            layers: &[],
            encoder: None,
        };
        let description = outline.describe()?;
        let width = Width { dense, ..Width::default() };
        let shape = Shape { width, classes: None, rows: 10_000 };
        let plan = TrainingPlan::decide(&options, description.as_ref(), &shape, false);
        Ok((plan.method, description.outputs()))
    }

    #[test]
    fn quantiles_are_solved_where_that_is_cheap() {
        assert_eq!(of_quantiles(&[], 10, 1).unwrap(), (Method::Irls, 3));
        let two = ("quantiles", OptionValue::from(vec![0.2, 0.8]));
        assert_eq!(of_quantiles(std::slice::from_ref(&two), 600, 1).unwrap(), (Method::Irls, 2));
        assert_eq!(of_quantiles(&[], 600, 1).unwrap().0, Method::Descent);
        assert_eq!(of_quantiles(&[("l1", 0.1.into())], 10, 1).unwrap().0, Method::Descent);
        assert_eq!(of_quantiles(&[("l2", 0.1.into()), two], 10, 1).unwrap().0, Method::Irls);
        let error = of_quantiles(&[], 10, 2).unwrap_err().strip_backtrace();
        assert_eq!(
            error,
            "Error during planning: loss = 'quantile' has one target, but a, b are 2 numbers; name \
             one of them, or choose another loss"
        );
    }

    #[test]
    fn rounds_of_replicas_are_parts_of_an_epoch_and_end_within_seconds() {
        let mut options = TrainOptions::default_of(Algorithm::MLP_CLASSIFIER);
        options.batch_size = 100;
        options.replicas = Some(2);
        assert_eq!(layout(&options, 1_000, 80_000).round_rows, 20_000);
        // Whole mini-batches of both.
        assert_eq!(layout(&options, 1_000, 80_001).round_rows, 20_200);
        // Each of the two replicas does as much as one alone.
        let flops = FLOPS_PER_ROUND / 1_000;
        assert_eq!(layout(&options, flops, 80_000).round_rows, 2_000);
        options.replicas = None;
        options.parallel = Parallel::Auto;
        assert_eq!(layout(&options, flops, 80_000).round_rows, 1_000);
        options.replicas = Some(2);
        options.round_rows = Some(500);
        assert_eq!(layout(&options, flops, 80_000).round_rows, 600);
    }
}
