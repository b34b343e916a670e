//! The log of a model: numbered entries, each with the whole state after an action.
//!
//! An entry is a Parquet file with a row per live version (one row of NULLs if there is none). A
//! writer that changes the state reads the last entry and puts the next one if it is absent. That
//! succeeds for one writer only; the others read again.
//!
//! RENAME writes two logs. First the log of the new name gets an entry that names the entry of the
//! old log that will confirm it; then that confirming entry is put. The second put is the commit:
//! until then the first entry has no effect.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, exec_err};
use serde::{Deserialize, Serialize};

use super::records::{from_batch, from_parquet, to_batch, to_parquet};
use super::{ModelStore, folder};

/// A published version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionEntry {
    /// Its number, from 1.
    pub version: u64,
    /// Its folder in the warehouse.
    pub folder: String,
    /// When it was published, in milliseconds since the epoch.
    pub published_at: i64,
    /// `USING`.
    pub algorithm: String,
    /// The target column.
    pub target: String,
    /// Training rows.
    pub rows: u64,
    /// The model (and its version) that it was continued from.
    pub parent: Option<String>,
    /// Its files.
    pub files: Vec<FileEntry>,
}

/// A file of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 of its bytes.
    pub crc32: u32,
}

/// Which process trains the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaseEntry {
    /// Number of the lease: it grows with every new one.
    pub number: u64,
    /// The process that holds it; None once it is released.
    pub owner: Option<String>,
}

/// The state of a model after an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogState {
    /// Number of the last entry; 0 before the first.
    pub sequence: u64,
    /// The live versions, oldest first.
    pub versions: Vec<VersionEntry>,
    /// The version that PREDICT uses.
    pub current: Option<u64>,
    /// The number of the next version.
    pub next_version: u64,
    /// The last lease.
    pub lease: LeaseEntry,
}

impl LogState {
    /// The version that PREDICT uses.
    pub fn current_entry(&self) -> Option<&VersionEntry> {
        self.versions.iter().find(|entry| Some(entry.version) == self.current)
    }
}

/// What happened; the entry also holds the resulting state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Action {
    /// `publish`, `lease`, `release`, `set_version`, `drop`, `rename_to`, `rename_from`.
    pub name: &'static str,
    /// The other model of a rename, and the entry of its log that confirms it.
    pub other: Option<(String, u64)>,
}

impl Action {
    /// An action without another model.
    pub fn new(name: &'static str) -> Self {
        Self { name, other: None }
    }
}

/// A row of an entry.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Row {
    format_version: u32,
    written_at: i64,
    action: String,
    other_model: Option<String>,
    other_entry: Option<u64>,
    lease: u64,
    lease_owner: Option<String>,
    next_version: u64,
    current_version: Option<u64>,
    version: Option<u64>,
    folder: Option<String>,
    published_at: Option<i64>,
    algorithm: Option<String>,
    target: Option<String>,
    rows: Option<u64>,
    parent: Option<String>,
    files: Option<Vec<FileEntry>>,
}

fn schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let file = DataType::Struct(Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("crc32", DataType::UInt32, false),
    ]));
    Arc::new(Schema::new(vec![
        Field::new("format_version", DataType::UInt32, false),
        Field::new("written_at", time(), false),
        Field::new("action", DataType::Utf8, false),
        Field::new("other_model", DataType::Utf8, true),
        Field::new("other_entry", DataType::UInt64, true),
        Field::new("lease", DataType::UInt64, false),
        Field::new("lease_owner", DataType::Utf8, true),
        Field::new("next_version", DataType::UInt64, false),
        Field::new("current_version", DataType::UInt64, true),
        Field::new("version", DataType::UInt64, true),
        Field::new("folder", DataType::Utf8, true),
        Field::new("published_at", time(), true),
        Field::new("algorithm", DataType::Utf8, true),
        Field::new("target", DataType::Utf8, true),
        Field::new("rows", DataType::UInt64, true),
        Field::new("parent", DataType::Utf8, true),
        Field::new("files", DataType::new_list(file, false), true),
    ]))
}

/// Version of the entries.
const LOG_VERSION: u32 = 1;

/// The bytes of an entry.
fn encode(state: &LogState, action: &Action) -> Result<Vec<u8>> {
    let base = Row {
        format_version: LOG_VERSION,
        written_at: crate::clock::now_ms(),
        action: action.name.to_owned(),
        other_model: action.other.as_ref().map(|(name, _)| name.clone()),
        other_entry: action.other.as_ref().map(|(_, entry)| *entry),
        lease: state.lease.number,
        lease_owner: state.lease.owner.clone(),
        next_version: state.next_version.max(1),
        current_version: state.current,
        ..Row::default()
    };
    let mut rows: Vec<Row> = state
        .versions
        .iter()
        .map(|entry| Row {
            version: Some(entry.version),
            folder: Some(entry.folder.clone()),
            published_at: Some(entry.published_at),
            algorithm: Some(entry.algorithm.clone()),
            target: Some(entry.target.clone()),
            rows: Some(entry.rows),
            parent: entry.parent.clone(),
            files: Some(entry.files.clone()),
            ..base.clone()
        })
        .collect();
    if rows.is_empty() {
        rows.push(base);
    }
    to_parquet(&to_batch(schema(), &rows)?)
}

/// The state of an entry, and the confirmation of a rename that it waits for.
fn decode(path: &str, bytes: Vec<u8>, sequence: u64) -> Result<(LogState, Option<(String, u64)>)> {
    let rows: Vec<Row> = from_batch(&from_parquet(bytes, path)?, path)?;
    let Some(first) = rows.first().cloned() else {
        return exec_err!("{path} is no log entry of a model: it has no rows");
    };
    if first.format_version > LOG_VERSION {
        return exec_err!(
            "{path} has format {}, but this program reads formats up to {LOG_VERSION}; use a \
             newer gradlake",
            first.format_version
        );
    }
    let awaited = match (first.action.as_str(), first.other_model, first.other_entry) {
        ("rename_from", Some(model), Some(entry)) => Some((model, entry)),
        _ => None,
    };
    let versions = rows
        .into_iter()
        .filter_map(|row| {
            Some(VersionEntry {
                version: row.version?,
                folder: row.folder?,
                published_at: row.published_at?,
                algorithm: row.algorithm?,
                target: row.target?,
                rows: row.rows?,
                parent: row.parent,
                files: row.files?,
            })
        })
        .collect();
    let state = LogState {
        sequence,
        versions,
        current: first.current_version,
        next_version: first.next_version.max(1),
        lease: LeaseEntry { number: first.lease, owner: first.lease_owner },
    };
    Ok((state, awaited))
}

/// The path of an entry.
fn path(model: &str, sequence: u64) -> String {
    format!("{}/log/{sequence:06}.parquet", folder(model))
}

impl ModelStore {
    /// The state of a model; it has no versions if there is no such model.
    pub(super) async fn state(&self, model: &str) -> Result<LogState> {
        let names = self.files.names(&format!("{}/log", folder(model))).await?;
        let sequence = names
            .iter()
            .filter_map(|name| name.strip_suffix(".parquet")?.parse::<u64>().ok())
            .max();
        let Some(sequence) = sequence else {
            return Ok(LogState { next_version: 1, ..LogState::default() });
        };
        let at = path(model, sequence);
        let Some(bytes) = self.files.read(&at).await? else {
            return exec_err!("the log entry {at} vanished while it was read");
        };
        let (state, awaited) = decode(&at, bytes, sequence)?;
        if let Some((other, entry)) = awaited
            && !self.confirms(&other, entry, model).await?
        {
            return Ok(LogState { sequence, next_version: 1, ..LogState::default() });
        }
        Ok(state)
    }

    /// Whether an entry of another log says that the other model was renamed to `model`.
    async fn confirms(&self, other: &str, entry: u64, model: &str) -> Result<bool> {
        let at = path(other, entry);
        let Some(bytes) = self.files.read(&at).await? else { return Ok(false) };
        let rows: Vec<Row> = from_batch(&from_parquet(bytes, &at)?, &at)?;
        Ok(rows.first().is_some_and(|row| {
            row.action == "rename_to" && row.other_model.as_deref() == Some(model)
        }))
    }

    /// Puts the entry after `state.sequence`; returns false if another writer has put it already.
    pub(super) async fn commit(
        &self,
        model: &str,
        state: &LogState,
        action: &Action,
        failpoint: &str,
    ) -> Result<bool> {
        super::files::failpoints::pass(failpoint);
        let at = path(model, state.sequence + 1);
        self.files.create(&at, encode(state, action)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back() {
        let version = |n: u64| VersionEntry {
            version: n,
            folder: format!("models/m/v{n:06}-ab"),
            published_at: 1_700_000_000_123,
            algorithm: "linear_svm".to_owned(),
            target: "y".to_owned(),
            rows: 7,
            parent: (n == 2).then(|| "m:1".to_owned()),
            files: vec![FileEntry { name: "a.parquet".to_owned(), bytes: 9, crc32: u32::MAX }],
        };
        let state = LogState {
            sequence: 4,
            versions: vec![version(1), version(2)],
            current: Some(1),
            next_version: 3,
            lease: LeaseEntry { number: 5, owner: Some("here".to_owned()) },
        };
        let bytes = encode(&state, &Action::new("publish")).unwrap();
        assert_eq!(decode("x", bytes, 4).unwrap(), (state.clone(), None));
        let empty = LogState { versions: vec![], current: None, ..state };
        let action = Action { name: "rename_from", other: Some(("old".to_owned(), 8)) };
        let bytes = encode(&empty, &action).unwrap();
        assert_eq!(decode("x", bytes, 4).unwrap(), (empty, Some(("old".to_owned(), 8))));
    }

    #[test]
    fn foreign_and_newer_entries_are_refused() {
        let error = decode("log/1", b"not parquet".to_vec(), 1).unwrap_err().to_string();
        assert!(error.contains("log/1 is no Parquet file"), "{error}");
        let row = Row { format_version: 99, action: "publish".to_owned(), ..Row::default() };
        let bytes = to_parquet(&to_batch(schema(), &[row]).unwrap()).unwrap();
        let error = decode("log/1", bytes, 1).unwrap_err().to_string();
        assert!(error.contains("format 99") && error.contains("newer gradlake"), "{error}");
    }
}
