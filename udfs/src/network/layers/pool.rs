//! Pooling over windows of an image `[h, w, c]` or a sequence `[steps, c]`, channel by channel:
//! PyTorch's `MaxPool2d`, `AvgPool2d` (padding counts as zeros) and their 1-d forms.

use datafusion_common::{Result, plan_err};

use super::window::Windows;
use crate::kernels::math::vectorized;
use crate::network::definition::{Arguments, Default, Definition, Kind, given, optional, required};
use crate::network::layer::{Built, Incoming, Layer, Pass, Reads};

const MOST: usize = 1 << 16;

const ARGUMENTS: &[crate::network::definition::Argument] = &[
    required("size", Kind::Integers(1, MOST), "size of the window, [height, width] or one number"),
    optional("stride", Kind::Integers(1, MOST), "pixels between windows, by default the size"),
    given(
        "padding",
        Kind::Integers(0, MOST),
        Default::Number(0.0),
        "pixels around the input, at most half of the size",
    ),
];

pub(crate) const MAX_POOL: Definition = Definition {
    name: "max_pool",
    doc: "the largest number of each window, channel by channel",
    arguments: ARGUMENTS,
    build: Some(|arguments, inputs| build(arguments, inputs, true)),
};

pub(crate) const AVG_POOL: Definition = Definition {
    name: "avg_pool",
    doc: "the mean of each window, channel by channel",
    arguments: ARGUMENTS,
    build: Some(|arguments, inputs| build(arguments, inputs, false)),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming], is_max: bool) -> Result<Built> {
    let windows = Windows::new(arguments, inputs, "size", true)?;
    for window in &windows.windows {
        if 2 * window.padding[0] > window.kernel {
            return plan_err!(
                "{} has a padding of {}, which should be at most half of its size {}",
                arguments.node,
                window.padding[0],
                window.kernel
            );
        }
    }
    let (shape, mask) = (windows.shape(windows.channels), windows.mask.clone());
    Ok(Built::new(Pool { windows, is_max }, &shape, mask))
}

/// A pooling over windows.
#[derive(Debug)]
struct Pool {
    windows: Windows,
    is_max: bool,
}

impl Pool {
    fn share(&self) -> f32 {
        1.0 / self.windows.kernel() as f32
    }

    /// Calls `f` with every output pixel's index and the input pixels of its window, in order.
    #[inline(always)]
    fn for_each(&self, width: usize, mut f: impl FnMut(usize, usize, bool)) {
        let windows = &self.windows;
        let [kernel_y, kernel_x] = [windows.windows[0].kernel, windows.windows[1].kernel];
        for oy in 0..windows.output[0] {
            for ox in 0..windows.output[1] {
                let mut is_first = true;
                for i in 0..kernel_y {
                    for j in 0..kernel_x {
                        if let Some(pixel) = windows.pixel([oy, ox], [i, j], width) {
                            f(oy * windows.output[1] + ox, pixel, is_first);
                            is_first = false;
                        }
                    }
                }
            }
        }
    }
}

impl Layer for Pool {
    fn multiply_adds(&self) -> u64 {
        (self.windows.outputs() * self.windows.kernel() * self.windows.channels) as u64
    }

    fn scratch(&self, _: usize) -> usize {
        self.windows.outputs() * self.windows.channels
    }

    fn reads(&self) -> Reads {
        if self.is_max { Reads { input: true, output: true } } else { Reads::NOTHING }
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        let c = self.windows.channels;
        let of_image = self.windows.pixels() * c;
        let images = pass.x(0).chunks_exact(of_image);
        let share = self.share();
        for (row, (x, y)) in images.zip(y.chunks_exact_mut(self.windows.outputs() * c)).enumerate()
        {
            // (A window without valid steps gives 0.)
            y.fill(0.0);
            let width = pass.length(row, self.windows.size[1]);
            vectorized(
                #[inline(always)]
                || {
                    self.for_each(
                        width,
                        #[inline(always)]
                        |output, pixel, is_first| {
                            let y = &mut y[output * c..(output + 1) * c];
                            let x = &x[pixel * c..(pixel + 1) * c];
                            for (y, x) in y.iter_mut().zip(x) {
                                *y = match self.is_max {
                                    // (NaN stays.)
                                    true if is_first || *x > *y || x.is_nan() => *x,
                                    true => *y,
                                    false => *y + share * x,
                                };
                            }
                        },
                    );
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
        let c = self.windows.channels;
        let (of_input, of_output) = (self.windows.pixels() * c, self.windows.outputs() * c);
        let share = self.share();
        dx.fill(0.0);
        let rows = dx.chunks_exact_mut(of_input).zip(pass.dy().chunks_exact(of_output));
        for (row, (dx, dy)) in rows.enumerate() {
            let width = pass.length(row, self.windows.size[1]);
            if !self.is_max {
                vectorized(
                    #[inline(always)]
                    || {
                        self.for_each(
                            width,
                            #[inline(always)]
                            |output, pixel, _| {
                                let dy = &dy[output * c..(output + 1) * c];
                                let dx = &mut dx[pixel * c..(pixel + 1) * c];
                                for (dx, dy) in dx.iter_mut().zip(dy) {
                                    *dx += share * dy;
                                }
                            },
                        );
                    },
                );
                continue;
            }
            // The first of the largest numbers takes the gradient; nothing is left for others.
            let left = &mut scratch[..of_output];
            left.copy_from_slice(dy);
            let x = &pass.x(0)[row * of_input..(row + 1) * of_input];
            let y = &pass.y()[row * of_output..(row + 1) * of_output];
            vectorized(
                #[inline(always)]
                || {
                    self.for_each(
                        width,
                        #[inline(always)]
                        |output, pixel, _| {
                            let left = &mut left[output * c..(output + 1) * c];
                            let y = &y[output * c..(output + 1) * c];
                            let x = &x[pixel * c..(pixel + 1) * c];
                            let dx = &mut dx[pixel * c..(pixel + 1) * c];
                            for (((dx, left), y), x) in dx.iter_mut().zip(left).zip(y).zip(x) {
                                let is_top = *x == *y;
                                *dx += if is_top { *left } else { 0.0 };
                                *left = if is_top { 0.0 } else { *left };
                            }
                        },
                    );
                },
            );
        }
    }
}
