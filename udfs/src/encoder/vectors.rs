//! Columns of lists of one length, and their encoding as bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, new_empty_array};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, UInt8Type};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, exec_err};

use super::ByteScale;
use super::apply::numbers;

/// A column of lists of one length.
pub(super) struct Vectors<'a> {
    name: &'a str,
    length: usize,
    /// The elements of all lists.
    pub(super) values: ArrayRef,
    /// Where the elements of each row begin; None for NULL.
    pub(super) starts: Vec<Option<usize>>,
}

impl<'a> Vectors<'a> {
    /// The lists of a column whose model was trained on lists of `length` elements.
    ///
    /// # Errors
    /// When they have another length.
    pub(super) fn new(name: &'a str, array: &ArrayRef, length: usize) -> Result<Self> {
        let (values, starts, found) = vectors(name, array)?;
        if let Some(found) = found.filter(|found| *found != length) {
            return exec_err!(
                "the lists of column {name} have {found} elements, but the model was trained on \
                 {length}"
            );
        }
        Ok(Self { name, length, values, starts })
    }

    /// The bytes of all lists, if they are bytes without NULL.
    fn bytes(&self) -> Option<&[u8]> {
        let bytes = self.values.as_primitive_opt::<UInt8Type>()?;
        (bytes.null_count() == 0).then_some(bytes.values())
    }

    /// Writes the numbers that the bytes stand for into rows that are `d` apart.
    pub(super) fn decoded(&self, scale: &ByteScale, out: &mut [f32], d: usize) -> Result<()> {
        let n = self.length;
        let fill = scale.encode(f64::from(scale.fill()));
        let rows = out.chunks_mut(d.max(1)).zip(&self.starts);
        if let Some(bytes) = self.bytes() {
            // The common case, images: no detour over float64.
            let encoded: [f32; 256] = std::array::from_fn(|byte| scale.encode(byte as f64));
            for (out, start) in rows {
                match start {
                    Some(start) => {
                        for (out, byte) in out[..n].iter_mut().zip(&bytes[*start..start + n]) {
                            *out = encoded[usize::from(*byte)];
                        }
                    }
                    None => out[..n].fill(fill),
                }
            }
            return Ok(());
        }
        let values = numbers(self.name, &self.values)?;
        for (out, start) in rows {
            for (i, out) in out[..n].iter_mut().enumerate() {
                let at = start.map(|start| start + i).filter(|at| values.is_valid(*at));
                let value = at.map(|at| values.value(at)).filter(|value| value.is_finite());
                *out = value.map_or(fill, |value| scale.encode(value));
            }
        }
        Ok(())
    }

    /// Writes the bytes into rows that are `stride` apart.
    ///
    /// # Errors
    /// When a value is no byte.
    pub(super) fn stored(&self, scale: &ByteScale, out: &mut [u8], stride: usize) -> Result<()> {
        let (n, fill) = (self.length, scale.fill());
        let rows = out.chunks_mut(stride.max(1)).zip(&self.starts);
        if let Some(bytes) = self.bytes() {
            for (out, start) in rows {
                match start {
                    Some(start) => out[..n].copy_from_slice(&bytes[*start..start + n]),
                    None => out[..n].fill(fill),
                }
            }
            return Ok(());
        }
        let values = numbers(self.name, &self.values)?;
        for (out, start) in rows {
            for (i, out) in out[..n].iter_mut().enumerate() {
                let at = start.map(|start| start + i).filter(|at| values.is_valid(*at));
                let value = at.map(|at| values.value(at)).filter(|value| value.is_finite());
                *out = match value {
                    None => fill,
                    Some(value) if value == f64::from(value as u8) => value as u8,
                    Some(value) => {
                        return exec_err!(
                            "column {} has the value {value}, but the model keeps its elements as \
                             bytes, whole numbers from 0 to 255; train a new model for other values",
                            self.name
                        );
                    }
                };
            }
        }
        Ok(())
    }
}

/// The elements of lists of one length: the array of all elements, the start of each row in it
/// (None for NULL), and the length.
pub(super) fn vectors(
    name: &str,
    array: &ArrayRef,
) -> Result<(ArrayRef, Vec<Option<usize>>, Option<usize>)> {
    let mut length = None;
    let mut starts = Vec::with_capacity(array.len());
    let mut different = None;
    let mut row = |is_null: bool, start: usize, len: usize| {
        if is_null {
            starts.push(None);
            return;
        }
        let first = *length.get_or_insert(len);
        if first != len && different.is_none() {
            different = Some((first, len));
        }
        starts.push(Some(start));
    };
    let values = match array.data_type() {
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            let (values, n) = elements(list)?;
            for i in 0..list.len() {
                row(list.is_null(i), (list.offset() + i) * n, n);
            }
            values
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            for (i, pair) in list.value_offsets().windows(2).enumerate() {
                row(list.is_null(i), pair[0] as usize, (pair[1] - pair[0]) as usize);
            }
            list.values().clone()
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            for (i, pair) in list.value_offsets().windows(2).enumerate() {
                row(list.is_null(i), pair[0] as usize, (pair[1] - pair[0]) as usize);
            }
            list.values().clone()
        }
        DataType::Null => {
            (0..array.len()).for_each(|_| row(true, 0, 0));
            new_empty_array(&DataType::Float64)
        }
        other => return exec_err!("column {name} is {other}, which is no list of numbers"),
    };
    if let Some((first, other)) = different {
        return Err(different_lengths(name, first, other));
    }
    Ok((values, starts, length))
}

/// All elements of lists of fixed length, nested lists within them one after another, and the
/// number of elements of each. The elements of an inner list that is NULL are NULL.
fn elements(list: &FixedSizeListArray) -> Result<(ArrayRef, usize)> {
    let (values, n) = (list.values(), list.value_length() as usize);
    let Some(inner) = values.as_fixed_size_list_opt() else { return Ok((Arc::clone(values), n)) };
    let (all, length) = elements(inner)?;
    // (The lists of a slice begin in the middle of their elements.)
    let all = all.slice(inner.offset() * length, inner.len() * length);
    let all = match inner.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        None => all,
        Some(nulls) => {
            let is_null: BooleanArray =
                nulls.iter().flat_map(|valid| std::iter::repeat_n(Some(!valid), length)).collect();
            nullif(&all, &is_null)?
        }
    };
    Ok((all, n * length))
}

/// The error of lists of two lengths.
pub(super) fn different_lengths(name: &str, first: usize, other: usize) -> DataFusionError {
    exec_datafusion_err!(
        "the lists of column {name} must have one length, but some have {first} and some {other} \
         elements"
    )
}
