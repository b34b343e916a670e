//! The format of CSV files: types of columns by all rows, columns by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, Statistics, internal_err};
use datafusion::datasource::file_format::csv::{CsvFormat, CsvFormatFactory};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, FileSinkConfig, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::super::{HEAD_BYTES, INFER_BYTES, INFER_TOTAL_BYTES, name_of, text_bytes, widen};
use super::layout::{Dialect, Layout};
use super::source::CsvFilesSource;

/// Makes the format of CSV files, for COPY and for tables.
#[derive(Debug, Default)]
pub(crate) struct CsvFilesFactory {
    inner: CsvFormatFactory,
}

impl FileFormatFactory for CsvFilesFactory {
    fn create(
        &self,
        state: &dyn Session,
        options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        let inner = self.inner.create(state, options)?;
        let Some(format) = inner.downcast_ref::<CsvFormat>() else {
            return internal_err!("the format of CSV is another");
        };
        let is_given = |key: &str| {
            options.keys().any(|k| k.strip_prefix("format.").unwrap_or(k).eq_ignore_ascii_case(key))
        };
        // A session's setting that there are no headers is meant for every file.
        let own = format.options().has_header;
        let has_header = own.or((!state.config_options().catalog.has_header).then_some(false));
        let dialect = Dialect {
            options: format.options().clone(),
            is_delimiter_given: is_given("delimiter"),
            has_header,
        };
        Ok(Arc::new(CsvFiles::new(inner, dialect)))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        let dialect = Dialect {
            options: CsvFormat::default().options().clone(),
            is_delimiter_given: false,
            has_header: None,
        };
        Arc::new(CsvFiles::new(self.inner.default(), dialect))
    }
}

impl GetExt for CsvFilesFactory {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }
}

/// The format of CSV files.
#[derive(Debug)]
struct CsvFiles {
    inner: Arc<dyn FileFormat>,
    dialect: Dialect,
    layouts: Layouts,
}

impl CsvFiles {
    fn new(inner: Arc<dyn FileFormat>, dialect: Dialect) -> Self {
        Self { inner, dialect, layouts: Layouts::default() }
    }
}

/// How files are written, of those that were looked at; a file that has changed is another.
#[derive(Clone, Debug, Default)]
pub(super) struct Layouts(Arc<Mutex<HashMap<Path, Known>>>);

/// A file as it was when it was looked at, and how it is written.
type Known = (ObjectMeta, Arc<Layout>);

impl Layouts {
    fn get(&self, file: &ObjectMeta) -> Option<Arc<Layout>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (meta, layout) = known.get(&file.location)?;
        (meta.size == file.size && meta.last_modified == file.last_modified)
            .then(|| Arc::clone(layout))
    }

    /// How a file is written; its beginning is read where nobody has looked at it.
    pub(super) async fn of(
        &self,
        store: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
        dialect: &Dialect,
    ) -> Result<Arc<Layout>> {
        match self.get(file) {
            Some(layout) => Ok(layout),
            None => self.look(store, file, dialect, HEAD_BYTES).await,
        }
    }

    /// Looks at so many bytes of a file.
    async fn look(
        &self,
        store: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
        dialect: &Dialect,
        limit: usize,
    ) -> Result<Arc<Layout>> {
        let compression: FileCompressionType = dialect.options.compression.into();
        let (bytes, is_whole) = text_bytes(store, file, compression, limit).await?;
        let name = name_of(store.as_ref(), &file.location);
        let layout = Layout::of(&name, &bytes, is_whole, dialect)?;
        let layout = Arc::new(layout);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(file.location.clone(), (file.clone(), Arc::clone(&layout)));
        Ok(layout)
    }
}

#[async_trait]
impl FileFormat for CsvFiles {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.inner.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.inner.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        let at_once = state.config().target_partitions().max(1);
        let mut before = 0;
        let limits = objects.iter().map(|object| {
            let limit = if before < INFER_TOTAL_BYTES { INFER_BYTES } else { HEAD_BYTES };
            before = before.saturating_add(limit.min(object.size as usize));
            (object.clone(), limit)
        });
        let files: Vec<(String, Schema)> = futures::stream::iter(limits.collect::<Vec<_>>())
            .map(|(object, limit)| async move {
                let layout = self.layouts.look(store, &object, &self.dialect, limit).await?;
                let schema = layout.schema();
                let name = name_of(store.as_ref(), &object.location);
                Ok::<_, datafusion::error::DataFusionError>((name, schema))
            })
            .buffered(at_once)
            .try_collect()
            .await?;
        let schema = widen::merge_texts(&files)?;
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
        state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(source) = config.file_source.downcast_ref::<CsvFilesSource>() else {
            return internal_err!("a scan of CSV files has another source");
        };
        let set = state.config_options().catalog.newlines_in_values;
        let has_line_breaks = self.dialect.options.newlines_in_values.unwrap_or(set)
            || self
                .layouts
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .any(|(_, layout)| layout.has_line_breaks);
        let source = source.clone().with_line_breaks(has_line_breaks);
        let config = FileScanConfigBuilder::from(config)
            .with_file_compression_type(self.dialect.options.compression.into())
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
        self.inner.create_writer_physical_plan(input, state, config, order).await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(CsvFilesSource::new(table_schema, self.dialect.clone(), self.layouts.clone()))
    }
}
