//! Runs a round: the training aggregate over a table of encoded rows, as a DataFusion plan.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::catalog::TableProvider;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::physical_plan::{ExecutionPlan, collect};
use gradlake_udfs::functions::train::train_udaf;
use gradlake_udfs::resolver::StateResolver;
use gradlake_udfs::round::Round;

use crate::registry::Registry;
use crate::table::Slice;

/// Plans and runs rounds of one session.
#[derive(Clone, Debug)]
pub struct RoundRunner {
    state: SessionState,
    registry: Arc<Registry>,
    train: Arc<AggregateUDF>,
}

impl RoundRunner {
    /// A runner whose plans `state` makes and whose rounds `registry` knows by reference.
    pub fn new(state: SessionState, registry: Arc<Registry>) -> Self {
        let resolver: Arc<dyn StateResolver> = Arc::<Registry>::clone(&registry);
        Self { state, registry, train: Arc::new(train_udaf(resolver)) }
    }

    /// The logical plan of a round: `SELECT train('reference', ...) FROM table`.
    pub fn plan(&self, reference: &str, table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
        let columns = table.schema();
        let arguments =
            [lit(reference)].into_iter().chain(columns.fields().iter().map(|f| col(f.name())));
        LogicalPlanBuilder::scan("encoded", provider_as_source(table), None)?
            .aggregate(
                Vec::<datafusion::logical_expr::Expr>::new(),
                vec![self.train.call(arguments.collect())],
            )?
            .build()
    }

    /// The physical plan of a round that is registered.
    pub async fn physical_plan(
        &self,
        reference: &str,
        table: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.state.create_physical_plan(&self.plan(reference, table)?).await
    }

    /// Runs `round` over a slice of a table and returns its result.
    pub async fn run(
        &self,
        reference: &str,
        round: Arc<dyn Round>,
        slice: &Slice,
    ) -> Result<Vec<u8>> {
        if slice.is_direct() {
            // Whoever shares the task, and may ask for the end, must have its turn.
            tokio::task::yield_now().await;
            return slice.run(round.as_ref());
        }
        let _known = self.registry.register_round(reference, round);
        let plan = self.physical_plan(reference, slice.provider()?).await?;
        let context: Arc<TaskContext> = self.state.task_ctx();
        let batches = collect(plan, context).await?;
        let Some(batch) = batches.iter().find(|b| b.num_rows() == 1) else {
            return internal_err!("round {reference} gave no row");
        };
        Ok(batch.column(0).as_binary::<i64>().value(0).to_vec())
    }
}
