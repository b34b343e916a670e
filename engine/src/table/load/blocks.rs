//! The rows of a subset in blocks, with random access to each block.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::common::Result;

use crate::table::load::raw::{RawData, RowRanges, Subset, running_sums};
use crate::table::parallel::in_order;

/// Blocks that a thread takes at a time. The thread that takes the next ones reads a spilled chunk
/// again.
const UNIT: usize = 4;

/// The rows of a subset in blocks: they begin at multiples of their number of rows, whatever the
/// chunks that hold them.
pub(in crate::table) struct Blocks<'a> {
    data: &'a RawData,
    subset: &'a Subset,
    /// For scattered rows: the number of rows up to the end of each part.
    ends: Vec<u64>,
}

/// The chunk that was last read; the next block often begins in it.
#[derive(Default)]
pub(in crate::table) struct LastChunk(Option<(usize, RecordBatch)>);

impl<'a> Blocks<'a> {
    pub(in crate::table) fn new(data: &'a RawData, subset: &'a Subset) -> Self {
        let ends = match &subset.ranges {
            RowRanges::Range(_) => vec![],
            RowRanges::Parts(parts) => running_sums(parts.iter().map(|(_, rows)| rows.len())),
        };
        Self { data, subset, ends }
    }

    /// Number of blocks.
    fn len(&self) -> usize {
        self.subset.rows.div_ceil(self.data.block_rows as u64) as usize
    }

    /// A block; all have equally many rows but the last.
    fn get(&self, index: usize, last: &mut LastChunk) -> Result<RecordBatch> {
        // Positions count the rows of the table, or those of the subset if its rows are scattered.
        let (base, ends) = match &self.subset.ranges {
            RowRanges::Range(first) => (*first, self.data.chunk_ends.as_slice()),
            RowRanges::Parts(_) => (0, self.ends.as_slice()),
        };
        let size = self.data.block_rows;
        let mut at = base + (index * size) as u64;
        let end = (at + size as u64).min(base + self.subset.rows);
        let mut piece = ends.partition_point(|end| *end <= at);
        let mut parts = vec![];
        while at < end {
            let begin = if piece == 0 { 0 } else { ends[piece - 1] };
            let rows = (end.min(ends[piece]) - at) as usize;
            parts.push(self.piece(piece, (at - begin) as usize, rows, last)?);
            at += rows as u64;
            piece += 1;
        }
        match parts.as_slice() {
            [whole] => Ok(whole.clone()),
            parts => Ok(concat_batches(&self.data.columns.schema, parts)?),
        }
    }

    /// Some rows of a piece.
    fn piece(
        &self,
        piece: usize,
        from: usize,
        rows: usize,
        last: &mut LastChunk,
    ) -> Result<RecordBatch> {
        match &self.subset.ranges {
            RowRanges::Range(_) => Ok(self.chunk(piece, last)?.slice(from, rows)),
            RowRanges::Parts(parts) => {
                let (chunk, own) = &parts[piece];
                Ok(take_record_batch(&self.chunk(*chunk, last)?, &own.slice(from, rows))?)
            }
        }
    }

    fn chunk(&self, index: usize, last: &mut LastChunk) -> Result<RecordBatch> {
        match &last.0 {
            Some((own, chunk)) if *own == index => Ok(chunk.clone()),
            _ => {
                let chunk = self.data.chunk(index)?;
                last.0 = Some((index, chunk.clone()));
                Ok(chunk)
            }
        }
    }

    /// Calls `f` with each block and the position of its first row in the subset, one after
    /// another.
    pub(in crate::table) fn for_each(
        &self,
        mut f: impl FnMut(u64, &RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut last = LastChunk::default();
        for index in 0..self.len() {
            self.data.resources.check_interrupt()?;
            f((index * self.data.block_rows) as u64, &self.get(index, &mut last)?)?;
        }
        Ok(())
    }

    /// Calls `f` with each block and the position of its first row in the subset, on all cores, and
    /// `take` with the results, in the order of the blocks. Each thread has a state of its own; the
    /// states are returned.
    pub(in crate::table) fn in_order<S: Send, T: Send>(
        &self,
        state: impl Fn() -> S + Sync,
        f: impl Fn(&mut S, u64, &RecordBatch) -> Result<T> + Sync,
        mut take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<Vec<S>> {
        let states = in_order(
            &self.data.resources,
            self.len().div_ceil(UNIT),
            || (state(), LastChunk::default()),
            |(own, last), unit| {
                (unit * UNIT..self.len().min((unit + 1) * UNIT))
                    .map(|index| {
                        f(own, (index * self.data.block_rows) as u64, &self.get(index, last)?)
                    })
                    .collect::<Result<Vec<T>>>()
            },
            |results| results.into_iter().try_for_each(&mut take),
        )?;
        Ok(states.into_iter().map(|(own, _)| own).collect())
    }
}
