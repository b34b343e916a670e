//! Checkpoints: numbered files, of which the last two are kept.

use datafusion::common::{Result, exec_err};

use super::files::failpoints;
use super::{ModelStore, folder};

const MAGIC: &[u8; 8] = b"GLCHECK1";
/// Number of files that are kept: the last, and the one before in case the last is damaged.
const KEPT: usize = 2;

/// A checkpoint as it was saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The statement that it belongs to.
    pub fingerprint: String,
    /// The progress.
    pub bytes: Vec<u8>,
    /// What was wrong with a later checkpoint.
    pub warning: Option<String>,
}

/// Written in place of the version if the checkpoint outlives the versions that its training
/// publishes.
const OUTLIVES: u64 = 0;

/// The bytes of a file: magic, version that the training will publish (or 0), length and text of
/// the fingerprint, progress, CRC-32 of all that.
fn encode(version: u64, fingerprint: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&version.to_le_bytes());
    file.extend_from_slice(&(fingerprint.len() as u64).to_le_bytes());
    file.extend_from_slice(fingerprint.as_bytes());
    file.extend_from_slice(bytes);
    let crc = crc32fast::hash(&file);
    file.extend_from_slice(&crc.to_le_bytes());
    file
}

/// The version and the checkpoint of a file; None if it is damaged.
fn decode(file: &[u8]) -> Option<(u64, Checkpoint)> {
    let (body, crc) = file.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let body = body.strip_prefix(MAGIC)?;
    let (version, body) = body.split_first_chunk::<8>()?;
    let (length, rest) = body.split_first_chunk::<8>()?;
    let (fingerprint, bytes) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let fingerprint = String::from_utf8(fingerprint.to_vec()).ok()?;
    let checkpoint = Checkpoint { fingerprint, bytes: bytes.to_vec(), warning: None };
    Some((u64::from_le_bytes(*version), checkpoint))
}

impl ModelStore {
    /// Saves the progress of a training. The publication of a version ends a training on a table
    /// and the use of its checkpoints; those of a stream outlive it.
    ///
    /// # Errors
    /// When the store cannot be written; the previous checkpoint stays.
    pub async fn put_checkpoint(
        &self,
        model: &str,
        fingerprint: &str,
        bytes: Vec<u8>,
        outlives: bool,
    ) -> Result<()> {
        let names = self.checkpoint_names(model).await?;
        let last = names.last().and_then(|name| name.parse::<u64>().ok()).unwrap_or(0);
        let version = if outlives { OUTLIVES } else { self.state(model).await?.next_version };
        failpoints::pass("checkpoint-file");
        let path = format!("{}/checkpoints/{:06}", folder(model), last + 1);
        if !self.files.create(&path, encode(version, fingerprint, &bytes)).await? {
            return exec_err!("another process saves checkpoints of model {model}");
        }
        failpoints::pass("checkpoint-old");
        for old in names.iter().rev().skip(KEPT - 1) {
            self.files.delete(&format!("{}/checkpoints/{old}", folder(model))).await?;
        }
        Ok(())
    }

    /// The last checkpoint that can be read. It is ignored if its training has published since: the
    /// process died before it could delete the checkpoint.
    ///
    /// # Errors
    /// When there are some, and none can be read.
    pub async fn checkpoint(&self, model: &str) -> Result<Option<Checkpoint>> {
        let names = self.checkpoint_names(model).await?;
        if names.is_empty() {
            return Ok(None);
        }
        let next = self.state(model).await?.next_version;
        let mut warning = None;
        for name in names.iter().rev() {
            let path = format!("{}/checkpoints/{name}", folder(model));
            let Some(file) = self.files.read(&path).await? else { continue };
            match decode(&file) {
                Some((version, _)) if version != OUTLIVES && version != next => return Ok(None),
                Some((_, checkpoint)) => return Ok(Some(Checkpoint { warning, ..checkpoint })),
                None => {
                    warning = Some(format!(
                        "the checkpoint {path} is damaged: the one before it is used"
                    ));
                }
            }
        }
        match warning {
            Some(_) => exec_err!(
                "no checkpoint of model {model} can be read: all are damaged; TRAIN OR REPLACE \
                 MODEL {model} begins anew"
            ),
            None => Ok(None),
        }
    }

    /// Deletes all checkpoints of a model.
    pub async fn discard_checkpoints(&self, model: &str) -> Result<()> {
        failpoints::pass("checkpoint-discard");
        // The last one last: a crash in between must not leave an older one as the last.
        for name in self.checkpoint_names(model).await? {
            self.files.delete(&format!("{}/checkpoints/{name}", folder(model))).await?;
        }
        Ok(())
    }

    /// Whether a training has left a checkpoint, possibly a damaged one.
    pub(super) async fn has_checkpoint(&self, model: &str) -> Result<bool> {
        Ok(!self.checkpoint_names(model).await?.is_empty())
    }

    /// When the last checkpoint was saved, in milliseconds since the epoch. (One that is still
    /// being written is none yet.)
    pub(super) async fn checkpoint_at(&self, model: &str) -> Result<Option<i64>> {
        match self.checkpoint_names(model).await?.last() {
            Some(name) => {
                self.files.written_at(&format!("{}/checkpoints/{name}", folder(model))).await
            }
            None => Ok(None),
        }
    }

    async fn checkpoint_names(&self, model: &str) -> Result<Vec<String>> {
        let mut names = self.files.names(&format!("{}/checkpoints", folder(model))).await?;
        names.retain(|name| name.parse::<u64>().is_ok());
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_damaged_checkpoint_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::open(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(store.checkpoint("m").await.unwrap(), None);
        // The first one is being written.
        let files = folder.path().join("models/m/checkpoints");
        std::fs::create_dir_all(files.join(".staged")).unwrap();
        std::fs::write(files.join(".staged/.tmp1"), b"GL").unwrap();
        assert_eq!(store.checkpoint_at("m").await.unwrap(), None);
        std::fs::remove_dir_all(files.join(".staged")).unwrap();
        for n in 1..=4u8 {
            store.put_checkpoint("m", "TRAIN", vec![n; 10], false).await.unwrap();
        }
        assert!(store.checkpoint_at("m").await.unwrap().is_some());
        assert_eq!(std::fs::read_dir(&files).unwrap().count(), KEPT);
        assert_eq!(store.checkpoint("m").await.unwrap().unwrap().bytes, [4; 10]);
        let bytes = std::fs::read(files.join("000004")).unwrap();
        std::fs::write(files.join("000004"), &bytes[..bytes.len() - 5]).unwrap();
        let last = store.checkpoint("m").await.unwrap().unwrap();
        assert_eq!((last.bytes.as_slice(), last.fingerprint.as_str()), (&[3; 10][..], "TRAIN"));
        assert!(last.warning.unwrap().contains("000004 is damaged"));
        std::fs::write(files.join("000003"), b"").unwrap();
        let error = store.checkpoint("m").await.unwrap_err().to_string();
        assert!(error.contains("no checkpoint of model m can be read"), "{error}");
        store.discard_checkpoints("m").await.unwrap();
        assert_eq!(store.checkpoint("m").await.unwrap(), None);
    }
}
