//! Pooling over all places of an image or sequence, `[.., c]` to `[c]`: PyTorch's
//! `AdaptiveAvgPool2d(1)` and `AdaptiveMaxPool2d(1)`. Of a sequence with a length, over its valid
//! steps; without any, 0.

use datafusion_common::Result;

use crate::kernels::math::{axpy, vectorized};
use crate::network::definition::{Arguments, Definition};
use crate::network::layer::{Built, Incoming, Layer, Pass, Reads, misfit, only_numbers};

pub(crate) const GLOBAL_MAX_POOL: Definition = Definition {
    name: "global_max_pool",
    doc: "the largest number over all pixels or steps, channel by channel",
    arguments: &[],
    build: Some(|arguments, inputs| build(arguments, inputs, true)),
};

pub(crate) const GLOBAL_AVG_POOL: Definition = Definition {
    name: "global_avg_pool",
    doc: "the mean over all pixels or steps, channel by channel",
    arguments: &[],
    build: Some(|arguments, inputs| build(arguments, inputs, false)),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming], is_max: bool) -> Result<Built> {
    const NEEDS: &str = "an image [height, width, channels] or a sequence [steps, channels]";
    match only_numbers(arguments.node, inputs, NEEDS)?.0.split_last() {
        Some((channels, outer)) if !outer.is_empty() => {
            let places = outer.iter().product();
            let masked = if inputs[0].mask.is_some() { outer[0] } else { 1 };
            let pool = GlobalPool { places, of_step: places / masked, channels: *channels, is_max };
            Ok(Built::new(pool, &[*channels], None))
        }
        _ => misfit(arguments.node, inputs, NEEDS),
    }
}

/// A pooling over all places.
#[derive(Debug)]
struct GlobalPool {
    places: usize,
    /// Places of a step, where there is a mask.
    of_step: usize,
    channels: usize,
    is_max: bool,
}

impl GlobalPool {
    fn valid(&self, pass: &Pass<'_>, row: usize) -> usize {
        let steps = self.places / self.of_step.max(1);
        pass.lengths.map_or(self.places, |_| self.of_step * pass.length(row, steps))
    }
}

impl Layer for GlobalPool {
    fn multiply_adds(&self) -> u64 {
        (self.places * self.channels) as u64
    }

    fn scratch(&self, _: usize) -> usize {
        self.channels
    }

    fn reads(&self) -> Reads {
        if self.is_max { Reads { input: true, output: true } } else { Reads::NOTHING }
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        let c = self.channels;
        let rows = pass.x(0).chunks_exact(self.places * c).zip(y.chunks_exact_mut(c));
        for (row, (x, y)) in rows.enumerate() {
            y.fill(0.0);
            let n = self.valid(pass, row);
            let share = 1.0 / n.max(1) as f32;
            vectorized(
                #[inline(always)]
                || {
                    for (i, x) in x.chunks_exact(c).take(n).enumerate() {
                        for (y, x) in y.iter_mut().zip(x) {
                            *y = match self.is_max {
                                true if i == 0 || *x > *y || x.is_nan() => *x,
                                true => *y,
                                false => *y + x,
                            };
                        }
                    }
                    if !self.is_max {
                        y.iter_mut().for_each(|y| *y *= share);
                    }
                },
            );
        }
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        dx: Option<&mut [f32]>,
        _: &mut [f32],
        scratch: &mut [f32],
    ) {
        let Some(dx) = dx else { return };
        let c = self.channels;
        dx.fill(0.0);
        let rows = dx.chunks_exact_mut(self.places * c).zip(pass.dy().chunks_exact(c));
        for (row, (dx, dy)) in rows.enumerate() {
            let n = self.valid(pass, row);
            if !self.is_max {
                let share = 1.0 / n.max(1) as f32;
                vectorized(
                    #[inline(always)]
                    || dx.chunks_exact_mut(c).take(n).for_each(|dx| axpy(share, dy, dx)),
                );
                continue;
            }
            let left = &mut scratch[..c];
            left.copy_from_slice(dy);
            let x = &pass.x(0)[row * self.places * c..(row + 1) * self.places * c];
            let y = &pass.y()[row * c..(row + 1) * c];
            for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).take(n) {
                for (((dx, left), y), x) in dx.iter_mut().zip(&mut *left).zip(y).zip(x) {
                    if *x == *y {
                        *dx = std::mem::take(left);
                    }
                }
            }
        }
    }
}
