//! How far a training is, how fast it goes and how long it will take.

use std::time::Instant;

use gradlake_engine::event::Event;

use super::progress::losses;
use super::text::{count, duration, figure};

/// What the events told so far.
pub struct Meter {
    name: String,
    epoch: u64,
    epochs: u64,
    /// Rows of an epoch.
    rows: u64,
    rows_done: u64,
    loss: Option<f64>,
    eval_loss: Option<f64>,
    rate: Option<f64>,
    /// When this run began, and the rows that a checkpoint had learned before it.
    start: Instant,
    start_rows: u64,
}

impl Meter {
    /// A meter before the first event.
    pub fn new(now: Instant) -> Self {
        Self {
            name: String::new(),
            epoch: 0,
            epochs: 0,
            rows: 0,
            rows_done: 0,
            loss: None,
            eval_loss: None,
            rate: None,
            start: now,
            start_rows: 0,
        }
    }

    /// Takes in an event.
    pub fn observe(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Started { model, member, rows, epochs, .. } => {
                *self = Self { epochs: *epochs, rows: *rows, ..Self::new(now) };
                self.name =
                    if member.is_empty() { model.clone() } else { format!("{model} ({member})") };
            }
            Event::Resumed { epoch } => {
                self.epoch = *epoch;
                self.rows_done = self.rows;
                self.start = now;
                self.start_rows = epoch.saturating_mul(self.rows);
            }
            Event::Progress { epoch, epochs, rows_done, rows, loss } => {
                self.epoch = *epoch;
                self.epochs = *epochs;
                self.rows_done = *rows_done;
                self.rows = *rows;
                self.loss = Some(*loss);
                let seconds = now.saturating_duration_since(self.start).as_secs_f64();
                // The first moments say little about the rate.
                if seconds > 0.5 {
                    self.rate = Some(self.learned() as f64 / seconds);
                }
            }
            Event::Epoch { epoch, epochs, loss, eval_loss, rows_per_second, .. } => {
                self.epoch = *epoch;
                self.epochs = *epochs;
                self.rows_done = self.rows;
                self.loss = Some(*loss);
                self.eval_loss = *eval_loss;
                self.rate = Some(*rows_per_second);
            }
            _ => {}
        }
    }

    /// Model and member.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows learned and rows to learn, over all epochs.
    pub fn position(&self) -> (u64, u64) {
        let length = self.epochs.max(1).saturating_mul(self.rows.max(1));
        let done =
            self.epoch.saturating_sub(1).saturating_mul(self.rows).saturating_add(self.rows_done);
        (done.min(length), length)
    }

    /// Rows learned since this run began.
    fn learned(&self) -> u64 {
        self.position().0.saturating_sub(self.start_rows)
    }

    /// Seconds that the remaining epochs will take, judged by this run so far.
    pub fn seconds_left(&self, now: Instant) -> Option<f64> {
        let (done, length) = self.position();
        let seconds = now.saturating_duration_since(self.start).as_secs_f64();
        let learned = self.learned();
        (learned > 0 && seconds > 0.0).then(|| (length - done) as f64 * seconds / learned as f64)
    }

    /// `epoch 3/10: loss 0.3456, eval_loss 0.3512, 123,456 rows/s, 12 s left`.
    pub fn epoch_line(&self, now: Instant) -> String {
        let losses = losses(self.loss.unwrap_or(f64::NAN), self.eval_loss);
        format!("epoch {}/{}: {losses}{}", self.epoch, self.epochs, self.pace(now, ", "))
    }

    /// The same for the bar, short enough for a terminal of 80 columns.
    pub fn status(&self, now: Instant) -> String {
        let mut text = format!("epoch {}/{}", self.epoch.max(1), self.epochs.max(1));
        if let Some(loss) = self.loss {
            text += &format!("  loss {}", figure(loss));
        }
        if let Some(eval_loss) = self.eval_loss {
            text += &format!("  eval {}", figure(eval_loss));
        }
        text + &self.pace(now, "  ")
    }

    fn pace(&self, now: Instant, mark: &str) -> String {
        let mut text = String::new();
        if let Some(rate) = self.rate.filter(|rate| rate.is_finite()) {
            text += &format!("{mark}{} rows/s", count(rate.round() as u64));
        }
        if let Some(seconds) = self
            .seconds_left(now)
            .filter(|_| self.epoch < self.epochs || self.rows_done < self.rows)
        {
            text += &format!("{mark}{} left", duration(seconds));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn started(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        let event = Event::Started {
            model: "m".to_owned(),
            member: "carrier = UA".to_owned(),
            rows: 100,
            eval_rows: 10,
            epochs: 4,
            method: String::new(),
        };
        meter.observe(&event, now);
        meter
    }

    fn epoch(epoch: u64) -> Event {
        Event::Epoch {
            epoch,
            epochs: 4,
            loss: 0.5,
            eval_loss: Some(0.75),
            learning_rate: 0.1,
            rows_per_second: 50.4,
        }
    }

    #[test]
    fn time_left_is_that_of_the_epochs_left() {
        let now = Instant::now();
        let mut meter = started(now);
        assert_eq!(meter.position(), (0, 400));
        assert_eq!(meter.seconds_left(now), None);
        let later = now + Duration::from_secs(2);
        meter.observe(&epoch(1), later);
        assert_eq!(meter.position(), (100, 400));
        assert_eq!(meter.seconds_left(later), Some(6.0));
        assert_eq!(
            meter.epoch_line(later),
            "epoch 1/4: loss 0.5000, eval_loss 0.7500, 50 rows/s, 6.0 s left"
        );
        let progress =
            Event::Progress { epoch: 2, epochs: 4, rows_done: 60, rows: 100, loss: 0.25 };
        let later = now + Duration::from_secs(4);
        meter.observe(&progress, later);
        assert_eq!(meter.position(), (160, 400));
        assert_eq!(meter.seconds_left(later), Some(6.0));
        assert_eq!(
            meter.status(later),
            "epoch 2/4  loss 0.2500  eval 0.7500  40 rows/s  6.0 s left"
        );
        assert_eq!(meter.name(), "m (carrier = UA)");
    }

    #[test]
    fn a_resumed_run_is_not_credited_with_older_epochs() {
        let now = Instant::now();
        let mut meter = started(now);
        meter.observe(&Event::Resumed { epoch: 2 }, now);
        assert_eq!(meter.position(), (200, 400));
        let later = now + Duration::from_secs(3);
        meter.observe(&epoch(3), later);
        assert_eq!(meter.seconds_left(later), Some(3.0));
    }

    #[test]
    fn the_last_epoch_has_nothing_left() {
        let now = Instant::now();
        let mut meter = started(now);
        let later = now + Duration::from_secs(1);
        meter.observe(&epoch(4), later);
        assert_eq!(meter.epoch_line(later), "epoch 4/4: loss 0.5000, eval_loss 0.7500, 50 rows/s");
    }

    #[test]
    fn odd_numbers_break_nothing() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        let event = Event::Progress { epoch: 9, epochs: 0, rows_done: 7, rows: 0, loss: f64::NAN };
        meter.observe(&event, now);
        let (done, length) = meter.position();
        assert!(done <= length);
        assert!(meter.status(now).contains("loss NaN"));
    }
}
