//! The layers, one file each or a family of them, with forward next to backward. A new layer is a
//! file and a line in the table below.

use super::definition::{Build, Definition};

mod activation;
mod attention;
mod augment;
mod batch_norm;
mod blocks;
mod conv;
mod dense;
mod depthwise;
mod dropout;
mod embedding;
mod gates;
mod global_pool;
mod join;
mod layer_norm;
mod patches;
mod pool;
mod positional_embedding;
mod recurrent;
mod reshape;
mod softmax;
mod window;

/// Every layer.
pub const DEFINITIONS: &[&Definition] = &[
    &dense::DENSE,
    &conv::CONV,
    &pool::MAX_POOL,
    &pool::AVG_POOL,
    &global_pool::GLOBAL_MAX_POOL,
    &global_pool::GLOBAL_AVG_POOL,
    &batch_norm::BATCH_NORM,
    &layer_norm::LAYER_NORM,
    &dropout::DROPOUT,
    &activation::RELU,
    &activation::LEAKY_RELU,
    &activation::GELU,
    &activation::SILU,
    &activation::TANH,
    &activation::SIGMOID,
    &activation::ELU,
    &softmax::SOFTMAX,
    &embedding::EMBEDDING,
    &embedding::ONE_HOT,
    &recurrent::LSTM,
    &recurrent::GRU,
    &attention::ATTENTION,
    &blocks::TRANSFORMER,
    &positional_embedding::POSITIONAL_EMBEDDING,
    &reshape::FLATTEN,
    &reshape::RESHAPE,
    &join::CONCAT,
    &join::ADD,
    &join::DOT,
    &blocks::RESIDUAL,
    &augment::RANDOM_FLIP,
    &augment::RANDOM_CROP,
    &dropout::GAUSSIAN_NOISE,
];

/// The layer of a name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().copied().find(|own| own.name == name)
}
