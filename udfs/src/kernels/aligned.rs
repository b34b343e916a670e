//! Buffers that begin with a cache line, so that no vector spans two: a sum that is read soon
//! after it was written waits for the cache otherwise.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Numbers that begin with a cache line.
#[derive(Debug, Default)]
pub struct Aligned<T> {
    values: Vec<T>,
    /// Where the first whole cache line begins.
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let values = vec![T::default(); len + LINE / size_of::<T>().max(1)];
        let start = values.as_ptr().align_offset(LINE).min(values.len() - len);
        Self { values, start, len }
    }

    /// Makes it `len` zeros, unless it has as many numbers already.
    pub fn reach(&mut self, len: usize) {
        if self.len != len {
            *self = Self::zeros(len);
        }
    }
}

impl<T: Copy + Default> From<&[T]> for Aligned<T> {
    fn from(values: &[T]) -> Self {
        let mut own = Self::zeros(values.len());
        own.copy_from_slice(values);
        own
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.len]
    }
}

impl<T: PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_with_a_line_and_are_equal_by_their_numbers() {
        for len in [0, 1, 15, 16, 100] {
            let own = Aligned::<f64>::zeros(len);
            assert_eq!((own.len(), own.as_ptr() as usize % LINE), (len, 0));
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let mut own = Aligned::from(&values[..]);
            assert_eq!((&*own, own.clone() == own), (&values[..], true));
            own.reach(len);
            assert_eq!(&*own, &values[..]);
            own.reach(len + 1);
            assert!(own.iter().all(|value| *value == 0.0));
        }
    }
}
