//! Our own operators in DataFusion plans.
//!
//! Most of DataFusion's rules look up every column of an expression by a search through all
//! columns, so that a projection of 10,000 columns costs hundreds of millions of comparisons. These
//! operators refer to columns by index, and show no expressions to the rules.

mod pick;
mod planner;
mod predict;
mod predict_exec;
mod select;
mod unused;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::{Extension, LogicalPlan, UserDefinedLogicalNode};

pub(crate) use self::pick::{Computed, Pick};
pub(crate) use self::planner::Planner;
pub(crate) use self::predict::Predict;
pub use self::predict::Predictor;
pub(crate) use self::select::SelectColumns;
pub(crate) use self::unused::DropUnusedPredictions;

/// The input of one of our operators; all of them return one row for each input row.
pub(crate) fn input_of(node: &dyn UserDefinedLogicalNode) -> Option<&LogicalPlan> {
    let any = node.as_any();
    let select = any.downcast_ref::<SelectColumns>().map(SelectColumns::input);
    select.or_else(|| any.downcast_ref::<Predict>().map(Predict::input))
}

/// The operator over another input, which has the columns that it takes.
///
/// # Errors
/// When it lacks one.
pub(crate) fn with_input(
    node: &dyn UserDefinedLogicalNode,
    input: LogicalPlan,
) -> Result<LogicalPlan> {
    let node = node.with_exprs_and_inputs(vec![], vec![input])?;
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// The plan without projections on top that change nothing, as `SELECT *` is one.
pub(crate) fn without_idle_projections(mut plan: LogicalPlan) -> LogicalPlan {
    while let LogicalPlan::Projection(projection) = &plan {
        let given = projection.input.schema();
        let is_idle = projection.expr.len() == given.fields().len()
            && projection.schema.iter().eq(given.iter())
            && projection.expr.iter().zip(given.iter()).all(|(expr, (relation, field))| {
                expr.try_as_col()
                    .is_some_and(|c| c.name == *field.name() && c.relation.as_ref() == relation)
            });
        if !is_idle {
            break;
        }
        plan = Arc::unwrap_or_clone(Arc::clone(&projection.input));
    }
    plan
}

#[cfg(test)]
mod tests {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    use gradlake_udfs::Algorithm;

    use super::*;
    use crate::event::EventSink;
    use crate::options::TrainOptions;
    use crate::prediction::PredictOptions;
    use crate::request::TrainRequest;
    use crate::session::{Engine, EngineOptions};
    use crate::training::TrainingColumns;

    /// The most expressions that an operator of the optimized plan shows to DataFusion's rules,
    /// which look each of their columns up among all.
    fn most_expressions(engine: &Engine, plan: &LogicalPlan) -> usize {
        let plan = engine.training_state().optimize(plan).unwrap();
        let mut most = 0;
        plan.apply(|node| {
            most = most.max(node.expressions().len());
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        most
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn expressions_of_a_plan_do_not_grow_with_its_columns() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(EngineOptions {
            warehouse: Some(folder.path().join("warehouse").display().to_string()),
            threads: Some(2),
            ..EngineOptions::default()
        });
        let engine = Arc::new(engine.unwrap());
        let columns: Vec<String> = (0..50).map(|i| format!("value * {i} AS c{i}")).collect();
        let make = format!(
            "CREATE TABLE t AS SELECT {}, value AS y FROM generate_series(1, 9)",
            columns.join(", ")
        );
        engine.context().sql(&make).await.unwrap().collect().await.unwrap();
        let query = engine.context().sql("SELECT * FROM t").await.unwrap().into_unoptimized_plan();
        let algorithm = Algorithm::LINEAR_REGRESSION;
        let request = TrainRequest {
            name: "m".to_owned(),
            or_replace: false,
            if_not_exists: false,
            algorithm,
            transform: vec![],
            targets: vec!["y".to_owned()],
            features: None,
            weight: None,
            partition_by: vec![],
            continue_from: None,
            layers: vec![],
            options: TrainOptions::check(algorithm, &[]).unwrap(),
            query: query.clone(),
            statement: "TRAIN MODEL m".to_owned(),
        };
        let columns = TrainingColumns::resolve(&engine.training_state(), &request, None).unwrap();
        assert_eq!(columns.plan.schema().fields().len(), 51);
        assert_eq!(most_expressions(&engine, &columns.plan), 0);
        let events: EventSink = Arc::new(|_| {});
        engine.train(&request, &events).await.unwrap();
        let scorer = engine.scorer("m", None).await.unwrap();
        let options = PredictOptions::check(&[]).unwrap();
        let plan = engine.predict(&scorer, false, options, query.clone(), &events).unwrap();
        assert_eq!(plan.schema().fields().len(), 52);
        assert_eq!(most_expressions(&engine, &plan), 0);
        // Six metrics and four counts.
        let plan = engine.evaluate(&scorer, options, query).unwrap();
        assert_eq!(most_expressions(&engine, &plan), 10);
    }
}
