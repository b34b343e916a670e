//! Metrics of predictions, exact and not binned: as plain sums, and as aggregate functions of SQL.
//!
//! Definitions are scikit-learn's (`sklearn.metrics`), with `zero_division = 0`. Every metric
//! accepts row weights. Metrics of parts merge: the result is the metric of all rows.

mod classes;
mod functions;
mod numbers;
mod ranking;

pub use classes::{Confusion, LogLoss};
pub use functions::metric_functions;
pub use numbers::Residuals;
pub use ranking::Ranking;
