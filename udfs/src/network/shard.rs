//! Some rows of a mini-batch, their values in all layers, and their gradient.

use super::architecture::Architecture;
use super::layer::{Draws, Pass, Source};
use super::objective::Objective;
use super::program::{Op, Program, Step, Target};
use super::tensors::Ranges;
use crate::batch::{MiniBatch, Width};
use crate::kernels::math::add;
use crate::learner::LossSum;

/// The working memory of one shard.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Rows that the buffers can hold.
    capacity: usize,
    slots: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    /// `[parameters]` without tables.
    pub(crate) gradient: Vec<f32>,
    /// The part of the sums of the current stage.
    pub(crate) sums: Vec<f64>,
    /// `[masks, capacity]`: valid steps of each row.
    lengths: Vec<u32>,
    pub(crate) loss: LossSum,
}

/// What all shards read in a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    pub(crate) architecture: &'a Architecture,
    pub(crate) program: &'a Program,
    pub(crate) objective: &'a Objective,
    /// By node, its range in the parameters.
    pub(crate) nodes: &'a [Ranges],
    pub(crate) parameters: &'a [f32],
    pub(crate) batch: MiniBatch<'a>,
    pub(crate) width: Width,
    /// The seed of the draws of this step, in training.
    pub(crate) seed: Option<u64>,
    pub(crate) scale: f32,
    /// By node, its sums over the mini-batch.
    pub(crate) sums: &'a [Vec<f64>],
    /// Rows of a block.
    pub(crate) block: usize,
}

impl Shard {
    /// Buffers for so many rows, in blocks of `block` rows.
    pub(crate) fn new(program: &Program, rows: usize, block: usize, parameters: usize) -> Self {
        let mut own = Self {
            gradient: vec![0.0; if program.is_training { parameters } else { 0 }],
            ..Self::default()
        };
        own.reach(program, rows, block);
        own
    }

    /// Grows the buffers to hold so many rows.
    pub(crate) fn reach(&mut self, program: &Program, rows: usize, block: usize) {
        if self.capacity >= rows && !self.slots.is_empty() {
            return;
        }
        self.capacity = rows;
        let kept = if program.is_whole { rows } else { block.min(rows) };
        self.slots = program.slots.iter().map(|len| vec![0.0; kept * len]).collect();
        self.scratch = vec![0.0; program.scratch(block.min(rows))];
        self.lengths = vec![0; program.masks.len() * rows];
        let sums = program.steps.iter().map(|step| step.layer.sums()).max().unwrap_or(0);
        self.sums = vec![0.0; sums];
    }

    /// Bytes of the buffers that [`Shard::new`] makes.
    pub(crate) fn bytes_for(
        program: &Program,
        rows: usize,
        block: usize,
        parameters: usize,
    ) -> usize {
        let kept = if program.is_whole { rows } else { block.min(rows) };
        let sums = program.steps.iter().map(|step| step.layer.sums()).max().unwrap_or(0);
        let all = [
            kept.saturating_mul(program.slots.iter().sum()),
            program.scratch(block.min(rows)),
            if program.is_training { parameters } else { 0 },
            program.masks.len().saturating_mul(rows),
            2 * sums,
        ];
        all.iter().fold(0usize, |sum, n| sum.saturating_add(*n)).saturating_mul(4)
    }

    /// Bytes of its buffers.
    pub(crate) fn bytes(&self) -> usize {
        let numbers = self.slots.iter().map(Vec::len).sum::<usize>()
            + self.scratch.len()
            + self.gradient.len()
            + self.lengths.len()
            + 2 * self.sums.len();
        4 * numbers
    }

    /// Runs some operations over the rows `from..to` of the mini-batch, block by block. `out` takes
    /// the raw outputs if it is not empty.
    pub(crate) fn run(
        &mut self,
        job: &Job<'_>,
        ops: &[Op],
        from: usize,
        to: usize,
        out: &mut [f32],
    ) {
        if ops.first() == Some(&Op::Load) {
            self.loss = LossSum::default();
            self.gradient.fill(0.0);
            self.find_lengths(job, from, to);
        }
        self.sums.fill(0.0);
        let mut start = from;
        while start < to {
            let end = (start + job.block).min(to);
            let rows = job.batch.slice(start, end, job.width);
            let block = Block { job, rows: &rows, at: start - from };
            for op in ops {
                self.operate(&block, *op);
            }
            if let (false, Some(step)) = (out.is_empty(), job.program.steps.last()) {
                let pass = block.pass(
                    &self.slots,
                    &self.lengths,
                    self.capacity,
                    job.program.steps.len() - 1,
                );
                let values = pass.slice(step.output);
                let n = step.output.len;
                out[(start - from) * n..(end - from) * n].copy_from_slice(values);
            }
            start = end;
        }
    }

    fn find_lengths(&mut self, job: &Job<'_>, from: usize, to: usize) {
        let columns = job.width.columns;
        for (i, mask) in job.program.masks.iter().enumerate() {
            let Some(at) = job.architecture.inputs[mask.input].length() else { continue };
            let own = &mut self.lengths[i * self.capacity..][..to - from];
            for (row, length) in (from..to).zip(own) {
                let code = job.batch.codes[row * columns + at] as usize;
                *length = mask.valid(code) as u32;
            }
        }
    }

    fn operate(&mut self, block: &Block<'_, '_>, op: Op) {
        match op {
            Op::Load => self.load(block),
            Op::Forward(i) => self.forward(block, i),
            Op::Sums(i, is_forward) => {
                let pass = block.backward_pass(&self.slots, &self.lengths, self.capacity, i);
                let step = &block.job.program.steps[i];
                step.layer.add_sums(&pass, is_forward, &mut self.sums[..step.layer.sums()]);
            }
            Op::Loss => self.differentiate(block),
            Op::Backward(i) => self.backward(block, i),
        }
    }

    /// Copies the inputs; invalid steps are 0.
    fn load(&mut self, block: &Block<'_, '_>) {
        let Block { job, rows, .. } = block;
        let d = job.width.dense;
        let loads = job.architecture.inputs.iter().zip(&job.program.loads).enumerate();
        for (i, (input, place)) in loads {
            let (Some(place), (end, _)) = (place, input.reach()) else { continue };
            let (from, n) = (end - place.len, place.len);
            let to = part(&mut self.slots[place.slot], place, block.begin(), rows.rows);
            if d == n {
                to.copy_from_slice(rows.dense);
            } else {
                for (to, row) in to.chunks_exact_mut(n).zip(rows.dense.chunks_exact(d)) {
                    to.copy_from_slice(&row[from..from + n]);
                }
            }
            let masks = &job.program.masks;
            let mask = masks.iter().position(|mask| mask.input == i && mask.windows.is_empty());
            let Some(mask) = mask else { continue };
            let (steps, lengths) = (masks[mask].steps, &self.lengths[mask * self.capacity..]);
            for (to, length) in to.chunks_exact_mut(n).zip(&lengths[block.at..]) {
                to[*length as usize * (n / steps.max(1))..].fill(0.0);
            }
        }
    }

    fn forward(&mut self, block: &Block<'_, '_>, i: usize) {
        let Block { job, rows, .. } = block;
        let step = &job.program.steps[i];
        if !job.program.is_training && step.layer.is_training_only() {
            return;
        }
        let mut y = std::mem::take(&mut self.slots[step.output.slot]);
        let mut kept = step.kept.map(|place| std::mem::take(&mut self.slots[place.slot]));
        let pass = block.pass(&self.slots, &self.lengths, self.capacity, i);
        let to = part(&mut y, &step.output, block.begin(), rows.rows);
        if step.layer.is_in_place() && !step.shares_output {
            to.copy_from_slice(pass.x(0));
        }
        let keep = match (&mut kept, step.kept) {
            (Some(kept), Some(place)) => part(kept, &place, block.begin(), rows.rows),
            _ => &mut [],
        };
        step.layer.forward(&pass, to, keep, &mut self.scratch);
        self.slots[step.output.slot] = y;
        if let (Some(kept), Some(place)) = (kept, step.kept) {
            self.slots[place.slot] = kept;
        }
    }

    fn differentiate(&mut self, block: &Block<'_, '_>) {
        let Block { job, rows, .. } = block;
        let Some(step) = job.program.steps.last() else { return };
        let Some(place) = step.gradient else { return };
        let mut dz = std::mem::take(&mut self.slots[place.slot]);
        let z = block.pass(&self.slots, &self.lengths, self.capacity, 0).slice(step.output);
        let to = part(&mut dz, &place, block.begin(), rows.rows);
        to.copy_from_slice(z);
        let sum = job.objective.differentiate(to, place.len, rows.label, rows.weight, job.scale);
        self.loss.add(sum);
        self.slots[place.slot] = dz;
    }

    fn backward(&mut self, block: &Block<'_, '_>, i: usize) {
        let Block { job, rows, .. } = block;
        let step = &job.program.steps[i];
        // (Nothing before a layer without a gradient has parameters.)
        if step.gradient.is_none() {
            return;
        }
        let (capacity, begin) = (self.capacity, block.begin());
        for (k, target) in step.targets.iter().enumerate() {
            let place = match (*target, job.program.spare) {
                (Target::Replace(place), _) => Some((place, None)),
                (Target::Add(sum), Some(spare)) => {
                    Some((Source { len: sum.len, ..spare }, Some(sum)))
                }
                _ if k > 0 => continue,
                _ => None,
            };
            let own = &mut self.gradient[job.nodes[i].own.clone()];
            let Some((place, sum)) = place else {
                let pass = block.backward_pass(&self.slots, &self.lengths, capacity, i);
                step.layer.backward(&pass, k, None, own, &mut self.scratch);
                continue;
            };
            let mut buffer = std::mem::take(&mut self.slots[place.slot]);
            let dx = part(&mut buffer, &place, begin, rows.rows);
            let pass = block.backward_pass(&self.slots, &self.lengths, capacity, i);
            if step.layer.is_in_place() && !step.shares_gradient {
                dx.copy_from_slice(pass.dy());
            }
            step.layer.backward(&pass, k, Some(dx), own, &mut self.scratch);
            if let Some(sum) = sum {
                let dx = part(&mut buffer, &place, begin, rows.rows);
                add(part(&mut self.slots[sum.slot], &sum, begin, rows.rows), dx);
            }
            self.slots[place.slot] = buffer;
        }
        if step.targets.is_empty() {
            let pass = block.backward_pass(&self.slots, &self.lengths, capacity, i);
            let own = &mut self.gradient[job.nodes[i].own.clone()];
            step.layer.backward(&pass, 0, None, own, &mut self.scratch);
        }
    }

    /// Adds the gradient of a table of a node, from the row `first` on, to `part`.
    pub(crate) fn scatter(
        &self,
        job: &Job<'_>,
        (node, table): (usize, usize),
        (from, to): (usize, usize),
        first: usize,
        part: &mut [f32],
    ) {
        let mut start = from;
        while start < to {
            let end = (start + job.block).min(to);
            let rows = job.batch.slice(start, end, job.width);
            let block = Block { job, rows: &rows, at: start - from };
            let pass = block.backward_pass(&self.slots, &self.lengths, self.capacity, node);
            job.program.steps[node].layer.scatter(&pass, table, first, part);
            start = end;
        }
    }
}

/// The rows of a block in a buffer.
fn part<'a>(buffer: &'a mut [f32], place: &Source, begin: usize, rows: usize) -> &'a mut [f32] {
    let start = begin * place.stride;
    buffer.get_mut(start..start + rows * place.len).unwrap_or_default()
}

/// Some rows of a shard.
struct Block<'a, 'b> {
    job: &'a Job<'b>,
    rows: &'a MiniBatch<'a>,
    /// The first of them in the shard.
    at: usize,
}

impl<'a> Block<'a, '_> {
    /// Where the rows begin in buffers.
    fn begin(&self) -> usize {
        if self.job.program.is_whole { self.at } else { 0 }
    }

    fn pass(
        &self,
        slots: &'a [Vec<f32>],
        lengths: &'a [u32],
        capacity: usize,
        i: usize,
    ) -> Pass<'a> {
        let Job { program, .. } = self.job;
        let step: &'a Step = &program.steps[i];
        let n = self.rows.rows;
        Pass {
            rows: n,
            position: self.rows.first_row,
            parameters: &self.job.parameters[self.job.nodes[i].all.clone()],
            draws: self.job.seed.map(|seed| Draws { seed, stream: i as u64 }),
            batch: self.rows,
            lengths: step.mask.map(|mask| &lengths[mask * capacity + self.at..][..n]),
            sums: &self.job.sums[i],
            slots,
            inputs: &step.inputs,
            start: self.begin(),
            y: None,
            kept: None,
            dy: None,
        }
    }

    fn backward_pass(
        &self,
        slots: &'a [Vec<f32>],
        lengths: &'a [u32],
        capacity: usize,
        i: usize,
    ) -> Pass<'a> {
        let step: &'a Step = &self.job.program.steps[i];
        let pass = self.pass(slots, lengths, capacity, i);
        Pass { y: Some(step.output), kept: step.kept, dy: step.gradient, ..pass }
    }
}
