//! Mini-batch descent from options: the state that it starts from, and its estimator.

use std::sync::Arc;

use super::{RoundLayout, Setup};
use crate::estimator::{DescentEstimator, DescentSettings};
use crate::learner::{Learner, Loss};
use crate::model::{Labels, Trained};
use crate::options::TrainOptions;
use crate::parallel::ParallelFor;
use crate::round::{Descent, Interrupt, Progress};
use crate::state::State;

/// Initial parameters, or those of the model to continue, with its moments if the optimizer is the
/// same.
pub fn start_state(descent: &Descent, parent: Option<&Trained>) -> State {
    let Some(parent) = parent else { return descent.initial_state() };
    let mut state = descent.state_from(parent.parameters.clone());
    if parent.optimizer == Some(descent.optimizer) {
        state.moments.clone_from(&parent.moments);
    }
    state.steps = parent.steps;
    state
}

/// What a learner adds to a [`Setup`].
pub(super) struct DescentSetup<'a> {
    pub(super) setup: &'a Setup<'a>,
    pub(super) learner: Arc<dyn Learner>,
    pub(super) loss: Loss,
    /// L2 if the options give none.
    pub(super) default_l2: f64,
}

impl DescentSetup<'_> {
    /// The strength of L2.
    pub(super) fn l2(&self) -> f64 {
        self.setup.options.l2.unwrap_or(self.default_l2)
    }

    /// Factor from the loss of a standardised target to the target's own units. (Several targets
    /// may have several units: their loss stays that of standardised targets.)
    pub(super) fn loss_scale(&self) -> f64 {
        match (self.loss, self.setup.labels) {
            (Loss::Squared | Loss::Huber, Labels::Numbers(scales)) if scales.len() == 1 => {
                scales[0].stddev * scales[0].stddev
            }
            (Loss::Absolute | Loss::Quantile, Labels::Numbers(scales)) if scales.len() == 1 => {
                scales[0].stddev
            }
            _ => 1.0,
        }
    }

    fn layout(&self) -> RoundLayout {
        RoundLayout::decide(self.setup.options, self.learner.flops_per_row(), self.setup.rows)
    }

    /// The estimator.
    pub(super) fn descent(&self) -> DescentEstimator {
        let (options, layout) = (self.setup.options, self.layout());
        let rows_per_step = (options.batch_size * layout.replicas) as u64;
        let steps_per_epoch = self.setup.rows.div_ceil(rows_per_step).max(1);
        let descent = Descent {
            schedule: options.schedule.resolve(steps_per_epoch, options.epochs),
            first_step: self.setup.parent.map_or(0, |parent| parent.steps),
            first_categories: self.setup.encoder.first_categories(),
            interrupt: Arc::clone(&self.setup.interrupt),
            ..Descent::of_options(
                options,
                Arc::clone(&self.learner),
                self.l2(),
                layout.slices,
                Arc::clone(&self.setup.threads),
            )
        };
        let start = start_state(&descent, self.setup.parent);
        let settings = DescentSettings {
            descent: Arc::new(descent),
            rows: self.setup.rows,
            has_evaluation: self.setup.has_evaluation,
            epochs: options.epochs,
            replicas: layout.replicas,
            round_rows: layout.round_rows,
            patience: options.early_stop.then_some(options.patience),
            min_delta: options.min_delta,
            loss_scale: self.loss_scale(),
        };
        DescentEstimator::new(settings, start)
    }
}

impl Descent {
    /// The descent of these options, at a constant learning rate from the first step on. The caller
    /// may change it.
    pub fn of_options(
        options: &TrainOptions,
        learner: Arc<dyn Learner>,
        l2: f64,
        slices: usize,
        threads: Arc<dyn ParallelFor>,
    ) -> Self {
        let intercept = options.intercept_learning_rate.unwrap_or(options.learning_rate);
        Self {
            learner,
            optimizer: options.optimizer,
            schedule: options.schedule.resolve(1, 1),
            first_step: 0,
            learning_rate: options.learning_rate as f32,
            intercept_learning_rate: intercept as f32,
            l1: options.l1.unwrap_or(0.0) as f32,
            l2: l2 as f32,
            clip_norm: options.clip_norm,
            seed: options.seed,
            batch_size: options.batch_size,
            slices,
            threads,
            first_categories: Arc::from([]),
            progress: Arc::new(Progress::default()),
            interrupt: Arc::new(Interrupt::default()),
        }
    }
}
