//! Look-up of states and models by the references in SQL functions.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion_common::Result;

use crate::round::Round;
use crate::scorer::Scorer;

/// Finds the states and models that functions refer to. Everything is fetched before execution, so
/// a resolver does no I/O. A worker that does not know a reference fails; it never starts from a
/// new state.
pub trait StateResolver: Debug + Send + Sync {
    /// The round that `reference` (model, version and round) names.
    fn round(&self, reference: &str) -> Result<Arc<dyn Round>>;

    /// The model that `name` names, pinned to a version for the running statement.
    fn scorer(&self, name: &str) -> Result<Arc<Scorer>>;
}
