//! Physical plans over unbounded tables: rows keep their order and are not buffered.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};

use crate::session::Engine;

impl Engine {
    /// The physical plan of a query whose rows keep their order of arrival, whatever the number of
    /// threads, and pass each operator as soon as they arrive.
    ///
    /// # Errors
    /// When it cannot be planned, or needs all rows of a table that has no end.
    pub(crate) async fn plan_in_order(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        unbuffered(self.training_state().create_physical_plan(plan).await?)
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

/// Makes filters emit the rows that they keep of a batch at once; otherwise they buffer thousands
/// of rows.
fn unbuffered(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        Ok(match node.downcast_ref::<FilterExec>() {
            Some(filter) => Transformed::yes(Arc::new(filter.with_batch_size(1)?) as _),
            None => Transformed::no(node),
        })
    })
    .data()
}
