//! The format of CSV files: types of columns are inferred from all rows, columns are found by name.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, internal_err};
use datafusion::datasource::file_format::csv::{CsvFormat, CsvFormatFactory};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{CsvOpener, FileOpener};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStore;

use super::super::name_of;
use super::super::text_format::{TextFiles, TextFormat, Wanted, named};
use super::layout::{Dialect, Layout};
use super::reading::Reading;

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
        let writer = self.inner.create(state, options)?;
        let Some(format) = writer.downcast_ref::<CsvFormat>() else {
            return internal_err!("the format of CSV is another");
        };
        let session = &state.config_options().catalog;
        let mut own = format.options().clone();
        let line_breaks = own.newlines_in_values.unwrap_or(session.newlines_in_values);
        own.newlines_in_values = Some(line_breaks);
        // If a session is set to files without headers, this applies to every file.
        let has_header = own.has_header.or((!session.has_header).then_some(false));
        let is_delimiter_given = options.keys().any(|key| {
            key.strip_prefix("format.").unwrap_or(key).eq_ignore_ascii_case("delimiter")
        });
        let dialect = Dialect { options: own, is_delimiter_given, has_header };
        Ok(Arc::new(TextFiles::new(writer, Csv { dialect })))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        let options = CsvFormat::default().options().clone();
        let dialect = Dialect { options, is_delimiter_given: false, has_header: None };
        Arc::new(TextFiles::new(self.inner.default(), Csv { dialect }))
    }
}

impl GetExt for CsvFilesFactory {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }
}

/// CSV.
#[derive(Debug)]
struct Csv {
    dialect: Dialect,
}

#[async_trait]
impl TextFormat for Csv {
    type Layout = Layout;

    const NAME: &'static str = "csv";

    fn compression(&self) -> FileCompressionType {
        self.dialect.options.compression.into()
    }

    fn inspect(&self, file: &str, bytes: &[u8], is_whole: bool) -> Result<(Schema, Layout)> {
        let layout = Layout::of(file, bytes, is_whole, &self.dialect)?;
        Ok((layout.schema(), layout))
    }

    /// Values with line breaks may cross the end of a range.
    fn has_ranges(&self, layout: Option<&Layout>) -> bool {
        !self.dialect.options.newlines_in_values.unwrap_or(false)
            && !layout.is_some_and(|layout| layout.has_line_breaks)
    }

    fn shown(&self) -> String {
        format!(", has_header={}", self.dialect.has_header.unwrap_or(true))
    }

    async fn open(
        &self,
        layout: &Layout,
        wanted: Wanted,
        store: Arc<dyn ObjectStore>,
        file: PartitionedFile,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let name = name_of(store.as_ref(), &file.object_meta.location);
        let reading = Reading::new(name.clone(), layout, &wanted, &self.dialect)?;
        let source = reading.source(layout, &self.dialect, wanted.batch_size)?;
        // Rows are counted where the file is read from its start.
        let mut rows = file.range.as_ref().is_none_or(|range| range.start == 0).then_some(0);
        let opener = CsvOpener::new(Arc::new(source), self.compression(), store);
        let named = move |error| named("CSV", &name, error);
        let batches = opener.open(file)?.await.map_err(&named)?;
        Ok(batches
            .map(move |batch| {
                let batch = batch.map_err(&named)?;
                let given = reading.columns(&batch, rows)?;
                rows = rows.map(|rows| rows + batch.num_rows());
                Ok(given)
            })
            .boxed())
    }
}
