//! Row weights times class weights, with mean 1 over the training rows.

use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use gradlake_udfs::model::Labels;

use crate::names::suggestion;
use crate::options::{ClassWeights, nearest};

/// Training rows and their weights by provisional class (one entry where there are no classes).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightSums {
    /// Rows.
    pub rows: Vec<u64>,
    /// Sums of row weights.
    pub weights: Vec<f64>,
}

impl WeightSums {
    /// Takes in a row.
    pub fn add(&mut self, class: usize, weight: f64) {
        if self.rows.len() <= class {
            self.rows.resize(class + 1, 0);
            self.weights.resize(class + 1, 0.0);
        }
        self.rows[class] += 1;
        self.weights[class] += weight;
    }

    /// Takes in other rows, which come after these.
    pub fn merge(&mut self, other: &Self) {
        if self.rows.len() < other.rows.len() {
            self.rows.resize(other.rows.len(), 0);
            self.weights.resize(other.rows.len(), 0.0);
        }
        self.rows.iter_mut().zip(&other.rows).for_each(|(own, n)| *own += n);
        self.weights.iter_mut().zip(&other.weights).for_each(|(own, w)| *own += w);
    }
}

/// What row weights are multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// By class (one entry where there are no classes): its weight over the mean weight.
    pub by_class: Vec<f32>,
    /// Class weights alone, for metrics, which row weights alone count for.
    pub class_weights: Vec<f64>,
}

/// The factors for training rows with these sums; `class_of` is the class of each provisional one.
///
/// # Errors
/// When class weights name a class that there is not, or the weights sum to zero.
pub fn factors(
    weights: &ClassWeights,
    labels: &Labels,
    sums: &WeightSums,
    class_of: &[Option<u32>],
) -> Result<Factors> {
    let Labels::Classes(classes) = labels else {
        let (rows, weight) = (sums.rows.iter().sum::<u64>(), sums.weights.iter().sum::<f64>());
        return normalised(rows as f64, weight, vec![1.0]);
    };
    let (mut rows, mut sum) = (vec![0.0; classes.len()], vec![0.0; classes.len()]);
    for ((n, weight), class) in sums.rows.iter().zip(&sums.weights).zip(class_of) {
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
    normalised(all, total, class_weights)
}

fn normalised(rows: f64, total: f64, class_weights: Vec<f64>) -> Result<Factors> {
    if rows > 0.0 && !(total > 0.0 && total.is_finite()) {
        return exec_err!(
            "the weights of the training rows sum to {total}; some row needs a weight above 0"
        );
    }
    let mean = if rows > 0.0 { total / rows } else { 1.0 };
    let by_class = class_weights.iter().map(|weight| (weight / mean) as f32).collect();
    Ok(Factors { by_class, class_weights })
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
}
