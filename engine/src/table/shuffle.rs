//! A shuffle beyond the memory limit: rows are dealt into buckets of neighbouring chunks as they come,
//! buckets are spilled when memory runs out, and then each is put in order alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::batch::{MiniBatch, Rows, Width};
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
    buckets: Vec<Bucket>,
    spilled: BTreeMap<usize, Vec<spill::Place>>,
    log: Option<SpillLog>,
    resources: Resources,
    reservation: MemoryReservation,
}

/// Rows of a bucket, in any order, and their places.
#[derive(Default)]
struct Bucket {
    rows: Rows,
    places: Vec<Place>,
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
                .map(|_| Bucket {
                    rows: Rows::with_capacity(width, capacity),
                    places: Vec::with_capacity(capacity),
                })
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
            let bucket = &mut self.buckets[chunk_of(*place) / self.chunks];
            bucket.rows.push(from, row, self.width);
            bucket.places.push(*place);
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        for (index, bucket) in self.buckets.iter_mut().enumerate() {
            if bucket.places.is_empty() {
                continue;
            }
            let log = match &mut self.log {
                Some(log) => log,
                none => none.insert(SpillLog::create(&self.resources, "shuffling training rows")?),
            };
            let batch = std::mem::take(bucket).into_batch(self.width, &self.schema)?;
            self.spilled.entry(index).or_default().push(log.append(&batch)?);
            // The room that they had is for those that come.
            *bucket = Bucket::from_batch(batch, self.width)?;
            bucket.clear();
        }
        Ok(())
    }

    /// Calls `f` with every chunk, in order; what it gives back is used for another one.
    pub(super) fn finish(mut self, mut f: impl FnMut(Rows) -> Result<Option<Rows>>) -> Result<()> {
        // The room behind the rows, which nothing is reserved for, is not needed any more.
        self.buckets.iter_mut().for_each(Bucket::shrink);
        let mut spare = vec![];
        for index in 0..self.buckets.len() {
            self.resources.check_interrupt()?;
            let first = index * self.chunks;
            let end = (first + self.chunks).min(self.dealing.chunks());
            let mut chunks: Vec<Rows> = (first..end)
                .map(|chunk| {
                    // Every row is written, so what was there does not matter.
                    let mut rows: Rows = spare.pop().unwrap_or_default();
                    rows.resize(self.dealing.rows_of(chunk), self.width);
                    rows
                })
                .collect();
            let mut put = |rows: &MiniBatch<'_>, places: &[Place]| {
                for (row, place) in places.iter().enumerate() {
                    let mut chunk = chunks[chunk_of(*place) - first].as_mut();
                    chunk.copy(row_of(*place), rows, &[row as u32], self.width, Ahead::NONE);
                }
            };
            for place in self.spilled.get(&index).into_iter().flatten() {
                let Some(log) = &self.log else { continue };
                let batch = log.read(*place)?;
                let places = batch.column(batch.num_columns() - 1).as_primitive::<UInt64Type>();
                put(&EncodedChunk::new(self.width, &batch)?.mini_batch(), places.values());
            }
            let bucket = std::mem::take(&mut self.buckets[index]);
            put(&bucket.rows.batch(), &bucket.places);
            let bytes = bucket.places.len() * (row_bytes(self.width) + 8);
            drop(bucket);
            self.reservation.shrink(bytes.min(self.reservation.size()));
            for chunk in chunks {
                spare.extend(f(chunk)?);
            }
        }
        Ok(())
    }
}

impl Bucket {
    fn into_batch(self, width: Width, schema: &SchemaRef) -> Result<RecordBatch> {
        let mut columns = EncodedChunk::from(self.rows).columns(width)?;
        columns.push(Arc::new(UInt64Array::from(self.places)));
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    /// The rows of a batch, in its memory.
    fn from_batch(batch: RecordBatch, width: Width) -> Result<Self> {
        let chunk = EncodedChunk::new(width, &batch)?;
        let places = batch.column(batch.num_columns() - 1).as_primitive::<UInt64Type>().clone();
        drop(batch);
        Ok(Self { rows: chunk.into_rows(), places: places.into_parts().1.into() })
    }

    /// Lets go of the room behind the rows.
    fn shrink(&mut self) {
        self.rows.shrink();
        self.places.shrink_to_fit();
    }

    /// Lets go of the rows and keeps their room.
    fn clear(&mut self) {
        self.rows.resize(0, Width::default());
        self.places.clear();
    }
}
