//! `DROP MODEL`.

use std::fmt;

use super::name::{quoted, write_version};

/// `DROP MODEL [IF EXISTS] name [VERSION n]`
#[derive(Clone, Debug, PartialEq)]
pub struct DropModel {
    /// IF EXISTS: a missing model is no error.
    pub if_exists: bool,
    /// Name of the model.
    pub name: String,
    /// VERSION: this version alone; the whole model if absent.
    pub version: Option<u64>,
}

impl fmt::Display for DropModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let if_exists = if self.if_exists { "IF EXISTS " } else { "" };
        write!(f, "DROP MODEL {if_exists}{}", quoted(&self.name))?;
        write_version(f, self.version)
    }
}
