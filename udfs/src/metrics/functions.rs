//! The metrics as aggregate functions: `metric(label, prediction[, weight])`.
//!
//! `accuracy`, `precision`, `recall` and `f1_score` accept labels of any type that can be compared.
//! `roc_auc` and `log_loss` accept, as prediction, the result of `predict_proba` (a list of struct
//! `{label, prob}`), or one number: the score or probability of the larger of two labels. A row
//! with a NULL is left out. Without rows the result is NULL.

mod classes;
mod numbers;
mod scores;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, LargeBinaryArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use self::classes::{ClassAccumulator, Keys};
use self::numbers::NumberAccumulator;
use self::scores::ScoreAccumulator;
use super::{Confusion, LogLoss, Residuals};

/// Fields of a probability.
const LABEL: &str = "label";
const PROB: &str = "prob";

/// A metric.
#[derive(Clone, Copy, Debug)]
enum Metric {
    Class(fn(&Confusion) -> Option<f64>),
    Number(fn(&Residuals) -> Option<f64>),
    RocAuc,
    LogLoss,
}

/// Every metric as an aggregate function.
pub fn metric_functions() -> Vec<Arc<AggregateUDF>> {
    let metrics: [(&'static str, Metric); 13] = [
        ("accuracy", Metric::Class(Confusion::accuracy)),
        ("precision", Metric::Class(Confusion::precision)),
        ("recall", Metric::Class(Confusion::recall)),
        ("f1_score", Metric::Class(Confusion::f1_score)),
        ("roc_auc", Metric::RocAuc),
        ("log_loss", Metric::LogLoss),
        ("mean_absolute_error", Metric::Number(Residuals::mean_absolute_error)),
        ("mean_squared_error", Metric::Number(Residuals::mean_squared_error)),
        ("root_mean_squared_error", Metric::Number(Residuals::root_mean_squared_error)),
        ("mean_squared_log_error", Metric::Number(Residuals::mean_squared_log_error)),
        ("median_absolute_error", Metric::Number(Residuals::median_absolute_error)),
        ("r2_score", Metric::Number(Residuals::r2_score)),
        ("explained_variance", Metric::Number(Residuals::explained_variance)),
    ];
    metrics
        .into_iter()
        .map(|(name, metric)| {
            let signature = Signature::user_defined(Volatility::Immutable);
            Arc::new(AggregateUDF::from(Function { name, metric, signature }))
        })
        .collect()
}

#[derive(Debug)]
struct Function {
    name: &'static str,
    metric: Metric,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The type of a dictionary's values, or the type itself.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    }
}

/// The type of the labels in a list of probabilities, if it is one.
fn probabilities(data_type: &DataType) -> Option<&DataType> {
    let item = match data_type {
        DataType::List(item) | DataType::LargeList(item) => item,
        _ => return None,
    };
    match item.data_type() {
        DataType::Struct(fields) => {
            fields.find(PROB)?;
            fields.find(LABEL).map(|(_, field)| field.data_type())
        }
        _ => None,
    }
}

impl AggregateUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name;
        let [label, prediction, weight @ ..] = types else {
            return plan_err!(
                "{name} takes a label, a prediction and perhaps a weight, but got {} arguments",
                types.len()
            );
        };
        let mut coerced = match self.metric {
            Metric::Number(_) => {
                for (data_type, what) in [(label, "label"), (prediction, "prediction")] {
                    if !plain(data_type).is_numeric() && *data_type != DataType::Null {
                        return plan_err!(
                            "the {what} of {name} must be a number, but is {data_type}"
                        );
                    }
                }
                vec![DataType::Float64, DataType::Float64]
            }
            Metric::Class(_) => {
                let (a, b) = (plain(label), plain(prediction));
                match comparison_coercion(a, b) {
                    Some(common)
                        if a.is_numeric() == b.is_numeric() || a.is_null() || b.is_null() =>
                    {
                        vec![common.clone(), common]
                    }
                    _ => {
                        return plan_err!(
                            "the label of {name} is {label} and the prediction {prediction}: they \
                             cannot be compared"
                        );
                    }
                }
            }
            Metric::RocAuc | Metric::LogLoss => match probabilities(prediction) {
                Some(of) => {
                    let fits = plain(label).is_numeric() == of.is_numeric() || label.is_null();
                    if !fits || comparison_coercion(plain(label), of).is_none() {
                        return plan_err!(
                            "the label of {name} is {label}, but the probabilities are of {of}"
                        );
                    }
                    vec![of.clone(), prediction.clone()]
                }
                None if plain(prediction).is_numeric() || prediction.is_null() => {
                    vec![plain(label).clone(), DataType::Float64]
                }
                None => {
                    return plan_err!(
                        "the prediction of {name} must be a number or a list of struct {{label, \
                         prob}}, as predict_proba gives it, but is {prediction}"
                    );
                }
            },
        };
        match weight {
            [] => {}
            [weight] if plain(weight).is_numeric() => coerced.push(DataType::Float64),
            [weight] => return plan_err!("the weight of {name} must be a number, but is {weight}"),
            more => {
                return plan_err!(
                    "{name} takes three arguments at most, but got {}",
                    more.len() + 2
                );
            }
        }
        Ok(coerced)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format!("{}[state]", args.name);
        Ok(vec![Arc::new(Field::new(name, DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let name = self.name;
        let types: Vec<&DataType> = args.expr_fields.iter().map(|f| f.data_type()).collect();
        let (Some(label), Some(prediction)) = (types.first(), types.get(1)) else {
            return plan_err!("{name} takes a label and a prediction");
        };
        Ok(match self.metric {
            Metric::Number(metric) => {
                Box::new(NumberAccumulator { metric, residuals: Residuals::default() })
            }
            Metric::Class(metric) => Box::new(ClassAccumulator {
                metric,
                keys: Keys::new(label)?,
                confusion: Confusion::default(),
            }),
            Metric::RocAuc | Metric::LogLoss => {
                let is_list = probabilities(prediction).is_some();
                Box::new(ScoreAccumulator {
                    name,
                    is_auc: matches!(self.metric, Metric::RocAuc),
                    keys: Keys::new(label)?,
                    classes: vec![],
                    is_list,
                    rows: vec![],
                    sums: LogLoss::default(),
                })
            }
        })
    }
}

/// Weights of the rows; None for a row that is left out.
fn weights(values: &[ArrayRef]) -> impl Fn(usize) -> Option<f64> + use<'_> {
    let nulls = [values[0].logical_nulls(), values[1].logical_nulls()];
    let weight: Option<&Float64Array> = values.get(2).map(|w| w.as_primitive());
    move |row| {
        let is_null = nulls.iter().flatten().any(|nulls| nulls.is_null(row));
        match weight {
            _ if is_null => None,
            Some(weight) if weight.is_null(row) => None,
            Some(weight) => Some(weight.value(row)),
            None => Some(1.0),
        }
    }
}

/// The value of a metric; a zero has no sign.
fn value(metric: Option<f64>) -> ScalarValue {
    ScalarValue::Float64(metric.map(|value| value + 0.0))
}

/// A state of bytes, as a scalar.
fn state_of(bytes: Vec<u8>) -> Vec<ScalarValue> {
    vec![ScalarValue::LargeBinary(Some(bytes))]
}

/// The bytes of the states to merge.
fn states(values: &[ArrayRef]) -> impl Iterator<Item = &[u8]> {
    let states: Option<&LargeBinaryArray> = values.first().map(|v| v.as_binary());
    states.into_iter().flat_map(|s| s.iter().flatten())
}

fn numbers_to_bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn bytes_to_numbers(bytes: &[u8]) -> Vec<f64> {
    let word = |chunk: &[u8]| f64::from_le_bytes(<[u8; 8]>::try_from(chunk).unwrap_or_default());
    bytes.chunks_exact(8).map(word).collect()
}
