//! The loss of rows under fixed parameters, as a round: the evaluation of the evaluation rows.

use std::sync::Arc;

use datafusion_common::{Result, exec_err};

use super::{Partial, Replica, Round};
use crate::batch::{MiniBatch, Width};
use crate::learner::{Learner, LossSum, Scratch};

/// Rows that are scored at a time.
const BLOCK: usize = 1024;

/// Sums the loss of the rows.
#[derive(Debug)]
pub struct LossRound {
    learner: Arc<dyn Learner>,
    parameters: Arc<Vec<f32>>,
}

impl LossRound {
    /// The loss under `parameters`, in the learner's layout.
    pub fn new(learner: Arc<dyn Learner>, parameters: Arc<Vec<f32>>) -> Self {
        Self { learner, parameters }
    }

    /// Reads the result of the round: loss sum, weight sum (f64) and rows (u64), little-endian.
    pub fn sum(bytes: &[u8]) -> Result<LossSum> {
        let Ok(bytes) = <[u8; 24]>::try_from(bytes) else {
            return exec_err!("a loss has 24 bytes, but {} were given", bytes.len());
        };
        let word = |i: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * i..8 * i + 8]);
            word
        };
        Ok(LossSum {
            loss: f64::from_le_bytes(word(0)),
            weight: f64::from_le_bytes(word(1)),
            rows: u64::from_le_bytes(word(2)),
        })
    }

    fn bytes(sum: LossSum) -> Vec<u8> {
        let parts = [sum.loss.to_le_bytes(), sum.weight.to_le_bytes(), sum.rows.to_le_bytes()];
        parts.concat()
    }
}

impl Round for LossRound {
    fn kind(&self) -> &'static str {
        "loss"
    }

    fn width(&self) -> Width {
        self.learner.width()
    }

    fn replica(&self, _index: u32) -> Result<Box<dyn Replica>> {
        Ok(Box::new(LossReplica {
            learner: Arc::clone(&self.learner),
            parameters: Arc::clone(&self.parameters),
            scratch: self.learner.scratch(BLOCK),
            sum: LossSum::default(),
        }))
    }

    fn merge(&self, partials: Vec<Partial>) -> Result<Vec<u8>> {
        let mut total = LossSum::default();
        for partial in partials {
            total.add(Self::sum(&partial.bytes)?);
        }
        Ok(Self::bytes(total))
    }

    fn replica_bytes(&self) -> usize {
        4 * BLOCK * (self.learner.outputs() + self.learner.width().dense)
    }
}

#[derive(Debug)]
struct LossReplica {
    learner: Arc<dyn Learner>,
    parameters: Arc<Vec<f32>>,
    scratch: Scratch,
    sum: LossSum,
}

impl Replica for LossReplica {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        let width = self.learner.width();
        for start in (0..rows.rows).step_by(BLOCK) {
            let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
            self.sum.add(self.learner.loss(&self.parameters, &block, &mut self.scratch));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(LossRound::bytes(self.sum))
    }
}
