//! One Parquet file of a watched folder.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::super::BATCH_ROWS;
use super::super::adapt::{Adapter, Columns};
use super::Folder;

/// What a Parquet file begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// Bytes of the shortest file: the magic twice and the length of the footer.
const SHORTEST: u64 = 12;

/// A file that is being read, one row group in memory at a time.
pub(super) struct OpenFile {
    pub(super) name: String,
    pub(super) batches: ParquetRecordBatchStream<Object>,
    pub(super) adapter: Adapter,
    /// The row that comes next.
    pub(super) row: u64,
}

/// What came of opening a file.
pub(super) enum Opening {
    Open(Box<OpenFile>),
    /// It is not whole, and why.
    Unfinished(String),
    Vanished,
}

type Builder = ParquetRecordBatchStreamBuilder<Object>;

/// Opens a file at a row.
///
/// # Errors
/// When it cannot be read, has other columns than the table, or fewer rows than are skipped.
pub(super) async fn open(
    folder: &Folder,
    name: &str,
    meta: &ObjectMeta,
    table: &SchemaRef,
    skip: u64,
) -> Result<Opening> {
    let builder = match footer(folder, meta).await {
        Ok(builder) => builder,
        // Whatever went wrong, the file may be gone by now.
        Err(Footer::Unfinished(reason)) => match folder.store.head(&meta.location).await {
            Err(Error::NotFound { .. }) => return Ok(Opening::Vanished),
            _ => return Ok(Opening::Unfinished(reason)),
        },
        Err(Footer::Failed(Error::NotFound { .. })) => return Ok(Opening::Vanished),
        Err(Footer::Failed(error)) => {
            return exec_err!("file {name} cannot be read: {error}");
        }
    };
    let rows = builder.metadata().file_metadata().num_rows() as u64;
    if skip > rows {
        return exec_err!(
            "file {name} has {rows} rows and reading should go on after row {skip}: it is not the \
             file that was read before"
        );
    }
    let (groups, offset) = groups(&builder, skip);
    let fields = builder.schema().fields().iter().enumerate();
    let names: HashSet<&String> = table.fields().iter().map(|field| field.name()).collect();
    let known = fields.filter(|(_, field)| names.contains(field.name()));
    let known: Vec<usize> = known.map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), known);
    let batches = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .with_row_groups(groups)
        .with_offset(offset)
        .build()?;
    let whose = format!("file {name}");
    let adapter = Adapter::new(batches.schema(), table, whose, Columns::Overlapping)?;
    let name = name.to_owned();
    Ok(Opening::Open(Box::new(OpenFile { name, batches, adapter, row: skip })))
}

/// The schema of a file.
///
/// # Errors
/// When it is not whole or cannot be read.
pub(super) async fn schema(folder: &Folder, meta: &ObjectMeta) -> Result<SchemaRef> {
    match footer(folder, meta).await {
        Ok(builder) => Ok(Arc::clone(builder.schema())),
        Err(_) => exec_err!("{} is no whole Parquet file", meta.location),
    }
}

enum Footer {
    Unfinished(String),
    Failed(Error),
}

/// Reads the footer: it is written last, so a file that has one is whole.
async fn footer(folder: &Folder, meta: &ObjectMeta) -> Result<Builder, Footer> {
    if meta.size < SHORTEST {
        return Err(Footer::Unfinished(format!("it has {} bytes", meta.size)));
    }
    let end = meta.size - MAGIC.len() as u64..meta.size;
    match folder.store.get_range(&meta.location, end).await {
        Ok(bytes) if bytes == MAGIC => {}
        Ok(_) => return Err(Footer::Unfinished("it has no footer".to_owned())),
        Err(error @ (Error::NotFound { .. } | Error::PermissionDenied { .. })) => {
            return Err(Footer::Failed(error));
        }
        // It may have become shorter since it was listed.
        Err(error) => return Err(Footer::Unfinished(error.to_string())),
    }
    let reader = Object { store: Arc::clone(&folder.store), meta: meta.clone() };
    Builder::new(reader).await.map_err(|error| Footer::Unfinished(error.to_string()))
}

/// The row groups after `skip` rows, and the rows to leave out of the first of them.
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
pub(super) struct Object {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
}

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store.get_range(&self.meta.location, range).map_err(external).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
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
