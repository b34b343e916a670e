//! A round: one training aggregate over one slice of rows.
//!
//! ```text
//!   slice of rows ──► replica 0 ── partial ──┐
//!   (by position) ──► replica 1 ── partial ──┼──► merge, in replica order ──► next state
//!                 ──► replica 2 ── partial ──┘
//! ```
//!
//! The aggregate `train` (see [`crate::functions::train`]) runs any [`Round`]: each kind of round
//! decides what a replica does with its rows and how partial results are merged.
//!
//! # Correctness
//! Partial results arrive in any order, so they are folded in the order of their replica index. A
//! replica without rows leaves no partial: empty is the identity. Partials of another ancestor are
//! refused before they reach the round.

use std::fmt::Debug;

use datafusion_common::Result;

use crate::batch::{MiniBatch, Width};

mod decoding;
mod interrupt;
mod loss;
#[cfg(test)]
mod oracle;
mod pass;
mod sgd;

pub use decoding::DecodingRound;
pub use interrupt::{Interrupt, Interrupted};
pub use loss::LossRound;
pub use pass::{Buffers, PassRound};
pub use sgd::{Descent, Progress, SgdRound};

/// The partial result of one replica, from its share of the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    /// Index of the replica.
    pub replica: u32,
    /// Its result, in the round's own layout.
    pub bytes: Vec<u8>,
}

/// One training aggregate over one slice of rows.
pub trait Round: Debug + Send + Sync {
    /// The kind of round, for plans: `sgd`, `gram`, `newton`, `gradient`, `loss`.
    fn kind(&self) -> &'static str;

    /// Width of the rows it takes.
    fn width(&self) -> Width;

    /// A replica that starts from the round's ancestor.
    fn replica(&self, index: u32) -> Result<Box<dyn Replica>>;

    /// Folds partial results, ascending and distinct by replica, into the result of the round.
    /// Without partials, the result is that of no rows.
    fn merge(&self, partials: Vec<Partial>) -> Result<Vec<u8>>;

    /// Bytes that one replica allocates, for the memory pool.
    fn replica_bytes(&self) -> usize;
}

/// One copy of the state that is trained sequentially.
pub trait Replica: Debug + Send + Sync {
    /// Learns from some rows.
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()>;

    /// Learns from the rows of a chunk that `indices` names, in its order. The chunk `next` will
    /// follow; the replica may prefetch it meanwhile.
    fn update_gathered(
        &mut self,
        chunk: &MiniBatch<'_>,
        indices: &[u32],
        _next: Option<&MiniBatch<'_>>,
    ) -> Result<()> {
        self.update(&chunk.gathered(indices).batch())
    }

    /// Ends the round and returns the result; a mini-batch that is not full is learned now.
    fn finish(&mut self) -> Result<Vec<u8>>;
}
