//! Checkpoints of an online training: the row up to which the source is consumed, and the state
//! that results from the rows until then.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use serde::{Deserialize, Serialize};

use super::learner::LearnerState;
use crate::source::Cursor;

/// Version of the layout. The first version had no statistics of the target and tracked folders by
/// the order of names. It is still read, and such a training continues as it began. A later version
/// is refused.
const FORMAT: u32 = 2;

/// The progress of an online training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineProgress {
    format: u32,
    /// When the training first began, in milliseconds since the epoch.
    pub started_ms: i64,
    /// Rows of the source below this ordinal are consumed.
    pub consumed: u64,
    /// The ordinal at which reading resumes: before `consumed` if windows look back.
    pub from: u64,
    /// The cursors of the source's partitions at `from`; empty for a table.
    pub cursors: Vec<Cursor>,
    /// Rows that were filtered out, by cause.
    pub skipped: BTreeMap<String, u64>,
    /// Classes by their index, as text.
    pub classes: Vec<String>,
    /// The learner; its parameters and moments are in the state, after the JSON.
    pub learner: LearnerState,
    /// The version that the first publication of this training gets.
    pub first_version: u64,
    /// Whether a version of just this progress is to be published.
    pub publishes: bool,
}

impl OnlineProgress {
    /// Progress of the present format.
    #[allow(clippy::too_many_arguments)] // One place makes it, of all that it holds.
    pub fn new(
        started_ms: i64,
        (consumed, from): (u64, u64),
        cursors: Vec<Cursor>,
        skipped: BTreeMap<String, u64>,
        classes: &[ScalarValue],
        learner: LearnerState,
        first_version: u64,
        publishes: bool,
    ) -> Self {
        let classes = classes.iter().map(ToString::to_string).collect();
        Self {
            format: FORMAT,
            started_ms,
            consumed,
            from,
            cursors,
            skipped,
            classes,
            learner,
            first_version,
            publishes,
        }
    }

    /// The classes, of the target's type.
    ///
    /// # Errors
    /// When a text is not a value of that type.
    pub fn classes_of(&self, target: &DataType) -> Result<Vec<ScalarValue>> {
        let plain = match target {
            DataType::Dictionary(_, value) => value,
            other => other,
        };
        let parse = |text: &String| ScalarValue::try_from_string(text.clone(), plain);
        self.classes.iter().map(parse).collect()
    }

    /// As bytes: length of the JSON (u64, little-endian), the JSON, then the state.
    ///
    /// # Errors
    /// Never in practice.
    pub fn to_bytes(&self, state: &[u8]) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self)
            .map_err(|e| exec_datafusion_err!("the checkpoint cannot be written: {e}"))?;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(state);
        Ok(bytes)
    }

    /// Reads what [`OnlineProgress::to_bytes`] wrote, and the state after it.
    ///
    /// # Errors
    /// When it is damaged or of another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let Some((json, state)) = bytes
            .split_first_chunk::<8>()
            .and_then(|(len, rest)| rest.split_at_checked(u64::from_le_bytes(*len) as usize))
        else {
            return exec_err!("the checkpoint is damaged: its header is cut off");
        };
        let progress: Self = serde_json::from_slice(json)
            .map_err(|e| exec_datafusion_err!("the checkpoint is of no online training: {e}"))?;
        if !(1..=FORMAT).contains(&progress.format) {
            return exec_err!(
                "the checkpoint has format {}, but this program reads format {FORMAT}",
                progress.format
            );
        }
        Ok((progress, state))
    }
}

#[cfg(test)]
mod tests {
    use super::super::progressive::Progressive;
    use super::*;

    fn progress(format: u32, learner: LearnerState) -> OnlineProgress {
        let cursors = vec![Cursor::new("b.parquet", 7)];
        OnlineProgress {
            format,
            ..OnlineProgress::new(5, (9, 8), cursors, BTreeMap::new(), &[], learner, 2, true)
        }
    }

    fn learner(target: Option<super::super::target::TargetState>) -> LearnerState {
        let progressive = Progressive::default().state();
        LearnerState { running: None, capacity: 0, outputs: 1, progressive, target, counts: (0, 0) }
    }

    #[test]
    fn a_checkpoint_comes_back_and_one_of_the_first_format_too() {
        let mut target = super::super::target::RunningTarget::default();
        target.update(&[1.0, 2.0]);
        let new = progress(FORMAT, learner(Some(target.state())));
        let bytes = new.to_bytes(b"state").unwrap();
        assert_eq!(OnlineProgress::from_bytes(&bytes).unwrap(), (new, b"state".as_slice()));

        // The first format knew nothing of the target and of files.
        let old = progress(1, learner(None));
        let text = serde_json::to_string(&old).unwrap().replace(",\"target\":null", "");
        assert!(!text.contains("target") && !text.contains("folder"), "{text}");
        let bytes = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), b"state"].concat();
        assert_eq!(OnlineProgress::from_bytes(&bytes).unwrap().0, old);

        let later = progress(FORMAT + 1, learner(None)).to_bytes(b"").unwrap();
        let error = OnlineProgress::from_bytes(&later).unwrap_err().to_string();
        assert!(error.contains("the checkpoint has format 3, but this program reads"), "{error}");
    }
}
