//! The layers, one file each or a family of them, with forward next to backward. A new layer is a
//! file and a line in the table below.

use super::definition::{Build, Definition};

mod activation;
mod dense;

/// Every layer.
pub const DEFINITIONS: &[&Definition] = &[
    &dense::DENSE,
    &activation::RELU,
    &activation::LEAKY_RELU,
    &activation::GELU,
    &activation::SILU,
    &activation::TANH,
    &activation::SIGMOID,
    &activation::ELU,
];

/// The layer of a name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().copied().find(|own| own.name == name)
}
