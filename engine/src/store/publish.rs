//! Operations that change the log of a model: publish, drop, rename, set the version.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::error::DataFusionError;
use futures::{StreamExt, stream};
use gradlake_udfs::Model;

use super::files::failpoints;
use super::lease::{Lease, may_go_on};
use super::log::{Action, FileEntry, LogState, VersionEntry};
use super::records::to_parquet_on;
use super::{ModelStore, ModelTable, folder, validate_name};
use crate::clock::now_ms;

/// Age after which an unreferenced folder is deleted; a writer may still be working on a younger
/// one.
const SWEEP_AFTER_MS: i64 = 3_600_000;

/// What to do if the model exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Refuse to publish over it.
    New,
    /// Publish the next version.
    Replace,
}

impl ModelStore {
    /// Publishes a model as the next version of its name, and returns the number.
    ///
    /// Of the earlier versions, the latest `keep` - 1 stay, or all if `keep` is None.
    ///
    /// # Errors
    /// When the model exists and `mode` is `New`, the lease is no longer held, or the store cannot
    /// be written. Nothing is published in that case.
    pub async fn publish(
        &self,
        model: &Arc<Model>,
        mode: Publish,
        keep: Option<u64>,
        lease: Option<&Lease>,
    ) -> Result<u64> {
        let name = model.name.as_str();
        validate_name(name)?;
        let state = self.state(name).await?;
        may_publish(name, &state, mode, lease)?;
        let version = state.next_version;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let own = format!("{}/v{version:06}-{}", folder(name), &id[..12]);
        let written = self.write_version(model, &own).await;
        let entry = match written {
            Ok(files) => VersionEntry {
                version,
                folder: own.clone(),
                published_at: now_ms(),
                algorithm: model.algorithm.to_string(),
                target: targets(model),
                rows: model.rows,
                parent: model.parent.as_ref().map(|(name, version)| format!("{name}:{version}")),
                files,
            },
            Err(error) => return self.give_up(&own, error).await,
        };
        loop {
            let mut state = self.state(name).await?;
            if let Err(error) = may_publish(name, &state, mode, lease) {
                return self.give_up(&own, error).await;
            }
            if state.next_version != version {
                let error = exec_datafusion_err!(
                    "version {version} of model {name} was published by somebody else meanwhile; \
                     run the statement again"
                );
                return self.give_up(&own, error).await;
            }
            state.next_version = version + 1;
            state.current = Some(version);
            state.versions.push(entry.clone());
            let mut gone = vec![];
            if let Some(keep) = keep {
                let surplus = state.versions.len().saturating_sub(keep.max(1) as usize);
                gone.extend(state.versions.drain(..surplus));
            }
            if self.commit(name, &state, &Action::new("publish"), "publish-log").await? {
                failpoints::pass("publish-old");
                for old in gone {
                    self.files.delete_folder(&old.folder).await?;
                }
                return Ok(version);
            }
        }
    }

    /// Writes the files of a version one after another, while the next ones are made in parallel.
    async fn write_version(&self, model: &Arc<Model>, folder: &str) -> Result<Vec<FileEntry>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // (One thread makes a table before all threads make its row groups, so more tables are in
        // progress than there are cores. Tasks continue while a file is written.)
        let mut made = stream::iter(ModelTable::files(model))
            .map(|table| {
                let model = Arc::clone(model);
                SpawnedTask::spawn(async move {
                    let made = tokio::task::spawn_blocking(move || table.batch(&model)).await;
                    let batch = made.map_err(|e| failed(&e))??;
                    Ok::<_, DataFusionError>((table, to_parquet_on(cores, &batch).await?))
                })
            })
            .buffered(cores + 2);
        let mut files = vec![];
        while let Some(made) = made.next().await {
            let (table, bytes) = made.map_err(|e| failed(&e))??;
            failpoints::pass(&format!("publish-{}", table.name()));
            files.push(FileEntry {
                name: table.file(),
                bytes: bytes.len() as u64,
                crc32: crc32fast::hash(&bytes),
            });
            self.files.write(&format!("{folder}/{}", table.file()), bytes).await?;
        }
        Ok(files)
    }

    /// Deletes what was written of a version that will not be published.
    async fn give_up<T>(&self, folder: &str, error: DataFusionError) -> Result<T> {
        if let Err(second) = self.files.delete_folder(folder).await {
            log::warn!("{folder} could not be deleted: {second}");
        }
        Err(error)
    }

    /// Drops a version, or the model with all its versions and checkpoints. A model may consist
    /// only of the checkpoint of a training that stopped before its first version.
    ///
    /// # Errors
    /// When there is no such model or version, the version is the one that PREDICT uses, or the
    /// model to drop is being trained.
    pub async fn drop_model(&self, name: &str, version: Option<u64>) -> Result<()> {
        validate_name(name)?;
        loop {
            let mut state = self.state(name).await?;
            if version.is_none() {
                // (This comes before any lookup: a running training writes checkpoints.)
                self.refuse_while_trained(name, &state).await?;
            }
            if version.is_some() || !self.has_checkpoint(name).await? {
                state = self.known(name).await?;
            }
            let gone: Vec<VersionEntry> = match version {
                None => std::mem::take(&mut state.versions),
                Some(version) => {
                    self.entry(name, Some(version)).await?;
                    if state.current == Some(version) && state.versions.len() > 1 {
                        return plan_err!(
                            "version {version} is the one of model {name} that PREDICT uses; \
                             choose another with ALTER MODEL {name} SET VERSION, or drop the model"
                        );
                    }
                    let is_gone = |entry: &VersionEntry| entry.version == version;
                    let gone = state.versions.iter().filter(|e| is_gone(e)).cloned().collect();
                    state.versions.retain(|e| !is_gone(e));
                    gone
                }
            };
            if state.versions.is_empty() {
                // Dropping the last version also drops the checkpoints.
                self.refuse_while_trained(name, &state).await?;
                state.current = None;
                state.next_version = 1;
            }
            if self.commit(name, &state, &Action::new("drop"), "drop-log").await? {
                if state.versions.is_empty() {
                    self.discard_checkpoints(name).await?;
                }
                for old in gone {
                    self.files.delete_folder(&old.folder).await?;
                }
                return Ok(());
            }
        }
    }

    /// Whether DROP MODEL finds something under a name: versions, a training that runs, or a
    /// checkpoint.
    ///
    /// # Errors
    /// When the name is not valid, or the log cannot be read.
    pub async fn can_drop(&self, name: &str) -> Result<bool> {
        Ok(self.contains(name).await?
            || self.is_trained(name, &self.state(name).await?).await?
            || self.has_checkpoint(name).await?)
    }

    /// Whether a training of the model runs, as far as is known.
    async fn is_trained(&self, name: &str, state: &LogState) -> Result<bool> {
        match &state.lease.owner {
            Some(holder) => Ok(self.held(name, state.lease.number, holder).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Fails while a training of the model runs: it would continue without its checkpoints.
    async fn refuse_while_trained(&self, name: &str, state: &LogState) -> Result<()> {
        if let Some(holder) = &state.lease.owner
            && self.is_trained(name, state).await?
        {
            return exec_err!(
                "model {name} is being trained by {holder}; it can be dropped afterwards"
            );
        }
        Ok(())
    }

    /// Makes a version the one that PREDICT uses.
    ///
    /// # Errors
    /// When there is no such model or version.
    pub async fn set_version(&self, name: &str, version: u64) -> Result<()> {
        loop {
            let mut state = self.known(name).await?;
            self.entry(name, Some(version)).await?;
            state.current = Some(version);
            let action = Action::new("set_version");
            if self.commit(name, &state, &action, "set-version-log").await? {
                return Ok(());
            }
        }
    }

    /// Gives a model another name.
    ///
    /// # Errors
    /// When there is no such model, the other name is taken, or the model is being trained.
    pub async fn rename(&self, name: &str, other: &str) -> Result<()> {
        validate_name(other)?;
        loop {
            let state = self.known(name).await?;
            for taken in self.files.folders("models").await? {
                let same = taken.eq_ignore_ascii_case(other) && taken != name;
                if same && !self.state(&taken).await?.versions.is_empty() {
                    return plan_err!("model {taken} exists; choose another name or drop it");
                }
            }
            if name == other {
                return Ok(());
            }
            if let Some(holder) = &state.lease.owner {
                return exec_err!(
                    "model {name} is being trained by {holder}; it can be renamed afterwards"
                );
            }
            let confirmation = state.sequence + 1;
            let before = self.state(other).await?;
            let moved =
                LogState { sequence: before.sequence, lease: before.lease, ..state.clone() };
            let action =
                Action { name: "rename_from", other: Some((name.to_owned(), confirmation)) };
            if !self.commit(other, &moved, &action, "rename-from-log").await? {
                continue;
            }
            let left = LogState {
                sequence: state.sequence,
                next_version: 1,
                lease: state.lease,
                ..LogState::default()
            };
            let action =
                Action { name: "rename_to", other: Some((other.to_owned(), before.sequence + 1)) };
            if self.commit(name, &left, &action, "rename-to-log").await? {
                return self.discard_checkpoints(name).await;
            }
        }
    }

    /// Deletes folders of versions that no log refers to: what a crash left behind.
    pub(super) async fn sweep(&self, name: &str) -> Result<()> {
        let mut left: Vec<String> = vec![];
        for own in self.files.folders(&folder(name)).await? {
            if own.starts_with('v') {
                left.push(format!("{}/{own}", folder(name)));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        // After a rename the log of another name refers to these folders.
        for other in self.files.folders("models").await? {
            let state = self.state(&other).await?;
            left.retain(|own| !state.versions.iter().any(|entry| entry.folder == *own));
        }
        for own in left {
            let youngest = self.files.youngest(&own).await?;
            if youngest.is_none_or(|at| at < now_ms() - SWEEP_AFTER_MS) {
                log::info!("sweeping {own}, which no version refers to");
                self.files.delete_folder(&own).await?;
            }
        }
        Ok(())
    }
}

/// The targets of a model as a text; empty without one.
fn targets(model: &Model) -> String {
    model.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn failed(error: &tokio::task::JoinError) -> DataFusionError {
    exec_datafusion_err!("making tables failed: {error}")
}

/// Checks that the state of the log allows publishing.
fn may_publish(name: &str, state: &LogState, mode: Publish, lease: Option<&Lease>) -> Result<()> {
    if mode == Publish::New && !state.versions.is_empty() {
        return plan_err!(
            "model {name} exists; TRAIN OR REPLACE MODEL {name} publishes its next version, DROP \
             MODEL {name} removes it"
        );
    }
    match lease {
        Some(lease) => may_go_on(name, state, lease),
        None => Ok(()),
    }
}
