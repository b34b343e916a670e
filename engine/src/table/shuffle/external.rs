//! External shuffle, for rows beyond the memory limit: rows go to buckets of neighbouring chunks,
//! full buckets are spilled, and in the end each bucket is put in order on its own. All of it runs
//! on many threads at once.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use datafusion::arrow::array::{AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::kernels::math::vectorized;
use gradlake_udfs::{MiniBatch, RowSchema, Rows, Width};

use crate::table::Resources;
use crate::table::encoded::chunk::{EncodedChunk, fields};
use crate::table::parallel::{in_order_by, lock};
use crate::table::shuffle::plan::{ShufflePlan, Slot};
use crate::table::shuffle::scatter::RowSorter;
use crate::table::storage::spill::{self, SpillLog};

/// Share of the memory limit up to which rows wait in buckets.
const SHARE: f64 = 0.5;
/// Approximate minimum and maximum of the bytes of a bucket, unless its chunks are larger. Each
/// thread puts one bucket at a time in order, in memory, as far as memory suffices.
const BUCKET_BYTES: (usize, usize) = (1 << 20, 16 << 20);
/// Buckets that are put in order get one part in this many of the memory for buckets.
const ORDERED_PART: usize = 8;
/// Buckets at most.
const MAX_BUCKETS: usize = 4096;
/// Approximate minimum of the bytes of a bucket that are spilled in one write.
const MIN_BYTES: usize = 16 << 10;

/// Rows in buckets of neighbouring chunks.
pub(in crate::table) struct Buckets {
    width: Width,
    schema: SchemaRef,
    plan: ShufflePlan,
    /// Chunks of a bucket.
    chunks: usize,
    buckets: Vec<Mutex<Bucket>>,
    /// Rows of a bucket at most.
    largest: usize,
    /// Rows of a bucket that wait in memory at most.
    most: usize,
    /// Empty buffers to replace those that are being spilled.
    spare: Mutex<Vec<Waiting>>,
    log: SpillLog,
    resources: Resources,
    reservation: MemoryReservation,
}

/// The rows of a bucket so far.
struct Bucket {
    waiting: Waiting,
    spilled: Vec<spill::SpillLocation>,
}

/// Rows of a bucket, in any order, and their slots; the first `len` entries are in use.
struct Waiting {
    rows: Rows,
    slots: Vec<Slot>,
    len: usize,
}

impl Buckets {
    /// For the rows of a plan.
    ///
    /// # Errors
    /// When memory does not suffice for a few rows of each bucket.
    pub(in crate::table) fn new(
        row_schema: &RowSchema,
        plan: &ShufflePlan,
        resources: &Resources,
    ) -> Result<Self> {
        let width = row_schema.width();
        let row_bytes = waiting_row_bytes(width);
        let chunks = plan.chunks();
        let rows = (0..chunks).map(|chunk| plan.rows_of(chunk)).sum::<usize>();
        // (If others use more than their share, buckets get half of the memory that is left.)
        let room = resources.available(SHARE).max(resources.available(1.0) / 2);
        let threads = resources.pool().threads();
        let bytes = (room / ORDERED_PART / threads).clamp(BUCKET_BYTES.0, BUCKET_BYTES.1);
        let fewest = (MIN_BYTES / row_bytes).max(1);
        // As many buckets as memory can hold a few rows of each.
        let many = (room / (fewest * row_bytes)).saturating_sub(threads).clamp(1, MAX_BUCKETS);
        let wanted = (rows.saturating_mul(row_bytes) / bytes).clamp(1, many);
        let per_bucket = chunks.div_ceil(wanted).max(1);
        let count = chunks.div_ceil(per_bucket);
        let of_bucket = |i: usize| i * per_bucket..chunks.min((i + 1) * per_bucket);
        let rows_of = |i: usize| of_bucket(i).map(|chunk| plan.rows_of(chunk)).sum::<usize>();
        let largest = (0..count).map(rows_of).max().unwrap_or(0);
        // Each thread may hold a buffer that is being spilled.
        let held = count + threads;
        let most = (room / row_bytes / held).clamp(fewest.min(largest), largest);
        let reservation = resources.reservation("shuffle of training rows");
        resources.reserve(&reservation, held * most * row_bytes, "shuffling the training rows")?;
        let mut fields = fields(row_schema);
        fields.push(Field::new("place", DataType::UInt64, false));
        let bucket = || Bucket { waiting: Waiting::new(width, most), spilled: vec![] };
        Ok(Self {
            width,
            schema: Arc::new(Schema::new(fields)),
            plan: plan.clone(),
            chunks: per_bucket,
            buckets: (0..count).map(|_| Mutex::new(bucket())).collect(),
            largest,
            most,
            spare: Mutex::default(),
            log: SpillLog::new(resources, "shuffling training rows"),
            resources: resources.clone(),
            reservation,
        })
    }

    /// Adds rows with their slots.
    ///
    /// # Errors
    /// When rows have to be spilled and cannot.
    pub(in crate::table) fn push(
        &self,
        rows: &Rows,
        slots: &[Slot],
        sorter: &mut RowSorter,
    ) -> Result<()> {
        let Some(first) = slots.first() else { return Ok(()) };
        sorter.sort(slots, self.plan.chunks());
        // Threads start at different buckets, visit all of them, and come back to those that were
        // locked.
        let begin = first.chunk as usize / self.chunks;
        let mut later = vec![];
        for index in (begin..self.buckets.len()).chain(0..begin) {
            let order = sorter.rows_of(self.chunks_of(index));
            if order.is_empty() {
                continue;
            }
            match self.buckets[index].try_lock() {
                Ok(bucket) => self.add(index, bucket, rows, slots, order)?,
                Err(_) => later.push(index),
            }
        }
        for index in later {
            let order = sorter.rows_of(self.chunks_of(index));
            self.add(index, lock(&self.buckets[index]), rows, slots, order)?;
        }
        Ok(())
    }

    /// Bytes of the rows of a bucket that wait in memory.
    fn waiting_bytes(&self) -> usize {
        self.most * waiting_row_bytes(self.width)
    }

    /// The chunks of a bucket.
    fn chunks_of(&self, index: usize) -> Range<usize> {
        let first = index * self.chunks;
        first..(first + self.chunks).min(self.plan.chunks())
    }

    /// Adds the rows that `order` lists to a bucket. A full buffer is spilled without the lock, so
    /// that other threads may go on with the bucket.
    fn add<'a>(
        &'a self,
        index: usize,
        mut bucket: MutexGuard<'a, Bucket>,
        rows: &Rows,
        slots: &[Slot],
        order: &[u32],
    ) -> Result<()> {
        let mut order = order;
        loop {
            let (now, later) = order.split_at(order.len().min(self.most - bucket.waiting.len));
            bucket.waiting.add(rows, slots, now, self.width);
            if later.is_empty() {
                return Ok(());
            }
            order = later;
            let spare = lock(&self.spare).pop();
            let empty = spare.unwrap_or_else(|| Waiting::new(self.width, self.most));
            let full = std::mem::replace(&mut bucket.waiting, empty);
            drop(bucket);
            let (place, empty) = self.write(full)?;
            lock(&self.spare).push(empty);
            bucket = lock(&self.buckets[index]);
            bucket.spilled.push(place);
        }
    }

    /// Spills rows, and returns their buffer.
    fn write(&self, full: Waiting) -> Result<(spill::SpillLocation, Waiting)> {
        let Waiting { rows, slots, len } = full;
        let chunk = EncodedChunk::from(rows);
        let packed = slots[..len].iter().map(|slot| slot.packed());
        let mut columns = chunk.slice(0, len, self.width).columns(self.width)?;
        columns.push(Arc::new(UInt64Array::from_iter_values(packed)));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let place = self.log.append(&batch)?;
        drop(batch);
        Ok((place, Waiting { rows: chunk.into_rows(), slots, len: 0 }))
    }

    /// Calls `work` with every chunk, on all cores, and `take` with the results, in order. Rows
    /// that `work` returns are reused for another chunk.
    ///
    /// # Errors
    /// Those of the two, or when spilled rows cannot be read.
    pub(in crate::table) fn for_each_chunk<T: Send>(
        self,
        work: impl Fn(Rows) -> Result<(T, Option<Rows>)> + Sync,
        mut take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        // Nothing is spilled any more.
        lock(&self.spare).clear();
        let (buckets, threads) = (self.buckets.len(), self.resources.pool().threads());
        let waiting = buckets * self.waiting_bytes();
        self.reservation.resize(waiting);
        // A thread holds the chunks of a bucket and the spilled rows that it reads back. As many
        // threads run as memory suffices for, and at least one.
        let ordered = self.largest * self.width.row_bytes() + self.waiting_bytes();
        let at_once = (self.resources.available(1.0) / 2 / ordered.max(1)).clamp(1, threads);
        self.reservation.resize(waiting + at_once * ordered);
        let work = |spare: &mut Vec<Rows>, index| {
            let mut made = vec![];
            for chunk in self.chunks_in_order(index, spare)? {
                let (own, rows) = work(chunk)?;
                made.push(own);
                spare.extend(rows);
            }
            Ok(made)
        };
        let take = |made: Vec<T>| made.into_iter().try_for_each(&mut take);
        in_order_by(at_once, &self.resources, buckets, Vec::new, work, take)?;
        Ok(())
    }

    /// The chunks of a bucket; its waiting rows are released.
    fn chunks_in_order(&self, index: usize, spare: &mut Vec<Rows>) -> Result<Vec<Rows>> {
        let range = self.chunks_of(index);
        let first = range.start;
        let mut chunks: Vec<Rows> = range
            .map(|chunk| {
                // Every row is written, so the old content does not matter.
                let mut rows: Rows = spare.pop().unwrap_or_default();
                rows.resize(self.plan.rows_of(chunk), self.width);
                rows
            })
            .collect();
        let mut put = |rows: &MiniBatch<'_>, row: usize, slot: Slot| {
            let mut chunk = chunks[slot.chunk as usize - first].as_mut();
            chunk.copy_row(slot.row as usize, rows, row, self.width);
        };
        let empty = Waiting::new(self.width, 0);
        let bucket = &mut *lock(&self.buckets[index]);
        let waiting = std::mem::replace(&mut bucket.waiting, empty);
        let rows = waiting.rows.batch();
        vectorized(
            #[inline(always)]
            || {
                for (row, slot) in waiting.slots[..waiting.len].iter().enumerate() {
                    put(&rows, row, *slot);
                }
            },
        );
        drop(waiting);
        self.reservation.shrink(self.waiting_bytes());
        for place in std::mem::take(&mut bucket.spilled) {
            let batch = self.log.read(&place)?;
            let slots = batch.column(batch.num_columns() - 1).as_primitive::<UInt64Type>();
            let chunk = EncodedChunk::new(self.width, &batch)?;
            let rows = chunk.mini_batch();
            vectorized(
                #[inline(always)]
                || {
                    for (row, packed) in slots.values().iter().enumerate() {
                        put(&rows, row, Slot::unpacked(*packed));
                    }
                },
            );
        }
        Ok(chunks)
    }
}

/// Bytes of a row that waits, and of its slot.
fn waiting_row_bytes(width: Width) -> usize {
    width.row_bytes() + size_of::<Slot>()
}

impl Waiting {
    /// No rows, and capacity for `rows`; only what is written takes physical memory.
    fn new(width: Width, rows: usize) -> Self {
        Self { rows: Rows::zeros(width, rows), slots: vec![Slot::default(); rows], len: 0 }
    }

    /// Copies the rows that `order` lists.
    fn add(&mut self, from: &Rows, slots: &[Slot], order: &[u32], width: Width) {
        self.rows.as_mut().copy(self.len, &from.batch(), order, width);
        let own = &mut self.slots[self.len..self.len + order.len()];
        own.iter_mut().zip(order).for_each(|(own, row)| *own = slots[*row as usize]);
        self.len += order.len();
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::table::shuffle::plan::StratumSlots;
    use crate::thread_pool::ThreadPool;
    use gradlake_udfs::{Element, FieldSpec};

    fn schema() -> RowSchema {
        let bytes = FieldSpec::new("image", Element::U8 { divisor: 255.0 }, vec![3]);
        let numbers = FieldSpec::new("features", Element::F32, vec![2]);
        RowSchema::new(vec![numbers, bytes], 0, 1)
    }

    fn resources(threads: usize, limit: usize) -> Resources {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(limit, 1.0).build_arc().unwrap();
        let state = SessionContext::new_with_config_rt(SessionConfig::new(), runtime).state();
        Resources::new(&state, Arc::default(), ThreadPool::new(threads).unwrap())
    }

    /// Rows that contain their number are found in their slots, whatever the threads and the limit.
    #[test]
    fn rows_of_many_threads_come_to_stand_in_their_places() {
        const BLOCK: usize = 5000;
        for (n, threads, limit, shuffle) in [
            (400_000usize, 4, 2 << 20, Some(3)),
            (400_000, 1, 2 << 20, Some(3)),
            (400_000, 2, 2 << 20, None),
            // Memory for few rows of few buckets; for all rows.
            (100_000, 2, 100_000, Some(5)),
            (100_000, 2, 1 << 30, Some(5)),
            (3, 2, 1 << 20, Some(5)),
            (0, 2, 1 << 20, Some(5)),
        ] {
            let resources = resources(threads, limit);
            let plan = ShufflePlan::new(n as u64, 1000, shuffle);
            let buckets = Buckets::new(&schema(), &plan, &resources).unwrap();
            resources.pool().run(n.div_ceil(BLOCK), &|block| {
                let first = block * BLOCK;
                let own = first..n.min(first + BLOCK);
                let mut slots = vec![];
                plan.slots(first as u64, own.len(), &mut StratumSlots::default(), &mut slots);
                let rows = Rows {
                    dense: own.clone().flat_map(|row| [row as f32, -(row as f32)]).collect(),
                    bytes: own.clone().flat_map(|row| [row as u8, 7, 8]).collect(),
                    codes: vec![],
                    label: own.clone().map(|row| row as f32).collect(),
                    weight: vec![0.5; own.len()],
                };
                buckets.push(&rows, &slots, &mut RowSorter::default()).unwrap();
            });
            let spilled = buckets.buckets.iter().map(|b| lock(b).spilled.len()).sum::<usize>();
            assert_eq!(spilled > 0, n >= 100_000 && limit < 1 << 30, "{n} rows within {limit}");
            assert!(n < 400_000 || buckets.buckets.len() > 4, "{} buckets", buckets.buckets.len());
            let mut chunks: Vec<Rows> = vec![];
            buckets
                .for_each_chunk(
                    |rows| Ok((rows.clone(), Some(rows))),
                    |rows| {
                        chunks.push(rows);
                        Ok(())
                    },
                )
                .unwrap();
            let mut slots = vec![];
            plan.slots(0, n, &mut StratumSlots::default(), &mut slots);
            assert_eq!(chunks.len(), plan.chunks());
            assert_eq!(chunks.iter().map(Rows::len).sum::<usize>(), n);
            for (row, place) in slots.iter().enumerate() {
                let (chunk, at) = (&chunks[place.chunk as usize], place.row as usize);
                let row = row as f32;
                assert_eq!(chunk.dense[2 * at..2 * at + 2], [row, -row]);
                assert_eq!(chunk.bytes[3 * at..3 * at + 3], [row as usize as u8, 7, 8]);
                assert_eq!((chunk.label[at], chunk.weight[at]), (row, 0.5));
            }
            assert_eq!(resources.available(1.0), limit, "memory is still reserved");
            assert_eq!(resources.disk().used_disk_space(), 0, "a file is left behind");
        }
    }
}
