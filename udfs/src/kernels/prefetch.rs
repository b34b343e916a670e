//! Prefetching: requests for memory that is read soon, so that it is in the cache by then.

use std::ops::Range;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;
/// Numbers of a line.
const LINE: usize = 16;

/// Values that are read next. They are prefetched line by line during other computation: requests
/// for many lines at once would delay all other reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefetch<'a>(&'a [f32]);

impl<'a> Prefetch<'a> {
    /// Nothing.
    pub const NONE: Self = Self(&[]);

    /// These values.
    pub fn new(values: &'a [f32]) -> Self {
        Self(values)
    }

    /// Part `i` of `n` of nearly equal length.
    pub fn part(self, i: usize, n: usize) -> Self {
        self.of(&(i..i + 1), n)
    }

    /// The first part of `n` of nearly equal length, and all others.
    pub fn split(self, n: usize) -> (Self, Self) {
        (self.of(&(0..1), n), self.of(&(1..n), n))
    }

    /// The part of the values for the range `parts`, out of `n` parts of nearly equal length.
    pub fn of(self, parts: &Range<usize>, n: usize) -> Self {
        let cut = |i: usize| self.0.len() * i / n;
        Self(&self.0[cut(parts.start)..cut(parts.end)])
    }

    /// Values to prefetch in each of `steps` steps, in whole lines.
    #[inline(always)]
    pub fn stride(self, steps: usize) -> usize {
        if self.0.is_empty() { 0 } else { self.0.len().div_ceil(steps).next_multiple_of(LINE) }
    }

    /// Prefetches the values of a step: `stride` values (see [`Prefetch::stride`]).
    #[inline(always)]
    pub fn fetch(self, step: usize, stride: usize) {
        for value in (0..stride).step_by(LINE) {
            prefetch(self.0.as_ptr().wrapping_add(step * stride + value));
        }
    }
}

/// Prefetches the cache line at an address into the L2 cache: the L1 cache is too small for data
/// that is not needed at once.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "a hint: nothing is read, whatever the address")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Prefetches the value at an index, if there is one.
#[inline(always)]
pub fn fetch_one<T>(values: &[T], at: usize) {
    prefetch(values.as_ptr().wrapping_add(at));
}

/// Prefetches values, which must be few.
#[inline(always)]
pub fn fetch<T>(values: &[T]) {
    let step = (LINE_BYTES / size_of::<T>()).max(1);
    for at in (0..values.len()).step_by(step) {
        prefetch(values.as_ptr().wrapping_add(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_steps_cover_all_values() {
        let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let values_ahead = Prefetch::new(&values);
        let parts: Vec<f32> =
            (0..3).flat_map(|i| values_ahead.of(&(i..i + 1), 3).0.to_vec()).collect();
        assert_eq!(parts, values);
        for steps in [1, 3, 16, 1000] {
            let stride = values_ahead.stride(steps);
            assert!(stride.is_multiple_of(LINE) && steps * stride >= values.len());
            (0..steps).for_each(|step| values_ahead.fetch(step, stride));
        }
        assert_eq!(Prefetch::NONE.stride(7), 0);
    }
}
