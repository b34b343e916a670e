//! Chunks of rows in memory up to the memory limit, and in a file beyond it.

use std::fmt;
use std::sync::Mutex;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;

use crate::table::Resources;
use crate::table::parallel::lock;
use crate::table::storage::spill::{SpillLocation, SpillLog};

/// A chunk that is stored, but is not in the list yet.
pub struct Kept {
    chunk: Chunk,
    rows: usize,
    bytes: usize,
}

enum Chunk {
    /// None once it is released.
    Memory(Mutex<Option<RecordBatch>>),
    Spilled(SpillLocation),
}

/// A list of chunks.
pub struct Chunks {
    chunks: Vec<(Chunk, usize)>,
    rows: u64,
    memory: u64,
    spilled: u64,
    overflow: Option<Overflow>,
    name: &'static str,
}

/// Where chunks are stored.
struct Overflow {
    resources: Resources,
    reservation: MemoryReservation,
    /// Share of the memory limit up to which chunks stay in memory.
    share: f64,
    log: SpillLog,
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks")
            .field("name", &self.name)
            .field("rows", &self.rows)
            .field("memory", &self.memory)
            .field("spilled", &self.spilled)
            .finish_non_exhaustive()
    }
}

impl Chunks {
    /// No chunks yet. They stay in memory as long as all reservations are below `share` of the
    /// memory limit.
    pub fn new(resources: &Resources, name: &'static str, share: f64) -> Self {
        let overflow = Overflow {
            resources: resources.clone(),
            reservation: resources.reservation(name),
            share,
            log: SpillLog::new(resources, name),
        };
        Self { overflow: Some(overflow), name, ..Self::empty() }
    }

    /// No chunks, ever.
    pub fn empty() -> Self {
        Self { chunks: vec![], rows: 0, memory: 0, spilled: 0, overflow: None, name: "empty table" }
    }

    /// Appends a chunk; if it is spilled, the batch is returned for reuse.
    ///
    /// # Errors
    /// When it has to be spilled and cannot.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let (kept, rest) = self.keep(batch)?;
        self.add(kept);
        Ok(rest)
    }

    /// Stores a chunk in memory or on disk, from many threads at once. If it is spilled, the batch
    /// is returned for reuse. [`Chunks::add`] puts the chunk into the list.
    ///
    /// # Errors
    /// When it has to be spilled and cannot.
    pub fn keep(&self, batch: RecordBatch) -> Result<(Kept, Option<RecordBatch>)> {
        let Some(overflow) = &self.overflow else {
            return internal_err!("a chunk was given to an empty table");
        };
        let rows = batch.num_rows();
        let bytes = batch.get_array_memory_size();
        if overflow.resources.try_reserve(&overflow.reservation, bytes, overflow.share) {
            let chunk = Chunk::Memory(Mutex::new(Some(batch)));
            return Ok((Kept { chunk, rows, bytes }, None));
        }
        let place = overflow.log.append(&batch)?;
        Ok((Kept { chunk: Chunk::Spilled(place), rows, bytes }, Some(batch)))
    }

    /// Appends a stored chunk to the list.
    pub fn add(&mut self, kept: Kept) {
        let Kept { chunk, rows, bytes } = kept;
        match &chunk {
            Chunk::Memory(_) => self.memory += bytes as u64,
            Chunk::Spilled(place) => self.spilled += place.bytes(),
        }
        self.chunks.push((chunk, rows));
        self.rows += rows as u64;
    }

    /// The resources of the chunks; None for an empty table.
    pub fn resources(&self) -> Option<&Resources> {
        self.overflow.as_ref().map(|overflow| &overflow.resources)
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Rows of a chunk.
    pub fn chunk_rows(&self, index: usize) -> usize {
        self.chunks[index].1
    }

    /// Whether a chunk has to be read from disk.
    pub fn is_spilled(&self, index: usize) -> bool {
        matches!(self.chunks[index].0, Chunk::Spilled(_))
    }

    /// A chunk, read back where it was spilled.
    pub fn get(&self, index: usize) -> Result<RecordBatch> {
        match (&self.chunks[index].0, &self.overflow) {
            (Chunk::Memory(batch), _) => match &*lock(batch) {
                Some(batch) => Ok(batch.clone()),
                None => internal_err!("chunk {index} of the {} has been freed", self.name),
            },
            (Chunk::Spilled(place), Some(overflow)) => overflow.log.read(place),
            (Chunk::Spilled(_), None) => internal_err!("a spilled chunk has no file"),
        }
    }

    /// Releases a chunk that is in memory.
    pub fn release(&self, index: usize) {
        if let Chunk::Memory(batch) = &self.chunks[index].0 {
            let bytes = lock(batch).take().map_or(0, |batch| batch.get_array_memory_size());
            if let Some(Overflow { reservation, .. }) = &self.overflow {
                reservation.shrink(bytes.min(reservation.size()));
            }
        }
    }

    /// Rows of all chunks.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the chunks in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory
    }

    /// Bytes of the chunks on disk.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion::prelude::SessionContext;
    use gradlake_udfs::Sequential;

    use super::*;

    #[test]
    fn a_chunk_that_is_let_go_of_gives_its_memory_back_and_is_not_read() {
        let state = SessionContext::new().state();
        let resources = Resources::new(&state, Arc::default(), Arc::new(Sequential));
        let mut chunks = Chunks::new(&resources, "rows of a test", 1.0);
        for first in [0, 100] {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 100));
            chunks.push(RecordBatch::try_from_iter([("x", column)]).unwrap()).unwrap();
        }
        let all = chunks.overflow.as_ref().unwrap().reservation.size();
        chunks.release(0);
        assert_eq!(chunks.overflow.as_ref().unwrap().reservation.size() * 2, all);
        let error = chunks.get(0).unwrap_err().to_string();
        assert!(error.contains("chunk 0 of the rows of a test has been freed"), "{error}");
        assert_eq!(chunks.get(1).unwrap().num_rows(), 100);
        chunks.release(0);
        assert_eq!(chunks.overflow.as_ref().unwrap().reservation.size() * 2, all);
    }
}
