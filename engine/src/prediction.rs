//! PREDICT as a plan: the query's rows, and behind them what the model says of each.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{Column, DFSchema, Result, SchemaError, plan_err};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use gradlake_udfs::functions::follow::{Followed, MODEL_ROWS, MODEL_VERSION, followed_predict_udf};
use gradlake_udfs::functions::part::prediction_part_udf;
use gradlake_udfs::functions::predict::bound_predict_udf;
use gradlake_udfs::scorer::{Scorer, parts};

use crate::names::{find_column, suggestion};
use crate::options::{OptionValue, nearest};

/// The struct column between the two projections of a prediction.
const ROW: &str = "__gradlake_prediction";

/// What `WITH (...)` of a PREDICT or EVALUATE says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictOptions {
    /// Probability above which the larger of two classes is predicted.
    pub threshold: f64,
}

impl PredictOptions {
    /// Checks options as they were given.
    pub fn check(given: &[(String, OptionValue)]) -> Result<Self> {
        let mut options = Self { threshold: 0.5 };
        for (i, (name, value)) in given.iter().enumerate() {
            if name != "threshold" {
                return plan_err!(
                    "option {name} is not known to PREDICT and EVALUATE{}; they take threshold",
                    suggestion(nearest(name, ["threshold"]))
                );
            }
            if given[..i].iter().any(|(other, _)| other == name) {
                return plan_err!("option threshold is given twice");
            }
            options.threshold = match value {
                OptionValue::Number(text) => match text.parse::<f64>() {
                    Ok(number) if (0.0..=1.0).contains(&number) => number,
                    _ => return plan_err!("threshold must be between 0 and 1, but is {text}"),
                },
                other => {
                    return plan_err!("threshold must be a number from 0 to 1, but is {other}");
                }
            };
        }
        Ok(options)
    }
}

/// Whose predictions a plan gives.
#[derive(Clone, Debug)]
pub enum Predictor {
    /// One version, whatever is published meanwhile.
    Fixed(Arc<Scorer>),
    /// The newest revision at each batch; each row says which.
    Followed(Arc<Followed>),
}

/// The plan of a prediction over `input`, whose columns all stay.
///
/// # Errors
/// When a column that the model needs is missing or of a type that it cannot take.
pub fn predict_plan(
    state: &SessionState,
    input: LogicalPlan,
    predictor: &Predictor,
    options: PredictOptions,
) -> Result<LogicalPlan> {
    let schema = Arc::clone(input.schema());
    let scorer = match predictor {
        Predictor::Fixed(scorer) => Arc::clone(scorer),
        Predictor::Followed(followed) => followed.newest(),
    };
    let function = match predictor {
        Predictor::Fixed(scorer) => bound_predict_udf(Arc::clone(scorer), options.threshold),
        Predictor::Followed(followed) => {
            followed_predict_udf(Arc::clone(followed), options.threshold)
        }
    };
    let row = function.call(checked_arguments(state, &schema, &scorer, options)?).alias(ROW);
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let with_row: Vec<Expr> = columns.iter().cloned().chain([row]).collect();
    let plan = LogicalPlanBuilder::from(input).project(with_row)?;
    let mut taken: HashSet<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let mut parts = output_names(&scorer);
    if let Predictor::Followed(_) = predictor {
        parts.extend([MODEL_VERSION, MODEL_ROWS].map(|part| (part, part.to_owned())));
    }
    for (part, name) in parts {
        let name = free_name(name, &mut taken);
        let row = Expr::Column(Column::from_name(ROW));
        columns.push(prediction_part_udf(part).call(vec![row]).alias(name));
    }
    plan.project(columns)?.build()
}

/// The parts of a prediction and the names of their columns, before a clash adds a suffix.
pub fn output_names(scorer: &Scorer) -> Vec<(&str, String)> {
    let target = &scorer.model().target.name;
    let name_of = |field: &FieldRef| match field.name().as_str() {
        parts::LABEL => format!("predicted_{target}"),
        part => format!("predicted_{target}_{part}"),
    };
    scorer.fields().iter().map(|field| (field.name().as_str(), name_of(field))).collect()
}

/// `name`, or `name_1`, `name_2`, ... where that is taken.
pub fn free_name(name: String, taken: &mut HashSet<String>) -> String {
    let mut free = name.clone();
    let mut suffix = 1;
    while !taken.insert(free.clone()) {
        free = format!("{name}_{suffix}");
        suffix += 1;
    }
    free
}

/// The column that an error says there is not.
fn missing_column(error: &DataFusionError) -> Option<&str> {
    match error.find_root() {
        DataFusionError::SchemaError(error, _) => match error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field.name()),
            _ => None,
        },
        _ => None,
    }
}

/// What a prediction's function takes, after a look at options and types.
fn checked_arguments(
    state: &SessionState,
    schema: &DFSchema,
    scorer: &Scorer,
    options: PredictOptions,
) -> Result<Vec<Expr>> {
    let arguments = arguments(state, schema, scorer)?;
    let model = scorer.model();
    let is_probabilistic = scorer.fields().find(parts::PROBABILITIES).is_some();
    if options.threshold != 0.5 && !is_probabilistic {
        return plan_err!(
            "threshold needs a model with probabilities, but model {} is a {}",
            model.name,
            model.algorithm
        );
    }
    let types = arguments
        .iter()
        .map(|e| datafusion::logical_expr::ExprSchemable::get_type(e, schema))
        .collect::<Result<Vec<_>>>()?;
    scorer.check(&types)?;
    Ok(arguments)
}

/// What a prediction's function takes: columns of the query, or TRANSFORM's expressions on them.
fn arguments(state: &SessionState, schema: &DFSchema, scorer: &Scorer) -> Result<Vec<Expr>> {
    let model = scorer.model();
    scorer
        .arguments()
        .map(|(name, data_type)| match model.transform.iter().find(|(output, _)| output == name) {
            Some((_, sql)) => match state.create_logical_expr(sql, schema) {
                Ok(expression) => Ok(expression),
                Err(error) => match missing_column(&error) {
                    Some(column) => {
                        let names = schema.fields().iter().map(|f| f.name().as_str());
                        plan_err!(
                            "TRANSFORM of model {} needs column {column} for {sql}, which the \
                             query lacks{}",
                            model.name,
                            suggestion(nearest(column, names))
                        )
                    }
                    None => Err(error),
                },
            },
            None => match find_column(schema, name)? {
                Some(column) => Ok(Expr::Column(column)),
                None => {
                    let names = schema.fields().iter().map(|f| f.name().as_str());
                    plan_err!(
                        "model {} needs column {name} ({data_type}), which the query lacks{}",
                        model.name,
                        suggestion(nearest(name, names))
                    )
                }
            },
        })
        .collect()
}
