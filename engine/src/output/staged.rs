//! Files that appear whole or not at all: what a statement writes is finished when all of it is
//! written, and given up when the statement fails or is dropped. A file of the same name stays as
//! it was until then.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use url::Url;

/// Bytes of small files that are kept in memory until all is written; what comes beyond is
/// uploaded.
const KEPT: usize = 64 << 20;

/// Files that are written but not there yet.
#[derive(Debug, Default)]
pub struct Staged(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    files: Vec<File>,
    kept: usize,
}

#[derive(Debug)]
enum File {
    /// To be put as a whole.
    Kept(Arc<dyn ObjectStore>, Path, PutPayload, PutOptions),
    /// Uploaded, but not completed.
    Uploaded(Box<dyn MultipartUpload>),
}

impl Staged {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<File> {
        let mut files = self.files();
        files.kept = 0;
        std::mem::take(&mut files.files)
    }

    fn push(&self, file: File) {
        self.files().files.push(file);
    }

    /// Keeps a small file, if it fits.
    fn keep(&self, store: &Arc<dyn ObjectStore>, own: (&Path, &PutPayload, &PutOptions)) -> bool {
        let (location, payload, options) = own;
        let mut files = self.files();
        if files.kept + payload.content_length() > KEPT {
            return false;
        }
        files.kept += payload.content_length();
        let file =
            File::Kept(Arc::clone(store), location.clone(), payload.clone(), options.clone());
        files.files.push(file);
        true
    }

    /// Lets the files appear.
    ///
    /// # Errors
    /// When one cannot be finished: those after it are given up.
    pub async fn commit(&self) -> Result<()> {
        let mut files = self.take().into_iter();
        while let Some(file) = files.next() {
            let done = match file {
                File::Kept(store, location, payload, options) => {
                    store.put_opts(&location, payload, options).await
                }
                File::Uploaded(mut upload) => upload.complete().await,
            };
            if let Err(error) = done {
                give_up(files).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives the files up.
    pub async fn abort(&self) {
        give_up(self.take().into_iter()).await;
    }
}

impl Drop for Staged {
    /// The statement was dropped. Uploads into a folder remove what they wrote when they are
    /// dropped; other uploads are aborted.
    fn drop(&mut self) {
        let files = self.take();
        if let (false, Ok(runtime)) = (files.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(give_up(files.into_iter()));
        }
    }
}

async fn give_up(files: impl Iterator<Item = File>) {
    for file in files {
        if let File::Uploaded(mut upload) = file
            && let Err(error) = upload.abort().await
        {
            log::warn!("an upload that is not needed could not be given up: {error}");
        }
    }
}

/// Stores whose writes are staged.
#[derive(Debug)]
pub struct StagedStores {
    inner: Arc<dyn ObjectStoreRegistry>,
    staged: Arc<Staged>,
}

impl StagedStores {
    /// The stores of a registry, whose writes go to `staged`.
    pub fn new(inner: Arc<dyn ObjectStoreRegistry>, staged: Arc<Staged>) -> Self {
        Self { inner, staged }
    }
}

impl ObjectStoreRegistry for StagedStores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.inner.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        self.inner.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        let inner = self.inner.get_store(url)?;
        Ok(Arc::new(StagedStore { inner, staged: Arc::clone(&self.staged) }))
    }
}

/// A store that reads directly, but whose writes take effect only when all is written.
#[derive(Debug)]
struct StagedStore {
    inner: Arc<dyn ObjectStore>,
    staged: Arc<Staged>,
}

impl fmt::Display for StagedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The result that a writer receives: no caller needs a version of what it has just written.
const WRITTEN: PutResult = PutResult { e_tag: None, version: None };

#[async_trait]
impl ObjectStore for StagedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if !self.staged.keep(&self.inner, (location, &payload, &options)) {
            let options = PutMultipartOptions {
                tags: options.tags,
                attributes: options.attributes,
                extensions: options.extensions,
            };
            let mut upload = self.inner.put_multipart_opts(location, options).await?;
            upload.put_part(payload).await?;
            self.staged.push(File::Uploaded(upload));
        }
        Ok(WRITTEN)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(StagedUpload { upload: Some(upload), staged: Arc::clone(&self.staged) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// An upload that is completed at the end of the statement.
#[derive(Debug)]
struct StagedUpload {
    /// None when it has ended.
    upload: Option<Box<dyn MultipartUpload>>,
    staged: Arc<Staged>,
}

fn ended() -> object_store::Error {
    object_store::Error::Generic { store: "staged", source: "the upload has ended".into() }
}

#[async_trait]
impl MultipartUpload for StagedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match &mut self.upload {
            Some(upload) => upload.put_part(data),
            None => Box::pin(async { Err(ended()) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.staged.push(File::Uploaded(self.upload.take().ok_or_else(ended)?));
        Ok(WRITTEN)
    }

    async fn abort(&mut self) -> Result<()> {
        match self.upload.take() {
            Some(mut upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}
