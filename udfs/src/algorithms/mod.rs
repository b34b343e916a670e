//! The algorithms that `USING` names: a registry of specifications, a folder each.
//!
//! To add an algorithm, add a folder with its [`AlgorithmSpec`] and a line in [`REGISTRY`]. No
//! other code asks which algorithm it has: the specification contains all differences.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion_common::Result;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::batch::Width;
use crate::description::Description;
use crate::encoder::Encoder;
use crate::estimator::{Estimator, OnlineEstimator};
use crate::learner::Loss;
use crate::model::Trained;
use crate::network::LayersClause;
use crate::options::{Solver, TrainOptions};

mod dense;
mod descent;
mod kmeans;
mod linear_regression;
mod linear_svm;
mod logistic_regression;
mod loss;
mod mlp_classifier;
mod mlp_regressor;
mod network;
mod network_classifier;
mod network_regressor;
mod pca;
mod plan;
mod setup;

pub use descent::start_state;
pub use plan::{Method, RoundLayout, Shape, SplitRule, TrainingPlan};
pub use setup::Setup;

/// Every algorithm, in the order in which messages name them.
static REGISTRY: [&AlgorithmSpec; 9] = [
    &linear_regression::SPEC,
    &logistic_regression::SPEC,
    &linear_svm::SPEC,
    &mlp_classifier::SPEC,
    &mlp_regressor::SPEC,
    &network_classifier::SPEC,
    &network_regressor::SPEC,
    &kmeans::SPEC,
    &pca::SPEC,
];

/// The specification of an algorithm.
#[derive(Debug)]
pub struct AlgorithmSpec {
    /// Its name in SQL.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// What it predicts.
    pub target: TargetRule,
    /// Groups of options that it accepts beside those of all algorithms.
    pub options: &'static [OptionGroup],
    /// The losses that the option `loss` may choose.
    pub losses: &'static [Loss],
    /// What the option `solver` may name beside `auto` and `sgd`.
    pub solvers: &'static [Solver],
    /// Default units of the hidden layers; none for a linear model.
    pub hidden: &'static [usize],
    /// Default number of passes over the rows in mini-batch training.
    pub epochs: u64,
    /// Default number of rows of a mini-batch.
    pub batch_size: usize,
    /// Metrics of EVALUATE that compare rows with the model; none where they compare predictions
    /// with a target.
    pub metrics: &'static [&'static str],
    /// Readable tables of a model beside those that every model has.
    pub tables: &'static [&'static str],
    /// Describes what would be learned.
    pub describe: fn(&Outline<'_>) -> Result<Arc<dyn Description>>,
    /// Reads a description that [`Description::to_json`] wrote.
    pub read: fn(&str) -> Result<Arc<dyn Description>>,
    /// How parameters are found, for rows of this shape; the flag says that a model is continued.
    pub method: fn(&TrainOptions, &dyn Description, &Shape, bool) -> Method,
    /// Makes an estimator for prepared rows.
    pub make: fn(&Setup<'_>) -> Result<Box<dyn Estimator>>,
    /// Makes an estimator for rows that come in mini-batches, of an algorithm without a target,
    /// which may continue a model.
    pub online: Option<MakeOnline>,
    /// Whether, on streams, a class that first occurs after the training began gets an output of
    /// its own.
    pub grows: bool,
}

impl AlgorithmSpec {
    /// Whether it has no hidden layers by default.
    pub(crate) fn is_linear(&self) -> bool {
        self.hidden.is_empty() && !self.options.contains(&OptionGroup::Networks)
    }
}

/// Makes an [`OnlineEstimator`] for rows of some width.
pub type MakeOnline =
    fn(&TrainOptions, Width, Option<&Trained>) -> Result<Box<dyn OnlineEstimator>>;

/// What is known of a training before its rows are encoded.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// Checked options.
    pub options: &'a TrainOptions,
    /// Names of the targets; empty without one.
    pub target: &'a str,
    /// Number of classes; None for numbers, or without a target.
    pub classes: Option<usize>,
    /// Numbers of the targets in an encoded row: 1 for a class.
    pub targets: usize,
    /// The model to continue.
    pub parent: Option<&'a Trained>,
    /// The clauses LAYERS.
    pub layers: &'a [LayersClause],
    /// The preprocessing, as far as it is known.
    pub encoder: Option<&'a Encoder>,
}

impl Outline<'_> {
    /// Describes what would be learned.
    ///
    /// # Errors
    /// When an option does not fit the classes.
    pub fn describe(&self) -> Result<Arc<dyn Description>> {
        (self.options.algorithm.spec().describe)(self)
    }
}

/// What an algorithm predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetRule {
    /// It has no target.
    None,
    /// One of two or more classes.
    Class,
    /// The same, or several booleans.
    Classes,
    /// A number.
    Number,
}

impl TargetRule {
    /// Whether it is a class and not a number.
    pub fn is_class(self) -> bool {
        matches!(self, Self::Class | Self::Classes)
    }
}

/// Options that some algorithms take and others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionGroup {
    /// Options of every algorithm.
    All,
    /// The number of passes over the rows.
    Passes,
    /// The size of a mini-batch.
    Batch,
    /// Options of learning by gradients.
    Gradient,
    /// When steps over all rows end.
    Tolerance,
    /// Options of hidden layers.
    Layers,
    /// The clause LAYERS, and options of networks of any layers.
    Networks,
    /// Options of classes.
    Classes,
    /// The choice of a solver.
    Solver,
    /// The choice of a loss.
    Loss,
    /// Options of the quantile loss.
    Quantiles,
    /// Options of principal components.
    Components,
    /// Options of clusters.
    Clusters,
}

/// An algorithm of the registry.
#[derive(Clone, Copy)]
pub struct Algorithm(&'static AlgorithmSpec);

impl Algorithm {
    /// Every algorithm.
    pub fn all() -> impl Iterator<Item = Algorithm> + Clone {
        REGISTRY.iter().map(|spec| Algorithm(spec))
    }

    /// Their names, in order.
    pub fn names() -> Vec<&'static str> {
        Self::all().map(Self::name).collect()
    }

    /// The names of those that accept the options of a group, separated by commas.
    pub fn takers(group: OptionGroup) -> String {
        let taken = Self::all().filter(|algorithm| algorithm.takes(group));
        taken.map(Self::name).collect::<Vec<_>>().join(", ")
    }

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Its specification.
    pub fn spec(self) -> &'static AlgorithmSpec {
        self.0
    }

    /// Whether there is a target.
    pub fn has_target(self) -> bool {
        self.0.target != TargetRule::None
    }

    /// Whether the target is a class and not a number.
    pub fn is_classifier(self) -> bool {
        self.0.target.is_class()
    }

    /// Whether it accepts the options of a group.
    pub fn takes(self, group: OptionGroup) -> bool {
        group == OptionGroup::All || self.0.options.contains(&group)
    }
}

impl PartialEq for Algorithm {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Algorithm {}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        Algorithm::all().find(|algorithm| algorithm.name() == name).ok_or(())
    }
}

impl Serialize for Algorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|()| serde::de::Error::custom(format!("there is no algorithm {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_registry_and_come_back() {
        let names = Algorithm::names();
        assert_eq!(
            names,
            [
                "linear_regression",
                "logistic_regression",
                "linear_svm",
                "mlp_classifier",
                "mlp_regressor",
                "network_classifier",
                "network_regressor",
                "kmeans",
                "pca"
            ]
        );
        for name in names {
            let algorithm: Algorithm = name.parse().unwrap();
            let json = serde_json::to_string(&algorithm).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Algorithm>(&json).unwrap(), algorithm);
            assert!(!algorithm.spec().about.is_empty());
        }
        assert!("linear".parse::<Algorithm>().is_err());
        assert!(serde_json::from_str::<Algorithm>("\"linear\"").is_err());
    }
}
