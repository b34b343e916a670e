//! Gradients of the network against central differences of a plain float64 model of it.
//!
//! The model below shares no code with the kernels: one row at a time, categories as table rows,
//! functions from their definitions. Only the dropout mask is drawn from the same generator.

use super::*;
use crate::batch::{NO_CATEGORY, Rows};
use crate::kernels::quantile;
use crate::kernels::rng::{mix, unit};
use crate::model::NetworkSpec;
use crate::optimizer::{Optimizer, StepSize};

const ROWS: usize = 11;
/// Categories of the two columns, one after the other.
const CATEGORIES: [usize; 2] = [3, 2];
const KEY: StepKey = StepKey { seed: 7, step: 3 };

/// A number in `[-1, 1)`, the same for the same arguments.
fn draw(what: u64, i: usize) -> f64 {
    2.0 * f64::from(unit(mix(1, what, i as u64))) - 1.0
}

fn draws(what: u64, n: usize, scale: f64) -> Vec<f32> {
    (0..n).map(|i| (scale * draw(what, i)) as f32).collect()
}

/// Rows of a given width.
struct Case {
    width: Width,
    rows: Rows,
}

impl Case {
    fn new(loss: Loss, outputs: usize, has_dense: bool, has_codes: bool) -> Self {
        let d = if has_dense { 4 } else { 0 };
        let (c, t) = if has_codes { (2, CATEGORIES.iter().sum()) } else { (0, 0) };
        let codes = (0..ROWS * c).map(|i| match (i % 2, mix(2, 0, i as u64) % 4) {
            (_, 3) => NO_CATEGORY,
            (0, code) => code as u32,
            (_, code) => (CATEGORIES[0] + code as usize % CATEGORIES[1]) as u32,
        });
        let classes = outputs.max(2) as u64;
        let label = (0..ROWS).map(|i| match loss {
            Loss::Squared | Loss::Absolute | Loss::Huber | Loss::Quantile => {
                (2.5 * draw(3, i)) as f32
            }
            Loss::Poisson => (mix(3, 0, i as u64) % 5) as f32,
            _ => (mix(3, 0, i as u64) % classes) as f32,
        });
        // One row has weight 0.
        let weight = (0..ROWS).map(|i| if i == 4 { 0.0 } else { 1.0 + draw(4, i) as f32 });
        Self {
            width: Width { dense: d, columns: c, categories: t, ..Width::default() },
            rows: Rows {
                dense: draws(5, ROWS * d, 1.5),
                bytes: vec![],
                codes: codes.collect(),
                label: label.collect(),
                weight: weight.collect(),
            },
        }
    }
}

/// `erf` by its Taylor series up to 3 and by Laplace's continued fraction beyond.
fn erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let a = x.abs();
        let fraction = (1..200).rev().fold(a, |f, k| a + 0.5 * f64::from(k) / f);
        let tail = (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt());
        return (1.0 - tail).copysign(x);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn activate(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Elu => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        Activation::Identity => x,
    }
}

fn loss_of(spec: &NetworkSpec, z: &[f64], y: f64) -> f64 {
    let sign = |i: usize| match z.len() {
        1 => 2.0 * y - 1.0,
        _ if i == y as usize => 1.0,
        _ => -1.0,
    };
    let slacks = z.iter().enumerate().map(|(i, z)| (1.0 - sign(i) * z).max(0.0));
    match spec.loss {
        Loss::Squared => (z[0] - y).powi(2),
        Loss::Absolute => (z[0] - y).abs(),
        Loss::Quantile => {
            let own = z.iter().zip(&spec.quantiles);
            own.map(|(z, q)| (q * (y - z)).max((q - 1.0) * (y - z))).sum()
        }
        Loss::Huber if (z[0] - y).abs() <= 1.0 => 0.5 * (z[0] - y).powi(2),
        Loss::Huber => (z[0] - y).abs() - 0.5,
        Loss::Poisson => z[0].exp() - y * z[0],
        Loss::Logistic => {
            let p = 1.0 / (1.0 + (-z[0]).exp());
            -y * p.ln() - (1.0 - y) * (1.0 - p).ln()
        }
        Loss::Softmax => {
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            -(z[y as usize].exp() / total).ln()
        }
        Loss::Hinge => slacks.sum(),
        Loss::SquaredHinge => slacks.map(|s| s * s).sum(),
    }
}

/// The sum of weighted losses in float64.
fn reference(spec: &NetworkSpec, case: &Case, parameters: &[f64], key: Option<StepKey>) -> f64 {
    let (d, c) = (case.width.dense, case.width.columns);
    let mut total = 0.0;
    for row in 0..case.rows.label.len() {
        let mut inputs: Vec<(usize, f64)> =
            case.rows.dense[row * d..][..d].iter().map(|x| f64::from(*x)).enumerate().collect();
        let known = case.rows.codes[row * c..][..c].iter().filter(|code| **code != NO_CATEGORY);
        inputs.extend(known.map(|code| (d + *code as usize, 1.0)));
        let (mut rest, mut fan_in) = (parameters, case.width.inputs());
        let mut z = vec![];
        for layer in 0..=spec.hidden.len() {
            let is_output = layer == spec.hidden.len();
            let units = *spec.hidden.get(layer).unwrap_or(&spec.outputs);
            let (weight, after) = rest.split_at(fan_in * units);
            let has_bias = !is_output || spec.intercept;
            let (bias, after) = after.split_at(if has_bias { units } else { 0 });
            (rest, fan_in) = (after, units);
            z = (0..units).map(|u| bias.get(u).copied().unwrap_or(0.0)).collect::<Vec<_>>();
            for (i, x) in &inputs {
                (0..units).for_each(|u| z[u] += x * weight[i * units + u]);
            }
            let kept = |u: usize| {
                let Some(key) = key.filter(|_| spec.dropout > 0.0) else { return 1.0 };
                let stream = (2 << 32) + layer as u64;
                let seed = mix(key.seed, stream, key.step);
                let is_dropped = unit(mix(seed, stream, (row * units + u) as u64)) < spec.dropout;
                if is_dropped { 0.0 } else { 1.0 / (1.0 - f64::from(spec.dropout)) }
            };
            inputs = (0..units).map(|u| (u, activate(spec.activation, z[u]) * kept(u))).collect();
        }
        total +=
            f64::from(case.rows.weight[row]) * loss_of(spec, &z, f64::from(case.rows.label[row]));
    }
    total
}

/// Central differences of the sum of weighted losses.
fn differences(spec: &NetworkSpec, case: &Case, at: &[f32], key: Option<StepKey>) -> Vec<f64> {
    const H: f64 = 1e-6;
    let mut at: Vec<f64> = at.iter().map(|p| f64::from(*p)).collect();
    (0..at.len())
        .map(|i| {
            let own = at[i];
            at[i] = own + H;
            let above = reference(spec, case, &at, key);
            at[i] = own - H;
            let below = reference(spec, case, &at, key);
            at[i] = own;
            (above - below) / (2.0 * H)
        })
        .collect()
}

/// The largest difference, in parts of the largest value.
fn error(found: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let top = truth.iter().fold(1e-3f64, |top, x| top.max(x.abs()));
    found.iter().zip(truth).fold(0.0f64, |worst, (f, t)| worst.max((f64::from(*f) - t).abs())) / top
}

/// float32 sums of some dozens of terms: a few units of 6e-8, and 2e-9 from the differences.
const TOLERANCE: f64 = 2e-6;

fn outputs_of(loss: Loss) -> &'static [usize] {
    match loss {
        Loss::Softmax => &[3],
        Loss::Hinge | Loss::SquaredHinge | Loss::Quantile => &[1, 3],
        _ => &[1],
    }
}

fn quantiles_of(loss: Loss, outputs: usize) -> Vec<f64> {
    if loss == Loss::Quantile { [0.25, 0.5, 0.875][..outputs].to_vec() } else { vec![] }
}

/// Every loss x depth x activation x bias of the output, with its rows.
fn for_each_case(dropout: f32, mut check: impl FnMut(&str, &NetworkSpec, &Case)) {
    let mut cases = 0;
    for loss in Loss::ALL.into_iter().chain([Loss::Quantile]) {
        for &outputs in outputs_of(loss) {
            for hidden in [vec![], vec![5, 4]] {
                for activation in Activation::ALL {
                    if hidden.is_empty() && activation != Activation::Relu {
                        continue;
                    }
                    for (dense, codes) in [(true, false), (false, true), (true, true)] {
                        for intercept in [true, false] {
                            let hidden = hidden.clone();
                            let spec = NetworkSpec {
                                hidden,
                                activation,
                                loss,
                                quantiles: quantiles_of(loss, outputs),
                                outputs,
                                intercept,
                                dropout,
                            };
                            let case = Case::new(loss, outputs, dense, codes);
                            check(&format!("{spec:?} {:?}", case.width), &spec, &case);
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 12 * 7 * 6);
}

fn parameters(network: &Network) -> Vec<f32> {
    draws(6, network.layout().len(), 0.8)
}

#[test]
fn gradients_are_those_of_central_differences() {
    for_each_case(0.0, |name, spec, case| {
        let network = spec.network(case.width);
        let at = parameters(&network);
        let mut scratch = network.scratch(ROWS + 3);
        // What a buffer held before does not matter.
        let mut gradient = vec![f32::NAN; at.len()];
        let sum = network.gradient(&at, &case.rows.batch(), KEY, 1.0, &mut scratch, &mut gradient);
        let worst = error(&gradient, &differences(spec, case, &at, None));
        assert!(worst < TOLERANCE, "{name}: {worst}");
        let wide: Vec<f64> = at.iter().map(|p| f64::from(*p)).collect();
        let truth = reference(spec, case, &wide, None);
        assert!((sum.loss - truth).abs() < TOLERANCE * truth, "{name}: {} {truth}", sum.loss);
        let weight: f64 = case.rows.weight.iter().map(|w| f64::from(*w)).sum();
        assert!((sum.weight - weight).abs() < 1e-12 && sum.rows == ROWS as u64, "{name}");
        // (With one linear output the bias is added before the products, otherwise after them.)
        let again = network.loss(&at, &case.rows.batch(), &mut scratch);
        assert!((again.loss - truth).abs() < TOLERANCE * truth, "{name}: {} {truth}", again.loss);
        let scores = {
            let mut out = vec![f32::NAN; ROWS * spec.outputs];
            network.scores(&at, &case.rows.batch(), &mut scratch, &mut out);
            let (label, weight) = (&case.rows.label, &case.rows.weight);
            let quantiles: Vec<f32> = spec.quantiles.iter().map(|q| *q as f32).collect();
            match quantiles.as_slice() {
                [] => spec.loss.sum(&out, spec.outputs, label, weight),
                quantiles => quantile::sum(quantiles, &out, label, weight),
            }
        };
        assert_eq!(
            scores.loss,
            if spec.hidden.is_empty() { sum.loss } else { again.loss },
            "{name}"
        );
    });
}

#[test]
fn scale_multiplies_the_gradient_and_not_the_loss() {
    for_each_case(0.0, |name, spec, case| {
        let network = spec.network(case.width);
        let at = parameters(&network);
        let mut scratch = network.scratch(ROWS);
        let (mut one, mut half) = (vec![0.0; at.len()], vec![0.0; at.len()]);
        let full = network.gradient(&at, &case.rows.batch(), KEY, 1.0, &mut scratch, &mut one);
        let same = network.gradient(&at, &case.rows.batch(), KEY, 0.5, &mut scratch, &mut half);
        assert_eq!(full, same, "{name}");
        assert!(one.iter().zip(&half).all(|(a, b)| *a == 2.0 * b), "{name}");
    });
}

#[test]
fn gradients_with_dropout_are_those_of_the_network_that_is_left() {
    for_each_case(0.4, |name, spec, case| {
        let network = spec.network(case.width);
        let at = parameters(&network);
        let mut scratch = network.scratch(ROWS);
        let mut gradient = vec![f32::NAN; at.len()];
        let sum = network.gradient(&at, &case.rows.batch(), KEY, 1.0, &mut scratch, &mut gradient);
        let worst = error(&gradient, &differences(spec, case, &at, Some(KEY)));
        assert!(worst < TOLERANCE, "{name}: {worst}");
        let wide: Vec<f64> = at.iter().map(|p| f64::from(*p)).collect();
        let truth = reference(spec, case, &wide, Some(KEY));
        assert!((sum.loss - truth).abs() < TOLERANCE * truth, "{name}: {} {truth}", sum.loss);
        let (mut again, mut other) = (gradient.clone(), gradient.clone());
        network.gradient(&at, &case.rows.batch(), KEY, 1.0, &mut scratch, &mut again);
        assert_eq!(again, gradient, "{name}: the same key draws the same mask");
        if !spec.hidden.is_empty() {
            let key = StepKey { step: KEY.step + 1, ..KEY };
            network.gradient(&at, &case.rows.batch(), key, 1.0, &mut scratch, &mut other);
            assert_ne!(other, gradient, "{name}: another step draws another mask");
            // Neither scoring nor evaluation applies dropout.
            let plain = reference(spec, case, &wide, None);
            let found = network.loss(&at, &case.rows.batch(), &mut scratch).loss;
            assert!((found - plain).abs() < TOLERANCE * plain, "{name}");
        }
    });
}

#[test]
fn shards_of_a_mini_batch_sum_to_it_with_the_same_mask() {
    for_each_case(0.4, |name, spec, case| {
        let network = spec.network(case.width);
        let at = parameters(&network);
        let mut scratch = network.scratch(ROWS);
        let (mut whole, mut part) = (vec![0.0; at.len()], vec![0.0; at.len()]);
        let batch = case.rows.batch();
        let full = network.gradient(&at, &batch, KEY, 1.0, &mut scratch, &mut whole);
        let (mut sum, mut total) = (vec![0.0f64; at.len()], LossSum::default());
        for (start, end) in [(0, 3), (3, 3), (3, 10), (10, 11)] {
            let shard = batch.slice(start, end, case.width);
            total.add(network.gradient(&at, &shard, KEY, 1.0, &mut scratch, &mut part));
            sum.iter_mut().zip(&part).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        assert!(error(&whole, &sum) < TOLERANCE, "{name}");
        assert!((full.loss - total.loss).abs() < TOLERANCE * full.loss, "{name}");
        assert_eq!((full.rows, full.weight as f32), (total.rows, total.weight as f32), "{name}");
    });
}

/// One plain step goes down the gradient of `sum / rows + l1 |w|_1 + (l2 / 2) |w|^2`, biases and
/// intercepts free of both.
#[test]
fn penalties_are_those_of_the_objective() {
    const RATE: f32 = 0.125;
    let (l1, l2) = (0.01f32, 0.3f32);
    for_each_case(0.0, |name, spec, case| {
        let network = spec.network(case.width);
        let before = parameters(&network);
        let mut gradient = vec![0.0; before.len()];
        let scale = 1.0 / ROWS as f32;
        let mut scratch = network.scratch(ROWS);
        network.gradient(&before, &case.rows.batch(), KEY, scale, &mut scratch, &mut gradient);
        let size = StepSize {
            learning_rate: RATE,
            intercept_learning_rate: 2.0 * RATE,
            previous: None,
            l1,
            l2,
            step: 1,
        };
        let mut after = before.clone();
        Optimizer::Sgd.step(network.layout(), &size, &mut after, &gradient, &mut []);
        let smooth = differences(spec, case, &before, None);
        for tensor in network.layout().tensors() {
            let is_weight = tensor.name == "weight";
            let is_intercept = !is_weight && tensor.layer == spec.hidden.len();
            for i in tensor.range() {
                let (w, next) = (f64::from(before[i]), f64::from(after[i]));
                let rate = f64::from(RATE) * if is_intercept { 2.0 } else { 1.0 };
                let g = smooth[i] / ROWS as f64;
                let free = w - rate * (g + if is_weight { f64::from(l2) * w } else { 0.0 });
                // The minimum of (x - free)^2 / (2 rate) + l1 |x|.
                let pull = if is_weight { rate * f64::from(l1) } else { 0.0 };
                let truth = if free.abs() <= pull { 0.0 } else { free - pull * free.signum() };
                assert!((next - truth).abs() < 2e-6, "{name} {tensor:?}: {next} {truth}");
            }
        }
    });
}
