//! An optimizer rule that refuses plans that need all rows of an unbounded table.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Result, plan_err};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::sanity_checker::{
    SanityCheckPlan, check_finiteness_requirements,
};
use datafusion::physical_plan::ExecutionPlan;

/// Reports in one sentence what DataFusion's check of plans reports by the name of an operator.
#[derive(Debug)]
pub struct RefuseEndless;

impl RefuseEndless {
    /// DataFusion's rules with this one before its check of whole plans.
    pub fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
        let mut rules = PhysicalOptimizer::new().rules;
        let check = SanityCheckPlan::new();
        let at = rules.iter().position(|rule| rule.name() == check.name());
        rules.insert(at.unwrap_or(rules.len()), Arc::new(Self));
        rules
    }
}

impl PhysicalOptimizerRule for RefuseEndless {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let needs_end = plan.exists(|node| {
            Ok(check_finiteness_requirements(node.as_ref(), &config.optimizer).is_err())
        })?;
        if needs_end {
            return plan_err!(
                "the query groups, sorts or joins all rows of an unbounded table, which have no \
                 end; take rows one by one (SELECT, WHERE, windows), or copy them into a folder \
                 and query that"
            );
        }
        Ok(plan)
    }

    fn name(&self) -> &str {
        "refuse_endless"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
