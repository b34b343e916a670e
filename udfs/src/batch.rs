//! Encoded rows as the kernels read them.
//!
//! A row is `dense` numbers followed by `columns` category indices. A one-hot column is never
//! materialised: its product with a weight matrix gathers one row of the weight table.

use std::ops::Range;

use crate::kernels::math::vectorized;
use crate::kernels::panels::Panels;
use crate::kernels::prefetch::Prefetch;

/// The index of a category that the encoder does not know: it contributes nothing.
pub const NO_CATEGORY: u32 = u32::MAX;

/// The width of an encoded row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Width {
    /// Dense numbers in a row (`d`).
    pub dense: usize,
    /// Category columns in a row (`c`), one index each.
    pub columns: usize,
    /// Number of categories of all columns (`t`): the rows of the weight table.
    pub categories: usize,
}

impl Width {
    /// Inputs of the first layer, `d + t`: what the width would be with one-hot columns.
    pub fn inputs(&self) -> usize {
        self.dense + self.categories
    }
}

/// Some encoded rows, borrowed: a mini-batch, or a slice of one.
///
/// Category indices are global: already offset by the categories of the columns before, so that
/// they index the weight table of `Width::categories` rows directly, or [`NO_CATEGORY`].
#[derive(Clone, Copy, Debug, Default)]
pub struct MiniBatch<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Position of the first row in its mini-batch (0 unless this is a slice).
    pub first_row: usize,
    /// `[rows, d]`, row-major.
    pub dense: &'a [f32],
    /// `[rows, c]`, row-major.
    pub codes: &'a [u32],
    /// `[rows]`: the (standardised) target, or the index of the class.
    pub label: &'a [f32],
    /// `[rows]`: row weight times class weight.
    pub weight: &'a [f32],
    /// What is read after these rows, to be fetched into the cache meanwhile; a [`Gather`] sets it.
    pub prefetch: Prefetch<'a>,
}

impl<'a> MiniBatch<'a> {
    /// The rows `start..end` as a mini-batch of their own, which keeps their position in
    /// `first_row`.
    pub fn slice(&self, start: usize, end: usize, width: Width) -> MiniBatch<'a> {
        MiniBatch {
            rows: end - start,
            first_row: self.first_row + start,
            dense: &self.dense[start * width.dense..end * width.dense],
            codes: &self.codes[start * width.columns..end * width.columns],
            // (Empty for an algorithm without a target.)
            label: self.label.get(start..end).unwrap_or_default(),
            weight: &self.weight[start..end],
            prefetch: Prefetch::NONE,
        }
    }

    /// Copies of the rows that `indices` names, in its order.
    pub fn gathered(&self, indices: &[u32]) -> Rows {
        let n = self.rows.max(1);
        let width =
            Width { dense: self.dense.len() / n, columns: self.codes.len() / n, categories: 0 };
        let mut rows = Rows::zeros(width, indices.len());
        rows.as_mut().copy(0, self, indices, width);
        rows
    }
}

/// A mini-batch to gather: its first rows are contiguous, the others at random positions of a
/// chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gather<'a> {
    /// The first rows.
    pub contiguous: MiniBatch<'a>,
    /// The chunk that contains the other rows.
    pub chunk: MiniBatch<'a>,
    /// The indices of the other rows in the chunk, in order.
    pub indices: &'a [u32],
    /// The indices of the next mini-batch in the chunk, if known; else empty.
    pub next: &'a [u32],
    /// Values that are read after these rows, to prefetch meanwhile.
    pub(crate) prefetch: Prefetch<'a>,
}

impl<'a> From<MiniBatch<'a>> for Gather<'a> {
    fn from(contiguous: MiniBatch<'a>) -> Self {
        Self { contiguous, ..Self::default() }
    }
}

impl<'a> Gather<'a> {
    /// Rows of a chunk.
    pub fn of(chunk: MiniBatch<'a>, indices: &'a [u32]) -> Self {
        Self { chunk, indices, ..Self::default() }
    }

    /// The same; prefetches values while it copies rows.
    pub(crate) fn prefetching(self, values: &'a [f32]) -> Self {
        Self { prefetch: Prefetch::new(values), ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.contiguous.rows + self.indices.len()
    }

    /// The next mini-batch.
    pub fn following(&self) -> Self {
        Self::of(self.chunk, self.next)
    }

    /// The rows of a range, if they are contiguous; one row always is.
    pub fn slice(&self, range: &Range<usize>, width: Width) -> Option<MiniBatch<'a>> {
        let n = self.contiguous.rows;
        if range.end <= n {
            return Some(self.contiguous.slice(range.start, range.end, width));
        }
        if range.len() != 1 {
            return None;
        }
        let row = self.indices[range.start - n] as usize;
        Some(MiniBatch { first_row: range.start, ..self.chunk.slice(row, row + 1, width) })
    }

    /// All rows: in place, or as copies in `to`.
    pub fn all<'b>(&self, width: Width, to: &'b mut Rows) -> MiniBatch<'b>
    where
        'a: 'b,
    {
        let range = 0..self.rows();
        match self.slice(&range, width) {
            Some(rows) => rows,
            None => {
                // A third of what is fetched while rows are copied, the others while their numbers
                // are read: more at once would wait for memory.
                let (now, later) = self.prefetch.split(3);
                Self { prefetch: now, ..*self }.gather(&range, width, to);
                MiniBatch { prefetch: later, ..to.batch().slice(0, range.len(), width) }
            }
        }
    }

    /// Copies the rows of a range to the beginning of `to`.
    pub fn gather(&self, range: &Range<usize>, width: Width, to: &mut Rows) {
        to.reach(range.len(), width);
        let mut to = to.as_mut();
        let n = self.contiguous.rows;
        let (start, end) = (range.start.min(n), range.end.min(n));
        to.put(0, &self.contiguous.slice(start, end, width), width);
        let indices = &self.indices[range.start.max(n) - n..range.end.max(n) - n];
        let prefetch = self.prefetch.of(range, self.rows());
        to.copy_prefetching(end - start, &self.chunk, indices, width, prefetch);
    }

    /// Copies the dense numbers of the rows of a range to the first rows of `to`.
    pub(crate) fn gather_dense(&self, range: &Range<usize>, width: Width, to: &mut Panels) {
        let d = width.dense;
        let n = self.contiguous.rows;
        let (start, end) = (range.start.min(n), range.end.min(n));
        let contiguous = self.contiguous.dense[start * d..end * d].chunks_exact(d);
        let indices = &self.indices[range.start.max(n) - n..range.end.max(n) - n];
        let prefetch = self.prefetch.of(range, self.rows());
        let stride = prefetch.stride(indices.len().max(1));
        vectorized(
            #[inline(always)]
            || {
                let mut to_row = 0;
                for row in contiguous {
                    to.set_row(to_row, row);
                    to_row += 1;
                }
                for (i, row) in indices.iter().enumerate() {
                    to.set_row(to_row, &self.chunk.dense[*row as usize * d..][..d]);
                    prefetch.fetch(i, stride);
                    to_row += 1;
                }
            },
        );
    }
}

/// Encoded rows that own their values and can grow.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// `[rows, d]`, row-major.
    pub dense: Vec<f32>,
    /// `[rows, c]`, row-major.
    pub codes: Vec<u32>,
    /// `[rows]`: see [`MiniBatch::label`].
    pub label: Vec<f32>,
    /// `[rows]`: see [`MiniBatch::weight`].
    pub weight: Vec<f32>,
}

impl Rows {
    /// No rows, with capacity for `rows` rows.
    pub fn with_capacity(width: Width, rows: usize) -> Self {
        Self {
            dense: Vec::with_capacity(rows * width.dense),
            codes: Vec::with_capacity(rows * width.columns),
            label: Vec::with_capacity(rows),
            weight: Vec::with_capacity(rows),
        }
    }

    /// `rows` rows of zeros.
    pub fn zeros(width: Width, rows: usize) -> Self {
        Self {
            dense: vec![0.0; rows * width.dense],
            codes: vec![0; rows * width.columns],
            label: vec![0.0; rows],
            weight: vec![0.0; rows],
        }
    }

    /// Makes the buffers hold at least `rows` rows.
    pub fn reach(&mut self, rows: usize, width: Width) {
        if self.len() < rows {
            self.resize(rows, width);
        }
    }

    /// Changes the number of rows to `rows`: keeps the first ones, then adds zeros.
    pub fn resize(&mut self, rows: usize, width: Width) {
        self.dense.resize(rows * width.dense, 0.0);
        self.codes.resize(rows * width.columns, 0);
        self.label.resize(rows, 0.0);
        self.weight.resize(rows, 0.0);
    }

    /// All rows, to be overwritten.
    #[inline(always)]
    pub fn as_mut(&mut self) -> RowsMut<'_> {
        RowsMut {
            dense: &mut self.dense,
            codes: &mut self.codes,
            label: &mut self.label,
            weight: &mut self.weight,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.label.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.label.is_empty()
    }

    /// Appends a copy of a row of `from`.
    pub fn push(&mut self, from: &Self, row: usize, width: Width) {
        self.dense.extend_from_slice(&from.dense[row * width.dense..(row + 1) * width.dense]);
        self.codes.extend_from_slice(&from.codes[row * width.columns..(row + 1) * width.columns]);
        self.label.push(from.label[row]);
        self.weight.push(from.weight[row]);
    }

    /// All rows as one mini-batch.
    pub fn batch(&self) -> MiniBatch<'_> {
        MiniBatch {
            rows: self.label.len(),
            first_row: 0,
            dense: &self.dense,
            codes: &self.codes,
            label: &self.label,
            weight: &self.weight,
            prefetch: Prefetch::NONE,
        }
    }
}

/// Encoded rows in borrowed memory, to be overwritten.
#[derive(Debug)]
pub struct RowsMut<'a> {
    /// See [`Rows::dense`].
    pub dense: &'a mut [f32],
    /// See [`Rows::codes`].
    pub codes: &'a mut [u32],
    /// See [`Rows::label`].
    pub label: &'a mut [f32],
    /// See [`Rows::weight`].
    pub weight: &'a mut [f32],
}

impl RowsMut<'_> {
    /// Overwrites rows from `first` on by copies of the rows of `from` that `indices` names.
    #[inline(always)]
    pub fn copy(&mut self, first: usize, from: &MiniBatch<'_>, indices: &[u32], width: Width) {
        self.copy_prefetching(first, from, indices, width, Prefetch::NONE);
    }

    /// The same; prefetches values while it copies dense numbers.
    #[inline(always)]
    pub(crate) fn copy_prefetching(
        &mut self,
        first: usize,
        from: &MiniBatch<'_>,
        indices: &[u32],
        width: Width,
        prefetch: Prefetch<'_>,
    ) {
        let end = first + indices.len();
        let dense = &mut self.dense[first * width.dense..end * width.dense];
        let codes = &mut self.codes[first * width.columns..end * width.columns];
        let (label, weight) = (&mut self.label[first..end], &mut self.weight[first..end]);
        vectorized(
            #[inline(always)]
            || {
                gather(dense, from.dense, width.dense, indices, prefetch);
                gather(codes, from.codes, width.columns, indices, Prefetch::NONE);
                gather(label, from.label, 1, indices, Prefetch::NONE);
                gather(weight, from.weight, 1, indices, Prefetch::NONE);
            },
        );
    }
}

impl RowsMut<'_> {
    /// Overwrites row `to` by a copy of a row of `from`.
    #[inline(always)]
    pub fn copy_row(&mut self, to: usize, from: &MiniBatch<'_>, row: usize, width: Width) {
        let Width { dense: d, columns: c, .. } = width;
        copy_row(&mut self.dense[to * d..(to + 1) * d], &from.dense[row * d..(row + 1) * d]);
        copy_row(&mut self.codes[to * c..(to + 1) * c], &from.codes[row * c..(row + 1) * c]);
        self.label[to] = from.label[row];
        self.weight[to] = from.weight[row];
    }

    /// Overwrites rows from `first` on by copies of all rows of `from`.
    pub fn put(&mut self, first: usize, from: &MiniBatch<'_>, width: Width) {
        let end = first + from.rows;
        self.dense[first * width.dense..end * width.dense].copy_from_slice(from.dense);
        self.codes[first * width.columns..end * width.columns].copy_from_slice(from.codes);
        self.label[first..end].copy_from_slice(from.label);
        self.weight[first..end].copy_from_slice(from.weight);
    }
}

/// Values of a window of a row: a few instructions copy a window, without a function call.
const WINDOW: usize = 16;
const TWO_WINDOWS: usize = 2 * WINDOW;

/// Copies rows of `n` values of `from`, one after another.
///
/// (Loops, since the compiler may not inline closures and zipped iterators into the code for wide
/// vectors: calling them takes as long as copying a row.)
#[inline(always)]
fn gather<T: Copy>(to: &mut [T], from: &[T], n: usize, rows: &[u32], prefetch: Prefetch<'_>) {
    match n {
        0 => {}
        1 => {
            let to = &mut to[..rows.len()];
            for i in 0..rows.len() {
                to[i] = from[rows[i] as usize];
            }
        }
        // By two windows, which overlap.
        WINDOW..=TWO_WINDOWS => {
            let stride = prefetch.stride(rows.len().max(1));
            for (i, (to, row)) in to.chunks_exact_mut(n).zip(rows).enumerate() {
                let start = *row as usize * n;
                let from = &from[start..start + n];
                if let (Some(to), Some(from)) = (to.first_chunk_mut(), from.first_chunk()) {
                    *to = *from as [T; WINDOW];
                }
                if let (Some(to), Some(from)) = (to.last_chunk_mut(), from.last_chunk()) {
                    *to = *from as [T; WINDOW];
                }
                prefetch.fetch(i, stride);
            }
        }
        n => {
            let stride = prefetch.stride(rows.len().max(1));
            for (i, (to, row)) in to.chunks_exact_mut(n).zip(rows).enumerate() {
                let start = *row as usize * n;
                copy_row(to, &from[start..start + n]);
                prefetch.fetch(i, stride);
            }
        }
    }
}

/// Copies a row.
#[inline(always)]
fn copy_row<T: Copy>(to: &mut [T], from: &[T]) {
    let (windows, from_windows) = (to.as_chunks_mut::<WINDOW>().0, from.as_chunks::<WINDOW>().0);
    if windows.is_empty() {
        return to.copy_from_slice(from);
    }
    for (to, from) in windows.iter_mut().zip(from_windows) {
        *to = *from;
    }
    // The last window may overlap the one before.
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<WINDOW>(), from.last_chunk::<WINDOW>()) {
        *to = *from;
    }
}
