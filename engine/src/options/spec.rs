//! Every option of TRAIN: one table for the checks, the defaults and the documentation.

use gradlake_udfs::algorithm::Algorithm;

/// Which algorithms take an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takers {
    /// Every algorithm.
    All,
    /// The multi-layer perceptrons.
    Networks,
    /// The algorithms whose target is a class.
    Classifiers,
    /// The algorithms with an exact solver.
    Solvers,
    /// The algorithm that Newton steps solve.
    Newton,
    /// All that let the loss be chosen.
    Losses,
}

impl Takers {
    /// Whether the algorithm is among them.
    pub fn contains(self, algorithm: Algorithm) -> bool {
        match self {
            Takers::All => true,
            Takers::Networks => algorithm.is_network(),
            Takers::Classifiers => algorithm.is_classifier(),
            Takers::Solvers => {
                matches!(algorithm, Algorithm::LinearRegression | Algorithm::LogisticRegression)
            }
            Takers::Newton => algorithm == Algorithm::LogisticRegression,
            Takers::Losses => algorithm != Algorithm::LogisticRegression,
        }
    }

    /// Their names, separated by commas.
    pub fn names(self) -> String {
        let taken = Algorithm::ALL.into_iter().filter(|algorithm| self.contains(*algorithm));
        taken.map(Algorithm::name).collect::<Vec<_>>().join(", ")
    }
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// The values that it takes, in words that end "must be ...".
    pub range: &'static str,
    /// Which algorithms take it.
    pub takers: Takers,
    /// What it does, in one line.
    pub doc: &'static str,
}

/// A short way to write the table.
const fn spec(name: &'static str, takers: Takers, range: &'static str, doc: &'static str) -> Spec {
    Spec { name, range, takers, doc }
}

use Takers::{All, Classifiers, Losses, Networks, Newton, Solvers};

/// All options, in SQL.md's order.
pub const SPECS: [Spec; 37] = [
    spec("epochs", All, "a whole number from 1 to 1000000", "passes over the training rows"),
    spec("batch_size", All, "a whole number from 1 to 1048576", "rows of a mini-batch"),
    spec(
        "learning_rate",
        All,
        "a number above 0 and at most 1000",
        "size of a step, before the schedule",
    ),
    spec(
        "intercept_learning_rate",
        All,
        "auto or a number from 0 to 1000",
        "size of a step of the intercept (of networks: the bias of the output layer); auto is learning_rate",
    ),
    spec("schedule", All, SCHEDULE, "how the learning rate changes over the steps"),
    spec(
        "optimizer",
        All,
        "one of sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, ftrl, adaptive_invariant",
        "how to step; adaptive_invariant is Vowpal Wabbit's update of linear models, which takes the rows of a mini-batch one after another",
    ),
    spec(
        "momentum",
        All,
        "a number from 0 to below 1",
        "decay of the velocity of momentum and nesterov",
    ),
    spec("beta1", All, "a number from 0 to below 1", "decay of the first moment of adam and adamw"),
    spec(
        "beta2",
        All,
        "a number from 0 to below 1",
        "decay of the second moment of rmsprop, adam and adamw",
    ),
    spec(
        "epsilon",
        All,
        "a number from 1e-30 to 1",
        "added to the root by adagrad, rmsprop, adam and adamw; beta of ftrl",
    ),
    spec(
        "l1",
        All,
        "auto or a number from 0 to 1000000",
        "strength of the sum of absolute weights; auto is 0; ftrl adds it (and l2) once to its sum over steps, as McMahan et al. 2013 do",
    ),
    spec(
        "l2",
        All,
        "auto or a number from 0 to 1000000",
        "strength of half the sum of squared weights; auto is 1 / rows for logistic_regression and linear_svm, 0 for others",
    ),
    spec(
        "dropout",
        Networks,
        "a number from 0 to below 1",
        "probability that a hidden unit is left out of a step",
    ),
    spec(
        "hidden",
        Networks,
        "a list of at most 32 whole numbers from 1 to 65536",
        "units of the hidden layers",
    ),
    spec(
        "activation",
        Networks,
        "one of relu, gelu, tanh, sigmoid, elu, identity",
        "activation of the hidden layers",
    ),
    spec(
        "loss",
        Losses,
        LOSS,
        "what is minimised; auto is squared, softmax, or squared_hinge (scikit-learn's LinearSVC)",
    ),
    spec(
        "solver",
        Solvers,
        SOLVER,
        "exact or by steps; auto is exact where the width allows and no option of steps is given",
    ),
    spec(
        "statistics",
        All,
        "fixed or running",
        "how features are standardised: fixed is by all training rows, running by the rows so far, in one pass (the default of unbounded tables)",
    ),
    spec(
        "standardize",
        All,
        "TRUE or FALSE",
        "whether numbers are standardised; FALSE by default where adaptive_invariant learns with running statistics",
    ),
    spec(
        "intercept",
        All,
        "TRUE or FALSE",
        "whether an intercept (of networks: a bias of the output layer) is learned",
    ),
    spec(
        "class_weights",
        Classifiers,
        "none, balanced or a map such as {'yes': 2, 'no': 1} of numbers above 0",
        "weight of the rows of a class",
    ),
    spec(
        "seed",
        All,
        "a whole number from 0 to 18446744073709551615",
        "start of every random choice",
    ),
    spec(
        "replicas",
        All,
        "auto or a whole number from 1 to 1024",
        "copies that are trained side by side and averaged, or shards of parallel = 'gradient'",
    ),
    spec(
        "parallel",
        All,
        "one of auto, replicas, gradient",
        "average copies after each round, or sum gradients in each step",
    ),
    spec("shuffle", All, "TRUE or FALSE", "whether rows are taken in random order"),
    spec(
        "round_rows",
        All,
        "auto or a whole number from 1 to 1000000000000",
        "rows of a round, after which replicas are merged; auto is a quarter of the rows at most with more than one",
    ),
    spec(
        "split",
        All,
        "one of auto, random, sequential, column, none",
        "how evaluation rows are chosen; auto is random for steps and none for exact solvers",
    ),
    spec(
        "split_column",
        All,
        "the name of a column",
        "boolean column that is true for evaluation rows",
    ),
    spec("split_fraction", All, "a number above 0 and below 1", "share of evaluation rows"),
    spec(
        "early_stop",
        All,
        "TRUE or FALSE",
        "whether training stops when the evaluation loss no longer falls",
    ),
    spec(
        "patience",
        All,
        "a whole number from 1 to 1000000",
        "epochs without a better evaluation loss before it stops",
    ),
    spec(
        "min_delta",
        All,
        "a number from 0 to 1000000",
        "fall of the evaluation loss that counts as better",
    ),
    spec(
        "max_seconds",
        All,
        "none or a number above 0 and at most 1000000000",
        "time after which training stops with what it has",
    ),
    spec(
        "tolerance",
        Newton,
        "a number from 0 to 1",
        "largest derivative of the mean loss at which Newton steps end",
    ),
    spec(
        "checkpoint_every",
        All,
        "seconds from 0 to 1000000000, or a text such as '30 seconds', '1 minute' or '2 hours'",
        "time between checkpoints; 0 is after every round",
    ),
    spec(
        "keep_versions",
        All,
        "none or a whole number from 1 to 1000000",
        "versions of the model that are kept; none keeps all",
    ),
    spec(
        "publish_every",
        All,
        "a text such as '10000 rows', '30 seconds' or '1 minute'",
        "how often the training of an unbounded table publishes a version (1 minute if not given)",
    ),
];

const SCHEDULE: &str = "one of constant, step, exponential, cosine, or a map such as {'kind': 'step', \
'epochs': 10, 'factor': 0.1, 'warmup': 0.05}";
const LOSS: &str = "auto or one of squared, absolute, huber, poisson (linear_regression, \
mlp_regressor), hinge, squared_hinge (linear_svm), softmax, logistic (mlp_classifier)";
const SOLVER: &str = "one of auto, normal (linear_regression), newton (logistic_regression), sgd";

/// The option of that name.
pub fn find(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name)
}

/// One row of the table in the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the option.
    pub name: &'static str,
    /// What it takes.
    pub range: &'static str,
    /// (algorithm, default in SQL's spelling) of the algorithms that take it and give it a value
    /// where no option is given.
    pub defaults: Vec<(Algorithm, String)>,
    /// What it does.
    pub doc: &'static str,
}

/// Every option with its range and defaults, in SQL.md's order.
pub fn table() -> Vec<Row> {
    let defaults = Algorithm::ALL
        .map(|algorithm| (algorithm, super::TrainOptions::default_of(algorithm).written_out()));
    let row = |spec: &Spec| Row {
        name: spec.name,
        range: spec.range,
        defaults: defaults
            .iter()
            .filter_map(|(algorithm, written)| Some((*algorithm, written.get(spec.name)?.clone())))
            .collect(),
        doc: spec.doc,
    };
    SPECS.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        let names = "epochs, batch_size, learning_rate, intercept_learning_rate, schedule, \
                     optimizer, momentum, beta1, beta2, epsilon, l1, l2, dropout, hidden, \
                     activation, loss, solver, statistics, standardize, intercept, \
                     class_weights, seed, replicas, parallel, shuffle, round_rows, split, \
                     split_column, split_fraction, early_stop, patience, min_delta, max_seconds, \
                     tolerance, checkpoint_every, keep_versions, publish_every";
        assert_eq!(SPECS.map(|spec| spec.name).join(", "), names);
        for row in table() {
            // Those of other optimizers and of split = 'column' have no value by default.
            let may_lack = ["momentum", "split_column", "publish_every"].contains(&row.name);
            assert_eq!(row.defaults.is_empty(), may_lack, "{row:?}");
            assert!(!row.range.is_empty() && !row.doc.is_empty());
        }
        let hidden = table().into_iter().find(|row| row.name == "hidden").unwrap();
        assert_eq!(
            hidden.defaults,
            [Algorithm::MlpClassifier, Algorithm::MlpRegressor].map(|a| (a, "[128]".to_owned()))
        );
    }
}
