//! Parquet files on a disk, read page by page.
//!
//! DataFusion reads the columns of a whole row group before it decodes the first of its rows, since
//! cloud stores answer a few large requests sooner than many small ones. A training that reads row
//! groups of a million rows on every core would hold the file in memory a second time, and
//! allocating that memory takes a good part of the time of a short training.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileSource};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use gradlake_udfs::Names;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use crate::files::reading;
use crate::scan::{extent, file_schema, footer, is_text, plain_source, scan_of};

/// How a file is decoded.
#[derive(Clone)]
struct Layout {
    metadata: ArrowReaderMetadata,
    /// Indices of the columns in the file, in the order of the query.
    columns: Vec<usize>,
}

impl Layout {
    /// None if the footer is not in the cache, or the file differs from the table in more than the
    /// order of its columns: then DataFusion reads it.
    fn of(file: &PartitionedFile, runtime: &RuntimeEnv, wanted: &[&Field]) -> Option<Self> {
        let footer = footer(runtime, file)?;
        let own = file_schema(file, &footer)?;
        let names = Names::of(own.fields());
        let mut fields = own.fields().to_vec();
        let mut columns = vec![];
        for wanted in wanted {
            let column = names.find_exact(wanted.name()).ok()??;
            let field = own.field(column);
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

    /// The batches of those rows of some row groups that are in a window.
    fn batches(
        &self,
        file: File,
        groups: Vec<usize>,
        window: Range<usize>,
        batch_rows: usize,
        schema: &SchemaRef,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
        let metadata = self.metadata.clone();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let mask = ProjectionMask::roots(reader.parquet_schema(), self.columns.iter().copied());
        let reader = reader
            .with_projection(mask)
            .with_row_groups(groups)
            .with_batch_size(batch_rows)
            .with_offset(window.start)
            .with_limit(window.len());
        // The reader returns columns in the order of the file, each once.
        let mut given = self.columns.clone();
        given.sort_unstable();
        given.dedup();
        let place = |column: &usize| given.partition_point(|own| own < column);
        let order: Vec<usize> = self.columns.iter().map(place).collect();
        let schema = Arc::clone(schema);
        Ok(reader.build()?.map(move |batch| {
            let batch = batch?;
            let columns = order.iter().map(|i| Arc::clone(batch.column(*i))).collect();
            let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &rows)?)
        }))
    }

    /// The row groups of a file, or of the part of it that is read.
    fn groups(&self, file: &PartitionedFile) -> Vec<usize> {
        let groups = self.metadata.metadata().row_groups().iter().enumerate();
        let groups = groups.filter(|(_, group)| {
            file.range.as_ref().is_none_or(|range| range.contains(extent(group).0))
        });
        groups.map(|(i, _)| i).collect()
    }
}

/// The rows of a scan of Parquet files, any of which can be read without those before it.
pub(crate) struct PageRows {
    parts: Vec<Part>,
    schema: SchemaRef,
}

/// Row groups of a file.
struct Part {
    path: PathBuf,
    layout: Layout,
    /// Row groups and their rows.
    groups: Vec<(usize, usize)>,
}

impl PageRows {
    /// The rows of a plan that is a scan of Parquet files on a disk and nothing more.
    pub(crate) fn of(plan: &dyn ExecutionPlan, runtime: &RuntimeEnv) -> Option<Self> {
        let scan = scan_of(plan)?;
        let source = plain_source(scan)?;
        let is_local = scan.object_store_url == ObjectStoreUrl::local_filesystem();
        if !is_local || scan.limit.is_some() {
            return None;
        }
        let table = source.table_schema().table_schema();
        let projection = source.projection()?;
        let mut wanted = vec![];
        for own in projection.iter() {
            let column = own.expr.downcast_ref::<Column>()?.index();
            wanted.push(table.fields().get(column)?.as_ref());
        }
        let mut layouts: HashMap<&Path, Layout> = HashMap::new();
        let mut parts = vec![];
        for file in scan.file_groups.iter().flat_map(FileGroup::iter) {
            let location = &file.object_meta.location;
            let layout = match layouts.get(location) {
                Some(layout) => layout.clone(),
                None => {
                    layouts.entry(location).or_insert(Layout::of(file, runtime, &wanted)?).clone()
                }
            };
            let path = LocalFileSystem::new().path_to_filesystem(location).ok()?;
            let rows = |group: usize| layout.metadata.metadata().row_group(group).num_rows();
            let mut groups = vec![];
            for group in layout.groups(file) {
                // (A damaged footer with other numbers is left to DataFusion.)
                let rows = usize::try_from(rows(group)).ok().filter(|rows| *rows < 1 << 40)?;
                groups.push((group, rows));
            }
            parts.push(Part { path, layout, groups });
        }
        let schema = Arc::new(projection.project_schema(table).ok()?);
        Some(Self { parts, schema })
    }

    /// The columns of each batch.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> u64 {
        let groups = self.parts.iter().flat_map(|part| &part.groups);
        groups.map(|(_, rows)| *rows as u64).sum()
    }

    /// The cuts of the rows into `parts` parts. A cut is where a row group begins, since every
    /// reader of a part of one reads its dictionaries, or at a multiple of `unit` if parts would
    /// otherwise be too unequal.
    pub(crate) fn cuts(&self, parts: usize, unit: u64) -> Vec<u64> {
        /// A cut may differ from an equal cut by the rows of a part divided by this.
        const NEAR: u64 = 8;
        let (rows, parts) = (self.len(), parts.max(1) as u64);
        let mut begins = vec![0];
        for (_, n) in self.parts.iter().flat_map(|part| &part.groups) {
            begins.push(begins.last().copied().unwrap_or(0) + *n as u64);
        }
        let cut = |part: u64| {
            let ideal = rows * part / parts;
            let nearest = begins.iter().copied().min_by_key(|begin| begin.abs_diff(ideal));
            let nearest = nearest.filter(|begin| begin.abs_diff(ideal) <= rows / parts / NEAR);
            nearest.unwrap_or(ideal / unit * unit)
        };
        let mut cuts = vec![0];
        let inner = (1..parts).map(cut).filter(|cut| *cut < rows);
        for cut in inner.chain([rows]) {
            if cuts.last().is_some_and(|last| *last < cut) {
                cuts.push(cut);
            }
        }
        cuts
    }

    /// Some of the rows, in batches that end when they are full, or where a file or the rows end.
    pub(crate) fn batches(
        &self,
        rows: Range<u64>,
        batch_rows: usize,
    ) -> impl Iterator<Item = Result<RecordBatch>> + Send + use<> {
        let mut begin = 0;
        // Row groups that have any of them, and where in these they are.
        let mut wanted = vec![];
        for part in &self.parts {
            let (mut groups, mut window) = (vec![], None);
            for (group, n) in &part.groups {
                let own = begin..begin + *n as u64;
                begin = own.end;
                let wanted = own.start.max(rows.start)..own.end.min(rows.end);
                if wanted.is_empty() {
                    continue;
                }
                groups.push(*group);
                let first = (wanted.start - own.start) as usize;
                let window = window.get_or_insert(first..first);
                window.end += (wanted.end - wanted.start) as usize;
            }
            if let Some(window) = window {
                wanted.push((part.path.clone(), part.layout.clone(), groups, window));
            }
        }
        let schema = Arc::clone(&self.schema);
        wanted.into_iter().flat_map(move |(path, layout, groups, window)| {
            let name = path.display().to_string();
            let batches = reading(&name, || {
                let file = File::open(&path)?;
                layout.batches(file, groups, window, batch_rows, &schema)
            });
            let (batches, error) = match batches {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            };
            let mut batches = batches;
            let rest = std::iter::from_fn(move || {
                let own = batches.as_mut()?;
                let next = reading(&name, || own.next().transpose()).transpose();
                // A reader that failed is not called again.
                if !matches!(next, Some(Ok(_))) {
                    batches = None;
                }
                next
            });
            error.into_iter().chain(rest)
        })
    }

    /// All rows in `parts` contiguous parts of about equal work.
    pub(crate) fn streams(
        &self,
        parts: usize,
        batch_rows: usize,
    ) -> Vec<SendableRecordBatchStream> {
        let cuts = self.cuts(parts, batch_rows as u64);
        let stream = |cut: &[u64]| {
            let batches = futures::stream::iter(self.batches(cut[0]..cut[1], batch_rows));
            let schema = Arc::clone(&self.schema);
            Box::pin(RecordBatchStreamAdapter::new(schema, batches)) as SendableRecordBatchStream
        };
        cuts.windows(2).map(stream).collect()
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
    use datafusion::physical_plan::common::collect;

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

    /// The rows of all partitions.
    async fn rows(state: &SessionState, plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
        let schema = plan.schema();
        let partitions = collect_partitioned(plan, state.task_ctx()).await.unwrap();
        concat_batches(&schema, partitions.iter().flatten()).unwrap()
    }

    /// The rows of the pages, read in three parts.
    async fn own_rows(pages: &PageRows) -> RecordBatch {
        let mut batches = vec![];
        for stream in pages.streams(3, 700) {
            batches.extend(collect(stream).await.unwrap());
        }
        concat_batches(pages.schema(), &batches).unwrap()
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
            // A query that computes something stays a scan of DataFusion.
            "id % 2 AS odd, x",
        ] {
            let sql = format!("SELECT {columns} FROM '{}/'", folder.path().display());
            let plain = plan(&engine, &sql).await;
            let pages = PageRows::of(plain.as_ref(), state.runtime_env());
            assert_eq!(pages.is_none(), columns.contains('%'), "{columns}");
            let Some(pages) = pages else { continue };
            assert_eq!(pages.schema(), &plain.schema());
            let truth = rows(&state, plain).await;
            assert_eq!(truth.num_rows(), 8000);
            assert_eq!(truth, own_rows(&pages).await, "{columns}");
        }
        let sql = format!("SELECT name, x FROM '{}/'", folder.path().display());
        let plain = plan(&engine, &sql).await;
        let texts = read_dictionaries(plain, state.runtime_env(), &["name"]);
        let pages = PageRows::of(texts.as_ref(), state.runtime_env()).unwrap();
        assert!(matches!(pages.schema().field(0).data_type(), DataType::Dictionary(_, _)));
        assert_eq!(rows(&state, texts).await, own_rows(&pages).await);
    }

    #[tokio::test]
    async fn rows_are_had_from_any_on() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a.parquet"), 3, false);
        write(&folder.path().join("b.parquet"), 5, true);
        let engine =
            Engine::open(EngineOptions { threads: Some(2), ..Default::default() }).unwrap();
        let state = engine.training_state();
        let sql = format!("SELECT id, x FROM '{}/'", folder.path().display());
        let plain = plan(&engine, &sql).await;
        let pages = PageRows::of(plain.as_ref(), state.runtime_env()).unwrap();
        assert_eq!((pages.len(), pages.schema()), (8000, &plain.schema()));
        let truth = rows(&state, plain).await;
        for (first, end) in
            [(0, 8000), (0, 1), (999, 1001), (1234, 1234), (300, 7999), (4000, 5000)]
        {
            let batches: Vec<RecordBatch> =
                pages.batches(first..end, 700).collect::<Result<_>>().unwrap();
            assert!(batches.iter().all(|batch| batch.num_rows() <= 700));
            let found = concat_batches(pages.schema(), &batches).unwrap();
            assert_eq!(found, truth.slice(first as usize, (end - first) as usize));
        }
        // Row groups of 1,000 rows; one that begins 333 rows beside an equal cut is near enough,
        // not 334.
        assert_eq!(pages.cuts(1, 64), [0, 8000]);
        assert_eq!(pages.cuts(2, 64), [0, 4000, 8000]);
        assert_eq!(pages.cuts(3, 64), [0, 2624, 5000, 8000]);
        assert_eq!(pages.cuts(100, 7000), [0, 2000, 4000, 6000, 7000, 8000]);
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
            let plan = plan(&engine, &sql).await;
            assert!(PageRows::of(plan.as_ref(), state.runtime_env()).is_none(), "{sql}");
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
        assert!(PageRows::of(plain.as_ref(), state.runtime_env()).is_none());
        assert_eq!(rows(&state, plain).await.num_rows(), 4002);
    }
}
