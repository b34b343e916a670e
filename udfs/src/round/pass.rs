//! A pass of a solver as a round: sums over all rows at some parameters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion_common::Result;

use super::{Interrupt, Partial, Replica, Round};
use crate::batch::{MiniBatch, Width};
use crate::exact::PassSum;

/// Rows between two checks of the interrupt.
const BLOCK: usize = 4096;

/// Buffers of finished passes, which later passes use again.
#[derive(Debug, Default)]
pub struct Buffers<T>(Mutex<Vec<T>>);

impl<T: Default> Buffers<T> {
    fn all(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Buffers that no other replica uses.
    fn take(&self) -> T {
        self.all().pop().unwrap_or_default()
    }

    /// Returns buffers.
    fn put(&self, buffers: T) {
        self.all().push(buffers);
    }
}

/// Takes the sums `S` over the rows; the result is `S` as bytes.
#[derive(Debug)]
pub struct PassRound<S: PassSum> {
    /// The shape of the sums.
    pub shape: S::Shape,
    /// The parameters at which they are taken; none for sums that do not depend on parameters.
    pub parameters: Arc<Vec<f64>>,
    /// Buffers of earlier passes.
    pub buffers: Arc<Buffers<S::Scratch>>,
    /// Ends the pass early.
    pub interrupt: Arc<Interrupt>,
}

impl<S: PassSum> Round for PassRound<S> {
    fn kind(&self) -> &'static str {
        S::KIND
    }

    fn width(&self) -> Width {
        S::width_of(self.shape)
    }

    fn replica(&self, _index: u32) -> Result<Box<dyn Replica>> {
        Ok(Box::new(PassReplica {
            sum: S::empty(self.shape, self.buffers.take())?,
            width: self.width(),
            parameters: Arc::clone(&self.parameters),
            buffers: Arc::clone(&self.buffers),
            interrupt: Arc::clone(&self.interrupt),
        }))
    }

    fn merge(&self, mut partials: Vec<Partial>) -> Result<Vec<u8>> {
        // (A single partial is the sum.)
        if let [one] = partials.as_mut_slice() {
            return Ok(std::mem::take(&mut one.bytes));
        }
        let mut total = S::empty(self.shape, S::Scratch::default())?;
        for partial in partials {
            total.merge(&S::from_bytes(&partial.bytes)?)?;
        }
        Ok(total.to_bytes())
    }

    fn replica_bytes(&self) -> usize {
        S::memory(self.shape)
    }
}

#[derive(Debug)]
struct PassReplica<S: PassSum> {
    sum: S,
    width: Width,
    parameters: Arc<Vec<f64>>,
    buffers: Arc<Buffers<S::Scratch>>,
    interrupt: Arc<Interrupt>,
}

impl<S: PassSum> Replica for PassReplica<S> {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        for start in (0..rows.rows).step_by(BLOCK) {
            self.interrupt.check()?;
            let block = rows.slice(start, rows.rows.min(start + BLOCK), self.width);
            self.sum.add(&self.parameters, &block)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        self.buffers.put(self.sum.take_scratch());
        Ok(self.sum.to_bytes())
    }
}
