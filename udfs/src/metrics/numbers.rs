//! Metrics of predicted numbers.

/// Weighted mean and sum of squared differences from it; merges by Chan, Golub and LeVeque (1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spread {
    weight: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64, weight: f64) {
        self.merge(&Self { weight, mean: value, squares: 0.0 });
    }

    fn merge(&mut self, other: &Self) {
        let weight = self.weight + other.weight;
        if other.weight <= 0.0 || weight <= 0.0 {
            return;
        }
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * self.weight * other.weight / weight;
        self.mean += delta * other.weight / weight;
        self.weight = weight;
    }
}

/// The sums and residuals (`label - prediction`) that the metrics of some rows need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Residuals {
    labels: Spread,
    residuals: Spread,
    squares: f64,
    absolute: f64,
    log_squares: f64,
    /// Whether a label or prediction is -1 or less, where the logarithm is not defined.
    below: bool,
    /// (|residual|, weight) of each row.
    each: Vec<(f64, f64)>,
}

impl Residuals {
    /// Adds a row.
    pub fn add(&mut self, label: f64, prediction: f64, weight: f64) {
        let residual = label - prediction;
        self.labels.add(label, weight);
        self.residuals.add(residual, weight);
        self.squares += weight * residual * residual;
        self.absolute += weight * residual.abs();
        if label <= -1.0 || prediction <= -1.0 {
            self.below = true;
        } else {
            let difference = label.ln_1p() - prediction.ln_1p();
            self.log_squares += weight * difference * difference;
        }
        self.each.push((residual.abs(), weight));
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: &Self) {
        self.labels.merge(&other.labels);
        self.residuals.merge(&other.residuals);
        self.squares += other.squares;
        self.absolute += other.absolute;
        self.log_squares += other.log_squares;
        self.below |= other.below;
        self.each.extend_from_slice(&other.each);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.labels.weight > 0.0).then(|| sum / self.labels.weight)
    }

    /// Mean of |residual|.
    pub fn mean_absolute_error(&self) -> Option<f64> {
        self.mean(self.absolute)
    }

    /// Mean of residual².
    pub fn mean_squared_error(&self) -> Option<f64> {
        self.mean(self.squares)
    }

    /// Its root.
    pub fn root_mean_squared_error(&self) -> Option<f64> {
        self.mean_squared_error().map(f64::sqrt)
    }

    /// Mean of `(ln(1 + label) - ln(1 + prediction))²`; None where one of them is -1 or less.
    pub fn mean_squared_log_error(&self) -> Option<f64> {
        if self.below { None } else { self.mean(self.log_squares) }
    }

    /// Weighted median of |residual|; if the weights below and above are equal, the mean of the two
    /// middle ones.
    pub fn median_absolute_error(&self) -> Option<f64> {
        let mut each: Vec<_> = self.each.iter().copied().filter(|(_, w)| *w > 0.0).collect();
        each.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let half = each.iter().map(|(_, w)| w).sum::<f64>() / 2.0;
        let mut below = 0.0;
        for (i, (value, weight)) in each.iter().enumerate() {
            below += weight;
            if below > half {
                return Some(*value);
            }
            if below == half {
                let next = each.get(i + 1).map_or(*value, |(next, _)| *next);
                return Some((value + next) / 2.0);
            }
        }
        each.last().map(|(value, _)| *value)
    }

    /// `1 - sum of residual² / sum of (label - mean)²`; for constant labels, 1 if all residuals are
    /// 0, else 0.
    pub fn r2_score(&self) -> Option<f64> {
        self.share(self.squares)
    }

    /// `1 - variance of residuals / variance of labels`; for constant labels as `r2_score`.
    pub fn explained_variance(&self) -> Option<f64> {
        self.share(self.residuals.squares)
    }

    fn share(&self, unexplained: f64) -> Option<f64> {
        if self.labels.weight <= 0.0 {
            return None;
        }
        Some(if self.labels.squares > 0.0 {
            1.0 - unexplained / self.labels.squares
        } else if unexplained == 0.0 {
            1.0
        } else {
            0.0
        })
    }

    /// The sums and rows as numbers, for the state of an aggregate.
    pub(super) fn to_numbers(&self) -> Vec<f64> {
        let (l, r) = (self.labels, self.residuals);
        let mut numbers = vec![l.weight, l.mean, l.squares, r.weight, r.mean, r.squares];
        numbers.extend([self.squares, self.absolute, self.log_squares]);
        numbers.push(f64::from(u8::from(self.below)));
        numbers.extend(self.each.iter().flat_map(|(value, weight)| [*value, *weight]));
        numbers
    }

    /// Reads the result of [`Residuals::to_numbers`]; None for anything else.
    pub(super) fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let (sums, each) = numbers.split_at_checked(10)?;
        let spread =
            |at: usize| Spread { weight: sums[at], mean: sums[at + 1], squares: sums[at + 2] };
        Some(Self {
            labels: spread(0),
            residuals: spread(3),
            squares: sums[6],
            absolute: sums[7],
            log_squares: sums[8],
            below: sums[9] != 0.0,
            each: each.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(f64, f64, f64)]) -> Residuals {
        let mut residuals = Residuals::default();
        rows.iter().for_each(|(y, p, w)| residuals.add(*y, *p, *w));
        residuals
    }

    /// y = [3, -.5, 2, 7], p = [2.5, 0, 2, 8] of scikit-learn's documentation: mean absolute error
    /// 0.5, mean squared error 0.375, median 0.5, R2 0.9486081370449679, explained variance
    /// 0.9571734475374732.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let rows = [(3.0, 2.5, 1.0), (-0.5, 0.0, 1.0), (2.0, 2.0, 1.0), (7.0, 8.0, 1.0)];
        let r = of(&rows);
        assert_eq!(r.mean_absolute_error(), Some(0.5));
        assert_eq!(r.mean_squared_error(), Some(0.375));
        assert_eq!(r.median_absolute_error(), Some(0.5));
        assert!((r.r2_score().unwrap() - 0.948_608_137_044_967_9).abs() < 1e-12);
        assert!((r.explained_variance().unwrap() - 0.957_173_447_537_473_2).abs() < 1e-12);
        let mut merged = of(&rows[..1]);
        merged.merge(&of(&rows[1..]));
        merged.merge(&Residuals::default());
        assert!((merged.r2_score().unwrap() - r.r2_score().unwrap()).abs() < 1e-12);
        assert_eq!(Residuals::from_numbers(&merged.to_numbers()).unwrap(), merged);
    }

    /// mean_squared_log_error([3, 5, 2.5, 7], [2.5, 5, 4, 8]) = 0.039730122640571.
    #[test]
    fn logarithms_need_values_above_minus_one() {
        let r = of(&[(3.0, 2.5, 1.0), (5.0, 5.0, 1.0), (2.5, 4.0, 1.0), (7.0, 8.0, 1.0)]);
        assert!((r.mean_squared_log_error().unwrap() - 0.039_730_122_640_571).abs() < 1e-9);
        assert_eq!(of(&[(3.0, -1.0, 1.0)]).mean_squared_log_error(), None);
    }

    #[test]
    fn weights_repeat_rows() {
        let twice = of(&[(1.0, 2.0, 2.0), (4.0, 7.0, 1.0)]);
        let repeated = of(&[(1.0, 2.0, 1.0), (1.0, 2.0, 1.0), (4.0, 7.0, 1.0)]);
        assert_eq!(twice.median_absolute_error(), repeated.median_absolute_error());
        assert_eq!(twice.mean_squared_error(), repeated.mean_squared_error());
        assert!((twice.r2_score().unwrap() - repeated.r2_score().unwrap()).abs() < 1e-12);
    }

    #[test]
    fn constant_labels_and_no_rows() {
        assert_eq!(of(&[(1.0, 1.0, 1.0), (1.0, 1.0, 1.0)]).r2_score(), Some(1.0));
        assert_eq!(of(&[(1.0, 2.0, 1.0), (1.0, 1.0, 1.0)]).r2_score(), Some(0.0));
        assert_eq!(Residuals::default().r2_score(), None);
        assert_eq!(Residuals::default().median_absolute_error(), None);
    }
}
