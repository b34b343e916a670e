//! From scores to predicted classes, with their probabilities or margins.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, ListArray, PrimitiveArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, internal_err};

use super::Scorer;

impl Scorer {
    /// The prediction of classes from their probabilities `[rows, k]`.
    pub(super) fn decide(
        &self,
        probs: &[f64],
        k: usize,
        classes: &ArrayRef,
        threshold: f64,
    ) -> Result<StructArray> {
        let rows = probs.len() / k;
        let (best, order, sorted) = match k {
            2 => decide_of_two(probs, threshold),
            _ => decide_of_many(probs, k),
        };
        let label = take(classes, &UInt32Array::from(best), None)?;
        let of_probs = take(classes, &UInt32Array::from(order), None)?;
        let DataType::List(item) = self.fields[1].data_type() else {
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
        Ok(StructArray::try_new(self.fields.clone(), vec![label, Arc::new(list)], None)?)
    }

    /// The prediction of a support vector machine from its margins `[rows, outputs]`.
    pub(super) fn margins(
        &self,
        scores: &[f32],
        outputs: usize,
        classes: &ArrayRef,
    ) -> Result<StructArray> {
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
        let margin: PrimitiveArray<Float64Type> = margin.into();
        Ok(StructArray::try_new(self.fields.clone(), vec![label, Arc::new(margin)], None)?)
    }
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
