//! Linear models and dense networks: what their algorithms share, from options to the estimator.

use std::sync::Arc;

use datafusion_common::{Result, plan_err};

use super::{Method, RoundLayout, TrainingPlan};
use crate::encoder::Encoder;
use crate::estimator::{
    DescentEstimator, DescentSettings, Estimator, LbfgsSolver, NewtonSolver, NormalSolver,
    SolverEstimator, SolverSettings,
};
use crate::exact::{LbfgsOptions, LinearShape, NewtonOptions};
use crate::learner::{Learner, Loss, Network};
use crate::model::{Labels, NetworkSpec, Trained};
use crate::options::TrainOptions;
use crate::parallel::ParallelFor;
use crate::round::{Descent, Interrupt, Progress};
use crate::state::State;
use crate::steps::{Reads, StepPlan};

/// The network for these options and number of classes (None for a number), or that of the model to
/// continue.
///
/// # Errors
/// When the loss does not fit the number of classes; `target` names the column.
pub fn network_spec(
    options: &TrainOptions,
    target: &str,
    classes: Option<usize>,
    parent: Option<&Trained>,
) -> Result<NetworkSpec> {
    if let Some(parent) = parent {
        let mut spec = parent.network.clone();
        if options.is_given("dropout") {
            spec.dropout = options.dropout;
        }
        return Ok(spec);
    }
    let loss = match (options.loss, classes) {
        (Some(Loss::Logistic), Some(n)) if n > 2 => {
            return plan_err!(
                "loss = 'logistic' is for two classes, but the target {target} has {n}; use \
                 'softmax'"
            );
        }
        (Some(loss), _) => loss,
        (None, _) => (options.algorithm.spec().default_loss)(classes.unwrap_or(0)),
    };
    let outputs = match (loss, classes) {
        (Loss::Softmax, Some(n)) => n,
        (Loss::Hinge | Loss::SquaredHinge, Some(n)) if n > 2 => n,
        _ => 1,
    };
    Ok(NetworkSpec {
        hidden: options.hidden.clone(),
        activation: options.activation,
        loss,
        outputs,
        intercept: options.intercept,
        dropout: options.dropout,
    })
}

/// The inputs from which an estimator is made.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Checked options.
    pub options: &'a TrainOptions,
    /// The plan of the training.
    pub plan: &'a TrainingPlan,
    /// The network.
    pub network: Arc<Network>,
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

    fn loss(&self) -> Loss {
        self.network.loss_function()
    }

    /// L2 if the options give none: scikit-learn's `C = 1` for the linear classifiers, which is
    /// `1 / rows` for the mean loss; 0 for others.
    fn l2(&self) -> f64 {
        let default = match self.loss().is_of_classes() && self.options.hidden.is_empty() {
            true => 1.0 / self.rows.max(1) as f64,
            false => 0.0,
        };
        self.options.l2.unwrap_or(default)
    }

    /// Factor from the loss of a standardised target to the target's own units.
    fn loss_scale(&self) -> f64 {
        match (self.loss(), self.labels) {
            (Loss::Squared | Loss::Huber, Labels::Numbers { stddev, .. }) => stddev * stddev,
            (Loss::Absolute, Labels::Numbers { stddev, .. }) => *stddev,
            _ => 1.0,
        }
    }

    fn shape(&self) -> LinearShape {
        LinearShape {
            width: self.network.width(),
            outputs: self.network.outputs(),
            intercept: self.options.intercept,
            loss: self.loss(),
        }
    }

    fn layout(&self) -> RoundLayout {
        RoundLayout::decide(self.options, self.network.flops_per_row(), self.rows)
    }

    fn descent(&self) -> DescentEstimator {
        let (options, layout) = (self.options, self.layout());
        let rows_per_step = (options.batch_size * layout.replicas) as u64;
        let steps_per_epoch = self.rows.div_ceil(rows_per_step).max(1);
        let descent = Descent {
            schedule: options.schedule.resolve(steps_per_epoch, options.epochs),
            first_step: self.parent.map_or(0, |parent| parent.steps),
            first_categories: self.encoder.first_categories(),
            interrupt: Arc::clone(&self.interrupt),
            ..Descent::of_options(
                options,
                Arc::clone(&self.network),
                self.l2(),
                layout.slices,
                Arc::clone(&self.threads),
            )
        };
        let start = start_state(&descent, self.parent);
        let settings = DescentSettings {
            descent: Arc::new(descent),
            rows: self.rows,
            has_evaluation: self.has_evaluation,
            epochs: options.epochs,
            replicas: layout.replicas,
            round_rows: layout.round_rows,
            patience: options.early_stop.then_some(options.patience),
            min_delta: options.min_delta,
            loss_scale: self.loss_scale(),
        };
        DescentEstimator::new(settings, start)
    }

    /// A description of the method: `newton`, or `adam, batch 128, 2 replicas, 4 rounds an epoch`.
    pub fn describe(&self) -> String {
        if self.plan.method != Method::Descent {
            return self.plan.method.name().to_owned();
        }
        let (options, layout) = (self.options, self.layout());
        let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut text = format!("{}, batch {}", options.optimizer.name(), options.batch_size);
        text += &format!(", {}", plural(layout.replicas as u64, "replica"));
        let descent = Descent::of_options(
            options,
            Arc::clone(&self.network),
            0.0,
            layout.slices,
            Arc::clone(&self.threads),
        );
        let slices = StepPlan::choose(&descent, Reads::AtEnd).slices(&descent);
        if slices > 1 {
            text += &format!(", {}", plural(slices as u64, "slice"));
        }
        let rounds = self.rows.div_ceil(layout.round_rows).max(1);
        text + &format!(", {} an epoch", plural(rounds, "round"))
    }

    /// Rows that each replica learns in an epoch, as the rounds are cut.
    pub fn rows_per_replica(&self) -> Vec<u64> {
        if self.plan.method != Method::Descent {
            return vec![self.rows];
        }
        let RoundLayout { replicas, round_rows, .. } = self.layout();
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

/// The estimator of a linear model or a dense network.
///
/// # Errors
/// When an option is out of range.
pub(super) fn estimator(setup: &Setup<'_>) -> Result<Box<dyn Estimator>> {
    let settings = SolverSettings {
        network: Arc::clone(&setup.network),
        rows: setup.rows,
        has_evaluation: setup.has_evaluation,
        loss_scale: setup.loss_scale(),
    };
    let (options, shape, l2) = (setup.options, setup.shape(), setup.l2());
    let (interrupt, tolerance) = (Arc::clone(&setup.interrupt), options.tolerance);
    Ok(match setup.plan.method {
        Method::Descent => Box::new(setup.descent()),
        Method::Normal => {
            let solver = NormalSolver::new(shape.width, l2, shape.intercept, interrupt);
            Box::new(SolverEstimator::new(settings, solver))
        }
        Method::Newton => {
            let own = NewtonOptions { l2, tolerance, ..NewtonOptions::default() };
            let solver = NewtonSolver::new(shape, own, setup.rows, interrupt)?;
            Box::new(SolverEstimator::new(settings, solver))
        }
        Method::Lbfgs => {
            let l1 = options.l1.unwrap_or(0.0);
            let own = LbfgsOptions { l1, l2, tolerance, ..LbfgsOptions::default() };
            let solver = LbfgsSolver::new(shape, own, interrupt)?;
            Box::new(SolverEstimator::new(settings, solver))
        }
    })
}

impl Descent {
    /// The descent of these options, at a constant learning rate from the first step on. The caller
    /// may change it.
    pub fn of_options(
        options: &TrainOptions,
        network: Arc<Network>,
        l2: f64,
        slices: usize,
        threads: Arc<dyn ParallelFor>,
    ) -> Self {
        let intercept = options.intercept_learning_rate.unwrap_or(options.learning_rate);
        Self {
            learner: network,
            optimizer: options.optimizer,
            schedule: options.schedule.resolve(1, 1),
            first_step: 0,
            learning_rate: options.learning_rate as f32,
            intercept_learning_rate: intercept as f32,
            l1: options.l1.unwrap_or(0.0) as f32,
            l2: l2 as f32,
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
