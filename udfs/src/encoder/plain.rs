//! Rows of numbers that are assembled before their scales are known, and encoded in place
//! afterwards.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};

use super::columns::{Numbers, encode_numbers};
use super::{Encoder, FeatureKind, InputKind, Scale};
use crate::kernels::math::vectorized;

/// A scale that keeps finite numbers as they are; other values become NaN.
const AS_IT_IS: Scale =
    Scale { mean: f64::NAN, center: 0.0, stddev: 1.0, min: f64::NEG_INFINITY, max: f64::INFINITY };
/// Values that are encoded side by side.
const LANES: usize = 16;

/// Whether [`plain_rows`] can write columns of a type into rows. It cannot write dictionaries, as
/// their keys may be too narrow for concatenated batches.
///
/// # Errors
/// When the type cannot be a feature.
pub fn is_plain(name: &str, data_type: &DataType) -> Result<bool> {
    Ok(!matches!(data_type, DataType::Null | DataType::Dictionary(_, _))
        && matches!(InputKind::of(name, data_type)?, InputKind::Number | InputKind::Boolean))
}

/// Writes columns of numbers and booleans into rows `[rows, columns]` as they are; NULL and values
/// that are not finite become NaN. Returns whether float32 holds every value exactly; if not, the
/// rows must not be used.
///
/// # Errors
/// When a column has no numbers.
pub fn plain_rows(columns: &[(&str, &ArrayRef)], rows: usize, dense: &mut [f32]) -> Result<bool> {
    let mut numbers = Vec::with_capacity(columns.len());
    for (place, (name, array)) in columns.iter().enumerate() {
        let values = Numbers::new(name, array)?;
        if let Numbers::Double(values) = &values
            && !values.iter().flatten().all(is_single)
        {
            return Ok(false);
        }
        numbers.push((place, &AS_IT_IS, values));
    }
    encode_numbers(&numbers, rows, dense, columns.len());
    Ok(true)
}

/// Whether float32 holds a value exactly.
#[inline(always)]
pub fn is_single(value: f64) -> bool {
    f64::from(value as f32) == value || !value.is_finite()
}

impl Encoder {
    /// Encodes rows `[rows, d]` of [`plain_rows`] in place, with the same bits as
    /// [`Encoder::encode`].
    ///
    /// # Errors
    /// When a feature is neither a number nor a boolean.
    pub fn encode_plain(&self, dense: &mut [f32]) -> Result<()> {
        let (mut center, mut inverse, mut mean) = (vec![], vec![], vec![]);
        for feature in self.features.iter() {
            let (FeatureKind::Number(scale) | FeatureKind::Boolean(scale)) = &feature.kind else {
                return exec_err!("column {} is no plain number", feature.name);
            };
            center.push(scale.center);
            inverse.push(1.0 / scale.stddev);
            mean.push(scale.encode(scale.mean));
        }
        // The number of rows that fills the lanes.
        let run = self.features.len() * LANES;
        if run == 0 {
            return Ok(());
        }
        let (center, inverse, mean) =
            (center.repeat(LANES), inverse.repeat(LANES), mean.repeat(LANES));
        vectorized(
            #[inline(always)]
            || {
                for values in dense.chunks_mut(run) {
                    let n = values.len();
                    let (center, inverse, mean) = (&center[..n], &inverse[..n], &mean[..n]);
                    for i in 0..n {
                        let value = f64::from(values[i]);
                        let scaled = ((value - center[i]) * inverse[i]) as f32;
                        values[i] = if value.abs() < f64::INFINITY { scaled } else { mean[i] };
                    }
                }
            },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, BooleanArray, Float32Array, Float64Array, Int64Array, UInt8Array};

    use super::super::{Column, Statistics, Values};
    use super::*;
    use crate::kernels::rng::{mix, unit};

    #[test]
    fn rows_encoded_where_they_lie_have_the_bits_of_encoded_columns() {
        for rows in [1, 15, 16, 17, 300] {
            let noise = |row: usize, seed: u64| 90.0 * unit(mix(seed, 1, row as u64)) - 20.0;
            let single = (0..rows).map(|row| match row % 11 {
                3 => None,
                4 => Some(f32::NAN),
                5 => Some(f32::NEG_INFINITY),
                _ => Some(noise(row, 1)),
            });
            let mut columns: Vec<ArrayRef> = vec![
                Arc::new(single.collect::<Float32Array>()),
                Arc::new(
                    (0..rows)
                        .map(|row| (row % 5 != 2).then_some(row as i64 - 7))
                        .collect::<Int64Array>(),
                ),
                Arc::new(
                    (0..rows)
                        .map(|row| (row % 7 != 2).then_some(row % 3 == 0))
                        .collect::<BooleanArray>(),
                ),
                Arc::new((0..rows).map(|row| row as u8).collect::<UInt8Array>()),
                Arc::new((0..rows).map(|row| f64::from(noise(row, 2))).collect::<Float64Array>()),
            ];
            for seed in 3..23 {
                columns.push(Arc::new(
                    (0..rows).map(|row| Some(noise(row, seed))).collect::<Float32Array>(),
                ));
            }
            let names: Vec<String> = (0..columns.len()).map(|i| format!("x{i}")).collect();
            let inputs: Vec<_> =
                names.iter().cloned().zip(columns.iter().map(|c| c.data_type().clone())).collect();
            for standardize in [false, true] {
                let mut statistics = Statistics::new(&inputs, standardize).unwrap();
                let values: Vec<_> = columns.iter().map(Values::Array).collect();
                statistics.update(&values, None).unwrap();
                let encoder = statistics.finish(&vec![None; columns.len()]).unwrap();
                let d = columns.len();
                let (mut truth, mut found) = (vec![0.0; rows * d], vec![0.0; rows * d]);
                let given: Vec<_> = columns.iter().map(Column::Array).collect();
                encoder.encode(&given, rows, &mut truth, &mut []).unwrap();
                let given: Vec<_> = names.iter().map(String::as_str).zip(&columns).collect();
                assert!(plain_rows(&given, rows, &mut found).unwrap());
                encoder.encode_plain(&mut found).unwrap();
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&truth), bits(&found), "{rows} rows, {standardize}");
            }
        }
    }

    #[test]
    fn values_that_float32_does_not_hold_are_reported() {
        let is_changed = |column: ArrayRef| {
            let rows = column.len();
            plain_rows(&[("x", &column)], rows, &mut vec![0.0; rows]).unwrap()
        };
        assert!(is_changed(Arc::new(Float64Array::from(vec![Some(0.5), None, Some(f64::NAN)]))));
        assert!(!is_changed(Arc::new(Float64Array::from(vec![0.5, 0.1]))));
        assert!(!is_changed(Arc::new(Float64Array::from(vec![1e300]))));
        assert!(is_changed(Arc::new(Int64Array::from(vec![1 << 24, -5]))));
        assert!(!is_changed(Arc::new(Int64Array::from(vec![0, (1 << 24) + 1]))));
        assert!(is_plain("x", &DataType::Boolean).unwrap());
        let packed = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Float32));
        assert!(!is_plain("x", &packed).unwrap());
        assert!(
            !is_plain("x", &DataType::Utf8).unwrap() && !is_plain("x", &DataType::Null).unwrap()
        );
    }
}
