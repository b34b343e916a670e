//! States and models by reference: what a function of SQL names, and who knows it.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion_common::Result;

use crate::round::Round;
use crate::scorer::Scorer;

/// Finds what functions refer to. Everything is fetched before execution: a resolver does no I/O
/// here, and a worker that does not know a reference fails, it never starts cold.
pub trait StateResolver: Debug + Send + Sync {
    /// The round that `reference` (model, version and round) names.
    fn round(&self, reference: &str) -> Result<Arc<dyn Round>>;

    /// The model that `name` names, pinned to a version for the running statement.
    fn scorer(&self, name: &str) -> Result<Arc<Scorer>>;
}
