//! Where files are: one file, a folder, or a pattern, on a disk or in an object store.

use std::path::{Component, Path as FilePath, PathBuf};

use datafusion::common::{Result, exec_err, plan_err};
use datafusion::execution::object_store::ObjectStoreUrl;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use url::{Position, Url};

use super::fifo::refuse_fifo;
use crate::object_stores::is_object_url;

/// Characters that make a pattern of a path.
const GLOB: [char; 3] = ['*', '?', '['];

/// In a pattern `*` stands for a part of one name, `**` for any folders.
const MATCH: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A location of files.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    /// As it was written.
    pub(crate) text: String,
    /// The store.
    pub(crate) store: ObjectStoreUrl,
    /// The file, or the folder of the files.
    pub(crate) prefix: Path,
    /// What the paths of files below the folder must match.
    pub(crate) pattern: Option<Pattern>,
    /// Whether it ends with a slash or is a folder of the disk.
    pub(crate) is_folder: bool,
    /// The path on the disk, of a file or folder that is there.
    pub(crate) on_disk: Option<PathBuf>,
}

impl Location {
    /// Reads a path, a pattern, or a URL.
    ///
    /// # Errors
    /// When it is none of them, or a FIFO, saying why.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return plan_err!("the path of a file is empty");
        }
        if is_object_url(text) {
            return Self::of_url(text);
        }
        let path = match Url::parse(text) {
            Ok(url) if url.scheme() == "file" => match url.to_file_path() {
                Ok(path) => path,
                Err(()) => return plan_err!("{text} is no path of a file; write file:///path"),
            },
            _ => text.into(),
        };
        Self::of_path(text, &path)
    }

    fn of_path(text: &str, path: &FilePath) -> Result<Self> {
        refuse_fifo(text, path)?;
        let absolute = match std::path::absolute(path) {
            Ok(path) => normal(&path),
            Err(error) => return exec_err!("{text} cannot be found: {error}"),
        };
        let store = ObjectStoreUrl::local_filesystem();
        let whole = absolute.to_string_lossy().into_owned();
        // A file whose name has a bracket is a file.
        if absolute.exists() || !whole.contains(GLOB) {
            let is_folder = text.ends_with(['/', '\\']) || absolute.is_dir();
            return Ok(Self {
                text: text.to_owned(),
                store,
                prefix: disk_path(text, &absolute)?,
                pattern: None,
                is_folder,
                on_disk: absolute.exists().then_some(absolute),
            });
        }
        let (folder, pattern) = split_pattern(&whole);
        Ok(Self {
            text: text.to_owned(),
            store,
            prefix: disk_path(text, FilePath::new(folder))?,
            pattern: Some(parse_pattern(text, pattern)?),
            is_folder: true,
            on_disk: None,
        })
    }

    fn of_url(text: &str) -> Result<Self> {
        let Ok(url) = Url::parse(text) else {
            return plan_err!("{text} is no URL");
        };
        if url.query().is_some() && matches!(url.scheme(), "http" | "https") {
            return plan_err!(
                "{text} has a query behind its path, which the store of a host does not take; \
                 download it, or name a path without one"
            );
        }
        let store = ObjectStoreUrl::parse(&url[..Position::BeforePath])?;
        // As written: a `?` would begin the query of a URL.
        let path = text.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        let path = path.map_or("", |(_, path)| path);
        if path.contains(['*', '[']) {
            if matches!(url.scheme(), "http" | "https") {
                return plan_err!(
                    "{text} is a pattern, and a web server does not list its files; name one file"
                );
            }
            let (folder, pattern) = split_pattern(path);
            return Ok(Self {
                text: text.to_owned(),
                store,
                prefix: Path::from(folder),
                pattern: Some(parse_pattern(text, pattern)?),
                is_folder: true,
                on_disk: None,
            });
        }
        let prefix = match Path::from_url_path(url.path()) {
            Ok(path) => path,
            Err(error) => return plan_err!("{text} has no valid path: {error}"),
        };
        Ok(Self {
            text: text.to_owned(),
            store,
            is_folder: url.path().ends_with('/') || prefix.as_ref().is_empty(),
            prefix,
            pattern: None,
            on_disk: None,
        })
    }

    /// Whether the text must be meant as a location of files: it names a scheme or a folder, is a
    /// pattern, or is there.
    pub(crate) fn is_explicit(&self) -> bool {
        self.on_disk.is_some()
            || self.pattern.is_some()
            || self.text.contains('/')
            || self.text.contains("://")
    }

    /// The names of folders between this location and a file, and the file's; None for what is not
    /// below it.
    pub(crate) fn relative<'a>(&self, file: &'a Path) -> Option<Vec<&'a str>> {
        let rest = file.as_ref().strip_prefix(self.prefix.as_ref())?;
        let rest = match self.prefix.as_ref() {
            "" => rest,
            _ if rest.is_empty() => return Some(vec![]),
            _ => rest.strip_prefix('/')?,
        };
        Some(rest.split('/').collect())
    }

    /// Whether a file below the folder is one of those that are meant. Folders of partitions
    /// (`year=2024`) may be left out of a pattern.
    pub(crate) fn matches(&self, relative: &[&str]) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        if pattern.matches_with(&relative.join("/"), MATCH) {
            return true;
        }
        let Some((file, folders)) = relative.split_last() else { return false };
        let mut bare: Vec<&str> = folders.iter().copied().filter(|f| !f.contains('=')).collect();
        bare.push(file);
        pattern.matches_with(&bare.join("/"), MATCH)
    }
}

/// A path without `..`: each one removes the name before it.
fn normal(path: &FilePath) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

fn disk_path(text: &str, path: &FilePath) -> Result<Path> {
    match Path::from_absolute_path(path) {
        Ok(path) => Ok(path),
        Err(error) => exec_err!("{text} cannot be read: {error}"),
    }
}

fn parse_pattern(text: &str, pattern: &str) -> Result<Pattern> {
    match Pattern::new(pattern) {
        Ok(pattern) => Ok(pattern),
        Err(error) => plan_err!("{text} is no pattern of files: {}", error.msg),
    }
}

/// The folders of a path before the first name that is a pattern, and the rest.
fn split_pattern(path: &str) -> (&str, &str) {
    let first = path.find(GLOB).unwrap_or(path.len());
    match path[..first].rfind('/') {
        Some(slash) => (&path[..=slash], &path[slash + 1..]),
        None => ("", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_files() {
        let of = |text: &str| Location::parse(text).unwrap();
        assert_eq!(of("/data/x.csv").prefix.as_ref(), "data/x.csv");
        assert_eq!(of("/data/sub/../x.csv").prefix.as_ref(), "data/x.csv");
        assert!(of("/data/").is_folder && !of("/data/x.csv").is_folder);
        let pattern = of("/data/a*/x-*.csv");
        assert_eq!(pattern.prefix.as_ref(), "data");
        assert!(pattern.matches(&["ab", "x-1.csv"]));
        assert!(pattern.matches(&["ab", "day=1", "x-1.csv"]));
        assert!(!pattern.matches(&["ab", "c", "x-1.csv"]) && !pattern.matches(&["x-1.csv"]));
        let url = of("s3://bucket/some%20where/*.parquet");
        assert_eq!(url.store.as_str(), "s3://bucket/");
        assert!(url.matches(&["x.parquet"]) && !url.matches(&[".x.parquet"]));
        assert_eq!(of("s3://bucket/a/b.csv").prefix.as_ref(), "a/b.csv");
        assert!(of("s3://bucket").is_folder);
    }

    #[test]
    fn a_file_with_brackets_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x[1].csv");
        std::fs::write(&path, "x\n1\n").unwrap();
        let location = Location::parse(path.to_str().unwrap()).unwrap();
        assert!(location.pattern.is_none() && location.on_disk.is_some());
    }

    #[test]
    fn what_is_no_place() {
        for (text, part) in [
            ("", "is empty"),
            ("https://host/*.csv", "a web server does not list its files"),
            ("https://host/x.csv?token=1", "has a query behind its path"),
            ("/data/[.csv", "is no pattern of files"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
