//! A step of a network with hidden layers in two passes: over the rows, then over the weights.
//!
//! ```text
//! rows     a share of the mini-batch each:  x ─► a0 ─► a1 ─► ... ─► loss ─► dz_n ─► ... ─► dz0
//! weights  a part of the parameters each:   gradient = a^T dz over all shares, step, panels
//! ```
//! Where rows are wide, the first layer is split by units and not by rows, in both passes: it has
//! the most weights, and those of a thread stay in its cache.
//!
//! A gradient is never written as a whole: each part of it is in the cache when the optimizer reads
//! it, and nothing is summed afterwards. Weights and their moments are packed into panels, the
//! layout that products read, and are unpacked into the state after the last step. Sums over rows
//! are taken in the order of the rows, sums over units in the order of the units ([`tiles`]). So
//! there may be as many shares and parts as there are threads: the bits are the same.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::network::Network;
use super::{Learner, LossSum, StepKey};
use crate::batch::{Gather, MiniBatch, Rows, Width};
use crate::kernels::panels::{PANEL, Panels};
use crate::optimizer::{Optimizer, StepSize};
use crate::parallel::ParallelFor;
use crate::state::State;

mod parts;
mod rows;
mod scoring;
#[cfg(test)]
mod tests;

use parts::{Block, Kind, Part};
use rows::RowPass;
pub use scoring::{Scoring, ScoringScratch};

/// Rows whose losses are summed before they are added to others: the order of these sums affects
/// the result.
const LOSS_ROWS: usize = 32;
/// Floating-point operations that justify waking another thread: some microseconds.
const FLOPS_PER_THREAD: u64 = 1_000_000;
/// The working memory of steps of a network.
#[derive(Debug)]
pub struct Passes {
    network: Network,
    shares: Vec<Share>,
    parts: Vec<Part>,
    /// Groups of columns of the first weight, one for each thread; or 1.
    columns_cut: usize,
    /// For each thread, the parts that it owns: those of its columns.
    own: Vec<Vec<usize>>,
    /// The other parts, the longest first.
    order: Vec<usize>,
    /// For each thread, the gradient of a part.
    gradients: Vec<Mutex<Vec<f32>>>,
}

/// Some rows of a mini-batch and their values in all layers.
#[derive(Debug, Default)]
struct Share {
    /// The range of rows in the mini-batch.
    rows: Range<usize>,
    /// Copies of the rows, where they are not contiguous and had to be gathered.
    own: Rows,
    /// Their dense numbers in panels, if a row has more numbers than a panel has columns: rows that
    /// are far from each other in memory are slow to read by columns. Otherwise empty.
    x: Panels,
    hidden: Vec<Hidden>,
    /// `[rows, outputs]`: raw outputs, then the derivatives of the loss by them.
    z: Vec<f32>,
    /// The derivatives in panels, unless there is one output.
    dz: Panels,
    sums: Vec<LossSum>,
}

/// What a hidden layer keeps of rows, each `[rows, units]`.
#[derive(Debug)]
struct Hidden {
    /// Before the activation, where the derivative needs it.
    z: Option<Panels>,
    a: Panels,
    /// Activations before dropout, recomputed from `z`.
    undropped: Option<Panels>,
    dz: Panels,
}

/// The arguments of a step.
#[derive(Clone, Copy, Debug)]
pub struct PassStep<'a> {
    /// The rows.
    pub rows: Gather<'a>,
    /// What random draws depend on.
    pub key: StepKey,
    /// Which optimizer.
    pub optimizer: &'a Optimizer,
    /// Its rates.
    pub size: &'a StepSize,
}

impl Passes {
    /// For mini-batches of up to `batch_size` rows, on up to `threads` threads, beginning with a
    /// state.
    pub fn new(network: &Network, batch_size: usize, threads: usize, state: &State) -> Self {
        let flops = network.flops_per_row() * batch_size as u64;
        let chunks = batch_size.div_ceil(LOSS_ROWS);
        let threads = threads.min((flops / FLOPS_PER_THREAD) as usize).min(chunks).max(1);
        Self::on(threads, network, batch_size, state)
    }

    /// The same, on exactly `threads` threads.
    fn on(threads: usize, network: &Network, batch_size: usize, state: &State) -> Self {
        let chunks = batch_size.div_ceil(LOSS_ROWS);
        let rows = chunks.div_ceil(threads) * LOSS_ROWS;
        let columns_cut = parts::columns_cut(network, threads);
        let mut parts = parts::parts(network, columns_cut);
        for part in &mut parts {
            if let Kind::Rows(block) = &mut part.kind {
                let units = network.layers[part.layer].units;
                let moments = state.moments.chunks_exact(network.layout().len());
                let moments: Vec<_> = moments.map(|all| &all[part.range.clone()]).collect();
                block.make_transposed(part.layer);
                block.take_from(&state.parameters[part.range.clone()], &moments, units);
            }
        }
        let own = (0..threads).map(|i| own_parts(&parts, columns_cut, i)).collect::<Vec<_>>();
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.retain(|i| !own.iter().any(|own| own.contains(i)));
        order.sort_by_key(|i| std::cmp::Reverse(parts[*i].gradient_len()));
        let longest = parts.iter().map(Part::gradient_len).max().unwrap_or(0);
        Self {
            shares: (0..threads).map(|_| Share::new(network, rows)).collect(),
            parts,
            columns_cut,
            own,
            order,
            gradients: (0..threads).map(|_| Mutex::new(vec![0.0; longest])).collect(),
            network: network.clone(),
        }
    }

    /// Threads that a step keeps busy.
    pub fn threads(&self) -> usize {
        self.shares.len()
    }

    /// Unpacks the weights and moments that [`Passes::step`] keeps in panels into the state.
    pub fn unpack(&self, state: &mut State) {
        let n = self.network.layout().len();
        for part in &self.parts {
            let Kind::Rows(block) = &part.kind else { continue };
            if !block.is_packed() {
                continue;
            }
            let moments = state.moments.chunks_exact_mut(n);
            let moments = moments.map(|all| &mut all[part.range.clone()]);
            let units = self.network.layers[part.layer].units;
            block.unpack(&mut state.parameters[part.range.clone()], moments, units);
        }
    }

    /// One step on a mini-batch. The state is up to date after [`Passes::unpack`].
    pub fn step(&mut self, step: &PassStep<'_>, state: &mut State, pool: &dyn ParallelFor) {
        let (rows, n) = (step.rows.rows(), self.shares.len());
        let chunks = rows.div_ceil(LOSS_ROWS);
        let cut = |i: usize| (chunks * i / n * LOSS_ROWS).min(rows);
        for (i, share) in self.shares.iter_mut().enumerate() {
            share.rows = cut(i)..cut(i + 1);
        }
        self.over_rows(step, &state.parameters, pool);
        for sum in self.shares.iter().flat_map(|share| &share.sums) {
            state.round.add(*sum);
        }
        self.over_weights(step, &mut state.parameters, &mut state.moments, pool);
    }

    fn over_rows(&mut self, step: &PassStep<'_>, parameters: &[f32], pool: &dyn ParallelFor) {
        let Self { network, shares, parts, columns_cut, .. } = self;
        let rows = RowPass { network, parts, parameters, key: step.key };
        let scale = 1.0 / step.rows.rows() as f32;
        let over = |shares: &mut [Share], task: &(dyn Fn(&mut Share) + Sync)| {
            let shares: Vec<Mutex<&mut Share>> = shares.iter_mut().map(Mutex::new).collect();
            pool.run(shares.len(), &|i| {
                task(&mut shares[i].lock().unwrap_or_else(PoisonError::into_inner));
            });
        };
        if *columns_cut == 1 {
            return over(shares, &|share| {
                rows.gather_rows(share, &step.rows);
                rows.run(share, 0, &step.rows, scale);
            });
        }
        over(shares, &|share| rows.gather_rows(share, &step.rows));
        Self::over_units(&rows, shares, *columns_cut, step, pool);
        over(shares, &|share| rows.run(share, 1, &step.rows, scale));
    }

    /// The first hidden layer forward: each thread computes its units for all rows.
    fn over_units(
        rows: &RowPass<'_>,
        shares: &mut [Share],
        threads: usize,
        step: &PassStep<'_>,
        pool: &dyn ParallelFor,
    ) {
        let width = rows.network.width();
        let panels = rows.network.layers[0].units.div_ceil(PANEL);
        let mut tasks: Vec<_> = (0..threads).map(|_| vec![]).collect();
        for share in shares {
            let own_width = share.own_width(width);
            let Share { rows: range, own, x, hidden, .. } = share;
            let batch = rows_of(&step.rows, range, own, (width, own_width));
            let Some(Hidden { z, a, .. }) = hidden.first_mut() else { continue };
            let mut z = z.as_mut().map(Panels::panels_mut);
            for (j, a) in a.panels_mut().enumerate() {
                let z = z.as_mut().and_then(Iterator::next);
                tasks[j * threads / panels].push((j, &*x, batch, z, a));
            }
        }
        let tasks: Vec<_> = tasks.into_iter().map(Mutex::new).collect();
        pool.run(threads, &|i| {
            let tasks =
                std::mem::take(&mut *tasks[i].lock().unwrap_or_else(PoisonError::into_inner));
            for (j, x, batch, z, a) in tasks {
                rows.hidden_panel((0, j), x, &batch, z, a);
            }
        });
    }

    fn over_weights(
        &mut self,
        step: &PassStep<'_>,
        parameters: &mut [f32],
        moments: &mut [f32],
        pool: &dyn ParallelFor,
    ) {
        let Self { network, shares, parts, own, order, gradients, .. } = self;
        let kept = step.optimizer.moments();
        let n = network.layout().len();
        let (first, rest) = moments.split_at_mut(if kept > 0 { n } else { 0 });
        let second: &mut [f32] = if kept > 1 { &mut rest[..n] } else { &mut [] };
        let mut values = [parameters, first, second];
        let mut taken = 0;
        let tasks: Vec<_> = parts
            .iter_mut()
            .map(|part| {
                // (Groups of columns have one range of the state; only the first group takes it.
                // They are packed and do not use it.)
                let n = part.range.end.saturating_sub(taken);
                taken = taken.max(part.range.end);
                Mutex::new(Some((part, values.each_mut().map(|rest| take(rest, n)))))
            })
            .collect();
        let next = AtomicUsize::new(0);
        pool.run(gradients.len(), &|worker| {
            let mut gradient = gradients[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let own = own.get(worker).map_or(&[][..], Vec::as_slice).iter();
            let others = std::iter::from_fn(|| order.get(next.fetch_add(1, Ordering::Relaxed)));
            for i in own.chain(others) {
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

/// The parts of the first weight that a thread owns, if its columns are cut.
fn own_parts(parts: &[Part], columns_cut: usize, thread: usize) -> Vec<usize> {
    let panels = parts.iter().filter_map(|part| match &part.kind {
        Kind::Rows(block) if part.layer == 0 => Some(block.panels.end),
        _ => None,
    });
    let panels = panels.max().unwrap_or(0);
    let is_own = |part: &Part| match &part.kind {
        Kind::Rows(block) if part.layer == 0 && columns_cut > 1 => {
            block.panels.start == panels * thread / columns_cut
        }
        _ => false,
    };
    (0..parts.len()).filter(|i| is_own(&parts[*i])).collect()
}

/// The rows of a range of a mini-batch: in place if they are contiguous, else `own`, whose width is
/// the second.
fn rows_of<'a>(
    rows: &Gather<'a>,
    range: &Range<usize>,
    own: &'a Rows,
    (width, own_width): (Width, Width),
) -> MiniBatch<'a> {
    rows.slice(range, width).unwrap_or_else(|| MiniBatch {
        first_row: range.start,
        ..own.batch().slice(0, range.len(), own_width)
    })
}

/// Takes the first `n` values off, or as many as are left.
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
    fn batch<'a>(&'a self, rows: &Gather<'a>, width: Width) -> MiniBatch<'a> {
        rows_of(rows, &self.rows, &self.own, (width, self.own_width(width)))
    }

    /// The width of rows that had to be gathered.
    fn own_width(&self, width: Width) -> Width {
        Width { dense: if self.x.columns() > 0 { 0 } else { width.dense }, ..width }
    }

    /// The derivatives by the outputs of a layer before its activation.
    fn dz(&self, layer: usize) -> &Panels {
        self.hidden.get(layer).map_or(&self.dz, |hidden| &hidden.dz)
    }
}

/// The panels for the dense numbers of rows, if they are needed.
fn inputs(network: &Network, rows: usize) -> Panels {
    match network.width().dense {
        ..=PANEL => Panels::default(),
        dense => Panels::new(rows, dense),
    }
}
