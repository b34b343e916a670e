//! Encodes rows for learning: in the order of the query, or fully shuffled, within the memory
//! limit or beyond it.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float32Type, Schema, SchemaRef, ToByteSlice, UInt32Type};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::batch::{Rows, Width};
use gradlake_udfs::encoder::{CodeMap, Column, Encoder, Values};
use gradlake_udfs::kernels::rng::mix;
use gradlake_udfs::model::Labels;
use gradlake_udfs::shards::{Sequential, Shards};
use xxhash_rust::xxh3::Xxh3Default;

use super::blocks::Blocks;
use super::chunk::{EncodedChunk, fields, row_bytes};
use super::chunks::Chunks;
use super::dealing::{Dealing, Hand, Place};
use super::metrics_room::MetricsRoom;
use super::parallel::{in_order, lock, unlock};
use super::placement::{Placement, Sorter};
use super::raw::{RawData, RawTable, Skipped, Subset};
use super::selection::Selection;
use super::shuffle::Buckets;
use super::split::Mask;
use super::weights::{Factors, factors};
use super::{BLOCK_ROWS, EpochOrder, Fitted, Resources, SMALL_ROWS, waiting};
use crate::options::ClassWeights;

/// Share of the memory limit up to which encoded rows stay in memory; the rest is for replicas and
/// what runs beside them.
pub(super) const ENCODED_SHARE: f64 = 0.875;
/// Bytes of a chunk's features, or its categories: many mini-batches that stay in the second cache, and
/// the next chunk with them, while they are put in the order of an epoch and learned from. The allocator
/// has pieces of this size, less what it may need to align them.
const CHUNK_BYTES: usize = (1 << 18) - 128;
/// Rows of a chunk at least and at most.
const CHUNK_ROWS: (usize, usize) = (1024, 65_536);
/// What the hash of rows begins with. It is of rows as the query gives them: whoever changes how they are
/// dealt to chunks or ordered in an epoch raises it, so that no checkpoint goes on in another order.
const ORDER_VERSION: u64 = 2;
/// What the keys of the shuffle are for.
const SHUFFLE: u64 = 0x73_6875_6666;

/// Which rows of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those to learn from.
    Training,
    /// Those to evaluate on.
    Evaluation,
}

/// How rows are encoded.
#[derive(Clone, Copy, Debug)]
pub struct Encoding<'a> {
    /// Preprocessing of the features.
    pub encoder: &'a Encoder,
    /// Preprocessing of the target.
    pub labels: &'a Labels,
    /// Weights of classes.
    pub class_weights: &'a ClassWeights,
    /// What was fitted on the training rows: their weights.
    pub fitted: &'a Fitted,
    /// Seed of a full shuffle; None: in the order of the query.
    pub shuffle: Option<u64>,
    /// Whether the raw rows are let go of as they are encoded, since nothing else is asked of them.
    pub is_last: bool,
}

/// Rows as kernels take them: `features` (`FixedSizeList<Float32>[d]`), `categories`
/// (`FixedSizeList<UInt32>[c]`), `label` and `weight` (float32).
#[derive(Debug)]
pub struct EncodedTable {
    pub(super) width: Width,
    pub(super) chunks: Chunks,
    skipped: Skipped,
    hash: u64,
    class_weights: Vec<f64>,
}

impl EncodedTable {
    /// A table without rows.
    pub fn empty(width: Width) -> Self {
        Self {
            width,
            chunks: Chunks::empty(),
            skipped: Skipped::new(),
            hash: 0,
            class_weights: vec![],
        }
    }

    /// Encodes one side of a subset.
    ///
    /// # Errors
    /// When memory and disk do not suffice, or the training is interrupted.
    pub async fn encode(
        raw: &RawTable,
        subset: &Subset,
        mask: &Mask,
        side: Side,
        encoding: Encoding<'_>,
    ) -> Result<Self> {
        let data = raw.data()?;
        let class_of = data.class_of(encoding.labels)?;
        let factors =
            factors(encoding.class_weights, encoding.labels, &encoding.fitted.sums, &class_of)?;
        let job = Job {
            subset: subset.clone(),
            mask: mask.clone(),
            side,
            encoder: encoding.encoder.clone(),
            labels: encoding.labels.clone(),
            class_of,
            factors,
            shuffle: encoding.shuffle,
            is_last: encoding.is_last,
            data,
        };
        waiting(subset.is_small(), "encoding", move || job.run()).await
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.chunks.rows()
    }

    /// Whether what is done with all rows is done quickly.
    pub fn is_small(&self) -> bool {
        self.rows() <= SMALL_ROWS && self.chunks.spilled_bytes() == 0
    }

    /// Width of a row.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Rows that were left out, by cause.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// A hash of all rows in the order of the query: a checkpoint belongs to the rows that it saw.
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

    /// The order of every `step`th chunk, as its rows lie.
    pub fn part_order(&self, step: usize) -> EpochOrder {
        EpochOrder::part((0..self.chunks.len()).map(|chunk| self.chunks.chunk_rows(chunk)), step)
    }

    /// Where what takes long runs.
    pub fn shards(&self) -> &dyn Shards {
        self.chunks.resources().map_or(&Sequential, Resources::shards)
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Calls `f` with every chunk and a state of the thread, on all cores, and `take` with what it
    /// gives, in the order of the chunks.
    ///
    /// # Errors
    /// Those of the two, or when a spilled chunk cannot be read.
    pub fn for_each_chunk<S: Send, T: Send>(
        &self,
        state: impl Fn() -> S + Sync,
        f: impl Fn(&mut S, &EncodedChunk) -> Result<T> + Sync,
        take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        let Some(resources) = self.chunks.resources() else { return Ok(()) };
        let own = |state: &mut S, index: usize| f(state, &self.chunk(index)?);
        in_order(resources, self.chunk_count(), state, own, take)?;
        Ok(())
    }

    /// A chunk, read back where it was spilled.
    pub fn chunk(&self, index: usize) -> Result<EncodedChunk> {
        EncodedChunk::new(self.width, &self.chunks.get(index)?)
    }
}

/// Makes a table of chunks as they become ready, in order.
struct Builder {
    width: Width,
    schema: SchemaRef,
    chunks: Chunks,
    /// Of the rows in the order of the query, which with the seed says all of their order here.
    hash: u64,
    blocks: u64,
}

impl Builder {
    fn new(width: Width, resources: &Resources) -> Self {
        Self {
            width,
            schema: Arc::new(Schema::new(fields(width))),
            chunks: Chunks::new(resources, "encoded training rows", ENCODED_SHARE),
            hash: ORDER_VERSION,
            blocks: 0,
        }
    }

    /// Takes a chunk; if it is spilled, its rows are given back to be written over.
    fn push(&mut self, chunk: EncodedChunk) -> Result<Option<Rows>> {
        let columns = chunk.columns(self.width)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let Some(batch) = self.chunks.push(batch)? else { return Ok(None) };
        let chunk = EncodedChunk::new(self.width, &batch)?;
        drop(batch);
        Ok(Some(chunk.into_rows()))
    }

    /// Takes note of the rows of a block, block after block.
    fn note(&mut self, hash: u64) {
        self.blocks += 1;
        self.hash = mix(self.hash, self.blocks, hash);
    }
}

/// A hash of everything that the rows hold.
fn hash(rows: &Rows) -> u64 {
    let mut hash = Xxh3Default::new();
    for floats in [&rows.dense, &rows.label, &rows.weight] {
        hash.update(floats.to_byte_slice());
    }
    hash.update(rows.codes.to_byte_slice());
    hash.digest()
}

/// Rows of a chunk, about.
fn chunk_rows(width: Width) -> usize {
    let widest = 4 * width.dense.max(width.columns).max(1);
    (CHUNK_BYTES / widest).clamp(CHUNK_ROWS.0, CHUNK_ROWS.1)
}

/// The encoding of one side.
struct Job {
    subset: Subset,
    mask: Mask,
    side: Side,
    encoder: Encoder,
    labels: Labels,
    class_of: Vec<Option<u32>>,
    factors: Factors,
    shuffle: Option<u64>,
    is_last: bool,
    data: Arc<RawData>,
}

impl Job {
    fn run(self) -> Result<EncodedTable> {
        let data = &self.data;
        let selection = Selection::new(data, &self.subset, &self.mask, self.side, &self.class_of)?;
        let mut skipped = Skipped::new();
        if selection.unknown() > 0 {
            let cause = "the target is a class without training rows";
            skipped.insert(cause.to_owned(), selection.unknown());
        }
        let width = self.encoder.width();
        let mut builder = Builder::new(width, &data.resources);
        let reservation = data.resources.reservation("encoding of training rows");
        let bytes = selection.rows() as usize * row_bytes(width);
        let seed = self.shuffle.map(|seed| mix(seed, SHUFFLE, 0));
        let dealing = Dealing::new(selection.rows(), chunk_rows(width), seed);
        if data.resources.try_reserve(&reservation, bytes, ENCODED_SHARE) {
            self.encode_in_memory(&selection, &dealing, &reservation, &mut builder)?;
        } else {
            self.encode_with_spilling(&selection, &dealing, &mut builder)?;
        }
        Ok(EncodedTable {
            width,
            chunks: builder.chunks,
            skipped,
            hash: builder.hash,
            class_weights: self.factors.class_weights,
        })
    }

    /// Every row is written once, into the place that it is to have.
    fn encode_in_memory(
        &self,
        selection: &Selection,
        dealing: &Dealing,
        reservation: &MemoryReservation,
        builder: &mut Builder,
    ) -> Result<()> {
        let width = self.encoder.width();
        let mut placement = Placement::new(width, dealing)?;
        let filling = placement.filling();
        self.for_each_block(
            selection,
            dealing,
            |rows, places, sorter| {
                filling.put(rows, places, sorter);
                Ok(hash(rows))
            },
            |hash| {
                builder.note(hash);
                Ok(())
            },
        )?;
        for chunk in placement.placed().into_chunks() {
            // The memory changes hands.
            reservation.shrink((chunk.label.len() * row_bytes(width)).min(reservation.size()));
            builder.push(chunk)?;
        }
        Ok(())
    }

    /// The same chunks, of which no more than the memory limit allows are held at a time.
    fn encode_with_spilling(
        &self,
        selection: &Selection,
        dealing: &Dealing,
        builder: &mut Builder,
    ) -> Result<()> {
        let width = self.encoder.width();
        // Where rows are left to evaluate on, metrics are of those.
        let measured = if self.mask.evaluation_rows() == 0 { selection.rows() } else { 0 };
        let room = MetricsRoom::new(&self.data.resources, measured);
        if self.shuffle.is_some() {
            let resources = &self.data.resources;
            let buckets = Buckets::new(width, selection.rows(), dealing, resources);
            // Places say where rows go, whoever comes first.
            let buckets = Mutex::new(buckets);
            let put = |rows: &Rows, places: &[Place], _: &mut Sorter| {
                lock(&buckets).push(rows, places)?;
                Ok(hash(rows))
            };
            self.for_each_block(selection, dealing, put, |hash| {
                builder.note(hash);
                Ok(())
            })?;
            // (Not before: what waits in buckets takes what is left to it.)
            return unlock(buckets).finish(|rows| {
                room.take();
                builder.push(rows.into())
            });
        }
        room.take();
        let chunk_rows = if dealing.chunks() > 0 { dealing.rows_of(0) } else { 0 };
        let mut chunk = Rows::with_capacity(width, chunk_rows);
        let owned = |rows: &Rows, _: &[Place], _: &mut Sorter| Ok((rows.clone(), hash(rows)));
        self.for_each_block(selection, dealing, owned, |(rows, hash)| {
            builder.note(hash);
            for row in 0..rows.len() {
                chunk.push(&rows, row, width);
                if chunk.len() == chunk_rows {
                    let full = std::mem::take(&mut chunk);
                    chunk = match builder.push(full.into())? {
                        Some(rows) => rows,
                        None => Rows::with_capacity(width, chunk_rows),
                    };
                    chunk.resize(0, width);
                }
            }
            Ok(())
        })?;
        if !chunk.is_empty() {
            builder.push(chunk.into())?;
        }
        Ok(())
    }

    /// Calls `f` with the selected rows of each block and the places that they are to have, on all
    /// cores, and `take` with what it gives, in the order of the blocks.
    fn for_each_block<T: Send>(
        &self,
        selection: &Selection,
        dealing: &Dealing,
        f: impl Fn(&Rows, &[Place], &mut Sorter) -> Result<T> + Sync,
        mut take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        let data = &self.data;
        let (mut rows, mut gone) = (0, 0);
        let maps = data
            .interners
            .iter()
            .enumerate()
            .map(|(i, interner)| {
                interner.as_ref().map(|own| self.encoder.code_map(i, own)).transpose()
            })
            .collect::<Result<Vec<Option<CodeMap>>>>()?;
        Blocks::new(data, &self.subset).in_order(
            || (Rows::default(), Hand::default(), vec![], Sorter::default()),
            |(rows, hand, places, sorter), first, block| {
                let (block, number) = selection.of(first, block)?;
                dealing.places(number, block.num_rows(), hand, places);
                self.encode(&block, &maps, rows)?;
                f(rows, places, sorter)
            },
            |result| {
                take(result)?;
                rows += BLOCK_ROWS as u64;
                if self.is_last {
                    gone = data.let_go(gone, rows);
                }
                Ok(())
            },
        )?;
        Ok(())
    }

    /// Encodes the rows of a block.
    fn encode(&self, block: &RecordBatch, maps: &[Option<CodeMap>], rows: &mut Rows) -> Result<()> {
        let width = self.encoder.width();
        let n = block.num_rows();
        // What is there is written over.
        rows.dense.resize(n * width.dense, 0.0);
        rows.codes.resize(n * width.columns, 0);
        let values = self.data.values(block);
        let columns: Vec<Column<'_>> = values
            .iter()
            .zip(maps)
            .map(|(values, map)| match (values, map) {
                (Values::Codes(codes), Some(map)) => Column::Codes { codes, map },
                (Values::Array(array), _) => Column::Array(array),
                (Values::Codes(_), None) => unreachable_column(block),
            })
            .collect();
        self.encoder.encode(&columns, n, &mut rows.dense, &mut rows.codes)?;
        self.label(block, rows);
        Ok(())
    }

    /// Labels and weights of a block whose classes are all known.
    fn label(&self, block: &RecordBatch, rows: &mut Rows) {
        rows.label.clear();
        rows.weight.clear();
        let factors = &self.factors.by_class;
        match (&self.labels, self.data.numbers(block)) {
            (Labels::Numbers { mean, stddev }, Some(target)) => {
                rows.label.extend(target.values().iter().map(|y| ((y - mean) / stddev) as f32));
                rows.weight.resize(rows.label.len(), factors[0]);
            }
            _ => {
                let codes = self.data.target(block).as_primitive::<UInt32Type>();
                for code in codes.values() {
                    let class = self.class_of.get(*code as usize).copied().flatten().unwrap_or(0);
                    rows.label.push(class as f32);
                    rows.weight.push(factors[class as usize]);
                }
            }
        }
        if let Some(weight) = self.data.weight(block) {
            let weight = weight.as_primitive::<Float32Type>();
            rows.weight.iter_mut().zip(weight.values()).for_each(|(own, w)| *own *= w);
        }
    }
}

/// What a category column without codes is encoded as: an array of the wrong type, which the
/// encoder refuses by name.
fn unreachable_column(block: &RecordBatch) -> Column<'_> {
    Column::Array(block.column(0))
}
