//! A model ready to predict: PREDICT and `predict(...)` run it over whole batches.

mod latest;
mod network;
mod parts;
mod quantiles;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt32Array};
use arrow::compute::{cast, interleave, is_null, nullif, take};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, exec_err, internal_err};

pub use self::latest::{LatestScorer, MODEL_ROWS, MODEL_VERSION};
pub(crate) use self::network::NetworkPredictor;
pub(crate) use self::parts::{OutputParts, head_fields};

use crate::batch::{MiniBatch, Width};
use crate::description::{Measure, Predictor};
use crate::encoder::{Column, Encoder, Input, flatten_columns, flatten_fields};
use crate::model::{Labels, Member, Model};

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
    /// Quantiles with their values, ascending.
    pub const QUANTILES: &str = "quantiles";
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
    scores: Vec<f32>,
    numbers: Vec<f64>,
}

impl Workspace {
    fn values(&self) -> usize {
        let Self { dense, codes, scores, numbers } = self;
        dense.capacity() + codes.capacity() + scores.capacity() + numbers.capacity()
    }
}

/// The first `n` values, whatever their contents.
fn first<T: Copy + Default>(values: &mut Vec<T>, n: usize) -> &mut [T] {
    if values.len() < n {
        values.resize(n, T::default());
    }
    &mut values[..n]
}

/// One trained member.
#[derive(Debug)]
struct Ready {
    encoder: Encoder,
    predictor: Box<dyn Predictor>,
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
            let wanted = trained.description.layout(trained.encoder.width()).len();
            if wanted != trained.parameters.len() {
                return exec_err!(
                    "model {} has {} parameters, but its layers need {wanted}",
                    model.name,
                    trained.parameters.len()
                );
            }
            let predictor = trained.description.predictor(trained)?;
            members.push(Some(Ready { encoder: trained.encoder.clone(), predictor }));
        }
        let dispatch = match model.partition_by.as_slice() {
            [] => None,
            columns => Some(Dispatch::new(columns, &model)?),
        };
        // (Principal components may be more in one member than in another: the widest decides.)
        let trained = model.members.iter().filter_map(|member| member.outcome.as_deref().ok());
        let fields = trained.map(|trained| trained.description.fields(&model.targets));
        let fields = fields.reduce(|a, b| if b.len() > a.len() { b } else { a });
        let fields = fields.unwrap_or_default();
        let fields = Fields::from(fields);
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
        let mut trained = self.model.members.iter().filter_map(|m| m.outcome.as_deref().ok());
        match &trained.next()?.labels {
            Labels::Classes(classes) => Some(classes.len()),
            _ => None,
        }
    }

    /// Whether predictions have probabilities.
    pub fn has_probabilities(&self) -> bool {
        let mut trained = self.model.members.iter().filter_map(|m| m.outcome.as_deref().ok());
        let head = trained.next().and_then(|trained| trained.description.head());
        head.is_some_and(|head| head.loss.has_probabilities())
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
            member.encoder.check(given)?;
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

    /// Sums for the metrics of each member that was trained, over no rows.
    ///
    /// # Errors
    /// When the metrics of the model compare predictions with a target.
    pub fn measures(&self) -> Result<Vec<Option<Box<dyn Measure>>>> {
        let of_member = |member: &Member| match &member.outcome {
            Ok(trained) => {
                let width = Width { targets: 0, ..trained.encoder.width() };
                match trained.description.measure(&trained.parameters, width)? {
                    Some(measure) => Ok(Some(measure)),
                    None => internal_err!("model {} has a target", self.model.name),
                }
            }
            Err(_) => Ok(None),
        };
        self.model.members.iter().map(of_member).collect()
    }

    /// Adds rows with their weights to the sums of their members: `columns` as in
    /// [`Scorer::score`].
    ///
    /// # Errors
    /// See [`Scorer::score`].
    pub fn measure(
        &self,
        measures: &mut [Option<Box<dyn Measure>>],
        columns: &[ArrayRef],
        weight: &[f32],
    ) -> Result<()> {
        let inputs = self.model.inputs.len();
        let features = flatten_columns(&columns[..inputs], &self.inputs)?;
        let Some(dispatch) = &self.dispatch else {
            return match (self.members.first(), measures.first_mut()) {
                (Some(Some(ready)), Some(Some(sums))) => ready.measure(sums, &features, weight),
                _ => exec_err!("model {} was not trained", self.model.name),
            };
        };
        let mut rows_of: Vec<Vec<u32>> = vec![vec![]; self.members.len()];
        for (row, member) in dispatch.members(&columns[inputs..])?.into_iter().enumerate() {
            if let Some(member) = member {
                rows_of[member].push(row as u32);
            }
        }
        for ((ready, sums), rows) in self.members.iter().zip(measures).zip(rows_of) {
            let (Some(ready), Some(sums), false) = (ready, sums, rows.is_empty()) else { continue };
            let weight: Vec<f32> = rows.iter().map(|row| weight[*row as usize]).collect();
            let rows = UInt32Array::from(rows);
            let own: Vec<ArrayRef> = features
                .iter()
                .map(|column| take(column, &rows, None))
                .collect::<Result<_, _>>()?;
            ready.measure(sums, &own, &weight)?;
        }
        Ok(())
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
        let Ready { encoder, predictor } = ready;
        let (width, outputs) = (encoder.width(), predictor.outputs());
        let mut scratch = predictor.scratch(SCORED.min(rows));
        let scores = first(&mut own.scores, rows * outputs);
        for start in (0..rows).step_by(BLOCK) {
            let n = BLOCK.min(rows - start);
            let block: Vec<ArrayRef> = features.iter().map(|f| f.slice(start, n)).collect();
            let columns: Vec<Column> = block.iter().map(Column::Array).collect();
            let dense = first(&mut own.dense, n * width.dense);
            let codes = first(&mut own.codes, n * width.columns);
            encoder.encode(&columns, n, dense, codes)?;
            let batch = MiniBatch { rows: n, dense, codes, ..MiniBatch::default() };
            let out = &mut scores[start * outputs..(start + n) * outputs];
            predictor.scores(&batch, &mut scratch, out);
        }
        let parts = predictor.parts(scores, &self.fields, threshold, &mut own.numbers)?;
        Ok(StructArray::try_new(self.fields.clone(), parts, None)?)
    }
}

impl Ready {
    /// Adds rows to sums for metrics.
    fn measure(
        &self,
        sums: &mut Box<dyn Measure>,
        features: &[ArrayRef],
        weight: &[f32],
    ) -> Result<()> {
        let width = self.encoder.width();
        let (mut dense, mut codes) = (vec![], vec![]);
        for start in (0..weight.len()).step_by(BLOCK) {
            let rows = BLOCK.min(weight.len() - start);
            let block: Vec<ArrayRef> = features.iter().map(|f| f.slice(start, rows)).collect();
            let columns: Vec<Column> = block.iter().map(Column::Array).collect();
            let dense = first(&mut dense, rows * width.dense);
            let codes = first(&mut codes, rows * width.columns);
            self.encoder.encode(&columns, rows, dense, codes)?;
            let weight = &weight[start..start + rows];
            sums.update(&MiniBatch { rows, dense, codes, weight, ..MiniBatch::default() })?;
        }
        Ok(())
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

#[cfg(test)]
mod tests;
