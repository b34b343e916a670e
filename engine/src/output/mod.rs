//! Files that statements write: COPY and INSERT.

pub mod csv;
mod nested;
mod sink;
mod staged;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt, stream};

use self::sink::with_csv_text;
use self::staged::{Staged, StagedStores};
use crate::session::Engine;

impl Engine {
    /// Runs a statement that writes files. They appear when all of it is written: when it fails or
    /// is dropped, nothing is left of it, and files that were there before stay as they were.
    ///
    /// # Errors
    /// When the plan cannot be made. (Later failures are reported by the stream of rows.)
    pub async fn write_files(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let state = self.context().state();
        let staged = Arc::new(Staged::default());
        let runtime = state.runtime_env();
        let stores =
            StagedStores::new(Arc::clone(&runtime.object_store_registry), Arc::clone(&staged));
        let runtime =
            RuntimeEnv { object_store_registry: Arc::new(stores), ..runtime.as_ref().clone() };
        let state = SessionStateBuilder::new_from_existing(state)
            .with_runtime_env(Arc::new(runtime))
            .build();
        let physical = with_csv_text(state.create_physical_plan(plan).await?)?;
        let schema = physical.schema();
        let task = state.task_ctx();
        let rows = async move {
            let rows = match collect(physical, task).await {
                Ok(rows) => rows,
                Err(error) => {
                    staged.abort().await;
                    return Err(error);
                }
            };
            staged.commit().await?;
            Ok(rows)
        };
        let batches = |rows: Vec<RecordBatch>| stream::iter(rows.into_iter().map(Ok));
        let rows = stream::once(rows).map_ok(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
