//! The evaluation of a model without a target: its rows are compared with the model itself.

use std::sync::Arc;

use datafusion::common::{Column, Result};
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use gradlake_udfs::{Scorer, measure_udaf};

use super::{COUNTS, Columns, WEIGHT, counts_without_classes};
use crate::operators::SelectColumns;

/// The metrics as one struct.
const METRICS: &str = "__gradlake_metrics";

/// The plan of the evaluation: one row of metrics, followed by the counts.
pub(super) fn plan(
    state: &SessionState,
    input: LogicalPlan,
    scorer: &Arc<Scorer>,
) -> Result<LogicalPlan> {
    let Columns { arguments, weight, .. } = Columns::find(state, &input, scorer)?;
    let types: Vec<_> =
        arguments.iter().map(|pick| pick.field(input.schema()).data_type().clone()).collect();
    scorer.check(&types)?;
    let names: Vec<String> = (0..arguments.len()).map(|i| format!("__argument_{i}")).collect();
    let weighted = weight.is_some();
    let columns = names.iter().map(String::as_str).zip(arguments);
    let rows = SelectColumns::plan(input, columns.chain(weight.map(|weight| (WEIGHT, weight))))?;
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let mut arguments: Vec<Expr> = names.iter().map(|name| column(name)).collect();
    arguments.extend(weighted.then(|| column(WEIGHT)));
    let measure = measure_udaf(Arc::clone(scorer), weighted);
    let aggregates = vec![measure.call(arguments).alias(METRICS), count(lit(1)).alias(COUNTS[0])];
    let metrics = scorer.model().algorithm.spec().metrics.iter();
    let mut all: Vec<Expr> =
        metrics.map(|name| get_field(column(METRICS), *name).alias(*name)).collect();
    all.extend(counts_without_classes(COUNTS[0], COUNTS[0]));
    LogicalPlanBuilder::from(rows).aggregate(Vec::<Expr>::new(), aggregates)?.project(all)?.build()
}
