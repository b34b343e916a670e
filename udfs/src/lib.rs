//! The mathematics of Gradlake as functions of DataFusion: kernels, learners, optimizers,
//! encoders, metrics.
//!
//! This crate does no I/O, parses no SQL and spawns nothing.

pub mod algorithm;
pub mod batch;
pub mod encoder;
pub mod exact;
pub mod learner;
pub mod model;
pub mod optimizer;
pub mod shards;
