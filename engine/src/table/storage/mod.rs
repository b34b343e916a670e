//! Memory and disk: chunks in memory or spilled, arenas, pooled buffers, what may be reserved.

pub(in crate::table) mod arena;
pub(in crate::table) mod buffer_pool;
pub(in crate::table) mod chunks;
pub(in crate::table) mod metrics_reservation;
pub(in crate::table) mod resources;
pub(in crate::table) mod spill;
