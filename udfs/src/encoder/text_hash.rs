//! The hash of texts, for maps of categories and classes.

use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hashing of texts that gives the same hash in every run.
pub(crate) type TextHasher = BuildHasherDefault<OneShot>;

/// xxh3 of what is written, in one call: its streaming state takes longer to set up than a short
/// text to hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneShot(u64);

impl Hasher for OneShot {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The byte that ends a text adds no information.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    /// The length of bytes that follow.
    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }

    /// A short text: the product of its two halves.
    #[inline]
    fn write_u128(&mut self, key: u128) {
        let (low, high) = (key as u64 ^ 0x9e37_79b9_7f4a_7c15, (key >> 64) as u64);
        let product = u128::from(low) * u128::from(high ^ 0xd6e8_feb8_6659_fd93);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
