//! Converts records to rows of a Parquet file, and back.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use arrow::json::ReaderBuilder;
use arrow::json::writer::{JsonArray, WriterBuilder};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use futures::{StreamExt, stream};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Converts records to a batch of a schema, whose columns are the fields of the records.
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
    let (mut file, groups) = file(batch)?;
    for (i, part) in parts(batch).iter().enumerate() {
        append(&mut file, columns(part, groups.create_column_writers(i)?)?)?;
    }
    Ok(file.into_inner()?)
}

/// The same, with row groups made in parallel, `cores` at a time.
pub async fn to_parquet_on(cores: usize, batch: &RecordBatch) -> Result<Vec<u8>> {
    let (mut file, groups) = file(batch)?;
    let mut made = stream::iter(parts(batch).into_iter().enumerate())
        .map(|(i, part)| {
            let writers = groups.create_column_writers(i);
            async move {
                let writers = writers?;
                let made = tokio::task::spawn_blocking(move || columns(&part, writers)).await;
                made.map_err(|e| exec_datafusion_err!("writing a row group failed: {e}"))?
            }
        })
        .buffered(cores);
    while let Some(columns) = made.next().await {
        append(&mut file, columns?)?;
    }
    drop(made);
    Ok(file.into_inner()?)
}

/// A file for a batch, still without rows, and the factory of its row group writers.
fn file(
    batch: &RecordBatch,
) -> Result<(SerializedFileWriter<Vec<u8>>, ArrowRowGroupWriterFactory)> {
    // For a few rows, setting up a compressor takes longer than writing the bytes that it would
    // save.
    let compression = match bytes(batch) {
        ..SMALL_BYTES => Compression::UNCOMPRESSED,
        _ => Compression::ZSTD(ZstdLevel::try_new(1)?),
    };
    let mut properties = WriterProperties::builder()
        .set_compression(compression)
        .set_created_by(format!("gradlake {}", env!("CARGO_PKG_VERSION")));
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        properties = tuned(properties, vec![field.name().clone()], column);
    }
    let writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties.build()))?;
    Ok(writer.into_serialized_writer()?)
}

/// Writes a row group.
fn append(file: &mut SerializedFileWriter<Vec<u8>>, columns: Vec<ArrowColumnChunk>) -> Result<()> {
    let mut group = file.next_row_group()?;
    for column in columns {
        column.append_to_row_group(&mut group)?;
    }
    group.close()?;
    Ok(())
}

/// A batch of fewer bytes is not compressed.
const SMALL_BYTES: usize = 64 << 10;
/// Approximate bytes of a row group.
const GROUP_BYTES: usize = 4 << 20;

/// Bytes of the rows, without unused capacity.
fn bytes(batch: &RecordBatch) -> usize {
    let of_column = |column: &ArrayRef| {
        let all = column.get_array_memory_size();
        column.to_data().get_slice_memory_size().unwrap_or(all)
    };
    batch.columns().iter().map(of_column).sum()
}

/// The rows of each row group. The cuts depend on the batch alone.
fn parts(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let groups = (bytes(batch) / GROUP_BYTES).max(1).min(rows);
    let cut = |i: usize| rows * i / groups;
    (0..groups).map(|i| batch.slice(cut(i), cut(i + 1) - cut(i))).collect()
}

/// The columns of a row group.
fn columns(part: &RecordBatch, writers: Vec<ArrowColumnWriter>) -> Result<Vec<ArrowColumnChunk>> {
    let mut writers = writers.into_iter();
    let mut chunks = vec![];
    for (field, column) in part.schema().fields().iter().zip(part.columns()) {
        for leaf in compute_leaves(field, column)? {
            let Some(mut writer) = writers.next() else {
                return internal_err!("the column {} has too many leaves", field.name());
            };
            writer.write(&leaf)?;
            chunks.push(writer.close()?);
        }
    }
    Ok(chunks)
}

/// Adds properties for a column at a path. Weights, and the texts of many categories, hardly
/// repeat: looking each up in a dictionary takes longer than writing it.
fn tuned(
    properties: WriterPropertiesBuilder,
    path: Vec<String>,
    column: &ArrayRef,
) -> WriterPropertiesBuilder {
    let own = ColumnPath::new(path.clone());
    match column.data_type() {
        DataType::List(item) => {
            let path = [path, vec!["list".to_owned(), item.name().clone()]].concat();
            tuned(properties, path, column.as_list::<i32>().values())
        }
        // (Statistics of unordered texts do not help any reader that looks for a range.)
        DataType::Utf8 if is_unique(column.len(), |i| text(column, i)) => properties
            .set_column_dictionary_enabled(own.clone(), false)
            .set_column_statistics_enabled(own, EnabledStatistics::None),
        DataType::Float32 => {
            let properties = properties.set_column_dictionary_enabled(own.clone(), false);
            let values = column.as_primitive::<Float32Type>().values();
            // Compression would save only a tenth of the bytes.
            match is_unique(values.len(), |i| values[i].to_bits()) {
                true => properties.set_column_compression(own, Compression::UNCOMPRESSED),
                false => properties,
            }
        }
        other if other.is_floating() => properties.set_column_dictionary_enabled(own, false),
        _ => properties,
    }
}

/// The text in a row of a column of texts.
fn text(column: &ArrayRef, row: usize) -> Option<&str> {
    let texts = column.as_string::<i32>();
    texts.is_valid(row).then(|| texts.value(row))
}

/// The sample of a column's values: the number of runs, and the values per run.
const SAMPLE: (usize, usize) = (10, 100);

/// Whether nearly all of many values differ, both from their neighbours and from distant values.
fn is_unique<T: Eq + Hash>(values: usize, value: impl Fn(usize) -> T) -> bool {
    let (runs, length) = SAMPLE;
    if values < runs * length {
        return false;
    }
    let first = |run: usize| (values - length) * run / (runs - 1);
    let sample = (0..runs).flat_map(|run| first(run)..first(run) + length);
    let different: HashSet<T> = sample.map(value).collect();
    different.len() > runs * length * 3 / 4
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
    fn dictionaries_statistics_and_compressors_are_where_they_pay() {
        let n = 20_000;
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
        let runs: ArrayRef =
            Arc::new((0..n).map(|i| Some(format!("{}", i / 10))).collect::<StringArray>());
        let common: ArrayRef = Arc::new(
            (0..n).map(|i| Some(format!("{}", (i * i + 3 * i) % 1009))).collect::<StringArray>(),
        );
        let zeros: ArrayRef = Arc::new(Float32Array::from(vec![0.0; n]));
        let doubles = cast(&floats, &DataType::Float64).unwrap();
        // (Name, whether there are a dictionary, statistics and a compressor.)
        let columns = [
            ("feature", text(7), (true, true, true)),
            ("category", text(n), (false, false, true)),
            ("runs", runs, (true, true, true)),
            ("common", common, (true, true, true)),
            ("weight", Arc::clone(&floats), (false, true, false)),
            ("double", doubles, (false, true, true)),
            ("sparse", Arc::clone(&zeros), (false, true, true)),
            ("rows", numbers, (true, true, true)),
            ("values", list(floats), (false, true, false)),
            ("sparse_values", list(zeros), (false, true, true)),
            ("categories", list(text(n)), (false, false, true)),
            ("names", list(text(7)), (true, true, true)),
        ];
        let own = columns.iter().map(|(name, column, _)| (*name, Arc::clone(column)));
        let batch = RecordBatch::try_from_iter(own).unwrap();
        let bytes = to_parquet(&batch).unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
        let group = reader.metadata().row_group(0);
        for (column, (name, _, expected)) in group.columns().iter().zip(&columns) {
            let found = (
                column.dictionary_page_offset().is_some(),
                column.statistics().is_some(),
                column.compression() != Compression::UNCOMPRESSED,
            );
            assert_eq!(found, *expected, "{name}");
        }
        assert_eq!(from_parquet(bytes, "a table").unwrap().columns(), batch.columns());
    }

    #[tokio::test]
    async fn much_is_written_in_row_groups_and_read_as_it_was() {
        for (rows, groups) in [(0, 0..=0), (3, 1..=1), (1_000_000, 2..=20)] {
            let values = (0..rows).map(|i| (i % 11 != 0).then_some(i as f32));
            let values: ArrayRef = Arc::new(values.collect::<Float32Array>());
            let texts = (0..rows).map(|i| if i % 3 == 0 { "a" } else { "bc" });
            let lengths = (0..rows).map(|i| i % 2);
            let item = Arc::new(Field::new("item", DataType::Float32, true));
            let offsets = OffsetBuffer::from_lengths(lengths);
            let list = values.slice(0, offsets.last().copied().unwrap_or(0) as usize);
            let list = ListArray::new(item, offsets, list, None);
            let texts: ArrayRef = Arc::new(texts.map(Some).collect::<StringArray>());
            let columns = [("values", values), ("list", Arc::new(list) as _), ("texts", texts)];
            let batch = RecordBatch::try_from_iter_with_nullable(
                columns.map(|(name, column)| (name, column, true)),
            )
            .unwrap();
            let bytes = to_parquet(&batch).unwrap();
            assert!(bytes == to_parquet_on(3, &batch).await.unwrap(), "{rows} rows");
            let reader = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
            let found = reader.metadata().num_row_groups();
            assert!(groups.contains(&found), "{found} groups of {rows} rows");
            assert_eq!(from_parquet(bytes, "a table").unwrap(), batch);
        }
    }
}
