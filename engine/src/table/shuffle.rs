//! A shuffle beyond the memory limit: rows are dealt into buckets of neighbouring places as they come,
//! buckets are spilled when memory runs out, and then each is put in order alone.

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

/// Share of the memory limit up to which rows wait in buckets, which may hold twice what they need.
const SHUFFLE_SHARE: f64 = 0.5;
/// Bytes of a bucket at least, about.
const BUCKET_BYTES: u64 = 16 << 20;
/// Buckets at most.
const MAX_BUCKETS: u64 = 4096;

/// Rows by neighbouring places.
pub(super) struct Buckets {
    width: Width,
    schema: SchemaRef,
    rows: u64,
    chunk_rows: usize,
    /// Chunks of a bucket.
    chunks: usize,
    buckets: Vec<(Rows, Vec<u64>)>,
    spilled: BTreeMap<usize, Vec<Place>>,
    log: Option<SpillLog>,
    resources: Resources,
    reservation: MemoryReservation,
}

impl Buckets {
    /// For `rows` rows, which end in chunks of `chunk_rows`.
    pub(super) fn new(width: Width, rows: u64, chunk_rows: usize, resources: &Resources) -> Self {
        let bytes = rows * (row_bytes(width) as u64 + 8);
        let wanted = (bytes / BUCKET_BYTES).clamp(1, MAX_BUCKETS);
        let chunks = rows.div_ceil(chunk_rows as u64);
        let per_bucket = chunks.div_ceil(wanted).max(1);
        let count = chunks.div_ceil(per_bucket) as usize;
        // No more than fits before buckets are spilled: room that is touched a little costs whole
        // (huge) pages of every bucket.
        let room = resources.room(SHUFFLE_SHARE) / (row_bytes(width) + 8) / count.max(1);
        let capacity = room.min(per_bucket as usize * chunk_rows);
        let mut fields = fields(width);
        fields.push(Field::new("place", DataType::UInt64, false));
        Self {
            width,
            schema: Arc::new(Schema::new(fields)),
            rows,
            chunk_rows,
            chunks: per_bucket as usize,
            buckets: (0..count)
                .map(|_| (Rows::with_capacity(width, capacity), Vec::with_capacity(capacity)))
                .collect(),
            spilled: BTreeMap::new(),
            log: None,
            resources: resources.clone(),
            reservation: resources.reservation("shuffle of training rows"),
        }
    }

    /// Takes rows and their places, spilling what is there if there is no room.
    pub(super) fn push(&mut self, from: &Rows, places: &[u64]) -> Result<()> {
        let bytes = places.len() * (row_bytes(self.width) + 8);
        if !self.resources.try_reserve(&self.reservation, bytes, SHUFFLE_SHARE) {
            self.spill()?;
            self.reservation.resize(0);
            self.resources.reserve(&self.reservation, bytes, "shuffling the training rows")?;
        }
        let bucket_rows = self.bucket_rows() as u64;
        for (row, place) in places.iter().enumerate() {
            let (rows, own) = &mut self.buckets[(place / bucket_rows) as usize];
            rows.push(from, row, self.width);
            own.push(*place);
        }
        Ok(())
    }

    fn bucket_rows(&self) -> usize {
        self.chunks * self.chunk_rows
    }

    fn spill(&mut self) -> Result<()> {
        for (index, (rows, places)) in self.buckets.iter_mut().enumerate() {
            if places.is_empty() {
                continue;
            }
            let log = match &mut self.log {
                Some(log) => log,
                none => none.insert(SpillLog::create(&self.resources, "shuffling training rows")?),
            };
            let n = places.len();
            let taken = std::mem::replace(rows, Rows::with_capacity(self.width, n));
            let taken_places = std::mem::replace(places, Vec::with_capacity(n));
            let mut columns = EncodedChunk::from(taken).columns(self.width)?;
            columns.push(Arc::new(UInt64Array::from(taken_places)));
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
            self.spilled.entry(index).or_default().push(log.append(&batch)?);
        }
        Ok(())
    }

    /// Calls `f` with every chunk, in order.
    pub(super) fn finish(mut self, mut f: impl FnMut(Rows) -> Result<()>) -> Result<()> {
        for index in 0..self.buckets.len() {
            self.resources.check_interrupt()?;
            let first = index * self.bucket_rows();
            let end = (first + self.bucket_rows()).min(self.rows as usize);
            let mut chunks: Vec<Rows> = (first..end)
                .step_by(self.chunk_rows)
                .map(|at| Rows::zeros(self.width, self.chunk_rows.min(end - at)))
                .collect();
            let mut put = |rows: &Rows, places: &[u64]| {
                for (row, place) in places.iter().enumerate() {
                    let at = *place as usize - first;
                    let pair = (at % self.chunk_rows, row);
                    chunks[at / self.chunk_rows].set(rows, std::iter::once(pair), self.width);
                }
            };
            for place in self.spilled.get(&index).into_iter().flatten() {
                let Some(log) = &self.log else { continue };
                let batch = log.read(*place)?;
                let places = batch.column(batch.num_columns() - 1);
                let rows = EncodedChunk::new(self.width, &batch)?.rows();
                put(&rows, places.as_primitive::<UInt64Type>().values());
            }
            let (rows, places) = std::mem::take(&mut self.buckets[index]);
            put(&rows, &places);
            let bytes = places.len() * (row_bytes(self.width) + 8);
            drop(rows);
            self.reservation.shrink(bytes.min(self.reservation.size()));
            chunks.into_iter().try_for_each(&mut f)?;
        }
        Ok(())
    }
}
