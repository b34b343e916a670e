//! A model ready to predict: PREDICT and `predict(...)` run it over whole batches.

mod classes;
mod latest;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StructArray, UInt32Array};
use arrow::compute::{cast, interleave, is_null, nullif, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err};

pub use self::latest::{LatestScorer, MODEL_ROWS, MODEL_VERSION};

use crate::batch::MiniBatch;
use crate::encoder::{Column, Input, flatten_columns, flatten_fields};
use crate::learner::{Learner, Scoring, probabilities};
use crate::model::{Labels, Model, Trained};

/// Rows that are encoded at a time: they stay in the L2 cache until they are scored.
const BLOCK: usize = 2048;
/// Rows that are scored at a time: the values of the hidden layers stay in the cache.
const SCORED: usize = 256;

/// Values of a pooled workspace at most. A workspace for many hundred inputs or classes would take
/// much memory, and clearing it takes a small part of the time of scoring.
const KEPT: usize = 1 << 20;

/// The name of the struct field (and output column) of a prediction's parts.
pub mod prediction_parts {
    /// The prediction, of the target's type.
    pub const LABEL: &str = "label";
    /// Classes with their probabilities, most probable first.
    pub const PROBABILITIES: &str = "probs";
    /// The raw score of a model without probabilities.
    pub const SCORE: &str = "score";
}

/// A model ready to predict.
#[derive(Debug)]
pub struct Scorer {
    model: Arc<Model>,
    inputs: Vec<Input>,
    members: Vec<Option<Ready>>,
    dispatch: Option<Dispatch>,
    unseen: AtomicU64,
    fields: Fields,
    /// Pooled workspaces for later batches: one for each batch that was scored at the same time.
    spare: Mutex<Vec<Workspace>>,
}

/// The buffers between the columns of a batch and its prediction. Clearing new memory for each
/// batch took a fiftieth of the time of 28-64-32-1.
#[derive(Debug, Default)]
struct Workspace {
    dense: Vec<f32>,
    codes: Vec<u32>,
    logits: Vec<f32>,
    probs: Vec<f64>,
}

impl Workspace {
    fn values(&self) -> usize {
        let Self { dense, codes, logits, probs } = self;
        dense.capacity() + codes.capacity() + logits.capacity() + probs.capacity()
    }
}

/// The first `n` values, whatever their contents.
fn first<T: Copy + Default>(values: &mut Vec<T>, n: usize) -> &mut [T] {
    if values.len() < n {
        values.resize(n, T::default());
    }
    &mut values[..n]
}

/// One trained member: its network in the layout that scoring reads, and its classes as an array.
#[derive(Debug)]
struct Ready {
    trained: Trained,
    scoring: Scoring,
    outputs: usize,
    classes: Option<ArrayRef>,
}

/// A map from the values of the partition columns to the member.
#[derive(Debug)]
struct Dispatch {
    converter: RowConverter,
    types: Vec<DataType>,
    members: HashMap<Box<[u8]>, usize>,
}

impl Scorer {
    /// Prepares a model.
    ///
    /// # Errors
    /// When its parts do not fit together.
    pub fn new(model: Arc<Model>) -> Result<Self> {
        let fields: Vec<Field> =
            model.inputs.iter().map(|(n, t)| Field::new(n, t.clone(), true)).collect();
        let inputs = flatten_fields(&Fields::from(fields))?;
        let mut members = Vec::with_capacity(model.members.len());
        for member in &model.members {
            let Ok(trained) = &member.outcome else {
                members.push(None);
                continue;
            };
            let network = trained.network.network(trained.encoder.width());
            if network.layout().len() != trained.parameters.len() {
                return exec_err!(
                    "model {} has {} parameters, but its layers need {}",
                    model.name,
                    trained.parameters.len(),
                    network.layout().len()
                );
            }
            let classes = match &trained.labels {
                Labels::Numbers { .. } => None,
                Labels::Classes(classes) => {
                    Some(ScalarValue::iter_to_array(classes.iter().cloned())?)
                }
            };
            let trained = trained.as_ref().clone();
            let scoring = Scoring::new(&network, &trained.parameters);
            members.push(Some(Ready { trained, scoring, outputs: network.outputs(), classes }));
        }
        let dispatch = match model.partition_by.as_slice() {
            [] => None,
            columns => Some(Dispatch::new(columns, &model)?),
        };
        let fields = output_fields(&model, &members);
        let (unseen, spare) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { model, inputs, members, dispatch, unseen, fields, spare })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Arguments of a prediction in order: the model's inputs, then its partition columns.
    pub fn arguments(&self) -> impl Iterator<Item = &(String, DataType)> {
        self.model.inputs.iter().chain(&self.model.partition_by)
    }

    /// The parts of a prediction: `label`, then `probs` or `score` if the model has them.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Number of classes of a classifier (of its first trained member).
    pub fn classes(&self) -> Option<usize> {
        let ready = self.members.iter().flatten().next()?;
        ready.classes.as_ref().map(|classes| classes.len())
    }

    /// Whether there were rows without a trained member.
    pub fn has_unseen(&self) -> bool {
        self.unseen.load(Ordering::Relaxed) > 0
    }

    /// Returns the number of rows without a trained member, and resets it.
    pub fn take_unseen(&self) -> u64 {
        self.unseen.swap(0, Ordering::Relaxed)
    }

    /// Refuses argument types that the model cannot take.
    pub fn check(&self, types: &[DataType]) -> Result<()> {
        let names: Vec<_> = self.arguments().map(|(name, _)| name.as_str()).collect();
        if types.len() != names.len() {
            return exec_err!(
                "model {} takes {} arguments ({}), but got {}",
                self.model.name,
                names.len(),
                names.join(", "),
                types.len()
            );
        }
        let given: Vec<Field> = names
            .iter()
            .zip(types)
            .take(self.model.inputs.len())
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), true))
            .collect();
        let given = flatten_fields(&Fields::from(given))?;
        for member in self.members.iter().flatten().take(1) {
            let given = given.iter().map(|i| (i.name.as_str(), &i.data_type));
            member.trained.encoder.check(given)?;
        }
        Ok(())
    }

    /// The parts of the predictions of a batch, see [`Scorer::score`], in the order of
    /// [`Scorer::fields`].
    ///
    /// # Errors
    /// See [`Scorer::score`].
    pub fn predict(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        threshold: f64,
    ) -> Result<Vec<ArrayRef>> {
        let scored = self.score(columns, rows, threshold)?;
        if scored.null_count() == 0 {
            return Ok(scored.into_parts().1);
        }
        // A row that is NULL as a whole is NULL in every part.
        let nulls = is_null(&scored)?;
        let parts = scored.columns().iter();
        parts.map(|part| nullif(part, &nulls).map_err(Into::into)).collect()
    }

    /// Predicts a batch: `columns` in the order of [`Scorer::arguments`], all of `rows` rows. The
    /// result has the fields of [`Scorer::fields`]; rows without a trained member are NULL.
    /// `threshold` is the probability above which the larger of two classes is predicted.
    pub fn score(&self, columns: &[ArrayRef], rows: usize, threshold: f64) -> Result<StructArray> {
        let inputs = self.model.inputs.len();
        if columns.len() != inputs + self.model.partition_by.len() {
            return internal_err!("a prediction got {} columns", columns.len());
        }
        let features = flatten_columns(&columns[..inputs], &self.inputs)?;
        let Some(dispatch) = &self.dispatch else {
            return match self.members.first() {
                Some(Some(ready)) => self.score_member(ready, &features, rows, threshold),
                _ => exec_err!("model {} was not trained", self.model.name),
            };
        };
        // The rows of each member are gathered, scored, and returned in their original order.
        let members = dispatch.members(&columns[inputs..])?;
        let mut rows_of: Vec<Vec<u32>> = vec![vec![]; self.members.len()];
        let nulls = StructArray::new_null(self.fields.clone(), 1);
        let mut places = vec![(0usize, 0usize); rows];
        let mut unseen = 0;
        for (row, member) in members.iter().enumerate() {
            match member {
                Some(m) if self.members[*m].is_some() => rows_of[*m].push(row as u32),
                _ => unseen += 1,
            }
        }
        self.unseen.fetch_add(unseen, Ordering::Relaxed);
        let mut pieces: Vec<ArrayRef> = vec![Arc::new(nulls)];
        for (ready, own) in self.members.iter().zip(rows_of) {
            let Some(ready) = ready.as_ref().filter(|_| !own.is_empty()) else { continue };
            for (i, row) in own.iter().enumerate() {
                places[*row as usize] = (pieces.len(), i);
            }
            let indices = UInt32Array::from(own);
            let own: Vec<ArrayRef> = features
                .iter()
                .map(|column| take(column, &indices, None))
                .collect::<Result<_, _>>()?;
            pieces.push(Arc::new(self.score_member(ready, &own, indices.len(), threshold)?));
        }
        let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&pieces, &places)?.as_struct().clone())
    }

    /// Predicts rows that all belong to one member.
    fn score_member(
        &self,
        ready: &Ready,
        features: &[ArrayRef],
        rows: usize,
        threshold: f64,
    ) -> Result<StructArray> {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let own = spare().pop();
        let mut own = own.unwrap_or_default();
        let scored = self.score_in(&mut own, ready, features, rows, threshold);
        if own.values() <= KEPT {
            spare().push(own);
        }
        scored
    }

    /// The same in a workspace.
    fn score_in(
        &self,
        own: &mut Workspace,
        ready: &Ready,
        features: &[ArrayRef],
        rows: usize,
        threshold: f64,
    ) -> Result<StructArray> {
        let Ready { trained, scoring, outputs, classes } = ready;
        let width = trained.encoder.width();
        let outputs = *outputs;
        let mut scratch = scoring.scratch(SCORED.min(rows));
        let logits = first(&mut own.logits, rows * outputs);
        for start in (0..rows).step_by(BLOCK) {
            let n = BLOCK.min(rows - start);
            let block: Vec<ArrayRef> = features.iter().map(|f| f.slice(start, n)).collect();
            let columns: Vec<Column> = block.iter().map(Column::Array).collect();
            let dense = first(&mut own.dense, n * width.dense);
            let codes = first(&mut own.codes, n * width.columns);
            trained.encoder.encode(&columns, n, dense, codes)?;
            let batch = MiniBatch { rows: n, dense, codes, ..MiniBatch::default() };
            let out = &mut logits[start * outputs..(start + n) * outputs];
            scoring.scores(&trained.parameters, &batch, &mut scratch, out);
        }
        let loss = trained.network.loss;
        match (&trained.labels, classes) {
            (Labels::Classes(_), Some(classes)) if loss.has_probabilities() => {
                let k = classes.len();
                let probs = first(&mut own.probs, rows * k);
                probabilities(loss, logits, outputs, probs);
                self.decide(probs, k, classes, threshold)
            }
            (Labels::Classes(_), Some(classes)) => self.margins(logits, outputs, classes),
            (Labels::Numbers { mean, stddev }, _) => {
                let exponential = loss.is_log_link();
                let values = logits.iter().map(|z| {
                    let z = f64::from(*z);
                    if exponential { z.exp() } else { mean + stddev * z }
                });
                let values: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
                let label = cast(&values, self.fields[0].data_type())?;
                Ok(StructArray::try_new(self.fields.clone(), vec![label], None)?)
            }
            (Labels::Classes(_), None) => internal_err!("a classifier without classes"),
        }
    }
}

impl Dispatch {
    fn new(columns: &[(String, DataType)], model: &Model) -> Result<Self> {
        let types: Vec<DataType> = columns.iter().map(|(_, t)| t.clone()).collect();
        let converter =
            RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
        let mut members = HashMap::new();
        for (i, member) in model.members.iter().enumerate() {
            let key: Vec<ArrayRef> = member
                .key
                .iter()
                .zip(&types)
                .map(|(value, t)| Ok(cast(&value.to_array()?, t)?))
                .collect::<Result<_>>()?;
            members.insert(converter.convert_columns(&key)?.row(0).as_ref().into(), i);
        }
        Ok(Self { converter, types, members })
    }

    /// The member of each row.
    fn members(&self, columns: &[ArrayRef]) -> Result<Vec<Option<usize>>> {
        let columns: Vec<ArrayRef> = columns
            .iter()
            .zip(&self.types)
            .map(|(column, t)| Ok(cast(column, t)?))
            .collect::<Result<_>>()?;
        let rows = self.converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| self.members.get::<[u8]>(row.as_ref()).copied()).collect())
    }
}

/// The type of a prediction: the target's. For a target of whole numbers or decimals it is a float,
/// since rounding would only make predictions worse.
fn label_type(model: &Model) -> DataType {
    match &model.target.data_type {
        t if model.algorithm.is_classifier() => class_type(t),
        t @ (DataType::Float16 | DataType::Float32 | DataType::Float64) => t.clone(),
        _ => DataType::Float64,
    }
}

/// Classes are stored as plain values: for a dictionary of strings, predictions are strings.
fn class_type(target: &DataType) -> DataType {
    match target {
        DataType::Dictionary(_, value) => class_type(value),
        other => other.clone(),
    }
}

/// The fields of a prediction.
fn output_fields(model: &Model, members: &[Option<Ready>]) -> Fields {
    let label = label_type(model);
    let mut fields = vec![Field::new(prediction_parts::LABEL, label.clone(), true)];
    let any = members.iter().flatten().next();
    if let (Some(ready), true) = (any, model.algorithm.is_classifier()) {
        if ready.trained.network.loss.has_probabilities() {
            fields.push(Field::new(
                prediction_parts::PROBABILITIES,
                probabilities_type(label),
                true,
            ));
        } else {
            fields.push(Field::new(prediction_parts::SCORE, DataType::Float64, true));
        }
    }
    Fields::from(fields)
}

/// `List<Struct<label, prob>>`.
pub fn probabilities_type(label: DataType) -> DataType {
    let pair = Fields::from(vec![
        Field::new("label", label, true),
        Field::new("prob", DataType::Float64, false),
    ]);
    let item: FieldRef = Arc::new(Field::new_list_field(DataType::Struct(pair), true));
    DataType::List(item)
}

#[cfg(test)]
mod tests;
