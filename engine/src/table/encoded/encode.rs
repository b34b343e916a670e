//! Encodes rows for learning: in the order of the query, or fully shuffled, within the memory
//! limit or beyond it.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::kernels::rng::mix;
use gradlake_udfs::{CodeMap, Column, Encoder, LabelScale, Labels, RowSchema, Rows, Values, Width};

use crate::options::ClassWeights;
use crate::table::encoded::{Builder, ENCODED_SHARE, EncodedTable, chunk_rows};
use crate::table::load::blocks::Blocks;
use crate::table::load::fit::class_of;
use crate::table::load::raw::{RawData, RawTable, Skipped, Subset};
use crate::table::load::selection::Selection;
use crate::table::load::split::Mask;
use crate::table::load::weights::{Factors, factors};
use crate::table::parallel::in_order;
use crate::table::shuffle::external::Buckets;
use crate::table::shuffle::plan::{ShufflePlan, Slot, StratumSlots};
use crate::table::shuffle::scatter::{RowSorter, ScatterBuffer};
use crate::table::storage::buffer_pool::PageSize;
use crate::table::storage::metrics_reservation::MetricsReservation;
use crate::table::{Fitted, run_blocking};

/// Domain separator for the keys of the shuffle.
const SHUFFLE: u64 = 0x73_6875_6666;

/// Which rows of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The training rows.
    Training,
    /// The evaluation rows.
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
    /// Whether the raw rows are released as they are encoded, since nothing else needs them.
    pub is_last: bool,
}

impl Encoding<'_> {
    /// The fields of an encoded row.
    fn schema(&self) -> RowSchema {
        self.encoder.schema(self.labels.targets())
    }
}

impl EncodedTable {
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
        let schema = encoding.schema();
        let class_of = class_of(data.classes.as_ref(), encoding.labels)?;
        let factors =
            factors(encoding.class_weights, encoding.labels, &encoding.fitted.sums, &class_of)?;
        let job = Job {
            subset: subset.clone(),
            mask: mask.clone(),
            side,
            encoder: encoding.encoder.clone(),
            schema,
            labels: encoding.labels.clone(),
            class_of,
            factors,
            shuffle: encoding.shuffle,
            is_last: encoding.is_last,
            data,
        };
        run_blocking(subset.is_small(), "encoding", move || job.run()).await
    }
}

/// The plan that scatters rows of some width to chunks; `shuffle` is the seed of a full shuffle.
pub(in crate::table) fn plan(rows: u64, width: Width, shuffle: Option<u64>) -> ShufflePlan {
    ShufflePlan::new(rows, chunk_rows(width), shuffle.map(|seed| mix(seed, SHUFFLE, 0)))
}

/// The encoding of one side.
struct Job {
    subset: Subset,
    mask: Mask,
    side: Side,
    encoder: Encoder,
    schema: RowSchema,
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
        let width = self.schema.width();
        let mut builder = Builder::new(self.schema.clone(), &data.resources);
        let reservation = data.resources.reservation("encoding of training rows");
        let bytes = selection.rows() as usize * width.row_bytes();
        let plan = plan(selection.rows(), width, self.shuffle);
        if data.resources.try_reserve(&reservation, bytes, ENCODED_SHARE) {
            self.encode_in_memory(&selection, &plan, &reservation, &mut builder)?;
        } else {
            self.encode_with_spilling(&selection, &plan, &mut builder)?;
        }
        Ok(builder.finish(skipped, self.factors.class_weights))
    }

    /// Writes every row once, directly into its slot.
    fn encode_in_memory(
        &self,
        selection: &Selection,
        plan: &ShufflePlan,
        reservation: &MemoryReservation,
        builder: &mut Builder,
    ) -> Result<()> {
        let width = self.schema.width();
        // In a shuffle, every block of rows goes to every chunk.
        let pages = if plan.is_random() { PageSize::Small } else { PageSize::Huge };
        let mut placement = ScatterBuffer::new(width, plan, pages)?;
        let writer = placement.writer();
        self.for_each_block(
            selection,
            plan,
            |rows, slots, sorter| {
                writer.put(rows, slots, sorter);
                Ok(())
            },
            Ok,
        )?;
        drop(writer);
        builder.take(placement, reservation, &self.data.resources, |_| Ok(()))
    }

    /// Makes the same chunks, but holds only as many of them in memory as the limit allows.
    fn encode_with_spilling(
        &self,
        selection: &Selection,
        plan: &ShufflePlan,
        builder: &mut Builder,
    ) -> Result<()> {
        let width = self.schema.width();
        // If there are evaluation rows, the metrics are computed on those.
        let measured = if self.mask.evaluation_rows() == 0 { selection.rows() } else { 0 };
        let room = MetricsReservation::new(&self.data.resources, measured);
        if self.shuffle.is_some() {
            let buckets = Buckets::new(&self.schema, plan, &self.data.resources)?;
            // Slots say where rows go, whichever thread comes first.
            let put = |rows: &Rows, slots: &[Slot], sorter: &mut RowSorter| {
                buckets.push(rows, slots, sorter)
            };
            self.for_each_block(selection, plan, put, Ok)?;
            // (Not before: buckets may use the memory that is reserved for the metrics.)
            return builder.take_buckets(buckets, |_| {
                room.take();
                Ok(())
            });
        }
        room.take();
        let chunk_rows = if plan.chunks() > 0 { plan.rows_of(0) } else { 0 };
        let mut chunk = Rows::with_capacity(width, chunk_rows);
        let owned = |rows: &Rows, _: &[Slot], _: &mut RowSorter| Ok(rows.clone());
        self.for_each_block(selection, plan, owned, |rows| {
            for row in 0..rows.len() {
                chunk.push(&rows, row, width);
                if chunk.len() == chunk_rows {
                    let full = std::mem::take(&mut chunk);
                    chunk = match builder.take_rows(full)? {
                        Some(rows) => rows,
                        None => Rows::with_capacity(width, chunk_rows),
                    };
                    chunk.resize(0, width);
                }
            }
            Ok(())
        })?;
        if !chunk.is_empty() {
            builder.take_rows(chunk)?;
        }
        Ok(())
    }

    /// Calls `f` with the selected rows of each block and their slots, on all cores, and `take`
    /// with the results, in the order of the blocks.
    fn for_each_block<T: Send>(
        &self,
        selection: &Selection,
        plan: &ShufflePlan,
        f: impl Fn(&Rows, &[Slot], &mut RowSorter) -> Result<T> + Sync,
        mut take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        let data = &self.data;
        let (mut rows, mut gone) = (0, 0);
        let mut maps: Vec<Option<CodeMap>> = vec![None; data.interners.len()];
        let categories = data.categories();
        let map_of = |i: usize| {
            let (column, interner) = categories[i];
            Ok((column, self.encoder.code_map(column, interner)?))
        };
        let mut keep = |(column, map): (usize, CodeMap)| {
            maps[column] = Some(map);
            Ok(())
        };
        if self.subset.is_small() {
            (0..categories.len()).try_for_each(|i| keep(map_of(i)?))?;
        } else {
            in_order(&data.resources, categories.len(), || (), |(), i| map_of(i), keep)?;
        }
        Blocks::new(data, &self.subset).in_order(
            || (Rows::default(), StratumSlots::default(), vec![], RowSorter::default()),
            |(rows, stratum, slots, sorter), first, block| {
                let (block, number) = selection.of(first, block)?;
                plan.slots(number, block.num_rows(), stratum, slots);
                self.encode(&block, &maps, rows)?;
                f(rows, slots, sorter)
            },
            |result| {
                take(result)?;
                rows += data.block_rows as u64;
                if self.is_last {
                    gone = data.release(gone, rows);
                }
                Ok(())
            },
        )?;
        Ok(())
    }

    /// Encodes the rows of a block.
    fn encode(&self, block: &RecordBatch, maps: &[Option<CodeMap>], rows: &mut Rows) -> Result<()> {
        let width = self.schema.width();
        let n = block.num_rows();
        // The old content is overwritten.
        rows.dense.resize(n * width.dense, 0.0);
        rows.bytes.resize(n * width.bytes, 0);
        rows.codes.resize(n * width.columns, 0);
        let values = self.data.columns.values(block);
        let columns: Vec<Column<'_>> = values
            .iter()
            .zip(maps)
            .map(|(values, map)| match (values, map) {
                (Values::Codes(codes), Some(map)) => Column::Codes { codes, map },
                (Values::Array(array), _) => Column::Array(array),
                (Values::Codes(_), None) => unreachable_column(block),
            })
            .collect();
        self.encoder.encode_stored(&columns, n, &mut rows.as_mut())?;
        self.label(block, rows);
        Ok(())
    }

    /// Labels and weights of a block whose classes are all known.
    fn label(&self, block: &RecordBatch, rows: &mut Rows) {
        rows.label.clear();
        rows.weight.clear();
        let factors = &self.factors.by_class;
        match (&self.labels, self.data.columns.codes(block)) {
            (Labels::Classes(_), Some(codes)) => {
                for code in codes.values() {
                    let class = self.class_of.get(*code as usize).copied().flatten().unwrap_or(0);
                    rows.label.push(class as f32);
                    rows.weight.push(factors[class as usize]);
                }
            }
            (Labels::Numbers(scales), _) => {
                let numbers = self.data.columns.numbers(block);
                standardized(&numbers, scales, &mut rows.label);
                rows.weight.resize(block.num_rows(), factors[0]);
            }
            _ => rows.weight.resize(block.num_rows(), factors[0]),
        }
        let Some(weight) = self.data.columns.weight(block) else { return };
        let given = weight.as_primitive::<Float64Type>().values();
        let is_class = matches!(self.labels, Labels::Classes(_));
        for (row, (own, weight)) in rows.weight.iter_mut().zip(given).enumerate() {
            let class = if is_class { rows.label[row] } else { 0.0 };
            *own = self.factors.weight(*own, class, *weight);
        }
    }
}

/// Appends the labels `[rows, k]` of numeric targets.
fn standardized(numbers: &[Float64Array], scales: &[LabelScale], labels: &mut Vec<f32>) {
    if let ([target], [LabelScale { mean, stddev }]) = (numbers, scales) {
        labels.extend(target.values().iter().map(|y| ((y - mean) / stddev) as f32));
        return;
    }
    let rows = numbers.first().map_or(0, |target| target.len());
    for row in 0..rows {
        let targets = numbers.iter().zip(scales);
        labels.extend(targets.map(|(y, own)| ((y.value(row) - own.mean) / own.stddev) as f32));
    }
}

/// Stands for a category column without codes: an array of the wrong type, which the encoder
/// refuses by name.
fn unreachable_column(block: &RecordBatch) -> Column<'_> {
    Column::Array(block.column(0))
}
