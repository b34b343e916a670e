//! A linear map to one output. `r` rows, `d` numbers and `c` categories in a row.
//!
//! Sums are taken in an order that depends on the shape alone, so that every machine gives the same
//! bits; the score of a row does not depend on the rows beside it.

use std::ops::RangeInclusive;

use pulp::Simd;

use super::lanes::{LANES, Lanes};

mod gradient;
mod scores;

pub(super) use gradient::row_gradient;
pub use gradient::{bias_gradient, scattered_weight_gradient, weight_gradient};
pub(super) use scores::Scores;
pub use scores::{scattered_scores, scores};

/// Numbers of rows that are read where they lie. Fewer are brought together first, which takes no
/// longer than to find them; of more a chunk does not fit the second cache, and they are read
/// faster one behind the other.
pub const SCATTERED: RangeInclusive<usize> = LANES..=128;

/// Where rows lie.
trait Places<'a>: Copy {
    /// Row `r` of `d` numbers.
    fn row(self, r: usize, d: usize) -> &'a [f32];
}

/// One behind the other.
impl<'a> Places<'a> for &'a [f32] {
    #[inline(always)]
    fn row(self, r: usize, d: usize) -> &'a [f32] {
        &self[r * d..(r + 1) * d]
    }
}

/// All over a chunk, at the places in `order`.
#[derive(Clone, Copy, Debug)]
pub struct AllOver<'a> {
    /// Rows of a chunk, row-major.
    pub chunk: &'a [f32],
    /// Which of them.
    pub order: &'a [u32],
}

/// The first ones one behind the other, and those after them all over a chunk.
#[derive(Clone, Copy)]
struct BehindOthers<'a> {
    together: &'a [f32],
    /// How many are together, counted once for all rows.
    first: usize,
    rest: AllOver<'a>,
}

impl<'a> AllOver<'a> {
    /// The same behind rows that are together, `[first, d]`.
    fn behind(self, together: &'a [f32], d: usize) -> BehindOthers<'a> {
        BehindOthers { together, first: together.len() / d, rest: self }
    }
}

impl<'a> Places<'a> for AllOver<'a> {
    #[inline(always)]
    fn row(self, r: usize, d: usize) -> &'a [f32] {
        let start = self.order[r] as usize * d;
        &self.chunk[start..start + d]
    }
}

impl<'a> Places<'a> for BehindOthers<'a> {
    #[inline(always)]
    fn row(self, r: usize, d: usize) -> &'a [f32] {
        match r.checked_sub(self.first) {
            None => &self.together[r * d..(r + 1) * d],
            Some(r) => self.rest.row(r, d),
        }
    }
}

/// A row of more than `16 (K - 1)` numbers and at most `16 K`, but 16 at least: the last window
/// ends with the row.
#[inline(always)]
fn windows<const K: usize>(row: &[f32]) -> [&[f32; LANES]; K] {
    debug_assert_eq!(row.len().div_ceil(LANES), K, "windows of a row");
    std::array::from_fn(
        #[inline(always)]
        |k| match k + 1 < K {
            true => whole_window(row, k * LANES),
            false => row.last_chunk().unwrap_or(NOTHING),
        },
    )
}

/// The 16 numbers from `at` on, of a row that has them.
#[inline(always)]
fn whole_window(row: &[f32], at: usize) -> &[f32; LANES] {
    row.get(at..).and_then(<[f32]>::first_chunk).unwrap_or(NOTHING)
}

/// What a row has where it ends before a window, which none does.
const NOTHING: &[f32; LANES] = &[0.0; LANES];

/// The 16 numbers from `at` on, or as many as there are and zeros.
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
