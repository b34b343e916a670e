//! Running statistics of dense inputs, and their scales.
//!
//! An update of `n` rows costs one division per row and input. Inputs are processed in groups that
//! fill a vector register; their sums stay in registers over the rows.

use std::ops::Range;

use crate::encoder::{ByteScale, Scale};
use crate::kernels::math::vectorized;

/// How a dense input is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaling {
    /// By mean and standard deviation.
    Standard,
    /// Not scaled, but missing values become the mean.
    Raw,
    /// Not scaled: cycles of a timestamp.
    Cycle,
    /// By the largest element so far of the vector of bytes that begins at that slot.
    Bytes(usize),
}

/// Statistics of the dense inputs; one entry per input.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots {
    pub(super) scaling: Vec<Scaling>,
    pub(super) count: Vec<f64>,
    pub(super) missing: Vec<f64>,
    pub(super) mean: Vec<f64>,
    /// Sums of squared differences from the mean.
    pub(super) squares: Vec<f64>,
    pub(super) min: Vec<f64>,
    pub(super) max: Vec<f64>,
    /// Subtrahend, divisor and what replaces missing values, as of the last [`Slots::rescale`].
    center: Vec<f64>,
    divisor: Vec<f64>,
    fill: Vec<f64>,
    has_bytes: bool,
}

impl Slots {
    /// Subtrahends and divisors, as of the last [`Slots::rescale`].
    pub(super) fn scales(&self) -> (&[f64], &[f64]) {
        (&self.center, &self.divisor)
    }

    /// Number of dense inputs.
    pub(super) fn len(&self) -> usize {
        self.scaling.len()
    }

    pub(super) fn push(&mut self, scaling: Scaling) {
        self.scaling.push(scaling);
        self.has_bytes |= matches!(scaling, Scaling::Bytes(_));
        for (values, start) in [
            (&mut self.count, 0.0),
            (&mut self.missing, 0.0),
            (&mut self.mean, 0.0),
            (&mut self.squares, 0.0),
            (&mut self.min, f64::INFINITY),
            (&mut self.max, f64::NEG_INFINITY),
            (&mut self.center, 0.0),
            (&mut self.divisor, 1.0),
            (&mut self.fill, 0.0),
        ] {
            values.push(start);
        }
    }

    /// Updates the statistics by rows `[n, d]`, one after another (Welford 1962).
    pub(super) fn update(&mut self, rows: &[f64]) {
        let d = self.len();
        vectorized(
            #[inline(always)]
            || {
                let mut first = 0;
                while first + 8 <= d {
                    self.update_group::<8>(rows, first);
                    first += 8;
                }
                if first + 4 <= d {
                    self.update_group::<4>(rows, first);
                    first += 4;
                }
                while first < d {
                    self.update_group::<1>(rows, first);
                    first += 1;
                }
            },
        );
    }

    #[inline(always)]
    fn update_group<const N: usize>(&mut self, rows: &[f64], first: usize) {
        let d = self.len();
        let group = first..first + N;
        let mut count = gather::<N>(&self.count, first);
        let mut mean = gather::<N>(&self.mean, first);
        let mut squares = gather::<N>(&self.squares, first);
        let mut min = gather::<N>(&self.min, first);
        let mut max = gather::<N>(&self.max, first);
        let before = count;
        for row in rows.chunks_exact(d) {
            let x = gather::<N>(row, first);
            for k in 0..N {
                let known = x[k].abs() < f64::INFINITY;
                let value = if known { x[k] } else { mean[k] };
                count[k] += if known { 1.0 } else { 0.0 };
                // A missing value counts as the mean and changes nothing.
                let delta = value - mean[k];
                mean[k] += delta * (1.0 / if count[k] > 1.0 { count[k] } else { 1.0 });
                squares[k] += delta * (value - mean[k]);
                let (low, high) =
                    if known { (value, value) } else { (f64::INFINITY, f64::NEG_INFINITY) };
                min[k] = if low < min[k] { low } else { min[k] };
                max[k] = if high > max[k] { high } else { max[k] };
            }
        }
        let n = (rows.len() / d) as f64;
        for (k, missing) in self.missing[group.clone()].iter_mut().enumerate() {
            *missing += n - (count[k] - before[k]);
        }
        self.count[group.clone()].copy_from_slice(&count);
        self.mean[group.clone()].copy_from_slice(&mean);
        self.squares[group.clone()].copy_from_slice(&squares);
        self.min[group.clone()].copy_from_slice(&min);
        self.max[group].copy_from_slice(&max);
    }

    /// Sets the scales to those of the rows so far.
    pub(super) fn rescale(&mut self) {
        let d = self.len();
        let Slots { scaling, count, missing, mean, squares, min, max, center, divisor, .. } = self;
        vectorized(
            #[inline(always)]
            || {
                let statistics = (&count[..d], &missing[..d], &mean[..d], &squares[..d]);
                let (min, max, scaling) = (&min[..d], &max[..d], &scaling[..d]);
                let (center, divisor) = (&mut center[..d], &mut divisor[..d]);
                for i in 0..d {
                    let (count, missing) = (statistics.0[i], statistics.1[i]);
                    let (mean, squares) = (statistics.2[i], statistics.3[i]);
                    let rows = count + missing;
                    let stddev = if rows > 0.0 { (squares / rows).sqrt() } else { 0.0 };
                    let noise = f64::EPSILON * mean.abs() * 8.0;
                    let varies = (stddev > noise) & (min[i] < max[i]);
                    let keeps = varies | (stddev.abs() >= f64::INFINITY) | stddev.is_nan();
                    let standard = scaling[i] == Scaling::Standard;
                    center[i] = if standard { mean } else { center[i] };
                    let own = if keeps { stddev } else { 1.0 };
                    divisor[i] = if standard { own } else { divisor[i] };
                }
            },
        );
        self.fill.copy_from_slice(&self.mean);
        if self.has_bytes {
            self.rescale_bytes();
        }
    }

    /// A vector of bytes has one divisor and one fill.
    fn rescale_bytes(&mut self) {
        let mut i = 0;
        while i < self.scaling.len() {
            let Scaling::Bytes(first) = self.scaling[i] else {
                i += 1;
                continue;
            };
            let len = self.scaling[i..].iter().take_while(|s| **s == Scaling::Bytes(first)).count();
            let scale = self.byte_scale(i..i + len);
            self.divisor[i..i + len].fill(scale.divisor);
            self.fill[i..i + len].fill(f64::from(scale.fill()));
            i += len;
        }
    }

    /// The scale of a vector of bytes, for an encoder.
    pub(super) fn byte_scale(&self, elements: Range<usize>) -> ByteScale {
        let counts = self.count[elements.clone()].iter();
        let sum: f64 = counts.clone().zip(&self.mean[elements.clone()]).map(|(n, m)| n * m).sum();
        let count: f64 = counts.sum();
        let min = self.min[elements.clone()].iter().copied().fold(f64::INFINITY, f64::min);
        let max = self.max[elements.clone()].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let is_known = count > 0.0;
        ByteScale {
            length: elements.len(),
            divisor: max.max(1.0),
            mean: if is_known { sum / count } else { 0.0 },
            min: if is_known { min } else { f64::NAN },
            max: if is_known { max } else { f64::NAN },
        }
    }

    /// Scales rows `[n, d]` as of the last [`Slots::rescale`]; missing values become the mean.
    pub(super) fn encode(&self, rows: &[f64], out: &mut [f32]) {
        let d = self.len();
        vectorized(
            #[inline(always)]
            || {
                let (fill, center) = (&self.fill[..d], &self.center[..d]);
                let divisor = &self.divisor[..d];
                for (out, row) in out.chunks_exact_mut(d).zip(rows.chunks_exact(d)) {
                    for i in 0..d {
                        let known = row[i].abs() < f64::INFINITY;
                        let x = if known { row[i] } else { fill[i] };
                        out[i] = ((x - center[i]) / divisor[i]) as f32;
                    }
                }
            },
        );
    }

    /// The scale of input `i` for an encoder.
    pub(super) fn scale(&self, i: usize) -> Scale {
        let known = self.count[i] > 0.0;
        Scale {
            mean: self.mean[i],
            center: self.center[i],
            stddev: self.divisor[i],
            min: if known { self.min[i] } else { f64::NAN },
            max: if known { self.max[i] } else { f64::NAN },
        }
    }
}

#[inline(always)]
fn gather<const N: usize>(values: &[f64], first: usize) -> [f64; N] {
    let mut group = [0.0; N];
    group.copy_from_slice(&values[first..first + N]);
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two passes over the rows so far, for every remainder of inputs beside the groups.
    #[test]
    fn statistics_are_those_of_two_passes() {
        for d in 1..=21 {
            let n = 57;
            let value = |row: usize, i: usize| {
                if (row * 7 + i * 3).is_multiple_of(11) {
                    [f64::NAN, f64::INFINITY][(row + i) % 2]
                } else {
                    ((row * 31 + i * 17) % 23) as f64 * 1.7 - 4.0 + i as f64
                }
            };
            let rows: Vec<f64> =
                (0..n).flat_map(|row| (0..d).map(move |i| value(row, i))).collect();
            let mut slots = Slots::default();
            (0..d).for_each(|_| slots.push(Scaling::Standard));
            slots.update(&rows[..20 * d]);
            slots.update(&rows[20 * d..]);
            slots.rescale();
            let mut encoded = vec![0.0; n * d];
            slots.encode(&rows, &mut encoded);
            for i in 0..d {
                let column: Vec<f64> = (0..n).map(|row| value(row, i)).collect();
                let known: Vec<f64> = column.iter().copied().filter(|x| x.is_finite()).collect();
                let mean = known.iter().sum::<f64>() / known.len() as f64;
                let squares: f64 = known.iter().map(|x| (x - mean).powi(2)).sum();
                let stddev = (squares / n as f64).sqrt();
                assert_eq!(slots.count[i], known.len() as f64);
                assert_eq!(slots.missing[i], (n - known.len()) as f64);
                assert!((slots.mean[i] - mean).abs() < 1e-12 * mean.abs().max(1.0));
                assert!((slots.scale(i).stddev - stddev).abs() < 1e-12 * stddev);
                assert_eq!(slots.min[i], known.iter().copied().fold(f64::INFINITY, f64::min));
                assert_eq!(slots.max[i], known.iter().copied().fold(f64::NEG_INFINITY, f64::max));
                for (row, x) in column.iter().enumerate() {
                    let truth = if x.is_finite() { (x - mean) / stddev } else { 0.0 };
                    assert!((f64::from(encoded[row * d + i]) - truth).abs() < 1e-6);
                }
            }
        }
    }
}
