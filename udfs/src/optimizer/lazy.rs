//! Plain descent with L1 and L2 on a table of categories, where a mini-batch meets few categories.
//!
//! A step without gradient turns a weight `w` into `sign(w) max(0, a |w| - b)` with `a = 1 - lr l2`
//! and `b = lr l1`. With `A` the product of the `a` so far and `B` the sum of `b / A` after each
//! step, `|w| / A + B` stays the same until the weight is 0, where it remains. So the effect of
//! steps `s + 1` to `t` on a weight can be computed at once when the weight is next needed (Duchi
//! and Singer 2009, section 5.3; Carpenter 2008):
//!
//! ```text
//! |w_t| = max(0, |w_s| A_t / A_s - A_t (B_t - B_s))
//! ```
//! The steps one by one would give the same value, but for their rounding.

use super::{Optimizer, StepSize, momentum, tensor_step};
use crate::batch::NO_CATEGORY;
use crate::kernels::math::vectorized;
use crate::learner::{Layout, Role, Table};

/// Steps after which all weights are brought up to date, which bounds the record of `A` and `B`.
const WINDOW: usize = 8192;
/// When `A` falls below this, all weights are brought up to date, long before `A` is subnormal.
const SMALLEST: f64 = 1e-100;

/// The number of steps that each category has taken.
#[derive(Debug)]
pub struct LazySgd {
    table: Table,
    /// Steps of the window that the weights of a category have taken.
    taken: Vec<u32>,
    /// `(A, B)` after each step of the window; the first entry is that before the first step.
    record: Vec<(f64, f64)>,
}

impl LazySgd {
    /// For a table whose weights have taken all steps so far.
    pub fn new(table: Table) -> Self {
        let mut record = Vec::with_capacity(WINDOW + 1);
        record.push((1.0, 0.0));
        Self { table, taken: vec![0; table.categories], record }
    }

    /// Whether this applies to an optimizer with these strengths.
    pub fn fits(optimizer: &Optimizer, l1: f32, l2: f32) -> bool {
        *optimizer == Optimizer::Sgd && (l1 > 0.0 || l2 > 0.0)
    }

    /// Brings the weights of some categories up to date, before their gradient is computed.
    pub fn catch_up(&mut self, codes: &[u32], parameters: &mut [f32]) {
        let weights = &mut parameters[self.table.range()];
        for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
            catch_up(&self.record, &mut self.taken, self.table.units, *code as usize, weights);
        }
    }

    /// Brings all weights up to date, and begins a new window.
    pub fn catch_up_all(&mut self, parameters: &mut [f32]) {
        let weights = &mut parameters[self.table.range()];
        for code in 0..self.table.categories {
            catch_up(&self.record, &mut self.taken, self.table.units, code, weights);
        }
        self.taken.fill(0);
        self.record.truncate(1);
    }

    /// A step by a gradient that is 0 in the table except for the rows of `codes`. These must have
    /// been brought up to date; their gradient is 0 afterwards.
    pub fn step(
        &mut self,
        layout: &Layout,
        size: &StepSize,
        codes: &[u32],
        parameters: &mut [f32],
        gradient: &mut [f32],
    ) {
        Optimizer::Sgd.step_outside(
            layout,
            size,
            &self.table,
            (&mut *parameters, &*gradient, &mut []),
        );
        let own = tensor_step(Role::Weight, size);
        let a = 1.0 - f64::from(own.learning_rate) * f64::from(own.l2);
        let b = f64::from(own.learning_rate) * f64::from(own.l1);
        if a <= 0.0 {
            // Weights jump over 0, which the formula does not cover.
            self.catch_up_all(parameters);
            let range = self.table.range();
            let (w, g) = (&mut parameters[range.clone()], &mut gradient[range]);
            vectorized(
                #[inline(always)]
                || momentum::sgd(own, w, g),
            );
            g.fill(0.0);
            return;
        }
        let (product, sum) = self.record.last().copied().unwrap_or((1.0, 0.0));
        let product = product * a;
        self.record.push((product, sum + b / product));
        let now = (self.record.len() - 1) as u32;
        let range = self.table.range();
        let (w, g) = (&mut parameters[range.clone()], &mut gradient[range]);
        let (units, taken) = (self.table.units, &mut self.taken);
        vectorized(
            #[inline(always)]
            || {
                for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                    let code = *code as usize;
                    if taken[code] != now {
                        taken[code] = now;
                        let row = code * units..(code + 1) * units;
                        momentum::sgd(own, &mut w[row.clone()], &g[row.clone()]);
                        g[row].fill(0.0);
                    }
                }
            },
        );
        if self.record.len() > WINDOW || product < SMALLEST {
            self.catch_up_all(parameters);
        }
    }
}

/// Applies the steps that the weights of a category have not taken yet.
#[inline(always)]
fn catch_up(
    record: &[(f64, f64)],
    taken: &mut [u32],
    units: usize,
    code: usize,
    weights: &mut [f32],
) {
    let now = record.len() - 1;
    let before = taken[code] as usize;
    if before == now {
        return;
    }
    taken[code] = now as u32;
    let ((a, b), (a_before, b_before)) = (record[now], record[before]);
    let (ratio, threshold) = (a / a_before, a * (b - b_before));
    for w in &mut weights[code * units..(code + 1) * units] {
        let kept = f64::from(*w) * ratio;
        *w = (kept - kept.max(-threshold).min(threshold)) as f32;
    }
}
