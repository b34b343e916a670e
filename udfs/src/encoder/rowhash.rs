//! A hash of a row's content that does not depend on the row's position: it decides a random split.
//!
//! A number is hashed by the bits of its float64 (so that an integer and a float that are equal
//! have the same hash), a text by the xxh3 of its bytes, a list by the hashes of its elements in
//! order. NULL and NaN have hashes of their own. Columns are mixed in the order given.

use arrow::array::{Array, ArrayRef, UInt32Array};
use datafusion_common::Result;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::apply::{numbers, unix_seconds};
use super::statistics::Values;
use super::vectors::vectors;
use super::{InputKind, Interner};
use crate::kernels::math::vectorized;
use crate::kernels::rng::mix;

const NULL: u64 = 0x6e75_6c6c;

#[inline(always)]
fn bits(value: f64) -> u64 {
    if value.is_nan() {
        NULL
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

/// Mixes columns into `out[rows]`, which initially holds the seed of each row. A category column is
/// given as the codes of its interner.
///
/// # Errors
/// When a type cannot be a feature.
pub fn hash_rows(columns: &[(&str, Values<'_>, Option<&Interner>)], out: &mut [u64]) -> Result<()> {
    for (i, (name, values, interner)) in columns.iter().enumerate() {
        match (values, interner) {
            (Values::Codes(codes), Some(interner)) => {
                let known: Vec<u64> =
                    interner.values().map(|text| xxh3_64(text.as_bytes())).collect();
                mix_codes(codes, &known, i, out);
            }
            (Values::Codes(codes), None) => mix_codes(codes, &[], i, out),
            (Values::Array(array), _) => mix_array(name, array, i, out)?,
        }
    }
    Ok(())
}

fn mix_codes(codes: &UInt32Array, known: &[u64], column: usize, out: &mut [u64]) {
    for (out, code) in out.iter_mut().zip(codes) {
        let value = code.map_or(NULL, |code| known.get(code as usize).copied().unwrap_or(NULL));
        *out = mix(*out, column as u64, value);
    }
}

fn mix_array(name: &str, array: &ArrayRef, column: usize, out: &mut [u64]) -> Result<()> {
    let column = column as u64;
    match InputKind::of(name, array.data_type())? {
        InputKind::Vector => {
            let (values, starts, length) = vectors(name, array)?;
            let values = numbers(name, &values)?;
            let n = length.unwrap_or(0);
            let mut row = Vec::with_capacity(8 * n);
            for (out, start) in out.iter_mut().zip(starts) {
                row.clear();
                for at in start.into_iter().flat_map(|start| start..start + n) {
                    let value = if values.is_valid(at) { values.value(at) } else { f64::NAN };
                    row.extend_from_slice(&bits(value).to_le_bytes());
                }
                *out = mix(*out, column, xxh3_64_with_seed(&row, start.map_or(NULL, |_| 0)));
            }
        }
        kind => {
            let values = match kind {
                InputKind::Timestamp => unix_seconds(array)?,
                _ => numbers(name, array)?,
            };
            if values.null_count() > 0 {
                for (out, value) in out.iter_mut().zip(values.iter()) {
                    *out = mix(*out, column, bits(value.unwrap_or(f64::NAN)));
                }
                return Ok(());
            }
            vectorized(
                #[inline(always)]
                || {
                    for (out, value) in out.iter_mut().zip(values.values()) {
                        *out = mix(*out, column, bits(*value));
                    }
                },
            );
        }
    }
    Ok(())
}
