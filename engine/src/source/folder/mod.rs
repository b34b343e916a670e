//! A watched folder of Parquet files: each file is read once, whenever it appears. New files are
//! read in the order of their names.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::datasource::listing::ListingTableUrl;
use object_store::ObjectStore;

use super::{Cursor, Reader, Report, Rows, Source};

mod file;
mod manifest;
mod watch;

use file::{Next, OpenFile, Opening};
pub use manifest::{FileRows, FolderCursor};
use watch::Watch;

/// How to watch a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct FolderOptions {
    /// How long an incomplete file may stay unchanged before it is given up.
    pub(super) settle: Duration,
    /// How often to look for new files.
    pub(super) poll: Duration,
    /// Whether the input ends when no file is left.
    pub(super) ends_when_empty: bool,
}

/// A folder or a prefix of an object store, with the options and the report of its readers.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) url: ListingTableUrl,
    pub(super) options: FolderOptions,
    pub(super) report: Arc<Report>,
}

/// The Parquet files of a folder, `*.parquet`, one after another: of the unread files that exist,
/// the one whose name sorts first.
///
/// A cursor is the name of a file, a row in it, and the files that were done before. A file that is
/// replaced or grows after it was read is reported and not read again; one that cannot be read is
/// reported, and read when it is replaced. Sub-folders are ignored, and so are files whose names
/// begin with a dot or an underscore.
#[derive(Debug)]
pub struct FolderSource {
    folder: Arc<Folder>,
    location: String,
    schema: SchemaRef,
}

impl FolderSource {
    /// A folder whose rows have the columns of `schema`.
    pub(super) fn new(folder: Folder, location: &str, schema: SchemaRef) -> Self {
        Self { folder: Arc::new(folder), location: location.to_owned(), schema }
    }
}

impl Folder {
    /// The schema of the first complete file; None if there is none.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) async fn infer_schema(&self) -> Result<Option<SchemaRef>> {
        for (_, meta) in watch::list(self).await? {
            if let Ok(schema) = file::schema(self, &meta).await {
                return Ok(Some(schema));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Source for FolderSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn is_replayable(&self) -> bool {
        true
    }

    async fn open(&self, _: usize, from: Option<&Cursor>) -> Result<Box<dyn Reader>> {
        Ok(Box::new(FolderReader {
            folder: Arc::clone(&self.folder),
            schema: Arc::clone(&self.schema),
            watch: Watch::new(Arc::clone(&self.folder), from),
            file: None,
            again_until: 0,
        }))
    }

    fn report(&self) -> Arc<Report> {
        Arc::clone(&self.folder.report)
    }

    fn kind(&self) -> &'static str {
        "folder"
    }

    fn location(&self) -> &str {
        &self.location
    }
}

struct FolderReader {
    folder: Arc<Folder>,
    schema: SchemaRef,
    watch: Watch,
    file: Option<OpenFile>,
    /// The row of the file up to which an earlier run had consumed it.
    again_until: u64,
}

#[async_trait]
impl Reader for FolderReader {
    async fn next(&mut self) -> Result<Option<Rows>> {
        loop {
            if let Some(file) = &mut self.file {
                match file.next().await {
                    Next::Rows(rows) => {
                        let lost = std::mem::take(&mut self.watch.lost);
                        return Ok(Some(Rows { lost, ..rows }));
                    }
                    Next::End => {}
                    // Unread files stay unread, for a reader that starts again.
                    Next::Failed(error) => return Err(error),
                    Next::Broken(why) => {
                        let why =
                            format!("is read up to its row {} and no further: {why}", file.row);
                        self.folder.report.file_skipped(&file.name, &why);
                    }
                }
                self.end_file();
            }
            let Some(next) = self.watch.candidate().await? else {
                if self.folder.options.ends_when_empty {
                    return Ok(None);
                }
                tokio::time::sleep(self.folder.options.poll).await;
                continue;
            };
            match file::open(&self.folder, &next, &self.schema).await {
                Opening::Open(mut file) => {
                    file.follows(self.watch.begun(&next));
                    self.again_until = next.skip + next.again;
                    self.file = Some(*file);
                }
                Opening::Unfinished { reason, is_torn } => {
                    if !self.watch.give_up(&next, &reason, is_torn) {
                        tokio::time::sleep(self.folder.options.poll).await;
                    }
                }
                Opening::Rejected(why) => self.watch.reject(&next, &why),
                Opening::Vanished => self.watch.vanished(&next.name),
                Opening::Failed(error) => return Err(error),
            }
        }
    }
}

impl FolderReader {
    /// Handles the end of a file. If an earlier run had read more of its rows, these are lost.
    fn end_file(&mut self) {
        if let Some(file) = self.file.take()
            && file.row < self.again_until
        {
            self.watch.lost.push((file.cursor(), self.again_until - file.row));
        }
    }
}
