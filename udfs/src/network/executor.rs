//! The executor: an architecture and a loss, compiled for mini-batches of up to a number of rows.
//!
//! ```text
//! mini-batch ─► shards of rows ─► blocks of rows ─► forward ─► loss ─► backward
//!                    │                                                   │ gradient of a shard
//!                    └───────── sums of batch_norm between stages        ▼
//!                        gradient = sum over shards, in order; tables from all rows, in order
//! ```
//! Shards and blocks depend on the architecture and the number of rows alone, never on threads, and
//! every sum is taken in one order: gradients and scores have the same bits on any number of
//! threads. Shards own their buffers, so that a step allocates nothing.

use std::sync::{Mutex, PoisonError};

use datafusion_common::{Result, plan_err};

use super::architecture::Architecture;
use super::machine::{Machine, bounds};
use super::objective::Objective;
use super::program::{Op, Program};
use super::shard::Job;
use super::tensors::Tensors;
use crate::batch::{MiniBatch, Width};
use crate::kernels::rng;
use crate::learner::{Layout, LossSum, StepKey};
use crate::parallel::ParallelFor;

/// Shards of a mini-batch at most: as many threads may share a step.
const MOST_SHARDS: usize = 8;
/// Shards that a network with many parameters may have, each with a gradient of its own.
const FEW_SHARDS: usize = 4;
/// Multiply-adds that take a dozen times as long as the gradient of one parameter takes to be
/// cleared, added to and summed up.
const PARAMETER_WORK: u64 = 1_000;
/// Rows of a shard at least: products of fewer rows read weights more often than they use them.
const SHARD_ROWS: usize = 8;
/// Multiply-adds that justify a shard of their own: some hundred microseconds.
const SHARD_WORK: u64 = 2_000_000;

/// The stream of random numbers of a step.
const STEP_STREAM: u64 = 4 << 32;

/// A network of any layers with its working memory.
#[derive(Debug)]
pub struct Executor {
    architecture: Architecture,
    objective: Objective,
    tensors: Tensors,
    outputs: usize,
    /// Ends of what a row must have: dense numbers, codes.
    reach: (usize, usize),
    training: Option<Machine>,
    scoring: Machine,
    /// Raw outputs of a mini-batch whose loss is asked for.
    z: Vec<f32>,
}

impl Executor {
    /// For training and scoring of mini-batches of up to `rows` rows. (More rows are possible: the
    /// buffers grow.)
    ///
    /// # Errors
    /// When a layer does not fit what it reads, or the loss does not fit the outputs.
    pub fn new(
        architecture: &Architecture,
        objective: impl Into<Objective>,
        rows: usize,
    ) -> Result<Self> {
        Self::of(architecture, objective.into(), rows, (true, None))
    }

    /// For scoring alone: [`Executor::gradient`] gives nothing.
    ///
    /// # Errors
    /// When a layer does not fit what it reads, or the loss does not fit the outputs.
    pub fn for_scoring(
        architecture: &Architecture,
        objective: impl Into<Objective>,
        rows: usize,
    ) -> Result<Self> {
        Self::of(architecture, objective.into(), rows, (false, None))
    }

    /// The same as [`Executor::new`] with so many shards, however little work they have.
    #[cfg(test)]
    pub(crate) fn with_shards(
        architecture: &Architecture,
        objective: impl Into<Objective>,
        rows: usize,
        shards: usize,
    ) -> Result<Self> {
        Self::of(architecture, objective.into(), rows, (true, Some(shards)))
    }

    fn of(
        architecture: &Architecture,
        objective: Objective,
        rows: usize,
        (trains, shards): (bool, Option<usize>),
    ) -> Result<Self> {
        let outputs = architecture.outputs()?;
        let quantiles = objective.quantiles.len();
        if quantiles > 0 && quantiles != outputs {
            return plan_err!(
                "{quantiles} quantiles need as many outputs, but there are {outputs}"
            );
        }
        let scoring = Program::new(architecture, false)?;
        let tensors = Tensors::new(architecture, &scoring);
        let rows = rows.max(1);
        let n = shards.unwrap_or_else(|| shards_for(&scoring, tensors.own(), rows));
        let machine = |program| Machine::new(program, n, rows, tensors.own());
        let training = if trains { Some(machine(Program::new(architecture, true)?)) } else { None };
        let scoring = machine(scoring);
        let reaches = architecture.inputs.iter().map(|input| input.reach());
        let reach = reaches.fold((0, 0), |most, own| (most.0.max(own.0), most.1.max(own.1)));
        Ok(Self {
            architecture: architecture.clone(),
            objective,
            tensors,
            outputs,
            reach,
            training,
            scoring,
            z: vec![0.0; rows * outputs],
        })
    }

    /// Bytes of working memory that [`Executor::new`] would reserve for so many rows.
    ///
    /// # Errors
    /// When a layer does not fit what it reads.
    pub fn bytes_for(architecture: &Architecture, rows: usize) -> Result<usize> {
        let scoring = Program::new(architecture, false)?;
        let tensors = Tensors::new(architecture, &scoring);
        let rows = rows.max(1);
        let n = shards_for(&scoring, tensors.own(), rows);
        let of = |program: &Program| Machine::bytes_for(program, n, rows, tensors.own());
        let all = of(&Program::new(architecture, true)?).saturating_add(of(&scoring));
        Ok(all.saturating_add(4 * rows.saturating_mul(architecture.outputs()?)))
    }

    /// The tensors of the flat parameters.
    pub fn layout(&self) -> &Layout {
        &self.tensors.layout
    }

    /// The architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// What is minimised.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// Number of raw outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of working memory.
    pub fn bytes(&self) -> usize {
        let machines = self.training.iter().chain([&self.scoring]);
        machines.map(Machine::bytes).sum::<usize>() + 4 * self.z.len()
    }

    /// Multiply-adds of one row forward.
    pub fn multiply_adds(&self) -> u64 {
        self.scoring.program.steps.iter().map(|step| step.layer.multiply_adds()).sum()
    }

    /// Threads that a step can keep busy.
    pub fn shards(&self) -> usize {
        self.scoring.shards.len()
    }

    /// Writes initial parameters `[layout.len()]`, a function of the seed alone: for every layer
    /// those of PyTorch's module.
    pub fn initialize(&self, seed: u64, parameters: &mut [f32]) {
        self.tensors.initialize(seed, parameters);
    }

    /// The width of a mini-batch's rows; None if they lack something that is read.
    fn width(&self, batch: &MiniBatch<'_>, parameters: &[f32], is_labelled: bool) -> Option<Width> {
        let n = batch.rows;
        let width = Width {
            dense: batch.dense.len() / n,
            bytes: 0,
            columns: batch.codes.len() / n,
            categories: 0,
            targets: batch.label.len() / n,
        };
        let is_full = batch.dense.len() == n * width.dense
            && batch.codes.len() == n * width.columns
            && batch.label.len() == n * width.targets
            && width.dense >= self.reach.0
            && width.columns >= self.reach.1
            && parameters.len() == self.tensors.layout.len();
        let has_one = self.objective.loss.has_one_label() || !self.objective.quantiles.is_empty();
        let targets = if has_one { 1 } else { self.outputs };
        let has_labels = width.targets == targets && batch.weight.len() == n;
        (is_full && (has_labels || !is_labelled)).then_some(width)
    }

    /// Overwrites `gradient` `[layout.len()]` with `scale` times the gradient of the sum of
    /// weighted losses of the rows, and returns that sum (unscaled). Dropout and augmentation are
    /// functions of `key` and the position of a row; running statistics in `parameters` are
    /// updated.
    ///
    /// Rows that lack something that the network reads give a gradient of 0 and a loss that is no
    /// number.
    pub fn gradient(
        &mut self,
        threads: &dyn ParallelFor,
        parameters: &mut [f32],
        batch: &MiniBatch<'_>,
        key: StepKey,
        scale: f32,
        gradient: &mut [f32],
    ) -> LossSum {
        if batch.rows == 0 {
            gradient.fill(0.0);
            return LossSum::default();
        }
        let width = self.width(batch, parameters, true);
        let (Some(width), Some(machine), true) =
            (width, &mut self.training, gradient.len() == self.tensors.layout.len())
        else {
            gradient.fill(0.0);
            return nothing(batch);
        };
        let seed = Some(rng::mix(key.seed, STEP_STREAM, key.step));
        machine.reach(batch.rows);
        let mut sums = std::mem::take(&mut machine.sums);
        let (program, n) = (&machine.program, machine.shards.len());
        let base = Job {
            architecture: &self.architecture,
            program,
            objective: &self.objective,
            nodes: &self.tensors.nodes,
            parameters: &[],
            batch: *batch,
            width,
            seed,
            scale,
            sums: &[],
            block: machine.block,
        };
        let mut from = 0;
        while from < program.ops.len() {
            let is_end = |op: &Op| matches!(op, Op::Sums(..));
            let ops = &program.ops[from..];
            let to = ops.iter().position(is_end).map_or(program.ops.len(), |at| from + at + 1);
            let ops = &program.ops[from..to];
            // (Running statistics and sums change between stages.)
            let job = Job { parameters: &*parameters, sums: &sums, ..base };
            threads.run(n, &|i| {
                let mut shard = machine.shards[i].write().unwrap_or_else(PoisonError::into_inner);
                let (from, to) = bounds(batch.rows, i, n);
                shard.run(&job, ops, from, to, &mut []);
            });
            if let Some(Op::Sums(node, is_forward)) = ops.last() {
                let total = &mut sums[*node];
                // (Sums backward stand behind those forward, which stay.)
                if *is_forward {
                    total.fill(0.0);
                }
                machine.reduce(total);
                if *is_forward {
                    let range = self.tensors.nodes[*node].all.clone();
                    program.steps[*node].layer.update(total, &mut parameters[range]);
                }
            }
            from = to;
        }
        let job = Job { parameters: &*parameters, sums: &sums, ..base };
        machine.add_gradients(threads, &self.tensors.tables, &job, gradient);
        let loss = machine.loss();
        machine.sums = sums;
        loss
    }

    /// Raw outputs `[rows, outputs]` (logits, or predictions on the scale of the label): running
    /// statistics, no dropout, no augmentation. `batch.label` and `batch.weight` may be empty.
    ///
    /// Rows that lack something that the network reads give no numbers.
    pub fn scores(
        &mut self,
        threads: &dyn ParallelFor,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        out: &mut [f32],
    ) {
        let n = batch.rows * self.outputs;
        let (true, Some(out)) = (batch.rows > 0, out.get_mut(..n)) else { return };
        let Some(width) = self.width(batch, parameters, false) else { return out.fill(f32::NAN) };
        self.scoring.reach(batch.rows);
        let machine = &self.scoring;
        let job = Job {
            architecture: &self.architecture,
            program: &machine.program,
            objective: &self.objective,
            nodes: &self.tensors.nodes,
            parameters,
            batch: *batch,
            width,
            seed: None,
            scale: 1.0,
            sums: &machine.sums,
            block: machine.block,
        };
        let (n, mut rest) = (machine.shards.len(), out);
        let parts: [_; MOST_SHARDS] = std::array::from_fn(|i| {
            let (from, to) = if i < n { bounds(batch.rows, i, n) } else { (0, 0) };
            let len = (to - from) * self.outputs;
            let (own, after) = std::mem::take(&mut rest).split_at_mut(len);
            rest = after;
            Mutex::new(own)
        });
        threads.run(n, &|i| {
            let mut shard = machine.shards[i].write().unwrap_or_else(PoisonError::into_inner);
            let mut out = parts[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (from, to) = bounds(batch.rows, i, n);
            shard.run(&job, &machine.program.ops, from, to, &mut out);
        });
    }

    /// The sum of weighted losses of the rows, as they are scored.
    pub fn loss(
        &mut self,
        threads: &dyn ParallelFor,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
    ) -> LossSum {
        if batch.rows == 0 {
            return LossSum::default();
        }
        if self.width(batch, parameters, true).is_none() {
            return nothing(batch);
        }
        let mut z = std::mem::take(&mut self.z);
        let n = batch.rows * self.outputs;
        if z.len() < n {
            z.resize(n, 0.0);
        }
        self.scores(threads, parameters, batch, &mut z[..n]);
        let sum = self.objective.sum(&z[..n], self.outputs, batch.label, batch.weight);
        self.z = z;
        sum
    }
}

/// The number of shards: by the rows and the work of a mini-batch.
fn shards_for(program: &Program, parameters: usize, rows: usize) -> usize {
    let work: u64 = program.steps.iter().map(|step| step.layer.multiply_adds()).sum();
    let work = (3 * work).saturating_mul(rows as u64);
    let by_size = (work / (PARAMETER_WORK * parameters.max(1) as u64)) as usize;
    let most = by_size.clamp(FEW_SHARDS, MOST_SHARDS);
    most.min(rows / SHARD_ROWS).min((work / SHARD_WORK) as usize).max(1)
}

/// The loss of rows that the network cannot read.
fn nothing(batch: &MiniBatch<'_>) -> LossSum {
    LossSum { loss: f64::NAN, weight: batch.rows as f64, rows: batch.rows as u64 }
}
