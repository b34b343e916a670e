//! Physical plans over unbounded tables: rows keep their order, and none waits for others.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, plan_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};

use crate::session::Engine;

impl Engine {
    /// The physical plan of a query whose rows keep the order in which they come, whatever the
    /// number of threads, and pass each operator as soon as they come.
    ///
    /// # Errors
    /// When it cannot be planned, or needs all rows of a table that has no end.
    pub(crate) async fn plan_in_order(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        match self.training_state().create_physical_plan(plan).await {
            Ok(physical) => unbuffered(physical),
            Err(error) if error.strip_backtrace().contains(PIPELINE) => plan_err!(
                "the query groups, sorts or joins all rows of an unbounded table, which have no \
                 end; take rows one by one (SELECT, WHERE, windows), or copy them into a folder \
                 and query that"
            ),
            Err(error) => Err(error),
        }
    }

    /// Runs a query over an unbounded table: see `Engine::plan_in_order`.
    ///
    /// # Errors
    /// When it cannot be planned.
    pub async fn run_in_order(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let physical = self.plan_in_order(plan).await?;
        execute_stream(physical, self.training_state().task_ctx())
    }
}

/// How DataFusion begins to say that a plan needs the end of its input.
const PIPELINE: &str = "Cannot execute pipeline breaking queries";

/// Lets filters hand on what they keep of a batch, which they hold back otherwise until it is
/// thousands of rows.
fn unbuffered(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        Ok(match node.downcast_ref::<FilterExec>() {
            Some(filter) => Transformed::yes(Arc::new(filter.with_batch_size(1)?) as _),
            None => Transformed::no(node),
        })
    })
    .data()
}
