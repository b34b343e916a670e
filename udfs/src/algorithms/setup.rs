//! What an estimator is made from, and what EXPLAIN says of it.

use std::sync::Arc;

use datafusion_common::Result;

use super::{Method, RoundLayout, TrainingPlan};
use crate::batch::Width;
use crate::description::Description;
use crate::encoder::Encoder;
use crate::estimator::Estimator;
use crate::learner::Learner;
use crate::model::{Labels, Trained};
use crate::options::TrainOptions;
use crate::parallel::ParallelFor;
use crate::round::{Descent, Interrupt};
use crate::steps::{Reads, StepPlan};

/// The inputs from which an estimator is made.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Checked options.
    pub options: &'a TrainOptions,
    /// The plan of the training.
    pub plan: &'a TrainingPlan,
    /// What is learned.
    pub description: &'a Arc<dyn Description>,
    /// Fitted preprocessing.
    pub encoder: &'a Encoder,
    /// The encoding of labels as numbers.
    pub labels: &'a Labels,
    /// Training rows.
    pub rows: u64,
    /// Whether there are evaluation rows.
    pub has_evaluation: bool,
    /// The model to continue.
    pub parent: Option<&'a Trained>,
    /// Runs the parts of a mini-batch on threads.
    pub threads: Arc<dyn ParallelFor>,
    /// Stops the rounds.
    pub interrupt: Arc<Interrupt>,
}

impl Setup<'_> {
    /// The estimator of the algorithm that the options were checked for.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn make(&self) -> Result<Box<dyn Estimator>> {
        (self.options.algorithm.spec().make)(self)
    }

    /// Width of encoded rows.
    pub fn width(&self) -> Width {
        Width { targets: self.labels.targets(), ..self.encoder.width() }
    }

    /// The layout of rounds of mini-batch descent; None of other methods.
    fn layout(&self) -> Option<(Arc<dyn Learner>, RoundLayout)> {
        if self.plan.method != Method::Descent {
            return None;
        }
        let learner = self.description.learner(self.width()).ok()??;
        let layout = RoundLayout::decide(self.options, learner.flops_per_row(), self.rows);
        Some((learner, layout))
    }

    /// A description of the method: `newton`, or `adam, batch 128, 2 replicas, 4 rounds an epoch`.
    pub fn describe(&self) -> String {
        let Some((learner, layout)) = self.layout() else {
            return self.plan.method.name().to_owned();
        };
        let options = self.options;
        let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut text = format!("{}, batch {}", options.optimizer.name(), options.batch_size);
        text += &format!(", {}", plural(layout.replicas as u64, "replica"));
        let descent =
            Descent::of_options(options, learner, 0.0, layout.slices, Arc::clone(&self.threads));
        let slices = StepPlan::choose(&descent, Reads::AtEnd).slices(&descent);
        if slices > 1 {
            text += &format!(", {}", plural(slices as u64, "slice"));
        }
        let rounds = self.rows.div_ceil(layout.round_rows).max(1);
        text + &format!(", {} an epoch", plural(rounds, "round"))
    }

    /// Rows that each replica learns in an epoch, as the rounds are cut.
    pub fn rows_per_replica(&self) -> Vec<u64> {
        let Some((_, layout)) = self.layout() else { return vec![self.rows] };
        let RoundLayout { replicas, round_rows, .. } = layout;
        let mut shares = vec![0; replicas];
        let mut start = 0;
        while start < self.rows {
            let round = round_rows.min(self.rows - start);
            for (i, share) in shares.iter_mut().enumerate() {
                let cut = |i: usize| round * i as u64 / replicas as u64;
                *share += cut(i + 1) - cut(i);
            }
            start += round;
        }
        shares
    }
}
