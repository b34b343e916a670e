//! What `benches/peers/run` measures on our side within a process: passes of a statement, the
//! limits of the machine, and a producer of rows. Each subcommand prints one JSON object a line.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gradlake_benches::Result;
use serde_json::Value;

mod latency;
mod limits;
mod produce;
mod statement;

/// As in the shell.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Measures passes within a process, for benches/peers/run")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reading rate of the memory and multiplication rate of faer
    Limits(limits::Args),
    /// From the arrival of a row to a prediction by a model that has learned it
    Latency(latency::Args),
    /// Runs a statement several times in one session
    Statement(statement::Args),
    /// Sends the rows of a Parquet file as an Arrow stream to a TCP port
    Produce(produce::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Limits(args) => limits::run(&args),
        Command::Latency(args) => latency::run(&args),
        Command::Statement(args) => statement::run(&args),
        Command::Produce(args) => produce::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one line of JSON.
///
/// # Errors
/// When standard output is closed.
fn print(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}
