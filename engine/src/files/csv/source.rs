//! Reads CSV files: each by its own layout, into the columns of the table.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::config::CsvOptions;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    CsvOpener, CsvSource, FileOpenFuture, FileOpener, FileScanConfig, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::StreamExt;
use object_store::ObjectStore;

use super::super::listing::one_line;
use super::super::name_of;
use super::super::text::{NoValue, parse};
use super::format::Layouts;
use super::layout::{Dialect, Layout};

/// The source of a scan of CSV files.
#[derive(Clone)]
pub(super) struct CsvFilesSource {
    table_schema: TableSchema,
    projection: SplitProjection,
    dialect: Dialect,
    layouts: Layouts,
    batch_size: Option<usize>,
    has_line_breaks: bool,
    metrics: ExecutionPlanMetricsSet,
}

impl CsvFilesSource {
    pub(super) fn new(table_schema: TableSchema, dialect: Dialect, layouts: Layouts) -> Self {
        Self {
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            dialect,
            layouts,
            batch_size: None,
            has_line_breaks: false,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same source; files whose values have line breaks are not cut between them.
    pub(super) fn with_line_breaks(self, has_line_breaks: bool) -> Self {
        Self { has_line_breaks, ..self }
    }
}

impl FileSource for CsvFilesSource {
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
        let opener = CsvFileOpener {
            table: Arc::clone(schema),
            places: self.projection.file_indices.clone(),
            wanted: Arc::new(schema.project(&self.projection.file_indices)?),
            compression: config.file_compression_type,
            dialect: self.dialect.clone(),
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
        "csv"
    }

    fn supports_repartitioning(&self) -> bool {
        !self.has_line_breaks
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match kind {
            DisplayFormatType::TreeRender => Ok(()),
            _ => write!(f, ", has_header={}", self.dialect.has_header.unwrap_or(true)),
        }
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

/// Opens a file with the columns that are wanted.
struct CsvFileOpener {
    /// The columns of the files.
    table: SchemaRef,
    /// Which of them are wanted, in the order in which they are given on.
    places: Vec<usize>,
    wanted: SchemaRef,
    compression: FileCompressionType,
    dialect: Dialect,
    layouts: Layouts,
    store: Arc<dyn ObjectStore>,
    batch_size: usize,
}

impl FileOpener for CsvFileOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (layouts, dialect, store) =
            (self.layouts.clone(), self.dialect.clone(), Arc::clone(&self.store));
        let (compression, batch_size) = (self.compression, self.batch_size);
        let (table, wanted, places) =
            (Arc::clone(&self.table), Arc::clone(&self.wanted), self.places.clone());
        Ok(Box::pin(async move {
            let name = name_of(store.as_ref(), &file.object_meta.location);
            let layout = layouts.of(&store, &file.object_meta, &dialect).await?;
            let reading = Reading::new(name, &layout, &table, wanted, &places, &dialect)?;
            let source = reading.source(&layout, &dialect, batch_size)?;
            // Rows are counted where the file is read from its start.
            let mut rows = file.range.as_ref().is_none_or(|range| range.start == 0).then_some(0);
            let batches = CsvOpener::new(Arc::new(source), compression, store).open(file)?.await;
            let batches = batches.map_err(|error| reading.named(error))?;
            Ok(batches
                .map(move |batch| {
                    let batch = batch.map_err(|error| reading.named(error))?;
                    let given = reading.columns(&batch, rows)?;
                    rows = rows.map(|rows| rows + batch.num_rows());
                    Ok(given)
                })
                .boxed())
        }))
    }
}

/// How the columns of a file become those that are wanted.
struct Reading {
    file: String,
    wanted: SchemaRef,
    /// For each wanted column: where it is among those that are read, and how it is read.
    columns: Vec<Option<Column>>,
    /// Columns of the file that are read, ascending.
    places: Vec<usize>,
}

struct Column {
    index: usize,
    /// Whether it is read as texts, which are parsed then.
    is_text: bool,
    has_decimal_comma: bool,
}

impl Reading {
    fn new(
        file: String,
        layout: &Layout,
        table: &Schema,
        wanted: SchemaRef,
        wanted_places: &[usize],
        dialect: &Dialect,
    ) -> Result<Self> {
        let found: Vec<Option<usize>> = if dialect.has_header.unwrap_or(true) {
            let names = Names::of(&file, layout)?;
            refuse_stranger(&file, layout, table, &names)?;
            wanted.fields().iter().map(|field| names.find(field.name())).collect()
        } else {
            // Without a header, columns are found by their place in the table.
            let is_there = |place: &usize| *place < layout.columns.len();
            wanted_places.iter().map(|place| Some(*place).filter(is_there)).collect()
        };
        for (own, field) in found.iter().zip(wanted.fields()) {
            if own.is_none() && !field.is_nullable() {
                return exec_err!(
                    "{file} has no column {}, which is NOT NULL in the table",
                    field.name()
                );
            }
        }
        let mut places: Vec<usize> = found.iter().copied().flatten().collect();
        places.sort_unstable();
        places.dedup();
        let columns = found.iter().zip(wanted.fields()).map(|(own, field)| {
            let place = (*own)?;
            let column = &layout.columns[place];
            Some(Column {
                index: places.partition_point(|p| *p < place),
                is_text: !(is_text_type(field.data_type())
                    || (column.is_strict && holds(field.data_type(), &column.data_type))),
                has_decimal_comma: column.has_decimal_comma,
            })
        });
        let columns = columns.collect();
        Ok(Self { file, wanted, columns, places })
    }

    /// DataFusion's source of the file: its columns in their own order.
    fn source(&self, layout: &Layout, dialect: &Dialect, batch_size: usize) -> Result<CsvSource> {
        let mut types = vec![DataType::Utf8; layout.columns.len()];
        for (column, field) in self.columns.iter().zip(self.wanted.fields()) {
            if let Some(column) = column.as_ref().filter(|column| !column.is_text) {
                types[self.places[column.index]] = field.data_type().clone();
            }
        }
        let fields = layout.columns.iter().zip(types);
        // Names are not looked at: in a header there may be white space around them.
        let fields = fields.map(|(column, data_type)| Field::new(&column.name, data_type, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = CsvOptions {
            delimiter: layout.delimiter,
            comment: layout.comment,
            has_header: Some(dialect.has_header.unwrap_or(true)),
            ..dialect.options.clone()
        };
        let projection = ProjectionExprs::from_indices(&self.places, &schema);
        let source = CsvSource::new(schema).with_csv_options(options);
        let source = source.with_batch_size(batch_size);
        match source.try_pushdown_projection(&projection)? {
            Some(source) => match source.downcast_ref::<CsvSource>() {
                Some(source) => Ok(source.clone()),
                None => internal_err!("a CSV source has become another"),
            },
            None => internal_err!("a CSV source takes no projection"),
        }
    }

    /// The wanted columns of a batch; `rows` were read before it.
    fn columns(&self, batch: &RecordBatch, rows: Option<usize>) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![];
        for (column, field) in self.columns.iter().zip(self.wanted.fields()) {
            columns.push(match column {
                None => new_null_array(field.data_type(), batch.num_rows()),
                Some(column) if column.is_text => {
                    let texts = batch.column(column.index);
                    parse(texts, field.data_type(), column.has_decimal_comma)
                        .map_err(|bad| self.told(&bad, field, rows))?
                }
                Some(column) => Arc::clone(batch.column(column.index)),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.wanted), columns, &options)?)
    }

    /// What a value that is not of its column's type is told as.
    fn told(&self, bad: &NoValue, field: &Field, rows: Option<usize>) -> DataFusionError {
        let place = rows.map_or_else(String::new, |rows| format!(" in row {}", rows + bad.row + 1));
        exec_datafusion_err!(
            "{} has '{}'{place} of column {}, which is no {}; declare the column as it is: CREATE \
             EXTERNAL TABLE t ({} VARCHAR, ...) STORED AS CSV LOCATION ..., or leave such rows out",
            self.file,
            one_line(&bad.text),
            field.name(),
            field.data_type(),
            field.name()
        )
    }

    /// An error of the reader, with the file.
    fn named(&self, error: DataFusionError) -> DataFusionError {
        match error {
            DataFusionError::ArrowError(error, _) => {
                exec_datafusion_err!(
                    "{} cannot be read as CSV: {}",
                    self.file,
                    one_line(error.to_string().trim_start_matches("Csv error: "))
                )
            }
            error => error,
        }
    }
}

/// Refuses a file that shares no column with its table: it is the file of another.
fn refuse_stranger(file: &str, layout: &Layout, table: &Schema, names: &Names<'_>) -> Result<()> {
    let is_known = table.fields().iter().any(|field| names.find(field.name()).is_some());
    if is_known || table.fields().is_empty() || layout.columns.is_empty() {
        return Ok(());
    }
    let own: Vec<&str> = layout.columns.iter().map(|column| column.name.as_str()).collect();
    let wanted: Vec<&str> = table.fields().iter().map(|field| field.name().as_str()).collect();
    exec_err!(
        "{file} has none of the columns of the table ({}); its first line is {}",
        one_line(&wanted.join(", ")),
        one_line(&own.join(","))
    )
}

/// Where the columns of a header are, by name: as written, or in another case where only one is.
struct Names<'a> {
    exact: HashMap<&'a str, usize>,
    folded: HashMap<String, Option<usize>>,
}

impl<'a> Names<'a> {
    fn of(file: &str, layout: &'a Layout) -> Result<Self> {
        let mut exact = HashMap::with_capacity(layout.columns.len());
        let mut folded = HashMap::with_capacity(layout.columns.len());
        for (place, column) in layout.columns.iter().enumerate() {
            if exact.insert(column.name.as_str(), place).is_some() {
                return exec_err!("{file} has two columns that are called {}", column.name);
            }
            folded
                .entry(column.name.to_lowercase())
                .and_modify(|only| *only = None)
                .or_insert(Some(place));
        }
        Ok(Self { exact, folded })
    }

    fn find(&self, name: &str) -> Option<usize> {
        let exact = self.exact.get(name).copied();
        exact.or_else(|| self.folded.get(&name.to_lowercase()).copied().flatten())
    }
}

/// Whether arrow's reader of a type takes all cells of another as they are written.
fn holds(data_type: &DataType, cells: &DataType) -> bool {
    data_type == cells
        || cells == &DataType::Null
        || (data_type == &DataType::Float64 && cells == &DataType::Int64)
}

fn is_text_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
