//! The plan node that reads a source.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::display::{ProjectSchemaDisplay, display_orderings};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use futures::stream::try_unfold;

use super::{Cursor, Ledger, ROW_COLUMN, Reader, Rows, Source};

/// The ledger that numbers the rows of a scan, and the cursors at which the scan begins.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    pub(super) ledger: Arc<Ledger>,
    pub(super) from: Option<Vec<Cursor>>,
}

/// Reads a source for as long as rows come: one partition of the plan per partition of the source.
#[derive(Debug)]
pub struct SourceScan {
    source: Arc<dyn Source>,
    numbers: Option<Numbers>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: Arc<[usize]>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SourceScan {
    /// Reads the rows for which `filter` is true, and their columns at `columns`. These are indices
    /// in the source's schema; the index after the last one is the row number. `schema` is that of
    /// the output.
    ///
    /// The scan filters rows by itself because DataFusion's filter buffers them until it has a
    /// whole batch, which may take long on a stream.
    pub(super) fn new(
        source: Arc<dyn Source>,
        numbers: Option<Numbers>,
        filter: Option<Arc<dyn PhysicalExpr>>,
        columns: Arc<[usize]>,
        schema: SchemaRef,
        orderings: Vec<LexOrdering>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), orderings),
            Partitioning::UnknownPartitioning(source.partitions()),
            EmissionType::Incremental,
            Boundedness::Unbounded { requires_infinite_memory: false },
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            source,
            numbers,
            filter,
            columns,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for SourceScan {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, location) = (self.source.kind(), self.source.location());
        if matches!(format, DisplayFormatType::TreeRender) {
            writeln!(f, "kind={kind}")?;
            return writeln!(f, "location={location}");
        }
        let projection = ProjectSchemaDisplay(&self.schema);
        write!(f, "SourceScan: kind={kind}, location={location}, projection={projection}")?;
        if let Some(filter) = &self.filter {
            write!(f, ", filter={filter}")?;
        }
        let orderings: Vec<_> =
            self.properties.equivalence_properties().oeq_class().iter().cloned().collect();
        display_orderings(f, &orderings)
    }
}

impl ExecutionPlan for SourceScan {
    fn name(&self) -> &str {
        "SourceScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.filter.as_ref().map_or(Ok(TreeNodeRecursion::Continue), visit)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !children.is_empty() {
            return internal_err!("a SourceScan has no children; {} were given", children.len());
        }
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition >= self.source.partitions() {
            return internal_err!(
                "a source of {} partitions has no partition {partition}",
                self.source.partitions()
            );
        }
        let part = Arc::new(Part {
            source: Arc::clone(&self.source),
            partition,
            numbers: self.numbers.clone(),
            filter: self.filter.clone(),
            columns: Arc::clone(&self.columns),
            schema: Arc::clone(&self.schema),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        });
        // Opened when it is first polled: a plan that is only shown binds no socket.
        let stream = try_unfold(None, move |reader| {
            let part = Arc::clone(&part);
            async move { part.step(reader).await }
        });
        let schema = Arc::clone(&self.schema);
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, stream))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

type OpenReader = Option<Box<dyn Reader>>;

/// One partition of a running scan.
struct Part {
    source: Arc<dyn Source>,
    partition: usize,
    numbers: Option<Numbers>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: Arc<[usize]>,
    schema: SchemaRef,
    metrics: BaselineMetrics,
}

impl Part {
    async fn step(&self, reader: OpenReader) -> Result<Option<(RecordBatch, OpenReader)>> {
        let mut reader = match reader {
            Some(reader) => reader,
            None => self.source.open(self.partition, self.from()).await?,
        };
        while let Some(rows) = reader.next().await? {
            self.source.report().add_rows(rows.batch.num_rows() as u64);
            let batch = self.output(rows)?;
            if batch.num_rows() > 0 {
                self.metrics.output_rows().add(batch.num_rows());
                return Ok(Some((batch, Some(reader))));
            }
            // While the filter drops all rows, other tasks must still get to run.
            tokio::task::consume_budget().await;
        }
        Ok(None)
    }

    fn from(&self) -> Option<&Cursor> {
        self.numbers.as_ref()?.from.as_ref()?.get(self.partition)
    }

    /// The rows and columns of the output. Rows are numbered before they are filtered, and even if
    /// the query does not read their numbers.
    fn output(&self, rows: Rows) -> Result<RecordBatch> {
        let Rows { mut batch, first, lost } = rows;
        if let Some(numbers) = &self.numbers {
            // Lost rows get ordinals too, so that the rows after them keep those that they had.
            for (first, rows) in lost {
                numbers.ledger.number(self.partition, first, rows);
            }
            let count = batch.num_rows() as u64;
            let number = numbers.ledger.number(self.partition, first, count);
            let column: ArrayRef = Arc::new(UInt64Array::from_iter_values(number..number + count));
            let columns = batch.columns().iter().cloned().chain([column]).collect();
            batch = RecordBatch::try_new(numbered(&batch.schema()), columns)?;
        }
        if let Some(filter) = &self.filter {
            let kept = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
            batch = filter_record_batch(&batch, as_boolean_array(&kept)?)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.project(&self.columns)?.columns().to_vec();
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The schema with one more last column, the number of the row.
pub(super) fn numbered(schema: &SchemaRef) -> SchemaRef {
    let number = Arc::new(Field::new(ROW_COLUMN, DataType::UInt64, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([number]).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
