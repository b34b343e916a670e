//! `( PREDICT MODEL ... )` as a relation: plans the twin that the parser put in its place.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::TableFactor;
use gradlake_engine::prediction::PredictOptions;
use gradlake_engine::session::Engine;
use gradlake_udfs::scorer::Scorer;

use crate::statements::PredictRows;

/// Models by name and version, as the running statement has pinned them.
#[derive(Debug, Default)]
pub struct PinnedModels(RwLock<HashMap<(String, Option<u64>), Arc<Scorer>>>);

impl PinnedModels {
    /// Makes a model known to the planner.
    pub fn pin(&self, name: &str, version: Option<u64>, scorer: Arc<Scorer>) {
        let mut models = self.0.write().unwrap_or_else(PoisonError::into_inner);
        models.insert((name.to_owned(), version), scorer);
    }

    /// The model that was pinned last.
    pub fn get(&self, name: &str, version: Option<u64>) -> Option<Arc<Scorer>> {
        let models = self.0.read().unwrap_or_else(PoisonError::into_inner);
        models.get(&(name.to_owned(), version)).cloned()
    }
}

/// Plans the twin of a PREDICT subquery.
#[derive(Debug)]
pub struct PredictRelation {
    engine: Arc<Engine>,
    pinned: Arc<PinnedModels>,
}
