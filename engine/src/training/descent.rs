//! Epochs of rounds: the iterative training of one member.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::{Result, exec_err, internal_err};
use gradlake_udfs::learner::{Learner, LossSum};
use gradlake_udfs::model::HistoryEntry;
use gradlake_udfs::round::{Descent, Interrupt, LossRound, SgdRound};
use gradlake_udfs::state::State;

use super::checkpoint::MemberProgress;
use super::exact::partitions;
use super::progress::Ticker;
use super::rounds::RoundRunner;
use super::saver::MemberSaver;
use crate::event::{Event, EventSink};
use crate::table::EncodedTable;

/// One member's rows and how to learn from them.
#[derive(Debug)]
pub struct DescentPlan {
    /// What stays the same from round to round.
    pub descent: Arc<Descent>,
    /// Training rows.
    pub train: Arc<EncodedTable>,
    /// Evaluation rows.
    pub eval: Option<Arc<EncodedTable>>,
    /// Epochs at most.
    pub epochs: u64,
    /// Copies of the state that learn side by side.
    pub replicas: usize,
    /// Rows of a round, a multiple of replicas times mini-batch.
    pub round_rows: u64,
    /// Whether rows are reordered from epoch to epoch.
    pub shuffle: bool,
    /// Epochs without improvement of the evaluation loss after which the training stops.
    pub patience: Option<u64>,
    /// What counts as an improvement.
    pub min_delta: f64,
    /// What rounds are called: model and version.
    pub reference: String,
    /// Factor from the loss of encoded rows to that in the target's own units.
    pub loss_scale: f64,
}

/// How a descent ended.
#[derive(Debug)]
pub struct Descended {
    /// The state to publish: of the best epoch where there are evaluation rows.
    pub state: State,
    /// One entry per epoch.
    pub history: Vec<HistoryEntry>,
    /// The epoch whose state it is.
    pub best_epoch: u64,
    /// What the user should know about the end, if anything.
    pub warning: Option<String>,
}

impl DescentPlan {
    /// Trains from `start` (or goes on from `progress`) to the end.
    ///
    /// # Errors
    /// When the training is interrupted, diverges in its first round, or a round fails.
    pub async fn run(
        &self,
        runner: &RoundRunner,
        start: State,
        mut progress: MemberProgress,
        saver: &MemberSaver<'_>,
        events: &EventSink,
    ) -> Result<Descended> {
        let resumed = !progress.state.is_empty();
        let mut state = Arc::new(if resumed { self.state(&progress.state)? } else { start });
        let rows = self.train.rows();
        let mut warning = None;
        let begun = Instant::now();
        let before_ms = progress.elapsed_ms;
        let mut out_of_time = false;
        while !progress.done && progress.epoch < self.epochs && !out_of_time {
            let epoch = progress.epoch;
            let epoch_begun = Instant::now();
            let order = self.train.epoch_order(epoch, self.descent.seed, self.shuffle);
            self.descent.progress.reset();
            let ticker = Ticker::start(
                Arc::clone(&self.descent.progress),
                Arc::clone(events),
                Event::Progress {
                    epoch: epoch + 1,
                    epochs: self.epochs,
                    rows_done: 0,
                    rows,
                    loss: progress.history.last().map_or(f64::NAN, |h| h.loss),
                },
            );
            let mut diverged = false;
            while progress.row < rows {
                let end = rows.min(progress.row + self.round_rows);
                let reference = format!("{}/{}/{}", self.reference, epoch, progress.row);
                let slice = self.train.slice(&order, progress.row, end, self.replicas);
                let round = Arc::new(SgdRound::new(Arc::clone(&self.descent), Arc::clone(&state))?);
                let bytes = match runner.run(&reference, Arc::clone(&round) as _, &slice).await {
                    Ok(bytes) => bytes,
                    Err(error) if is_interrupt(&error) => {
                        progress.state = state.to_bytes();
                        progress.elapsed_ms = before_ms + begun.elapsed().as_millis() as u64;
                        if progress.epoch > 0 || progress.row > 0 {
                            saver.before_stop(&progress).await?;
                        }
                        return Err(error);
                    }
                    Err(error) => return Err(error),
                };
                let next = round.state(&bytes)?;
                if !next.is_finite() || !next.round.loss.is_finite() {
                    diverged = true;
                    break;
                }
                progress.epoch_loss.add(next.round);
                progress.row = end;
                state = Arc::new(next);
                progress.state = bytes;
                if progress.row < rows {
                    progress.elapsed_ms = before_ms + begun.elapsed().as_millis() as u64;
                    saver.after_round(&progress).await?;
                }
                if saver.out_of_time() {
                    out_of_time = true;
                    break;
                }
            }
            drop(ticker);
            if diverged {
                warning = Some(self.diverged(epoch, &progress)?);
                break;
            }
            let eval = match &self.eval {
                Some(eval) => Some(self.loss(runner, eval, &state, "eval").await?.mean()),
                None => None,
            };
            self.end_epoch(&mut progress, &state, eval, epoch_begun, events)?;
            progress.done |= progress.epoch >= self.epochs || out_of_time;
            progress.elapsed_ms = before_ms + begun.elapsed().as_millis() as u64;
            saver.after_round(&progress).await?;
        }
        if out_of_time {
            warning = Some(format!(
                "max_seconds is used up: the training stopped in epoch {} of {}",
                progress.epoch, self.epochs
            ));
        }
        let best_epoch = progress.best.map_or(progress.epoch, |(_, epoch)| epoch);
        let state = match progress.best_state {
            Some(best) => self.state(&best)?,
            None => Arc::unwrap_or_clone(state),
        };
        Ok(Descended { state, history: progress.history, best_epoch, warning })
    }

    /// The mean loss of a table under a state, as a round.
    pub async fn loss(
        &self,
        runner: &RoundRunner,
        table: &Arc<EncodedTable>,
        state: &State,
        what: &str,
    ) -> Result<LossSum> {
        let learner: Arc<dyn Learner> = Arc::clone(&self.descent.learner);
        let round = LossRound::new(learner, Arc::new(state.parameters.clone()));
        let order = table.epoch_order(0, self.descent.seed, false);
        let rows = table.slice(&order, 0, table.rows(), partitions(table.rows()));
        let reference = format!("{}/{what}/{}", self.reference, state.steps);
        let mut sum = LossRound::sum(&runner.run(&reference, Arc::new(round), &rows).await?)?;
        sum.loss *= self.loss_scale;
        Ok(sum)
    }

    fn state(&self, bytes: &[u8]) -> Result<State> {
        State::from_bytes(bytes, self.descent.learner.layout().len(), self.descent.moments())
    }

    /// Writes the epoch into the history, tells of it, and decides whether it was the last.
    fn end_epoch(
        &self,
        progress: &mut MemberProgress,
        state: &State,
        eval_loss: Option<f64>,
        begun: Instant,
        events: &EventSink,
    ) -> Result<()> {
        let loss = progress.epoch_loss.mean() * self.loss_scale;
        let learning_rate = f64::from(self.descent.step_size(state.steps.max(1)).learning_rate);
        let elapsed = begun.elapsed();
        progress.epoch += 1;
        let entry = HistoryEntry {
            epoch: progress.epoch,
            loss,
            eval_loss,
            learning_rate,
            rows: progress.epoch_loss.rows,
            duration_ms: elapsed.as_millis() as u64,
        };
        events(Event::Epoch {
            epoch: progress.epoch,
            epochs: self.epochs,
            loss,
            eval_loss,
            learning_rate,
            rows_per_second: entry.rows as f64 / elapsed.as_secs_f64().max(1e-9),
        });
        progress.history.push(entry);
        progress.row = 0;
        progress.epoch_loss = LossSum::default();
        if let Some(eval_loss) = eval_loss {
            let improved = progress.best.is_none_or(|(best, _)| eval_loss < best - self.min_delta);
            if improved {
                progress.best = Some((eval_loss, progress.epoch));
                progress.best_state = Some(progress.state.clone());
                progress.stale = 0;
            } else {
                progress.stale += 1;
            }
            if self.patience.is_some_and(|patience| progress.stale >= patience) {
                progress.done = true;
            }
            if self.patience.is_none() {
                // Without early stopping the last state counts, as the user asked for.
                progress.best = None;
                progress.best_state = None;
            }
        }
        if !loss.is_finite() {
            return internal_err!("the loss of an epoch is not finite");
        }
        Ok(())
    }

    /// What to say when the numbers are not finite any more; an error where nothing good is left.
    fn diverged(&self, epoch: u64, progress: &MemberProgress) -> Result<String> {
        let rate = self.descent.learning_rate;
        let advice = format!(
            "try a learning_rate below {rate}, or optimizer = 'adam', or standardize = true"
        );
        if epoch == 0 && progress.row == 0 {
            return exec_err!(
                "learning diverged in its first round: the weights are not finite; {advice}"
            );
        }
        Ok(format!(
            "learning diverged in epoch {}: the last good round is kept; {advice}",
            epoch + 1
        ))
    }
}

/// Whether an error says that the training was asked to stop.
pub fn is_interrupt(error: &datafusion::error::DataFusionError) -> bool {
    error.to_string().contains(Interrupt::MESSAGE)
}
