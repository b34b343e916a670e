//! Progress of a training: the engine prints nothing, it tells.

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
        /// Epochs at most; 0 of solvers, which make none.
        epochs: u64,
        /// What runs, in words: `adam, batch 128, 1 replica` or `newton`.
        method: String,
    },
    /// Some rows of an epoch are learned.
    Progress {
        /// Epoch, from 1.
        epoch: u64,
        /// Epochs at most.
        epochs: u64,
        /// Rows learned in this epoch.
        rows_done: u64,
        /// Rows of an epoch.
        rows: u64,
        /// Mean loss of this epoch so far.
        loss: f64,
    },
    /// Rows are learned from as they come: told a few times a second, also while none come.
    Streaming {
        /// Rows learned so far, those of earlier runs of the statement among them.
        rows: u64,
        /// Rows a second of the last seconds.
        rows_per_second: f64,
        /// Mean loss of all rows so far, each scored before it was learned from.
        loss: Option<f64>,
        /// Mean loss of the last rows.
        recent_loss: Option<f64>,
        /// Share of the last rows whose class was predicted; None of a regression.
        recent_accuracy: Option<f64>,
        /// Mean absolute error of the last rows; None of a classifier.
        recent_error: Option<f64>,
        /// What waits in the source, where it can tell.
        waiting: Option<Lag>,
    },
    /// A solver made a step, which no one knows how many it will take of.
    Step {
        /// Step, from 1.
        step: u64,
        /// Mean loss of the rows behind it.
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
    /// A training goes on from a checkpoint.
    Resumed {
        /// What it held.
        from: Position,
    },
    /// Rows of a stream are copied into files, until somebody asks for the end.
    Copying,
    /// Something the user should know, in one sentence.
    Warning(String),
    /// Something good to know that is no reason to worry (the warehouse is made), in one sentence.
    Note(String),
    /// A version is published.
    Published {
        /// Name of the model.
        model: String,
        /// Its new version.
        version: u64,
    },
}

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Whole epochs.
    Epoch(u64),
    /// Rows, of a training that takes every row once as it comes.
    Row(u64),
}

/// Where events go; called from any thread, so it must be quick.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;
