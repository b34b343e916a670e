//! Softmax over the last axis: `y_i = exp(x_i) / sum exp(x)`, `dx_i = y_i (dy_i - sum dy y)`.

use datafusion_common::Result;

use crate::kernels::math::{dot, exp, tree_sum, vectorized};
use crate::network::definition::{Arguments, Definition};
use crate::network::layer::{Built, Incoming, Layer, Pass, Reads, misfit, only_numbers};

pub(crate) const SOFTMAX: Definition = Definition {
    name: "softmax",
    doc: "exponentials over the last axis, divided by their sum",
    arguments: &[],
    build: Some(build),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    let (shape, mask) = only_numbers(arguments.node, inputs, "numbers")?;
    match shape.last() {
        Some(channels) => Ok(Built::new(Softmax(*channels), shape, mask.cloned())),
        None => misfit(arguments.node, inputs, "numbers"),
    }
}

/// A softmax over so many channels.
#[derive(Debug)]
struct Softmax(usize);

/// The softmax of some numbers, in place. Without numbers, nothing.
#[inline(always)]
pub(super) fn normalize(values: &mut [f32]) {
    // (16 at a time: one after another, each would wait for the one before.)
    const LANES: usize = 16;
    let mut tops = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        for i in 0..LANES {
            tops[i] = if values[i] > tops[i] { values[i] } else { tops[i] };
        }
    }
    let over = |top: f32, x: &f32| if *x > top { *x } else { top };
    let top = rest.iter().chain(&tops).fold(f32::NEG_INFINITY, over);
    for value in values.iter_mut() {
        *value = exp(*value - top);
    }
    let mut sums = [0.0; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        for i in 0..LANES {
            sums[i] += values[i];
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value;
    }
    let share = 1.0 / tree_sum(&mut sums);
    for value in values.iter_mut() {
        *value *= share;
    }
}

/// `d_i = y_i (d_i - sum d y)`.
#[inline(always)]
pub(super) fn slope(y: &[f32], d: &mut [f32]) {
    let total = dot(y, d);
    for (d, y) in d.iter_mut().zip(y) {
        *d = y * (*d - total);
    }
}

impl Layer for Softmax {
    fn is_in_place(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::OUTPUT
    }

    fn forward(&self, _: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        vectorized(
            #[inline(always)]
            || {
                for y in y.chunks_exact_mut(self.0) {
                    normalize(y);
                }
            },
        );
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        dx: Option<&mut [f32]>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
        let Some(dx) = dx else { return };
        vectorized(
            #[inline(always)]
            || {
                for (dx, y) in dx.chunks_exact_mut(self.0).zip(pass.y().chunks_exact(self.0)) {
                    slope(y, dx);
                }
            },
        );
    }
}
