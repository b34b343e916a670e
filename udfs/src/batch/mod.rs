//! Encoded rows: fields of fixed stride, by element.
//!
//! A row is `dense` numbers, `bytes`, `columns` category indices, the target's numbers and a
//! weight; a [`RowSchema`] names the fields. A one-hot column is never materialised: its product
//! with a weight matrix gathers one row of the weight table. Vectors of `uint8` are stored as
//! bytes; kernels read them as dense numbers ([`Decoder`]).

mod decode;
mod gather;
mod rows;
mod schema;

pub use decode::Decoder;
pub use gather::Gather;
pub use rows::{Rows, RowsMut};
pub use schema::{Element, FieldSpec, RowSchema};

use crate::kernels::prefetch::Prefetch;

/// The index of a category that the encoder does not know: it contributes nothing.
pub const NO_CATEGORY: u32 = u32::MAX;

/// The width of an encoded row. The default has one target and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Dense numbers in a row (`d`).
    pub dense: usize,
    /// Bytes in a row, which become dense numbers when they are decoded; 0 where they are decoded.
    pub bytes: usize,
    /// Category columns in a row (`c`), one index each.
    pub columns: usize,
    /// Number of categories of all columns (`t`): the rows of the weight table.
    pub categories: usize,
    /// Numbers of the target (`k`): 0 without a target, 1 for a class.
    pub targets: usize,
}

impl Default for Width {
    fn default() -> Self {
        Self { dense: 0, bytes: 0, columns: 0, categories: 0, targets: 1 }
    }
}

impl Width {
    /// Inputs of the first layer, `d + t`: what the width would be with one-hot columns.
    pub fn inputs(&self) -> usize {
        self.dense + self.categories
    }

    /// The width of the same rows once their bytes are numbers.
    pub fn decoded(self) -> Self {
        Self { dense: self.dense + self.bytes, bytes: 0, ..self }
    }

    /// Bytes that a row takes in memory.
    pub fn row_bytes(&self) -> usize {
        4 * (self.dense + self.columns + self.targets + 1) + self.bytes
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
    /// `[rows, bytes]`, row-major; empty where they are decoded.
    pub bytes: &'a [u8],
    /// `[rows, c]`, row-major.
    pub codes: &'a [u32],
    /// `[rows, k]`, row-major: the (standardised) targets, or the index of the class; may be empty
    /// where it is not read.
    pub label: &'a [f32],
    /// `[rows]`: row weight times class weight; may be empty where rows are only scored.
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
            bytes: &self.bytes[start * width.bytes..end * width.bytes],
            codes: &self.codes[start * width.columns..end * width.columns],
            label: part(self.label, start * width.targets, end * width.targets),
            weight: part(self.weight, start, end),
            prefetch: Prefetch::NONE,
        }
    }

    /// Copies of the rows that `indices` names, in its order.
    pub fn gathered(&self, indices: &[u32]) -> Rows {
        let n = self.rows.max(1);
        let width = Width {
            dense: self.dense.len() / n,
            bytes: self.bytes.len() / n,
            columns: self.codes.len() / n,
            categories: 0,
            targets: self.label.len() / n,
        };
        let mut rows = Rows::zeros(width, indices.len());
        rows.as_mut().copy(0, self, indices, width);
        rows
    }
}

/// The values `start..end`, none where there are none at all.
#[inline(always)]
fn part(values: &[f32], start: usize, end: usize) -> &[f32] {
    if values.is_empty() { values } else { &values[start..end] }
}
