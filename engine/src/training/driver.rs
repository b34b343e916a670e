//! The driver: runs the rounds that an estimator requests, until it is done.
//!
//! ```text
//!   estimator.next() ──► slice of rows ──► round (a plan) ──► estimator.take() ──► next() ...
//!                                               │ events, checkpoint, deadline, interrupt
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::{Estimator, Fitted, HistoryEntry, Interrupted, Iterations, Next, RoundRows};

use super::progress::Ticker;
use super::rounds::RoundRunner;
use super::saver::MemberSaver;
use crate::event::{Event, EventSink};
use crate::table::{EncodedTable, SMALL_ROWS, Slice, run_blocking};

/// Maximum number of partitions of a pass over all rows.
const MAX_PARTITIONS: u64 = 8;

/// The number of partitions of a pass over `rows` rows. It depends on that number alone, so that
/// sums do not depend on the machine.
pub fn partitions(rows: u64) -> usize {
    rows.div_ceil(SMALL_ROWS).clamp(1, MAX_PARTITIONS) as usize
}

/// Runs an estimator over encoded rows, and reports its progress.
pub struct Driver<'a> {
    /// Training rows.
    pub train: Arc<EncodedTable>,
    /// Evaluation rows.
    pub eval: Option<Arc<EncodedTable>>,
    /// Seed of the order of rows.
    pub seed: u64,
    /// Whether rows are reordered from epoch to epoch.
    pub shuffle: bool,
    /// Runs the rounds.
    pub runner: &'a RoundRunner,
    /// Prefix of the references of rounds: model and member.
    pub reference: String,
    /// Saves the estimator when a checkpoint is due.
    pub saver: MemberSaver<'a>,
    /// Receives events about the progress.
    pub events: EventSink,
    /// Memory that the estimator holds.
    pub reservation: MemoryReservation,
}

impl Driver<'_> {
    /// Runs an estimator to its end.
    ///
    /// # Errors
    /// When the training is interrupted, a round fails, or there is too little memory. An
    /// interrupted training leaves a checkpoint of its last whole round.
    pub async fn run(&self, mut estimator: Box<dyn Estimator>) -> Result<Fitted> {
        self.reservation.try_grow(estimator.bytes())?;
        let mut last = Instant::now();
        // Whether there is any progress that a checkpoint could hold.
        let mut has_learned = self.saver.is_resumed();
        loop {
            let request = match estimator.next()? {
                Next::Run(request) => request,
                Next::Done => break,
            };
            let slice = self.slice(request.rows)?;
            let ticker = self.ticker(estimator.as_ref(), request.rows);
            let reference = format!("{}/{}", self.reference, request.name);
            let round = self.train.decoding(request.round);
            let result = self.runner.run(&reference, round, &slice).await;
            drop(ticker);
            let bytes = match result {
                Ok(bytes) => bytes,
                Err(error) => {
                    if has_learned && Interrupted::is(&error) {
                        self.saver.save_now(estimator.as_ref()).await?;
                    }
                    return Err(error);
                }
            };
            if self.saver.is_out_of_time() {
                estimator.stop();
            }
            let now = Instant::now();
            let elapsed = now - std::mem::replace(&mut last, now);
            let is_quick = estimator.is_quick();
            let (taken, entry) = run_blocking(is_quick, "the solver", move || {
                let entry = estimator.take(bytes, elapsed)?;
                Ok((estimator, entry))
            })
            .await?;
            estimator = taken;
            has_learned = true;
            if let Some(entry) = entry {
                (self.events)(event(estimator.iterations(), &entry));
            }
            self.saver.after_round(estimator.as_ref()).await?;
        }
        self.saver.record(estimator.as_ref())?;
        estimator.finish()
    }

    fn slice(&self, rows: RoundRows) -> Result<Slice> {
        let all = |table: &Arc<EncodedTable>, step: Option<usize>| {
            let order = match step {
                Some(step) => table.part_order(step),
                None => table.epoch_order(0, self.seed, false),
            };
            table.slice(&order, 0, order.rows(), partitions(order.rows()))
        };
        match (rows, &self.eval) {
            (RoundRows::Training, _) => Ok(all(&self.train, None)),
            (RoundRows::Sample { step }, _) => Ok(all(&self.train, Some(step))),
            (RoundRows::Epoch { epoch, start, end, replicas }, _) => {
                let order = self.train.epoch_order(epoch, self.seed, self.shuffle);
                Ok(self.train.slice(&order, start, end, replicas))
            }
            (RoundRows::Evaluation, Some(eval)) => Ok(all(eval, None)),
            (RoundRows::Evaluation, None) => internal_err!("there are no evaluation rows"),
        }
    }

    /// Reports the rows of the epoch that are done while a round runs.
    fn ticker(&self, estimator: &dyn Estimator, rows: RoundRows) -> Option<Ticker> {
        let (Iterations::Epochs(epochs), RoundRows::Epoch { epoch, .. }) =
            (estimator.iterations(), rows)
        else {
            return None;
        };
        let event = Event::Progress {
            epoch: epoch + 1,
            epochs,
            rows_done: 0,
            rows: self.train.rows(),
            loss: estimator.last_loss().unwrap_or(f64::NAN),
        };
        Some(Ticker::start(Arc::clone(estimator.progress()), Arc::clone(&self.events), event))
    }
}

/// The event for an entry of the history.
fn event(iterations: Iterations, entry: &HistoryEntry) -> Event {
    let seconds = Duration::from_millis(entry.duration_ms).as_secs_f64().max(1e-3);
    let rows_per_second = entry.rows as f64 / seconds;
    match iterations {
        Iterations::Epochs(epochs) => Event::Epoch {
            epoch: entry.epoch,
            epochs,
            loss: entry.loss,
            eval_loss: entry.eval_loss,
            learning_rate: entry.learning_rate,
            rows_per_second,
        },
        Iterations::Steps => Event::Step { step: entry.epoch, loss: entry.loss, rows_per_second },
    }
}
