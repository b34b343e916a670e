//! The objects that SQL functions refer to: rounds of running trainings, models of running
//! statements.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::common::{Result, exec_err, plan_err};
use gradlake_udfs::{Round, Scorer, StateResolver};

/// The rounds and models that statements of one session may name.
#[derive(Debug, Default)]
pub struct Registry {
    rounds: RwLock<HashMap<String, Arc<dyn Round>>>,
    scorers: RwLock<HashMap<String, Arc<Scorer>>>,
}

impl Registry {
    /// Makes a round known until the guard is dropped.
    pub fn register_round(self: &Arc<Self>, reference: &str, round: Arc<dyn Round>) -> RoundGuard {
        let mut rounds = self.rounds.write().unwrap_or_else(PoisonError::into_inner);
        rounds.insert(reference.to_owned(), round);
        RoundGuard { registry: Arc::clone(self), reference: reference.to_owned() }
    }

    /// Makes a loaded model known by name: from now on `predict('name', ...)` is this version.
    pub fn pin(&self, name: &str, scorer: Arc<Scorer>) {
        let mut scorers = self.scorers.write().unwrap_or_else(PoisonError::into_inner);
        scorers.insert(name.to_owned(), scorer);
    }
}

impl StateResolver for Registry {
    fn round(&self, reference: &str) -> Result<Arc<dyn Round>> {
        let rounds = self.rounds.read().unwrap_or_else(PoisonError::into_inner);
        match rounds.get(reference) {
            Some(round) => Ok(Arc::clone(round)),
            None => exec_err!("round '{reference}' is not known here; a worker never starts cold"),
        }
    }

    fn scorer(&self, name: &str) -> Result<Arc<Scorer>> {
        let scorers = self.scorers.read().unwrap_or_else(PoisonError::into_inner);
        match scorers.get(name) {
            Some(scorer) => Ok(Arc::clone(scorer)),
            None => plan_err!("model '{name}' is not loaded"),
        }
    }
}

/// Forgets a round when dropped.
#[derive(Debug)]
pub struct RoundGuard {
    registry: Arc<Registry>,
    reference: String,
}

impl Drop for RoundGuard {
    fn drop(&mut self) {
        let mut rounds = self.registry.rounds.write().unwrap_or_else(PoisonError::into_inner);
        rounds.remove(&self.reference);
    }
}
