//! The rows of a training query, in order, before their statistics are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use gradlake_udfs::{Interner, Values, hash_rows};

use crate::table::load::columns::RawColumns;
use crate::table::load::label_encoder::LabelEncoder;
use crate::table::parallel::in_order;
use crate::table::storage::chunks::Chunks;
use crate::table::{Resources, SMALL_ROWS};

/// Rows by the cause for which they were left out.
pub type Skipped = BTreeMap<String, u64>;

/// The rows of a query that can be learned from.
#[derive(Debug)]
pub struct RawTable {
    data: Option<Arc<RawData>>,
    groups: Vec<Group>,
    rows: u64,
}

/// The rows of one group.
#[derive(Debug)]
pub(in crate::table) struct Group {
    pub key: Vec<ScalarValue>,
    pub subset: Subset,
}

/// Some rows of a [`RawTable`], in its order.
#[derive(Clone, Debug)]
pub struct Subset {
    pub(in crate::table) ranges: RowRanges,
    pub(in crate::table) rows: u64,
    pub(in crate::table) skipped: Skipped,
}

/// The positions of the rows of a subset.
#[derive(Clone, Debug)]
pub(in crate::table) enum RowRanges {
    /// Contiguous, from this row of the table on.
    Range(u64),
    /// Scattered: (chunk, rows in it).
    Parts(Arc<Vec<(usize, UInt32Array)>>),
}

/// Cumulative sums of the counts.
pub(in crate::table) fn running_sums(counts: impl Iterator<Item = usize>) -> Vec<u64> {
    let mut sum = 0;
    let sums = counts.map(|n| {
        sum += n as u64;
        sum
    });
    sums.collect()
}

impl Subset {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether work on all rows is quick.
    pub fn is_small(&self) -> bool {
        self.rows <= SMALL_ROWS
    }

    /// Rows of the group that were left out, by cause.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

/// What [`RawTable`] shares with the threads that read it: chunks of [`RawColumns`].
#[derive(Debug)]
pub(in crate::table) struct RawData {
    pub columns: RawColumns,
    /// The interners of category columns.
    pub interners: Vec<Option<Interner>>,
    /// The encoder of a target that is a class.
    pub classes: Option<LabelEncoder>,
    /// (chunks of a partition, number of its first chunk).
    pub partitions: Vec<(Chunks, usize)>,
    /// Rows up to the end of each chunk.
    pub chunk_ends: Vec<u64>,
    /// Rows of a block.
    pub block_rows: usize,
    pub resources: Resources,
}

impl RawTable {
    pub(in crate::table) fn new(data: RawData, groups: Vec<Group>) -> Self {
        let rows = groups.iter().map(|g| g.subset.rows).sum();
        Self { data: Some(Arc::new(data)), groups, rows }
    }

    /// Rows of all groups.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that were left out, by cause.
    pub fn skipped(&self) -> Skipped {
        let mut all = Skipped::new();
        for (cause, rows) in self.groups.iter().flat_map(|g| &g.subset.skipped) {
            *all.entry(cause.clone()).or_default() += rows;
        }
        all
    }

    /// The groups in ascending order of their keys; one of all rows without PARTITION BY.
    pub fn groups(&self) -> Vec<(Vec<ScalarValue>, Subset)> {
        self.groups.iter().map(|g| (g.key.clone(), g.subset.clone())).collect()
    }

    /// Calls `work` with every number below `units` on all cores, and `take` with the results, in
    /// the order of the numbers.
    ///
    /// # Errors
    /// The first error of the two, or one that says that the training was interrupted.
    pub fn in_order<T: Send>(
        &self,
        units: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
        take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        in_order(&self.data()?.resources, units, || (), |(), unit| work(unit), take)?;
        Ok(())
    }

    /// Releases the rows when they are no longer needed. Many rows are dropped on a thread of their
    /// own, as freeing their memory takes long.
    pub fn release(&mut self) {
        let data = self.data.take();
        if self.rows > SMALL_ROWS {
            tokio::task::spawn_blocking(move || drop(data));
        }
    }

    pub(in crate::table) fn data(&self) -> Result<Arc<RawData>> {
        self.data.clone().ok_or_else(|| internal_datafusion_err!("the raw rows are released"))
    }
}

impl RawData {
    /// A chunk of the whole table.
    pub fn chunk(&self, index: usize) -> Result<RecordBatch> {
        let (chunks, first) = self.part(index);
        chunks.get(index - first)
    }

    /// The columns that are categories, with their texts.
    pub fn categories(&self) -> Vec<(usize, &Interner)> {
        let interners = self.interners.iter().enumerate();
        interners.filter_map(|(column, own)| Some((column, own.as_ref()?))).collect()
    }

    /// Releases the chunks from number `from` on whose rows are all among the first `rows`, and
    /// returns the number of the first chunk that is kept.
    pub fn release(&self, from: usize, rows: u64) -> usize {
        let end = self.chunk_ends.partition_point(|end| *end <= rows);
        for index in from..end {
            let (chunks, first) = self.part(index);
            chunks.release(index - first);
        }
        end.max(from)
    }

    /// The partition of a chunk, and the number of the partition's first chunk.
    fn part(&self, index: usize) -> (&Chunks, usize) {
        let after = self.partitions.partition_point(|(_, first)| *first <= index);
        let (chunks, first) = &self.partitions[after - 1];
        (chunks, *first)
    }

    /// A hash of each row's features and target.
    pub fn hash(&self, block: &RecordBatch) -> Result<Vec<u64>> {
        let mut hashes = vec![0; block.num_rows()];
        let values = self.columns.values(block);
        let columns: Vec<_> = self
            .columns
            .inputs
            .iter()
            .zip(values)
            .zip(&self.interners)
            .map(|((input, values), interner)| (input.name.as_str(), values, interner.as_ref()))
            .collect();
        hash_rows(&columns, &mut hashes)?;
        match (&self.classes, self.columns.codes(block)) {
            (Some(classes), Some(codes)) => {
                let known: Vec<u64> = classes.hashes();
                for (hash, code) in hashes.iter_mut().zip(codes.values()) {
                    *hash = gradlake_udfs::kernels::rng::mix(*hash, 1, known[*code as usize]);
                }
            }
            _ => {
                for target in self.columns.targets(block) {
                    hash_rows(&[("target", Values::Array(target), None)], &mut hashes)?;
                }
            }
        }
        Ok(hashes)
    }
}
