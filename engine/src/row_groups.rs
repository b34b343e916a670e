//! Distributes the row groups of Parquet files evenly over the partitions that read them.
//!
//! DataFusion cuts files into ranges of equal bytes, and a row group belongs to the range in which
//! it begins: in a file with two equal groups, both begin in the first half, and one core reads
//! them while the other waits.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::scan::{extent, footer};

/// An optimizer rule that moves the cuts between partitions to where row groups begin. Rows keep
/// their order and partitions their number; files whose footers are not in the cache stay as they
/// are.
#[derive(Debug)]
pub(crate) struct BalanceRowGroups {
    runtime: Arc<RuntimeEnv>,
}

/// A row group: which of the parts that are read it belongs to, where it begins, its bytes.
struct RowGroup {
    part: usize,
    begin: i64,
    bytes: i64,
}

impl BalanceRowGroups {
    pub(crate) fn new(runtime: Arc<RuntimeEnv>) -> Self {
        Self { runtime }
    }

    /// The file groups of a scan with new cuts; None if they are to stay.
    fn balanced(&self, scan: &FileScanConfig) -> Option<Vec<FileGroup>> {
        let partitions = scan.file_groups.len();
        if partitions < 2 || scan.output_partitioning.is_some() {
            return None;
        }
        scan.file_source.downcast_ref::<ParquetSource>()?;
        let parts = whole_parts(&scan.file_groups)?;
        let mut groups = vec![];
        for (part, file) in parts.iter().enumerate() {
            let range = file.range.as_ref()?;
            for (begin, bytes) in self.row_groups(file)? {
                if range.contains(begin) {
                    groups.push(RowGroup { part, begin, bytes });
                }
            }
        }
        Some(distribute(&parts, &groups, partitions))
    }

    /// Where the row groups of a file begin, and their bytes.
    fn row_groups(&self, file: &PartitionedFile) -> Option<Vec<(i64, i64)>> {
        Some(footer(&self.runtime, file)?.row_groups().iter().map(extent).collect())
    }
}

/// The files in the order in which they are read, neighbouring ranges of a file as one; None where
/// a file has no range, since then nothing has been cut.
fn whole_parts(groups: &[FileGroup]) -> Option<Vec<PartitionedFile>> {
    let mut parts: Vec<PartitionedFile> = vec![];
    for file in groups.iter().flat_map(FileGroup::iter) {
        let own = file.range.as_ref()?;
        let last = parts.last_mut().filter(|last| {
            last.object_meta.location == file.object_meta.location
                && last.range.as_ref().is_some_and(|range| range.end == own.start)
        });
        match last.and_then(|last| last.range.as_mut()) {
            Some(range) => range.end = own.end,
            None => parts.push(file.clone()),
        }
    }
    Some(parts)
}

/// Assigns row groups to partitions, in order: each goes to the partition that has the middle of
/// its bytes.
fn distribute(parts: &[PartitionedFile], groups: &[RowGroup], partitions: usize) -> Vec<FileGroup> {
    let total: i64 = groups.iter().map(|group| group.bytes).sum();
    let mut groups_of_partitions: Vec<Vec<PartitionedFile>> = vec![vec![]; partitions];
    let mut before = 0;
    let mut last = None;
    for (i, group) in groups.iter().enumerate() {
        let middle = i128::from(2 * before + group.bytes) * partitions as i128;
        let partition = (middle / i128::from((2 * total).max(1))) as usize;
        let partition = partition.min(partitions - 1);
        before += group.bytes;
        let end = match groups.get(i + 1) {
            Some(next) if next.part == group.part => next.begin,
            _ => parts[group.part].range.as_ref().map_or(i64::MAX, |range| range.end),
        };
        if last == Some((partition, group.part))
            && let Some(range) =
                groups_of_partitions[partition].last_mut().and_then(|file| file.range.as_mut())
        {
            range.end = end;
        } else {
            let range = FileRange { start: group.begin, end };
            groups_of_partitions[partition]
                .push(PartitionedFile { range: Some(range), ..parts[group.part].clone() });
        }
        last = Some((partition, group.part));
    }
    for files in &mut groups_of_partitions {
        if let (true, Some(first)) = (files.is_empty(), parts.first()) {
            // A partition must have a file; nothing begins in this range.
            let range = FileRange { start: 0, end: 0 };
            files.push(PartitionedFile { range: Some(range), ..first.clone() });
        }
    }
    groups_of_partitions.into_iter().map(FileGroup::new).collect()
}

impl PhysicalOptimizerRule for BalanceRowGroups {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let balanced = plan.transform_down(|node| {
            let Some(exec) = node.downcast_ref::<DataSourceExec>() else {
                return Ok(Transformed::no(node));
            };
            let Some(scan) = exec.data_source().downcast_ref::<FileScanConfig>() else {
                return Ok(Transformed::no(node));
            };
            let Some(groups) = self.balanced(scan) else {
                return Ok(Transformed::no(node));
            };
            let scan = FileScanConfigBuilder::from(scan.clone()).with_file_groups(groups).build();
            Ok(Transformed::yes(DataSourceExec::from_data_source(scan) as _))
        })?;
        Ok(balanced.data)
    }

    fn name(&self) -> &str {
        "balance_row_groups"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::file::properties::WriterProperties;
    use datafusion::physical_plan::execute_stream_partitioned;
    use futures::TryStreamExt;

    use super::*;
    use crate::session::{Engine, EngineOptions};

    /// A file with row groups of these numbers of rows, which are numbered.
    fn write(path: &std::path::Path, groups: &[i64]) {
        let rows: i64 = groups.iter().sum();
        // Random numbers, so that the bytes of a group are proportional to its rows.
        let noise = |i: i64| gradlake_udfs::kernels::rng::mix(1, 2, i as u64) as i64;
        let column = |f: &dyn Fn(i64) -> i64| -> datafusion::arrow::array::ArrayRef {
            Arc::new(Int64Array::from_iter_values((0..rows).map(f)))
        };
        let batch =
            RecordBatch::try_from_iter([("i", column(&|i| i)), ("x", column(&noise))]).unwrap();
        let file = std::fs::File::create(path).unwrap();
        let properties = WriterProperties::builder().build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        let mut first = 0;
        for n in groups {
            writer.write(&batch.slice(first as usize, *n as usize)).unwrap();
            writer.flush().unwrap();
            first += n;
        }
        writer.close().unwrap();
    }

    /// The rows of each partition of a scan of the files.
    async fn read(groups: &[&[i64]], threads: usize) -> Vec<Vec<i64>> {
        let folder = tempfile::tempdir().unwrap();
        for (i, groups) in groups.iter().enumerate() {
            write(&folder.path().join(format!("{i}.parquet")), groups);
        }
        let engine =
            Engine::open(EngineOptions { threads: Some(threads), ..Default::default() }).unwrap();
        let table = format!("SELECT i FROM '{}/'", folder.path().display());
        let plan = engine.context().sql(&table).await.unwrap().into_optimized_plan().unwrap();
        let state = engine.training_state();
        let plan = state.create_physical_plan(&plan).await.unwrap();
        let mut partitions = vec![];
        for stream in execute_stream_partitioned(plan, state.task_ctx()).unwrap() {
            let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
            let rows =
                |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            partitions.push(batches.iter().flat_map(rows).collect());
        }
        partitions
    }

    #[tokio::test]
    async fn two_equal_groups_go_to_two_partitions() {
        const N: i64 = 700_000;
        let partitions = read(&[&[N, N]], 2).await;
        assert_eq!(partitions.iter().map(Vec::len).collect::<Vec<_>>(), [N as usize; 2]);
        assert!(partitions.into_iter().flatten().eq(0..2 * N));
    }

    #[tokio::test]
    async fn every_row_is_read_once_and_in_order() {
        const K: i64 = 100_000;
        for (groups, threads) in [
            (vec![&[9 * K, K, K, K][..]], 3),
            (vec![&[K, 2 * K, 9 * K][..]], 4),
            (vec![&[5 * K, 5 * K], &[4 * K, 8 * K][..]], 3),
            (vec![&[20 * K][..]], 4),
        ] {
            let partitions = read(&groups, threads).await;
            assert_eq!(partitions.len(), threads);
            let rows: Vec<i64> = partitions.into_iter().flatten().collect();
            let expected = groups.iter().flat_map(|file| 0..file.iter().sum::<i64>());
            assert!(rows.into_iter().eq(expected), "{groups:?}");
        }
    }
}
