//! Runs training: sessions, encoded tables, rounds, the model store, checkpoints.
//!
//! This crate parses no statement of ours and prints nothing: progress leaves it as events.

pub mod catalog;
mod dictionaries;
pub mod evaluation;
pub mod event;
pub mod files;
pub mod inspection;
mod names;
mod object_stores;
pub mod online;
mod operators;
pub mod output;
mod pages;
pub mod prediction;
pub mod registry;
pub mod request;
mod row_groups;
mod scan;
pub mod session;
pub mod source;
mod stopping;
pub mod store;
pub mod table;
pub mod training;
mod transform;

pub use gradlake_udfs::options;
pub use session::{DEFAULT_WAREHOUSE, Engine, EngineOptions};
pub use stopping::STOPPED;
