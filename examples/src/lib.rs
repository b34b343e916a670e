//! What the programs share: where the data lies.

use std::path::{Path, PathBuf};

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The path of a file of `examples/data` as it stands between quotes in SQL: relative where the
/// program runs in the folder of the repository, absolute elsewhere.
pub fn data(file: &str) -> String {
    let relative = Path::new("examples/data").join(file);
    let path = if relative.is_file() {
        relative
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file)
    };
    path.display().to_string().replace('\'', "''")
}
