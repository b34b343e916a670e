//! EVALUATE as a plan: predictions of the query's rows, and the metrics over them. Behind the
//! metrics are counts of the rows, for warnings of what the metrics do not show.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::common::{
    Column, Result, ScalarValue, internal_datafusion_err, internal_err, plan_err,
};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::functions_aggregate::expr_fn::{count, min};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit, when,
};
use gradlake_udfs::{Labels, Names, Scorer, prediction_parts};

use crate::event::{Event, EventSink};
use crate::names::suggested;
use crate::operators::{Pick, SelectColumns, without_idle_projections};
use crate::prediction::{PredictOptions, Predictor, picks, predict_picks};

mod rows;
mod targets;

/// The target's values beside the predictions.
const ACTUAL: &str = "__gradlake_actual";
/// The row weights beside the predictions.
const WEIGHT: &str = "__gradlake_weight";

/// Metrics of classifiers on (actual, predicted), in the order of EVALUATE's columns.
pub const CLASS_METRICS: [&str; 4] = ["precision", "recall", "accuracy", "f1_score"];
/// Metrics of regressions on (actual, predicted), in the order of EVALUATE's columns.
pub const NUMBER_METRICS: [&str; 6] = [
    "mean_absolute_error",
    "mean_squared_error",
    "mean_squared_log_error",
    "median_absolute_error",
    "r2_score",
    "explained_variance",
];
/// Metrics of classifiers that need probabilities.
pub const LOG_LOSS: &str = "log_loss";
/// Area under the ROC curve.
pub const ROC_AUC: &str = "roc_auc";

/// Counts behind the metrics: rows, those with a target, those of a class that the model does not
/// know.
const COUNTS: [&str; 3] = ["__gradlake_rows", "__gradlake_targets", "__gradlake_unknown"];
/// The first of the classes that the model does not know.
const UNKNOWN: &str = "__gradlake_unknown_class";

/// The plan of an evaluation over `input`, which must have the target: one row of metrics, followed
/// by the counts that [`reported`] removes.
pub fn evaluate_plan(
    state: &SessionState,
    input: LogicalPlan,
    scorer: &Arc<Scorer>,
    options: PredictOptions,
) -> Result<LogicalPlan> {
    let model = scorer.model();
    let input = without_idle_projections(input);
    let Some(target) = model.targets.first() else { return rows::plan(state, input, scorer) };
    if targets::are_several(model) {
        return targets::plan(state, input, scorer, options);
    }
    let Columns { arguments, actual, weight } = Columns::find(state, &input, scorer)?;
    let weighted = weight.is_some();

    let given = input.schema().fields().len();
    let predictor = Predictor::Fixed(Arc::clone(scorer));
    let predicted = predict_picks(input, &predictor, options, arguments)?;
    // The columns of the input stay where they are.
    let actual = actual.into_iter().map(|actual| (ACTUAL, actual));
    let columns = actual.chain(weight.map(|weight| (WEIGHT, weight)));
    let own = scorer.fields().iter().enumerate();
    let own = own.map(|(i, part)| (part.name().as_str(), Pick::Column(given + i)));
    let predicted = SelectColumns::plan(predicted, columns.chain(own))?;
    let actual = Expr::Column(Column::from_name(ACTUAL));
    let Some(label) = part(scorer, prediction_parts::LABEL) else {
        return plan_err!("model {} predicts nothing", model.name);
    };
    if model.algorithm.is_classifier() {
        check_label_type(&actual, &label, predicted.schema(), &target.name)?;
    }
    let is_boolean = actual.get_type(predicted.schema())? == DataType::Boolean;
    let compared = match is_boolean && !model.algorithm.is_classifier() {
        true => cast(actual.clone(), DataType::Float64),
        false => actual.clone(),
    };
    let metrics = metrics(state, scorer, &compared, &label, weighted)?;
    // A metric that the predictions do not allow is NULL.
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let columns = metrics.iter().map(|(name, metric)| match metric {
        Some(_) => column(name),
        None => lit(ScalarValue::Float64(None)).alias(*name),
    });
    let columns: Vec<Expr> =
        columns.chain(COUNTS.into_iter().chain([UNKNOWN]).map(column)).collect();
    let metrics = metrics.into_iter().filter_map(|(_, metric)| metric);
    let aggregates: Vec<Expr> = metrics.chain(counts(&actual, scorer)?).collect();
    LogicalPlanBuilder::from(predicted)
        .aggregate(Vec::<Expr>::new(), aggregates)?
        .project(columns)?
        .build()
}

/// The columns of an evaluation among those of its query.
struct Columns {
    /// The arguments of the model.
    arguments: Vec<Pick>,
    /// The targets.
    actual: Vec<Pick>,
    /// Row weights.
    weight: Option<Pick>,
}

impl Columns {
    /// Finds them in a query.
    ///
    /// # Errors
    /// When one of the arguments or targets is missing.
    fn find(state: &SessionState, input: &LogicalPlan, scorer: &Scorer) -> Result<Self> {
        let model = scorer.model();
        let targets = || model.targets.iter().map(|target| target.name.as_str());
        let beside: Vec<&str> = targets().chain(model.weight.as_deref()).collect();
        let (arguments, beside) = picks(state, input.schema(), scorer, &beside)?;
        let mut beside = beside.into_iter();
        let mut actual = vec![];
        for (target, pick) in targets().zip(beside.by_ref().take(model.targets.len())) {
            let Some(pick) = pick else {
                let names = Names::of(input.schema().fields());
                return plan_err!(
                    "EVALUATE needs the target {target} of model {}, which the query lacks{}",
                    model.name,
                    suggested(&names, target)
                );
            };
            actual.push(pick);
        }
        Ok(Self { arguments, actual, weight: beside.next().flatten() })
    }
}

/// A part of the predictions as an expression, if the model has it.
fn part(scorer: &Scorer, wanted: &str) -> Option<Expr> {
    scorer.fields().find(wanted).map(|(_, part)| Expr::Column(Column::from_name(part.name())))
}

/// The metrics of a model as aggregates, in the order of their columns; None where the predictions
/// do not allow one.
fn metrics(
    state: &SessionState,
    scorer: &Scorer,
    actual: &Expr,
    label: &Expr,
    weighted: bool,
) -> Result<Vec<(&'static str, Option<Expr>)>> {
    let metric = |name: &'static str, prediction: &Expr| -> Result<_> {
        let function = state
            .udaf(name)
            .map_err(|e| internal_datafusion_err!("metric {name} is not registered: {e}"))?;
        let mut arguments = vec![actual.clone(), prediction.clone()];
        if weighted {
            arguments.push(Expr::Column(Column::from_name(WEIGHT)));
        }
        Ok((name, Some(function.call(arguments).alias(name))))
    };
    if !scorer.model().algorithm.is_classifier() {
        return NUMBER_METRICS.into_iter().map(|name| metric(name, label)).collect();
    }
    let metrics = CLASS_METRICS.into_iter().map(|name| metric(name, label));
    let mut metrics = metrics.collect::<Result<Vec<_>>>()?;
    let probabilities = part(scorer, prediction_parts::PROBABILITIES);
    metrics.extend(match (probabilities, part(scorer, prediction_parts::SCORE)) {
        (Some(probabilities), _) => {
            [metric(LOG_LOSS, &probabilities)?, metric(ROC_AUC, &probabilities)?]
        }
        // The margin of one class against the other orders rows as a probability would. With many
        // classes there is only the winner's margin, which does not.
        (None, Some(score)) if scorer.classes().is_some_and(|n| n == 2) => {
            [(LOG_LOSS, None), metric(ROC_AUC, &score)?]
        }
        (None, _) => [(LOG_LOSS, None), (ROC_AUC, None)],
    });
    Ok(metrics)
}

/// [`COUNTS`] and [`UNKNOWN`] of a model without classes, from the columns that hold the numbers of
/// rows and of those with a target.
fn counts_without_classes(rows: &str, with_target: &str) -> [Expr; 4] {
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let [all, targets, unknown] = COUNTS;
    [
        column(rows).alias(all),
        column(with_target).alias(targets),
        lit(0_i64).alias(unknown),
        lit("").alias(UNKNOWN),
    ]
}

/// The aggregates of [`COUNTS`] and [`UNKNOWN`].
fn counts(actual: &Expr, scorer: &Scorer) -> Result<[Expr; 4]> {
    let is_unknown = match scorer.model().algorithm.is_classifier() {
        true => actual.clone().in_list(known_classes(scorer), true),
        false => lit(false),
    };
    let text = cast(actual.clone(), DataType::Utf8);
    let [rows, targets, unknown] = COUNTS;
    Ok([
        count(lit(1)).alias(rows),
        count(actual.clone()).alias(targets),
        count(when(is_unknown.clone(), lit(1)).end()?).alias(unknown),
        min(when(is_unknown, text).end()?).alias(UNKNOWN),
    ])
}

/// The classes that any member of a model knows.
fn known_classes(scorer: &Scorer) -> Vec<Expr> {
    let members = scorer.model().members.iter().filter_map(|member| member.outcome.as_deref().ok());
    let mut classes: Vec<&ScalarValue> = vec![];
    let mut known = HashSet::new();
    for trained in members {
        if let Labels::Classes(own) = &trained.labels {
            classes.extend(own.iter().filter(|class| known.insert(class.to_string())));
        }
    }
    classes.into_iter().map(|class| lit(class.clone())).collect()
}

/// The metrics of a row that the plan gave, with a warning of what they do not show: that there are
/// no rows, that some have no target, or a class that the model does not know.
///
/// # Errors
/// When it is no such row.
pub fn reported(rows: &RecordBatch, scorer: &Scorer, events: &EventSink) -> Result<RecordBatch> {
    let metrics = rows.num_columns().saturating_sub(COUNTS.len() + 1);
    for row in 0..rows.num_rows() {
        let number = |name: &str| match rows.column_by_name(name) {
            Some(column) => Ok(column.as_primitive::<Int64Type>().value(row)),
            None => internal_err!("an evaluation has no {name}"),
        };
        let [all, targets, unknown] = [number(COUNTS[0])?, number(COUNTS[1])?, number(COUNTS[2])?];
        let class = match rows.column_by_name(UNKNOWN) {
            Some(column) => ScalarValue::try_from_array(column, row)?.to_string(),
            None => String::new(),
        };
        let names = scorer.model().targets.iter().map(|target| target.name.as_str());
        let target = names.collect::<Vec<_>>().join(" or ");
        let model = &scorer.model().name;
        let some = |n: i64| if n == 1 { "1 row has".to_owned() } else { format!("{n} rows have") };
        if all == 0 {
            events(Event::Warning("the query gives no rows: nothing is measured".to_owned()));
        } else if targets < all {
            events(Event::Warning(format!(
                "{} no {target} (NULL) and {} left out",
                some(all - targets),
                if all - targets == 1 { "is" } else { "are" }
            )));
        }
        if unknown > 0 {
            events(Event::Warning(format!(
                "{} a {target} that model {model} was not trained on, such as '{class}': it never \
                 predicts that",
                some(unknown)
            )));
        }
    }
    let metrics = rows.project(&(0..metrics).collect::<Vec<_>>())?;
    let model = scorer.model();
    if targets::are_several(model) { targets::by_target(&metrics, model) } else { Ok(metrics) }
}

/// The schema of [`reported`] rows.
pub fn reported_schema(schema: &Schema, scorer: &Scorer) -> Result<SchemaRef> {
    if targets::are_several(scorer.model()) {
        return Ok(targets::schema(scorer.model()));
    }
    let metrics = schema.fields().len().saturating_sub(COUNTS.len() + 1);
    Ok(Arc::new(schema.project(&(0..metrics).collect::<Vec<_>>())?))
}

/// Refuses a target whose type cannot be compared with the model's classes.
fn check_label_type(
    actual: &Expr,
    label: &Expr,
    schema: &datafusion::common::DFSchema,
    target: &str,
) -> Result<()> {
    let (actual, label) = (actual.get_type(schema)?, label.get_type(schema)?);
    let comparable =
        datafusion::logical_expr::type_coercion::binary::comparison_coercion(&actual, &label);
    match comparable {
        Some(_) if actual.is_numeric() == label.is_numeric() => Ok(()),
        _ => plan_err!(
            "the target {target} is {actual} here, but the model learned {label}: they cannot be \
             compared"
        ),
    }
}
