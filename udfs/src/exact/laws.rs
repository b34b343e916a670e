//! Laws that the solvers obey on any data: merging, separable classes, dependent columns, bad
//! starts, bad input.

use super::oracle::{adult, close, iris};
use super::*;
use crate::kernels::rng::{mix, unit};

#[test]
fn merging_keeps_the_laws() {
    let case = adult();
    let codes = case.codes();
    let (width, batch) = (case.width(), case.batch(&codes));
    let at = vec![0.05; width.inputs() + 1];
    let gram = |from, to| {
        let mut sum = GramSum::new(width);
        sum.update(&batch.slice(from, to, width)).expect("valid");
        sum
    };
    let newton = |from, to| {
        let mut sum = NewtonSum::new(width, 1, true).expect("valid");
        sum.update(&at, &batch.slice(from, to, width)).expect("valid");
        sum
    };
    let (whole, whole_newton) = (gram(0, case.rows), newton(0, case.rows));
    let solved = whole.solve(0.01, true).expect("solvable");
    let step = whole_newton.step(&at, 0.01).expect("finite");
    assert_eq!(gram(0, case.rows).to_bytes(), whole.to_bytes());
    assert_eq!(newton(0, case.rows).to_bytes(), whole_newton.to_bytes());
    for cuts in [vec![0, 1, 400], vec![0, 257, 258, 400], vec![0, 0, 13, 200, 399, 400]] {
        let mut sum = GramSum::new(width);
        let mut sum_newton = NewtonSum::new(width, 1, true).expect("valid");
        for pair in cuts.windows(2) {
            let bytes = gram(pair[0], pair[1]).to_bytes();
            sum.merge(&GramSum::from_bytes(&bytes).expect("own bytes")).expect("same width");
            let bytes = newton(pair[0], pair[1]).to_bytes();
            let part = NewtonSum::from_bytes(&bytes).expect("own bytes");
            sum_newton.merge(&part).expect("same width");
        }
        assert_eq!((sum.rows(), sum.weight()), (whole.rows(), whole.weight()));
        let found = sum.solve(0.01, true).expect("solvable");
        close("weights", &found.weights, &solved.weights, 1e-12);
        close("mean", &[sum.mean_target()], &[whole.mean_target()], 1e-13);
        let found = sum_newton.step(&at, 0.01).expect("finite");
        close("objective", &[found.objective], &[step.objective], 1e-13);
        close("direction", &found.direction, &step.direction, 1e-12);
    }
    // Empty sums, and rows without weight, change nothing.
    let mut sum = whole.clone();
    sum.merge(&GramSum::new(width)).expect("same width");
    assert_eq!(sum.to_bytes(), whole.to_bytes());
    let mut sum = GramSum::new(width);
    sum.merge(&whole).expect("same width");
    assert_eq!(sum.to_bytes(), whole.to_bytes());
    let mut sum = NewtonSum::new(width, 1, true).expect("valid");
    sum.merge(&whole_newton).expect("same width");
    assert_eq!(sum.to_bytes(), whole_newton.to_bytes());
    let row = MiniBatch { weight: &[0.0], dense: &[f32::NAN; 6], ..batch.slice(0, 1, width) };
    let mut sum = whole.clone();
    sum.update(&row).expect("valid");
    let found = sum.solve(0.01, true).expect("a row without weight is nothing");
    assert_eq!(found, solved);
}

fn rows_of<'a>(
    dense: &'a [f32],
    codes: &'a [u32],
    label: &'a [f32],
    weight: &'a [f32],
) -> MiniBatch<'a> {
    MiniBatch { rows: label.len(), dense, codes, label, weight, ..MiniBatch::default() }
}

/// Runs Newton's method over one batch.
fn run(width: Width, outputs: usize, intercept: bool, l2: f64, batch: &MiniBatch) -> Newton {
    let count = (width.inputs() + usize::from(intercept)) * outputs;
    let options = NewtonOptions { l2, tolerance: 1e-9, max_steps: 60 };
    let mut newton = Newton::new(vec![0.0; count], options).expect("valid");
    loop {
        let mut sum = NewtonSum::new(width, outputs, intercept).expect("valid");
        sum.update(newton.trial(), batch).expect("valid");
        if newton.advance(&sum).expect("finite") == Advance::Finished {
            return newton;
        }
    }
}

/// Without l2, one-hot columns of all categories beside an intercept, the same without intercept,
/// and dummies with one category dropped are the same model.
#[test]
fn dependent_columns_do_not_change_the_loss() {
    let rows = 300;
    let codes: Vec<u32> = (0..rows).map(|i| (i as u32 * 7919 / 13) % 3).collect();
    let weight = vec![1.0; rows];
    for outputs in [1, 3] {
        let classes = outputs.max(2) as u32;
        let label: Vec<f32> =
            (0..rows as u32).map(|i| ((i * 2_654_435 / 1000) % classes) as f32).collect();
        let x: Vec<f32> = (0..rows).map(|i| (i as f32).sin() + 0.3 * label[i]).collect();
        let dummies: Vec<f32> = (0..rows)
            .flat_map(|i| {
                [x[i], f32::from(u8::from(codes[i] == 1)), f32::from(u8::from(codes[i] == 2))]
            })
            .collect();
        let batch = |dense, codes| rows_of(dense, codes, &label, &weight);
        let hot = Width { dense: 1, columns: 1, categories: 3, ..Width::default() };
        let plain = Width { dense: 3, columns: 0, categories: 0, ..Width::default() };
        let expected = run(plain, outputs, true, 0.0, &batch(&dummies, &[])).report();
        assert_eq!(expected.outcome, Outcome::Converged);
        for intercept in [true, false] {
            let found = run(hot, outputs, intercept, 0.0, &batch(&x, &codes)).report();
            assert_eq!(found.outcome, Outcome::Converged, "{found:?}");
            assert!(!found.separable && found.passes <= 10, "{found:?}");
            close("loss", &[found.loss], &[expected.loss], 1e-12);
        }
    }
}

/// Timestamps in seconds, not standardised, against the same seconds counted from the first row.
#[test]
fn a_logistic_regression_of_timestamps_keeps_its_digits() {
    let rows = 200;
    let near: Vec<f32> = (0..rows).map(|i| 128.0 * ((i * 37) % 101) as f32).collect();
    let far: Vec<f32> = near.iter().map(|x| x + 1.6e9).collect();
    let label: Vec<f32> = (0..rows)
        .map(|i| f32::from(u8::from((i * i + (near[i] / 2000.0) as usize) % 7 > 3)))
        .collect();
    let weight = vec![1.0; rows];
    let width = Width { dense: 1, columns: 0, categories: 0, ..Width::default() };
    let fit = |x| {
        let batch =
            MiniBatch { rows, dense: x, label: &label, weight: &weight, ..MiniBatch::default() };
        run(width, 1, true, 0.0, &batch)
    };
    let (near, far) = (fit(&near), fit(&far));
    assert_eq!(far.report().outcome, Outcome::Converged, "{:?}", far.report());
    close("weight", &far.parameters()[..1], &near.parameters()[..1], 1e-8);
    close("loss", &[far.report().loss], &[near.report().loss], 1e-12);
}

/// Two classes that a threshold separates, without a penalty; one of the categories occurs in a
/// single class.
#[test]
fn separable_classes_end_with_finite_weights() {
    let width = Width { dense: 1, columns: 1, categories: 2, ..Width::default() };
    let x: Vec<f32> = (0..40).map(|i| i as f32 / 10.0 - 2.0).collect();
    let codes: Vec<u32> = (0..40).map(|i| u32::from(i % 2 == 0)).collect();
    let label: Vec<f32> = x.iter().map(|&x| f32::from(u8::from(x > 0.33))).collect();
    let batch = MiniBatch {
        rows: 40,
        dense: &x,
        codes: &codes,
        label: &label,
        weight: &[1.0; 40],
        ..MiniBatch::default()
    };
    for outputs in [1, 2] {
        let mut newton = Newton::new(vec![0.0; 4 * outputs], NewtonOptions::default()).unwrap();
        loop {
            let mut sum = NewtonSum::new(width, outputs, true).unwrap();
            sum.update(newton.trial(), &batch).unwrap();
            if newton.advance(&sum).unwrap() == Advance::Finished {
                break;
            }
        }
        let report = newton.report();
        assert!(report.separable, "{report:?}");
        assert_eq!(report.outcome, Outcome::Converged, "{report:?}");
        assert!(report.loss < 1e-5 && newton.parameters().iter().all(|w| w.abs() < 1e6));
    }
}

/// A start far from the minimum, where the full Newton step overshoots, needs halvings and still
/// converges.
#[test]
fn a_bad_start_is_damped() {
    let case = iris();
    let count = (case.dense + 1) * case.outputs;
    let start: Vec<f64> = (0..count).map(|i| if i % 2 == 0 { 9.0 } else { -9.0 }).collect();
    let options = NewtonOptions { l2: case.l2, tolerance: 1e-10, max_steps: 100 };
    let mut newton = Newton::new(start, options).unwrap();
    let mut last = f64::INFINITY;
    while newton.advance(&case.newton(newton.trial())).unwrap() == Advance::Continue {
        assert!(newton.report().objective <= last);
        last = newton.report().objective;
    }
    let report = newton.report();
    assert_eq!(report.outcome, Outcome::Converged, "{report:?}");
    assert!(report.passes > report.steps + 1, "no step was halved: {report:?}");
    close("loss", &[report.loss], &[case.loss], 1e-8);
}

#[test]
fn bad_input_is_an_error() {
    let width = Width { dense: 1, columns: 1, categories: 2, ..Width::default() };
    let good = MiniBatch {
        rows: 2,
        dense: &[1.0, 2.0],
        codes: &[0, 1],
        label: &[0.0, 1.0],
        weight: &[1.0, 1.0],
        ..MiniBatch::default()
    };
    let solve = |batch: MiniBatch| {
        let mut sum = GramSum::new(width);
        sum.update(&batch)?;
        sum.solve(0.0, true)
    };
    let message = |batch| solve(batch).expect_err("bad").to_string();
    assert!(solve(good).is_ok());
    for bad in [
        MiniBatch { dense: &[1.0, f32::NAN], ..good },
        MiniBatch { label: &[f32::INFINITY, 1.0], ..good },
        MiniBatch { weight: &[1.0, -1.0], ..good },
    ] {
        assert!(message(bad).contains("finite"));
        let mut sum = NewtonSum::new(width, 1, true).unwrap();
        let mut newton = Newton::new(vec![0.0; 4], NewtonOptions::default()).unwrap();
        let done = sum.update(newton.trial(), &bad).and_then(|()| newton.advance(&sum));
        assert!(done.is_err(), "{bad:?}");
    }
    assert!(message(MiniBatch { codes: &[0, 2], ..good }).contains("out of range"));
    assert!(message(MiniBatch { dense: &[1.0], ..good }).contains("dense"));
    assert!(message(MiniBatch { weight: &[0.0, 0.0], ..good }).contains("no row"));
    assert!(GramSum::new(width).solve(-1.0, true).is_err());
    let mut sum = NewtonSum::new(width, 3, true).unwrap();
    let bad = MiniBatch { label: &[0.0, 3.0], ..good };
    assert!(sum.update(&[0.0; 12], &bad).unwrap_err().to_string().contains("3 classes"));
    let bytes = GramSum::new(width).to_bytes();
    assert!(GramSum::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(NewtonSum::from_bytes(&bytes).is_err());
}

/// Gradient and Hessian of one output over dense numbers only against their sums, with and without
/// an intercept, over more blocks than are added in one chain, in buffers that had any other shape
/// before.
#[test]
fn newton_sums_of_one_output_are_their_sums_in_any_buffers() {
    let draw = |what: u64, i: usize| 2.0 * unit(mix(5, what, i as u64)) - 1.0;
    let d = 5;
    let rows = 16 * 256 + 300;
    let mut dense: Vec<f32> = (0..rows * d).map(|i| draw(1, i)).collect();
    let label: Vec<f32> = (0..rows).map(|i| f32::from(u8::from(draw(2, i) > 0.0))).collect();
    let mut weight: Vec<f32> = (0..rows).map(|i| 1.5 + draw(3, i)).collect();
    // A row without weight beside others may hold anything.
    weight[700] = 0.0;
    dense[700 * d..701 * d].fill(f32::NAN);
    let wide: Vec<f32> = (0..rows * 70).map(|i| draw(6, i)).collect();
    let codes: Vec<u32> = (0..rows as u32).map(|i| i % 3).collect();
    let batch = |dense, codes| rows_of(dense, codes, &label, &weight);
    let width = Width { dense: d, columns: 0, categories: 0, ..Width::default() };
    let other = |width: Width, outputs: usize, batch: &MiniBatch| {
        let mut sum = NewtonSum::new(width, outputs, true).expect("valid");
        sum.update(&vec![0.1; sum.parameter_count()], batch).expect("valid");
        sum.take_scratch()
    };
    for intercept in [true, false] {
        let count = d + usize::from(intercept);
        let at: Vec<f64> = (0..count).map(|i| 0.3 * (i as f64).cos()).collect();
        let mut sum = NewtonSum::new(width, 1, intercept).expect("valid");
        sum.update(&at, &batch(&dense, &[])).expect("valid");
        let mut hessian = vec![0.0; count * count];
        let mut gradient = vec![0.0; count];
        let all: f64 = weight.iter().map(|w| f64::from(*w)).sum();
        for row in (0..rows).filter(|row| weight[*row] != 0.0) {
            let raw = dense[row * d..(row + 1) * d].iter().map(|x| f64::from(*x));
            let raw: Vec<f64> = raw.chain([1.0]).take(count).collect();
            let z: f64 = raw.iter().zip(&at).map(|(x, w)| x * w).sum();
            let (p, weight) = (1.0 / (1.0 + (-z).exp()), f64::from(weight[row]) / all);
            let mut x = raw;
            x.iter_mut().zip(sum.reference()).for_each(|(x, r)| *x -= r);
            for i in 0..count {
                gradient[i] += weight * (p - f64::from(label[row])) * x[i];
                for j in 0..=i {
                    hessian[j * count + i] += weight * p * (1.0 - p) * x[i] * x[j];
                }
            }
        }
        close("gradient", &sum.gradient(), &gradient, 1e-12);
        close("hessian", &sum.hessian(), &hessian, 1e-12);
        let shapes = [
            other(
                Width { dense: 70, columns: 0, categories: 0, ..Width::default() },
                1,
                &batch(&wide, &[]),
            ),
            other(Width { dense: 12, columns: 1, categories: 3, ..Width::default() }, 3, &{
                MiniBatch { dense: &wide[..rows * 12], ..batch(&wide, &codes) }
            }),
            other(width, 2, &batch(&dense, &[])),
        ];
        for scratch in shapes {
            let shape =
                LinearShape { width, outputs: 1, intercept, loss: crate::learner::Loss::Logistic };
            let mut own = NewtonSum::empty(shape, scratch).expect("valid");
            own.update(&at, &batch(&dense, &[])).expect("valid");
            assert_eq!(own.to_bytes(), sum.to_bytes());
        }
    }
}
