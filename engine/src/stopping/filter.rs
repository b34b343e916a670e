//! Filters of joins that fail when the query has been stopped.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::joins::utils::JoinFilter;

use super::Stop;

/// The error message of a statement that was stopped.
pub const STOPPED: &str = "interrupted";

/// The filter, which fails once `stop` is set.
pub fn stoppable(filter: &JoinFilter, stop: Stop) -> JoinFilter {
    let expression = StoppableFilter { filter: Arc::clone(filter.expression()), stop };
    JoinFilter::new(
        Arc::new(expression),
        filter.column_indices().to_vec(),
        Arc::clone(filter.schema()),
    )
}

/// A filter that lets every pair pass.
pub fn no_filter() -> JoinFilter {
    let all = Arc::new(Literal::new(ScalarValue::from(true)));
    JoinFilter::new(all, vec![], Arc::new(Schema::empty()))
}

/// A filter that fails when the query has been stopped.
#[derive(Debug)]
struct StoppableFilter {
    filter: Arc<dyn PhysicalExpr>,
    stop: Stop,
}

impl StoppableFilter {
    fn check(&self) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => exec_err!("{STOPPED}"),
            false => Ok(()),
        }
    }
}

impl fmt::Display for StoppableFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.fmt(f)
    }
}

impl PartialEq for StoppableFilter {
    fn eq(&self, other: &Self) -> bool {
        self.filter.eq(&other.filter) && Arc::ptr_eq(&self.stop, &other.stop)
    }
}

impl Eq for StoppableFilter {}

impl Hash for StoppableFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.filter.hash(state);
    }
}

impl PhysicalExpr for StoppableFilter {
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.filter.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.check()?;
        self.filter.evaluate(batch)
    }

    fn evaluate_selection(
        &self,
        batch: &RecordBatch,
        selection: &BooleanArray,
    ) -> Result<ColumnarValue> {
        self.check()?;
        self.filter.evaluate_selection(batch, selection)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.filter]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let filter = children.pop().unwrap_or_else(|| Arc::clone(&self.filter));
        Ok(Arc::new(Self { filter, stop: Arc::clone(&self.stop) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.fmt_sql(f)
    }
}
