//! The clause `LAYERS [FOR ...] (...)`: which layers follow which columns.

use serde::{Deserialize, Serialize};

use super::call::LayerSpec;

/// The columns that layers read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// These.
    Columns(Vec<String>),
    /// All that no other branch reads.
    Others,
    /// What the branches give; without branches, all columns.
    Trunk,
}

/// One clause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayersClause {
    /// What the layers read.
    pub branch: Branch,
    /// The layers, one after another.
    pub layers: Vec<LayerSpec>,
}

impl LayersClause {
    /// `LAYERS FOR photo (conv(16, 3), relu)`; `quoted` writes a name so that it is read again.
    pub fn text(&self, quoted: impl Fn(&str) -> String) -> String {
        let branch = match &self.branch {
            Branch::Columns(names) => {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                format!("FOR {} ", names.join(", "))
            }
            Branch::Others => "FOR * ".to_owned(),
            Branch::Trunk => String::new(),
        };
        let layers: Vec<String> = self.layers.iter().map(ToString::to_string).collect();
        format!("LAYERS {branch}({})", layers.join(", "))
    }
}
