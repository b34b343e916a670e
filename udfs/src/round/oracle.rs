//! Rounds of descent against PyTorch, step by step: every optimizer, every loss, with hidden layers
//! and without, on data and numbers that `tests/oracle/steps.py` wrote.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::*;
use crate::batch::{NO_CATEGORY, Rows};
use crate::learner::{Activation, Learner, Loss, LossSum};
use crate::model::NetworkSpec;
use crate::optimizer::{Decay, Optimizer, Schedule};
use crate::parallel::Sequential;

/// The file of `steps.py`.
#[derive(Deserialize)]
struct Oracle {
    x: Vec<f32>,
    codes: Vec<i64>,
    weight: Vec<f32>,
    labels: HashMap<String, Vec<f32>>,
    starts: HashMap<String, Vec<f32>>,
    l1: f32,
    l2: f32,
    cases: Vec<Case>,
    schedules: Vec<Factors>,
}

/// One training.
#[derive(Debug, Deserialize)]
struct Case {
    loss: Loss,
    optimizer: Optimizer,
    learning_rate: f32,
    hidden: u8,
    /// Weighted mean losses of all rows after the numbers of steps in [`ENDS`].
    losses: Vec<f64>,
    /// Sum of weighted losses of the rows, each before the step that learned it.
    learned: f64,
}

/// Factors on the learning rate from step 1 on.
#[derive(Deserialize)]
struct Factors {
    decay: Decay,
    factors: Vec<f32>,
}

const WIDTH: Width = Width { dense: 5, bytes: 0, columns: 1, categories: 3, targets: 1 };
const BATCH: usize = 16;
/// Rows learned after 1, 10, 100 and 101 steps, the last of 5 rows.
const ENDS: [usize; 4] = [BATCH, 10 * BATCH, 100 * BATCH, 100 * BATCH + 5];

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("../../tests/oracle/steps.json")).expect("steps.py wrote it")
}

/// The rows `from..to` of a table repeated without end.
fn cut(table: &Rows, from: usize, to: usize) -> Rows {
    let mut rows = Rows::default();
    (from..to).for_each(|row| rows.push(table, row % table.label.len(), WIDTH));
    rows
}

impl Oracle {
    fn rows(&self, loss: Loss) -> Rows {
        let label = match loss {
            Loss::Squared | Loss::Absolute | Loss::Huber | Loss::Quantile => "number",
            Loss::Poisson => "count",
            Loss::Logistic | Loss::SquaredHinge => "two",
            Loss::Softmax | Loss::Hinge => "three",
        };
        let codes = self.codes.iter().map(|code| u32::try_from(*code).unwrap_or(NO_CATEGORY));
        Rows {
            dense: self.x.clone(),
            bytes: vec![],
            codes: codes.collect(),
            label: self.labels[label].clone(),
            weight: self.weight.clone(),
        }
    }
}

/// A descent of one case; only FTRL has L1, which PyTorch's optimizers lack.
fn descent(learner: Arc<dyn Learner>, case: &Case, l1: f32, l2: f32, shards: usize) -> Descent {
    Descent {
        learner,
        optimizer: case.optimizer,
        schedule: Schedule::CONSTANT,
        first_step: 0,
        learning_rate: case.learning_rate,
        intercept_learning_rate: 0.5 * case.learning_rate,
        l1,
        l2,
        clip_norm: None,
        seed: 0,
        batch_size: BATCH,
        slices: shards,
        threads: Arc::new(Sequential),
        first_categories: Arc::from([]),
        progress: Arc::default(),
        interrupt: Arc::default(),
    }
}

fn mean_loss(learner: &Arc<dyn Learner>, parameters: &[f32], rows: &Rows) -> f64 {
    let round = LossRound::new(Arc::clone(learner), Arc::new(parameters.to_vec()));
    let mut replica = round.replica(0).unwrap();
    replica.update(&rows.batch()).unwrap();
    let partial = Partial { replica: 0, bytes: replica.finish().unwrap() };
    LossRound::sum(&round.merge(vec![partial]).unwrap()).unwrap().mean()
}

/// Relative to the value of the oracle.
fn close(name: &str, found: f64, truth: f64) {
    assert!((found - truth).abs() <= 1e-4 * truth.abs(), "{name}: {found} instead of {truth}");
}

fn run(oracle: &Oracle, case: &Case, shards: usize) {
    let name = format!("{:?} {:?} hidden {}", case.loss, case.optimizer, case.hidden);
    let outputs = if matches!(case.loss, Loss::Softmax | Loss::Hinge) { 3 } else { 1 };
    let spec = NetworkSpec {
        hidden: if case.hidden == 1 { vec![8, 4] } else { vec![] },
        activation: Activation::Gelu,
        loss: case.loss,
        quantiles: vec![],
        outputs,
        intercept: true,
        dropout: 0.0,
    };
    let rows = oracle.rows(case.loss);
    let learner: Arc<dyn Learner> = Arc::new(spec.network(WIDTH));
    let l1 = if matches!(case.optimizer, Optimizer::Ftrl { .. }) { oracle.l1 } else { 0.0 };
    let descent = Arc::new(descent(Arc::clone(&learner), case, l1, oracle.l2, shards));
    let start = oracle.starts[&format!("{}x{outputs}", case.hidden)].clone();
    let mut state = descent.state_from(start);
    let (mut from, mut learned) = (0, LossSum::default());
    for (end, truth) in ENDS.into_iter().zip(&case.losses) {
        // One round, whose rows arrive in batches of all lengths, as Arrow batches do.
        let round = SgdRound::new(Arc::clone(&descent), Arc::new(state)).unwrap();
        let mut replica = round.replica(0).unwrap();
        let mut pieces = [7, 1, 40, 16, 3, 0, 33].into_iter().cycle();
        while from < end {
            let to = end.min(from + pieces.next().unwrap());
            replica.update(&cut(&rows, from, to).batch()).unwrap();
            from = to;
        }
        let partial = Partial { replica: 0, bytes: replica.finish().unwrap() };
        state = round.state(&round.merge(vec![partial]).unwrap()).unwrap();
        learned.add(state.round);
        let step = end.div_ceil(BATCH) as u64;
        assert_eq!((state.steps, state.rows), (step, end as u64), "{name}");
        close(
            &format!("{name}, step {step}"),
            mean_loss(&learner, &state.parameters, &rows),
            *truth,
        );
    }
    close(&format!("{name}, learned"), learned.loss, case.learned);
}

#[test]
fn steps_are_those_of_pytorch() {
    let oracle = oracle();
    assert_eq!(oracle.cases.len(), 8 * 8 * 2);
    for case in &oracle.cases {
        run(&oracle, case, 1);
    }
}

/// `parallel = 'gradient'`: the same training except for the order of sums.
#[test]
fn steps_of_sharded_mini_batches_are_those_of_pytorch() {
    let oracle = oracle();
    for case in &oracle.cases {
        run(&oracle, case, 3);
    }
}

#[test]
fn schedules_are_those_of_pytorch() {
    let oracle = oracle();
    assert_eq!(oracle.schedules.len(), 4);
    for Factors { decay, factors } in oracle.schedules {
        for (i, truth) in factors.into_iter().enumerate() {
            for warmup_steps in [0, 3] {
                let schedule = Schedule { decay, warmup_steps };
                let found = schedule.factor(1 + warmup_steps + i as u64);
                assert!((found - truth).abs() < 1e-6, "{decay:?} {i}: {found} {truth}");
            }
        }
        let schedule = Schedule { decay, warmup_steps: 4 };
        assert_eq!([1, 2, 3, 4].map(|step| schedule.factor(step)), [0.25, 0.5, 0.75, 1.0]);
    }
    let cosine = Schedule { decay: Decay::Cosine { steps: 8 }, warmup_steps: 0 };
    assert_eq!(cosine.factor(1000), 0.0, "a cosine stays at its end");
}

/// Descent over all rows at once converges to where `g + l1 sign(w) = 0`, or `|g| <= l1` where
/// `w = 0`: the minimum of the objective, whatever the optimizer. (L1 of FTRL applies to a sum of
/// losses, as in its paper, so FTRL is not included.)
#[test]
fn every_optimizer_rests_at_the_minimum_with_l1() {
    let oracle = oracle();
    let rows = oracle.rows(Loss::Squared);
    let spec = NetworkSpec {
        hidden: vec![],
        activation: Activation::Identity,
        loss: Loss::Squared,
        quantiles: vec![],
        outputs: 1,
        intercept: true,
        dropout: 0.0,
    };
    let (l1, n) = (0.8, rows.label.len());
    for case in oracle.cases.iter().filter(|c| c.loss == Loss::Squared && c.hidden == 0) {
        if matches!(case.optimizer, Optimizer::Ftrl { .. }) {
            continue;
        }
        let learner: Arc<dyn Learner> = Arc::new(spec.network(WIDTH));
        let mut descent = descent(Arc::clone(&learner), case, l1, 0.0, 1);
        (descent.batch_size, descent.intercept_learning_rate) = (n, case.learning_rate);
        // The steps of RMSprop and Adam do not vanish by themselves.
        descent.schedule = Schedule { decay: Decay::Cosine { steps: 4000 }, warmup_steps: 0 };
        let start = descent.state_from(oracle.starts["0x1"].clone());
        let round = SgdRound::new(Arc::new(descent), Arc::new(start)).unwrap();
        let mut replica = round.replica(0).unwrap();
        for _ in 0..4000 {
            replica.update(&rows.batch()).unwrap();
        }
        let state = round.state(&replica.finish().unwrap()).unwrap();
        let mut gradient = vec![0.0; state.parameters.len()];
        let key = crate::learner::StepKey { seed: 0, step: 1 };
        let scale = 1.0 / n as f32;
        let mut scratch = learner.scratch(n);
        let at = &state.parameters;
        learner.gradient(at, &rows.batch(), key, scale, &mut scratch, &mut gradient);
        let name = case.optimizer.name();
        let (weights, bias) = (WIDTH.inputs(), at.len() - 1);
        assert!(gradient[bias].abs() < 2e-3, "{name}: {gradient:?}");
        for (w, g) in at[..weights].iter().zip(&gradient) {
            let rest =
                if *w == 0.0 { g.abs() <= l1 + 2e-3 } else { (g + l1 * w.signum()).abs() < 2e-3 };
            assert!(rest, "{name}: {at:?} {gradient:?}");
        }
        let zeros = at[..weights].iter().filter(|w| **w == 0.0).count();
        assert!((1..weights).contains(&zeros), "{name}: {at:?}");
    }
}

/// FTRL's weights are a function of its moments and of the learning rate, so a schedule must change
/// the moments with the rate: a step without gradient leaves the weights where they are.
#[test]
fn schedules_do_not_move_weights_of_ftrl_by_themselves() {
    let oracle = oracle();
    let case = |c: &&Case| matches!(c.optimizer, Optimizer::Ftrl { .. }) && c.loss == Loss::Squared;
    let case = oracle.cases.iter().find(case).unwrap();
    let spec = NetworkSpec {
        hidden: vec![],
        activation: Activation::Identity,
        loss: Loss::Squared,
        quantiles: vec![],
        outputs: 1,
        intercept: true,
        dropout: 0.0,
    };
    let mut rows = oracle.rows(Loss::Squared);
    let learner: Arc<dyn Learner> = Arc::new(spec.network(WIDTH));
    for (decay, intercept_learning_rate) in [
        (Decay::Step { steps: 10, factor: 0.1 }, 0.1),
        (Decay::Cosine { steps: 60 }, 0.1),
        (Decay::Constant, 0.0),
    ] {
        let mut descent = descent(Arc::clone(&learner), case, 0.01, 0.0, 1);
        descent.schedule = Schedule { decay, warmup_steps: 5 };
        descent.intercept_learning_rate = intercept_learning_rate;
        let descent = Arc::new(descent);
        let mut state = descent.state_from(oracle.starts["0x1"].clone());
        rows.weight = oracle.weight.clone();
        for steps in [40, 40] {
            let before = state.parameters.clone();
            let round = SgdRound::new(Arc::clone(&descent), Arc::new(state)).unwrap();
            let replicas = [0, 1].map(|index| {
                let mut replica = round.replica(index).unwrap();
                for _ in 0..steps {
                    replica
                        .update(&cut(&rows, 16 * index as usize, 16 + 16 * index as usize).batch())
                        .unwrap();
                }
                Partial { replica: index, bytes: replica.finish().unwrap() }
            });
            state = round.state(&round.merge(replicas.into()).unwrap()).unwrap();
            assert!(state.is_finite(), "{decay:?}: {:?}", state.parameters);
            if rows.weight[0] == 0.0 {
                for (before, after) in before.iter().zip(&state.parameters) {
                    assert!((before - after).abs() < 1e-5, "{decay:?}: {before} {after}");
                }
            } else if intercept_learning_rate == 0.0 {
                assert_eq!(state.parameters.last(), before.last(), "{decay:?}");
                assert_ne!(state.parameters[0], before[0], "{decay:?}");
            }
            // In the second round all weights are 0, so every gradient is zero.
            rows.weight.fill(0.0);
        }
    }
}

/// A training that continues another one begins at its weights, with any rate and strengths.
#[test]
fn ftrl_goes_on_at_another_rate_from_the_weights_it_finds() {
    let oracle = oracle();
    let case = |c: &&Case| matches!(c.optimizer, Optimizer::Ftrl { .. }) && c.loss == Loss::Huber;
    let case = oracle.cases.iter().find(case).unwrap();
    let spec = NetworkSpec {
        hidden: vec![8, 4],
        activation: Activation::Gelu,
        loss: Loss::Huber,
        quantiles: vec![],
        outputs: 1,
        intercept: true,
        dropout: 0.0,
    };
    let mut rows = oracle.rows(Loss::Huber);
    let learner: Arc<dyn Learner> = Arc::new(spec.network(WIDTH));
    let run = |descent: Descent, state, rows: &Rows| {
        let round = SgdRound::new(Arc::new(descent), Arc::new(state)).unwrap();
        let mut replica = round.replica(0).unwrap();
        replica.update(&rows.batch()).unwrap();
        round.state(&replica.finish().unwrap()).unwrap()
    };
    let mut first = descent(Arc::clone(&learner), case, 0.2, 0.01, 1);
    let state = first.state_from(oracle.starts["1x1"].clone());
    // Four steps: at the last one the rate is 0.
    first.schedule = Schedule { decay: Decay::Cosine { steps: 3 }, warmup_steps: 0 };
    let state = run(first, state, &rows);
    rows.weight.fill(0.0);
    for (rate, l1, l2) in [(0.01, 0.0, 0.0), (0.2, 0.2, 0.01), (3.0, 0.3, 0.1)] {
        let mut second = descent(Arc::clone(&learner), case, l1, l2, 1);
        (second.learning_rate, second.first_step) = (rate, state.steps);
        let after = run(second, state.clone(), &rows);
        assert!(after.steps > state.steps && state.parameters.contains(&0.0));
        for (before, after) in state.parameters.iter().zip(&after.parameters) {
            assert!((before - after).abs() < 1e-5, "{rate} {l1} {l2}: {before} {after}");
        }
    }
}
