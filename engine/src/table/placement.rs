//! Encoded rows in memory: chunks that many threads fill at once, each row in the place it is to have.

use std::sync::{Mutex, PoisonError};

use gradlake_udfs::batch::{Rows, Width};
use gradlake_udfs::kernels::prefetch::Ahead;

use super::dealing::{Dealing, Place, chunk_of, row_of};

/// Chunks whose rows are put where they belong.
pub(super) struct Placement<'a> {
    width: Width,
    dealing: &'a Dealing,
    /// Each without room until the first of its rows comes: fresh memory takes long, and each thread
    /// finds some of it.
    chunks: Vec<Mutex<Rows>>,
}

/// Rows by the chunk that they go to; kept from block to block.
#[derive(Default)]
pub(super) struct Sorter {
    /// Where the rows of each chunk begin among `order`.
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl<'a> Placement<'a> {
    pub(super) fn new(width: Width, dealing: &'a Dealing) -> Self {
        let chunks = (0..dealing.chunks()).map(|_| Mutex::default()).collect();
        Self { width, dealing, chunks }
    }

    /// Number of chunks.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Puts each row into its place. Those that go to the same chunk follow one another there.
    pub(super) fn put(&self, rows: &Rows, places: &[Place], sorter: &mut Sorter) {
        sorter.sort(places, self.chunks.len());
        let (starts, order) = (&sorter.starts, &sorter.order);
        for (chunk, (start, end)) in starts.iter().zip(&starts[1..]).enumerate() {
            let order = &order[*start as usize..*end as usize];
            let Some(first) = order.first() else { continue };
            let mut own = self.chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
            if own.is_empty() {
                *own = Rows::zeros(self.width, self.dealing.rows_of(chunk));
            }
            let first = row_of(places[*first as usize]);
            own.copy(first, &rows.batch(), order, self.width, Ahead::NONE);
        }
    }

    /// Takes a chunk out.
    pub(super) fn take(&self, chunk: usize) -> Rows {
        let mut own = self.chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut own)
    }
}

impl Sorter {
    /// Counting sort of rows by chunk.
    fn sort(&mut self, places: &[Place], chunks: usize) {
        self.starts.clear();
        self.starts.resize(chunks + 1, 0);
        for place in places {
            self.starts[chunk_of(*place)] += 1;
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += *start;
            *start = sum;
        }
        self.order.clear();
        self.order.resize(places.len(), 0);
        for (row, place) in places.iter().enumerate().rev() {
            let start = &mut self.starts[chunk_of(*place)];
            *start -= 1;
            self.order[*start as usize] = row as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dealing::Hand;
    use super::*;

    #[test]
    fn rows_come_to_stand_in_their_places() {
        let width = Width { dense: 2, columns: 1, categories: 9 };
        let n = 37;
        let value = |row: usize| row as f32;
        let part = |rows: std::ops::Range<usize>| Rows {
            dense: rows.clone().flat_map(|row| [value(row), -value(row)]).collect(),
            codes: rows.clone().map(|row| row as u32).collect(),
            label: rows.clone().map(value).collect(),
            weight: vec![0.5; rows.len()],
        };
        for seed in [None, Some(3)] {
            let dealing = Dealing::new(n as u64, 8, seed);
            let mut places = vec![];
            dealing.places(0, n, &mut Hand::default(), &mut places);
            let placement = Placement::new(width, &dealing);
            assert_eq!(placement.len(), 5);
            let mut sorter = Sorter::default();
            placement.put(&part(0..20), &places[..20], &mut sorter);
            placement.put(&part(20..n), &places[20..], &mut sorter);
            for (row, place) in places.iter().enumerate() {
                let own = placement.chunks[chunk_of(*place)].lock().unwrap();
                let at = row_of(*place);
                assert_eq!(own.dense[2 * at..2 * at + 2], [value(row), -value(row)]);
                assert_eq!((own.codes[at], own.label[at]), (row as u32, value(row)));
            }
            assert_eq!(placement.take(4).len(), dealing.rows_of(4));
        }
    }
}
