//! Networks of any layers: an architecture, its layers, and the executor that computes gradients
//! and scores.
//!
//! - [`call`], [`definition`]: layers as a clause has them, and what a layer takes.
//! - [`layers`]: every layer, forward next to backward.
//! - [`architecture`], [`build`]: inputs and nodes, and how clauses become nodes.
//! - [`mask`]: sequences of different lengths.
//! - [`executor`]: how a mini-batch is computed; [`program`], [`values`] and [`plan`] are made once
//!   for an architecture, [`shard`] and [`machine`] work on rows.

mod architecture;
mod build;
mod call;
mod definition;
mod executor;
mod layer;
mod layers;
mod machine;
mod mask;
mod objective;
mod plan;
mod product;
mod program;
mod shard;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

pub use architecture::{Architecture, Input, InputKind, Node, Origin, SummaryRow};
pub use build::{Builder, check_call};
pub use call::{Call, LayerSpec, Value};
pub use definition::{Argument, Default as ArgumentDefault, Definition, Kind as ArgumentKind};
pub use executor::Executor;
pub use layer::CategoryColumn;
pub use layers::{DEFINITIONS, definition};
pub use objective::Objective;
