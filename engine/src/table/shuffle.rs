//! A shuffle beyond the memory limit: rows are dealt into buckets of neighbouring chunks as they come,
//! buckets are spilled when memory runs out, and then each is put in order alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::batch::{Rows, Width};
use gradlake_udfs::kernels::prefetch::Ahead;

use super::Resources;
use super::chunk::{EncodedChunk, fields, row_bytes};
use super::dealing::{Dealing, Place, chunk_of, row_of};
use super::spill::{self, SpillLog};

/// Share of the memory limit up to which rows wait in buckets, which may hold twice what they need.
const SHUFFLE_SHARE: f64 = 0.5;
/// Bytes of a bucket at least, about.
const BUCKET_BYTES: u64 = 16 << 20;
/// Buckets at most.
const MAX_BUCKETS: u64 = 4096;

/// Rows by neighbouring chunks.
pub(super) struct Buckets<'a> {
    width: Width,
    schema: SchemaRef,
    dealing: &'a Dealing,
    /// Chunks of a bucket.
    chunks: usize,
    buckets: Vec<(Rows, Vec<Place>)>,
    spilled: BTreeMap<usize, Vec<spill::Place>>,
    log: Option<SpillLog>,
    resources: Resources,
    reservation: MemoryReservation,
}

impl<'a> Buckets<'a> {
    /// For the `rows` rows of a dealing.
    pub(super) fn new(
        width: Width,
        rows: u64,
        dealing: &'a Dealing,
        resources: &Resources,
    ) -> Self {
        let bytes = rows * (row_bytes(width) as u64 + 8);
        let wanted = (bytes / BUCKET_BYTES).clamp(1, MAX_BUCKETS) as usize;
        let per_bucket = dealing.chunks().div_ceil(wanted).max(1);
        let count = dealing.chunks().div_ceil(per_bucket);
        let bucket_rows = (rows as usize).div_ceil(count.max(1));
        // No more than fits before buckets are spilled: room that is touched a little costs whole
        // (huge) pages of every bucket.
        let room = resources.room(SHUFFLE_SHARE) / (row_bytes(width) + 8) / count.max(1);
        let capacity = room.min(bucket_rows);
        let mut fields = fields(width);
        fields.push(Field::new("place", DataType::UInt64, false));
        Self {
            width,
            schema: Arc::new(Schema::new(fields)),
            dealing,
            chunks: per_bucket,
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
    pub(super) fn push(&mut self, from: &Rows, places: &[Place]) -> Result<()> {
        let bytes = places.len() * (row_bytes(self.width) + 8);
        if !self.resources.try_reserve(&self.reservation, bytes, SHUFFLE_SHARE) {
            self.spill()?;
            self.reservation.resize(0);
            self.resources.reserve(&self.reservation, bytes, "shuffling the training rows")?;
        }
        for (row, place) in places.iter().enumerate() {
            let (rows, own) = &mut self.buckets[chunk_of(*place) / self.chunks];
            rows.push(from, row, self.width);
            own.push(*place);
        }
        Ok(())
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
            let first = index * self.chunks;
            let end = (first + self.chunks).min(self.dealing.chunks());
            let mut chunks: Vec<Rows> = (first..end)
                .map(|chunk| Rows::zeros(self.width, self.dealing.rows_of(chunk)))
                .collect();
            let mut put = |rows: &Rows, places: &[Place]| {
                for (row, place) in places.iter().enumerate() {
                    let mut chunk = chunks[chunk_of(*place) - first].as_mut();
                    let from = [row as u32];
                    chunk.copy(row_of(*place), &rows.batch(), &from, self.width, Ahead::NONE);
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
