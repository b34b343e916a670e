//! The algorithms that `USING` names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An algorithm by its name in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Linear regression.
    LinearRegression,
    /// Logistic regression of two or many classes.
    LogisticRegression,
    /// Linear support vector machine of two or many classes.
    LinearSvm,
    /// Multi-layer perceptron for classes.
    MlpClassifier,
    /// Multi-layer perceptron for numbers.
    MlpRegressor,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 5] = [
        Algorithm::LinearRegression,
        Algorithm::LogisticRegression,
        Algorithm::LinearSvm,
        Algorithm::MlpClassifier,
        Algorithm::MlpRegressor,
    ];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::LinearRegression => "linear_regression",
            Algorithm::LogisticRegression => "logistic_regression",
            Algorithm::LinearSvm => "linear_svm",
            Algorithm::MlpClassifier => "mlp_classifier",
            Algorithm::MlpRegressor => "mlp_regressor",
        }
    }

    /// Whether the target is a class and not a number.
    pub fn is_classifier(self) -> bool {
        !matches!(self, Algorithm::LinearRegression | Algorithm::MlpRegressor)
    }

    /// Whether it has hidden layers.
    pub fn is_network(self) -> bool {
        matches!(self, Algorithm::MlpClassifier | Algorithm::MlpRegressor)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name).ok_or(())
    }
}
