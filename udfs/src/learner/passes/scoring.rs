//! Raw outputs without training: the forward half of a pass over rows.

use super::parts::{self, Kind, Part};
use super::rows::RowPass;
use super::{Hidden, Share, inputs};
use crate::batch::MiniBatch;
use crate::kernels::panels::Panels;
use crate::learner::network::Network;
use crate::learner::{Learner, Scratch, StepKey};

/// A network and its parameters in the layout that scoring reads: made once, used by all threads.
#[derive(Debug)]
pub struct Scoring {
    /// Without dropout.
    network: Network,
    /// The weights in the layout that products read; none for a linear network.
    parts: Vec<Part>,
}

/// The working memory of a scoring thread.
#[derive(Debug, Default)]
pub struct ScoringScratch {
    rows: usize,
    /// For a network with hidden layers.
    share: Share,
    /// For a linear network, and for what is no network.
    pub(crate) scratch: Scratch,
}

impl Scoring {
    /// For `parameters` `[layout.len()]` of `network`.
    pub fn new(network: &Network, parameters: &[f32]) -> Self {
        let mut network = network.clone();
        network.dropout = 0.0;
        let mut parts = match network.network() {
            Some(network) => parts::parts(network, 1),
            None => vec![],
        };
        for part in &mut parts {
            if let Kind::Rows(block) = &mut part.kind {
                block.weights.copy_from(&parameters[part.range.clone()]);
            }
        }
        Self { network, parts }
    }

    /// Working memory for up to `rows` rows at a time.
    pub fn scratch(&self, rows: usize) -> ScoringScratch {
        match self.network.network() {
            Some(network) => ScoringScratch {
                rows,
                share: Share::scoring(network, rows),
                scratch: Scratch::default(),
            },
            None => ScoringScratch {
                rows,
                share: Share::default(),
                scratch: self.network.scratch(rows),
            },
        }
    }

    /// Raw outputs `[rows, outputs]` of rows whose labels and weights may be empty, under the
    /// `parameters` that this was made with. The score of a row does not depend on the other rows
    /// of the batch.
    pub fn scores(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        scratch: &mut ScoringScratch,
        out: &mut [f32],
    ) {
        let (outputs, width) = (self.network.outputs(), self.network.width());
        for first in (0..batch.rows).step_by(scratch.rows.max(1)) {
            let n = scratch.rows.min(batch.rows - first);
            let own = MiniBatch {
                rows: n,
                first_row: 0,
                dense: &batch.dense[first * width.dense..(first + n) * width.dense],
                codes: &batch.codes[first * width.columns..(first + n) * width.columns],
                label: &[],
                weight: &[],
                ..*batch
            };
            let out = &mut out[first * outputs..(first + n) * outputs];
            if self.network.network().is_none() {
                self.network.scores(parameters, &own, &mut scratch.scratch, out);
                continue;
            }
            // (Only dropout draws random numbers.)
            let key = StepKey { seed: 0, step: 0 };
            let pass = RowPass { network: &self.network, parts: &self.parts, parameters, key };
            scratch.share.x.copy_from(own.dense);
            pass.scores(&mut scratch.share, 0, &own);
            out.copy_from_slice(&scratch.share.z[..n * outputs]);
        }
    }
}

impl Share {
    /// The parts of a share that scoring needs.
    fn scoring(network: &Network, rows: usize) -> Self {
        let hidden = &network.layers[..network.layers.len() - 1];
        let keeps_z = network.activation.needs_z();
        Self {
            x: inputs(network, rows),
            hidden: hidden
                .iter()
                .map(|layer| Hidden {
                    z: keeps_z.then(|| Panels::new(rows, layer.units)),
                    a: Panels::new(rows, layer.units),
                    undropped: None,
                    dz: Panels::default(),
                })
                .collect(),
            z: vec![0.0; rows * network.outputs()],
            ..Self::default()
        }
    }
}
