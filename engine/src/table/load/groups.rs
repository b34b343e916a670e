//! Rows by group: gathered into contiguous ranges in memory, or listed by position where gathering
//! would take too much memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayData, ArrayRef, BooleanBufferBuilder, RecordBatch, UInt32Array, make_array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::{ArrowNativeType, DataType, FieldRef, Schema};
use datafusion::common::Result;

use crate::table::Resources;
use crate::table::load::raw::{RawData, RowRanges, running_sums};
use crate::table::parallel::in_order;
use crate::table::storage::buffer_pool::{Allocation, PageSize, SharedBuffer, Span};
use crate::table::storage::chunks::Chunks;

/// Share of the memory limit up to which the rows of groups are gathered.
const TOGETHER_SHARE: f64 = 0.5;

/// Rows up to the end of each chunk.
pub(in crate::table) fn chunk_ends(partitions: &[(Chunks, usize)]) -> Vec<u64> {
    let chunks = partitions.iter().map(|(chunks, _)| chunks);
    running_sums(chunks.flat_map(|chunks| (0..chunks.len()).map(|index| chunks.chunk_rows(index))))
}

/// The positions of the rows of each group, and their number. `group_of` has the group of each row,
/// by chunk; `codes` lists the groups in the order of the result. Rows keep their order within a
/// group.
pub(in crate::table) fn part_groups(
    data: &mut RawData,
    group_of: &[UInt32Array],
    codes: &[u32],
) -> Result<Vec<(RowRanges, u64)>> {
    let bytes: u64 = data.partitions.iter().map(|(chunks, _)| chunks.memory_bytes()).sum();
    let reservation = data.resources.reservation("rows of groups");
    let rows: usize = group_of.iter().map(Array::len).sum();
    let is_in_memory = data.partitions.iter().all(|(chunks, _)| chunks.spilled_bytes() == 0);
    let is_together = is_in_memory && u32::try_from(rows).is_ok();
    if is_together && data.resources.try_reserve(&reservation, 2 * bytes as usize, TOGETHER_SHARE) {
        drop(reservation);
        return bring_together(data, group_of, codes);
    }
    Ok(find(group_of, codes))
}

/// Sorts the rows by group, so that each group is a contiguous range.
fn bring_together(
    data: &mut RawData,
    group_of: &[UInt32Array],
    codes: &[u32],
) -> Result<Vec<(RowRanges, u64)>> {
    let mut rows = vec![0u64; codes.len()];
    for group in group_of.iter().flat_map(|groups| groups.values()) {
        rows[*group as usize] += 1;
    }
    let mut next = vec![0u32; codes.len()];
    let mut places = vec![];
    let mut first = 0;
    for code in codes {
        next[*code as usize] = first as u32;
        places.push((RowRanges::Range(first), rows[*code as usize]));
        first += rows[*code as usize];
    }
    let mut to = Vec::with_capacity(first as usize);
    for group in group_of.iter().flat_map(|groups| groups.values()) {
        let place = &mut next[*group as usize];
        to.push(*place);
        *place += 1;
    }
    let batches: Vec<RecordBatch> =
        (0..group_of.len()).map(|i| data.chunk(i)).collect::<Result<_>>()?;
    let mut chunks = Chunks::new(&data.resources, "rows of groups", 1.0);
    let size = data.block_rows;
    match scattered(&data.columns.schema, &data.resources, &batches, &to)? {
        Some(columns) => {
            for block in 0..to.len().div_ceil(size) {
                let columns = columns.iter().map(|column| column.block(block, size, to.len()));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                chunks.push(RecordBatch::try_new(Arc::clone(&data.columns.schema), columns)?)?;
            }
        }
        None => {
            let mut order = vec![(0, 0); to.len()];
            let from = batches.iter().enumerate();
            let from = from.flat_map(|(i, batch)| (0..batch.num_rows()).map(move |row| (i, row)));
            from.zip(&to).for_each(|(from, to)| order[*to as usize] = from);
            let batches: Vec<&RecordBatch> = batches.iter().collect();
            for block in order.chunks(size) {
                chunks.push(interleave_record_batch(&batches, block)?)?;
            }
        }
    }
    data.partitions = vec![(chunks, 0)];
    data.chunk_ends = chunk_ends(&data.partitions);
    Ok(places)
}

/// A column of the table in another order.
struct InterleavedColumns {
    data_type: DataType,
    /// Bytes of a value.
    width: usize,
    values: SharedBuffer,
    nulls: Option<BooleanBuffer>,
}

/// The columns with each row moved to its position in `to`; None if the values of a column are not
/// 1, 2, 4 or 8 bytes wide.
fn scattered(
    schema: &Schema,
    resources: &Resources,
    batches: &[RecordBatch],
    to: &[u32],
) -> Result<Option<Vec<InterleavedColumns>>> {
    let fields = schema.fields();
    let is_plain =
        |field: &FieldRef| matches!(field.data_type().primitive_width(), Some(1 | 2 | 4 | 8));
    if !fields.iter().all(is_plain) {
        return Ok(None);
    }
    let mut columns = vec![];
    let column = |(): &mut (), index: usize| -> Result<InterleavedColumns> {
        let width = fields[index].data_type().primitive_width().unwrap_or(1);
        let mut values = Allocation::zeroed(width * to.len(), PageSize::Huge)?;
        let parts: Vec<ArrayData> = batches.iter().map(|b| b.column(index).to_data()).collect();
        let bytes = values.bytes();
        match width {
            1 => scatter::<u8>(&parts, to, bytes),
            2 => scatter::<u16>(&parts, to, bytes),
            4 => scatter::<u32>(&parts, to, bytes),
            _ => scatter::<u64>(&parts, to, bytes),
        }
        let nulls = parts.iter().any(|part| part.null_count() > 0).then(|| {
            let mut bits = BooleanBufferBuilder::new(to.len());
            bits.append_n(to.len(), true);
            let mut to = to;
            for part in &parts {
                let (own, rest) = to.split_at(part.len());
                if let Some(nulls) = part.nulls() {
                    let rows = own.iter().zip(nulls);
                    rows.for_each(|(to, is_valid)| bits.set_bit(*to as usize, is_valid));
                }
                to = rest;
            }
            bits.finish()
        });
        let data_type = fields[index].data_type().clone();
        Ok(InterleavedColumns { data_type, width, values: values.freeze(), nulls })
    };
    in_order(
        resources,
        fields.len(),
        || (),
        column,
        |column| {
            columns.push(column);
            Ok(())
        },
    )?;
    Ok(Some(columns))
}

/// Scatters the values of all parts, one part after another, to the positions in `to`.
fn scatter<T: ArrowNativeType + bytemuck::Pod>(
    parts: &[ArrayData],
    mut to: &[u32],
    bytes: &mut [u8],
) {
    let values: &mut [T] = bytemuck::cast_slice_mut(bytes);
    for part in parts {
        let (own, rest) = to.split_at(part.len());
        let from = &part.buffers()[0].typed_data::<T>()[part.offset()..][..part.len()];
        own.iter().zip(from).for_each(|(to, value)| values[*to as usize] = *value);
        to = rest;
    }
}

impl InterleavedColumns {
    /// The values of a block of `size` rows of the table's `rows`.
    fn block(&self, index: usize, size: usize, rows: usize) -> Result<ArrayRef> {
        let first = index * size;
        let rows = size.min(rows - first);
        let span = Span { start: first * self.width, bytes: rows * self.width };
        let nulls = self.nulls.as_ref().map(|bits| NullBuffer::new(bits.slice(first, rows)));
        let data = ArrayData::builder(self.data_type.clone())
            .len(rows)
            .add_buffer(self.values.buffer(span))
            .nulls(nulls);
        Ok(make_array(data.build()?))
    }
}

/// The rows of each group, by chunk.
fn find(group_of: &[UInt32Array], codes: &[u32]) -> Vec<(RowRanges, u64)> {
    let mut parts = vec![vec![]; codes.len()];
    for (chunk, groups) in group_of.iter().enumerate() {
        let mut rows: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, group) in groups.values().iter().enumerate() {
            rows.entry(*group).or_default().push(row as u32);
        }
        for (group, rows) in rows {
            parts[group as usize].push((chunk, UInt32Array::from(rows)));
        }
    }
    let place = |code: &u32| {
        let parts = std::mem::take(&mut parts[*code as usize]);
        let rows = parts.iter().map(|(_, rows)| rows.len() as u64).sum();
        (RowRanges::Parts(Arc::new(parts)), rows)
    };
    codes.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        Decimal128Array, Float32Array, Int8Array, Int16Array, TimestampMillisecondArray,
    };
    use datafusion::prelude::SessionContext;
    use gradlake_udfs::Sequential;

    use super::*;

    fn batch(first: i64, rows: i64) -> RecordBatch {
        let all = first..first + rows;
        let columns: [(&str, ArrayRef); 4] = [
            ("bytes", Arc::new(all.clone().map(|i| i as i8).collect::<Int8Array>())),
            (
                "shorts",
                Arc::new(all.clone().map(|i| (i as i16).wrapping_mul(3)).collect::<Int16Array>()),
            ),
            (
                "floats",
                Arc::new(
                    all.clone().map(|i| (i % 5 != 0).then_some(i as f32)).collect::<Float32Array>(),
                ),
            ),
            (
                "times",
                Arc::new(TimestampMillisecondArray::from_iter_values(all.map(|i| i * 1_000_003))),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
    }

    #[test]
    fn scattered_columns_are_interleaved_rows() {
        let state = SessionContext::new().state();
        let resources = Resources::new(&state, Arc::default(), Arc::new(Sequential));
        // Some begin within their buffers, and one has no NULL.
        let batches =
            [batch(0, 9000).slice(3, 8000), batch(9001, 4), batch(10_000, 9000).slice(7, 8990)];
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let from: Vec<(usize, usize)> = batches
            .iter()
            .enumerate()
            .flat_map(|(i, batch)| (0..batch.num_rows()).map(move |row| (i, row)))
            .collect();
        // 7919 is prime, so that each position occurs once.
        let to: Vec<u32> = (0..rows).map(|row| ((row * 7919 + 11) % rows) as u32).collect();
        let mut order = vec![(0, 0); rows];
        from.iter().zip(&to).for_each(|(from, to)| order[*to as usize] = *from);
        let schema = batches[0].schema();
        let columns = scattered(&schema, &resources, &batches, &to).unwrap().unwrap();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let size = 8000;
        for (index, block) in order.chunks(size).enumerate() {
            let truth = interleave_record_batch(&batches, block).unwrap();
            for (truth, own) in truth.columns().iter().zip(&columns) {
                assert_eq!(truth, &own.block(index, size, rows).unwrap());
            }
        }
        assert_eq!(rows.div_ceil(size), 3);
        let long: ArrayRef = Arc::new(Decimal128Array::from(vec![1, 2]));
        let long = RecordBatch::try_from_iter([("long", long)]).unwrap();
        let schema = long.schema();
        assert!(scattered(&schema, &resources, &[long], &[1, 0]).unwrap().is_none());
    }
}
