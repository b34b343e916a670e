//! The format of JSON files: types of keys by all objects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::config::JsonOptions;
use datafusion::common::{DataFusionError, GetExt, Result, Statistics, internal_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::{JsonFormat, JsonFormatFactory};
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

use super::super::listing::one_line;
use super::super::{HEAD_BYTES, INFER_BYTES, INFER_TOTAL_BYTES, name_of, text_bytes, widen};
use super::array::ArrayLines;
use super::seen::{Keys, Seen};
use super::source::JsonFilesSource;

/// What a text may begin with on Windows.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Makes the format of JSON files, for COPY and for tables.
#[derive(Debug, Default)]
pub(crate) struct JsonFilesFactory {
    inner: JsonFormatFactory,
}

impl FileFormatFactory for JsonFilesFactory {
    fn create(
        &self,
        state: &dyn Session,
        options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        JsonFiles::over(self.inner.create(state, options)?)
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        let inner = self.inner.default();
        let options = JsonFormat::default().options().clone();
        Arc::new(JsonFiles { inner, options, layouts: Layouts::default() })
    }
}

impl GetExt for JsonFilesFactory {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }
}

/// The format of JSON files.
#[derive(Debug)]
struct JsonFiles {
    inner: Arc<dyn FileFormat>,
    options: JsonOptions,
    layouts: Layouts,
}

impl JsonFiles {
    fn over(inner: Arc<dyn FileFormat>) -> Result<Arc<dyn FileFormat>> {
        let Some(format) = inner.downcast_ref::<JsonFormat>() else {
            return internal_err!("the format of JSON is another");
        };
        let options = format.options().clone();
        Ok(Arc::new(Self { inner, options, layouts: Layouts::default() }))
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// One array of objects, or objects line by line.
    pub(super) is_array: bool,
    /// Whether an object goes over several lines.
    has_line_breaks: bool,
    /// Whether all of it was seen: then its numbers are of the columns' types.
    pub(super) is_whole: bool,
}

/// How files are written, of those that were looked at; a file that has changed is another.
#[derive(Clone, Debug, Default)]
pub(super) struct Layouts(Arc<Mutex<HashMap<Path, (ObjectMeta, Layout)>>>);

impl Layouts {
    fn put(&self, file: &ObjectMeta, layout: Layout) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(file.location.clone(), (file.clone(), layout));
    }

    /// How a file is written; its first bytes are read where nobody has looked at it.
    pub(super) async fn of(
        &self,
        store: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
        compression: FileCompressionType,
    ) -> Result<Layout> {
        let known = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&file.location).cloned()
        };
        if let Some((meta, layout)) = known
            && meta.size == file.size
            && meta.last_modified == file.last_modified
        {
            return Ok(layout);
        }
        let (bytes, _) = text_bytes(store, file, compression, 1).await?;
        let layout = Layout { is_array: is_array(&bytes), has_line_breaks: false, is_whole: false };
        self.put(file, layout);
        Ok(layout)
    }

    fn any(&self, is: impl Fn(&Layout) -> bool) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().any(|(_, layout)| is(layout))
    }
}

fn is_array(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// The keys of the objects of a file, and how it is written.
fn look(file: &str, bytes: &[u8], is_whole: bool) -> Result<(Keys, Layout)> {
    let cannot = |reason: &str| -> Result<(Keys, Layout)> {
        plan_err!("{file} cannot be read as JSON: {}", one_line(reason))
    };
    let is_array = is_array(bytes);
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let lines = if is_array {
        let mut array = ArrayLines::default();
        match array.lines(bytes) {
            Ok(_) if is_whole && !array.is_over() => return cannot("the array does not end"),
            Ok(lines) => lines,
            Err(error) => return cannot(&error.strip_backtrace()),
        }
    } else {
        bytes::Bytes::copy_from_slice(bytes)
    };
    let mut keys = Keys::default();
    let mut has_line_breaks = false;
    let mut values = serde_json::Deserializer::from_slice(&lines).into_iter::<Seen>();
    let mut begin = 0;
    while let Some(value) = values.next() {
        let end = values.byte_offset();
        match value {
            Ok(Seen::Object(own)) => {
                if let Err(conflict) = keys.add(own) {
                    let [a, b] = conflict.kinds;
                    return cannot(&format!(
                        "the key {} is {a} in one object and {b} in another, which no column holds",
                        conflict.key
                    ));
                }
            }
            Ok(_) => return cannot("one of its values is no object, and each row should be one"),
            // What was cut off.
            Err(error) if error.is_eof() && !is_whole => break,
            Err(error) => return cannot(&error.to_string()),
        }
        let text = lines[begin..end].trim_ascii_start();
        has_line_breaks |= text.contains(&b'\n');
        begin = end;
    }
    Ok((keys, Layout { is_array, has_line_breaks, is_whole }))
}

#[async_trait]
impl FileFormat for JsonFiles {
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
        let compression: FileCompressionType = self.options.compression.into();
        let mut before = 0;
        let limits = objects.iter().map(|object| {
            let limit = if before < INFER_TOTAL_BYTES { INFER_BYTES } else { HEAD_BYTES };
            before = before.saturating_add(limit.min(object.size as usize));
            (object.clone(), limit)
        });
        let files: Vec<(String, Schema)> = futures::stream::iter(limits.collect::<Vec<_>>())
            .map(|(object, limit)| async move {
                let (bytes, is_whole) = text_bytes(store, &object, compression, limit).await?;
                let file = name_of(store.as_ref(), &object.location);
                let (keys, layout) = look(&file, &bytes, is_whole)?;
                self.layouts.put(&object, layout);
                Ok::<_, DataFusionError>((file, keys.schema()))
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
        _: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(source) = config.file_source.downcast_ref::<JsonFilesSource>() else {
            return internal_err!("a scan of JSON files has another source");
        };
        // A range of bytes begins and ends with a line.
        let are_lines = self.options.newline_delimited
            && !self.layouts.any(|layout| layout.is_array || layout.has_line_breaks);
        // Of files that nobody has looked at it is not known.
        let files = config.file_groups.iter().map(|group| group.len()).sum::<usize>();
        let are_known = {
            let known = self.layouts.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.len() >= files
        };
        let source = source.clone().with_ranges(are_lines && are_known);
        let config = FileScanConfigBuilder::from(config)
            .with_file_compression_type(self.options.compression.into())
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
        Arc::new(JsonFilesSource::new(table_schema, self.layouts.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_files_are_written_is_found_out() {
        let of = |text: &str| look("x.json", text.as_bytes(), true).unwrap();
        let (keys, layout) = of("{\"a\": 1}\n{\"a\": 2.5}\n");
        assert!(!layout.is_array && !layout.has_line_breaks && layout.is_whole);
        assert_eq!(keys.schema().field(0).data_type(), &DataType::Float64);
        assert!(of("[{\"a\": 1},\n {\"a\": 2}]\n").1.is_array);
        assert!(of("{\n\"a\": 1\n}\n{\"a\": 2}\n").1.has_line_breaks);
        assert_eq!(of("[]").0.schema().fields().len(), 0);
        // The rest was cut off.
        assert!(look("x.json", b"{\"a\": 1}\n{\"a", false).is_ok());
    }

    #[test]
    fn what_is_no_table_is_told_in_one_line() {
        let error = |text: &str| {
            look("x.json", text.as_bytes(), true).unwrap_err().strip_backtrace().to_string()
        };
        assert!(error("{\"a\": 1}\nrubbish\n").contains("x.json cannot be read as JSON: expected"));
        assert!(error("[1, 2]").contains("one of its values is no object"));
        assert!(error("[{\"a\": 1}").contains("the array does not end"));
        assert!(
            error("{\"a\": 1}\n{\"a\": [2]}")
                .contains("the key a is a number in one object and a list in another")
        );
    }
}
