//! Encoded rows in memory: many threads fill the chunks at once, and write each row to its slot.

use std::ops::Range;
use std::sync::Mutex;

use datafusion::arrow::array::{Float32Array, UInt8Array, UInt32Array};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::ArrowNativeType;
use datafusion::common::Result;
use gradlake_udfs::kernels::prefetch::fetch;
use gradlake_udfs::{Rows, RowsMut, Width};

use crate::table::encoded::chunk::EncodedChunk;
use crate::table::parallel::{lock, unlock};
use crate::table::shuffle::plan::{ShufflePlan, Slot};
use crate::table::storage::buffer_pool::{Allocation, PageSize, SharedBuffer, Span};

/// The positions of a chunk's columns in the memory of all chunks.
#[derive(Clone, Copy)]
struct ChunkSpans {
    dense: Span,
    bytes: Span,
    codes: Span,
    label: Span,
    weight: Span,
}

/// Chunks that are to be filled.
pub(in crate::table) struct ScatterBuffer {
    width: Width,
    memory: Allocation,
    chunks: Vec<ChunkSpans>,
}

/// Writes rows to their slots in chunks.
pub(in crate::table) struct ScatterWriter<'a> {
    width: Width,
    chunks: usize,
    /// Runs of neighbouring chunks.
    runs: Vec<Mutex<Vec<RowsMut<'a>>>>,
    /// Chunks of a run.
    run: usize,
}

/// Maximum number of runs; a run is locked as a whole while many threads fill chunks. A thread that
/// releases a lock waits until all its writes are done, so it must not do so for a few rows.
const RUNS: usize = 64;

/// Chunks that are full.
pub(in crate::table) struct FilledChunks {
    memory: SharedBuffer,
    chunks: Vec<ChunkSpans>,
}

/// Rows by the chunk that they go to; kept from block to block.
#[derive(Default)]
pub(in crate::table) struct RowSorter {
    /// Where the rows of each chunk begin in `order`.
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl ChunkSpans {
    fn new(start: usize, rows: usize, width: Width) -> Self {
        let span = |start, values: usize| Span { start, bytes: 4 * values };
        let dense = span(start, rows * width.dense);
        let bytes = Span { start: dense.next(), bytes: rows * width.bytes };
        let codes = span(bytes.next(), rows * width.columns);
        let label = span(codes.next(), rows * width.targets);
        Self { dense, bytes, codes, label, weight: span(label.next(), rows) }
    }

    /// The columns, in `memory` that begins where the chunk does.
    fn rows<'a>(&self, memory: &'a mut [u8]) -> RowsMut<'a> {
        let start = self.dense.start;
        let (dense, rest) = memory.split_at_mut(self.bytes.start - start);
        let (bytes, rest) = rest.split_at_mut(self.codes.start - self.bytes.start);
        let (codes, rest) = rest.split_at_mut(self.label.start - self.codes.start);
        let (label, weight) = rest.split_at_mut(self.weight.start - self.label.start);
        RowsMut {
            dense: bytemuck::cast_slice_mut(&mut dense[..self.dense.bytes]),
            bytes: &mut bytes[..self.bytes.bytes],
            codes: bytemuck::cast_slice_mut(&mut codes[..self.codes.bytes]),
            label: bytemuck::cast_slice_mut(&mut label[..self.label.bytes]),
            weight: bytemuck::cast_slice_mut(&mut weight[..self.weight.bytes]),
        }
    }
}

impl ScatterBuffer {
    /// # Errors
    /// When the system has no memory for all rows.
    pub(in crate::table) fn new(width: Width, plan: &ShufflePlan, pages: PageSize) -> Result<Self> {
        let mut end = 0;
        let chunks: Vec<ChunkSpans> = (0..plan.chunks())
            .map(|chunk| {
                let layout = ChunkSpans::new(end, plan.rows_of(chunk), width);
                end = layout.weight.next();
                layout
            })
            .collect();
        Ok(Self { width, memory: Allocation::zeroed(end, pages)?, chunks })
    }

    /// A writer for many threads that fill the chunks.
    pub(in crate::table) fn writer(&mut self) -> ScatterWriter<'_> {
        let run = self.chunks.len().div_ceil(RUNS).max(1);
        self.in_runs(run)
    }

    /// The chunks, each with a lock of its own.
    pub(in crate::table) fn each(&mut self) -> Vec<Mutex<RowsMut<'_>>> {
        let chunks = self.in_runs(1).runs.into_iter().flat_map(unlock);
        chunks.map(Mutex::new).collect()
    }

    fn in_runs(&mut self, run: usize) -> ScatterWriter<'_> {
        let mut rest = self.memory.bytes();
        let mut runs = vec![];
        for chunks in self.chunks.chunks(run) {
            let mut own = vec![];
            for chunk in chunks {
                let (memory, after) = rest.split_at_mut(chunk.weight.next() - chunk.dense.start);
                own.push(chunk.rows(memory));
                rest = after;
            }
            runs.push(Mutex::new(own));
        }
        ScatterWriter { width: self.width, chunks: self.chunks.len(), runs, run }
    }

    /// The chunks, once they are full.
    pub(in crate::table) fn placed(self) -> FilledChunks {
        FilledChunks { memory: self.memory.freeze(), chunks: self.chunks }
    }
}

impl ScatterWriter<'_> {
    /// Writes each row to its slot. Rows that go to the same chunk must be contiguous there.
    pub(in crate::table) fn put(&self, rows: &Rows, slots: &[Slot], sorter: &mut RowSorter) {
        let Some(first) = slots.first() else { return };
        sorter.sort(slots, self.chunks);
        // Threads start at different runs, visit all of them, and come back to those that were
        // locked.
        let begin = first.chunk as usize / self.run;
        let mut later = vec![];
        for run in (begin..self.runs.len()).chain(0..begin) {
            match self.runs[run].try_lock() {
                Ok(mut own) => self.put_run(run, &mut own, rows, slots, sorter),
                Err(_) => later.push(run),
            }
        }
        for run in later {
            self.put_run(run, &mut lock(&self.runs[run]), rows, slots, sorter);
        }
    }

    fn put_run(
        &self,
        run: usize,
        own: &mut [RowsMut<'_>],
        rows: &Rows,
        slots: &[Slot],
        sorter: &RowSorter,
    ) {
        for (i, chunk) in (run * self.run..).zip(0..own.len()) {
            let first = |order: &[u32]| slots[order[0] as usize].row as usize;
            // Prefetches the slots of the next chunk's rows.
            let end = self.chunks.min(i + 2);
            let next = sorter.rows_of(i + 1..end);
            if let Some(after) = own.get(chunk + 1).filter(|_| !next.is_empty()) {
                let d = self.width.dense;
                fetch(&after.dense[first(next) * d..(first(next) + next.len()) * d]);
            }
            let order = sorter.rows_of(i..i + 1);
            if !order.is_empty() {
                own[chunk].copy(first(order), &rows.batch(), order, self.width);
            }
        }
    }
}

impl FilledChunks {
    /// The chunks, in order.
    pub(in crate::table) fn into_chunks(self) -> impl Iterator<Item = EncodedChunk> {
        let memory = self.memory;
        self.chunks.into_iter().map(move |chunk| EncodedChunk {
            dense: Float32Array::new(values(&memory, chunk.dense), None),
            bytes: UInt8Array::new(values(&memory, chunk.bytes), None),
            codes: UInt32Array::new(values(&memory, chunk.codes), None),
            label: Float32Array::new(values(&memory, chunk.label), None),
            weight: Float32Array::new(values(&memory, chunk.weight), None),
        })
    }
}

fn values<T: ArrowNativeType>(memory: &SharedBuffer, span: Span) -> ScalarBuffer<T> {
    ScalarBuffer::from(memory.buffer(span))
}

impl RowSorter {
    /// The rows that go to a range of chunks, chunk by chunk.
    pub(in crate::table) fn rows_of(&self, chunks: Range<usize>) -> &[u32] {
        &self.order[self.starts[chunks.start] as usize..self.starts[chunks.end] as usize]
    }

    /// Counting sort of rows by chunk.
    pub(in crate::table) fn sort(&mut self, slots: &[Slot], chunks: usize) {
        self.starts.clear();
        self.starts.resize(chunks + 1, 0);
        for slot in slots {
            self.starts[slot.chunk as usize] += 1;
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += *start;
            *start = sum;
        }
        self.order.clear();
        self.order.resize(slots.len(), 0);
        for (row, slot) in slots.iter().enumerate().rev() {
            let start = &mut self.starts[slot.chunk as usize];
            *start -= 1;
            self.order[*start as usize] = row as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::shuffle::plan::StratumSlots;

    #[test]
    fn rows_come_to_stand_in_their_places() {
        let width = Width { dense: 2, bytes: 3, columns: 1, categories: 9, ..Width::default() };
        let n = 37;
        let value = |row: usize| row as f32;
        let part = |rows: std::ops::Range<usize>| Rows {
            dense: rows.clone().flat_map(|row| [value(row), -value(row)]).collect(),
            bytes: rows.clone().flat_map(|row| [row as u8, 7, 8]).collect(),
            codes: rows.clone().map(|row| row as u32).collect(),
            label: rows.clone().map(value).collect(),
            weight: vec![0.5; rows.len()],
        };
        for seed in [None, Some(3)] {
            let plan = ShufflePlan::new(n as u64, 8, seed);
            let mut slots = vec![];
            plan.slots(0, n, &mut StratumSlots::default(), &mut slots);
            let mut placement = ScatterBuffer::new(width, &plan, PageSize::Small).unwrap();
            let mut sorter = RowSorter::default();
            let writer = placement.writer();
            writer.put(&part(0..20), &slots[..20], &mut sorter);
            writer.put(&part(20..n), &slots[20..], &mut sorter);
            let chunks: Vec<_> = placement.placed().into_chunks().collect();
            assert_eq!(chunks.len(), 5);
            for (row, slot) in slots.iter().enumerate() {
                let own = chunks[slot.chunk as usize].mini_batch();
                let at = slot.row as usize;
                assert_eq!(own.dense[2 * at..2 * at + 2], [value(row), -value(row)]);
                assert_eq!(own.bytes[3 * at..3 * at + 3], [row as u8, 7, 8]);
                assert_eq!((own.codes[at], own.label[at]), (row as u32, value(row)));
            }
            assert_eq!(chunks[4].label.len(), plan.rows_of(4));
        }
    }
}
