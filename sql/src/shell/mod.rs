//! The shell: SQL from the command line, files, a pipe or a prompt; results to standard output.
//!
//! ```text
//! args -> sources -> script (statements) -> runner -> rows -> output (stdout)
//!                                             |-> progress, message -> console (stderr)
//! ```
//!
//! Two runtimes: statements run on a pool of `--threads` workers, and the main thread waits for
//! them in a runtime of its own, so that Ctrl-C is handled however busy the workers are.

pub mod args;
pub mod backend;
mod command;
mod complete;
#[cfg(test)]
mod fake;
mod interactive;
mod keywords;
pub mod message;
mod meter;
mod obey;
mod output;
mod progress;
mod rows;
mod runner;
mod script;
mod signals;
mod text;
mod workers;

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use self::args::{Args, Source};
use self::backend::Backend;
use self::output::Output;
use self::progress::Look;
use self::runner::{Ended, Runner, Settings};
use self::workers::Workers;
use crate::session::{Session, SessionOptions};

/// Rows of a table on a terminal, as in datafusion-cli.
const TERMINAL_ROWS: usize = 40;
/// Stack size of a worker: deep plans are walked by recursion.
const STACK: usize = 8 << 20;

/// The program `gradlake`: exit code 0, 1 when a statement failed, 2 on wrong usage.
pub fn main() -> ExitCode {
    let (args, sources) = Args::read();
    let mut console = Output::stderr();
    match start(&args, sources, console.clone()) {
        Ok(code) => code,
        Err(text) => {
            console.line(&format!("error: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args, sources: Vec<Source>, console: Output) -> Result<ExitCode, String> {
    let no_threads = |error: io::Error| format!("cannot start threads: {error}");
    let workers = workers(args.threads).map_err(no_threads)?;
    let control = Builder::new_current_thread().enable_all().build().map_err(no_threads)?;

    let options = SessionOptions {
        warehouse: args.warehouse.clone(),
        memory_limit: args.memory_limit.map(|bytes| bytes.0),
        threads: args.threads.map(usize::from),
        spill_folder: None,
    };
    let session = control.block_on(workers.spawn(Session::open(options)));
    let session = session
        .map_err(|error| format!("the session could not be opened: {error}"))?
        .map_err(|error| message::sentence(&error))?;
    let code = run(args, sources, console, Arc::new(session), (&control, &workers));
    // A worker that does not yield must not keep the process alive.
    workers.shutdown_background();
    code
}

/// Threads that run statements.
fn workers(threads: Option<u16>) -> io::Result<Runtime> {
    let mut workers = Builder::new_multi_thread();
    if let Some(threads) = threads {
        workers.worker_threads(usize::from(threads));
    }
    workers.thread_stack_size(STACK).enable_all().build()
}

fn run(
    args: &Args,
    sources: Vec<Source>,
    console: Output,
    backend: Arc<dyn Backend>,
    (control, workers): (&Runtime, &Runtime),
) -> Result<ExitCode, String> {
    let interrupts = {
        let _inside = control.enter();
        signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?
    };
    let terminal = io::stdout().is_terminal();
    let redraws =
        io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
    let settings = Settings {
        format: args.format,
        max_rows: match args.maxrows {
            Some(rows) => rows.0,
            None => terminal.then_some(TERMINAL_ROWS),
        },
        quiet: args.quiet,
        terminal,
        look: if redraws { Look::Bar } else { Look::Lines },
    };
    let outputs = (Output::stdout(), console);
    let threads = args.threads;
    let pool = Workers::new(workers.handle().clone(), move || self::workers(threads));
    let mut runner = Runner::new(backend.clone(), pool, interrupts, outputs, settings);

    let sources = match sources.is_empty() {
        false => sources,
        true if io::stdin().is_terminal() => {
            return Ok(interactive::interact(control, workers.handle(), backend, runner));
        }
        true => vec![Source::Stdin],
    };
    for source in sources {
        let (script, file) = match &source {
            Source::Command(text) => (text.clone(), None),
            Source::File(path) => (read(std::fs::read(path), path)?, Some(path.as_path())),
            Source::Stdin => {
                let mut bytes = vec![];
                let result = io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes);
                (read(result, Path::new("standard input"))?, None)
            }
        };
        match control.block_on(runner.run_script(&script, file)) {
            Ended::Done | Ended::Quit => {}
            Ended::Closed => return Ok(ExitCode::SUCCESS),
            Ended::Failed | Ended::Interrupted | Ended::Terminated => {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(bytes: io::Result<Vec<u8>>, name: &Path) -> Result<String, String> {
    let bytes = bytes.map_err(|error| format!("cannot read {}: {error}", name.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("{} is not UTF-8 text: {error}", name.display()))?;
    // Some editors begin a file with a byte-order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
