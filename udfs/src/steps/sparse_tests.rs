//! Sparse updates, which visit only the categories of a mini-batch, against steps over all
//! parameters.

use std::sync::Arc;

use super::{Reads, Stepper};
use crate::batch::{NO_CATEGORY, Rows, Width};
use crate::kernels::rng::{mix, unit};
use crate::learner::{Activation, Loss, StepKey};
use crate::model::NetworkSpec;
use crate::optimizer::{Decay, Optimizer, Schedule};
use crate::parallel::Sequential;
use crate::round::{Descent, Round, SgdRound};
use crate::state::State;

const WIDTH: Width = Width { dense: 3, bytes: 0, columns: 2, categories: 120, targets: 1 };
const BATCH: usize = 6;

pub(crate) fn spec(hidden: &[usize]) -> NetworkSpec {
    NetworkSpec {
        hidden: hidden.to_vec(),
        activation: Activation::Tanh,
        loss: Loss::Logistic,
        quantiles: vec![],
        outputs: 1,
        intercept: true,
        dropout: 0.0,
    }
}

pub(crate) fn descent(hidden: &[usize], optimizer: Optimizer, shards: usize) -> Descent {
    Descent {
        learner: Arc::new(spec(hidden).network(WIDTH)),
        optimizer,
        schedule: Schedule::CONSTANT,
        first_step: 0,
        learning_rate: 0.1,
        intercept_learning_rate: 0.05,
        l1: 0.0,
        l2: 0.0,
        clip_norm: None,
        seed: 1,
        batch_size: BATCH,
        slices: shards,
        threads: Arc::new(Sequential),
        first_categories: Arc::from([0, 60]),
        progress: Arc::default(),
        interrupt: Arc::default(),
    }
}

/// Rows in which some categories are common, some rare and some unknown.
pub(crate) fn rows_of(rows: usize) -> Rows {
    let code = |i: u64| match unit(mix(1, 1, i)) {
        u if u < 0.1 => NO_CATEGORY,
        u => (i % 2) as u32 * 60 + ((u * u * u) * 60.0) as u32,
    };
    Rows {
        dense: (0..3 * rows as u64).map(|i| 2.0 * unit(mix(1, 2, i)) - 1.0).collect(),
        bytes: vec![],
        codes: (0..2 * rows as u64).map(code).collect(),
        label: (0..rows as u64).map(|i| (mix(1, 3, i) % 2) as f32).collect(),
        weight: (0..rows as u64).map(|i| 0.5 + unit(mix(1, 4, i))).collect(),
    }
}

/// Descent in passes over all parameters; the gradients of slices are summed in order.
fn dense(descent: &Descent, rows: &Rows) -> State {
    let learner = descent.learner.as_ref();
    let mut state = descent.initial_state();
    let mut scratch = learner.scratch(descent.batch_size);
    let n = state.parameters.len();
    for start in (0..rows.label.len()).step_by(descent.batch_size) {
        let mut batch =
            rows.batch().slice(start, rows.label.len().min(start + descent.batch_size), WIDTH);
        batch.first_row = 0;
        state.steps += 1;
        let key = StepKey { seed: descent.seed, step: state.steps };
        let (mut sum, mut of_shard) = (vec![0.0; n], vec![f32::NAN; n]);
        for shard in 0..descent.slices {
            let share = |i: usize| batch.rows * i / descent.slices;
            let part = batch.slice(share(shard), share(shard + 1), WIDTH);
            let scale = 1.0 / batch.rows as f32;
            learner.gradient(&state.parameters, &part, key, scale, &mut scratch, &mut of_shard);
            sum.iter_mut().zip(&of_shard).for_each(|(sum, g)| *sum += g);
        }
        let size = descent.step_size(state.steps);
        let State { parameters, moments, .. } = &mut state;
        descent.optimizer.step(learner.layout(), &size, parameters, &sum, moments);
    }
    state
}

fn replica(descent: &Arc<Descent>, rows: &Rows) -> State {
    let round = SgdRound::new(Arc::clone(descent), Arc::new(descent.initial_state())).unwrap();
    let mut replica = round.replica(0).unwrap();
    replica.update(&rows.batch()).unwrap();
    round.state(&replica.finish().unwrap()).unwrap()
}

/// Bits, with the sign of zeros removed.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| (value + 0.0).to_bits()).collect()
}

#[test]
fn steps_by_touched_categories_are_passes_over_all_bit_for_bit() {
    let rows = rows_of(40 * BATCH + 1);
    let falling = Schedule { decay: Decay::Step { steps: 7, factor: 0.5 }, warmup_steps: 3 };
    for optimizer in [
        Optimizer::Sgd,
        Optimizer::Adagrad { epsilon: 1e-10 },
        Optimizer::Ftrl { beta: 1.0 },
        Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    ] {
        for (hidden, shards) in [(&[][..], 1), (&[5], 1), (&[5], 4)] {
            for schedule in [Schedule::CONSTANT, falling] {
                let mut descent = descent(hidden, optimizer, shards);
                descent.schedule = schedule;
                if matches!(optimizer, Optimizer::Ftrl { .. }) {
                    (descent.l1, descent.l2) = (0.01, 0.1);
                }
                let descent = Arc::new(descent);
                let truth = dense(&descent, &rows);
                let found = replica(&descent, &rows);
                let name = format!("{optimizer:?} {hidden:?} {shards} {schedule:?}");
                if !hidden.is_empty() && !optimizer.may_be_sparse() {
                    // All weights are updated, in passes whose sums have another order.
                    let pairs = found.parameters.iter().zip(&truth.parameters);
                    let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(error < 1e-4, "{name}: {error}");
                    continue;
                }
                assert_eq!(bits(&found.parameters), bits(&truth.parameters), "{name}");
                assert_eq!(bits(&found.moments), bits(&truth.moments), "{name}");
            }
        }
    }
}

#[test]
fn lazy_regularisation_is_that_of_every_step() {
    for (rows, batch, hidden) in [(3000, BATCH, &[][..]), (3000, BATCH, &[4]), (9000, 1, &[])] {
        let rows = rows_of(rows);
        for (l1, l2, rate) in [
            (0.0, 0.01, 0.1),
            (2e-3, 0.0, 0.1),
            (1e-3, 0.02, 0.1),
            (0.0, 3.0, 0.5),
            (1e-4, 1.0, 0.3),
        ] {
            let mut descent = descent(hidden, Optimizer::Sgd, 1);
            (descent.l1, descent.l2, descent.learning_rate) = (l1, l2, rate);
            (descent.batch_size, descent.schedule) =
                (batch, Schedule { decay: Decay::Cosine { steps: 20_000 }, warmup_steps: 50 });
            let descent = Arc::new(descent);
            let truth = dense(&descent, &rows);
            let found = replica(&descent, &rows);
            for (found, truth) in found.parameters.iter().zip(&truth.parameters) {
                let error = (found - truth).abs();
                assert!(error < 2e-5, "{hidden:?} {l1} {l2} {rate}: {found} {truth}");
            }
            let zeros = |state: &State| state.parameters.iter().filter(|w| **w == 0.0).count();
            if hidden.is_empty() && l1 > 0.0 {
                assert!(zeros(&truth).abs_diff(zeros(&found)) <= 1);
            }
            // Online learning updates all weights, as its state may be read at any time.
            let mut stepper =
                Stepper::new(Arc::clone(&descent), descent.initial_state(), 0, Reads::EachStep);
            for start in (0..rows.label.len()).step_by(batch) {
                let end = rows.label.len().min(start + batch);
                let mut batch = rows.batch().slice(start, end, WIDTH);
                batch.first_row = 0;
                stepper.step(&batch).unwrap();
            }
            assert_eq!(bits(&stepper.state().parameters), bits(&truth.parameters));
        }
    }
}
