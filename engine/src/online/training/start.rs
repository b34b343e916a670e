//! How an online training begins: the learner before its first row.

use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use gradlake_udfs::{
    Descent, LabelScale, Labels, Learner as _, Loss, Model, Network, OptionGroup, Outline,
    RoundLayout, RunningEncoder, Trained, Width, start_state,
};

use super::super::intake::Intake;
use super::super::learner::{
    Features, MakeDescent, NetworkLearner, OnlineLearner, UnsupervisedLearner,
};
use crate::options::TrainOptions;
use crate::request::TrainRequest;
use crate::session::Engine;
use crate::training::TrainingColumns;

/// The one member of a model that is continued.
pub(super) fn parent_of(parent: &Model) -> Result<&Trained> {
    match parent.members.first().map(|member| &member.outcome) {
        Some(Ok(trained)) => Ok(trained),
        Some(Err(reason)) => plan_err!("model {} cannot be continued: {reason}", parent.name),
        None => plan_err!("model {} has nothing to continue", parent.name),
    }
}

/// A learner before its first row.
pub(super) fn learner(
    engine: &Engine,
    request: &TrainRequest,
    options: &TrainOptions,
    columns: &TrainingColumns,
    intake: &Intake,
    parent: Option<&Trained>,
) -> Result<Box<dyn OnlineLearner>> {
    if let Some(make) = request.algorithm.spec().online {
        let features = features(options, intake, parent)?;
        let width = Width { targets: 0, ..features.width(0) };
        let resources = engine.resources(&engine.training_state())?;
        let estimator = make(options, width, parent)?;
        return Ok(Box::new(UnsupervisedLearner::new(features, estimator, resources)?));
    }
    let is_classifier = request.algorithm.is_classifier();
    // It begins with the first two classes.
    let classes = is_classifier.then_some(2);
    let outline = Outline {
        options,
        target: &columns.target_names(),
        classes,
        targets: 1,
        parent,
        layers: &request.layers,
        encoder: None,
    };
    let Some(spec) = outline.describe()?.network().cloned() else {
        return plan_err!("{} does not learn from rows as they come", request.algorithm);
    };
    if spec.loss == Loss::Quantile {
        return plan_err!(
            "loss = 'quantile', which the model to continue has, is not possible with rows that are \
             learned from as they come"
        );
    }
    let make_descent = descents(engine, options, parent.map_or(0, |parent| parent.steps))?;
    // An optimizer that takes rows one by one uses the raw target, as it uses the raw features.
    let standardizes = parent.is_none()
        && options.standardize
        && matches!(spec.loss, Loss::Squared | Loss::Absolute | Loss::Huber)
        && !options.optimizer.takes_rows();
    let features = features(options, intake, parent)?;
    let labels = match (parent, is_classifier) {
        (Some(parent), _) => parent.labels.clone(),
        (None, true) => Labels::Classes(vec![]),
        (None, false) => Labels::Numbers(vec![LabelScale::NONE]),
    };
    let start = parent.map(|parent| {
        let network = Arc::new(spec.network(parent.encoder.width()));
        let descent = make_descent(network);
        start_state(&descent, Some(parent))
    });
    Ok(Box::new(NetworkLearner::new(
        features,
        (labels, standardizes),
        spec,
        options.batch_size,
        make_descent,
        start,
    )))
}

/// How the features become numbers: with the statistics of the rows so far, or with the encoder of
/// the model to continue.
fn features(options: &TrainOptions, intake: &Intake, parent: Option<&Trained>) -> Result<Features> {
    Ok(match parent {
        Some(parent) => Features::Fixed(Box::new(parent.encoder.clone())),
        None => {
            let running = RunningEncoder::new(&intake.inputs(), options.standardize)?;
            Features::Running(Box::new(running))
        }
    })
}

/// Returns a function that makes the [`Descent`] of a network of any size.
fn descents(engine: &Engine, options: &TrainOptions, first_step: u64) -> Result<MakeDescent> {
    let (options, runner) = (options.clone(), engine.thread_pool()?);
    Ok(Box::new(move |network: Arc<Network>| {
        let slices = RoundLayout::decide(&options, network.flops_per_row(), 0).slices;
        // The default L2 depends on the number of rows, which is not known, so it is 0. The loop
        // checks for interrupts between batches, so every step completes.
        let l2 = options.l2.unwrap_or(0.0);
        let descent = Descent::of_options(&options, network, l2, slices, Arc::clone(&runner));
        Descent { first_step, ..descent }
    }))
}

/// Refuses what does not go with rows that are learned from as they come.
pub fn check_online(request: &TrainRequest, options: &TrainOptions, is_stream: bool) -> Result<()> {
    if !request.partition_by.is_empty() {
        return plan_err!(
            "PARTITION BY is not possible with rows that are learned from as they come; leave it \
             out, or train on a table with statistics = fixed"
        );
    }
    if request.algorithm.takes(OptionGroup::Networks) {
        return plan_err!(
            "{} does not learn from rows as they come; train it on a table with statistics = fixed",
            request.algorithm
        );
    }
    if options.loss == Some(Loss::Quantile) {
        return plan_err!(
            "loss = 'quantile' is not possible with rows that are learned from as they come; choose \
             another loss, or train on a table with statistics = fixed"
        );
    }
    if request.targets.len() > 1 {
        return plan_err!(
            "several targets are not possible with rows that are learned from as they come; name one \
             of {}, or train on a table with statistics = fixed",
            request.targets.join(", ")
        );
    }
    if is_stream { Ok(()) } else { options.check_table() }
}
