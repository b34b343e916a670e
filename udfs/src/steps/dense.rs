//! Steps of a network with hidden layers, whose weights and moments stay in panels.

use datafusion_common::Result;

use super::{Step, Steps};
use crate::batch::Gather;
use crate::learner::{Network, PassStep, Passes};
use crate::round::Descent;
use crate::state::State;

/// The packed weights and the working memory of such steps.
#[derive(Debug)]
pub(super) struct DenseSteps(Passes);

impl DenseSteps {
    /// Begins with the weights of a state.
    pub(super) fn new(network: &Network, descent: &Descent, state: &State) -> Self {
        Self(Passes::new(network, descent.batch_size, descent.threads.threads(), state))
    }
}

impl Steps for DenseSteps {
    fn step(&mut self, step: &Step<'_>, rows: &Gather<'_>, state: &mut State) -> Result<()> {
        let Step { descent, size, key } = step;
        let pass = PassStep { rows: *rows, key: *key, optimizer: &descent.optimizer, size };
        self.0.step(&pass, state, descent.threads.as_ref());
        Ok(())
    }

    fn unpack(&mut self, state: &mut State) {
        self.0.unpack(state);
    }

    fn threads(&self) -> usize {
        self.0.threads()
    }
}
