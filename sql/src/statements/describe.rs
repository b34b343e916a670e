//! `DESCRIBE MODEL`.

use std::fmt;

use super::name::{quoted, write_version};

/// `DESCRIBE MODEL name [VERSION n]`
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeModel {
    /// Name of the model.
    pub name: String,
    /// VERSION; the current one if absent.
    pub version: Option<u64>,
}

impl fmt::Display for DescribeModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DESCRIBE MODEL {}", quoted(&self.name))?;
        write_version(f, self.version)
    }
}
