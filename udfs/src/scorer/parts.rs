//! From raw outputs to the parts of a prediction: numbers, or classes with their probabilities or
//! margins.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float64Array, ListArray, StructArray,
    UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::{Result, ScalarValue, internal_err};

use super::{prediction_parts, quantiles};
use crate::description::Head;
use crate::learner::{Loss, probabilities};
use crate::model::{LabelScale, Labels, Target};

/// What makes the parts of a prediction of raw outputs.
#[derive(Debug)]
pub struct OutputParts {
    outputs: usize,
    loss: Loss,
    quantiles: Vec<f64>,
    /// The output that predicts the target, where there are quantiles.
    central: Option<usize>,
    labels: Labels,
    /// The classes as an array.
    classes: Option<ArrayRef>,
}

impl OutputParts {
    /// For outputs that were learned with these labels.
    ///
    /// # Errors
    /// When classes are of different types.
    pub fn new(head: Head<'_>, labels: &Labels) -> Result<Self> {
        let classes = match labels {
            Labels::Classes(classes) => Some(ScalarValue::iter_to_array(classes.iter().cloned())?),
            _ => None,
        };
        Ok(Self {
            outputs: head.outputs,
            loss: head.loss,
            quantiles: head.quantiles.to_vec(),
            central: head.central_output(),
            labels: labels.clone(),
            classes,
        })
    }

    /// See [`Predictor::parts`](crate::description::Predictor::parts).
    ///
    /// # Errors
    /// When a part cannot have the type of its field.
    pub fn parts(
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
            (Labels::Numbers(_), _) if self.loss.is_of_classes() => {
                booleans(scores, self.outputs, fields, threshold)
            }
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

/// The parts of a prediction: those of its one target, or one for each of several
/// targets, with its name; of booleans, their probabilities follow.
pub fn head_fields(head: Head<'_>, targets: &[Target]) -> Vec<Field> {
    let Head { loss, quantiles: levels, outputs } = head;
    let target = match targets {
        [target] => &target.data_type,
        targets => {
            let field = |target: &Target| {
                Field::new(&target.name, label_type(loss, &target.data_type), true)
            };
            let labels = targets.iter().map(field);
            if !loss.is_of_classes() {
                return labels.collect();
            }
            let probabilities = targets.iter().map(|target| {
                let name = format!("{}_{}", target.name, prediction_parts::PROBABILITIES);
                Field::new(name, probabilities_type(DataType::Boolean), true)
            });
            return labels.chain(probabilities).collect();
        }
    };
    if !levels.is_empty() {
        return quantiles::fields(label_type(loss, target));
    }
    if let DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) = target {
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let vector = DataType::FixedSizeList(item, outputs as i32);
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

/// The prediction of several booleans from their logits `[rows, k]`.
fn booleans(scores: &[f32], k: usize, fields: &Fields, threshold: f64) -> Result<Vec<ArrayRef>> {
    let classes: ArrayRef = Arc::new(BooleanArray::from(vec![false, true]));
    let (mut labels, mut probabilities_of) = (vec![], vec![]);
    for output in 0..k {
        let logits: Vec<f32> = scores.iter().skip(output).step_by(k).copied().collect();
        let mut probs = vec![0.0; 2 * logits.len()];
        probabilities(Loss::Logistic, &logits, 1, &mut probs);
        let own = [Arc::clone(&fields[output]), Arc::clone(&fields[k + output])];
        let parts = decide(&probs, 2, &classes, &Fields::from_iter(own), threshold)?;
        let [label, list] = parts.as_slice() else {
            return internal_err!("a boolean has {} parts", parts.len());
        };
        labels.push(Arc::clone(label));
        probabilities_of.push(Arc::clone(list));
    }
    labels.extend(probabilities_of);
    Ok(labels)
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
