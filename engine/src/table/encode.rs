//! Encodes rows for learning: in the order of the query, or fully shuffled, within the memory
//! limit or beyond it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Float32Type, Schema, SchemaRef, UInt32Type};
use datafusion::common::{Result, exec_datafusion_err};
use gradlake_udfs::batch::{Rows, Width};
use gradlake_udfs::encoder::{CodeMap, Column, Encoder, Values};
use gradlake_udfs::kernels::rng::mix;
use gradlake_udfs::model::Labels;
use xxhash_rust::xxh3::Xxh3Default;

use super::chunk::{EncodedChunk, fields, row_bytes};
use super::chunks::Chunks;
use super::raw::{RawData, RawTable, Skipped, Subset};
use super::shuffle::Buckets;
use super::split::Mask;
use super::weights::{Factors, factors};
use super::{EpochOrder, Fitted, Resources};
use crate::options::ClassWeights;

/// Share of the memory limit up to which encoded rows stay in memory; the rest is for replicas and
/// what runs beside them.
const ENCODED_SHARE: f64 = 0.875;
/// Bytes of a chunk, about: many mini-batches, and quick to read back.
const CHUNK_BYTES: usize = 4 << 20;
/// Rows of a chunk at least and at most.
const CHUNK_ROWS: (usize, usize) = (1024, 65_536);
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
        let rows = match side {
            Side::Training => mask.training_rows(),
            Side::Evaluation => mask.evaluation_rows(),
        };
        let job = Job {
            subset: subset.clone(),
            mask: mask.clone(),
            side,
            encoder: encoding.encoder.clone(),
            labels: encoding.labels.clone(),
            class_of,
            factors,
            shuffle: encoding.shuffle,
            rows,
            data,
        };
        tokio::task::spawn_blocking(move || job.run())
            .await
            .map_err(|e| exec_datafusion_err!("encoding failed: {e}"))?
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.chunks.rows()
    }

    /// Width of a row.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Rows that were left out, by cause.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// A hash of all rows in their order: a checkpoint belongs to the rows that it saw.
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

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// A chunk, read back where it was spilled.
    pub fn chunk(&self, index: usize) -> Result<EncodedChunk> {
        EncodedChunk::new(self.width, &self.chunks.get(index)?)
    }
}

/// Cuts rows into chunks.
struct Builder {
    width: Width,
    schema: SchemaRef,
    chunk_rows: usize,
    rows: Rows,
    chunks: Chunks,
    hash: Xxh3Default,
}

impl Builder {
    fn new(width: Width, rows: u64, resources: &Resources) -> Self {
        let row_bytes = row_bytes(width);
        let chunk_rows =
            (CHUNK_BYTES / row_bytes).next_power_of_two().clamp(CHUNK_ROWS.0, CHUNK_ROWS.1);
        Self {
            width,
            schema: Arc::new(Schema::new(fields(width))),
            chunk_rows,
            rows: Rows::with_capacity(width, chunk_rows.min(rows as usize)),
            chunks: Chunks::new(resources, "encoded training rows", ENCODED_SHARE),
            hash: Xxh3Default::new(),
        }
    }

    fn push(&mut self, from: &Rows, row: usize) -> Result<()> {
        self.rows.push(from, row, self.width);
        if self.rows.label.len() == self.chunk_rows {
            self.cut(self.chunk_rows)?;
        }
        Ok(())
    }

    fn cut(&mut self, next: usize) -> Result<()> {
        if self.rows.label.is_empty() {
            return Ok(());
        }
        let next = Rows::with_capacity(self.width, next);
        let rows = std::mem::replace(&mut self.rows, next);
        let columns = EncodedChunk::from(rows).columns(self.width)?;
        for column in &columns {
            let data = column.to_data();
            let values = data.child_data().first().unwrap_or(&data);
            for buffer in values.buffers() {
                self.hash.update(buffer.as_slice());
            }
        }
        self.chunks.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
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
    rows: u64,
    data: Arc<RawData>,
}

impl Job {
    fn run(self) -> Result<EncodedTable> {
        let width = self.encoder.width();
        let mut builder = Builder::new(width, self.rows, &self.data.resources);
        let mut skipped = Skipped::new();
        match self.shuffle {
            None => {
                self.encode(&mut skipped, |rows, _| {
                    (0..rows.label.len()).try_for_each(|row| builder.push(rows, row))
                })?;
            }
            Some(seed) => {
                let mut buckets = Buckets::new(width, self.rows, &self.data.resources)?;
                self.encode(&mut skipped, |rows, positions| {
                    buckets.reserve(rows.label.len())?;
                    for (row, position) in positions.iter().enumerate() {
                        buckets.push(rows, row, mix(seed, SHUFFLE, *position));
                    }
                    Ok(())
                })?;
                buckets.finish(|rows, row| builder.push(rows, row))?;
            }
        }
        builder.cut(0)?;
        Ok(EncodedTable {
            width,
            chunks: builder.chunks,
            skipped,
            hash: builder.hash.digest(),
            class_weights: self.factors.class_weights,
        })
    }

    /// Calls `f` with the rows of each block that are on the side and have a label, and with their
    /// positions in the subset.
    fn encode(
        &self,
        skipped: &mut Skipped,
        mut f: impl FnMut(&Rows, &[u64]) -> Result<()>,
    ) -> Result<()> {
        let data = &self.data;
        let width = self.encoder.width();
        let maps = data
            .interners
            .iter()
            .enumerate()
            .map(|(i, interner)| {
                interner.as_ref().map(|own| self.encoder.code_map(i, own)).transpose()
            })
            .collect::<Result<Vec<Option<CodeMap>>>>()?;
        let mut rows = Rows::default();
        let mut positions = vec![];
        data.for_each_block(&self.subset, |first, block| {
            let Some((block, taken)) = self.own(first, block)? else { return Ok(()) };
            let n = block.num_rows();
            rows.dense.clear();
            rows.dense.resize(n * width.dense, 0.0);
            rows.codes.clear();
            rows.codes.resize(n * width.columns, 0);
            let values = data.values(&block);
            let columns: Vec<Column<'_>> = values
                .iter()
                .zip(&maps)
                .map(|(values, map)| match (values, map) {
                    (Values::Codes(codes), Some(map)) => Column::Codes { codes, map },
                    (Values::Array(array), _) => Column::Array(array),
                    (Values::Codes(_), None) => unreachable_column(&block),
                })
                .collect();
            self.encoder.encode(&columns, n, &mut rows.dense, &mut rows.codes)?;
            self.label(&block, &mut rows);
            positions.clear();
            match taken {
                None => positions.extend(first..first + n as u64),
                Some(bits) => positions.extend(bits.set_indices().map(|i| first + i as u64)),
            }
            let unknown = drop_unlabelled(&mut rows, &mut positions, width);
            if unknown > 0 {
                let cause = "the target is a class without training rows";
                *skipped.entry(cause.to_owned()).or_default() += unknown;
            }
            f(&rows, &positions)
        })
    }

    /// The rows of a block that are on the side (which ones, if not all); None if there are none.
    fn own(
        &self,
        first: u64,
        block: &RecordBatch,
    ) -> Result<Option<(RecordBatch, Option<BooleanBuffer>)>> {
        let bits = match (self.mask.block(first, block.num_rows()), self.side) {
            (None, Side::Training) => return Ok(Some((block.clone(), None))),
            (None, Side::Evaluation) => return Ok(None),
            (Some(bits), Side::Training) => bits,
            (Some(bits), Side::Evaluation) => !&bits,
        };
        if bits.count_set_bits() == 0 {
            return Ok(None);
        }
        let filtered = filter_record_batch(block, &bits.clone().into())?;
        Ok(Some((filtered, Some(bits))))
    }

    /// Labels (NaN of a class that is not known) and weights of a block.
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
                    match self.class_of.get(*code as usize).copied().flatten() {
                        Some(class) => {
                            rows.label.push(class as f32);
                            rows.weight.push(factors[class as usize]);
                        }
                        None => {
                            rows.label.push(f32::NAN);
                            rows.weight.push(0.0);
                        }
                    }
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

/// Takes out rows whose label is NaN and returns their number.
fn drop_unlabelled(rows: &mut Rows, positions: &mut Vec<u64>, width: Width) -> u64 {
    if !rows.label.iter().any(|label| label.is_nan()) {
        return 0;
    }
    let mut kept = Rows::default();
    let mut kept_positions = vec![];
    for (row, position) in positions.iter().enumerate() {
        if !rows.label[row].is_nan() {
            kept.push(rows, row, width);
            kept_positions.push(*position);
        }
    }
    let dropped = positions.len() - kept_positions.len();
    *rows = kept;
    *positions = kept_positions;
    dropped as u64
}
