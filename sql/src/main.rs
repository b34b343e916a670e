//! The binary `gradlake`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gradlake_sql::shell::main()
}
