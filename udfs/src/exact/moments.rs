//! Weighted second moments of encoded rows: `sum h v v^T` over `v = [dense, extras, 1, one-hot]`.
//!
//! The columns of `v` before the categories (`a` of them, the last one is 1) are called dense; the
//! caller decides which columns are between the dense numbers and the 1 (the Gram sum puts the
//! target there). Three matrices hold the result:
//! - `dense [a, a]`, lower triangle, column-major, which is the same as the upper triangle,
//!   row-major. It is summed block of rows by block: in tiles of registers where `a` is small,
//!   otherwise by faer's products;
//! - `cross [t, a]`, row-major: row `k` is the sum of `h v` over the rows of category `k`;
//! - `pairs`, packed lower triangle of `[t, t]`: the weights of rows that have both categories.
//!
//! # Why values are shifted
//! `sum x^2 - (sum x)^2 / W` loses `(mean / stddev)^2` in relative accuracy, all of it for a
//! timestamp. So dense numbers are stored as `x - r` with a reference row `r` of the data. If `r`
//! is one of `m` equally weighted rows, `(r - mean)^2 / m <= variance`, so centring loses at most a
//! factor of the number of rows: in the worst case (`r` is the only outlier of a million rows) ten
//! of sixteen digits remain, and usually all of them.

use std::ops::Range;

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, MatMut, MatRef, Par};

use crate::batch::NO_CATEGORY;
use crate::kernels::gram::{DoubleRows, LANES, scale, widen};

/// Rows of a block: the depth of a product. Two blocks of 100 columns fill 400 KB.
pub(super) const BLOCK: usize = 256;
/// Blocks that are summed in one chain, before their sum is added to the total: a longer chain
/// would have a larger rounding error.
const CHAIN: usize = 16;
/// Columns up to which the Gram matrix is computed in tiles of registers, over rows that stay in
/// the L2 cache.
const NARROW: usize = 64;

/// Whether moments [flush](Moments::flush) after the block that ends at row `end` of `rows`.
pub(super) fn flushes_at(end: usize, rows: usize) -> bool {
    end == rows || end.is_multiple_of(CHAIN * BLOCK)
}

/// Numbers of a row of `columns` columns, with its padding.
pub(super) fn stride_of(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// Some rows in float64, shifted by the reference. Its contents are valid during one update.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    /// Dense columns, `a`.
    columns: usize,
    /// Numbers of a row.
    stride: usize,
    /// Rows in use, at most [`BLOCK`].
    rows: usize,
    /// `[rows, stride]`, row-major, from the first cache line on; 0 after the last column.
    values: Vec<f64>,
    /// The same, each row times its weight.
    scaled: Vec<f64>,
    /// `[a, stride]`, for few columns only: the sum of the Gram matrices of the blocks since the
    /// last [`Moments::flush`], in whole vectors.
    partial: Vec<f64>,
}

impl Block {
    /// Empties the block for `rows` rows of `columns`; allocates memory only the first time.
    pub(super) fn reset(&mut self, rows: usize, columns: usize) {
        if self.columns != columns {
            self.columns = columns;
            self.stride = stride_of(columns);
            self.scaled.clear();
            self.partial = vec![0.0; if columns <= NARROW { columns * self.stride } else { 0 }];
        }
        let numbers = rows * self.stride;
        if numbers > self.scaled.len() {
            (self.values, self.scaled) = (vec![0.0; numbers + LANES], vec![0.0; numbers]);
        }
        self.rows = rows;
    }

    /// Numbers of a row, a multiple of [`LANES`].
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// The range of the rows in the buffer.
    fn place(&self) -> Range<usize> {
        let start = self.values.as_ptr().align_offset(LANES * size_of::<f64>()).min(LANES);
        start..start + self.rows * self.stride
    }

    /// Fills the first columns with `dense [rows, d] - reference [d]`; rows without weight become
    /// 0, whatever their values are.
    pub(super) fn fill(&mut self, dense: &[f32], reference: &[f64], weight: &[f32]) {
        let place = self.place();
        let values = &mut self.values[place];
        widen(dense, reference, values, self.stride);
        for (row, weight) in values.chunks_exact_mut(self.stride).zip(weight) {
            if *weight == 0.0 {
                row.fill(0.0);
            }
        }
    }

    /// Fills a column.
    pub(super) fn fill_column(&mut self, j: usize, value: impl Fn(usize) -> f64) {
        let place = self.place();
        for (row, values) in self.values[place].chunks_exact_mut(self.stride).enumerate() {
            values[j] = value(row);
        }
    }

    /// The rows in use.
    pub(super) fn rows(&self) -> DoubleRows<'_> {
        DoubleRows::new(&self.values[self.place()], self.stride)
    }

    /// The rows in use as a matrix `[rows, a]`.
    pub(super) fn matrix(&self) -> MatRef<'_, f64> {
        let values = &self.values[self.place()];
        MatRef::from_row_major_slice_with_stride(values, self.rows, self.columns, self.stride)
    }

    /// Adds the Gram matrix of the rows with weights `h` to the upper triangle of the row-major
    /// `dense [a, a]`; with few columns, to the sum that [`Moments::flush`] adds to the moments.
    fn add_gram(&mut self, h: &[f64], dense: &mut [f64]) {
        let (columns, stride, place) = (self.columns, self.stride, self.place());
        let (values, scaled) = (&self.values[place.clone()], &mut self.scaled[..place.len()]);
        if columns <= NARROW {
            let rows = DoubleRows::new(values, stride);
            return rows.add_gram(h, columns, &mut self.partial, scaled);
        }
        scale(values, stride, h, scaled);
        let transposed =
            MatRef::from_column_major_slice_with_stride(values, columns, self.rows, stride);
        matmul(
            MatMut::from_column_major_slice_mut(dense, columns, columns),
            BlockStructure::TriangularLower,
            Accum::Add,
            transposed,
            BlockStructure::Rectangular,
            MatRef::from_row_major_slice_with_stride(scaled, self.rows, columns, stride),
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
    }

    /// The rows times their weights, after [`Self::add_gram`].
    fn scaled(&self) -> impl Iterator<Item = &[f64]> {
        let rows = self.scaled[..self.rows * self.stride].chunks_exact(self.stride);
        rows.map(|row| &row[..self.columns])
    }
}

/// The three matrices.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    columns: usize,
    categories: usize,
    dense: Vec<f64>,
    cross: Vec<f64>,
    pairs: Vec<f64>,
}

/// The length of a packed triangle of `n` rows.
fn triangle(n: usize) -> usize {
    n * (n + 1) / 2
}

/// Element by element `into += from`.
pub(super) fn add(into: &mut [f64], from: &[f64]) {
    into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
}

impl Moments {
    /// Numbers in the moments of `columns` dense columns and `categories`.
    pub(super) fn len(columns: usize, categories: usize) -> usize {
        columns * columns + categories * columns + triangle(categories)
    }

    /// Sums over no row.
    pub(super) fn new(columns: usize, categories: usize) -> Self {
        Self {
            columns,
            categories,
            dense: vec![0.0; columns * columns],
            cross: vec![0.0; categories * columns],
            pairs: vec![0.0; triangle(categories)],
        }
    }

    /// Adds the Gram matrices that a block has summed up, and clears them.
    pub(super) fn flush(&mut self, block: &mut Block) {
        let columns = self.columns;
        for (i, own) in block.partial.chunks_exact_mut(stride_of(columns)).enumerate() {
            add(&mut self.dense[i * columns + i..(i + 1) * columns], &own[i..columns]);
            own.fill(0.0);
        }
    }

    /// Adds the rows of `block` with category indices `codes [rows, c]` and the weights `h [rows]`,
    /// which may be negative. The sums of the block must be [flushed](Self::flush) before it is
    /// used with other moments.
    pub(super) fn add_block(&mut self, block: &mut Block, codes: &[u32], h: &[f64]) {
        let columns = self.columns;
        block.add_gram(h, &mut self.dense);
        if codes.is_empty() {
            return;
        }
        let per_row = codes.len() / block.rows;
        for ((codes, scaled), &h) in codes.chunks_exact(per_row).zip(block.scaled()).zip(h) {
            if h == 0.0 {
                continue;
            }
            for (position, &code) in codes.iter().enumerate() {
                if code == NO_CATEGORY {
                    continue;
                }
                let code = code as usize;
                add(&mut self.cross[code * columns..(code + 1) * columns], scaled);
                for &other in &codes[..=position] {
                    if other != NO_CATEGORY {
                        self.pairs[packed(code, other as usize)] += h;
                    }
                }
            }
        }
    }

    /// Adds the sums over other rows with the same reference.
    pub(super) fn merge(&mut self, other: &Self) {
        add(&mut self.dense, &other.dense);
        add(&mut self.cross, &other.cross);
        add(&mut self.pairs, &other.pairs);
    }

    /// Turns sums over `v` into sums over `v + delta`, `delta [a]`; the last element of `delta`,
    /// for the column of ones, is 0.
    pub(super) fn translate(&mut self, delta: &[f64]) {
        let last = self.columns - 1;
        let sums: Vec<f64> = (0..self.columns).map(|i| self.dense(last, i)).collect();
        for j in 0..self.columns {
            for i in j..self.columns {
                self.dense[j * self.columns + i] +=
                    delta[i] * sums[j] + delta[j] * sums[i] + sums[last] * delta[i] * delta[j];
            }
        }
        for row in self.cross.chunks_exact_mut(self.columns) {
            let weight = row[last];
            row.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta * weight);
        }
    }

    /// `sum h v_i v_j` of two dense columns.
    pub(super) fn dense(&self, i: usize, j: usize) -> f64 {
        self.dense[i.min(j) * self.columns + i.max(j)]
    }

    /// `sum h v_i v_j` of a dense column `i` with each column from `j = i` on.
    pub(super) fn dense_from(&self, i: usize) -> &[f64] {
        &self.dense[i * self.columns + i..(i + 1) * self.columns]
    }

    /// `sum h v_i` over the rows of category `k`.
    pub(super) fn cross(&self, k: usize, i: usize) -> f64 {
        self.cross[k * self.columns + i]
    }

    /// `sum h` over the rows that have both categories.
    pub(super) fn pair(&self, k: usize, l: usize) -> f64 {
        self.pairs[packed(k, l)]
    }

    /// Multiplies the dense columns by factors `[a]`.
    pub(super) fn rescale(&mut self, factor: &[f64]) {
        for j in 0..self.columns {
            for i in j..self.columns {
                self.dense[j * self.columns + i] *= factor[i] * factor[j];
            }
        }
        for row in self.cross.chunks_exact_mut(self.columns) {
            row.iter_mut().zip(factor).for_each(|(value, factor)| *value *= factor);
        }
    }

    /// Adds categories that no row has had.
    pub(super) fn grow(&mut self, categories: usize) {
        self.categories = categories;
        self.cross.resize(categories * self.columns, 0.0);
        self.pairs.resize(triangle(categories), 0.0);
    }

    /// Numbers in the wire format: see [`Self::values`].
    pub(super) fn packed_len(columns: usize, categories: usize) -> usize {
        triangle(columns) + categories * columns + triangle(categories)
    }

    /// The wire format: the lower triangle of `dense` column by column, then `cross`, then `pairs`.
    pub(super) fn values(&self) -> impl Iterator<Item = &[f64]> {
        let triangle = (0..self.columns).map(|j| self.dense_from(j));
        triangle.chain([self.cross.as_slice(), self.pairs.as_slice()])
    }

    /// The moments from `values`, which must have [`Self::packed_len`] elements.
    pub(super) fn from_values(columns: usize, categories: usize, values: &[f64]) -> Self {
        let mut moments = Self::new(columns, categories);
        let (lower, rest) = values.split_at(triangle(columns));
        let mut start = 0;
        for j in 0..columns {
            let count = columns - j;
            moments.dense[j * columns + j..(j + 1) * columns]
                .copy_from_slice(&lower[start..start + count]);
            start += count;
        }
        let (cross, pairs) = rest.split_at(categories * columns);
        moments.cross.copy_from_slice(cross);
        moments.pairs.copy_from_slice(pairs);
        moments
    }
}

/// The index of `(i, j)` in a packed lower triangle.
fn packed(i: usize, j: usize) -> usize {
    triangle(i.max(j)) + i.min(j)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks of rows with made-up values, against the sum written down; then a translation.
    #[test]
    fn moments_equal_the_naive_sum() {
        for columns in [40, NARROW + 3] {
            compare(columns, 5);
        }
    }

    fn compare(columns: usize, categories: usize) {
        let mut moments = Moments::new(columns, categories);
        let mut naive = vec![0.0; (columns + categories).pow(2)];
        let delta: Vec<f64> =
            (0..columns).map(|i| if i + 1 < columns { i as f64 * 0.25 } else { 0.0 }).collect();
        let mut block = Block::default();
        for (start, rows) in [(0, BLOCK), (BLOCK, 17)] {
            block.reset(rows, columns);
            let value = |row: usize, i: usize| ((start + row) as f32 * 0.37 + i as f32).sin();
            let dense: Vec<f32> = (0..rows * (columns - 1))
                .map(|at| value(at / (columns - 1), at % (columns - 1)))
                .collect();
            // Rows of weight 0 are 0.
            let weight: Vec<f32> =
                (0..rows).map(|row| if row % 9 == 4 { 0.0 } else { 1.0 }).collect();
            block.fill(&dense, &vec![0.0; columns - 1], &weight);
            block.fill_column(columns - 1, |_| 1.0);
            let mut codes = Vec::new();
            let mut h = Vec::new();
            for row in 0..rows {
                let at = (start + row) as f64;
                let first = (start + row) as u32 % 3;
                let second = if row % 7 == 0 { NO_CATEGORY } else { 3 + row as u32 % 2 };
                codes.extend([first, second]);
                h.push((at * 0.11).cos());
                let mut v: Vec<f64> = (0..columns)
                    .map(|i| match (i + 1 < columns, weight[row] == 0.0) {
                        (true, false) => f64::from(value(row, i)),
                        (true, true) => 0.0,
                        (false, _) => 1.0,
                    })
                    .zip(&delta)
                    .map(|(v, delta)| v + delta)
                    .collect();
                v.resize(columns + categories, 0.0);
                v[columns + first as usize] = 1.0;
                if second != NO_CATEGORY {
                    v[columns + second as usize] = 1.0;
                }
                for i in 0..v.len() {
                    for j in 0..v.len() {
                        naive[i * v.len() + j] += h[row] * v[i] * v[j];
                    }
                }
            }
            moments.add_block(&mut block, &codes, &h);
        }
        moments.flush(&mut block);
        assert!(block.partial.iter().all(|sum| *sum == 0.0));
        moments.translate(&delta);
        let n = columns + categories;
        for i in 0..n {
            for j in 0..n {
                let found = match (i < columns, j < columns) {
                    (true, true) => moments.dense(i, j),
                    (true, false) => moments.cross(j - columns, i),
                    (false, true) => moments.cross(i - columns, j),
                    (false, false) => moments.pair(i - columns, j - columns),
                };
                let expected = naive[i * n + j];
                assert!((found - expected).abs() < 1e-9, "({i}, {j}): {found} {expected}");
            }
        }
        let values = moments.values().collect::<Vec<_>>().concat();
        assert_eq!(values.len(), Moments::packed_len(columns, categories));
        assert_eq!(Moments::from_values(columns, categories, &values), moments);
    }
}
