//! Nearest centroids and distances, with rows in the lanes of vectors.
//!
//! ```text
//! rows[d, 64]: a block of rows, transposed          centroids[tile, d, 6]
//!
//!     16 rows a vector, 4 vectors  ─┐
//!     6 centroids, number by number ─┴─► tile[6, 64] in registers while d goes by
//!                                        └─► least of each row so far, and whose it is
//! ```
//! With rows in the lanes, the least of a row needs no exchange of lanes, and the number of
//! centroids is padded to a multiple of 6 only. A sum is taken in the order of the inputs by fused
//! multiplications, so that its bits depend neither on the width of the vectors nor on the other
//! rows of the block.

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{BLOCK, LANES, fold_block};
use super::math::vectorized;

/// Rows of a block.
pub const ROWS: usize = 64;
/// Centroids of a tile: with four vectors each, a tile and its operands take 29 of 32 registers.
pub const TILE: usize = 6;

/// Initial values of the sums.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// `[centroids]`: the same for all rows.
    ByCentroid(&'a [f32]),
    /// `[centroids, ROWS]`.
    ByRow(&'a [f32]),
}

impl Start<'_> {
    /// The initial value of `V` vectors of rows from `from` on.
    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(
        self,
        simd: S,
        centroid: usize,
        from: usize,
    ) -> [S::f32s; V] {
        match self {
            Start::ByCentroid(values) => [simd.splat_f32s(values[centroid]); V],
            Start::ByRow(values) => load::<S, V>(&values[centroid * ROWS + from..]),
        }
    }
}

/// A block of rows and some tiles of centroids.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// Inputs of a row (`d`).
    pub inputs: usize,
    /// `[d, ROWS]`.
    pub rows: &'a [f32],
    /// `[tiles, d, TILE]`.
    pub centroids: &'a [f32],
    /// Initial values of the sums.
    pub start: Start<'a>,
    /// Number of tiles.
    pub tiles: usize,
}

/// For each row, lowers `least` to the least of `start + sum_i row_i centroid_i` where that is
/// smaller, and sets `index` to the number of its centroid, counted from `first`. Of equal sums,
/// the first counts.
pub fn nearest(
    operands: Operands<'_>,
    first: u32,
    least: &mut [f32; ROWS],
    index: &mut [u32; ROWS],
) {
    Arch::new().dispatch(Nearest { operands, first, least, index });
}

/// Writes `out[centroids, ROWS] = start + sum_i (row_i + centroid_i)^2`: distances to the opposite
/// of the centroids, as products take them.
pub fn distances(operands: Operands<'_>, out: &mut [f32]) {
    Arch::new().dispatch(Distances { operands, out });
}

struct Nearest<'a> {
    operands: Operands<'a>,
    first: u32,
    least: &'a mut [f32; ROWS],
    index: &'a mut [u32; ROWS],
}

struct Distances<'a> {
    operands: Operands<'a>,
    out: &'a mut [f32],
}

#[inline(always)]
fn load<S: Simd, const V: usize>(values: &[f32]) -> [S::f32s; V] {
    let (vectors, _) = S::as_simd_f32s(&values[..V * S::F32_LANES]);
    vectors.as_chunks::<V>().0[0]
}

/// Adds `term(row_i, centroid_i)` of all inputs `i` to the start of each row and centroid of a
/// tile, for `V` vectors of rows from row `from` on; `term` takes the sum so far and returns the
/// next.
#[inline(always)]
fn sums_of_tile<S: Simd, const V: usize>(
    simd: S,
    operands: Operands<'_>,
    tile: usize,
    from: usize,
    term: impl Fn(S::f32s, S::f32s, S::f32s) -> S::f32s,
) -> [[S::f32s; V]; TILE] {
    let Operands { inputs, rows, centroids, start, .. } = operands;
    let mut sums = [[simd.splat_f32s(0.0); V]; TILE];
    for (j, sum) in sums.iter_mut().enumerate() {
        *sum = start.vectors::<S, V>(simd, tile * TILE + j, from);
    }
    let own = &centroids[tile * TILE * inputs..(tile + 1) * TILE * inputs];
    let rows = rows[..inputs * ROWS].as_chunks::<ROWS>().0;
    for (own, row) in own.as_chunks::<TILE>().0.iter().zip(rows) {
        let row = load::<S, V>(&row[from..]);
        for j in 0..TILE {
            let centroid = simd.splat_f32s(own[j]);
            for v in 0..V {
                sums[j][v] = term(row[v], centroid, sums[j][v]);
            }
        }
    }
    sums
}

impl Nearest<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let step = V * S::F32_LANES;
        for from in (0..ROWS).step_by(step) {
            let mut least: [S::f32s; V] = load::<S, V>(&self.least[from..]);
            let (index, _) = S::as_mut_simd_u32s(&mut self.index[from..from + step]);
            let to = &mut index.as_chunks_mut::<V>().0[0];
            let mut index: [S::u32s; V] = *to;
            for tile in 0..self.operands.tiles {
                let sums = sums_of_tile::<S, V>(
                    simd,
                    self.operands,
                    tile,
                    from,
                    #[inline(always)]
                    |row, centroid, sum| simd.mul_add_e_f32s(centroid, row, sum),
                );
                for (j, sum) in sums.iter().enumerate() {
                    let number = simd.splat_u32s(self.first + (tile * TILE + j) as u32);
                    for v in 0..V {
                        let is_less = simd.less_than_f32s(sum[v], least[v]);
                        least[v] = simd.select_f32s(is_less, sum[v], least[v]);
                        index[v] = simd.select_u32s(is_less, number, index[v]);
                    }
                }
            }
            *to = index;
            let (to, _) = S::as_mut_simd_f32s(&mut self.least[from..from + step]);
            to.as_chunks_mut::<V>().0[0] = least;
        }
    }
}

impl Distances<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let step = V * S::F32_LANES;
        for from in (0..ROWS).step_by(step) {
            for tile in 0..self.operands.tiles {
                let sums = sums_of_tile::<S, V>(
                    simd,
                    self.operands,
                    tile,
                    from,
                    #[inline(always)]
                    |row, centroid, sum| {
                        let apart = simd.add_f32s(row, centroid);
                        simd.mul_add_e_f32s(apart, apart, sum)
                    },
                );
                for (j, sum) in sums.iter().enumerate() {
                    let at = (tile * TILE + j) * ROWS + from;
                    let (to, _) = S::as_mut_simd_f32s(&mut self.out[at..at + step]);
                    to.as_chunks_mut::<V>().0[0] = *sum;
                }
            }
        }
    }
}

impl WithSimd for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            // (Machines with shorter vectors have 16 registers.)
            16 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

impl WithSimd for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

/// Transposes the first `d` columns of `from[ROWS, stride]` into `to[d, ROWS]`, with as many more
/// as make `d` a multiple of 4; the stride is a multiple of [`LANES`].
///
/// By corners of 8 by 4 numbers, which take half the time of those of 16 by 16: the compiler keeps
/// them in registers.
pub fn transpose(from: &[f32], to: &mut [f32], stride: usize, d: usize) {
    vectorized(
        #[inline(always)]
        || {
            for row in (0..ROWS).step_by(8) {
                for column in (0..d).step_by(4) {
                    let mut corner = [[0.0f32; 4]; 8];
                    for i in 0..8 {
                        corner[i].copy_from_slice(&from[(row + i) * stride + column..][..4]);
                    }
                    for j in 0..4 {
                        let mut turned = [0.0f32; 8];
                        for i in 0..8 {
                            turned[i] = corner[i][j];
                        }
                        to[(column + j) * ROWS + row..][..8].copy_from_slice(&turned);
                    }
                }
            }
        },
    );
}

/// `to[rows, stride] = from[rows, d] - shift[stride]`; the padding of `to` stays as it is.
pub fn shifted(from: &[f32], d: usize, shift: &[f32], to: &mut [f32]) {
    if d == 0 {
        return;
    }
    let stride = shift.len();
    vectorized(
        #[inline(always)]
        || {
            for (to, from) in to.chunks_exact_mut(stride).zip(from.chunks_exact(d)) {
                // By whole vectors, the last of which overlaps the one before: the copy of a part
                // of a vector is a function call, which takes longer than the row.
                let mut at = 0;
                while at + LANES <= d {
                    minus(&from[at..], &shift[at..], &mut to[at..]);
                    at += LANES;
                }
                if at < d && d > LANES {
                    minus(&from[d - LANES..], &shift[d - LANES..], &mut to[d - LANES..]);
                } else {
                    for i in at..d {
                        to[i] = from[i] - shift[i];
                    }
                }
            }
        },
    );
}

/// `to = from - shift` of one vector.
#[inline(always)]
fn minus(from: &[f32], shift: &[f32], to: &mut [f32]) {
    let (Some(from), Some(shift)) = (from.first_chunk::<LANES>(), shift.first_chunk()) else {
        return;
    };
    // (By copies in registers: what is written in place might overlap what is read, as far as the
    // compiler knows, and would be written number by number.)
    let (mut own, shift): ([f32; LANES], [f32; LANES]) = (*from, *shift);
    for i in 0..LANES {
        own[i] -= shift[i];
    }
    if let Some(to) = to.first_chunk_mut() {
        *to = own;
    }
}

/// `out[ROWS] = sum_i row_i^2` of rows `[d, ROWS]`.
pub fn squares(rows: &[f32], out: &mut [f64; ROWS]) {
    let rows = rows.as_chunks::<ROWS>().0;
    vectorized(
        #[inline(always)]
        || {
            for first in (0..ROWS).step_by(LANES) {
                let mut sums = [0.0f32; LANES];
                for row in rows {
                    let Some(row) = row[first..].first_chunk::<LANES>() else { continue };
                    for i in 0..LANES {
                        sums[i] += row[i] * row[i];
                    }
                }
                for i in 0..LANES {
                    out[first + i] = f64::from(sums[i]);
                }
            }
        },
    );
}

/// `out[ROWS] = |x - c|^2` of rows `x[ROWS, stride]` and the centroids `c[k, stride]` that
/// `nearest` names. Each is a sum of non-negative terms: it loses no digits, however near they are
/// to each other.
pub fn apart(
    x: &[f32],
    centroids: &[f32],
    stride: usize,
    nearest: &[u32; ROWS],
    out: &mut [f64; ROWS],
) {
    vectorized(
        #[inline(always)]
        || {
            for first in (0..ROWS).step_by(BLOCK) {
                let mut sums = [[0.0f32; LANES]; BLOCK];
                for (i, sum) in sums.iter_mut().enumerate() {
                    let (at, c) = ((first + i) * stride, nearest[first + i] as usize * stride);
                    let (x, c) = (lanes(&x[at..at + stride]), lanes(&centroids[c..c + stride]));
                    // A vector of its own, which stays in a register.
                    let mut own = [0.0f32; LANES];
                    for j in 0..x.len().min(c.len()) {
                        for i in 0..LANES {
                            let apart = x[j][i] - c[j][i];
                            own[i] += apart * apart;
                        }
                    }
                    *sum = own;
                }
                for (out, sum) in out[first..].iter_mut().zip(fold_block(&sums)) {
                    *out = f64::from(sum);
                }
            }
        },
    );
}

#[inline(always)]
fn lanes(values: &[f32]) -> &[[f32; LANES]] {
    values.as_chunks::<LANES>().0
}

/// `sum += weight x` in float64, in whole vectors.
#[inline(always)]
pub fn accumulate(weight: f64, x: &[f32], sum: &mut [f64]) {
    let (sum, x) = (sum.as_chunks_mut::<LANES>().0, lanes(x));
    for at in 0..sum.len().min(x.len()) {
        let (mut own, x): ([f64; LANES], [f32; LANES]) = (sum[at], x[at]);
        for i in 0..LANES {
            own[i] += weight * f64::from(x[i]);
        }
        sum[at] = own;
    }
}

#[cfg(test)]
mod tests;
