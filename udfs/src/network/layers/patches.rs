//! The windows of a convolution as rows of a matrix, and back (im2col, Chellapilla et al. 2006).

use super::window::Windows;
use crate::kernels::math::{axpy, vectorized};

/// Copies the windows of output pixels `from..to` of an image into `panel`
/// `[to - from, kernel, channels of the group]`.
pub(super) fn gather(
    windows: &Windows,
    x: &[f32],
    (first, channels): (usize, usize),
    (from, to): (usize, usize),
    width: usize,
    panel: &mut [f32],
) {
    let [kernel_y, kernel_x] = [windows.windows[0].kernel, windows.windows[1].kernel];
    let (all, line) = (windows.channels, windows.size[1] * windows.channels);
    let window = &windows.windows[1];
    let is_dense = window.dilation == 1 && channels == all;
    let depth = kernel_y * kernel_x * channels;
    vectorized(
        #[inline(always)]
        || {
            for (p, panel) in (from..to).zip(panel.chunks_exact_mut(depth)) {
                let at = [p / windows.output[1], p % windows.output[1]];
                for (i, panel) in panel.chunks_exact_mut(kernel_x * channels).enumerate() {
                    let y = windows.along(0, at[0], i).filter(|y| *y < windows.size[0]);
                    let Some(y) = y else {
                        panel.fill(0.0);
                        continue;
                    };
                    let x = &x[y * line..(y + 1) * line];
                    if is_dense {
                        // The places `begin..end` of the kernel lie in the image, side by side.
                        let left = at[1] * window.stride;
                        let begin = window.padding[0].saturating_sub(left).min(kernel_x);
                        let end = (width + window.padding[0]).saturating_sub(left);
                        let end = end.clamp(begin, kernel_x);
                        let start = left + begin - window.padding[0].min(left + begin);
                        panel[..begin * all].fill(0.0);
                        panel[end * all..].fill(0.0);
                        let from = &x[(start * all).min(x.len())..];
                        let n = (end - begin) * all;
                        panel[begin * all..end * all].copy_from_slice(&from[..n]);
                        continue;
                    }
                    for (j, panel) in panel.chunks_exact_mut(channels).enumerate() {
                        match windows.along(1, at[1], j).filter(|x| *x < width) {
                            Some(at) => {
                                let start = at * all + first;
                                panel.copy_from_slice(&x[start..start + channels]);
                            }
                            None => panel.fill(0.0),
                        }
                    }
                }
            }
        },
    );
}

/// Adds a panel of gradients to the pixels that [`gather`] copied it from.
pub(super) fn scatter(
    windows: &Windows,
    dx: &mut [f32],
    (first, channels): (usize, usize),
    (from, to): (usize, usize),
    width: usize,
    panel: &[f32],
) {
    let [kernel_y, kernel_x] = [windows.windows[0].kernel, windows.windows[1].kernel];
    let (all, depth) = (windows.channels, kernel_y * kernel_x * channels);
    vectorized(
        #[inline(always)]
        || {
            for (p, panel) in (from..to).zip(panel.chunks_exact(depth)) {
                let at = [p / windows.output[1], p % windows.output[1]];
                for (k, panel) in panel.chunks_exact(channels).enumerate() {
                    let place = [k / kernel_x, k % kernel_x];
                    if let Some(pixel) = windows.pixel(at, place, width) {
                        let start = pixel * all + first;
                        axpy(1.0, panel, &mut dx[start..start + channels]);
                    }
                }
            }
        },
    );
}
