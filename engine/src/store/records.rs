//! Records as rows of a Parquet file, and back.

use std::sync::Arc;

use arrow::json::ReaderBuilder;
use arrow::json::writer::{JsonArray, WriterBuilder};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Records as a batch of some schema, whose columns are their fields.
pub fn to_batch<T: Serialize>(schema: SchemaRef, records: &[T]) -> Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).build_decoder()?;
    decoder.serialize(records)?;
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

/// The records of a batch.
pub fn from_batch<T: DeserializeOwned>(batch: &RecordBatch, what: &str) -> Result<Vec<T>> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(vec![]);
    writer.write(&timestamps_as_numbers(batch)?)?;
    writer.finish()?;
    let json = writer.into_inner();
    if json.is_empty() {
        return Ok(vec![]);
    }
    serde_json::from_slice(&json)
        .map_err(|e| exec_datafusion_err!("{what} has other columns than it should: {e}"))
}

/// Timestamps as milliseconds since the epoch.
fn timestamps_as_numbers(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = vec![];
    let mut columns = vec![];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if matches!(field.data_type(), DataType::Timestamp(_, _)) {
            fields.push(Field::new(field.name(), DataType::Int64, true));
            columns.push(cast(column, &DataType::Int64)?);
        } else {
            fields.push(field.as_ref().clone());
            columns.push(Arc::clone(column));
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// A batch as the bytes of a Parquet file.
pub fn to_parquet(batch: &RecordBatch) -> Result<Vec<u8>> {
    let level = ZstdLevel::try_new(3)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(format!("gradlake {}", env!("CARGO_PKG_VERSION")))
        .build();
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties))?;
    writer.write(batch)?;
    Ok(writer.into_inner()?)
}

/// The batch of a Parquet file.
pub fn from_parquet(bytes: Vec<u8>, what: &str) -> Result<RecordBatch> {
    let read = || -> Result<RecordBatch> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?;
        let schema = Arc::clone(builder.schema());
        let batches = builder.build()?.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(concat_batches(&schema, &batches)?)
    };
    read().map_err(|e| exec_datafusion_err!("{what} is no Parquet file that can be read: {e}"))
}
