//! Training of five small networks against PyTorch, step by step: the file of
//! `tests/oracle/networks.py`.

use serde::Deserialize;

use super::oracle::{Plan, codes};
use super::*;
use crate::batch::Width;
use crate::learner::Loss;
use crate::optimizer::{Optimizer, StepSize};

#[derive(Debug, Deserialize)]
struct Case {
    #[serde(flatten)]
    plan: Plan,
    codes: Vec<i64>,
    label: Vec<f32>,
    trainings: Vec<Training>,
}

#[derive(Debug, Deserialize)]
struct Training {
    optimizer: String,
    rate: f32,
    marks: Vec<Mark>,
}

#[derive(Debug, Deserialize)]
struct Mark {
    loss: f64,
    checksums: Vec<f64>,
}

const ROWS: usize = 40;
const BATCH: usize = 8;
const MARKS: [u64; 3] = [1, 10, 50];
const PIECE: usize = 16;

fn checksums(parameters: &[f32]) -> Vec<f32> {
    let factors = values(5, parameters.len());
    let pairs: Vec<f64> =
        parameters.iter().zip(&factors).map(|(p, f)| f64::from(*p) * f64::from(*f)).collect();
    pairs.chunks(PIECE).map(|piece| piece.iter().sum::<f64>() as f32).collect()
}

#[test]
fn training_steps_are_those_of_pytorch() {
    let json = include_str!("../../../tests/oracle/networks.json");
    let cases: Vec<Case> = serde_json::from_str(json).unwrap();
    assert_eq!(cases.len(), 5);
    let mut failures = vec![];
    for case in &cases {
        let architecture = case.plan.architecture();
        let codes = codes(&case.codes);
        let targets = case.label.len() / ROWS;
        let width = Width {
            dense: case.plan.dense(),
            columns: codes.len() / ROWS,
            targets,
            ..Width::default()
        };
        let rows = Rows {
            bytes: vec![],
            dense: values(2, ROWS * width.dense),
            codes,
            label: case.label.clone(),
            weight: vec![1.0; ROWS],
        };
        assert!(targets == 1 || case.plan.loss == Loss::Squared);
        for training in &case.trainings {
            let optimizer = match training.optimizer.as_str() {
                "sgd" => Optimizer::Sgd,
                _ => Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-4 },
            };
            let mut executor = Executor::new(&architecture, case.plan.loss, BATCH).unwrap();
            let mut at = parameters(&executor);
            let mut moments = vec![0.0; at.len() * optimizer.moments()];
            let mut gradient = vec![0.0; at.len()];
            for step in 1..=MARKS[2] {
                let first = (step as usize - 1) * BATCH % ROWS;
                let batch = rows.batch().slice(first, first + BATCH, width);
                let batch = MiniBatch { first_row: 0, ..batch };
                let key = StepKey { seed: 1, step };
                let share = 1.0 / BATCH as f32;
                executor.gradient(&Sequential, &mut at, &batch, key, share, &mut gradient);
                let size = StepSize {
                    learning_rate: training.rate,
                    intercept_learning_rate: training.rate,
                    previous: None,
                    l1: 0.0,
                    l2: 0.0,
                    step,
                };
                optimizer.step(executor.layout(), &size, &mut at, &gradient, &mut moments);
                let Some(mark) = MARKS.iter().position(|mark| *mark == step) else { continue };
                let mark = &training.marks[mark];
                let loss = executor.loss(&Sequential, &at, &rows.batch()).mean();
                let of_loss = (loss - mark.loss).abs() / mark.loss;
                let worst = error(&checksums(&at), &mark.checksums);
                if !(of_loss < 1e-4 && worst < 1e-4) {
                    failures.push(format!(
                        "{} {} after {step}: loss {loss} instead of {}, parameters {worst:.1e}",
                        case.plan.name, training.optimizer, mark.loss
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
