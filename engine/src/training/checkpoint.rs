//! What a checkpoint holds: the estimators of all members that began, as they save themselves.
//!
//! The encoder and the encoded rows are made again from the data, which is why the data's hash is
//! kept: other data is refused. The order of an epoch is a function of the seed, so there is no
//! other random-number state, and resuming equals never having stopped, bit for bit.

use std::collections::BTreeMap;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use serde::{Deserialize, Serialize};

/// Version of the layout; another one is refused.
const FORMAT: u32 = 2;

/// The progress of one member's training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberProgress {
    /// Hash of the member's training rows.
    pub data_hash: u64,
    /// Epochs or steps that are complete.
    pub completed: u64,
    /// What the estimator saved.
    pub estimator: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct MemberHeader {
    data_hash: u64,
    completed: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    started_ms: i64,
    members: BTreeMap<String, MemberHeader>,
}

/// The progress of a whole training: its members by their key as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingProgress {
    /// When the training first began, in milliseconds since the epoch.
    pub started_ms: i64,
    /// Members that began.
    pub members: BTreeMap<String, MemberProgress>,
}

impl TrainingProgress {
    /// The progress as bytes: length of the header (u64, little-endian), the header as JSON, then
    /// the estimators of the members in the order of their keys.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = |m: &MemberProgress| MemberHeader {
            data_hash: m.data_hash,
            completed: m.completed,
            bytes: m.estimator.len() as u64,
        };
        let members = self.members.iter().map(|(key, m)| (key.clone(), header(m))).collect();
        let header = Header { format: FORMAT, started_ms: self.started_ms, members };
        let json = serde_json::to_vec(&header)
            .map_err(|e| exec_datafusion_err!("the checkpoint cannot be written: {e}"))?;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&json);
        self.members.values().for_each(|m| bytes.extend_from_slice(&m.estimator));
        Ok(bytes)
    }

    /// Reads what [`TrainingProgress::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are damaged, or of another version of the layout.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        /// What every version of the header has.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Some((json, mut states)) = bytes
            .split_first_chunk::<8>()
            .and_then(|(len, rest)| rest.split_at_checked(u64::from_le_bytes(*len) as usize))
        else {
            return exec_err!("the checkpoint is damaged: its header is cut off");
        };
        let damaged = |e| exec_datafusion_err!("the checkpoint is damaged: {e}");
        let Version { format } = serde_json::from_slice(json).map_err(damaged)?;
        if format != FORMAT {
            return exec_err!(
                "the checkpoint has format {format}, but this program reads format {FORMAT}; the \
                 version of Gradlake that wrote it can finish the training, or TRAIN OR REPLACE \
                 MODEL begins it anew"
            );
        }
        let header: Header = serde_json::from_slice(json).map_err(damaged)?;
        let mut members = BTreeMap::new();
        for (key, MemberHeader { data_hash, completed, bytes }) in header.members {
            let Some((estimator, rest)) = states.split_at_checked(bytes as usize) else {
                return exec_err!("the checkpoint is damaged: a state is cut off");
            };
            states = rest;
            let estimator = estimator.to_vec();
            members.insert(key, MemberProgress { data_hash, completed, estimator });
        }
        Ok(Self { started_ms: header.started_ms, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_back_byte_for_byte() {
        let member = MemberProgress { data_hash: u64::MAX, completed: 3, estimator: vec![1, 2, 3] };
        let mut progress = TrainingProgress { started_ms: 5, members: BTreeMap::new() };
        progress.members.insert("carrier=UA".to_owned(), member);
        progress.members.insert(String::new(), MemberProgress::default());
        let bytes = progress.to_bytes().unwrap();
        assert_eq!(TrainingProgress::from_bytes(&bytes).unwrap(), progress);
        for cut in [0, 7, 20, bytes.len() - 1] {
            assert!(TrainingProgress::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn another_version_is_refused_with_advice() {
        let json = br#"{"format":1,"started_ms":5,"members":{"":{"epoch":1}}}"#;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json);
        let error = TrainingProgress::from_bytes(&bytes).unwrap_err().to_string();
        assert!(error.contains("has format 1, but this program reads format 2"), "{error}");
    }
}
