//! The models: the loss of encoded rows under given parameters, and its gradient.

use std::any::Any;
use std::fmt::Debug;

use crate::batch::{MiniBatch, Width};
use crate::network::LayeredNetwork;

mod activation;
#[cfg(test)]
mod gradients;
mod implicit;
mod layout;
mod loss;
mod network;
mod passes;
mod reshape;

pub use activation::Activation;
pub use layout::{Layout, Role, Table, Tensor};
pub use loss::{Loss, probabilities};
pub use network::Network;
pub use passes::{PassStep, Passes, Scoring, ScoringScratch};
pub use reshape::Reshape;

/// Weighted loss of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum of weight times loss.
    pub loss: f64,
    /// Sum of weights.
    pub weight: f64,
    /// Number of rows.
    pub rows: u64,
}

impl LossSum {
    /// Adds another sum to this one.
    pub fn add(&mut self, other: LossSum) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.rows += other.rows;
    }

    /// The weighted mean loss; NaN without rows.
    pub fn mean(&self) -> f64 {
        self.loss / self.weight
    }
}

/// The key of the random draws of a step: they depend on nothing else, so that a step can be
/// repeated.
#[derive(Clone, Copy, Debug)]
pub struct StepKey {
    /// Seed of the training.
    pub seed: u64,
    /// Number of the step (and, beyond bit 48, of the replica).
    pub step: u64,
}

/// Working memory of a learner for up to a given number of rows, allocated once.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The buffers that the learner needs.
    pub buffers: Vec<Vec<f32>>,
    /// The executor of a network of any layers.
    pub own: Option<Box<dyn Any + Send + Sync>>,
}

/// A differentiable loss over encoded rows.
///
/// Methods allocate nothing; the caller passes a `Scratch` made for at least as many rows.
pub trait Learner: Debug + Send + Sync {
    /// Width of the rows it takes.
    fn width(&self) -> Width;

    /// The tensors of the flat parameter buffer.
    fn layout(&self) -> &Layout;

    /// Where the weights of categories are stored.
    fn table(&self) -> Table;

    /// Number of raw outputs a row (logits, or one prediction).
    fn outputs(&self) -> usize;

    /// The loss, where raw outputs are linear in the inputs and it needs no quantiles: the layout
    /// is then one weight `[inputs, outputs]` and, if there is an intercept, one bias `[outputs]`.
    fn linear_loss(&self) -> Option<Loss>;

    /// The network, where there are hidden layers: [`Passes`] may then update it.
    fn network(&self) -> Option<&Network>;

    /// The network of any layers, whose executor makes the steps.
    fn layers(&self) -> Option<&LayeredNetwork> {
        None
    }

    /// Floating-point operations of one gradient, per row: they decide on the number of slices.
    fn flops_per_row(&self) -> u64;

    /// Writes initial parameters `[layout.len()]`, a function of the seed alone.
    fn initialize(&self, seed: u64, parameters: &mut [f32]);

    /// Working memory for mini-batches of up to `rows` rows.
    fn scratch(&self, rows: usize) -> Scratch;

    /// Overwrites `gradient` `[layout.len()]` with `scale` times the gradient of the sum of
    /// weighted losses of the rows (dropout applied), and returns that sum (unscaled).
    fn gradient(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        key: StepKey,
        scale: f32,
        scratch: &mut Scratch,
        gradient: &mut [f32],
    ) -> LossSum {
        gradient[self.table().range()].fill(0.0);
        self.sparse_gradient(parameters, batch, key, scale, scratch, gradient)
    }

    /// The same into a buffer whose [`Learner::table`] is 0; of the table, only the rows of the
    /// mini-batch's categories are visited.
    fn sparse_gradient(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        key: StepKey,
        scale: f32,
        scratch: &mut Scratch,
        gradient: &mut [f32],
    ) -> LossSum;

    /// The sum of weighted losses of the rows, without dropout.
    fn loss(&self, parameters: &[f32], batch: &MiniBatch<'_>, scratch: &mut Scratch) -> LossSum;

    /// Raw outputs `[rows, outputs]` (logits, or predictions on the scale of the label) without
    /// dropout. `batch.label` and `batch.weight` may be empty.
    fn scores(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    );
}
