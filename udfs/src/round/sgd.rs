//! Mini-batch descent: how a replica learns from its rows in an iterative training.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion_common::{Result, internal_err};

use super::{Interrupt, Partial, Replica, Round};
use crate::batch::{Gather, MiniBatch, Rows, Width};
use crate::kernels::prefetch::fetch;
use crate::learner::{Learner, LossSum};
use crate::optimizer::invariant;
use crate::optimizer::{Optimizer, Schedule, StepSize};
use crate::parallel::ParallelFor;
use crate::state::State;
use crate::steps::{Reads, StepPlan, Stepper};

/// Number of rows of an epoch that have been learned, for progress displays.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
}

impl Progress {
    /// Rows learned so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Counts rows.
    pub(crate) fn add(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Resets the count.
    pub fn reset(&self) {
        self.rows.store(0, Ordering::Relaxed);
    }
}

/// The part of a descent that is the same in all rounds.
#[derive(Debug)]
pub struct Descent {
    /// The model.
    pub learner: Arc<dyn Learner>,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The factor on the learning rates by step.
    pub schedule: Schedule,
    /// Steps made before this training began, which the schedule does not count.
    pub first_step: u64,
    /// Learning rate before the schedule.
    pub learning_rate: f32,
    /// Learning rate of the intercept before the schedule.
    pub intercept_learning_rate: f32,
    /// L1 strength.
    pub l1: f32,
    /// L2 strength.
    pub l2: f32,
    /// Norm that the gradients of [`StepPlan::Layers`] are clipped to.
    pub clip_norm: Option<f64>,
    /// Seed of random draws.
    pub seed: u64,
    /// Rows of a mini-batch.
    pub batch_size: usize,
    /// Slices of a mini-batch whose gradients are summed in order; 1: not sliced.
    pub slices: usize,
    /// Runs the slices on threads.
    pub threads: Arc<dyn ParallelFor>,
    /// The first category of each column; empty if columns share categories.
    pub first_categories: Arc<[u32]>,
    /// Counts rows as they are learned.
    pub progress: Arc<Progress>,
    /// Stops the replicas.
    pub interrupt: Arc<Interrupt>,
}

impl Descent {
    /// Number of moment values of a state.
    pub fn moments(&self) -> usize {
        self.optimizer.moment_values(self.learner.layout().len())
    }

    /// The settings of step number `step` (from 1).
    pub fn step_size(&self, step: u64) -> StepSize {
        let own = step.saturating_sub(self.first_step).max(1);
        let factor = self.schedule.factor(own);
        let looks_back = own > 1 && self.optimizer.looks_back();
        let previous = looks_back.then(|| self.schedule.factor(own - 1) / factor);
        StepSize {
            learning_rate: self.learning_rate * factor,
            intercept_learning_rate: self.intercept_learning_rate * factor,
            previous,
            l1: self.l1,
            l2: self.l2,
            step,
        }
    }

    /// The state before the first step: initial parameters, moments that fit them.
    pub fn initial_state(&self) -> State {
        let mut parameters = vec![0.0; self.learner.layout().len()];
        self.learner.initialize(self.seed, &mut parameters);
        self.state_from(parameters)
    }

    /// A state with the given parameters and moments that fit them.
    pub fn state_from(&self, parameters: Vec<f32>) -> State {
        let mut moments = vec![0.0; self.moments()];
        self.optimizer.initialize_moments(
            self.learner.layout(),
            &self.step_size(1),
            &parameters,
            &mut moments,
        );
        State { parameters, moments, ..State::default() }
    }
}

/// One round of descent from a given state.
#[derive(Debug)]
pub struct SgdRound {
    descent: Arc<Descent>,
    start: Arc<State>,
}

impl SgdRound {
    /// A round that starts from `start`.
    ///
    /// # Errors
    /// When the state does not have the learner's dimensions.
    pub fn new(descent: Arc<Descent>, start: Arc<State>) -> Result<Self> {
        let parameters = descent.learner.layout().len();
        if start.parameters.len() != parameters || start.moments.len() != descent.moments() {
            return internal_err!(
                "a state of {} parameters and {} moments was given to a learner of {parameters} \
                 and {}",
                start.parameters.len(),
                start.moments.len(),
                descent.moments()
            );
        }
        Ok(Self { descent, start })
    }

    /// Reads the result of a round.
    pub fn state(&self, bytes: &[u8]) -> Result<State> {
        State::from_bytes(bytes, self.start.parameters.len(), self.start.moments.len())
    }
}

impl Round for SgdRound {
    fn kind(&self) -> &'static str {
        "sgd"
    }

    fn width(&self) -> Width {
        self.descent.learner.width()
    }

    fn replica(&self, index: u32) -> Result<Box<dyn Replica>> {
        Ok(Box::new(SgdReplica::new(Arc::clone(&self.descent), &self.start, index)))
    }

    /// Parameters and moments are averaged, weighted by rows, except for an optimizer that takes
    /// rows (see `invariant::merge`); rows and losses are added as deltas. For every optimizer, the
    /// step count is the ancestor's plus the largest number of steps of a replica: the averaged
    /// moments have decayed that often, which Adam's bias correction and the schedules depend on.
    fn merge(&self, mut partials: Vec<Partial>) -> Result<Vec<u8>> {
        let base = self.start.as_ref();
        let mut has_learned = Vec::with_capacity(partials.len());
        for partial in &partials {
            let (steps, rows) = State::counters(&partial.bytes)?;
            if steps < base.steps || rows < base.rows {
                return internal_err!("a replica's state is older than the round's ancestor");
            }
            has_learned.push(rows > base.rows);
        }
        let mut has_learned = has_learned.into_iter();
        partials.retain(|_| has_learned.next() == Some(true));
        if let [one] = partials.as_mut_slice() {
            // The average of one partial is itself, bit for bit.
            return Ok(std::mem::take(&mut one.bytes));
        }
        let states = partials.iter().map(|partial| self.state(&partial.bytes));
        let states = states.collect::<Result<Vec<_>>>()?;
        let round_rows: u64 = states.iter().map(|s| s.rows - base.rows).sum();
        let mut merged = State { round: LossSum::default(), ..base.clone() };
        if self.descent.optimizer.takes_rows() && !states.is_empty() {
            invariant::merge(self.descent.learner.layout(), base, &states, &mut merged);
        } else if !states.is_empty() {
            average(&mut merged.parameters, &states, base.rows, round_rows, |s| &s.parameters);
            average(&mut merged.moments, &states, base.rows, round_rows, |s| &s.moments);
        }
        for state in &states {
            merged.round.add(state.round);
            merged.steps = merged.steps.max(state.steps);
        }
        merged.rows = base.rows + round_rows;
        if !states.is_empty() {
            let size = self.descent.step_size(merged.steps.max(1));
            let layout = self.descent.learner.layout();
            self.descent.optimizer.after_merge(
                layout,
                &size,
                &mut merged.parameters,
                &merged.moments,
            );
        }
        Ok(merged.to_bytes())
    }

    fn replica_bytes(&self) -> usize {
        let (parameters, moments) = (self.start.parameters.len(), self.start.moments.len());
        let plan = StepPlan::choose(&self.descent, Reads::AtEnd);
        4 * (parameters + moments) + plan.bytes(&self.descent, parameters, moments)
    }
}

/// `out = sum_i (rows_i / rows) x_i`, in the order of the replicas.
fn average(
    out: &mut [f32],
    states: &[State],
    base_rows: u64,
    rows: u64,
    part: impl Fn(&State) -> &Vec<f32>,
) {
    out.fill(0.0);
    for state in states {
        let share = ((state.rows - base_rows) as f64 / rows as f64) as f32;
        for (o, x) in out.iter_mut().zip(part(state)) {
            *o += share * x;
        }
    }
}

/// Rows that wait until their mini-batch is full.
#[derive(Debug, Default)]
struct Pending {
    /// Number of rows.
    len: usize,
    /// The rows, then old contents: the buffer is allocated once.
    rows: Rows,
}

impl Pending {
    /// Takes copies of the rows of `from` that `indices` names.
    fn gather(&mut self, from: &MiniBatch<'_>, indices: &[u32], width: Width) {
        let len = self.len + indices.len();
        self.rows.reach(len, width);
        self.rows.as_mut().copy(self.len, from, indices, width);
        self.len = len;
    }

    /// Takes copies of contiguous rows.
    fn push(&mut self, from: &MiniBatch<'_>, width: Width) {
        let len = self.len + from.rows;
        self.rows.reach(len, width);
        self.rows.as_mut().put(self.len, from, width);
        self.len = len;
    }

    /// The rows.
    fn batch(&self, width: Width) -> MiniBatch<'_> {
        self.rows.batch().slice(0, self.len, width)
    }
}

/// Bytes of a chunk that fits the L2 cache beside another chunk.
const CACHED_BYTES: usize = 1 << 19;

/// One copy of the state, which learns from rows as they arrive.
#[derive(Debug)]
struct SgdReplica {
    stepper: Stepper,
    pending: Pending,
}

impl SgdReplica {
    fn new(descent: Arc<Descent>, start: &State, index: u32) -> Self {
        let state = State { round: LossSum::default(), ..start.clone() };
        let stepper = Stepper::new(descent, state, index, Reads::AtEnd);
        Self { stepper, pending: Pending::default() }
    }

    /// Learns whole mini-batches; other rows wait.
    fn learn(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        let descent = self.stepper.descent();
        let (size, width) = (descent.batch_size, descent.learner.width());
        let mut start = 0;
        if self.pending.len > 0 {
            start = rows.rows.min(size - self.pending.len);
            self.pending.push(&rows.slice(0, start, width), width);
            if self.pending.len == size {
                self.flush()?;
            }
        }
        while rows.rows - start >= size {
            let mut batch = rows.slice(start, start + size, width);
            batch.first_row = 0;
            self.stepper.step_gathered(&batch.into())?;
            start += size;
        }
        if start < rows.rows {
            self.pending.push(&rows.slice(start, rows.rows, width), width);
        }
        Ok(())
    }

    /// The same with rows at random positions of a chunk, which are gathered for their step. The
    /// next chunk is prefetched meanwhile, row by row.
    fn learn_gathered(
        &mut self,
        chunk: &MiniBatch<'_>,
        indices: &[u32],
        next: Option<&MiniBatch<'_>>,
    ) -> Result<()> {
        let descent = self.stepper.descent();
        let (size, width) = (descent.batch_size, descent.learner.width());
        let next = next.copied().unwrap_or_default();
        // Of a chunk that exceeds the L2 cache, prefetched values would be evicted before they are
        // read.
        let dense = if size_of_val(next.dense) > CACHED_BYTES { &[] } else { next.dense };
        let mut done = 0;
        while done < indices.len() {
            let n = (indices.len() - done).min(size - self.pending.len);
            // The part of the next chunk that is as long as the rows read now.
            let part = |rows: usize| dense.len().min(rows * width.dense);
            let ahead = &dense[part(done)..part(done + n)];
            for few in [next.label, next.weight] {
                let end = few.len().min(done + n);
                fetch(&few[done.min(end)..end]);
            }
            if self.pending.len + n < size {
                self.pending.gather(chunk, &indices[done..done + n], width);
            } else {
                let (own, after) = indices[done..].split_at(n);
                let gather = Gather {
                    contiguous: self.pending.batch(width),
                    next: after.get(..size).unwrap_or_default(),
                    ..Gather::of(*chunk, own)
                };
                self.stepper.step_gathered(&gather.prefetching(ahead))?;
                self.pending.len = 0;
            }
            done += n;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.len > 0 {
            let width = self.stepper.descent().learner.width();
            self.stepper.step_gathered(&self.pending.batch(width).into())?;
            self.pending.len = 0;
        }
        Ok(())
    }

    /// Calls `learn` inside the thread pool, if steps use several threads.
    fn work(&mut self, mut learn: impl FnMut(&mut Self) -> Result<()> + Send) -> Result<()> {
        let threads = self.stepper.threads();
        if threads == 1 {
            return learn(self);
        }
        let pool = Arc::clone(&self.stepper.descent().threads);
        let mut result = Ok(());
        pool.enter(threads, &mut || result = learn(self));
        result
    }
}

impl Replica for SgdReplica {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        self.work(|own| own.learn(rows))
    }

    fn update_gathered(
        &mut self,
        chunk: &MiniBatch<'_>,
        indices: &[u32],
        next: Option<&MiniBatch<'_>>,
    ) -> Result<()> {
        self.work(|own| own.learn_gathered(chunk, indices, next))
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        self.work(Self::flush)?;
        self.stepper.finish();
        Ok(self.stepper.state().to_bytes())
    }
}
