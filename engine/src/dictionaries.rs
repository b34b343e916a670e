//! Reads string columns of Parquet files as dictionaries if they are stored as dictionaries.
//!
//! DataFusion reads them as plain strings, so that the text of each row has to be looked up among
//! the categories. In a dictionary, each text of a row group is looked up once, and rows hold its
//! key.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::basic::Encoding;
use datafusion::parquet::file::metadata::ColumnChunkMetaData;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;

use crate::files::guard;
use crate::scan::{file_schema, footer, is_text, plain_source, scan_of};

/// The plan, in which those of the named columns are read as dictionaries that are stored as such
/// throughout, if the plan is a scan of Parquet files and nothing more.
pub(crate) fn read_dictionaries(
    plan: Arc<dyn ExecutionPlan>,
    runtime: &RuntimeEnv,
    names: &[&str],
) -> Arc<dyn ExecutionPlan> {
    match scan_of(plan.as_ref()).and_then(|scan| with_dictionaries(scan, runtime, names)) {
        Some(scan) => guard(DataSourceExec::from_data_source(scan)),
        None => plan,
    }
}

fn with_dictionaries(
    scan: &FileScanConfig,
    runtime: &RuntimeEnv,
    names: &[&str],
) -> Option<FileScanConfig> {
    let source = plain_source(scan)?;
    let names: HashSet<&str> = names.iter().copied().collect();
    let table = scan.file_source.table_schema();
    let projection = scan.file_source.projection()?;
    let mut wanted = vec![None; table.table_schema().fields().len()];
    for own in projection.iter() {
        let column = own.expr.downcast_ref::<Column>()?.index();
        let named = names.contains(own.alias.as_str());
        let is_text = is_text(table.table_schema().field(column).data_type());
        wanted[column] = Some(wanted[column].unwrap_or(true) && named && is_text);
    }
    let fields = table.table_schema().fields().iter().zip(&wanted);
    let mut names: HashSet<&str> = fields
        .filter(|(_, wanted)| **wanted == Some(true))
        .map(|(field, _)| field.name().as_str())
        .collect();
    // A column must be a dictionary in every file.
    let footers = scan.file_groups.iter().flat_map(FileGroup::iter);
    let footers = footers.map(|file| footer(runtime, file)).collect::<Option<Vec<_>>>()?;
    for group in footers.iter().flat_map(|footer| footer.row_groups()) {
        let own: HashSet<&str> = group
            .columns()
            .iter()
            .filter(|column| is_all_dictionary(column))
            .filter_map(|column| match column.column_path().parts() {
                [name] => Some(name.as_str()),
                _ => None,
            })
            .collect();
        names.retain(|name| own.contains(name));
    }
    if names.is_empty() {
        return None;
    }
    let mut footers = footers.iter();
    let mut adapt = |file: &PartitionedFile| -> Option<PartitionedFile> {
        let own = file_schema(file, footers.next()?)?;
        let schema = Arc::new(as_dictionaries(&own, &names)?);
        Some(PartitionedFile { arrow_schema: Some(schema), ..file.clone() })
    };
    let mut groups = vec![];
    for group in &scan.file_groups {
        groups.push(FileGroup::new(group.iter().map(&mut adapt).collect::<Option<Vec<_>>>()?));
    }
    let schema = as_dictionaries(table.file_schema(), &names)?;
    let mut own = ParquetSource::new(TableSchema::from(Arc::new(schema)))
        .with_table_parquet_options(source.table_parquet_options().clone());
    if let Some(factory) = source.parquet_file_reader_factory() {
        own = own.with_parquet_file_reader_factory(Arc::clone(factory));
    }
    let own = own.try_pushdown_projection(projection).ok()??;
    let scan = FileScanConfigBuilder::from(scan.clone());
    Some(scan.with_source(own).with_file_groups(groups).build())
}

/// Whether all values of a column of a row group are numbers of its dictionary.
fn is_all_dictionary(column: &ColumnChunkMetaData) -> bool {
    column.dictionary_page_offset().is_some()
        && column.page_encoding_stats_mask().is_some_and(|mask| {
            mask.is_only(Encoding::PLAIN_DICTIONARY) || mask.is_only(Encoding::RLE_DICTIONARY)
        })
}

/// A schema with these columns as dictionaries; None if one is not a text column.
fn as_dictionaries(schema: &Schema, names: &HashSet<&str>) -> Option<Schema> {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut fields = vec![];
    for field in schema.fields() {
        fields.push(match names.contains(field.name().as_str()) {
            true if is_text(field.data_type()) => {
                Arc::new(Field::clone(field).with_data_type(dictionary.clone()))
            }
            true => return None,
            false => Arc::clone(field),
        });
    }
    Some(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
    use datafusion::arrow::compute::{cast, concat_batches};
    use datafusion::execution::SessionState;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::file::properties::WriterProperties;
    use datafusion::physical_plan::collect_partitioned;

    use super::*;
    use crate::session::{Engine, EngineOptions};

    /// Two row groups of a column of dictionaries, one of texts, and one that is a dictionary in
    /// the first group alone.
    fn write(path: &std::path::Path) {
        let texts = |seed: i32| -> ArrayRef {
            let text = |i: i32| (i % 7 != 3).then(|| format!("text {}", (i * seed) % 11));
            Arc::new((0..1000).map(text).collect::<StringArray>())
        };
        // Too many and too long for the page of a dictionary.
        let many: ArrayRef =
            Arc::new((0..1000).map(|i| Some(format!("{i:01000}"))).collect::<StringArray>());
        let properties = WriterProperties::builder()
            .set_column_dictionary_enabled("plain".into(), false)
            .set_dictionary_page_size_limit(1 << 16)
            .build();
        let batch = |mixed: ArrayRef| {
            let columns =
                [("stored", texts(3)), ("plain", texts(5)), ("mixed", mixed), ("label", texts(7))];
            RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
        };
        let (first, second) = (batch(texts(2)), batch(many));
        let file = std::fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, first.schema(), Some(properties)).unwrap();
        writer.write(&first).unwrap();
        writer.flush().unwrap();
        writer.write(&second).unwrap();
        writer.close().unwrap();
    }

    /// The rows of all partitions, one after another.
    async fn rows(state: &SessionState, plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
        let schema = plan.schema();
        let partitions = collect_partitioned(plan, state.task_ctx()).await.unwrap();
        concat_batches(&schema, partitions.iter().flatten()).unwrap()
    }

    #[tokio::test]
    async fn columns_that_are_dictionaries_come_as_such_with_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a.parquet", "b.parquet"] {
            write(&folder.path().join(file));
        }
        let engine =
            Engine::open(EngineOptions { threads: Some(2), ..Default::default() }).unwrap();
        // As a training plans it: partitions in the order of the files, and no partition takes
        // files from another.
        let state = engine.training_state();
        let plan = async |columns: &str, rest: &str| {
            let sql = format!("SELECT {columns} FROM '{}/' {rest}", folder.path().display());
            let plan = engine.context().sql(&sql).await.unwrap().into_unoptimized_plan();
            state.create_physical_plan(&plan).await.unwrap()
        };
        let runtime = state.runtime_env();
        let names = ["stored", "plain", "mixed"];
        for columns in ["stored, plain, mixed, label", "label, mixed, stored", "stored"] {
            let plain = plan(columns, "").await;
            let own = read_dictionaries(Arc::clone(&plain), runtime, &names);
            for field in own.schema().fields() {
                let is_dictionary = matches!(field.data_type(), DataType::Dictionary(_, _));
                assert_eq!(is_dictionary, field.name() == "stored", "{field}");
            }
            let (truth, found) = (rows(&state, plain).await, rows(&state, own).await);
            assert_eq!(truth.num_rows(), 4000);
            for (truth, found) in truth.columns().iter().zip(found.columns()) {
                let text = |column| cast(column, &DataType::Utf8).unwrap();
                assert_eq!(&text(truth), &text(found), "{columns}");
                assert!(truth.null_count() > 500 || columns != "stored");
            }
        }
        // A plan that is more than a scan stays as it is, and so do columns that are not named.
        for (columns, rest) in [
            ("stored, label", "WHERE label IS NOT NULL"),
            ("stored || 'x' AS stored", ""),
            ("plain, mixed", ""),
            ("label", ""),
        ] {
            let plain = plan(columns, rest).await;
            let own = read_dictionaries(Arc::clone(&plain), runtime, &names);
            assert_eq!(own.schema(), plain.schema(), "{columns} {rest}");
        }
    }
}
