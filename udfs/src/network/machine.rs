//! The shards of a mini-batch, and the sums over them.

use std::sync::{Mutex, PoisonError, RwLock};

use super::program::Program;
use super::shard::{Job, Shard};
use super::tensors::NodeTable;
use crate::kernels::math::add;
use crate::learner::LossSum;
use crate::parallel::ParallelFor;

/// Parts into which the sum of gradients is cut.
const PARTS: usize = 16;

/// A program with its shards.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) program: Program,
    pub(crate) shards: Vec<RwLock<Shard>>,
    /// Rows of a block.
    pub(crate) block: usize,
    /// By node, sums over the mini-batch.
    pub(crate) sums: Vec<Vec<f64>>,
}

impl Machine {
    /// For mini-batches of so many rows in `n` shards, each with a gradient of so many parameters.
    pub(crate) fn new(program: Program, n: usize, rows: usize, parameters: usize) -> Self {
        let block = rows.div_ceil(n);
        let shard = |_| RwLock::new(Shard::new(&program, block, block, parameters));
        let shards = (0..n).map(shard).collect();
        let sums = program.steps.iter().map(|step| vec![0.0; step.layer.sums()]).collect();
        Self { program, shards, block, sums }
    }

    /// Bytes of such shards.
    pub(crate) fn bytes_for(program: &Program, n: usize, rows: usize, parameters: usize) -> usize {
        let block = rows.div_ceil(n);
        n.saturating_mul(Shard::bytes_for(program, block, block, parameters))
    }

    /// Bytes of the shards.
    pub(crate) fn bytes(&self) -> usize {
        let of = |shard: &RwLock<Shard>| shard.read().map_or(0, |shard| shard.bytes());
        self.shards.iter().map(of).sum()
    }

    /// The sum of the shards' gradients, and the gradients of tables.
    pub(crate) fn add_gradients(
        &self,
        threads: &dyn ParallelFor,
        tables: &[NodeTable],
        job: &Job<'_>,
        gradient: &mut [f32],
    ) {
        let n = self.shards.len();
        let part = gradient.len().div_ceil(PARTS).max(1);
        let mut parts = gradient.chunks_mut(part);
        let parts: [_; PARTS] =
            std::array::from_fn(|_| Mutex::new(parts.next().unwrap_or_default()));
        threads.run(PARTS, &|p| {
            let mut to = parts[p].lock().unwrap_or_else(PoisonError::into_inner);
            for (i, shard) in self.shards.iter().enumerate() {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                for ranges in job.nodes {
                    // The node's numbers that are no tables, as far as they are in this part.
                    let (all, own) = (&ranges.all, &ranges.own);
                    let begin = all.start.max(p * part);
                    let end = (all.start + own.len()).min(p * part + to.len());
                    if begin >= end {
                        continue;
                    }
                    let from = &shard.gradient[own.start + begin - all.start..][..end - begin];
                    let to = &mut to[begin - p * part..end - p * part];
                    if i == 0 {
                        to.copy_from_slice(from);
                    } else {
                        add(to, from);
                    }
                }
            }
        });
        for table in tables {
            let NodeTable { node, table, offset, rows, units } = *table;
            let of_part = rows.div_ceil(PARTS).max(1);
            let own = &mut gradient[offset..offset + rows * units];
            let mut parts = own.chunks_mut((of_part * units).max(1));
            let parts: [_; PARTS] =
                std::array::from_fn(|_| Mutex::new(parts.next().unwrap_or_default()));
            threads.run(PARTS, &|p| {
                let mut to = parts[p].lock().unwrap_or_else(PoisonError::into_inner);
                to.fill(0.0);
                for (i, shard) in self.shards.iter().enumerate() {
                    let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                    let range = bounds(job.batch.rows, i, n);
                    shard.scatter(job, (node, table), range, p * of_part, &mut to);
                }
            });
        }
    }

    /// Grows the buffers to hold so many rows.
    pub(crate) fn reach(&mut self, rows: usize) {
        let most = rows.div_ceil(self.shards.len());
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            shard.reach(&self.program, most, self.block);
        }
    }

    /// Adds the sums of all shards, in order.
    pub(crate) fn reduce(&self, total: &mut [f64]) {
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for (total, own) in total.iter_mut().zip(&shard.sums) {
                *total += own;
            }
        }
    }

    pub(crate) fn loss(&self) -> LossSum {
        let mut sum = LossSum::default();
        for shard in &self.shards {
            sum.add(shard.read().unwrap_or_else(PoisonError::into_inner).loss);
        }
        sum
    }
}

/// The first and last row of shard `i` of `n`.
pub(crate) fn bounds(rows: usize, i: usize, n: usize) -> (usize, usize) {
    (rows * i / n, rows * (i + 1) / n)
}
