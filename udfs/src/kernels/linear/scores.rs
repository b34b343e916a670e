//! The scores of rows: bias and weighted sum of each.

use std::ops::Range;

use pulp::Simd;

use super::super::lanes::{self, BLOCK, Kernel, LANES, Lanes, Mask, fold_block, fold_row};
use super::super::prefetch::Prefetch;
use super::window;

/// Rows that are summed side by side with the same weights: a single sum would wait for its
/// previous addition.
const SIDE_BY_SIDE: usize = 4;

/// `z[r] = bias + sum_i x[r, i] w[i]`; `w[d]`.
///
/// A row is summed in 16 lanes, which [`fold_row`] then adds up. The numbers after the last whole
/// window are summed by a window that ends with the row; a mask leaves out those that are summed
/// already. Rows of up to 3 numbers are summed from the first to the last.
pub fn scores(x: &[f32], w: &[f32], bias: f32, z: &mut [f32]) {
    scores_prefetching(x, w, bias, z, Prefetch::NONE);
}

/// [`scores`], which fetches values into the cache meanwhile.
pub(crate) fn scores_prefetching(
    x: &[f32],
    w: &[f32],
    bias: f32,
    z: &mut [f32],
    prefetch: Prefetch<'_>,
) {
    lanes::run(Scores { x, w, bias, z, prefetch });
}

/// [`scores`] for rows of `D` numbers; vectorises over rows.
#[inline(always)]
fn few<const D: usize>(x: &[f32], w: [f32; D], bias: f32, z: &mut [f32]) {
    for (x, z) in x.as_chunks::<D>().0.iter().zip(z) {
        *z = bias + x.iter().zip(w).fold(0.0, |sum, (x, w)| sum + x * w);
    }
}

/// [`scores`] as a part of other kernels.
pub(in super::super) struct Scores<'a> {
    pub(in super::super) x: &'a [f32],
    pub(in super::super) w: &'a [f32],
    pub(in super::super) bias: f32,
    pub(in super::super) z: &'a mut [f32],
    pub(in super::super) prefetch: Prefetch<'a>,
}

impl Kernel for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { x, w, bias, z, prefetch } = self;
        let d = w.len();
        match *w {
            [] => return z.fill(bias),
            [a] => return few(x, [a], bias, z),
            [a, b] => return few(x, [a, b], bias, z),
            [a, b, c] => return few(x, [a, b, c], bias, z),
            _ => {}
        }
        if d < LANES {
            let own = Mask::<S, V>::new(simd, 0, d);
            let w = Lanes::load_part(simd, w);
            return by_blocks(
                bias,
                z,
                prefetch,
                #[inline(always)]
                |r, sums| short_rows(simd, x, r..r + SIDE_BY_SIDE, (d, w, own), sums),
                #[inline(always)]
                |r, sums| {
                    let sums = std::array::from_mut(sums);
                    short_rows(simd, x, r..r + 1, (d, w, own), sums);
                },
            );
        }
        WideScores { x, w, bias, z, prefetch }.run::<S, V>(simd)
    }
}

/// [`scores`] of rows of at least 16 numbers.
struct WideScores<'a> {
    x: &'a [f32],
    w: &'a [f32],
    bias: f32,
    z: &'a mut [f32],
    prefetch: Prefetch<'a>,
}

impl Kernel for WideScores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { x, w, bias, z, prefetch } = self;
        let d = w.len();
        let unseen = unseen::<S, V>(simd, d);
        let row = |r: usize| &x[r * d..(r + 1) * d];
        by_blocks(
            bias,
            z,
            prefetch,
            #[inline(always)]
            |r, sums| {
                let rows = [row(r), row(r + 1), row(r + 2), row(r + 3)];
                row_sums::<S, V, SIDE_BY_SIDE>(simd, rows, w, unseen, sums);
            },
            #[inline(always)]
            |r, sums| {
                let sums = std::array::from_mut(sums);
                row_sums::<S, V, 1>(simd, [row(r)], w, unseen, sums);
            },
        );
    }
}

/// The lanes of the last window of a row of `d` numbers that the window before does not cover.
#[inline(always)]
fn unseen<S: Simd, const V: usize>(simd: S, d: usize) -> Mask<S, V> {
    Mask::new(simd, d.next_multiple_of(LANES) - d, LANES)
}

/// The lanes of some rows of `d` numbers, where `d` is less than 16.
#[inline(always)]
fn short_rows<S: Simd, const V: usize>(
    simd: S,
    x: &[f32],
    rows: Range<usize>,
    (d, w, own): (usize, Lanes<S, V>, Mask<S, V>),
    to: &mut [[f32; LANES]],
) {
    for (r, to) in rows.zip(to) {
        window(simd, x, r * d).times(w).within(own).store(to);
    }
}

/// The lanes of `R` rows of at least 16 numbers.
#[inline(always)]
fn row_sums<S: Simd, const V: usize, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    w: &[f32],
    unseen: Mask<S, V>,
    to: &mut [[f32; LANES]; R],
) {
    let (windows, rest) = w.as_chunks::<LANES>();
    let own = rows.map(|row| &row.as_chunks::<LANES>().0[..windows.len()]);
    let mut sums = [Lanes::splat(simd, 0.0); R];
    for (i, w) in windows.iter().enumerate() {
        let w = Lanes::<S, V>::load(simd, w);
        for (sum, own) in sums.iter_mut().zip(own) {
            *sum = sum.plus(Lanes::load(simd, &own[i]).times(w));
        }
    }
    if let ([_, ..], Some(w)) = (rest, w.last_chunk()) {
        let w = Lanes::load(simd, w);
        for (sum, row) in sums.iter_mut().zip(rows) {
            if let Some(x) = row.last_chunk() {
                *sum = sum.plus(Lanes::load(simd, x).times(w).within(unseen));
            }
        }
    }
    for (to, sum) in to.iter_mut().zip(sums) {
        sum.store(to);
    }
}

/// `z[r]` is the bias plus the sum of the lanes of row `r`. `four` computes the lanes of the four
/// rows from `r`, `one` those of a single row.
#[inline(always)]
fn by_blocks(
    bias: f32,
    z: &mut [f32],
    prefetch: Prefetch<'_>,
    four: impl Fn(usize, &mut [[f32; LANES]; SIDE_BY_SIDE]),
    one: impl Fn(usize, &mut [f32; LANES]),
) {
    let mut r = 0;
    let (blocks, rest) = z.as_chunks_mut::<BLOCK>();
    let stride = prefetch.stride(blocks.len().max(1));
    for (block, z) in blocks.iter_mut().enumerate() {
        prefetch.fetch(block, stride);
        let mut sums = [[0.0; LANES]; BLOCK];
        for sums in sums.as_chunks_mut().0 {
            four(r, sums);
            r += SIDE_BY_SIDE;
        }
        for (z, sum) in z.iter_mut().zip(fold_block(&sums)) {
            *z = bias + sum;
        }
    }
    if let [z] = rest {
        let mut sums = [0.0; LANES];
        one(r, &mut sums);
        *z = bias + fold_row(&sums);
        return;
    }
    let mut sums = [[0.0; LANES]; BLOCK];
    for (i, sums) in sums.iter_mut().take(rest.len()).enumerate() {
        one(r + i, sums);
    }
    for (z, sum) in rest.iter_mut().zip(fold_block(&sums)) {
        *z = bias + sum;
    }
}
