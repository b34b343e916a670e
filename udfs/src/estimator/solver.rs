//! Solvers as estimators: passes over all rows with a step between them, then the evaluation rows.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use datafusion_common::{Result, exec_err};
use serde::{Deserialize, Serialize};

use super::record::{HistoryBits, milliseconds, pack, unpack};
use super::{Estimator, Fitted, Next, Request, RoundRows};
use crate::exact::{Outcome, Report};
use crate::learner::{Learner, Network};
use crate::model::HistoryEntry;
use crate::round::{LossRound, Progress};

/// A solver between two passes over the rows.
pub trait Solver: Debug + Send + Sync {
    /// The request of the next pass; None once the parameters are final.
    fn pass(&mut self) -> Result<Option<Request>>;

    /// Takes the sums of the pass. Returns the loss, in the units of the encoded target, if the
    /// pass ends a step.
    fn take(&mut self, sums: Vec<u8>) -> Result<Option<f64>>;

    /// The best parameters so far, in the layout of the network.
    fn parameters(&self) -> Vec<f32>;

    /// Mean loss at them, in the units of the encoded target.
    fn loss(&self) -> f64;

    /// Steps made.
    fn steps(&self) -> u64;

    /// Its name and what happened so far; None for a solver that makes one pass.
    fn report(&self) -> Option<(&'static str, Report)>;

    /// Bytes that it allocates between passes.
    fn bytes(&self) -> usize;

    /// Its state.
    fn save(&self) -> Vec<u8>;

    /// Continues from a saved state.
    fn restore(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Settings that all solvers share.
#[derive(Clone, Debug)]
pub struct SolverSettings {
    /// The linear model.
    pub network: Arc<Network>,
    /// Training rows.
    pub rows: u64,
    /// Whether there are evaluation rows.
    pub has_evaluation: bool,
    /// Factor from the loss of encoded rows to that in the target's own units.
    pub loss_scale: f64,
}

/// A solver as an estimator.
#[derive(Debug)]
pub struct SolverEstimator<S> {
    settings: SolverSettings,
    solver: S,
    progress: Arc<Progress>,
    history: Vec<HistoryEntry>,
    /// Time since the last step.
    elapsed: Duration,
    phase: Phase,
    eval_loss: Option<f64>,
    /// Whether it ends with the best parameters so far as soon as a step has been made.
    is_stopped: bool,
}

/// The phase of a solver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Solving,
    Evaluating,
    Done,
}

#[derive(Serialize, Deserialize)]
struct Header {
    phase: Phase,
    history: Vec<HistoryBits>,
    elapsed_ms: u64,
    eval_loss: Option<super::record::Bits>,
}

/// Inputs up to which solving a system of equations takes less time than handing it to a thread.
const QUICK_INPUTS: usize = 32;

impl<S: Solver> SolverEstimator<S> {
    /// An estimator before the first pass.
    pub fn new(settings: SolverSettings, solver: S) -> Self {
        Self {
            settings,
            solver,
            progress: Arc::default(),
            history: vec![],
            elapsed: Duration::ZERO,
            phase: Phase::Solving,
            eval_loss: None,
            is_stopped: false,
        }
    }
}

impl<S: Solver> Estimator for SolverEstimator<S> {
    fn next(&mut self) -> Result<Next> {
        if self.phase == Phase::Solving {
            let may_end = self.is_stopped && self.solver.steps() > 0;
            if !may_end && let Some(request) = self.solver.pass()? {
                return Ok(Next::Run(request));
            }
            self.phase = match self.settings.has_evaluation {
                true => Phase::Evaluating,
                false => Phase::Done,
            };
        }
        if self.phase == Phase::Done {
            return Ok(Next::Done);
        }
        let learner: Arc<dyn Learner> = Arc::<Network>::clone(&self.settings.network);
        let round = Arc::new(LossRound::new(learner, Arc::new(self.solver.parameters())));
        Ok(Next::Run(Request { round, rows: RoundRows::Evaluation, name: "eval".to_owned() }))
    }

    fn take(&mut self, result: Vec<u8>, elapsed: Duration) -> Result<Option<HistoryEntry>> {
        if self.phase != Phase::Solving {
            let loss = LossRound::sum(&result)?.mean() * self.settings.loss_scale;
            self.eval_loss = Some(loss);
            if let Some(last) = self.history.last_mut() {
                last.eval_loss = Some(loss);
            }
            self.phase = Phase::Done;
            return Ok(None);
        }
        self.elapsed += elapsed;
        let Some(loss) = self.solver.take(result)? else { return Ok(None) };
        let entry = HistoryEntry {
            epoch: self.history.len() as u64 + 1,
            loss: loss * self.settings.loss_scale,
            eval_loss: None,
            learning_rate: f64::NAN,
            rows: self.settings.rows,
            duration_ms: milliseconds(std::mem::take(&mut self.elapsed)),
        };
        self.history.push(entry.clone());
        Ok(Some(entry))
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    fn is_quick(&self) -> bool {
        self.settings.network.width().inputs() <= QUICK_INPUTS
    }

    fn bytes(&self) -> usize {
        self.solver.bytes()
    }

    fn save(&self) -> Result<Vec<u8>> {
        let header = Header {
            phase: self.phase,
            history: HistoryBits::of(&self.history),
            elapsed_ms: milliseconds(self.elapsed),
            eval_loss: self.eval_loss.map(Into::into),
        };
        pack(&header, &[&self.solver.save()])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (header, parts) = unpack::<Header>(bytes)?;
        let [solver] = parts.as_slice() else {
            return exec_err!("the state of a solver is damaged: it has {} parts", parts.len());
        };
        self.solver.restore(solver)?;
        self.phase = header.phase;
        self.history = HistoryBits::history(header.history);
        self.elapsed = Duration::from_millis(header.elapsed_ms);
        self.eval_loss = header.eval_loss.map(f64::from);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Fitted> {
        let steps = self.solver.steps();
        Ok(Fitted {
            parameters: self.solver.parameters(),
            moments: vec![],
            steps,
            loss: self.solver.loss() * self.settings.loss_scale,
            eval_loss: self.eval_loss,
            history: self.history,
            warning: self
                .solver
                .report()
                .and_then(|(solver, report)| ending(solver, &report, self.is_stopped)),
            description: None,
        })
    }
}

/// The warning for the user about how a solver ended; `is_stopped` if it was asked to stop.
fn ending(solver: &str, report: &Report, is_stopped: bool) -> Option<String> {
    if report.separable {
        return Some(
            "the classes are separable, so the weights would grow for ever; they were stopped \
             where the gradient is small; l2 > 0 bounds them"
                .to_owned(),
        );
    }
    let steps = match report.steps {
        1 => "1 step".to_owned(),
        n => format!("{n} steps"),
    };
    match report.outcome {
        Outcome::StepLimit => Some(format!("{solver} did not converge in {steps}")),
        Outcome::Stalled => Some(format!(
            "{solver} stopped after {steps}, where none lowers the loss any more: its largest \
             derivative is {:.1e}",
            report.gradient_max
        )),
        Outcome::Running if is_stopped => {
            let used_up = format!("max_seconds is used up: {solver} stopped after {steps}");
            Some(match report.gradient_max {
                slope if slope.is_finite() => {
                    format!("{used_up}, where its largest derivative is {slope:.1e}")
                }
                _ => used_up,
            })
        }
        Outcome::Running | Outcome::Converged => None,
    }
}
