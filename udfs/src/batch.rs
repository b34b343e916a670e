//! Encoded rows as the kernels see them.
//!
//! A row is `dense` numbers followed by `columns` category indices. A one-hot column is never
//! materialised: its product with a weight matrix is the gather of one row of the weight table.

/// The index of a category that the encoder does not know: it contributes nothing.
pub const NO_CATEGORY: u32 = u32::MAX;

/// The width of an encoded row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Width {
    /// Dense numbers in a row (`d`).
    pub dense: usize,
    /// Category columns in a row (`c`), one index each.
    pub columns: usize,
    /// Categories of all columns together (`t`): the rows of the weight table.
    pub categories: usize,
}

impl Width {
    /// Inputs of the first layer, `d + t`: what the width would be with one-hot columns.
    pub fn inputs(&self) -> usize {
        self.dense + self.categories
    }
}

/// Some encoded rows, borrowed: a mini-batch, or the shard of one.
///
/// Category indices are global: already offset by the categories of the columns before, so that
/// they index the weight table of `Width::categories` rows directly, or [`NO_CATEGORY`].
#[derive(Clone, Copy, Debug)]
pub struct MiniBatch<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Position of the first row in its mini-batch (0 unless this is a shard).
    pub first_row: usize,
    /// `[rows, d]`, row-major.
    pub dense: &'a [f32],
    /// `[rows, c]`, row-major.
    pub codes: &'a [u32],
    /// `[rows]`: the (standardised) target, or the index of the class.
    pub label: &'a [f32],
    /// `[rows]`: row weight times class weight.
    pub weight: &'a [f32],
}

impl<'a> MiniBatch<'a> {
    /// The rows `start..end` as a mini-batch of their own, which remembers where it stood.
    pub fn slice(&self, start: usize, end: usize, width: Width) -> MiniBatch<'a> {
        MiniBatch {
            rows: end - start,
            first_row: self.first_row + start,
            dense: &self.dense[start * width.dense..end * width.dense],
            codes: &self.codes[start * width.columns..end * width.columns],
            label: &self.label[start..end],
            weight: &self.weight[start..end],
        }
    }
}
