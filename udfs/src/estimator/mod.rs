//! An algorithm at work: a state machine between rounds.
//!
//! ```text
//!   next() ──► Request (round, rows) ──► the driver runs it ──► take(result) ──► next() ... Done
//!                                                                    └──► finish(): what was fitted
//! ```
//! Estimators are pure: they do no I/O, start no threads and read no clock. The driver of the engine
//! runs their rounds, saves them when a checkpoint is due, and says when the time is up; so every
//! algorithm has checkpoints, `max_seconds`, Ctrl-C and progress.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use datafusion_common::Result;

use crate::model::HistoryEntry;
use crate::round::{Progress, Round};

mod descent;
mod lbfgs;
mod newton;
mod normal;
mod record;
mod solver;

pub use descent::{DescentEstimator, DescentSettings};
pub use lbfgs::LbfgsSolver;
pub use newton::NewtonSolver;
pub use normal::NormalSolver;
pub use solver::{SolverEstimator, SolverSettings};

/// An algorithm at work.
pub trait Estimator: Debug + Send + Sync {
    /// What to run next. Asked twice without [`Estimator::take`] between, it gives the same.
    fn next(&mut self) -> Result<Next>;

    /// Takes the result of the round that [`Estimator::next`] gave, `elapsed` after the one before
    /// was taken, and gives a line of the history where it is the end of an iteration.
    fn take(&mut self, result: Vec<u8>, elapsed: Duration) -> Result<Option<HistoryEntry>>;

    /// Asks for an end as soon as there is anything to show for the time that was spent. Called
    /// before [`Estimator::take`], so that the round in hand counts.
    fn stop(&mut self);

    /// What it counts.
    fn iterations(&self) -> Iterations;

    /// Iterations that are complete.
    fn completed(&self) -> u64;

    /// Loss of the last complete iteration.
    fn last_loss(&self) -> Option<f64>;

    /// Counts rows of the iteration in hand.
    fn progress(&self) -> &Arc<Progress>;

    /// Whether [`Estimator::take`] takes less time than finding a thread for it.
    fn is_quick(&self) -> bool;

    /// Bytes that it holds between rounds, for the memory pool.
    fn bytes(&self) -> usize;

    /// All that [`Estimator::restore`] needs to go on as if nothing had happened, bit for bit.
    fn save(&self) -> Result<Vec<u8>>;

    /// Goes on from what another estimator of the same training saved.
    ///
    /// # Errors
    /// When the bytes are damaged or of another training.
    fn restore(&mut self, bytes: &[u8]) -> Result<()>;

    /// What was fitted, after [`Next::Done`].
    fn finish(self: Box<Self>) -> Result<Fitted>;
}

/// What an estimator counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iterations {
    /// Passes over the rows, so many at most.
    Epochs(u64),
    /// Steps of a solver; nobody knows how many it will take.
    Steps,
}

/// What an estimator wants.
#[derive(Debug)]
pub enum Next {
    /// A round.
    Run(Request),
    /// Nothing any more.
    Done,
}

/// A round and its rows.
#[derive(Clone, Debug)]
pub struct Request {
    /// What runs.
    pub round: Arc<dyn Round>,
    /// Over which rows.
    pub rows: RoundRows,
    /// What it is called among the rounds of the training: `3/4096`, `newton/2`.
    pub name: String,
}

/// The rows of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundRows {
    /// All training rows, as they lie.
    Training,
    /// Every `step`th chunk of them.
    Sample {
        /// One of so many.
        step: usize,
    },
    /// Some rows of an epoch, in its order.
    Epoch {
        /// Number of the epoch, from 0.
        epoch: u64,
        /// The first of the rows.
        start: u64,
        /// Behind the last of them.
        end: u64,
        /// Replicas that share them.
        replicas: usize,
    },
    /// All evaluation rows.
    Evaluation,
}

/// What was fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Flat parameters.
    pub parameters: Vec<f32>,
    /// The optimizer's moments; none of a solver.
    pub moments: Vec<f32>,
    /// Steps made.
    pub steps: u64,
    /// One entry for each iteration.
    pub history: Vec<HistoryEntry>,
    /// Mean loss of the training rows, in the target's units.
    pub loss: f64,
    /// Mean loss of the evaluation rows.
    pub eval_loss: Option<f64>,
    /// What the user should know about the end, if anything.
    pub warning: Option<String>,
}
