//! A step of a network with hidden layers in two passes: over the rows, then over the weights.
//!
//! ```text
//! rows     a share of the mini-batch each:  x ─► a0 ─► a1 ─► ... ─► loss ─► dz_n ─► ... ─► dz0
//! weights  a part of the parameters each:   gradient = a^T dz over all shares, step, panels
//! ```
//! A gradient is never written as a whole: each part of it is in the cache when the optimizer takes
//! it, and nothing is summed afterwards. Weights and their moments lie in panels while steps go on, as
//! products want them, and are put back into the state afterwards. Sums over rows run in the order of the rows, over units in the
//! order of the units ([`tiles`]), so that shares and parts may be as many as there are threads: the
//! bits are the same.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::network::Network;
use super::{Learner, LossSum, StepKey};
use crate::batch::{MiniBatch, Rows, Scattered, Width};
use crate::kernels::math::{axpy, vectorized};
use crate::kernels::panels::{PANEL, Panels};
use crate::optimizer::{Optimizer, StepSize};
use crate::shards::Shards;
use crate::state::State;

mod parts;
mod rows;
mod scoring;
#[cfg(test)]
mod tests;

use parts::{Block, Kind, Part};
use rows::RowPass;
pub use scoring::{Scoring, ScoringScratch};

/// Rows whose losses are summed before they are added to others: the order of these sums is seen.
const LOSS_ROWS: usize = 32;
/// Floating-point operations for which another thread is worth waking: some microseconds.
const FLOPS_PER_THREAD: u64 = 1_000_000;
/// The working memory of steps of a network.
#[derive(Debug)]
pub struct Passes {
    network: Network,
    shares: Vec<Share>,
    parts: Vec<Part>,
    /// Parts, the longest first.
    order: Vec<usize>,
    /// A gradient of a part for each thread.
    gradients: Vec<Mutex<Vec<f32>>>,
}

/// Some rows of a mini-batch on their way through the layers.
#[derive(Debug, Default)]
struct Share {
    /// Which rows of the mini-batch.
    rows: Range<usize>,
    /// They, where they had to be brought together.
    own: Rows,
    /// Their dense numbers in panels, if these are more than a panel has columns: rows that lie far from each
    /// other take long to read by columns. Else there is nothing.
    x: Panels,
    hidden: Vec<Hidden>,
    /// `[rows, outputs]`: raw outputs, then the derivatives of the loss by them.
    z: Vec<f32>,
    /// The latter in panels, unless it is one output.
    dz: Panels,
    sums: Vec<LossSum>,
}

/// What a hidden layer keeps of rows, each `[rows, units]`.
#[derive(Debug)]
struct Hidden {
    /// Before the activation, where the derivative needs it.
    z: Option<Panels>,
    a: Panels,
    /// Activations before dropout, made again from `z`.
    undropped: Option<Panels>,
    dz: Panels,
}

/// What a step is made with.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The rows.
    pub rows: Scattered<'a>,
    /// What random draws depend on.
    pub key: StepKey,
    /// Which optimizer.
    pub optimizer: &'a Optimizer,
    /// Its rates.
    pub size: &'a StepSize,
}

impl Passes {
    /// For mini-batches of up to so many rows, on so many threads, beginning with a state.
    pub fn new(network: &Network, batch_size: usize, threads: usize, state: &State) -> Self {
        let flops = network.flops_per_row() * batch_size as u64;
        let chunks = batch_size.div_ceil(LOSS_ROWS);
        let threads = threads.min((flops / FLOPS_PER_THREAD) as usize).min(chunks).max(1);
        let rows = chunks.div_ceil(threads) * LOSS_ROWS;
        let mut parts = parts::parts(network);
        for part in &mut parts {
            if let Kind::Rows(block) = &mut part.kind {
                let moments = state.moments.chunks_exact(network.layout().len());
                let moments: Vec<_> = moments.map(|all| &all[part.range.clone()]).collect();
                block.make_transposed(part.layer);
                block.take_from(&state.parameters[part.range.clone()], &moments);
            }
        }
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(parts[*i].gradient_len()));
        let longest = order.first().map_or(0, |i| parts[*i].gradient_len());
        Self {
            shares: (0..threads).map(|_| Share::new(network, rows)).collect(),
            parts,
            order,
            gradients: (0..threads).map(|_| Mutex::new(vec![0.0; longest])).collect(),
            network: network.clone(),
        }
    }

    /// Threads that a step keeps busy.
    pub fn threads(&self) -> usize {
        self.shares.len()
    }

    /// Brings weights and moments of the state that [`Passes::step`] keeps up to date.
    pub fn put_back(&self, state: &mut State) {
        let n = self.network.layout().len();
        for part in &self.parts {
            let Kind::Rows(block) = &part.kind else { continue };
            if !block.is_packed() {
                continue;
            }
            block.weights.copy_to(&mut state.parameters[part.range.clone()]);
            let moments = state.moments.chunks_exact_mut(n);
            for (own, moments) in block.moments.iter().zip(moments) {
                own.copy_to(&mut moments[part.range.clone()]);
            }
        }
    }

    /// One step on a mini-batch. The state is up to date after [`Passes::put_back`].
    pub fn step(&mut self, step: &Step<'_>, state: &mut State, runner: &dyn Shards) {
        let (rows, n) = (step.rows.rows(), self.shares.len());
        let chunks = rows.div_ceil(LOSS_ROWS);
        let cut = |i: usize| (chunks * i / n * LOSS_ROWS).min(rows);
        for (i, share) in self.shares.iter_mut().enumerate() {
            share.rows = cut(i)..cut(i + 1);
        }
        self.over_rows(step, &state.parameters, runner);
        for sum in self.shares.iter().flat_map(|share| &share.sums) {
            state.round.add(*sum);
        }
        self.over_weights(step, &mut state.parameters, &mut state.moments, runner);
    }

    fn over_rows(&mut self, step: &Step<'_>, parameters: &[f32], runner: &dyn Shards) {
        let Self { network, shares, parts, .. } = self;
        let rows = RowPass { network, parts, parameters, key: step.key };
        let scale = 1.0 / step.rows.rows() as f32;
        let shares: Vec<Mutex<&mut Share>> = shares.iter_mut().map(Mutex::new).collect();
        run(runner, shares.len(), &|i| {
            let share = &mut *shares[i].lock().unwrap_or_else(PoisonError::into_inner);
            rows.run(share, &step.rows, scale);
        });
    }

    fn over_weights(
        &mut self,
        step: &Step<'_>,
        parameters: &mut [f32],
        moments: &mut [f32],
        runner: &dyn Shards,
    ) {
        let Self { network, shares, parts, order, gradients } = self;
        let kept = step.optimizer.moments();
        let n = network.layout().len();
        let (first, rest) = moments.split_at_mut(if kept > 0 { n } else { 0 });
        let second: &mut [f32] = if kept > 1 { &mut rest[..n] } else { &mut [] };
        let mut values = [parameters, first, second];
        let tasks: Vec<_> = parts
            .iter_mut()
            .map(|part| {
                let n = part.range.len();
                Mutex::new(Some((part, values.each_mut().map(|rest| take(rest, n)))))
            })
            .collect();
        let next = AtomicUsize::new(0);
        run(runner, gradients.len(), &|worker| {
            let mut gradient = gradients[worker].lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let task = tasks[*i].lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some((part, [w, m, v])) = task else { continue };
                let gradient = &mut gradient[..part.gradient_len()];
                part.gradient(network, shares, &step.rows, gradient);
                let (role, size) = (part.role, step.size);
                match &mut part.kind {
                    Kind::Rows(block) if block.is_packed() => {
                        let w = block.weights.values_mut();
                        let [m, v] = block.moments.each_mut().map(Panels::values_mut);
                        step.optimizer.step_part(role, size, (w, gradient), (m, v));
                        block.has_stepped();
                    }
                    _ => step.optimizer.step_part(role, size, (w, gradient), (m, v)),
                }
            }
        });
    }
}

/// Runs tasks, one of them where it is.
fn run(runner: &dyn Shards, n: usize, task: &(dyn Fn(usize) + Sync)) {
    match n {
        1 => task(0),
        _ => runner.run(n, task),
    }
}

/// Takes the first `n` values off, or what is there.
fn take<'a>(rest: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let values = std::mem::take(rest);
    let (taken, left) = values.split_at_mut(n.min(values.len()));
    *rest = left;
    taken
}

impl Share {
    fn new(network: &Network, rows: usize) -> Self {
        let outputs = network.outputs();
        let hidden = network.layers.iter().rev().skip(1).rev();
        let is_dropped = network.dropout > 0.0;
        let keeps_z = is_dropped || network.activation.needs_z();
        Self {
            rows: 0..0,
            own: Rows::default(),
            x: inputs(network, rows),
            hidden: hidden
                .map(|layer| Hidden {
                    z: keeps_z.then(|| Panels::new(rows, layer.units)),
                    a: Panels::new(rows, layer.units),
                    undropped: is_dropped.then(|| Panels::new(rows, layer.units)),
                    dz: Panels::new(rows, layer.units),
                })
                .collect(),
            z: vec![0.0; rows * outputs],
            dz: if outputs > 1 { Panels::new(rows, outputs) } else { Panels::default() },
            sums: Vec::with_capacity(rows.div_ceil(LOSS_ROWS)),
        }
    }

    /// Its rows.
    fn batch<'a>(&'a self, rows: &Scattered<'a>, width: Width) -> MiniBatch<'a> {
        let n = self.rows.len();
        rows.slice(&self.rows, width).unwrap_or_else(|| MiniBatch {
            first_row: self.rows.start,
            ..self.own.batch().slice(0, n, self.own_width(width))
        })
    }

    /// The width of rows that had to be brought together.
    fn own_width(&self, width: Width) -> Width {
        Width { dense: if self.x.columns() > 0 { 0 } else { width.dense }, ..width }
    }

    /// The derivatives by the outputs of a layer before its activation.
    fn dz(&self, layer: usize) -> &Panels {
        self.hidden.get(layer).map_or(&self.dz, |hidden| &hidden.dz)
    }
}

/// What holds the dense numbers of rows, if it is needed.
fn inputs(network: &Network, rows: usize) -> Panels {
    match network.width().dense {
        ..=PANEL => Panels::default(),
        dense => Panels::new(rows, dense),
    }
}

/// `out += row`, as far as `out` goes.
fn add(out: &mut [f32], row: &[f32]) {
    let row = &row[..out.len()];
    vectorized(
        #[inline(always)]
        || axpy(1.0, row, out),
    );
}
