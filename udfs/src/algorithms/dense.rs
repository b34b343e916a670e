//! Linear models and dense networks: what their algorithms share, from options to the estimator.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion_common::{Result, internal_err, plan_err};

use super::descent::DescentSetup;
use super::loss::loss_of;
use super::{Method, Outline, Setup, Shape};
use crate::batch::Width;
use crate::description::{Description, Head, Predictor};
use crate::estimator::{
    Estimator, IrlsSolver, LbfgsSolver, NewtonSolver, NormalSolver, SolverEstimator, SolverSettings,
};
use crate::exact::{self, IrlsOptions, LbfgsOptions, LinearShape, NewtonOptions};
use crate::learner::{Layout, Learner, Loss, Network};
use crate::model::{NetworkSpec, Target, Trained};
use crate::options::{Choice, Solver, TrainOptions};
use crate::scorer::{self, NetworkPredictor};

/// The network for these options and number of classes, or that of the model to continue;
/// `default_loss` is the loss of `loss = auto`.
///
/// # Errors
/// When the loss does not fit the number of classes.
pub(super) fn describe(outline: &Outline<'_>, default_loss: Loss) -> Result<Arc<dyn Description>> {
    network_spec(outline, default_loss).map(|spec| Arc::new(spec) as _)
}

fn network_spec(outline: &Outline<'_>, default_loss: Loss) -> Result<NetworkSpec> {
    let Outline { options, parent, .. } = *outline;
    if let Some(parent) = parent {
        let Some(mut spec) = parent.description.network().cloned() else {
            return internal_err!("the model to continue is no network");
        };
        if options.is_given("dropout") {
            spec.dropout = options.dropout;
        }
        return Ok(spec);
    }
    let (loss, outputs) = loss_of(outline, default_loss)?;
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

    fn head(&self) -> Option<Head<'_>> {
        Some(NetworkSpec::head(self))
    }

    fn learner(&self, width: Width) -> Result<Option<Arc<dyn Learner>>> {
        Ok(Some(Arc::new(self.network(width))))
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
        scorer::head_fields(NetworkSpec::head(self), targets)
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

/// The shape of a linear model.
fn shape(own: &DescentSetup<'_>) -> LinearShape {
    LinearShape {
        width: own.learner.width(),
        outputs: own.learner.outputs(),
        intercept: own.setup.options.intercept,
        loss: own.loss,
    }
}

/// The estimator of a linear model or a dense network.
///
/// # Errors
/// When an option is out of range.
pub(super) fn estimator(setup: &Setup<'_>) -> Result<Box<dyn Estimator>> {
    let Some(spec) = setup.description.network() else {
        return internal_err!("{} trains no network", setup.options.algorithm);
    };
    let network = Arc::new(spec.network(setup.width()));
    // scikit-learn's `C = 1` for the linear classifiers, which is `1 / rows` for the mean loss.
    let default_l2 = match spec.loss.is_of_classes() && spec.hidden.is_empty() {
        true => 1.0 / setup.rows.max(1) as f64,
        false => 0.0,
    };
    let learner = Arc::<Network>::clone(&network);
    let own = DescentSetup { setup, learner, loss: spec.loss, default_l2 };
    let settings = SolverSettings {
        network,
        rows: setup.rows,
        has_evaluation: setup.has_evaluation,
        loss_scale: own.loss_scale(),
    };
    let (options, shape, l2) = (setup.options, shape(&own), own.l2());
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
            let quantiles = spec.quantiles.clone();
            // An objective that is flat at its minimum falls by far less than the weights move.
            let own = IrlsOptions { l2, tolerance: 0.01 * tolerance, ..IrlsOptions::default() };
            let solver = IrlsSolver::new(shape, quantiles, own, interrupt)?;
            Box::new(SolverEstimator::new(settings, solver))
        }
        method => return internal_err!("a network is not trained by {}", method.name()),
    })
}
