//! Passes of the solvers as rounds: a Gram matrix, a gradient and Hessian, or a gradient.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion_common::Result;

use super::{Interrupt, Partial, Replica, Round};
use crate::batch::{MiniBatch, Width};
use crate::exact::{
    GradientScratch, GradientSum, GramSum, LinearShape, NewtonScratch, NewtonSum, gram_memory,
    newton_memory,
};

/// Rows between two checks of the interrupt.
const BLOCK: usize = 4096;

/// Sums the Gram matrix of the rows; the result is a [`GramSum`] as bytes.
#[derive(Debug)]
pub struct GramRound {
    width: Width,
    interrupt: Arc<Interrupt>,
}

impl GramRound {
    /// The sums over rows of this width.
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
        // (A single partial is the sum.)
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
    buffers: Arc<Buffers<NewtonScratch>>,
    interrupt: Arc<Interrupt>,
}

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

impl NewtonRound {
    /// The sums at `parameters`: `[(d + t), outputs]` weights, then `[outputs]` intercepts.
    pub fn new(
        width: Width,
        outputs: usize,
        intercept: bool,
        parameters: Arc<Vec<f64>>,
        buffers: Arc<Buffers<NewtonScratch>>,
        interrupt: Arc<Interrupt>,
    ) -> Self {
        Self { width, outputs, intercept, parameters, buffers, interrupt }
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
        let scratch = self.buffers.take();
        Ok(Box::new(NewtonReplica {
            sum: sum.with_scratch(scratch),
            parameters: Arc::clone(&self.parameters),
            buffers: Arc::clone(&self.buffers),
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
    buffers: Arc<Buffers<NewtonScratch>>,
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
        self.buffers.put(self.sum.take_scratch());
        Ok(self.sum.to_bytes())
    }
}

/// Sums loss and gradient of a linear model at some parameters; the result is a [`GradientSum`] as
/// bytes.
#[derive(Debug)]
pub struct GradientRound {
    shape: LinearShape,
    parameters: Arc<Vec<f64>>,
    buffers: Arc<Buffers<GradientScratch>>,
    interrupt: Arc<Interrupt>,
}

impl GradientRound {
    /// The sums at `parameters`, as the shape lays them out.
    pub fn new(
        shape: LinearShape,
        parameters: Arc<Vec<f64>>,
        buffers: Arc<Buffers<GradientScratch>>,
        interrupt: Arc<Interrupt>,
    ) -> Self {
        Self { shape, parameters, buffers, interrupt }
    }
}

impl Round for GradientRound {
    fn kind(&self) -> &'static str {
        "gradient"
    }

    fn width(&self) -> Width {
        self.shape.width
    }

    fn replica(&self, _index: u32) -> Result<Box<dyn Replica>> {
        Ok(Box::new(GradientReplica {
            sum: GradientSum::new(self.shape)?.with_scratch(self.buffers.take()),
            parameters: Arc::clone(&self.parameters),
            buffers: Arc::clone(&self.buffers),
            interrupt: Arc::clone(&self.interrupt),
        }))
    }

    fn merge(&self, mut partials: Vec<Partial>) -> Result<Vec<u8>> {
        if let [one] = partials.as_mut_slice() {
            return Ok(std::mem::take(&mut one.bytes));
        }
        let mut total = GradientSum::new(self.shape)?;
        for partial in partials {
            total.merge(&GradientSum::from_bytes(&partial.bytes)?)?;
        }
        Ok(total.to_bytes())
    }

    fn replica_bytes(&self) -> usize {
        size_of::<f64>() * 2 * self.shape.parameters()
    }
}

#[derive(Debug)]
struct GradientReplica {
    sum: GradientSum,
    parameters: Arc<Vec<f64>>,
    buffers: Arc<Buffers<GradientScratch>>,
    interrupt: Arc<Interrupt>,
}

impl Replica for GradientReplica {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        let width = self.sum.shape().width;
        for start in (0..rows.rows).step_by(BLOCK) {
            self.interrupt.check()?;
            let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
            self.sum.update(&self.parameters, &block)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        self.buffers.put(self.sum.take_scratch());
        Ok(self.sum.to_bytes())
    }
}
