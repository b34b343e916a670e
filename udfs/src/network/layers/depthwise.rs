//! Convolutions in which every channel has one filter of its own, pixel by pixel.

use super::window::Windows;
use crate::kernels::math::vectorized;

/// `y[p, c] += x[p + k, c] W[k, c]`.
pub(super) fn forward(windows: &Windows, x: &[f32], weight: &[f32], width: usize, y: &mut [f32]) {
    let c = windows.channels;
    let kernel_x = windows.windows[1].kernel;
    vectorized(
        #[inline(always)]
        || {
            for (p, y) in y.chunks_exact_mut(c).enumerate() {
                let at = [p / windows.output[1], p % windows.output[1]];
                for (k, weight) in weight.chunks_exact(c).enumerate() {
                    let place = [k / kernel_x, k % kernel_x];
                    let Some(pixel) = windows.pixel(at, place, width) else { continue };
                    let x = &x[pixel * c..(pixel + 1) * c];
                    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                        *y += x * w;
                    }
                }
            }
        },
    );
}

/// `dx[p + k, c] += W[k, c] dy[p, c]` and `gradient[k, c] += x[p + k, c] dy[p, c]`.
pub(super) fn backward(
    windows: &Windows,
    (x, dy): (&[f32], &[f32]),
    weight: &[f32],
    width: usize,
    mut dx: Option<&mut [f32]>,
    gradient: &mut [f32],
) {
    let c = windows.channels;
    let kernel_x = windows.windows[1].kernel;
    if let Some(dx) = &mut dx {
        dx.fill(0.0);
    }
    vectorized(
        #[inline(always)]
        || {
            for (p, dy) in dy.chunks_exact(c).enumerate() {
                let at = [p / windows.output[1], p % windows.output[1]];
                let kernels = weight.chunks_exact(c).zip(gradient.chunks_exact_mut(c));
                for (k, (weight, gradient)) in kernels.enumerate() {
                    let place = [k / kernel_x, k % kernel_x];
                    let Some(pixel) = windows.pixel(at, place, width) else { continue };
                    let range = pixel * c..(pixel + 1) * c;
                    for ((g, x), dy) in gradient.iter_mut().zip(&x[range.clone()]).zip(dy) {
                        *g += x * dy;
                    }
                    if let Some(dx) = &mut dx {
                        for ((dx, w), dy) in dx[range].iter_mut().zip(weight).zip(dy) {
                            *dx += w * dy;
                        }
                    }
                }
            }
        },
    );
}
