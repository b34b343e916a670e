//! The progress of a training, its speed and the time that is left.

use std::time::Instant;

use gradlake_engine::{Event, Lag, Position};

use super::progress::losses;
use super::text::{bytes, count, duration, figure, rows};

/// The state of a training according to the events so far.
pub struct Meter {
    name: String,
    epoch: u64,
    /// Maximum number of epochs; 0 for solvers.
    epochs: u64,
    /// Steps that a solver has made.
    steps: u64,
    /// Rows per epoch.
    rows: u64,
    rows_done: u64,
    loss: Option<f64>,
    eval_loss: Option<f64>,
    rate: Option<f64>,
    /// When this run began, and the rows that a checkpoint had learned before it.
    start: Instant,
    start_rows: u64,
    /// The progress of a training on a stream; None for a training in epochs.
    stream: Option<Stream>,
    /// The last version that was published, and when.
    version: Option<(u64, Instant)>,
}

/// The progress of a training on a stream.
struct Stream {
    rows: u64,
    rate: f64,
    loss: Option<f64>,
    accuracy: Option<f64>,
    error: Option<f64>,
    waiting: Option<Lag>,
}

impl Meter {
    /// A meter before the first event.
    pub fn new(now: Instant) -> Self {
        Self {
            name: String::new(),
            epoch: 0,
            epochs: 0,
            steps: 0,
            rows: 0,
            rows_done: 0,
            loss: None,
            eval_loss: None,
            rate: None,
            start: now,
            start_rows: 0,
            stream: None,
            version: None,
        }
    }

    /// Updates the meter with an event.
    pub fn observe(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Started { model, member, rows, epochs, .. } => {
                *self = Self { epochs: *epochs, rows: *rows, ..Self::new(now) };
                self.name =
                    if member.is_empty() { model.clone() } else { format!("{model} ({member})") };
            }
            Event::Resumed { from: Position::Epoch(epoch) } => {
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
            Event::Step { step, loss, rows_per_second } => {
                self.steps = *step;
                self.loss = Some(*loss);
                self.rate = Some(*rows_per_second);
            }
            Event::Streaming {
                rows,
                rows_per_second,
                loss,
                recent_loss,
                recent_accuracy,
                recent_error,
                waiting,
            } => {
                self.stream = Some(Stream {
                    rows: *rows,
                    rate: *rows_per_second,
                    loss: recent_loss.or(*loss),
                    accuracy: *recent_accuracy,
                    error: *recent_error,
                    waiting: *waiting,
                });
            }
            Event::Published { version, .. } => self.version = Some((*version, now)),
            _ => {}
        }
    }

    /// Whether this is a training on a stream.
    pub fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Rows of a stream that were trained on.
    pub fn stream_rows(&self) -> u64 {
        self.stream.as_ref().map_or(0, |stream| stream.rows)
    }

    /// The progress on a stream, for a line of its own: `12,345 rows, 678/s, loss 0.3456, accuracy
    /// 0.912, lag 3 files`.
    pub fn stream_line(&self) -> String {
        let Some(stream) = &self.stream else { return String::new() };
        let mut parts = vec![rows(stream.rows)];
        if stream.rate > 0.0 {
            parts.push(format!("{}/s", rate(stream.rate)));
        }
        parts.extend(stream.loss.map(|loss| format!("loss {}", figure(loss))));
        parts.extend(stream.accuracy.map(|accuracy| format!("accuracy {accuracy:.3}")));
        parts.extend(stream.error.map(|error| format!("error {}", figure(error))));
        parts.extend(stream.waiting.map(|waiting| format!("lag {}", lag(waiting))));
        parts.join(", ")
    }

    /// The same for the line that redraws itself, with the last version and its age; short enough
    /// for a terminal of 80 columns.
    fn stream_status(&self, stream: &Stream, now: Instant) -> String {
        let mut parts = vec![rows(stream.rows), format!("{}/s", rate(stream.rate))];
        parts.extend(stream.loss.map(|loss| format!("loss {}", figure(loss))));
        parts.extend(stream.accuracy.map(|accuracy| format!("acc {accuracy:.3}")));
        parts.extend(stream.error.map(|error| format!("err {}", figure(error))));
        parts.extend(stream.waiting.map(|waiting| format!("lag {}", lag(waiting))));
        parts.extend(self.version.map(|(version, at)| {
            let age = now.saturating_duration_since(at).as_secs_f64();
            // Tenths would flicker.
            let age = if age < 9.5 { format!("{age:.0} s") } else { duration(age) };
            format!("v{version} {age}")
        }));
        parts.join("  ")
    }

    /// Model and member.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows learned and rows to learn, over all epochs; 0 and 0 for solvers, whose number of steps
    /// is not known.
    pub fn position(&self) -> (u64, u64) {
        if self.epochs == 0 {
            return (0, 0);
        }
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

    /// `epoch 3/10: loss 0.3456, eval_loss 0.3512, 123,456 rows/s, 12 s left`, or for a solver
    /// `step 3: loss 0.3456, 123,456 rows/s`.
    pub fn epoch_line(&self, now: Instant) -> String {
        let losses = losses(self.loss.unwrap_or(f64::NAN), self.eval_loss);
        let pace = self.pace(now, ", ");
        match self.epochs {
            0 => format!("step {}: {losses}{pace}", self.steps),
            epochs => format!("epoch {}/{epochs}: {losses}{pace}", self.epoch),
        }
    }

    /// The same for the bar, short enough for a terminal of 80 columns.
    pub fn status(&self, now: Instant) -> String {
        if let Some(stream) = &self.stream {
            return self.stream_status(stream, now);
        }
        let mut text = match self.epochs {
            0 => format!("step {}", self.steps.max(1)),
            epochs => format!("epoch {}/{epochs}", self.epoch.max(1)),
        };
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

/// `0.4`, `12,345`: rows per second.
fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 { format!("{rate:.1}") } else { count(rate.round() as u64) }
}

/// `3 files`, `1 file`, `1.2 MB`.
fn lag(waiting: Lag) -> String {
    match waiting {
        Lag::Files(1) => "1 file".to_owned(),
        Lag::Files(n) => format!("{} files", count(n)),
        Lag::Bytes(n) => bytes(n),
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

    #[test]
    fn steps_of_a_solver_have_no_end_in_sight() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        let event = Event::Started {
            model: "m".to_owned(),
            member: String::new(),
            rows: 100,
            eval_rows: 0,
            epochs: 0,
            method: "newton".to_owned(),
        };
        meter.observe(&event, now);
        assert_eq!((meter.position(), meter.status(now).as_str()), ((0, 0), "step 1"));
        meter.observe(&Event::Step { step: 3, loss: 0.5, rows_per_second: 1000.0 }, now);
        let later = now + Duration::from_secs(2);
        assert_eq!(meter.epoch_line(later), "step 3: loss 0.5000, 1,000 rows/s");
        assert_eq!(meter.status(later), "step 3  loss 0.5000  1,000 rows/s");
        assert_eq!((meter.position(), meter.seconds_left(later)), ((0, 0), None));
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
        meter.observe(&Event::Resumed { from: Position::Epoch(2) }, now);
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
    #[test]
    fn a_stream_fits_eighty_columns() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        let started = Event::Started {
            model: "buys".to_owned(),
            member: String::new(),
            rows: 0,
            eval_rows: 0,
            epochs: 1,
            method: String::new(),
        };
        meter.observe(&started, now);
        let event = Event::Streaming {
            rows: 1_234_567,
            rows_per_second: 45_123.4,
            loss: Some(0.5),
            recent_loss: Some(0.30124),
            recent_accuracy: Some(0.91249),
            recent_error: None,
            waiting: Some(Lag::Files(12)),
        };
        meter.observe(&event, now);
        assert_eq!(
            meter.status(now),
            "1,234,567 rows  45,123/s  loss 0.3012  acc 0.912  lag 12 files"
        );
        meter.observe(&Event::Published { model: "buys".to_owned(), version: 17 }, now);
        let later = now + Duration::from_millis(2600);
        let status = meter.status(later);
        assert_eq!(
            status,
            "1,234,567 rows  45,123/s  loss 0.3012  acc 0.912  lag 12 files  v17 3 s"
        );
        assert!(meter.name().len() + 1 + status.len() <= 80);
        assert!(meter.status(now + Duration::from_secs(75)).ends_with("  v17 1 min 15 s"));
        assert_eq!(
            meter.stream_line(),
            "1,234,567 rows, 45,123/s, loss 0.3012, accuracy 0.912, lag 12 files"
        );
        let event = Event::Streaming {
            rows: 1,
            rows_per_second: 0.0,
            loss: None,
            recent_loss: None,
            recent_accuracy: None,
            recent_error: Some(1.5),
            waiting: Some(Lag::Bytes(1_234_567)),
        };
        meter.observe(&event, now);
        assert_eq!(meter.stream_line(), "1 row, error 1.5000, lag 1.2 MB");
    }
}
