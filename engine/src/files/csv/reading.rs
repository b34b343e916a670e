//! How a CSV file is read into the columns of its table: by its own layout, and by name.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::config::CsvOptions;
use datafusion::datasource::physical_plan::{CsvSource, FileSource};
use datafusion::physical_expr::projection::ProjectionExprs;
use gradlake_udfs::Names;

use super::super::listing::one_line;
use super::super::text::{NoValue, parse};
use super::super::text_format::Wanted;
use super::layout::{Dialect, Layout};

/// How the columns of a file become those that are wanted.
pub(super) struct Reading {
    file: String,
    wanted: SchemaRef,
    /// For each wanted column: where it is among those that are read, and how it is read.
    columns: Vec<Option<Column>>,
    /// Columns of the file that are read, ascending.
    places: Vec<usize>,
}

struct Column {
    index: usize,
    /// Whether it is read as texts, which are parsed afterwards.
    is_text: bool,
    has_decimal_comma: bool,
}

impl Reading {
    /// Finds columns by the header, with the same rules for names as everywhere.
    ///
    /// # Errors
    /// When the file lacks a column that must not be NULL, or shares none with the table.
    pub(super) fn new(
        file: String,
        layout: &Layout,
        wanted: &Wanted,
        dialect: &Dialect,
    ) -> Result<Self> {
        let schema = Arc::clone(&wanted.schema);
        let found: Vec<Option<usize>> = if dialect.has_header.unwrap_or(true) {
            let names = Names::new(layout.columns.iter().map(|column| column.name.as_str()));
            let find = |field: &FieldRef| match names.find(field.name()) {
                Ok(place) => Ok(place),
                Err(error) => exec_err!("{file}: {}", error.message()),
            };
            let found = schema.fields().iter().map(find).collect::<Result<Vec<_>>>()?;
            if found.iter().all(Option::is_none) {
                refuse_other_table(&file, &names, &wanted.table)?;
            }
            found
        } else {
            // Without a header, columns are found by their position in the table.
            let is_there = |place: &usize| *place < layout.columns.len();
            wanted.places.iter().map(|place| Some(*place).filter(is_there)).collect()
        };
        for (own, field) in found.iter().zip(schema.fields()) {
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
        let columns = found.iter().zip(schema.fields()).map(|(own, field)| {
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
        Ok(Self { file, wanted: schema, columns, places })
    }

    /// DataFusion's source of the file: its columns in their own order.
    pub(super) fn source(
        &self,
        layout: &Layout,
        dialect: &Dialect,
        batch_size: usize,
    ) -> Result<CsvSource> {
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
    pub(super) fn columns(&self, batch: &RecordBatch, rows: Option<usize>) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![];
        for (column, field) in self.columns.iter().zip(self.wanted.fields()) {
            columns.push(match column {
                None => new_null_array(field.data_type(), batch.num_rows()),
                Some(column) if column.is_text => {
                    let texts = batch.column(column.index);
                    parse(texts, field.data_type(), column.has_decimal_comma)
                        .map_err(|bad| self.bad_value(&bad, field, rows))?
                }
                Some(column) => Arc::clone(batch.column(column.index)),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.wanted), columns, &options)?)
    }

    /// The error of a value that is not of its column's type.
    fn bad_value(&self, bad: &NoValue, field: &Field, rows: Option<usize>) -> DataFusionError {
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
}

/// Refuses a file that shares no column with its table: it belongs to another.
fn refuse_other_table(file: &str, names: &Names<'_>, table: &Schema) -> Result<()> {
    let is_shared = |field: &FieldRef| names.find(field.name()).is_ok_and(|place| place.is_some());
    if table.fields().is_empty() || names.all().is_empty() || table.fields().iter().any(is_shared) {
        return Ok(());
    }
    let columns: Vec<&str> = table.fields().iter().map(|field| field.name().as_str()).collect();
    exec_err!(
        "{file} has none of the columns of the table ({}); its first line is {}",
        one_line(&columns.join(", ")),
        one_line(&names.all().join(","))
    )
}

/// Whether Arrow's reader of a type accepts all cells of another as they are written.
fn holds(data_type: &DataType, cells: &DataType) -> bool {
    data_type == cells
        || cells == &DataType::Null
        || (data_type == &DataType::Float64 && cells == &DataType::Int64)
}

fn is_text_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
