//! Count, mean, spread and range of numbers: for one column, or for each element of vectors.

use super::Scale;
use crate::kernels::math::vectorized;

/// Running sums of [`Moments::of`]: their number is fixed, so that every machine gives the same
/// bits, and large enough that no sum waits for its previous addition.
const LANES: usize = 64;

/// Count, mean and squared deviations of numbers, by the pairwise update of Chan, Golub and
/// LeVeque 1983: as exact as two passes, but for the rounding of the parts' means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moments {
    pub count: u64,
    pub nulls: u64,
    pub mean: f64,
    pub squares: f64,
    pub min: f64,
    pub max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Moments {
            count: 0,
            nulls: 0,
            mean: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

impl Moments {
    /// The moments of some values; a value that is not finite counts as NULL.
    pub fn of<T: Copy + Into<f64>>(values: &[T]) -> Self {
        Self::of_finite(values).unwrap_or_else(|| Self::of_any(values))
    }

    /// The same bits as [`Moments::of_any`], if all values and their sums are finite; else None.
    fn of_finite<T: Copy + Into<f64>>(values: &[T]) -> Option<Self> {
        let (windows, rest) = values.as_chunks::<LANES>();
        let mut sum = [0.0; LANES];
        let (mut min, mut max) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        vectorized(
            #[inline(always)]
            || {
                for window in windows {
                    add_finite(window, &mut sum, &mut min, &mut max);
                }
                add_finite(rest, &mut sum, &mut min, &mut max);
            },
        );
        // With a value that is not finite, the sum is not finite.
        let total: f64 = sum.iter().sum();
        if !total.is_finite() {
            return None;
        }
        let mean = total / u64::max(values.len() as u64, 1) as f64;
        let mut squares = [0.0; LANES];
        vectorized(
            #[inline(always)]
            || {
                for window in windows {
                    add_finite_squares(window, mean, &mut squares);
                }
                add_finite_squares(rest, mean, &mut squares);
            },
        );
        Some(Moments {
            count: values.len() as u64,
            nulls: 0,
            mean,
            squares: squares.iter().sum(),
            min: min.into_iter().fold(f64::INFINITY, f64::min),
            max: max.into_iter().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    fn of_any<T: Copy + Into<f64>>(values: &[T]) -> Self {
        let (windows, rest) = values.as_chunks::<LANES>();
        let mut last = [f64::NAN; LANES];
        last.iter_mut().zip(rest).for_each(|(last, value)| *last = (*value).into());
        let (mut count, mut sum) = ([0; LANES], [0.0; LANES]);
        let (mut min, mut max) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let mut sums = Sums { count: &mut count, sum: &mut sum, min: &mut min, max: &mut max };
        vectorized(
            #[inline(always)]
            || {
                for window in windows {
                    sums.add(window);
                }
                sums.add(&last);
            },
        );
        let count = count.iter().sum();
        let mean = sum.iter().sum::<f64>() / u64::max(count, 1) as f64;
        let mut squares = [0.0; LANES];
        vectorized(
            #[inline(always)]
            || {
                for window in windows {
                    add_squares(window, &[mean; LANES], &mut squares);
                }
                add_squares(&last, &[mean; LANES], &mut squares);
            },
        );
        Moments {
            count,
            nulls: values.len() as u64 - count,
            mean,
            squares: squares.iter().sum(),
            min: min.into_iter().fold(f64::INFINITY, f64::min),
            max: max.into_iter().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    pub fn merge(&mut self, other: &Moments) {
        self.nulls += other.nulls;
        if other.count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * (b / (a + b));
        self.squares += other.squares + delta * delta * (a * b / (a + b));
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub fn scale(&self, standardize: bool) -> Scale {
        let rows = (self.count + self.nulls) as f64;
        let variance = if self.count == 0 { 0.0 } else { self.squares / rows };
        let stddev = variance.sqrt();
        // Rounding leaves a constant column a tiny variance: a variance below the resolution of its
        // values counts as 0.
        let noise = f64::EPSILON * self.mean.abs() * 8.0;
        let varies = stddev > noise && self.min < self.max;
        let (min, max) = if self.count == 0 { (f64::NAN, f64::NAN) } else { (self.min, self.max) };
        if !standardize {
            return Scale { mean: self.mean, center: 0.0, stddev: 1.0, min, max };
        }
        // Squares that overflow float64 stay as they are, so that the encoder refuses the column.
        let stddev = if varies || !stddev.is_finite() { stddev } else { 1.0 };
        Scale { mean: self.mean, center: self.mean, stddev, min, max }
    }
}

/// Adds one value to each sum; all values are finite.
#[inline(always)]
fn add_finite<T: Copy + Into<f64>>(row: &[T], sum: &mut [f64], min: &mut [f64], max: &mut [f64]) {
    let n = row.len();
    let (sum, min, max) = (&mut sum[..n], &mut min[..n], &mut max[..n]);
    for i in 0..n {
        let v: f64 = row[i].into();
        sum[i] += v;
        min[i] = if v < min[i] { v } else { min[i] };
        max[i] = if v > max[i] { v } else { max[i] };
    }
}

/// Adds the squared deviation of each value from the mean.
#[inline(always)]
fn add_finite_squares<T: Copy + Into<f64>>(row: &[T], mean: f64, squares: &mut [f64]) {
    let n = row.len();
    let squares = &mut squares[..n];
    for i in 0..n {
        let deviation = row[i].into() - mean;
        squares[i] += deviation * deviation;
    }
}

/// The moments of each of the `n` elements of rows that begin at `begins`. Rows are read in the
/// order of memory: first for the sums, then for the squared deviations.
pub(super) fn element_moments<T: Copy + Into<f64>>(
    values: &[T],
    begins: &[usize],
    n: usize,
) -> Vec<Moments> {
    let (mut count, mut mean, mut squares) = (vec![0u64; n], vec![0.0; n], vec![0.0; n]);
    let (mut min, mut max) = (vec![f64::INFINITY; n], vec![f64::NEG_INFINITY; n]);
    let rows = || begins.iter().map(|begin| &values[*begin..begin + n]);
    let mut sums = Sums { count: &mut count, sum: &mut mean, min: &mut min, max: &mut max };
    vectorized(
        #[inline(always)]
        || rows().for_each(|row| sums.add(row)),
    );
    mean.iter_mut().zip(&count).for_each(|(mean, count)| *mean /= (*count).max(1) as f64);
    vectorized(
        #[inline(always)]
        || rows().for_each(|row| add_squares(row, &mean, &mut squares)),
    );
    let moments = |i: usize| Moments {
        count: count[i],
        nulls: begins.len() as u64 - count[i],
        mean: mean[i],
        squares: squares[i],
        min: min[i],
        max: max[i],
    };
    (0..n).map(moments).collect()
}

/// One sum per element, over the finite values.
struct Sums<'a> {
    count: &'a mut [u64],
    sum: &'a mut [f64],
    min: &'a mut [f64],
    max: &'a mut [f64],
}

impl Sums<'_> {
    /// Adds one value to each sum.
    #[inline(always)]
    fn add<T: Copy + Into<f64>>(&mut self, row: &[T]) {
        let n = row.len();
        let (count, sum) = (&mut self.count[..n], &mut self.sum[..n]);
        let (min, max) = (&mut self.min[..n], &mut self.max[..n]);
        for i in 0..n {
            let v: f64 = row[i].into();
            let finite = v.abs() < f64::INFINITY;
            count[i] += u64::from(finite);
            sum[i] += if finite { v } else { 0.0 };
            min[i] = if finite & (v < min[i]) { v } else { min[i] };
            max[i] = if finite & (v > max[i]) { v } else { max[i] };
        }
    }
}

/// Adds the squared deviation of each finite value from the mean of its element.
#[inline(always)]
fn add_squares<T: Copy + Into<f64>>(row: &[T], mean: &[f64], squares: &mut [f64]) {
    let n = row.len();
    let (mean, squares) = (&mean[..n], &mut squares[..n]);
    for i in 0..n {
        let v: f64 = row[i].into();
        let deviation = v - mean[i];
        squares[i] += if v.abs() < f64::INFINITY { deviation * deviation } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::rng::{mix, unit};

    #[test]
    fn finite_values_take_a_short_way_to_the_same_bits() {
        for n in [0, 1, 15, 16, 17, 1000, 8192] {
            let values: Vec<f32> = (0..n).map(|i| unit(mix(1, 2, i)) * 200.0 - 70.0).collect();
            assert_eq!(Moments::of_finite(&values), Some(Moments::of_any(&values)), "{n}");
        }
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let values = [1.0, odd, -3.0];
            assert_eq!(Moments::of_finite(&values), None);
            assert_eq!((Moments::of(&values).count, Moments::of(&values).nulls), (2, 1));
        }
        assert_eq!(Moments::of_finite(&[f64::MAX; 2]), None);
    }
}
