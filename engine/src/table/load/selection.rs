//! Which rows of a subset are encoded, and which number each has among them.

use datafusion::arrow::array::{BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::common::Result;

use crate::table::encoded::encode::Side;
use crate::table::load::blocks::Blocks;
use crate::table::load::raw::{RawData, Subset};
use crate::table::load::split::Mask;

/// The rows of one side of a split whose label is known.
pub(in crate::table) struct Selection {
    /// None for all rows of the subset.
    bits: Option<BooleanBuffer>,
    /// Selected rows before each block.
    before: Vec<u64>,
    rows: u64,
    unknown: u64,
    /// Rows of a block.
    block_rows: usize,
}

impl Selection {
    /// `class_of` maps each provisional class to its class, if it has one (empty without classes).
    pub(in crate::table) fn new(
        data: &RawData,
        subset: &Subset,
        mask: &Mask,
        side: Side,
        class_of: &[Option<u32>],
    ) -> Result<Self> {
        let all = subset.rows();
        let mut bits = match (mask.block(0, all as usize), side) {
            (bits, Side::Training) => bits,
            (Some(bits), Side::Evaluation) => Some(!&bits),
            (None, Side::Evaluation) => Some(BooleanBuffer::new_unset(all as usize)),
        };
        let mut unknown = 0;
        if class_of.contains(&None) {
            let known = known(data, subset, class_of)?;
            let both = bits.as_ref().map_or_else(|| known.clone(), |bits| bits & &known);
            let before = bits.map_or(all, |bits| bits.count_set_bits() as u64);
            let after = both.count_set_bits() as u64;
            unknown = before - after;
            bits = (after < all).then_some(both);
        }
        let mut rows = 0;
        let mut before = vec![];
        for first in (0..all as usize).step_by(data.block_rows) {
            before.push(rows);
            let n = data.block_rows.min(all as usize - first);
            rows += bits.as_ref().map_or(n, |bits| bits.slice(first, n).count_set_bits()) as u64;
        }
        Ok(Self { bits, before, rows, unknown, block_rows: data.block_rows })
    }

    /// Number of selected rows.
    pub(in crate::table) fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of the side that are left out because their class has no training rows.
    pub(in crate::table) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// The selected rows of the block that begins at row `first`, and the number of the first of
    /// them.
    pub(in crate::table) fn of(
        &self,
        first: u64,
        block: &RecordBatch,
    ) -> Result<(RecordBatch, u64)> {
        let before = self.before[first as usize / self.block_rows];
        let Some(bits) = &self.bits else { return Ok((block.clone(), before)) };
        let own = bits.slice(first as usize, block.num_rows());
        if own.count_set_bits() == block.num_rows() {
            return Ok((block.clone(), before));
        }
        Ok((filter_record_batch(block, &own.into())?, before))
    }
}

/// Which rows have a class that is known.
fn known(data: &RawData, subset: &Subset, class_of: &[Option<u32>]) -> Result<BooleanBuffer> {
    let mut bits = BooleanBufferBuilder::new(subset.rows() as usize);
    Blocks::new(data, subset).for_each(|_, block| {
        let codes = data.columns.codes(block).map(|codes| codes.values());
        for code in codes.into_iter().flatten() {
            bits.append(class_of.get(*code as usize).is_some_and(Option::is_some));
        }
        Ok(())
    })?;
    Ok(bits.finish())
}
