//! Principal components: the directions of the largest variance of the encoded inputs.
//!
//! ```text
//!   rows ──► CovarianceSum ──► eigenvectors ──────────────────┐
//!   rows ──► SpreadSum ──► SubspaceSum x 8 ──► eigenvectors ──┴──► Spectrum ──► parameters
//!   stream ──► OnlinePca (a CovarianceSum that grows) ─────────────────┘
//! ```
//! Inputs are encoded numbers and one-hot categories, centred by their weighted mean. Variances are
//! those of a sample, as scikit-learn's `PCA` has them: sums of squares divided by the rows (with
//! their weights on average 1) less one.

use std::sync::Arc;

use datafusion_common::{Result, internal_err, plan_err};

use super::{Algorithm, AlgorithmSpec, Method, OptionGroup, Outline, Setup, Shape, TargetRule};
use crate::batch::Width;
use crate::description::Description;
use crate::estimator::Estimator;
use crate::options::{Components, Svd, TrainOptions};

mod covariance;
mod description;
mod estimator;
mod measure;
mod online;
mod predictor;
mod randomized;
mod spectrum;
mod tables;
#[cfg(test)]
mod tests;

pub use description::PcaDescription;

use covariance::CovarianceFinder;
use estimator::{Finder, PcaEstimator, PcaSettings};
use randomized::RandomizedFinder;

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "pca",
    about: "the directions of the largest variance of the features",
    target: TargetRule::None,
    options: &[OptionGroup::Components],
    losses: &[],
    solvers: &[],
    hidden: &[],
    epochs: 1,
    batch_size: 1024,
    metrics: &measure::METRICS,
    tables: &[tables::COMPONENTS, tables::INFO],
    describe,
    read: PcaDescription::read,
    method,
    make,
    online: Some(online::make),
    grows: false,
};

impl Algorithm {
    /// Principal component analysis.
    pub const PCA: Algorithm = Algorithm(&SPEC);
}

/// Inputs up to which the covariance matrix is always the right way: its eigenvectors take some
/// seconds on one core, and a pass that sums it takes about as long as eight of 60 vectors.
const FEW_INPUTS: usize = 2000;
/// Inputs up to which the covariance matrix is the right way for many components: 0.8 GB.
const MANY_INPUTS: usize = 10_000;
/// Operations of the passes of random projections for each number of a row and vector: eight passes
/// of two products.
const PASSES: usize = 32;

fn describe(outline: &Outline<'_>) -> Result<Arc<dyn Description>> {
    let components = match outline.options.components {
        Components::Count(count) => Some(count),
        Components::Auto | Components::Share(_) => None,
    };
    Ok(Arc::new(PcaDescription { components, whiten: outline.options.whiten }))
}

/// The method for these options and width. It depends on the number of operations, so that it is
/// the same on every machine.
fn method(options: &TrainOptions, _: &dyn Description, shape: &Shape, _continues: bool) -> Method {
    let inputs = shape.width.inputs();
    let vectors = match options.components {
        Components::Auto => Components::DEFAULT,
        Components::Count(count) => count,
        // All eigenvalues are needed.
        Components::Share(_) => return Method::Covariance,
    };
    let is_cheap = inputs <= MANY_INPUTS && inputs <= PASSES.saturating_mul(vectors);
    match options.svd {
        Svd::Covariance => Method::Covariance,
        Svd::Randomized => Method::Randomized,
        Svd::Auto if inputs <= FEW_INPUTS || is_cheap => Method::Covariance,
        Svd::Auto => Method::Randomized,
    }
}

fn make(setup: &Setup<'_>) -> Result<Box<dyn Estimator>> {
    let (options, width) = (setup.options, setup.width());
    check_inputs(options.components, width)?;
    let (components, interrupt) = (options.components, Arc::clone(&setup.interrupt));
    let finder: Box<dyn Finder> = match setup.plan.method {
        Method::Covariance => Box::new(CovarianceFinder::new(width, components, interrupt)),
        Method::Randomized => {
            Box::new(RandomizedFinder::new(width, components, options.seed, interrupt)?)
        }
        method => return internal_err!("principal components are not found by {}", method.name()),
    };
    let settings = PcaSettings {
        width,
        whiten: options.whiten,
        rows: setup.rows,
        has_evaluation: setup.has_evaluation,
        interrupt: Arc::clone(&setup.interrupt),
    };
    Ok(Box::new(PcaEstimator::new(settings, finder)))
}

/// Refuses more components than inputs.
fn check_inputs(components: Components, width: Width) -> Result<()> {
    match (components, width.inputs()) {
        (_, 0) => plan_err!("pca needs at least one input, but there is none"),
        (Components::Count(count), inputs) if count > inputs => {
            let inputs = match inputs {
                1 => "is only 1 input".to_owned(),
                n => format!("are only {n} inputs"),
            };
            plan_err!("components is {count}, but there {inputs}")
        }
        _ => Ok(()),
    }
}
