//! The functions of SQL that this crate adds.

pub mod assert_true;
pub mod predict;
pub mod train;
