//! A network of any layers as a learner.

use std::any::Any;

use datafusion_common::Result;

use super::architecture::Architecture;
use super::executor::Executor;
use super::objective::Objective;
use crate::batch::{MiniBatch, Width};
use crate::learner::{Layout, Learner, Loss, LossSum, Network, Scratch, StepKey, Table};
use crate::parallel::Sequential;

/// A network of any layers for rows of a width. Its steps are those of
/// [`StepPlan::Layers`](crate::steps::StepPlan::Layers).
#[derive(Clone, Debug)]
pub struct LayeredNetwork {
    architecture: Architecture,
    objective: Objective,
    width: Width,
    layout: Layout,
    outputs: usize,
    multiply_adds: u64,
}

impl LayeredNetwork {
    /// The network of an architecture.
    ///
    /// # Errors
    /// When a layer does not fit what it reads, or the loss does not fit the outputs.
    pub fn new(architecture: Architecture, objective: Objective, width: Width) -> Result<Self> {
        let executor = Executor::for_scoring(&architecture, objective.clone(), 1)?;
        Ok(Self {
            layout: executor.layout().clone(),
            outputs: executor.outputs(),
            multiply_adds: executor.multiply_adds(),
            architecture,
            objective,
            width,
        })
    }

    /// An executor for mini-batches of up to `rows` rows.
    ///
    /// # Errors
    /// Never in practice: this network was made by the same steps.
    pub fn executor(&self, rows: usize) -> Result<Executor> {
        Executor::new(&self.architecture, self.objective.clone(), rows)
    }

    /// Bytes of that executor.
    pub fn bytes(&self, rows: usize) -> usize {
        Executor::bytes_for(&self.architecture, rows).unwrap_or(usize::MAX)
    }

    /// The same for scores alone.
    ///
    /// # Errors
    /// Never in practice.
    pub fn scorer(&self, rows: usize) -> Result<Executor> {
        Executor::for_scoring(&self.architecture, self.objective.clone(), rows)
    }

    /// The executor in a scratch; None where there is another's.
    fn own(scratch: &mut Scratch) -> Option<&mut Executor> {
        scratch.own.as_mut()?.downcast_mut()
    }
}

impl Learner for LayeredNetwork {
    fn width(&self) -> Width {
        self.width
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn table(&self) -> Table {
        Table { offset: 0, categories: 0, units: 0 }
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn linear_loss(&self) -> Option<Loss> {
        None
    }

    fn network(&self) -> Option<&Network> {
        None
    }

    fn layers(&self) -> Option<&LayeredNetwork> {
        Some(self)
    }

    fn flops_per_row(&self) -> u64 {
        6 * self.multiply_adds
    }

    fn initialize(&self, seed: u64, parameters: &mut [f32]) {
        parameters.fill(0.0);
        if let Ok(executor) = self.scorer(1) {
            executor.initialize(seed, parameters);
        }
    }

    fn scratch(&self, rows: usize) -> Scratch {
        let own = self.executor(rows).ok().map(|own| Box::new(own) as Box<dyn Any + Send + Sync>);
        Scratch { buffers: vec![], own }
    }

    /// (Running statistics stay as they are.)
    fn sparse_gradient(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        key: StepKey,
        scale: f32,
        scratch: &mut Scratch,
        gradient: &mut [f32],
    ) -> LossSum {
        let mut parameters = parameters.to_vec();
        match Self::own(scratch) {
            Some(executor) => {
                executor.gradient(&Sequential, &mut parameters, batch, key, scale, gradient)
            }
            None => LossSum { loss: f64::NAN, ..LossSum::default() },
        }
    }

    fn loss(&self, parameters: &[f32], batch: &MiniBatch<'_>, scratch: &mut Scratch) -> LossSum {
        match Self::own(scratch) {
            Some(executor) => executor.loss(&Sequential, parameters, batch),
            None => LossSum { loss: f64::NAN, ..LossSum::default() },
        }
    }

    fn scores(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        if let Some(executor) = Self::own(scratch) {
            executor.scores(&Sequential, parameters, batch, out);
        }
    }
}
