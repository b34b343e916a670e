//! Rows of a few float64 numbers: scores, weighted sums, and the weighted Gram matrix in tiles that stay
//! in registers.
//!
//! Rows are as long as a multiple of [`LANES`], with zeros behind what they hold, and some hundred of them
//! lie in the first cache or the second.

use pulp::{Arch, Simd, WithSimd};

use super::math::vectorized;
use super::prefetch::Ahead;

/// What the length of a row is a multiple of: numbers of the longest vector, and of a cache line.
pub const LANES: usize = 8;
/// Rows of a tile: with two vectors each, the vectors of the right and one of the left 15 registers.
const ROWS: usize = 6;
/// Vectors of a tile.
const VECTORS: usize = 2;

/// Rows `[rows, stride]`.
#[derive(Clone, Copy, Debug)]
pub struct DoubleRows<'a> {
    values: &'a [f64],
    stride: usize,
}

impl<'a> DoubleRows<'a> {
    /// The rows of `values`, each of `stride` numbers, a multiple of [`LANES`].
    pub fn new(values: &'a [f64], stride: usize) -> Self {
        debug_assert!(stride > 0 && stride.is_multiple_of(LANES));
        Self { values, stride }
    }

    /// `out[row] = sum_j weights[j] value[row, j]`, `weights [stride]`.
    pub fn scores(self, weights: &[f64], out: &mut [f64]) {
        Arch::new().dispatch(Scores { rows: self, weights, out });
    }

    /// `out[j] += sum_row h[row] value[row, j]`, `out [stride]`.
    pub fn add_sums(self, h: &[f64], out: &mut [f64]) {
        Arch::new().dispatch(Sums { rows: self, h, out });
    }

    /// `out[i, j] += sum_row left[row, i] value[row, j]` of the `columns` first numbers and `j >= i`,
    /// row-major; `left` has rows like these. Asks for what is `ahead` meanwhile.
    pub fn add_gram(self, left: &[f64], columns: usize, out: &mut [f64], ahead: Ahead<'_>) {
        Arch::new().dispatch(Gram { rows: self, left, columns, out, ahead });
    }
}

/// `values[row, j] = rows[row, j] - shift[j]` of rows `[rows, d]` of float32.
pub fn widen(rows: &[f32], shift: &[f64], values: &mut [f64], stride: usize) {
    if shift.is_empty() {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            let d = shift.len();
            for (from, to) in rows.chunks_exact(d).zip(values.chunks_exact_mut(stride)) {
                for ((to, from), shift) in to.iter_mut().zip(from).zip(shift) {
                    *to = f64::from(*from) - shift;
                }
            }
        },
    );
}

/// `to[row, j] = h[row] from[row, j]`.
pub fn scale(from: &[f64], stride: usize, h: &[f64], to: &mut [f64]) {
    vectorized(
        #[inline(always)]
        || {
            let rows = from.chunks_exact(stride).zip(to.chunks_exact_mut(stride));
            for ((from, to), h) in rows.zip(h) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = h * from;
                }
            }
        },
    );
}

struct Scores<'a> {
    rows: DoubleRows<'a>,
    weights: &'a [f64],
    out: &'a mut [f64],
}

impl WithSimd for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        /// Rows at a time.
        const N: usize = 4;
        let Self { rows: DoubleRows { values, stride }, weights, out } = self;
        let weights = S::as_simd_f64s(weights).0;
        let mut whole = values.chunks_exact(N * stride);
        let mut outs = out.chunks_exact_mut(N);
        for (rows, out) in whole.by_ref().zip(outs.by_ref()) {
            let rows: [_; N] = std::array::from_fn(
                #[inline(always)]
                |n| &S::as_simd_f64s(&rows[n * stride..(n + 1) * stride]).0[..weights.len()],
            );
            let mut sums = [simd.splat_f64s(0.0); N];
            for (j, weight) in weights.iter().enumerate() {
                for n in 0..N {
                    sums[n] = simd.mul_add_e_f64s(*weight, rows[n][j], sums[n]);
                }
            }
            for n in 0..N {
                out[n] = simd.reduce_sum_f64s(sums[n]);
            }
        }
        let rest = whole.remainder().chunks_exact(stride);
        for (row, out) in rest.zip(outs.into_remainder()) {
            let mut sum = simd.splat_f64s(0.0);
            for (weight, value) in weights.iter().zip(S::as_simd_f64s(row).0) {
                sum = simd.mul_add_e_f64s(*weight, *value, sum);
            }
            *out = simd.reduce_sum_f64s(sum);
        }
    }
}

struct Sums<'a> {
    rows: DoubleRows<'a>,
    h: &'a [f64],
    out: &'a mut [f64],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        /// Vectors of a row at a time.
        const N: usize = 4;
        let Self { rows: DoubleRows { values, stride }, h, out } = self;
        for (first, out) in S::as_mut_simd_f64s(out).0.chunks_mut(N).enumerate() {
            let from = first * N * S::F64_LANES;
            let mut sums = [simd.splat_f64s(0.0); N];
            sums[..out.len()].copy_from_slice(out);
            for (row, h) in values.chunks_exact(stride).zip(h) {
                let h = simd.splat_f64s(*h);
                let own = S::as_simd_f64s(&row[from..from + out.len() * S::F64_LANES]).0;
                for (sum, value) in sums.iter_mut().zip(own) {
                    *sum = simd.mul_add_e_f64s(h, *value, *sum);
                }
            }
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

struct Gram<'a> {
    rows: DoubleRows<'a>,
    left: &'a [f64],
    columns: usize,
    out: &'a mut [f64],
    ahead: Ahead<'a>,
}

impl WithSimd for Gram<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut i = 0;
        while i < self.columns {
            match self.columns - i {
                1 => self.row_of_tiles::<S, 1>(simd, i),
                2 => self.row_of_tiles::<S, 2>(simd, i),
                3 => self.row_of_tiles::<S, 3>(simd, i),
                4 => self.row_of_tiles::<S, 4>(simd, i),
                5 => self.row_of_tiles::<S, 5>(simd, i),
                _ => self.row_of_tiles::<S, ROWS>(simd, i),
            }
            i += ROWS;
        }
    }
}

impl Gram<'_> {
    /// `M` rows of the result, from the vector on in which the diagonal begins.
    #[inline(always)]
    fn row_of_tiles<S: Simd, const M: usize>(&mut self, simd: S, i: usize) {
        let mut ahead = self.ahead.part(i / ROWS, self.columns.div_ceil(ROWS));
        let mut j = i / S::F64_LANES * S::F64_LANES;
        while j < self.columns {
            if j + S::F64_LANES >= self.columns {
                self.tile::<S, M, 1>(simd, i, j, ahead);
            } else {
                self.tile::<S, M, VECTORS>(simd, i, j, ahead);
            }
            ahead = Ahead::NONE;
            j += VECTORS * S::F64_LANES;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        i: usize,
        j: usize,
        ahead: Ahead<'_>,
    ) {
        let (stride, width) = (self.rows.stride, V * S::F64_LANES);
        let step = ahead.stride(self.rows.values.len() / stride);
        let mut sums = [[simd.splat_f64s(0.0); V]; M];
        let pairs = self.left.chunks_exact(stride).zip(self.rows.values.chunks_exact(stride));
        for (row, (left, right)) in pairs.enumerate() {
            ahead.fetch(row, step);
            let left = &left[i..i + M];
            let right = &S::as_simd_f64s(&right[j..j + width]).0[..V];
            for m in 0..M {
                let left = simd.splat_f64s(left[m]);
                for v in 0..V {
                    sums[m][v] = simd.mul_add_e_f64s(left, right[v], sums[m][v]);
                }
            }
        }
        let mut found = [0.0; VECTORS * LANES];
        for (m, sums) in sums.iter().enumerate() {
            for (to, sum) in S::as_mut_simd_f64s(&mut found).0.iter_mut().zip(sums) {
                *to = *sum;
            }
            // Each number once: none below the diagonal, and none behind the columns.
            let (from, to) = (j.max(i + m), self.columns.min(j + width));
            if from < to {
                let out = &mut self.out[(i + m) * self.columns..][from..to];
                out.iter_mut().zip(&found[from - j..]).for_each(|(out, found)| *out += found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::rng::{mix, unit};

    fn draw(what: u64, i: usize) -> f32 {
        2.0 * unit(mix(7, what, i as u64)) - 1.0
    }

    /// Any number of rows and columns, against the sums written down.
    #[test]
    fn products_of_rows_are_their_sums() {
        for d in [1usize, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 28, 33] {
            let stride = d.next_multiple_of(LANES);
            for n in [1, 2, 3, 4, 7, 64, 200] {
                let rows: Vec<f32> = (0..n * d).map(|i| draw(1, i)).collect();
                let shift: Vec<f64> = (0..d).map(|j| f64::from(draw(2, j))).collect();
                let mut values = vec![0.0; n * stride];
                widen(&rows, &shift, &mut values, stride);
                let at = |row: usize, j: usize| f64::from(rows[row * d + j]) - shift[j];
                let near = |found: f64, sum: f64, what: &str| {
                    assert!((found - sum).abs() < 1e-11, "{what} of {d} x {n}: {found}, not {sum}");
                };
                let all = DoubleRows::new(&values, stride);
                let mut weights: Vec<f64> = (0..d).map(|j| f64::from(draw(3, j))).collect();
                weights.resize(stride, 0.0);
                let mut scores = vec![f64::NAN; n];
                all.scores(&weights, &mut scores);
                for (row, score) in scores.iter().enumerate() {
                    near(*score, (0..d).map(|j| weights[j] * at(row, j)).sum(), "score");
                }
                let h: Vec<f64> = (0..n).map(|row| f64::from(draw(4, row))).collect();
                let mut sums = vec![0.5; stride];
                all.add_sums(&h, &mut sums);
                let mut left = vec![f64::NAN; n * stride];
                scale(&values, stride, &h, &mut left);
                let mut gram = vec![0.25; d * d];
                all.add_gram(&left, d, &mut gram, Ahead::new(&rows));
                for i in 0..d {
                    near(sums[i], 0.5 + (0..n).map(|row| h[row] * at(row, i)).sum::<f64>(), "sum");
                    for j in 0..d {
                        let sum = (0..n).map(|row| h[row] * at(row, i) * at(row, j)).sum::<f64>();
                        near(gram[i * d + j], 0.25 + if j < i { 0.0 } else { sum }, "product");
                    }
                }
            }
        }
    }
}
