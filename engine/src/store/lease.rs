//! Leases: who trains a model, until when.
//!
//! The log says who got the lease last, under which number; a heartbeat file with that number says
//! until when. An owner whose lease was taken over cannot publish, because the number in the log is
//! no longer its own. On the machine of the owner, a lease ends with the owner's process at once.

use std::time::Duration;

use datafusion::common::{Result, exec_err, plan_err};

use super::files::failpoints;
use super::log::Action;
use super::{ModelStore, folder, validate_name};
use crate::training::now_ms;

/// How often a training that holds a lease renews it, as a share of its length.
const RENEWALS: u32 = 3;

/// The right to train a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    pub(super) model: String,
    pub(super) number: u64,
    length: Duration,
}

/// Renews a lease until dropped.
#[derive(Debug)]
pub struct LeaseKeeper(tokio::task::JoinHandle<()>);

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// This process: machine, number, and start (a number is used again).
fn owner() -> String {
    let pid = std::process::id();
    format!("{}:{pid}:{}", machine(), started(pid).unwrap_or_default())
}

fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or_else(|| "localhost".to_owned(), |name| name.trim().replace(':', "-"))
}

/// When a process of this machine started, in ticks since boot; None if there is none.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may hold anything.
    let after = stat.rsplit_once(')')?.1;
    let mut fields = after.split_whitespace();
    // A killed process whose parent has not yet asked for it is as good as gone.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// Whether the owner is a process of this machine that is no more.
fn is_dead(owner: &str) -> bool {
    let mut parts = owner.rsplitn(3, ':');
    let (Some(start), Some(pid), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse::<u32>() else { return false };
    let can_tell = host == machine() && !start.is_empty() && started(std::process::id()).is_some();
    can_tell && started(pid).as_deref() != Some(start)
}

impl ModelStore {
    /// Takes the lease of a model for `length`, if nobody else holds it.
    ///
    /// # Errors
    /// When somebody does, or another model's name differs only in case.
    pub async fn acquire_lease(&self, model: &str, length: Duration) -> Result<Lease> {
        validate_name(model)?;
        for other in self.files.folders("models").await? {
            if other != model
                && other.eq_ignore_ascii_case(model)
                && !self.state(&other).await?.versions.is_empty()
            {
                return plan_err!(
                    "the model name {model} differs from the existing {other} only in case; \
                     choose another"
                );
            }
        }
        loop {
            let mut state = self.state(model).await?;
            if let Some(holder) = &state.lease.owner {
                let until = self.heartbeat(model, state.lease.number).await?;
                if until > now_ms() && !is_dead(holder) {
                    return exec_err!(
                        "model {model} is being trained by {holder}; wait until that training \
                         ends, or {} s after it died",
                        length.as_secs()
                    );
                }
            }
            state.lease.number += 1;
            state.lease.owner = Some(owner());
            let lease = Lease { model: model.to_owned(), number: state.lease.number, length };
            failpoints::pass("lease-heartbeat");
            self.renew(&lease).await?;
            if self.commit(model, &state, &Action::new("lease"), "lease-log").await? {
                self.sweep(model).await?;
                return Ok(lease);
            }
        }
    }

    /// Until when a lease holds, in milliseconds since the epoch.
    async fn heartbeat(&self, model: &str, number: u64) -> Result<i64> {
        let bytes = self.files.read(&heartbeat_path(model, number)).await?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        let until = now_ms() + lease.length.as_millis() as i64;
        let path = heartbeat_path(&lease.model, lease.number);
        self.files.write(&path, until.to_string().into_bytes()).await
    }

    /// Renews a lease until the keeper is dropped.
    pub fn keep_lease(&self, lease: &Lease) -> LeaseKeeper {
        let (store, lease) = (self.clone(), lease.clone());
        LeaseKeeper(tokio::spawn(async move {
            let mut interval = tokio::time::interval(lease.length / RENEWALS);
            interval.tick().await;
            loop {
                interval.tick().await;
                if let Err(error) = store.renew(&lease).await {
                    log::warn!("the lease of model {} could not be renewed: {error}", lease.model);
                }
            }
        }))
    }

    /// Gives a lease back, if it is still held.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn release_lease(&self, lease: &Lease) -> Result<()> {
        loop {
            let mut state = self.state(&lease.model).await?;
            if state.lease.number != lease.number || state.lease.owner.is_none() {
                return Ok(());
            }
            state.lease.owner = None;
            let action = Action::new("release");
            if self.commit(&lease.model, &state, &action, "release-log").await? {
                return self.files.delete(&heartbeat_path(&lease.model, lease.number)).await;
            }
        }
    }
}

fn heartbeat_path(model: &str, number: u64) -> String {
    format!("{}/lease/{number:06}", folder(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ModelStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::open(folder.path().to_str().unwrap()).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn one_training_at_a_time() {
        let (_folder, store) = store();
        let length = Duration::from_secs(60);
        let lease = store.acquire_lease("m", length).await.unwrap();
        let error = store.acquire_lease("m", length).await.unwrap_err().to_string();
        assert!(error.contains("model m is being trained by"), "{error}");
        store.acquire_lease("other", length).await.unwrap();
        store.release_lease(&lease).await.unwrap();
        let next = store.acquire_lease("m", length).await.unwrap();
        assert_eq!(next.number, lease.number + 1);
    }

    #[tokio::test]
    async fn a_lease_that_was_not_renewed_is_taken_over() {
        let (_folder, store) = store();
        let lease = store.acquire_lease("m", Duration::ZERO).await.unwrap();
        let next = store.acquire_lease("m", Duration::from_secs(60)).await.unwrap();
        assert_eq!(next.number, lease.number + 1);
        // The old owner's release does not touch the new lease.
        store.release_lease(&lease).await.unwrap();
        assert!(store.acquire_lease("m", Duration::from_secs(60)).await.is_err());
    }

    #[test]
    fn the_dead_are_known_on_their_own_machine() {
        assert!(!is_dead(&owner()));
        if started(std::process::id()).is_some() {
            let mut child = std::process::Command::new("true").spawn().unwrap();
            let dead = format!("{}:{}:1", machine(), child.id());
            child.wait().unwrap();
            assert!(is_dead(&dead));
        }
        assert!(!is_dead("elsewhere:1:1"));
        assert!(!is_dead("nonsense"));
    }
}
