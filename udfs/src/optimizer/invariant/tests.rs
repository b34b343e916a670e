//! The update against the formulas of the module documentation in plain loops, what it must not
//! depend on, and the laws of its merge. Vowpal Wabbit itself is the oracle of
//! `sql/tests/online_optimizers.rs`.

use std::sync::Arc;

use super::*;
use crate::batch::Rows;
use crate::learner::{Activation, Network};
use crate::model::NetworkSpec;
use crate::optimizer::{Optimizer, Schedule};
use crate::parallel::Sequential;
use crate::round::{Descent, Partial, Round, SgdRound};
use crate::steps::{Reads, Stepper};

const WIDTH: Width = Width { dense: 3, bytes: 0, columns: 1, categories: 3, targets: 1 };

fn network(loss: Loss, outputs: usize) -> Network {
    let spec = NetworkSpec {
        hidden: vec![],
        activation: Activation::Identity,
        loss,
        quantiles: vec![],
        outputs,
        intercept: true,
        dropout: 0.0,
    };
    spec.network(WIDTH)
}

fn descent(loss: Loss, outputs: usize, batch_size: usize, l1: f32, l2: f32) -> Arc<Descent> {
    Arc::new(Descent {
        learner: Arc::new(network(loss, outputs)),
        optimizer: Optimizer::AdaptiveInvariant,
        schedule: Schedule::CONSTANT,
        first_step: 0,
        learning_rate: 0.5,
        intercept_learning_rate: 0.25,
        l1,
        l2,
        clip_norm: None,
        seed: 0,
        batch_size,
        slices: 1,
        threads: Arc::new(Sequential),
        first_categories: Arc::from([]),
        progress: Arc::default(),
        interrupt: Arc::default(),
    })
}

/// Numbers on different scales, a fifth of them 0; a category that is sometimes unknown; labels for
/// any loss.
fn rows_of(rows: usize, outputs: usize) -> Rows {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / 16_777_216.0
    };
    let mut all = Rows::default();
    for _ in 0..rows {
        let x = [1.0, 256.0, 0.0625].map(|scale| {
            let x = draw() - 0.5;
            if draw() < 0.2 { 0.0 } else { x * scale }
        });
        let code = (draw() * 4.0) as u32;
        let signal = x[0] + x[1] / 256.0 - 16.0 * x[2] + 0.3 * code as f32 + draw() - 0.5;
        all.dense.extend_from_slice(&x);
        all.codes.push(if code == 3 { NO_CATEGORY } else { code });
        let class = (signal > 0.2) as u8 + (outputs > 1 && signal > 0.8) as u8;
        all.label.push(f32::from(class));
        all.weight.push([0.0, 0.5, 1.0, 3.0][(draw() * 4.0) as usize]);
    }
    all
}

/// The state after all rows have been learned.
fn learned(descent: &Arc<Descent>, start: State, rows: &Rows) -> State {
    let mut stepper = Stepper::new(Arc::clone(descent), start, 0, Reads::EachStep);
    let n = rows.label.len();
    for begin in (0..n).step_by(descent.batch_size) {
        let end = n.min(begin + descent.batch_size);
        stepper.step(&rows.batch().slice(begin, end, WIDTH)).unwrap();
    }
    stepper.into_state()
}

/// The formulas of the module documentation in float64, row by row over all inputs.
fn plain(loss: Loss, k: usize, rows: &Rows, l1: f64, l2: f64) -> (Vec<f64>, f64) {
    let inputs = WIDTH.inputs() + 1;
    let (mut w, mut a) = (vec![0.0f64; inputs * k], vec![0.0f64; inputs * k]);
    let (mut s, mut t, mut n) = (vec![0.0f64; inputs], 0.0, 0.0);
    let mut sum = 0.0;
    for row in 0..rows.label.len() {
        let mut x = vec![0.0f64; inputs];
        for (x, number) in x.iter_mut().zip(&rows.dense[3 * row..3 * row + 3]) {
            *x = f64::from(*number);
        }
        if rows.codes[row] != NO_CATEGORY {
            x[3 + rows.codes[row] as usize] = 1.0;
        }
        x[inputs - 1] = 1.0;
        let rate = |i: usize| if i == inputs - 1 { 0.25 } else { 0.5 };
        let (y, h) = (rows.label[row], f64::from(rows.weight[row]));
        let z: Vec<f64> =
            (0..k).map(|o| (0..inputs).map(|i| x[i] * w[i * k + o]).sum::<f64>()).collect();
        let z: Vec<f32> = z.iter().map(|z| *z as f32).collect();
        sum += h * loss.value(&z, y);
        if h > 0.0 && loss.value(&z, y) != 0.0 {
            let mut slope = z.clone();
            loss.derivative(&mut slope, y);
            for i in 0..inputs {
                let grown = s[i].max(x[i].abs());
                for o in 0..k {
                    w[i * k + o] *= if s[i] > 0.0 { s[i] / grown } else { 1.0 };
                    a[i * k + o] += h * f64::from(slope[o]).powi(2) * x[i].powi(2);
                }
                s[i] = grown;
            }
            t += h;
            n +=
                h * (0..inputs).filter(|i| s[*i] > 0.0).map(|i| (x[i] / s[i]).powi(2)).sum::<f64>();
            let factor = f64::sqrt(t / n);
            let r = |i: usize, o: usize| {
                let root = a[i * k + o].sqrt() * s[i];
                if root > 0.0 { rate(i) / root } else { 0.0 }
            };
            let p: Vec<f64> = (0..k)
                .map(|o| factor * (0..inputs).map(|i| r(i, o) * x[i].powi(2)).sum::<f64>())
                .collect();
            let mut flow: Vec<f64> = p.iter().map(|p| h * p).collect();
            loss.implicit_update(&z, y, &mut flow);
            for o in (0..k).filter(|o| p[*o] > 0.0) {
                for i in 0..inputs {
                    w[i * k + o] += r(i, o) * x[i] / p[o] * factor * flow[o];
                }
            }
        }
        for i in 0..inputs - 1 {
            for o in 0..k {
                let root = a[i * k + o].sqrt() * s[i];
                if root > 0.0 {
                    let r = 0.5 * f64::sqrt(t / n) / root;
                    let v = w[i * k + o];
                    w[i * k + o] = v.signum() * (v.abs() - r * l1).max(0.0) / (1.0 + r * l2);
                }
            }
        }
    }
    (w, sum)
}

#[test]
fn updates_are_the_formulas_in_plain_loops() {
    for loss in Loss::ALL {
        let counts: &[usize] = match loss {
            Loss::Softmax => &[3],
            Loss::Hinge | Loss::SquaredHinge => &[1, 3],
            _ => &[1],
        };
        for (k, (l1, l2)) in counts.iter().flat_map(|k| [(*k, (0.0, 0.0)), (*k, (0.001, 0.01))]) {
            let rows = rows_of(300, k);
            let descent = descent(loss, k, 1, l1, l2);
            let state = learned(&descent, descent.initial_state(), &rows);
            let (w, sum) = plain(loss, k, &rows, l1.into(), l2.into());
            for (found, truth) in state.parameters.iter().zip(&w) {
                // The weight of the number whose scale is 1/32 is some 30 times larger.
                let close = (f64::from(*found) - truth).abs() < 1e-4 * truth.abs().max(1.0);
                assert!(close, "{loss:?} {k} {l1}: {:?}, not {w:?}", state.parameters);
            }
            let mean = (state.round.loss - sum).abs() / state.round.weight;
            assert!(mean < 1e-5, "{loss:?} {k}: {mean}");
            assert_eq!((state.steps, state.rows), (300, 300));
        }
    }
}

/// Rows of a mini-batch are learned one after another: how they are cut does not matter.
#[test]
fn mini_batches_change_nothing_without_regularisation() {
    let rows = rows_of(200, 1);
    let [one, many] = [1, 7].map(|batch_size| {
        let descent = descent(Loss::Logistic, 1, batch_size, 0.0, 0.0);
        learned(&descent, descent.initial_state(), &rows)
    });
    // (Totals are rounded to 48 bits between mini-batches.)
    for (a, b) in one.parameters.iter().zip(&many.parameters) {
        assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "{one:?} {many:?}");
    }
    assert_eq!(many.steps, 29);
}

/// Powers of two, so that nothing is rounded differently: the same losses to the last bit.
#[test]
fn losses_do_not_depend_on_units() {
    let rows = rows_of(200, 1);
    let mut other = rows_of(200, 1);
    for x in other.dense.chunks_exact_mut(3) {
        (x[0], x[2]) = (x[0] * 1024.0, x[2] / 65536.0);
    }
    for loss in [Loss::Squared, Loss::Logistic, Loss::Hinge] {
        let descent = descent(loss, 1, 10, 0.0, 0.0);
        let [a, b] = [&rows, &other].map(|rows| learned(&descent, descent.initial_state(), rows));
        assert_eq!(a.round, b.round, "{loss:?}");
        assert_eq!(a.parameters[0], 1024.0 * b.parameters[0]);
    }
}

#[test]
fn numbers_that_are_none_are_not_hidden() {
    let mut rows = rows_of(4, 1);
    rows.weight.fill(1.0);
    rows.dense[7] = f32::NAN;
    for loss in [Loss::Squared, Loss::Absolute, Loss::Logistic, Loss::SquaredHinge] {
        for l1 in [0.0, 0.1] {
            let descent = descent(loss, 1, 2, l1, l1);
            let state = learned(&descent, descent.initial_state(), &rows);
            assert!(!state.is_finite(), "{loss:?} {l1}: {state:?}");
        }
    }
}

fn merged(descent: &Arc<Descent>, base: &State, replicas: &[&State]) -> State {
    let round = SgdRound::new(Arc::clone(descent), Arc::new(base.clone())).unwrap();
    let partial =
        |(i, state): (usize, &&State)| Partial { replica: i as u32, bytes: state.to_bytes() };
    let partials: Vec<Partial> = replicas.iter().enumerate().map(partial).collect();
    round.state(&round.merge(partials).unwrap()).unwrap()
}

#[test]
fn merges_are_one_model_that_saw_all_rows() {
    let descent = descent(Loss::Logistic, 1, 5, 0.0, 0.0);
    let n = descent.learner.layout().len();
    let base = learned(&descent, descent.initial_state(), &rows_of(50, 1));
    let mut parts = [rows_of(120, 1), rows_of(60, 1)];
    // Only the first replica meets category 1, and none meets category 2.
    for (part, known) in parts.iter_mut().zip([1, 0]) {
        part.codes.iter_mut().for_each(|code| *code = if *code < known + 1 { known } else { 0 });
        part.label.reverse();
    }
    parts[1].dense.iter_mut().for_each(|x| *x *= 4.0);
    let [one, two] = [&parts[0], &parts[1]].map(|rows| learned(&descent, base.clone(), rows));

    let empty = base.clone();
    for replicas in [[&one, &empty], [&empty, &one]] {
        let whole = merged(&descent, &base, &replicas);
        assert_eq!((&whole.parameters, &whole.moments), (&one.parameters, &one.moments));
    }
    let both = merged(&descent, &base, &[&one, &two]);
    let other = merged(&descent, &base, &[&two, &one]);
    for (a, b) in both
        .parameters
        .iter()
        .chain(&both.moments)
        .zip(other.parameters.iter().chain(&other.moments))
    {
        assert!((a - b).abs() <= 1e-6 * a.abs(), "{both:?} {other:?}");
    }
    assert_eq!(both.parameters[4], one.parameters[4], "a category that one of them met");
    assert_eq!(both.parameters[5], base.parameters[5], "a category that none of them met");
    for i in 0..n {
        let (a, b, of_base) = (one.moments[i], two.moments[i], base.moments[i]);
        assert!((both.moments[i] - (a + b - of_base)).abs() <= 1e-6 * (a + b));
        assert_eq!(both.moments[n + i], one.moments[n + i].max(two.moments[n + i]));
    }
    let totals = [&base, &one, &two, &both].map(|state| Totals::read(&state.moments[2 * n..]));
    let [before, first, second, all] = totals;
    assert!((all.weight - (first.weight + second.weight - before.weight)).abs() < 1e-6);
    assert!((all.norm - (first.norm + second.norm - before.norm)).abs() < 1e-6);
    assert_eq!((both.rows, both.steps), (230, 50 / 5 + 120 / 5));
}
