//! Leases: which process trains a model, and until when.
//!
//! The log records who got the lease last and under which number; a heartbeat file with that number
//! records until when. An owner whose lease was taken over cannot publish, because the number in
//! the log is no longer its own. On the machine of the owner, a lease ends with the owner's process
//! at once.
//!
//! Clocks of two machines may differ, and one may be set while a training runs. So a process that
//! wants a lease that is over by its own clock first watches the lease for its whole length, by a
//! monotonic clock: an owner that is alive renews it meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::common::{Result, exec_err, plan_err};

use super::files::failpoints;
use super::log::{Action, LogState};
use super::status::status_path;
use super::{ModelStore, folder, validate_name};
use crate::clock::now_ms;

/// How often a training that holds a lease renews it, as a share of its length.
const RENEWALS: u32 = 3;
/// How often a lease that seems to be over is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The right to train a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    pub(super) model: String,
    pub(super) number: u64,
    length: Duration,
    /// Its clones share it.
    own: Arc<Own>,
}

/// A lease that this process holds. If it is dropped without being released (its statement was
/// cancelled), other processes need not wait for its end.
#[derive(Debug, PartialEq)]
struct Own(String, u64);

impl Own {
    fn new(model: &str, number: u64) -> Arc<Self> {
        own().push((model.to_owned(), number));
        Arc::new(Self(model.to_owned(), number))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut own = own();
        let is_it = |(model, number): &(String, u64)| *model == self.0 && *number == self.1;
        if let Some(place) = own.iter().position(is_it) {
            own.swap_remove(place);
        }
    }
}

/// Leases that this process holds, in any warehouse, by model and number.
fn own() -> MutexGuard<'static, Vec<(String, u64)>> {
    static OWN: Mutex<Vec<(String, u64)>> = Mutex::new(vec![]);
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an owner writes each time it renews its lease.
#[derive(Clone, Debug, PartialEq)]
struct Heartbeat {
    /// Until when the lease holds by the owner's clock, in milliseconds since the epoch.
    until: i64,
    length: Duration,
    /// How often the lease was renewed. It makes two heartbeats differ, whatever the clock says.
    renewals: u64,
}

impl Heartbeat {
    fn to_bytes(&self) -> Vec<u8> {
        format!("{} {} {}", self.until, self.length.as_millis(), self.renewals).into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split_whitespace();
        let until = parts.next()?.parse().ok()?;
        let length = Duration::from_millis(parts.next()?.parse().ok()?);
        Some(Self { until, length, renewals: parts.next()?.parse().ok()? })
    }

    /// How long the lease still holds, in milliseconds by this machine's clock. None if by the
    /// clock it is over, or holds for longer than a renewal can give.
    fn left(&self) -> Option<i64> {
        let left = self.until - now_ms();
        (1..=self.length.as_millis() as i64).contains(&left).then_some(left)
    }
}

/// Renews a lease until dropped.
#[derive(Debug)]
pub struct LeaseKeeper(tokio::task::JoinHandle<()>);

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Identifies this process: machine, process id, and start time (process ids are reused).
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
    // The name of the program, in brackets, may contain any character.
    let after = stat.rsplit_once(')')?.1;
    let mut fields = after.split_whitespace();
    // A zombie, a killed process that its parent has not reaped yet, counts as gone.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// Whether the owner is a live process of this machine; None if that is not known.
fn lives(owner: &str) -> Option<bool> {
    let mut parts = owner.rsplitn(3, ':');
    let (start, pid, host) = (parts.next()?, parts.next()?, parts.next()?);
    let pid = pid.parse::<u32>().ok()?;
    let can_tell = host == machine() && !start.is_empty() && started(std::process::id()).is_some();
    can_tell.then(|| started(pid).as_deref() == Some(start))
}

/// Whether a lease is abandoned: its owner is dead, or is this process and has released it.
fn is_abandoned(model: &str, number: u64, holder: &str) -> bool {
    lives(holder) == Some(false)
        || (holder == owner() && !own().iter().any(|(m, n)| m == model && *n == number))
}

impl ModelStore {
    /// Takes the lease of a model for `length`, if no other process holds it. If a lease that seems
    /// to be over is watched, `tell` gets a message that says for how long.
    ///
    /// # Errors
    /// When another process holds it, or another model's name differs only in case.
    pub async fn acquire_lease(
        &self,
        model: &str,
        length: Duration,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Lease> {
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
            let number = state.lease.number;
            if let Some(holder) = &state.lease.owner
                && !is_abandoned(model, number, holder)
            {
                let last = self.heartbeat(model, number).await?;
                let seems_held = last.as_ref().is_some_and(|last| last.left().is_some());
                let watched = last.as_ref().map_or(length, |last| last.length);
                if !seems_held && !watched.is_zero() {
                    tell(format!(
                        "the lease of {holder}, who trains model {model}, is over by this clock; \
                         watching for {} s whether it is renewed",
                        watched.as_secs()
                    ));
                }
                if seems_held || self.is_renewed(model, number, &last, watched).await? {
                    return exec_err!(
                        "model {model} is being trained by {holder}; wait until that training \
                         ends, or {} s after it died",
                        length.as_secs()
                    );
                }
            }
            state.lease.number += 1;
            state.lease.owner = Some(owner());
            let number = state.lease.number;
            let own = Own::new(model, number);
            let lease = Lease { model: model.to_owned(), number, length, own };
            failpoints::pass("lease-heartbeat");
            self.renew(&lease, 0).await?;
            if self.commit(model, &state, &Action::new("lease"), "lease-log").await? {
                self.forget_leases_before(model, number).await?;
                self.sweep(model).await?;
                return Ok(lease);
            }
        }
    }

    /// Watches a lease whose last heartbeat is known: whether its owner renews it within `length`.
    /// One that is released meanwhile is not renewed.
    async fn is_renewed(
        &self,
        model: &str,
        number: u64,
        last: &Option<Heartbeat>,
        length: Duration,
    ) -> Result<bool> {
        let begun = Instant::now();
        while let Some(left) = length.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            tokio::time::sleep(LOOK_AGAIN.min(left)).await;
            let now = self.heartbeat(model, number).await?;
            if now != *last {
                return Ok(now.is_some());
            }
        }
        Ok(false)
    }

    /// The last heartbeat of a lease; None if there is no valid one.
    async fn heartbeat(&self, model: &str, number: u64) -> Result<Option<Heartbeat>> {
        let bytes = self.files.read(&heartbeat_path(model, number)).await?;
        Ok(bytes.and_then(|bytes| Heartbeat::from_bytes(&bytes)))
    }

    /// The age of the last heartbeat in seconds, if the lease is held as far as is known without
    /// watching it.
    pub(super) async fn held(&self, model: &str, number: u64, holder: &str) -> Result<Option<f64>> {
        if is_abandoned(model, number, holder) {
            return Ok(None);
        }
        let Some(last) = self.heartbeat(model, number).await? else { return Ok(None) };
        if lives(holder) != Some(true) && last.until <= now_ms() {
            return Ok(None);
        }
        let age = now_ms() - (last.until - last.length.as_millis() as i64);
        Ok(Some(age.max(0) as f64 / 1000.0))
    }

    async fn renew(&self, lease: &Lease, renewals: u64) -> Result<()> {
        let until = now_ms() + lease.length.as_millis() as i64;
        let heartbeat = Heartbeat { until, length: lease.length, renewals };
        let path = heartbeat_path(&lease.model, lease.number);
        self.files.write(&path, heartbeat.to_bytes()).await
    }

    /// Fails if another process has taken the lease over.
    ///
    /// # Errors
    /// One sentence that names the new owner.
    pub async fn check_lease(&self, lease: &Lease) -> Result<()> {
        may_go_on(&lease.model, &self.state(&lease.model).await?, lease)
    }

    /// Deletes the lease files that dead owners have left.
    async fn forget_leases_before(&self, model: &str, number: u64) -> Result<()> {
        let at = format!("{}/lease", folder(model));
        for name in self.files.names(&at).await? {
            let own = name.split('.').next().and_then(|own| own.parse::<u64>().ok());
            if own.is_some_and(|own| own < number) {
                self.files.delete(&format!("{at}/{name}")).await?;
            }
        }
        Ok(())
    }

    /// Renews a lease until the keeper is dropped.
    pub fn keep_lease(&self, lease: &Lease) -> LeaseKeeper {
        let (store, lease) = (self.clone(), lease.clone());
        LeaseKeeper(tokio::spawn(async move {
            let mut interval = tokio::time::interval(lease.length / RENEWALS);
            interval.tick().await;
            for renewals in 1.. {
                interval.tick().await;
                if let Err(error) = store.renew(&lease, renewals).await {
                    log::warn!("the lease of model {} could not be renewed: {error}", lease.model);
                }
            }
        }))
    }

    /// Releases a lease, if it is still held.
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
                self.files.delete(&status_path(&lease.model, lease.number)).await?;
                return self.files.delete(&heartbeat_path(&lease.model, lease.number)).await;
            }
        }
    }
}

/// Fails if a lease is no longer the one in the log.
pub(super) fn may_go_on(model: &str, state: &LogState, lease: &Lease) -> Result<()> {
    if state.lease.number != lease.number || state.lease.owner.is_none() {
        return exec_err!(
            "the training of model {model} took too long to renew its lease, and {} has it now: \
             nothing is published",
            state.lease.owner.as_deref().unwrap_or("nobody")
        );
    }
    Ok(())
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

    async fn take(store: &ModelStore, length: Duration) -> Result<Lease> {
        store.acquire_lease("m", length, &|_| {}).await
    }

    /// Sets the clock of a lease's owner forward or back, and its process to one elsewhere.
    async fn shift(store: &ModelStore, lease: &Lease, milliseconds: i64) {
        shift_clock(store, lease, milliseconds).await;
        let mut state = store.state(&lease.model).await.unwrap();
        state.lease.owner = Some("elsewhere:1:1".to_owned());
        store.commit(&lease.model, &state, &Action::new("lease"), "none").await.unwrap();
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_training_at_a_time() {
        let (_folder, store) = store();
        let lease = take(&store, MINUTE).await.unwrap();
        let error = take(&store, MINUTE).await.unwrap_err().to_string();
        assert!(error.contains("model m is being trained by"), "{error}");
        store.acquire_lease("other", MINUTE, &|_| {}).await.unwrap();
        store.release_lease(&lease).await.unwrap();
        let next = take(&store, MINUTE).await.unwrap();
        assert_eq!(next.number, lease.number + 1);
    }

    #[tokio::test]
    async fn a_lease_that_was_not_renewed_is_taken_over() {
        let (_folder, store) = store();
        let lease = take(&store, Duration::ZERO).await.unwrap();
        let next = take(&store, MINUTE).await.unwrap();
        assert_eq!(next.number, lease.number + 1);
        // The old owner's release does not touch the new lease.
        store.release_lease(&lease).await.unwrap();
        assert!(take(&store, MINUTE).await.is_err());
        let error = store.check_lease(&lease).await.unwrap_err().to_string();
        assert!(error.contains("took too long to renew its lease"), "{error}");
        store.check_lease(&next).await.unwrap();
    }

    #[tokio::test]
    async fn a_lease_that_its_process_let_go_of_is_free() {
        let (_folder, store) = store();
        let lease = take(&store, MINUTE).await.unwrap();
        let clone = lease.clone();
        drop(lease);
        assert!(take(&store, MINUTE).await.is_err());
        drop(clone);
        assert!(store.trainings().await.unwrap().is_empty());
        assert_eq!(take(&store, MINUTE).await.unwrap().number, 2);
    }

    /// The clocks of the owner and of the process that wants the lease differ by an hour, either
    /// way: the lease is watched, kept while it is renewed, and taken over when it is not.
    #[tokio::test]
    async fn clocks_that_differ_neither_end_a_lease_nor_keep_it() {
        for hour in [-3_600_000, 3_600_000] {
            let (_folder, store) = store();
            let length = Duration::from_millis(600);
            let lease = take(&store, length).await.unwrap();
            shift(&store, &lease, hour).await;
            let owner = {
                let (store, lease) = (store.clone(), lease.clone());
                tokio::spawn(async move {
                    for renewals in 1..=10 {
                        tokio::time::sleep(length / RENEWALS).await;
                        store.renew(&lease, renewals).await.unwrap();
                        shift_clock(&store, &lease, hour).await;
                    }
                })
            };
            let told = Mutex::new(vec![]);
            let tell = |text| told.lock().unwrap().push(text);
            let error = store.acquire_lease("m", length, &tell).await.unwrap_err().to_string();
            assert!(error.contains("model m is being trained by elsewhere:1:1"), "{error}");
            assert!(told.lock().unwrap()[0].contains("is over by this clock"), "{told:?}");
            owner.abort();
            let _ = owner.await;
            let begun = Instant::now();
            let next = take(&store, length).await.unwrap();
            assert!(begun.elapsed() >= length, "{:?}", begun.elapsed());
            assert_eq!(next.number, lease.number + 1);
        }
    }

    async fn shift_clock(store: &ModelStore, lease: &Lease, milliseconds: i64) {
        let path = heartbeat_path(&lease.model, lease.number);
        let last = Heartbeat::from_bytes(&store.files.read(&path).await.unwrap().unwrap()).unwrap();
        let shifted = Heartbeat { until: last.until + milliseconds, ..last };
        store.files.write(&path, shifted.to_bytes()).await.unwrap();
    }

    #[test]
    fn the_dead_are_known_on_their_own_machine() {
        assert_ne!(lives(&owner()), Some(false));
        if started(std::process::id()).is_some() {
            let mut child = std::process::Command::new("true").spawn().unwrap();
            let dead = format!("{}:{}:1", machine(), child.id());
            child.wait().unwrap();
            assert_eq!(lives(&dead), Some(false));
        }
        assert_eq!(lives("elsewhere:1:1"), None);
        assert_eq!(lives("nonsense"), None);
    }
}
