//! Which files of a folder are done: what a cursor of a folder holds besides a file and a row.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use object_store::ObjectMeta;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a serialized entry.
const ENTRY: usize = 12;

/// The position of a reader of a folder, besides the name of the current file and the row in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderCursor {
    /// Bytes of the current file.
    pub size: u64,
    /// Its rows.
    pub rows: u64,
    /// The files that were done before it.
    #[serde(default, skip_serializing_if = "Manifest::is_empty")]
    pub done: Manifest,
    /// Files with rows after the cursor that were consumed, in the order in which they were read. A
    /// reader that resumes at the cursor reads them first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<FileRows>,
}

/// Rows of a file that were consumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRows {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// How many rows, counted from where reading resumes in it.
    pub rows: u64,
}

/// The files that are done, in the order in which they were done: 12 bytes each.
///
/// The cursors of one reader share a list that only grows; each cursor has a prefix of it. A file
/// is identified by a hash of its name. A second hash, of its size and time, shows whether it
/// changed.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    list: Arc<RwLock<Vec<Entry>>>,
    len: usize,
}

/// A file that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The hash of its name: [`key`].
    pub(super) key: u64,
    /// The hash of its size and time: [`stamp`].
    pub(super) stamp: u32,
    /// Whether rows of it were passed on; if not, it was given up.
    pub(super) is_read: bool,
}

/// Identifies a file: a hash of its name, the same on every machine.
pub(super) fn key(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Changes when a file is replaced or grows: 31 bits of a hash of its size and time.
pub(super) fn stamp(meta: &ObjectMeta) -> u32 {
    let time = meta.last_modified.timestamp_micros();
    let bytes = [meta.size.to_le_bytes(), time.to_le_bytes()].concat();
    (xxh3_64(&bytes) >> 33) as u32
}

impl Manifest {
    /// Whether no file is done.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Files that are done.
    pub fn len(&self) -> usize {
        self.len
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        list[..self.len].to_vec()
    }

    /// A copy of the list, which may grow by itself.
    pub(super) fn branch(&self) -> Self {
        self.entries().into()
    }

    /// Appends a file. Only the reader that owns the list does so.
    pub(super) fn push(&mut self, entry: Entry) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.truncate(self.len);
        list.push(entry);
        self.len = list.len();
    }
}

impl From<Vec<Entry>> for Manifest {
    fn from(entries: Vec<Entry>) -> Self {
        Self { len: entries.len(), list: Arc::new(RwLock::new(entries)) }
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && (Arc::ptr_eq(&self.list, &other.list) || self.entries() == other.entries())
    }
}

impl Eq for Manifest {}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        let (key, stamp) = bytes.split_at_mut(8);
        key.copy_from_slice(&self.key.to_le_bytes());
        stamp.copy_from_slice(&(self.stamp << 1 | u32::from(self.is_read)).to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY]) -> Self {
        let [a, b, c, d, e, f, g, h, stamp @ ..] = *bytes;
        let stamp = u32::from_le_bytes(stamp);
        Self {
            key: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            stamp: stamp >> 1,
            is_read: stamp & 1 == 1,
        }
    }
}

/// As base64 of the entries.
impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.entries().into_iter().flat_map(Entry::to_bytes).collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let (entries, rest) = bytes.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(D::Error::custom("the list of files that are done is cut off"));
        }
        Ok(entries.iter().map(Entry::from_bytes).collect::<Vec<_>>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(i: u64) -> Entry {
        Entry { key: key(&format!("part-{i}")), stamp: i as u32, is_read: !i.is_multiple_of(3) }
    }

    #[test]
    fn cursors_share_a_list_and_keep_their_part() {
        let mut owner = Manifest::default();
        let before: Vec<Manifest> = (0..5)
            .map(|i| {
                let cursor = owner.clone();
                owner.push(entry(i));
                cursor
            })
            .collect();
        for (len, cursor) in before.iter().enumerate() {
            assert_eq!(cursor.entries(), (0..len as u64).map(entry).collect::<Vec<_>>());
        }
        let mut branch = before[2].branch();
        branch.push(entry(9));
        assert_eq!(branch.entries(), [entry(0), entry(1), entry(9)]);
        assert_eq!(owner.entries()[2], entry(2));
    }

    #[test]
    fn a_manifest_comes_back_in_twelve_bytes_a_file() {
        let manifest: Manifest = (0..10_000).map(entry).collect::<Vec<_>>().into();
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(text.len(), 16 * 10_000 + 2);
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
        assert!(serde_json::from_str::<Manifest>("\"AAAA\"").is_err());
        assert!(serde_json::from_str::<Manifest>("\"~\"").is_err());
    }
}
