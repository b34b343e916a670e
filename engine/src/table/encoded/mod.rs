//! Encoded rows in chunks, as kernels take them.

pub(in crate::table) mod chunk;
pub(in crate::table) mod encode;
pub(in crate::table) mod slice;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef, ToByteSlice};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::kernels::rng::mix;
use gradlake_udfs::{
    Decoder, DecodingRound, MiniBatch, ParallelFor, Round, RowSchema, Rows, RowsMut, Sequential,
    Width,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::table::encoded::chunk::{EncodedChunk, fields};
use crate::table::load::raw::Skipped;
use crate::table::parallel::{in_order, lock};
use crate::table::shuffle::external::Buckets;
use crate::table::shuffle::scatter::ScatterBuffer;
use crate::table::storage::chunks::{Chunks, Kept};
use crate::table::{EpochOrder, Resources, SMALL_ROWS};

/// Share of the memory limit up to which encoded rows stay in memory; the rest is for replicas and
/// what runs beside them.
pub(in crate::table) const ENCODED_SHARE: f64 = 0.875;
/// Bytes of a chunk's features, or of its categories. A chunk has many mini-batches, and it stays
/// in the L2 cache together with the next chunk while its rows are put in the order of an epoch and
/// learned from. The size is a size class of the allocator, less what it may need for alignment.
const CHUNK_BYTES: usize = (1 << 18) - 128;
/// Rows of a chunk at least and at most, unless its rows are very wide.
const CHUNK_ROWS: (usize, usize) = (1024, 65_536);
/// Bytes at most of the numbers of a chunk, once they are decoded.
const MAX_CHUNK_BYTES: usize = 64 << 20;
/// Start value of the hash of rows. The hash covers rows in their chunks. Raise this version with
/// every change to the order of rows in an epoch or to their split among replicas, so that no
/// checkpoint resumes in another order.
const ORDER_VERSION: u64 = 4;

/// Encoded rows: `features` (`FixedSizeList<Float32>[d]`), vectors of `uint8` by the name of their
/// column, or `bytes` (`FixedSizeList<UInt8>`), `categories` (`FixedSizeList<UInt32>[c]`), `label`
/// (float32, or `FixedSizeList<Float32>[k]` of several targets, none without a target) and `weight`
/// (float32).
#[derive(Debug)]
pub struct EncodedTable {
    pub(in crate::table) schema: RowSchema,
    pub(in crate::table) chunks: Chunks,
    skipped: Skipped,
    hash: u64,
    class_weights: Vec<f64>,
}

impl EncodedTable {
    /// A table without rows.
    pub fn empty(schema: RowSchema) -> Self {
        Self {
            schema,
            chunks: Chunks::empty(),
            skipped: Skipped::new(),
            hash: 0,
            class_weights: vec![],
        }
    }

    /// Width of the rows as kernels take them.
    pub fn width(&self) -> Width {
        self.schema.width().decoded()
    }

    /// A round over rows of [`EncodedTable::width`] that runs over the rows as they are stored.
    pub fn decoding(&self, round: Arc<dyn Round>) -> Arc<dyn Round> {
        let Some(decoder) = self.schema.decoder() else { return round };
        let rows = (0..self.chunks.len()).map(|chunk| self.chunks.chunk_rows(chunk)).max();
        Arc::new(DecodingRound::new(round, Arc::new(decoder), rows.unwrap_or(0)))
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.chunks.rows()
    }

    /// Whether work on all rows is quick.
    pub fn is_small(&self) -> bool {
        self.rows() <= SMALL_ROWS && self.chunks.spilled_bytes() == 0
    }

    /// Rows that were left out, by cause.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// A hash of all rows in the order of their chunks: a checkpoint is valid only for the rows
    /// that it was trained on.
    pub fn data_hash(&self) -> u64 {
        self.hash
    }

    /// Weights of the classes, before they were normalised; one entry without classes.
    pub fn class_weights(&self) -> &[f64] {
        &self.class_weights
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.chunks.memory_bytes()
    }

    /// Bytes on disk.
    pub fn spilled_bytes(&self) -> u64 {
        self.chunks.spilled_bytes()
    }

    /// The order of the rows in an epoch.
    pub fn epoch_order(&self, epoch: u64, seed: u64, shuffle: bool) -> EpochOrder {
        let rows = (0..self.chunks.len()).map(|chunk| self.chunks.chunk_rows(chunk));
        EpochOrder::new(rows, epoch, seed, shuffle)
    }

    /// The order of every `step`th chunk, with its rows in storage order.
    pub fn part_order(&self, step: usize) -> EpochOrder {
        EpochOrder::part((0..self.chunks.len()).map(|chunk| self.chunks.chunk_rows(chunk)), step)
    }

    /// The pool that runs long work.
    pub fn pool(&self) -> &dyn ParallelFor {
        self.chunks.resources().map_or(&Sequential, Resources::pool)
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Calls `f` with the rows of every chunk, of [`EncodedTable::width`], and a state of the
    /// thread, on all cores, and `take` with the results, in the order of the chunks.
    ///
    /// # Errors
    /// Those of the two, or when a spilled chunk cannot be read.
    pub fn for_each_chunk<S: Send, T: Send>(
        &self,
        state: impl Fn() -> S + Sync,
        f: impl Fn(&mut S, &MiniBatch<'_>) -> Result<T> + Sync,
        take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        let Some(resources) = self.chunks.resources() else { return Ok(()) };
        let decoder: Option<Decoder> = self.schema.decoder();
        let own = |(state, dense): &mut (S, Vec<f32>), index: usize| {
            let chunk = self.chunk(index)?;
            match &decoder {
                None => f(state, &chunk.mini_batch()),
                Some(decoder) => f(state, &decoder.decode(&chunk.mini_batch(), dense)),
            }
        };
        in_order(resources, self.chunk_count(), || (state(), vec![]), own, take)?;
        Ok(())
    }

    /// A chunk as it is stored, read back where it was spilled.
    pub(in crate::table) fn chunk(&self, index: usize) -> Result<EncodedChunk> {
        EncodedChunk::new(self.schema.width(), &self.chunks.get(index)?)
    }
}

/// Makes a table of chunks as they become ready, in order.
pub(in crate::table) struct Builder {
    rows: RowSchema,
    schema: SchemaRef,
    chunks: Chunks,
    /// Hash of the rows in the order of their chunks.
    hash: u64,
}

impl Builder {
    pub(in crate::table) fn new(rows: RowSchema, resources: &Resources) -> Self {
        Self {
            schema: Arc::new(Schema::new(fields(&rows))),
            rows,
            chunks: Chunks::new(resources, "encoded training rows", ENCODED_SHARE),
            hash: ORDER_VERSION,
        }
    }

    /// Takes the chunks of a buffer in reserved memory, once `finish` has encoded the rows of each,
    /// on all cores.
    pub(in crate::table) fn take(
        &mut self,
        mut placement: ScatterBuffer,
        reservation: &MemoryReservation,
        resources: &Resources,
        finish: impl Fn(&mut RowsMut<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        let chunks = placement.each();
        let work = |(): &mut (), chunk: usize| {
            let mut rows = lock(&chunks[chunk]);
            finish(&mut rows)?;
            Ok(hash(&rows))
        };
        let take = |hash| {
            self.note(hash);
            Ok(())
        };
        in_order(resources, chunks.len(), || (), work, take)?;
        drop(chunks);
        for chunk in placement.placed().into_chunks() {
            // The reservation passes to the list of chunks.
            let width = self.rows.width();
            let bytes = chunk.weight.len() * width.row_bytes();
            reservation.shrink(bytes.min(reservation.size()));
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), chunk.columns(width)?)?;
            self.chunks.push(batch)?;
        }
        Ok(())
    }

    /// Takes the chunks of buckets, once `finish` has encoded the rows of each, on all cores. Only
    /// as many chunks as the memory limit allows stay in memory.
    pub(in crate::table) fn take_buckets(
        &mut self,
        buckets: Buckets,
        finish: impl Fn(&mut RowsMut<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        let Self { rows, schema, chunks, .. } = self;
        let (width, schema) = (rows.width(), Arc::clone(schema));
        let (mut all, mut sum) = (vec![], self.hash);
        let work = |mut rows: Rows| {
            finish(&mut rows.as_mut())?;
            let (hash, (kept, spare)) = keep(rows, width, &schema, chunks)?;
            Ok(((hash, kept), spare))
        };
        let take = |(hash, kept)| {
            sum = chained(sum, hash);
            all.push(kept);
            Ok(())
        };
        buckets.for_each_chunk(work, take)?;
        all.into_iter().for_each(|kept| self.chunks.add(kept));
        self.hash = sum;
        Ok(())
    }

    /// Takes the rows of a chunk; if the chunk is spilled, they are returned for reuse.
    pub(in crate::table) fn take_rows(&mut self, rows: Rows) -> Result<Option<Rows>> {
        let (hash, (kept, spare)) = keep(rows, self.rows.width(), &self.schema, &self.chunks)?;
        self.note(hash);
        self.chunks.add(kept);
        Ok(spare)
    }

    /// Adds the hash of the next chunk to the hash of all rows.
    fn note(&mut self, hash: u64) {
        self.hash = chained(self.hash, hash);
    }

    /// The table of the chunks.
    pub(in crate::table) fn finish(
        self,
        skipped: Skipped,
        class_weights: Vec<f64>,
    ) -> EncodedTable {
        let Self { rows, chunks, hash, .. } = self;
        EncodedTable { schema: rows, chunks, skipped, hash, class_weights }
    }
}

/// The hash of all chunks so far and of the next.
fn chained(sum: u64, next: u64) -> u64 {
    mix(sum, 0, next)
}

/// Stores the rows of a chunk, and returns their hash; if they are spilled, they are returned for
/// reuse.
fn keep(
    mut rows: Rows,
    width: Width,
    schema: &SchemaRef,
    chunks: &Chunks,
) -> Result<(u64, (Kept, Option<Rows>))> {
    let hash = hash(&rows.as_mut());
    let batch = RecordBatch::try_new(Arc::clone(schema), EncodedChunk::from(rows).columns(width)?)?;
    let (kept, spilled) = chunks.keep(batch)?;
    let Some(batch) = spilled else { return Ok((hash, (kept, None))) };
    let chunk = EncodedChunk::new(width, &batch)?;
    drop(batch);
    Ok((hash, (kept, Some(chunk.into_rows()))))
}

/// A hash of everything that the rows hold.
fn hash(rows: &RowsMut<'_>) -> u64 {
    let RowsMut { dense, bytes, codes, label, weight } = rows;
    let mut columns = vec![dense.to_byte_slice()];
    // (Rows without bytes keep the hash that they had before there were any.)
    if !bytes.is_empty() {
        columns.push(&**bytes);
    }
    columns.extend([codes.to_byte_slice(), label.to_byte_slice(), weight.to_byte_slice()]);
    columns.into_iter().fold(0, |hash, column| xxh3_64_with_seed(column, hash))
}

/// Approximate number of rows of a chunk.
pub(in crate::table) fn chunk_rows(width: Width) -> usize {
    let width = width.decoded();
    let widest = 4 * width.dense.max(width.columns).max(width.targets).max(1);
    let least = CHUNK_ROWS.0.min(MAX_CHUNK_BYTES / widest).max(1);
    (CHUNK_BYTES / widest).clamp(least, CHUNK_ROWS.1)
}
