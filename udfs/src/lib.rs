//! The mathematics of Gradlake as functions of DataFusion: kernels, learners, optimizers,
//! encoders, metrics.
//!
//! This crate does no I/O, parses no SQL and spawns nothing.

pub mod algorithms;
pub mod batch;
pub mod encoder;
pub mod estimator;
pub mod exact;
pub mod functions;
pub mod kernels;
pub mod learner;
pub mod metrics;
pub mod model;
pub mod names;
pub mod optimizer;
pub mod options;
pub mod resolver;
pub mod round;
pub mod scorer;
pub mod shards;
pub mod state;
