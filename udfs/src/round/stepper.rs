//! Steps: a state and the mini-batches that change it, by their gradients or row by row.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion_common::{Result, internal_err};

use super::sgd::Descent;
use super::sparse::SparseSteps;
use crate::batch::{MiniBatch, NO_CATEGORY, Rows, Scattered};
use crate::learner::{LossSum, Passes, Scratch, Step, StepKey, Table};
use crate::optimizer::invariant::{self, RowScratch};
use crate::optimizer::{LazySgd, StepSize};
use crate::state::State;

/// The working memory of one shard.
#[derive(Debug)]
struct Shard {
    scratch: Scratch,
    gradient: Vec<f32>,
    sum: LossSum,
}

/// A state that is stepped mini-batch by mini-batch: what a replica of a round does, and what
/// online learning does without end.
#[derive(Debug)]
pub struct Stepper {
    descent: Arc<Descent>,
    index: u32,
    state: State,
    /// None where steps are made in `passes`.
    shards: Vec<Mutex<Shard>>,
    passes: Option<Passes>,
    /// Whether the state is up to date after each step.
    is_eager: bool,
    rows: RowScratch,
    /// Whether the gradients of the table of categories are 0.
    is_clean: bool,
    lazy: Option<LazySgd>,
    sparse: Option<SparseSteps>,
    /// Rows that were scattered, where a step needs them together.
    brought: Rows,
    /// Rows that [`Descent::progress`] has not been told of: to count in memory that others read
    /// takes as long as the step of a row.
    untold: u64,
}

/// Rows after which progress is told.
const TELL_ROWS: u64 = 1024;

impl Stepper {
    /// A stepper that starts from `state`, as the replica with this index: draws depend on it.
    pub fn new(descent: Arc<Descent>, state: State, index: u32) -> Self {
        let passes = descent.passes(&state);
        let shards = if passes.is_some() { 0 } else { descent.shards.max(1) };
        let shard_rows = descent.batch_size.div_ceil(shards.max(1));
        let shards = (0..shards)
            .map(|_| {
                Mutex::new(Shard {
                    scratch: descent.learner.scratch(shard_rows),
                    gradient: vec![0.0; state.parameters.len()],
                    sum: LossSum::default(),
                })
            })
            .collect();
        let rows = RowScratch::new(descent.learner.width(), descent.learner.outputs());
        Self {
            descent,
            index,
            state,
            shards,
            passes,
            is_eager: true,
            rows,
            is_clean: true,
            lazy: None,
            sparse: None,
            brought: Rows::default(),
            untold: 0,
        }
    }

    /// The same whose state is up to date after [`Stepper::settle`] alone: weights of a network
    /// stay in panels. Where mini-batches meet few of the categories L1 and L2 act on a weight when
    /// it is met, or the numbers of each category lie side by side.
    pub fn lazily(mut self) -> Self {
        self.is_eager = false;
        if self.descent.is_lazy() {
            self.lazy = Some(LazySgd::new(self.descent.learner.table()));
        } else {
            self.sparse = SparseSteps::new(&self.descent);
        }
        self
    }

    /// Brings the state and the progress up to date.
    pub fn settle(&mut self) {
        self.descent.progress.add(std::mem::take(&mut self.untold));
        if let Some(lazy) = &mut self.lazy {
            lazy.settle_all(&mut self.state.parameters);
        }
        if let Some(sparse) = &mut self.sparse {
            sparse.put_back(&mut self.state);
        }
        if let Some(passes) = &self.passes {
            passes.put_back(&mut self.state);
        }
    }

    /// How it steps.
    pub fn descent(&self) -> &Descent {
        &self.descent
    }

    /// Threads that a step keeps busy.
    pub(super) fn threads(&self) -> usize {
        let passes = self.passes.as_ref().map_or(1, Passes::threads);
        let sparse = self.sparse.as_ref().map_or(1, SparseSteps::threads);
        self.shards.len().max(passes).max(sparse)
    }

    /// The state after the steps so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, when no more steps are made.
    pub fn into_state(self) -> State {
        self.state
    }

    /// One step on one mini-batch of at most `batch_size` rows.
    ///
    /// # Errors
    /// When a stop was asked for.
    pub fn step(&mut self, batch: &MiniBatch<'_>) -> Result<()> {
        let rows = (*batch).into();
        let threads = self.threads();
        if threads == 1 {
            return self.step_scattered(&rows);
        }
        let runner = Arc::clone(&self.descent.runner);
        let mut result = Ok(());
        runner.enter(threads, &mut || result = self.step_scattered(&rows));
        result
    }

    /// Whether steps bring rows together themselves, or read them where they lie.
    pub(super) fn takes_scattered(&self) -> bool {
        self.passes.is_some() || self.sparse.is_some() || self.reads_scattered()
    }

    /// Whether the gradient is taken of rows where they lie, if their labels and weights are
    /// [beside](Scattered::beside).
    pub(super) fn reads_scattered(&self) -> bool {
        self.descent.learner.takes_scattered()
            && self.descent.batch_size > 1
            && self.shards.len() == 1
            && !self.descent.optimizer.takes_rows()
    }

    /// The same from inside [`Shards::enter`](crate::shards::Shards::enter), where it keeps several
    /// threads busy, with rows that need not be together if [`Stepper::takes_scattered`]. It comes
    /// to the same bits, but takes longer, where it [reads them in their
    /// places](Stepper::reads_scattered) and nothing is beside them.
    pub(super) fn step_scattered(&mut self, rows: &Scattered<'_>) -> Result<()> {
        self.descent.interrupt.check()?;
        debug_assert!(rows.order.is_empty() || self.takes_scattered(), "rows are not together");
        debug_assert!([0, rows.rows()].contains(&rows.beside.rows), "labels are of other rows");
        if self.descent.optimizer.takes_rows() {
            self.step_by_rows(&rows.together)?;
        } else if self.passes.is_some() {
            self.step_in_passes(rows);
        } else {
            self.step_by_gradient(rows)?;
        }
        self.state.steps += 1;
        self.state.rows += rows.rows() as u64;
        self.untold += rows.rows() as u64;
        if self.untold >= TELL_ROWS {
            self.descent.progress.add(std::mem::take(&mut self.untold));
        }
        Ok(())
    }

    fn step_by_rows(&mut self, batch: &MiniBatch<'_>) -> Result<()> {
        let Self { descent, state, shards, rows, .. } = self;
        let learner = descent.learner.as_ref();
        let (Some(loss), Some(shard)) = (learner.linear_loss(), shards.first_mut()) else {
            return internal_err!(
                "{} was given a model that is not linear",
                descent.optimizer.name()
            );
        };
        let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
        let sum = invariant::learn(
            (learner, loss),
            &descent.step_size(state.steps + 1),
            batch,
            &mut state.parameters,
            &mut state.moments,
            (&mut shard.scratch, rows),
        );
        state.round.add(sum);
        Ok(())
    }

    /// What the next step takes, and what its random draws depend on.
    fn next_step(&self) -> (StepSize, StepKey) {
        let step = self.state.steps + 1;
        let key = StepKey { seed: self.descent.seed, step: step | (u64::from(self.index) << 48) };
        (self.descent.step_size(step), key)
    }

    fn step_in_passes(&mut self, rows: &Scattered<'_>) {
        let (size, key) = self.next_step();
        let Self { descent, state, passes, is_eager, .. } = self;
        if let Some(passes) = passes {
            let step = Step { rows: *rows, key, optimizer: &descent.optimizer, size: &size };
            passes.step(&step, state, descent.runner.as_ref());
            if *is_eager {
                passes.put_back(state);
            }
        }
    }

    fn step_by_gradient(&mut self, scattered: &Scattered<'_>) -> Result<()> {
        let (size, key) = self.next_step();
        let Self { descent, state, shards, is_clean, lazy, sparse, brought, .. } = self;
        if let (Some(sparse), [shard]) = (sparse, shards.as_mut_slice()) {
            if sparse.takes(descent, &size, scattered.rows()) {
                let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
                let sum = sparse.step(descent, &size, scattered, state, &mut shard.gradient);
                state.round.add(sum);
                return Ok(());
            }
            sparse.put_back(state);
        }
        let width = descent.learner.width();
        let is_apart = scattered.beside.rows > 1;
        let batch = match scattered.order {
            [] => scattered.together,
            _ if is_apart => scattered.beside,
            _ => {
                scattered.bring(&(0..scattered.rows()), width, brought);
                brought.batch().slice(0, scattered.rows(), width)
            }
        };
        let scale = 1.0 / batch.rows as f32;
        let learner = descent.learner.as_ref();
        let (n, table, codes) = (shards.len(), learner.table(), batch.codes);
        // Where a gradient of 0 changes nothing, only what the mini-batch meets is visited.
        let is_sparse =
            lazy.is_some() || (is_wide(&table, codes.len()) && descent.optimizer.is_local(&size));
        if is_sparse && !*is_clean {
            for shard in shards.iter_mut() {
                let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
                shard.gradient[table.range()].fill(0.0);
            }
        }
        *is_clean = is_sparse;
        if let Some(lazy) = lazy {
            lazy.settle(codes, &mut state.parameters);
        }
        let parameters = state.parameters.as_slice();
        // Shares are cut by position: the same rows in the same shard on any machine.
        let share = |i: usize| batch.rows * i / n;
        let run = |rows: &MiniBatch<'_>, shard: &mut Shard| {
            let (scratch, gradient) = (&mut shard.scratch, &mut shard.gradient);
            shard.sum = if is_apart {
                learner.scattered_gradient(parameters, scattered, scale, scratch, gradient)
            } else if is_sparse {
                learner.sparse_gradient(parameters, rows, key, scale, scratch, gradient)
            } else {
                learner.gradient(parameters, rows, key, scale, scratch, gradient)
            };
        };
        if let [only] = shards.as_mut_slice() {
            run(&batch, only.get_mut().unwrap_or_else(PoisonError::into_inner));
        } else {
            let shards: &[Mutex<Shard>] = shards;
            descent.runner.run(n, &|i| {
                let rows = batch.slice(share(i), share(i + 1), width);
                run(&rows, &mut shards[i].lock().unwrap_or_else(PoisonError::into_inner));
            });
        }
        let Some((first, rest)) = shards.split_first_mut() else {
            return internal_err!("a replica without shards");
        };
        let first = first.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.round.add(first.sum);
        for (i, shard) in rest.iter_mut().enumerate() {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.round.add(shard.sum);
            if is_sparse {
                let of_shard = batch.slice(share(i + 1), share(i + 2), width).codes;
                add_touched(&mut first.gradient, &mut shard.gradient, &table, of_shard);
            } else {
                add(&mut first.gradient, &shard.gradient);
            }
        }
        let (layout, optimizer) = (learner.layout(), &descent.optimizer);
        let (parameters, gradient) = (&mut state.parameters, &mut first.gradient);
        let moments = &mut state.moments;
        match lazy {
            Some(lazy) => lazy.step(layout, &size, codes, parameters, gradient),
            None if is_sparse => {
                let touched = (&table, codes);
                optimizer.step_touched(layout, &size, touched, parameters, gradient, moments);
            }
            None => optimizer.step(layout, &size, parameters, gradient, moments),
        }
        Ok(())
    }
}

/// Whether a table is so much longer than a mini-batch has categories that to visit these, at
/// random and more than once, costs less than a pass over the table.
pub(super) fn is_wide(table: &Table, codes: usize) -> bool {
    table.categories / 8 > codes
}

/// `sum += other`.
fn add(sum: &mut [f32], other: &[f32]) {
    for (sum, g) in sum.iter_mut().zip(other) {
        *sum += g;
    }
}

/// `sum += other`, in the table of `other` only the rows of `codes`, which are 0 afterwards.
fn add_touched(sum: &mut [f32], other: &mut [f32], table: &Table, codes: &[u32]) {
    let range = table.range();
    add(&mut sum[..range.start], &other[..range.start]);
    add(&mut sum[range.end..], &other[range.end..]);
    for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
        let row = table.row(*code);
        add(&mut sum[row.clone()], &other[row.clone()]);
        other[row].fill(0.0);
    }
}
