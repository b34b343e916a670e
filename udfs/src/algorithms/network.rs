//! Networks of any layers: what their algorithms share, from clauses to the estimator.

use std::sync::Arc;

use datafusion_common::{Result, internal_err, plan_err};

use super::descent::DescentSetup;
use super::loss::loss_of;
use super::{Method, Outline, Setup, Shape};
use crate::description::Description;
use crate::estimator::Estimator;
use crate::learner::Loss;
use crate::network::{NetworkDescription, Output, assemble};
use crate::options::TrainOptions;

/// The network of these clauses, or that of the model to continue.
///
/// # Errors
/// When a layer does not fit what it reads, or the loss does not fit the classes.
pub(super) fn describe(outline: &Outline<'_>, default_loss: Loss) -> Result<Arc<dyn Description>> {
    let Outline { options, parent, layers, .. } = *outline;
    if let Some(parent) = parent {
        return match parent.description.layers() {
            Some(network) if layers.is_empty() || network.clauses == layers => {
                let mut network = network.clone();
                if options.is_given("label_smoothing") {
                    network.label_smoothing = options.label_smoothing;
                }
                Ok(Arc::new(network))
            }
            Some(_) => plan_err!(
                "CONTINUE keeps the layers of the model, which LAYERS would change; leave the clause \
                 out"
            ),
            None => internal_err!("the model to continue has no layers"),
        };
    }
    let Some(encoder) = outline.encoder else {
        return plan_err!("the inputs of the network are not known yet");
    };
    let (loss, outputs) = loss_of(outline, default_loss)?;
    if options.label_smoothing > 0.0 && loss != Loss::Softmax {
        return plan_err!(
            "label_smoothing is of loss = 'softmax', but the loss is '{}'; leave the option out",
            loss.name()
        );
    }
    let output = Output { outputs, intercept: options.intercept };
    Ok(Arc::new(NetworkDescription {
        architecture: assemble(encoder, layers, output)?,
        clauses: layers.to_vec(),
        loss,
        quantiles: options.quantiles.clone(),
        label_smoothing: options.label_smoothing,
        outputs,
    }))
}

/// Mini-batch descent.
pub(super) fn method(_: &TrainOptions, _: &dyn Description, _: &Shape, _: bool) -> Method {
    Method::Descent
}

/// The estimator of a network of any layers.
///
/// # Errors
/// When a layer does not fit what it reads.
pub(super) fn estimator(setup: &Setup<'_>) -> Result<Box<dyn Estimator>> {
    let Some(network) = setup.description.layers() else {
        return internal_err!("what is learned has no layers");
    };
    let learner = Arc::new(network.network(setup.width())?);
    let own = DescentSetup { setup, learner, loss: network.loss, default_l2: 0.0 };
    Ok(Box::new(own.descent()))
}
