//! The prediction of quantiles: the one nearest to 0.5, and all of them.
//!
//! Quantiles are learned apart from each other, so that raw outputs may cross. They are sorted
//! within a row, which brings them nearer to the true ones, never farther away (Chernozhukov,
//! Fernández-Val and Galichon, "Quantile and Probability Curves Without Crossing", 2010).

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::{Result, internal_err};

use super::prediction_parts;
use crate::model::LabelScale;

/// The parts: the prediction of this type, and `List<Struct<quantile, value>>`.
pub(super) fn fields(label: DataType) -> Vec<Field> {
    let number = |name: &str| Field::new(name, DataType::Float64, false);
    let pair = DataType::Struct(Fields::from(vec![number("quantile"), number("value")]));
    let item = Arc::new(Field::new_list_field(pair, true));
    vec![
        Field::new(prediction_parts::LABEL, label, true),
        Field::new(prediction_parts::QUANTILES, DataType::List(item), true),
    ]
}

/// The predictions from raw outputs `[rows, k]`, one for each of `quantiles [k]`; `central` is the
/// one that predicts the target.
pub(super) fn parts(
    quantiles: &[f64],
    central: usize,
    scores: &[f32],
    LabelScale { mean, stddev }: LabelScale,
    fields: &Fields,
) -> Result<Vec<ArrayRef>> {
    let [label, list] = fields.as_ref() else {
        return internal_err!("a prediction of quantiles has two parts, not {}", fields.len());
    };
    let DataType::List(item) = list.data_type() else {
        return internal_err!("quantiles must be a list");
    };
    let DataType::Struct(pair) = item.data_type() else {
        return internal_err!("quantiles must be a list of struct");
    };
    let k = quantiles.len();
    let mut values: Vec<f64> = scores.iter().map(|z| mean + stddev * f64::from(*z)).collect();
    values.chunks_exact_mut(k).for_each(|row| row.sort_by(f64::total_cmp));
    let rows = values.len() / k;
    let central = values.chunks_exact(k).map(|row| row[central]);
    let central: ArrayRef = Arc::new(Float64Array::from_iter_values(central));
    let levels = Float64Array::from_iter_values(quantiles.iter().copied().cycle().take(rows * k));
    let columns: Vec<ArrayRef> = vec![Arc::new(levels), Arc::new(Float64Array::from(values))];
    let list = ListArray::try_new(
        Arc::clone(item),
        OffsetBuffer::from_repeated_length(k, rows),
        Arc::new(StructArray::try_new(pair.clone(), columns, None)?),
        None,
    )?;
    Ok(vec![cast(&central, label.data_type())?, Arc::new(list)])
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float32Type, Float64Type};

    use super::*;

    #[test]
    fn quantiles_are_sorted_and_the_central_one_is_the_prediction() {
        let fields = Fields::from(fields(DataType::Float32));
        let scale = LabelScale { mean: 10.0, stddev: 2.0 };
        let scores = [0.0, 1.0, 2.0, 1.5, -0.5, 0.5];
        let found = parts(&[0.1, 0.5, 0.9], 1, &scores, scale, &fields).unwrap();
        assert_eq!(found[0].as_primitive::<Float32Type>().values(), &[12.0, 11.0]);
        let lists = found[1].as_list::<i32>();
        assert_eq!(lists.len(), 2);
        let row = lists.value(1);
        let row = row.as_struct();
        assert_eq!(row.column(0).as_primitive::<Float64Type>().values(), &[0.1, 0.5, 0.9]);
        assert_eq!(row.column(1).as_primitive::<Float64Type>().values(), &[9.0, 11.0, 13.0]);
        let none = parts(&[0.5], 0, &[], scale, &fields).unwrap();
        assert_eq!((none[0].len(), none[1].len()), (0, 0));
    }
}
