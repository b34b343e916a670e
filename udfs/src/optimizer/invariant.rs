//! The default update of Vowpal Wabbit for linear models: a rate per coordinate (Duchi, Hazan and
//! Singer 2011; McMahan and Streeter 2010), normalised by the scale of each input (Ross, Mineiro
//! and Langford, "Normalized Online Learning", UAI 2013, algorithm 2), invariant to importance
//! weights (Karampatziakis and Langford 2011, see `Loss::implicit_update`).
//!
//! A row with inputs `x`, label `y` and weight `h`, under outputs `z = x W` before it:
//!
//! ```text
//! s_i = max(s_i, |x_i|), and where s_i grew by it, w_ik *= old s_i / s_i
//! a_ik += h (dl/dz_k)^2 x_i^2
//! t += h;  n += h sum_i x_i^2 / s_i^2
//! r_ik = learning rate / (sqrt(a_ik) s_i)
//! p_k = sqrt(t / n) sum_i r_ik x_i^2          how far output k moves by a unit of its derivative
//! w_ik += r_ik x_i / p_k sqrt(t / n) (implicit update of z_k in the time h p_k)
//! ```
//! The update needs no features on one scale, since no prediction depends on their units. Each row
//! is a step: the rows of a mini-batch are learned one after another; only their losses are
//! reported as one sum. Vowpal Wabbit computes the rate's root with 12 bits and Lambert's function
//! with 4 digits, and clips predictions to the labels seen; this implementation does not.
//!
//! L1 and L2 act by their proximal step at the end of each mini-batch, with the rates of its rows.

use super::{StepSize, shrink};
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::math::{axpy, dot, vectorized};
use crate::learner::{Layout, Learner, Loss, LossSum, Role, Scratch};
use crate::state::State;

/// Working memory for one row.
#[derive(Debug)]
pub(crate) struct RowScratch {
    /// Raw outputs `[k]`, and their derivatives.
    z: Vec<f32>,
    slope: Vec<f32>,
    /// `r_ik x_i` `[d + c + 1, k]` of the inputs of the row: numbers, categories, intercept.
    change: Vec<f32>,
    /// `x_i / s_i` `[d]`.
    normal: Vec<f32>,
    /// `sum_i r_ik x_i^2` `[k]`.
    reach: Vec<f64>,
    /// The time of the implicit update of each output `[k]`; then the distance it moves.
    moves: Vec<f64>,
}

impl RowScratch {
    /// For the rows of a learner.
    pub(crate) fn new(width: Width, outputs: usize) -> Self {
        Self {
            z: vec![0.0; outputs],
            slope: vec![0.0; outputs],
            change: vec![0.0; (width.dense + width.columns + 1) * outputs],
            normal: vec![0.0; width.dense],
            reach: vec![0.0; outputs],
            moves: vec![0.0; outputs],
        }
    }
}

/// The numbers of a coordinate.
struct Coordinate<'a> {
    w: &'a mut f32,
    square_sum: &'a mut f32,
    scale: &'a mut f32,
}

/// Updates a coordinate by `x` and `square = h (dl/dz)^2`, and returns `r x` and `x / s`.
#[inline(always)]
fn meet(x: f32, square: f32, learning_rate: f32, own: Coordinate<'_>) -> (f32, f32) {
    let Coordinate { w, square_sum, scale } = own;
    let grown = scale.max(x.abs());
    // A coordinate without a scale keeps its weight: another optimizer may have trained it.
    let kept = if *scale > 0.0 { *scale / grown } else { 1.0 };
    *w *= kept;
    *scale = grown;
    *square_sum += square * (x * x);
    let root = square_sum.sqrt() * grown;
    let change = if root == 0.0 { 0.0 } else { learning_rate * x / root };
    (change, if grown == 0.0 { 0.0 } else { x / grown })
}

/// The totals of a state.
struct Totals {
    weight: f64,
    norm: f64,
}

impl Totals {
    fn read(values: &[f32]) -> Self {
        let value = |i: usize| values.iter().skip(2 * i).take(2).map(|v| f64::from(*v)).sum();
        Self { weight: value(0), norm: value(1) }
    }

    fn write(&self, values: &mut [f32]) {
        for (pair, value) in values.chunks_exact_mut(2).zip([self.weight, self.norm]) {
            let high = value as f32;
            pair.copy_from_slice(&[high, (value - f64::from(high)) as f32]);
        }
    }

    /// `sqrt(t / n)`: 1 over the root mean square of the norm of a row.
    fn factor(&self) -> f64 {
        if self.norm == 0.0 { 0.0 } else { (self.weight / self.norm).sqrt() }
    }
}

/// Learns from the rows of a mini-batch, one after another, and returns the sum of their losses,
/// each before its own update.
///
/// The learner is linear with this loss; its layout is a weight `[d + t, k]` and, if there is an
/// intercept, a bias `[k]`.
pub(crate) fn learn(
    (learner, loss): (&dyn Learner, Loss),
    size: &StepSize,
    batch: &MiniBatch<'_>,
    parameters: &mut [f32],
    moments: &mut [f32],
    (scratch, row): (&mut Scratch, &mut RowScratch),
) -> LossSum {
    let (layout, width, k) = (learner.layout(), learner.width(), learner.outputs());
    let (squares, rest) = moments.split_at_mut(layout.len());
    let (scales, totals_kept) = rest.split_at_mut(layout.len());
    let mut totals = Totals::read(totals_kept);
    let bias = layout.tensors().get(1).map(|tensor| tensor.offset);
    let mut sum = LossSum { rows: batch.rows as u64, ..LossSum::default() };
    for r in 0..batch.rows {
        let one = batch.slice(r, r + 1, width);
        let (y, weight) = (batch.label[r], batch.weight[r]);
        learner.scores(parameters, &one, scratch, &mut row.z);
        let value = loss.value(&row.z, y);
        sum.loss += f64::from(weight) * value;
        sum.weight += f64::from(weight);
        if weight == 0.0 || value == 0.0 {
            continue;
        }
        row.slope.copy_from_slice(&row.z);
        loss.derivative(&mut row.slope, y);
        row.reach.fill(0.0);
        let mut norm = 0.0;

        // Dense numbers, all at once where there is one output.
        let square = |slope: f32| weight * (slope * slope);
        let d = width.dense;
        if k == 1 {
            let (change, square) = (&mut row.change[..d], square(row.slope[0]));
            let (w, a, s) = (&mut parameters[..d], &mut squares[..d], &mut scales[..d]);
            let (reached, of_norm) = vectorized(
                #[inline(always)]
                || {
                    let own = w.iter_mut().zip(a).zip(s).zip(&mut *change).zip(&mut row.normal);
                    for (((((w, square_sum), scale), change), normal), x) in own.zip(one.dense) {
                        let own = Coordinate { w, square_sum, scale };
                        (*change, *normal) = meet(*x, square, size.learning_rate, own);
                    }
                    (dot(change, one.dense), dot(&row.normal, &row.normal))
                },
            );
            row.reach[0] += f64::from(reached);
            norm += f64::from(of_norm);
        }
        let numbers = one.dense.iter().enumerate().filter(|(_, x)| k > 1 && **x != 0.0);
        let categories = one.codes.iter().enumerate().filter(|(_, code)| **code != NO_CATEGORY);
        let others = numbers
            .map(|(i, x)| (i, i * k, *x, size.learning_rate))
            .chain(
                categories
                    .map(|(c, code)| (d + c, (d + *code as usize) * k, 1.0, size.learning_rate)),
            )
            .chain(bias.map(|at| (d + width.columns, at, 1.0, size.intercept_learning_rate)));
        for (i, at, x, rate) in others.clone() {
            let mut normal = f32::INFINITY;
            for output in 0..k {
                let own = Coordinate {
                    w: &mut parameters[at + output],
                    square_sum: &mut squares[at + output],
                    scale: &mut scales[at + output],
                };
                let (change, of_output) = meet(x, square(row.slope[output]), rate, own);
                row.change[i * k + output] = change;
                row.reach[output] += f64::from(change) * f64::from(x);
                // An output that was added later has seen no larger values than the others.
                normal = normal.min(of_output.abs());
            }
            norm += f64::from(normal) * f64::from(normal);
        }

        totals.weight += f64::from(weight);
        totals.norm += f64::from(weight) * norm;
        let time = f64::from(weight) * totals.factor();
        for (flow, reach) in row.moves.iter_mut().zip(&row.reach) {
            *flow = time * reach;
        }
        loss.implicit_update(&row.z, y, &mut row.moves);
        for (flow, reach) in row.moves.iter_mut().zip(&row.reach) {
            *flow = if *reach == 0.0 { 0.0 } else { *flow / reach };
        }
        if k == 1 {
            let (change, by) = (&row.change[..d], row.moves[0] as f32);
            let w = &mut parameters[..d];
            vectorized(
                #[inline(always)]
                || axpy(by, change, w),
            );
        }
        for (i, at, _, _) in others {
            for output in 0..k {
                let by = row.moves[output] as f32;
                parameters[at + output] += by * row.change[i * k + output];
            }
        }
    }
    totals.write(totals_kept);
    if size.l1 > 0.0 || size.l2 > 0.0 {
        let rate = batch.rows as f64 * f64::from(size.learning_rate) * totals.factor();
        regularize(layout, size, rate as f32, parameters, squares, scales);
    }
    sum
}

/// `argmin_v l1 |v| + l2 v^2 / 2 + (v - w)^2 / (2 r)`, with a rate `r` per weight.
fn regularize(
    layout: &Layout,
    size: &StepSize,
    rate: f32,
    parameters: &mut [f32],
    squares: &[f32],
    scales: &[f32],
) {
    for tensor in layout.tensors().iter().filter(|tensor| tensor.role == Role::Weight) {
        let range = tensor.range();
        let own = squares[range.clone()].iter().zip(&scales[range.clone()]);
        for (w, (a, s)) in parameters[range].iter_mut().zip(own) {
            let root = a.sqrt() * s;
            // (Weights that no row has updated stay as they are.)
            let r = if root == 0.0 { 0.0 } else { rate / root };
            *w = shrink(*w, r * size.l1) / (1.0 + r * size.l2);
        }
    }
}

/// Merges the parameters and moments of replicas that started from `base`, in their order, into one
/// model of the rows of all.
///
/// Sums are those of all rows: `base` plus what each replica added. The scale of an input is the
/// largest one; the weights of each replica are rescaled to it, as if the replica had seen such a
/// row. Weights are averaged by what each replica added to the sum of squares of that coordinate
/// (as in Vowpal Wabbit), so that replicas that never met a category do not dilute its weight. If
/// no replica added anything, they are averaged by rows.
pub(crate) fn merge(layout: &Layout, base: &State, replicas: &[State], merged: &mut State) {
    let n = layout.len();
    let rows = |state: &State| (state.rows - base.rows) as f64;
    for i in 0..n {
        let before = f64::from(base.moments[i]);
        let added = |state: &State| f64::from(state.moments[i]) - before;
        let scale = replicas.iter().fold(base.moments[n + i], |s, r| s.max(r.moments[n + i]));
        let grown: f64 = replicas.iter().map(added).sum();
        let (mut w, mut shares) = (0.0, 0.0);
        for state in replicas {
            let share = if grown > 0.0 { added(state) } else { rows(state) };
            let own = state.moments[n + i];
            let kept = if own > 0.0 { f64::from(own) / f64::from(scale) } else { 1.0 };
            w += share * kept * f64::from(state.parameters[i]);
            shares += share;
        }
        merged.parameters[i] = (w / shares) as f32;
        merged.moments[i] = (before + grown) as f32;
        merged.moments[n + i] = scale;
    }
    let before = Totals::read(&base.moments[2 * n..]);
    let mut totals = Totals { ..before };
    for state in replicas {
        let own = Totals::read(&state.moments[2 * n..]);
        totals.weight += own.weight - before.weight;
        totals.norm += own.norm - before.norm;
    }
    totals.write(&mut merged.moments[2 * n..]);
}

#[cfg(test)]
mod tests;
