//! A running algorithm: a state machine between rounds.
//!
//! ```text
//!   next() ──► Request (round, rows) ──► the driver runs it ──► take(result) ──► next() ... Done
//!                                                                    └──► finish(): Fitted
//! ```
//! Estimators are pure: they do no I/O, start no threads and read no clock. The driver of the
//! engine runs their rounds, saves them when a checkpoint is due, and stops them when the time is
//! up. So every algorithm has checkpoints, `max_seconds`, Ctrl-C and progress.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use datafusion_common::Result;

use crate::description::Description;
use crate::model::HistoryEntry;
use crate::round::{Progress, Round};

mod descent;
mod irls;
mod lbfgs;
mod newton;
mod normal;
mod online;
pub(crate) mod record;
mod solver;

pub use descent::{DescentEstimator, DescentSettings};
pub use irls::IrlsSolver;
pub use lbfgs::LbfgsSolver;
pub use newton::NewtonSolver;
pub use normal::NormalSolver;
pub use online::{OnlineEstimator, OnlineFit};
pub use solver::{SolverEstimator, SolverSettings};

/// A running algorithm.
pub trait Estimator: Debug + Send + Sync {
    /// The next round to run. Called twice without [`Estimator::take`] between, it returns the
    /// same.
    fn next(&mut self) -> Result<Next>;

    /// Takes the result of the round that [`Estimator::next`] returned; `elapsed` is the time since
    /// the previous result. Returns a line of the history at the end of an iteration.
    fn take(&mut self, result: Vec<u8>, elapsed: Duration) -> Result<Option<HistoryEntry>>;

    /// Asks the estimator to end as soon as it has any result. Called before [`Estimator::take`],
    /// so that the current round counts.
    fn stop(&mut self);

    /// The lines of the history so far.
    fn history(&self) -> &[HistoryEntry];

    /// The unit in which it counts iterations.
    fn iterations(&self) -> Iterations {
        Iterations::Steps
    }

    /// Iterations that are complete.
    fn completed(&self) -> u64 {
        self.history().len() as u64
    }

    /// Loss of the last complete iteration.
    fn last_loss(&self) -> Option<f64> {
        self.history().last().map(|entry| entry.loss)
    }

    /// Counts rows of the current iteration.
    fn progress(&self) -> &Arc<Progress>;

    /// Whether [`Estimator::take`] takes less time than handing it to another thread.
    fn is_quick(&self) -> bool;

    /// Bytes that it allocates between rounds, for the memory pool.
    fn bytes(&self) -> usize;

    /// The bytes with which [`Estimator::restore`] continues as if nothing had happened, bit for
    /// bit.
    fn save(&self) -> Result<Vec<u8>>;

    /// Continues from the bytes that another estimator of the same training saved.
    ///
    /// # Errors
    /// When the bytes are damaged or of another training.
    fn restore(&mut self, bytes: &[u8]) -> Result<()>;

    /// The fitted parameters, after [`Next::Done`].
    fn finish(self: Box<Self>) -> Result<Fitted>;
}

/// The unit of an estimator's iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iterations {
    /// Passes over the rows, at most so many.
    Epochs(u64),
    /// Steps of a solver, whose number is not known in advance.
    Steps,
}

/// The next request of an estimator.
#[derive(Debug)]
pub enum Next {
    /// A round.
    Run(Request),
    /// No more rounds: the estimator has finished.
    Done,
}

/// A round and its rows.
#[derive(Clone, Debug)]
pub struct Request {
    /// The round to run.
    pub round: Arc<dyn Round>,
    /// The rows to run it over.
    pub rows: RoundRows,
    /// Its name among the rounds of the training: `3/4096`, `newton/2`.
    pub name: String,
}

/// The rows of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundRows {
    /// All training rows, in the order in which they are stored.
    Training,
    /// Every `step`th chunk of them.
    Sample {
        /// The interval between the chunks.
        step: usize,
    },
    /// Some rows of an epoch, in its order.
    Epoch {
        /// Number of the epoch, from 0.
        epoch: u64,
        /// The first of the rows.
        start: u64,
        /// The row after the last of them.
        end: u64,
        /// Replicas that share them.
        replicas: usize,
    },
    /// All evaluation rows.
    Evaluation,
}

/// The result of an estimator.
#[derive(Clone, Debug)]
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
    /// A warning about the end, if there is one.
    pub warning: Option<String>,
    /// What was learned, where that is known only now.
    pub description: Option<Arc<dyn Description>>,
}
