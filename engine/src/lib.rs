//! Runs training: sessions, encoded tables, rounds, the model store, checkpoints.
//!
//! This crate parses no statement of ours and prints nothing: progress leaves it as events.

pub mod event;
pub mod options;
