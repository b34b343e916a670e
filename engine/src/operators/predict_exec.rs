//! The physical operator of PREDICT: it scores batches, and appends columns to them.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_empty_array};
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase,
    FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::StreamExt;

use super::predict::{Predictor, name_of};

/// Scores each batch of its input.
#[derive(Debug)]
pub(super) struct PredictExec {
    input: Arc<dyn ExecutionPlan>,
    scoring: Arc<Scoring>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// How a batch is scored.
#[derive(Debug)]
struct Scoring {
    predictor: Predictor,
    threshold: f64,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    /// Columns of the input.
    given: usize,
}

impl Scoring {
    fn score(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut columns = batch.columns().to_vec();
        if rows == 0 {
            let more = self.schema.fields().iter().skip(self.given);
            columns.extend(more.map(|field| new_empty_array(field.data_type())));
            return Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        }
        let arguments = self.arguments.iter();
        let arguments: Vec<ArrayRef> = arguments
            .map(|expr| expr.evaluate(batch).and_then(|value| value.into_array(rows)))
            .collect::<Result<_>>()?;
        let scorer = self.predictor.scorer();
        columns.extend(scorer.predict(&arguments, rows, self.threshold)?);
        if let Predictor::Latest(_) = self.predictor {
            let model = scorer.model();
            for number in [model.version, model.rows] {
                columns.push(Arc::new(UInt64Array::from_value(number, rows)));
            }
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl PredictExec {
    /// Over some rows, with the arguments of the model as expressions on them.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        predictor: Predictor,
        threshold: f64,
        arguments: Vec<Arc<dyn PhysicalExpr>>,
        columns: &[FieldRef],
    ) -> Self {
        let given = input.schema();
        let fields: Vec<FieldRef> = given.fields().iter().chain(columns).cloned().collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, given.metadata().clone()));
        let given = given.fields().len();
        let scoring = Scoring { predictor, threshold, arguments, schema, given };
        Self::over(input, Arc::new(scoring))
    }

    fn over(input: Arc<dyn ExecutionPlan>, scoring: Arc<Scoring>) -> Self {
        // Columns of the input stay where they are, so all their known properties still hold.
        let known = input.equivalence_properties();
        let orderings = known.oeq_class().iter().cloned();
        let mut own =
            EquivalenceProperties::new_with_orderings(Arc::clone(&scoring.schema), orderings);
        // (A failure here only loses a fact about equal columns.)
        let _known = own.add_equivalence_group(known.eq_group().clone());
        let properties = Arc::new(PlanProperties::new(
            own,
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        ));
        Self { input, scoring, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for PredictExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.scoring.schema.fields().iter().skip(self.scoring.given);
        let columns: Vec<&str> = columns.map(|field| field.name().as_str()).collect();
        write!(f, "PredictExec: {} by {}", columns.join(", "), name_of(&self.scoring.predictor))
    }
}

impl ExecutionPlan for PredictExec {
    fn name(&self) -> &'static str {
        "PredictExec"
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

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::over(input, Arc::clone(&self.scoring)))),
            _ => internal_err!("PredictExec has one input"),
        }
    }

    #[allow(deprecated)]
    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::over(input, Arc::clone(&self.scoring)))),
            _ => internal_err!("PredictExec has one input"),
        }
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.scoring.arguments.iter(), f)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let scoring = Arc::clone(&self.scoring);
        let batches = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let timer = metrics.elapsed_compute().timer();
            let scored = scoring.score(&batch);
            timer.done();
            if let Ok(scored) = &scored {
                metrics.record_output(scored.num_rows());
            }
            scored
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.scoring.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut own = Statistics::clone(&inputs[0]);
        own.total_byte_size = Precision::Absent;
        let columns = self.scoring.schema.fields().len();
        own.column_statistics.resize_with(columns, ColumnStatistics::new_unknown);
        Ok(Arc::new(own))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    /// Pushes down the filters that use columns of the input alone.
    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let own = (0..self.scoring.given).collect();
        let child =
            ChildFilterDescription::from_child_with_allowed_indices(&filters, own, &self.input)?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}
