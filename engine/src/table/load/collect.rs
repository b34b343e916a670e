//! Reads a query into a [`RawTable`].

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, RecordBatch, UInt32Array};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use gradlake_udfs::Interner;
use tokio::sync::mpsc;

use crate::table::load::groups::{chunk_ends, part_groups};
use crate::table::load::raw::{Group, RawData, RawTable, RowRanges, Skipped, Subset};
use crate::table::load::row_filter::RowFilter;
use crate::table::parallel::{lock, unlock};
use crate::table::storage::arena::Arena;
use crate::table::storage::chunks::Chunks;
use crate::table::{BLOCK_ROWS, Resources, Roles, block_rows};

/// Share of the memory limit up to which raw rows stay in memory. Beside them, a Parquet reader
/// holds the compressed columns of a row group for each partition, which no memory pool accounts
/// for: 300 MB for two row groups of a million rows of 62 numbers.
const RAW_SHARE: f64 = 0.25;
/// Batches of a partition that are prefetched.
const AHEAD: usize = 2;

/// The rows of one partition of the query.
struct PartitionRows {
    chunks: Chunks,
    pieces: Arena,
    /// The group of each row, by chunk; empty without PARTITION BY.
    groups: Vec<UInt32Array>,
    /// Rows left out, by group and cause.
    skipped: BTreeMap<u32, Skipped>,
}

impl RawTable {
    /// Reads the partitions of a query, and reports the number of rows so far to `progress`.
    ///
    /// # Errors
    /// When the query fails, a column has a type that cannot be used, or the training is
    /// interrupted.
    pub async fn collect(
        streams: Vec<SendableRecordBatchStream>,
        roles: &Roles,
        resources: &Resources,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Self> {
        let Some(schema) = streams.first().map(|stream| stream.schema()) else {
            return exec_err!("the query has no partitions");
        };
        let filter = Arc::new(RowFilter::new(roles, &schema, resources)?);
        let mut tasks = vec![];
        for stream in streams {
            tasks.push(AbortOnDrop(tokio::spawn(read(Arc::clone(&filter), stream))));
        }
        let mut parts = vec![];
        for mut task in tasks {
            let mut told = tokio::time::interval(std::time::Duration::from_millis(200));
            let part = loop {
                tokio::select! {
                    part = &mut task.0 => break part,
                    _ = told.tick() => progress(filter.seen.load(Ordering::Relaxed)),
                }
            };
            parts.push(part.map_err(|e| exec_datafusion_err!("reading failed: {e}"))??);
        }
        progress(filter.seen.load(Ordering::Relaxed));
        match Arc::into_inner(filter) {
            Some(filter) => finish(filter, parts),
            None => exec_err!("a partition of the query is still being read"),
        }
    }
}

/// A task that is aborted when this handle is dropped.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(
    filter: Arc<RowFilter>,
    mut stream: SendableRecordBatchStream,
) -> Result<PartitionRows> {
    let mut part = PartitionRows {
        chunks: Chunks::new(&filter.resources, "raw training rows", RAW_SHARE),
        pieces: Arena::default(),
        groups: vec![],
        skipped: BTreeMap::new(),
    };
    // A few batches are prefetched: a single partition keeps two cores busy, one that decodes
    // batches and one that processes them.
    let (send, mut batches) = mpsc::channel(AHEAD);
    let mut reader = AbortOnDrop(tokio::spawn(async move {
        while let Some(batch) = stream.next().await {
            // If the receiver is gone, the rest is not needed.
            if send.send(batch).await.is_err() {
                break;
            }
        }
    }));
    while let Some(batch) = batches.recv().await {
        filter.resources.check_interrupt()?;
        let batch = batch?;
        if batch.num_rows() > 0 {
            take(&filter, &batch, &mut part)?;
            filter.seen.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        }
    }
    // No more batches arrive, perhaps because the reader panicked.
    (&mut reader.0).await.map_err(|e| exec_datafusion_err!("reading failed: {e}"))?;
    for rows in part.pieces.finish()? {
        part.chunks.push(rows)?;
    }
    Ok(part)
}

/// Takes the rows of a batch that can be learned from.
fn take(filter: &RowFilter, batch: &RecordBatch, part: &mut PartitionRows) -> Result<()> {
    let (rows, groups) = filter.usable(filter.rows(batch)?, &mut part.skipped)?;
    if rows.num_rows() > 0 {
        // Rows of groups skip the arena: they are gathered by group first.
        let rows = if groups.is_some() { vec![rows] } else { part.pieces.push(rows)? };
        for rows in rows {
            part.chunks.push(compact(rows)?)?;
        }
        part.groups.extend(groups);
    }
    Ok(())
}

/// Builds the table from the rows of the partitions.
fn finish(filter: RowFilter, parts: Vec<PartitionRows>) -> Result<RawTable> {
    let codes = match &filter.groups {
        Some(groups) => lock(groups).sorted(),
        None => vec![0],
    };
    let mut skipped = vec![Skipped::new(); codes.len()];
    let mut partitions = vec![];
    let mut group_of = vec![];
    let mut first = 0;
    for part in parts {
        for (group, causes) in part.skipped {
            for (cause, n) in causes {
                *skipped[group as usize].entry(cause).or_default() += n;
            }
        }
        let chunks = part.chunks.len();
        partitions.push((part.chunks, first));
        group_of.extend(part.groups);
        first += chunks;
    }
    let mut data = RawData {
        columns: filter.columns,
        interners: filter.categories.into_iter().map(|i| i.map(closed)).collect(),
        classes: filter.classes.map(unlock),
        chunk_ends: chunk_ends(&partitions),
        partitions,
        block_rows: BLOCK_ROWS,
        resources: filter.resources,
    };
    let row_bytes = data.columns.row_bytes(first, |index| data.chunk(index))?;
    data.block_rows = block_rows(row_bytes);
    let mut groups = vec![];
    match filter.groups.map(unlock) {
        None => {
            let rows = data.chunk_ends.last().copied().unwrap_or(0);
            let skipped = skipped.pop().unwrap_or_default();
            let subset = Subset { ranges: RowRanges::Range(0), rows, skipped };
            groups.push(Group { key: vec![], subset });
        }
        Some(distinct) => {
            let places = part_groups(&mut data, &group_of, &codes)?;
            let mut keys = distinct.into_values()?;
            for (code, (ranges, rows)) in codes.into_iter().zip(places) {
                let skipped = std::mem::take(&mut skipped[code as usize]);
                let subset = Subset { ranges, rows, skipped };
                groups.push(Group { key: std::mem::take(&mut keys[code as usize]), subset });
            }
        }
    }
    Ok(RawTable::new(data, groups))
}

/// A batch whose buffers hold no more than its rows: slices of a page would keep the whole page.
fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| {
            let exact = column.to_data().get_slice_memory_size()?;
            if column.get_buffer_memory_size() <= 2 * exact + 4096 {
                return Ok(Arc::clone(column));
            }
            let rows = UInt32Array::from_iter_values(0..column.len() as u32);
            Ok(datafusion::arrow::compute::take(column, &rows, None)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn closed(interner: Mutex<Interner>) -> Interner {
    let mut interner = unlock(interner);
    interner.close();
    interner
}
