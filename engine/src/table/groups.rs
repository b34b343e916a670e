//! Rows by group: brought together in memory, or found here and there where that would take too much.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::common::Result;

use super::BLOCK_ROWS;
use super::chunks::Chunks;
use super::parallel::in_order;
use super::raw::{Place, RawData, running_sums};

/// Share of the memory limit up to which the rows of groups are brought together.
const TOGETHER_SHARE: f64 = 0.5;

/// Rows up to the end of each chunk.
pub(super) fn chunk_ends(partitions: &[(Chunks, usize)]) -> Vec<u64> {
    let chunks = partitions.iter().map(|(chunks, _)| chunks);
    running_sums(chunks.flat_map(|chunks| (0..chunks.len()).map(|index| chunks.chunk_rows(index))))
}

/// Where the rows of each group lie, and their number; `group_of` gives the group of each row, by
/// chunk, `codes` the groups in the order in which they are wanted. Rows keep their order within a
/// group.
pub(super) fn part_groups(
    data: &mut RawData,
    group_of: &[UInt32Array],
    codes: &[u32],
) -> Result<Vec<(Place, u64)>> {
    let bytes: u64 = data.partitions.iter().map(|(chunks, _)| chunks.memory_bytes()).sum();
    let reservation = data.resources.reservation("rows of groups");
    let is_in_memory = data.partitions.iter().all(|(chunks, _)| chunks.spilled_bytes() == 0);
    if is_in_memory && data.resources.try_reserve(&reservation, 2 * bytes as usize, TOGETHER_SHARE)
    {
        drop(reservation);
        return bring_together(data, group_of, codes);
    }
    Ok(find(group_of, codes))
}

/// Sorts the rows by group, so that a group is a range of them.
fn bring_together(
    data: &mut RawData,
    group_of: &[UInt32Array],
    codes: &[u32],
) -> Result<Vec<(Place, u64)>> {
    let mut rows = vec![0u64; codes.len()];
    for group in group_of.iter().flat_map(|groups| groups.values()) {
        rows[*group as usize] += 1;
    }
    let mut next = vec![0u64; codes.len()];
    let mut places = vec![];
    let mut first = 0;
    for code in codes {
        next[*code as usize] = first;
        places.push((Place::Range(first), rows[*code as usize]));
        first += rows[*code as usize];
    }
    let mut order = vec![(0usize, 0usize); first as usize];
    for (chunk, groups) in group_of.iter().enumerate() {
        for (row, group) in groups.values().iter().enumerate() {
            let place = &mut next[*group as usize];
            order[*place as usize] = (chunk, row);
            *place += 1;
        }
    }
    let batches: Vec<RecordBatch> =
        (0..group_of.len()).map(|i| data.chunk(i)).collect::<Result<_>>()?;
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let mut chunks = Chunks::new(&data.resources, "rows of groups", 1.0);
    let blocks: Vec<_> = order.chunks(BLOCK_ROWS).collect();
    in_order(
        &data.resources,
        blocks.len(),
        || (),
        |(), block| Ok(interleave_record_batch(&batches, blocks[block])?),
        |batch| chunks.push(batch),
    )?;
    data.partitions = vec![(chunks, 0)];
    data.chunk_ends = chunk_ends(&data.partitions);
    Ok(places)
}

/// The rows of each group, by chunk.
fn find(group_of: &[UInt32Array], codes: &[u32]) -> Vec<(Place, u64)> {
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
        (Place::Parts(Arc::new(parts)), rows)
    };
    codes.iter().map(place).collect()
}
