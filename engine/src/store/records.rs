//! Records as rows of a Parquet file, and back.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::json::ReaderBuilder;
use arrow::json::writer::{JsonArray, WriterBuilder};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
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
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(format!("gradlake {}", env!("CARGO_PKG_VERSION")));
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        for path in unique(field.name(), column) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::new(path), false);
        }
    }
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties.build()))?;
    writer.write(batch)?;
    Ok(writer.into_inner()?)
}

/// Values of a column of texts that are looked at.
const SAMPLE: usize = 1000;

/// The columns of a file whose values hardly repeat: weights, and the texts of many categories. To look
/// each up in a dictionary takes longer than to write it.
fn unique(name: &str, column: &ArrayRef) -> Vec<Vec<String>> {
    let own = name.to_owned();
    match column.data_type() {
        DataType::List(item) => unique(item.name(), column.as_list::<i32>().values())
            .into_iter()
            .map(|path| [own.clone(), "list".to_owned()].into_iter().chain(path).collect())
            .collect(),
        data_type if data_type.is_floating() => vec![vec![own]],
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let sample = SAMPLE.min(texts.len());
            let different: HashSet<_> = texts.iter().take(sample).collect();
            if sample == SAMPLE && different.len() > SAMPLE / 2 { vec![vec![own]] } else { vec![] }
        }
        _ => vec![],
    }
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float32Array, ListArray, StringArray, UInt64Array};
    use datafusion::arrow::buffer::OffsetBuffer;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn dictionaries_are_of_what_repeats() {
        let n = 2000;
        let text = |modulus: usize| -> ArrayRef {
            Arc::new((0..n).map(|i| Some(format!("{}", i % modulus))).collect::<StringArray>())
        };
        let list = |values: ArrayRef| -> ArrayRef {
            let item = Arc::new(Field::new("item", values.data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, n));
            Arc::new(ListArray::new(item, offsets, values, None))
        };
        let floats: ArrayRef = Arc::new(Float32Array::from_iter_values((0..n).map(|i| i as f32)));
        let numbers: ArrayRef =
            Arc::new(UInt64Array::from_iter_values((0..n).map(|i| i as u64 % 3)));
        let columns = [
            ("feature", text(7), true),
            ("category", text(n), false),
            ("weight", Arc::clone(&floats), false),
            ("rows", numbers, true),
            ("values", list(floats), false),
            ("categories", list(text(n)), false),
            ("names", list(text(7)), true),
        ];
        let own = columns.iter().map(|(name, column, _)| (*name, Arc::clone(column)));
        let batch = RecordBatch::try_from_iter(own).unwrap();
        let bytes = to_parquet(&batch).unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
        let group = reader.metadata().row_group(0);
        for (column, (name, _, expected)) in group.columns().iter().zip(&columns) {
            assert_eq!(column.dictionary_page_offset().is_some(), *expected, "{name}");
        }
        assert_eq!(from_parquet(bytes, "a table").unwrap().columns(), batch.columns());
    }
}
