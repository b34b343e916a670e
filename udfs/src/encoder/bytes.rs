//! Statistics of vectors of `uint8`: one sum for all elements, exact and in any order.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::UInt8Type;
use datafusion_common::{Result, exec_err};

use super::ByteScale;
use super::vectors::{different_lengths, vectors};
use crate::kernels::math::vectorized;

/// Sums over the elements of all lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ByteStatistics {
    /// Elements of a list, known from the first one on.
    length: Option<usize>,
    /// Elements that are not NULL, and their sum.
    count: u64,
    sum: u64,
    /// The smallest and the largest of them, if there are any.
    range: Option<(u8, u8)>,
    /// Lists that are NULL.
    pub(super) nulls: u64,
}

impl ByteStatistics {
    /// Adds the lists that `train` marks.
    ///
    /// # Errors
    /// When lists differ in length.
    pub(super) fn update(
        &mut self,
        name: &str,
        array: &ArrayRef,
        train: Option<&BooleanBuffer>,
    ) -> Result<()> {
        let (values, starts, length) = vectors(name, array)?;
        let mut own = Self { length, ..Self::default() };
        let n = length.unwrap_or(0);
        let Some(bytes) = values.as_primitive_opt::<UInt8Type>() else {
            own.nulls = taken(&starts, train).count() as u64;
            return match length {
                None => self.merge(name, &own),
                Some(_) => exec_err!("column {name} came in another form than its type says"),
            };
        };
        for start in taken(&starts, train) {
            let Some(start) = *start else {
                own.nulls += 1;
                continue;
            };
            match bytes.null_count() {
                0 => own.add(&bytes.values()[start..start + n]),
                _ => {
                    let known = (start..start + n).filter(|at| bytes.is_valid(*at));
                    let known: Vec<u8> = known.map(|at| bytes.value(at)).collect();
                    own.add(&known);
                }
            }
        }
        self.merge(name, &own)
    }

    fn add(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let (mut sum, mut min, mut max) = (0u64, u8::MAX, 0u8);
        vectorized(
            #[inline(always)]
            || {
                // (256 bytes add up to less than 2^16.)
                for bytes in bytes.chunks(256) {
                    let mut part = 0u16;
                    for byte in bytes {
                        part += u16::from(*byte);
                        min = min.min(*byte);
                        max = max.max(*byte);
                    }
                    sum += u64::from(part);
                }
            },
        );
        self.count += bytes.len() as u64;
        self.sum += sum;
        self.include(min, max);
    }

    fn include(&mut self, min: u8, max: u8) {
        let (low, high) = self.range.unwrap_or((min, max));
        self.range = Some((low.min(min), high.max(max)));
    }

    /// Adds the statistics of other lists.
    ///
    /// # Errors
    /// When lists differ in length.
    pub(super) fn merge(&mut self, name: &str, more: &Self) -> Result<()> {
        self.nulls += more.nulls;
        let Some(length) = more.length else { return Ok(()) };
        let own = *self.length.get_or_insert(length);
        if own != length {
            return Err(different_lengths(name, own, length));
        }
        self.count += more.count;
        self.sum += more.sum;
        if let Some((min, max)) = more.range {
            self.include(min, max);
        }
        Ok(())
    }

    /// The scale of the lists; None where all are NULL.
    pub(super) fn scale(&self) -> Option<ByteScale> {
        let length = self.length?;
        let (min, max) = match self.range {
            Some((min, max)) => (f64::from(min), f64::from(max)),
            None => (f64::NAN, f64::NAN),
        };
        Some(ByteScale {
            length,
            // 255 for images; small counts in bytes also get the whole range.
            divisor: max.max(1.0),
            mean: self.sum as f64 / self.count.max(1) as f64,
            min,
            max,
        })
    }
}

/// The beginnings of the lists that `train` marks.
fn taken<'a>(
    starts: &'a [Option<usize>],
    train: Option<&'a BooleanBuffer>,
) -> impl Iterator<Item = &'a Option<usize>> {
    let is_taken = move |row: usize| train.is_none_or(|train| train.value(row));
    starts.iter().enumerate().filter(move |(row, _)| is_taken(*row)).map(|(_, start)| start)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{FixedSizeListArray, Int32Array, UInt8Array};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{DataType, Field};

    use super::super::{Column, Encoder, Statistics, Values};
    use super::*;
    use crate::batch::Rows;
    use crate::kernels::rng::mix;

    const N: usize = 37;

    /// Lists of `N` bytes, some of them NULL, some with a NULL in them.
    fn image(rows: usize) -> ArrayRef {
        let byte =
            |i: usize| (!mix(2, 2, i as u64).is_multiple_of(29)).then(|| mix(1, 1, i as u64) as u8);
        let values: UInt8Array = (0..rows * N).map(byte).collect();
        let nulls = (0..rows).map(|row| row % 5 != 3).collect::<Vec<bool>>();
        let item = Arc::new(Field::new_list_field(DataType::UInt8, true));
        let nulls = Some(NullBuffer::from(nulls));
        Arc::new(FixedSizeListArray::new(item, N as i32, Arc::new(values), nulls))
    }

    fn number(rows: usize) -> ArrayRef {
        Arc::new(Int32Array::from_iter_values((0..rows as i32).map(|row| 3 * row - 20)))
    }

    fn fitted(columns: &[(&str, &ArrayRef)]) -> (Statistics, Encoder) {
        let inputs: Vec<_> =
            columns.iter().map(|(n, c)| ((*n).to_owned(), c.data_type().clone())).collect();
        let mut statistics = Statistics::new(&inputs, true).unwrap();
        let values: Vec<_> = columns.iter().map(|(_, column)| Values::Array(column)).collect();
        statistics.update(&values, None).unwrap();
        let encoder = statistics.finish(&vec![None; columns.len()]).unwrap();
        (statistics, encoder)
    }

    #[test]
    fn rows_that_keep_their_bytes_are_decoded_to_the_bits_of_numbers() {
        let rows = 23;
        let (a, x, b) = (number(rows), image(rows), number(rows));
        let given = [("a", &a), ("x", &x), ("b", &b), ("y", &x)];
        let (_, encoder) = fitted(&given);
        let (schema, width) = (encoder.schema(0), encoder.width());
        assert_eq!((width.dense, width.bytes), (2 + 2 * N, 0));
        assert_eq!((schema.width().dense, schema.width().bytes), (2, 2 * N));
        let columns: Vec<_> = given.iter().map(|(_, column)| Column::Array(column)).collect();
        let mut dense = vec![0.0; rows * width.dense];
        encoder.encode(&columns, rows, &mut dense, &mut []).unwrap();
        let mut stored = Rows::zeros(schema.width(), rows);
        encoder.encode_stored(&columns, rows, &mut stored.as_mut()).unwrap();
        let mut decoded = vec![];
        let decoded = schema.decoder().unwrap().decode(&stored.batch(), &mut decoded);
        assert!(dense.iter().zip(decoded.dense).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(dense.len(), decoded.dense.len());
    }

    #[test]
    fn statistics_are_those_of_all_elements_in_any_order() {
        let (first, second) = (image(23), image(40));
        let (mut sum, encoder) = fitted(&[("x", &first)]);
        let (more, _) = fitted(&[("x", &second)]);
        let known: Vec<f64> = first
            .as_fixed_size_list()
            .iter()
            .flatten()
            .flat_map(|list| list.as_primitive::<UInt8Type>().iter().flatten().collect::<Vec<_>>())
            .map(f64::from)
            .collect();
        let super::super::FeatureKind::Bytes(scale) = encoder.features()[0].kind else {
            panic!("bytes")
        };
        assert_eq!(scale.length, N);
        assert_eq!(scale.mean, known.iter().sum::<f64>() / known.len() as f64);
        assert_eq!(scale.max, known.iter().copied().fold(0.0, f64::max));
        assert_eq!(scale.min, known.iter().copied().fold(255.0, f64::min));
        assert_eq!(encoder.features()[0].null_count, 4);
        let mut other = more.clone();
        other.merge(&sum).unwrap();
        sum.merge(&more).unwrap();
        assert_eq!(sum, other);
    }

    #[test]
    fn other_numbers_are_no_bytes() {
        let bytes = image(3);
        let (_, encoder) = fitted(&[("x", &bytes)]);
        let item = Arc::new(Field::new_list_field(DataType::Int32, true));
        let wide = |last: i32| -> ArrayRef {
            let values = Int32Array::from_iter_values((0..N as i32 - 1).chain([last]));
            Arc::new(FixedSizeListArray::new(Arc::clone(&item), N as i32, Arc::new(values), None))
        };
        let mut rows = Rows::zeros(encoder.schema(0).width(), 1);
        let mut store = |array: &ArrayRef| {
            encoder.encode_stored(&[Column::Array(array)], 1, &mut rows.as_mut())
        };
        store(&wide(255)).unwrap();
        let error = store(&wide(256)).unwrap_err().to_string();
        assert!(error.contains("column x has the value 256"), "{error}");
        assert_eq!(rows.bytes[N - 1], 255);
    }
}
