//! A statement run several times in one session: how long each run and each epoch took.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::json::ArrayWriter;
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use gradlake_benches::Result;
use gradlake_engine::{Event, EventSink};
use gradlake_sql::{Session, SessionOptions};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Args {
    /// Folder of the models
    #[arg(long)]
    warehouse: String,
    /// Threads of the session
    #[arg(long)]
    threads: Option<usize>,
    /// Bytes that the session may reserve
    #[arg(long)]
    memory_limit: Option<usize>,
    /// Statements before the timed one
    #[arg(long = "before")]
    before: Vec<String>,
    /// The timed statement. Its rows are taken batch by batch and dropped
    #[arg(long)]
    sql: String,
    /// How often it runs
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// A query afterwards whose rows are printed
    #[arg(long)]
    after: Option<String>,
}

/// Prints `runs`, each with its seconds, its rows and its epochs, and `after`.
///
/// # Errors
/// When a statement fails.
pub fn run(args: &Args) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads);
    }
    runtime.build()?.block_on(passes(args))
}

async fn passes(args: &Args) -> Result<()> {
    let session = Session::open(SessionOptions {
        warehouse: Some(args.warehouse.clone()),
        memory_limit: args.memory_limit,
        threads: args.threads,
        ..SessionOptions::default()
    })
    .await?;
    for sql in &args.before {
        session.collect(sql, Arc::new(|_event| {})).await?;
    }
    let mut runs = vec![];
    for _ in 0..args.repeat {
        let epochs: Arc<Mutex<Vec<Value>>> = Arc::default();
        let sink = epochs_into(&epochs);
        let begun = Instant::now();
        let mut rows = 0;
        let mut stream = session.execute(&args.sql, sink).await?;
        while let Some(batch) = stream.next().await {
            rows += batch?.num_rows();
        }
        drop(stream);
        let seconds = begun.elapsed().as_secs_f64();
        let epochs = epochs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        runs.push(json!({ "seconds": seconds, "rows": rows, "epochs": epochs }));
    }
    let after = match &args.after {
        Some(sql) => to_json(&session.collect(sql, Arc::new(|_event| {})).await?)?,
        None => Value::Null,
    };
    crate::print(&json!({ "runs": runs, "after": after }))
}

/// A sink that keeps the rate and the loss of each epoch.
fn epochs_into(epochs: &Arc<Mutex<Vec<Value>>>) -> EventSink {
    let epochs = Arc::clone(epochs);
    Arc::new(move |event| {
        if let Event::Epoch { rows_per_second, loss, .. }
        | Event::Step { rows_per_second, loss, .. } = event
        {
            let entry = json!({ "rows_per_second": rows_per_second, "loss": loss });
            epochs.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        }
    })
}

fn to_json(batches: &[RecordBatch]) -> Result<Value> {
    let mut writer = ArrayWriter::new(vec![]);
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    Ok(serde_json::from_slice(&writer.into_inner())?)
}

/// The batches of a Parquet file, each of at most `rows` rows.
///
/// # Errors
/// When the file cannot be read.
pub fn read_parquet(path: &str, rows: usize) -> Result<Vec<RecordBatch>> {
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?
            .with_batch_size(rows)
            .build()?;
    Ok(reader.collect::<std::result::Result<_, _>>()?)
}
