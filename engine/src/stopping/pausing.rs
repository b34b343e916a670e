//! An operator that hands on its input's rows and returns to the runtime every few milliseconds.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    RecordBatchStream, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};

use super::Stop;

/// A task that has computed for so long returns to the runtime.
const PAUSE_AFTER: Duration = Duration::from_millis(10);
/// What the operator above makes of a piece should take no longer than this, and is worth its while beyond
/// a quarter of it.
const PIECE: Duration = Duration::from_millis(20);

/// Hands on the rows of its input.
#[derive(Clone, Debug)]
pub struct PausingExec {
    input: Arc<dyn ExecutionPlan>,
    in_pieces: bool,
    /// Set when the rows are dropped before their end.
    stop: Option<Stop>,
    properties: Arc<PlanProperties>,
}

impl PausingExec {
    /// Hands on batches as they are.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, in_pieces: false, stop: None, properties }
    }

    /// Hands on batches in pieces, so that the operator above, which makes nothing of a piece that would
    /// let it pause, soon asks for the next.
    pub fn in_pieces(self) -> Self {
        Self { in_pieces: true, ..self }
    }

    /// Stops a query whose rows are dropped before their end.
    pub fn with_stop(self, stop: Stop) -> Self {
        Self { stop: Some(stop), ..self }
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
            stop: self.stop.clone(),
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
    stop: Option<Stop>,
}

impl Stream for Pausing {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pieces) = &mut self.pieces {
            pieces.returned();
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
        if let (Some(stop), Some(_)) = (&self.stop, &self.input) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Batches in pieces, whose size follows the time that the operator above takes for one.
struct Pieces {
    /// What is left of a batch.
    rest: Option<RecordBatch>,
    /// Rows of a piece.
    rows: usize,
    /// When the last one was handed on, and its rows.
    handed: Option<(Instant, usize)>,
}

impl Default for Pieces {
    fn default() -> Self {
        // A row may meet millions.
        Self { rest: None, rows: 1, handed: None }
    }
}

impl Pieces {
    /// The operator above is back for more.
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
