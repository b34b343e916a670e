//! Encodes columns of numbers into the rows of a matrix.

use std::hint::black_box;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use datafusion_common::Result;

use super::Scale;
use super::apply::numbers;
use crate::kernels::math::vectorized;
use crate::kernels::panels::{LANES, transpose_block};
use crate::kernels::prefetch::fetch;

/// Rows that are encoded at a time, so that rows of a few hundred numbers stay in the L1 cache
/// while column after column is written into them.
const TILE: usize = 128;

/// A column of numbers: float32 in place, all other types as float64.
pub(super) enum Numbers {
    Single(Float32Array),
    Double(Float64Array),
}

impl Numbers {
    pub(super) fn new(name: &str, array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Float32 => Self::Single(array.as_primitive().clone()),
            _ => Self::Double(numbers(name, array)?),
        })
    }

    /// Encodes the values from `first` on.
    #[inline(always)]
    fn encode(&self, scale: &Scale, first: usize, tile: &mut [f32]) {
        match self {
            Self::Single(values) => encode_tile(scale, values, first, tile),
            Self::Double(values) => encode_tile(scale, values, first, tile),
        }
    }
}

/// A column: its index in the row, its scale, its values.
pub(super) type Scaled<'a> = (usize, &'a Scale, Numbers);

/// Encodes columns, in ascending order of their indices, into rows `[rows, d]`.
///
/// Where 16 columns are adjacent, blocks of 16 by 16 are transposed in registers: writing number by
/// number takes longer than encoding.
pub(super) fn encode_numbers(columns: &[Scaled<'_>], rows: usize, dense: &mut [f32], d: usize) {
    let mut tiles = [[0.0f32; TILE]; LANES];
    // With a constant stride, the compiler transposes blocks by gathers from the tiles, number by
    // number.
    let stride = black_box(TILE);
    vectorized(
        #[inline(always)]
        || {
            for first in (0..rows).step_by(TILE) {
                let n = TILE.min(rows - first);
                let dense = &mut dense[first * d..(first + n) * d];
                let mut at = 0;
                while at < columns.len() {
                    let Some(start) = run(columns, at) else {
                        let (place, scale, values) = &columns[at];
                        let tile = &mut tiles[0][..n];
                        values.encode(scale, first, tile);
                        put(tile, &mut dense[*place..], d);
                        at += 1;
                        continue;
                    };
                    for (tile, (_, scale, values)) in tiles.iter_mut().zip(&columns[start..]) {
                        values.encode(scale, first, &mut tile[..n]);
                    }
                    let (place, whole) = (columns[start].0, n / LANES * LANES);
                    for row in (0..whole).step_by(LANES) {
                        let from = &tiles.as_flattened()[row..];
                        transpose_block(from, stride, &mut dense[row * d + place..], d);
                    }
                    for (i, tile) in tiles.iter().enumerate().filter(|_| whole < n) {
                        put(&tile[whole..n], &mut dense[whole * d + place + i..], d);
                    }
                    at = start + LANES;
                }
            }
        },
    );
}

/// The start of 16 adjacent columns that contain the one at `at`: `at` itself, or a smaller index
/// so that they are the last 16. None if the columns are not adjacent.
#[inline(always)]
fn run(columns: &[Scaled<'_>], at: usize) -> Option<usize> {
    let start = at.min(columns.len().checked_sub(LANES)?);
    (columns[start + LANES - 1].0 - columns[start].0 == LANES - 1).then_some(start)
}

/// Writes a column into rows that are `d` apart.
#[inline(always)]
fn put(tile: &[f32], dense: &mut [f32], d: usize) {
    for (out, value) in dense.iter_mut().step_by(d).zip(tile) {
        *out = *value;
    }
}

/// Encodes the values from `first` on; NULL and values that are not finite become the mean.
#[inline(always)]
fn encode_tile<T: ArrowPrimitiveType>(
    scale: &Scale,
    values: &PrimitiveArray<T>,
    first: usize,
    tile: &mut [f32],
) where
    T::Native: Into<f64>,
{
    let (own, next) = values.values()[first..].split_at(tile.len());
    // There are too many columns, and each is read too briefly, for the hardware prefetcher.
    fetch(&next[..next.len().min(TILE)]);
    for (out, value) in tile.iter_mut().zip(own) {
        let value: f64 = (*value).into();
        *out = scale.encode(if value.abs() < f64::INFINITY { value } else { scale.mean });
    }
    if values.null_count() > 0 {
        for (i, out) in tile.iter_mut().enumerate() {
            if values.is_null(first + i) {
                *out = scale.encode(scale.mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Any number of columns and rows, adjacent or with gaps, with NULL and NaN.
    #[test]
    fn every_value_comes_to_its_place() {
        let scale = |i: usize| {
            let center = i as f64;
            Scale { mean: center, center, stddev: 1.0 + center, min: 0.0, max: 0.0 }
        };
        let value = |row: usize, i: usize| match (row * 7 + i) % 11 {
            0 => None,
            1 => Some(f64::NAN),
            _ => Some((row * 100 + i) as f64),
        };
        for (columns, gap) in [(1, 99), (15, 99), (16, 99), (28, 99), (40, 20), (53, 3), (33, 0)] {
            let place = |i: usize| i + usize::from(i >= gap);
            let d = place(columns - 1) + 2;
            for rows in [1, 16, 127, 128, 300] {
                let scales: Vec<Scale> = (0..columns).map(scale).collect();
                let scaled: Vec<Scaled<'_>> = (0..columns)
                    .map(|i| {
                        let values = (0..rows).map(|row| value(row, i));
                        let array: ArrayRef = if i % 3 == 0 {
                            Arc::new(values.collect::<Float64Array>())
                        } else {
                            Arc::new(values.map(|v| v.map(|v| v as f32)).collect::<Float32Array>())
                        };
                        (place(i), &scales[i], Numbers::new("x", &array).unwrap())
                    })
                    .collect();
                let mut dense = vec![-1.0; rows * d];
                encode_numbers(&scaled, rows, &mut dense, d);
                let mut truth = vec![-1.0; rows * d];
                for row in 0..rows {
                    for (i, scale) in scales.iter().enumerate() {
                        let known = value(row, i).filter(|v| v.is_finite());
                        truth[row * d + place(i)] = scale.encode(known.unwrap_or(scale.mean));
                    }
                }
                assert!(dense == truth, "{columns} columns, {rows} rows, a gap at {gap}");
            }
        }
    }
}
