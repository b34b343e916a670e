//! A file of spilled chunks: each an Arrow IPC stream of its own, so that any can be read alone.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::execution::spill_file::{SpillFile, SpillWriter};

use super::Resources;
use super::memory::Shelf;

/// Where a chunk lies in the file.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    offset: u64,
    bytes: u64,
}

impl Place {
    /// Length in the file.
    pub fn bytes(self) -> u64 {
        self.bytes
    }
}

/// A file that chunks are appended to; it vanishes with its last user.
pub struct SpillLog {
    file: Arc<dyn SpillFile>,
    writer: Mutex<Box<dyn SpillWriter>>,
    end: u64,
    buffer: Vec<u8>,
    /// What chunks are read into.
    shelf: Arc<Shelf>,
}

impl fmt::Debug for SpillLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillLog").field("bytes", &self.end).finish_non_exhaustive()
    }
}

impl SpillLog {
    /// An empty file.
    pub fn create(resources: &Resources, what: &str) -> Result<Self> {
        let file = resources.disk().create_tmp_file(what)?;
        let writer = Mutex::new(file.open_writer()?);
        Ok(Self { file, writer, end: 0, buffer: vec![], shelf: Arc::default() })
    }

    /// Writes a chunk behind the others.
    pub fn append(&mut self, batch: &RecordBatch) -> Result<Place> {
        self.buffer.clear();
        let mut writer = StreamWriter::try_new(&mut self.buffer, &batch.schema())?;
        writer.write(batch)?;
        writer.finish()?;
        drop(writer);
        let bytes = self.buffer.len() as u64;
        let spilled = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = spilled.write_all(&self.buffer) {
            return exec_err!(
                "training data could not be spilled to disk after {} MB: {error}; free disk space \
                 or raise the memory limit",
                self.end >> 20
            );
        }
        let place = Place { offset: self.end, bytes };
        self.end += bytes;
        Ok(place)
    }

    /// Reads a chunk back.
    pub fn read(&self, place: Place) -> Result<RecordBatch> {
        let Some(path) = self.file.path() else {
            return exec_err!("spilled training data lies on no local disk");
        };
        let failed =
            |error: std::io::Error| exec_datafusion_err!("spilled data cannot be read: {error}");
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        let mut memory = self.shelf.take(place.bytes as usize);
        file.read_exact(memory.bytes()).map_err(failed)?;
        match StreamDecoder::new().decode(&mut memory.freeze())? {
            Some(batch) => Ok(batch),
            None => exec_err!("a spilled chunk of {} bytes is empty", place.bytes),
        }
    }
}
