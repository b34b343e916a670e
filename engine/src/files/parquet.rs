//! Parquet files as one table: DataFusion's format, with types that are merged by name.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, Statistics, exec_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::parquet::{
    ParquetFormat, ParquetFormatFactory, transform_binary_to_string, transform_schema_to_view,
};
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory, FileMeta};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSinkConfig, FileSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::{LexOrdering, LexRequirement};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};

use super::guard::caught;
use super::listing::one_line;
use super::{name_of, widen};
use crate::scan;

/// Makes the format of Parquet files, for COPY and for tables.
#[derive(Debug, Default)]
pub(crate) struct ParquetFilesFactory {
    inner: ParquetFormatFactory,
}

impl FileFormatFactory for ParquetFilesFactory {
    fn create(
        &self,
        state: &dyn Session,
        options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        Ok(Arc::new(ParquetFiles { inner: self.inner.create(state, options)? }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(ParquetFiles { inner: self.inner.default() })
    }
}

impl GetExt for ParquetFilesFactory {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }
}

/// The format of Parquet files.
#[derive(Debug)]
struct ParquetFiles {
    inner: Arc<dyn FileFormat>,
}

#[async_trait]
impl FileFormat for ParquetFiles {
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
        let at_once = state.config_options().execution.meta_fetch_concurrency.get();
        let options = self.inner.downcast_ref::<ParquetFormat>();
        // Timestamps of 96 bits have the unit that the statement names.
        let is_coerced = options.is_some_and(|options| options.coerce_int96().is_some());
        let files: Vec<(String, Schema)> = futures::stream::iter(objects.to_vec())
            .map(|object| async move {
                let name = name_of(store.as_ref(), &object.location);
                let schema = match is_coerced {
                    true => {
                        let objects = std::slice::from_ref(&object);
                        self.inner.infer_schema(state, store, objects).await?.as_ref().clone()
                    }
                    false => own_schema(state, store, &object).await?,
                };
                Ok::<_, datafusion::error::DataFusionError>((name, without_metadata(&schema)))
            })
            .buffered(at_once)
            .try_collect()
            .await?;
        let mut schema = widen::merge(&files)?;
        if options.is_some_and(ParquetFormat::binary_as_string) {
            schema = transform_binary_to_string(&schema);
        }
        if options.is_none_or(ParquetFormat::force_view_types) {
            schema = transform_schema_to_view(&schema);
        }
        Ok(Arc::new(schema))
    }

    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        self.inner.infer_stats(state, store, table_schema, object).await
    }

    async fn infer_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Option<LexOrdering>> {
        self.inner.infer_ordering(state, store, table_schema, object).await
    }

    async fn infer_stats_and_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<FileMeta> {
        self.inner.infer_stats_and_ordering(state, store, table_schema, object).await
    }

    async fn create_physical_plan(
        &self,
        state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let config = with_readable_types(state, config);
        self.inner.create_physical_plan(state, config).await
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
        self.inner.file_source(table_schema)
    }
}

/// The columns of a file, according to its footer.
async fn own_schema(
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    object: &ObjectMeta,
) -> Result<Schema> {
    let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
    let metadata =
        DFParquetMetadata::new(store.as_ref(), object).with_file_metadata_cache(Some(cache));
    let name = name_of(store.as_ref(), &object.location);
    match caught(metadata.fetch_schema()).await {
        Ok(Ok(schema)) => Ok(readable(&schema).unwrap_or(schema)),
        Ok(Err(error)) => {
            exec_err!("{name} cannot be read as Parquet: {}", one_line(&error.strip_backtrace()))
        }
        Err(panic) => {
            exec_err!("{name} cannot be read as Parquet: the reader failed, {panic}")
        }
    }
}

/// The schema without metadata: files that differ in metadata alone are one table.
fn without_metadata(schema: &Schema) -> Schema {
    let bare = |field: &Arc<Field>| field.as_ref().clone().with_metadata(HashMap::new());
    Schema::new(schema.fields().iter().map(bare).collect::<Vec<_>>())
}

/// A schema whose types the reader can decode, if it differs. The reader decodes dictionaries of
/// texts and bytes, and fails on others, which pandas writes for categories of numbers.
pub(crate) fn readable(schema: &Schema) -> Option<Schema> {
    let is_other = |field: &&Arc<Field>| has_other_dictionary(field.data_type());
    schema.fields().iter().find(is_other)?;
    let fields = schema.fields().iter().map(|field| {
        Arc::new(field.as_ref().clone().with_data_type(without_dictionaries(field.data_type())))
    });
    Some(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

fn has_other_dictionary(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Dictionary(_, value) => !matches!(value.as_ref(), Utf8 | LargeUtf8 | Binary | LargeBinary),
        List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => {
            has_other_dictionary(item.data_type())
        }
        Struct(fields) => fields.iter().any(|field| has_other_dictionary(field.data_type())),
        _ => false,
    }
}

fn without_dictionaries(data_type: &DataType) -> DataType {
    use DataType::*;
    let bare = |field: &Arc<Field>| {
        Arc::new(field.as_ref().clone().with_data_type(without_dictionaries(field.data_type())))
    };
    match data_type {
        Dictionary(_, value) if has_other_dictionary(data_type) => value.as_ref().clone(),
        List(item) => List(bare(item)),
        LargeList(item) => LargeList(bare(item)),
        FixedSizeList(item, length) => FixedSizeList(bare(item), *length),
        Map(item, sorted) => Map(bare(item), *sorted),
        Struct(fields) => Struct(fields.iter().map(bare).collect()),
        other => other.clone(),
    }
}

/// The scan, in which files whose types the reader cannot decode are read with other types.
fn with_readable_types(state: &dyn Session, config: FileScanConfig) -> FileScanConfig {
    let runtime = state.runtime_env();
    let mut is_changed = false;
    let mut groups = vec![];
    for group in &config.file_groups {
        let mut files = group.files().to_vec();
        for file in &mut files {
            let footer = scan::footer(runtime, file);
            let own = footer.and_then(|footer| scan::file_schema(file, &footer));
            if let Some(schema) = own.as_deref().and_then(readable) {
                file.arrow_schema = Some(Arc::new(schema));
                is_changed = true;
            }
        }
        let statistics = group.file_statistics(None).cloned().map(Arc::new);
        let group = FileGroup::new(files);
        groups.push(match statistics {
            Some(statistics) => group.with_statistics(statistics),
            None => group,
        });
    }
    match is_changed {
        true => FileScanConfigBuilder::from(config).with_file_groups(groups).build(),
        false => config,
    }
}
