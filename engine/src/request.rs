//! What a TRAIN statement asks for, once it is parsed and its query planned.

use datafusion::logical_expr::LogicalPlan;
use gradlake_udfs::algorithm::Algorithm;

use crate::options::TrainOptions;

/// A training: the tree of a TRAIN statement with its query as a plan.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// Name of the model.
    pub name: String,
    /// OR REPLACE: publish the next version of an existing model.
    pub or_replace: bool,
    /// IF NOT EXISTS: leave an existing model alone.
    pub if_not_exists: bool,
    /// USING.
    pub algorithm: Algorithm,
    /// TRANSFORM as (output name, SQL expression); empty without the clause.
    pub transform: Vec<(String, String)>,
    /// TARGET.
    pub target: Option<String>,
    /// FEATURES; every other column if absent.
    pub features: Option<Vec<String>>,
    /// WEIGHT.
    pub weight: Option<String>,
    /// PARTITION BY; empty without the clause.
    pub partition_by: Vec<String>,
    /// CONTINUE: a model and the version to go on from.
    pub continue_from: Option<(String, Option<u64>)>,
    /// Checked options.
    pub options: TrainOptions,
    /// The query, before TRANSFORM.
    pub query: LogicalPlan,
    /// The normalised text of the statement: a checkpoint belongs to it.
    pub statement: String,
}

impl TrainRequest {
    /// What a checkpoint must have in common with the statement that resumes it: everything but
    /// OR REPLACE and IF NOT EXISTS, which say what to do about a model that is there.
    pub fn fingerprint(&self) -> String {
        let statement = self.statement.as_str();
        let rest = ["TRAIN OR REPLACE MODEL ", "TRAIN MODEL IF NOT EXISTS ", "TRAIN MODEL "]
            .iter()
            .find_map(|prefix| statement.strip_prefix(prefix))
            .unwrap_or(statement);
        format!("TRAIN MODEL {rest}")
    }
}
