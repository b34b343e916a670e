//! The solvers against scikit-learn, on data that `tests/oracle/exact.py` encoded.

use std::path::PathBuf;

use serde::Deserialize;

use super::*;

/// A file of `exact.py`.
#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) rows: usize,
    pub(super) dense: usize,
    columns: usize,
    categories: usize,
    x: Vec<f32>,
    codes: Vec<i64>,
    label: Vec<f32>,
    weight: Vec<f32>,
    #[serde(default)]
    pub(super) outputs: usize,
    pub(super) l2: f64,
    #[serde(default)]
    intercept: Option<bool>,
    rank: Option<usize>,
    pub(super) weights: Vec<f64>,
    pub(super) intercepts: Vec<f64>,
    pub(super) loss: f64,
}

impl Case {
    fn parse(text: &str) -> Self {
        serde_json::from_str(text).expect("a case of exact.py")
    }

    pub(super) fn width(&self) -> Width {
        Width {
            dense: self.dense,
            columns: self.columns,
            categories: self.categories,
            ..Width::default()
        }
    }

    /// Category indices, NO_CATEGORY for -1.
    pub(super) fn codes(&self) -> Vec<u32> {
        self.codes.iter().map(|&code| u32::try_from(code).unwrap_or(NO_CATEGORY)).collect()
    }

    pub(super) fn batch<'a>(&'a self, codes: &'a [u32]) -> MiniBatch<'a> {
        MiniBatch {
            rows: self.rows,
            dense: &self.x,
            codes,
            label: &self.label,
            weight: &self.weight,
            ..MiniBatch::default()
        }
    }

    /// All rows in batches of 1000, each with a sum of its own, merged.
    fn gram(&self) -> GramSum {
        let codes = self.codes();
        let mut sum = GramSum::new(self.width());
        for start in (0..self.rows).step_by(1000) {
            let mut part = GramSum::new(self.width());
            let end = self.rows.min(start + 1000);
            part.update(&self.batch(&codes).slice(start, end, self.width())).expect("valid");
            sum.merge(&part).expect("same width");
        }
        sum
    }

    pub(super) fn newton(&self, parameters: &[f64]) -> NewtonSum {
        let codes = self.codes();
        let mut sum = NewtonSum::new(self.width(), self.outputs, true).expect("valid");
        sum.update(parameters, &self.batch(&codes)).expect("valid");
        sum
    }

    fn check_linear(&self, name: &str, tolerance: f64) {
        let found = self.gram().solve(self.l2, self.intercept != Some(false)).expect("solvable");
        if let Some(rank) = self.rank {
            assert_eq!(found.rank, rank, "{name}");
        }
        close(name, &found.weights, &self.weights, tolerance);
        close(name, &[found.intercept], &self.intercepts, tolerance);
        close(name, &[found.loss], &[self.loss], 1e-11);
    }

    fn check_logistic(&self, name: &str, tolerance: f64) -> Report {
        let count = (self.width().inputs() + 1) * self.outputs;
        let options = NewtonOptions { l2: self.l2, tolerance: 1e-11, max_steps: 50 };
        let mut newton = Newton::new(vec![0.0; count], options).expect("valid");
        while newton.advance(&self.newton(newton.trial())).expect("finite") == Advance::Continue {
            // As a checkpoint does.
            newton = Newton::from_bytes(&newton.to_bytes()).expect("own bytes");
        }
        let report = newton.report();
        assert_eq!(report.outcome, Outcome::Converged, "{name} {report:?}");
        let (weights, intercepts) = newton.parameters().split_at(count - self.outputs);
        close(name, weights, &self.weights, tolerance);
        close(name, &centred(intercepts), &centred(&self.intercepts), tolerance);
        close(name, &[report.loss], &[self.loss], 1e-10);
        report
    }
}

/// Intercepts of a softmax are unique but for a constant.
fn centred(intercepts: &[f64]) -> Vec<f64> {
    let mean = intercepts.iter().sum::<f64>() / intercepts.len() as f64;
    intercepts.iter().map(|b| if intercepts.len() > 1 { b - mean } else { *b }).collect()
}

/// Equal within `tolerance`, relative to the largest of `expected`.
pub(super) fn close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let size = expected.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / size).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{name}: off by {worst:e} of {size}\n{found:?}\n{expected:?}");
}

pub(super) fn adult() -> Case {
    Case::parse(include_str!("../../tests/oracle/exact_adult.json"))
}

/// Quantiles 0.1, 0.5 and 0.9 of 300 rows, of `quantiles.py`.
pub(super) fn quantiles() -> Case {
    Case::parse(include_str!("../../tests/oracle/quantiles.json"))
}

/// The same of all rows, where a folder with them is named.
pub(super) fn quantiles_of_all_rows() -> Option<Case> {
    let folder = PathBuf::from(std::env::var_os("GRADLAKE_EXACT_ORACLE")?);
    Some(Case::parse(&std::fs::read_to_string(folder.join("quantiles.json")).ok()?))
}

pub(super) fn iris() -> Case {
    Case::parse(include_str!("../../tests/oracle/exact_iris.json"))
}

fn diamonds() -> Case {
    Case::parse(include_str!("../../tests/oracle/exact_diamonds.json"))
}

#[test]
fn linear_regressions_equal_scikit_learn() {
    diamonds().check_linear("diamonds", 1e-10);
    let ridge = include_str!("../../tests/oracle/exact_diamonds_ridge.json");
    Case::parse(ridge).check_linear("ridge", 1e-10);
    let raw = include_str!("../../tests/oracle/exact_diamonds_raw.json");
    Case::parse(raw).check_linear("raw, no intercept", 1e-9);
}

#[test]
fn logistic_regressions_equal_scikit_learn() {
    let report = adult().check_logistic("adult", 1e-9);
    assert!(report.passes <= 12, "{report:?}");
    iris().check_logistic("iris", 1e-11);
}

/// A column of timestamps (seconds, float32 as encoded) and a constant column: shifting the target
/// and the inputs must not cost digits, with any reference.
#[test]
fn distant_columns_keep_their_digits() {
    let case = diamonds();
    let width = Width { dense: 3, columns: 0, categories: 0, ..Width::default() };
    let mut x = Vec::new();
    let mut label = Vec::new();
    for (row, &price) in case.label.iter().enumerate() {
        // Multiples of 128 from 1.6e9 are exact in float32.
        let time = 1.6e9 + 128.0 * ((row * 37) % 101) as f32;
        x.extend([time, 5.0, case.x[row * case.dense]]);
        label.push(price);
    }
    let weight = vec![1.0; label.len()];
    let batch = |x| MiniBatch {
        rows: label.len(),
        dense: x,
        label: &label,
        weight: &weight,
        ..MiniBatch::default()
    };
    let mut far = GramSum::new(width);
    far.update(&batch(&x)).expect("valid");
    let near: Vec<f32> = x.chunks(3).flat_map(|x| [x[0] - 1.6e9, x[1], x[2]]).collect();
    let mut close_by = GramSum::with_reference(width, &[6400.0, 5.0, 0.0, 0.0]).expect("valid");
    close_by.update(&batch(&near)).expect("valid");
    let (far, near) =
        (far.solve(0.0, true).expect("solvable"), close_by.solve(0.0, true).expect("solvable"));
    assert_eq!((far.rank, near.rank), (2, 2));
    assert_eq!(far.weights[1], 0.0);
    for i in [0, 2] {
        close("weight", &[far.weights[i]], &[near.weights[i]], 1e-11);
    }
    close("loss", &[far.loss], &[near.loss], 1e-12);
}

#[test]
fn gradient_and_hessian_equal_finite_differences() {
    for mut case in [adult(), iris()] {
        // The first rows suffice, and keep the finite differences cheap.
        case.rows = case.rows.min(60);
        case.x.truncate(case.rows * case.dense);
        case.codes.truncate(case.rows * case.columns);
        case.label.truncate(case.rows);
        case.weight.truncate(case.rows);
        let count = (case.width().inputs() + 1) * case.outputs;
        let at: Vec<f64> = (0..count).map(|i| (i as f64 * 1.3).sin() * 0.3).collect();
        let sum = case.newton(&at);
        // Gradient and Hessian by parameters: undo the shift `z = w (x - r) + (b + w r)`.
        let shift = |mut g: Vec<f64>| {
            let outputs = case.outputs;
            let (inputs, intercepts) = g.split_at_mut(count - outputs);
            for (g, r) in inputs.chunks_mut(outputs).zip(sum.reference()) {
                g.iter_mut().zip(&*intercepts).for_each(|(g, b)| *g += r * b);
            }
            g
        };
        let gradient = shift(sum.gradient());
        let lower = sum.hessian();
        let full = |i: usize, j: usize| lower[i.min(j) * count + i.max(j)];
        let half: Vec<Vec<f64>> =
            (0..count).map(|j| shift((0..count).map(|i| full(i, j)).collect())).collect();
        let step = 1e-5;
        for j in 0..count {
            let moved = |by: f64| {
                let mut at = at.clone();
                at[j] += by;
                case.newton(&at)
            };
            let (up, down) = (moved(step), moved(-step));
            let slope = (up.mean_loss() - down.mean_loss()) / (2.0 * step);
            assert!((slope - gradient[j]).abs() < 1e-8, "{j}: {slope} {}", gradient[j]);
            let (up, down) = (shift(up.gradient()), shift(down.gradient()));
            for i in 0..count {
                // The rows of H in parameters: shift the other index as well.
                let row: Vec<f64> = half.iter().map(|column| column[i]).collect();
                let expected = shift(row)[j];
                let found = (up[i] - down[i]) / (2.0 * step);
                assert!((found - expected).abs() < 1e-7, "({i}, {j}): {found} {expected}");
            }
        }
    }
}

/// Loss, gradient and Hessian from one-hot rows, computed naively.
#[test]
fn a_newton_sum_equals_the_naive_one() {
    let case = iris();
    let (outputs, d) = (case.outputs, case.dense);
    let count = (d + 1) * outputs;
    let at: Vec<f64> = (0..count).map(|i| (i as f64).cos()).collect();
    let mut loss = 0.0;
    let mut hessian = vec![0.0; count * count];
    let sum = case.newton(&at);
    for row in 0..case.rows {
        let raw: Vec<f64> =
            case.x[row * d..(row + 1) * d].iter().map(|&x| f64::from(x)).chain([1.0]).collect();
        let z: Vec<f64> =
            (0..outputs).map(|k| (0..=d).map(|i| at[i * outputs + k] * raw[i]).sum()).collect();
        let total: f64 = z.iter().map(|z: &f64| z.exp()).sum();
        loss += total.ln() - z[case.label[row] as usize];
        let p: Vec<f64> = z.iter().map(|z| z.exp() / total).collect();
        let mut x = raw.clone();
        x.iter_mut().zip(sum.reference()).for_each(|(x, r)| *x -= r);
        for i in 0..count {
            for j in 0..count {
                let (a, b) = (i % outputs, j % outputs);
                let same = f64::from(u8::from(a == b));
                hessian[j * count + i] +=
                    p[a] * (same - p[b]) * x[i / outputs] * x[j / outputs] / case.rows as f64;
            }
        }
    }
    close("loss", &[sum.mean_loss()], &[loss / case.rows as f64], 1e-14);
    let found = sum.hessian();
    for j in 0..count {
        close(
            "hessian",
            &found[j * count + j..(j + 1) * count],
            &hessian[j * count + j..(j + 1) * count],
            1e-12,
        );
    }
}

/// All rows: `python udfs/tests/oracle/exact.py DATA FOLDER`, then
/// `GRADLAKE_EXACT_ORACLE=FOLDER cargo test -p gradlake-udfs --lib exact -- --nocapture`.
#[test]
#[allow(clippy::print_stderr, reason = "a measurement speaks")]
fn all_rows_equal_scikit_learn() {
    let Some(folder) = std::env::var_os("GRADLAKE_EXACT_ORACLE").map(PathBuf::from) else {
        eprintln!("skipped: GRADLAKE_EXACT_ORACLE names no folder");
        return;
    };
    let case = |name: &str| {
        let path = folder.join(format!("exact_{name}.json"));
        Case::parse(&std::fs::read_to_string(path).expect("a file of exact.py"))
    };
    let linear = ["housing", "housing_ridge", "housing_raw", "flights", "diamonds"];
    for (name, tolerance) in linear.into_iter().zip([1e-11, 1e-11, 1e-11, 1e-8, 1e-11]) {
        let case = case(name);
        let start = std::time::Instant::now();
        let found = case.gram().solve(case.l2, true).expect("solvable");
        eprintln!("{name}: {:?}, rank {}, rmse {}", start.elapsed(), found.rank, found.loss.sqrt());
        case.check_linear(name, tolerance);
    }
    for (name, tolerance) in [("adult", 1e-11), ("iris", 1e-11), ("digits", 1e-11)] {
        let case = case(name);
        let codes = case.codes();
        let at = vec![0.0; (case.width().inputs() + 1) * case.outputs];
        let mut sum = NewtonSum::new(case.width(), case.outputs, true).expect("valid");
        sum.update(&at, &case.batch(&codes)).expect("valid");
        let start = std::time::Instant::now();
        sum.update(&at, &case.batch(&codes)).expect("valid");
        let pass = start.elapsed();
        let start = std::time::Instant::now();
        sum.step(&at, case.l2).expect("finite");
        eprintln!("{name}: pass {pass:?}, step {:?}", start.elapsed());
        eprintln!("{name}: {:?}", case.check_logistic(name, tolerance));
    }
}
