//! How a JSON file is read into the columns of its table.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::Decoder;
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion_datasource::boundary_stream::AlignedBoundaryStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};

use super::super::listing::one_line;
use super::super::name_of;
use super::super::text::parse;
use super::super::text_format::{Wanted, named};
use super::super::widen::integer;
use super::array::ArrayLines;
use super::format::Layout;

/// The wanted columns of a file.
///
/// # Errors
/// When it cannot be opened.
pub(super) async fn open(
    layout: Layout,
    wanted: Wanted,
    compression: FileCompressionType,
    store: Arc<dyn ObjectStore>,
    file: PartitionedFile,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let (meta, schema) = (&file.object_meta, wanted.schema);
    let name = name_of(store.as_ref(), &meta.location);
    let read = if layout.is_whole { Arc::clone(&schema) } else { strict(&schema) };
    let bytes: BoxStream<'static, Result<Bytes>> = match &file.range {
        None => {
            let result = store.get(&meta.location).await?;
            result.into_stream().map_err(DataFusionError::from).boxed()
        }
        Some(range) => {
            let location = meta.location.clone();
            let (start, end) = (range.start.max(0) as u64, range.end.max(0) as u64);
            AlignedBoundaryStream::new(store, location, start, end, meta.size, b'\n')
                .await?
                .map_err(DataFusionError::from)
                .boxed()
        }
    };
    let bytes = compression.convert_stream(bytes)?;
    let lines = if layout.is_array { array_lines(bytes) } else { bytes };
    let decoder = ReaderBuilder::new(read)
        .with_batch_size(wanted.batch_size)
        .with_coerce_primitive(true)
        .build_decoder()?;
    Ok(decoded(lines, decoder)
        .map(move |batch| match batch {
            Ok(batch) => columns(&name, &schema, &batch),
            Err(error) => Err(named("JSON", &name, error)),
        })
        .boxed())
}

/// The objects of an array, line by line.
fn array_lines(bytes: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let state = Some((bytes, ArrayLines::default()));
    futures::stream::try_unfold(state, |state| async move {
        let Some((mut bytes, mut array)) = state else { return Ok(None) };
        match bytes.next().await {
            Some(chunk) => {
                let lines = array.lines(&chunk?)?;
                Ok(Some((lines, Some((bytes, array)))))
            }
            None if array.is_over() => Ok(None),
            None => exec_err!("the array does not end"),
        }
    })
    .boxed()
}

/// The rows of some bytes.
fn decoded(
    bytes: BoxStream<'static, Result<Bytes>>,
    decoder: Decoder,
) -> BoxStream<'static, Result<RecordBatch>> {
    let state = (bytes, decoder, Bytes::new(), true);
    futures::stream::try_unfold(state, |(mut bytes, mut decoder, mut rest, mut more)| async move {
        loop {
            if rest.is_empty() && more {
                match bytes.next().await {
                    Some(chunk) => rest = chunk?,
                    None => more = false,
                }
            }
            if rest.is_empty() && more {
                continue;
            }
            let taken = decoder.decode(&rest)?;
            rest.advance(taken);
            // A batch is full, or this was the last.
            if !rest.is_empty() || !more {
                let batch = decoder.flush()?;
                return Ok(batch.map(|batch| (batch, (bytes, decoder, rest, more))));
            }
        }
    })
    .boxed()
}

/// The schema with whole numbers as texts: arrow's reader cuts fractions off.
fn strict(wanted: &Schema) -> SchemaRef {
    let fields = wanted.fields().iter().map(strict_field).collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

fn strict_field(field: &FieldRef) -> FieldRef {
    fn strict_type(data_type: &DataType) -> DataType {
        match data_type {
            _ if integer(data_type).is_some() => DataType::Utf8,
            DataType::List(item) => DataType::List(strict_field(item)),
            DataType::LargeList(item) => DataType::LargeList(strict_field(item)),
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(strict_field).collect()),
            other => other.clone(),
        }
    }
    Arc::new(Field::clone(field).with_data_type(strict_type(field.data_type())))
}

/// The columns of a batch as they are wanted.
fn columns(file: &str, wanted: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = vec![];
    for (column, field) in batch.columns().iter().zip(wanted.fields()) {
        columns.push(if column.data_type() == field.data_type() {
            Arc::clone(column)
        } else if integer(field.data_type()).is_some() {
            match parse(column, field.data_type(), false) {
                Ok(column) => column,
                Err(bad) => {
                    return exec_err!(
                        "{file} has {} for {}, which is {}; declare it as it is: CREATE EXTERNAL \
                         TABLE t ({} DOUBLE, ...) STORED AS JSON LOCATION ...",
                        one_line(&bad.text),
                        field.name(),
                        field.data_type(),
                        field.name()
                    );
                }
            }
        } else {
            let options = CastOptions { safe: false, ..Default::default() };
            cast_with_options(column, field.data_type(), &options)
                .map_err(|error| named("JSON", file, error.into()))?
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(wanted), columns, &options)?)
}
