//! Files of texts as one table: what CSV and JSON have in common.
//!
//! Each file is inspected: how it is written (its layout), and the types of its columns. The types
//! of several files are merged by name. Each file is read by its own layout.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSinkConfig, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::text_source::TextSource;
use super::{name_of, text_bytes, widen};

/// Bytes of a file from which the types of its columns are inferred: all bytes of most files.
const INFER_BYTES: usize = 32 << 20;
/// Bytes of all files of a table beyond which only the beginning of each is inspected.
const INFER_TOTAL_BYTES: usize = 128 << 20;
/// Bytes of the beginning of a file.
const HEAD_BYTES: usize = 256 << 10;

/// The parts that differ between formats of texts.
#[async_trait]
pub(super) trait TextFormat: fmt::Debug + Send + Sync + 'static {
    /// How a file is written.
    type Layout: fmt::Debug + Send + Sync;

    /// Its name in plans.
    const NAME: &'static str;

    fn compression(&self) -> FileCompressionType;

    /// How a file is written and its columns, by its first bytes or by all (`is_whole`).
    ///
    /// # Errors
    /// When it is no such file; `file` is named.
    fn inspect(&self, file: &str, bytes: &[u8], is_whole: bool) -> Result<(Schema, Self::Layout)>;

    /// The layout of a file whose columns are declared.
    ///
    /// # Errors
    /// As [`TextFormat::inspect`].
    fn layout(&self, file: &str, head: &[u8], is_whole: bool) -> Result<Self::Layout> {
        Ok(self.inspect(file, head, is_whole)?.1)
    }

    /// Whether a file can be read in ranges of lines; None stands for a file that was not
    /// inspected.
    fn has_ranges(&self, layout: Option<&Self::Layout>) -> bool;

    /// What plans show beside the files.
    fn shown(&self) -> String {
        String::new()
    }

    /// The wanted columns of a file.
    async fn open(
        &self,
        layout: &Self::Layout,
        wanted: Wanted,
        store: Arc<dyn ObjectStore>,
        file: PartitionedFile,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>>;
}

/// The columns and rows that are wanted from a file.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The columns of the table's files.
    pub(super) table: SchemaRef,
    /// The indices of those that are wanted, in the order of `schema`.
    pub(super) places: Vec<usize>,
    pub(super) schema: SchemaRef,
    /// Rows of a batch.
    pub(super) batch_size: usize,
}

/// The layouts of files that were inspected; a file that has changed is another.
#[derive(Debug)]
pub(super) struct Layouts<L>(Mutex<HashMap<Path, Inspected<L>>>);

/// A file as it was when it was inspected, and how it is written.
type Inspected<L> = (ObjectMeta, Arc<L>);

impl<L> Layouts<L> {
    fn get(&self, file: &ObjectMeta) -> Option<Arc<L>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (meta, layout) = known.get(&file.location)?;
        (meta.size == file.size && meta.last_modified == file.last_modified)
            .then(|| Arc::clone(layout))
    }

    fn put(&self, file: &ObjectMeta, layout: L) -> Arc<L> {
        let layout = Arc::new(layout);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(file.location.clone(), (file.clone(), Arc::clone(&layout)));
        layout
    }
}

/// A format of texts with what is known of its files.
#[derive(Debug)]
pub(super) struct Texts<F: TextFormat> {
    pub(super) format: F,
    layouts: Layouts<F::Layout>,
}

impl<F: TextFormat> Texts<F> {
    /// The layout of a file; its beginning is read if the file was not inspected.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn layout(
        &self,
        store: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
    ) -> Result<Arc<F::Layout>> {
        if let Some(layout) = self.layouts.get(file) {
            return Ok(layout);
        }
        let compression = self.format.compression();
        let (head, is_whole) = text_bytes(store, file, compression, HEAD_BYTES).await?;
        let name = name_of(store.as_ref(), &file.location);
        Ok(self.layouts.put(file, self.format.layout(&name, &head, is_whole)?))
    }

    /// Inspects so many bytes of a file.
    async fn inspect(
        &self,
        store: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
        limit: usize,
    ) -> Result<(String, Schema)> {
        let compression = self.format.compression();
        let (bytes, is_whole) = text_bytes(store, file, compression, limit).await?;
        let name = name_of(store.as_ref(), &file.location);
        let (schema, layout) = self.format.inspect(&name, &bytes, is_whole)?;
        self.layouts.put(file, layout);
        Ok((name, schema))
    }
}

/// DataFusion's format of files of texts.
#[derive(Debug)]
pub(super) struct TextFiles<F: TextFormat> {
    /// DataFusion's own format, which writes.
    writer: Arc<dyn FileFormat>,
    texts: Arc<Texts<F>>,
}

impl<F: TextFormat> TextFiles<F> {
    pub(super) fn new(writer: Arc<dyn FileFormat>, format: F) -> Self {
        let layouts = Layouts(Mutex::default());
        Self { writer, texts: Arc::new(Texts { format, layouts }) }
    }
}

#[async_trait]
impl<F: TextFormat> FileFormat for TextFiles<F> {
    fn get_ext(&self) -> String {
        self.writer.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.writer.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.writer.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        let mut before = 0;
        let limits = objects.iter().map(|object| {
            let limit = if before < INFER_TOTAL_BYTES { INFER_BYTES } else { HEAD_BYTES };
            before = before.saturating_add(limit.min(object.size as usize));
            (object.clone(), limit)
        });
        let files: Vec<(String, Schema)> = futures::stream::iter(limits.collect::<Vec<_>>())
            .map(|(object, limit)| async move { self.texts.inspect(store, &object, limit).await })
            .buffered(state.config().target_partitions().max(1))
            .try_collect()
            .await?;
        let schema = widen::merge_texts(&files)?;
        // A column without any value is one of texts.
        let typed = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Null => field.as_ref().clone().with_data_type(DataType::Utf8),
            _ => field.as_ref().clone(),
        });
        Ok(Arc::new(Schema::new(typed.collect::<Vec<_>>())))
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&table_schema))
    }

    async fn create_physical_plan(
        &self,
        _: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(source) = config.file_source.downcast_ref::<TextSource<F>>() else {
            return internal_err!("a scan of {} files has another source", F::NAME);
        };
        let has_ranges = |file: &PartitionedFile| {
            let layout = self.texts.layouts.get(&file.object_meta);
            self.texts.format.has_ranges(layout.as_deref())
        };
        let has_ranges = config.file_groups.iter().flat_map(FileGroup::iter).all(has_ranges);
        let source = source.clone().with_ranges(has_ranges);
        let config = FileScanConfigBuilder::from(config)
            .with_file_compression_type(self.texts.format.compression())
            .with_source(Arc::new(source))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.writer.create_writer_physical_plan(input, state, config, order).await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(TextSource::new(table_schema, Arc::clone(&self.texts)))
    }
}

/// An error of a reader with the file, in one line.
pub(super) fn named(format: &str, file: &str, error: DataFusionError) -> DataFusionError {
    let text = match &error {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::Execution(text) => text.clone(),
        _ => return error,
    };
    let text = text.trim_start_matches("Json error: ").trim_start_matches("Csv error: ");
    let text = super::listing::one_line(text);
    DataFusionError::Execution(format!("{file} cannot be read as {format}: {text}"))
}
