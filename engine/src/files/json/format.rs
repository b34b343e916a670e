//! The format of JSON files: types of keys are inferred from all objects.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::config::JsonOptions;
use datafusion::common::{GetExt, Result, internal_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::{JsonFormat, JsonFormatFactory};
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::listing::PartitionedFile;
use futures::stream::BoxStream;
use object_store::ObjectStore;

use super::super::listing::one_line;
use super::super::text_format::{TextFiles, TextFormat, Wanted};
use super::array::ArrayLines;
use super::reading;
use super::seen::{Keys, Seen};

/// The byte order mark that a text may begin with on Windows.
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
        let writer = self.inner.create(state, options)?;
        let Some(format) = writer.downcast_ref::<JsonFormat>() else {
            return internal_err!("the format of JSON is another");
        };
        let options = format.options().clone();
        Ok(Arc::new(TextFiles::new(writer, Json { options })))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        let options = JsonFormat::default().options().clone();
        Arc::new(TextFiles::new(self.inner.default(), Json { options }))
    }
}

impl GetExt for JsonFilesFactory {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }
}

/// JSON.
#[derive(Debug)]
struct Json {
    options: JsonOptions,
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// One array of objects, or objects line by line.
    pub(super) is_array: bool,
    /// Whether an object spans several lines.
    has_line_breaks: bool,
    /// Whether all of it was inspected: then its numbers are of the columns' types.
    pub(super) is_whole: bool,
}

#[async_trait]
impl TextFormat for Json {
    type Layout = Layout;

    const NAME: &'static str = "json";

    fn compression(&self) -> FileCompressionType {
        self.options.compression.into()
    }

    fn inspect(&self, file: &str, bytes: &[u8], is_whole: bool) -> Result<(Schema, Layout)> {
        let (keys, layout) = inspect(file, bytes, is_whole)?;
        Ok((keys.schema(), layout))
    }

    /// Keys that are not declared may be anything.
    fn layout(&self, _: &str, head: &[u8], _: bool) -> Result<Layout> {
        Ok(Layout { is_array: is_array(head), has_line_breaks: true, is_whole: false })
    }

    fn has_ranges(&self, layout: Option<&Layout>) -> bool {
        layout.is_some_and(|layout| !layout.is_array && !layout.has_line_breaks)
    }

    async fn open(
        &self,
        layout: &Layout,
        wanted: Wanted,
        store: Arc<dyn ObjectStore>,
        file: PartitionedFile,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        reading::open(*layout, wanted, self.compression(), store, file).await
    }
}

fn is_array(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// The keys of the objects of a file, and how it is written.
fn inspect(file: &str, bytes: &[u8], is_whole: bool) -> Result<(Keys, Layout)> {
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
        Bytes::copy_from_slice(bytes)
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
            // The last object is cut off.
            Err(error) if error.is_eof() && !is_whole => break,
            Err(error) => return cannot(&error.to_string()),
        }
        let text = lines[begin..end].trim_ascii_start();
        has_line_breaks |= text.contains(&b'\n');
        begin = end;
    }
    Ok((keys, Layout { is_array, has_line_breaks, is_whole }))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn how_files_are_written_is_found_out() {
        let of = |text: &str| inspect("x.json", text.as_bytes(), true).unwrap();
        let (keys, layout) = of("{\"a\": 1}\n{\"a\": 2.5}\n");
        assert!(!layout.is_array && !layout.has_line_breaks && layout.is_whole);
        assert_eq!(keys.schema().field(0).data_type(), &DataType::Float64);
        assert!(of("[{\"a\": 1},\n {\"a\": 2}]\n").1.is_array);
        assert!(of("{\n\"a\": 1\n}\n{\"a\": 2}\n").1.has_line_breaks);
        assert_eq!(of("[]").0.schema().fields().len(), 0);
        // The rest was cut off.
        assert!(inspect("x.json", b"{\"a\": 1}\n{\"a", false).is_ok());
    }

    #[test]
    fn what_is_no_table_is_told_in_one_line() {
        let error = |text: &str| {
            inspect("x.json", text.as_bytes(), true).unwrap_err().strip_backtrace().to_string()
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
