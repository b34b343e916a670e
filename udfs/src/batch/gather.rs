//! Mini-batches of rows that are contiguous in part, and at random positions of a chunk in part.

use std::ops::Range;

use super::{MiniBatch, Rows, Width};
use crate::kernels::math::vectorized;
use crate::kernels::panels::Panels;
use crate::kernels::prefetch::Prefetch;

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
