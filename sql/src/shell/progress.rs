//! The events of a training, as a bar on a terminal and as plain lines elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gradlake_engine::{Event, EventSink, Position};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::meter::Meter;
use super::output::Output;
use super::text::{count, figure, rows};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not at all; only warnings.
    Quiet,
    /// A line for each epoch, at most a few a second.
    Lines,
    /// A bar that redraws itself.
    Bar,
}

/// Minimum time between two lines of the same kind; the newest held-back line is not lost.
const PACE: Duration = Duration::from_millis(250);
/// Minimum time between two lines about a stream.
const STREAM_PACE: Duration = Duration::from_secs(10);
/// Minimum time between two lines about reading, which is often over before the first one.
const READING_PACE: Duration = Duration::from_secs(2);

/// What an interruption does to a training, and to a copy of a stream.
const TRAINING_STOPS: &str = "interrupting: the training stops at its next mini-batch and keeps its \
                              checkpoint; Ctrl-C again stops it at once";
const COPY_STOPS: &str = "interrupting: the copy writes the rows that it has taken; Ctrl-C again stops \
                          it at once";

/// Shows the events of one statement.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<State>>);

struct State {
    look: Look,
    console: Output,
    meter: Meter,
    /// What an interruption does, if it does more than drop a query.
    stop: Option<&'static str>,
    bar: Option<ProgressBar>,
    /// An epoch that came too soon after another: printed when nothing newer follows.
    pending: Option<String>,
    next_line: Instant,
    next_reading: Instant,
    next_stream: Instant,
    /// Rows of the last line about a stream.
    told_rows: u64,
}

impl Progress {
    /// Shows on `console` (standard error).
    pub fn new(look: Look, console: Output) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State {
            look,
            console,
            meter: Meter::new(now),
            stop: None,
            bar: None,
            pending: None,
            next_line: now,
            next_reading: now + READING_PACE,
            next_stream: now + STREAM_PACE,
            told_rows: 0,
        })))
    }

    /// The sink to which the session sends its events.
    pub fn sink(&self) -> EventSink {
        let progress = self.clone();
        Arc::new(move |event| progress.state().show(event, Instant::now()))
    }

    /// What to print on an interruption if the statement can stop gracefully; None if it is simply
    /// dropped.
    pub fn stop(&self) -> Option<&'static str> {
        self.state().stop
    }

    /// Prints a line without tearing the bar.
    pub fn say(&self, line: &str) {
        self.state().line(line);
    }

    /// Removes the bar before results or an error are printed.
    pub fn clear(&self) {
        self.state().clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self, event: Event, now: Instant) {
        self.meter.observe(&event, now);
        match event {
            Event::Started { .. }
            | Event::Progress { .. }
            | Event::Streaming { .. }
            | Event::Epoch { .. }
            | Event::Step { .. }
            | Event::Resumed { .. }
            | Event::Checkpoint { .. } => self.stop = Some(TRAINING_STOPS),
            Event::Copying => self.stop = Some(COPY_STOPS),
            Event::Reading { .. }
            | Event::Warning(_)
            | Event::Note(_)
            | Event::Published { .. } => {}
        }
        if let Event::Warning(text) = &event {
            return self.line(&format!("warning: {text}"));
        }
        match self.look {
            Look::Quiet => {}
            Look::Bar => self.draw(event, now),
            Look::Lines => self.tell(event, now),
        }
    }

    fn tell(&mut self, event: Event, now: Instant) {
        match event {
            Event::Reading { rows: n } => {
                if now >= self.next_reading {
                    self.next_reading = now + READING_PACE;
                    self.line(&format!("read {} so far", rows(n)));
                }
            }
            Event::Started { member, .. } if !member.is_empty() && now < self.next_line => {}
            Event::Started { .. } => {
                self.flush();
                self.line(&started(&event));
                self.next_line = now;
            }
            Event::Progress { .. } => {}
            Event::Epoch { .. } | Event::Step { .. } => {
                let line = self.meter.epoch_line(now);
                if now >= self.next_line {
                    self.next_line = now + PACE;
                    self.pending = None;
                    self.line(&line);
                } else {
                    self.pending = Some(line);
                }
            }
            Event::Streaming { .. } => {
                let n = self.meter.stream_rows();
                if now >= self.next_stream && n != self.told_rows {
                    self.told(now);
                    let line = format!("{}: {}", self.meter.name(), self.meter.stream_line());
                    self.line(&line);
                }
            }
            // Each version of a stream has a checkpoint before it.
            Event::Checkpoint { until: Position::Row(_) } => {}
            Event::Checkpoint { until } => {
                self.flush();
                self.line(&format!("checkpoint after {}", position(until)));
            }
            Event::Published { model, version } => {
                self.flush();
                self.published(&model, version, now);
            }
            Event::Resumed { .. } | Event::Note(_) => self.plain(&event),
            Event::Warning(_) | Event::Copying => {}
        }
    }

    fn draw(&mut self, event: Event, now: Instant) {
        match event {
            // The first streaming event announces a stream.
            Event::Started { epochs: 1, rows: 0, .. } => {}
            Event::Streaming { .. } => {
                let status = self.meter.status(now);
                let name = self.meter.name().to_owned();
                let bar = self.bar(0);
                bar.set_prefix(name);
                bar.set_message(status);
            }
            Event::Started { .. }
            | Event::Progress { .. }
            | Event::Epoch { .. }
            | Event::Step { .. } => {
                let (position, length) = self.meter.position();
                let status = self.meter.status(now);
                let name = self.meter.name().to_owned();
                let bar = self.bar(length);
                bar.set_length(length);
                bar.set_prefix(name);
                bar.set_position(position);
                bar.set_message(status);
            }
            Event::Reading { rows: n } => {
                let bar = self.bar(0);
                bar.set_prefix("reading");
                bar.set_message(rows(n));
            }
            Event::Checkpoint { .. } | Event::Warning(_) | Event::Copying => {}
            // The row that TRAIN returns has the version; the row of a stream may wait in a table.
            Event::Published { model, version } if self.meter.is_stream() => {
                self.published(&model, version, now);
            }
            Event::Published { .. } => self.clear(),
            Event::Resumed { .. } | Event::Note(_) => self.plain(&event),
        }
    }

    fn plain(&mut self, event: &Event) {
        match event {
            Event::Resumed { from } => {
                self.line(&format!("resumed from the checkpoint after {}", position(*from)));
            }
            Event::Note(text) => self.line(&format!("note: {text}")),
            _ => {}
        }
    }

    fn published(&mut self, model: &str, version: u64, now: Instant) {
        let mut line = format!("published {model}, version {version}");
        if self.meter.is_stream() {
            self.told(now);
            line += &format!(": {}", self.meter.stream_line());
        }
        self.line(&line);
    }

    /// Records that a line about the stream was printed.
    fn told(&mut self, now: Instant) {
        self.next_stream = now + STREAM_PACE;
        self.told_rows = self.meter.stream_rows();
    }

    fn bar(&mut self, length: u64) -> &ProgressBar {
        let bar = self.bar.get_or_insert_with(|| {
            let bar =
                ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::default_bar());
            bar
        });
        if bar.length() != Some(length) || bar.position() == 0 {
            let template =
                if length == 0 { "{prefix} {wide_msg}" } else { "{prefix} [{bar:10}] {wide_msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
        }
        bar
    }

    fn line(&mut self, text: &str) {
        let mut console = self.console.clone();
        match &self.bar {
            Some(bar) => bar.suspend(|| console.line(text)),
            None => console.line(text),
        }
    }

    fn flush(&mut self) {
        if let Some(line) = self.pending.take() {
            self.line(&line);
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.flush();
    }
}

/// A position in words: `epoch 3`.
fn position(position: Position) -> String {
    match position {
        Position::Epoch(epoch) => format!("epoch {epoch}"),
        Position::Step(step) => format!("step {step}"),
        Position::Groups(1) => "1 group".to_owned(),
        Position::Groups(groups) => format!("{groups} groups"),
        Position::Row(n) => rows(n),
    }
}

/// `training m: 32,561 rows, 8,000 for evaluation, up to 10 epochs, adam, batch 128, 1 replica`.
fn started(event: &Event) -> String {
    let Event::Started { model, member, rows: n, eval_rows, epochs, method } = event else {
        return String::new();
    };
    let mut text = format!("training {model}");
    if !member.is_empty() {
        text += &format!(" ({member})");
    }
    // The number of rows is not known for a stream.
    text += &match (*n, *epochs) {
        (0, 1) => ":".to_owned(),
        _ => format!(": {}", rows(*n)),
    };
    if *eval_rows > 0 {
        text += &format!(", {} for evaluation", count(*eval_rows));
    }
    text += match epochs {
        0 | 1 => String::new(),
        n => format!(", up to {} epochs", count(*n)),
    }
    .as_str();
    if !method.is_empty() {
        let mark = if text.ends_with(':') { " " } else { ", " };
        text += &format!("{mark}{method}");
    }
    text
}

/// `loss 0.3456, eval_loss 0.3512`.
pub(super) fn losses(loss: f64, eval_loss: Option<f64>) -> String {
    match eval_loss {
        Some(eval_loss) => format!("loss {}, eval_loss {}", figure(loss), figure(eval_loss)),
        None => format!("loss {}", figure(loss)),
    }
}

#[cfg(test)]
mod tests;
