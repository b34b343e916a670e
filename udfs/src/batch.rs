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

/// Encoded rows that own their values, and grow.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// `[rows, d]`, row-major.
    pub dense: Vec<f32>,
    /// `[rows, c]`, row-major.
    pub codes: Vec<u32>,
    /// `[rows]`: as of [`MiniBatch::label`].
    pub label: Vec<f32>,
    /// `[rows]`: as of [`MiniBatch::weight`].
    pub weight: Vec<f32>,
}

impl Rows {
    /// No rows, with room for some.
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

    /// Puts copies of rows of `from` in the place of its own: pairs of (place, row of `from`).
    pub fn set(
        &mut self,
        from: &Self,
        pairs: impl Iterator<Item = (usize, usize)> + Clone,
        width: Width,
    ) {
        copy_rows(&mut self.dense, &from.dense, width.dense, pairs.clone());
        copy_rows(&mut self.codes, &from.codes, width.columns, pairs.clone());
        copy_rows(&mut self.label, &from.label, 1, pairs.clone());
        copy_rows(&mut self.weight, &from.weight, 1, pairs);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.label.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.label.is_empty()
    }

    /// Takes a copy of a row of `from`.
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
        }
    }
}

/// Copies rows of `n` values: pairs of (row of `to`, row of `from`).
pub fn copy_rows<T: Copy>(
    to: &mut [T],
    from: &[T],
    n: usize,
    pairs: impl Iterator<Item = (usize, usize)>,
) {
    /// Values of a window, which is copied by some instructions in place of a call.
    const WINDOW: usize = 16;
    match n {
        0 => {}
        1 => pairs.for_each(|(place, row)| to[place] = from[row]),
        WINDOW.. => pairs.for_each(|(place, row)| {
            let (to, from) = (&mut to[place * n..(place + 1) * n], &from[row * n..(row + 1) * n]);
            for (to, from) in
                to.as_chunks_mut::<WINDOW>().0.iter_mut().zip(from.as_chunks::<WINDOW>().0)
            {
                *to = *from;
            }
            // The last window may overlap the one before.
            if let (Some(to), Some(from)) =
                (to.last_chunk_mut::<WINDOW>(), from.last_chunk::<WINDOW>())
            {
                *to = *from;
            }
        }),
        n => pairs.for_each(|(place, row)| {
            to[place * n..(place + 1) * n].copy_from_slice(&from[row * n..(row + 1) * n]);
        }),
    }
}
