//! Products in tiles that stay in registers, of operands that are stored in panels.
//!
//! ```text
//! out[m, w] (+)= sum_k left[m, k] right[k, w]        w at most 64
//!
//!            right[k, 64]: a panel, in the L1 cache for all rows of the left
//! left[6, k] ──► out[6, 64]: a tile, in registers while k goes by
//! ```
//! Every sum is taken in the order of `k`, by fused multiplications where the machine has them. A
//! sum may be interrupted and continued. So the bits depend neither on how a product is cut nor on
//! how wide the vectors are.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Terms of a sum that are added before a tile is written: with 64 columns of the right operand, 32
/// KB of the L1 cache.
const DEPTH: usize = 128;
/// Rows of a tile: with four vectors each and the vectors of the right operand, a tile takes 29 of
/// 32 registers.
const ROWS: usize = 6;
/// Segments whose terms are added before a tile is written, at most.
const SEGMENTS: usize = 4;

/// The initial value of the sums of a tile.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// 0.
    Zero,
    /// The same row for all: a bias.
    Row(&'a [f32]),
    /// The current value of the output: the sum is continued.
    Kept,
}

/// The left operand of a product, which is read number by number.
pub trait Left: Copy {
    /// The rows `i` to `i + M` at the terms `ks`, one term after another.
    fn tile<const M: usize>(self, i: usize, ks: Range<usize>) -> impl Iterator<Item = [f32; M]>;
}

/// `left[i, k] = values[i * stride + k]`.
#[derive(Clone, Copy, Debug)]
pub struct ByRows<'a> {
    /// The numbers.
    pub values: &'a [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
}

/// `left[i, k] = values[k * stride + first + i]`.
#[derive(Clone, Copy, Debug)]
pub struct ByColumns<'a> {
    /// The numbers.
    pub values: &'a [f32],
    /// Numbers from one column to the next.
    pub stride: usize,
    /// The first row.
    pub first: usize,
}

impl Left for ByRows<'_> {
    #[inline(always)]
    fn tile<const M: usize>(self, i: usize, ks: Range<usize>) -> impl Iterator<Item = [f32; M]> {
        let rows: [&[f32]; M] = std::array::from_fn(
            #[inline(always)]
            |j| &self.values[(i + j) * self.stride + ks.start..][..ks.len()],
        );
        (0..ks.len()).map(
            #[inline(always)]
            move |k| {
                std::array::from_fn(
                    #[inline(always)]
                    |j| rows[j][k],
                )
            },
        )
    }
}

impl Left for ByColumns<'_> {
    #[inline(always)]
    fn tile<const M: usize>(self, i: usize, ks: Range<usize>) -> impl Iterator<Item = [f32; M]> {
        let values = &self.values[ks.start * self.stride..ks.end * self.stride];
        values.chunks_exact(self.stride).map(
            #[inline(always)]
            move |column| {
                let column = &column[self.first + i..][..M];
                std::array::from_fn(
                    #[inline(always)]
                    |j| column[j],
                )
            },
        )
    }
}

/// Terms of the sums: `left[.., from..to]` times the first rows of `right[.., stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a, L> {
    /// The left operand.
    pub left: L,
    /// The first of the terms of `left`.
    pub from: usize,
    /// The end of the terms of `left`.
    pub to: usize,
    /// A panel, from the first of these terms.
    pub right: &'a [f32],
    /// Its stride, a multiple of 16.
    pub stride: usize,
}

/// The output of a product: `values[rows, ..width]`, at most 64 columns of rows that are `stride`
/// apart.
#[derive(Debug)]
pub struct Out<'a> {
    /// The numbers, from the first row and column.
    pub values: &'a mut [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub width: usize,
}

/// `out = start + sum of segments`.
pub fn sum<'a, L: Left>(
    segments: impl IntoIterator<Item = Segment<'a, L>>,
    mut start: Start<'_>,
    mut out: Out<'_>,
) {
    let mut waiting: [Option<Segment<'a, L>>; SEGMENTS] = [None; SEGMENTS];
    let (mut n, mut depth) = (0, 0);
    for mut segment in segments {
        while segment.from < segment.to {
            let taken = (segment.to - segment.from).min(DEPTH - depth);
            waiting[n] = Some(Segment { to: segment.from + taken, ..segment });
            segment.from += taken;
            segment.right = &segment.right[taken * segment.stride..];
            (n, depth) = (n + 1, depth + taken);
            if n == SEGMENTS || depth == DEPTH {
                product(&waiting[..n], start, &mut out);
                (n, depth, start) = (0, 0, Start::Kept);
            }
        }
    }
    if n > 0 || !matches!(start, Start::Kept) {
        product(&waiting[..n], start, &mut out);
    }
}

fn product<L: Left>(segments: &[Option<Segment<'_, L>>], start: Start<'_>, out: &mut Out<'_>) {
    let Out { ref mut values, stride, rows, width } = *out;
    Arch::new().dispatch(Product { segments, start, out: values, stride, rows, width });
}

struct Product<'a, L> {
    segments: &'a [Option<Segment<'a, L>>],
    start: Start<'a>,
    out: &'a mut [f32],
    stride: usize,
    rows: usize,
    width: usize,
}

impl<L: Left> WithSimd for Product<'_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        // (Machines with vectors of 8 have 16 registers.)
        let widest = if lanes == 8 { 2 } else { 4 };
        let mut from = 0;
        while from < self.width {
            match (self.width - from).div_ceil(lanes).min(widest) {
                1 => self.columns::<S, 1>(simd, from),
                2 => self.columns::<S, 2>(simd, from),
                3 => self.columns::<S, 3>(simd, from),
                _ => self.columns::<S, 4>(simd, from),
            }
            from += widest * lanes;
        }
    }
}

impl<L: Left> Product<'_, L> {
    /// All rows of `V` vectors of columns.
    #[inline(always)]
    fn columns<S: Simd, const V: usize>(&mut self, simd: S, from: usize) {
        let mut i = 0;
        while i + ROWS <= self.rows {
            self.tile::<S, ROWS, V>(simd, i, from);
            i += ROWS;
        }
        if i + 4 <= self.rows {
            self.tile::<S, 4, V>(simd, i, from);
            i += 4;
        }
        if i + 2 <= self.rows {
            self.tile::<S, 2, V>(simd, i, from);
            i += 2;
        }
        if i < self.rows {
            self.tile::<S, 1, V>(simd, i, from);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize>(&mut self, simd: S, i: usize, from: usize) {
        match from + V * S::F32_LANES <= self.width {
            true => self.whole_tile::<S, M, V>(simd, i, from),
            false => self.last_tile::<S, M, V>(simd, i, from),
        }
    }

    /// A tile of whole vectors. (Only loops over arrays, so that the sums stay in registers.)
    #[inline(always)]
    fn whole_tile<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        i: usize,
        from: usize,
    ) {
        let columns = from..from + V * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        let mut rest = &mut self.out[i * self.stride..];
        let rows: [&mut [S::f32s; V]; M] = std::array::from_fn(
            #[inline(always)]
            |_| {
                let (row, others) = std::mem::take(&mut rest).split_at_mut(columns.end);
                let to_next = others.len().min(self.stride - columns.end);
                rest = &mut others[to_next..];
                let (row, _) = S::as_mut_simd_f32s(&mut row[columns.start..]);
                &mut row.as_chunks_mut::<V>().0[0]
            },
        );
        match self.start {
            Start::Zero => {}
            Start::Row(row) => {
                let (row, _) = S::as_simd_f32s(&row[columns.clone()]);
                let row = &row.as_chunks::<V>().0[0];
                sums = [*row; M];
            }
            Start::Kept => {
                for j in 0..M {
                    for v in 0..V {
                        sums[j][v] = rows[j][v];
                    }
                }
            }
        }
        for segment in self.segments.iter().flatten() {
            sums = add_segment::<S, L, M, V>(simd, segment, i, from, sums);
        }
        for j in 0..M {
            for v in 0..V {
                rows[j][v] = sums[j][v];
            }
        }
    }

    /// A tile whose last vectors extend beyond the last column.
    #[inline(always)]
    fn last_tile<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        i: usize,
        from: usize,
    ) {
        let columns = from..self.width;
        let mut sums: [[S::f32s; V]; M] = match self.start {
            Start::Zero => [[simd.splat_f32s(0.0); V]; M],
            Start::Row(row) => [load(simd, &row[columns.clone()]); M],
            Start::Kept => std::array::from_fn(
                #[inline(always)]
                |j| load(simd, &self.out[(i + j) * self.stride..][columns.clone()]),
            ),
        };
        for segment in self.segments.iter().flatten() {
            sums = add_segment::<S, L, M, V>(simd, segment, i, from, sums);
        }
        for (j, sums) in sums.iter().enumerate() {
            store(simd, &mut self.out[(i + j) * self.stride..][columns.clone()], sums);
        }
    }
}

/// The innermost loop.
#[inline(always)]
fn add_segment<S: Simd, L: Left, const M: usize, const V: usize>(
    simd: S,
    segment: &Segment<'_, L>,
    i: usize,
    from: usize,
    mut sums: [[S::f32s; V]; M],
) -> [[S::f32s; V]; M] {
    let left = segment.left.tile::<M>(i, segment.from..segment.to);
    let width = V * S::F32_LANES;
    for (left, right) in left.zip(segment.right.chunks_exact(segment.stride)) {
        let (right, _) = S::as_simd_f32s(&right[from..from + width]);
        let right = &right[..V];
        for j in 0..M {
            let left = simd.splat_f32s(left[j]);
            for v in 0..V {
                sums[j][v] = simd.mul_add_e_f32s(left, right[v], sums[j][v]);
            }
        }
    }
    sums
}

/// Up to `V` vectors of a row.
#[inline(always)]
fn load<S: Simd, const V: usize>(simd: S, row: &[f32]) -> [S::f32s; V] {
    let (whole, rest) = S::as_simd_f32s(row);
    if let Some(whole) = whole.first_chunk::<V>() {
        return *whole;
    }
    std::array::from_fn(
        #[inline(always)]
        |v| match whole.get(v) {
            Some(whole) => *whole,
            None if v == whole.len() => simd.partial_load_f32s(rest),
            None => simd.splat_f32s(0.0),
        },
    )
}

#[inline(always)]
fn store<S: Simd, const V: usize>(simd: S, row: &mut [f32], values: &[S::f32s; V]) {
    let (whole, rest) = S::as_mut_simd_f32s(row);
    if let Some(whole) = whole.first_chunk_mut::<V>() {
        *whole = *values;
        return;
    }
    let last = whole.len();
    for (whole, value) in whole.iter_mut().zip(values) {
        *whole = *value;
    }
    if let Some(value) = values.get(last) {
        simd.partial_store_f32s(rest, *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::panels::{PANEL, Panels};
    use crate::kernels::rng::{mix, unit};

    fn draws(what: u64, n: usize) -> Vec<f32> {
        (0..n as u64).map(|i| 2.0 * unit(mix(3, what, i)) - 1.0).collect()
    }

    /// `left[m, k] right[k, n]`, row-major, the terms cut before each of `cuts`.
    fn by_tiles(
        left: &[f32],
        right: &[f32],
        (m, k, n): (usize, usize, usize),
        cuts: usize,
    ) -> Vec<f32> {
        let mut panels = Panels::new(k, n);
        panels.copy_from(right);
        let bias = draws(9, n);
        let mut out = vec![f32::NAN; m * n];
        for j in 0..panels.panels() {
            let (right, stride) = (panels.panel(j), panels.stride(j));
            let step = k.div_ceil(cuts).max(1);
            let segments = (0..k).step_by(step).map(|from| Segment {
                left: ByRows { values: left, stride: k },
                from,
                to: k.min(from + step),
                right: &right[from * stride..],
                stride,
            });
            let (values, width) = (&mut out[j * PANEL..], panels.width(j));
            let start = Start::Row(&bias[j * PANEL..]);
            sum(segments, start, Out { values, stride: n, rows: m, width });
        }
        out
    }

    #[test]
    fn products_are_those_of_the_loop_however_they_are_cut() {
        for (m, k, n) in [
            (1, 1, 1),
            (6, 128, 64),
            (7, 129, 65),
            (13, 300, 33),
            (2, 28, 100),
            (11, 5, 16),
            (5, 0, 17),
            (9, 64, 130),
        ] {
            let (left, right) = (draws(1, m * k), draws(2, k * n));
            let bias = draws(9, n);
            let found = by_tiles(&left, &right, (m, k, n), 1);
            for (i, found) in found.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let terms = (0..k)
                    .map(|k_| f64::from(left[row * k + k_]) * f64::from(right[k_ * n + column]));
                let truth = f64::from(bias[column]) + terms.sum::<f64>();
                assert!((f64::from(*found) - truth).abs() < 2e-5, "{m} {k} {n}: {found} {truth}");
            }
            for cuts in [2, 3, 9] {
                assert_eq!(found, by_tiles(&left, &right, (m, k, n), cuts), "{m} {k} {n} {cuts}");
            }
        }
    }

    #[test]
    fn the_left_may_lie_by_columns() {
        let (m, k, n) = (14, 150, 40);
        let (left, right) = (draws(1, m * k), draws(2, k * n));
        let mut transposed = vec![0.0; m * k];
        for i in 0..m {
            for j in 0..k {
                transposed[j * m + i] = left[i * k + j];
            }
        }
        let mut panels = Panels::new(k, n);
        panels.copy_from(&right);
        let product = |left, rows: usize, values: &mut [f32]| {
            let (right, stride) = (panels.panel(0), panels.stride(0));
            let segment = Segment { left, from: 0, to: k, right, stride };
            sum([segment], Start::Zero, Out { values, stride: n, rows, width: n });
        };
        let mut found = vec![f32::NAN; 9 * n];
        product(ByColumns { values: &transposed, stride: m, first: 3 }, 9, &mut found);
        for (i, found) in found.iter().enumerate() {
            let (row, column) = (3 + i / n, i % n);
            let truth = (0..k).map(|k_| left[row * k + k_] * right[k_ * n + column]).sum::<f32>();
            assert!((found - truth).abs() < 2e-5, "{row} {column}: {found} {truth}");
        }
    }
}
