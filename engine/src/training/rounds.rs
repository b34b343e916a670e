//! Runs a round: the training aggregate over a table of encoded rows, as a DataFusion plan.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::common::collect;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use gradlake_udfs::{Round, StateResolver, TRAIN, train_udaf};

use crate::registry::Registry;
use crate::table::Slice;

/// A text as a run-end encoded scalar. A literal becomes an array with a value for each row of a
/// batch; as plain text, each value would be a copy, which took a tenth of an epoch.
fn one_run(text: &str) -> ScalarValue {
    let ends = Field::new("run_ends", DataType::Int32, false);
    let values = Field::new("values", DataType::Utf8, true);
    ScalarValue::RunEndEncoded(Arc::new(ends), Arc::new(values), Box::new(text.into()))
}

/// Makes the plans of rounds and runs them.
#[derive(Clone, Debug)]
pub struct RoundRunner {
    context: Arc<TaskContext>,
    registry: Arc<Registry>,
    train: Arc<AggregateUDF>,
}

impl RoundRunner {
    /// A runner for the session of `state`; `registry` finds its rounds by reference.
    pub fn new(state: &SessionState, registry: Arc<Registry>) -> Self {
        let resolver: Arc<dyn StateResolver> = Arc::<Registry>::clone(&registry);
        Self { context: state.task_ctx(), registry, train: Arc::new(train_udaf(resolver)) }
    }

    /// The plan of a round.
    ///
    /// It is the plan that DataFusion makes of `SELECT train('reference', ...) FROM encoded`, but
    /// it is built here, because the planner and the optimizers of DataFusion take 0.35 ms, as long
    /// as two replicas take for 20,000 rows of 28 numbers.
    ///
    /// # Errors
    /// Never in practice: the columns are those that the aggregate expects.
    pub fn plan(&self, reference: &str, slice: &Slice) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = slice.scan()?;
        let schema = rows.schema();
        let columns = schema.fields().iter().enumerate();
        let mut arguments: Vec<Arc<dyn PhysicalExpr>> = vec![lit(one_run(reference))];
        arguments.extend(columns.map(|(i, f)| Arc::new(Column::new(f.name(), i)) as _));
        let name = format!("{TRAIN}({reference})");
        let train = AggregateExprBuilder::new(Arc::clone(&self.train), arguments)
            .schema(Arc::clone(&schema))
            .alias(&name)
            .human_display(name)
            .build()?;
        let step = |mode, input| {
            AggregateExec::try_new(
                mode,
                PhysicalGroupBy::default(),
                vec![Arc::new(train.clone())],
                vec![None],
                input,
                Arc::clone(&schema),
            )
        };
        if rows.properties().output_partitioning().partition_count() == 1 {
            return Ok(Arc::new(step(AggregateMode::Single, rows)?));
        }
        let partial = Arc::new(step(AggregateMode::Partial, rows)?);
        let together = Arc::new(CoalescePartitionsExec::new(partial));
        Ok(Arc::new(step(AggregateMode::Final, together)?))
    }

    /// Runs `round` over a slice of a table and returns its result.
    ///
    /// # Errors
    /// Those of the round.
    pub async fn run(
        &self,
        reference: &str,
        round: Arc<dyn Round>,
        slice: &Slice,
    ) -> Result<Vec<u8>> {
        if slice.is_direct() {
            // Other tasks of this worker, which may request an interrupt, must have their turn.
            tokio::task::yield_now().await;
            return slice.run(round.as_ref());
        }
        let _known = self.registry.register_round(reference, round);
        let plan = self.plan(reference, slice)?;
        let rows = execute_stream(plan, Arc::clone(&self.context))?;
        let batches = collect(rows).await?;
        let Some(batch) = batches.iter().find(|b| b.num_rows() == 1) else {
            return internal_err!("round {reference} gave no row");
        };
        Ok(batch.column(0).as_binary::<i64>().value(0).to_vec())
    }
}
