//! A linear map to one output. `r` rows, `d` numbers and `c` categories in a row.
//!
//! Sums are taken in an order that depends on the shape alone, so that every machine gives the same
//! bits; the score of a row does not depend on the rows beside it.

use std::ops::{Range, RangeInclusive};

use pulp::Simd;

use super::lanes::{self, BLOCK, Kernel, LANES, Lanes, Mask, fold_block, fold_row};
use super::math::vectorized;
use super::prefetch::Ahead;

/// Rows that read the weights together: each sum waits for the addition before.
const SIDE_BY_SIDE: usize = 4;

/// `z[r] = bias + sum_i x[r, i] w[i]`; `w[d]`.
///
/// A row is summed in 16 lanes, which are then added up by [`fold_row`]. What the last whole window
/// leaves over is taken by a window that ends with the row, without those that are summed already.
/// Rows of up to 3 numbers are summed from the first to the last. What is read next is asked for
/// meanwhile.
pub fn scores(x: &[f32], w: &[f32], bias: f32, z: &mut [f32], ahead: Ahead<'_>) {
    lanes::run(Scores { x, w, bias, z, ahead });
}

/// Numbers of rows that are read where they lie. Fewer are brought together first, which takes no longer than to
/// find them; of more a chunk does not fit the second cache, and they are read faster one behind the other.
pub const SCATTERED: RangeInclusive<usize> = LANES..=128;

/// [`scores`] of rows of at least 16 numbers that are all over `x`, at the places in `order`.
pub fn scattered_scores(
    (x, order): (&[f32], &[u32]),
    w: &[f32],
    bias: f32,
    z: &mut [f32],
    ahead: Ahead<'_>,
) {
    lanes::run(WideScores { x: AllOver { x, order }, w, bias, z, ahead });
}

/// Where rows lie.
pub(super) trait Places<'a>: Copy {
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

/// All over `x`, at the places in `order`.
#[derive(Clone, Copy)]
struct AllOver<'a> {
    x: &'a [f32],
    order: &'a [u32],
}

impl<'a> Places<'a> for AllOver<'a> {
    #[inline(always)]
    fn row(self, r: usize, d: usize) -> &'a [f32] {
        let start = self.order[r] as usize * d;
        &self.x[start..start + d]
    }
}

/// [`scores`] of `D` numbers, row beside row.
#[inline(always)]
fn few<const D: usize>(x: &[f32], w: [f32; D], bias: f32, z: &mut [f32]) {
    for (x, z) in x.as_chunks::<D>().0.iter().zip(z) {
        *z = bias + x.iter().zip(w).fold(0.0, |sum, (x, w)| sum + x * w);
    }
}

/// [`scores`] as a part of other kernels.
pub(super) struct Scores<'a> {
    pub(super) x: &'a [f32],
    pub(super) w: &'a [f32],
    pub(super) bias: f32,
    pub(super) z: &'a mut [f32],
    pub(super) ahead: Ahead<'a>,
}

impl Kernel for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { x, w, bias, z, ahead } = self;
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
                ahead,
                #[inline(always)]
                |r, sums| short_rows(simd, x, r..r + SIDE_BY_SIDE, (d, w, own), sums),
                #[inline(always)]
                |r, sums| {
                    let sums = std::array::from_mut(sums);
                    short_rows(simd, x, r..r + 1, (d, w, own), sums);
                },
            );
        }
        WideScores { x, w, bias, z, ahead }.run::<S, V>(simd)
    }
}

/// [`scores`] of rows of at least 16 numbers.
struct WideScores<'a, X> {
    x: X,
    w: &'a [f32],
    bias: f32,
    z: &'a mut [f32],
    ahead: Ahead<'a>,
}

impl<'a, X: Places<'a>> Kernel for WideScores<'a, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { x, w, bias, z, ahead } = self;
        let d = w.len();
        let unseen = Mask::<S, V>::new(simd, d.next_multiple_of(LANES) - d, LANES);
        by_blocks(
            bias,
            z,
            ahead,
            #[inline(always)]
            |r, sums| {
                let rows = [x.row(r, d), x.row(r + 1, d), x.row(r + 2, d), x.row(r + 3, d)];
                row_sums::<S, V, SIDE_BY_SIDE>(simd, rows, w, unseen, sums);
            },
            #[inline(always)]
            |r, sums| {
                let sums = std::array::from_mut(sums);
                row_sums::<S, V, 1>(simd, [x.row(r, d)], w, unseen, sums);
            },
        );
    }
}

/// The lanes of some rows of `d` numbers, less than 16.
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

/// `z[r]` as the bias and the lanes of row `r`, which `four` gives of the rows from `r` and `one` of a
/// single row.
#[inline(always)]
fn by_blocks(
    bias: f32,
    z: &mut [f32],
    ahead: Ahead<'_>,
    four: impl Fn(usize, &mut [[f32; LANES]; SIDE_BY_SIDE]),
    one: impl Fn(usize, &mut [f32; LANES]),
) {
    let mut r = 0;
    let (blocks, rest) = z.as_chunks_mut::<BLOCK>();
    let stride = ahead.stride(blocks.len().max(1));
    for (block, z) in blocks.iter_mut().enumerate() {
        ahead.fetch(block, stride);
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

/// The 16 numbers from `at` on, or as many as there are and zeros.
#[inline(always)]
fn window<S: Simd, const V: usize>(simd: S, x: &[f32], at: usize) -> Lanes<S, V> {
    let x = &x[at..];
    match x.first_chunk() {
        Some(window) => Lanes::load(simd, window),
        None => Lanes::load_part(simd, x),
    }
}

/// `gradient[i] = sum_r dz[r] x[r, i]`; `gradient[d]`.
///
/// Four running sums, of every fourth row each, which are added as `(0 + 1) + (2 + 3)`. What is read next
/// is asked for meanwhile.
pub fn weight_gradient(x: &[f32], dz: &[f32], gradient: &mut [f32], ahead: Ahead<'_>) {
    match *dz {
        _ if gradient.is_empty() => {}
        [dz] => vectorized(
            #[inline(always)]
            || row_gradient(x, dz, gradient),
        ),
        _ => lanes::run(WeightGradient { x, dz, gradient, ahead }),
    }
}

/// [`weight_gradient`] of rows of at least 16 numbers that are all over `x`, at the places in `order`:
/// two or more.
pub fn scattered_weight_gradient(
    (x, order): (&[f32], &[u32]),
    dz: &[f32],
    gradient: &mut [f32],
    ahead: Ahead<'_>,
) {
    lanes::run(WideGradient { x: AllOver { x, order }, dz, gradient, ahead });
}

/// [`weight_gradient`] of one row, within a kernel.
#[inline(always)]
pub(super) fn row_gradient(x: &[f32], dz: f32, gradient: &mut [f32]) {
    for (g, x) in gradient.iter_mut().zip(x) {
        *g = dz * x;
    }
}

/// The sum of all `dz[r]`: the gradient of the bias, in sixteen running sums and what is left over.
pub fn bias_gradient(dz: &[f32]) -> f32 {
    match *dz {
        [dz] => dz,
        _ => lanes::run(Total(dz)),
    }
}

struct Total<'a>(&'a [f32]);

impl Kernel for Total<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) -> f32 {
        let (blocks, rest) = self.0.as_chunks();
        let mut sum = Lanes::<S, V>::load_part(simd, rest);
        for block in blocks {
            sum = sum.plus(Lanes::load(simd, block));
        }
        let mut sums = [0.0; LANES];
        sum.store(&mut sums);
        fold_row(&sums)
    }
}

struct WeightGradient<'a> {
    x: &'a [f32],
    dz: &'a [f32],
    gradient: &'a mut [f32],
    ahead: Ahead<'a>,
}

impl Kernel for WeightGradient<'_> {
    type Output = ();

    /// Windows of 16 columns stay in registers while the rows go by. The last window ends with the
    /// row; where it overlaps the one before, both come to the same.
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { x, dz, gradient, ahead } = self;
        let d = gradient.len();
        if d < LANES {
            let [sums] = column_sums::<S, V, 1>(
                simd,
                dz,
                ahead,
                #[inline(always)]
                |r, _| window(simd, x, r * d),
            );
            return gradient.copy_from_slice(&sums[..d]);
        }
        WideGradient { x, dz, gradient, ahead }.run::<S, V>(simd)
    }
}

/// [`weight_gradient`] of rows of at least 16 numbers.
struct WideGradient<'a, X> {
    x: X,
    dz: &'a [f32],
    gradient: &'a mut [f32],
    ahead: Ahead<'a>,
}

impl<'a, X: Places<'a>> Kernel for WideGradient<'a, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { x, dz, gradient, ahead } = self;
        let d = gradient.len();
        // (As many as fit the registers of each vector width, four sums a window.)
        let mut at = 0;
        let mut ahead = ahead;
        while V == 1 && at + LANES < d {
            let starts = [at, (at + LANES).min(d - LANES)];
            columns::<S, V, 2, X>(simd, x, dz, starts, gradient, std::mem::take(&mut ahead));
            at += 2 * LANES;
        }
        while at < d {
            let starts = [at.min(d - LANES)];
            columns::<S, V, 1, X>(simd, x, dz, starts, gradient, std::mem::take(&mut ahead));
            at += LANES;
        }
    }
}

/// The windows of columns that begin at `starts`.
#[inline(always)]
fn columns<'a, S: Simd, const V: usize, const K: usize, X: Places<'a>>(
    simd: S,
    x: X,
    dz: &[f32],
    starts: [usize; K],
    gradient: &mut [f32],
    ahead: Ahead<'_>,
) {
    let d = gradient.len();
    let sums = column_sums::<S, V, K>(
        simd,
        dz,
        ahead,
        #[inline(always)]
        |r, k| window(simd, x.row(r, d), starts[k]),
    );
    for (start, sums) in starts.into_iter().zip(sums) {
        gradient[start..start + LANES].copy_from_slice(&sums);
    }
}

/// The sums of `dz[r]` times window `k` of row `r`, which is `at(r, k)`.
#[inline(always)]
fn column_sums<S: Simd, const V: usize, const K: usize>(
    simd: S,
    dz: &[f32],
    ahead: Ahead<'_>,
    at: impl Fn(usize, usize) -> Lanes<S, V>,
) -> [[f32; LANES]; K] {
    let mut sums = [[Lanes::<S, V>::splat(simd, 0.0); K]; 4];
    let (fours, rest) = dz.as_chunks::<4>();
    let stride = ahead.stride(fours.len().max(1));
    let mut r = 0;
    for (four, dz) in fours.iter().enumerate() {
        ahead.fetch(four, stride);
        for (sums, dz) in sums.iter_mut().zip(dz) {
            add_row(simd, sums, *dz, r, &at);
            r += 1;
        }
    }
    for (sums, dz) in sums.iter_mut().zip(rest) {
        add_row(simd, sums, *dz, r, &at);
        r += 1;
    }
    let [a, b, c, d] = sums;
    let mut totals = [[0.0; LANES]; K];
    for (k, to) in totals.iter_mut().enumerate() {
        a[k].plus(b[k]).plus(c[k].plus(d[k])).store(to);
    }
    totals
}

/// Adds `dz` times the windows of row `r`.
#[inline(always)]
fn add_row<S: Simd, const V: usize, const K: usize>(
    simd: S,
    sums: &mut [Lanes<S, V>; K],
    dz: f32,
    r: usize,
    at: impl Fn(usize, usize) -> Lanes<S, V>,
) {
    let dz = Lanes::splat(simd, dz);
    for (k, sum) in sums.iter_mut().enumerate() {
        *sum = sum.plus(at(r, k).times(dz));
    }
}

#[cfg(test)]
mod tests;
