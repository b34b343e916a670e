//! What the benchmarks share: rows from a seed, plain loops to compare with, and a way to time what
//! may fail.

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, RecordBatch};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use gradlake_udfs::kernels::rng::mix;
use gradlake_udfs::kernels::rng::unit;
use gradlake_udfs::{MiniBatch, NO_CATEGORY, Width};
use parquet::arrow::ArrowWriter;

pub mod naive;

/// The seed of all random numbers of the benchmarks.
pub const SEED: u64 = 20_261_124;

/// What a benchmark may fail with.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Criterion for many short benchmarks: half a second each.
pub fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args()
}

/// Times `run`, and returns the first error of any run: what fails is not fast.
///
/// # Errors
/// The first of `run`.
pub fn time<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut run: impl FnMut() -> Result<T>,
) -> Result<()> {
    let mut failure = None;
    group.bench_function(name, |bencher| {
        bencher.iter(|| run().map_err(|error| failure = Some(error)).ok());
    });
    failure.map_or(Ok(()), Err)
}

/// `n` numbers in `[-1, 1)`, a function of the stream (what they are for) alone.
pub fn numbers(stream: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| 2.0 * unit(mix(SEED, stream, i)) - 1.0).collect()
}

/// `n` whole numbers below `end`.
pub fn indices(stream: u64, n: usize, end: usize) -> Vec<usize> {
    (0..n as u64).map(|i| (mix(SEED, stream, i) % end.max(1) as u64) as usize).collect()
}

/// Some encoded rows.
pub struct Rows {
    rows: usize,
    dense: Vec<f32>,
    codes: Vec<u32>,
    label: Vec<f32>,
    weight: Vec<f32>,
}

impl Rows {
    /// Rows of a width with labels `0..classes`; every twentieth category is unknown.
    pub fn new(rows: usize, width: Width, classes: usize) -> Self {
        let share = width.categories / width.columns.max(1);
        let code = |(i, code): (usize, usize)| match i % 20 {
            19 => NO_CATEGORY,
            _ => (i % width.columns * share + code) as u32,
        };
        let codes = indices(2, rows * width.columns, share).into_iter().enumerate().map(code);
        let label = indices(3, rows, classes).into_iter().map(|class| class as f32);
        Self {
            rows,
            dense: numbers(1, rows * width.dense),
            codes: codes.collect(),
            label: label.collect(),
            weight: vec![1.0; rows],
        }
    }

    /// The rows as kernels take them.
    pub fn batch(&self) -> MiniBatch<'_> {
        MiniBatch {
            rows: self.rows,
            dense: &self.dense,
            codes: &self.codes,
            label: &self.label,
            weight: &self.weight,
            ..MiniBatch::default()
        }
    }
}

/// Writes a Parquet file of `rows` rows: `columns` float32 features `f0`, `f1`, ... in `[-1, 1)`
/// and a boolean `label` that follows a logistic law of them.
///
/// # Errors
/// When the file cannot be written.
pub fn write_parquet(path: &Path, rows: usize, columns: usize) -> Result<()> {
    let features: Vec<Vec<f32>> = (0..columns as u64).map(|i| numbers(10 + i, rows)).collect();
    let law = numbers(4, columns);
    let chance = numbers(5, rows);
    let label: BooleanArray = (0..rows)
        .map(|row| {
            let z: f32 = features.iter().zip(&law).map(|(x, w)| x[row] * w).sum();
            let probability = 1.0 / (1.0 + (-3.0 * z).exp());
            Some(0.5 * (chance[row] + 1.0) < probability)
        })
        .collect();
    let mut table: Vec<(String, ArrayRef)> = vec![];
    for (i, values) in features.into_iter().enumerate() {
        table.push((format!("f{i}"), Arc::new(Float32Array::from(values))));
    }
    table.push(("label".to_owned(), Arc::new(label)));
    let batch = RecordBatch::try_from_iter(table)?;
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_a_function_of_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            write_parquet(&path, 1000, 3).unwrap();
            std::fs::read(path).unwrap()
        });
        assert_eq!(bytes[0], bytes[1]);
        let width = Width { dense: 3, columns: 2, categories: 10, ..Width::default() };
        let rows = Rows::new(100, width, 2);
        assert_eq!(rows.codes.len(), 200);
        assert!(rows.codes.iter().all(|code| *code < 10 || *code == NO_CATEGORY));
        assert!(rows.label.iter().all(|label| [0.0, 1.0].contains(label)));
    }
}
