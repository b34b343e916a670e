//! Steps: how a mini-batch changes a state.
//!
//! A [`StepPlan`] says how steps are made. It is chosen once for a training, by the shape of the
//! model, the optimizer and the size of a mini-batch:
//!
//! - [`rows`]: an optimizer that takes rows one by one.
//! - [`dense`]: hidden layers, unless updates are sparse: a pass over rows and one over packed
//!   weights.
//! - [`layers`]: a network of any layers: its executor cuts the mini-batch.
//! - [`table`]: one linear output and a table of categories much longer than a mini-batch.
//! - [`gradient`], lazily: sgd with L1 or L2 and such a table: a weight is brought up to date when
//!   it is next met.
//! - [`gradient`]: everything else: a gradient, then the optimizer.
//!
//! All give the same bits on any number of threads.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion_common::Result;

use crate::batch::{Gather, MiniBatch};
use crate::learner::{Network, StepKey, Table};
use crate::optimizer::{LazySgd, StepSize};
use crate::round::Descent;
use crate::state::State;

mod dense;
#[cfg(test)]
mod gather_tests;
mod gradient;
mod layers;
mod rows;
#[cfg(test)]
pub(crate) mod sparse_tests;
mod table;

/// One way to make steps, with its working memory.
trait Steps: Debug + Send + Sync {
    /// One step on one mini-batch; its loss is added to the round's. Weights and moments of the
    /// state are up to date after [`Steps::unpack`].
    fn step(&mut self, step: &Step<'_>, rows: &Gather<'_>, state: &mut State) -> Result<()>;

    /// Unpacks weights and moments that are kept in another layout into the state.
    fn unpack(&mut self, _state: &mut State) {}

    /// Number of threads that a step uses.
    fn threads(&self) -> usize {
        1
    }
}

/// The arguments of a step.
#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    descent: &'a Descent,
    size: StepSize,
    key: StepKey,
}

/// When the state is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// After each step: online learning scores rows before it learns from them.
    EachStep,
    /// After many steps, when [`Stepper::finish`] is called: rounds.
    AtEnd,
}

/// How steps are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepPlan {
    /// Rows one by one.
    Rows,
    /// A pass over rows and one over packed weights.
    Dense,
    /// The gradient of the whole mini-batch by an executor, then the optimizer.
    Layers,
    /// A sparse update of a packed table, which stores the numbers of a category side by side.
    Table,
    /// A sparse update of the flat buffers; L1 and L2 are applied to a weight when a mini-batch
    /// meets it.
    LazyTable,
    /// A gradient, then the optimizer over all parameters or, where a gradient of 0 changes
    /// nothing, over the categories met by the mini-batch.
    Gradient,
}

impl StepPlan {
    /// The plan for a descent.
    pub fn choose(descent: &Descent, reads: Reads) -> Self {
        if descent.optimizer.takes_rows() {
            return StepPlan::Rows;
        }
        if descent.learner.layers().is_some() {
            return StepPlan::Layers;
        }
        if dense_network(descent).is_some() {
            return StepPlan::Dense;
        }
        match reads {
            Reads::AtEnd if is_lazy(descent) => StepPlan::LazyTable,
            Reads::AtEnd if table::fits(descent).is_some() => StepPlan::Table,
            _ => StepPlan::Gradient,
        }
    }

    /// Number of slices of a mini-batch, whose gradients are summed in order.
    pub fn slices(self, descent: &Descent) -> usize {
        if matches!(self, StepPlan::Dense | StepPlan::Layers) { 1 } else { descent.slices.max(1) }
    }

    /// Bytes of the working memory of a replica with so many parameters and moments.
    pub fn bytes(self, descent: &Descent, parameters: usize, moments: usize) -> usize {
        let numbers = match self {
            // Packed weights and moments, and the transposes of the weights.
            StepPlan::Dense => 2 * parameters + moments,
            StepPlan::Layers => {
                let bytes = descent.learner.layers().map(|own| own.bytes(descent.batch_size));
                parameters + bytes.unwrap_or(0) / size_of::<f32>()
            }
            StepPlan::LazyTable => {
                descent.learner.width().categories + self.slices(descent) * parameters
            }
            _ => self.slices(descent) * parameters,
        };
        let of_table = if self == StepPlan::Table { table::bytes(descent) } else { 0 };
        size_of::<f32>() * numbers + of_table
    }

    fn steps(self, descent: &Descent, state: &State) -> Box<dyn Steps> {
        let gradient = |updates| Box::new(gradient::GradientSteps::new(descent, updates));
        let steps: Option<Box<dyn Steps>> = match self {
            StepPlan::Rows => Some(Box::new(rows::RowSteps::new(descent))),
            StepPlan::Dense => dense_network(descent)
                .map(|network| Box::new(dense::DenseSteps::new(network, descent, state)) as _),
            StepPlan::Layers => (descent.learner.layers())
                .and_then(|network| layers::LayerSteps::new(network, descent))
                .map(|steps| Box::new(steps) as _),
            StepPlan::Table => table::TableSteps::new(descent).map(|table| Box::new(table) as _),
            StepPlan::LazyTable => {
                Some(gradient(gradient::Updates::LazySparse(LazySgd::new(descent.learner.table()))))
            }
            StepPlan::Gradient => None,
        };
        steps.unwrap_or_else(|| gradient(gradient::Updates::of(descent)))
    }
}

/// The network whose packed weights the steps update: one with hidden layers, unless updates are
/// sparse.
fn dense_network(descent: &Descent) -> Option<&Network> {
    let is_sparse = is_wide_by_batch(descent) && descent.optimizer.may_be_sparse();
    if is_sparse { None } else { descent.learner.network() }
}

/// Whether L1 and L2 are applied to a weight of the table when a mini-batch meets it.
fn is_lazy(descent: &Descent) -> bool {
    LazySgd::fits(&descent.optimizer, descent.l1, descent.l2) && is_wide_by_batch(descent)
}

fn is_wide_by_batch(descent: &Descent) -> bool {
    let codes = descent.batch_size.saturating_mul(descent.learner.width().columns);
    is_wide(&descent.learner.table(), codes)
}

/// Whether a table is much longer than the codes of a mini-batch: visiting these, at random and
/// more than once, then costs less than a pass over the table.
fn is_wide(table: &Table, codes: usize) -> bool {
    table.categories / 8 > codes
}

/// A state that is updated mini-batch by mini-batch: by a replica in a round, or without end in
/// online learning.
#[derive(Debug)]
pub struct Stepper {
    descent: Arc<Descent>,
    index: u32,
    state: State,
    steps: Box<dyn Steps>,
    reads: Reads,
    /// Rows that [`Descent::progress`] does not count yet: a counter that other threads read takes
    /// as long to update as the step of a row.
    uncounted: u64,
}

/// Number of rows after which progress is updated.
const COUNTED_ROWS: u64 = 1024;

impl Stepper {
    /// A stepper that starts from `state`, as the replica with this index: random draws depend on
    /// it.
    pub fn new(descent: Arc<Descent>, state: State, index: u32, reads: Reads) -> Self {
        let steps = StepPlan::choose(&descent, reads).steps(&descent, &state);
        Self { descent, index, state, steps, reads, uncounted: 0 }
    }

    /// Brings state and progress up to date after many steps.
    pub fn finish(&mut self) {
        self.descent.progress.add(std::mem::take(&mut self.uncounted));
        self.steps.unpack(&mut self.state);
    }

    /// The descent that it runs.
    pub fn descent(&self) -> &Descent {
        &self.descent
    }

    /// Number of threads that a step uses.
    pub(crate) fn threads(&self) -> usize {
        self.steps.threads()
    }

    /// The state after the steps so far, or with [`Reads::AtEnd`] up to [`Stepper::finish`].
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, once no more steps are made.
    pub fn into_state(self) -> State {
        self.state
    }

    /// One step on one mini-batch of at most `batch_size` rows.
    ///
    /// # Errors
    /// When a stop was requested.
    pub fn step(&mut self, batch: &MiniBatch<'_>) -> Result<()> {
        let rows = (*batch).into();
        let threads = self.threads();
        if threads == 1 {
            return self.step_gathered(&rows);
        }
        let pool = Arc::clone(&self.descent.threads);
        let mut result = Ok(());
        pool.enter(threads, &mut || result = self.step_gathered(&rows));
        result
    }

    /// The same for rows that are gathered; where a step uses several threads, it must be called
    /// from inside [`ParallelFor::enter`](crate::parallel::ParallelFor::enter).
    pub(crate) fn step_gathered(&mut self, rows: &Gather<'_>) -> Result<()> {
        self.descent.interrupt.check()?;
        let number = self.state.steps + 1;
        let replica = u64::from(self.index) << 48;
        let step = Step {
            descent: &self.descent,
            size: self.descent.step_size(number),
            key: StepKey { seed: self.descent.seed, step: number | replica },
        };
        self.steps.step(&step, rows, &mut self.state)?;
        if self.reads == Reads::EachStep {
            self.steps.unpack(&mut self.state);
        }
        self.state.steps += 1;
        self.state.rows += rows.rows() as u64;
        self.uncounted += rows.rows() as u64;
        if self.uncounted >= COUNTED_ROWS {
            self.descent.progress.add(std::mem::take(&mut self.uncounted));
        }
        Ok(())
    }
}
