//! `( PREDICT MODEL ... )` as a relation: plans the `predict_rows` call that the parser put in its
//! place.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::{Query, TableFactor};
use gradlake_engine::{Engine, Event, EventSink, PredictOptions};
use gradlake_udfs::Scorer;

use crate::parsers::ModelUse;
use crate::statements::PredictRows;
use crate::wildcard::{with_all_columns, without_wildcard};

/// A weak reference to the sink of events.
type WeakSink = Weak<dyn Fn(Event) + Send + Sync>;

/// The models that the running statement has pinned, by name and version.
#[derive(Default)]
pub struct PinnedModels {
    scorers: RwLock<HashMap<ModelUse, Arc<Scorer>>>,
    /// The sink for events of the statement that is being planned. (The reference is weak: when the
    /// caller that runs the statement drops the sink, the receiver sees that the statement is
    /// over.)
    events: RwLock<Option<WeakSink>>,
}

impl fmt::Debug for PinnedModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedModels").field("scorers", &self.scorers).finish_non_exhaustive()
    }
}

impl PinnedModels {
    /// Makes a model available to the planner.
    pub fn pin(&self, model: ModelUse, scorer: Arc<Scorer>) {
        self.scorers.write().unwrap_or_else(PoisonError::into_inner).insert(model, scorer);
    }

    /// The model that was pinned last.
    pub fn get(&self, model: &ModelUse) -> Option<Arc<Scorer>> {
        self.scorers.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    /// Sets the sink for events of the statement that is planned next.
    pub fn tell(&self, events: &EventSink) {
        *self.events.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(events));
    }

    fn events(&self) -> EventSink {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        events.as_ref().and_then(Weak::upgrade).unwrap_or_else(|| Arc::new(|_event| {}))
    }
}

/// Plans the `predict_rows` call of a PREDICT subquery.
#[derive(Debug)]
pub struct PredictRelation {
    /// The engine owns the context that owns this planner.
    engine: Weak<Engine>,
    pinned: Arc<PinnedModels>,
}

impl PredictRelation {
    /// A planner that looks models up among the pinned ones.
    pub fn new(engine: &Arc<Engine>, pinned: Arc<PinnedModels>) -> Self {
        Self { engine: Arc::downgrade(engine), pinned }
    }
}

impl RelationPlanner for PredictRelation {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if let TableFactor::Derived { lateral: false, subquery, alias, sample: None } = &relation
            && let Some(query) = without_wildcard(subquery)
        {
            let plan = with_all_columns(context.plan(derived(Box::new(query)))?)?;
            let planned = PlannedRelation::new(plan, alias.clone());
            return Ok(RelationPlanning::Planned(Box::new(planned)));
        }
        let Some(call) = PredictRows::of(&relation)? else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let options = PredictOptions::check(&call.options)?;
        let model = ModelUse { name: call.name, version: call.version };
        let (Some(engine), Some(scorer)) = (self.engine.upgrade(), self.pinned.get(&model)) else {
            return internal_err!("model {} was not loaded before planning", model.name);
        };
        let query = derived(call.query);
        let (query, events) = (context.plan(query)?, self.pinned.events());
        let is_fixed = model.version.is_some();
        let plan = engine.predict(&scorer, is_fixed, options, query, &events)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

/// `(query)` in FROM.
fn derived(subquery: Box<Query>) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery, alias: None, sample: None }
}
