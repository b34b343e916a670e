//! A slice of an epoch as rows of a DataFusion plan: one partition per replica.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, DictionaryArray, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;
use gradlake_udfs::{Partial, Round};

use crate::table::encoded::chunk::fields;
use crate::table::{EncodedTable, EpochOrder};

/// Spilled chunks that are prefetched while one is trained on.
const AHEAD: usize = 2;

/// The rows `start..end` of an epoch, split among `replicas` replicas in contiguous runs of nearly
/// equal length: of `n` rows, replica `i` takes `[i n / replicas, (i + 1) n / replicas)`.
///
/// Chunks are passed on without a copy. If their rows are trained on in another order, the columns
/// are dictionaries: the values are the chunk, the keys are the order.
#[derive(Clone, Debug)]
pub struct Slice {
    shares: Vec<Arc<Share>>,
    schema: SchemaRef,
    is_direct: bool,
}

impl EncodedTable {
    /// A slice of an epoch.
    pub fn slice(
        self: &Arc<Self>,
        order: &EpochOrder,
        start: u64,
        end: u64,
        replicas: usize,
    ) -> Slice {
        let mut columns = fields(&self.schema);
        if order.within.is_some() {
            for column in &mut columns {
                let values = Box::new(column.data_type().clone());
                let keyed = DataType::Dictionary(Box::new(DataType::UInt32), values);
                *column = Field::new(column.name(), keyed, false);
            }
        }
        columns.push(Field::new("replica", DataType::UInt32, false));
        let schema: SchemaRef = Arc::new(Schema::new(columns));
        let rows = end - start;
        let cut = |i: usize| start + rows * i as u64 / replicas as u64;
        let longest = order.chunks.iter().map(|(chunk, _)| self.chunks.chunk_rows(*chunk as usize));
        let longest = longest.max().unwrap_or(0).min(rows.div_ceil(replicas as u64) as usize);
        let share = |i: usize| Share {
            table: Arc::clone(self),
            schema: Arc::clone(&schema),
            order: order.clone(),
            start: cut(i),
            end: cut(i + 1),
            replica: i as u32,
            replicas: UInt32Array::from_value(i as u32, longest),
        };
        let shares = (0..replicas).map(|i| Arc::new(share(i))).collect();
        Slice { shares, schema, is_direct: self.is_small() }
    }
}

impl Slice {
    /// The rows as a plan of DataFusion, one partition per replica.
    ///
    /// # Errors
    /// Never in practice: the partitions have the table's schema.
    pub fn scan(&self) -> Result<Arc<dyn ExecutionPlan>> {
        let (schema, partitions) = (Arc::clone(&self.schema), self.partitions());
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, None)?))
    }

    /// The rows of each replica.
    pub fn partitions(&self) -> Vec<Arc<dyn PartitionStream>> {
        self.shares.iter().map(|share| Arc::clone(share) as _).collect()
    }

    /// Whether a round over it is better run by [`Slice::run`] than planned.
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Runs a round without a plan: what the training aggregate does with the same rows, replica by
    /// replica.
    ///
    /// # Errors
    /// Those of the round.
    pub fn run(&self, round: &dyn Round) -> Result<Vec<u8>> {
        let mut partials = vec![];
        for share in self.shares.iter().filter(|share| share.start < share.end) {
            let mut replica = round.replica(share.replica)?;
            for (chunk, from, to) in share.pieces() {
                let rows = share.table.chunk(chunk as usize)?;
                match share.order.of_chunk(chunk, rows.weight.len()) {
                    Some(order) => {
                        replica.update_gathered(&rows.mini_batch(), &order[from..to], None)?;
                    }
                    None => {
                        let own = rows.slice(from, to - from, share.table.schema.width());
                        replica.update(&own.mini_batch())?;
                    }
                }
            }
            partials.push(Partial { replica: share.replica, bytes: replica.finish()? });
        }
        round.merge(partials)
    }
}

/// The rows of one replica.
#[derive(Clone)]
struct Share {
    table: Arc<EncodedTable>,
    schema: SchemaRef,
    order: EpochOrder,
    start: u64,
    end: u64,
    replica: u32,
    /// The replica's number, repeated for each row of its longest chunk: the last column of
    /// batches.
    replicas: UInt32Array,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {}: rows {}..{}", self.replica, self.start, self.end)
    }
}

impl Share {
    /// (chunk, first row in it, last) of every chunk that has rows of the share.
    fn pieces(&self) -> Vec<(u32, usize, usize)> {
        let mut pieces = vec![];
        for (chunk, first) in self.order.chunks.iter() {
            let rows = self.table.chunks.chunk_rows(*chunk as usize) as u64;
            let (from, to) = (self.start.max(*first), self.end.min(first + rows));
            if from < to {
                pieces.push((*chunk, (from - first) as usize, (to - first) as usize));
            }
        }
        pieces
    }

    /// The rows `from..to` of a chunk in the order of the epoch.
    fn load(&self, chunk: u32, from: usize, to: usize) -> Result<RecordBatch> {
        let whole = self.table.chunks.get(chunk as usize)?;
        let mut columns = match self.order.of_chunk(chunk, whole.num_rows()) {
            Some(mut order) => {
                order.truncate(to);
                let keys = UInt32Array::from(order).slice(from, to - from);
                keyed(&keys, whole.columns())?
            }
            None => whole.slice(from, to - from).columns().to_vec(),
        };
        columns.push(Arc::new(self.replicas.slice(0, to - from)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// The columns as dictionaries with the same keys.
fn keyed(keys: &UInt32Array, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let Some(first) = columns.first() else { return Ok(vec![]) };
    // The keys are checked once, since all columns have equally many values, and many at a time:
    // Arrow checks them one after another, which takes a fortieth of the epoch of a linear model.
    let largest = keys.values().iter().fold(0, |most: u32, key| most.max(*key));
    if !keys.is_empty() && largest as usize >= first.len() {
        return internal_err!("row {largest} of a chunk of {} rows is asked for", first.len());
    }
    #[allow(unsafe_code, reason = "no key is beyond the values: see above")]
    let first = unsafe { DictionaryArray::new_unchecked(keys.clone(), Arc::clone(first)) };
    Ok(columns.iter().map(|values| Arc::new(first.with_values(Arc::clone(values))) as _).collect())
}

impl PartitionStream for Share {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let share = Arc::new(self.clone());
        let batches = futures::stream::iter(self.pieces())
            .map(move |(chunk, from, to)| {
                let share = Arc::clone(&share);
                async move {
                    if !share.table.chunks.is_spilled(chunk as usize) {
                        return share.load(chunk, from, to);
                    }
                    tokio::task::spawn_blocking(move || share.load(chunk, from, to))
                        .await
                        .map_err(|e| exec_datafusion_err!("a chunk could not be read: {e}"))?
                }
            })
            .buffered(AHEAD);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Float32Array;

    use super::*;

    #[test]
    fn rows_beyond_a_chunk_are_refused() {
        let columns = |rows: usize| [Arc::new(Float32Array::from(vec![0.5; rows])) as ArrayRef];
        let keyed = |keys: Vec<u32>, rows| keyed(&UInt32Array::from(keys), &columns(rows));
        assert_eq!(keyed(vec![2, 0, 2], 3).unwrap()[0].len(), 3);
        assert_eq!(keyed(vec![], 0).unwrap()[0].len(), 0);
        let error = keyed(vec![0, 3], 3).unwrap_err().to_string();
        assert!(error.contains("row 3 of a chunk of 3 rows"), "{error}");
    }
}
