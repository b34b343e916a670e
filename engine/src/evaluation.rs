//! EVALUATE as a plan: predictions of the query's rows, and the metrics over them.

use std::sync::Arc;

use datafusion::common::{Column, Result, ScalarValue, internal_datafusion_err, plan_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use gradlake_udfs::names::Names;
use gradlake_udfs::scorer::{Scorer, parts};

use crate::names::suggested;
use crate::operators::{Pick, SelectColumns, without_idle_projections};
use crate::prediction::{PredictOptions, Predictor, picks, predict_picks};

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

/// The plan of an evaluation over `input`, which must have the target: one row of metrics.
pub fn evaluate_plan(
    state: &SessionState,
    input: LogicalPlan,
    scorer: &Arc<Scorer>,
    options: PredictOptions,
) -> Result<LogicalPlan> {
    let model = scorer.model();
    let target = &model.target.name;
    let input = without_idle_projections(input);
    let beside: Vec<&str> = [target].into_iter().chain(&model.weight).map(String::as_str).collect();
    let (arguments, beside) = picks(state, input.schema(), scorer, &beside)?;
    let mut beside = beside.into_iter();
    let Some(actual) = beside.next().flatten() else {
        let names = Names::of(input.schema().fields());
        return plan_err!(
            "EVALUATE needs the target {target} of model {}, which the query lacks{}",
            model.name,
            suggested(&names, target)
        );
    };
    let weight = beside.next().flatten();
    let weighted = weight.is_some();

    let given = input.schema().fields().len();
    let predictor = Predictor::Fixed(Arc::clone(scorer));
    let predicted = predict_picks(input, &predictor, options, arguments)?;
    // The columns of the input stay where they are.
    let columns = [(ACTUAL, actual)].into_iter().chain(weight.map(|weight| (WEIGHT, weight)));
    let own = scorer.fields().iter().enumerate();
    let own = own.map(|(i, part)| (part.name().as_str(), Pick::Column(given + i)));
    let predicted = SelectColumns::plan(predicted, columns.chain(own))?;
    let part = |wanted: &str| {
        let name = scorer.fields().find(wanted).map(|(_, part)| part.name());
        name.map(|name| Expr::Column(Column::from_name(name)))
    };
    let Some(label) = part(parts::LABEL) else {
        return plan_err!("model {} predicts nothing", model.name);
    };
    let actual = Expr::Column(Column::from_name(ACTUAL));
    let metric = |name: &str, prediction: &Expr| -> Result<Expr> {
        let function = state
            .udaf(name)
            .map_err(|e| internal_datafusion_err!("metric {name} is not registered: {e}"))?;
        let mut arguments = vec![actual.clone(), prediction.clone()];
        if weighted {
            arguments.push(Expr::Column(Column::from_name(WEIGHT)));
        }
        Ok(function.call(arguments).alias(name))
    };
    let mut metrics = vec![];
    let mut missing = vec![];
    if model.algorithm.is_classifier() {
        check_label_type(&actual, &label, predicted.schema(), target)?;
        for name in CLASS_METRICS {
            metrics.push(metric(name, &label)?);
        }
        match (part(parts::PROBABILITIES), part(parts::SCORE)) {
            (Some(probabilities), _) => {
                metrics.push(metric(LOG_LOSS, &probabilities)?);
                metrics.push(metric(ROC_AUC, &probabilities)?);
            }
            (None, Some(score)) => {
                missing.push(LOG_LOSS);
                // The margin of one class against the other orders rows as a probability would;
                // of many classes there is only the winner's margin, which does not.
                if scorer.classes().is_some_and(|n| n == 2) {
                    metrics.push(metric(ROC_AUC, &score)?);
                } else {
                    missing.push(ROC_AUC);
                }
            }
            (None, None) => missing.extend([LOG_LOSS, ROC_AUC]),
        }
    } else {
        for name in NUMBER_METRICS {
            metrics.push(metric(name, &label)?);
        }
    }
    let given: Vec<Expr> = if model.algorithm.is_classifier() {
        CLASS_METRICS
            .iter()
            .chain([&LOG_LOSS, &ROC_AUC])
            .map(|name| {
                if missing.contains(name) {
                    lit(ScalarValue::Float64(None)).alias(*name)
                } else {
                    Expr::Column(Column::from_name(*name))
                }
            })
            .collect()
    } else {
        NUMBER_METRICS.iter().map(|name| Expr::Column(Column::from_name(*name))).collect()
    };
    LogicalPlanBuilder::from(predicted)
        .aggregate(Vec::<Expr>::new(), metrics)?
        .project(given)?
        .build()
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
