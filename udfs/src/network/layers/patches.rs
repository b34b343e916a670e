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
    let depth = kernel_y * kernel_x * channels;
    let line = windows.size[1] * windows.channels;
    let is_dense = windows.windows[1].dilation == 1 && channels == windows.channels;
    vectorized(
        #[inline(always)]
        || {
            let mut at = from;
            // Output pixels side by side, up to the end of their row.
            while at < to {
                let (y, x_begin) = (at / windows.output[1], at % windows.output[1]);
                let n = (windows.output[1] - x_begin).min(to - at);
                let panel = &mut panel[(at - from) * depth..][..n * depth];
                for i in 0..kernel_y {
                    let part = i * kernel_x * channels;
                    let source = windows.along(0, y, i).filter(|y| *y < windows.size[0]);
                    let Some(source) = source else {
                        for panel in panel.chunks_exact_mut(depth) {
                            panel[part..part + kernel_x * channels].fill(0.0);
                        }
                        continue;
                    };
                    let x = &x[source * line..(source + 1) * line];
                    for (j, panel) in panel.chunks_exact_mut(depth).enumerate() {
                        let panel = &mut panel[part..part + kernel_x * channels];
                        match is_dense {
                            true => side_by_side(windows, x, x_begin + j, width, panel),
                            false => one_by_one(windows, x, first, x_begin + j, width, panel),
                        }
                    }
                }
                at += n;
            }
        },
    );
}

/// The pixels of a row of the kernel, which lie side by side in a row of the image.
#[inline(always)]
fn side_by_side(windows: &Windows, x: &[f32], output: usize, width: usize, panel: &mut [f32]) {
    let (window, all) = (&windows.windows[1], windows.channels);
    let (left, padding) = (output * window.stride, window.padding[0]);
    // The places `begin..end` of the kernel lie in the image.
    let begin = padding.saturating_sub(left).min(window.kernel);
    let end = (width + padding).saturating_sub(left).clamp(begin, window.kernel);
    if begin == 0 && end == window.kernel {
        let start = (left - padding) * all;
        return copy(panel, &x[start..start + panel.len()]);
    }
    panel[..begin * all].fill(0.0);
    panel[end * all..].fill(0.0);
    if begin < end {
        let start = (left + begin - padding) * all;
        let n = (end - begin) * all;
        copy(&mut panel[begin * all..end * all], &x[start..start + n]);
    }
}

/// The pixels of a row of the kernel, with a dilation or some channels alone.
#[inline(always)]
fn one_by_one(
    windows: &Windows,
    x: &[f32],
    first: usize,
    output: usize,
    width: usize,
    panel: &mut [f32],
) {
    let (kernel, all) = (windows.windows[1].kernel, windows.channels);
    let channels = panel.len() / kernel;
    for (j, panel) in panel.chunks_exact_mut(channels).enumerate() {
        match windows.along(1, output, j).filter(|x| *x < width) {
            Some(at) => {
                let start = at * all + first;
                copy(panel, &x[start..start + channels]);
            }
            None => panel.fill(0.0),
        }
    }
}

/// Copies numbers by windows, of which the last two overlap: a few instructions and no call, which
/// for some dozens of numbers would take longer than the copy.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match to.len() {
        16.. => by_windows::<16>(to, from),
        8.. => by_windows::<8>(to, from),
        4.. => by_windows::<4>(to, from),
        2.. => by_windows::<2>(to, from),
        _ => {
            if let (Some(to), Some(from)) = (to.first_mut(), from.first()) {
                *to = *from;
            }
        }
    }
}

#[inline(always)]
fn by_windows<const N: usize>(to: &mut [f32], from: &[f32]) {
    let (windows, sources) = (to.as_chunks_mut::<N>().0, from.as_chunks::<N>().0);
    for (to, from) in windows.iter_mut().zip(sources) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
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
