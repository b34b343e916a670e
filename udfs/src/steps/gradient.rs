//! Steps by a gradient: slices of a mini-batch on threads, summed in order, then the optimizer over
//! all parameters or as a sparse update.

use std::sync::{Mutex, PoisonError};

use datafusion_common::{Result, internal_err};

use super::{Step, Steps, is_wide, is_wide_by_batch};
use crate::batch::{Gather, MiniBatch, NO_CATEGORY, Rows};
use crate::kernels::math::add;
use crate::learner::{LossSum, Scratch, Table};
use crate::optimizer::LazySgd;
use crate::round::Descent;
use crate::state::State;

/// Which parameters a step visits.
#[derive(Debug)]
pub(super) enum Updates {
    /// All parameters.
    Dense,
    /// In the table of categories, only those met by the mini-batch, in steps in which a gradient
    /// of 0 changes nothing. Between two steps the gradients of the table are 0.
    Sparse,
    /// The same, with L1 and L2 applied to a weight when a mini-batch meets it.
    LazySparse(LazySgd),
}

impl Updates {
    /// The updates that leave the state up to date after each step.
    pub(super) fn of(descent: &Descent) -> Self {
        match is_wide_by_batch(descent) && descent.optimizer.may_be_sparse() {
            true => Updates::Sparse,
            false => Updates::Dense,
        }
    }
}

/// The working memory of such steps.
#[derive(Debug)]
pub(super) struct GradientSteps {
    updates: Updates,
    slices: Vec<Mutex<Slice>>,
    gathered: Rows,
}

/// The working memory of one slice of a mini-batch.
#[derive(Debug)]
struct Slice {
    scratch: Scratch,
    /// `[parameters]`
    gradient: Vec<f32>,
    sum: LossSum,
}

impl GradientSteps {
    pub(super) fn new(descent: &Descent, updates: Updates) -> Self {
        let learner = descent.learner.as_ref();
        let n = descent.slices.max(1);
        let slice = || Slice {
            scratch: learner.scratch(descent.batch_size.div_ceil(n)),
            gradient: vec![0.0; learner.layout().len()],
            sum: LossSum::default(),
        };
        let slices = (0..n).map(|_| Mutex::new(slice())).collect();
        Self { updates, slices, gathered: Rows::default() }
    }

    /// The gradient buffer of the first slice; with [`Updates::Sparse`], its table is 0.
    pub(super) fn buffer(&mut self) -> Option<&mut [f32]> {
        let first = self.slices.first_mut()?;
        Some(&mut first.get_mut().unwrap_or_else(PoisonError::into_inner).gradient)
    }

    /// The gradient of each slice of a mini-batch.
    fn gradients(
        &self,
        step: &Step<'_>,
        batch: &MiniBatch<'_>,
        parameters: &[f32],
        is_sparse: bool,
    ) {
        let learner = step.descent.learner.as_ref();
        let (width, scale, n) = (learner.width(), 1.0 / batch.rows as f32, self.slices.len());
        let run = |i: usize| {
            let mut own = self.slices[i].lock().unwrap_or_else(PoisonError::into_inner);
            let Slice { scratch, gradient, sum } = &mut *own;
            let (start, end) = bounds(batch.rows, i, n);
            let rows = if n == 1 { *batch } else { batch.slice(start, end, width) };
            *sum = match is_sparse {
                true => {
                    learner.sparse_gradient(parameters, &rows, step.key, scale, scratch, gradient)
                }
                false => learner.gradient(parameters, &rows, step.key, scale, scratch, gradient),
            };
        };
        match n {
            1 => run(0),
            _ => step.descent.threads.run(n, &run),
        }
    }
}

/// The first and last row of slice `i` of `n`: by position, the same rows on any machine.
fn bounds(rows: usize, i: usize, n: usize) -> (usize, usize) {
    (rows * i / n, rows * (i + 1) / n)
}

impl Steps for GradientSteps {
    fn step(&mut self, step: &Step<'_>, rows: &Gather<'_>, state: &mut State) -> Result<()> {
        let Step { descent, size, .. } = step;
        let learner = descent.learner.as_ref();
        let (width, table, layout) = (learner.width(), learner.table(), learner.layout());
        let mut gathered = std::mem::take(&mut self.gathered);
        let batch = rows.all(width, &mut gathered);
        let codes = batch.codes;
        let is_sparse = match &mut self.updates {
            Updates::Dense => false,
            Updates::Sparse => is_wide(&table, codes.len()) && descent.optimizer.is_sparse(size),
            Updates::LazySparse(lazy) => {
                lazy.catch_up(codes, &mut state.parameters);
                true
            }
        };
        self.gradients(step, &batch, &state.parameters, is_sparse);
        let n = self.slices.len();
        let Some((first, rest)) = self.slices.split_first_mut() else {
            return internal_err!("a step without slices");
        };
        let first = first.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.round.add(first.sum);
        for (i, slice) in rest.iter_mut().enumerate() {
            let slice = slice.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.round.add(slice.sum);
            if is_sparse {
                let (start, end) = bounds(batch.rows, i + 1, n);
                let own = batch.slice(start, end, width).codes;
                add_sparse(&mut first.gradient, &mut slice.gradient, &table, own);
            } else {
                add(&mut first.gradient, &slice.gradient);
            }
        }
        let (optimizer, gradient) = (&descent.optimizer, &mut first.gradient);
        let State { parameters, moments, .. } = state;
        match &mut self.updates {
            Updates::LazySparse(lazy) => lazy.step(layout, size, codes, parameters, gradient),
            Updates::Sparse if is_sparse => {
                optimizer.step_sparse(layout, size, (&table, codes), parameters, gradient, moments);
            }
            _ => optimizer.step(layout, size, parameters, gradient, moments),
        }
        if matches!(self.updates, Updates::Sparse) && !is_sparse {
            for slice in &mut self.slices {
                let slice = slice.get_mut().unwrap_or_else(PoisonError::into_inner);
                slice.gradient[table.range()].fill(0.0);
            }
        }
        self.gathered = gathered;
        Ok(())
    }

    fn unpack(&mut self, state: &mut State) {
        if let Updates::LazySparse(lazy) = &mut self.updates {
            lazy.catch_up_all(&mut state.parameters);
        }
    }

    fn threads(&self) -> usize {
        self.slices.len()
    }
}

/// `sum += other`; in the table, only the rows of `codes`, which are 0 in `other` afterwards.
fn add_sparse(sum: &mut [f32], other: &mut [f32], table: &Table, codes: &[u32]) {
    let range = table.range();
    add(&mut sum[..range.start], &other[..range.start]);
    add(&mut sum[range.end..], &other[range.end..]);
    for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
        let row = table.row(*code);
        add(&mut sum[row.clone()], &other[row.clone()]);
        other[row].fill(0.0);
    }
}
