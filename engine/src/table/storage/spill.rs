//! Files of spilled chunks: each an Arrow IPC stream of its own, so that any can be read alone.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::execution::spill_file::{SpillFile, SpillWriter};

use crate::table::Resources;
use crate::table::parallel::lock;
use crate::table::storage::buffer_pool::BufferPool;

/// The position of a chunk in a file, which exists at least as long as this.
#[derive(Clone)]
pub struct SpillLocation {
    file: Arc<dyn SpillFile>,
    offset: u64,
    bytes: u64,
}

impl SpillLocation {
    /// Length in the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Files that chunks are appended to, one for each thread that appends at the same time.
pub struct SpillLog {
    resources: Resources,
    /// What is spilled.
    what: &'static str,
    /// Files that no thread writes to at the moment.
    idle: Mutex<Vec<Appending>>,
    /// Bytes in all files.
    bytes: AtomicU64,
    /// Buffers that chunks are read into.
    buffers: Arc<BufferPool>,
}

impl fmt::Debug for SpillLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillLog")
            .field("what", &self.what)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A file and its end.
struct Appending {
    file: Arc<dyn SpillFile>,
    writer: Box<dyn SpillWriter>,
    end: u64,
}

impl Write for Appending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.end += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl SpillLog {
    /// No files yet.
    pub fn new(resources: &Resources, what: &'static str) -> Self {
        Self {
            resources: resources.clone(),
            what,
            idle: Mutex::default(),
            bytes: AtomicU64::new(0),
            buffers: Arc::default(),
        }
    }

    /// Appends a chunk to a file.
    ///
    /// # Errors
    /// When there is no space on the disk, or spilling is not allowed.
    pub fn append(&self, batch: &RecordBatch) -> Result<SpillLocation> {
        let idle = lock(&self.idle).pop();
        let mut to = match idle {
            Some(file) => file,
            None => self.create()?,
        };
        let offset = to.end;
        if let Err(error) = write(batch, &mut to) {
            return exec_err!(
                "training data could not be spilled to disk after {} MB: {error}; free disk space \
                 or raise the memory limit",
                self.bytes.load(Ordering::Relaxed) >> 20
            );
        }
        let place = SpillLocation { file: Arc::clone(&to.file), offset, bytes: to.end - offset };
        self.bytes.fetch_add(place.bytes, Ordering::Relaxed);
        lock(&self.idle).push(to);
        Ok(place)
    }

    fn create(&self) -> Result<Appending> {
        let file = self.resources.disk().create_tmp_file(self.what)?;
        let writer = file.open_writer()?;
        Ok(Appending { file, writer, end: 0 })
    }

    /// Reads a chunk back.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, place: &SpillLocation) -> Result<RecordBatch> {
        let Some(path) = place.file.path() else {
            return exec_err!("spilled training data is not on a local disk");
        };
        let failed =
            |error: io::Error| exec_datafusion_err!("spilled data cannot be read: {error}");
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        let mut memory = self.buffers.take(place.bytes as usize);
        file.read_exact(memory.bytes()).map_err(failed)?;
        match StreamDecoder::new().decode(&mut memory.freeze())? {
            Some(batch) => Ok(batch),
            None => exec_err!("a spilled chunk of {} bytes is empty", place.bytes),
        }
    }
}

/// Writes a batch as a stream. Large buffers are written without a copy; small writes are combined.
fn write(batch: &RecordBatch, to: &mut Appending) -> Result<()> {
    let mut writer = StreamWriter::try_new(BufWriter::new(to), &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::thread_pool::ThreadPool;

    /// Threads that append at once have files of their own, and each chunk comes back as it was.
    #[test]
    fn chunks_of_many_threads_come_back() {
        let threads = ThreadPool::new(4).unwrap();
        let state = SessionContext::new().state();
        let resources = Resources::new(&state, Arc::default(), threads);
        let log = SpillLog::new(&resources, "a test");
        let batch = |i: usize| {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(i as i64..2 * i as i64));
            RecordBatch::try_from_iter([("x", column)]).unwrap()
        };
        let places: Vec<Mutex<Option<SpillLocation>>> =
            (0..200).map(|_| Mutex::default()).collect();
        resources.pool().run(200, &|i| {
            *lock(&places[i]) = Some(log.append(&batch(100 * i)).unwrap());
        });
        let sum: u64 = places.iter().map(|place| lock(place).as_ref().unwrap().bytes()).sum();
        assert_eq!(sum, log.bytes.load(Ordering::Relaxed));
        assert_eq!(resources.disk().used_disk_space(), sum);
        for (i, place) in places.iter().enumerate() {
            assert_eq!(log.read(lock(place).as_ref().unwrap()).unwrap(), batch(100 * i));
        }
        assert!((1..=4).contains(&lock(&log.idle).len()));
        drop((log, places));
        assert_eq!(resources.disk().used_disk_space(), 0, "a file is left behind");
    }
}
