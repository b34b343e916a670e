//! Finds the scan of Parquet files in a plan, and the footers of the files.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use datafusion::physical_plan::ExecutionPlan;

/// The scan of files, if a plan is a scan and nothing more.
pub(crate) fn scan_of(plan: &dyn ExecutionPlan) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref()
}

/// The source of a scan of Parquet files that returns their columns and rows unchanged.
pub(crate) fn plain_source(scan: &FileScanConfig) -> Option<&ParquetSource> {
    let source = scan.file_source.downcast_ref::<ParquetSource>()?;
    let table = scan.file_source.table_schema();
    let is_plain = scan.file_source.filter().is_none()
        && scan.expr_adapter_factory.is_none()
        && table.table_partition_cols().is_empty()
        && table.virtual_columns().is_empty();
    is_plain.then_some(source)
}

/// The columns of a file, according to the plan or else to its footer.
pub(crate) fn file_schema(file: &PartitionedFile, footer: &ParquetMetaData) -> Option<SchemaRef> {
    if let Some(schema) = &file.arrow_schema {
        return Some(Arc::clone(schema));
    }
    let own = footer.file_metadata();
    let schema = parquet_to_arrow_schema(own.schema_descr(), own.key_value_metadata());
    schema.ok().map(Arc::new)
}

/// Whether values are texts, not as dictionaries.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The footer of a file, if it is in the cache.
pub(crate) fn footer(runtime: &RuntimeEnv, file: &PartitionedFile) -> Option<Arc<ParquetMetaData>> {
    let cache = runtime.cache_manager.get_file_metadata_cache();
    let entry = cache.get(&file.object_meta.location)?;
    if !entry.is_valid_for(&file.object_meta) {
        return None;
    }
    let footer = entry.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
    Some(Arc::clone(footer.parquet_metadata()))
}

/// Where a row group begins, and its bytes. The beginning decides to which of DataFusion's ranges
/// the group belongs.
pub(crate) fn extent(group: &RowGroupMetaData) -> (i64, i64) {
    let first = group.column(0);
    let begin = first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset());
    (begin, group.compressed_size())
}
