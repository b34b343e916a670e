//! Row weights times class weights, with mean 1 over the training rows.
//!
//! Only ratios of weights matter, so weights may have any scale that float64 can represent. If
//! float32 can represent the scale, weights are rounded to float32 first; otherwise they are
//! rounded after they are divided by their mean. A weight that is then below the range of float32
//! is 0.

use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use gradlake_udfs::Labels;

use crate::names::suggestion;
use crate::options::{ClassWeights, nearest};

/// Training rows and their weights by provisional class (one entry where there are no classes).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightSums {
    /// Rows.
    pub rows: Vec<u64>,
    /// Sums of row weights, each rounded to float32.
    pub weights: Vec<f64>,
    /// Sums of row weights without rounding.
    pub exact: Vec<f64>,
    /// The largest row weight.
    pub largest: f64,
}

impl WeightSums {
    /// Adds a row.
    pub fn add(&mut self, class: usize, weight: f64) {
        self.grow(class + 1);
        self.rows[class] += 1;
        self.weights[class] += f64::from(weight as f32);
        self.exact[class] += weight;
        self.largest = self.largest.max(weight);
    }

    /// Merges other rows, which come after these.
    pub fn merge(&mut self, other: &Self) {
        self.grow(other.rows.len());
        self.rows.iter_mut().zip(&other.rows).for_each(|(own, n)| *own += n);
        self.weights.iter_mut().zip(&other.weights).for_each(|(own, w)| *own += w);
        self.exact.iter_mut().zip(&other.exact).for_each(|(own, w)| *own += w);
        self.largest = self.largest.max(other.largest);
    }

    fn grow(&mut self, classes: usize) {
        if self.rows.len() < classes {
            self.rows.resize(classes, 0);
            self.weights.resize(classes, 0.0);
            self.exact.resize(classes, 0.0);
        }
    }

    /// Whether float32 can represent weights of this scale.
    fn fit_float32(&self) -> bool {
        let (rows, weight) = (self.rows.iter().sum::<u64>(), self.exact.iter().sum::<f64>());
        let mean = weight / rows.max(1) as f64;
        self.largest <= f64::from(f32::MAX) && (mean >= SMALLEST_MEAN || weight == 0.0)
    }
}

/// The smallest mean of weights whose inverse is in the range of float32, with a margin for class
/// weights.
const SMALLEST_MEAN: f64 = 1e-30;

/// Whether float32 represents a weight with full precision, as 0 or a normal number.
pub fn is_normal(weight: f64) -> bool {
    let (smallest, largest) = (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX));
    weight == 0.0 || (smallest..=largest).contains(&weight)
}

/// The factors that row weights are multiplied by.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// By class (one entry where there are no classes): its weight over the mean weight.
    pub by_class: Vec<f32>,
    /// Class weights alone, for metrics: those are weighted by row weights alone.
    pub class_weights: Vec<f64>,
    /// The mean weight, if float32 cannot represent weights of this scale.
    wide_mean: Option<f64>,
}

impl Factors {
    /// The weight of a row of a class (0 without classes) whose factor is `factor`; a weight that
    /// would be infinite is the largest of float32.
    #[inline]
    pub fn weight(&self, factor: f32, class: f32, weight: f64) -> f32 {
        match self.wide_mean {
            None => factor * weight as f32,
            Some(mean) => {
                let own = self.class_weights.get(class as usize).copied().unwrap_or(1.0);
                (weight / mean * own).min(f64::from(f32::MAX)) as f32
            }
        }
    }
}

/// The factors for training rows with these sums; `class_of` maps each provisional class to its
/// class.
///
/// # Errors
/// When class weights name a class that does not exist, or the weights sum to zero.
pub fn factors(
    weights: &ClassWeights,
    labels: &Labels,
    sums: &WeightSums,
    class_of: &[Option<u32>],
) -> Result<Factors> {
    let is_wide = !sums.fit_float32();
    let weights_of = if is_wide { &sums.exact } else { &sums.weights };
    let Labels::Classes(classes) = labels else {
        let (rows, weight) = (sums.rows.iter().sum::<u64>(), weights_of.iter().sum::<f64>());
        return normalised(rows as f64, weight, vec![1.0], is_wide);
    };
    let (mut rows, mut sum) = (vec![0.0; classes.len()], vec![0.0; classes.len()]);
    for ((n, weight), class) in sums.rows.iter().zip(weights_of).zip(class_of) {
        if let Some(class) = class {
            rows[*class as usize] += *n as f64;
            sum[*class as usize] += weight;
        }
    }
    let all: f64 = rows.iter().sum();
    let class_weights: Vec<f64> = match weights {
        ClassWeights::None => vec![1.0; classes.len()],
        ClassWeights::Balanced => rows
            .iter()
            .map(|n| if *n > 0.0 { all / (classes.len() as f64 * n) } else { 1.0 })
            .collect(),
        ClassWeights::Map(given) => {
            let names: Vec<String> = classes.iter().map(ScalarValue::to_string).collect();
            let mut by_class = vec![1.0; classes.len()];
            for (label, weight) in given {
                match names.iter().position(|name| name == label) {
                    Some(class) => by_class[class] = *weight,
                    None => {
                        return plan_err!(
                            "class_weights names the class {label}, which the target lacks{}",
                            suggestion(nearest(label, names.iter().map(String::as_str)))
                        );
                    }
                }
            }
            by_class
        }
    };
    let total = sum.iter().zip(&class_weights).map(|(sum, weight)| sum * weight).sum();
    normalised(all, total, class_weights, is_wide)
}

fn normalised(rows: f64, total: f64, class_weights: Vec<f64>, is_wide: bool) -> Result<Factors> {
    if rows > 0.0 && total.is_infinite() {
        return exec_err!(
            "the weights of the training rows sum to more than float64 holds; divide them by a \
             large number, since their scale does not matter"
        );
    }
    if rows > 0.0 && total <= 0.0 {
        return exec_err!(
            "the weights of the training rows sum to {total}; some row needs a weight above 0"
        );
    }
    let mean = if rows > 0.0 { total / rows } else { 1.0 };
    let by_class = class_weights.iter().map(|weight| (weight / mean) as f32).collect();
    Ok(Factors { by_class, class_weights, wide_mean: is_wide.then_some(mean) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::Classes(vec![ScalarValue::from("no"), ScalarValue::from("yes")])
    }

    /// scikit-learn's compute_class_weight('balanced', classes=[0, 1], y=[0]*30 + [1]*10):
    /// [0.6667, 2].
    #[test]
    fn balanced_classes_weigh_the_same() {
        let mut sums = WeightSums::default();
        (0..30).for_each(|_| sums.add(1, 1.0));
        (0..10).for_each(|_| sums.add(0, 1.0));
        let class_of = [Some(1), Some(0)];
        let f = factors(&ClassWeights::Balanced, &labels(), &sums, &class_of).unwrap();
        assert!((f.class_weights[0] - 2.0 / 3.0).abs() < 1e-12 && f.class_weights[1] == 2.0);
        assert!((30.0 * f.by_class[0] + 10.0 * f.by_class[1] - 40.0).abs() < 1e-5);
    }

    #[test]
    fn named_classes_must_exist_and_weights_be_positive() {
        let mut sums = WeightSums::default();
        sums.add(0, 0.0);
        sums.add(1, 0.0);
        let class_of = [Some(0), Some(1)];
        let map = |label: &str| ClassWeights::Map(vec![(label.to_owned(), 3.0)]);
        let error = factors(&map("yess"), &labels(), &sums, &class_of).unwrap_err().to_string();
        assert!(error.contains("class yess") && error.contains("yes"), "{error}");
        let error = factors(&map("yes"), &labels(), &sums, &class_of).unwrap_err().to_string();
        assert!(error.contains("sum to 0"), "{error}");
        sums.add(1, 2.0);
        sums.add(1, 2.0);
        let f = factors(&map("yes"), &labels(), &sums, &class_of).unwrap();
        // Four rows, total 12: mean 3.
        assert_eq!(f.by_class, [1.0 / 3.0, 1.0]);
    }

    #[test]
    fn the_scale_of_weights_does_not_matter() {
        let weights = |scale: f64| -> Vec<f32> {
            let mut sums = WeightSums::default();
            (1..=4u32).for_each(|w| sums.add((w % 2) as usize, f64::from(w) * scale));
            let f = factors(&ClassWeights::None, &labels(), &sums, &[Some(0), Some(1)]).unwrap();
            assert_eq!(f.wide_mean.is_some(), !(1e-20..1e20).contains(&scale), "{scale}");
            (1..=4u32)
                .map(|w| f.weight(f.by_class[0], (w % 2) as f32, f64::from(w) * scale))
                .collect()
        };
        let expected = weights(1.0);
        assert_eq!(expected, [0.4, 0.8, 1.2, 1.6]);
        // Powers of two: no digit of the sums differs.
        for scale in [-1000, -140, -60, 60, 140, 1000] {
            assert_eq!(weights(2f64.powi(scale)), expected, "{scale}");
        }
        let mut sums = WeightSums::default();
        (0..20).for_each(|_| sums.add(0, f64::MAX));
        let error = factors(&ClassWeights::None, &labels(), &sums, &[Some(0)]).unwrap_err();
        assert!(error.to_string().contains("more than float64 holds"), "{error}");
        // A weight that is negligible beside the others becomes 0.
        let mut sums = WeightSums::default();
        [1e200, 1e-200].iter().for_each(|w| sums.add(0, *w));
        let f = factors(&ClassWeights::None, &labels(), &sums, &[Some(0)]).unwrap();
        assert_eq!([1e200, 1e-200].map(|w| f.weight(f.by_class[0], 0.0, w)), [2.0, 0.0]);
    }
}
