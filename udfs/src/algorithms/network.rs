//! Linear models and dense networks: what their algorithms share, from options to the estimator.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion_common::{Result, internal_err, plan_err};

use super::{Method, Outline, RoundLayout, Setup, Shape};
use crate::batch::Width;
use crate::description::{Description, Predictor};
use crate::estimator::{
    DescentEstimator, DescentSettings, Estimator, IrlsSolver, LbfgsSolver, NewtonSolver,
    NormalSolver, SolverEstimator, SolverSettings,
};
use crate::exact::{self, IrlsOptions, LbfgsOptions, LinearShape, NewtonOptions};
use crate::learner::{Layout, Learner, Loss, Network};
use crate::model::{Labels, NetworkSpec, Target, Trained};
use crate::options::{Choice, Solver, TrainOptions};
use crate::parallel::ParallelFor;
use crate::round::{Descent, Interrupt, Progress};
use crate::scorer::{self, NetworkPredictor};
use crate::state::State;

/// The loss of classes with probabilities.
pub(super) fn probabilistic(classes: Option<usize>) -> Loss {
    if classes == Some(2) { Loss::Logistic } else { Loss::Softmax }
}

/// The network for these options and number of classes, or that of the model to continue;
/// `default_loss` is the loss of `loss = auto`.
///
/// # Errors
/// When the loss does not fit the number of classes.
pub(super) fn describe(outline: &Outline<'_>, default_loss: Loss) -> Result<Arc<dyn Description>> {
    network_spec(outline, default_loss).map(|spec| Arc::new(spec) as _)
}

fn network_spec(outline: &Outline<'_>, default_loss: Loss) -> Result<NetworkSpec> {
    let Outline { options, target, classes, targets, parent } = *outline;
    if let Some(parent) = parent {
        let Some(mut spec) = parent.description.network().cloned() else {
            return internal_err!("the model to continue is no network");
        };
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
        (None, _) => default_loss,
    };
    if loss == Loss::Quantile && targets > 1 {
        return plan_err!(
            "loss = 'quantile' has one target, but {target} are {targets} numbers; name one of \
             them, or choose another loss"
        );
    }
    let outputs = match (loss, classes) {
        (Loss::Quantile, _) => options.quantiles.len(),
        (Loss::Softmax, Some(n)) => n,
        (Loss::Hinge | Loss::SquaredHinge, Some(n)) if n > 2 => n,
        (_, Some(_)) => 1,
        (_, None) => targets.max(1),
    };
    Ok(NetworkSpec {
        hidden: options.hidden.clone(),
        activation: options.activation,
        loss,
        quantiles: options.quantiles.clone(),
        outputs,
        intercept: options.intercept,
        dropout: options.dropout,
    })
}

/// Reads the description of a network.
///
/// # Errors
/// Always: a network is stored in columns of its own.
pub(super) fn read(json: &str) -> Result<Arc<dyn Description>> {
    internal_err!("a network is not stored as {json}")
}

impl Description for NetworkSpec {
    fn network(&self) -> Option<&NetworkSpec> {
        Some(self)
    }

    fn to_json(&self) -> String {
        String::new()
    }

    fn layout(&self, width: Width) -> Layout {
        self.network(width).layout().clone()
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn fields(&self, targets: &[Target]) -> Vec<Field> {
        scorer::network_fields(self, targets)
    }

    fn predictor(&self, trained: &Trained) -> Result<Box<dyn Predictor>> {
        Ok(Box::new(NetworkPredictor::new(self, trained)?))
    }

    fn check_continued(&self, model: &str, options: &TrainOptions) -> Result<()> {
        if !matches!(options.solver, Solver::Auto | Solver::Sgd) {
            return plan_err!(
                "CONTINUE goes on by mini-batches, which solver = {} does not; leave option solver \
                 out or set solver = sgd",
                options.solver.name()
            );
        }
        if options.optimizer.takes_rows() && self.loss == Loss::Quantile {
            return plan_err!(
                "optimizer = {} cannot learn the quantiles of model {model}; choose another \
                 optimizer",
                options.optimizer.name()
            );
        }
        let changes = [
            ("hidden", options.hidden != self.hidden),
            ("activation", options.activation != self.activation),
            ("loss", options.loss.is_some_and(|loss| loss != self.loss)),
            ("quantiles", options.quantiles != self.quantiles),
            ("intercept", options.intercept != self.intercept),
        ];
        match changes.iter().find(|(name, changed)| *changed && options.is_given(name)) {
            Some((name, _)) => plan_err!(
                "CONTINUE keeps the network of model {model}, which option {name} would change; \
                 leave it out"
            ),
            None => Ok(()),
        }
    }
}

/// The method for these options and shape. It depends on the number of operations, so that it is
/// the same on every machine.
pub(super) fn method(
    options: &TrainOptions,
    description: &dyn Description,
    shape: &Shape,
    continues: bool,
) -> Method {
    let network = match description.network() {
        Some(network) if !continues => network,
        _ => return Method::Descent,
    };
    match options.solver {
        Solver::Normal => return Method::Normal,
        Solver::Newton => return Method::Newton,
        Solver::Lbfgs => return Method::Lbfgs,
        Solver::Irls => return Method::Irls,
        Solver::Sgd => return Method::Descent,
        Solver::Auto => {}
    }
    let (width, outputs, rows) = (shape.width, network.outputs, shape.rows);
    let is_smooth = options.l1.is_none_or(|l1| l1 == 0.0);
    match network.loss {
        Loss::Squared if is_smooth && exact::normal_fits(width, rows) => Method::Normal,
        Loss::Logistic | Loss::Softmax if is_smooth && exact::newton_fits(width, outputs, rows) => {
            Method::Newton
        }
        Loss::Quantile if is_smooth && exact::quantiles_fit(width, outputs, rows) => Method::Irls,
        loss if loss.has_gradient() && exact::lbfgs_fits(width, outputs, rows) => Method::Lbfgs,
        _ => Method::Descent,
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

/// What a linear model or a dense network adds to a [`Setup`].
struct NetworkSetup<'a> {
    setup: &'a Setup<'a>,
    network: Arc<Network>,
}

impl NetworkSetup<'_> {
    fn loss(&self) -> Loss {
        self.network.loss_function()
    }

    /// L2 if the options give none: scikit-learn's `C = 1` for the linear classifiers, which is
    /// `1 / rows` for the mean loss; 0 for others.
    fn l2(&self) -> f64 {
        let default = match self.loss().is_of_classes() && self.setup.options.hidden.is_empty() {
            true => 1.0 / self.setup.rows.max(1) as f64,
            false => 0.0,
        };
        self.setup.options.l2.unwrap_or(default)
    }

    /// Factor from the loss of a standardised target to the target's own units. (Several targets
    /// may have several units: their loss stays that of standardised targets.)
    fn loss_scale(&self) -> f64 {
        match (self.loss(), self.setup.labels) {
            (Loss::Squared | Loss::Huber, Labels::Numbers(scales)) if scales.len() == 1 => {
                scales[0].stddev * scales[0].stddev
            }
            (Loss::Absolute | Loss::Quantile, Labels::Numbers(scales)) if scales.len() == 1 => {
                scales[0].stddev
            }
            _ => 1.0,
        }
    }

    fn shape(&self) -> LinearShape {
        LinearShape {
            width: self.network.width(),
            outputs: self.network.outputs(),
            intercept: self.setup.options.intercept,
            loss: self.loss(),
        }
    }

    fn layout(&self) -> RoundLayout {
        RoundLayout::decide(self.setup.options, self.network.flops_per_row(), self.setup.rows)
    }

    fn descent(&self) -> DescentEstimator {
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
                Arc::clone(&self.network),
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

/// The estimator of a linear model or a dense network.
///
/// # Errors
/// When an option is out of range.
pub(super) fn estimator(setup: &Setup<'_>) -> Result<Box<dyn Estimator>> {
    let own = NetworkSetup { setup, network: Arc::new(setup.network()?) };
    let settings = SolverSettings {
        network: Arc::clone(&own.network),
        rows: setup.rows,
        has_evaluation: setup.has_evaluation,
        loss_scale: own.loss_scale(),
    };
    let (options, shape, l2) = (setup.options, own.shape(), own.l2());
    let (interrupt, tolerance) = (Arc::clone(&setup.interrupt), options.tolerance);
    Ok(match setup.plan.method {
        Method::Descent => Box::new(own.descent()),
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
        Method::Irls => {
            let quantiles = setup.description.network().map(|spec| spec.quantiles.clone());
            // An objective that is flat at its minimum falls by far less than the weights move.
            let own = IrlsOptions { l2, tolerance: 0.01 * tolerance, ..IrlsOptions::default() };
            let solver = IrlsSolver::new(shape, quantiles.unwrap_or_default(), own, interrupt)?;
            Box::new(SolverEstimator::new(settings, solver))
        }
        method => return internal_err!("a network is not trained by {}", method.name()),
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
