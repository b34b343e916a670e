//! A random permutation of rows as a function: where a row goes needs no table of all rows.

use std::sync::Arc;

use gradlake_udfs::kernels::rng::mix;

use super::order::permute;

/// Rows up to which the permutation is a table: a function of few values is not random enough.
const TABLE_ROWS: u64 = 1 << 16;
/// Rounds of the Feistel network. Four give a pseudo-random permutation of random functions (Luby and
/// Rackoff 1988); the others make up for halves of different width and plain functions.
const ROUNDS: usize = 8;

/// A permutation of the numbers below `n`, from a seed.
///
/// Few are dealt by Fisher and Yates's shuffle. More are numbered by an unbalanced Feistel network over
/// the next power of two, walked until it comes out below `n` (Black and Rogaway 2002), which takes
/// fewer than two turns on average.
#[derive(Clone, Debug)]
pub(super) enum Permutation {
    Identity,
    Table(Arc<Vec<u32>>),
    Network {
        n: u64,
        /// Bits of the lower part.
        low: u32,
        /// Bits of the upper part.
        high: u32,
        keys: [u64; ROUNDS],
    },
}

impl Permutation {
    /// The permutation of the numbers below `n`; None for the one that leaves all as they are.
    pub(super) fn new(n: u64, seed: Option<u64>) -> Self {
        let Some(seed) = seed else { return Self::Identity };
        if n <= TABLE_ROWS {
            let mut table: Vec<u32> = (0..n as u32).collect();
            permute(&mut table, seed);
            return Self::Table(Arc::new(table));
        }
        let bits = 64 - (n - 1).leading_zeros();
        let low = bits / 2;
        let keys = std::array::from_fn(|round| mix(seed, n, round as u64));
        Self::Network { n, low, high: bits - low, keys }
    }

    /// Writes where each of the numbers from `first` on goes.
    pub(super) fn places(&self, first: u64, places: &mut [u64]) {
        let numbers = (first..).zip(places);
        match self {
            Self::Identity => numbers.for_each(|(i, place)| *place = i),
            Self::Table(table) => {
                numbers.for_each(|(i, place)| *place = u64::from(table[i as usize]));
            }
            Self::Network { n, low, high, keys } => {
                for (i, place) in numbers {
                    let mut x = network(i, *low, *high, keys);
                    while x >= *n {
                        x = network(x, *low, *high, keys);
                    }
                    *place = x;
                }
            }
        }
    }
}

/// One walk through the network: each round adds to one part a function of the other.
#[inline(always)]
fn network(x: u64, low: u32, high: u32, keys: &[u64; ROUNDS]) -> u64 {
    let (mut a, mut b) = (x & ((1 << low) - 1), x >> low);
    for pair in keys.as_chunks::<2>().0 {
        a ^= upper_bits(b, pair[0], low);
        b ^= upper_bits(a, pair[1], high);
    }
    (b << low) | a
}

/// Some bits that depend on all of `x`: the best bits of a product are the upper ones.
#[inline(always)]
fn upper_bits(x: u64, key: u64, bits: u32) -> u64 {
    let h = (x ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h >> (64 - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(n: u64, seed: u64) -> Vec<u64> {
        let mut places = vec![0; n as usize];
        Permutation::new(n, Some(seed)).places(0, &mut places);
        places
    }

    #[test]
    fn every_place_is_taken_once() {
        for n in [0, 1, 2, 3, 100, 65_536, 65_537, 100_000, 131_072, 131_073, 300_001] {
            let places = all(n, 7);
            assert!(n < 100 || places != all(n, 8), "{n}: another seed gives the same order");
            let mut sorted = places.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..n), "{n}");
            let mut part = vec![0; (n / 2) as usize];
            Permutation::new(n, Some(7)).places(n - n / 2, &mut part);
            assert_eq!(part, places[(n - n / 2) as usize..], "{n}: places depend on the range");
        }
        let mut same = [0; 3];
        Permutation::new(9, None).places(4, &mut same);
        assert_eq!(same, [4, 5, 6]);
    }

    /// Rows from everywhere come to stand everywhere: of 256 x 256 cells (first byte of where from and
    /// where to) chi-square has 255^2 degrees of freedom, mean 65,025 and standard deviation 361; and so
    /// do pairs of neighbours: their distance is that of two random places, a third of n with a standard
    /// error of 0.236 / sqrt(n).
    #[test]
    fn places_look_random() {
        for (n, seed) in [(1 << 20, 1), (700_000, 2), (3_000_000, 3)] {
            let places = all(n, seed);
            let cell = |x: u64| (x * 256 / n) as usize;
            let mut counts = vec![0.0f64; 1 << 16];
            for (i, place) in places.iter().enumerate() {
                counts[cell(i as u64) * 256 + cell(*place)] += 1.0;
            }
            let mean = n as f64 / 65_536.0;
            let chi: f64 = counts.iter().map(|c| (c - mean).powi(2) / mean).sum();
            assert!((chi - 65_025.0).abs() < 5.0 * 361.0, "{n}: {chi}");
            for step in [1, 2, 3, 256, 1000] {
                let pairs = places.iter().zip(&places[step..]);
                let distance: f64 = pairs.map(|(a, b)| a.abs_diff(*b) as f64).sum();
                let mean = distance / (n as f64 - step as f64) / n as f64;
                let error = 0.236 / (n as f64).sqrt();
                assert!((mean - 1.0 / 3.0).abs() < 6.0 * error, "{n}, {step} apart: {mean}");
            }
        }
    }
}
