//! An operator that passes its input's rows on and returns to the runtime every few milliseconds.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    RecordBatchStream, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};

use super::{STOPPED, Stop};

/// A task that has computed for this long returns to the runtime.
const PAUSE_AFTER: Duration = Duration::from_millis(10);
/// The operator above should take no longer than this for a piece. If it takes less than a quarter
/// of this, pieces become larger, since a piece must be worth its overhead.
const PIECE: Duration = Duration::from_millis(20);

/// Passes on the rows of its input.
#[derive(Clone, Debug)]
pub struct PausingExec {
    input: Arc<dyn ExecutionPlan>,
    in_pieces: bool,
    /// Whether the query is stopped when the rows are dropped before their end.
    is_root: bool,
    stop: Stop,
    properties: Arc<PlanProperties>,
}

impl PausingExec {
    /// Passes on batches as they are, until the query is stopped.
    pub fn new(input: Arc<dyn ExecutionPlan>, stop: &Stop) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, in_pieces: false, is_root: false, stop: Arc::clone(stop), properties }
    }

    /// Passes on batches in pieces, so that the operator above, which does not pause while it
    /// processes a piece, soon polls for the next one.
    pub fn in_pieces(self) -> Self {
        Self { in_pieces: true, ..self }
    }

    /// Stops a query whose rows are dropped before their end.
    pub fn into_root(self) -> Self {
        Self { is_root: true, ..self }
    }
}

impl DisplayAs for PausingExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for PausingExec {
    fn name(&self) -> &str {
        "PausingExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("{} has one input", self.name());
        };
        let properties = Arc::clone(input.properties());
        Ok(Arc::new(Self { input, properties, ..Self::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mode = ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(mode))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Pausing {
            schema: input.schema(),
            input: Some(input),
            paused: Instant::now(),
            pieces: self.in_pieces.then(Pieces::default),
            is_root: self.is_root,
            stop: Arc::clone(&self.stop),
        }))
    }
}

struct Pausing {
    schema: SchemaRef,
    /// None after its end.
    input: Option<SendableRecordBatchStream>,
    /// When the task last returned to the runtime, as far as is known here.
    paused: Instant,
    pieces: Option<Pieces>,
    is_root: bool,
    stop: Stop,
}

impl Stream for Pausing {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pieces) = &mut self.pieces {
            pieces.returned();
        }
        if self.stop.load(Ordering::Relaxed) {
            self.input = None;
            return Poll::Ready(Some(exec_err!("{STOPPED}")));
        }
        if self.paused.elapsed() > PAUSE_AFTER {
            self.paused = Instant::now();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = self.pieces.as_mut().and_then(Pieces::next) {
            return Poll::Ready(Some(Ok(piece)));
        }
        let Some(input) = &mut self.input else { return Poll::Ready(None) };
        match input.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(batch))) => {
                let Some(pieces) = &mut self.pieces else { return Poll::Ready(Some(Ok(batch))) };
                pieces.rest = Some(batch);
                Poll::Ready(pieces.next().map(Ok))
            }
            Poll::Ready(None) => {
                self.input = None;
                Poll::Ready(None)
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                self.paused = Instant::now();
                Poll::Pending
            }
        }
    }
}

impl RecordBatchStream for Pausing {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Pausing {
    fn drop(&mut self) {
        if self.is_root && self.input.is_some() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Batches in pieces, whose size follows the time that the operator above takes for one.
struct Pieces {
    /// The rest of a batch.
    rest: Option<RecordBatch>,
    /// Rows of a piece.
    rows: usize,
    /// When the last one was passed on, and its rows.
    handed: Option<(Instant, usize)>,
}

impl Default for Pieces {
    fn default() -> Self {
        // One row may be joined with millions.
        Self { rest: None, rows: 1, handed: None }
    }
}

impl Pieces {
    /// The operator above polls for the next piece: adjusts the size of pieces.
    fn returned(&mut self) {
        let Some((handed, rows)) = self.handed.take() else { return };
        let took = handed.elapsed();
        if took > PIECE {
            let share = PIECE.as_secs_f64() / took.as_secs_f64();
            self.rows = ((rows as f64 * share) as usize).max(1);
        } else if took < PIECE / 4 && rows == self.rows {
            self.rows *= 2;
        }
    }

    fn next(&mut self) -> Option<RecordBatch> {
        let batch = self.rest.take()?;
        let rows = batch.num_rows().min(self.rows);
        if rows < batch.num_rows() {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        self.handed = Some((Instant::now(), rows));
        Some(batch.slice(0, rows))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::session::{Engine, EngineOptions};

    #[test]
    fn pieces_are_the_rows_in_their_order_and_as_small_as_it_takes() {
        let mut pieces = Pieces::default();
        let (mut found, mut sizes) = (vec![], vec![]);
        for batch in 0..20i64 {
            let values = Int64Array::from_iter_values(batch * 1000..(batch + 1) * 1000);
            pieces.rest = Some(RecordBatch::try_from_iter([("x", Arc::new(values) as _)]).unwrap());
            while let Some(piece) = pieces.next() {
                found.extend_from_slice(piece.column(0).as_primitive::<Int64Type>().values());
                sizes.push(piece.num_rows());
                // The operator above takes long for one of them.
                if sizes.len() == 15 {
                    let long_ago = Instant::now().checked_sub(100 * PIECE).unwrap();
                    pieces.handed = Some((long_ago, piece.num_rows()));
                }
                pieces.returned();
            }
        }
        assert!(found.into_iter().eq(0..20_000));
        assert_eq!(sizes[..4], [1, 2, 4, 8], "{sizes:?}");
        assert!(sizes[15] <= sizes[14] / 50 + 1, "{sizes:?}");
        assert_eq!(sizes.last(), Some(&1000), "{sizes:?}");
    }

    fn engine(folder: &tempfile::TempDir) -> Engine {
        let warehouse = Some(folder.path().display().to_string());
        let options = EngineOptions { warehouse, threads: Some(2), ..EngineOptions::default() };
        Engine::open(options).unwrap()
    }

    const SERIES: &str = "(SELECT value AS v, value % 7 AS k FROM generate_series(1, 20000))";

    fn joins() -> Vec<String> {
        let mut joins = vec![];
        for (kind, condition) in [
            ("JOIN", "a.k = b.v"),
            ("LEFT JOIN", "a.v = b.v + 19990 AND a.k < b.k"),
            ("LEFT JOIN", "a.v < b.v - 19997"),
            ("LEFT SEMI JOIN", "a.k = b.k"),
            ("LEFT ANTI JOIN", "a.v = b.k"),
            ("LEFT SEMI JOIN", "a.v + 19990 < b.v"),
        ] {
            joins.push(format!("SELECT a.* FROM {SERIES} a {kind} {SERIES} b ON {condition}"));
        }
        joins.push(format!("SELECT * FROM {SERIES} WHERE v NOT IN (SELECT k FROM {SERIES} b)"));
        joins
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn joins_give_what_they_give_without_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(&folder);
        let plain = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        for sql in joins() {
            let sorted =
                format!("SELECT v, k, count(*) AS n FROM ({sql}) GROUP BY v, k ORDER BY v");
            let rows = engine.context().sql(&sorted).await.unwrap().collect().await.unwrap();
            let expected = plain.sql(&sorted).await.unwrap().collect().await.unwrap();
            assert_eq!(rows, expected, "{sql}");
        }
    }

    /// A stopped query fails soon, and the query after it does not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_query_is_stopped_and_the_next_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Arc::new(engine(&folder));
        let long = "SELECT count(*) FROM generate_series(1, 100000000) a(x) \
                    JOIN generate_series(1, 1000000) b(y) ON a.x + b.y < 0";
        let own = Arc::clone(&engine);
        let run = async move { own.context().sql(long).await.unwrap().collect().await };
        let task = tokio::spawn(run);
        tokio::time::sleep(Duration::from_millis(500)).await;
        engine.stop_queries();
        let error = tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
        let error = error.unwrap_err().to_string();
        assert!(error.contains(STOPPED), "{error}");
        let short = "SELECT count(*) FROM generate_series(1, 10) a(x) \
                     JOIN generate_series(1, 10) b(y) ON a.x + b.y < 3";
        let rows = engine.context().sql(short).await.unwrap().collect().await.unwrap();
        assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 1);
    }

    #[tokio::test]
    async fn only_what_computes_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(&folder);
        let plan = async |sql: &str| {
            let plan =
                engine.context().sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            displayable(plan.as_ref()).indent(false).to_string()
        };
        let text = plan("SELECT value + 1 FROM generate_series(1, 9) WHERE value > 3").await;
        assert!(!text.contains("PausingExec"), "{text}");
        let text = plan("SELECT value FROM generate_series(1, 9) ORDER BY value % 3").await;
        assert_eq!(text.matches("PausingExec").count(), 1, "{text}");
    }
}
