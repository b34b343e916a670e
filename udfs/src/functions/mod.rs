//! The SQL functions that this crate adds.

pub mod assert_true;
pub mod measure;
pub mod predict;
pub mod train;
