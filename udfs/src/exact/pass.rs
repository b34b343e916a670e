//! What the sums of all solvers have in common.

use std::fmt::Debug;

use datafusion_common::Result;

use crate::batch::{MiniBatch, Width};

/// Sums of a pass over rows. Merging is addition.
pub trait PassSum: Debug + Send + Sync + Sized + 'static {
    /// What they depend on beside rows and parameters.
    type Shape: Copy + Debug + Send + Sync;
    /// Buffers of an update, which are not part of the sums.
    type Scratch: Debug + Default + Send + Sync;
    /// The kind of round, for plans.
    const KIND: &'static str;

    /// Sums over no row.
    ///
    /// # Errors
    /// When there are none of this shape.
    fn empty(shape: Self::Shape, scratch: Self::Scratch) -> Result<Self>;

    /// Width of the rows.
    fn width_of(shape: Self::Shape) -> Width;

    /// Bytes that they allocate.
    fn memory(shape: Self::Shape) -> usize;

    /// Adds rows at `parameters`, the same for all sums that are merged.
    ///
    /// # Errors
    /// When a label or a weight is out of range.
    fn add(&mut self, parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()>;

    /// Adds the sums over other rows.
    ///
    /// # Errors
    /// When they are of another shape.
    fn merge(&mut self, other: &Self) -> Result<()>;

    /// The buffers, once nothing more is added.
    fn take_scratch(&mut self) -> Self::Scratch;

    /// The sums as bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// The sums that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are no such sums.
    fn from_bytes(bytes: &[u8]) -> Result<Self>;
}
