//! Passes over rows as rounds: each replica sums its rows, and sums are merged in the order of the
//! replicas.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion_common::{Result, exec_err};

use crate::batch::{MiniBatch, Width};
use crate::kernels::nearest::ROWS;
use crate::round::{Interrupt, Partial, Replica, Round};

/// Blocks between two checks of the interrupt.
const BLOCKS: usize = 64;

/// Sums of a pass.
pub(super) trait Sums: Debug + Send + Sync + Sized + 'static {
    /// Adds the sums over other rows, which follow the rows of these.
    ///
    /// # Errors
    /// When they are of another shape.
    fn merge(&mut self, other: &Self) -> Result<()>;

    /// The sums as bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// The sums that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are no such sums.
    fn from_bytes(bytes: &[u8]) -> Result<Self>;
}

/// What a pass does with rows.
pub(super) trait Pass: Debug + Send + Sync + 'static {
    /// Its sums.
    type Sums: Sums;
    /// Working memory of a replica.
    type Scratch: Debug + Send + Sync;
    /// The kind of round, for plans.
    const KIND: &'static str;

    /// Width of the rows.
    fn width(&self) -> Width;

    /// Sums over no row, and working memory.
    fn start(&self) -> (Self::Sums, Self::Scratch);

    /// Adds at most [`ROWS`] rows, whose weights are checked; the first is row `position` of the
    /// replica.
    fn add(
        &self,
        sums: &mut Self::Sums,
        scratch: &mut Self::Scratch,
        rows: &MiniBatch<'_>,
        at: Place,
    );

    /// Bytes that a replica allocates.
    fn bytes(&self) -> usize;
}

/// The place of a row in a pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Index of the replica.
    pub(super) replica: u32,
    /// Number of the row in it.
    pub(super) position: u64,
}

/// A pass as a round.
#[derive(Debug)]
pub(super) struct PassOver<P> {
    pub(super) pass: Arc<P>,
    pub(super) interrupt: Arc<Interrupt>,
}

impl<P: Pass> Round for PassOver<P> {
    fn kind(&self) -> &'static str {
        P::KIND
    }

    fn width(&self) -> Width {
        self.pass.width()
    }

    fn replica(&self, index: u32) -> Result<Box<dyn Replica>> {
        let (sums, scratch) = self.pass.start();
        Ok(Box::new(PassReplica::<P> {
            pass: Arc::clone(&self.pass),
            sums,
            scratch,
            at: Place { replica: index, position: 0 },
            interrupt: Arc::clone(&self.interrupt),
        }))
    }

    fn merge(&self, mut partials: Vec<Partial>) -> Result<Vec<u8>> {
        // (A single partial is the sum.)
        if let [one] = partials.as_mut_slice() {
            return Ok(std::mem::take(&mut one.bytes));
        }
        let (mut total, _) = self.pass.start();
        for partial in partials {
            total.merge(&P::Sums::from_bytes(&partial.bytes)?)?;
        }
        Ok(total.to_bytes())
    }

    fn replica_bytes(&self) -> usize {
        self.pass.bytes()
    }
}

#[derive(Debug)]
struct PassReplica<P: Pass> {
    pass: Arc<P>,
    sums: P::Sums,
    scratch: P::Scratch,
    at: Place,
    interrupt: Arc<Interrupt>,
}

impl<P: Pass> Replica for PassReplica<P> {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        check_weights(rows.weight)?;
        let width = self.pass.width();
        for (i, start) in (0..rows.rows).step_by(ROWS).enumerate() {
            if i % BLOCKS == 0 {
                self.interrupt.check()?;
            }
            let block = rows.slice(start, rows.rows.min(start + ROWS), width);
            self.pass.add(&mut self.sums, &mut self.scratch, &block, self.at);
            self.at.position += block.rows as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.sums.to_bytes())
    }
}

/// Refuses weights that have no meaning.
///
/// # Errors
/// When there is one.
pub(super) fn check_weights(weight: &[f32]) -> Result<()> {
    match weight.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        Some(weight) => {
            exec_err!("row weights should be finite and at least 0, but one is {weight}")
        }
        None => Ok(()),
    }
}
