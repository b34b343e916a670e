//! The area under the ROC curve.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kernels::math::vectorized;
use crate::parallel::{ParallelFor, Sequential};

/// Number of rows from which on a radix sort is faster than one by comparisons.
const RADIX_ROWS: usize = 1 << 14;
/// Bits of a digit of the radix sort.
const DIGIT: u32 = 11;

/// Scores of rows of two classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// Rows whose score and weight are float32. From the upper bits: the score as an integer in the
    /// same order, the weight, whether the class is positive. Stored in pieces, which merging
    /// appends without copying rows.
    packed: Vec<Vec<u64>>,
    /// The others: score, weight, whether the class is positive.
    rows: Vec<(f64, f64, bool)>,
}

impl Ranking {
    /// Adds a row: its score, whether it is of the positive class, its weight.
    pub fn add(&mut self, score: f64, positive: bool, weight: f64) {
        let (narrow, light) = (score as f32, weight as f32);
        let is_exact = f64::from(narrow) == score && f64::from(light) == weight;
        if is_exact && light.is_sign_positive() {
            let row = pack(narrow, light, positive);
            match self.packed.last_mut() {
                Some(piece) => piece.push(row),
                None => self.packed.push(vec![row]),
            }
        } else {
            self.rows.push((score, weight, positive));
        }
    }

    /// Adds rows of two classes: scores, labels (positive above one half) and weights.
    pub fn add_rows(&mut self, score: &[f32], label: &[f32], weight: &[f64]) {
        let n = score.len();
        let (label, weight) = (&label[..n], &weight[..n]);
        let is_narrow = |i: usize| {
            let light = f64::from(weight[i] as f32) == weight[i] && weight[i].is_sign_positive();
            !score[i].is_nan() & light
        };
        if !(0..n).fold(true, |all, i| all & is_narrow(i)) {
            for i in 0..n {
                self.add(f64::from(score[i]), label[i] > 0.5, weight[i]);
            }
            return;
        }
        if self.packed.is_empty() {
            self.packed.push(vec![]);
        }
        let Some(piece) = self.packed.last_mut() else { return };
        let before = piece.len();
        piece.resize(before + n, 0);
        let rows = &mut piece[before..];
        vectorized(
            #[inline(always)]
            || {
                let (rows, score) = (&mut rows[..n], &score[..n]);
                let (label, weight) = (&label[..n], &weight[..n]);
                for i in 0..n {
                    rows[i] = pack(score[i], weight[i] as f32, label[i] > 0.5);
                }
            },
        );
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: Self) {
        self.packed.extend(other.packed);
        self.rows.extend(other.rows);
    }

    /// The probability that a positive row has a higher score than a negative one, ties counted
    /// half; None if one of the two classes does not occur. Sorts the rows.
    pub fn roc_auc(self) -> Option<f64> {
        self.roc_auc_on(&Sequential)
    }

    /// The same on many cores.
    pub fn roc_auc_on(mut self, pool: &dyn ParallelFor) -> Option<f64> {
        let mut area = Area::default();
        let n: usize = self.packed.iter().map(Vec::len).sum();
        if self.rows.is_empty() && n >= RADIX_ROWS {
            area = area_of_parts(&self.packed, n, pool);
        } else if self.rows.is_empty() {
            let mut packed: Vec<u64> = self.packed.iter().flatten().copied().collect();
            packed.sort_unstable();
            area = Area::of(&packed);
        } else {
            self.rows.extend(self.packed.iter().flatten().map(|row| unpack(*row)));
            self.rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            for ties in self.rows.chunk_by(|a, b| a.0 == b.0) {
                area.add(ties.iter().map(|(_, weight, positive)| (*weight, *positive)));
            }
        }
        area.share()
    }
}

/// Weights of pairs of a positive and a negative row, by which of the two has the higher score.
#[derive(Default)]
struct Area {
    won: f64,
    negatives: f64,
    positives: f64,
}

impl Area {
    /// The area of rows that are sorted by score.
    fn of(packed: &[u64]) -> Self {
        let mut area = Self::default();
        for ties in packed.chunk_by(|a, b| a >> 32 == b >> 32) {
            area.add(ties.iter().map(|row| {
                let (_, weight, positive) = unpack(*row);
                (weight, positive)
            }));
        }
        area
    }

    /// Appends the area of rows with higher scores.
    fn append(&mut self, higher: &Self) {
        self.won += higher.won + higher.positives * self.negatives;
        self.positives += higher.positives;
        self.negatives += higher.negatives;
    }

    /// Adds the rows of the next higher score: weight, whether the class is positive.
    fn add(&mut self, ties: impl Iterator<Item = (f64, bool)>) {
        let (mut p, mut n) = (0.0, 0.0);
        ties.for_each(|(weight, positive)| *(if positive { &mut p } else { &mut n }) += weight);
        self.won += p * (self.negatives + n / 2.0);
        self.positives += p;
        self.negatives += n;
    }

    fn share(&self) -> Option<f64> {
        let both = self.positives > 0.0 && self.negatives > 0.0;
        both.then(|| self.won / (self.positives * self.negatives))
    }
}

/// An integer that sorts as the float does; both zeros give the same.
#[inline(always)]
fn ordered_bits(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// See [`Ranking::packed`].
#[inline(always)]
fn pack(score: f32, weight: f32, positive: bool) -> u64 {
    let upper = u64::from(ordered_bits(score)) << 32;
    upper | u64::from(weight.to_bits()) << 1 | u64::from(positive)
}

/// Score, weight, whether the class is positive.
fn unpack(row: u64) -> (f64, f64, bool) {
    let upper = (row >> 32) as u32;
    let score = f32::from_bits(if upper >> 31 == 1 { upper & !(1 << 31) } else { !upper });
    let weight = f32::from_bits((row as u32) >> 1);
    (f64::from(score), f64::from(weight), row & 1 == 1)
}

/// The area of unsorted rows, in pieces: they are scattered to parts by the first digit of their
/// scores, and each part is sorted on its own.
fn area_of_parts(pieces: &[Vec<u64>], n: usize, pool: &dyn ParallelFor) -> Area {
    let digit = |row: u64| (row >> (64 - DIGIT)) as usize;
    // Runs of pieces count their digits, which gives the slots for the rows of each run.
    let runs: Vec<&[Vec<u64>]> =
        pieces.chunks(pieces.len().div_ceil(4 * pool.threads()).max(1)).collect();
    let counts: Vec<Mutex<Vec<usize>>> = runs.iter().map(|_| Mutex::default()).collect();
    pool.run(runs.len(), &|run| {
        let mut own = vec![0; 1 << DIGIT];
        runs[run].iter().flatten().for_each(|row| own[digit(*row)] += 1);
        *lock(&counts[run]) = own;
    });
    let counts: Vec<Vec<usize>> =
        counts.into_iter().map(|own| std::mem::take(&mut *lock(&own))).collect();
    let mut ordered = vec![0; n];
    let mut rest = ordered.as_mut_slice();
    let mut slots: Vec<Mutex<Vec<&mut [u64]>>> = runs.iter().map(|_| Mutex::default()).collect();
    for digit in 0..1 << DIGIT {
        for (slots, counts) in slots.iter_mut().zip(&counts) {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(counts[digit]);
            rest = after;
            lock(slots).push(own);
        }
    }
    pool.run(runs.len(), &|run| {
        let mut slots = lock(&slots[run]);
        for row in runs[run].iter().flatten() {
            let slot = &mut slots[digit(*row)];
            if let Some((first, after)) = std::mem::take(slot).split_first_mut() {
                *first = *row;
                *slot = after;
            }
        }
    });
    drop(slots);
    let mut rest = ordered.as_mut_slice();
    let mut parts = vec![];
    for digit in 0..1 << DIGIT {
        let rows = counts.iter().map(|counts| counts[digit]).sum();
        let (part, after) = std::mem::take(&mut rest).split_at_mut(rows);
        rest = after;
        parts.push(Mutex::new((part, Area::default())));
    }
    pool.run(parts.len(), &|i| {
        let (part, area) = &mut *lock(&parts[i]);
        sort_by_lower_digits(part);
        *area = Area::of(part);
    });
    let mut all = Area::default();
    for part in parts {
        all.append(&lock(&part).1);
    }
    all
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scatters rows to `to` in the order of their digit at `shift`; the sort is stable.
fn radix_pass(rows: &[u64], to: &mut [u64], shift: u32) {
    let digit = |row: u64| (row >> shift) as usize & ((1 << DIGIT) - 1);
    let mut next = vec![0usize; 1 << DIGIT];
    rows.iter().for_each(|row| next[digit(*row)] += 1);
    let mut sum = 0;
    for next in &mut next {
        sum += std::mem::replace(next, sum);
    }
    for row in rows {
        let next = &mut next[digit(*row)];
        to[*next] = *row;
        *next += 1;
    }
}

/// Sorts rows whose scores have the same first digit by the other 21 bits.
fn sort_by_lower_digits(rows: &mut [u64]) {
    if rows.len() < RADIX_ROWS / 16 {
        return rows.sort_unstable();
    }
    let mut other = vec![0; rows.len()];
    // (The lowest bit of the score is bit 32; the lower digit starts one bit below it.)
    radix_pass(rows, &mut other, 31);
    radix_pass(&other, rows, 31 + DIGIT);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auc(rows: &[(f64, bool, f64)]) -> Option<f64> {
        let mut ranking = Ranking::default();
        rows.iter().for_each(|(s, p, w)| ranking.add(*s, *p, *w));
        ranking.roc_auc()
    }

    /// sklearn.metrics.roc_auc_score([0,0,1,1,1,0], [.1,.4,.35,.8,.4,.4]) = 0.6666666666666667;
    /// with sample_weight=[1,2,1,.5,1,3] = 0.5.
    #[test]
    fn ties_count_half_and_weights_count() {
        let rows = [
            (0.1, false, 1.0),
            (0.4, false, 2.0),
            (0.35, true, 1.0),
            (0.8, true, 0.5),
            (0.4, true, 1.0),
            (0.4, false, 3.0),
        ];
        let even = rows.map(|(s, p, _)| (s, p, 1.0));
        assert!((auc(&even).unwrap() - 0.666_666_666_666_666_7).abs() < 1e-12);
        let naive = |rows: &[(f64, bool, f64)]| {
            let (mut sum, mut all) = (0.0, 0.0);
            for p in rows.iter().filter(|r| r.1) {
                for n in rows.iter().filter(|r| !r.1) {
                    let won = if p.0 > n.0 {
                        1.0
                    } else if p.0 == n.0 {
                        0.5
                    } else {
                        0.0
                    };
                    sum += won * p.2 * n.2;
                    all += p.2 * n.2;
                }
            }
            sum / all
        };
        assert!((auc(&rows).unwrap() - 0.5).abs() < 1e-12);
        assert!((auc(&rows).unwrap() - naive(&rows)).abs() < 1e-12);
        assert_eq!(auc(&[(0.5, true, 1.0)]), None);
        assert_eq!(auc(&[]), None);
    }

    /// Scores and weights in float32 are sorted by other code than the others.
    #[test]
    fn both_ways_of_sorting_agree() {
        use crate::kernels::rng::{mix, unit};
        for n in [500u64, RADIX_ROWS as u64 + 77] {
            let draw = |what: u64, i: u64| f64::from(unit(mix(1, what, i)));
            let score = |i: u64| (draw(1, i) * 200.0 - 100.0).round() / 8.0 * (draw(1, i) - 0.5);
            let row = |i: u64| (f64::from(score(i) as f32), draw(2, i) < 0.4, draw(3, i));
            let mut rows: Vec<_> = (0..n).map(row).collect();
            rows.extend([(0.0, true, 1.0), (-0.0, false, 1.0), (-3.5, true, 0.0)]);
            let mut ranking = Ranking::default();
            rows.iter().for_each(|(s, p, w)| ranking.add(*s, *p, *w));
            assert!(ranking.rows.is_empty());
            let mut wide = ranking.clone();
            wide.add(0.1, true, 0.0);
            assert_eq!(wide.rows.len(), 1);
            let column =
                |f: &dyn Fn(&(f64, bool, f64)) -> f32| rows.iter().map(f).collect::<Vec<_>>();
            let mut columns = Ranking::default();
            let weights: Vec<f64> = rows.iter().map(|row| row.2).collect();
            columns.add_rows(
                &column(&|row| row.0 as f32),
                &column(&|row| f32::from(u8::from(row.1))),
                &weights,
            );
            assert!(columns == ranking);
            let (narrow, wide) = (ranking.roc_auc().unwrap(), wide.roc_auc().unwrap());
            assert!((narrow - wide).abs() < 1e-12, "{n}: {narrow} {wide}");
        }
    }
}
