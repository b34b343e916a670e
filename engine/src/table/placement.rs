//! Encoded rows in memory: chunks that many threads fill at once, each row in the place it is to have.

use std::sync::{Mutex, PoisonError};

use gradlake_udfs::batch::{Rows, Width};

/// Chunks of one size (the last may be shorter) whose rows are put where they belong.
pub(super) struct Placement {
    width: Width,
    /// Rows of a chunk, a power of two.
    chunk_rows: usize,
    chunks: Vec<Mutex<Rows>>,
}

/// Rows by the chunk that they go to; kept from block to block.
#[derive(Default)]
pub(super) struct Sorter {
    /// Where the rows of each chunk begin among `order`.
    starts: Vec<usize>,
    order: Vec<u32>,
}

impl Placement {
    pub(super) fn new(width: Width, rows: u64, chunk_rows: usize) -> Self {
        let rows = rows as usize;
        let chunk = |first: usize| Rows::zeros(width, chunk_rows.min(rows - first));
        let firsts = (0..rows).step_by(chunk_rows);
        Self { width, chunk_rows, chunks: firsts.map(|first| Mutex::new(chunk(first))).collect() }
    }

    /// Number of chunks.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Puts each row into its place.
    pub(super) fn put(&self, rows: &Rows, places: &[u64], sorter: &mut Sorter) {
        let shift = self.chunk_rows.trailing_zeros();
        sorter.sort(places, shift, self.chunks.len());
        let (starts, order) = (&sorter.starts, &sorter.order);
        for (chunk, (start, end)) in starts.iter().zip(&starts[1..]).enumerate() {
            if start == end {
                continue;
            }
            let mut own = self.chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
            let pairs = order[*start..*end].iter().map(|row| {
                let row = *row as usize;
                (places[row] as usize & (self.chunk_rows - 1), row)
            });
            own.set(rows, pairs, self.width);
        }
    }

    /// Takes a chunk out.
    pub(super) fn take(&self, chunk: usize) -> Rows {
        let mut own = self.chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut own)
    }
}

impl Sorter {
    /// Counting sort of rows by `place >> shift`.
    fn sort(&mut self, places: &[u64], shift: u32, chunks: usize) {
        self.starts.clear();
        self.starts.resize(chunks + 1, 0);
        for place in places {
            self.starts[(place >> shift) as usize] += 1;
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += *start;
            *start = sum;
        }
        self.order.clear();
        self.order.resize(places.len(), 0);
        for (row, place) in places.iter().enumerate().rev() {
            let start = &mut self.starts[(place >> shift) as usize];
            *start -= 1;
            self.order[*start] = row as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_to_stand_in_their_places() {
        let width = Width { dense: 2, columns: 1, categories: 9 };
        let n = 37;
        let value = |row: usize| row as f32;
        let rows = Rows {
            dense: (0..n).flat_map(|row| [value(row), -value(row)]).collect(),
            codes: (0..n as u32).collect(),
            label: (0..n).map(value).collect(),
            weight: vec![0.5; n],
        };
        let places: Vec<u64> = (0..n as u64).map(|row| row * 10 % 37).collect();
        let placement = Placement::new(width, n as u64, 8);
        assert_eq!(placement.len(), 5);
        let mut sorter = Sorter::default();
        let part = |from: usize, to: usize| Rows {
            dense: rows.dense[2 * from..2 * to].to_vec(),
            codes: rows.codes[from..to].to_vec(),
            label: rows.label[from..to].to_vec(),
            weight: rows.weight[from..to].to_vec(),
        };
        placement.put(&part(0, 20), &places[..20], &mut sorter);
        placement.put(&part(20, n), &places[20..], &mut sorter);
        for (row, place) in places.iter().enumerate() {
            let (chunk, at) = (*place as usize / 8, *place as usize % 8);
            let own = placement.chunks[chunk].lock().unwrap();
            assert_eq!(own.dense[2 * at..2 * at + 2], [value(row), -value(row)]);
            assert_eq!((own.codes[at], own.label[at]), (row as u32, value(row)));
        }
        assert_eq!(placement.take(4).len(), 5);
    }
}
