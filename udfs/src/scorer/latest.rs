//! A model that a running statement follows, revision by revision.
//!
//! A revision is a model with its version and the rows that it has learned from: one that is
//! published, or one on its way to the next version.

use std::sync::{Arc, PoisonError, RwLock};

use super::Scorer;

/// The column of the version of the revision that scored a row.
pub const MODEL_VERSION: &str = "model_version";
/// The column of the rows that this revision has learned from.
pub const MODEL_ROWS: &str = "model_rows";

/// A model that is followed: its newest revision scores the next batch.
#[derive(Debug)]
pub struct LatestScorer(RwLock<Arc<Scorer>>);

impl LatestScorer {
    /// Begins with a revision.
    pub fn new(scorer: Arc<Scorer>) -> Self {
        Self(RwLock::new(scorer))
    }

    /// The newest revision.
    pub fn newest(&self) -> Arc<Scorer> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a revision up and says whether it did: one with other inputs or outputs does not fit
    /// the statement.
    pub fn offer(&self, scorer: Arc<Scorer>) -> bool {
        let now = self.newest();
        let fits = scorer.fields() == now.fields() && scorer.arguments().eq(now.arguments());
        if fits {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = scorer;
        }
        fits
    }
}
