//! The prompt.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Behavior, CompletionType, Config, Editor};
use tokio::runtime::{Handle, Runtime};

use super::backend::Backend;
use super::command;
use super::complete::Assistant;
use super::message::Place;
use super::runner::{Ended, Runner};
use super::script::statements;

const PROMPT: &str = "gradlake> ";
/// Number of statements that the history keeps.
const HISTORY: usize = 2000;
/// A completion that takes longer is dropped; the keyboard must not hang.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads and runs statements until the user leaves.
///
/// `control` waits for statements, `workers` run them.
pub fn interact(
    control: &Runtime,
    workers: &Handle,
    backend: Arc<dyn Backend>,
    mut runner: Runner,
) -> ExitCode {
    let mut editor = match editor(workers.clone(), backend, runner.settings.terminal) {
        Ok(editor) => editor,
        Err(error) => {
            runner.error(&format!("cannot read from the terminal: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let history = history_file();
    if let Some(path) = &history {
        // There is none before the first run.
        let _ = editor.load_history(path);
    }
    if !runner.settings.quiet {
        let version = env!("CARGO_PKG_VERSION");
        runner.say(&format!(
            r"gradlake {version}. Statements end with ';', \? lists the commands, \q leaves."
        ));
    }
    let at_prompt = watch_termination(workers);
    loop {
        at_prompt.store(true, Ordering::SeqCst);
        let input = editor.readline(PROMPT);
        at_prompt.store(false, Ordering::SeqCst);
        let input = match input {
            Ok(input) => input,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return ExitCode::SUCCESS,
            Err(error) => {
                runner.error(&format!("cannot read from the terminal: {error}"));
                return ExitCode::FAILURE;
            }
        };
        if input.trim().is_empty() {
            continue;
        }
        remember(&mut editor, history.as_deref(), &input);
        control.block_on(runner.forget_interrupts());
        let ended = match command::plain_word(&input) {
            Some(command) => control.block_on(runner.obey(command, &Place::default())),
            None => {
                let say_line = statements(&input).len() > 1;
                control.block_on(runner.run_text(&input, None, say_line))
            }
        };
        if let Some(assistant) = editor.helper() {
            assistant.forget_names();
        }
        match ended {
            Ended::Done | Ended::Failed | Ended::Interrupted => {}
            Ended::Terminated => return ExitCode::FAILURE,
            Ended::Closed | Ended::Quit => return ExitCode::SUCCESS,
        }
    }
}

fn editor(
    workers: Handle,
    backend: Arc<dyn Backend>,
    terminal: bool,
) -> rustyline::Result<Editor<Assistant, FileHistory>> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY)?
        .history_ignore_space(true)
        // Results that are redirected must not be mixed with the prompt.
        .behavior(if terminal { Behavior::Stdio } else { Behavior::PreferTerm })
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Assistant::new(move || {
        let backend = backend.clone();
        let (sender, receiver) = mpsc::channel();
        let task = workers.spawn(async move {
            // The receiver is gone if it took too long.
            let _ = sender.send(backend.completions().await);
        });
        let names = receiver.recv_timeout(PATIENCE).ok();
        task.abort();
        names
    })));
    Ok(editor)
}

fn remember(
    editor: &mut Editor<Assistant, FileHistory>,
    file: Option<&std::path::Path>,
    input: &str,
) {
    // An error when writing the history is ignored.
    if matches!(editor.add_history_entry(input.trim()), Ok(true))
        && let Some(path) = file
        && path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
    {
        let _ = editor.append_history(path);
    }
}

/// `gradlake/history` in the user's folder for data.
fn history_file() -> Option<PathBuf> {
    let variable = |name| {
        std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute())
    };
    let data = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")))
    };
    data.map(|folder| folder.join("gradlake").join("history"))
}

/// SIGTERM at the prompt: the line editor has the terminal in raw mode and cannot be woken, so the
/// terminal is restored here before the process ends. The flag says whether the prompt is waiting.
#[cfg(unix)]
fn watch_termination(workers: &Handle) -> Arc<AtomicBool> {
    use tokio::signal::unix::{SignalKind, signal};

    let at_prompt = Arc::new(AtomicBool::new(false));
    let flag = at_prompt.clone();
    workers.spawn(async move {
        let Ok(mut signals) = signal(SignalKind::terminate()) else { return };
        while signals.recv().await.is_some() {
            if flag.load(Ordering::SeqCst) {
                let _ = std::process::Command::new("stty").arg("sane").status();
                std::process::exit(1);
            }
        }
    });
    at_prompt
}

/// Elsewhere the system ends the process.
#[cfg(not(unix))]
fn watch_termination(_: &Handle) -> Arc<AtomicBool> {
    Arc::default()
}
