//! Steps of a linear model with one output that visit only the categories of a mini-batch, the
//! numbers of each side by side.
//!
//! ```text
//! parameters  .. w0 w1 w2 ..
//! gradient    .. g0 g1 g2 ..      ◄──────►      w0 g0 m0 v0 │ w1 g1 m1 v1 │ ..
//! moments     .. m0 m1 m2 .. v0 v1 v2 ..
//! ```
//! Of a million categories most are in no cache. A step waits once for each that it meets, where it
//! would wait for a line of every buffer. Each thread owns some of the columns, and of their
//! categories the numbers, whose lines stay in its cache: it brings their codes together, looks
//! their weights up and steps them, and then looks up those of the next mini-batch, which it has
//! asked for meanwhile. Every sum has one order, that of the columns or that of the rows, so that
//! the bits are those of one thread and of the buffers.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sgd::Descent;
use super::stepper::is_wide;
use crate::batch::{Rows, Scattered, Width};
use crate::kernels::linear;
use crate::kernels::prefetch::{Ahead, fetch};
use crate::learner::{Loss, LossSum, Table};
use crate::optimizer::{Numbers, Optimizer, StepSize};
use crate::state::State;

/// Categories of a mini-batch for which another thread is worth the microseconds that it takes to
/// call it.
const CODES_PER_THREAD: usize = 1024;

/// Rows that are brought together at a time, while the next ones are asked for.
const BLOCK: usize = 16;

/// The working memory of such steps.
#[derive(Debug)]
pub(super) struct SparseSteps {
    loss: Loss,
    table: Table,
    /// Of each thread.
    shares: Vec<Mutex<Share>>,
    /// Whether the numbers are there, and not in the state.
    is_here: bool,
    /// The mini-batch that has been looked up.
    found: Option<Key>,
    /// The mini-batch but for its categories.
    beside: Rows,
    /// `[batch size]`: raw outputs, then the derivatives of the loss by them.
    z: Vec<f32>,
}

impl SparseSteps {
    /// For a descent whose steps are of this kind.
    pub(super) fn new(descent: &Descent) -> Option<Self> {
        let codes = fits(descent)?;
        let threads = descent.runner.threads().min(codes / CODES_PER_THREAD).max(1);
        Self::on(threads, descent)
    }

    /// The same on so many threads.
    fn on(threads: usize, descent: &Descent) -> Option<Self> {
        let learner = descent.learner.as_ref();
        Some(Self {
            loss: learner.linear_loss()?,
            table: learner.table(),
            shares: shares(threads, descent).map(Mutex::new).collect(),
            is_here: false,
            found: None,
            beside: Rows::default(),
            z: vec![0.0; descent.batch_size],
        })
    }

    /// Bytes that it holds at most for a descent; 0 of one whose steps are not of this kind.
    pub(super) fn bytes(descent: &Descent) -> usize {
        let Width { dense, categories, .. } = descent.learner.width();
        fits(descent).map_or(0, |codes| {
            let of_codes = codes * (2 * size_of::<u32>() + size_of::<f32>());
            let beside = descent.batch_size * (dense + 3) * size_of::<f32>();
            categories * size_of::<Numbers>() + of_codes + beside
        })
    }

    /// Threads that a step keeps busy.
    pub(super) fn threads(&self) -> usize {
        self.shares.len()
    }

    /// Whether a step on so many rows is of this kind.
    pub(super) fn takes(&self, descent: &Descent, size: &StepSize, rows: usize) -> bool {
        rows > 0
            && is_wide(&self.table, rows * descent.learner.width().columns)
            && descent.optimizer.is_local(size)
    }

    /// One step. The state is up to date after [`SparseSteps::put_back`]; `gradient` `[parameters]`
    /// is written but for the table.
    pub(super) fn step(
        &mut self,
        descent: &Descent,
        size: &StepSize,
        rows: &Scattered<'_>,
        state: &mut State,
        gradient: &mut [f32],
    ) -> LossSum {
        self.take_from(state);
        let width = descent.learner.width();
        let beside = Width { columns: 0, ..width };
        let (d, n, after) = (width.dense, rows.rows(), self.table.range().end);
        let (optimizer, runner) = (&descent.optimizer, descent.runner.as_ref());
        let is_found = self.found.take().is_some_and(|found| Some(found) == Key::of(rows));
        if !is_found {
            runner.run(self.shares.len(), &|i| {
                let share = &mut *lock(&self.shares[i]);
                share.bring(rows, width.columns);
                share.look_up();
            });
        }
        rows.bring(&(0..n), beside, &mut self.beside);
        let batch = self.beside.batch().slice(0, n, beside);
        let bias = state.parameters.get(after).copied().unwrap_or(0.0);
        let z = &mut self.z[..n];
        linear::scores(batch.dense, &state.parameters[..d], bias, z, Ahead::NONE);
        for share in &mut self.shares {
            let share = share.get_mut().unwrap_or_else(PoisonError::into_inner);
            for found in share.found.chunks_exact(n) {
                z.iter_mut().zip(found).for_each(|(z, found)| *z += found);
            }
        }
        let scale = 1.0 / n as f32;
        let sum = self.loss.differentiate(z, 1, batch.label, batch.weight, scale);
        linear::weight_gradient(batch.dense, z, &mut gradient[..d], Ahead::NONE);
        if let Some(of_bias) = gradient.get_mut(after) {
            *of_bias = linear::bias_gradient(z);
        }
        let State { parameters, moments, .. } = state;
        let values = (parameters.as_mut_slice(), &*gradient, moments.as_mut_slice());
        optimizer.step_beside(descent.learner.layout(), size, &self.table, values);

        let next = Scattered { chunk: rows.chunk, order: rows.next, ..Scattered::default() };
        let (dz, found) = (&*z, Key::of(&next));
        runner.run(self.shares.len(), &|i| {
            let share = &mut *lock(&self.shares[i]);
            share.bring(&next, width.columns);
            share.step(optimizer, size, dz);
        });
        self.found = found;
        sum
    }

    /// Takes the table's numbers out of the state.
    fn take_from(&mut self, state: &State) {
        if std::mem::replace(&mut self.is_here, true) {
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

    /// Puts them back.
    pub(super) fn put_back(&mut self, state: &mut State) {
        self.found = None;
        if !std::mem::take(&mut self.is_here) {
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

/// Which mini-batch of a chunk it is: where the codes of the chunk and the order of its rows lie,
/// and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(usize, usize, usize);

impl Key {
    /// None where rows are together: their place has others in the next step.
    fn of(rows: &Scattered<'_>) -> Option<Self> {
        let Scattered { together, chunk, order, .. } = rows;
        (together.rows == 0 && !order.is_empty())
            .then(|| Self(chunk.codes.as_ptr().addr(), order.as_ptr().addr(), order.len()))
    }
}

/// What a thread owns.
#[derive(Debug, Default)]
struct Share {
    columns: Range<usize>,
    /// The categories of these columns.
    categories: Range<usize>,
    /// Of each category, while they are here.
    numbers: Vec<Numbers>,
    /// `[own columns, rows]` of the mini-batch, from the first own category on.
    codes: Vec<u32>,
    /// The same of the mini-batch that is looked up next.
    next: Vec<u32>,
    /// `[own columns, rows]`: the weights of the mini-batch's categories, 0 of what is none.
    found: Vec<f32>,
}

impl Share {
    /// Brings the codes of the own columns together, to be looked up next.
    fn bring(&mut self, rows: &Scattered<'_>, columns: usize) {
        let (own, n) = (self.columns.clone(), rows.rows());
        self.next.resize(n * own.len(), 0);
        let first = self.categories.start as u32;
        let row = |row: &u32| &rows.chunk.codes[*row as usize * columns..][own.clone()];
        let scattered = rows.order.iter().enumerate().map(|(i, at)| {
            if let Some(later) = rows.order.get(i + BLOCK) {
                fetch(row(later));
            }
            row(at)
        });
        let together = rows.together.codes.chunks_exact(columns).map(|codes| &codes[own.clone()]);
        let mut all = together.chain(scattered);
        for start in (0..n).step_by(BLOCK) {
            let mut block: [&[u32]; BLOCK] = [&[]; BLOCK];
            let rows = block.iter_mut().zip(all.by_ref()).map(|(to, row)| *to = row).count();
            for j in 0..own.len() {
                let to = &mut self.next[j * n + start..][..rows];
                for (to, row) in to.iter_mut().zip(&block) {
                    // (What is no category is behind the last one.)
                    *to = row[j].wrapping_sub(first);
                }
            }
        }
    }

    /// Looks the weights of what was brought up.
    fn look_up(&mut self) {
        std::mem::swap(&mut self.codes, &mut self.next);
        self.found.resize(self.codes.len(), 0.0);
        look_up(&self.numbers, &self.codes, &mut self.found);
    }

    /// Sums the gradients, `dz` `[rows]`, of the own categories up, steps them, and looks up what
    /// was brought. (Column by column: what a column has meets in the first cache.)
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

/// Of each category the weight, 0 of what is none.
fn look_up(numbers: &[Numbers], codes: &[u32], found: &mut [f32]) {
    for (found, code) in found.iter_mut().zip(codes) {
        *found = numbers.get(*code as usize).map_or(0.0, |own| own.weight);
    }
}

fn lock(share: &Mutex<Share>) -> MutexGuard<'_, Share> {
    share.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shares of so many threads, which have as many columns each as can be.
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
        && descent.first_categories.len() == learner.width().columns
        && is_wide(&table, codes);
    fits.then_some(codes)
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

    /// The state after mini-batches of 6 rows and one of 1, on so many threads. What is said to
    /// come next is often so, if it is said.
    fn by_steps(optimizer: Optimizer, threads: usize, foresight: bool) -> State {
        let mut descent = descent(&[], optimizer, 1);
        descent.runner = Arc::new(Threads(threads));
        let (width, size) = (descent.learner.width(), descent.batch_size);
        let mut state = descent.initial_state();
        // (So few categories would not be worth other threads.)
        let mut steps = SparseSteps::on(threads, &descent).unwrap();
        let mut gradient = vec![f32::NAN; state.parameters.len()];
        let rows = rows_of(20 * size + 1);
        let order: Vec<u32> = (0..rows.len() as u32).collect();
        for start in (0..rows.len()).step_by(size) {
            let batch = rows.batch().slice(start, rows.len().min(start + size), width);
            // Of some mini-batches the first rows are together, and the others lie in their places:
            // they are not what was said to come next. Nor is what comes after one whose rows do.
            let kind = start / size % 5;
            let together = [batch.rows, 0, 0, 0, 2][kind].min(batch.rows);
            let (own, after) = order[start + together..].split_at(batch.rows - together);
            let next = match (foresight, kind) {
                (false, _) => None,
                (true, 2) => order.get(..size),
                (true, _) => after.get(..size),
            };
            let scattered = Scattered {
                together: batch.slice(0, together, width),
                chunk: rows.batch(),
                order: own,
                next: next.unwrap_or_default(),
                ..Scattered::default()
            };
            state.steps += 1;
            let step = StepSize { previous: Some(1.0), ..descent.step_size(state.steps) };
            assert!(steps.takes(&descent, &step, batch.rows));
            let sum = steps.step(&descent, &step, &scattered, &mut state, &mut gradient);
            state.round.add(sum);
            assert_eq!(steps.found.is_some(), next.is_some(), "what comes next is looked up");
            if start % 5 == 0 {
                steps.put_back(&mut state);
            }
        }
        steps.put_back(&mut state);
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

    /// Threads own columns, and only where none is known to have categories of another are steps of
    /// this kind.
    #[test]
    fn shares_are_of_whole_columns() {
        let mut descent = descent(&[], Optimizer::Sgd, 1);
        let cut = |threads, descent: &_| -> Vec<_> {
            shares(threads, descent).map(|share| (share.columns, share.categories)).collect()
        };
        assert_eq!(cut(2, &descent), [(0..1, 0..60), (1..2, 60..120)]);
        assert_eq!(cut(7, &descent), cut(2, &descent));
        assert_eq!(cut(1, &descent), [(0..2, 0..120)]);
        assert!(SparseSteps::new(&descent).is_some());
        descent.first_categories = Arc::from([]);
        assert!(SparseSteps::new(&descent).is_none());
    }

    /// Steps whose learning rate falls move weights that no row meets, if the optimizer is FTRL.
    #[test]
    fn other_steps_are_not_taken() {
        let descent = descent(&[], Optimizer::Ftrl { beta: 1.0 }, 1);
        let steps = SparseSteps::new(&descent).unwrap();
        let size = StepSize { previous: Some(1.5), ..descent.step_size(2) };
        assert!(!steps.takes(&descent, &size, 6));
        assert!(!steps.takes(&descent, &descent.step_size(2), 60));
    }
}
