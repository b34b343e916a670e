//! Progressive validation: every row is scored by the model before it is learned from (Blum, Kalai
//! and Langford 1999).

use std::collections::VecDeque;

use gradlake_udfs::Loss;
use serde::{Deserialize, Serialize};

/// Rows per block of the window.
const BLOCK: u64 = 1000;
/// Blocks of the window: it holds between nine and ten thousand rows.
const BLOCKS: usize = 10;

/// Sums over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Rows.
    pub rows: u64,
    /// Sum of weights.
    pub weight: f64,
    /// Sum of weighted losses.
    pub loss: f64,
    /// Sum of weights of rows whose class was predicted.
    pub right: f64,
    /// Sum of weighted absolute errors of a regression.
    pub absolute: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.rows += other.rows;
        self.weight += other.weight;
        self.loss += other.loss;
        self.right += other.right;
        self.absolute += other.absolute;
    }

    /// Weighted mean loss; None if there are no rows.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.loss / self.weight)
    }

    /// Share of rows whose class was predicted.
    pub fn accuracy(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.right / self.weight)
    }

    /// Weighted mean absolute error.
    pub fn mean_absolute_error(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.absolute / self.weight)
    }
}

/// Sums of all rows so far, and of the last ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progressive {
    all: Sums,
    blocks: VecDeque<Sums>,
}

/// As a checkpoint keeps it: rows, then weight, loss, right and absolute by their bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressiveState {
    all: [u64; 5],
    blocks: Vec<[u64; 5]>,
}

impl Progressive {
    /// Adds rows of a classifier with their raw outputs `[rows, outputs]`.
    pub fn add_classes(&mut self, loss: Loss, scores: &[f32], label: &[f32], weight: &[f32]) {
        let outputs = scores.len() / label.len().max(1);
        for ((z, y), w) in scores.chunks_exact(outputs.max(1)).zip(label).zip(weight) {
            let w = f64::from(*w);
            let predicted = match z {
                [z] => u8::from(*z > 0.0) as f32,
                _ => argmax(z) as f32,
            };
            let right = if predicted == *y { w } else { 0.0 };
            let loss = w * loss.value(z, *y);
            self.add(&Sums { rows: 1, weight: w, loss, right, ..Sums::default() });
        }
    }

    /// Adds rows of a regression with their raw outputs `[rows]`, which are standardised by this
    /// mean and deviation. Losses and errors are in the unit of the target.
    pub fn add_numbers(
        &mut self,
        loss: Loss,
        scores: &[f32],
        numbers: &[f64],
        (mean, stddev): (f64, f64),
        weight: &[f32],
    ) {
        for ((z, y), w) in scores.iter().zip(numbers).zip(weight) {
            let w = f64::from(*w);
            let output = f64::from(*z);
            let (error, value) = if loss.is_log_link() {
                ((output.exp() - y).abs(), loss.value(&[*z], *y as f32))
            } else {
                let error = (mean + stddev * output - y).abs();
                let value = match loss {
                    Loss::Absolute => error,
                    Loss::Huber if error <= stddev => 0.5 * error * error,
                    Loss::Huber => stddev * (error - 0.5 * stddev),
                    _ => error * error,
                };
                (error, value)
            };
            let (loss, absolute) = (w * value, w * error);
            self.add(&Sums { rows: 1, weight: w, loss, absolute, ..Sums::default() });
        }
    }

    /// Adds rows of an algorithm without a target: the sums of their weights and weighted losses.
    pub fn add_rows(&mut self, rows: u64, weight: f64, loss: f64) {
        self.add(&Sums { rows, weight, loss, ..Sums::default() });
    }

    fn add(&mut self, row: &Sums) {
        self.all.add(row);
        match self.blocks.back_mut() {
            Some(block) if block.rows < BLOCK => block.add(row),
            _ => {
                if self.blocks.len() == BLOCKS {
                    self.blocks.pop_front();
                }
                self.blocks.push_back(*row);
            }
        }
    }

    /// All rows so far.
    pub fn all(&self) -> &Sums {
        &self.all
    }

    /// The last nine to ten thousand rows.
    pub fn window(&self) -> Sums {
        let mut sums = Sums::default();
        self.blocks.iter().for_each(|block| sums.add(block));
        sums
    }

    /// For a checkpoint.
    pub fn state(&self) -> ProgressiveState {
        let bits = |s: &Sums| {
            [s.rows, s.weight.to_bits(), s.loss.to_bits(), s.right.to_bits(), s.absolute.to_bits()]
        };
        ProgressiveState { all: bits(&self.all), blocks: self.blocks.iter().map(bits).collect() }
    }

    /// From a checkpoint.
    pub fn restore(state: &ProgressiveState) -> Self {
        let sums = |bits: &[u64; 5]| {
            let [rows, rest @ ..] = *bits;
            let [weight, loss, right, absolute] = rest.map(f64::from_bits);
            Sums { rows, weight, loss, right, absolute }
        };
        Self { all: sums(&state.all), blocks: state.blocks.iter().map(sums).collect() }
    }
}

/// The index of the first largest value.
fn argmax(z: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in z.iter().enumerate() {
        if *value > z[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_and_the_last_ones_are_summed() {
        let mut progressive = Progressive::default();
        // 12,000 rows, the first half wrong, the others right.
        for i in 0..12_000 {
            let z = if i < 6000 { -1.0 } else { 1.0 };
            progressive.add_classes(Loss::Logistic, &[z], &[1.0], &[1.0]);
        }
        assert_eq!(progressive.all().accuracy(), Some(0.5));
        assert_eq!(progressive.window().rows, 10_000);
        assert_eq!(progressive.window().accuracy(), Some(0.6));
        // ln(1 + e) and ln(1 + 1/e): half of each.
        let truth = 0.5 * (1.0f64.exp().ln_1p() + (-1.0f64).exp().ln_1p());
        assert!((progressive.all().mean_loss().unwrap() - truth).abs() < 1e-7);
        let text = serde_json::to_string(&progressive.state()).unwrap();
        assert_eq!(Progressive::restore(&serde_json::from_str(&text).unwrap()), progressive);
    }

    #[test]
    fn regressions_have_an_absolute_error() {
        let mut progressive = Progressive::default();
        let (scores, weight) = ([1.0, 4.0], [1.0, 3.0]);
        progressive.add_numbers(Loss::Squared, &scores, &[2.0, 2.0], (0.0, 1.0), &weight);
        assert_eq!(progressive.all().mean_absolute_error(), Some((1.0 + 6.0) / 4.0));
    }

    #[test]
    fn losses_are_in_the_unit_of_the_target() {
        // Predictions 1e6 + 2 * (0.5, -3) of 1e6 and 1e6 + 1: errors 1 and 7.
        let (scores, numbers, weight) = ([0.5, -3.0], [1e6, 1e6 + 1.0], [1.0, 1.0]);
        for (loss, value) in [
            (Loss::Squared, 1.0 + 49.0),
            (Loss::Absolute, 1.0 + 7.0),
            // 4 huber(0.5) + 4 huber(3.5)
            (Loss::Huber, 4.0 * 0.125 + 4.0 * 3.0),
        ] {
            let mut progressive = Progressive::default();
            progressive.add_numbers(loss, &scores, &numbers, (1e6, 2.0), &weight);
            assert_eq!(progressive.all().mean_loss(), Some(value / 2.0), "{loss:?}");
            assert_eq!(progressive.all().mean_absolute_error(), Some(4.0));
        }
        let mut progressive = Progressive::default();
        progressive.add_numbers(Loss::Poisson, &[0.0], &[3.0], (0.0, 1.0), &[2.0]);
        assert_eq!(progressive.all().mean_loss(), Some(1.0));
        assert_eq!(progressive.all().mean_absolute_error(), Some(2.0));
    }
}
