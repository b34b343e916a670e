//! The binary `gradlake`.

use std::ffi::OsString;
use std::process::ExitCode;

/// Chunks of some megabytes are allocated and freed for hours. The system's allocator fragments and
/// keeps freed memory, so that a training within `--memory-limit 512MB` holds more than twice that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h: milliseconds until free memory is returned to the system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// With `--memory-limit`, free memory is returned at once: with mimalloc's default a training
/// within 512 MB held 1.3 GB. Without it, free memory is kept for the next chunk, as faults on
/// fresh pages can take longer than reading what is written to them.
fn purge_delay() -> std::ffi::c_long {
    let is_limit = |argument: OsString| {
        let argument = argument.to_string_lossy();
        argument.starts_with("--memory-limit") || argument.starts_with("-m")
    };
    let is_bounded = std::env::args_os().any(is_limit);
    if is_bounded { 0 } else { 1000 }
}

fn main() -> ExitCode {
    #[allow(unsafe_code, reason = "a C function that sets a number; no other thread runs yet")]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, purge_delay());
    }
    gradlake_sql::shell::main()
}
