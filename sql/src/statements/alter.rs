//! `ALTER MODEL`.

use std::fmt;

use super::name::quoted;

/// `ALTER MODEL name { RENAME TO other | SET VERSION n }`
#[derive(Clone, Debug, PartialEq)]
pub struct AlterModel {
    /// Name of the model.
    pub name: String,
    /// What changes.
    pub action: AlterModelAction,
}

/// What ALTER MODEL changes.
#[derive(Clone, Debug, PartialEq)]
pub enum AlterModelAction {
    /// `RENAME TO other`
    Rename(String),
    /// `SET VERSION n`: the version that PREDICT uses.
    SetVersion(u64),
}

impl fmt::Display for AlterModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ALTER MODEL {} ", quoted(&self.name))?;
        match &self.action {
            AlterModelAction::Rename(other) => write!(f, "RENAME TO {}", quoted(other)),
            AlterModelAction::SetVersion(version) => write!(f, "SET VERSION {version}"),
        }
    }
}
