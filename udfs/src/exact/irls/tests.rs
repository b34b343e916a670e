//! Against scikit-learn's exact solutions, and the laws of the iteration.

use super::super::oracle::{quantiles, quantiles_of_all_rows};
use super::*;
use crate::batch::{MiniBatch, Width};
use crate::exact::QuantileScratch;
use crate::learner::Loss;

const QUANTILES: [f64; 3] = [0.1, 0.5, 0.9];

fn shape(width: Width, outputs: usize) -> LinearShape {
    LinearShape { width, outputs, intercept: true, loss: Loss::Quantile }
}

/// One pass over the rows.
fn step(irls: &mut Irls, batch: &MiniBatch<'_>) -> Advance {
    let mut sum = QuantileSum::empty(irls.shape, QuantileScratch::default()).unwrap();
    sum.add(&irls.pass(), batch).unwrap();
    irls.advance(&sum).unwrap()
}

fn solve(mut irls: Irls, batch: &MiniBatch<'_>) -> Irls {
    while step(&mut irls, batch) == Advance::Continue {}
    irls
}

#[test]
fn weights_and_loss_are_those_of_scikit_learn() {
    // (Of few rows, many weights have almost the lowest loss.)
    let small = (quantiles(), 1e-2);
    let all = quantiles_of_all_rows().map(|case| (case, 2e-3));
    for (case, tolerance) in [small].into_iter().chain(all) {
        let batch = case.batch(&[]);
        let shape = shape(case.width(), case.outputs);
        let start = Irls::new(shape, QUANTILES.to_vec(), IrlsOptions::default()).unwrap();
        let irls = solve(start, &batch);
        let report = irls.report();
        assert_eq!(report.outcome, Outcome::Converged);
        assert!(report.passes < 95, "{report:?}");
        let loss = report.loss / case.loss - 1.0;
        assert!(loss.abs() < 1e-6, "{loss:e} {report:?}");
        let largest = case.weights.iter().fold(0.0f64, |most, w| most.max(w.abs()));
        let truths = case.weights.iter().chain(&case.intercepts);
        let errors = irls.parameters().iter().zip(truths).map(|(w, truth)| (w - truth).abs());
        let worst = errors.fold(0.0, f64::max);
        assert!(
            worst < tolerance * largest,
            "{worst:e} of {largest} after {report:?}, loss {loss:e}"
        );
    }
}

/// A share of `q` of the rows is below the quantile, up to a row for each parameter.
#[test]
fn each_quantile_has_its_share_of_rows_below() {
    let case = quantiles();
    let (batch, d) = (case.batch(&[]), case.dense);
    let start = Irls::new(shape(case.width(), 3), QUANTILES.to_vec(), IrlsOptions::default());
    let irls = solve(start.unwrap(), &batch);
    for (level, q) in QUANTILES.iter().enumerate() {
        let w = |input: usize| irls.parameters()[input * 3 + level];
        let below = (0..case.rows).filter(|row| {
            let x = &batch.dense[row * d..][..d];
            let z: f64 = x.iter().enumerate().map(|(j, x)| w(j) * f64::from(*x)).sum();
            f64::from(batch.label[*row]) < z + w(d)
        });
        let share = below.count() as f64 / case.rows as f64;
        assert!((share - q).abs() <= (d + 1) as f64 / case.rows as f64, "{q}: {share}");
    }
}

/// After any pass, a restored state goes on to the same bits.
#[test]
fn a_restored_state_goes_on_to_the_same_bits() {
    let case = quantiles();
    let batch = case.batch(&[]);
    let options = IrlsOptions { l2: 0.01, ..IrlsOptions::default() };
    let start = || Irls::new(shape(case.width(), 3), QUANTILES.to_vec(), options).unwrap();
    let whole = solve(start(), &batch);
    for cut in [0, 1, 7, 30] {
        let mut first = start();
        for _ in 0..cut {
            step(&mut first, &batch);
        }
        let mut restored = start();
        restored.restore(&first.to_bytes()).unwrap();
        assert_eq!(solve(restored, &batch).to_bytes(), whole.to_bytes(), "after {cut}");
    }
    let bytes = whole.to_bytes();
    for cut in [0, 9, bytes.len() - 1] {
        assert!(start().restore(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

/// Quantiles are independent of each other, weights repeat rows, a penalty makes weights smaller.
#[test]
fn penalties_shrink_and_options_are_checked() {
    let case = quantiles();
    let batch = case.batch(&[]);
    let norm = |l2: f64| {
        let options = IrlsOptions { l2, ..IrlsOptions::default() };
        let start = Irls::new(shape(case.width(), 1), vec![0.7], options).unwrap();
        let irls = solve(start, &batch);
        irls.parameters()[..case.dense].iter().map(|w| w * w).sum::<f64>()
    };
    let norms = [0.0, 0.01, 0.1, 1.0].map(norm);
    assert!(norms.is_sorted_by(|a, b| a > b), "{norms:?}");
    let bad = IrlsOptions { l2: -1.0, ..IrlsOptions::default() };
    assert!(Irls::new(shape(case.width(), 1), vec![0.7], bad).is_err());
    assert!(Irls::new(shape(case.width(), 2), vec![0.7], IrlsOptions::default()).is_err());
}

/// A target that the inputs give exactly, and one that is constant.
#[test]
fn exact_fits_end() {
    let width = Width { dense: 1, ..Width::default() };
    let dense: Vec<f32> = (0..40).map(|i| i as f32 / 20.0 - 1.0).collect();
    for slope in [0.0, 2.0] {
        let label: Vec<f32> = dense.iter().map(|x| slope * x + 0.5).collect();
        let batch = MiniBatch {
            rows: 40,
            dense: &dense,
            label: &label,
            weight: &[1.0; 40],
            ..MiniBatch::default()
        };
        let start = Irls::new(shape(width, 3), QUANTILES.to_vec(), IrlsOptions::default()).unwrap();
        let irls = solve(start, &batch);
        for level in 0..3 {
            let found = (irls.parameters()[level], irls.parameters()[3 + level]);
            let error = (found.0 - f64::from(slope)).abs() + (found.1 - 0.5).abs();
            assert!(error < 1e-4, "{slope} {level}: {found:?}, {:?}", irls.report());
        }
    }
}
