//! Files as tables: `FROM 'data/*.csv'` and `CREATE EXTERNAL TABLE`.
//!
//! ```text
//!   text ─▶ Location ─▶ files, kind ─▶ FileFormat ─▶ schema of all files ─▶ FileTable ─▶ scan
//!           (listing)                  (parquet, csv, json: one schema a file, merged by name)
//! ```
//!
//! These modules decide what DataFusion's own file tables leave to chance: which files of a folder
//! are data ([`listing`]), how the types of files are merged ([`widen`]), that columns are found by
//! name and numbers are read as they are written ([`csv`], [`json`]), and that any failure of a
//! library on a broken file becomes one sentence that names the file ([`guard`]).

mod csv;
mod fifo;
mod guard;
mod json;
mod kind;
mod listing;
mod location;
mod parquet;
mod partitions;
mod table;
mod text;
mod text_format;
mod text_source;
mod url_tables;
mod widen;

pub(crate) use csv::CsvFilesFactory;
pub(crate) use guard::{GuardScans, caught, guard, reading};
pub(crate) use json::JsonFilesFactory;
pub use kind::ENDINGS;
pub(crate) use parquet::{ParquetFilesFactory, readable};
pub(crate) use table::create_table;
pub(crate) use url_tables::UrlTables;
pub(crate) use widen::integer;

use std::path::Path as FilePath;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// A file as errors name it: a path on the disk from the working folder, or a path in its store.
fn name_of(store: &dyn ObjectStore, file: &Path) -> String {
    name_in(store.to_string().starts_with("LocalFileSystem"), file)
}

/// As [`name_of`], where it is known whether the store is the disk.
fn name_in(is_on_disk: bool, file: &Path) -> String {
    if !is_on_disk {
        return file.to_string();
    }
    let Ok(path) = LocalFileSystem::new().path_to_filesystem(file) else {
        return file.to_string();
    };
    let folder = std::env::current_dir().ok();
    let relative = folder.and_then(|folder| path.strip_prefix(folder).ok().map(FilePath::to_owned));
    relative.unwrap_or(path).display().to_string()
}

/// The first bytes of a text file, at least `limit` where it has so many, decompressed, and whether
/// they are all.
///
/// # Errors
/// When the file cannot be read or is not compressed as its name says.
async fn text_bytes(
    store: &Arc<dyn ObjectStore>,
    file: &ObjectMeta,
    compression: FileCompressionType,
    limit: usize,
) -> Result<(Vec<u8>, bool)> {
    let name = name_of(store.as_ref(), &file.location);
    let stream = match store.get(&file.location).await {
        Ok(result) => result.into_stream(),
        Err(error) => return Err(listing::store_error(&name, error)),
    };
    let stream = stream.map_err(DataFusionError::from).boxed();
    let mut stream = compression.convert_stream(stream)?;
    let mut bytes = vec![];
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => {
                return exec_err!(
                    "{name} cannot be read: {}",
                    listing::one_line(&error.strip_backtrace())
                );
            }
        }
        if bytes.len() >= limit {
            // The end of the file may be the end of what was read.
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}
