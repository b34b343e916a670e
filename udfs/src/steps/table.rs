//! Sparse updates of a linear model with one output: steps visit only the categories met by the
//! mini-batch, and the numbers of a category are stored side by side.
//!
//! ```text
//! parameters  .. w0 w1 w2 ..
//! gradient    .. g0 g1 g2 ..      ◄──────►      w0 g0 m0 v0 │ w1 g1 m1 v1 │ ..
//! moments     .. m0 m1 m2 .. v0 v1 v2 ..
//! ```
//! Of a million categories most are in no cache. A step waits for one cache line per category, not
//! for one in every buffer. Each thread owns some of the columns, and the numbers of their
//! categories, whose lines stay in its cache: it gathers their codes, looks up their weights,
//! updates them, and then looks up the weights of the next mini-batch, which it has prefetched
//! meanwhile. Every sum has one order, that of the columns or that of the rows, so that the bits
//! are those of one thread and of the flat buffers.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion_common::{Result, internal_err};

use super::gradient::{GradientSteps, Updates};
use super::{Step, Steps, is_lazy, is_wide};
use crate::batch::{Gather, Rows, Width};
use crate::kernels::linear;
use crate::kernels::prefetch::fetch;
use crate::learner::{Loss, Table};
use crate::optimizer::{Numbers, Optimizer, StepSize};
use crate::round::Descent;
use crate::state::State;

/// Categories of a mini-batch that justify another thread, which takes microseconds to call.
const CODES_PER_THREAD: usize = 1024;

/// Rows whose codes are gathered at a time, while the next ones are prefetched.
const BLOCK: usize = 16;

/// The working memory of such steps.
#[derive(Debug)]
pub(super) struct TableSteps {
    loss: Loss,
    packed: PackedTable,
    /// For other steps: those on a few rows, or at a learning rate that changes all weights.
    others: GradientSteps,
    /// The mini-batch without its categories.
    gathered: Rows,
    /// `[batch size]`: raw outputs, then the derivatives of the loss by them.
    z: Vec<f32>,
}

/// The numbers of a table of categories; those of a category are side by side.
#[derive(Debug)]
struct PackedTable {
    table: Table,
    /// The share of each thread.
    shares: Vec<Mutex<Share>>,
    /// Where the numbers are up to date.
    home: Home,
    /// The mini-batch whose weights have been looked up.
    found: Option<Key>,
}

/// Where the numbers of a table are up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// In the flat buffers of the state.
    State,
    /// In the packed table.
    Packed,
}

/// Bytes of such steps at most; 0 for a descent whose steps are of another kind.
pub(super) fn bytes(descent: &Descent) -> usize {
    let Width { dense, categories, .. } = descent.learner.width();
    fits(descent).map_or(0, |codes| {
        let of_codes = codes * (2 * size_of::<u32>() + size_of::<f32>());
        let gathered = descent.batch_size * (dense + 3) * size_of::<f32>();
        categories * size_of::<Numbers>() + of_codes + gathered
    })
}

impl TableSteps {
    /// For a descent whose steps are of this kind.
    pub(super) fn new(descent: &Descent) -> Option<Self> {
        let codes = fits(descent)?;
        let threads = descent.threads.threads().min(codes / CODES_PER_THREAD).max(1);
        Self::on(threads, descent)
    }

    /// The same, on exactly `threads` threads.
    fn on(threads: usize, descent: &Descent) -> Option<Self> {
        let learner = descent.learner.as_ref();
        Some(Self {
            loss: learner.linear_loss()?,
            packed: PackedTable {
                table: learner.table(),
                shares: shares(threads, descent).map(Mutex::new).collect(),
                home: Home::State,
                found: None,
            },
            others: GradientSteps::new(descent, Updates::Sparse),
            gathered: Rows::default(),
            z: vec![0.0; descent.batch_size],
        })
    }

    /// Whether a step on `rows` rows is of this kind.
    fn takes(&self, descent: &Descent, size: &StepSize, rows: usize) -> bool {
        rows > 0
            && is_wide(&self.packed.table, rows * descent.learner.width().columns)
            && descent.optimizer.is_sparse(size)
    }
}

impl Steps for TableSteps {
    fn step(&mut self, step: &Step<'_>, rows: &Gather<'_>, state: &mut State) -> Result<()> {
        let Step { descent, size, .. } = step;
        if !self.takes(descent, size, rows.rows()) {
            self.unpack(state);
            return self.others.step(step, rows, state);
        }
        let Self { loss, packed, others, gathered, z } = self;
        let Some(gradient) = others.buffer() else {
            return internal_err!("a step without a gradient");
        };
        packed.pack(state);
        let width = descent.learner.width();
        let without_codes = Width { columns: 0, ..width };
        let (d, n, after) = (width.dense, rows.rows(), packed.table.range().end);
        let (optimizer, threads) = (&descent.optimizer, descent.threads.as_ref());
        let is_found = packed.found.take().is_some_and(|found| Some(found) == Key::of(rows));
        if !is_found {
            threads.run(packed.shares.len(), &|i| {
                let share = &mut *lock(&packed.shares[i]);
                share.gather(rows, width.columns);
                share.look_up();
            });
        }
        let batch = rows.all(without_codes, gathered);
        let bias = state.parameters.get(after).copied().unwrap_or(0.0);
        let z = &mut z[..n];
        linear::scores(batch.dense, &state.parameters[..d], bias, z);
        for share in &mut packed.shares {
            let share = share.get_mut().unwrap_or_else(PoisonError::into_inner);
            for found in share.found.chunks_exact(n) {
                z.iter_mut().zip(found).for_each(|(z, found)| *z += found);
            }
        }
        let scale = 1.0 / n as f32;
        let sum = loss.differentiate(z, 1, batch.label, batch.weight, scale);
        linear::weight_gradient(batch.dense, z, &mut gradient[..d]);
        if let Some(of_bias) = gradient.get_mut(after) {
            *of_bias = linear::bias_gradient(z);
        }
        let State { parameters, moments, .. } = state;
        let values = (parameters.as_mut_slice(), &*gradient, moments.as_mut_slice());
        optimizer.step_outside(descent.learner.layout(), size, &packed.table, values);

        let next = rows.following();
        let (dz, found) = (&*z, Key::of(&next));
        threads.run(packed.shares.len(), &|i| {
            let share = &mut *lock(&packed.shares[i]);
            share.gather(&next, width.columns);
            share.step(optimizer, size, dz);
        });
        packed.found = found;
        state.round.add(sum);
        Ok(())
    }

    fn unpack(&mut self, state: &mut State) {
        self.packed.unpack(state);
    }

    fn threads(&self) -> usize {
        self.packed.shares.len()
    }
}

impl PackedTable {
    /// Packs the table's numbers from the state.
    fn pack(&mut self, state: &State) {
        if std::mem::replace(&mut self.home, Home::Packed) == Home::Packed {
            return;
        }
        for share in &mut self.shares {
            let Share { categories, numbers, .. } =
                share.get_mut().unwrap_or_else(PoisonError::into_inner);
            let range = self.table.offset + categories.start..self.table.offset + categories.end;
            let weights = &state.parameters[range.clone()];
            numbers.clear();
            numbers.extend(weights.iter().map(|w| Numbers { weight: *w, ..Numbers::default() }));
            let moments = state.moments.chunks_exact(state.parameters.len());
            for (which, moments) in moments.enumerate() {
                for (own, moment) in numbers.iter_mut().zip(&moments[range.clone()]) {
                    own.moments[which] = *moment;
                }
            }
        }
    }

    /// Unpacks them into the state.
    fn unpack(&mut self, state: &mut State) {
        self.found = None;
        if std::mem::replace(&mut self.home, Home::State) == Home::State {
            return;
        }
        let n = state.parameters.len();
        for share in &mut self.shares {
            let Share { categories, numbers, .. } =
                share.get_mut().unwrap_or_else(PoisonError::into_inner);
            let range = self.table.offset + categories.start..self.table.offset + categories.end;
            for (weight, own) in state.parameters[range.clone()].iter_mut().zip(&*numbers) {
                *weight = own.weight;
            }
            for (which, moments) in state.moments.chunks_exact_mut(n).enumerate() {
                for (moment, own) in moments[range.clone()].iter_mut().zip(&*numbers) {
                    *moment = own.moments[which];
                }
            }
        }
    }
}

/// Identifies a mini-batch of a chunk: the addresses of the chunk's codes and of the row indices,
/// and the number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(usize, usize, usize);

impl Key {
    /// None if rows are contiguous: their buffer has other rows in the next step.
    fn of(rows: &Gather<'_>) -> Option<Self> {
        let Gather { contiguous, chunk, indices, .. } = rows;
        (contiguous.rows == 0 && !indices.is_empty())
            .then(|| Self(chunk.codes.as_ptr().addr(), indices.as_ptr().addr(), indices.len()))
    }
}

/// The part of the table that a thread owns.
#[derive(Debug, Default)]
struct Share {
    columns: Range<usize>,
    /// The categories of these columns.
    categories: Range<usize>,
    /// The numbers of each category, while they are packed.
    numbers: Vec<Numbers>,
    /// `[own columns, rows]` of the mini-batch, from the first own category on.
    codes: Vec<u32>,
    /// The same for the mini-batch that is looked up next.
    next: Vec<u32>,
    /// `[own columns, rows]`: the weights of the mini-batch's categories, 0 for an unknown
    /// category.
    found: Vec<f32>,
}

impl Share {
    /// Gathers the codes of the own columns into `next`.
    fn gather(&mut self, rows: &Gather<'_>, columns: usize) {
        let (own, n) = (self.columns.clone(), rows.rows());
        self.next.resize(n * own.len(), 0);
        let first = self.categories.start as u32;
        let row = |row: &u32| &rows.chunk.codes[*row as usize * columns..][own.clone()];
        let gathered = rows.indices.iter().enumerate().map(|(i, at)| {
            if let Some(later) = rows.indices.get(i + BLOCK) {
                fetch(row(later));
            }
            row(at)
        });
        let contiguous =
            rows.contiguous.codes.chunks_exact(columns).map(|codes| &codes[own.clone()]);
        let mut all = contiguous.chain(gathered);
        for start in (0..n).step_by(BLOCK) {
            let mut block: [&[u32]; BLOCK] = [&[]; BLOCK];
            let rows = block.iter_mut().zip(all.by_ref()).map(|(to, row)| *to = row).count();
            for j in 0..own.len() {
                let to = &mut self.next[j * n + start..][..rows];
                for (to, row) in to.iter_mut().zip(&block) {
                    // (The code of an unknown category is beyond the last one.)
                    *to = row[j].wrapping_sub(first);
                }
            }
        }
    }

    /// Looks up the weights of the gathered codes.
    fn look_up(&mut self) {
        std::mem::swap(&mut self.codes, &mut self.next);
        self.found.resize(self.codes.len(), 0.0);
        look_up(&self.numbers, &self.codes, &mut self.found);
    }

    /// Sums the gradients, `dz` `[rows]`, of the own categories, updates their weights, and looks
    /// up the weights of the gathered codes. (Column by column: the numbers of a column stay in the
    /// L1 cache.)
    fn step(&mut self, optimizer: &Optimizer, size: &StepSize, dz: &[f32]) {
        let n = self.next.len() / self.columns.len().max(1);
        self.found.resize(self.next.len(), 0.0);
        for (j, codes) in self.codes.chunks_exact(dz.len()).enumerate() {
            for (code, dz) in codes.iter().zip(dz) {
                if let Some(own) = self.numbers.get_mut(*code as usize) {
                    own.gradient += dz;
                }
            }
            let next = &self.next[j * n..(j + 1) * n];
            optimizer.step_numbers(size, &mut self.numbers, (codes, next));
            look_up(&self.numbers, next, &mut self.found[j * n..(j + 1) * n]);
        }
        std::mem::swap(&mut self.codes, &mut self.next);
    }
}

/// The weight of each category, 0 for an unknown one.
fn look_up(numbers: &[Numbers], codes: &[u32], found: &mut [f32]) {
    for (found, code) in found.iter_mut().zip(codes) {
        *found = numbers.get(*code as usize).map_or(0.0, |own| own.weight);
    }
}

fn lock(share: &Mutex<Share>) -> MutexGuard<'_, Share> {
    share.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shares of `threads` threads, with numbers of columns that are as equal as possible.
fn shares(threads: usize, descent: &Descent) -> impl Iterator<Item = Share> {
    let Width { columns, categories, .. } = descent.learner.width();
    let (first, threads) = (Arc::clone(&descent.first_categories), threads.min(columns));
    let column = move |i: usize| columns * i / threads;
    let category = move |i: usize| match i {
        0 => 0,
        i => first.get(column(i)).map_or(categories, |first| *first as usize),
    };
    (0..threads).map(move |i| Share {
        columns: column(i)..column(i + 1),
        categories: category(i)..category(i + 1),
        ..Share::default()
    })
}

/// Number of codes of a mini-batch; None for a descent whose steps are of another kind.
pub(super) fn fits(descent: &Descent) -> Option<usize> {
    let learner = descent.learner.as_ref();
    let codes = descent.batch_size.saturating_mul(learner.width().columns);
    let table = learner.table();
    let fits = learner.linear_loss().is_some()
        && table.units == 1
        && descent.optimizer.may_be_sparse()
        && descent.slices <= 1
        && !is_lazy(descent)
        && descent.batch_size > 1
        && descent.first_categories.len() == learner.width().columns
        && is_wide(&table, codes);
    fits.then_some(codes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::learner::StepKey;
    use crate::optimizer::Optimizer;
    use crate::parallel::Threads;
    use crate::steps::sparse_tests::{bits, descent, rows_of};

    const OPTIMIZERS: [Optimizer; 3] =
        [Optimizer::Sgd, Optimizer::Adagrad { epsilon: 1e-8 }, Optimizer::Ftrl { beta: 1.0 }];

    /// The state after mini-batches of 6 rows and one of 1, on `threads` threads. With `foresight`,
    /// the next mini-batch is announced, mostly correctly.
    fn by_steps(optimizer: Optimizer, threads: usize, foresight: bool) -> State {
        let mut descent = descent(&[], optimizer, 1);
        descent.threads = Arc::new(Threads(threads));
        let (width, size) = (descent.learner.width(), descent.batch_size);
        let mut state = descent.initial_state();
        // (So few categories would not justify other threads.)
        let mut steps = TableSteps::on(threads, &descent).unwrap();
        let rows = rows_of(20 * size + 1);
        let order: Vec<u32> = (0..rows.len() as u32).collect();
        for start in (0..rows.len()).step_by(size) {
            let batch = rows.batch().slice(start, rows.len().min(start + size), width);
            // In some mini-batches the first rows are contiguous and the others at random positions
            // of the chunk: these are not the announced mini-batches. Neither is one that follows a
            // mini-batch of contiguous rows.
            let kind = start / size % 5;
            let contiguous = [batch.rows, 0, 0, 0, 2][kind].min(batch.rows);
            let (own, after) = order[start + contiguous..].split_at(batch.rows - contiguous);
            let next = match (foresight, kind) {
                (false, _) => None,
                (true, 2) => order.get(..size),
                (true, _) => after.get(..size),
            };
            let gather = Gather {
                contiguous: batch.slice(0, contiguous, width),
                chunk: rows.batch(),
                indices: own,
                next: next.unwrap_or_default(),
                ..Gather::default()
            };
            state.steps += 1;
            let size = StepSize { previous: Some(1.0), ..descent.step_size(state.steps) };
            assert!(steps.takes(&descent, &size, batch.rows));
            let key = StepKey { seed: 0, step: state.steps };
            let step = Step { descent: &descent, size, key };
            steps.step(&step, &gather, &mut state).unwrap();
            assert_eq!(
                steps.packed.found.is_some(),
                next.is_some(),
                "what comes next is looked up"
            );
            if start % 5 == 0 {
                steps.unpack(&mut state);
            }
        }
        steps.unpack(&mut state);
        state
    }

    #[test]
    fn neither_threads_nor_foresight_change_a_bit() {
        for optimizer in OPTIMIZERS {
            let one = by_steps(optimizer, 1, false);
            assert!(one.is_finite() && one.parameters.iter().any(|w| *w != 0.0));
            for threads in [1, 2, 3] {
                let many = by_steps(optimizer, threads, true);
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

    /// Threads own whole columns. Steps are of this kind only if no two columns share categories.
    #[test]
    fn shares_are_of_whole_columns() {
        let mut descent = descent(&[], Optimizer::Sgd, 1);
        let cut = |threads, descent: &_| -> Vec<_> {
            shares(threads, descent).map(|share| (share.columns, share.categories)).collect()
        };
        assert_eq!(cut(2, &descent), [(0..1, 0..60), (1..2, 60..120)]);
        assert_eq!(cut(7, &descent), cut(2, &descent));
        assert_eq!(cut(1, &descent), [(0..2, 0..120)]);
        assert!(TableSteps::new(&descent).is_some());
        descent.first_categories = Arc::from([]);
        assert!(TableSteps::new(&descent).is_none());
    }

    /// A falling learning rate changes weights that no row meets, if the optimizer is FTRL.
    #[test]
    fn other_steps_are_not_taken() {
        let descent = descent(&[], Optimizer::Ftrl { beta: 1.0 }, 1);
        let steps = TableSteps::new(&descent).unwrap();
        let size = StepSize { previous: Some(1.5), ..descent.step_size(2) };
        assert!(!steps.takes(&descent, &size, 6));
        assert!(!steps.takes(&descent, &descent.step_size(2), 60));
    }
}
