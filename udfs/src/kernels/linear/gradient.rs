//! The gradients of weights and bias: sums over the rows of a mini-batch.

use pulp::Simd;

use super::super::lanes::{self, Kernel, LANES, Lanes, fold_row};
use super::super::math::vectorized;
use super::super::prefetch::Prefetch;
use super::{whole_window, window};

/// `gradient[i] = sum_r dz[r] x[r, i]`; `gradient[d]`.
///
/// Four running sums, of every fourth row each, which are added as `(0 + 1) + (2 + 3)`.
pub fn weight_gradient(x: &[f32], dz: &[f32], gradient: &mut [f32]) {
    weight_gradient_prefetching(x, dz, gradient, Prefetch::NONE);
}

/// [`weight_gradient`], which fetches values into the cache meanwhile.
pub(crate) fn weight_gradient_prefetching(
    x: &[f32],
    dz: &[f32],
    gradient: &mut [f32],
    prefetch: Prefetch<'_>,
) {
    match *dz {
        _ if gradient.is_empty() => {}
        [dz] => vectorized(
            #[inline(always)]
            || row_gradient(x, dz, gradient),
        ),
        _ => lanes::run(WeightGradient { x, dz, gradient, prefetch }),
    }
}

/// [`weight_gradient`] of one row, within a kernel.
#[inline(always)]
pub(in super::super) fn row_gradient(x: &[f32], dz: f32, gradient: &mut [f32]) {
    for (g, x) in gradient.iter_mut().zip(x) {
        *g = dz * x;
    }
}

/// The sum of all `dz[r]`: the gradient of the bias, in sixteen running sums and a remainder.
pub fn bias_gradient(dz: &[f32]) -> f32 {
    match *dz {
        [dz] => dz,
        _ => lanes::run(Total(dz)),
    }
}

pub(super) struct Total<'a>(pub(super) &'a [f32]);

impl Kernel for Total<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) -> f32 {
        let (blocks, rest) = self.0.as_chunks();
        let mut sum = Lanes::<S, V>::load_part(simd, rest);
        for block in blocks {
            sum = sum.plus(Lanes::load(simd, block));
        }
        let mut sums = [0.0; LANES];
        sum.store(&mut sums);
        fold_row(&sums)
    }
}

pub(super) struct WeightGradient<'a> {
    pub(super) x: &'a [f32],
    pub(super) dz: &'a [f32],
    pub(super) gradient: &'a mut [f32],
    pub(super) prefetch: Prefetch<'a>,
}

impl Kernel for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { x, dz, gradient, prefetch } = self;
        let d = gradient.len();
        if d < LANES {
            let [sums] = column_sums::<S, V, 1>(
                simd,
                dz,
                prefetch,
                #[inline(always)]
                |r| [window(simd, x, r * d)],
            );
            return gradient.copy_from_slice(&sums[..d]);
        }
        WideGradient { x, dz, gradient, prefetch }.run::<S, V>(simd)
    }
}

/// [`weight_gradient`] of rows of at least 16 numbers.
struct WideGradient<'a> {
    x: &'a [f32],
    dz: &'a [f32],
    gradient: &'a mut [f32],
    prefetch: Prefetch<'a>,
}

impl Kernel for WideGradient<'_> {
    type Output = ();

    /// Windows of 16 columns stay in registers during the loop over rows: as many windows as fit
    /// the registers of the vector width, four sums per window. The last window ends with the row.
    /// Where it overlaps the one before, both compute the same values.
    #[inline(always)]
    fn run<S: Simd, const V: usize>(mut self, simd: S) {
        let d = self.gradient.len();
        let mut at = 0;
        while V == 1 && at + LANES < d {
            self.columns::<S, V, 2>(simd, [at, (at + LANES).min(d - LANES)]);
            at += 2 * LANES;
        }
        while at < d {
            self.columns::<S, V, 1>(simd, [at.min(d - LANES)]);
            at += LANES;
        }
    }
}

impl WideGradient<'_> {
    /// The windows of columns that begin at `starts`.
    #[inline(always)]
    fn columns<S: Simd, const V: usize, const K: usize>(&mut self, simd: S, starts: [usize; K]) {
        let (x, d) = (self.x, self.gradient.len());
        let sums = column_sums::<S, V, K>(
            simd,
            self.dz,
            // By the first of the windows.
            std::mem::take(&mut self.prefetch),
            #[inline(always)]
            |r| {
                let row = &x[r * d..(r + 1) * d];
                starts.map(
                    #[inline(always)]
                    |at| Lanes::load(simd, whole_window(row, at)),
                )
            },
        );
        for (at, sums) in starts.into_iter().zip(sums) {
            self.gradient[at..at + LANES].copy_from_slice(&sums);
        }
    }
}

/// The sums of `dz[r]` times the windows of row `r`, which are `at(r)`.
#[inline(always)]
fn column_sums<S: Simd, const V: usize, const K: usize>(
    simd: S,
    dz: &[f32],
    prefetch: Prefetch<'_>,
    at: impl Fn(usize) -> [Lanes<S, V>; K],
) -> [[f32; LANES]; K] {
    let mut sums = [[Lanes::<S, V>::splat(simd, 0.0); K]; 4];
    let (fours, rest) = dz.as_chunks::<4>();
    let stride = prefetch.stride(fours.len().max(1));
    let mut r = 0;
    for (four, dz) in fours.iter().enumerate() {
        prefetch.fetch(four, stride);
        for (sums, dz) in sums.iter_mut().zip(dz) {
            add_row(simd, sums, *dz, at(r));
            r += 1;
        }
    }
    for (sums, dz) in sums.iter_mut().zip(rest) {
        add_row(simd, sums, *dz, at(r));
        r += 1;
    }
    let [a, b, c, d] = sums;
    let mut totals = [[0.0; LANES]; K];
    for (k, to) in totals.iter_mut().enumerate() {
        a[k].plus(b[k]).plus(c[k].plus(d[k])).store(to);
    }
    totals
}

/// Adds `dz` times the windows of a row.
#[inline(always)]
fn add_row<S: Simd, const V: usize, const K: usize>(
    simd: S,
    sums: &mut [Lanes<S, V>; K],
    dz: f32,
    row: [Lanes<S, V>; K],
) {
    let dz = Lanes::splat(simd, dz);
    for (sum, row) in sums.iter_mut().zip(row) {
        *sum = sum.plus(row.times(dz));
    }
}
