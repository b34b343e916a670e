//! Progress of a training: the engine prints nothing, but sends events.

use std::sync::Arc;

use crate::source::Lag;

/// Something that happened while a statement ran.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Rows were read from the query so far (before training begins).
    Reading {
        /// Rows so far.
        rows: u64,
    },
    /// Training began.
    Started {
        /// Name of the model.
        model: String,
        /// The member of a partitioned model, `carrier = UA`; empty otherwise.
        member: String,
        /// Training rows.
        rows: u64,
        /// Evaluation rows.
        eval_rows: u64,
        /// Epochs at most; 0 for solvers, which have no epochs.
        epochs: u64,
        /// What runs, in words: `adam, batch 128, 1 replica` or `newton`.
        method: String,
    },
    /// Some rows of an epoch are trained on.
    Progress {
        /// Epoch, from 1.
        epoch: u64,
        /// Epochs at most.
        epochs: u64,
        /// Rows of this epoch that are done.
        rows_done: u64,
        /// Rows of an epoch.
        rows: u64,
        /// Mean loss of this epoch so far.
        loss: f64,
    },
    /// Rows are trained on as they arrive: sent a few times a second, also while no rows arrive.
    Streaming {
        /// Rows trained on so far, including those of earlier runs of the statement.
        rows: u64,
        /// Rows per second over the last seconds.
        rows_per_second: f64,
        /// Mean loss of all rows so far, each scored before it was learned from.
        loss: Option<f64>,
        /// Mean loss of the last rows.
        recent_loss: Option<f64>,
        /// Share of the last rows whose class was predicted correctly; None for a regression.
        recent_accuracy: Option<f64>,
        /// Mean absolute error of the last rows; None for a classifier.
        recent_error: Option<f64>,
        /// How much waits in the source, if the source can report it.
        waiting: Option<Lag>,
    },
    /// A solver made a step; the number of its steps is not known in advance.
    Step {
        /// Step, from 1.
        step: u64,
        /// Mean loss of the rows that it is based on.
        loss: f64,
        /// Rows a second.
        rows_per_second: f64,
    },
    /// An epoch ended.
    Epoch {
        /// Epoch, from 1.
        epoch: u64,
        /// Epochs at most.
        epochs: u64,
        /// Mean loss of the rows as they were learned from.
        loss: f64,
        /// Mean loss of the evaluation rows.
        eval_loss: Option<f64>,
        /// Learning rate of its last step.
        learning_rate: f64,
        /// Rows a second, evaluation included.
        rows_per_second: f64,
    },
    /// A checkpoint is durable.
    Checkpoint {
        /// What it holds.
        until: Position,
    },
    /// A training resumes from a checkpoint.
    Resumed {
        /// What it held.
        from: Position,
    },
    /// Rows of a stream are copied into files, until the end is requested.
    Copying,
    /// Something the user should know, in one sentence.
    Warning(String),
    /// Information that is no cause for concern (the warehouse is created), in one sentence.
    Note(String),
    /// A version is published.
    Published {
        /// Name of the model.
        model: String,
        /// Its new version.
        version: u64,
    },
}

/// The progress of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Whole epochs.
    Epoch(u64),
    /// Steps of a solver.
    Step(u64),
    /// Groups of a partitioned model that have made any progress.
    Groups(u64),
    /// Rows, for a training that takes every row once, in order.
    Row(u64),
}

/// Where events go; called from any thread, so it must be quick.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;
