//! Networks of any layers: an architecture, its layers, and the executor that computes gradients
//! and scores.
//!
//! - [`call`], [`definition`]: layers as a clause has them, and what a layer takes.
//! - [`layers`]: every layer, forward next to backward.
//! - [`architecture`], [`build`]: inputs and nodes, and how clauses become nodes.
//! - [`clause`], [`assemble`], [`defaults`]: from LAYERS and the features to an architecture.
//! - [`mask`]: sequences of different lengths.
//! - [`executor`]: how a mini-batch is computed; [`program`], [`values`] and [`plan`] are made once
//!   for an architecture, [`shard`] and [`machine`] work on rows.
//! - [`learner`], [`description`], [`predictor`], [`table`]: what the rest of the crate sees of it.

mod architecture;
mod assemble;
mod build;
mod call;
mod clause;
mod defaults;
mod definition;
mod description;
mod executor;
mod layer;
mod layers;
mod learner;
mod machine;
mod mask;
mod objective;
mod plan;
mod predictor;
mod product;
mod program;
mod shard;
mod table;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

pub use architecture::{Architecture, Input, InputKind, Node, Origin, SummaryRow};
pub use assemble::{Output, assemble};
pub use build::{Builder, check_call};
pub use call::{Call, LayerSpec, Value};
pub use clause::{Branch, LayersClause};
pub use definition::{Argument, Default as ArgumentDefault, Definition, Kind as ArgumentKind};
pub use description::{LAYERS, NetworkDescription};
pub use executor::Executor;
pub use layer::CategoryColumn;
pub use layers::{DEFINITIONS, definition};
pub use learner::LayeredNetwork;
pub use objective::Objective;
