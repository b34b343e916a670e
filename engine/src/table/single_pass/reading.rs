//! Reads rows on all cores, part by part, and scatters them block by block.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Float64Type, SchemaRef};
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::{RowSchema, Rows, Width, is_plain, is_single, plain_rows};

use super::{Arrangement, Held};
use crate::pages::PageRows;
use crate::table::encoded::ENCODED_SHARE;
use crate::table::encoded::encode::plan;
use crate::table::load::fit::FitStatistics;
use crate::table::load::row_filter::RowFilter;
use crate::table::load::weights::is_normal;
use crate::table::parallel::{in_order, lock};
use crate::table::shuffle::external::Buckets;
use crate::table::shuffle::plan::{ShufflePlan, Slot, StratumSlots};
use crate::table::shuffle::scatter::{RowSorter, ScatterBuffer, ScatterWriter};
use crate::table::storage::buffer_pool::PageSize;
use crate::table::storage::metrics_reservation::MetricsReservation;
use crate::table::{Resources, Roles, block_rows};

/// Classes at most: each block has sums of all of them.
const MAX_CLASSES: usize = 256;
/// Bytes of the sums of a block for a column and for a class.
const SUMS_BYTES: (usize, usize) = (64, 16);

/// Stops a reading when it is dropped.
pub(in crate::table) struct StopOnDrop(pub(in crate::table) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The reading of all rows.
pub(in crate::table) struct Reading {
    pages: PageRows,
    pub(in crate::table) rows: u64,
    pub(in crate::table) width: Width,
    /// Rows of a block.
    block_rows: u64,
    pub(in crate::table) filter: RowFilter,
    pub(in crate::table) arrangement: Arrangement,
    /// Memory of the statistics of blocks, which wait for those of earlier blocks, and of rows that
    /// are not spilled.
    pub(in crate::table) reservation: MemoryReservation,
    /// Whether the rows do not fit in memory.
    is_spilled: bool,
    /// Whether no more rows are to be read: some rows cannot be loaded in a single pass, or reading
    /// failed.
    pub(in crate::table) is_over: Arc<AtomicBool>,
}

/// Rows that a thread has read.
enum Piece {
    /// Statistics of a block whose rows are scattered.
    SinglePassLoad(FitStatistics),
    /// A part of a block whose rest other threads read, with the number of its first row.
    Part(u64, RecordBatch),
}

/// What a thread keeps from block to block.
#[derive(Default)]
struct Scratch {
    rows: Rows,
    stratum: StratumSlots,
    slots: Vec<Slot>,
    sorter: RowSorter,
}

/// Scatters the rows of blocks to chunks.
struct Scatter<'a> {
    reading: &'a Reading,
    plan: &'a ShufflePlan,
    to: To<'a>,
    /// Statistics of no rows.
    empty: FitStatistics,
}

/// Where rows are scattered to.
enum To<'a> {
    Chunks(ScatterWriter<'a>),
    Buckets(&'a Buckets),
}

impl To<'_> {
    fn put(&self, rows: &Rows, slots: &[Slot], sorter: &mut RowSorter) -> Result<()> {
        match self {
            Self::Chunks(writer) => {
                writer.put(rows, slots, sorter);
                Ok(())
            }
            Self::Buckets(buckets) => buckets.push(rows, slots, sorter),
        }
    }
}

impl Reading {
    /// None if some column is not numeric, or memory does not suffice for the statistics.
    pub(in crate::table) fn new(
        pages: PageRows,
        roles: &Roles,
        arrange: impl FnOnce(usize, u64) -> Option<Arrangement>,
        resources: &Resources,
    ) -> Result<Option<Self>> {
        let rows = pages.len();
        if rows == 0 || !roles.partition_by.is_empty() || roles.split.is_some() {
            return Ok(None);
        }
        // (A dictionary may have classes without rows.)
        for target in &roles.targets {
            let target = pages.schema().field_with_name(target)?.data_type();
            if matches!(target, DataType::Dictionary(_, _)) || target.is_nested() {
                return Ok(None);
            }
        }
        let filter = RowFilter::new(roles, pages.schema(), resources)?;
        for input in &filter.columns.inputs {
            if !is_plain(&input.name, &input.data_type)? {
                return Ok(None);
            }
        }
        let width = Width {
            dense: filter.columns.inputs.len(),
            targets: roles.targets.len(),
            ..Width::default()
        };
        let Some(arrangement) = arrange(width.dense, rows) else { return Ok(None) };
        let reservation = resources.reservation("encoding of training rows");
        let sums = width.dense * SUMS_BYTES.0 + MAX_CLASSES * SUMS_BYTES.1;
        let row_bytes = filter.columns.row_bytes(0, |_| internal_err!("there is no chunk"))?;
        let block_rows = block_rows(row_bytes);
        let sums = (rows as usize).div_ceil(block_rows) * sums;
        let bytes = (rows as usize).saturating_mul(width.row_bytes()).saturating_add(sums);
        let is_spilled = !resources.try_reserve(&reservation, bytes, ENCODED_SHARE);
        if width.dense == 0
            || (is_spilled && !resources.try_reserve(&reservation, sums, ENCODED_SHARE))
        {
            return Ok(None);
        }
        let is_over = Arc::default();
        let block_rows = block_rows as u64;
        Ok(Some(Self {
            pages,
            rows,
            width,
            block_rows,
            filter,
            arrangement,
            reservation,
            is_spilled,
            is_over,
        }))
    }

    /// Scatters all rows; None if that turns out to be impossible.
    pub(in crate::table) fn run(&self) -> Result<Option<(Held, FitStatistics)>> {
        let resources = &self.filter.resources;
        let plan = plan(self.rows, self.width, self.arrangement.shuffle);
        let mut held = if self.is_spilled {
            // All rows train, so the metrics are computed on them.
            let room = MetricsReservation::new(resources, self.rows);
            let buckets = Buckets::new(&RowSchema::of_width(self.width), &plan, resources)?;
            Held::Spilled(Box::new((buckets, room)))
        } else {
            Held::FilledChunks(ScatterBuffer::new(self.width, &plan, PageSize::Huge)?)
        };
        let to = match &mut held {
            Held::FilledChunks(placement) => To::Chunks(placement.writer()),
            Held::Spilled(spilled) => To::Buckets(&spilled.0),
        };
        let empty = FitStatistics::new(&self.filter.columns, self.arrangement.standardize)?;
        let mut sums = empty.clone();
        let scatter = Scatter { reading: self, plan: &plan, to, empty };
        // Each thread reads contiguous rows; blocks that are cut are joined in the end.
        let cuts = self.pages.cuts(resources.pool().threads(), self.block_rows);
        let (mut scratch, mut parts) = (Scratch::default(), vec![]);
        in_order(
            resources,
            cuts.len() - 1,
            Scratch::default,
            |scratch, part| {
                let pieces = scatter.read(cuts[part]..cuts[part + 1], scratch);
                // Other threads need not read their remaining rows.
                pieces.inspect_err(|_| self.stop())
            },
            |pieces| {
                for piece in pieces {
                    match piece {
                        Piece::SinglePassLoad(own) => sums.merge(&own)?,
                        Piece::Part(first, part) => {
                            let end = first + part.num_rows() as u64;
                            parts.push(part);
                            if end == self.block_end(first) {
                                let block = concat_batches(self.pages.schema(), &parts)?;
                                parts.clear();
                                let first = end - block.num_rows() as u64;
                                let own = scatter.block(first, &block, &mut scratch);
                                let own = own.inspect_err(|_| self.stop())?;
                                own.map_or(Ok(()), |own| sums.merge(&own))?;
                            }
                        }
                    }
                }
                Ok(())
            },
        )?;
        drop(scatter);
        Ok((!self.is_over.load(Ordering::Relaxed)).then_some((held, sums)))
    }

    /// Stops the reading on all threads.
    fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Where the block of a row ends.
    fn block_end(&self, row: u64) -> u64 {
        ((row / self.block_rows + 1) * self.block_rows).min(self.rows)
    }

    /// Whether the arrangement is still right for the number of classes so far.
    fn holds(&self) -> bool {
        let classes = self.filter.classes.as_ref().map_or(0, |classes| lock(classes).count());
        classes < 2 || (classes <= MAX_CLASSES && (self.arrangement.holds)(classes))
    }

    /// Writes the numbers of a block row by row; labels are provisional classes or raw numbers.
    /// Returns whether float32 can represent all of them.
    fn plain(&self, block: &RecordBatch, rows: &mut Rows) -> Result<bool> {
        let (columns, n) = (&self.filter.columns, block.num_rows());
        rows.dense.resize(n * self.width.dense, 0.0);
        let names = columns.inputs.iter().map(|input| input.name.as_str());
        let features: Vec<(&str, &ArrayRef)> = names.zip(block.columns()).collect();
        if !plain_rows(&features, n, &mut rows.dense)? {
            return Ok(false);
        }
        rows.label.clear();
        match columns.codes(block) {
            Some(codes) => rows.label.extend(codes.values().iter().map(|code| *code as f32)),
            None => {
                let targets = columns.numbers(block);
                if !targets.iter().all(|target| target.values().iter().all(|y| is_single(*y))) {
                    return Ok(false);
                }
                match targets.as_slice() {
                    [target] => rows.label.extend(target.values().iter().map(|y| *y as f32)),
                    targets => {
                        let row = |row: usize| targets.iter().map(move |y| y.value(row) as f32);
                        rows.label.extend((0..n).flat_map(row));
                    }
                }
            }
        }
        rows.weight.clear();
        match columns.weight(block) {
            Some(weight) => {
                let weight = weight.as_primitive::<Float64Type>().values();
                if !weight.iter().all(|weight| is_normal(*weight)) {
                    return Ok(false);
                }
                rows.weight.extend(weight.iter().map(|weight| *weight as f32));
            }
            None => rows.weight.resize(n, 1.0),
        }
        Ok(true)
    }
}

impl Scatter<'_> {
    /// Reads some rows and scatters the blocks that are whole.
    fn read(&self, rows: Range<u64>, scratch: &mut Scratch) -> Result<Vec<Piece>> {
        let (pages, mut pieces) = (&self.reading.pages, vec![]);
        let batches = pages.batches(rows.clone(), self.reading.block_rows as usize);
        let mut batches = Batches { batches, schema: pages.schema(), waiting: vec![] };
        let mut first = rows.start;
        while first < rows.end {
            self.reading.filter.resources.check_interrupt()?;
            let end = self.reading.block_end(first).min(rows.end);
            let block = batches.take((end - first) as usize)?;
            let is_whole = first.is_multiple_of(self.reading.block_rows)
                && end == self.reading.block_end(first);
            if is_whole {
                match self.block(first, &block, scratch)? {
                    Some(sums) => pieces.push(Piece::SinglePassLoad(sums)),
                    None => return Ok(vec![]),
                }
            } else {
                pieces.push(Piece::Part(first, block));
            }
            first = end;
        }
        Ok(pieces)
    }

    /// Scatters the rows of a block, whose first row has the number `first`, and returns their
    /// statistics; None if these rows or others cannot be loaded in a single pass.
    fn block(
        &self,
        first: u64,
        block: &RecordBatch,
        scratch: &mut Scratch,
    ) -> Result<Option<FitStatistics>> {
        let (reading, filter) = (self.reading, &self.reading.filter);
        let taken = filter.rows(block)?;
        let is_single_pass = taken.is_usable()
            && reading.holds()
            && reading.plain(&taken.rows, &mut scratch.rows)?;
        if !is_single_pass || reading.is_over.load(Ordering::Relaxed) {
            reading.stop();
            return Ok(None);
        }
        let n = taken.rows.num_rows();
        self.plan.slots(first, n, &mut scratch.stratum, &mut scratch.slots);
        self.to.put(&scratch.rows, &scratch.slots, &mut scratch.sorter)?;
        filter.seen.fetch_add(n as u64, Ordering::Relaxed);
        self.empty.of(&filter.columns, &taken.rows, None).map(Some)
    }
}

/// Regroups batches of at most a block's rows into batches of requested numbers of rows.
struct Batches<'a, I> {
    batches: I,
    schema: &'a SchemaRef,
    waiting: Vec<RecordBatch>,
}

impl<I: Iterator<Item = Result<RecordBatch>>> Batches<'_, I> {
    fn take(&mut self, rows: usize) -> Result<RecordBatch> {
        let mut there: usize = self.waiting.iter().map(RecordBatch::num_rows).sum();
        while there < rows {
            let Some(batch) = self.batches.next() else {
                return internal_err!("{} rows of {rows} are missing", rows - there);
            };
            let batch = batch?;
            there += batch.num_rows();
            self.waiting.push(batch);
        }
        let mut own = std::mem::take(&mut self.waiting);
        let more = there - rows;
        if let Some(last) = own.last_mut().filter(|_| more > 0) {
            let kept = last.num_rows() - more;
            self.waiting.push(last.slice(kept, more));
            *last = last.slice(0, kept);
        }
        match own.as_slice() {
            [one] => Ok(one.clone()),
            parts => Ok(concat_batches(self.schema, parts)?),
        }
    }
}
