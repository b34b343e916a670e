//! `EXPLAIN TRAIN`.

use std::fmt;

use super::train::Train;

/// `EXPLAIN [ANALYZE] TRAIN ...`
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainTrain {
    /// ANALYZE: train, and publish nothing.
    pub analyze: bool,
    /// The training.
    pub train: Box<Train>,
}

impl fmt::Display for ExplainTrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EXPLAIN {}{}", if self.analyze { "ANALYZE " } else { "" }, self.train)
    }
}
