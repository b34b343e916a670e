//! A model whose latest version a running statement uses.
//!
//! A revision is a model with its version and the number of rows that it has learned from: a
//! published version, or an intermediate state on the way to the next version.

use std::sync::{Arc, PoisonError, RwLock};

use super::Scorer;

/// The column of the version of the revision that scored a row.
pub const MODEL_VERSION: &str = "model_version";
/// The column of the number of rows that this revision has learned from.
pub const MODEL_ROWS: &str = "model_rows";

/// A model with changing revisions: the newest revision scores the next batch.
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

    /// Replaces the revision and returns true, if the new one has the same inputs and outputs;
    /// otherwise it does not fit the statement.
    pub fn offer(&self, scorer: Arc<Scorer>) -> bool {
        let now = self.newest();
        let fits = scorer.fields() == now.fields() && scorer.arguments().eq(now.arguments());
        if fits {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = scorer;
        }
        fits
    }
}
