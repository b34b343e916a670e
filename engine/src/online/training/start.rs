//! How an online training begins: the learner before its first row.

use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use gradlake_udfs::encoder::RunningEncoder;
use gradlake_udfs::learner::{Learner as _, Loss, Network};
use gradlake_udfs::model::{Labels, Model, NetworkSpec, Trained};
use gradlake_udfs::round::{Descent, Interrupt, Progress};

use super::super::intake::Intake;
use super::super::learner::{Features, Learner, MakeDescent};
use crate::options::TrainOptions;
use crate::request::TrainRequest;
use crate::session::Engine;
use crate::training::{default_loss, layout};

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
    intake: &Intake,
    parent: Option<&Trained>,
) -> Result<Learner> {
    let is_classifier = request.algorithm.is_classifier();
    let loss = options.loss.unwrap_or_else(|| default_loss(request.algorithm, 2));
    let spec = match parent {
        Some(parent) => NetworkSpec {
            dropout: if options.is_given("dropout") {
                options.dropout
            } else {
                parent.network.dropout
            },
            ..parent.network.clone()
        },
        None => NetworkSpec {
            hidden: options.hidden.clone(),
            activation: options.activation,
            loss,
            outputs: if loss == Loss::Softmax { 2 } else { 1 },
            intercept: options.intercept,
            dropout: options.dropout,
        },
    };
    let make_descent = descents(engine, options, parent.map_or(0, |parent| parent.steps))?;
    // What steps by rows takes the target as it comes, as it does the features.
    let standardizes = parent.is_none()
        && options.standardize
        && matches!(loss, Loss::Squared | Loss::Absolute | Loss::Huber)
        && !options.optimizer.takes_rows();
    let (features, labels) = match parent {
        Some(parent) => (Features::Fixed(Box::new(parent.encoder.clone())), parent.labels.clone()),
        None => {
            let running = RunningEncoder::new(&intake.inputs(), options.standardize)?;
            let labels = match is_classifier {
                true => Labels::Classes(vec![]),
                false => Labels::Numbers { mean: 0.0, stddev: 1.0 },
            };
            (Features::Running(Box::new(running)), labels)
        }
    };
    let start = parent.map(|parent| {
        let network = Arc::new(spec.network(parent.encoder.width()));
        let descent = make_descent(network);
        let mut state = descent.state_from(parent.parameters.clone());
        if parent.optimizer == Some(descent.optimizer) {
            state.moments.clone_from(&parent.moments);
        }
        state.steps = parent.steps;
        state
    });
    Ok(Learner::new(
        features,
        (labels, standardizes),
        spec,
        options.batch_size,
        make_descent,
        start,
    ))
}

/// What makes the descent of a network of any size.
fn descents(engine: &Engine, options: &TrainOptions, first_step: u64) -> Result<MakeDescent> {
    let (options, runner) = (options.clone(), engine.shards()?);
    let schedule = options.schedule.resolve(1, 1);
    Ok(Box::new(move |network: Arc<Network>| Descent {
        optimizer: options.optimizer,
        schedule,
        first_step,
        learning_rate: options.learning_rate as f32,
        intercept_learning_rate: options.intercept_learning_rate.unwrap_or(options.learning_rate)
            as f32,
        l1: options.l1.unwrap_or(0.0) as f32,
        l2: options.l2.unwrap_or(0.0) as f32,
        seed: options.seed,
        batch_size: options.batch_size,
        shards: layout(&options, network.flops_per_row(), 0).shards,
        runner: Arc::clone(&runner),
        first_categories: Arc::from([]),
        progress: Arc::new(Progress::default()),
        // The loop looks for interruptions between batches, so that every step is whole.
        interrupt: Arc::new(Interrupt::default()),
        learner: network,
    }))
}
