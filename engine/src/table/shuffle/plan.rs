//! The plan of the full shuffle, which scatters rows to random chunks. The slot of a row is a
//! function of its number and the seed: it does not depend on threads or on what is spilled, and no
//! table of all rows is needed.
//!
//! Slots are drawn for some thousands of rows at a time (a stratum). Each chunk gets the same share
//! of every stratum, drawn without replacement, and stores it in the order of the rows. So each
//! chunk is a stratified sample of all rows, which the order of an epoch
//! ([`crate::table::EpochOrder`]) shuffles, and a block of rows writes to every chunk in one
//! contiguous run.

use gradlake_udfs::kernels::rng::mix;

use crate::table::BLOCK_ROWS;
use crate::table::shuffle::epoch_order::permute;

/// Rows of a stratum that each chunk gets, unless the stratum has the maximum size: shorter runs
/// would write more cache lines than they fill.
const SHARE: usize = 16;
/// Rows of a stratum at most.
const MAX_STRATUM: usize = 1 << 16;
/// Chunks at most, so that each gets rows of every stratum.
const MAX_CHUNKS: usize = 1 << 15;

/// The position of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::table) struct Slot {
    /// The chunk.
    pub chunk: u32,
    /// The row in it.
    pub row: u32,
}

impl Slot {
    /// As one number, for disk.
    pub(in crate::table) fn packed(self) -> u64 {
        u64::from(self.chunk) << 32 | u64::from(self.row)
    }

    /// The slot of [`Slot::packed`].
    #[inline(always)]
    pub(in crate::table) fn unpacked(packed: u64) -> Self {
        Self { chunk: (packed >> 32) as u32, row: packed as u32 }
    }
}

/// How the rows of a table are scattered to chunks.
#[derive(Clone, Debug)]
pub(in crate::table) struct ShufflePlan {
    rows: usize,
    chunk_rows: usize,
    chunks: usize,
    stratum: usize,
    /// None: row after row, in the order of the table.
    seed: Option<u64>,
}

/// The slots of the stratum that a thread used last.
#[derive(Debug, Default)]
pub(in crate::table) struct StratumSlots {
    stratum: Option<usize>,
    slots: Vec<Slot>,
    chunks: Vec<u32>,
    next: Vec<u32>,
}

impl ShufflePlan {
    /// A plan for `rows` rows and chunks of about `chunk_rows` rows.
    pub(in crate::table) fn new(rows: u64, chunk_rows: usize, seed: Option<u64>) -> Self {
        let rows = rows as usize;
        let chunk_rows = chunk_rows.max(rows.div_ceil(MAX_CHUNKS));
        let chunks = rows.div_ceil(chunk_rows);
        let stratum = (SHARE * chunks).next_multiple_of(BLOCK_ROWS).clamp(BLOCK_ROWS, MAX_STRATUM);
        Self { rows, chunk_rows, chunks, stratum, seed }
    }

    /// Whether rows go to chunks at random.
    pub(in crate::table) fn is_random(&self) -> bool {
        self.seed.is_some()
    }

    /// Number of chunks.
    pub(in crate::table) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Rows of a chunk.
    pub(in crate::table) fn rows_of(&self, chunk: usize) -> usize {
        match self.seed {
            None => self.chunk_rows.min(self.rows - chunk * self.chunk_rows),
            Some(_) => {
                let (whole, rest) = (self.rows / self.stratum, self.rows % self.stratum);
                whole * self.share(chunk, self.stratum) + self.share(chunk, rest)
            }
        }
    }

    /// Rows that a chunk gets of a stratum of `n` rows: `ceil((c + 1) n / chunks) - ceil(c n /
    /// chunks)`.
    fn share(&self, chunk: usize, rows: usize) -> usize {
        let before = |chunk: usize| (chunk * rows).div_ceil(self.chunks);
        before(chunk + 1) - before(chunk)
    }

    /// Writes the slots of the `n` rows from number `first` on.
    pub(in crate::table) fn slots(
        &self,
        first: u64,
        n: usize,
        current: &mut StratumSlots,
        to: &mut Vec<Slot>,
    ) {
        to.clear();
        let (mut at, end) = (first as usize, first as usize + n);
        let Some(seed) = self.seed else {
            let slot = |i: usize| Slot {
                chunk: (i / self.chunk_rows) as u32,
                row: (i % self.chunk_rows) as u32,
            };
            return to.extend((at..end).map(slot));
        };
        while at < end {
            let stratum = at / self.stratum;
            if current.stratum != Some(stratum) {
                self.draw(stratum, seed, current);
            }
            let begin = stratum * self.stratum;
            let until = end.min(begin + current.slots.len());
            to.extend_from_slice(&current.slots[at - begin..until - begin]);
            at = until;
        }
    }

    fn draw(&self, stratum: usize, seed: u64, current: &mut StratumSlots) {
        let rows = self.stratum.min(self.rows - stratum * self.stratum);
        let StratumSlots { chunks, next, slots, .. } = current;
        chunks.clear();
        next.clear();
        for chunk in 0..self.chunks {
            let own = self.share(chunk, rows);
            chunks.extend(std::iter::repeat_n(chunk as u32, own));
            next.push((stratum * self.share(chunk, self.stratum)) as u32);
        }
        permute(chunks, mix(seed, rows as u64, stratum as u64));
        slots.clear();
        slots.extend(chunks.iter().map(|chunk| {
            let next = &mut next[*chunk as usize];
            let row = *next;
            *next += 1;
            Slot { chunk: *chunk, row }
        }));
        current.stratum = Some(stratum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(plan: &ShufflePlan) -> Vec<Slot> {
        let mut slots = vec![];
        plan.slots(0, plan.rows, &mut StratumSlots::default(), &mut slots);
        slots
    }

    #[test]
    fn every_place_is_taken_once() {
        for (rows, chunk_rows) in [
            (0, 4),
            (1, 4),
            (100, 7),
            (8192, 2048),
            (8193, 2048),
            (65_537, 1),
            (70_000, 100),
            (300_001, 2048),
        ] {
            for seed in [None, Some(7)] {
                let plan = ShufflePlan::new(rows, chunk_rows, seed);
                let slots = all(&plan);
                let other = all(&ShufflePlan::new(rows, chunk_rows, seed.map(|seed| seed + 1)));
                assert!(rows < 100 || (slots == other) == seed.is_none(), "{rows}");
                let mut sorted = slots.clone();
                sorted.sort_unstable();
                let truth = (0..plan.chunks()).flat_map(|chunk| {
                    (0..plan.rows_of(chunk))
                        .map(move |row| Slot { chunk: chunk as u32, row: row as u32 })
                });
                assert!(sorted.into_iter().eq(truth), "{rows} rows, {chunk_rows} a chunk");
                let (mut part, half) = (vec![], rows / 2);
                let n = (rows - half) as usize;
                plan.slots(half, n, &mut StratumSlots::default(), &mut part);
                assert_eq!(part, slots[half as usize..], "{rows}: slots depend on the range");
            }
        }
    }

    /// Chunks differ in size only by rounding shares up, and store rows in order.
    #[test]
    fn chunks_are_alike_and_in_order() {
        let plan = ShufflePlan::new(2_000_000, 2048, Some(1));
        for chunk in 0..plan.chunks() {
            let rows = plan.rows_of(chunk);
            assert!((1800..2200).contains(&rows), "{rows}");
        }
        let mut next = vec![0u32; plan.chunks()];
        for Slot { chunk, row } in all(&plan) {
            assert_eq!(row, next[chunk as usize]);
            next[chunk as usize] += 1;
        }
    }

    /// Every row of a stratum is as likely in every chunk: chi-square of 64 parts of the stratum by
    /// 64 parts of the chunks over 25 strata, whose share is drawn without replacement: below its
    /// mean, 63^2 degrees of freedom, with a standard deviation of 89.
    #[test]
    fn chunks_are_random() {
        const STRATUM: usize = 2 * BLOCK_ROWS;
        let plan = ShufflePlan::new(25 * STRATUM as u64, 415, Some(3));
        let chunks = plan.chunks();
        assert_eq!((plan.stratum, chunks), (STRATUM, 984));
        let mut counts = vec![0.0f64; 64 * 64];
        for (i, slot) in all(&plan).iter().enumerate() {
            let (from, to) = (i % STRATUM * 64 / STRATUM, slot.chunk as usize * 64 / chunks);
            counts[from * 64 + to] += 1.0;
        }
        // (Parts of the chunks have 15 or 16 each.)
        let of = |part: usize| (0..chunks).filter(|c| c * 64 / chunks == part).count() as f64;
        let mean = |part: usize| 25.0 * (STRATUM / 64) as f64 * of(part) / chunks as f64;
        let cells = counts.iter().enumerate();
        let chi: f64 = cells.map(|(i, c)| (c - mean(i % 64)).powi(2) / mean(i % 64)).sum();
        assert!((chi - 3969.0).abs() < 5.0 * 89.0, "{chi}");
        // Neighbouring rows go to independent chunks.
        let slot = |slot: &Slot| f64::from(slot.chunk) / chunks as f64;
        let chunks: Vec<f64> = all(&plan).iter().map(slot).collect();
        for step in [1, 2, 3, 256, 1000] {
            let pairs = chunks.iter().zip(&chunks[step..]);
            let distance: f64 = pairs.map(|(a, b)| (a - b).abs()).sum();
            let mean = distance / (chunks.len() - step) as f64;
            let error = 0.236 / (chunks.len() as f64).sqrt();
            assert!((mean - 1.0 / 3.0).abs() < 6.0 * error, "{step} apart: {mean}");
        }
    }
}
