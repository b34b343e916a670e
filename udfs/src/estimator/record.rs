//! The format of saved estimators: a header as JSON, then parts of bytes.
//!
//! Numbers are stored by their bits, since JSON has no NaN: a resumed training equals one that
//! never stopped.

use std::time::Duration;

use datafusion_common::{Result, exec_datafusion_err, exec_err};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::learner::LossSum;
use crate::model::HistoryEntry;

/// An `f64` by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bits(u64);

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

/// A line of the history, by bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryBits {
    epoch: u64,
    loss: Bits,
    eval_loss: Option<Bits>,
    learning_rate: Bits,
    rows: u64,
    duration_ms: u64,
}

impl HistoryBits {
    /// The lines of a history.
    pub(crate) fn of(history: &[HistoryEntry]) -> Vec<Self> {
        let line = |h: &HistoryEntry| Self {
            epoch: h.epoch,
            loss: h.loss.into(),
            eval_loss: h.eval_loss.map(Bits::from),
            learning_rate: h.learning_rate.into(),
            rows: h.rows,
            duration_ms: h.duration_ms,
        };
        history.iter().map(line).collect()
    }

    /// The history of lines.
    pub(crate) fn history(lines: Vec<Self>) -> Vec<HistoryEntry> {
        let entry = |h: Self| HistoryEntry {
            epoch: h.epoch,
            loss: h.loss.into(),
            eval_loss: h.eval_loss.map(f64::from),
            learning_rate: h.learning_rate.into(),
            rows: h.rows,
            duration_ms: h.duration_ms,
        };
        lines.into_iter().map(entry).collect()
    }
}

/// A loss sum, by bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LossBits(Bits, Bits, u64);

impl From<LossSum> for LossBits {
    fn from(sum: LossSum) -> Self {
        Self(sum.loss.into(), sum.weight.into(), sum.rows)
    }
}

impl From<LossBits> for LossSum {
    fn from(bits: LossBits) -> Self {
        LossSum { loss: bits.0.into(), weight: bits.1.into(), rows: bits.2 }
    }
}

/// Whole milliseconds.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The record of a header and parts: length of the header (u64, little-endian), the header as JSON,
/// then each part after its length.
pub(crate) fn pack(header: &impl Serialize, parts: &[&[u8]]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(header)
        .map_err(|e| exec_datafusion_err!("the state of a training cannot be written: {e}"))?;
    let mut bytes = vec![];
    for part in [json.as_slice()].iter().chain(parts) {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// The header and the parts of a record.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<&[u8]>)> {
    let mut parts = vec![];
    let mut rest = bytes;
    while let Some((len, behind)) = rest.split_first_chunk::<8>() {
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let Some((part, behind)) = behind.split_at_checked(len) else {
            return exec_err!("the state of a training is damaged: a part is cut off");
        };
        parts.push(part);
        rest = behind;
    }
    if parts.is_empty() || !rest.is_empty() {
        return exec_err!("the state of a training is damaged: its header is cut off");
    }
    let header = serde_json::from_slice(parts.remove(0))
        .map_err(|e| exec_datafusion_err!("the state of a training is damaged: {e}"))?;
    Ok((header, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_damaged_ones_are_refused() {
        let history = vec![HistoryEntry {
            epoch: 1,
            loss: f64::NAN,
            eval_loss: Some(0.1 + 0.2),
            learning_rate: f64::NEG_INFINITY,
            rows: 9,
            duration_ms: 1,
        }];
        let bytes = pack(&HistoryBits::of(&history), &[&[1, 2], &[], &[3]]).unwrap();
        let (lines, parts) = unpack::<Vec<HistoryBits>>(&bytes).unwrap();
        assert_eq!(lines, HistoryBits::of(&history));
        let back = HistoryBits::history(lines);
        assert_eq!(back[0].loss.to_bits(), history[0].loss.to_bits());
        assert_eq!(parts, [&[1, 2][..], &[], &[3]]);
        for cut in [0, 7, 20, bytes.len() - 1] {
            assert!(unpack::<Vec<HistoryBits>>(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
