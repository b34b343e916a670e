//! The binary `gradlake`.

use std::process::ExitCode;

/// Chunks of some megabytes come and go for hours. The system's allocator keeps what it was given back
/// in pieces, and a training within `--memory-limit 512MB` then holds more than twice that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h: milliseconds until memory that is free goes back to the
/// system. The default of 10, times 10 for large pieces, let the same training hold 1.3 GB.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    #[allow(unsafe_code, reason = "a C function that sets a number; nothing is allocated yet")]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
    }
    gradlake_sql::shell::main()
}
