//! The binary `gradlake`.

use std::process::ExitCode;

/// Chunks of some megabytes come and go for hours. The system's allocator keeps what it was given back
/// in pieces, and a training within `--memory-limit 512MB` then holds twice that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gradlake_sql::shell::main()
}
