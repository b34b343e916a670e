//! Steps of a linear model with one output that visit only the categories of a mini-batch, the numbers of
//! each side by side.
//!
//! ```text
//! parameters  .. w0 w1 w2 ..
//! gradient    .. g0 g1 g2 ..      ◄──────►      w0 g0 m0 v0 │ w1 g1 m1 v1 │ ..
//! moments     .. m0 m1 m2 .. v0 v1 v2 ..
//! ```
//! Of a million categories most are in no cache. A step waits once for each that it meets, where it would
//! wait for a line of every buffer. Each thread owns some of the categories, whose lines stay in its cache:
//! it looks their weights up and steps them. Every sum has one order, that of the columns or that of the
//! rows, so that the bits are those of one thread and of the buffers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::sgd::Descent;
use super::stepper::is_wide;
use crate::batch::{MiniBatch, NO_CATEGORY};
use crate::kernels::linear;
use crate::learner::{Loss, LossSum, Table};
use crate::optimizer::{Numbers, StepSize};
use crate::state::State;

/// Categories of a mini-batch for which another thread is worth the microseconds that it takes to call it.
const CODES_PER_THREAD: usize = 1024;

/// The working memory of such steps.
#[derive(Debug)]
pub(super) struct SparseSteps {
    loss: Loss,
    table: Table,
    threads: usize,
    /// Of each category, while they are here and not in the state.
    numbers: Vec<Numbers>,
    is_here: bool,
    /// `[batch size]`: raw outputs, then the derivatives of the loss by them.
    z: Vec<f32>,
    /// `[columns, batch size]`: the bits of the weights that several threads have looked up; of each number
    /// one of them writes.
    found: Vec<AtomicU32>,
}

impl SparseSteps {
    /// For a descent whose steps are of this kind.
    pub(super) fn new(descent: &Descent) -> Option<Self> {
        let (learner, codes) = (descent.learner.as_ref(), fits(descent)?);
        let threads = descent.runner.threads().min(codes / CODES_PER_THREAD).max(1);
        Some(Self {
            loss: learner.linear_loss()?,
            table: learner.table(),
            threads,
            numbers: vec![],
            is_here: false,
            z: vec![0.0; descent.batch_size],
            found: (0..if threads > 1 { codes } else { 0 }).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    /// Bytes that it holds at most for a descent; 0 of one whose steps are not of this kind.
    pub(super) fn bytes(descent: &Descent) -> usize {
        let numbers = descent.learner.table().categories * size_of::<Numbers>();
        fits(descent).map_or(0, |codes| numbers + 4 * (descent.batch_size + codes))
    }

    /// Threads that a step keeps busy.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Whether a step on such a mini-batch is of this kind.
    pub(super) fn takes(&self, descent: &Descent, size: &StepSize, batch: &MiniBatch<'_>) -> bool {
        batch.rows > 0
            && is_wide(&self.table, batch.codes.len())
            && descent.optimizer.is_local(size)
    }

    /// One step. The state is up to date after [`SparseSteps::put_back`]; `gradient` `[parameters]` is
    /// written but for the table.
    pub(super) fn step(
        &mut self,
        descent: &Descent,
        size: &StepSize,
        batch: &MiniBatch<'_>,
        state: &mut State,
        gradient: &mut [f32],
    ) -> LossSum {
        self.take_from(state);
        let (d, after) = (self.table.offset, self.table.range().end);
        let z = &mut self.z[..batch.rows];
        let bias = state.parameters.get(after).copied().unwrap_or(0.0);
        linear::scores(batch.dense, &state.parameters[..d], bias, z, batch.ahead.part(0, 2));
        let (columns, runner) = (descent.learner.width().columns, descent.runner.as_ref());
        let (threads, numbers) = (self.threads, self.numbers.as_mut_slice());
        if threads == 1 {
            gather(numbers, batch.codes, z, columns);
        } else {
            let found = &self.found[..batch.rows * columns];
            let share = numbers.len().div_ceil(threads);
            runner.run(threads, &|i| {
                let own = numbers.chunks(share).nth(i).unwrap_or_default();
                look_up(own, i * share, batch.codes, found, columns);
            });
            for found in found.chunks_exact(batch.rows) {
                for (z, found) in z.iter_mut().zip(found) {
                    *z += f32::from_bits(found.load(Ordering::Relaxed));
                }
            }
        }
        let scale = 1.0 / batch.rows as f32;
        let sum = self.loss.differentiate(z, 1, batch.label, batch.weight, scale);
        linear::weight_gradient(batch.dense, z, &mut gradient[..d], batch.ahead.part(1, 2));
        if let Some(of_bias) = gradient.get_mut(after) {
            *of_bias = linear::bias_gradient(z);
        }
        let State { parameters, moments, .. } = state;
        let (layout, optimizer) = (descent.learner.layout(), &descent.optimizer);
        optimizer.step_beside(layout, size, &self.table, (parameters, gradient, moments));
        if threads == 1 {
            scatter(numbers, 0, batch.codes, z, columns);
            optimizer.step_numbers(size, numbers, 0, batch.codes);
        } else {
            let share = numbers.len().div_ceil(threads);
            let shares: Vec<_> = numbers.chunks_mut(share).map(Mutex::new).collect();
            let z = &*z;
            runner.run(shares.len(), &|i| {
                let own = &mut *shares[i].lock().unwrap_or_else(PoisonError::into_inner);
                scatter(own, i * share, batch.codes, z, columns);
                optimizer.step_numbers(size, own, i * share, batch.codes);
            });
        }
        sum
    }

    /// Takes the table's numbers out of the state.
    fn take_from(&mut self, state: &State) {
        if self.is_here {
            return;
        }
        let range = self.table.range();
        let weights = &state.parameters[range.clone()];
        self.numbers.clear();
        self.numbers.extend(weights.iter().map(|w| Numbers { weight: *w, ..Numbers::default() }));
        let moments = state.moments.chunks_exact(state.parameters.len());
        for (which, moments) in moments.enumerate() {
            for (own, moment) in self.numbers.iter_mut().zip(&moments[range.clone()]) {
                own.moments[which] = *moment;
            }
        }
        self.is_here = true;
    }

    /// Puts them back.
    pub(super) fn put_back(&mut self, state: &mut State) {
        if !std::mem::take(&mut self.is_here) {
            return;
        }
        let range = self.table.range();
        let n = state.parameters.len();
        for (weight, own) in state.parameters[range.clone()].iter_mut().zip(&self.numbers) {
            *weight = own.weight;
        }
        for (which, moments) in state.moments.chunks_exact_mut(n).enumerate() {
            for (moment, own) in moments[range.clone()].iter_mut().zip(&self.numbers) {
                *moment = own.moments[which];
            }
        }
    }
}

/// The codes of a mini-batch of a descent whose steps are of this kind.
fn fits(descent: &Descent) -> Option<usize> {
    let learner = descent.learner.as_ref();
    let codes = descent.batch_size.saturating_mul(learner.width().columns);
    let table = learner.table();
    let fits = learner.linear_loss().is_some()
        && table.units == 1
        && descent.optimizer.may_be_local()
        && descent.shards <= 1
        && !descent.is_lazy()
        && descent.batch_size > 1
        && is_wide(&table, codes);
    fits.then_some(codes)
}

/// `z[r] += sum_j weight[codes[r, j]]`. (What is no category is behind the last one.)
fn gather(numbers: &[Numbers], codes: &[u32], z: &mut [f32], columns: usize) {
    for (z, codes) in z.iter_mut().zip(codes.chunks_exact(columns)) {
        for code in codes {
            if let Some(own) = numbers.get(*code as usize) {
                *z += own.weight;
            }
        }
    }
}

/// `found[j, r] = weight[codes[r, j]]` of the categories from `first` on whose numbers are given; with the
/// first of all, 0 of what is no category.
fn look_up(numbers: &[Numbers], first: usize, codes: &[u32], found: &[AtomicU32], columns: usize) {
    let rows = codes.len() / columns;
    for (r, codes) in codes.chunks_exact(columns).enumerate() {
        for (j, code) in codes.iter().enumerate() {
            let own = match numbers.get((*code as usize).wrapping_sub(first)) {
                Some(own) => own.weight,
                None if first == 0 && *code == NO_CATEGORY => 0.0,
                None => continue,
            };
            found[j * rows + r].store(own.to_bits(), Ordering::Relaxed);
        }
    }
}

/// `gradient[codes[r, j]] += dz[r]` of the categories from `first` on whose numbers are given.
fn scatter(numbers: &mut [Numbers], first: usize, codes: &[u32], dz: &[f32], columns: usize) {
    for (codes, dz) in codes.chunks_exact(columns).zip(dz) {
        for code in codes {
            if let Some(own) = numbers.get_mut((*code as usize).wrapping_sub(first)) {
                own.gradient += dz;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::optimizer::Optimizer;
    use crate::round::touched::{bits, descent, rows_of};
    use crate::shards::Threads;

    const OPTIMIZERS: [Optimizer; 3] =
        [Optimizer::Sgd, Optimizer::Adagrad { epsilon: 1e-8 }, Optimizer::Ftrl { beta: 1.0 }];

    /// The state after mini-batches of 6 rows and one of 1, on so many threads.
    fn by_steps(optimizer: Optimizer, threads: usize) -> State {
        let mut descent = descent(&[], optimizer, 1);
        descent.runner = Arc::new(Threads(threads));
        let (width, size) = (descent.learner.width(), descent.batch_size);
        let mut state = descent.initial_state();
        let mut steps = SparseSteps::new(&descent).unwrap();
        // (So few categories would not be worth other threads.)
        steps.threads = threads;
        steps.found = (0..size * width.columns).map(|_| AtomicU32::new(7)).collect();
        let mut gradient = vec![f32::NAN; state.parameters.len()];
        let rows = rows_of(20 * size + 1);
        for start in (0..rows.len()).step_by(size) {
            let batch = rows.batch().slice(start, rows.len().min(start + size), width);
            state.steps += 1;
            let step = StepSize { previous: Some(1.0), ..descent.step_size(state.steps) };
            assert!(steps.takes(&descent, &step, &batch));
            let sum = steps.step(&descent, &step, &batch, &mut state, &mut gradient);
            state.round.add(sum);
            if start % 5 == 0 {
                steps.put_back(&mut state);
            }
        }
        steps.put_back(&mut state);
        state
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for optimizer in OPTIMIZERS {
            let one = by_steps(optimizer, 1);
            assert!(one.is_finite() && one.parameters.iter().any(|w| *w != 0.0));
            for threads in [2, 3, 7] {
                let many = by_steps(optimizer, threads);
                assert_eq!(
                    bits(&one.parameters),
                    bits(&many.parameters),
                    "{optimizer:?} {threads}"
                );
                assert_eq!(bits(&one.moments), bits(&many.moments), "{optimizer:?} {threads}");
                assert_eq!(one.round, many.round, "{optimizer:?} {threads}");
            }
        }
    }

    /// Steps whose learning rate falls move weights that no row meets, if the optimizer is FTRL.
    #[test]
    fn other_steps_are_not_taken() {
        let descent = descent(&[], Optimizer::Ftrl { beta: 1.0 }, 1);
        let steps = SparseSteps::new(&descent).unwrap();
        let rows = rows_of(6);
        let size = StepSize { previous: Some(1.5), ..descent.step_size(2) };
        assert!(!steps.takes(&descent, &size, &rows.batch()));
        assert!(!steps.takes(&descent, &descent.step_size(2), &rows_of(60).batch()));
    }
}
