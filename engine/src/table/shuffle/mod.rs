//! The full shuffle: which row goes where, in memory and beyond it, and the order of an epoch.

pub(in crate::table) mod epoch_order;
pub(in crate::table) mod external;
pub(in crate::table) mod plan;
pub(in crate::table) mod scatter;
