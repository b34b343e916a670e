//! Models whose latest version running statements use: new versions in the store and, within this
//! process, every revision of a running training.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use gradlake_udfs::{LatestScorer, Scorer};

use crate::event::{Event, EventSink};
use crate::session::Engine;

/// How often a warehouse on a local disk is polled for a new version.
const POLL_DISK: Duration = Duration::from_millis(100);
/// How often an object store is polled, where every request has a cost.
const POLL_CLOUD: Duration = Duration::from_secs(1);

/// The scorers in this process that use the latest version of each model.
#[derive(Debug, Default)]
pub struct LatestModels(Mutex<HashMap<String, Topic>>);

/// One model.
#[derive(Debug, Default)]
struct Topic {
    followers: Vec<Weak<LatestScorer>>,
    /// Whether a training of this process revises it.
    is_revised: bool,
}

impl LatestModels {
    fn topics(&self) -> MutexGuard<'_, HashMap<String, Topic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: &str, followed: &Arc<LatestScorer>) {
        let mut topics = self.topics();
        topics.retain(|_, topic| {
            topic.followers.retain(|other| other.strong_count() > 0);
            topic.is_revised || !topic.followers.is_empty()
        });
        topics.entry(name.to_owned()).or_default().followers.push(Arc::downgrade(followed));
    }

    /// Whether any scorer uses the latest version of a model.
    pub fn is_used(&self, name: &str) -> bool {
        let topics = self.topics();
        topics.get(name).is_some_and(|topic| topic.followers.iter().any(|f| f.strong_count() > 0))
    }

    /// Offers a revision to all scorers that use the latest version of its model.
    pub fn revise(&self, scorer: &Arc<Scorer>) {
        let followers = match self.topics().get(&scorer.model().name) {
            Some(topic) => topic.followers.clone(),
            None => return,
        };
        for followed in followers.iter().filter_map(Weak::upgrade) {
            followed.offer(Arc::clone(scorer));
        }
    }

    /// Marks a model as revised by a training of this process, until the guard is dropped.
    pub fn revising(self: &Arc<Self>, name: &str) -> Revising {
        self.topics().entry(name.to_owned()).or_default().is_revised = true;
        Revising { latest: Arc::clone(self), name: name.to_owned() }
    }

    fn is_revised(&self, name: &str) -> bool {
        self.topics().get(name).is_some_and(|topic| topic.is_revised)
    }
}

/// Guard of a training that revises its model; once it is dropped, scorers use the store's versions
/// again.
#[derive(Debug)]
pub struct Revising {
    latest: Arc<LatestModels>,
    name: String,
}

impl Drop for Revising {
    fn drop(&mut self) {
        if let Some(topic) = self.latest.topics().get_mut(&self.name) {
            topic.is_revised = false;
        }
    }
}

impl Engine {
    /// Starts with a version of a model and uses the latest one for as long as the result is held.
    pub(crate) fn latest_of(
        self: &Arc<Self>,
        scorer: Arc<Scorer>,
        events: EventSink,
    ) -> Arc<LatestScorer> {
        let name = scorer.model().name.clone();
        let followed = Arc::new(LatestScorer::new(scorer));
        self.latest.add(&name, &followed);
        let poll = if self.store.is_local() { POLL_DISK } else { POLL_CLOUD };
        tokio::spawn(poll_store(
            Arc::downgrade(self),
            Arc::downgrade(&followed),
            name,
            (poll, events),
        ));
        followed
    }
}

/// Polls for new versions until the scorer is dropped.
async fn poll_store(
    engine: Weak<Engine>,
    followed: Weak<LatestScorer>,
    name: String,
    (poll, events): (Duration, EventSink),
) {
    let (mut refused, mut told_of_unseen) = (0, false);
    let mut taken = followed.upgrade().map(|followed| followed.newest());
    loop {
        tokio::time::sleep(poll).await;
        let (Some(engine), Some(followed)) = (engine.upgrade(), followed.upgrade()) else { return };
        let now = followed.newest();
        if !told_of_unseen && now.has_unseen() {
            told_of_unseen = true;
            engine.warn_of_unseen(&now, &events);
        }
        if engine.latest.is_revised(&name) {
            continue;
        }
        let Ok(version) = engine.store.current_version(&name).await else { continue };
        let is_taken = version == now.model().version
            && taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &now));
        if is_taken || version == refused {
            continue;
        }
        // If a version is deleted while it is read, there is a newer one.
        let Ok(next) = engine.scorer(&name, Some(version)).await else { continue };
        if followed.offer(Arc::clone(&next)) {
            taken = Some(next);
            continue;
        }
        refused = version;
        events(Event::Warning(format!(
            "version {version} of model {name} has other columns, so version {} goes on scoring; \
             run the statement again",
            now.model().version
        )));
    }
}
