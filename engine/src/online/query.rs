//! The query over an unbounded table: which table it reads, how its rows are numbered, and how far
//! back its windows reach.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, Result, plan_err};
use datafusion::datasource::stream::StreamTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{
    Expr, FetchType, Filter, LogicalPlan, LogicalPlanBuilder, Projection, SkipType, SubqueryAlias,
    Window, WindowFrameBound, WindowFrameUnits,
};

use crate::event::{Event, EventSink};
use crate::operators::{SelectColumns, input_of, with_input};
use crate::source::{Cursor, Ledger, ROW_COLUMN, SourceTable, source_tables};

/// A query over one unbounded table.
#[derive(Clone, Debug)]
pub struct StreamQuery {
    plan: LogicalPlan,
    table: SourceTable,
    /// LIMIT: rows of the query after which the training ends.
    pub limit: Option<u64>,
    /// How many rows back its windows may look; None if that is not known, so that a restart is not
    /// exact.
    pub reach: Option<u64>,
}

/// Whether a query reads an unbounded table.
///
/// # Errors
/// Never in practice.
pub fn is_unbounded(plan: &LogicalPlan) -> Result<bool> {
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(TreeNodeRecursion::Continue) };
        let is_unbounded = source_as_provider(&scan.source).is_ok_and(|provider| {
            let provider = provider.as_ref() as &dyn Any;
            provider.is::<SourceTable>() || provider.is::<StreamTable>()
        });
        Ok(match is_unbounded {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })
    .map(|recursion| recursion == TreeNodeRecursion::Stop)
}

/// The unbounded table that a query reads, if any.
///
/// # Errors
/// When it reads several.
pub fn unbounded_table(plan: &LogicalPlan) -> Result<Option<SourceTable>> {
    let mut found = source_tables(plan)?;
    if found.len() > 1 {
        return plan_err!(
            "the query reads {} unbounded tables; TRAIN and COPY take rows from one",
            found.len()
        );
    }
    Ok(found.pop())
}

impl StreamQuery {
    /// The query of a statement that consumes rows, or None where it reads no unbounded table.
    ///
    /// # Errors
    /// When it has joins, groups or sorts, whose rows a checkpoint cannot hold.
    pub fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        let Some(table) = unbounded_table(plan)? else { return Ok(None) };
        let (plan, limit) = without_limit(plan.clone())?;
        let mut reach = Some(0u64);
        check(&plan, &mut reach, false)?;
        Ok(Some(Self { plan, table, limit, reach }))
    }

    /// The table that it reads.
    pub fn table(&self) -> &SourceTable {
        &self.table
    }

    /// Warns of what a crash would lose; `since` names what survives it.
    pub fn warn_of_losses(&self, since: &str, events: &EventSink) {
        let source = self.table.source();
        if !source.is_replayable() {
            events(Event::Warning(format!(
                "{} cannot be read again: a crash loses the rows since {since}",
                source.location()
            )));
        }
        if self.reach.is_none() {
            events(Event::Warning(
                "how far the windows of the query look back is not known, so a restart is not \
                 exact: they begin anew"
                    .to_owned(),
            ));
        }
    }

    /// The query with one more column, the ordinal of the source's row. Its rows begin at `from`.
    ///
    /// # Errors
    /// As planning.
    pub fn numbered(&self, ledger: &Arc<Ledger>, from: Option<Vec<Cursor>>) -> Result<LogicalPlan> {
        number(self.plan.clone(), &self.table.numbered(Arc::clone(ledger), from))
    }
}

/// Removes a LIMIT that is below projections only; returns the plan and the number of rows.
fn without_limit(plan: LogicalPlan) -> Result<(LogicalPlan, Option<u64>)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let (input, limit) = without_limit(projection.input.as_ref().clone())?;
            let plan = Projection::try_new(projection.expr, Arc::new(input))?;
            Ok((LogicalPlan::Projection(plan), limit))
        }
        LogicalPlan::Extension(ref own) if let Some(input) = input_of(own.node.as_ref()) => {
            let (input, limit) = without_limit(input.clone())?;
            Ok((with_input(own.node.as_ref(), input)?, limit))
        }
        LogicalPlan::Limit(limit) => match (limit.get_skip_type()?, limit.get_fetch_type()?) {
            (SkipType::Literal(0), FetchType::Literal(fetch)) => {
                Ok((limit.input.as_ref().clone(), fetch.map(|n| n as u64)))
            }
            _ => plan_err!("TRAIN and COPY on an unbounded table take LIMIT, but no OFFSET"),
        },
        plan => Ok((plan, None)),
    }
}

/// Refuses what holds rows back, and sums the reach of nested windows.
fn check(plan: &LogicalPlan, reach: &mut Option<u64>, is_below_window: bool) -> Result<()> {
    let mut is_window = is_below_window;
    match plan {
        LogicalPlan::TableScan(_) => return Ok(()),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {}
        LogicalPlan::Extension(own) if input_of(own.node.as_ref()).is_some() => {}
        // A filter below a window drops an unknown number of rows, which count for the reach.
        LogicalPlan::Filter(_) => {
            if is_below_window {
                *reach = None;
            }
        }
        LogicalPlan::Window(window) => {
            let mut own = window.window_expr.iter().map(reach_of);
            let own = own.try_fold(0, |most: u64, own| own.map(|own| most.max(own)));
            // A window over the rows of another looks back from where that one does.
            *reach = reach.zip(own).map(|(above, own)| above + own);
            is_window = true;
        }
        other => {
            let name = other.display().to_string();
            let name = match other {
                LogicalPlan::Join(_) => "a join",
                LogicalPlan::Aggregate(_) => "GROUP BY or an aggregate",
                LogicalPlan::Distinct(_) => "DISTINCT",
                LogicalPlan::Sort(_) => "ORDER BY",
                LogicalPlan::Union(_) => "UNION",
                _ => name.split([':', ' ']).next().unwrap_or_default(),
            };
            return plan_err!(
                "the query over an unbounded table has {name}, whose rows a checkpoint does not \
                 hold; TRAIN and COPY take SELECT, WHERE, LIMIT and windows such as LAG or ROWS n \
                 PRECEDING"
            );
        }
    }
    plan.inputs().into_iter().try_for_each(|input| check(input, reach, is_window))
}

/// How many rows back a window function looks.
fn reach_of(expr: &Expr) -> Option<u64> {
    let window = match expr {
        Expr::WindowFunction(window) => window,
        Expr::Alias(alias) => return reach_of(&alias.expr),
        _ => return None,
    };
    if !window.params.partition_by.is_empty() {
        return None;
    }
    let name = window.fun.name().to_lowercase();
    if name == "lag" {
        return match window.params.args.get(1) {
            None => Some(1),
            Some(Expr::Literal(value, _)) => match value.cast_to(&int64()) {
                Ok(ScalarValue::Int64(Some(n))) => u64::try_from(n).ok(),
                _ => None,
            },
            Some(_) => None,
        };
    }
    let frame = &window.params.window_frame;
    match (&frame.units, &frame.start_bound) {
        (WindowFrameUnits::Rows, WindowFrameBound::Preceding(value)) => {
            match value.cast_to(&int64()) {
                Ok(ScalarValue::Int64(Some(n))) => u64::try_from(n).ok(),
                _ => None,
            }
        }
        (WindowFrameUnits::Rows, WindowFrameBound::CurrentRow) => Some(0),
        _ => None,
    }
}

fn int64() -> datafusion::arrow::datatypes::DataType {
    datafusion::arrow::datatypes::DataType::Int64
}

/// The plan over a numbered table, with the row number projected up to the top.
fn number(
    plan: LogicalPlan,
    table: &Arc<dyn datafusion::catalog::TableProvider>,
) -> Result<LogicalPlan> {
    let input = |plan: &Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
        Ok(Arc::new(number(plan.as_ref().clone(), table)?))
    };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let last = table.schema().fields().len() - 1;
            let projection = scan.projection.map(|columns| [columns, vec![last]].concat());
            let source = provider_as_source(Arc::clone(table));
            LogicalPlanBuilder::scan_with_filters(
                scan.table_name,
                source,
                projection,
                scan.filters,
            )?
            .build()
        }
        LogicalPlan::Projection(projection) => {
            let input = input(&projection.input)?;
            let mut exprs = projection.expr;
            // `SELECT *` was expanded before the column of numbers was added, so it is added here.
            let place = row_column(input.schema())?;
            exprs.push(Expr::Column(Column::from(input.schema().qualified_field(place))));
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
        }
        LogicalPlan::Filter(filter) => {
            let input = input(&filter.input)?;
            Ok(LogicalPlan::Filter(Filter::try_new(filter.predicate, input)?))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = input(&alias.input)?;
            Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias)?))
        }
        LogicalPlan::Window(window) => {
            let input = input(&window.input)?;
            Ok(LogicalPlan::Window(Window::try_new(window.window_expr, input)?))
        }
        LogicalPlan::Extension(ref own) if let Some(input) = input_of(own.node.as_ref()) => {
            let input = number(input.clone(), table)?;
            match own.node.as_any().downcast_ref::<SelectColumns>() {
                Some(select) => {
                    let place = row_column(input.schema())?;
                    select.with_one_more(input, place)
                }
                None => with_input(own.node.as_ref(), input),
            }
        }
        other => plan_err!("{} cannot be numbered", other.display()),
    }
}

/// The index of the row number column.
fn row_column(schema: &DFSchema) -> Result<usize> {
    match schema.fields().iter().rposition(|field| field.name() == ROW_COLUMN) {
        Some(place) => Ok(place),
        None => plan_err!("the numbers of rows are lost in the query"),
    }
}
