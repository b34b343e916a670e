//! Mini-batch descent as an estimator: epochs of rounds, then the evaluation rows after each epoch.

use std::sync::Arc;
use std::time::Duration;

use datafusion_common::{Result, exec_err, internal_err};
use serde::{Deserialize, Serialize};

use super::record::{Bits, HistoryBits, LossBits, milliseconds, pack, unpack};
use super::{Estimator, Fitted, Iterations, Next, Request, RoundRows};
use crate::learner::{Learner, LossSum};
use crate::model::HistoryEntry;
use crate::round::{Descent, LossRound, Progress, SgdRound};
use crate::state::State;

/// Settings of mini-batch descent.
#[derive(Debug)]
pub struct DescentSettings {
    /// The part that is the same in all rounds.
    pub descent: Arc<Descent>,
    /// Training rows.
    pub rows: u64,
    /// Whether there are evaluation rows.
    pub has_evaluation: bool,
    /// Epochs at most.
    pub epochs: u64,
    /// Copies of the state that are trained side by side.
    pub replicas: usize,
    /// Rows of a round, a multiple of replicas times mini-batch.
    pub round_rows: u64,
    /// Epochs without improvement of the evaluation loss after which the training stops.
    pub patience: Option<u64>,
    /// Decrease of the loss that counts as an improvement.
    pub min_delta: f64,
    /// Factor from the loss of encoded rows to that in the target's own units.
    pub loss_scale: f64,
}

/// Mini-batch descent between two rounds.
#[derive(Debug)]
pub struct DescentEstimator {
    settings: DescentSettings,
    state: Arc<State>,
    /// Epochs that are complete.
    epoch: u64,
    /// Rows of the current epoch that have been learned.
    row: u64,
    /// Time of the current epoch so far.
    elapsed: Duration,
    /// Loss of the current epoch so far.
    epoch_loss: LossSum,
    is_done: bool,
    is_stopped: bool,
    /// Epochs since the best evaluation loss.
    stale: u64,
    /// The best evaluation loss, the epoch that had it, and its state.
    best: Option<(f64, u64, Arc<State>)>,
    history: Vec<HistoryEntry>,
    warning: Option<String>,
    /// The requested round and its last row; None: the evaluation rows.
    round: Option<(Arc<SgdRound>, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    epoch: u64,
    row: u64,
    elapsed_ms: u64,
    epoch_loss: LossBits,
    is_done: bool,
    stale: u64,
    best: Option<(Bits, u64)>,
    history: Vec<HistoryBits>,
    warning: Option<String>,
}

impl DescentEstimator {
    /// Begins at `start`.
    pub fn new(settings: DescentSettings, start: State) -> Self {
        Self {
            settings,
            state: Arc::new(start),
            epoch: 0,
            row: 0,
            elapsed: Duration::ZERO,
            epoch_loss: LossSum::default(),
            is_done: false,
            is_stopped: false,
            stale: 0,
            best: None,
            history: vec![],
            warning: None,
            round: None,
        }
    }

    /// Whether all rows of the current epoch have been learned.
    fn is_epoch_over(&self) -> bool {
        self.row > 0 && (self.row >= self.settings.rows || self.is_stopped)
    }

    fn take_round(&mut self, result: &[u8], round: &SgdRound, end: u64) -> Result<()> {
        let next = round.state(result)?;
        if !next.is_finite() || !next.round.loss.is_finite() {
            self.warning = Some(self.diverged()?);
            self.is_done = true;
            return Ok(());
        }
        self.epoch_loss.add(next.round);
        self.row = end;
        self.state = Arc::new(next);
        Ok(())
    }

    /// Writes the epoch into the history, and decides whether it was the last.
    fn end_epoch(&mut self, eval_loss: Option<f64>) -> Result<HistoryEntry> {
        let DescentSettings { descent, loss_scale, patience, min_delta, epochs, rows, .. } =
            &self.settings;
        let loss = self.epoch_loss.mean() * loss_scale;
        if !loss.is_finite() {
            return internal_err!("the loss of an epoch is not finite");
        }
        let is_cut = self.row < *rows;
        self.epoch += 1;
        let entry = HistoryEntry {
            epoch: self.epoch,
            loss,
            eval_loss,
            learning_rate: f64::from(descent.step_size(self.state.steps.max(1)).learning_rate),
            rows: self.epoch_loss.rows,
            duration_ms: milliseconds(std::mem::take(&mut self.elapsed)),
        };
        self.history.push(entry.clone());
        self.row = 0;
        self.epoch_loss = LossSum::default();
        // Without early stopping, the result is the last state, as the user asked for.
        if let (Some(eval_loss), Some(patience)) = (eval_loss, patience) {
            let improved = self.best.as_ref().is_none_or(|(best, ..)| eval_loss < best - min_delta);
            if improved {
                self.best = Some((eval_loss, self.epoch, Arc::clone(&self.state)));
                self.stale = 0;
            } else {
                self.stale += 1;
            }
            self.is_done |= self.stale >= *patience;
        }
        self.is_done |= self.epoch >= *epochs || self.is_stopped;
        if self.is_stopped && (is_cut || self.epoch < *epochs) {
            self.warning = Some(format!(
                "max_seconds is used up: the training stopped in epoch {} of {epochs}",
                self.epoch
            ));
        }
        Ok(entry)
    }

    /// The warning for numbers that are no longer finite; an error if there is no finite state.
    fn diverged(&self) -> Result<String> {
        let rate = self.settings.descent.learning_rate;
        let advice = format!(
            "try a learning_rate below {rate}, or optimizer = 'adam', or standardize = true"
        );
        if self.epoch == 0 && self.row == 0 {
            return exec_err!(
                "learning diverged in its first round: the weights are not finite; {advice}"
            );
        }
        Ok(format!(
            "learning diverged in epoch {}: the last good round is kept; {advice}",
            self.epoch + 1
        ))
    }

    fn state_of(&self, bytes: &[u8]) -> Result<Arc<State>> {
        let descent = &self.settings.descent;
        let state = State::from_bytes(bytes, descent.learner.layout().len(), descent.moments())?;
        Ok(Arc::new(state))
    }
}

impl Estimator for DescentEstimator {
    fn next(&mut self) -> Result<Next> {
        if self.is_done || self.epoch >= self.settings.epochs {
            return Ok(Next::Done);
        }
        if self.is_epoch_over() {
            self.round = None;
            let learner: Arc<dyn Learner> = Arc::clone(&self.settings.descent.learner);
            let round = LossRound::new(learner, Arc::new(self.state.parameters.clone()));
            let name = format!("eval/{}", self.state.steps);
            let round = Arc::new(round);
            return Ok(Next::Run(Request { round, rows: RoundRows::Evaluation, name }));
        }
        let DescentSettings { descent, rows, replicas, round_rows, .. } = &self.settings;
        let (epoch, start) = (self.epoch, self.row);
        if start == 0 {
            descent.progress.reset();
        }
        let end = (*rows).min(start + round_rows);
        let round = Arc::new(SgdRound::new(Arc::clone(descent), Arc::clone(&self.state))?);
        self.round = Some((Arc::clone(&round), end));
        let rows = RoundRows::Epoch { epoch, start, end, replicas: *replicas };
        Ok(Next::Run(Request { round, rows, name: format!("{epoch}/{start}") }))
    }

    fn take(&mut self, result: Vec<u8>, elapsed: Duration) -> Result<Option<HistoryEntry>> {
        self.elapsed += elapsed;
        let Some((round, end)) = self.round.take() else {
            let loss = LossRound::sum(&result)?.mean() * self.settings.loss_scale;
            return self.end_epoch(Some(loss)).map(Some);
        };
        self.take_round(&result, &round, end)?;
        match self.is_epoch_over() && !self.is_done && !self.settings.has_evaluation {
            true => self.end_epoch(None).map(Some),
            false => Ok(None),
        }
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn iterations(&self) -> Iterations {
        Iterations::Epochs(self.settings.epochs)
    }

    fn completed(&self) -> u64 {
        self.epoch
    }

    fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    fn progress(&self) -> &Arc<Progress> {
        &self.settings.descent.progress
    }

    fn is_quick(&self) -> bool {
        true
    }

    fn bytes(&self) -> usize {
        let numbers = self.state.parameters.len() + self.state.moments.len();
        size_of::<f32>() * numbers * (2 + usize::from(self.settings.patience.is_some()))
    }

    fn save(&self) -> Result<Vec<u8>> {
        let header = Header {
            epoch: self.epoch,
            row: self.row,
            elapsed_ms: milliseconds(self.elapsed),
            epoch_loss: self.epoch_loss.into(),
            is_done: self.is_done,
            stale: self.stale,
            best: self.best.as_ref().map(|(loss, epoch, _)| ((*loss).into(), *epoch)),
            history: HistoryBits::of(&self.history),
            warning: self.warning.clone(),
        };
        let state = self.state.to_bytes();
        match &self.best {
            Some((_, _, best)) => pack(&header, &[&state, &best.to_bytes()]),
            None => pack(&header, &[&state]),
        }
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (header, parts) = unpack::<Header>(bytes)?;
        let (state, best) = match (parts.as_slice(), header.best) {
            ([state], None) => (self.state_of(state)?, None),
            ([state, best], Some((loss, epoch))) => {
                (self.state_of(state)?, Some((loss.into(), epoch, self.state_of(best)?)))
            }
            _ => return exec_err!("the state of a training is damaged: a part is missing"),
        };
        (self.state, self.best) = (state, best);
        (self.epoch, self.row) = (header.epoch, header.row);
        self.elapsed = Duration::from_millis(header.elapsed_ms);
        self.epoch_loss = header.epoch_loss.into();
        self.is_done = header.is_done;
        self.stale = header.stale;
        self.history = HistoryBits::history(header.history);
        self.warning = header.warning;
        self.round = None;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Fitted> {
        let best_epoch = self.best.as_ref().map_or(self.epoch, |(_, epoch, _)| *epoch);
        let entry = self.history.iter().find(|h| h.epoch == best_epoch).or(self.history.last());
        let (loss, eval_loss) = entry.map_or((f64::NAN, None), |h| (h.loss, h.eval_loss));
        let state = self.best.map_or(self.state, |(_, _, state)| state);
        let State { parameters, moments, steps, .. } = Arc::unwrap_or_clone(state);
        Ok(Fitted {
            parameters,
            moments,
            steps,
            loss,
            eval_loss,
            history: self.history,
            warning: self.warning,
            description: None,
        })
    }
}
