//! Whole statements on 200,000 rows of 28 float32 numbers in a Parquet file: `cargo bench -p
//! gradlake-benches --bench end_to_end`.
//!
//! "elem/s" of the statements are rows a second: of TRAIN by steps rows times epochs, of the others
//! rows of the file. Reading, encoding and publishing are part of the time.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use gradlake_benches::{Result, time, write_parquet};
use gradlake_sql::{Session, SessionOptions};
use tokio::runtime::Runtime;

const ROWS: usize = 200_000;
const FEATURES: usize = 28;
const EPOCHS: usize = 5;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.parquet");
    write_parquet(&file, ROWS, FEATURES)?;
    let file = file.display();
    let warehouse = Some(folder.path().join("warehouse").display().to_string());
    let runtime = Runtime::new()?;
    let session =
        runtime.block_on(Session::open(SessionOptions { warehouse, ..Default::default() }))?;
    let run = |sql: &str| -> Result<()> {
        runtime.block_on(session.collect(sql, Arc::new(|_event| {})))?;
        Ok(())
    };
    let train = |options: &str| {
        format!(
            "TRAIN OR REPLACE MODEL m USING logistic_regression TARGET label
             WITH ({options}, split = 'none', keep_versions = 1) FROM '{file}'"
        )
    };

    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let mut group = criterion.benchmark_group("200,000 x 28 (rows)");
    group.throughput(Throughput::Elements((ROWS * EPOCHS) as u64));
    let steps = train(&format!("solver = 'sgd', epochs = {EPOCHS}"));
    time(&mut group, &format!("TRAIN, {EPOCHS} epochs of steps"), || run(&steps))?;
    group.throughput(Throughput::Elements(ROWS as u64));
    let exact = train("solver = 'newton'");
    time(&mut group, "TRAIN, exact", || run(&exact))?;
    // The model that PREDICT asks for must be there when a filter left the trainings out.
    run(&exact)?;
    let predict = format!("PREDICT MODEL m FROM '{file}'");
    time(&mut group, "PREDICT", || run(&predict))?;
    group.finish();
    criterion.final_summary();
    Ok(())
}
