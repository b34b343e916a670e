//! The plan node that reads a source.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
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

use super::{Cursor, Ledger, Reader, Rows, Source};

/// Who numbers the rows of a scan, and where it begins.
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
    columns: Arc<[usize]>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SourceScan {
    /// Reads the columns at `columns`: positions in the source's schema, of which the one after
    /// its last is the row number. `schema` is that of the output.
    pub(super) fn new(
        source: Arc<dyn Source>,
        numbers: Option<Numbers>,
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
            columns,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The source that is read.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
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
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
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
        let Some(rows) = reader.next().await? else { return Ok(None) };
        let batch = self.output(rows)?;
        self.source.report().add_rows(batch.num_rows() as u64);
        self.metrics.output_rows().add(batch.num_rows());
        Ok(Some((batch, Some(reader))))
    }

    fn from(&self) -> Option<&Cursor> {
        self.numbers.as_ref()?.from.as_ref()?.get(self.partition)
    }

    /// The columns of the output; rows are numbered even if nobody asks for their numbers.
    fn output(&self, rows: Rows) -> Result<RecordBatch> {
        let Rows { batch, first } = rows;
        let count = batch.num_rows();
        let number = self
            .numbers
            .as_ref()
            .map_or(0, |numbers| numbers.ledger.number(self.partition, first, count as u64));
        let columns = self.columns.iter().map(|&index| match batch.columns().get(index) {
            Some(column) => Arc::clone(column),
            None => {
                Arc::new(UInt64Array::from_iter_values(number..number + count as u64)) as ArrayRef
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns.collect(), &options)?)
    }
}
