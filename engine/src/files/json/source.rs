//! Reads JSON files into the columns of the table.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::Decoder;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpenFuture, FileOpener, FileScanConfig, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::boundary_stream::AlignedBoundaryStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};

use super::super::listing::one_line;
use super::super::name_of;
use super::super::text::parse;
use super::super::widen::integer;
use super::array::ArrayLines;
use super::format::Layouts;

/// The source of a scan of JSON files.
#[derive(Clone)]
pub(super) struct JsonFilesSource {
    table_schema: TableSchema,
    projection: SplitProjection,
    layouts: Layouts,
    batch_size: Option<usize>,
    has_ranges: bool,
    metrics: ExecutionPlanMetricsSet,
}

impl JsonFilesSource {
    pub(super) fn new(table_schema: TableSchema, layouts: Layouts) -> Self {
        Self {
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            layouts,
            batch_size: None,
            has_ranges: false,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same source; whether files may be cut between lines.
    pub(super) fn with_ranges(self, has_ranges: bool) -> Self {
        Self { has_ranges, ..self }
    }
}

impl FileSource for JsonFilesSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let Some(batch_size) = self.batch_size else {
            return internal_err!("the rows of a batch are not said");
        };
        let schema = self.table_schema.file_schema();
        let opener = JsonFileOpener {
            wanted: Arc::new(schema.project(&self.projection.file_indices)?),
            compression: config.file_compression_type,
            layouts: self.layouts.clone(),
            store: object_store,
            batch_size,
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), schema)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size: Some(batch_size), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "json"
    }

    fn supports_repartitioning(&self) -> bool {
        self.has_ranges
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

struct JsonFileOpener {
    /// The columns that are wanted, as they are given on.
    wanted: SchemaRef,
    compression: FileCompressionType,
    layouts: Layouts,
    store: Arc<dyn ObjectStore>,
    batch_size: usize,
}

impl FileOpener for JsonFileOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (layouts, store) = (self.layouts.clone(), Arc::clone(&self.store));
        let (wanted, compression, batch_size) =
            (Arc::clone(&self.wanted), self.compression, self.batch_size);
        Ok(Box::pin(async move {
            let meta = &file.object_meta;
            let name = name_of(store.as_ref(), &meta.location);
            let layout = layouts.of(&store, meta, compression).await?;
            let read = if layout.is_whole { Arc::clone(&wanted) } else { strict(&wanted) };
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
            let lines = match layout.is_array {
                true => array_lines(bytes),
                false => bytes.boxed(),
            };
            let decoder = ReaderBuilder::new(read)
                .with_batch_size(batch_size)
                .with_coerce_primitive(true)
                .build_decoder()?;
            let batches = decoded(lines, decoder);
            Ok(batches
                .map(move |batch| match batch {
                    Ok(batch) => columns(&name, &wanted, &batch),
                    Err(error) => Err(named(&name, error)),
                })
                .boxed())
        }))
    }
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
) -> Pin<Box<dyn futures::Stream<Item = Result<RecordBatch>> + Send>> {
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
                .map_err(|error| named(file, error.into()))?
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(wanted), columns, &options)?)
}

/// An error of the reader, with the file and at most a line of it.
fn named(file: &str, error: DataFusionError) -> DataFusionError {
    let text = match &error {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::Execution(text) => text.clone(),
        _ => return error,
    };
    let text = text.trim_start_matches("Json error: ");
    DataFusionError::Execution(format!("{file} cannot be read as JSON: {}", one_line(text)))
}
