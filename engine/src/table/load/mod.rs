//! From batches of a query to raw rows of groups, which are split and fitted.

pub(in crate::table) mod blocks;
pub(in crate::table) mod collect;
pub(in crate::table) mod columns;
pub(in crate::table) mod fit;
pub(in crate::table) mod groups;
pub(in crate::table) mod label_encoder;
pub(in crate::table) mod raw;
pub(in crate::table) mod row_filter;
pub(in crate::table) mod selection;
pub(in crate::table) mod split;
pub(in crate::table) mod targets;
pub(in crate::table) mod usable;
pub(in crate::table) mod weights;
