//! `PREDICT MODEL`, and the table function of the same meaning.

use std::fmt;

use datafusion::sql::sqlparser::ast::{Query, TableAlias};
use gradlake_engine::OptionValue;

use super::name::{quoted, write_options, write_version};
use super::source::Source;

/// The table function that `(PREDICT MODEL m ...)` becomes in place of a subquery:
/// `predict_rows('m', (query) [, version => n] [, options => 'threshold = 0.4'])`.
///
/// A `RelationPlanner` plans it, see [`PredictRows`]. It can be written by hand too.
pub const PREDICT_ROWS: &str = "predict_rows";

/// `PREDICT MODEL`.
#[derive(Clone, Debug, PartialEq)]
pub struct Predict {
    /// Name of the model.
    pub name: String,
    /// VERSION; the current one if absent.
    pub version: Option<u64>,
    /// WITH, in the order given.
    pub options: Vec<(String, OptionValue)>,
    /// AS or FROM.
    pub source: Source,
}

impl fmt::Display for Predict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PREDICT MODEL {}", quoted(&self.name))?;
        write_version(f, self.version)?;
        write_options(f, &self.options)?;
        write!(f, " {}", self.source)
    }
}

/// A call of [`PREDICT_ROWS`] in FROM, read from DataFusion's tree.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictRows {
    /// Name of the model.
    pub name: String,
    /// Its version; the current one if absent.
    pub version: Option<u64>,
    /// Options, in the order given.
    pub options: Vec<(String, OptionValue)>,
    /// The rows to predict.
    pub query: Box<Query>,
    /// The alias of the call.
    pub alias: Option<TableAlias>,
}
