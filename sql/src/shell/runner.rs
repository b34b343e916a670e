//! Runs statements one after another: rows to the output, everything else to the console.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use futures::StreamExt;
use gradlake_engine::event::EventSink;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::args::Format;
use super::backend::Backend;
use super::message::{Place, located};
use super::output::Output;
use super::progress::{Look, Progress};
use super::rows::{RowWriter, summary};
use super::script::{Statement, statements};
use super::signals::Interrupt;

/// After a statement is dropped, its workers get this long to notice.
const UNWIND: Duration = Duration::from_secs(1);

/// What the shell lets a user choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Form of results.
    pub format: Format,
    /// Rows of a table at most.
    pub max_rows: Option<usize>,
    /// No progress, notes, row counts and timings.
    pub quiet: bool,
    /// Whether a person reads the results: then row counts and timings follow them.
    pub terminal: bool,
    /// How progress is shown when not quiet.
    pub look: Look,
}

/// How a statement or a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it ran.
    Done,
    /// A statement failed, and its error is printed.
    Failed,
    /// Ctrl-C stopped it.
    Interrupted,
    /// SIGTERM stopped it, and the shell is to end.
    Terminated,
    /// The reader of the results went away: nothing is left to do.
    Closed,
}

/// Runs statements on a backend.
pub struct Runner {
    backend: Arc<dyn Backend>,
    workers: Handle,
    interrupts: UnboundedReceiver<Interrupt>,
    output: Output,
    console: Output,
    /// The choices in force.
    pub settings: Settings,
}

enum Failure {
    Statement(DataFusionError),
    /// The output says how.
    Output,
}

impl Runner {
    /// A runner whose statements run on `workers`.
    pub fn new(
        backend: Arc<dyn Backend>,
        workers: Handle,
        interrupts: UnboundedReceiver<Interrupt>,
        (output, console): (Output, Output),
        settings: Settings,
    ) -> Self {
        Self { backend, workers, interrupts, output, console, settings }
    }

    /// Prints an error.
    pub fn error(&mut self, text: &str) {
        self.console.line(&format!("error: {text}"));
    }

    /// Prints a line for the user.
    pub fn say(&mut self, text: &str) {
        self.console.line(text);
    }

    /// Sends results elsewhere from now on.
    pub fn redirect(&mut self, output: Output) {
        self.output = output;
    }

    /// Forgets interruptions that came when nothing ran.
    pub async fn forget_interrupts(&mut self) {
        // The runtime hands signals over when it has nothing else to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
        while self.interrupts.try_recv() == Ok(Interrupt::Statement) {}
    }

    /// Runs a script up to the first statement that does not run to its end.
    pub async fn run_script(&mut self, script: &str, file: Option<&Path>) -> Ended {
        let statements = statements(script);
        let say_line = script.trim().contains('\n');
        for Statement { text, line, column } in statements {
            let file = file.map(|path| path.display().to_string());
            let place = Place { file, line, column, say_line };
            let ended = self.run(text, &place).await;
            if ended != Ended::Done {
                return ended;
            }
        }
        Ended::Done
    }

    /// Runs one statement.
    pub async fn run(&mut self, sql: &str, place: &Place) -> Ended {
        let start = Instant::now();
        let look = if self.settings.quiet { Look::Quiet } else { self.settings.look };
        let progress = Progress::new(look, self.console.clone());
        let mut task = self.workers.spawn(drive(
            self.backend.clone(),
            sql.to_owned(),
            progress.clone(),
            self.output.clone(),
            (self.settings.format, self.settings.max_rows),
        ));
        let (result, interrupt) = self.wait(&mut task, &progress).await;
        progress.clear();
        let ended = match result {
            Some(Ok(rows)) => {
                if self.settings.terminal && !self.settings.quiet {
                    self.console.line(&summary(rows, start.elapsed().as_secs_f64()));
                }
                Ended::Done
            }
            Some(Err(Failure::Statement(error))) => {
                self.error(&located(&error, place));
                Ended::Failed
            }
            Some(Err(Failure::Output)) if self.output.is_broken_pipe() => Ended::Closed,
            Some(Err(Failure::Output)) => {
                let why = self.output.failure().map_or_else(String::new, |(_, text)| text);
                self.error(&format!("cannot write the result: {why}"));
                Ended::Failed
            }
            None => {
                self.error("interrupted");
                Ended::Failed
            }
        };
        match interrupt {
            None => ended,
            Some(Interrupt::Statement) => Ended::Interrupted,
            Some(Interrupt::Shell) => Ended::Terminated,
        }
    }

    /// Waits for a statement. A training is asked to stop, so that it keeps its checkpoint; a
    /// query, and a training that was asked before, is dropped and has no result.
    async fn wait(
        &mut self,
        task: &mut JoinHandle<Result<Option<u64>, Failure>>,
        progress: &Progress,
    ) -> (Option<Result<Option<u64>, Failure>>, Option<Interrupt>) {
        let mut last = None;
        let mut open = true;
        loop {
            let interrupt = tokio::select! {
                result = &mut *task => return (Some(joined(result)), last),
                interrupt = self.interrupts.recv(), if open => interrupt,
            };
            let Some(interrupt) = interrupt else {
                open = false;
                continue;
            };
            let asked = last.is_some();
            if last != Some(Interrupt::Shell) {
                last = Some(interrupt);
            }
            if progress.is_training() && !asked {
                self.backend.interrupt();
                progress.say(
                    "interrupting: the training stops at its next mini-batch and keeps its \
                     checkpoint; Ctrl-C again stops it at once",
                );
            } else {
                task.abort();
                // What it had written so far may end here; a result that came first counts.
                let unwound = tokio::time::timeout(UNWIND, pin!(&mut *task)).await;
                return match unwound {
                    Ok(Ok(result)) => (Some(result), last),
                    Ok(Err(_)) | Err(_) => (None, last),
                };
            }
        }
    }
}

fn joined(
    result: Result<Result<Option<u64>, Failure>, tokio::task::JoinError>,
) -> Result<Option<u64>, Failure> {
    result.unwrap_or_else(|error| {
        let error = DataFusionError::Internal(format!("the statement was cut off: {error}"));
        Err(Failure::Statement(error))
    })
}

/// Runs a statement to its end and returns the number of its rows.
async fn drive(
    backend: Arc<dyn Backend>,
    sql: String,
    progress: Progress,
    output: Output,
    (format, max_rows): (Format, Option<usize>),
) -> Result<Option<u64>, Failure> {
    let sink: EventSink = progress.sink();
    let mut stream = backend.execute(&sql, sink).await.map_err(Failure::Statement)?;
    let fail = |error: ArrowError| match output.failure() {
        Some(_) => Failure::Output,
        None => Failure::Statement(error.into()),
    };
    // The header waits for the first batch: an error before it leaves the output empty.
    let schema = stream.schema();
    let mut writer: Option<RowWriter> = None;
    loop {
        let batch = stream.next().await.transpose().map_err(Failure::Statement)?;
        // The bar and the rows may share a terminal.
        progress.clear();
        let mut open = match writer.take() {
            Some(writer) => writer,
            None => RowWriter::new(format, max_rows, &schema, &output).map_err(fail)?,
        };
        match batch {
            Some(batch) => open.write(&batch).map_err(fail)?,
            None => return open.finish().map_err(fail),
        }
        writer = Some(open);
    }
}
