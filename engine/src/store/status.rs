//! The status that a running training writes, and what is known of trainings that no longer run.
//!
//! The owner of a lease writes a small file beside its heartbeat from time to time. It is for
//! monitoring only: no result depends on it, and a crash may lose the last one.

use std::time::Duration;

use datafusion::common::{Result, exec_datafusion_err};
use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::{ModelStore, folder, validate_name};

/// Minimum time between two status files: on a local disk, and in an object store, where each write
/// has its price.
const PACES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The progress of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingStatus {
    /// The normalised statement.
    pub statement: String,
    /// When it first began or last resumed, in milliseconds since the epoch.
    pub started_ms: i64,
    /// The epoch, from 1, or 0 while rows are read; None for online training.
    pub epoch: Option<u64>,
    /// Rows learned so far over all epochs, or read while the epoch is 0.
    pub rows: u64,
    /// Rows per second over the last seconds.
    pub rows_per_second: Option<f64>,
    /// What waits in the source, and in which unit: `bytes`, `files`.
    pub lag: Option<(u64, String)>,
    /// Mean loss of the epoch, or of all rows so far in online training.
    pub loss: Option<f64>,
    /// Mean loss of the last rows in online training.
    pub recent_loss: Option<f64>,
}

/// A training of the warehouse.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Name of the model.
    pub model: String,
    /// Whether a process runs it; otherwise it left a checkpoint, from which its statement resumes.
    pub is_running: bool,
    /// The process that runs it, or that died: machine, process and start of the process.
    pub owner: Option<String>,
    /// Seconds since the owner last renewed its lease, by the clocks of both.
    pub heartbeat_age: Option<f64>,
    /// The last status that the owner wrote.
    pub status: Option<TrainingStatus>,
    /// When the last checkpoint was saved, in milliseconds since the epoch.
    pub checkpoint_at: Option<i64>,
    /// The last published version of the model.
    pub version: Option<u64>,
    /// The statement, as far as it is known.
    pub statement: Option<String>,
}

impl ModelStore {
    /// Minimum time between two status files.
    pub(crate) fn status_pace(&self) -> Duration {
        if self.files.is_local() { PACES.0 } else { PACES.1 }
    }

    /// Writes the status of a training over the one before.
    pub(crate) async fn put_status(&self, lease: &Lease, status: &TrainingStatus) -> Result<()> {
        let json = serde_json::to_vec(status)
            .map_err(|e| exec_datafusion_err!("the status cannot be written: {e}"))?;
        self.files.replace(&status_path(&lease.model, lease.number), json).await
    }

    /// The trainings that run, and those that stopped and left a checkpoint, by model.
    ///
    /// A training on this machine runs while its process does. One elsewhere counts as running
    /// until its lease is over by this machine's clock.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn trainings(&self) -> Result<Vec<Training>> {
        let mut found = vec![];
        for model in self.files.folders("models").await? {
            if validate_name(&model).is_ok() {
                found.extend(self.training(&model).await?);
            }
        }
        found.sort_by(|a, b| a.model.cmp(&b.model));
        Ok(found)
    }

    async fn training(&self, model: &str) -> Result<Option<Training>> {
        let state = self.state(model).await?;
        let held = match &state.lease.owner {
            Some(owner) => self.held(model, state.lease.number, owner).await?,
            None => None,
        };
        // A checkpoint that cannot be read is reported by the statement that resumes from it.
        let checkpoint = match held {
            Some(_) => None,
            None => match self.checkpoint(model).await {
                Ok(Some(checkpoint)) => Some(checkpoint),
                _ => return Ok(None),
            },
        };
        // A damaged status is ignored.
        let status: Option<TrainingStatus> = match state.lease.owner {
            Some(_) => self.files.read(&status_path(model, state.lease.number)).await?,
            None => None,
        }
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let statement = match checkpoint {
            Some(checkpoint) => Some(checkpoint.fingerprint),
            None => status.as_ref().map(|status| status.statement.clone()),
        };
        Ok(Some(Training {
            model: model.to_owned(),
            is_running: held.is_some(),
            owner: state.lease.owner,
            heartbeat_age: held,
            status,
            checkpoint_at: self.checkpoint_at(model).await?,
            version: state.versions.last().map(|entry| entry.version),
            statement,
        }))
    }
}

pub(super) fn status_path(model: &str, number: u64) -> String {
    format!("{}/lease/{number:06}.status", folder(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_training_is_shown_while_it_runs_and_when_it_left_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::open(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(store.trainings().await.unwrap(), []);
        let lease = store.acquire_lease("m", Duration::from_secs(60), &|_| {}).await.unwrap();
        let one = store.trainings().await.unwrap().remove(0);
        assert!(one.is_running && one.status.is_none() && one.checkpoint_at.is_none());
        assert!((0.0..5.0).contains(&one.heartbeat_age.unwrap()), "{one:?}");
        let status = TrainingStatus {
            statement: "TRAIN MODEL m".to_owned(),
            rows: 7,
            loss: Some(f64::NAN),
            lag: Some((3, "files".to_owned())),
            ..TrainingStatus::default()
        };
        store.put_status(&lease, &status).await.unwrap();
        let one = store.trainings().await.unwrap().remove(0);
        // JSON knows no NaN.
        assert_eq!(one.status, Some(TrainingStatus { loss: None, ..status }));
        assert_eq!(one.statement.as_deref(), Some("TRAIN MODEL m"));

        store.put_checkpoint("m", "TRAIN MODEL m USING x", vec![1], false).await.unwrap();
        assert!(store.trainings().await.unwrap()[0].checkpoint_at.is_some());
        store.release_lease(&lease).await.unwrap();
        let one = store.trainings().await.unwrap().remove(0);
        assert!(!one.is_running && one.owner.is_none() && one.status.is_none());
        assert_eq!(one.statement.as_deref(), Some("TRAIN MODEL m USING x"));
        assert_eq!(std::fs::read_dir(folder.path().join("models/m/lease")).unwrap().count(), 0);
        store.discard_checkpoints("m").await.unwrap();
        assert_eq!(store.trainings().await.unwrap(), []);
    }
}
