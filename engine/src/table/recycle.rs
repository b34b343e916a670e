//! Buffers of batches that are used again once nobody reads them any more: fresh pages for every batch
//! of an epoch take longer than the rows that are copied into them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::arrow::buffer::{Buffer, ScalarBuffer};
use datafusion::arrow::datatypes::{ArrowNativeType, ToByteSlice};

/// Buffers that wait at most: those of a few batches on their way.
const WAITING: usize = 16;

/// Buffers that wait to be filled again.
pub(super) struct Pool<T>(Mutex<Vec<Vec<T>>>);

/// The buffers of encoded rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    /// Of `features`.
    pub dense: Arc<Pool<f32>>,
    /// Of `categories`.
    pub codes: Arc<Pool<u32>>,
    /// Of `label` and `weight`.
    pub column: Arc<Pool<f32>>,
}

/// Values that go back to their pool with their last reader.
struct Lent<T: ArrowNativeType> {
    values: Vec<T>,
    pool: Arc<Pool<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<T: ArrowNativeType> Pool<T> {
    /// A buffer of `n` values, of which `fill` writes every one.
    pub(super) fn filled(
        self: &Arc<Self>,
        n: usize,
        fill: impl FnOnce(&mut [T]),
    ) -> ScalarBuffer<T> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut values = waiting.unwrap_or_default();
        values.resize(n, T::default());
        fill(&mut values);
        let lent = Lent { values, pool: Arc::clone(self) };
        Buffer::from(Bytes::from_owner(lent)).into()
    }
}

impl<T: ArrowNativeType> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        self.values.to_byte_slice()
    }
}

impl<T: ArrowNativeType> Drop for Lent<T> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut waiting = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING {
            waiting.push(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_reader() {
        let pool: Arc<Pool<f32>> = Arc::default();
        let first = pool.filled(5, |values| values.fill(1.5));
        let (reader, place) = (first.slice(1, 2), first.as_ptr());
        drop(first);
        let other = pool.filled(5, |values| values.fill(2.5));
        assert_ne!(other.as_ptr(), place);
        assert_eq!(reader.to_vec(), [1.5, 1.5]);
        drop(reader);
        let again = pool.filled(3, |values| {
            assert_eq!(values.len(), 3);
            values.copy_from_slice(&[1.0, 2.0, 3.0]);
        });
        assert_eq!((again.as_ptr(), again.to_vec()), (place, vec![1.0, 2.0, 3.0]));
        assert_eq!(other.to_vec(), [2.5; 5]);
        assert!(pool.filled(0, |values| assert!(values.is_empty())).is_empty());
    }
}
