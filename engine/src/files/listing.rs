//! Which files of a folder are data.
//!
//! Beside their data, writers leave markers (`_SUCCESS`), checksums (`.part-0.crc`), files that
//! are being written (`_temporary/`, `x.parquet.tmp`) and notes (`README.md`). Hidden names and
//! names without a known ending are left out, as Spark and Hadoop do.

use std::collections::BTreeMap;

use datafusion::common::{
    DataFusionError, Result, exec_datafusion_err, plan_datafusion_err, plan_err,
};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use object_store::{Error, ObjectMeta, ObjectStoreExt};

use super::kind::{ENDINGS, Format, Kind};
use super::location::Location;

/// Folders that mark the files beside them as a table of another system, which determines which of
/// the files are part of it.
const TABLE_FORMATS: [(&str, &str); 3] =
    [("_delta_log", "Delta"), (".hoodie", "Hudi"), ("metadata", "Iceberg")];

/// The files of a location, in the order of their paths.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// The kind of all of them; None if their names do not say it.
    pub(crate) kind: Option<Kind>,
    pub(crate) files: Vec<ObjectMeta>,
}

/// Lists the files of a location. `wanted` is the format that STORED AS names, if any.
///
/// # Errors
/// When nothing is there, when it is not clear which files are meant, or when the store cannot be
/// queried.
pub(crate) async fn list(
    runtime: &RuntimeEnv,
    location: &Location,
    wanted: Option<Format>,
) -> Result<Listing> {
    let text = &location.text;
    let store = runtime.object_store(&location.store)?;
    if !location.is_folder {
        match store.head(&location.prefix).await {
            Ok(meta) => {
                let kind = Kind::of_file(meta.location.as_ref());
                return Ok(Listing { kind, files: vec![meta] });
            }
            // A prefix of an object store is a folder without anything of its own.
            Err(Error::NotFound { .. }) if location.store.as_str() != "file:///" => {}
            Err(error) => return Err(store_error(text, error)),
        }
    }
    let mut found: Vec<ObjectMeta> = match store.list(Some(&location.prefix)).try_collect().await {
        Ok(found) => found,
        Err(error) => return Err(store_error(text, error)),
    };
    if found.is_empty() && location.pattern.is_none() && location.on_disk.is_none() {
        return plan_err!("there is no file or folder {text}");
    }
    found.sort_by(|a, b| a.location.cmp(&b.location));
    let mut by_kind: BTreeMap<String, (Option<Kind>, Vec<ObjectMeta>)> = BTreeMap::new();
    let mut others = 0;
    for meta in found {
        let Some(relative) = location.relative(&meta.location) else { continue };
        if location.pattern.is_none()
            && let Some(format) = table_format(&relative)
        {
            return plan_err!(
                "{text} is a {format} table, whose log says which of its files count; reading all \
                 of them would bring back rows that were deleted. Write '{}*.parquet' if that is \
                 meant",
                with_slash(text)
            );
        }
        if is_hidden(&relative) || !location.matches(&relative) {
            continue;
        }
        let is_deeper = relative.iter().rev().skip(1).any(|folder| !folder.contains('='));
        if location.pattern.is_none() && is_deeper {
            continue;
        }
        let kind = Kind::of_file(meta.location.as_ref());
        // Names without any ending can be data where a statement says the format.
        let has_ending = relative.last().is_some_and(|name| name.contains('.'));
        if kind.is_none() && (wanted.is_none() || has_ending) {
            others += 1;
            continue;
        }
        let name = kind.map_or_else(|| "no ending".to_owned(), |kind| kind.to_string());
        by_kind.entry(name).or_insert((kind, vec![])).1.push(meta);
    }
    choose(text, by_kind, wanted, others)
}

/// The kind of files that is meant.
fn choose(
    text: &str,
    mut by_kind: BTreeMap<String, (Option<Kind>, Vec<ObjectMeta>)>,
    wanted: Option<Format>,
    others: usize,
) -> Result<Listing> {
    if let Some(wanted) = wanted {
        let is_wanted =
            |kind: &Option<Kind>| kind.is_none_or(|kind| kind.format.name() == wanted.name());
        by_kind.retain(|_, (kind, _)| is_wanted(kind));
        if by_kind.len() > 1 {
            by_kind.retain(|_, (kind, _)| kind.is_some());
        }
    }
    if by_kind.len() > 1 {
        let kinds: Vec<_> = by_kind.keys().cloned().collect();
        return plan_err!(
            "{text} holds files of several kinds, {}; name one of them, such as '{}*{}'",
            kinds.join(" and "),
            with_slash(text),
            kinds[0]
        );
    }
    match by_kind.into_values().next() {
        Some((kind, files)) => Ok(Listing { kind, files }),
        None if others > 0 => {
            plan_err!("{text} holds no file of a known ending ({ENDINGS}), but {others} others")
        }
        None => plan_err!("{text} holds no file of a known ending ({ENDINGS})"),
    }
}

/// A folder as the beginning of a pattern.
fn with_slash(text: &str) -> String {
    match text.rfind(['*', '?', '[']) {
        Some(_) => text[..text.rfind('/').map_or(0, |slash| slash + 1)].to_owned(),
        None if text.ends_with('/') => text.to_owned(),
        None => format!("{text}/"),
    }
}

/// Whether a name on the way to a file is hidden. `_a=1` is a partition of the column `_a`.
fn is_hidden(relative: &[&str]) -> bool {
    relative
        .iter()
        .any(|name| name.starts_with('.') || (name.starts_with('_') && !name.contains('=')))
}

/// The system to whose table log a file belongs.
fn table_format(relative: &[&str]) -> Option<&'static str> {
    let (first, rest) = relative.split_first()?;
    let (_, format) = TABLE_FORMATS.iter().find(|(folder, _)| folder == first)?;
    let is_log = match *format {
        "Iceberg" => rest.last().is_some_and(|name| name.ends_with(".metadata.json")),
        _ => !rest.is_empty(),
    };
    is_log.then_some(*format)
}

/// The error of a store that cannot be queried about `text`, in one sentence.
pub(crate) fn store_error(text: &str, error: Error) -> DataFusionError {
    // If a file does not exist, the source of the error says whether the bucket exists.
    let said = match &error {
        Error::NotFound { source, .. } => source.to_string(),
        error => error.to_string(),
    };
    let says = |part: &str| said.contains(part);
    if says("NoSuchBucket") {
        return plan_datafusion_err!("there is no bucket for {text}");
    }
    if let Error::NotFound { .. } = error {
        return plan_datafusion_err!("there is no file {text}");
    }
    // The address where an EC2 machine requests its role, which is the last resort.
    if says("169.254.169.254") {
        return exec_datafusion_err!(
            "{text} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
             AWS_SKIP_SIGNATURE=true for a public bucket"
        );
    }
    let said = one_line(&said);
    // A refused listing can be an error of any kind; it contains the status of the response.
    let is_refused =
        matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
            || said.contains("403 Forbidden")
            || said.contains("401 Unauthorized");
    match is_refused {
        true => exec_datafusion_err!(
            "{text} must not be read with the credentials that are given: {said}"
        ),
        false => exec_datafusion_err!("{text} cannot be read: {said}"),
    }
}

/// The message of a server in one line, shortened to a readable length.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn touch(folder: &Path, names: &[&str]) {
        for name in names {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
    }

    async fn names(text: &str, wanted: Option<Format>) -> Result<Vec<String>> {
        let location = Location::parse(text)?;
        let listing = list(&RuntimeEnv::default(), &location, wanted).await?;
        let name = |meta: &ObjectMeta| location.relative(&meta.location).unwrap().join("/");
        Ok(listing.files.iter().map(name).collect())
    }

    #[tokio::test]
    async fn what_writers_leave_beside_their_data_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        touch(
            folder.path(),
            &[
                "b.parquet",
                "a.parquet",
                "_SUCCESS",
                ".a.parquet.crc",
                ".hidden.parquet",
                "c.parquet.tmp",
                "README.md",
                "_temporary/0/d.parquet",
                "deeper/e.parquet",
                "day=1/f.parquet",
                "k=5.parquet",
            ],
        );
        let found = names(path, None).await.unwrap();
        assert_eq!(found, ["a.parquet", "b.parquet", "day=1/f.parquet", "k=5.parquet"]);
        let found = names(&format!("{path}/*/*.parquet"), None).await.unwrap();
        assert_eq!(found, ["day=1/f.parquet", "deeper/e.parquet"]);
        let found = names(&format!("{path}/**/e.parquet"), None).await.unwrap();
        assert_eq!(found, ["deeper/e.parquet"]);
    }

    #[tokio::test]
    async fn what_is_not_clear_is_refused() {
        let refused = async |files: &[&str], wanted| {
            let folder = tempfile::tempdir().unwrap();
            touch(folder.path(), files);
            let path = format!("{}/", folder.path().display());
            let error = names(&path, wanted).await.unwrap_err().strip_backtrace();
            error.replace(&path, "d/")
        };
        assert!(
            refused(&["a.csv", "b.parquet"], None)
                .await
                .contains("d/ holds files of several kinds, .csv and .parquet; name one of them")
        );
        assert!(refused(&["a.csv.gz", "b.csv"], None).await.contains(".csv and .csv.gz"));
        assert!(refused(&["notes.md"], None).await.contains("holds no file of a known ending"));
        let delta = refused(&["a.parquet", "_delta_log/000.json"], None).await;
        assert!(delta.contains("d/ is a Delta table"), "{delta}");
        let error = names("/no/such/x.csv", None).await.unwrap_err().to_string();
        assert!(error.contains("there is no file /no/such/x.csv"), "{error}");
    }

    #[tokio::test]
    async fn stored_as_finds_files_without_an_ending() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        touch(folder.path(), &["part-0", "part-1", "notes.md"]);
        assert_eq!(names(path, Some(Format::Csv)).await.unwrap(), ["part-0", "part-1"]);
        touch(folder.path(), &["a.csv", "b.json"]);
        assert_eq!(names(path, Some(Format::Csv)).await.unwrap(), ["a.csv"]);
    }
}
