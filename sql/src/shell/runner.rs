//! Runs statements one after another: rows to the output, everything else to the console.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use futures::StreamExt;
use gradlake_engine::{EventSink, STOPPED};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::args::Format;
use super::backend::Backend;
use super::message::{Place, located, sentence};
use super::output::Output;
use super::progress::{Look, Progress};
use super::rows::{RowWriter, summary};
use super::signals::Interrupt;
use super::workers::Workers;

/// After a statement is dropped, its workers get this long to notice.
const UNWIND: Duration = Duration::from_secs(1);

/// Signals within this time of one that counts are duplicates of it: `timeout` signals the process
/// and its group, and a terminal may send Ctrl-C to a process that forwards it.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// The settings that a user can change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Form of results.
    pub format: Format,
    /// Maximum rows of a table.
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
    /// The reader of the results has closed the pipe: nothing is left to do.
    Closed,
    /// `\q`: the script, or the prompt, is to end.
    Quit,
}

/// Runs statements on a backend.
pub struct Runner {
    backend: Arc<dyn Backend>,
    workers: Workers,
    interrupts: UnboundedReceiver<Interrupt>,
    output: Output,
    console: Output,
    /// The depth of includes of the running file.
    pub(super) included: usize,
    /// The current settings.
    pub settings: Settings,
}

enum Failure {
    Statement(DataFusionError),
    /// Writing failed; the output has the reason.
    Output,
}

impl Runner {
    /// A runner whose statements run on these threads.
    pub fn new(
        backend: Arc<dyn Backend>,
        workers: Workers,
        interrupts: UnboundedReceiver<Interrupt>,
        (output, console): (Output, Output),
        settings: Settings,
    ) -> Self {
        Self { backend, workers, interrupts, output, console, included: 0, settings }
    }

    /// Prints an error.
    pub fn error(&mut self, text: &str) {
        self.console.line(&format!("error: {text}"));
    }

    /// Prints a line for the user.
    pub fn say(&mut self, text: &str) {
        self.console.line(text);
    }

    /// Redirects results from now on.
    pub fn redirect(&mut self, output: Output) {
        self.output = output;
    }

    /// Discards interruptions that arrived while nothing ran.
    pub async fn forget_interrupts(&mut self) {
        // The runtime delivers signals when it has nothing else to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
        while self.interrupts.try_recv() == Ok(Interrupt::Statement) {}
    }

    /// Runs one statement.
    pub async fn run(&mut self, sql: &str, place: &Place) -> Ended {
        let start = Instant::now();
        let look = if self.settings.quiet { Look::Quiet } else { self.settings.look };
        let progress = Progress::new(look, self.console.clone());
        let mut task = self.workers.handle().spawn(drive(
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

    /// Waits for a statement. A training is asked to stop, so that it keeps its checkpoint, and a
    /// copy of a stream, so that it writes what it has; a query, or a statement that was asked
    /// before, is dropped and has no result.
    async fn wait(
        &mut self,
        task: &mut JoinHandle<Result<Option<u64>, Failure>>,
        progress: &Progress,
    ) -> (Option<Result<Option<u64>, Failure>>, Option<Interrupt>) {
        let mut last = None;
        let mut heard: Option<Instant> = None;
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
            if last != Some(Interrupt::Shell) {
                last = Some(interrupt);
            }
            let asked = match heard {
                Some(heard) if heard.elapsed() < SAME_SIGNAL => continue,
                heard => heard.is_some(),
            };
            heard = Some(Instant::now());
            if let (Some(stop), false) = (progress.stop(), asked) {
                self.backend.interrupt();
                progress.say(stop);
            } else {
                task.abort();
                self.backend.stop_queries();
                // What it was writing may still end here; a result that came first counts.
                let unwound = tokio::time::timeout(UNWIND, pin!(&mut *task)).await;
                return match unwound {
                    // The query was stopped from within.
                    Ok(Ok(Err(Failure::Statement(error)))) if sentence(&error) == STOPPED => {
                        (None, last)
                    }
                    Ok(Ok(result)) => (Some(result), last),
                    Ok(Err(_)) => (None, last),
                    Err(_) => {
                        self.workers.take_over();
                        (None, last)
                    }
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
            Some(batch) => {
                open.write(&batch).map_err(fail)?;
                // Without a yield, a task whose rows are available already could never be stopped.
                tokio::task::yield_now().await;
            }
            None => return open.finish().map_err(fail),
        }
        writer = Some(open);
    }
}

/// The environment in which tests of the shell run their scripts.
#[cfg(test)]
pub mod stage {
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::super::fake::Fake;
    use super::super::output::memory::Memory;
    use super::*;

    pub struct Stage {
        pub control: Runtime,
        pub workers: Runtime,
        pub fake: Arc<Fake>,
        pub interrupts: UnboundedSender<Interrupt>,
        pub runner: Runner,
        pub results: Memory,
        pub console: Memory,
    }

    pub fn stage() -> Stage {
        let workers = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let control = Builder::new_current_thread().enable_all().build().unwrap();
        let (results, console) = (Memory::default(), Memory::default());
        let (interrupts, receiver) = unbounded_channel();
        let fake = Arc::new(Fake::default());
        let runner = Runner::new(
            fake.clone(),
            Workers::new(workers.handle().clone(), || {
                Builder::new_multi_thread().worker_threads(1).enable_all().build()
            }),
            receiver,
            (results.output(), console.output()),
            Settings {
                format: Format::Csv,
                max_rows: None,
                quiet: false,
                terminal: false,
                look: Look::Lines,
            },
        );
        Stage { control, workers, fake, interrupts, runner, results, console }
    }

    impl Stage {
        pub fn script(&mut self, script: &str) -> Ended {
            self.control.block_on(self.runner.run_script(script, None))
        }

        /// Runs a statement and interrupts it after each of these milliseconds.
        pub fn interrupted(&mut self, sql: &str, after: &[u64]) -> Ended {
            let (sender, after) = (self.interrupts.clone(), after.to_vec());
            std::thread::spawn(move || {
                for milliseconds in after {
                    std::thread::sleep(Duration::from_millis(milliseconds));
                    // The receiver is gone when a test has ended.
                    let _ = sender.send(Interrupt::Statement);
                }
            });
            self.script(sql)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;
    use std::sync::atomic::Ordering;

    use super::super::output::memory::Failing;
    use super::stage::stage;
    use super::*;

    #[test]
    fn results_alone_reach_the_output() {
        let mut stage = stage();
        stage.runner.settings.terminal = true;
        assert_eq!(stage.script("rows 2; ddl"), Ended::Done);
        assert_eq!(stage.results.text(), "x\n0\n1\n0\n");
        let console = stage.console.text();
        assert!(console.starts_with("3 rows in set. Elapsed 0."), "{console}");
        assert!(console.contains("\nDone. Elapsed 0."), "{console}");
    }

    #[test]
    fn quiet_and_pipes_get_no_summary() {
        let mut stage = stage();
        assert_eq!(stage.script("rows 2"), Ended::Done);
        stage.runner.settings.terminal = true;
        stage.runner.settings.quiet = true;
        assert_eq!(stage.script("rows 2"), Ended::Done);
        assert_eq!(stage.console.text(), "");
    }

    #[test]
    fn a_script_ends_at_its_first_error_and_names_the_line() {
        let mut stage = stage();
        assert_eq!(stage.script("rows 1;\n\n fail;\nrows 1"), Ended::Failed);
        assert_eq!(stage.results.text(), "x\n0\n0\n");
        assert_eq!(stage.console.text(), "error: line 3: no such table 't'\n");
        assert_eq!(stage.fake.executed.load(Ordering::SeqCst), 2);
        let ended =
            stage.control.block_on(stage.runner.run_script("\nfail", Some(Path::new("dir/a.sql"))));
        assert_eq!(ended, Ended::Failed);
        assert!(stage.console.text().ends_with("error: dir/a.sql, line 2: no such table 't'\n"));
    }

    #[test]
    fn an_error_in_the_middle_keeps_the_rows_before_it() {
        let mut stage = stage();
        assert_eq!(stage.script("fail late"), Ended::Failed);
        assert_eq!(stage.results.text(), "x\n0\n1\n");
        assert_eq!(stage.console.text(), "error: disk on fire\n");
    }

    #[test]
    fn a_query_is_dropped_at_once() {
        let mut stage = stage();
        for sql in ["hang; rows 1", "reading; rows 1"] {
            assert_eq!(stage.interrupted(sql, &[20]), Ended::Interrupted);
        }
        assert_eq!(stage.console.text(), "error: interrupted\nerror: interrupted\n");
        assert!(!stage.fake.interrupted.load(Ordering::SeqCst));
        assert!(stage.fake.stopped.load(Ordering::SeqCst));
        // The shell continues.
        assert_eq!(stage.script("rows 1"), Ended::Done);
        assert_eq!(stage.results.text(), "x\n0\n0\n");
    }

    /// The only worker does not come back.
    #[test]
    fn what_cannot_be_stopped_is_left_behind() {
        let mut stage = stage();
        assert_eq!(stage.interrupted("busy", &[20]), Ended::Interrupted);
        assert_eq!(stage.console.text(), "error: interrupted\n");
        let start = Instant::now();
        assert_eq!(stage.script("rows 1"), Ended::Done);
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(stage.results.text(), "x\n0\n0\n");
    }

    #[test]
    fn a_training_may_keep_its_checkpoint() {
        let mut stage = stage();
        assert_eq!(stage.interrupted("train; rows 1", &[150]), Ended::Interrupted);
        let console = stage.console.text();
        assert!(console.contains("interrupting: the training stops"), "{console}");
        assert!(console.contains("\ncheckpoint after epoch "), "{console}");
        assert!(console.lines().last().unwrap().starts_with("error: interrupted after epoch"));
        assert_eq!(stage.results.text(), "");
    }

    #[test]
    fn a_second_interrupt_drops_a_training() {
        let mut stage = stage();
        let start = Instant::now();
        assert_eq!(stage.interrupted("train stubborn", &[60, 600]), Ended::Interrupted);
        assert!(start.elapsed() < Duration::from_secs(3));
        assert!(stage.fake.interrupted.load(Ordering::SeqCst));
        assert!(stage.console.text().ends_with("error: interrupted\n"));
    }

    #[test]
    fn signals_at_once_are_one() {
        let mut stage = stage();
        assert_eq!(stage.interrupted("train", &[150, 0, 5]), Ended::Interrupted);
        let console = stage.console.text();
        assert!(console.contains("\ncheckpoint after epoch "), "{console}");
        // SIGINT and SIGTERM together end the shell, and the training stops gracefully.
        stage.fake.interrupted.store(false, Ordering::SeqCst);
        let sender = stage.interrupts.clone();
        stage.workers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            sender.send(Interrupt::Statement).unwrap();
            sender.send(Interrupt::Shell).unwrap();
        });
        assert_eq!(stage.script("train"), Ended::Terminated);
        let console = stage.console.text();
        assert!(console.lines().last().unwrap().starts_with("error: interrupted after epoch"));
    }

    #[test]
    fn termination_ends_the_shell() {
        let mut stage = stage();
        stage.interrupts.send(Interrupt::Shell).unwrap();
        assert_eq!(stage.script("hang"), Ended::Terminated);
    }

    #[test]
    fn old_interrupts_are_forgotten() {
        let mut stage = stage();
        stage.interrupts.send(Interrupt::Statement).unwrap();
        stage.control.block_on(stage.runner.forget_interrupts());
        assert_eq!(stage.script("rows 1"), Ended::Done);
    }

    #[test]
    fn a_reader_that_went_away_ends_everything_in_silence() {
        let mut stage = stage();
        stage.runner.redirect(Output::new(Failing(10, ErrorKind::BrokenPipe)));
        assert_eq!(stage.script("endless; fail"), Ended::Closed);
        assert_eq!(stage.console.text(), "");
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut stage = stage();
        stage.runner.redirect(Output::new(Failing(10, ErrorKind::StorageFull)));
        assert_eq!(stage.script("endless"), Ended::Failed);
        let console = stage.console.text();
        assert!(console.starts_with("error: cannot write the result: "), "{console}");
    }

    #[test]
    fn a_panic_is_an_internal_error() {
        let mut stage = stage();
        assert_eq!(stage.script("panic"), Ended::Failed);
        assert!(stage.console.text().starts_with("error: internal error: "));
        assert_eq!(stage.script("rows 1"), Ended::Done);
    }
}
