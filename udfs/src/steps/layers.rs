//! Steps of a network of any layers: the gradient of the whole mini-batch by its executor, then the
//! optimizer over all parameters.

use datafusion_common::Result;

use super::{Step, Steps};
use crate::batch::{Gather, Rows};
use crate::network::{Executor, LayeredNetwork};
use crate::round::Descent;
use crate::state::State;

/// The working memory of such steps.
#[derive(Debug)]
pub(super) struct LayerSteps {
    executor: Executor,
    /// `[parameters]`
    gradient: Vec<f32>,
    gathered: Rows,
    threads: usize,
}

impl LayerSteps {
    /// None where the network cannot be compiled, which its description refuses.
    pub(super) fn new(network: &LayeredNetwork, descent: &Descent) -> Option<Self> {
        let executor = network.executor(descent.batch_size).ok()?;
        let gradient = vec![0.0; executor.layout().len()];
        let threads = executor.shards().min(descent.threads.threads());
        Some(Self { executor, gradient, gathered: Rows::default(), threads })
    }
}

impl Steps for LayerSteps {
    fn step(&mut self, step: &Step<'_>, rows: &Gather<'_>, state: &mut State) -> Result<()> {
        let Step { descent, size, key } = step;
        let batch = rows.all(descent.learner.width(), &mut self.gathered);
        let scale = 1.0 / batch.rows.max(1) as f32;
        let (executor, gradient) = (&mut self.executor, &mut self.gradient);
        let threads = descent.threads.as_ref();
        let State { parameters, moments, round, .. } = state;
        round.add(executor.gradient(threads, parameters, &batch, *key, scale, gradient));
        descent.optimizer.step(executor.layout(), size, parameters, gradient, moments);
        Ok(())
    }

    fn threads(&self) -> usize {
        self.threads
    }
}
