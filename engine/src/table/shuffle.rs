//! A full shuffle, within the memory limit or beyond it: rows in the order of random keys.
//!
//! Rows are dealt into buckets of neighbouring keys as they come, buckets are spilled when memory runs
//! out, and then each is sorted alone: the order is the same however much of it went over the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::batch::{Rows, Width};

use super::Resources;
use super::chunk::{EncodedChunk, fields, row_bytes};
use super::spill::{Place, SpillLog};

/// Share of the memory limit up to which rows are shuffled in memory: buckets grow by doubling, so
/// they may hold twice what they need.
const SHUFFLE_SHARE: f64 = 0.5;
/// Bytes of a bucket of the shuffle, about.
const BUCKET_BYTES: u64 = 16 << 20;

/// Rows by neighbouring random keys.
pub(super) struct Buckets {
    width: Width,
    schema: SchemaRef,
    /// Keys are shifted right by this to give their bucket.
    shift: u32,
    buckets: Vec<(Rows, Vec<u64>)>,
    spilled: BTreeMap<usize, Vec<Place>>,
    log: Option<SpillLog>,
    resources: Resources,
    reservation: MemoryReservation,
}

impl Buckets {
    pub(super) fn new(width: Width, rows: u64, resources: &Resources) -> Result<Self> {
        let bytes = rows * (row_bytes(width) as u64 + 8);
        let count = (bytes / BUCKET_BYTES).max(1).next_power_of_two().min(4096);
        let mean = rows as f64 / count as f64;
        // Six standard deviations above the mean: hardly a bucket ever grows.
        let expected = if count == 1 { rows as usize } else { (mean + 6.0 * mean.sqrt()) as usize };
        // No more than fits before buckets are spilled: room that is touched a little costs whole
        // (huge) pages of every bucket.
        let room = resources.room(SHUFFLE_SHARE) / (row_bytes(width) + 8) / count as usize;
        let capacity = expected.min(room.max(1));
        let mut fields = fields(width);
        fields.push(Field::new("key", DataType::UInt64, false));
        Ok(Self {
            width,
            schema: Arc::new(Schema::new(fields)),
            shift: 64 - count.trailing_zeros(),
            buckets: (0..count)
                .map(|_| (Rows::with_capacity(width, capacity), Vec::with_capacity(capacity)))
                .collect(),
            spilled: BTreeMap::new(),
            log: None,
            resources: resources.clone(),
            reservation: resources.reservation("shuffle of training rows"),
        })
    }

    /// Makes room for some rows, spilling what is there if there is none.
    pub(super) fn reserve(&mut self, rows: usize) -> Result<()> {
        let bytes = rows * (row_bytes(self.width) + 8);
        if self.resources.try_reserve(&self.reservation, bytes, SHUFFLE_SHARE) {
            return Ok(());
        }
        self.spill()?;
        self.reservation.resize(0);
        self.resources.reserve(&self.reservation, bytes, "shuffling the training rows")
    }

    pub(super) fn push(&mut self, from: &Rows, row: usize, key: u64) {
        let bucket = key.checked_shr(self.shift).unwrap_or(0) as usize;
        let (rows, keys) = &mut self.buckets[bucket];
        rows.push(from, row, self.width);
        keys.push(key);
    }

    fn spill(&mut self) -> Result<()> {
        for (index, (rows, keys)) in self.buckets.iter_mut().enumerate() {
            if keys.is_empty() {
                continue;
            }
            let log = match &mut self.log {
                Some(log) => log,
                none => none.insert(SpillLog::create(&self.resources, "shuffling training rows")?),
            };
            let n = keys.len();
            let taken = std::mem::replace(rows, Rows::with_capacity(self.width, n));
            let taken_keys = std::mem::replace(keys, Vec::with_capacity(n));
            let mut columns = EncodedChunk::from(taken).columns(self.width)?;
            columns.push(Arc::new(UInt64Array::from(taken_keys)));
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
            self.spilled.entry(index).or_default().push(log.append(&batch)?);
        }
        Ok(())
    }

    /// Calls `f` with every row in the order of the keys.
    pub(super) fn finish(mut self, mut f: impl FnMut(&Rows, usize) -> Result<()>) -> Result<()> {
        for index in 0..self.buckets.len() {
            self.resources.check_interrupt()?;
            let (tail, tail_keys) = std::mem::take(&mut self.buckets[index]);
            let tail_bytes = tail_keys.len() * (row_bytes(self.width) + 8);
            let (rows, keys) = match (self.spilled.get(&index), &self.log) {
                (Some(places), Some(log)) => {
                    let (mut rows, mut keys) = (Rows::default(), vec![]);
                    for place in places {
                        let batch = log.read(*place)?;
                        let part = EncodedChunk::new(self.width, &batch)?;
                        rows.dense.extend_from_slice(part.dense.values());
                        rows.codes.extend_from_slice(part.codes.values());
                        rows.label.extend_from_slice(part.label.values());
                        rows.weight.extend_from_slice(part.weight.values());
                        let own = batch.column(batch.num_columns() - 1);
                        keys.extend_from_slice(own.as_primitive::<UInt64Type>().values());
                    }
                    rows.dense.extend_from_slice(&tail.dense);
                    rows.codes.extend_from_slice(&tail.codes);
                    rows.label.extend_from_slice(&tail.label);
                    rows.weight.extend_from_slice(&tail.weight);
                    keys.extend_from_slice(&tail_keys);
                    (rows, keys)
                }
                _ => (tail, tail_keys),
            };
            // Within a bucket rows stand by position, so a stable sort settles equal keys.
            let mut order: Vec<u32> = (0..keys.len() as u32).collect();
            order.sort_by_key(|row| keys[*row as usize]);
            for row in order {
                f(&rows, row as usize)?;
            }
            drop(rows);
            self.reservation.shrink(tail_bytes.min(self.reservation.size()));
        }
        Ok(())
    }
}
