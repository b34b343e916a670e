//! L-BFGS against Newton's method, OWL-QN against the conditions of a minimum, saved states.

use super::*;
use crate::batch::{MiniBatch, Width};
use crate::exact::oracle::{adult, close, iris};
use crate::exact::{GradientSum, LinearShape, Newton, NewtonOptions, NewtonSum};
use crate::learner::Loss;

fn solve(shape: LinearShape, batch: &MiniBatch, options: LbfgsOptions) -> Lbfgs {
    let start = vec![0.0; shape.parameters()];
    let mut lbfgs = Lbfgs::new(start, shape.weights(), options).unwrap();
    loop {
        let mut sum = GradientSum::new(shape).unwrap();
        sum.update(lbfgs.trial(), batch).unwrap();
        // The saved bytes are the whole state between two passes.
        lbfgs = Lbfgs::from_bytes(&lbfgs.to_bytes()).unwrap();
        let gradient = sum.gradient().unwrap();
        let advance = lbfgs.advance(sum.mean_loss(), gradient, sum.is_separated()).unwrap();
        if advance == Advance::Finished {
            return lbfgs;
        }
    }
}

#[test]
fn logistic_regressions_end_where_newton_does() {
    for (case, outputs) in [(adult(), 1), (iris(), 3)] {
        let codes = case.codes();
        let (width, batch) = (case.width(), case.batch(&codes));
        let loss = if outputs == 1 { Loss::Logistic } else { Loss::Softmax };
        for l2 in [0.1, 1.0 / case.rows as f64] {
            for intercept in [true, false] {
                let shape = LinearShape { width, outputs, intercept, loss };
                let options = LbfgsOptions { l2, tolerance: 1e-9, ..Default::default() };
                let found = solve(shape, &batch, options);
                assert_eq!(found.report().outcome, Outcome::Converged, "{:?}", found.report());
                let start = vec![0.0; shape.parameters()];
                let options = NewtonOptions { l2, tolerance: 1e-12, max_steps: 100 };
                let mut newton = Newton::new(start, options).unwrap();
                loop {
                    let mut sum = NewtonSum::new(width, outputs, intercept).unwrap();
                    sum.update(newton.trial(), &batch).unwrap();
                    if newton.advance(&sum).unwrap() == Advance::Finished {
                        break;
                    }
                }
                let (own, truth) = (found.report(), newton.report());
                close("objective", &[own.objective], &[truth.objective], 1e-12);
                // (Intercepts of a softmax are unique but for a constant.)
                let weights = shape.weights();
                let truth = &newton.parameters()[..weights];
                close("weights", &found.parameters()[..weights], truth, 1e-5);
            }
        }
    }
}

/// In no direction along a weight does the objective fall, and weights that do not pay for
/// their L1 are exactly 0.
#[test]
fn an_l1_penalty_leaves_a_minimum_with_zeros() {
    let case = adult();
    let codes = case.codes();
    let (width, batch) = (case.width(), case.batch(&codes));
    for loss in [Loss::Logistic, Loss::SquaredHinge, Loss::Squared, Loss::Poisson, Loss::Huber] {
        let shape = LinearShape { width, outputs: 1, intercept: true, loss };
        let options = LbfgsOptions { l1: 0.01, l2: 0.003, tolerance: 1e-8, ..Default::default() };
        let found = solve(shape, &batch, options);
        assert_eq!(found.report().outcome, Outcome::Converged, "{loss:?} {:?}", found.report());
        let zeros = found.parameters()[..shape.weights()].iter().filter(|w| **w == 0.0).count();
        assert!(zeros > 20 && zeros < shape.weights(), "{loss:?}: {zeros} zeros");
        let objective = |at: &[f64]| {
            let mut sum = GradientSum::new(shape).unwrap();
            sum.update(at, &batch).unwrap();
            sum.mean_loss() + found.penalty(at)
        };
        let least = objective(found.parameters());
        for i in 0..shape.parameters() {
            for by in [-1e-3, 1e-3] {
                let mut moved = found.parameters().to_vec();
                moved[i] += by;
                assert!(objective(&moved) >= least - 1e-12, "{loss:?} {i} {by}");
            }
        }
    }
}

/// Rosenbrock's valley, whose minimum is 0 at (1, 1).
#[test]
fn a_narrow_valley_is_followed_to_its_end() {
    let value = |x: &[f64]| {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        (a * a + 100.0 * b * b, [-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
    };
    let options = LbfgsOptions { tolerance: 1e-9, ..Default::default() };
    let mut lbfgs = Lbfgs::new(vec![-1.2, 1.0], 0, options).unwrap();
    loop {
        let (loss, gradient) = value(lbfgs.trial());
        if lbfgs.advance(loss, gradient.to_vec(), false).unwrap() == Advance::Finished {
            break;
        }
    }
    assert_eq!(lbfgs.report().outcome, Outcome::Converged);
    assert!(lbfgs.report().passes < 80, "{:?}", lbfgs.report());
    close("minimum", lbfgs.parameters(), &[1.0, 1.0], 1e-7);
}

#[test]
fn bytes_that_are_cut_short_are_refused() {
    let width = Width { dense: 2, ..Width::default() };
    let shape = LinearShape { width, outputs: 1, intercept: true, loss: Loss::Squared };
    let batch = MiniBatch {
        rows: 3,
        dense: &[0.0, 1.0, 2.0, 0.0, 1.0, 1.0],
        label: &[1.0, 2.0, 0.5],
        weight: &[1.0; 3],
        ..MiniBatch::default()
    };
    let bytes = solve(shape, &batch, LbfgsOptions::default()).to_bytes();
    for cut in [0, 8, 100, bytes.len() - 1] {
        assert!(Lbfgs::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}
