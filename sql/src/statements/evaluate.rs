//! `EVALUATE MODEL`.

use std::fmt;

use gradlake_engine::OptionValue;

use super::name::{quoted, write_options, write_version};
use super::source::Source;

/// `EVALUATE MODEL`.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluate {
    /// Name of the model.
    pub name: String,
    /// VERSION; the current one if absent.
    pub version: Option<u64>,
    /// WITH, in the order given.
    pub options: Vec<(String, OptionValue)>,
    /// AS or FROM; without it, the stored metrics are returned.
    pub source: Option<Source>,
}

impl fmt::Display for Evaluate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EVALUATE MODEL {}", quoted(&self.name))?;
        write_version(f, self.version)?;
        write_options(f, &self.options)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " {source}"))
    }
}
