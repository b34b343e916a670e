//! The model store: the layout of models on disk, in a local folder or in any object store.
//!
//! ```text
//! <warehouse>/models/<name>/log/000001.parquet      what happened, and every version that lives
//! <warehouse>/models/<name>/lease/000001            until when the training with that number holds
//! <warehouse>/models/<name>/lease/000001.status     how far it is, for SHOW TRAINING
//! <warehouse>/models/<name>/checkpoints/000001      progress of a training
//! <warehouse>/models/<name>/v000001-<id>/*.parquet  the tables of a version
//! ```
//!
//! A version is a folder that a writer fills alone and then commits by putting the next entry of
//! the log, which succeeds for one writer only. Every entry holds the whole state of the model (see
//! [`log`]), so the last one is all a reader needs. Nothing committed is changed. What a crash left
//! behind is deleted when the model is next trained. The schemas of the tables (see [`tables`]) are
//! a wire format with a version, [`FORMAT_VERSION`].

mod checkpoints;
mod features;
mod files;
mod history;
mod lease;
mod log;
mod members;
mod name;
mod publish;
mod read;
mod records;
mod status;
mod tables;
mod weights;

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use datafusion::common::{Result, exec_err, plan_err};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

pub use files::failpoints;
pub use lease::Lease;
pub use log::VersionEntry;
pub use name::validate_name;
pub use publish::Publish;
pub use status::{Training, TrainingStatus};
pub use tables::ModelTable;

pub(crate) use self::files::Files;
use self::log::LogState;
use crate::names::suggestion;
use crate::object_stores;
use crate::options::nearest;

/// Version of the format that this program writes; it reads this and older ones.
///
/// - 1: one target, one network.
/// - 2: any number of targets, what is no network.
/// - 3: vectors of bytes with one scale.
pub const FORMAT_VERSION: u32 = 3;

/// The owner that errors about files name.
const OWNER: &str = "the model store";

/// Models of a warehouse. Cheap to clone.
#[derive(Clone)]
pub struct ModelStore {
    files: Files,
    location: String,
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore").field("location", &self.location).finish_non_exhaustive()
    }
}

/// A model as SHOW MODELS lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// The version that PREDICT uses.
    pub current: VersionEntry,
    /// How many versions there are.
    pub versions: u64,
}

impl ModelStore {
    /// The store of a warehouse: a folder, which need not exist, or a URL of an object store.
    ///
    /// # Errors
    /// When the location is no folder, or no store is known for the URL.
    pub fn open(warehouse: &str) -> Result<Self> {
        if let Ok(url) = Url::parse(warehouse)
            && url.scheme().len() > 1
        {
            if url.scheme() == "file" {
                return match url.to_file_path() {
                    Ok(path) => Self::open_folder(&path),
                    Err(()) => plan_err!("the warehouse {warehouse} is no local folder"),
                };
            }
            return match object_stores::open(&url, &[]) {
                Ok((store, prefix)) => Ok(Self::from_object_store(store, prefix, warehouse)),
                Err(reason) => plan_err!("the warehouse {warehouse} {reason}"),
            };
        }
        Self::open_folder(FilePath::new(warehouse))
    }

    fn open_folder(folder: &FilePath) -> Result<Self> {
        if folder.exists() && !folder.is_dir() {
            return plan_err!("the warehouse {} is a file, not a folder", folder.display());
        }
        let absolute: PathBuf = match std::path::absolute(folder) {
            Ok(path) => path,
            Err(error) => {
                return plan_err!("the warehouse {} cannot be used: {error}", folder.display());
            }
        };
        let prefix = Path::from_absolute_path(&absolute)?;
        let files = Files::new(OWNER, Arc::new(LocalFileSystem::new()), prefix, Some(absolute));
        Ok(Self { files, location: folder.display().to_string() })
    }

    /// The store under a prefix of an object store that the caller made.
    pub fn from_object_store(store: Arc<dyn ObjectStore>, prefix: Path, location: &str) -> Self {
        Self { files: Files::new(OWNER, store, prefix, None), location: location.to_owned() }
    }

    /// Whether the warehouse is a local folder.
    pub fn is_local(&self) -> bool {
        self.files.is_local()
    }

    /// The warehouse as it was named.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Whether the warehouse holds anything.
    pub async fn exists(&self) -> Result<bool> {
        Ok(!self.files.folders("models").await?.is_empty())
    }

    /// Whether a model of that name has a version.
    pub async fn contains(&self, name: &str) -> Result<bool> {
        validate_name(name)?;
        Ok(!self.state(name).await?.versions.is_empty())
    }

    /// All models, by name.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn list(&self) -> Result<Vec<ModelSummary>> {
        let mut models = vec![];
        for name in self.files.folders("models").await? {
            if validate_name(&name).is_err() {
                continue;
            }
            let state = self.state(&name).await?;
            if let Some(current) = state.current_entry().cloned() {
                let versions = state.versions.len() as u64;
                models.push(ModelSummary { name, current, versions });
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// The versions of a model, oldest first, and which of them PREDICT uses.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn versions(&self, name: &str) -> Result<(Vec<VersionEntry>, u64)> {
        let state = self.known(name).await?;
        Ok((state.versions.clone(), state.current.unwrap_or(0)))
    }

    /// The number that the next version of a model will get, even if the model does not exist yet.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next_version(&self, name: &str) -> Result<u64> {
        Ok(self.state(name).await?.next_version.max(1))
    }

    /// The version that PREDICT uses.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn current_version(&self, name: &str) -> Result<u64> {
        let state = self.known(name).await?;
        match state.current_entry() {
            Some(entry) => Ok(entry.version),
            None => exec_err!("model {name} has no current version"),
        }
    }

    /// The log entry of a version.
    async fn entry(&self, name: &str, version: Option<u64>) -> Result<VersionEntry> {
        let state = self.known(name).await?;
        let wanted = version.or(state.current);
        match state.versions.iter().find(|entry| Some(entry.version) == wanted) {
            Some(entry) => Ok(entry.clone()),
            None => {
                let versions: Vec<_> =
                    state.versions.iter().map(|entry| entry.version.to_string()).collect();
                plan_err!(
                    "model {name} has no version {}; it has {}",
                    wanted.unwrap_or(0),
                    versions.join(", ")
                )
            }
        }
    }

    /// The state of a model that exists.
    async fn known(&self, name: &str) -> Result<LogState> {
        validate_name(name)?;
        let state = self.state(name).await?;
        if !state.versions.is_empty() {
            return Ok(state);
        }
        let mut names = vec![];
        for other in self.files.folders("models").await? {
            if validate_name(&other).is_ok() && !self.state(&other).await?.versions.is_empty() {
                names.push(other);
            }
        }
        plan_err!(
            "there is no model {name} in the warehouse {}{}",
            self.location,
            suggestion(nearest(name, names.iter().map(String::as_str)))
        )
    }
}

/// The folder of a model's files.
fn folder(name: &str) -> String {
    format!("models/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warehouse_is_a_folder_or_a_url() {
        assert_eq!(ModelStore::open("memory:///models").unwrap().location(), "memory:///models");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ModelStore::open(&file.path().display().to_string()).unwrap_err().to_string();
        assert!(error.contains("is a file, not a folder"), "{error}");
        let error = ModelStore::open("gopher://host/x").unwrap_err().to_string();
        assert!(error.contains("the warehouse gopher://host/x cannot be opened"), "{error}");
        if cfg!(not(feature = "aws")) {
            let error = ModelStore::open("s3://bucket/models").unwrap_err().to_string();
            assert!(error.contains("needs a build with the feature aws"), "{error}");
        }
    }
}
