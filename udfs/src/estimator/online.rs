//! Algorithms without a target on rows that come in mini-batches.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion_common::Result;

use crate::batch::MiniBatch;
use crate::description::Description;

/// An algorithm that learns from mini-batches of encoded rows, one after another. Its bits depend
/// on their sequence alone.
///
/// The inputs are encoded with the statistics of the rows so far. So what it has learned follows
/// each change of scale, and grows where new categories occur.
pub trait OnlineEstimator: Debug + Send + Sync {
    /// Follows a change of scale: a dense number that was `x` is `factor x + shift` from now on;
    /// both `[d]`.
    fn rescale(&mut self, factor: &[f64], shift: &[f64]);

    /// Takes rows with so many categories from now on, more than before.
    ///
    /// # Errors
    /// When there are too many.
    fn grow(&mut self, categories: usize) -> Result<()>;

    /// Learns from a mini-batch. Returns the weighted sum of the losses of its rows before that,
    /// and the sum of their weights.
    ///
    /// # Errors
    /// When the rows are of another shape, or a weight is below 0 or not finite.
    fn learn(&mut self, rows: &MiniBatch<'_>) -> Result<(f64, f64)>;

    /// Whether there are enough rows for [`Self::fitted`].
    fn is_ready(&self) -> bool;

    /// What it has learned so far, with the inputs of categories in the order of `categories`.
    ///
    /// # Errors
    /// When there are too few rows.
    fn fitted(&self, categories: &[usize]) -> Result<OnlineFit>;

    /// Bytes that it allocates.
    fn bytes(&self) -> usize;

    /// The bytes with which [`Self::restore`] continues as if nothing had happened, bit for bit.
    ///
    /// # Errors
    /// Never in practice.
    fn save(&self) -> Result<Vec<u8>>;

    /// Continues from saved bytes, of the same options and dense inputs.
    ///
    /// # Errors
    /// When the bytes are damaged or of another training.
    fn restore(&mut self, bytes: &[u8]) -> Result<()>;
}

/// What an [`OnlineEstimator`] has learned.
#[derive(Clone, Debug)]
pub struct OnlineFit {
    /// What the parameters mean.
    pub description: Arc<dyn Description>,
    /// Flat parameters in the layout of the description.
    pub parameters: Vec<f32>,
}
