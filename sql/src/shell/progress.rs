//! The events of a training, as a bar on a terminal and as plain lines elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gradlake_engine::event::{Event, EventSink, Position};
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

/// Between two lines of the same kind at least; the newest of those held back is not lost.
const PACE: Duration = Duration::from_millis(250);
/// Between two lines about a stream at least.
const STREAM_PACE: Duration = Duration::from_secs(10);
/// Between two lines about reading at least: it is often over before the first one.
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
    /// What an interruption does, where it is more than to drop a query.
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

    /// Where the session sends its events.
    pub fn sink(&self) -> EventSink {
        let progress = self.clone();
        Arc::new(move |event| progress.state().show(event, Instant::now()))
    }

    /// What to say of an interruption, where the statement ends well when it is asked to; None where
    /// it is simply dropped.
    pub fn stop(&self) -> Option<&'static str> {
        self.state().stop
    }

    /// Prints a line without tearing the bar.
    pub fn say(&self, line: &str) {
        self.state().line(line);
    }

    /// Takes the bar away, before results or an error are printed.
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
            Event::Epoch { .. } => {
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
            Event::Checkpoint { until: Position::Epoch(epoch) } => {
                self.flush();
                self.line(&format!("checkpoint after epoch {epoch}"));
            }
            // One lies before each version of a stream.
            Event::Checkpoint { until: Position::Row(_) } => {}
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
            // The first rows of a stream say that it is one.
            Event::Started { epochs: 1, rows: 0, .. } => {}
            Event::Streaming { .. } => {
                let status = self.meter.status(now);
                let name = self.meter.name().to_owned();
                let bar = self.bar(0);
                bar.set_prefix(name);
                bar.set_message(status);
            }
            Event::Started { .. } | Event::Progress { .. } | Event::Epoch { .. } => {
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
            // The row that TRAIN returns says the version; that of a stream may wait in a table.
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
                let at = match from {
                    Position::Epoch(epoch) => format!("epoch {epoch}"),
                    Position::Row(n) => rows(*n),
                };
                self.line(&format!("resumed from the checkpoint after {at}"));
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

    /// Notes that a line about the stream stands there.
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

/// `training m: 32,561 rows, 8,000 for evaluation, up to 10 epochs, adam, batch 128, 1 replica`.
fn started(event: &Event) -> String {
    let Event::Started { model, member, rows: n, eval_rows, epochs, method } = event else {
        return String::new();
    };
    let mut text = format!("training {model}");
    if !member.is_empty() {
        text += &format!(" ({member})");
    }
    // Nobody knows how many rows will come.
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
mod tests {
    use super::super::output::memory::Memory;
    use super::*;

    fn events() -> Vec<Event> {
        let epoch = |epoch: u64| Event::Epoch {
            epoch,
            epochs: 3,
            loss: 0.5 / epoch as f64,
            eval_loss: Some(0.6),
            learning_rate: 0.1,
            rows_per_second: 1000.0,
        };
        vec![
            Event::Note("the warehouse ./gradlake-warehouse is made".to_owned()),
            Event::Reading { rows: 8192 },
            Event::Started {
                model: "m".to_owned(),
                member: String::new(),
                rows: 32561,
                eval_rows: 8000,
                epochs: 3,
                method: "adam, batch 128, 1 replica".to_owned(),
            },
            Event::Resumed { from: Position::Epoch(1) },
            Event::Warning("3 rows are skipped".to_owned()),
            epoch(2),
            Event::Progress { epoch: 3, epochs: 3, rows_done: 128, rows: 32561, loss: 0.2 },
            epoch(3),
            Event::Checkpoint { until: Position::Epoch(3) },
            Event::Published { model: "m".to_owned(), version: 4 },
        ]
    }

    fn shown(look: Look, pause: Duration) -> String {
        let memory = Memory::default();
        let progress = Progress::new(look, memory.output());
        let start = Instant::now();
        for (i, event) in events().into_iter().enumerate() {
            progress.state().show(event, start + pause * i as u32);
        }
        assert_eq!(progress.stop(), Some(TRAINING_STOPS));
        progress.clear();
        memory.text()
    }

    #[test]
    fn a_pipe_gets_plain_lines() {
        let text = shown(Look::Lines, Duration::ZERO);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "note: the warehouse ./gradlake-warehouse is made");
        assert_eq!(
            lines[1],
            "training m: 32,561 rows, 8,000 for evaluation, up to 3 epochs, adam, batch 128, 1 replica"
        );
        assert_eq!(lines[2], "resumed from the checkpoint after epoch 1");
        assert_eq!(lines[3], "warning: 3 rows are skipped");
        assert!(
            lines[4].starts_with("epoch 2/3: loss 0.2500, eval_loss 0.6000, 1,000 rows/s"),
            "{text}"
        );
        assert!(lines[5].starts_with("epoch 3/3: loss 0.1667"), "{text}");
        assert_eq!(lines[6..], ["checkpoint after epoch 3", "published m, version 4"]);
        assert!(!text.contains('\r') && !text.contains('\u{1b}'));
    }

    #[test]
    fn reading_is_told_when_it_takes_long() {
        assert!(!shown(Look::Lines, Duration::from_millis(100)).contains("read"));
        assert!(shown(Look::Lines, Duration::from_secs(3)).contains("read 8,192 rows so far\n"));
    }

    #[test]
    fn lines_are_few_a_second_and_the_last_is_not_lost() {
        let memory = Memory::default();
        let progress = Progress::new(Look::Lines, memory.output());
        let start = Instant::now();
        for epoch in 1..=1000u64 {
            let event = Event::Epoch {
                epoch,
                epochs: 1000,
                loss: 1.0,
                eval_loss: None,
                learning_rate: 0.1,
                rows_per_second: 10.0,
            };
            progress.state().show(event, start + Duration::from_millis(epoch));
        }
        progress.clear();
        let text = memory.text();
        assert!((4..=6).contains(&text.lines().count()), "{text}");
        assert!(text.lines().last().unwrap().starts_with("epoch 1000/1000"), "{text}");
    }

    #[test]
    fn quiet_keeps_warnings_alone() {
        assert_eq!(shown(Look::Quiet, Duration::ZERO), "warning: 3 rows are skipped\n");
    }

    #[test]
    fn a_member_is_named() {
        let event = Event::Started {
            model: "m".to_owned(),
            member: "carrier = UA".to_owned(),
            rows: 1,
            eval_rows: 0,
            epochs: 1,
            method: "newton".to_owned(),
        };
        assert_eq!(started(&event), "training m (carrier = UA): 1 row, newton");
    }

    #[test]
    fn reading_alone_is_no_training() {
        let progress = Progress::new(Look::Quiet, Memory::default().output());
        progress.sink()(Event::Reading { rows: 1 });
        assert_eq!(progress.stop(), None);
        progress.sink()(Event::Copying);
        assert_eq!(progress.stop(), Some(COPY_STOPS));
    }
    /// Rows of a stream, a version, and nothing for a while.
    fn stream(progress: &Progress) {
        let start = Instant::now();
        let streaming = |rows| Event::Streaming {
            rows,
            rows_per_second: 50.0,
            loss: Some(0.5),
            recent_loss: Some(0.25),
            recent_accuracy: Some(0.875),
            recent_error: None,
            waiting: None,
        };
        let started = Event::Started {
            model: "m".to_owned(),
            member: String::new(),
            rows: 0,
            eval_rows: 0,
            epochs: 1,
            method: "every row once, as it comes".to_owned(),
        };
        let show = |event, seconds| {
            progress.state().show(event, start + Duration::from_secs(seconds));
        };
        show(started, 0);
        show(Event::Resumed { from: Position::Row(1000) }, 0);
        show(streaming(1100), 1);
        show(Event::Checkpoint { until: Position::Row(1200) }, 2);
        show(streaming(1200), 2);
        show(Event::Published { model: "m".to_owned(), version: 4 }, 2);
        for second in 3..40 {
            show(streaming(1300), second);
        }
    }

    #[test]
    fn a_stream_in_a_pipe_gets_few_lines() {
        let memory = Memory::default();
        let progress = Progress::new(Look::Lines, memory.output());
        stream(&progress);
        assert_eq!(progress.stop(), Some(TRAINING_STOPS));
        assert_eq!(
            memory.text().lines().collect::<Vec<_>>(),
            [
                "training m: every row once, as it comes",
                "resumed from the checkpoint after 1,000 rows",
                "published m, version 4: 1,200 rows, 50/s, loss 0.2500, accuracy 0.875",
                "m: 1,300 rows, 50/s, loss 0.2500, accuracy 0.875",
            ]
        );
    }

    #[test]
    fn a_stream_on_a_terminal_has_no_bar_and_keeps_its_versions() {
        let memory = Memory::default();
        let progress = Progress::new(Look::Bar, memory.output());
        stream(&progress);
        let mut state = progress.state();
        let bar = state.bar.clone().unwrap();
        assert_eq!((bar.prefix(), bar.length()), ("m".to_owned(), Some(0)));
        assert_eq!(bar.message(), "1,300 rows  50/s  loss 0.2500  acc 0.875  v4 37 s");
        state.clear();
        assert_eq!(
            memory.text().lines().collect::<Vec<_>>(),
            [
                "resumed from the checkpoint after 1,000 rows",
                "published m, version 4: 1,200 rows, 50/s, loss 0.2500, accuracy 0.875",
            ]
        );
    }
}
