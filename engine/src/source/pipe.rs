//! Standard input, FIFOs and files: one producer, whose end is the end of the input.

use std::fs::{File, FileType, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_datafusion_err, plan_err};

use super::decode::{Decoding, Format};
use super::feed::Feed;
use super::{Cursor, Lag, Reader, Report, Rows, Source};

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    Standard,
    Fifo(PathBuf),
    File(PathBuf),
}

/// Standard input, a FIFO or a file.
///
/// A FIFO may be opened before it has a writer; the input ends once all its writers have closed it.
/// A file is read from its first byte to its last, and can be replayed.
#[derive(Debug)]
pub struct PipeSource {
    input: Input,
    location: String,
    format: Format,
    schema: SchemaRef,
    report: Arc<Report>,
}

impl PipeSource {
    /// The standard input of the process.
    pub(super) fn standard_input(location: &str, format: Format, schema: SchemaRef) -> Self {
        let report = Arc::default();
        Self { input: Input::Standard, location: location.to_owned(), format, schema, report }
    }

    /// The FIFO or file at a path.
    ///
    /// # Errors
    /// When there is none, or it is something else.
    pub(super) fn at(
        path: &Path,
        location: &str,
        format: Format,
        schema: SchemaRef,
    ) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => plan_datafusion_err!(
                "{location} does not exist; make a FIFO there with mkfifo, or name an existing file"
            ),
            _ => plan_datafusion_err!("{location} cannot be read: {error}"),
        })?;
        if metadata.is_dir() {
            return plan_err!(
                "{location} is a folder; folders are watched for STORED AS PARQUET, other formats \
                 come from '-', a FIFO, a file, tcp:// or unix://"
            );
        }
        if is_socket(&metadata.file_type()) {
            return plan_err!("{location} is a socket; LOCATION should be unix:///path.sock");
        }
        let path = path.to_owned();
        let input = if metadata.is_file() { Input::File(path) } else { Input::Fifo(path) };
        Ok(Self { input, location: location.to_owned(), format, schema, report: Arc::default() })
    }
}

#[async_trait]
impl Source for PipeSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn is_replayable(&self) -> bool {
        matches!(self.input, Input::File(_))
    }

    async fn open(&self, _: usize, from: Option<&Cursor>) -> Result<Box<dyn Reader>> {
        let cannot = |error| exec_datafusion_err!("{} cannot be opened: {error}", self.location);
        let mut length = None;
        let feed = match &self.input {
            Input::Standard => Feed::standard_input().map_err(|error| match error.kind() {
                ErrorKind::ResourceBusy => {
                    exec_datafusion_err!("another query reads standard input; one at a time can")
                }
                _ => cannot(error),
            })?,
            Input::Fifo(path) => Feed::start(Fifo::open(path).map_err(cannot)?).map_err(cannot)?,
            Input::File(path) => {
                let file = File::open(path).map_err(cannot)?;
                length = Some(file.metadata().map_err(cannot)?.len());
                Feed::start(file).map_err(cannot)?
            }
        };
        let decoder = self.format.decoder(&self.schema, &self.location, &self.report)?;
        self.report.producer_connected();
        let row = from.map_or(0, |cursor| cursor.row);
        Ok(Box::new(PipeReader {
            decoding: Decoding::new(feed, decoder),
            location: self.location.clone(),
            report: Arc::clone(&self.report),
            length,
            skip: if length.is_some() { row } else { 0 },
            row: if length.is_some() { 0 } else { row },
        }))
    }

    fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    fn kind(&self) -> &'static str {
        match self.input {
            Input::Standard => "stdin",
            Input::Fifo(_) => "fifo",
            Input::File(_) => "file",
        }
    }

    fn location(&self) -> &str {
        &self.location
    }
}

struct PipeReader {
    decoding: Decoding,
    location: String,
    report: Arc<Report>,
    /// The bytes of a file.
    length: Option<u64>,
    /// Rows of a file that were read before.
    skip: u64,
    /// The next row.
    row: u64,
}

#[async_trait]
impl Reader for PipeReader {
    async fn next(&mut self) -> Result<Option<Rows>> {
        loop {
            let Some(batch) = self.decoding.next().await? else {
                if self.skip > self.row {
                    return exec_err!(
                        "{} has {} rows and should go on after row {}: it is not the file that \
                         was read before",
                        self.location,
                        self.row,
                        self.skip
                    );
                }
                return Ok(None);
            };
            if let Some(length) = self.length {
                self.report.set_lag(Lag::Bytes(length.saturating_sub(self.decoding.bytes())));
            }
            let rows = batch.num_rows() as u64;
            let known = self.skip.saturating_sub(self.row).min(rows);
            let first = Cursor::new("", self.row + known);
            self.row += rows;
            if known < rows {
                let batch = batch.slice(known as usize, (rows - known) as usize);
                return Ok(Some(Rows::new(batch, first)));
            }
        }
    }
}

/// A FIFO, read without blocking: a blocking read could not be stopped when the query is.
struct Fifo {
    file: File,
    /// Whether it has had a writer. If so, a read of 0 bytes is the end; otherwise the writer is
    /// still to come.
    has_writer: bool,
}

impl Fifo {
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        let file = options.open(path)?;
        // An inherited descriptor, such as `<(...)` of a shell, already has a writer. For
        // terminals and the like, 0 bytes are always the end.
        let is_handed_over = ["/dev/fd", "/proc"].iter().any(|folder| path.starts_with(folder));
        let has_writer = is_handed_over || !is_fifo(&file.metadata()?.file_type());
        Ok(Self { file, has_writer })
    }
}

impl Read for Fifo {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.file.read(buffer) {
            Ok(0) if !self.has_writer => Err(ErrorKind::WouldBlock.into()),
            result => {
                // `WouldBlock` means that there is a writer that has written nothing yet.
                self.has_writer = true;
                result
            }
        }
    }
}

#[cfg(unix)]
fn is_fifo(file_type: &FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(file_type)
}

#[cfg(unix)]
fn is_socket(file_type: &FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(file_type)
}

#[cfg(not(unix))]
fn is_fifo(_: &FileType) -> bool {
    false
}

#[cfg(not(unix))]
fn is_socket(_: &FileType) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::decode::tests::{schema, text};
    use super::*;

    async fn all(reader: &mut Box<dyn Reader>) -> Vec<Rows> {
        let mut all = vec![];
        while let Some(rows) = reader.next().await.unwrap() {
            all.push(rows);
        }
        all
    }

    #[tokio::test]
    async fn a_file_goes_on_in_the_middle() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for i in 0..20_000 {
            writeln!(file, "{i},s{i}").unwrap();
            if i % 20 == 0 {
                writeln!(file, "no row").unwrap();
            }
        }
        let options = super::super::decode::CsvOptions {
            header: super::super::decode::Header::Never,
            delimiter: b',',
            quote: b'"',
            newlines_in_values: false,
        };
        let format = Format::Csv(options);
        let source = PipeSource::at(file.path(), "x.csv", format, schema()).unwrap();
        assert!(source.is_replayable());
        assert_eq!((source.kind(), source.location()), ("file", "x.csv"));
        let rows = all(&mut source.open(0, None).await.unwrap()).await;
        assert_eq!(rows.iter().map(|rows| rows.batch.num_rows()).sum::<usize>(), 20_000);
        assert_eq!(source.report().lag(), Some(Lag::Bytes(0)));
        assert_eq!(source.report().rejected(), 1000);

        let from = Cursor::new("", 12_345);
        let rows = all(&mut source.open(0, Some(&from)).await.unwrap()).await;
        assert_eq!(rows[0].first, from);
        assert_eq!(text(&[rows[0].batch.slice(0, 1)]), "| 12345 | s12345 |");
        assert_eq!(rows.iter().map(|rows| rows.batch.num_rows()).sum::<usize>(), 7655);

        let mut reader = source.open(0, Some(&Cursor::default().after(20_000))).await.unwrap();
        assert!(reader.next().await.unwrap().is_none());
        let mut reader = source.open(0, Some(&Cursor::default().after(20_001))).await.unwrap();
        let error = reader.next().await.unwrap_err().to_string();
        assert!(error.contains("x.csv has 20000 rows"), "{error}");
    }

    #[test]
    fn what_is_no_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| {
            PipeSource::at(path, "LOC", Format::Json, schema()).unwrap_err().to_string()
        };
        assert!(refused(folder.path()).contains("LOC is a folder"));
        assert!(refused(&folder.path().join("x")).contains("LOC does not exist"));
    }
}
