//! Encoded rows that are written: owned, or in borrowed memory.

use super::{MiniBatch, Width};
use crate::kernels::math::vectorized;
use crate::kernels::prefetch::Prefetch;

/// Encoded rows that own their values and can grow.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// `[rows, d]`, row-major.
    pub dense: Vec<f32>,
    /// `[rows, bytes]`, row-major: see [`MiniBatch::bytes`].
    pub bytes: Vec<u8>,
    /// `[rows, c]`, row-major.
    pub codes: Vec<u32>,
    /// `[rows, k]`, row-major: see [`MiniBatch::label`].
    pub label: Vec<f32>,
    /// `[rows]`: see [`MiniBatch::weight`].
    pub weight: Vec<f32>,
}

impl Rows {
    /// No rows, with capacity for `rows` rows.
    pub fn with_capacity(width: Width, rows: usize) -> Self {
        Self {
            dense: Vec::with_capacity(rows * width.dense),
            bytes: Vec::with_capacity(rows * width.bytes),
            codes: Vec::with_capacity(rows * width.columns),
            label: Vec::with_capacity(rows * width.targets),
            weight: Vec::with_capacity(rows),
        }
    }

    /// `rows` rows of zeros.
    pub fn zeros(width: Width, rows: usize) -> Self {
        Self {
            dense: vec![0.0; rows * width.dense],
            bytes: vec![0; rows * width.bytes],
            codes: vec![0; rows * width.columns],
            label: vec![0.0; rows * width.targets],
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
        self.bytes.resize(rows * width.bytes, 0);
        self.codes.resize(rows * width.columns, 0);
        self.label.resize(rows * width.targets, 0.0);
        self.weight.resize(rows, 0.0);
    }

    /// All rows, to be overwritten.
    #[inline(always)]
    pub fn as_mut(&mut self) -> RowsMut<'_> {
        RowsMut {
            dense: &mut self.dense,
            bytes: &mut self.bytes,
            codes: &mut self.codes,
            label: &mut self.label,
            weight: &mut self.weight,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.weight.is_empty()
    }

    /// Appends a copy of a row of `from`.
    pub fn push(&mut self, from: &Self, row: usize, width: Width) {
        self.dense.extend_from_slice(&from.dense[row * width.dense..(row + 1) * width.dense]);
        self.bytes.extend_from_slice(&from.bytes[row * width.bytes..(row + 1) * width.bytes]);
        self.codes.extend_from_slice(&from.codes[row * width.columns..(row + 1) * width.columns]);
        self.label.extend_from_slice(&from.label[row * width.targets..(row + 1) * width.targets]);
        self.weight.push(from.weight[row]);
    }

    /// All rows as one mini-batch.
    pub fn batch(&self) -> MiniBatch<'_> {
        MiniBatch {
            rows: self.weight.len(),
            first_row: 0,
            dense: &self.dense,
            bytes: &self.bytes,
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
    /// See [`Rows::bytes`].
    pub bytes: &'a mut [u8],
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
        let bytes = &mut self.bytes[first * width.bytes..end * width.bytes];
        let codes = &mut self.codes[first * width.columns..end * width.columns];
        let label = &mut self.label[first * width.targets..end * width.targets];
        let weight = &mut self.weight[first..end];
        vectorized(
            #[inline(always)]
            || {
                gather(dense, from.dense, width.dense, indices, prefetch);
                gather(bytes, from.bytes, width.bytes, indices, Prefetch::NONE);
                gather(codes, from.codes, width.columns, indices, Prefetch::NONE);
                gather(label, from.label, width.targets, indices, Prefetch::NONE);
                gather(weight, from.weight, 1, indices, Prefetch::NONE);
            },
        );
    }

    /// Overwrites row `to` by a copy of a row of `from`.
    #[inline(always)]
    pub fn copy_row(&mut self, to: usize, from: &MiniBatch<'_>, row: usize, width: Width) {
        let Width { dense: d, bytes: b, columns: c, targets: k, .. } = width;
        copy_row(&mut self.dense[to * d..(to + 1) * d], &from.dense[row * d..(row + 1) * d]);
        copy_row(&mut self.bytes[to * b..(to + 1) * b], &from.bytes[row * b..(row + 1) * b]);
        copy_row(&mut self.codes[to * c..(to + 1) * c], &from.codes[row * c..(row + 1) * c]);
        copy_row(&mut self.label[to * k..(to + 1) * k], &from.label[row * k..(row + 1) * k]);
        self.weight[to] = from.weight[row];
    }

    /// Overwrites rows from `first` on by copies of all rows of `from`.
    pub fn put(&mut self, first: usize, from: &MiniBatch<'_>, width: Width) {
        let end = first + from.rows;
        self.dense[first * width.dense..end * width.dense].copy_from_slice(from.dense);
        self.bytes[first * width.bytes..end * width.bytes].copy_from_slice(from.bytes);
        self.codes[first * width.columns..end * width.columns].copy_from_slice(from.codes);
        self.label[first * width.targets..end * width.targets].copy_from_slice(from.label);
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
