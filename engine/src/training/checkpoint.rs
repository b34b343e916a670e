//! What a checkpoint holds: where each member's training stands after a round.
//!
//! A checkpoint is (state, best state, counters, history) of every member that began; the encoder
//! and the encoded rows are made again from the data, which is why the data's hash is kept: other
//! data is refused. Numbers are stored by their bits, so that resuming equals never having
//! stopped, bit for bit. The order of an epoch is a function of the seed, so there is no other
//! random-number state.

use std::collections::BTreeMap;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use gradlake_udfs::learner::LossSum;
use gradlake_udfs::model::HistoryEntry;
use serde::{Deserialize, Serialize};

/// Version of the layout; another one is refused.
const FORMAT: u32 = 1;

/// An `f64` by its bits: JSON knows no NaN, and readers may round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bits(u64);

impl From<f64> for Bits {
    fn from(value: f64) -> Self {
        Bits(value.to_bits())
    }
}

impl From<Bits> for f64 {
    fn from(bits: Bits) -> Self {
        f64::from_bits(bits.0)
    }
}

/// One line of the history, by bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HistoryBits {
    epoch: u64,
    loss: Bits,
    eval_loss: Option<Bits>,
    learning_rate: Bits,
    rows: u64,
    duration_ms: u64,
}

/// Where the training of one member stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberProgress {
    /// Hash of the member's training rows.
    pub data_hash: u64,
    /// Epochs (or Newton steps) that are complete.
    pub epoch: u64,
    /// Rows of the current epoch that are learned.
    pub row: u64,
    /// Whether the training of the member is over.
    pub done: bool,
    /// Loss of the current epoch so far.
    pub epoch_loss: LossSum,
    /// Epochs since the best evaluation loss.
    pub stale: u64,
    /// The best evaluation loss and the epoch that had it.
    pub best: Option<(f64, u64)>,
    /// Wall-clock time spent so far.
    pub elapsed_ms: u64,
    /// Finished epochs.
    pub history: Vec<HistoryEntry>,
    /// The state, in its own layout.
    pub state: Vec<u8>,
    /// The state of the best epoch, where it is another one.
    pub best_state: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct MemberHeader {
    data_hash: u64,
    epoch: u64,
    row: u64,
    done: bool,
    epoch_loss: (Bits, Bits, u64),
    stale: u64,
    best: Option<(Bits, u64)>,
    elapsed_ms: u64,
    history: Vec<HistoryBits>,
    state_bytes: u64,
    best_state_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    started_ms: i64,
    members: BTreeMap<String, MemberHeader>,
}

/// Where a whole training stands: its members by their key as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingProgress {
    /// When the training first began, in milliseconds since the epoch.
    pub started_ms: i64,
    /// Members that began.
    pub members: BTreeMap<String, MemberProgress>,
}

impl TrainingProgress {
    /// The progress as bytes: length of the header (u64, little-endian), the header as JSON, then
    /// the states of the members in the order of their keys.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut members = BTreeMap::new();
        let mut states = vec![];
        for (key, m) in &self.members {
            let history = m.history.iter().map(|h| HistoryBits {
                epoch: h.epoch,
                loss: h.loss.into(),
                eval_loss: h.eval_loss.map(Bits::from),
                learning_rate: h.learning_rate.into(),
                rows: h.rows,
                duration_ms: h.duration_ms,
            });
            members.insert(
                key.clone(),
                MemberHeader {
                    data_hash: m.data_hash,
                    epoch: m.epoch,
                    row: m.row,
                    done: m.done,
                    epoch_loss: (
                        m.epoch_loss.loss.into(),
                        m.epoch_loss.weight.into(),
                        m.epoch_loss.rows,
                    ),
                    stale: m.stale,
                    best: m.best.map(|(loss, epoch)| (loss.into(), epoch)),
                    elapsed_ms: m.elapsed_ms,
                    history: history.collect(),
                    state_bytes: m.state.len() as u64,
                    best_state_bytes: m.best_state.as_ref().map(|s| s.len() as u64),
                },
            );
            states.extend_from_slice(&m.state);
            states.extend_from_slice(m.best_state.as_deref().unwrap_or_default());
        }
        let header = Header { format: FORMAT, started_ms: self.started_ms, members };
        let json = serde_json::to_vec(&header)
            .map_err(|e| exec_datafusion_err!("the checkpoint cannot be written: {e}"))?;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&states);
        Ok(bytes)
    }

    /// Reads what [`TrainingProgress::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let Some((json, mut states)) = bytes
            .split_first_chunk::<8>()
            .and_then(|(len, rest)| rest.split_at_checked(u64::from_le_bytes(*len) as usize))
        else {
            return exec_err!("the checkpoint is damaged: its header is cut off");
        };
        let header: Header = serde_json::from_slice(json)
            .map_err(|e| exec_datafusion_err!("the checkpoint is damaged: {e}"))?;
        if header.format != FORMAT {
            return exec_err!(
                "the checkpoint has format {}, but this program reads format {FORMAT}",
                header.format
            );
        }
        let mut take = |len: u64| match states.split_at_checked(len as usize) {
            Some((state, rest)) => {
                states = rest;
                Ok(state.to_vec())
            }
            None => exec_err!("the checkpoint is damaged: a state is cut off"),
        };
        let mut members = BTreeMap::new();
        for (key, m) in header.members {
            let state = take(m.state_bytes)?;
            let best_state = m.best_state_bytes.map(&mut take).transpose()?;
            let (loss, weight, rows) = m.epoch_loss;
            let history = m.history.into_iter().map(|h| HistoryEntry {
                epoch: h.epoch,
                loss: h.loss.into(),
                eval_loss: h.eval_loss.map(f64::from),
                learning_rate: h.learning_rate.into(),
                rows: h.rows,
                duration_ms: h.duration_ms,
            });
            members.insert(
                key,
                MemberProgress {
                    data_hash: m.data_hash,
                    epoch: m.epoch,
                    row: m.row,
                    done: m.done,
                    epoch_loss: LossSum { loss: loss.into(), weight: weight.into(), rows },
                    stale: m.stale,
                    best: m.best.map(|(loss, epoch)| (loss.into(), epoch)),
                    elapsed_ms: m.elapsed_ms,
                    history: history.collect(),
                    state,
                    best_state,
                },
            );
        }
        Ok(Self { started_ms: header.started_ms, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_back_bit_for_bit() {
        let member = MemberProgress {
            data_hash: u64::MAX,
            epoch: 3,
            row: 512,
            done: false,
            epoch_loss: LossSum { loss: 0.1 + 0.2, weight: 512.0, rows: 512 },
            stale: 1,
            best: Some((1.0 / 3.0, 2)),
            elapsed_ms: 77,
            history: vec![HistoryEntry {
                epoch: 1,
                loss: 0.1,
                eval_loss: None,
                learning_rate: f64::NEG_INFINITY,
                rows: 9,
                duration_ms: 1,
            }],
            state: vec![1, 2, 3],
            best_state: Some(vec![4]),
        };
        let mut progress = TrainingProgress { started_ms: 5, members: BTreeMap::new() };
        progress.members.insert("carrier=UA".to_owned(), member);
        progress.members.insert(String::new(), MemberProgress::default());
        let bytes = progress.to_bytes().unwrap();
        assert_eq!(TrainingProgress::from_bytes(&bytes).unwrap(), progress);
        for cut in [0, 7, 20, bytes.len() - 1] {
            assert!(TrainingProgress::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
