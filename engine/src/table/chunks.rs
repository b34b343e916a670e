//! Chunks of rows in memory as far as the limit goes, and in a file beyond it.

use std::fmt;
use std::sync::Mutex;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;

use super::Resources;
use super::parallel::lock;
use super::spill::{Place, SpillLog};

enum Chunk {
    /// None once it is let go of.
    Memory(Mutex<Option<RecordBatch>>),
    Spilled(Place),
}

/// A list of chunks.
pub struct Chunks {
    chunks: Vec<(Chunk, usize)>,
    rows: u64,
    memory: u64,
    spilled: u64,
    log: Option<SpillLog>,
    reservation: Option<MemoryReservation>,
    resources: Option<Resources>,
    name: &'static str,
    share: f64,
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
        Self {
            reservation: Some(resources.reservation(name)),
            resources: Some(resources.clone()),
            name,
            share,
            ..Self::empty()
        }
    }

    /// No chunks, ever.
    pub fn empty() -> Self {
        Self {
            chunks: vec![],
            rows: 0,
            memory: 0,
            spilled: 0,
            log: None,
            reservation: None,
            resources: None,
            name: "empty table",
            share: 0.0,
        }
    }

    /// Takes a chunk; if it is spilled, its memory is given back.
    ///
    /// # Errors
    /// When it has to be spilled and cannot.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let (Some(resources), Some(reservation)) = (&self.resources, &self.reservation) else {
            return internal_err!("a chunk was given to an empty table");
        };
        let rows = batch.num_rows();
        let bytes = batch.get_array_memory_size();
        let (chunk, rest) = if resources.try_reserve(reservation, bytes, self.share) {
            self.memory += bytes as u64;
            (Chunk::Memory(Mutex::new(Some(batch))), None)
        } else {
            let log = match &mut self.log {
                Some(log) => log,
                none => none.insert(SpillLog::create(resources, self.name)?),
            };
            let place = log.append(&batch)?;
            self.spilled += place.bytes();
            (Chunk::Spilled(place), Some(batch))
        };
        self.chunks.push((chunk, rows));
        self.rows += rows as u64;
        Ok(rest)
    }

    /// What the chunks may use; None of an empty table.
    pub fn resources(&self) -> Option<&Resources> {
        self.resources.as_ref()
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
        match (&self.chunks[index].0, &self.log) {
            (Chunk::Memory(batch), _) => match &*lock(batch) {
                Some(batch) => Ok(batch.clone()),
                None => internal_err!("chunk {index} of the {} is let go of", self.name),
            },
            (Chunk::Spilled(place), Some(log)) => log.read(*place),
            (Chunk::Spilled(_), None) => internal_err!("a spilled chunk has no file"),
        }
    }

    /// Lets go of a chunk that is in memory.
    pub fn let_go(&self, index: usize) {
        if let Chunk::Memory(batch) = &self.chunks[index].0 {
            let bytes = lock(batch).take().map_or(0, |batch| batch.get_array_memory_size());
            if let Some(reservation) = &self.reservation {
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
    use gradlake_udfs::shards::Sequential;

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
        let all = chunks.reservation.as_ref().unwrap().size();
        chunks.let_go(0);
        assert_eq!(chunks.reservation.as_ref().unwrap().size() * 2, all);
        let error = chunks.get(0).unwrap_err().to_string();
        assert!(error.contains("chunk 0 of the rows of a test is let go of"), "{error}");
        assert_eq!(chunks.get(1).unwrap().num_rows(), 100);
        chunks.let_go(0);
        assert_eq!(chunks.reservation.as_ref().unwrap().size() * 2, all);
    }
}
