//! From checked options and the shape of the rows to what runs: solver, replicas, shards, rounds.

use gradlake_udfs::algorithm::Algorithm;
use gradlake_udfs::batch::Width;
use gradlake_udfs::exact;
use gradlake_udfs::learner::Loss;

use crate::options::{Parallel, Solver, Split, TrainOptions};
use crate::table::SplitRule;

/// Floating-point operations of a mini-batch above which another shard pays for its hand-over
/// (some 10 microseconds, at 50 GFLOP/s and more a core).
const FLOPS_PER_SHARD: u64 = 8_000_000;
/// Shards at most, whatever the machine: the sums, and so the weights, depend on the number.
const MAX_SHARDS: usize = 8;
/// Floating-point operations of a round where nothing else decides: some seconds on one core, so
/// that checkpoints and `max_seconds` find an end of a round soon.
const FLOPS_PER_ROUND: u64 = 400_000_000_000;
/// Rows of such a round at most: those of few operations wait for memory, up to 100 ns each.
const ROWS_PER_ROUND: u64 = 50_000_000;
/// Rounds (merges) of an epoch with more than one replica, at least. More of them cost time, up to
/// a millisecond each, and gain nothing: after 1, 3 and 10 epochs of 2 and 8 replicas over Adult,
/// California housing and a made data set of 100,000 rows, linear and with a hidden layer, merging
/// 10 times an epoch or 4 made less than 0.001 of log loss and 0.005 of R2 of difference, in either
/// direction.
const MERGES_PER_EPOCH: u64 = 4;

/// Rows below which `split = 'auto'` keeps every row for training.
const SPLIT_MIN_ROWS: u64 = 500;
/// Evaluation rows at most of `split = 'auto'`: more tell no more.
const SPLIT_MAX_ROWS: f64 = 10_000.0;

/// How the parameters are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Normal equations of a linear regression.
    Normal,
    /// Newton steps of a logistic regression.
    Newton,
    /// Mini-batch descent.
    Descent,
}

impl Method {
    /// What EXPLAIN and the history call it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Normal => "normal equations",
            Method::Newton => "newton",
            Method::Descent => "sgd",
        }
    }
}

/// The loss of `loss = auto`, of a classifier by the number of its classes. The one of `linear_svm`
/// is that of scikit-learn's `LinearSVC`.
pub fn default_loss(algorithm: Algorithm, classes: usize) -> Loss {
    match algorithm {
        Algorithm::LinearRegression | Algorithm::MlpRegressor => Loss::Squared,
        Algorithm::LinearSvm => Loss::SquaredHinge,
        Algorithm::LogisticRegression | Algorithm::MlpClassifier if classes == 2 => Loss::Logistic,
        Algorithm::LogisticRegression | Algorithm::MlpClassifier => Loss::Softmax,
    }
}

/// The method for these options, loss and shape.
pub fn method(
    options: &TrainOptions,
    loss: Loss,
    width: Width,
    outputs: usize,
    rows: u64,
) -> Method {
    let linear = options.hidden.is_empty();
    let exact_fits = linear && exact::fits(width, outputs, rows);
    match (options.solver, loss) {
        (Solver::Normal, _) => Method::Normal,
        (Solver::Newton, _) => Method::Newton,
        (Solver::Auto, Loss::Squared) if exact_fits => Method::Normal,
        (Solver::Auto, Loss::Logistic | Loss::Softmax) if exact_fits => Method::Newton,
        _ => Method::Descent,
    }
}

/// Outputs of a network by its loss and the number of classes, if the target has such.
pub fn outputs(loss: Loss, classes: Option<usize>) -> usize {
    match (loss, classes) {
        (Loss::Softmax, Some(n)) => n,
        (Loss::Hinge | Loss::SquaredHinge, Some(n)) if n > 2 => n,
        _ => 1,
    }
}

/// The split that the options mean for a method and number of rows.
pub fn split_rule(options: &TrainOptions, method: Method, rows: u64) -> SplitRule {
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

/// The seed of the full shuffle of the rows that a method learns from; None: they stay in their
/// order.
pub fn shuffle(options: &TrainOptions, method: Method) -> Option<u64> {
    (options.shuffle && method == Method::Descent).then_some(options.seed)
}

/// Who learns from which rows, and how often they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Copies of the state.
    pub replicas: usize,
    /// Shards of a mini-batch.
    pub shards: usize,
    /// Rows of a round.
    pub round_rows: u64,
}

/// The layout for these options. It depends on the shape of the work and never on the machine.
pub fn layout(options: &TrainOptions, flops_per_row: u64, rows: u64) -> Layout {
    let batch = options.batch_size as u64;
    let (replicas, shards) = match (options.parallel, options.replicas) {
        // Rows one after another leave nothing for shards to do.
        (None, None) if options.optimizer.takes_rows() => (1, 1),
        (Some(Parallel::Replicas), n) => (n.unwrap_or(1), 1),
        (None, Some(n)) => (n, 1),
        (Some(Parallel::Gradient), Some(n)) => (1, n.min(options.batch_size)),
        (Some(Parallel::Gradient) | None, None) => {
            let shards = (batch * flops_per_row / FLOPS_PER_SHARD).clamp(1, MAX_SHARDS as u64);
            (1, (shards as usize).min(options.batch_size))
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
    // Whole mini-batches for every replica, so that cutting rounds elsewhere changes nothing.
    let round_rows = wanted.max(1).div_ceil(unit).saturating_mul(unit);
    Layout { replicas, shards, round_rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_replicas_are_parts_of_an_epoch_and_end_within_seconds() {
        let mut options = TrainOptions::default_of(Algorithm::MlpClassifier);
        options.batch_size = 100;
        options.replicas = Some(2);
        assert_eq!(layout(&options, 1_000, 80_000).round_rows, 20_000);
        // Whole mini-batches of both.
        assert_eq!(layout(&options, 1_000, 80_001).round_rows, 20_200);
        // Each of the two does as much as one alone.
        let flops = FLOPS_PER_ROUND / 1_000;
        assert_eq!(layout(&options, flops, 80_000).round_rows, 2_000);
        options.replicas = None;
        options.parallel = None;
        assert_eq!(layout(&options, flops, 80_000).round_rows, 1_000);
        options.replicas = Some(2);
        options.round_rows = Some(500);
        assert_eq!(layout(&options, flops, 80_000).round_rows, 600);
    }
}
