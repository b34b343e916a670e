//! The gradient of a linear model with one output on a single row, in one kernel. In separate
//! kernels, the score, loss and gradient of a row would spend more time on calls and memory than on
//! the computation.

use pulp::Simd;

use super::gather::{single_backward, single_forward};
use super::lanes::{self, Kernel};
use super::linear::{Scores, row_gradient};
use super::loss::of_row;
use super::prefetch::Prefetch;
use crate::batch::MiniBatch;
use crate::learner::{Loss, LossSum};

/// What the gradient of a row needs.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The loss.
    pub loss: Loss,
    /// Factor on the gradient.
    pub scale: f32,
    /// Weights `w[d]`.
    pub w: &'a [f32],
    /// Weights of categories.
    pub table: &'a [f32],
    /// The bias.
    pub bias: f32,
}

/// Overwrites `gradient[d]`, adds to the gradient of the row's categories in `table`, and returns
/// the gradient of the bias and the loss. The bits are the same as those of the kernels for many
/// rows. Without a row, nothing is added.
#[inline]
pub fn gradient(
    row: &Row<'_>,
    batch: &MiniBatch<'_>,
    gradient: &mut [f32],
    table: &mut [f32],
) -> (f32, LossSum) {
    lanes::run(Gradient { row, batch, gradient, table })
}

/// (References to structs of many fields: such structs would be copied by vectors, and the kernel
/// would wait until each copy is in the cache.)
struct Gradient<'a> {
    row: &'a Row<'a>,
    batch: &'a MiniBatch<'a>,
    gradient: &'a mut [f32],
    table: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = (f32, LossSum);

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) -> (f32, LossSum) {
        let Self { row, batch, gradient, table } = self;
        let ([label, ..], [weight, ..]) = (batch.label, batch.weight) else {
            return (0.0, LossSum::default());
        };
        let mut z = [0.0];
        Scores { x: batch.dense, w: row.w, bias: row.bias, z: &mut z, prefetch: Prefetch::NONE }
            .run::<S, V>(simd);
        single_forward(batch.codes, row.table, &mut z, batch.codes.len());
        let (dz, sum) = of_row(row.loss, z[0], *label, *weight, row.scale);
        row_gradient(batch.dense, dz, gradient);
        single_backward(batch.codes, &[dz], table, batch.codes.len());
        (dz, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::NO_CATEGORY;
    use crate::kernels::lanes::on_every_width;
    use crate::kernels::linear;
    use crate::kernels::rng::{mix, unit};

    fn draws(what: u64, n: usize) -> Vec<f32> {
        (0..n as u64).map(|i| 4.0 * unit(mix(11, what, i)) - 2.0).collect()
    }

    #[test]
    fn a_row_gives_the_bits_of_the_kernels_of_many_on_every_vector_width() {
        let (categories, codes) = ([0.25, -0.5, 1.0], [2, NO_CATEGORY, 0, 2]);
        for loss in Loss::ALL {
            for (d, c) in (0..40).map(|d| (d, d % 5)).chain([(64, 0), (129, 2), (200, 4)]) {
                let (x, w, codes) = (draws(1, d), draws(2, d), &codes[..c]);
                let (label, weight) = (&[1.0f32][..], &[0.75f32][..]);
                let mut z = [0.0];
                linear::scores(&x, &w, 0.5, &mut z);
                single_forward(codes, &categories, &mut z, c);
                let sum = loss.differentiate(&mut z, 1, label, weight, 0.125);
                let (mut dense, mut table) = (vec![f32::NAN; d], [0.0; 3]);
                linear::weight_gradient(&x, &z, &mut dense);
                single_backward(codes, &z, &mut table, c);

                let row = Row { loss, scale: 0.125, w: &w, table: &categories, bias: 0.5 };
                let batch =
                    MiniBatch { rows: 1, dense: &x, codes, label, weight, ..MiniBatch::default() };
                let (mut own, mut own_table) = (vec![f32::NAN; d], [0.0; 3]);
                let found = gradient(&row, &batch, &mut own, &mut own_table);
                assert_eq!((found, &own, own_table), ((z[0], sum), &dense, table), "{loss:?} {d}");
                on_every_width(|width| {
                    let (mut other, mut table) = (vec![f32::NAN; d], [0.0; 3]);
                    let (row, batch) = (&row, &batch);
                    let (gradient, table) = (&mut other[..], &mut table[..]);
                    let kernel = Gradient { row, batch, gradient, table };
                    assert_eq!(width.run(kernel), found, "{loss:?} {d}");
                    assert_eq!((&other, &*table), (&own, &own_table[..]), "{loss:?} {d}");
                });
            }
        }
    }
}
