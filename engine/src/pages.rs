//! Parquet files on a disk, read page by page.
//!
//! DataFusion reads the columns of a whole row group before it decodes the first of its rows, since stores
//! of the cloud answer a few large requests sooner than many small ones. A training that reads row groups of
//! a million rows on every core would hold the file a second time, and what memory costs to be had is a good
//! part of a short training.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileOpenFuture, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use crate::scan::{extent, file_schema, footer, is_text, plain_source, scan_of};

/// The plan, reading page by page where it is a scan of Parquet files on a disk and nothing more.
pub(crate) fn read_pages(
    plan: Arc<dyn ExecutionPlan>,
    runtime: &RuntimeEnv,
) -> Arc<dyn ExecutionPlan> {
    match scan_of(plan.as_ref()).and_then(|scan| by_pages(scan, runtime)) {
        Some(scan) => DataSourceExec::from_data_source(scan),
        None => plan,
    }
}

fn by_pages(scan: &FileScanConfig, runtime: &RuntimeEnv) -> Option<FileScanConfig> {
    let source = plain_source(scan)?;
    if scan.object_store_url != ObjectStoreUrl::local_filesystem() {
        return None;
    }
    let table = source.table_schema().clone();
    let projection = source.projection()?.clone();
    let mut wanted = vec![];
    for own in projection.iter() {
        let column = own.expr.downcast_ref::<Column>()?.index();
        wanted.push(table.table_schema().fields().get(column)?.as_ref());
    }
    let mut files = HashMap::new();
    for file in scan.file_groups.iter().flat_map(FileGroup::iter) {
        let location = &file.object_meta.location;
        if !files.contains_key(location) {
            files.insert(location.clone(), Layout::of(file, runtime, &wanted)?);
        }
    }
    let schema = Arc::new(projection.project_schema(table.table_schema()).ok()?);
    let reader = Reader { files: Arc::new(files), schema, batch_size: scan.batch_size };
    let pages = Pages { table, projection, reader, metrics: ExecutionPlanMetricsSet::new() };
    Some(FileScanConfigBuilder::from(scan.clone()).with_source(Arc::new(pages)).build())
}

/// A source of Parquet files that are read page by page.
#[derive(Clone)]
struct Pages {
    table: TableSchema,
    projection: ProjectionExprs,
    reader: Reader,
    metrics: ExecutionPlanMetricsSet,
}

/// Reads files whose footers are known.
#[derive(Clone)]
struct Reader {
    files: Arc<HashMap<Path, Layout>>,
    /// What is given.
    schema: SchemaRef,
    batch_size: Option<usize>,
}

/// How a file is decoded.
struct Layout {
    metadata: ArrowReaderMetadata,
    /// Where in it the columns are, in the order of the query.
    columns: Vec<usize>,
}

impl Layout {
    /// None where the footer is not in the cache, or the file differs from the table in more than the
    /// order of its columns: then it is DataFusion's.
    fn of(file: &PartitionedFile, runtime: &RuntimeEnv, wanted: &[&Field]) -> Option<Self> {
        let footer = footer(runtime, file)?;
        let own = file_schema(file, &footer)?;
        let mut fields = own.fields().to_vec();
        let mut columns = vec![];
        for wanted in wanted {
            let (column, field) = own.column_with_name(wanted.name())?;
            let (given, data_type) = (field.data_type(), wanted.data_type());
            if given != data_type {
                if !(is_text(given) && is_text(data_type)) {
                    return None;
                }
                fields[column] = Arc::new(field.clone().with_data_type(data_type.clone()));
            }
            columns.push(column);
        }
        let schema = Schema::new_with_metadata(fields, own.metadata().clone());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        Some(Self { metadata: ArrowReaderMetadata::try_new(footer, options).ok()?, columns })
    }
}

impl FileOpener for Reader {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let location = &file.object_meta.location;
        let Some(Layout { metadata, columns }) = self.files.get(location) else {
            return internal_err!("{location} is no file of this scan");
        };
        let (metadata, columns) = (metadata.clone(), columns.clone());
        let path = LocalFileSystem::new().path_to_filesystem(location)?;
        let schema = Arc::clone(&self.schema);
        let groups = metadata.metadata().row_groups().iter().enumerate();
        let groups = groups.filter(|(_, group)| {
            file.range.as_ref().is_none_or(|range| range.contains(extent(group).0))
        });
        let groups: Vec<usize> = groups.map(|(i, _)| i).collect();
        let batch_size = self.batch_size;
        Ok(Box::pin(async move {
            let reader =
                ParquetRecordBatchReaderBuilder::new_with_metadata(File::open(path)?, metadata);
            let mask = ProjectionMask::roots(reader.parquet_schema(), columns.iter().copied());
            let mut reader = reader.with_projection(mask).with_row_groups(groups);
            if let Some(rows) = batch_size {
                reader = reader.with_batch_size(rows);
            }
            // Columns come in the order of the file, each once.
            let mut given = columns.clone();
            given.sort_unstable();
            given.dedup();
            let place = |column| given.partition_point(|own| *own < column);
            let order: Vec<usize> = columns.into_iter().map(place).collect();
            let batches = reader.build()?.map(move |batch| {
                let batch = batch?;
                let columns = order.iter().map(|i| Arc::clone(batch.column(*i))).collect();
                let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &rows)?)
            });
            Ok(futures::stream::iter(batches).boxed())
        }))
    }
}

impl FileSource for Pages {
    fn create_file_opener(
        &self,
        _: Arc<dyn ObjectStore>,
        _: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        Ok(Arc::new(self.reader.clone()))
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table
    }

    fn with_batch_size(&self, rows: usize) -> Arc<dyn FileSource> {
        let reader = Reader { batch_size: Some(rows), ..self.reader.clone() };
        Arc::new(Self { reader, ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "parquet"
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        for own in self.projection.iter() {
            recursion = recursion.visit_sibling(|| f(&own.expr))?;
        }
        Ok(recursion)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Float32Array, Int64Array, StringArray, StructArray};
    use datafusion::arrow::compute::concat_batches;
    use datafusion::arrow::datatypes::DataType;
    use datafusion::execution::SessionState;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::file::properties::WriterProperties;
    use datafusion::physical_plan::collect_partitioned;

    use super::*;
    use crate::dictionaries::read_dictionaries;
    use crate::session::{Engine, EngineOptions};

    /// Four row groups of some pages each, with columns in an order of its own.
    fn write(path: &std::path::Path, seed: i64, swap: bool) {
        let n = 4000;
        let float = |i: i64| (i % 9 != 4).then_some((i * seed) as f32 / 7.0);
        let text = |i: i64| (i % 7 != 3).then(|| format!("text {}", (i * seed) % 11));
        let inner: ArrayRef = Arc::new((0..n).map(|i| i * seed).collect::<Int64Array>());
        let point = StructArray::try_from(vec![("inner", inner)]).unwrap();
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("x", Arc::new((0..n).map(float).collect::<Float32Array>())),
            ("point", Arc::new(point)),
            ("name", Arc::new((0..n).map(text).collect::<StringArray>())),
            ("id", Arc::new((0..n).map(|i| i + seed * n).collect::<Int64Array>())),
        ];
        if swap {
            columns.reverse();
        }
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(1000))
            .set_data_page_row_count_limit(300)
            .set_write_batch_size(100)
            .build();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    async fn plan(engine: &Engine, sql: &str) -> Arc<dyn ExecutionPlan> {
        let plan = engine.context().sql(sql).await.unwrap().into_unoptimized_plan();
        engine.training_state().create_physical_plan(&plan).await.unwrap()
    }

    /// The rows of each partition.
    async fn rows(state: &SessionState, plan: Arc<dyn ExecutionPlan>) -> Vec<RecordBatch> {
        let schema = plan.schema();
        let partitions = collect_partitioned(plan, state.task_ctx()).await.unwrap();
        partitions.iter().map(|own| concat_batches(&schema, own).unwrap()).collect()
    }

    fn is_paged(plan: &Arc<dyn ExecutionPlan>) -> bool {
        scan_of(plan.as_ref())
            .is_some_and(|scan| scan.file_source.downcast_ref::<Pages>().is_some())
    }

    #[tokio::test]
    async fn pages_give_the_rows_of_a_scan_in_its_partitions() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a b%.parquet"), 3, false);
        write(&folder.path().join("c.parquet"), 5, true);
        let engine =
            Engine::open(EngineOptions { threads: Some(3), ..Default::default() }).unwrap();
        // As a training plans it.
        let state = engine.training_state();
        for columns in [
            "*",
            "x",
            "id, x AS other, name",
            "name, name AS again, x",
            "point, x",
            // What computes something stays a scan of DataFusion's.
            "id % 2 AS odd, x",
        ] {
            let sql = format!("SELECT {columns} FROM '{}/'", folder.path().display());
            let plain = plan(&engine, &sql).await;
            let own = read_pages(Arc::clone(&plain), state.runtime_env());
            assert_eq!(is_paged(&own), !columns.contains('%'), "{columns}");
            assert_eq!(own.schema(), plain.schema());
            let (truth, found) = (rows(&state, plain).await, rows(&state, own).await);
            assert_eq!(truth.iter().map(RecordBatch::num_rows).sum::<usize>(), 8000);
            assert_eq!(truth, found, "{columns}");
        }
        let sql = format!("SELECT name, x FROM '{}/'", folder.path().display());
        let plain = plan(&engine, &sql).await;
        let texts = read_dictionaries(plain, state.runtime_env(), &["name"]);
        let own = read_pages(Arc::clone(&texts), state.runtime_env());
        assert!(is_paged(&own));
        assert!(matches!(own.schema().field(0).data_type(), DataType::Dictionary(_, _)));
        assert_eq!(rows(&state, texts).await, rows(&state, own).await);
    }

    #[tokio::test]
    async fn what_is_more_than_a_scan_or_not_of_the_tables_columns_stays() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a.parquet"), 3, false);
        let engine =
            Engine::open(EngineOptions { threads: Some(2), ..Default::default() }).unwrap();
        let state = engine.training_state();
        let table = format!("'{}/'", folder.path().display());
        for sql in [
            format!("SELECT x FROM {table} WHERE id > 7"),
            format!("SELECT sum(x) AS x FROM {table}"),
        ] {
            let own = read_pages(plan(&engine, &sql).await, state.runtime_env());
            assert!(!is_paged(&own), "{sql}");
        }
        // A column of another file is not in this one.
        let more: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let more = RecordBatch::try_from_iter_with_nullable([("more", more, true)]).unwrap();
        let file = File::create(folder.path().join("b.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, more.schema(), None).unwrap();
        writer.write(&more).unwrap();
        writer.close().unwrap();
        let engine =
            Engine::open(EngineOptions { threads: Some(2), ..Default::default() }).unwrap();
        let sql = format!("SELECT more FROM {table}");
        let plain = plan(&engine, &sql).await;
        let own = read_pages(Arc::clone(&plain), state.runtime_env());
        assert!(!is_paged(&own));
        let found = rows(&state, own).await;
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 4002);
    }
}
