//! A folder of Parquet files that is watched: each file is read once, in the order of names.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::datasource::listing::ListingTableUrl;
use futures::StreamExt;
use object_store::ObjectStore;

use super::{Cursor, Reader, Report, Rows, Source};

mod file;
mod watch;

use file::{OpenFile, Opening};
use watch::{Candidate, Watch};

/// How to watch a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct FolderOptions {
    /// How long a file that is not whole may stay as it is before it is given up.
    pub(super) settle: Duration,
    /// How often to look for new files.
    pub(super) poll: Duration,
    /// Whether the input ends when no file is left.
    pub(super) ends_when_empty: bool,
}

/// A folder or a prefix of an object store, and who reads it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) url: ListingTableUrl,
    pub(super) options: FolderOptions,
    pub(super) report: Arc<Report>,
}

/// The Parquet files of a folder, `*.parquet`, one after another in the order of their names.
///
/// A cursor is the name of a file and a row in it. Files whose names sort before what is read
/// are late: they are told and not read. Sub-folders are not looked into, nor are files whose
/// names begin with a dot or an underscore.
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
    /// The schema of the first file that is whole; None where there is none.
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
        let from = from.filter(|cursor| !cursor.place.is_empty());
        Ok(Box::new(FolderReader {
            folder: Arc::clone(&self.folder),
            schema: Arc::clone(&self.schema),
            watch: Watch::new(Arc::clone(&self.folder), from),
            file: None,
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
}

#[async_trait]
impl Reader for FolderReader {
    async fn next(&mut self) -> Result<Option<Rows>> {
        loop {
            if let Some(file) = &mut self.file {
                if let Some(batch) = file.batches.next().await {
                    return file.rows(batch).map(Some);
                }
                self.file = None;
            }
            match self.watch.candidate().await? {
                Candidate::File { name, meta, skip } => {
                    let schema = &self.schema;
                    match file::open(&self.folder, &name, &meta, schema, skip).await? {
                        Opening::Open(file) => {
                            self.watch.begun(&name);
                            self.file = Some(*file);
                        }
                        Opening::Unfinished(reason) => {
                            if !self.watch.give_up(&name, &meta, &reason) {
                                tokio::time::sleep(self.folder.options.poll).await;
                            }
                        }
                        Opening::Vanished => self.watch.vanished(&name),
                    }
                }
                Candidate::None if self.folder.options.ends_when_empty => return Ok(None),
                Candidate::None => tokio::time::sleep(self.folder.options.poll).await,
            }
        }
    }
}

impl OpenFile {
    fn rows(
        &mut self,
        batch: parquet::errors::Result<datafusion::arrow::array::RecordBatch>,
    ) -> Result<Rows> {
        let batch = match batch {
            Ok(batch) => self.adapter.adapt(&batch)?,
            Err(error) => {
                return exec_err!(
                    "file {} could not be read beyond row {}: {error}",
                    self.name,
                    self.row
                );
            }
        };
        let first = Cursor { place: self.name.clone(), row: self.row };
        self.row += batch.num_rows() as u64;
        Ok(Rows { batch, first })
    }
}
