//! Files of a warehouse: they are written and read as a whole, and only one of several writers can
//! create a file.

use std::io::Write;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

/// Points at which a test can make the process die: between any two writes of the store.
pub mod failpoints {
    /// The variable that names a point and (after `:`) how often it is passed before.
    pub const VARIABLE: &str = "GRADLAKE_FAILPOINT";

    /// Every point, in the order in which a training passes them.
    pub const ALL: [&str; 16] = [
        "lease-heartbeat",
        "lease-log",
        "checkpoint-file",
        "checkpoint-old",
        "publish-manifest",
        "publish-members",
        "publish-features",
        "publish-parameters",
        "publish-weights",
        "publish-optimizer",
        "publish-history",
        "publish-metrics",
        "publish-log",
        "publish-old",
        "checkpoint-discard",
        "release-log",
    ];

    /// Aborts the process without cleanup, as `kill -9` would, if the variable says so.
    pub(crate) fn pass(place: &str) {
        use std::sync::atomic::{AtomicU64, Ordering};
        static PASSED: AtomicU64 = AtomicU64::new(0);
        let Ok(wanted) = std::env::var(VARIABLE) else { return };
        let (name, before) = wanted.split_once(':').unwrap_or((&wanted, "0"));
        if name == place && PASSED.fetch_add(1, Ordering::Relaxed) == before.parse().unwrap_or(0) {
            std::process::abort();
        }
    }
}

/// The files under a prefix of an object store.
#[derive(Clone, Debug)]
pub struct Files {
    /// The owner of the files, for error messages.
    owner: &'static str,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The prefix as a local folder, whose files are synced to disk.
    local: Option<PathBuf>,
}

impl Files {
    /// The files under `prefix`; `owner` is named by errors.
    pub fn new(
        owner: &'static str,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        local: Option<PathBuf>,
    ) -> Self {
        Self { owner, store, prefix, local }
    }

    fn failed(
        &self,
        what: &str,
        path: &str,
        error: &dyn std::fmt::Display,
    ) -> datafusion::error::DataFusionError {
        exec_datafusion_err!("{} could not {what} {path}: {error}", self.owner)
    }

    /// Whether the files are in a local folder.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    fn path(&self, path: &str) -> Path {
        path.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |prefix, part| prefix.join(part))
    }

    /// Writes a file; replaces an old one if there is one.
    pub async fn write(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let payload = PutPayload::from(bytes);
        self.store
            .put(&self.path(path), payload)
            .await
            .map_err(|e| self.failed("write", path, &e))?;
        if let Some(folder) = &self.local {
            let file = folder.join(path);
            blocking(move || sync(&file)).await.map_err(|e| self.failed("write", path, &e))?;
        }
        Ok(())
    }

    /// Writes a file over an old one without waiting until the disk has it: readers find the old or
    /// the new one whole, and a crash of the machine may lose it.
    pub async fn replace(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let put = self.store.put(&self.path(path), PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|e| self.failed("write", path, &e))
    }

    /// Creates a file atomically; returns false if it exists already.
    pub async fn create(&self, path: &str, bytes: Vec<u8>) -> Result<bool> {
        if let Some(folder) = &self.local {
            let file = folder.join(path);
            let created = blocking(move || create_local(&file, &bytes)).await;
            return created.map_err(|e| self.failed("write", path, &e));
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(path), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed("write", path, &error)),
        }
    }

    /// Reads a file; None if there is none.
    pub async fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let got = match self.store.get(&self.path(path)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", path, &error)),
        }
    }

    /// Names of the files in a folder, sorted; empty if there is no folder.
    pub async fn names(&self, folder: &str) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(&self.path(folder))).await;
        let listed = match listed {
            Err(object_store::Error::NotFound { .. }) => return Ok(vec![]),
            other => other.map_err(|e| self.failed("list", folder, &e))?,
        };
        let names = listed.objects.iter().filter_map(|o| o.location.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Names of the folders in a folder, sorted.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(&self.path(folder))).await;
        let listed = match listed {
            Err(object_store::Error::NotFound { .. }) => return Ok(vec![]),
            other => other.map_err(|e| self.failed("list", folder, &e))?,
        };
        let names = listed.common_prefixes.iter().filter_map(|p| p.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes a file if there is one.
    pub async fn delete(&self, path: &str) -> Result<()> {
        match self.store.delete(&self.path(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("delete", path, &error)),
        }
    }

    /// Deletes a folder with all that is in it.
    pub async fn delete_folder(&self, folder: &str) -> Result<()> {
        let prefix = self.path(folder);
        let found: Vec<_> = self
            .store
            .list(Some(&prefix))
            .map_ok(|meta| meta.location)
            .try_collect()
            .await
            .or_else(|error| match error {
                object_store::Error::NotFound { .. } => Ok(vec![]),
                error => Err(self.failed("list", folder, &error)),
            })?;
        for path in found {
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("delete", folder, &error)),
            }
        }
        if let Some(local) = &self.local {
            // Only local file systems leave empty folders, and one that stays does no harm.
            let folder = local.join(folder);
            let _ = blocking(move || std::fs::remove_dir_all(folder)).await;
        }
        Ok(())
    }

    /// When a file was written, in milliseconds since the epoch; None if there is none.
    pub async fn written_at(&self, path: &str) -> Result<Option<i64>> {
        match self.store.head(&self.path(path)).await {
            Ok(meta) => Ok(Some(meta.last_modified.timestamp_millis())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", path, &error)),
        }
    }

    /// When the youngest file of a folder was written, in milliseconds since the epoch; also one
    /// that is still being written.
    pub async fn youngest(&self, folder: &str) -> Result<Option<i64>> {
        let prefix = self.path(folder);
        let mut listed = self.store.list(Some(&prefix));
        let mut youngest = None;
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| self.failed("list", folder, &e))?;
            youngest = youngest.max(Some(meta.last_modified.timestamp_millis()));
        }
        Ok(youngest)
    }
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(std::io::Error::other)?
}

/// Flushes a file, and the folder that names it, to disk.
fn sync(file: &FilePath) -> std::io::Result<()> {
    std::fs::File::open(file)?.sync_all()?;
    sync_folder(file)
}

fn sync_folder(file: &FilePath) -> std::io::Result<()> {
    match file.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes a file under another name, syncs it, and links it to its own, which fails if another
/// process was first.
fn create_local(file: &FilePath, bytes: &[u8]) -> std::io::Result<bool> {
    let Some(folder) = file.parent() else {
        return Err(std::io::Error::other("the file has no folder"));
    };
    if file.exists() {
        return Ok(false);
    }
    let hidden = folder.join(".staged");
    let mut staged = staged_in(&hidden)?;
    staged.write_all(bytes)?;
    staged.as_file().sync_all()?;
    let created = match std::fs::hard_link(staged.path(), file) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    drop(staged);
    // The folder stays if another process is about to create a file in it.
    let _ = std::fs::remove_dir(hidden);
    sync_folder(file)?;
    Ok(created)
}

/// A file under another name, with the same read permissions as the folder's other files. What a
/// crash leaves of it is in a hidden folder, which readers of tables skip.
fn staged_in(hidden: &FilePath) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        std::fs::create_dir_all(hidden)?;
        match builder.tempfile_in(hidden) {
            // Another process has just finished and deleted the folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
}

/// Checks that bytes are those that were written.
pub fn check(path: &str, bytes: &[u8], crc32: u32) -> Result<()> {
    if crc32fast::hash(bytes) != crc32 {
        return exec_err!(
            "{path} is damaged: its {} bytes do not have the checksum that the log notes",
            bytes.len()
        );
    }
    Ok(())
}
