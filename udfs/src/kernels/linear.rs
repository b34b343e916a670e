//! A linear map to one output. `r` rows, `d` numbers and `c` categories in a row.
//!
//! Sums are taken in an order that depends on the shape alone, so that every machine gives the same
//! bits; the score of a row does not depend on the rows beside it.

use pulp::Simd;

use super::lanes::{LANES, Lanes};

mod gradient;
mod scores;

pub(super) use gradient::row_gradient;
pub(crate) use gradient::weight_gradient_prefetching;
pub use gradient::{bias_gradient, weight_gradient};
pub(super) use scores::Scores;
pub use scores::scores;
pub(crate) use scores::scores_prefetching;

/// The 16 numbers from `at` on; the row must have that many.
#[inline(always)]
fn whole_window(row: &[f32], at: usize) -> &[f32; LANES] {
    row.get(at..).and_then(<[f32]>::first_chunk).unwrap_or(NOTHING)
}

/// Stands for a window beyond the end of a row, which does not occur.
const NOTHING: &[f32; LANES] = &[0.0; LANES];

/// The 16 numbers from `at` on; if there are fewer, zeros pad them.
#[inline(always)]
fn window<S: Simd, const V: usize>(simd: S, x: &[f32], at: usize) -> Lanes<S, V> {
    let x = &x[at..];
    match x.first_chunk() {
        Some(window) => Lanes::load(simd, window),
        None => Lanes::load_part(simd, x),
    }
}

#[cfg(test)]
mod tests;
