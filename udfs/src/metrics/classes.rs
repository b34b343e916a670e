//! Metrics of predicted classes and of probabilities.

use std::collections::BTreeMap;

use crate::kernels::double::{exp_of_negative, ln_1p_of_unit};
use crate::kernels::math::vectorized;

/// Weights of rows by (class, predicted class).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Confusion {
    cells: BTreeMap<(u32, u32), f64>,
}

/// Precision, recall and F1: with two classes, those of the positive one (the larger); with more,
/// the means over the classes that occur, as labels or as predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages {
    /// Fraction of the rows predicted as a class that belong to it.
    pub precision: f64,
    /// Fraction of the rows of a class that are predicted as it.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1_score: f64,
}

impl Confusion {
    /// Adds a row.
    pub fn add(&mut self, class: u32, predicted: u32, weight: f64) {
        *self.cells.entry((class, predicted)).or_default() += weight;
    }

    /// Adds the rows of another confusion matrix.
    pub fn merge(&mut self, other: &Self) {
        for ((class, predicted), weight) in &other.cells {
            self.add(*class, *predicted, *weight);
        }
    }

    /// The cells: (class, predicted class) and the weight of its rows.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = ((u32, u32), f64)> {
        self.cells.iter().map(|(cell, weight)| (*cell, *weight))
    }

    /// The same with the classes renumbered.
    pub fn relabelled(&self, mut class_of: impl FnMut(u32) -> u32) -> Self {
        let mut other = Self::default();
        for ((class, predicted), weight) in &self.cells {
            other.add(class_of(*class), class_of(*predicted), *weight);
        }
        other
    }

    /// Fraction of the rows whose class was predicted; None without rows.
    pub fn accuracy(&self) -> Option<f64> {
        // (The sum of an empty iterator is -0.)
        let (mut all, mut right) = (0.0, 0.0);
        for ((class, predicted), weight) in &self.cells {
            all += weight;
            if class == predicted {
                right += weight;
            }
        }
        (all > 0.0).then(|| right / all)
    }

    /// See [`Averages`]; None without rows.
    pub fn precision(&self) -> Option<f64> {
        self.averages().map(|all| all.precision)
    }

    /// See [`Averages`].
    pub fn recall(&self) -> Option<f64> {
        self.averages().map(|all| all.recall)
    }

    /// See [`Averages`].
    pub fn f1_score(&self) -> Option<f64> {
        self.averages().map(|all| all.f1_score)
    }

    /// Precision, recall and F1 at once.
    pub fn averages(&self) -> Option<Averages> {
        /// Weights of the rows of a class, of those predicted as it, and of those that are both.
        #[derive(Default)]
        struct Sums {
            actual: f64,
            predicted: f64,
            right: f64,
        }
        let mut classes: BTreeMap<u32, Sums> = BTreeMap::new();
        for ((class, prediction), weight) in &self.cells {
            classes.entry(*class).or_default().actual += weight;
            let predicted = classes.entry(*prediction).or_default();
            predicted.predicted += weight;
            if class == prediction {
                predicted.right += weight;
            }
        }
        // With two classes, the larger one is the positive class.
        let is_binary = classes.len() == 2;
        let counted = classes.into_values().skip(usize::from(is_binary));
        let n = counted.len() as f64;
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let mut sum = Averages::default();
        for Sums { actual, predicted, right } in counted {
            sum.precision += ratio(right, predicted);
            sum.recall += ratio(right, actual);
            sum.f1_score += ratio(2.0 * right, actual + predicted);
        }
        (n > 0.0).then(|| Averages {
            precision: sum.precision / n,
            recall: sum.recall / n,
            f1_score: sum.f1_score / n,
        })
    }
}

/// The mean of `-ln p(class)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogLoss {
    /// Sum of weighted losses.
    pub loss: f64,
    /// Sum of weights.
    pub weight: f64,
}

/// `-ln` of the epsilon of float64.
const MAX_LOSS: f64 = 52.0 * std::f64::consts::LN_2;

impl LogLoss {
    /// Adds a row whose class was given this probability. As in scikit-learn, a probability is
    /// clipped to the epsilon of float64 and to 1 minus that.
    pub fn add(&mut self, probability: f64, weight: f64) {
        let p = probability.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        self.loss -= weight * p.ln();
        self.weight += weight;
    }

    /// Adds rows of two classes: logits, labels and weights. `losses` is working memory of the same
    /// length.
    pub fn add_logits(&mut self, z: &[f32], label: &[f32], weight: &[f64], losses: &mut [f64]) {
        let rows = z.iter().zip(label).zip(losses.iter_mut());
        vectorized(
            #[inline(always)]
            || {
                for ((z, label), loss) in rows {
                    let z = f64::from(*z);
                    let margin = if *label > 0.5 { z } else { -z };
                    let wrong = if margin < 0.0 { -margin } else { 0.0 };
                    let own = wrong + ln_1p_of_unit(exp_of_negative(-margin.abs()));
                    // Equivalent to clipping the probability.
                    let own = if own < f64::EPSILON { f64::EPSILON } else { own };
                    *loss = if own > MAX_LOSS { MAX_LOSS } else { own };
                }
            },
        );
        for (loss, weight) in losses.iter().zip(weight).take(z.len()) {
            self.loss += weight * loss;
            self.weight += weight;
        }
    }

    /// Adds the rows of another log loss.
    pub fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        self.weight += other.weight;
    }

    /// The mean; None without rows.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.loss / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::{Loss, probabilities};

    fn confusion(rows: &[(u32, u32, f64)]) -> Confusion {
        let mut confusion = Confusion::default();
        rows.iter().for_each(|(c, p, w)| confusion.add(*c, *p, *w));
        confusion
    }

    fn check(rows: &[(u32, u32, f64)], expected: [f64; 4]) {
        let c = confusion(rows);
        let got = [c.accuracy(), c.precision(), c.recall(), c.f1_score()].map(Option::unwrap);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-9, "{got} {expected}");
        }
        // In two parts.
        let (a, b) = rows.split_at(rows.len() / 2);
        let mut merged = confusion(a);
        merged.merge(&confusion(b));
        assert!((merged.f1_score().unwrap() - expected[3]).abs() < 1e-9);
    }

    /// sklearn.metrics: y = [0,1,1,0,1,1], p = [0,1,0,1,1,1], average 'binary'; then with weights
    /// [1,2,.5,1,1,3]; then y = [0,1,2,2,1,0,2], p = [0,2,2,1,1,0,0], average 'macro'; then
    /// y = [0,0,1], p = [0,0,0].
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let rows = [(0, 0), (1, 1), (1, 0), (0, 1), (1, 1), (1, 1)];
        let even: Vec<_> = rows.iter().map(|(c, p)| (*c, *p, 1.0)).collect();
        check(&even, [4.0 / 6.0, 0.75, 0.75, 0.75]);
        let weights = [1.0, 2.0, 0.5, 1.0, 1.0, 3.0];
        let weighted: Vec<_> = rows.iter().zip(weights).map(|((c, p), w)| (*c, *p, w)).collect();
        check(&weighted, [7.0 / 8.5, 6.0 / 7.0, 6.0 / 6.5, 12.0 / 13.5]);
        let many = [(0, 0), (1, 2), (2, 2), (2, 1), (1, 1), (0, 0), (2, 0)];
        let many: Vec<_> = many.iter().map(|(c, p)| (*c, *p, 1.0)).collect();
        let (p, r) = ((2.0 / 3.0 + 0.5 + 0.5) / 3.0, (1.0 + 0.5 + 1.0 / 3.0) / 3.0);
        check(&many, [4.0 / 7.0, p, r, (0.8 + 0.5 + 0.4) / 3.0]);
        check(&[(0, 0, 1.0), (0, 0, 1.0), (1, 0, 1.0)], [2.0 / 3.0, 0.0, 0.0, 0.0]);
        // A single class is not one of two.
        check(&[(1, 1, 1.0), (1, 1, 2.0)], [1.0; 4]);
        assert_eq!(Confusion::default().accuracy(), None);
        assert_eq!(Confusion::default().precision(), None);
    }

    #[test]
    fn log_loss_is_bounded() {
        let mut loss = LogLoss::default();
        assert_eq!(loss.mean(), None);
        loss.add(0.5, 2.0);
        loss.add(0.0, 1.0);
        // sklearn.metrics.log_loss([1, 1], [.5, 0], sample_weight=[2, 1], labels=[0, 1])
        assert!((loss.mean().unwrap() - 12.476_649_250_079).abs() < 1e-6, "{:?}", loss.mean());
    }

    #[test]
    fn losses_of_logits_are_those_of_their_probabilities() {
        let z: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 50.0).collect();
        let label: Vec<f32> = (0..z.len()).map(|i| (i % 2) as f32).collect();
        let weight: Vec<f64> = (0..z.len()).map(|i| 0.5 + (i % 7) as f64).collect();
        let (mut found, mut truth) = (LogLoss::default(), LogLoss::default());
        found.add_logits(&z, &label, &weight, &mut vec![0.0; z.len()]);
        let mut p = vec![0.0; 2 * z.len()];
        probabilities(Loss::Logistic, &z, 1, &mut p);
        for (row, (label, weight)) in label.iter().zip(&weight).enumerate() {
            truth.add(p[2 * row + *label as usize], *weight);
            let mut own = LogLoss::default();
            own.add_logits(&z[row..=row], &[*label], &[1.0], &mut [0.0]);
            let loss = -p[2 * row + *label as usize].clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln();
            assert!(
                (own.loss - loss).abs() <= 4e-16 * (1.0 + loss),
                "{}: {} {loss}",
                z[row],
                own.loss
            );
        }
        assert!(
            (found.loss - truth.loss).abs() < 1e-12 * truth.loss && found.weight == truth.weight
        );
    }
}
