//! The evaluation of a model with several targets, numbers or booleans: a row for each of them, or
//! for each number of a vector.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, Result, internal_datafusion_err, internal_err, plan_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit};
use gradlake_udfs::{Model, Scorer};

use super::{
    CLASS_METRICS, COUNTS, Columns, LOG_LOSS, NUMBER_METRICS, ROC_AUC, WEIGHT, check_label_type,
    counts_without_classes,
};
use crate::operators::{Pick, SelectColumns};
use crate::prediction::{PredictOptions, Predictor, predict_picks};

/// Separates the name of a target from that of its metric.
const OF: &str = "\u{1}";

/// Metrics of booleans, in the order of EVALUATE's columns.
const BOOLEAN_METRICS: [&str; 6] = {
    let [precision, recall, accuracy, f1_score] = CLASS_METRICS;
    [precision, recall, accuracy, f1_score, LOG_LOSS, ROC_AUC]
};

/// Whether a model has more than one number or boolean to predict.
pub(super) fn are_several(model: &Model) -> bool {
    match model.targets.as_slice() {
        [] => false,
        [target] => target.data_type.is_nested(),
        _ => true,
    }
}

/// The plan of the evaluation: one row, with the metrics of each target.
pub(super) fn plan(
    state: &SessionState,
    input: LogicalPlan,
    scorer: &Arc<Scorer>,
    options: PredictOptions,
) -> Result<LogicalPlan> {
    let model = scorer.model();
    let Columns { arguments, actual, weight } = Columns::find(state, &input, scorer)?;
    let given = input.schema().fields().len();
    let predictor = Predictor::Fixed(Arc::clone(scorer));
    let predicted = predict_picks(input, &predictor, options, arguments)?;
    let actual_names: Vec<String> = (0..actual.len()).map(|i| format!("__actual_{i}")).collect();
    let names: Vec<String> = (0..scorer.fields().len()).map(|i| format!("__own_{i}")).collect();
    let weighted = weight.is_some();
    let columns = actual_names.iter().map(String::as_str).zip(actual);
    let columns = columns.chain(weight.map(|weight| (WEIGHT, weight)));
    let own = names.iter().enumerate().map(|(i, name)| (name.as_str(), Pick::Column(given + i)));
    let predicted = SelectColumns::plan(predicted, columns.chain(own))?;
    let column = |name: &str| Expr::Column(Column::from_name(name));
    // (Target, actual, predicted, probabilities) of each number or boolean.
    let mut outputs: Vec<(String, Expr, Expr, Option<Expr>)> = vec![];
    for (i, target) in model.targets.iter().enumerate() {
        let (actual, own) = (column(&actual_names[i]), column(&names[i]));
        match scorer.fields()[i].data_type() {
            DataType::FixedSizeList(_, n) => {
                check_vector(&target.name, &actual.get_type(predicted.schema())?, *n)?;
                outputs.extend((1..=i64::from(*n)).map(|element| {
                    let of = |list: &Expr| {
                        cast(array_element(list.clone(), lit(element)), DataType::Float64)
                    };
                    (format!("{}[{element}]", target.name), of(&actual), of(&own), None)
                }));
            }
            DataType::Boolean => {
                let probabilities = column(&names[model.targets.len() + i]);
                check_label_type(&actual, &own, predicted.schema(), &target.name)?;
                outputs.push((target.name.clone(), actual, own, Some(probabilities)));
            }
            _ => outputs.push((target.name.clone(), cast(actual, DataType::Float64), own, None)),
        }
    }
    let mut aggregates = vec![];
    for (target, actual, own, probabilities) in &outputs {
        for metric in metrics_of(model) {
            let function = state
                .udaf(metric)
                .map_err(|e| internal_datafusion_err!("metric {metric} is not registered: {e}"))?;
            let predicted = match probabilities {
                Some(probabilities) if [LOG_LOSS, ROC_AUC].contains(metric) => probabilities,
                _ => own,
            };
            let mut arguments = vec![actual.clone(), predicted.clone()];
            arguments.extend(weighted.then(|| column(WEIGHT)));
            aggregates.push(function.call(arguments).alias(format!("{target}{OF}{metric}")));
        }
    }
    let mut all: Vec<Expr> =
        aggregates.iter().map(|own| column(&own.schema_name().to_string())).collect();
    let [rows, with_target, _] = COUNTS;
    let Some((_, first, ..)) = outputs.first() else { return internal_err!("there is no target") };
    aggregates.push(count(lit(1)).alias(rows));
    aggregates.push(count(first.clone()).alias(with_target));
    all.extend(counts_without_classes(rows, with_target));
    LogicalPlanBuilder::from(predicted)
        .aggregate(Vec::<Expr>::new(), aggregates)?
        .project(all)?
        .build()
}

/// Refuses a target that is no list of so many numbers, as far as its type says.
fn check_vector(target: &str, data_type: &DataType, n: i32) -> Result<()> {
    match data_type {
        DataType::List(_) | DataType::LargeList(_) => Ok(()),
        DataType::FixedSizeList(_, found) if *found == n => Ok(()),
        other => plan_err!(
            "the target {target} is {other} here, but the model learned lists of {n} numbers"
        ),
    }
}

/// The metrics of each target.
fn metrics_of(model: &Model) -> &'static [&'static str] {
    if model.algorithm.is_classifier() { &BOOLEAN_METRICS } else { &NUMBER_METRICS }
}

/// The metrics as a row for each target.
pub(super) fn by_target(metrics: &RecordBatch, model: &Model) -> Result<RecordBatch> {
    let schema = metrics.schema();
    let per_target = metrics_of(model).len();
    let mut columns: Vec<ArrayRef> = vec![];
    let names = schema.fields().iter().step_by(per_target).map(|field| {
        let name = field.name();
        Some(name.split_once(OF).map_or(name.as_str(), |(target, _)| target).to_owned())
    });
    let names: StringArray = names.collect();
    columns.push(Arc::new(names));
    for metric in 0..per_target {
        let own = metrics.columns().iter().skip(metric).step_by(per_target);
        let own: Vec<_> = own.map(|column| column.as_ref()).collect();
        columns.push(concat(&own)?);
    }
    Ok(RecordBatch::try_new(self::schema(model), columns)?)
}

/// The schema of the rows of all targets.
pub(super) fn schema(model: &Model) -> SchemaRef {
    let metrics = metrics_of(model).iter().map(|name| Field::new(*name, DataType::Float64, true));
    let fields = [Field::new("target", DataType::Utf8, true)].into_iter().chain(metrics);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
