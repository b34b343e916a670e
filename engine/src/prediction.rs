//! PREDICT as a plan: the query's rows, followed by the model's prediction for each.

use std::collections::HashSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use gradlake_udfs::{MODEL_ROWS, MODEL_VERSION, Model, Names, Scorer, prediction_parts};

use crate::names::{suggested, suggestion};
use crate::operators::{Pick, Predict, without_idle_projections};
use crate::options::{OptionValue, nearest};
use crate::transform::Transform;

pub use crate::operators::Predictor;

/// The options in `WITH (...)` of a PREDICT or EVALUATE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictOptions {
    /// Probability above which the larger of two classes is predicted.
    pub threshold: f64,
}

impl Default for PredictOptions {
    /// The larger of two classes is predicted from a probability of a half on.
    fn default() -> Self {
        Self { threshold: 0.5 }
    }
}

impl PredictOptions {
    /// Checks options as they were given.
    pub fn check(given: &[(String, OptionValue)]) -> Result<Self> {
        let mut options = Self::default();
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
    let input = without_idle_projections(input);
    let scorer = predictor.scorer();
    let (arguments, _) = picks(state, input.schema(), &scorer, &[])?;
    predict_picks(input, predictor, options, arguments)
}

/// The same with the arguments of the model as they were found in `input`.
pub(crate) fn predict_picks(
    input: LogicalPlan,
    predictor: &Predictor,
    options: PredictOptions,
    arguments: Vec<Pick>,
) -> Result<LogicalPlan> {
    check(input.schema(), &arguments, &predictor.scorer(), options)?;
    let names = column_names(&input, predictor);
    Predict::plan(input, predictor.clone(), options.threshold, arguments, names)
}

/// The columns that the parts of a prediction become, none of which has the name of one of the
/// input.
fn column_names(input: &LogicalPlan, predictor: &Predictor) -> Vec<String> {
    let scorer = predictor.scorer();
    let fields = input.schema().fields();
    let mut taken: HashSet<String> = fields.iter().map(|field| field.name().clone()).collect();
    let parts = predictor.parts();
    let names = parts.iter().map(|part| column_name(scorer.model(), part.name()));
    names.map(|name| free_name(name, &mut taken)).collect()
}

/// The column that a part of a prediction becomes, where no other has its name.
pub(crate) fn column_name(model: &Model, part: &str) -> String {
    match (part, model.targets.as_slice()) {
        (MODEL_VERSION | MODEL_ROWS, _) | (_, []) => part.to_owned(),
        (prediction_parts::LABEL, [target]) => format!("predicted_{}", target.name),
        (part, [target]) => format!("predicted_{}_{part}", target.name),
        // The parts are named after the targets.
        (part, _) => format!("predicted_{part}"),
    }
}

/// `name`, or `name_1`, `name_2`, ... where that is taken.
fn free_name(name: String, taken: &mut HashSet<String>) -> String {
    let mut free = name.clone();
    let mut suffix = 1;
    while !taken.insert(free.clone()) {
        free = format!("{name}_{suffix}");
        suffix += 1;
    }
    free
}

/// Refuses options and types that the model cannot take.
fn check(
    schema: &DFSchema,
    arguments: &[Pick],
    scorer: &Scorer,
    options: PredictOptions,
) -> Result<()> {
    let model = scorer.model();
    if options.threshold != 0.5 && !scorer.has_probabilities() {
        return plan_err!(
            "threshold needs a model with probabilities, but model {} is a {}",
            model.name,
            model.algorithm
        );
    }
    let types: Vec<DataType> =
        arguments.iter().map(|pick| pick.field(schema).data_type().clone()).collect();
    scorer.check(&types)
}

/// The picks of a model's arguments among the columns of a query, or of TRANSFORM's expressions on
/// them; and the same for further columns, which need not exist.
///
/// # Errors
/// When an argument is missing, or two columns could be meant.
pub(crate) fn picks(
    state: &SessionState,
    schema: &DFSchema,
    scorer: &Scorer,
    beside: &[&str],
) -> Result<(Vec<Pick>, Vec<Option<Pick>>)> {
    let model = scorer.model();
    let names = Names::of(schema.fields());
    let transform = Transform::of(model, state, schema, &names);
    let own = || scorer.arguments().map(|(name, _)| name.as_str());
    let plain = own().chain(beside.iter().copied()).filter(|name| !transform.makes(name));
    let mut plain = names.find_all(plain)?.into_iter();
    let mut find = |name: &str| match transform.pick(name) {
        Some(made) => made.map(Some),
        None => Ok(plain.next().flatten().map(Pick::Column)),
    };
    let mut arguments = vec![];
    for (name, data_type) in scorer.arguments() {
        match find(name)? {
            Some(pick) => arguments.push(pick),
            None => {
                return plan_err!(
                    "model {} needs column {name} ({data_type}), which the query lacks{}",
                    model.name,
                    suggested(&names, name)
                );
            }
        }
    }
    let beside = beside.iter().map(|name| find(name)).collect::<Result<_>>()?;
    Ok((arguments, beside))
}
