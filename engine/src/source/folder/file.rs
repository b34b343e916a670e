//! One Parquet file of a watched folder.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::DataFusionError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt};
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::super::adapt::{Adapter, Columns};
use super::super::{BATCH_ROWS, Cursor, Rows};
use super::Folder;
use super::manifest::{FolderCursor, Manifest};
use super::watch::Candidate;
use crate::files::{caught, readable};

/// The first and last bytes of a Parquet file.
const MAGIC: &[u8] = b"PAR1";
/// Bytes of the shortest file: the magic twice and the length of the footer.
const SHORTEST: u64 = 12;

/// A file that is being read, one row group in memory at a time.
pub(super) struct OpenFile {
    pub(super) name: String,
    object: Object,
    batches: ParquetRecordBatchStream<Object>,
    adapter: Adapter,
    /// The row that comes next.
    pub(super) row: u64,
    /// The cursor of its row 0, from which the cursors of its rows are made.
    place: Cursor,
}

/// The result of opening a file.
pub(super) enum Opening {
    Open(Box<OpenFile>),
    /// It cannot be read yet: why, and whether that is because it is incomplete.
    Unfinished {
        reason: String,
        is_torn: bool,
    },
    /// It does not fit the table, and why.
    Rejected(String),
    Vanished,
    /// The store does not answer, which says nothing about the file.
    Failed(DataFusionError),
}

/// What a file has next.
pub(super) enum Next {
    Rows(Rows),
    End,
    /// It cannot be read any further, and why.
    Broken(String),
    /// The store does not answer.
    Failed(DataFusionError),
}

/// Why a file cannot be read any further.
enum Trouble {
    /// It is broken, or it has changed.
    File(String),
    /// Its store does not answer.
    Store(Error),
}

type Builder = ParquetRecordBatchStreamBuilder<Object>;

/// Opens a file. The cursors of its rows have its name and size.
pub(super) async fn open(folder: &Folder, file: &Candidate, table: &SchemaRef) -> Opening {
    let (meta, name) = (&file.meta, &file.name);
    let object = Object { store: Arc::clone(&folder.store), meta: meta.clone() };
    let footer = match object.footer().await {
        Ok(footer) => footer,
        Err(trouble) => match (object.head().await, trouble) {
            // Whatever went wrong, the file may be gone by now.
            (Err(Error::NotFound { .. }), _) => return Opening::Vanished,
            (_, Trouble::File(reason)) => return Opening::Unfinished { reason, is_torn: true },
            (_, Trouble::Store(error @ Error::PermissionDenied { .. })) => {
                let reason = format!("it cannot be read: {error}");
                return Opening::Unfinished { reason, is_torn: false };
            }
            (_, Trouble::Store(error)) => return Opening::Failed(failed(name, &error)),
        },
    };
    let whose = format!("file {name}");
    let adapter = match Adapter::new(footer.schema(), table, &whose, Columns::Overlapping) {
        Ok(adapter) => adapter,
        Err(error) => return Opening::Rejected(why(&whose, &error)),
    };
    let rows = footer.metadata().file_metadata().num_rows() as u64;
    if file.skip > rows {
        return Opening::Rejected(format!("it has {rows} rows, and {} were read", file.skip));
    }
    // All values are checked before a row is returned: a file is read as a whole or not at all.
    // (A file that was begun before has been checked.)
    if let Some(checks) = adapter.checks().filter(|_| file.skip == 0 && file.again == 0) {
        match check(&object, &footer, checks, &whose).await {
            Ok(()) => {}
            Err(Trouble::File(why)) => return Opening::Rejected(why),
            Err(Trouble::Store(error)) => return Opening::Failed(failed(name, &error)),
        }
    }
    let batches = match object.batches(&footer, &adapter, file.skip) {
        Ok(batches) => batches,
        Err(error) => return Opening::Rejected(error.to_string()),
    };
    let of = FolderCursor { size: meta.size, rows, ..FolderCursor::default() };
    Opening::Open(Box::new(OpenFile {
        name: name.clone(),
        object,
        batches,
        adapter: adapter.projected(),
        row: file.skip,
        place: Cursor { folder: Some(of), ..Cursor::new(name, 0) },
    }))
}

/// Checks all values that may not fit; the error describes the first that does not.
async fn check(
    object: &Object,
    footer: &ArrowReaderMetadata,
    checks: Adapter,
    whose: &str,
) -> Result<(), Trouble> {
    let batches = object.batches(footer, &checks, 0);
    let mut batches = batches.map_err(|error| Trouble::File(error.to_string()))?;
    let (checks, mut row) = (checks.projected(), 0);
    while let Some(batch) = object.next(&mut batches).await? {
        checks.adapt(&batch, row).map_err(|error| Trouble::File(why(whose, &error)))?;
        row += batch.num_rows() as u64;
    }
    Ok(())
}

fn panicked(message: &str) -> Trouble {
    Trouble::File(format!("the Parquet reader failed, {message}"))
}

/// An error that names a file, as a sentence that begins with `it`.
fn why(whose: &str, error: &DataFusionError) -> String {
    let message = error.message();
    match message.strip_prefix(whose) {
        Some(what) => format!("it{what}"),
        None => message.to_string(),
    }
}

fn failed(name: &str, error: &Error) -> DataFusionError {
    exec_datafusion_err!("file {name} cannot be read: {error}")
}

impl OpenFile {
    /// Adds the files that were done before it to its cursors.
    pub(super) fn follows(&mut self, done: Manifest) {
        if let Some(folder) = &mut self.place.folder {
            folder.done = done;
        }
    }

    /// The cursor of the row that comes next.
    pub(super) fn cursor(&self) -> Cursor {
        self.place.after(self.row)
    }

    /// The next rows. Cancel safe, as the stream of batches is.
    pub(super) async fn next(&mut self) -> Next {
        let batch = match self.object.next(&mut self.batches).await {
            Ok(Some(batch)) => batch,
            Ok(None) => return Next::End,
            Err(Trouble::File(why)) => return Next::Broken(why),
            Err(Trouble::Store(error)) => return Next::Failed(failed(&self.name, &error)),
        };
        let whose = format!("file {}", self.name);
        match self.adapter.adapt(&batch, self.row) {
            Ok(batch) => {
                let first = self.cursor();
                self.row += batch.num_rows() as u64;
                Next::Rows(Rows::new(batch, first))
            }
            Err(error) => Next::Broken(why(&whose, &error)),
        }
    }
}

/// The schema of a file.
///
/// # Errors
/// When it is not whole or cannot be read.
pub(super) async fn schema(
    folder: &Folder,
    meta: &ObjectMeta,
) -> datafusion::common::Result<SchemaRef> {
    let object = Object { store: Arc::clone(&folder.store), meta: meta.clone() };
    match object.footer().await {
        Ok(footer) => Ok(Arc::clone(footer.schema())),
        Err(_) => exec_err!("{} is no whole Parquet file", meta.location),
    }
}

/// The row groups after `skip` rows, and the rows to skip in the first of them.
fn groups(builder: &Builder, mut skip: u64) -> (Vec<usize>, usize) {
    let groups = builder.metadata().row_groups();
    let mut first = 0;
    while let Some(group) = groups.get(first)
        && group.num_rows() as u64 <= skip
    {
        skip -= group.num_rows() as u64;
        first += 1;
    }
    ((first..groups.len()).collect(), skip as usize)
}

/// The bytes of a file in its store.
#[derive(Clone)]
pub(super) struct Object {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
}

impl Object {
    async fn head(&self) -> object_store::Result<ObjectMeta> {
        self.store.head(&self.meta.location).await
    }

    /// Reads the footer: it is written last, so a file that has one is whole.
    async fn footer(&self) -> Result<ArrowReaderMetadata, Trouble> {
        if self.meta.size < SHORTEST {
            return Err(Trouble::File(format!("it has {} bytes", self.meta.size)));
        }
        let end = self.meta.size - MAGIC.len() as u64..self.meta.size;
        match self.store.get_range(&self.meta.location, end).await {
            Ok(bytes) if bytes == MAGIC => {}
            Ok(_) => return Err(Trouble::File("it has no footer".to_owned())),
            Err(error) => return Err(self.trouble(error).await),
        }
        let mut object = self.clone();
        let footer = ArrowReaderMetadata::load_async(&mut object, ArrowReaderOptions::default());
        let footer = match caught(footer).await {
            Ok(Ok(footer)) => footer,
            Ok(Err(error)) => return Err(self.parquet_trouble(error).await),
            Err(message) => return Err(panicked(&message)),
        };
        let Some(schema) = readable(footer.schema()) else { return Ok(footer) };
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        match ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options) {
            Ok(footer) => Ok(footer),
            Err(error) => Err(self.parquet_trouble(error).await),
        }
    }

    /// Reads the columns of an adapter, starting at a row.
    fn batches(
        &self,
        footer: &ArrowReaderMetadata,
        adapter: &Adapter,
        skip: u64,
    ) -> Result<ParquetRecordBatchStream<Object>, ParquetError> {
        let builder = Builder::new_with_metadata(self.clone(), footer.clone());
        let (groups, offset) = groups(&builder, skip);
        let mask = ProjectionMask::roots(builder.parquet_schema(), adapter.columns());
        builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .with_row_groups(groups)
            .with_offset(offset)
            .build()
    }

    /// The next batch. If the decoder panics, only this file fails.
    async fn next(
        &self,
        batches: &mut ParquetRecordBatchStream<Object>,
    ) -> Result<Option<RecordBatch>, Trouble> {
        match caught(batches.next()).await {
            Ok(Some(Err(error))) => Err(self.parquet_trouble(error).await),
            Ok(batch) => Ok(batch.and_then(Result::ok)),
            Err(message) => Err(panicked(&message)),
        }
    }

    /// Checks a range: a footer may name bytes beyond the end of the file, which is not an error of
    /// the store.
    fn within(&self, range: &Range<u64>) -> Result<(), ParquetError> {
        if range.end > self.meta.size {
            return Err(ParquetError::EOF(format!("it names bytes up to {}", range.end)));
        }
        Ok(())
    }

    async fn parquet_trouble(&self, error: ParquetError) -> Trouble {
        match error {
            ParquetError::External(error) => match error.downcast::<Error>() {
                Ok(error) => self.trouble(*error).await,
                Err(error) => Trouble::File(error.to_string()),
            },
            error => Trouble::File(error.to_string()),
        }
    }

    /// Whether an error of the store is one of the file: it is gone, or shorter than it was.
    async fn trouble(&self, error: Error) -> Trouble {
        let is_same = match self.head().await {
            Ok(now) => now.size == self.meta.size,
            Err(Error::NotFound { .. }) => false,
            Err(_) => true,
        };
        if is_same { Trouble::Store(error) } else { Trouble::File(error.to_string()) }
    }
}

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            self.within(&range)?;
            self.store.get_range(&self.meta.location, range).map_err(external).await
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            ranges.iter().try_for_each(|range| self.within(range))?;
            let bytes = self.store.get_ranges(&self.meta.location, &ranges);
            bytes.await.map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.meta.size;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
