//! The prediction of a network: from raw outputs to numbers, or to classes with their probabilities
//! or margins.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, Float64Array, ListArray, StructArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::{Result, ScalarValue, internal_err};

use super::{prediction_parts, quantiles};
use crate::batch::MiniBatch;
use crate::description::Predictor;
use crate::learner::{Learner, Loss, Scoring, ScoringScratch, probabilities};
use crate::model::{LabelScale, Labels, NetworkSpec, Target, Trained};

/// A trained network, ready to predict.
#[derive(Debug)]
pub struct NetworkPredictor {
    scoring: Scoring,
    parameters: Vec<f32>,
    outputs: usize,
    loss: Loss,
    quantiles: Vec<f64>,
    /// The output that predicts the target, where there are quantiles.
    central: Option<usize>,
    labels: Labels,
    /// The classes as an array.
    classes: Option<ArrayRef>,
}

impl NetworkPredictor {
    /// For a member with this network.
    ///
    /// # Errors
    /// When classes are of different types.
    pub fn new(spec: &NetworkSpec, trained: &Trained) -> Result<Self> {
        let network = spec.network(trained.encoder.width());
        let classes = match &trained.labels {
            Labels::Classes(classes) => Some(ScalarValue::iter_to_array(classes.iter().cloned())?),
            _ => None,
        };
        Ok(Self {
            scoring: Scoring::new(&network, &trained.parameters),
            parameters: trained.parameters.clone(),
            outputs: network.outputs(),
            loss: spec.loss,
            quantiles: spec.quantiles.clone(),
            central: spec.central_output(),
            labels: trained.labels.clone(),
            classes,
        })
    }
}

impl Predictor for NetworkPredictor {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn scratch(&self, rows: usize) -> ScoringScratch {
        self.scoring.scratch(rows)
    }

    fn scores(&self, rows: &MiniBatch<'_>, scratch: &mut ScoringScratch, out: &mut [f32]) {
        self.scoring.scores(&self.parameters, rows, scratch, out);
    }

    fn parts(
        &self,
        scores: &[f32],
        fields: &Fields,
        threshold: f64,
        spare: &mut Vec<f64>,
    ) -> Result<Vec<ArrayRef>> {
        if let (Some(central), Labels::Numbers(scales)) = (self.central, &self.labels) {
            let scale = scales.first().copied().unwrap_or(LabelScale::NONE);
            return quantiles::parts(&self.quantiles, central, scores, scale, fields);
        }
        match (&self.labels, &self.classes) {
            (Labels::Classes(_), Some(classes)) if self.loss.has_probabilities() => {
                let (k, rows) = (classes.len(), scores.len() / self.outputs);
                let probs = super::first(spare, rows * k);
                probabilities(self.loss, scores, self.outputs, probs);
                decide(probs, k, classes, fields, threshold)
            }
            (Labels::Classes(_), Some(classes)) => margins(scores, self.outputs, classes),
            (Labels::Numbers(scales), _) => numbers(self.loss, scores, scales, fields),
            (Labels::Classes(_), None) => internal_err!("a classifier without classes"),
            (Labels::None, _) => internal_err!("a network without a target"),
        }
    }
}

/// The predictions of numbers from raw outputs `[rows, outputs]`.
fn numbers(
    loss: Loss,
    scores: &[f32],
    scales: &[LabelScale],
    fields: &Fields,
) -> Result<Vec<ArrayRef>> {
    let (outputs, exponential) = (scales.len(), loss.is_log_link());
    let part = |output: usize| {
        let LabelScale { mean, stddev } = scales[output];
        let values = scores.iter().skip(output).step_by(outputs).map(|z| {
            let z = f64::from(*z);
            if exponential { z.exp() } else { mean + stddev * z }
        });
        Float64Array::from_iter_values(values)
    };
    let values: Vec<Float64Array> = (0..outputs).map(part).collect();
    let mut values = values.into_iter();
    let mut parts = vec![];
    for field in fields {
        parts.push(match field.data_type() {
            DataType::FixedSizeList(item, n) => {
                let own: Vec<Float64Array> = values.by_ref().take(*n as usize).collect();
                let rows = own.first().map_or(0, |own| own.len());
                let flat = (0..rows).flat_map(|row| own.iter().map(move |own| own.value(row)));
                let flat: ArrayRef = Arc::new(Float64Array::from_iter_values(flat));
                let flat = cast(&flat, item.data_type())?;
                Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *n, flat, None)?) as ArrayRef
            }
            data_type => match values.next() {
                Some(values) => cast(&values, data_type)?,
                None => return internal_err!("there are more targets than outputs"),
            },
        });
    }
    Ok(parts)
}

/// The parts of the prediction of a network: those of its one target, or one for
/// each of several targets, with its name.
pub fn network_fields(spec: &NetworkSpec, targets: &[Target]) -> Vec<Field> {
    let loss = spec.loss;
    let target = match targets {
        [target] => &target.data_type,
        targets => {
            let field = |target: &Target| {
                Field::new(&target.name, label_type(loss, &target.data_type), true)
            };
            return targets.iter().map(field).collect();
        }
    };
    if !spec.quantiles.is_empty() {
        return quantiles::fields(label_type(loss, target));
    }
    if let DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) = target {
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let vector = DataType::FixedSizeList(item, spec.outputs as i32);
        return vec![Field::new(prediction_parts::LABEL, vector, true)];
    }
    let label = label_type(loss, target);
    let mut fields = vec![Field::new(prediction_parts::LABEL, label.clone(), true)];
    if loss.has_probabilities() {
        fields.push(Field::new(prediction_parts::PROBABILITIES, probabilities_type(label), true));
    } else if loss.is_of_classes() {
        fields.push(Field::new(prediction_parts::SCORE, DataType::Float64, true));
    }
    fields
}

/// The type of a prediction: the target's. For a target of whole numbers or decimals it is a float,
/// since rounding would only make predictions worse.
fn label_type(loss: Loss, target: &DataType) -> DataType {
    match target {
        t if loss.is_of_classes() => class_type(t),
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

/// `List<Struct<label, prob>>`.
fn probabilities_type(label: DataType) -> DataType {
    let pair = Fields::from(vec![
        Field::new("label", label, true),
        Field::new("prob", DataType::Float64, false),
    ]);
    let item: FieldRef = Arc::new(Field::new_list_field(DataType::Struct(pair), true));
    DataType::List(item)
}

/// The prediction of classes from their probabilities `[rows, k]`.
fn decide(
    probs: &[f64],
    k: usize,
    classes: &ArrayRef,
    fields: &Fields,
    threshold: f64,
) -> Result<Vec<ArrayRef>> {
    let rows = probs.len() / k;
    let (best, order, sorted) = match k {
        2 => decide_of_two(probs, threshold),
        _ => decide_of_many(probs, k),
    };
    let label = take(classes, &UInt32Array::from(best), None)?;
    let of_probs = take(classes, &UInt32Array::from(order), None)?;
    let DataType::List(item) = fields[1].data_type() else {
        return internal_err!("probabilities must be a list");
    };
    let DataType::Struct(pair) = item.data_type() else {
        return internal_err!("probabilities must be a list of struct");
    };
    let pairs = StructArray::try_new(
        pair.clone(),
        vec![of_probs, Arc::new(Float64Array::from(sorted))],
        None,
    )?;
    let list = ListArray::try_new(
        Arc::clone(item),
        OffsetBuffer::from_repeated_length(k, rows),
        Arc::new(pairs),
        None,
    )?;
    Ok(vec![label, Arc::new(list)])
}

/// The prediction of a support vector machine from its margins `[rows, outputs]`.
fn margins(scores: &[f32], outputs: usize, classes: &ArrayRef) -> Result<Vec<ArrayRef>> {
    let mut best = Vec::with_capacity(scores.len() / outputs);
    let mut margin = Vec::with_capacity(best.capacity());
    for row in scores.chunks_exact(outputs) {
        if let [score] = row {
            best.push(u32::from(*score > 0.0));
            margin.push(f64::from(*score));
        } else {
            let (mut class, mut top) = (0, f32::NEG_INFINITY);
            for (i, score) in row.iter().enumerate() {
                if *score > top {
                    (class, top) = (i, *score);
                }
            }
            best.push(class as u32);
            margin.push(f64::from(top));
        }
    }
    let label = take(classes, &UInt32Array::from(best), None)?;
    Ok(vec![label, Arc::new(Float64Array::from(margin))])
}

/// The predicted class of each row, and its classes and probabilities in descending order.
type Decided = (Vec<u32>, Vec<u32>, Vec<f64>);

/// The case of two classes, which is common and needs no sort.
fn decide_of_two(probs: &[f64], threshold: f64) -> Decided {
    let (pairs, _) = probs.as_chunks::<2>();
    let mut best = vec![0; pairs.len()];
    let mut order = vec![[0; 2]; pairs.len()];
    let mut sorted = vec![[0.0; 2]; pairs.len()];
    let rows = best.iter_mut().zip(&mut order).zip(&mut sorted).zip(pairs);
    for (((best, order), sorted), [negative, positive]) in rows {
        *best = u32::from(*positive > threshold);
        let is_positive = positive > negative;
        *order = [u32::from(is_positive), u32::from(!is_positive)];
        *sorted = if is_positive { [*positive, *negative] } else { [*negative, *positive] };
    }
    (best, order.into_flattened(), sorted.into_flattened())
}

fn decide_of_many(probs: &[f64], k: usize) -> Decided {
    let mut best = Vec::with_capacity(probs.len() / k);
    let mut order: Vec<u32> = Vec::with_capacity(probs.len());
    let mut sorted = Vec::with_capacity(probs.len());
    for row in probs.chunks_exact(k) {
        let begin = order.len();
        order.extend(0..k as u32);
        let own = &mut order[begin..];
        own.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
        sorted.extend(own.iter().map(|class| row[*class as usize]));
        best.push(own.first().copied().unwrap_or(0));
    }
    (best, order, sorted)
}
