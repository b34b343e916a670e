//! The order of the rows in an epoch: chunks in random order, rows in random order within each.

use std::sync::Arc;

use gradlake_udfs::kernels::math::vectorized;
use gradlake_udfs::kernels::rng::mix;

/// Domain separators of the draws.
const CHUNKS: u64 = 0x63_6875_6e6b;
const ROWS: u64 = 0x72_6f77;

/// The order of an epoch.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    /// (chunk, position of its first row), in order.
    pub(in crate::table) chunks: Arc<Vec<(u32, u64)>>,
    rows: u64,
    /// (seed, epoch) of the order within chunks; None: storage order.
    pub(in crate::table) within: Option<(u64, u64)>,
}

impl EpochOrder {
    /// The order of chunks with these numbers of rows.
    pub fn new(
        chunk_rows: impl Iterator<Item = usize>,
        epoch: u64,
        seed: u64,
        shuffle: bool,
    ) -> Self {
        let rows: Vec<usize> = chunk_rows.collect();
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        if shuffle {
            permute(&mut order, mix(seed, CHUNKS, epoch));
        }
        let mut first = 0;
        let chunks = order
            .into_iter()
            .map(|chunk| {
                let at = first;
                first += rows[chunk as usize] as u64;
                (chunk, at)
            })
            .collect();
        let within = shuffle.then_some((seed, epoch));
        Self { chunks: Arc::new(chunks), rows: first, within }
    }

    /// The order of every `step`th of chunks with these numbers of rows, each in storage order.
    pub fn part(chunk_rows: impl Iterator<Item = usize>, step: usize) -> Self {
        let mut first = 0;
        let chunks = chunk_rows.enumerate().skip(step / 2).step_by(step).map(|(chunk, rows)| {
            let at = first;
            first += rows as u64;
            (chunk as u32, at)
        });
        let chunks = Arc::new(chunks.collect());
        Self { chunks, rows: first, within: None }
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows of a chunk in order; None: storage order.
    pub fn of_chunk(&self, chunk: u32, rows: usize) -> Option<Vec<u32>> {
        let (seed, epoch) = self.within?;
        let mut order: Vec<u32> = (0..rows as u32).collect();
        permute(&mut order, mix(mix(seed, ROWS, epoch), ROWS, u64::from(chunk)));
        Some(order)
    }
}

/// Fisher and Yates's shuffle with draws from `key`.
pub(in crate::table) fn permute(order: &mut [u32], key: u64) {
    /// Draws that are computed in one batch, which takes a fraction of the time of single draws.
    const DRAWS: usize = 64;
    let mut draws = [0u32; DRAWS];
    let mut end = order.len();
    while end > 1 {
        let n = DRAWS.min(end - 1);
        let first = end - n;
        vectorized(
            #[inline(always)]
            || {
                for (pair, draws) in draws.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    // Numbers below i + 1 by Lemire's multiplication, two of the same 64 bits;
                    // their bias is below 2^-32 times the number of rows.
                    let i = (first + 2 * pair) as u64;
                    let bits = mix(key, 0, i);
                    draws[0] = (((bits >> 32) * (i + 1)) >> 32) as u32;
                    draws[1] = (((bits & 0xffff_ffff) * (i + 2)) >> 32) as u32;
                }
            },
        );
        for (i, draw) in (first..end).zip(&draws[..n]).rev() {
            order.swap(i, *draw as usize);
        }
        end = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_chunk_and_row_once() {
        let rows = [10, 10, 10, 3];
        let order = EpochOrder::new(rows.into_iter(), 4, 7, true);
        let mut seen: Vec<u32> = order.chunks.iter().map(|(chunk, _)| *chunk).collect();
        let mut first = 0;
        for (chunk, at) in order.chunks.iter() {
            assert_eq!(*at, first);
            first += rows[*chunk as usize] as u64;
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        let mut within = order.of_chunk(0, 1000).unwrap();
        assert_ne!(within, order.of_chunk(1, 1000).unwrap());
        assert_ne!(
            within,
            EpochOrder::new(rows.into_iter(), 5, 7, true).of_chunk(0, 1000).unwrap()
        );
        assert_eq!(
            within,
            EpochOrder::new(rows.into_iter(), 4, 7, true).of_chunk(0, 1000).unwrap()
        );
        within.sort_unstable();
        assert_eq!(within, (0..1000).collect::<Vec<u32>>());
    }

    /// Every row is equally likely at every position: chi-square of 6 rows over 6000 shuffles, 25
    /// degrees of freedom, below its 99.99 % quantile of 57.9.
    #[test]
    fn shuffles_are_uniform() {
        let mut counts = [[0.0f64; 6]; 6];
        for key in 0..6000 {
            let mut order: Vec<u32> = (0..6).collect();
            permute(&mut order, mix(3, 4, key));
            for (place, row) in order.iter().enumerate() {
                counts[place][*row as usize] += 1.0;
            }
        }
        let chi: f64 = counts.as_flattened().iter().map(|c| (c - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 57.9, "{chi}");
    }

    #[test]
    fn a_part_is_some_chunks_from_all_over() {
        let rows = (0..40).map(|i| 10 + i % 2);
        let order = EpochOrder::part(rows, 16);
        assert_eq!(*order.chunks, [(8, 0), (24, 10)]);
        assert_eq!(order.rows(), 20);
        assert_eq!(EpochOrder::part([5; 3].into_iter(), 16).rows(), 0);
        assert_eq!(EpochOrder::new([5, 7].into_iter(), 0, 1, true).rows(), 12);
    }

    #[test]
    fn without_shuffle_rows_stay_where_they_are() {
        let order = EpochOrder::new([5, 5].into_iter(), 3, 1, false);
        assert_eq!(*order.chunks, [(0, 0), (1, 5)]);
        assert!(order.of_chunk(0, 5).is_none());
    }
}
