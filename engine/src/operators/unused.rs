//! Removes predictions that are not used.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::Predict;

/// Takes PREDICT out where a projection or an aggregate above uses none of its columns, as
/// `SELECT count(*) FROM (PREDICT ...)`.
#[derive(Debug)]
pub(crate) struct DropUnusedPredictions;

impl OptimizerRule for DropUnusedPredictions {
    fn name(&self) -> &str {
        "drop_unused_predictions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let input = match &plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::Aggregate(aggregate) => &aggregate.input,
            _ => return Ok(Transformed::no(plan)),
        };
        // (Most plans predict nothing, and have no names to be gathered.)
        if !predicts(input) {
            return Ok(Transformed::no(plan));
        }
        let input = Arc::clone(input);
        let expressions = plan.expressions();
        match without(&input, names(&expressions))? {
            Some(input) => {
                let plan = plan.with_new_exprs(expressions, vec![input])?;
                Ok(Transformed::yes(plan))
            }
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The names of all columns of some expressions.
fn names(expressions: &[Expr]) -> HashSet<String> {
    let columns = expressions.iter().flat_map(Expr::column_refs);
    columns.map(|Column { name, .. }| name.clone()).collect()
}

/// The input of an operator that passes the columns of its input on.
fn below(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => Some(&alias.input),
        LogicalPlan::Filter(filter) => Some(&filter.input),
        LogicalPlan::Sort(sort) => Some(&sort.input),
        LogicalPlan::Limit(limit) => Some(&limit.input),
        _ => None,
    }
}

fn predict(plan: &LogicalPlan) -> Option<&Predict> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

fn predicts(plan: &LogicalPlan) -> bool {
    predict(plan).is_some() || below(plan).is_some_and(predicts)
}

/// The plan without the prediction that it ends with, if none of its columns is among the names
/// that are used above, or in operators between.
fn without(plan: &LogicalPlan, mut used: HashSet<String>) -> Result<Option<LogicalPlan>> {
    if let Some(predict) = predict(plan) {
        let is_used = predict.columns().any(|column| used.contains(column));
        return Ok((!is_used).then(|| predict.input().clone()));
    }
    let Some(input) = below(plan) else { return Ok(None) };
    let expressions = plan.expressions();
    used.extend(names(&expressions));
    match without(input, used)? {
        Some(input) => Ok(Some(plan.with_new_exprs(expressions, vec![input])?)),
        None => Ok(None),
    }
}
