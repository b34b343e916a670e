//! Sums of quantiles against plain loops, however they are cut.

use super::super::oracle::{adult, close};
use super::*;

const QUANTILES: [f64; 2] = [0.2, 0.75];
const SMOOTHINGS: [f64; 2] = [0.5, 0.125];

/// The mean losses of plain loops, and the objective that the solution minimises.
struct Plain<'a> {
    shape: LinearShape,
    batch: MiniBatch<'a>,
}

impl Plain<'_> {
    /// The inputs of a row that are not 0.
    fn inputs(&self, row: usize) -> Vec<(usize, f64)> {
        let (width, batch) = (self.shape.width, &self.batch);
        let dense = batch.dense[row * width.dense..][..width.dense].iter();
        let codes = &batch.codes[row * width.columns..][..width.columns];
        let codes = codes.iter().filter(|code| **code != NO_CATEGORY);
        let dense = dense.enumerate().map(|(j, x)| (j, f64::from(*x)));
        dense.chain(codes.map(|code| (width.dense + *code as usize, 1.0))).collect()
    }

    fn residual(&self, parameters: &[f64], row: usize, level: usize) -> f64 {
        let k = self.shape.outputs;
        let own = self.inputs(row).into_iter();
        let z: f64 = own.map(|(j, x)| parameters[j * k + level] * x).sum();
        let bias = parameters.get(self.shape.weights() + level).copied().unwrap_or(0.0);
        f64::from(self.batch.label[row]) - z - bias
    }

    fn mean(&self, of_row: impl Fn(usize) -> f64) -> f64 {
        let weights = self.batch.weight.iter().map(|w| f64::from(*w));
        let all: f64 = weights.clone().enumerate().map(|(row, w)| w * of_row(row)).sum();
        all / weights.sum::<f64>()
    }

    /// The parabolas at `parameters`, which touch the smoothed losses at `at`, plus a penalty.
    fn parabolas(&self, at: &[f64], parameters: &[f64], l2: f64) -> f64 {
        let of_level = |level: usize| {
            self.mean(|row| {
                let r = self.residual(parameters, row, level);
                let reach = SMOOTHINGS[level] + self.residual(at, row, level).abs();
                0.25 * (r * r / reach + (4.0 * QUANTILES[level] - 2.0) * r)
            })
        };
        let weights = &parameters[..self.shape.weights()];
        of_level(0) + of_level(1) + 0.5 * l2 * weights.iter().map(|w| w * w).sum::<f64>()
    }
}

#[test]
fn sums_are_those_of_plain_loops_however_they_are_cut() {
    let case = adult();
    let codes = case.codes();
    let (width, batch) = (case.width(), case.batch(&codes));
    for (intercept, l2) in [(true, 0.1), (false, 0.01)] {
        let shape = LinearShape { width, outputs: 2, intercept, loss: Loss::Quantile };
        let at: Vec<f64> = (0..shape.parameters()).map(|i| 0.1 * (i as f64 * 1.7).sin()).collect();
        let pass = [at.as_slice(), &SMOOTHINGS, &QUANTILES].concat();
        let plain = Plain { shape, batch };
        let mut solutions = vec![];
        for cuts in [vec![0, case.rows], vec![0, 1, 17, 100, case.rows]] {
            let mut whole = QuantileSum::empty(shape, QuantileScratch::default()).unwrap();
            for pair in cuts.windows(2) {
                let mut part = QuantileSum::empty(shape, whole.take_scratch()).unwrap();
                part.add(&pass, &batch.slice(pair[0], pair[1], width)).unwrap();
                let bytes = part.to_bytes();
                whole.merge(&QuantileSum::from_bytes(&bytes).unwrap()).unwrap();
            }
            for (level, q) in QUANTILES.iter().enumerate() {
                let residual = |row| plain.residual(&at, row, level);
                let loss = plain.mean(|row| (q * residual(row)).max((q - 1.0) * residual(row)));
                let error = plain.mean(|row| residual(row).abs());
                close("loss", &[whole.mean_losses()[level]], &[loss], 1e-12);
                close("error", &[whole.mean_errors()[level]], &[error], 1e-12);
            }
            solutions.push(whole.solve(l2, &SMOOTHINGS).unwrap());
        }
        close("solutions", &solutions[0], &solutions[1], 1e-7);
        // The derivatives of the parabolas are 0 at the solution: weights are float32 there.
        for i in 0..shape.parameters() {
            let moved = |by: f64| {
                let mut parameters = solutions[0].clone();
                parameters[i] += by;
                plain.parabolas(&at, &parameters, l2)
            };
            let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            assert!(slope.abs() < 1e-6, "{intercept} {i}: {slope}");
        }
    }
}

#[test]
fn sums_that_do_not_fit_are_refused() {
    let width = Width { dense: 1, ..Width::default() };
    let shape = LinearShape { width, outputs: 1, intercept: true, loss: Loss::Quantile };
    let empty = || QuantileSum::empty(shape, QuantileScratch::default()).unwrap();
    let row = |weight| MiniBatch {
        rows: 1,
        dense: &[1.0],
        label: &[1.0],
        weight,
        ..MiniBatch::default()
    };
    let at = [0.0, 0.0, 1.0, 0.5];
    let error = empty().add(&at, &row(&[-1.0])).unwrap_err().to_string();
    assert!(error.contains("finite and at least 0"), "{error}");
    assert!(empty().add(&at[..3], &row(&[1.0])).is_err());
    let error = empty().solve(0.0, &[1.0]).unwrap_err().to_string();
    assert!(error.contains("no row with a weight"), "{error}");
    let wide = LinearShape { outputs: 2, ..shape };
    let other = QuantileSum::empty(wide, QuantileScratch::default()).unwrap();
    assert!(empty().merge(&other).is_err());
    let two = LinearShape { width: Width { targets: 2, ..width }, ..shape };
    assert!(QuantileSum::empty(two, QuantileScratch::default()).is_err());
    let bytes = other.to_bytes();
    for cut in [0, 4, 20, bytes.len() - 1] {
        assert!(QuantileSum::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}
