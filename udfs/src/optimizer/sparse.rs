//! Sparse updates: steps that visit only the categories met by the mini-batch.
//!
//! A mini-batch meets a few thousand of the million categories of a weight table. Where a gradient
//! of 0 changes nothing, leaving out the others gives the same bits as a pass over all:
//!
//! | optimizer | a gradient of 0 changes nothing |
//! |---|---|
//! | sgd | without L1 and L2 (with them, see [`LazySgd`](super::LazySgd)) |
//! | adagrad | without L1 and L2, for then `a += 0` and `w -= 0` |
//! | ftrl | at a constant rate, since weights are a function of `z` and `n` |
//! | others | never: velocities and means decay, and continue to move the weights |

use std::ops::Range;

use super::{Optimizer, StepSize, adaptive, ftrl, momentum, tensor_step};
use crate::batch::NO_CATEGORY;
use crate::kernels::math::vectorized;
use crate::kernels::prefetch::fetch_one;
use crate::learner::{Layout, Role, Table};

/// The numbers of a category with one weight, stored side by side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    /// Its weight.
    pub weight: f32,
    /// The gradient of the current step so far.
    pub gradient: f32,
    /// The optimizer's moments of the weight.
    pub moments: [f32; 2],
}

impl Optimizer {
    /// Whether [`Optimizer::is_sparse`] is true for some step sizes, or skipped steps can be
    /// applied later.
    pub fn may_be_sparse(&self) -> bool {
        matches!(self, Optimizer::Sgd | Optimizer::Adagrad { .. } | Optimizer::Ftrl { .. })
    }

    /// Whether a step of this size leaves weights and moments unchanged where the gradient is 0.
    pub fn is_sparse(&self, size: &StepSize) -> bool {
        let free = size.l1 == 0.0 && size.l2 == 0.0;
        match self {
            Optimizer::Sgd => free,
            // (The rate of a coordinate that no step has updated is 1 over epsilon.)
            Optimizer::Adagrad { epsilon } => free && *epsilon > 0.0,
            Optimizer::Ftrl { .. } => size.previous == Some(1.0),
            _ => false,
        }
    }

    /// [`Optimizer::step`] by a gradient that is 0 in the table except for the rows of `codes`,
    /// whose gradient is 0 afterwards. For step sizes for which [`Optimizer::is_sparse`] is true.
    pub fn step_sparse(
        &self,
        layout: &Layout,
        size: &StepSize,
        (table, codes): (&Table, &[u32]),
        parameters: &mut [f32],
        gradient: &mut [f32],
        moments: &mut [f32],
    ) {
        self.step_outside(layout, size, table, (&mut *parameters, gradient, &mut *moments));
        let own = tensor_step(Role::Weight, size);
        let n = layout.len();
        let range = table.range();
        let (first, second) = moments.split_at_mut(if self.moments() > 0 { n } else { 0 });
        let w = &mut parameters[range.clone()];
        let g = &mut gradient[range.clone()];
        let m = first.get_mut(range.clone()).unwrap_or_default();
        let v = second.get_mut(range).unwrap_or_default();
        // A category that occurs twice is visited the second time with a gradient of 0.
        vectorized(
            #[inline(always)]
            || match *self {
                Optimizer::Sgd => visit(
                    codes,
                    table.units,
                    #[inline(always)]
                    |row| {
                        momentum::sgd(own, &mut w[row.clone()], &g[row.clone()]);
                        g[row].fill(0.0);
                    },
                ),
                Optimizer::Adagrad { epsilon } => visit(
                    codes,
                    table.units,
                    #[inline(always)]
                    |row| {
                        let (w, m) = (&mut w[row.clone()], &mut m[row.clone()]);
                        adaptive::adagrad(own, epsilon, w, &g[row.clone()], m);
                        g[row].fill(0.0);
                    },
                ),
                Optimizer::Ftrl { beta } => visit(
                    codes,
                    table.units,
                    #[inline(always)]
                    |row| {
                        let (w, z) = (&mut w[row.clone()], &mut m[row.clone()]);
                        ftrl::ftrl(own, beta, w, &g[row.clone()], z, &mut v[row.clone()]);
                        g[row].fill(0.0);
                    },
                ),
                _ => {
                    self.step_values(own, w, g, m, v);
                    g.fill(0.0);
                }
            },
        );
    }

    /// The same for the categories in `codes` with one weight each, whose numbers are stored side
    /// by side. Meanwhile prefetches those in `next`.
    pub(crate) fn step_numbers(
        &self,
        size: &StepSize,
        numbers: &mut [Numbers],
        (codes, next): (&[u32], &[u32]),
    ) {
        let step = tensor_step(Role::Weight, size);
        vectorized(
            #[inline(always)]
            || match *self {
                Optimizer::Adagrad { epsilon } => visit_numbers(
                    numbers,
                    (codes, next),
                    #[inline(always)]
                    |w, g, [m, _]| adaptive::free_adagrad(step, epsilon, w, g, m),
                ),
                Optimizer::Ftrl { beta } => visit_numbers(
                    numbers,
                    (codes, next),
                    #[inline(always)]
                    |w, g, [z, n]| ftrl::ftrl(step, beta, one(w), &[g], one(z), one(n)),
                ),
                // (The last of those that may be local.)
                _ => visit_numbers(
                    numbers,
                    (codes, next),
                    #[inline(always)]
                    |w, g, _| momentum::sgd(step, one(w), &[g]),
                ),
            },
        );
    }

    /// A step on everything except the table, which is the end of the first weight.
    pub(crate) fn step_outside(
        &self,
        layout: &Layout,
        size: &StepSize,
        table: &Table,
        values: (&mut [f32], &[f32], &mut [f32]),
    ) {
        self.step_ranges(layout, size, values, |range| match range.contains(&table.offset) {
            true => range.start..table.offset,
            false => range,
        });
    }
}

/// Calls `f` with weight, gradient and moments of each category in `codes`; the gradient is 0
/// afterwards. (The code of an unknown category is beyond the last one.)
#[inline(always)]
fn visit_numbers(
    numbers: &mut [Numbers],
    (codes, next): (&[u32], &[u32]),
    mut f: impl FnMut(&mut f32, f32, &mut [f32; 2]),
) {
    for (i, code) in codes.iter().enumerate() {
        if let Some(next) = next.get(i) {
            fetch_one(numbers, *next as usize);
        }
        if let Some(own) = numbers.get_mut(*code as usize) {
            f(&mut own.weight, own.gradient, &mut own.moments);
            own.gradient = 0.0;
        }
    }
}

/// One number as a slice.
#[inline(always)]
fn one(value: &mut f32) -> &mut [f32] {
    std::slice::from_mut(value)
}

/// Calls `f` with the range of each category's row.
#[inline(always)]
fn visit(codes: &[u32], units: usize, mut f: impl FnMut(Range<usize>)) {
    if units == 1 {
        for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
            f(*code as usize..*code as usize + 1);
        }
        return;
    }
    for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
        f(*code as usize * units..(*code as usize + 1) * units);
    }
}
