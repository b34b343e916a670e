//! Every layer against PyTorch: losses, gradients, running statistics and scores of the cases that
//! `tests/oracle/layers.py` wrote.

use serde::Deserialize;

use super::*;
use crate::learner::{Loss, Role};

/// Layers behind an input.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Branch {
    pub(super) input: usize,
    pub(super) layers: Vec<LayerSpec>,
}

/// A network of an oracle.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) inputs: Vec<Input>,
    pub(super) branches: Vec<Branch>,
    pub(super) layers: Vec<LayerSpec>,
    pub(super) outputs: usize,
    pub(super) loss: Loss,
}

/// A network with what PyTorch computes.
#[derive(Debug, Deserialize)]
struct Case {
    #[serde(flatten)]
    plan: Plan,
    codes: Vec<i64>,
    label: Vec<f32>,
    loss_sum: f64,
    gradient: Vec<f64>,
    statistics: Vec<f64>,
    scores: Vec<f64>,
}

pub(super) const ROWS: usize = 7;

impl Plan {
    pub(super) fn architecture(&self) -> Architecture {
        let mut builder = Builder::new(Architecture::new(self.inputs.clone())).unwrap();
        let mut ends = vec![];
        for branch in &self.branches {
            ends.push(builder.chain(&branch.layers, &[Origin::Input(branch.input)]).unwrap());
        }
        if !self.layers.is_empty() {
            ends = vec![builder.chain(&self.layers, &ends).unwrap()];
        }
        if self.outputs > 0 {
            builder.output(self.outputs, true, &ends).unwrap();
        }
        builder.finish()
    }

    /// Dense numbers of a row.
    pub(super) fn dense(&self) -> usize {
        let ends = self.inputs.iter().map(|input| input.reach().0);
        ends.max().unwrap_or(0)
    }
}

/// Codes with -1 for none.
pub(super) fn codes(codes: &[i64]) -> Vec<u32> {
    codes.iter().map(|code| u32::try_from(*code).unwrap_or(NO_CATEGORY)).collect()
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/oracle/layers.json")).unwrap()
}

impl Case {
    fn rows(&self) -> Rows {
        Rows {
            bytes: vec![],
            dense: values(2, ROWS * self.plan.dense()),
            codes: codes(&self.codes),
            label: self.label.clone(),
            weight: values(4, ROWS).iter().map(|value| 0.75 + 0.5 * value).collect(),
        }
    }
}

/// Sums of some dozens of products in float32; batch norm of few rows amplifies them.
const TOLERANCE: f64 = 2e-5;

#[test]
fn layers_are_those_of_pytorch() {
    let cases = cases();
    let mut failures = vec![];
    for case in &cases {
        let name = &case.plan.name;
        let architecture = case.plan.architecture();
        let mut executor = Executor::new(&architecture, case.plan.loss, ROWS).unwrap();
        let mut at = parameters(&executor);
        let rows = case.rows();
        if at.len() != case.gradient.len() {
            failures.push(format!("{name}: {} parameters, not {}", at.len(), case.gradient.len()));
            continue;
        }
        // What the buffer held before does not matter.
        let mut gradient = vec![f32::NAN; at.len()];
        let batch = rows.batch();
        let sum = executor.gradient(&Sequential, &mut at, &batch, KEY, 1.0, &mut gradient);
        let mut fail = |what: &str, error: f64| {
            if error.is_nan() || error > TOLERANCE {
                failures.push(format!("{name}: {what} {error:.1e}"));
            }
        };
        fail("loss", (sum.loss - case.loss_sum).abs() / case.loss_sum.abs());
        let mut statistics = vec![];
        // (Before a batch norm, the gradient by a bias is 0 but for rounding.)
        let least = 0.1 * case.gradient.iter().fold(0.1f64, |top, g| top.max(g.abs()));
        for tensor in executor.layout().tensors() {
            let range = tensor.range();
            if tensor.role == Role::Buffer {
                assert!(gradient[range.clone()].iter().all(|g| *g == 0.0), "{name}");
                statistics.extend_from_slice(&at[range]);
                continue;
            }
            let node = tensor.node.as_deref().unwrap_or_default();
            let worst = error_beside(&gradient[range.clone()], &case.gradient[range], least);
            fail(&format!("{node}.{}", tensor.name), worst);
        }
        fail("statistics", error(&statistics, &case.statistics));
        let mut scores = vec![f32::NAN; case.scores.len()];
        executor.scores(&Sequential, &at, &batch, &mut scores);
        fail("scores", error(&scores, &case.scores));
        let loss = executor.loss(&Sequential, &at, &batch);
        if case.statistics.is_empty() {
            fail("loss of scores", (loss.loss - case.loss_sum).abs() / case.loss_sum.abs());
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() > 80);
}
