//! The loss of a network: the options' or the algorithm's own, and the raw outputs that it needs.

use datafusion_common::{Result, plan_err};

use super::Outline;
use crate::learner::Loss;

/// The loss of classes with probabilities; without a number of classes, that of several booleans.
pub(super) fn probabilistic(classes: Option<usize>) -> Loss {
    if matches!(classes, Some(2) | None) { Loss::Logistic } else { Loss::Softmax }
}

/// The loss and the number of raw outputs.
///
/// # Errors
/// When the loss does not fit the target.
pub(super) fn loss_of(outline: &Outline<'_>, default_loss: Loss) -> Result<(Loss, usize)> {
    let Outline { options, target, classes, targets, .. } = *outline;
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
    if options.algorithm.is_classifier() && classes.is_none() && loss != Loss::Logistic {
        return plan_err!(
            "loss = '{}' has one target, but TARGET names {target}; several booleans have loss = \
             'logistic'",
            loss.name()
        );
    }
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
    Ok((loss, outputs))
}
