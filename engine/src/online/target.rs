//! Standardises the target of a regression by the mean and deviation of the rows so far.
//!
//! Statistics advance row by row (Welford 1962), as those of features do. Each mini-batch uses the
//! current ones: labels are `(y - mean) / stddev`, as in river's `TargetStandardScaler`. The
//! weights do not change when the scale moves. They relate the standardised target to standardised
//! features, whose scales move as well, and what both have in common cancels. An alternative was
//! tried and dropped: weights that are rescaled with the target, so that no prediction changes,
//! ended three to seventy times as far off where the target has a trend.

use serde::{Deserialize, Serialize};

/// Statistics of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunningTarget {
    count: f64,
    mean: f64,
    /// Sum of squared differences from the mean.
    squares: f64,
    min: f64,
    max: f64,
}

/// As a checkpoint keeps it: count, mean, squares, min and max by their bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState([u64; 5]);

impl Default for RunningTarget {
    fn default() -> Self {
        Self { count: 0.0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl RunningTarget {
    /// Takes in rows, one after another.
    pub fn update(&mut self, rows: &[f64]) {
        for y in rows {
            self.count += 1.0;
            let delta = y - self.mean;
            self.mean += delta / self.count;
            self.squares += delta * (y - self.mean);
            self.min = self.min.min(*y);
            self.max = self.max.max(*y);
        }
    }

    /// Mean and deviation by which a number becomes a label: 0 and 1 before the first row, and a
    /// deviation of 1 while all rows are equal.
    pub fn scale(&self) -> (f64, f64) {
        let stddev = (self.squares / self.count.max(1.0)).sqrt();
        // A deviation below the resolution of the values counts as none.
        let noise = f64::EPSILON * self.mean.abs() * 8.0;
        let is_constant = stddev <= noise || self.min >= self.max;
        (self.mean, if is_constant { 1.0 } else { stddev })
    }

    /// For a checkpoint.
    pub fn state(&self) -> TargetState {
        let Self { count, mean, squares, min, max } = *self;
        TargetState([count, mean, squares, min, max].map(f64::to_bits))
    }

    /// From a checkpoint.
    pub fn restore(state: &TargetState) -> Self {
        let [count, mean, squares, min, max] = state.0.map(f64::from_bits);
        Self { count, mean, squares, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws that are the same on every machine, between 0 and 1.
    fn draw(i: u64) -> f64 {
        (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn the_scale_is_that_of_two_passes_however_far_the_target_is() {
        for (offset, unit) in [(0.0, 1.0), (1e6, 1e-6), (-3e9, 7.0), (1e-12, 1e-15), (0.0, 1e30)] {
            let mut target = RunningTarget::default();
            let mut values: Vec<f64> = vec![];
            for i in 0..5000 {
                let y = offset + unit * (draw(i) + 10.0 * i as f64 / 5000.0);
                values.push(y);
                target.update(&[y]);
                if values.len() > 1 && (values.len() - 1).is_power_of_two() {
                    let (n, first) = (values.len() as f64, values[0]);
                    let mean = values.iter().map(|y| y - first).sum::<f64>() / n;
                    let squares = values.iter().map(|y| (y - first - mean).powi(2)).sum::<f64>();
                    let stddev = (squares / n).sqrt();
                    let (found_mean, found_stddev) = target.scale();
                    let off = (found_mean - first - mean) / stddev;
                    assert!(off.abs() < 2e-3, "{offset} {unit} {n}: the mean is off by {off}");
                    let ratio = found_stddev / stddev;
                    assert!((ratio - 1.0).abs() < 2e-3, "{offset} {unit} {n}: {ratio}");
                }
            }
        }
    }

    #[test]
    fn equal_rows_have_no_deviation() {
        let mut target = RunningTarget::default();
        assert_eq!(target.scale(), (0.0, 1.0));
        for _ in 0..1000 {
            target.update(&[0.1]);
            let (mean, stddev) = target.scale();
            assert!((mean - 0.1).abs() < 1e-15);
            assert_eq!(stddev, 1.0);
        }
        target.update(&[1.1]);
        assert!(target.scale().1 < 0.1);
    }

    #[test]
    fn batches_and_restarts_change_nothing() {
        let rows: Vec<f64> = (0..300).map(|i| 1e5 + draw(i) * (i + 1) as f64).collect();
        let mut whole = RunningTarget::default();
        whole.update(&rows);
        let mut parts = RunningTarget::default();
        for rows in rows.chunks(7) {
            let text = serde_json::to_string(&parts.state()).unwrap();
            parts = RunningTarget::restore(&serde_json::from_str(&text).unwrap());
            parts.update(rows);
        }
        assert_eq!(parts, whole);
    }
}
