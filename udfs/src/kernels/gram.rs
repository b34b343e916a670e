//! Rows of a few float64 numbers: scores, weighted sums, and the weighted Gram matrix in tiles that
//! stay in registers.
//!
//! The length of a row is a multiple of [`LANES`]; zeros pad it. Callers pass some hundred rows at
//! a time, which fit the L1 or L2 cache.

use pulp::{Arch, Simd, WithSimd};

use super::math::vectorized;

/// The length of a row is a multiple of this: the numbers of the longest vector, and of a cache
/// line.
pub const LANES: usize = 8;
/// Rows of a tile: with two vectors each, the vectors of the right operand and one of the left, a
/// tile takes 15 registers.
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

    /// `out[i, j] += sum_row h[row] value[row, i] value[row, j]` for the first `columns` numbers
    /// and `j >= i`, `out [columns, stride]`; the other elements of `out` mean nothing. Fills
    /// `scaled`, which has the same shape as these rows, with `h[row] value[row, j]`.
    pub fn add_gram(self, h: &[f64], columns: usize, out: &mut [f64], scaled: &mut [f64]) {
        Arch::new().dispatch(Gram { rows: self, h, columns, out, scaled });
    }
}

/// `values[row, j] = rows[row, j] - shift[j]` for rows `[rows, d]` of float32. The padding after
/// the last number of a row becomes 0, up to the end of its vector.
pub fn widen(rows: &[f32], shift: &[f64], values: &mut [f64], stride: usize) {
    let d = shift.len();
    if d == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            let (shifts, rest) = shift.as_chunks::<LANES>();
            let mut last = Last { shift: [0.0; LANES], mask: [0; LANES] };
            last.shift[..rest.len()].copy_from_slice(rest);
            last.mask[..rest.len()].fill(u64::MAX);
            for (row, to) in values.chunks_exact_mut(stride).take(rows.len() / d).enumerate() {
                let from = &rows[row * d..];
                let (to, behind) = to.as_chunks_mut::<LANES>().0.split_at_mut(shifts.len());
                for ((to, from), shift) in
                    to.iter_mut().zip(from.as_chunks::<LANES>().0).zip(shifts)
                {
                    *to = minus(*from, *shift);
                }
                let Some(to) = behind.first_mut().filter(|_| !rest.is_empty()) else { continue };
                let from = &from[LANES * shifts.len()..];
                // If the next row exists, a whole vector is read.
                if let Some(from) = from.first_chunk::<LANES>() {
                    last.widen(from, to);
                } else {
                    let mut own = [0.0; LANES];
                    own[..rest.len()].copy_from_slice(&from[..rest.len()]);
                    last.widen(&own, to);
                }
            }
        },
    );
}

/// The last, partly filled vector of a row.
struct Last {
    /// 0 after the end of the row.
    shift: [f64; LANES],
    /// All bits set for the numbers of the row, none for those after its end.
    mask: [u64; LANES],
}

impl Last {
    #[inline(always)]
    fn widen(&self, from: &[f32; LANES], to: &mut [f64; LANES]) {
        let difference = minus(*from, self.shift);
        for j in 0..LANES {
            to[j] = f64::from_bits(difference[j].to_bits() & self.mask[j]);
        }
    }
}

/// (Arguments are passed by value, so that each is one vector: with references the compiler split
/// the loop over vectors.)
#[inline(always)]
fn minus(from: [f32; LANES], shift: [f64; LANES]) -> [f64; LANES] {
    let mut to = [0.0; LANES];
    for j in 0..LANES {
        to[j] = f64::from(from[j]) - shift[j];
    }
    to
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
        let stride = self.rows.stride;
        for (first, out) in S::as_mut_simd_f64s(self.out).0.chunks_mut(N).enumerate() {
            let from = first * N * S::F64_LANES;
            let rows = self.rows.values.chunks_exact(stride).zip(self.h);
            match out {
                [a] => add_sums::<S, 1>(simd, rows, from, [a]),
                [a, b] => add_sums::<S, 2>(simd, rows, from, [a, b]),
                [a, b, c] => add_sums::<S, 3>(simd, rows, from, [a, b, c]),
                [a, b, c, d] => add_sums::<S, N>(simd, rows, from, [a, b, c, d]),
                _ => {}
            }
        }
    }
}

/// Adds `sum_row h[row] value[row, j]` for `V` vectors, which begin at number `from` of each row.
#[inline(always)]
fn add_sums<'a, S: Simd, const V: usize>(
    simd: S,
    rows: impl Iterator<Item = (&'a [f64], &'a f64)>,
    from: usize,
    out: [&mut S::f64s; V],
) {
    let mut sums = [simd.splat_f64s(0.0); V];
    for (row, h) in rows {
        let h = simd.splat_f64s(*h);
        let own = &S::as_simd_f64s(&row[from..from + V * S::F64_LANES]).0[..V];
        for v in 0..V {
            sums[v] = simd.mul_add_e_f64s(h, own[v], sums[v]);
        }
    }
    for (out, sum) in out.into_iter().zip(sums) {
        *out = simd.add_f64s(*out, sum);
    }
}

struct Gram<'a> {
    rows: DoubleRows<'a>,
    h: &'a [f64],
    columns: usize,
    out: &'a mut [f64],
    scaled: &'a mut [f64],
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
    /// `M` rows of the result, from the vector that contains the diagonal.
    #[inline(always)]
    fn row_of_tiles<S: Simd, const M: usize>(&mut self, simd: S, i: usize) {
        let mut j = i / S::F64_LANES * S::F64_LANES;
        while j < self.columns {
            match (i, j + S::F64_LANES >= self.columns) {
                (0, true) => self.tile::<S, M, 1, true>(simd, i, j),
                (0, false) => self.tile::<S, M, VECTORS, true>(simd, i, j),
                (_, true) => self.tile::<S, M, 1, false>(simd, i, j),
                (_, false) => self.tile::<S, M, VECTORS, false>(simd, i, j),
            }
            j += VECTORS * S::F64_LANES;
        }
    }

    /// The tiles of the first rows read every vector once. They store it times its weight in
    /// `scaled` for the tiles of the rows below.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize, const IS_FIRST: bool>(
        &mut self,
        simd: S,
        i: usize,
        j: usize,
    ) {
        let (stride, width) = (self.rows.stride, V * S::F64_LANES);
        let out = &mut self.out[i * stride..(i + M) * stride];
        let mut sums = [[simd.splat_f64s(0.0); V]; M];
        for (sums, out) in sums.iter_mut().zip(out.chunks_exact(stride)) {
            sums.copy_from_slice(&S::as_simd_f64s(&out[j..j + width]).0[..V]);
        }
        let rows = self.rows.values.chunks_exact(stride).zip(self.scaled.chunks_exact_mut(stride));
        for ((values, scaled), h) in rows.zip(self.h) {
            let left = &values[i..i + M];
            let right = &mut S::as_mut_simd_f64s(&mut scaled[j..j + width]).0[..V];
            if IS_FIRST {
                let values = &S::as_simd_f64s(&values[j..j + width]).0[..V];
                let h = simd.splat_f64s(*h);
                for v in 0..V {
                    right[v] = simd.mul_f64s(h, values[v]);
                }
            }
            for m in 0..M {
                let left = simd.splat_f64s(left[m]);
                for v in 0..V {
                    sums[m][v] = simd.mul_add_e_f64s(left, right[v], sums[m][v]);
                }
            }
        }
        for (sums, out) in sums.iter().zip(out.chunks_exact_mut(stride)) {
            S::as_mut_simd_f64s(&mut out[j..j + width]).0[..V].copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::lanes::on_every_width;
    use crate::kernels::rng::{mix, unit};

    fn draw(what: u64, i: usize) -> f32 {
        2.0 * unit(mix(7, what, i as u64)) - 1.0
    }

    /// A vector of a row reads some numbers of the next one.
    #[test]
    fn what_the_next_row_holds_does_not_show() {
        for d in [1, 3, 9, 15] {
            let mut rows = vec![1.0; 3 * d];
            rows[d..2 * d].fill(f32::NAN);
            let stride = d.next_multiple_of(LANES);
            let mut values = vec![5.0; 3 * stride];
            widen(&rows, &vec![0.25; d], &mut values, stride);
            for row in [0, 2] {
                let (own, behind) = values[row * stride..(row + 1) * stride].split_at(d);
                assert_eq!((own, behind), (&*vec![0.75; d], &*vec![0.0; stride - d]));
            }
            let (own, behind) = values[stride..2 * stride].split_at(d);
            assert!(own.iter().all(|x| x.is_nan()) && behind.iter().all(|x| *x == 0.0));
        }
    }

    /// Any number of rows and columns, against the sums written down.
    #[test]
    fn products_of_rows_are_their_sums() {
        for d in [1usize, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 28, 33] {
            let stride = d.next_multiple_of(LANES);
            for n in [1, 2, 3, 4, 7, 64, 200] {
                let rows: Vec<f32> = (0..n * d).map(|i| draw(1, i)).collect();
                let shift: Vec<f64> = (0..d).map(|j| f64::from(draw(2, j))).collect();
                let mut values = vec![f64::NAN; n * stride];
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
                let mut scaled = vec![f64::NAN; n * stride];
                let mut gram = vec![0.25; d * stride];
                all.add_gram(&h, d, &mut gram, &mut scaled);
                let mut plain = vec![f64::NAN; n * stride];
                scale(&values, stride, &h, &mut plain);
                let own = |all: &[f64]| -> Vec<f64> {
                    all.chunks_exact(stride).flat_map(|row| row[..d].to_vec()).collect()
                };
                assert_eq!(own(&scaled), own(&plain));
                on_every_width(|width| {
                    let same = |found: &[f64], wanted: &[f64], what: &str| {
                        assert_eq!(found.len(), wanted.len());
                        found.iter().zip(wanted).for_each(|(found, sum)| near(*found, *sum, what));
                    };
                    let mut other = vec![f64::NAN; n];
                    width.dispatch(Scores { rows: all, weights: &weights, out: &mut other });
                    same(&other, &scores, "score");
                    let mut other = vec![0.5; stride];
                    width.dispatch(Sums { rows: all, h: &h, out: &mut other });
                    same(&other, &sums, "sum");
                    let mut scaled = vec![f64::NAN; n * stride];
                    let mut other = vec![0.25; d * stride];
                    let (out, scaled) = (&mut other, &mut scaled);
                    width.dispatch(Gram { rows: all, h: &h, columns: d, out, scaled });
                    for i in 0..d {
                        let own = i * stride + i..i * stride + d;
                        same(&other[own.clone()], &gram[own], "product");
                    }
                    assert_eq!(own(scaled), own(&plain));
                });
                for i in 0..d {
                    near(sums[i], 0.5 + (0..n).map(|row| h[row] * at(row, i)).sum::<f64>(), "sum");
                    for j in 0..d {
                        let sum = (0..n).map(|row| h[row] * at(row, i) * at(row, j)).sum::<f64>();
                        if j >= i {
                            near(gram[i * stride + j], 0.25 + sum, "product");
                        }
                    }
                }
            }
        }
    }
}
