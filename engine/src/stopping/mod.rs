//! Stops queries soon when their rows are no longer needed.
//!
//! A Tokio task can be stopped only between two polls. Some of DataFusion's operators do not return
//! from a poll as long as there is something to compute: joins produce batches from the rows that
//! they hold without polling an input, and joins whose filter keeps nothing produce no batch. So an
//! optimizer rule inserts
//!
//! - a [`PausingExec`] on operators that may compute for long: it returns to the runtime every few
//!   milliseconds, and fails when the query has been stopped;
//! - one that passes on small pieces below a hash join that returns no rows while it compares (semi
//!   and anti joins): pieces are small enough that the join soon polls for the next one;
//! - a `StoppableFilter` around the filters of joins: it fails when the query has been stopped.

mod filter;
mod pausing;

pub use self::filter::STOPPED;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
    PiecewiseMergeJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use self::filter::{no_filter, stoppable};
use self::pausing::PausingExec;

/// Whether a query has been stopped.
type Stop = Arc<AtomicBool>;

/// The queries of an engine that are planned or run.
#[derive(Debug, Default)]
pub struct Queries(Mutex<Vec<Weak<AtomicBool>>>);

impl Queries {
    fn stops(&self) -> MutexGuard<'_, Vec<Weak<AtomicBool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Stop {
        let stop = Stop::default();
        let mut stops = self.stops();
        stops.retain(|stop| stop.strong_count() > 0);
        stops.push(Arc::downgrade(&stop));
        stop
    }

    /// Stops all of them, even where they compute without returning to the runtime.
    pub fn stop(&self) {
        for stop in self.stops().drain(..).filter_map(|stop| stop.upgrade()) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// The optimizer rule. It is the last rule, because other rules look for the operators that it
/// wraps.
#[derive(Debug)]
pub struct StopSoon {
    queries: Arc<Queries>,
}

impl StopSoon {
    /// A rule whose plans [`Queries::stop`] stops.
    pub fn new(queries: Arc<Queries>) -> Self {
        Self { queries }
    }
}

impl PhysicalOptimizerRule for StopSoon {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stop = self.queries.begin();
        let mut has_filter = false;
        let plan = plan
            .transform_up(|node| {
                if !computes(&node) {
                    return Ok(Transformed::no(node));
                }
                let (node, own) = with_stoppable_filter(node, &stop)?;
                has_filter |= own;
                let node = with_pieces(node, &stop)?;
                Ok(Transformed::yes(Arc::new(PausingExec::new(node, &stop)) as _))
            })
            .data()?;
        // When the rows are dropped, the filters stop.
        Ok(match has_filter {
            true => Arc::new(PausingExec::new(plan, &stop).into_root()),
            false => plan,
        })
    }

    fn name(&self) -> &str {
        "stop_soon"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether an operator may compute for long between two batches of its input.
fn computes(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<CrossJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<HashJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<PiecewiseMergeJoinExec>()
        || node.is::<UnnestExec>()
        || node.is::<SortExec>()
        // (Without groups it makes one row.)
        || node.downcast_ref::<AggregateExec>().is_some_and(|own| !own.group_expr().is_empty())
        || node.is::<WindowAggExec>()
        || node.is::<BoundedWindowAggExec>()
        || node.is::<RecursiveQueryExec>()
}

/// A join whose filter fails when the query has been stopped, and whether there is one; other nodes
/// as they are.
fn with_stoppable_filter(
    node: Arc<dyn ExecutionPlan>,
    stop: &Stop,
) -> Result<(Arc<dyn ExecutionPlan>, bool)> {
    let own = |filter: &JoinFilter| Some(stoppable(filter, Arc::clone(stop)));
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let filter = match join.filter() {
            Some(filter) => own(filter),
            // A join that returns rows of one side alone returns them after all pairs are compared.
            None if gives_one_side(join.join_type()) => own(&no_filter()),
            None => return Ok((node, false)),
        };
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?;
        return Ok((Arc::new(join), true));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok((join.builder().with_filter(own(filter)).build_exec()?, true));
    }
    if let Some(join) = node.downcast_ref::<SortMergeJoinExec>()
        && let Some(filter) = join.filter()
    {
        let join = SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            join.on().to_vec(),
            own(filter),
            join.join_type(),
            join.sort_options().to_vec(),
            join.null_equality(),
        )?;
        return Ok((Arc::new(join), true));
    }
    Ok((node, false))
}

/// Puts the input of a hash join into pieces if the join has no filter and returns rows of one side
/// alone, and so no row for each pair; other nodes stay as they are.
fn with_pieces(node: Arc<dyn ExecutionPlan>, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
    match node.downcast_ref::<HashJoinExec>() {
        Some(join) if join.filter().is_none() && gives_one_side(join.join_type()) => {
            let pieces = PausingExec::new(Arc::clone(join.right()), stop).in_pieces();
            let children = vec![Arc::clone(join.left()), Arc::new(pieces) as _];
            join.builder().with_new_children(children)?.build_exec()
        }
        _ => Ok(node),
    }
}

/// Whether a join returns rows of one of its inputs alone.
fn gives_one_side(join_type: &JoinType) -> bool {
    !matches!(join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
}
