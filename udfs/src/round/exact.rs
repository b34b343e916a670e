//! Passes of the exact solvers as rounds: a Gram matrix, or a gradient and Hessian.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion_common::Result;

use super::sgd::Interrupt;
use super::{Partial, Replica, Round};
use crate::batch::{MiniBatch, Width};
use crate::exact::{GramSum, NewtonScratch, NewtonSum, gram_memory, newton_memory};

/// Rows between two looks at the interrupt.
const BLOCK: usize = 4096;

/// Sums the Gram matrix of the rows; the result is a [`GramSum`] as bytes.
#[derive(Debug)]
pub struct GramRound {
    width: Width,
    interrupt: Arc<Interrupt>,
}

impl GramRound {
    /// The sums of rows of this width.
    pub fn new(width: Width, interrupt: Arc<Interrupt>) -> Self {
        Self { width, interrupt }
    }
}

impl Round for GramRound {
    fn kind(&self) -> &'static str {
        "gram"
    }

    fn width(&self) -> Width {
        self.width
    }

    fn replica(&self, _index: u32) -> Result<Box<dyn Replica>> {
        let sum = GramSum::new(self.width);
        Ok(Box::new(GramReplica { sum, interrupt: Arc::clone(&self.interrupt) }))
    }

    fn merge(&self, mut partials: Vec<Partial>) -> Result<Vec<u8>> {
        // (The sum of nothing and one is that one.)
        if let [one] = partials.as_mut_slice() {
            return Ok(std::mem::take(&mut one.bytes));
        }
        let mut total = GramSum::new(self.width);
        for partial in partials {
            total.merge(&GramSum::from_bytes(&partial.bytes)?)?;
        }
        Ok(total.to_bytes())
    }

    fn replica_bytes(&self) -> usize {
        gram_memory(self.width)
    }
}

#[derive(Debug)]
struct GramReplica {
    sum: GramSum,
    interrupt: Arc<Interrupt>,
}

impl Replica for GramReplica {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        let width = self.sum.width();
        for start in (0..rows.rows).step_by(BLOCK) {
            self.interrupt.check()?;
            self.sum.update(&rows.slice(start, rows.rows.min(start + BLOCK), width))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.sum.to_bytes())
    }
}

/// Sums loss, gradient and Hessian of a logistic regression at some parameters; the result is a
/// [`NewtonSum`] as bytes.
#[derive(Debug)]
pub struct NewtonRound {
    width: Width,
    outputs: usize,
    intercept: bool,
    parameters: Arc<Vec<f64>>,
    spare: Arc<Spare>,
    interrupt: Arc<Interrupt>,
}

/// Buffers of passes that are done, for those that follow.
#[derive(Debug, Default)]
pub struct Spare(Mutex<Vec<NewtonScratch>>);

impl Spare {
    fn all(&self) -> MutexGuard<'_, Vec<NewtonScratch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NewtonRound {
    /// The sums at `parameters`: `[(d + t), outputs]` weights, then `[outputs]` intercepts.
    pub fn new(
        width: Width,
        outputs: usize,
        intercept: bool,
        parameters: Arc<Vec<f64>>,
        spare: Arc<Spare>,
        interrupt: Arc<Interrupt>,
    ) -> Self {
        Self { width, outputs, intercept, parameters, spare, interrupt }
    }
}

impl Round for NewtonRound {
    fn kind(&self) -> &'static str {
        "newton"
    }

    fn width(&self) -> Width {
        self.width
    }

    fn replica(&self, _index: u32) -> Result<Box<dyn Replica>> {
        let sum = NewtonSum::new(self.width, self.outputs, self.intercept)?;
        let scratch = self.spare.all().pop().unwrap_or_default();
        Ok(Box::new(NewtonReplica {
            sum: sum.with_scratch(scratch),
            parameters: Arc::clone(&self.parameters),
            spare: Arc::clone(&self.spare),
            interrupt: Arc::clone(&self.interrupt),
        }))
    }

    fn merge(&self, mut partials: Vec<Partial>) -> Result<Vec<u8>> {
        if let [one] = partials.as_mut_slice() {
            return Ok(std::mem::take(&mut one.bytes));
        }
        let mut total = NewtonSum::new(self.width, self.outputs, self.intercept)?;
        for partial in partials {
            total.merge(&NewtonSum::from_bytes(&partial.bytes)?)?;
        }
        Ok(total.to_bytes())
    }

    fn replica_bytes(&self) -> usize {
        newton_memory(self.width, self.outputs)
    }
}

#[derive(Debug)]
struct NewtonReplica {
    sum: NewtonSum,
    parameters: Arc<Vec<f64>>,
    spare: Arc<Spare>,
    interrupt: Arc<Interrupt>,
}

impl Replica for NewtonReplica {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        let width = self.sum.width();
        for start in (0..rows.rows).step_by(BLOCK) {
            self.interrupt.check()?;
            let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
            self.sum.update(&self.parameters, &block)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        self.spare.all().push(self.sum.take_scratch());
        Ok(self.sum.to_bytes())
    }
}
