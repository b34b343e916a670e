//! A slice of an epoch as a table of DataFusion: one partition per replica.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use gradlake_udfs::round::{Partial, Round};

use super::chunk::{EncodedChunk, fields};
use super::{EncodedTable, EpochOrder};

/// Rows of a chunk below which it is not worth another thread to put them in order.
const SMALL: usize = 4096;
/// Chunks that are made ready while one is learned from.
const AHEAD: usize = 2;

/// The rows `start..end` of an epoch, dealt to `replicas` replicas in runs of nearly equal length:
/// replica `i` of `n` rows takes `[i n / replicas, (i + 1) n / replicas)`.
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
        let mut columns = fields(self.width);
        columns.push(Field::new("replica", DataType::UInt32, false));
        let schema: SchemaRef = Arc::new(Schema::new(columns));
        let rows = end - start;
        let cut = |i: usize| start + rows * i as u64 / replicas as u64;
        let share = |i: usize| Share {
            table: Arc::clone(self),
            schema: Arc::clone(&schema),
            order: order.clone(),
            start: cut(i),
            end: cut(i + 1),
            replica: i as u32,
        };
        let shares = (0..replicas).map(|i| Arc::new(share(i))).collect();
        Slice { shares, schema, is_direct: self.is_small() }
    }
}

impl Slice {
    /// The slice as a table of DataFusion, one partition per replica.
    ///
    /// # Errors
    /// Never in practice: the partitions have the table's schema.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        let partitions = self.shares.iter().map(|share| Arc::clone(share) as _).collect();
        Ok(Arc::new(StreamingTable::try_new(Arc::clone(&self.schema), partitions)?))
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
                replica.update(&share.rows(chunk, from, to)?.mini_batch())?;
            }
            partials.push(Partial { replica: share.replica, bytes: replica.finish()? });
        }
        round.merge(&partials)
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
    fn rows(&self, chunk: u32, from: usize, to: usize) -> Result<EncodedChunk> {
        let whole = self.table.chunk(chunk as usize)?;
        let width = self.table.width;
        let ordered = match self.order.places(chunk, whole.label.len()) {
            Some(places) => whole.permuted(&places, width, &self.table.pools),
            None => whole,
        };
        Ok(ordered.slice(from, to - from, width))
    }

    fn load(&self, chunk: u32, from: usize, to: usize) -> Result<RecordBatch> {
        let replica = Arc::new(UInt32Array::from_value(self.replica, to - from));
        let mut columns = self.rows(chunk, from, to)?.columns(self.table.width)?;
        columns.push(replica);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn is_slow(&self, chunk: u32) -> bool {
        let chunk = chunk as usize;
        let rows = self.table.chunks.chunk_rows(chunk);
        self.table.chunks.is_spilled(chunk) || (self.order.within.is_some() && rows > SMALL)
    }
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
                    if !share.is_slow(chunk) {
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
