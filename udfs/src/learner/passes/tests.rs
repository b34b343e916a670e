//! Steps in passes against a gradient and a pass of the optimizer, on any number of threads.

use super::*;
use crate::batch::{NO_CATEGORY, Rows, Width};
use crate::kernels::rng::{mix, unit};
use crate::learner::{Activation, Loss};
use crate::model::NetworkSpec;
use crate::parallel::Threads;

const OPTIMIZER: Optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-3 };

struct Case {
    spec: NetworkSpec,
    width: Width,
    batch: usize,
}

/// Shapes that are no multiple of any tile, each combined with other settings.
fn cases() -> Vec<Case> {
    let case = |hidden: &[usize], activation, loss, outputs, dropout, width, batch| Case {
        spec: NetworkSpec {
            hidden: hidden.to_vec(),
            activation,
            loss,
            quantiles: match loss {
                Loss::Quantile => [0.1, 0.5, 0.9][..outputs].to_vec(),
                _ => vec![],
            },
            outputs,
            intercept: outputs != 3,
            dropout,
        },
        width,
        batch,
    };
    let dense = |dense| Width { dense, columns: 0, categories: 0, ..Width::default() };
    let mixed = Width { dense: 5, columns: 2, categories: 40, ..Width::default() };
    vec![
        case(&[64, 32], Activation::Relu, Loss::Logistic, 1, 0.0, dense(28), 256),
        case(&[150, 70], Activation::Tanh, Loss::Softmax, 10, 0.0, dense(70), 130),
        case(&[17], Activation::Gelu, Loss::Softmax, 70, 0.0, mixed, 97),
        case(&[130, 65, 3], Activation::Sigmoid, Loss::Squared, 1, 0.3, mixed, 200),
        case(&[1, 5], Activation::Elu, Loss::Huber, 1, 0.0, dense(3), 7),
        case(&[300], Activation::Relu, Loss::SquaredHinge, 3, 0.5, dense(129), 64),
        case(&[33], Activation::Tanh, Loss::Quantile, 3, 0.2, mixed, 90),
        case(&[20], Activation::Identity, Loss::Squared, 1, 0.0, dense(1), 33),
        // (The units of its first layer are cut for two and for three threads.)
        case(
            &[384, 20],
            Activation::Gelu,
            Loss::Softmax,
            3,
            0.2,
            Width { dense: 70, ..mixed },
            100,
        ),
        case(&[40], Activation::Relu, Loss::Logistic, 1, 0.0, Width { dense: 0, ..mixed }, 100),
    ]
}

fn rows_of(case: &Case, rows: usize) -> Rows {
    let Width { dense, columns, categories, .. } = case.width;
    let classes = if case.spec.loss == Loss::Squared { 7 } else { case.spec.outputs.max(2) };
    let code = |i| match mix(1, 1, i) % 9 {
        0 => NO_CATEGORY,
        code => (mix(code, 5, i) % categories as u64) as u32,
    };
    Rows {
        dense: (0..(rows * dense) as u64).map(|i| 2.0 * unit(mix(1, 2, i)) - 1.0).collect(),
        bytes: vec![],
        codes: (0..(rows * columns) as u64).map(code).collect(),
        label: (0..rows as u64).map(|i| (mix(1, 3, i) % classes as u64) as f32).collect(),
        weight: (0..rows as u64).map(|i| 0.5 + unit(mix(1, 4, i))).collect(),
    }
}

fn size(step: u64) -> StepSize {
    StepSize {
        learning_rate: 0.01,
        intercept_learning_rate: 0.02,
        previous: None,
        l1: 1e-4,
        l2: 1e-3,
        step,
    }
}

fn start(network: &Network) -> State {
    let n = network.layout().len();
    let mut state =
        State { parameters: vec![0.0; n], moments: vec![0.0; 2 * n], ..State::default() };
    network.initialize(3, &mut state.parameters);
    state
}

/// Four mini-batches; the last one is short.
fn train(case: &Case, mut step: impl FnMut(&MiniBatch<'_>, StepKey, StepSize)) {
    let total = 3 * case.batch + case.batch.div_ceil(3);
    let rows = rows_of(case, total);
    for (number, first) in (0..total).step_by(case.batch).enumerate() {
        let batch = rows.batch().slice(first, total.min(first + case.batch), case.width);
        let number = number as u64 + 1;
        let key = StepKey { seed: 9, step: number };
        step(&MiniBatch { first_row: 0, ..batch }, key, size(number));
    }
}

fn by_passes(case: &Case, threads: usize, first_together: Option<usize>) -> State {
    let network = case.spec.network(case.width);
    let mut state = start(&network);
    // Exactly this number of threads, although so small a network would not justify them.
    let mut passes = Passes::on(threads, &network, case.batch, &state);
    let pool = Threads(threads);
    train(case, |batch, key, size| {
        // In reverse order, as gathered rows of a chunk, which are not contiguous.
        let back: Vec<u32> = (0..batch.rows as u32).rev().collect();
        let chunk = batch.gathered(&back);
        let n = first_together.map_or(batch.rows, |n| n.min(batch.rows));
        let together = batch.slice(0, n, case.width);
        let (chunk, order) = (chunk.batch(), &back[n..]);
        let rows = Gather { contiguous: together, ..Gather::of(chunk, order) };
        passes.step(&PassStep { rows, key, optimizer: &OPTIMIZER, size: &size }, &mut state, &pool);
    });
    passes.unpack(&mut state);
    state
}

fn by_gradients(case: &Case) -> State {
    let network = case.spec.network(case.width);
    let mut state = start(&network);
    let mut scratch = network.scratch(case.batch);
    let mut gradient = vec![f32::NAN; state.parameters.len()];
    train(case, |batch, key, size| {
        let State { parameters, moments, round, .. } = &mut state;
        let scale = 1.0 / batch.rows as f32;
        round.add(network.gradient(parameters, batch, key, scale, &mut scratch, &mut gradient));
        OPTIMIZER.step(network.layout(), &size, parameters, &gradient, moments);
    });
    state
}

#[test]
fn passes_are_gradients_and_steps() {
    for case in cases() {
        let (found, truth) = (by_passes(&case, 1, None), by_gradients(&case));
        let name = format!("{:?} {}", case.spec, case.batch);
        for (found, truth) in
            [(&found.parameters, &truth.parameters), (&found.moments, &truth.moments)]
        {
            for (i, (found, truth)) in found.iter().zip(truth).enumerate() {
                let error = (found - truth).abs();
                assert!(error < 1e-4 * (1.0 + truth.abs()), "{name}, {i}: {found} {truth}");
            }
        }
        let error = (found.round.loss - truth.round.loss).abs();
        assert!(error < 1e-4 * truth.round.loss, "{name}: {:?} {:?}", found.round, truth.round);
        assert_eq!(found.round.rows, truth.round.rows, "{name}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for case in cases() {
        let one = by_passes(&case, 1, None);
        for threads in [2, 3, 8] {
            let name = format!("{:?} {} on {threads}", case.spec, case.batch);
            let many = by_passes(&case, threads, None);
            assert!(one == many && one.is_finite(), "{name}");
        }
    }
}

#[test]
fn units_are_cut_where_rows_are_wide() {
    let cuts = |dense, units, threads| {
        let spec = NetworkSpec { hidden: vec![units], ..cases()[0].spec.clone() };
        let network = spec.network(Width { dense, ..Width::default() });
        let passes = Passes::on(threads, &network, 100, &start(&network));
        let (own, others) = (passes.own.concat(), &passes.order);
        let mut all: Vec<_> = own.iter().chain(others).copied().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..passes.parts.len()), "each part is in hand once");
        (passes.columns_cut, own.len())
    };
    assert_eq!(cuts(130, 384, 3), (3, 9));
    assert_eq!(cuts(130, 384, 2), (2, 6));
    for (dense, units, threads) in [(64, 384, 2), (130, 320, 2), (130, 383, 2), (130, 384, 1)] {
        assert_eq!(cuts(dense, units, threads), (1, 0), "{dense} {units} {threads}");
    }
}

#[test]
fn rows_all_over_a_chunk_are_the_same_as_together() {
    for case in cases() {
        let together = by_passes(&case, 1, None);
        for (threads, first) in [(1, 0), (2, 0), (2, 40), (3, 31)] {
            let name = format!("{:?} {} on {threads}, {first}", case.spec, case.batch);
            assert!(together == by_passes(&case, threads, Some(first)), "{name}");
        }
    }
}

/// Against the scores of the learner; the bits are the same for any blocks. The network has
/// dropout, which scoring does not apply.
#[test]
fn scoring_is_forward() {
    for case in cases() {
        let network = case.spec.network(case.width);
        let parameters = start(&network).parameters;
        let (n, outputs) = (case.batch + 5, network.outputs());
        let rows = rows_of(&case, n);
        let mut truth = vec![f32::NAN; n * outputs];
        network.scores(&parameters, &rows.batch(), &mut network.scratch(n), &mut truth);
        let scoring = Scoring::new(&network, &parameters);
        let by = |block: usize| {
            let mut out = vec![f32::NAN; n * outputs];
            let batch = MiniBatch { label: &[], weight: &[], ..rows.batch() };
            scoring.scores(&parameters, &batch, &mut scoring.scratch(block), &mut out);
            out
        };
        let found = by(n);
        let name = format!("{:?} {}", case.spec, case.batch);
        for (found, truth) in found.iter().zip(&truth) {
            assert!((found - truth).abs() < 1e-5 * (1.0 + truth.abs()), "{name}: {found} {truth}");
        }
        for block in [1, 7, 64] {
            assert!(by(block) == found, "{name} in blocks of {block}");
        }
    }
}
