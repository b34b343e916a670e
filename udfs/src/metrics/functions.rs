//! The metrics as aggregate functions: `metric(label, prediction[, weight])`.
//!
//! `accuracy`, `precision`, `recall` and `f1_score` take labels of any type that can be compared.
//! `roc_auc` and `log_loss` take, as prediction, what `predict_proba` gives (a list of struct
//! `{label, prob}`), or one number: the score or probability of the larger of two labels. A row
//! with a NULL is left out. Without rows the result is NULL.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, LargeBinaryArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use serde::{Deserialize, Serialize};

use super::{Confusion, LogLoss, Ranking, Residuals};

/// Fields of a probability.
const LABEL: &str = "label";
const PROB: &str = "prob";

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Metric {
    Class(fn(&Confusion) -> Option<f64>),
    Number(fn(&Residuals) -> Option<f64>),
    RocAuc,
    LogLoss,
}

/// Every metric as an aggregate function.
pub fn all() -> Vec<Arc<AggregateUDF>> {
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

/// Weights of the rows; None where a row is left out.
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

/// A state that is bytes, as a scalar.
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

#[derive(Debug)]
struct NumberAccumulator {
    metric: fn(&Residuals) -> Option<f64>,
    residuals: Residuals,
}

impl Accumulator for NumberAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let label = values[0].as_primitive::<Float64Type>();
        let prediction = values[1].as_primitive::<Float64Type>();
        let weight = weights(values);
        for row in 0..label.len() {
            if let Some(weight) = weight(row) {
                self.residuals.add(label.value(row), prediction.value(row), weight);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.metric)(&self.residuals)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + 16 * self.residuals.len()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(state_of(numbers_to_bytes(&self.residuals.to_numbers())))
    }

    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for bytes in states(values) {
            match Residuals::from_numbers(&bytes_to_numbers(bytes)) {
                Some(part) => self.residuals.merge(&part),
                None => return exec_err!("the state of a metric is cut off"),
            }
        }
        Ok(())
    }
}

/// Distinct labels, by bytes that compare as they do.
#[derive(Debug)]
struct Keys {
    converter: RowConverter,
    codes: HashMap<Box<[u8]>, u32>,
    keys: Vec<Box<[u8]>>,
}

impl Keys {
    fn new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Self { converter, codes: HashMap::new(), keys: vec![] })
    }

    fn code(&mut self, key: &[u8]) -> u32 {
        if let Some(code) = self.codes.get(key) {
            return *code;
        }
        let code = self.keys.len() as u32;
        self.codes.insert(key.into(), code);
        self.keys.push(key.into());
        code
    }

    /// The code of each value; of a NULL too, so rows with one must be left out elsewhere.
    fn intern(&mut self, array: &ArrayRef) -> Result<Vec<u32>> {
        let rows = self.converter.convert_columns(std::slice::from_ref(array))?;
        Ok(rows.iter().map(|row| self.code(row.as_ref())).collect())
    }

    /// The rank of each code in the order of the labels.
    fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.keys.len()).collect();
        order.sort_by(|a, b| self.keys[*a].cmp(&self.keys[*b]));
        let mut ranks = vec![0; order.len()];
        for (rank, code) in order.into_iter().enumerate() {
            ranks[code] = rank as u32;
        }
        ranks
    }
}

#[derive(Serialize, Deserialize)]
struct ClassState {
    keys: Vec<Box<[u8]>>,
    /// Class, predicted class, weight of their rows by its bits.
    cells: Vec<(u32, u32, u64)>,
}

#[derive(Debug)]
struct ClassAccumulator {
    metric: fn(&Confusion) -> Option<f64>,
    keys: Keys,
    confusion: Confusion,
}

impl Accumulator for ClassAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (label, prediction) = (self.keys.intern(&values[0])?, self.keys.intern(&values[1])?);
        let weight = weights(values);
        for (row, (label, prediction)) in label.into_iter().zip(prediction).enumerate() {
            if let Some(weight) = weight(row) {
                self.confusion.add(label, prediction, weight);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let ranks = self.keys.ranks();
        let ordered = self.confusion.relabelled(|code| ranks[code as usize]);
        Ok(ScalarValue::Float64((self.metric)(&ordered)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + 64 * self.keys.keys.len() + 32 * self.confusion.cells().len()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let cells = self.confusion.cells().map(|((c, p), weight)| (c, p, weight.to_bits()));
        let state = ClassState { keys: self.keys.keys.clone(), cells: cells.collect() };
        match serde_json::to_vec(&state) {
            Ok(bytes) => Ok(state_of(bytes)),
            Err(error) => exec_err!("the state of a metric cannot be written: {error}"),
        }
    }

    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for bytes in states(values) {
            let state: ClassState = match serde_json::from_slice(bytes) {
                Ok(state) => state,
                Err(error) => return exec_err!("the state of a metric cannot be read: {error}"),
            };
            let codes: Vec<u32> = state.keys.iter().map(|key| self.keys.code(key)).collect();
            for (class, predicted, weight) in state.cells {
                let (c, p) = (codes[class as usize], codes[predicted as usize]);
                self.confusion.add(c, p, f64::from_bits(weight));
            }
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct ScoreState {
    keys: Vec<Box<[u8]>>,
    classes: Vec<u32>,
    sums: (u64, u64),
    rows: u64,
}

/// Rows for `roc_auc` and `log_loss`. A row is its label, its weight, and one number a class (of
/// lists) or one in all.
#[derive(Debug)]
struct ScoreAccumulator {
    name: &'static str,
    is_auc: bool,
    is_list: bool,
    keys: Keys,
    /// Of lists: the label of each number of a row.
    classes: Vec<u32>,
    rows: Vec<f64>,
    /// The log loss of lists needs no rows.
    sums: LogLoss,
}

impl ScoreAccumulator {
    fn row_len(&self) -> usize {
        2 + if self.is_list { self.classes.len() } else { 1 }
    }

    fn check(&self, score: f64) -> Result<f64> {
        if score.is_nan() {
            return exec_err!("the prediction of {} must be a number, but is NaN", self.name);
        }
        if !self.is_auc && !(0.0..=1.0).contains(&score) {
            return exec_err!(
                "the prediction of log_loss must be a probability from 0 to 1, but is {score}"
            );
        }
        Ok(score)
    }

    fn update_lists(&mut self, values: &[ArrayRef], labels: &[u32]) -> Result<()> {
        let lists: ArrayRef = match values[1].data_type() {
            DataType::LargeList(_) => Arc::clone(&values[1]),
            DataType::List(item) => cast(&values[1], &DataType::LargeList(Arc::clone(item)))?,
            other => return exec_err!("{other} is no list of probabilities"),
        };
        let lists = lists.as_list::<i64>();
        let items: &StructArray = lists.values().as_struct();
        let (Some(own), Some(probs)) = (items.column_by_name(LABEL), items.column_by_name(PROB))
        else {
            return exec_err!("the probabilities have no label or no prob");
        };
        let own = self.keys.intern(own)?;
        let probs = cast(probs, &DataType::Float64)?;
        let probs = probs.as_primitive::<Float64Type>();
        let weight = weights(values);
        for (row, label) in labels.iter().enumerate() {
            let Some(weight) = weight(row) else { continue };
            let range =
                lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
            if !self.is_auc {
                let at = range.clone().find(|at| own[*at] == *label);
                let probability = self.check(at.map_or(0.0, |at| probs.value(at)))?;
                self.sums.add(probability, weight);
                continue;
            }
            if self.classes.is_empty() {
                self.classes = own[range.clone()].to_vec();
            }
            if range.len() != self.classes.len() {
                return exec_err!(
                    "the probabilities of {} must be of the same classes in every row, but some \
                     rows have {} and some {}",
                    self.name,
                    self.classes.len(),
                    range.len()
                );
            }
            self.rows.extend([f64::from(*label), weight]);
            let start = self.rows.len();
            self.rows.resize(start + self.classes.len(), f64::NAN);
            for at in range {
                let score = self.check(probs.value(at))?;
                match self.classes.iter().position(|class| *class == own[at]) {
                    Some(class) => self.rows[start + class] = score,
                    None => {
                        return exec_err!(
                            "the probabilities of {} must be of the same classes in every row",
                            self.name
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn auc(&self, class: u32, column: usize) -> Option<f64> {
        let mut ranking = Ranking::default();
        for row in self.rows.chunks_exact(self.row_len()) {
            ranking.add(row[2 + column], row[0] as u32 == class, row[1]);
        }
        ranking.roc_auc()
    }

    /// The label whose score a single number is: the larger of those that occur.
    fn positive(&self) -> Option<u32> {
        let ranks = self.keys.ranks();
        let occurs = |code: u32| self.rows.chunks_exact(3).any(|row| row[0] as u32 == code);
        (0..ranks.len() as u32)
            .filter(|code| occurs(*code))
            .max_by_key(|code| ranks[*code as usize])
    }

    fn result(&self) -> Result<Option<f64>> {
        if !self.is_list {
            let mut seen: Vec<u32> = self.rows.chunks_exact(3).map(|row| row[0] as u32).collect();
            seen.sort_unstable();
            seen.dedup();
            if seen.len() > 2 {
                return exec_err!(
                    "{} of a single score needs two labels, but there are {}; give it the list of \
                     predict_proba",
                    self.name,
                    seen.len()
                );
            }
            let Some(positive) = self.positive().filter(|_| seen.len() == 2) else {
                return Ok(None);
            };
            if self.is_auc {
                return Ok(self.auc(positive, 0));
            }
            let mut loss = LogLoss::default();
            for row in self.rows.chunks_exact(3) {
                loss.add(if row[0] as u32 == positive { row[2] } else { 1.0 - row[2] }, row[1]);
            }
            return Ok(loss.mean());
        }
        if !self.is_auc {
            return Ok(self.sums.mean());
        }
        let ranks = self.keys.ranks();
        let mut classes: Vec<(usize, u32)> = self.classes.iter().copied().enumerate().collect();
        classes.sort_by_key(|(_, class)| ranks[*class as usize]);
        if let [_, (column, class)] = classes.as_slice() {
            return Ok(self.auc(*class, *column));
        }
        let each: Vec<f64> =
            classes.iter().filter_map(|(column, class)| self.auc(*class, *column)).collect();
        Ok((!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64))
    }
}

impl Accumulator for ScoreAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let labels = self.keys.intern(&values[0])?;
        if self.is_list {
            return self.update_lists(values, &labels);
        }
        let scores = values[1].as_primitive::<Float64Type>();
        let weight = weights(values);
        for (row, label) in labels.into_iter().enumerate() {
            if let Some(weight) = weight(row) {
                let score = self.check(scores.value(row))?;
                self.rows.extend([f64::from(label), weight, score]);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.result()?))
    }

    fn size(&self) -> usize {
        size_of_val(self) + 64 * self.keys.keys.len() + 8 * self.rows.capacity()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let header = ScoreState {
            keys: self.keys.keys.clone(),
            classes: self.classes.clone(),
            sums: (self.sums.loss.to_bits(), self.sums.weight.to_bits()),
            rows: self.rows.len() as u64,
        };
        let json = match serde_json::to_vec(&header) {
            Ok(json) => json,
            Err(error) => return exec_err!("the state of a metric cannot be written: {error}"),
        };
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&numbers_to_bytes(&self.rows));
        Ok(state_of(bytes))
    }

    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for bytes in states(values) {
            let parts = bytes
                .split_first_chunk::<8>()
                .and_then(|(len, rest)| rest.split_at_checked(u64::from_le_bytes(*len) as usize));
            let Some((json, rows)) = parts else {
                return exec_err!("the state of a metric is cut off");
            };
            let state: ScoreState = match serde_json::from_slice(json) {
                Ok(state) => state,
                Err(error) => return exec_err!("the state of a metric cannot be read: {error}"),
            };
            let codes: Vec<u32> = state.keys.iter().map(|key| self.keys.code(key)).collect();
            self.sums.merge(&LogLoss {
                loss: f64::from_bits(state.sums.0),
                weight: f64::from_bits(state.sums.1),
            });
            let classes: Vec<u32> = state.classes.iter().map(|c| codes[*c as usize]).collect();
            if self.classes.is_empty() {
                self.classes.clone_from(&classes);
            }
            let rows = bytes_to_numbers(rows);
            if rows.is_empty() {
                continue;
            }
            let places: Option<Vec<usize>> = if self.is_list {
                self.classes.iter().map(|c| classes.iter().position(|own| own == c)).collect()
            } else {
                Some(vec![0])
            };
            let Some(places) = places.filter(|p| !self.is_list || p.len() == classes.len()) else {
                return exec_err!(
                    "the probabilities of {} must be of the same classes in every row",
                    self.name
                );
            };
            for row in rows.chunks_exact(self.row_len()) {
                self.rows.extend([f64::from(codes[row[0] as usize]), row[1]]);
                self.rows.extend(places.iter().map(|place| row[2 + place]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    async fn value(sql: &str, partitions: usize) -> Result<Option<f64>> {
        let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(2);
        let context = SessionContext::new_with_config(config);
        for metric in all() {
            context.register_udaf(metric.as_ref().clone());
        }
        let batches = context.sql(sql).await?.collect().await?;
        let column = batches[0].column(0).as_primitive::<Float64Type>().clone();
        Ok(column.is_valid(0).then(|| column.value(0)))
    }

    const ROWS: &str =
        "(VALUES ('no', 'no', 0.1, 1), ('yes', 'yes', 0.9, 2), ('yes', 'no', 0.4, 1),
        ('no', 'yes', 0.6, 1), ('yes', 'yes', 0.6, 3), (NULL, 'yes', 0.5, 1)) AS t(y, p, s, w)";

    /// sklearn.metrics of y = [0,1,1,0,1], p = [0,1,0,1,1], s = [.1,.9,.4,.6,.6], also with
    /// sample_weight = [1,2,1,1,3].
    #[tokio::test]
    async fn sql_gives_the_metrics_in_any_number_of_partitions() {
        let expected = [
            ("accuracy(y, p)", 0.6),
            ("accuracy(y, p, w)", 0.75),
            ("precision(y, p)", 2.0 / 3.0),
            ("recall(y, p, w)", 5.0 / 6.0),
            ("f1_score(y, p)", 2.0 / 3.0),
            ("roc_auc(y, s)", 0.75),
            ("roc_auc(y, s, w)", (2.0 * 2.0 + 1.0 + 3.0 * 1.5) / 12.0),
            (
                "log_loss(y, s)",
                -(0.9f64.ln() + 0.9f64.ln() + 0.4f64.ln() + 0.4f64.ln() + 0.6f64.ln()) / 5.0,
            ),
            ("mean_absolute_error(w, w + 1)", 1.0),
            ("root_mean_squared_error(w, w + 2)", 2.0),
        ];
        for (call, wanted) in expected {
            for partitions in [1, 4] {
                let sql = format!("SELECT {call} FROM {ROWS}");
                let got = value(&sql, partitions).await.unwrap().unwrap();
                assert!((got - wanted).abs() < 1e-12, "{call}: {got} {wanted}");
            }
        }
    }

    #[tokio::test]
    async fn lists_of_probabilities_are_taken_in_any_order() {
        let item = |l: &str, p: f64| format!("named_struct('label', '{l}', 'prob', {p})");
        let list = |a, pa, b, pb| format!("make_array({}, {})", item(a, pa), item(b, pb));
        let rows = format!(
            "(SELECT 'no' AS y, {} AS p UNION ALL SELECT 'yes', {} UNION ALL SELECT 'yes', {}
              UNION ALL SELECT 'no', {})",
            list("no", 0.9, "yes", 0.1),
            list("yes", 0.8, "no", 0.2),
            list("no", 0.6, "yes", 0.4),
            list("yes", 0.6, "no", 0.4),
        );
        let loss = -(0.9f64.ln() + 0.8f64.ln() + 0.4f64.ln() + 0.4f64.ln()) / 4.0;
        for partitions in [1, 4] {
            let auc = value(&format!("SELECT roc_auc(y, p) FROM {rows}"), partitions).await;
            assert_eq!(auc.unwrap(), Some(0.75));
            let got = value(&format!("SELECT log_loss(y, p) FROM {rows}"), partitions).await;
            assert!((got.unwrap().unwrap() - loss).abs() < 1e-12);
        }
    }

    #[tokio::test]
    async fn no_rows_and_one_class_give_null() {
        for call in ["accuracy(y, p)", "roc_auc(y, s)", "log_loss(y, s)", "r2_score(w, w)"] {
            let sql = format!("SELECT {call} FROM {ROWS} WHERE w > 10");
            assert_eq!(value(&sql, 1).await.unwrap(), None, "{call}");
        }
        let sql = format!("SELECT roc_auc(y, s) FROM {ROWS} WHERE y = 'yes'");
        assert_eq!(value(&sql, 1).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_cannot_be_measured_is_refused_in_one_sentence() {
        for (call, expected) in [
            ("accuracy(y)", "takes a label, a prediction"),
            ("accuracy(y, s)", "cannot be compared"),
            ("r2_score(y, s)", "label of r2_score must be a number"),
            ("roc_auc(y, p)", "must be a number or a list of struct"),
            ("roc_auc(y, s / 0.0 * 0.0)", "is NaN"),
            ("log_loss(y, s + 3)", "a probability from 0 to 1, but is 3.1"),
            ("roc_auc(s, s)", "needs two labels"),
            ("accuracy(y, p, y)", "weight of accuracy must be a number"),
        ] {
            let error = value(&format!("SELECT {call} FROM {ROWS}"), 1).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{call}: {error}");
        }
    }
}
