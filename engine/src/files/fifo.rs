//! Refuses what cannot be read as a file: FIFOs, sockets and devices, whose rows can be read only
//! once.

use std::path::Path;

use datafusion::common::{Result, plan_err};

/// Refuses a path, written as `location`, at which there is no file but something whose bytes can
/// be read only once: a FIFO (a process substitution too), a socket, or a device such as
/// `/dev/stdin` of a terminal. It is not opened. Where there is nothing, there is no FIFO.
///
/// # Errors
/// One sentence that names the statement that reads it.
pub(super) fn refuse_fifo(location: &str, path: &Path) -> Result<()> {
    let Some(kind) = kind(path) else { return Ok(()) };
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let format = match ending.to_lowercase().as_str() {
        "parquet" => {
            return plan_err!(
                "{location} is {kind}, whose bytes come once, and a Parquet file ends with its index; \
                 write it to a file first"
            );
        }
        "json" | "ndjson" | "jsonl" => "JSON",
        "arrow" | "ipc" => "ARROW",
        _ => "CSV",
    };
    let place = match std::path::absolute(path) {
        Ok(path) if kind == SOCKET => format!("unix://{}", path.display()),
        _ => location.to_owned(),
    };
    plan_err!(
        "{location} is {kind}, whose bytes come once; CREATE UNBOUNDED EXTERNAL TABLE t (x DOUBLE, \
         ...) STORED AS {format} LOCATION '{place}' reads it"
    )
}

const SOCKET: &str = "a socket";

#[cfg(unix)]
fn kind(path: &Path) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;

    let file_type = std::fs::metadata(path).ok()?.file_type();
    if file_type.is_fifo() {
        Some("a FIFO")
    } else if file_type.is_socket() {
        Some(SOCKET)
    } else if file_type.is_char_device() || file_type.is_block_device() {
        Some("a device")
    } else {
        None
    }
}

#[cfg(not(unix))]
fn kind(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::location::Location;

    fn refuse_fifo(location: &str) -> datafusion::common::Result<()> {
        Location::parse(location).map(|_| ())
    }

    #[test]
    fn what_comes_once_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("file.csv"), "x\n1\n").unwrap();
        for name in ["fifo.csv", "fifo.json", "fifo.parquet"] {
            let made = std::process::Command::new("mkfifo").arg(path(name)).status().unwrap();
            assert!(made.success());
        }
        let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink(path("fifo.csv"), path("link.csv")).unwrap();
        for fine in [&path("file.csv"), &path("none.csv"), &path(""), "s3://bucket/x.csv", "t"] {
            refuse_fifo(fine).unwrap();
        }
        let refused = |location: &str| refuse_fifo(location).unwrap_err().strip_backtrace();
        let fifo = path("fifo.csv");
        assert_eq!(
            refused(&fifo),
            format!(
                "Error during planning: {fifo} is a FIFO, whose bytes come once; CREATE UNBOUNDED \
                 EXTERNAL TABLE t (x DOUBLE, ...) STORED AS CSV LOCATION '{fifo}' reads it"
            )
        );
        assert!(refused(&path("link.csv")).contains("is a FIFO"));
        assert!(refused(&path("fifo.json")).contains("STORED AS JSON"));
        assert!(refused(&format!("file://{fifo}")).contains("is a FIFO"));
        let socket = path("socket");
        assert!(refused(&socket).ends_with(&format!("LOCATION 'unix://{socket}' reads it")));
        assert!(refused(&path("fifo.parquet")).ends_with("write it to a file first"));
        assert!(refused("/dev/null").contains("is a device"));
    }
}
