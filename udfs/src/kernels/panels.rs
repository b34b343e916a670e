//! Matrices in panels of 64 columns, the layout that products in tiles read.
//!
//! ```text
//! [rows, 64] | [rows, 64] | ... | [rows, 16, 32, 48 or 64]
//! ```
//! The rows of a panel are contiguous, so that with a power of 2 of columns they do not all map to
//! the same cache sets. Each row begins with a cache line.

use std::ops::Range;

use super::math::vectorized;

/// Columns of a panel: four of the widest vectors.
pub const PANEL: usize = 64;
/// Numbers of the widest vector; strides of panels are multiples of it.
pub(crate) const LANES: usize = 16;

/// A matrix `[rows, columns]` in panels. Rows of the last panel are padded to whole vectors; the
/// padding is arbitrary.
#[derive(Debug, Default)]
pub struct Panels {
    values: Vec<f32>,
    /// Where the first whole cache line begins.
    start: usize,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Zeros.
    pub fn new(rows: usize, columns: usize) -> Self {
        let values = vec![0.0f32; rows * columns.next_multiple_of(LANES) + LANES];
        let start = values.as_ptr().align_offset(4 * LANES).min(LANES);
        Self { values, start, rows, columns }
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Columns of a panel.
    pub fn width(&self, panel: usize) -> usize {
        (self.columns - panel * PANEL).min(PANEL)
    }

    /// Numbers from one row of a panel to the next.
    pub fn stride(&self, panel: usize) -> usize {
        self.width(panel).next_multiple_of(LANES)
    }

    fn range(&self, panel: usize) -> Range<usize> {
        let start = self.start + panel * PANEL * self.rows;
        start..start + self.rows * self.stride(panel)
    }

    /// A panel `[rows, stride]`.
    pub fn panel(&self, panel: usize) -> &[f32] {
        &self.values[self.range(panel)]
    }

    /// Mutable access to the same.
    pub fn panel_mut(&mut self, panel: usize) -> &mut [f32] {
        let range = self.range(panel);
        &mut self.values[range]
    }

    /// All panels, one after another, with the padding of their rows.
    pub fn values_mut(&mut self) -> &mut [f32] {
        let end = self.start + self.rows * self.columns.next_multiple_of(LANES);
        &mut self.values[self.start..end]
    }

    /// Where a panel begins among [`Panels::values_mut`].
    pub fn offset(&self, panel: usize) -> usize {
        panel * PANEL * self.rows
    }

    /// The panels, each `[rows, stride]`.
    pub fn panels_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let of_panel = (PANEL * self.rows).max(1);
        self.values_mut().chunks_mut(of_panel)
    }

    /// Copies the rows of `from[n, columns]` into the first `n` rows.
    pub fn copy_from(&mut self, from: &[f32]) {
        self.copy_rows(from, self.columns);
    }

    /// The same, for rows that begin `apart` numbers from each other.
    pub fn copy_rows(&mut self, from: &[f32], apart: usize) {
        if apart == 0 {
            return;
        }
        for panel in 0..self.panels() {
            let (width, stride) = (self.width(panel), self.stride(panel));
            let rows = self.panel_mut(panel).chunks_exact_mut(stride).zip(from.chunks(apart));
            for (row, from) in rows {
                let from = &from[panel * PANEL..][..width];
                // (A copy of a constant length does not need a function call.)
                match (row.first_chunk_mut::<PANEL>(), from.first_chunk::<PANEL>()) {
                    (Some(row), Some(from)) => *row = *from,
                    _ => row[..width].copy_from_slice(from),
                }
            }
        }
    }

    /// Copies `from[columns]` into a row.
    #[inline(always)]
    pub fn set_row(&mut self, row: usize, from: &[f32]) {
        for (panel, from) in from.chunks(PANEL).enumerate() {
            let start = self.range(panel).start + row * self.stride(panel);
            let to = &mut self.values[start..start + from.len()];
            match (to.first_chunk_mut::<PANEL>(), from.first_chunk::<PANEL>()) {
                (Some(to), Some(from)) => *to = *from,
                _ => to.copy_from_slice(from),
            }
        }
    }

    /// Copies the matrix to `to[rows, columns]`, whose rows begin `apart` numbers from each other.
    pub fn copy_to(&self, to: &mut [f32], apart: usize) {
        for panel in 0..self.panels() {
            let (width, stride) = (self.width(panel), self.stride(panel));
            let rows = to.chunks_mut(apart).zip(self.panel(panel).chunks_exact(stride));
            for (to, row) in rows {
                to[panel * PANEL..][..width].copy_from_slice(&row[..width]);
            }
        }
    }

    /// Writes the transpose of `from[at most 64, rows]` into the first rows.
    pub fn transpose_from(&mut self, from: &Panels) {
        let columns = from.rows.min(self.width(0));
        let stride = self.stride(0);
        let panel = self.panel_mut(0);
        for j in 0..from.panels() {
            let to = &mut panel[j * PANEL * stride..];
            transpose(from.panel(j), from.stride(j), (columns, from.width(j)), to, stride);
        }
    }
}

/// `to[i, j] = from[j, i]` of a `from[rows, columns]`.
fn transpose(
    from: &[f32],
    from_stride: usize,
    (rows, columns): (usize, usize),
    to: &mut [f32],
    stride: usize,
) {
    let (whole_rows, whole_columns) = (rows / LANES * LANES, columns / LANES * LANES);
    vectorized(
        #[inline(always)]
        || {
            for row in (0..whole_rows).step_by(LANES) {
                for column in (0..whole_columns).step_by(LANES) {
                    let from = &from[row * from_stride + column..];
                    transpose_block(from, from_stride, &mut to[column * stride + row..], stride);
                }
            }
        },
    );
    for row in 0..rows {
        let first = if row < whole_rows { whole_columns } else { 0 };
        for column in first..columns {
            to[column * stride + row] = from[row * from_stride + column];
        }
    }
}

/// Names the rows one by one: a loop over them would keep the block in memory, not in registers.
macro_rules! exchange {
    ($block:ident, $h:literal: $($i:literal)*) => {
        $(($block[$i], $block[$i + $h]) = exchanged::<$h>($block[$i], $block[$i + $h]);)*
    };
}

/// Transposes a block of 16 by 16 numbers.
#[inline(always)]
pub(crate) fn transpose_block(from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
    let mut block = [[0.0f32; LANES]; LANES];
    for (i, row) in block.iter_mut().enumerate() {
        row.copy_from_slice(&from[i * from_stride..][..LANES]);
    }
    exchange!(block, 8: 0 1 2 3 4 5 6 7);
    exchange!(block, 4: 0 1 2 3 8 9 10 11);
    exchange!(block, 2: 0 1 4 5 8 9 12 13);
    exchange!(block, 1: 0 2 4 6 8 10 12 14);
    for (i, row) in block.iter().enumerate() {
        to[i * to_stride..][..LANES].copy_from_slice(row);
    }
}

/// Two rows that are `H` apart, after the exchange of the corners of each square of `2 H` numbers.
#[inline(always)]
fn exchanged<const H: usize>(a: [f32; LANES], b: [f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    let (mut upper, mut lower) = ([0.0; LANES], [0.0; LANES]);
    for l in 0..LANES {
        upper[l] = if l & H == 0 { a[l] } else { b[l - H] };
        lower[l] = if l & H == 0 { a[l + H] } else { b[l] };
    }
    (upper, lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_transposes_are_the_matrix() {
        for (rows, columns) in [(1, 1), (3, 16), (16, 16), (37, 64), (70, 45), (33, 150), (5, 0)] {
            let from: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut copy = Panels::new(rows, columns);
            copy.copy_from(&from);
            for (i, value) in from.iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let panel = column / PANEL;
                let found = copy.panel(panel)[row * copy.stride(panel) + column % PANEL];
                assert_eq!(found, *value, "{rows} x {columns}");
                let place = copy.offset(panel) + row * copy.stride(panel) + column % PANEL;
                assert_eq!(copy.values_mut()[place], *value, "{rows} x {columns}");
            }
            let mut back = vec![f32::NAN; from.len()];
            copy.copy_to(&mut back, columns);
            assert_eq!(back, from, "{rows} x {columns}");
            assert_eq!(copy.panels_mut().count(), columns.div_ceil(PANEL));
            // Columns of a wider matrix.
            let (first, own) = (columns / 3, columns - columns / 3);
            if own > 0 {
                let mut part = Panels::new(rows, own);
                part.copy_rows(&from[first..], columns);
                let mut back = vec![0.0; from.len()];
                part.copy_to(&mut back[first..], columns);
                for (i, back) in back.iter().enumerate() {
                    let expected = if i % columns < first { 0.0 } else { from[i] };
                    assert_eq!(*back, expected, "{rows} x {columns}");
                }
            }
            let mut by_rows = Panels::new(rows, columns);
            from.chunks(columns.max(1)).enumerate().for_each(|(i, row)| by_rows.set_row(i, row));
            assert_eq!(by_rows.values_mut(), copy.values_mut(), "{rows} x {columns}");
            if columns > 0 && rows <= PANEL {
                let mut transposed = Panels::new(columns + 3, rows.next_multiple_of(16));
                transposed.transpose_from(&copy);
                for (i, value) in from.iter().enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let found = transposed.panel(0)[column * transposed.stride(0) + row];
                    assert_eq!(found, *value, "{rows} x {columns} transposed");
                }
            }
        }
    }

    #[test]
    fn panels_begin_with_lines_of_the_cache() {
        let matrix = Panels::new(7, 200);
        for panel in 0..matrix.panels() {
            assert_eq!(matrix.panel(panel).as_ptr().align_offset(64), 0);
        }
    }
}
