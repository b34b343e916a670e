//! The functions of SQL that this crate adds.

pub mod assert_true;
pub mod follow;
pub mod part;
pub mod predict;
pub mod train;
